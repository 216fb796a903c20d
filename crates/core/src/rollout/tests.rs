//! Tests of rollouts; those from random requests are experiment E22 in `gemba-sim`.

use super::*;

fn rollout(rules: RolloutRules) -> Rollout {
    Rollout::new("gateway-2".parse().unwrap(), rules, Timestamp::START)
}

fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn without_data_of_both_it_is_held_for_ever() {
    for (candidate, baseline) in [(0, 0), (0, 10_000), (10_000, 0), (8, 10_000)] {
        let mut rollout = rollout(RolloutRules::default());
        for look in 1..=50 {
            rollout.observe(Side::Candidate, 0, candidate / 50);
            rollout.observe(Side::Baseline, 0, baseline / 50);
            let moved = rollout.look(secs(look * 20));
            let held = Moved { stage: 1, share: 0.05, state: State::Held { why: Hold::NoData } };
            assert_eq!(moved, (look == 15).then_some(held), "{candidate} and {baseline}, look {look}");
        }
    }
    // A bad candidate with few requests is stopped all the same.
    let mut few = rollout(RolloutRules::default());
    few.observe(Side::Candidate, 5, 5);
    few.observe(Side::Baseline, 0, 95);
    assert_eq!(few.look(secs(5)).unwrap().state, State::Aborted { harm: Some(Harm::Failures) });
}

#[test]
fn a_candidate_that_may_be_worse_is_held_until_it_is_certain() {
    let mut rollout = rollout(RolloutRules::default());
    // Among so few, 1 % and 1 % may differ by more than one in a hundred.
    rollout.observe(Side::Candidate, 5, 500);
    rollout.observe(Side::Baseline, 95, 9_500);
    assert_eq!(rollout.look(secs(299)), None);
    assert_eq!(rollout.look(secs(300)).unwrap().state, State::Held { why: Hold::Uncertain });
    let (least, most) = rollout.excess();
    assert!(least < 0.0 && 0.01 < most, "{least} to {most}");
    rollout.observe(Side::Candidate, 45, 4_500);
    let next = Moved { stage: 2, share: 0.25, state: State::Running };
    assert_eq!(rollout.look(secs(305)), Some(next));
    assert_eq!(rollout.outcomes(), [0, 0], "a stage counts for itself");
}

#[test]
fn a_pause_stops_the_clock_and_not_the_watch() {
    let mut rollout = rollout(RolloutRules::default());
    rollout.observe(Side::Candidate, 0, 10_000);
    rollout.observe(Side::Baseline, 0, 10_000);
    assert_eq!(rollout.pause(secs(299)).unwrap().state, State::Paused);
    assert_eq!(rollout.look(secs(10_000)), None);
    assert_eq!(rollout.resume(secs(10_000)).unwrap().state, State::Running);
    assert_eq!(rollout.look(secs(10_000)), None);
    assert_eq!(rollout.look(secs(10_001)).unwrap().stage, 2);
    let _ = rollout.pause(secs(10_002)).unwrap();
    rollout.observe(Side::Candidate, 100, 1_000);
    rollout.observe(Side::Baseline, 0, 1_000);
    assert_eq!(rollout.look(secs(10_005)).unwrap().state, State::Aborted { harm: Some(Harm::Failures) });
}

#[test]
fn a_person_promotes_stage_by_stage_and_aborts_and_then_it_is_over() {
    let mut rollout = rollout(RolloutRules::default());
    let mut again = rollout.clone();
    for (stage, share) in [(2, 0.25), (3, 0.5), (3, 1.0)] {
        let moved = rollout.promote(secs(1)).unwrap();
        assert_eq!((moved.stage, moved.share), (stage, share));
    }
    assert_eq!(rollout.state(), State::Promoted);
    assert_eq!(rollout.abort().unwrap_err().state, State::Promoted);
    assert!(again.abort().unwrap().share < f64::EPSILON);
    assert!(
        again.pause(secs(1)).is_err() && again.resume(secs(1)).is_err() && again.promote(secs(1)).is_err()
    );
    assert_eq!(again.look(secs(9_999)), None);
}

#[test]
fn a_key_stays_with_the_candidate_as_its_share_grows() {
    let mut rollout = rollout(RolloutRules::default());
    let keys: Vec<_> = (0..10_000u32).map(u32::to_le_bytes).collect();
    let mut before = vec![Side::Baseline; keys.len()];
    for share in [0.05, 0.25, 0.5, 1.0] {
        let sides: Vec<_> = keys.iter().map(|key| rollout.assign(key)).collect();
        let candidates = sides.iter().filter(|side| **side == Side::Candidate).count();
        assert!(candidates.abs_diff((share * 1e4) as usize) < 200, "{candidates} at {share}");
        assert!(before.iter().zip(&sides).all(|(was, is)| *was == Side::Baseline || is == was));
        before = sides;
        if share < 1.0 {
            let _ = rollout.promote(secs(1)).unwrap();
        }
    }
}

