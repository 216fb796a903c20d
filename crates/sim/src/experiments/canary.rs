//! E22: how soon a rollout stops a candidate that does harm, and how often one that does none.

use std::time::Duration;

use gemba_core::rollout::{Harm, Hold, Rollout, RolloutRules, Side, State};
use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Target, by_seed};
use crate::draw::Draw;

/// Requests per second of everybody together: a canary of 5 % has 100.
const RATE: f64 = 2_000.0;

/// How often the evidence is looked at, in seconds: the default of the rules.
const LOOK_S: u64 = 5;

/// The first stage, and more than all of them, in seconds.
const STAGE_S: u64 = 300;
const WHOLE_S: u64 = 1_800;

/// Requests per second of each side where their latency is compared, and its mean in seconds.
const TIMED_PER_S: u64 = 50;
const MEAN_S: f64 = 0.0425;

const SEEDS: &str = "seeds' rule";

/// Runs E22.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let mut rows = Vec::new();
    for (share, within) in [(0.05, 60.0), (0.03, 60.0), (0.02, 300.0)] {
        rows.extend(harmful(scale, share, within));
    }
    for share in [0.000_5, 0.01, 0.06] {
        rows.extend(harmless(scale, share));
    }
    rows.push(bad_hour(scale));
    rows.extend(slower(scale));
    rows.push(without_data());
    vec![Experiment::new("E22", "rollouts", rows)]
}

fn rollout() -> Rollout {
    Rollout::new("e22".parse().expect("a name"), RolloutRules::default(), Timestamp::START)
}

/// Runs a rollout until it is over or `until` seconds have passed, and returns when that was. The shares of
/// failures, candidate first, follow the time.
fn run_one(draw: &mut Draw, until: u64, shares: impl Fn(u64) -> (f64, f64)) -> (State, u64) {
    let mut rollout = rollout();
    for now in (LOOK_S..=until).step_by(LOOK_S as usize) {
        let requests = (RATE * LOOK_S as f64) as u64;
        let canary = (requests as f64 * rollout.share()) as u64;
        let (candidate, baseline) = shares(now);
        rollout.observe(Side::Candidate, draw.hits(canary, candidate), canary);
        rollout.observe(Side::Baseline, draw.hits(requests - canary, baseline), requests - canary);
        let _ = rollout.look(Timestamp::from_secs(now));
        if rollout.state().is_final() {
            return (rollout.state(), now);
        }
    }
    (rollout.state(), until)
}

/// A number for each of a seed's rollouts.
fn each(scale: &Scale, case: u64, one: impl Fn(&mut Draw) -> f64 + Sync) -> Vec<Vec<f64>> {
    by_seed(scale, |seed| {
        (0..scale.rollouts).map(|number| one(&mut Draw::new(seed, case << 32 | number))).collect()
    })
}

/// How large a part of all rollouts has another number than 0.
fn part(each: &[Vec<f64>]) -> Vec<f64> {
    let all = each.iter().flatten();
    vec![all.clone().filter(|one| 0.0 < **one).count() as f64 / all.count().max(1) as f64]
}

/// The rule of the seeds: one look at the end of a stage of 250 requests (1000 a minute, 5 %, 5 min), and back
/// if more than 5 % of them failed.
fn passes_the_seeds(draw: &mut Draw, share: f64) -> bool {
    draw.hits(250, share) as f64 / 250.0 <= 0.05
}

fn harmful(scale: &Scale, share: f64, within: f64) -> [Row; 2] {
    let number = (share * 1e4) as u64;
    let stopped = each(scale, number, |draw| match run_one(draw, STAGE_S, |_| (share, 0.01)) {
        (State::Aborted { harm: Some(Harm::Failures) }, at) => at as f64,
        _ => f64::INFINITY,
    });
    let slowest = stopped.iter().map(|all| all.iter().copied().fold(0.0, f64::max)).collect();
    let passed: Vec<Vec<f64>> = stopped
        .iter()
        .map(|all| all.iter().map(|at| f64::from(u8::from(at.is_infinite()))).collect())
        .collect();
    let seeds = each(scale, number, |draw| f64::from(u8::from(passes_the_seeds(draw, share))));
    let case = format!("errors 1 -> {} %", share * 100.0);
    [
        Row::new(&*case, "s until stopped, most", Target::AtMost(within), slowest),
        Row::new(&*case, "pass a stage, share", Target::AtMost(0.0), part(&passed))
            .beside(SEEDS, part(&seeds)),
    ]
}

