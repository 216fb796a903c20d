//! E24: where the limit goes when a downstream is three times slower for half an hour, and how soon a downstream
//! that is well again is used.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use gemba_core::adaptive::{Adaptive, AdaptiveRules, Slip};
use gemba_core::breaker::Outcome;
use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Target, by_seed};
use crate::contenders::adaptive::{Gradient2, SAMPLES_MIN, WINDOW};
use crate::draw::Draw;
use crate::workload::Model;

/// Calls offered, in times of what the downstream can do in health.
const OFFERED: f64 = 1.5;

/// How much slower it becomes.
const SLOWER: f64 = 3.0;

/// Minutes of health before, minutes after which the limit should have settled, and the last slow one.
const HEALTHY_MIN: u32 = 2;
const SETTLED_MIN: u32 = 3;
const SLOW_MIN: u32 = 30;

/// How long its recovery is watched, in seconds.
const WATCHED_S: u32 = 60;

/// Runs E24.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let found = by_seed(scale, |seed| {
        let ours = Adaptive::new(AdaptiveRules::default(), Timestamp::START);
        let theirs = Windows::new();
        [Found::of(Downstream::new(ours, seed)), Found::of(Downstream::new(theirs, seed))]
    });
    let row = |figure, target, of: fn(&Found) -> f64| {
        let [ours, theirs] = [0, 1].map(|which| found.iter().map(|pair| of(&pair[which])).collect());
        Row::new("3x slower for 30 min", figure, target, ours).beside("Gradient2", theirs)
    };
    let bounded = by_seed(scale, bounded);
    let rows = vec![
        row("done before / capacity", Target::AtLeast(0.95), |of| of.healthy),
        row("done while slow / capacity", Target::AtLeast(0.95), |of| of.slow),
        row("drift of the limit, most", Target::AtMost(0.1), |of| of.drift),
        row("s until 0.9 of capacity again", Target::AtMost(10.0), |of| of.recovery_s),
        Row::new("bounded at 60 ms, 3x slower", "limit / limit in health", Target::AtMost(0.5), bounded),
    ];
    vec![Experiment::new("E24", "drift of an adaptive limit", rows)]
}

#[derive(Debug, Clone, Copy)]
struct Found {
    healthy: f64,
    slow: f64,
    drift: f64,
    recovery_s: f64,
}

impl Found {
    fn of(mut downstream: Downstream<impl Limit>) -> Self {
        let capacity = downstream.model.capacity_per_s();
        downstream.run(60.0 * f64::from(HEALTHY_MIN - 1));
        let (_, healthy) = downstream.run(60.0);
        downstream.slowness = SLOWER;
        downstream.run(60.0 * f64::from(SETTLED_MIN - 1));
        let (settled, slow) = downstream.run(60.0);
        let drift = (SETTLED_MIN..SLOW_MIN).fold(0.0, |most: f64, _| {
            let (limit, _) = downstream.run(60.0);
            most.max((limit - settled).abs() / settled)
        });
        downstream.slowness = 1.0;
        let well = (1..=WATCHED_S).find(|_| 0.9 * capacity <= downstream.run(1.0).1);
        Self {
            healthy: healthy / capacity,
            slow: slow * SLOWER / capacity,
            drift,
            recovery_s: well.map_or(f64::INFINITY, f64::from),
        }
    }
}

/// With a bound on what is healthy, what is left of the limit for a downstream that is beyond it.
fn bounded(seed: u64) -> f64 {
    let rules = AdaptiveRules::builder().healthy_max(Duration::from_millis(60)).build();
    let limit = Adaptive::new(rules.expect("rules within the bounds"), Timestamp::START);
    let mut downstream = Downstream::new(limit, seed);
    downstream.run(60.0);
    let (healthy, _) = downstream.run(60.0);
    downstream.slowness = SLOWER;
    downstream.run(60.0);
    downstream.run(60.0).0 / healthy
}

/// What limits the calls.
trait Limit {
    type Slip;
    fn enter(&mut self, now: Timestamp) -> Option<Self::Slip>;
    fn leave(&mut self, slip: Self::Slip, now: Timestamp);
    fn limit(&self) -> f64;
}

impl Limit for Adaptive {
    type Slip = Slip;

