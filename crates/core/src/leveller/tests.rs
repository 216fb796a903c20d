//! What the queue promises, in examples and whatever happens.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

use super::*;
use crate::wait::WaitRules;

const NOW: Timestamp = Timestamp::from_secs(100);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Of 10 workers, with work of 40 ms exactly: 4 ms a place.
fn leveller() -> Leveller<u32> {
    let mut queue = Leveller::new(WaitRules::default(), 1000, NOW);
    queue.set_workers(10);
    for tier in Tier::ALL {
        (0..64).for_each(|_| queue.finished(tier, ms(40)));
    }
    queue
}

fn offer(queue: &mut Leveller<u32>, item: u32, tier: Tier, now: Timestamp) -> Offered<u32> {
    queue.offer(item, tier, now + ms(400), now)
}

fn started(queue: &mut Leveller<u32>, now: Timestamp) -> Option<u32> {
    match queue.next(now)? {
        Next::Start(waiting) => Some(waiting.item),
        Next::TurnedOut(item, why) => panic!("{item} was turned out: {why:?}"),
    }
}

#[test]
fn as_many_wait_as_fit_into_a_quarter_of_the_deadline() {
    let mut queue = leveller();
    for item in 0..25 {
        assert_eq!(offer(&mut queue, item, Tier::Normal, NOW), Offered::Waits, "{item}");
    }
    let Offered::TurnedOut(25, TurnedOut::Refused(refused)) = offer(&mut queue, 25, Tier::Normal, NOW) else {
        panic!("the 26th would wait 104 ms");
    };
    assert_eq!((refused.wait, refused.budget), (ms(104), ms(100)));
    assert_eq!(queue.len(), 25);
}

#[test]
fn a_higher_tier_does_not_wait_for_lower_ones_and_takes_the_place_of_the_newest() {
    let mut queue = leveller();
    (0..25).for_each(|item| assert_eq!(offer(&mut queue, item, Tier::Batch, NOW), Offered::Waits));
    assert_eq!(offer(&mut queue, 100, Tier::Critical, NOW), Offered::Displaced(24));
    assert_eq!(offer(&mut queue, 101, Tier::Normal, NOW), Offered::Displaced(23));
    assert_eq!(
        [started(&mut queue, NOW), started(&mut queue, NOW), started(&mut queue, NOW)],
        [Some(100), Some(101), Some(0)]
    );
    assert_eq!(queue.len(), 22);
}

#[test]
fn lower_tiers_wait_longer_the_busier_higher_ones_keep_the_workers() {
    let mut queue = leveller();
    let wait = |queue: &mut Leveller<u32>, now| {
        let forecast = queue.forecast(0, now);
        Tier::ALL.map(|tier| forecast.wait(tier, ms(400)))
    };
    assert_eq!(wait(&mut queue, NOW), [ms(4); 3]);
    // 125 a second of 40 ms are half of what ten workers can do.
    (0..1000).for_each(|tick| queue.passed(Tier::Critical, NOW + tick * ms(8)));
    let [critical, normal, batch] = wait(&mut queue, NOW + ms(8000));
    assert_eq!(critical, ms(4));
    assert!((ms(7)..ms(9)).contains(&normal), "{normal:?}");
    assert_eq!(normal, batch);
}

#[test]
fn an_idle_worker_takes_a_signal_at_once() {
    let mut queue = leveller();
    let forecast = queue.forecast(1, NOW);
    assert_eq!(Tier::ALL.map(|tier| forecast.wait(tier, ms(400))), [Duration::ZERO; 3]);
}

#[test]
fn what_has_waited_its_share_or_cannot_be_done_in_time_is_not_started() {
    for (deadline, waited, why) in [
        (400, 100, None),
        (400, 101, Some(TurnedOut::WaitedTooLong)),
        (170, 42, None),
        (170, 130, Some(TurnedOut::TooLate)),
        (170, 500, Some(TurnedOut::TooLate)),
    ] {
        let mut queue = leveller();
        assert_eq!(queue.offer(1, Tier::Normal, NOW + ms(deadline), NOW), Offered::Waits);
        let found = match queue.next(NOW + ms(waited)).unwrap() {
            Next::Start(_) => None,
            Next::TurnedOut(1, why) => Some(why),
            Next::TurnedOut(..) => unreachable!("one waits"),
        };
        assert_eq!(found, why, "{waited} ms of {deadline}");
        assert!(queue.is_empty());
    }
}

