//! Whether uneven work alone calls for stand-ins, and how soon a worker that hangs does (decision 0023).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::crew::{Crew, Life, Offered, Task};
use gemba_core::exit::Incarnation;
use gemba_core::time::Timestamp;
use gemba_core::wait::WaitRules;
use gemba_sim::draw::Draw;

/// Mean time of work, and when it is cut off, as in the experiments of overload.
const SERVICE: Duration = Duration::from_micros(42_500);
const DEADLINE: Duration = Duration::from_millis(500);

/// How often a pool's dispatcher looks.
const SWEEP: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
struct Job(Timestamp);

impl Task for Job {
    type Trace = ();

    fn tier(&self) -> Tier {
        Tier::Normal
    }

    fn deadline(&self) -> Timestamp {
        self.0
    }

    fn trace(&self) {}
}

/// When workers were first missed in a pool that is never idle, where the first `hung` of them hang in each job.
fn missed(workers: u64, hung: u64, lasts: Duration, seed: u64) -> Option<Duration> {
    let mut draw = Draw::new(seed, 0);
    let begun = Timestamp::from_secs(1);
    let mut crew: Crew<(), Job> = Crew::new(WaitRules::default(), 0, begun);
    crew.open();
    let mut ends = BinaryHeap::new();
    for _ in 0..workers {
        let worker = crew.hire(begun);
        crew.join(Life { worker, incarnation: Incarnation(1), reach: () }, 0, begun);
        // Idle workers are taken in the order of a stack, and all are: who has which job does not matter yet.
        ends.push(Reverse((begun, worker, Duration::ZERO)));
    }
    for _ in 0..workers {
        assert!(matches!(crew.offer(Job(begun + DEADLINE), 0, begun), Offered::Given(..)));
    }
    let mut sweep = begun;
    while let Some(Reverse((now, worker, took))) = ends.pop() {
        while sweep <= now {
            if 0 < crew.lost(sweep) {
                return Some(sweep.since(begun));
            }
            sweep = sweep + SWEEP;
        }
        if lasts < now.since(begun) {
            return None;
        }
        crew.done(worker, Incarnation(1), (!took.is_zero()).then_some(took), 0, now);
        // Nobody else is idle, so it is the same worker that has the next.
        assert!(matches!(crew.offer(Job(now + DEADLINE), 0, now), Offered::Given(..)));
        let work = if worker <= hung { DEADLINE } else { SERVICE.mul_f64(draw.exponential()).min(DEADLINE) };
        ends.push(Reverse((now + work, worker, work)));
    }
    None
}

#[test]
fn work_whose_times_spread_exponentially_needs_no_stand_in() {
    for workers in [10, 23, 100] {
        for seed in 1..=2 {
            let missed = missed(workers, 0, Duration::from_secs(120), seed);
            assert_eq!(missed, None, "{workers} workers, seed {seed}");
        }
    }
}

#[test]
fn one_of_ten_that_hangs_is_missed_within_three_seconds() {
    for seed in 1..=20 {
        let missed = missed(10, 1, Duration::from_secs(60), seed);
        let soon = missed.is_some_and(|after| after <= Duration::from_secs(3));
        assert!(soon, "seed {seed}: {missed:?}");
    }
}