    fn enter(&mut self, now: Timestamp) -> Option<Slip> {
        self.enter(now).ok()
    }

    fn leave(&mut self, slip: Slip, now: Timestamp) {
        self.leave(slip, Outcome::Success, now);
    }

    fn limit(&self) -> f64 {
        f64::from(self.limit())
    }
}

/// Gradient2 before calls whose answers come in windows.
struct Windows {
    rule: Gradient2,
    limit: f64,
    in_flight: u32,
    /// Since when, how many answers, and how long they took together.
    window: (Timestamp, u32, Duration),
}

impl Windows {
    fn new() -> Self {
        let window = (Timestamp::START, 0, Duration::ZERO);
        Self { rule: Gradient2::default(), limit: Gradient2::RANGE.0, in_flight: 0, window }
    }
}

impl Limit for Windows {
    type Slip = Timestamp;

    fn enter(&mut self, now: Timestamp) -> Option<Timestamp> {
        let enters = f64::from(self.in_flight) < self.limit.floor();
        self.in_flight += u32::from(enters);
        enters.then_some(now)
    }

    fn leave(&mut self, slip: Timestamp, now: Timestamp) {
        let (since, answers, took) = &mut self.window;
        *answers += 1;
        *took += now.since(slip);
        if WINDOW <= now.since(*since) && SAMPLES_MIN <= *answers {
            let mean = took.as_secs_f64() / f64::from(*answers);
            self.limit = self.rule.next(self.limit, mean, f64::from(self.in_flight));
            self.window = (now, 0, Duration::ZERO);
        }
        self.in_flight -= 1;
    }

    fn limit(&self) -> f64 {
        self.limit
    }
}

/// Does so much at once, has a queue of its own, and tells nobody of either.
struct Downstream<L: Limit> {
    draw: Draw,
    model: Model,
    limit: L,
    now: u64,
    next: u64,
    /// When each call that is worked on is done, and its place.
    working: BinaryHeap<Reverse<(u64, usize)>>,
    waiting: VecDeque<L::Slip>,
    slips: Vec<Option<L::Slip>>,
    slowness: f64,
    done: u32,
}

const SECOND: f64 = 1e9;

impl<L: Limit> Downstream<L> {
    fn new(limit: L, seed: u64) -> Self {
        let model = Model::default();
        Self {
            draw: Draw::new(seed, 0),
            model,
            limit,
            now: 0,
            next: 0,
            working: BinaryHeap::new(),
            waiting: VecDeque::new(),
            slips: std::iter::repeat_with(|| None).take(model.workers as usize).collect(),
            slowness: 1.0,
            done: 0,
        }
    }

    fn feed(&mut self, now: u64) {
        while let Some(place) = self.slips.iter().position(Option::is_none) {
            let Some(slip) = self.waiting.pop_front() else { return };
            let work = self.model.service.as_secs_f64() * self.slowness * self.draw.lognormal(self.model.cv);
            self.slips[place] = Some(slip);
            self.working.push(Reverse((now + (work * SECOND) as u64, place)));
        }
    }

    /// Lets seconds pass, and returns the mean limit and the calls done per second.
    fn run(&mut self, seconds: f64) -> (f64, f64) {
        let end = self.now + (seconds * SECOND) as u64;
        let pause = SECOND / (OFFERED * self.model.capacity_per_s());
        let (mut limits, mut seen) = (0.0, 0u32);
        self.done = 0;
        loop {
            let first = self.working.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            let event = first.min(self.next);
            if end <= event {
                break;
            }
            if first <= self.next {
                let ended = self.working.pop().and_then(|Reverse((_, place))| self.slips[place].take());
                if let Some(slip) = ended {
                    self.done += 1;
                    self.limit.leave(slip, Timestamp::from_nanos(event));
                }
            } else {
                self.next += (pause * self.draw.exponential()) as u64;
                if let Some(slip) = self.limit.enter(Timestamp::from_nanos(event)) {
                    self.waiting.push_back(slip);
                }
                limits += self.limit.limit();
                seen += 1;
            }
            self.feed(event);
        }
        self.now = end;
        (limits / f64::from(seen.max(1)), f64::from(self.done) / seconds)
    }
}