#[test]
fn a_queue_that_does_not_empty_for_long_gets_the_shorter_share() {
    let mut queue = leveller();
    let mut now = NOW;
    assert_eq!(offer(&mut queue, 0, Tier::Normal, now), Offered::Waits);
    while now < NOW + ms(499) {
        now = now + ms(1);
        assert_eq!(offer(&mut queue, 0, Tier::Normal, now), Offered::Waits);
        assert_eq!(started(&mut queue, now), Some(0));
    }
    assert!(!queue.forecast(0, now).lasting);
    now = now + ms(1);
    let forecast = queue.forecast(0, now);
    assert!(forecast.lasting);
    assert_eq!(forecast.budget(Tier::Normal, ms(400)), ms(48));
    assert_eq!(started(&mut queue, now), Some(0));
    assert!(!queue.forecast(0, now).lasting, "it is empty");
}

#[test]
fn one_start_in_twenty_goes_to_the_lower_tier_that_has_stood_by_longest() {
    let mut queue = leveller();
    let mut counts = [0; 3];
    for start in 0..400 {
        let now = NOW + start * ms(4);
        // The critical tier alone fills the pool; the others would too.
        for tier in Tier::ALL {
            let _ = offer(&mut queue, tier as u32, tier, now);
        }
        // What the lower tiers get the critical one has too much of: some of it waits too long.
        let start = std::iter::from_fn(|| queue.next(now)).find_map(|next| match next {
            Next::Start(waiting) => Some(waiting.item),
            Next::TurnedOut(..) => None,
        });
        counts[start.unwrap() as usize] += 1;
    }
    assert!((380..=382).contains(&counts[0]), "{counts:?}");
    assert!((9..=10).contains(&counts[1]) && (9..=10).contains(&counts[2]), "{counts:?}");
}

#[test]
fn a_tier_that_has_its_share_has_no_turns() {
    let mut queue = leveller();
    for start in 0..400 {
        let now = NOW + start * ms(4);
        let tier = if start % 10 == 0 { Tier::Batch } else { Tier::Critical };
        let _ = offer(&mut queue, start, tier, now);
        assert_eq!(started(&mut queue, now), Some(start));
        queue.sweep(now, |_| true);
    }
    let _ = offer(&mut queue, 1, Tier::Batch, NOW + ms(1600));
    let _ = offer(&mut queue, 2, Tier::Critical, NOW + ms(1600));
    assert_eq!(started(&mut queue, NOW + ms(1600)), Some(2));
}

#[test]
fn a_sweep_takes_out_who_has_to_go_and_says_why() {
    let mut queue = leveller();
    let _ = queue.offer(1, Tier::Normal, NOW + ms(400), NOW);
    let _ = queue.offer(2, Tier::Normal, NOW + ms(170), NOW);
    let _ = queue.offer(3, Tier::Normal, NOW + ms(4000), NOW);
    let _ = queue.offer(4, Tier::Normal, NOW + ms(4000), NOW);
    let swept = queue.sweep(NOW + ms(150), |item| *item == 3);
    assert_eq!(swept, [(1, TurnedOut::WaitedTooLong), (2, TurnedOut::TooLate), (3, TurnedOut::Abandoned)]);
    assert_eq!(queue.drain().collect::<Vec<_>>(), [4]);
}

#[test]
fn what_comes_back_unstarted_keeps_its_place_and_its_wait() {
    let mut queue = leveller();
    let _ = offer(&mut queue, 1, Tier::Normal, NOW);
    let _ = offer(&mut queue, 2, Tier::Normal, NOW);
    let Some(Next::Start(back)) = queue.next(NOW) else { panic!("two wait") };
    queue.put_back(back, NOW);
    assert_eq!(started(&mut queue, NOW + ms(10)), Some(1));
    assert_eq!(started(&mut queue, NOW + ms(10)), Some(2));
    assert_eq!(queue.next(NOW), None);
}

#[test]
fn work_that_takes_longer_than_its_deadline_is_still_tried_by_an_idle_worker() {
    let mut queue = leveller();
    (0..640).for_each(|_| queue.finished(Tier::Normal, ms(900)));
    let forecast = queue.forecast(0, NOW);
    assert!(admits(&forecast, Tier::Normal, ms(400)).is_err());
    let forecast = queue.forecast(1, NOW);
    assert!(admits(&forecast, Tier::Normal, ms(400)).is_ok(), "or nobody would learn that it got shorter");
}