fn harmless(scale: &Scale, share: f64) -> [Row; 2] {
    let number = 1_000 + (share * 1e4) as u64;
    let ended = each(scale, number, |draw| match run_one(draw, WHOLE_S, |_| (share, share)).0 {
        State::Promoted => 0.0,
        State::Aborted { .. } => 1.0,
        State::Running | State::Held { .. } | State::Paused => 2.0,
    });
    let count = |what: f64| -> Vec<Vec<f64>> {
        let is = |one: &f64| f64::from(u8::from((one - what).abs() < 0.5));
        ended.iter().map(|all| all.iter().map(is).collect()).collect()
    };
    let back = |draw: &mut Draw| (0..3).any(|_| !passes_the_seeds(draw, share));
    let seeds = each(scale, number, |draw| f64::from(u8::from(back(draw))));
    let case = format!("{} % fail with both", share * 100.0);
    [
        Row::new(&*case, "falsely taken back, share", Target::AtMost(0.01), part(&count(1.0)))
            .beside(SEEDS, part(&seeds)),
        Row::new(&*case, "not over after 30 min, share", Target::AtMost(0.0), part(&count(2.0))),
    ]
}

fn bad_hour(scale: &Scale) -> Row {
    let share = |now| if (100..400).contains(&now) { 0.2 } else { 0.01 };
    let ended = each(scale, 2_000, |draw| {
        let (state, _) = run_one(draw, WHOLE_S, |now| (share(now), share(now)));
        f64::from(u8::from(state != State::Promoted))
    });
    Row::new("20 % fail with both for 5 min", "not promoted, share", Target::AtMost(0.01), part(&ended))
}

fn slower(scale: &Scale) -> [Row; 2] {
    // Each takes as many draws as forty of the others.
    let few = Scale { rollouts: scale.rollouts.div_ceil(10), ..*scale };
    let stopped = |case: u64, ratio: f64| {
        each(&few, case, |draw| {
            let mut rollout = rollout();
            for now in (LOOK_S..STAGE_S).step_by(LOOK_S as usize) {
                for _ in 0..TIMED_PER_S * LOOK_S {
                    for (side, ratio) in [(Side::Candidate, ratio), (Side::Baseline, 1.0)] {
                        let latency = Duration::from_secs_f64(MEAN_S * ratio * draw.lognormal(1.0));
                        rollout.observe_latency(side, latency);
                    }
                }
                let _ = rollout.look(Timestamp::from_secs(now));
                if rollout.state() == (State::Aborted { harm: Some(Harm::Latency) }) {
                    return now as f64;
                }
            }
            f64::INFINITY
        })
    };
    let slowest = |all: &Vec<f64>| all.iter().copied().fold(0.0, f64::max);
    let equal: Vec<Vec<f64>> = stopped(3_001, 1.0)
        .iter()
        .map(|all| all.iter().map(|at| f64::from(u8::from(at.is_finite()))).collect())
        .collect();
    let times = stopped(3_000, 1.2).iter().map(slowest).collect();
    [
        Row::new("20 % slower", "s until stopped, most", Target::AtMost(180.0), times),
        Row::new("as fast", "falsely taken back, share", Target::AtMost(0.01), part(&equal)),
    ]
}

/// No requests at all, of one side only, or too few: nobody may be promoted by that.
fn without_data() -> Row {
    let cases = [(0, 0), (0, 10_000), (10_000, 0), (8, 10_000)];
    let is_held = |(candidate, baseline): &&(u64, u64)| {
        let mut rollout = rollout();
        for look in 1..=50 {
            rollout.observe(Side::Candidate, 0, candidate / 50);
            rollout.observe(Side::Baseline, 0, baseline / 50);
            let _ = rollout.look(Timestamp::from_secs(look * 20));
        }
        rollout.state() == State::Held { why: Hold::NoData }
    };
    let held = cases.iter().filter(is_held).count();
    Row::new("no data of one side", "of 4 cases held", Target::AtLeast(4.0), vec![held as f64])
}