#[test]
fn kept_on_a_disk_it_goes_on_where_it_was() {
    let mut rollout = rollout(RolloutRules::default());
    rollout.observe(Side::Candidate, 30, 1_000);
    rollout.observe(Side::Baseline, 10, 1_000);
    rollout.observe_latency(Side::Candidate, Duration::from_millis(7));
    assert_eq!(rollout.look(secs(5)), None);
    let mut kept: Rollout = serde_json::from_str(&serde_json::to_string(&rollout).unwrap()).unwrap();
    assert_eq!((kept.outcomes(), kept.state(), kept.share()), ([1_000, 1_000], State::Running, 0.05));
    // Together with what is on the disk the next failures are enough; by themselves they are not.
    kept.observe(Side::Candidate, 16, 300);
    kept.observe(Side::Baseline, 3, 300);
    assert_eq!(kept.look(secs(10)).unwrap().state, State::Aborted { harm: Some(Harm::Failures) });
    let mut fresh = self::rollout(RolloutRules::default());
    fresh.observe(Side::Candidate, 16, 300);
    fresh.observe(Side::Baseline, 3, 300);
    assert_eq!(fresh.look(secs(10)), None);
}

/// 5 % and everything to bake, with the limits of docs/seeds.md.
fn baking() -> RolloutRules {
    let stage = Stage { share: 0.05, lasts: Duration::from_secs(10) };
    let limits = |rules: RolloutRulesBuilder| rules.limits(0.05, Duration::from_secs(1));
    limits(RolloutRules::builder()).stages([stage]).bake(Duration::from_secs(60)).build().unwrap()
}

fn well(rollout: &mut Rollout, failures: u64) {
    rollout.observe(Side::Candidate, failures, 1_000);
    if rollout.share() < 1.0 {
        rollout.observe(Side::Baseline, failures, 1_000);
    }
}

#[test]
fn what_bakes_has_everything_and_can_be_taken_back() {
    let mut rollout = rollout(baking());
    well(&mut rollout, 0);
    let bakes = Moved { stage: 2, share: 1.0, state: State::Running };
    assert_eq!(rollout.look(secs(10)), Some(bakes));
    let mut spoilt = rollout.clone();
    for now in 11..70 {
        well(&mut rollout, 20);
        assert_eq!(rollout.look(secs(now)), None, "{now} s");
    }
    assert_eq!(rollout.look(secs(70)).unwrap().state, State::Promoted);
    // One of ten fails from its second minute on, with nothing beside it to compare.
    let harmed = (11..30).find_map(|now| {
        spoilt.observe(Side::Candidate, 20, 200);
        spoilt.look(secs(now))
    });
    let aborted = Moved { stage: 2, share: 0.0, state: State::Aborted { harm: Some(Harm::FailuresLimit) } };
    assert_eq!(harmed, Some(aborted));
}

#[test]
fn one_that_is_slow_for_more_than_one_in_a_hundred_is_stopped_and_one_at_its_limit_is_not() {
    let run = |slow_of_1000: u64| {
        let mut rollout = rollout(baking());
        (1..10).find_map(|now| {
            for success in 0..1_000 {
                // As slow as the baseline on the whole, but for a few.
                let latency = Duration::from_millis(if success < slow_of_1000 { 1_001 } else { 1_000 });
                rollout.observe_latency(Side::Candidate, latency);
                rollout.observe_latency(Side::Baseline, Duration::from_secs(1));
            }
            rollout.look(secs(now))
        })
    };
    assert_eq!(run(10), None);
    assert_eq!(run(30).unwrap().state, State::Aborted { harm: Some(Harm::LatencyLimit) });
}

#[test]
fn one_near_the_limit_is_given_no_more() {
    for (failures, state) in [(25, State::Running), (26, State::Held { why: Hold::Marginal })] {
        let mut rollout = rollout(baking());
        for _ in 0..20 {
            well(&mut rollout, failures);
        }
        assert_eq!(rollout.look(secs(10)).unwrap().state, state, "{failures} of 1000");
    }
}

/// A minute at 200 requests a second: two in a hundred successes take `slow` times as long as 20 ms, all others 5 ms
/// and a little more or less.
fn minute_with_a_tail(slow: f64) -> State {
    let mut rollout = rollout(RolloutRules::default());
    for look in 1..=60 {
        for number in 0..200u64 {
            let side = if number.is_multiple_of(20) { Side::Candidate } else { Side::Baseline };
            let point = xxh3_64(&(look * 1_000 + number).to_le_bytes());
            let ms = match (point.is_multiple_of(50), side) {
                (true, Side::Candidate) => 20.0 * slow,
                (true, Side::Baseline) => 20.0,
                (false, _) => 5.0,
            };
            // Up to a tenth more, as on every machine.
            let noise = 1.0 + (point >> 11) as f64 / (1u64 << 53) as f64 / 10.0;
            rollout.observe(side, 0, 1);
            rollout.observe_latency(side, Duration::from_secs_f64(ms * noise / 1e3));
        }
        let _ = rollout.look(secs(look));
    }
    rollout.state()
}

#[test]
fn one_that_is_slower_at_the_99th_percentile_alone_is_stopped() {
    assert_eq!(minute_with_a_tail(3.0), State::Aborted { harm: Some(Harm::Latency) });
    assert_eq!(minute_with_a_tail(1.0), State::Running);
}