#[test]
fn a_queue_that_was_made_smaller_loses_nobody() {
    let mut queue = leveller();
    (0..20).for_each(|item| assert_eq!(queue.offer(item, Tier::Batch, NOW + ms(1000), NOW), Offered::Waits));
    // Longer than the newest may wait, and than the queue may be.
    (0..640).for_each(|_| queue.finished(Tier::Batch, ms(400)));
    queue.set_capacity(2);
    let offered = queue.offer(20, Tier::Critical, NOW + ms(10_000), NOW);
    assert!(matches!(offered, Offered::Displaced(_)), "{offered:?}");
    assert_eq!(queue.len(), 20);
}

#[derive(Debug, Clone)]
enum Step {
    Offer(Tier, u64),
    Next,
    PutBack,
    Finish(Tier, u64),
    Sweep,
    Workers(u32),
    Capacity(usize),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let tier = || select(&Tier::ALL[..]);
    let step = prop_oneof![
        6 => (tier(), 0u64..600).prop_map(|(tier, due)| Step::Offer(tier, due)),
        4 => Just(Step::Next),
        1 => Just(Step::PutBack),
        3 => (tier(), 0u64..300).prop_map(|(tier, took)| Step::Finish(tier, took)),
        1 => Just(Step::Sweep),
        1 => (0u32..5).prop_map(Step::Workers),
        1 => (0usize..20).prop_map(Step::Capacity),
    ];
    vec((0u64..20, step), 0..300)
}

proptest! {
    #[test]
    fn each_item_comes_out_once_and_none_is_started_late(capacity in 0usize..20, steps in steps()) {
        let mut queue = Leveller::new(WaitRules::default(), capacity, NOW);
        let (mut now, mut offered, mut out, mut back, mut workers) = (NOW, 0u32, Vec::new(), 0, 1);
        let mut capacity_most = capacity;
        for (pause, step) in steps {
            now = now + ms(pause);
            match step {
                Step::Offer(tier, due) => {
                    offered += 1;
                    match queue.offer(offered, tier, now + ms(due), now) {
                        Offered::Waits => {}
                        Offered::Displaced(item) => {
                            prop_assert!(item != offered);
                            out.push(item);
                        }
                        Offered::TurnedOut(item, _) => {
                            prop_assert_eq!(item, offered);
                            out.push(item);
                        }
                    }
                }
                Step::Next => match queue.next(now) {
                    None => prop_assert!(queue.is_empty()),
                    Some(Next::Start(waiting)) => {
                        prop_assert!(now < waiting.deadline);
                        let span = nanos(waiting.deadline.since(waiting.since));
                        let (share, _) = WaitRules::default().shares(workers);
                        prop_assert!(nanos(now.since(waiting.since)) <= share * span);
                        out.push(waiting.item);
                    }
                    Some(Next::TurnedOut(item, _)) => out.push(item),
                },
                Step::PutBack => {
                    if let Some(Next::Start(waiting)) = queue.next(now) {
                        queue.put_back(waiting, now);
                        back += 1;
                    } else {
                        // What was turned out is told by the next line: its number is missing.
                        out = (1..=offered).filter(|item| out.contains(item)).collect();
                        let waits: Vec<_> = queue.drain().collect();
                        out = (1..=offered).filter(|item| out.contains(item) || !waits.contains(item)).collect();
                        out.extend(waits);
                    }
                }
                Step::Finish(tier, took) => queue.finished(tier, ms(took)),
                Step::Sweep => out.extend(queue.sweep(now, |_| false).into_iter().map(|(item, _)| item)),
                Step::Workers(count) => {
                    workers = count;
                    queue.set_workers(workers);
                }
                Step::Capacity(capacity) => {
                    queue.set_capacity(capacity);
                    capacity_most = capacity_most.max(capacity);
                }
            }
            prop_assert_eq!(queue.len() + out.len(), offered as usize);
            prop_assert!(queue.len() <= capacity_most + back);
            let forecast = queue.forecast(0, now);
            prop_assert!(forecast.rounds.iter().all(|rounds| rounds.is_finite() && 0.0 < *rounds));
        }
        out.extend(queue.drain());
        out.sort_unstable();
        prop_assert_eq!(out, (1..=offered).collect::<Vec<_>>());
    }
}
