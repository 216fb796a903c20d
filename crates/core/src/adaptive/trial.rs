//! A downstream in virtual time that becomes three times slower for half an hour: where the limit goes (E24).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;
use crate::breaker::Outcome;

/// What the downstream does at once, and nobody tells the limit. Source: FLOW-EVIDENCE.md, reference model.
const SERVERS: usize = 23;

/// Mean seconds of a call; the time is log-normal with a coefficient of variation of 1.
const SERVICE: f64 = 0.0425;

/// Calls offered: half again as many as the downstream can do in health.
const OFFERED_PER_S: f64 = 1.5 * SERVERS as f64 / SERVICE;

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.next()).ln() * mean
    }

    fn log_normal(&mut self, mean: f64) -> f64 {
        let spread = std::f64::consts::LN_2.sqrt();
        let normal = (-2.0 * (1.0 - self.next()).ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos();
        mean * (spread * normal - spread * spread / 2.0).exp()
    }
}

/// What limits the calls.
trait Limit {
    fn enter(&mut self, now: Timestamp) -> Option<Slip>;
    fn leave(&mut self, slip: Slip, now: Timestamp);
    fn limit(&self) -> f64;
}

impl Limit for Adaptive {
    fn enter(&mut self, now: Timestamp) -> Option<Slip> {
        self.enter(now).ok()
    }

    fn leave(&mut self, slip: Slip, now: Timestamp) {
        self.leave(slip, Outcome::Success, now);
    }

    fn limit(&self) -> f64 {
        self.limit
    }
}

/// Gradient2 as it is known: what a call should take is an average of what calls took.
struct Gradient2 {
    limit: f64,
    in_flight: u32,
    long: f64,
    window: Calls,
}

impl Limit for Gradient2 {
    fn enter(&mut self, now: Timestamp) -> Option<Slip> {
        let free = f64::from(self.in_flight) < self.limit.floor();
        self.in_flight += u32::from(free);
        free.then_some(Slip { started: now })
    }

    fn leave(&mut self, slip: Slip, now: Timestamp) {
        self.window.add(now.since(slip.started));
        if now.since(self.window.since) >= Duration::from_secs(1) && self.window.ended >= 10 {
            let short = self.window.mean();
            self.long = if self.long > 0.0 { self.long + (short - self.long) * 2.0 / 601.0 } else { short };
            if self.long / short > 2.0 {
                self.long *= 0.95;
            }
            let gradient = (1.5 * self.long / short).clamp(0.5, 1.0);
            if f64::from(self.in_flight) >= self.limit / 2.0 {
                let wanted = self.limit * gradient + 4.0;
                self.limit = (self.limit * 0.8 + wanted * 0.2).clamp(20.0, 200.0);
            }
            self.window = Calls::since(now);
        }
        self.in_flight -= 1;
    }

    fn limit(&self) -> f64 {
        self.limit
    }
}

struct Downstream<L> {
    dice: Dice,
    limit: L,
    now: f64,
    next: f64,
    working: BinaryHeap<Reverse<(u64, Timestamp)>>,
    waiting: VecDeque<Slip>,
    slowness: f64,
    done: u32,
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_nanos((seconds * 1e9) as u64)
}

impl<L: Limit> Downstream<L> {
    fn new(limit: L, seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            limit,
            now: 0.0,
            next: 0.0,
            working: BinaryHeap::new(),
            waiting: VecDeque::new(),
            slowness: 1.0,
            done: 0,
        }
    }

    fn feed(&mut self, now: f64) {
        while self.working.len() < SERVERS {
            let Some(slip) = self.waiting.pop_front() else { return };
            let end = at(now + self.dice.log_normal(SERVICE * self.slowness));
            self.working.push(Reverse((end.as_nanos(), slip.started)));
        }
    }

    /// Lets seconds pass, and returns the mean limit and the calls done per second.
    fn run(&mut self, seconds: f64) -> (f64, f64) {
        let end = self.now + seconds;
        let (mut limits, mut seen) = (0.0, 0u32);
        self.done = 0;
        loop {
            let first = self.working.peek().map_or(f64::INFINITY, |Reverse((nanos, _))| *nanos as f64 / 1e9);
            let event = first.min(self.next);
            if event >= end {
                break;
            }
            self.now = event;
            if first <= self.next {
                let Some(Reverse((_, started))) = self.working.pop() else { break };
                self.done += 1;
                self.limit.leave(Slip { started }, at(event));
            } else {
                self.next += self.dice.exponential(1.0 / OFFERED_PER_S);
                if let Some(slip) = self.limit.enter(at(event)) {
                    self.waiting.push_back(slip);
                }
                limits += self.limit.limit();
                seen += 1;
            }
            self.feed(event);
        }
        self.now = end;
        (limits / f64::from(seen), f64::from(self.done) / seconds)
    }
}

#[test]
fn a_downstream_that_stays_slow_does_not_move_the_limit_and_is_used_again_when_it_recovers() {
    let capacity = SERVERS as f64 / SERVICE;
    for seed in 1..=3 {
        let adaptive = Adaptive::new(AdaptiveRules::default(), Timestamp::START);
        let mut downstream = Downstream::new(adaptive, seed);
        downstream.run(60.0);
        let (limit, per_s) = downstream.run(60.0);
        assert!(per_s >= 0.95 * capacity, "seed {seed}: {per_s} of {capacity} in health, limit {limit}");

        downstream.slowness = 3.0;
        downstream.run(120.0);
        let (settled, per_s) = downstream.run(60.0);
        assert!(per_s >= 0.95 * capacity / 3.0, "seed {seed}: {per_s} while slow, limit {settled}");
        for minute in 4..=30 {
            let (limit, _) = downstream.run(60.0);
            let drift = (limit - settled).abs() / settled;
            assert!(drift <= 0.10, "seed {seed}: from {settled} to {limit} in minute {minute}");
        }

        downstream.slowness = 1.0;
        downstream.run(9.0);
        let (limit, per_s) = downstream.run(1.0);
        assert!(per_s >= 0.9 * capacity, "seed {seed}: {per_s} in the tenth second, limit {limit}");
    }
}

#[test]
fn gradient2_creeps_up_meanwhile() {
    let window = Calls::since(Timestamp::START);
    let mut downstream = Downstream::new(Gradient2 { limit: 20.0, in_flight: 0, long: 0.0, window }, 1);
    downstream.run(120.0);
    downstream.slowness = 3.0;
    downstream.run(120.0);
    let (settled, _) = downstream.run(60.0);
    downstream.run(12.0 * 60.0);
    let (limit, _) = downstream.run(60.0);
    assert!(limit > 1.5 * settled, "from {settled} to {limit}");
}

#[test]
fn a_bound_on_what_is_healthy_leaves_a_slow_downstream_alone() {
    let rules = AdaptiveRules::builder().healthy_max(Duration::from_millis(60)).build().unwrap();
    let mut downstream = Downstream::new(Adaptive::new(rules, Timestamp::START), 1);
    downstream.run(60.0);
    let (healthy, _) = downstream.run(60.0);
    downstream.slowness = 3.0;
    downstream.run(60.0);
    let (slow, _) = downstream.run(60.0);
    assert!(slow < healthy / 2.0, "from {healthy} to {slow}");
}
