//! E13: a breaker beside its rules told naively, and how soon it sees what fails.

use std::time::Duration;

use gemba_core::breaker::Outcome::{Failure, Ignored, Success};
use gemba_core::breaker::{Breaker, BreakerRules, Ticket};
use gemba_core::receipt::BreakerState;
use gemba_core::time::Timestamp;

use super::automaton::{Automaton, Call};
use super::{Experiment, Row, Scale, Target, by_seed};
use crate::draw::Draw;

const SECOND: u64 = 1_000_000_000;

/// When a probe without an answer is taken for lost: the default.
const PROBE_MAX_S: u64 = 60;

/// How often a fault begins, each seed.
const FAULTS: u64 = 100;

/// Calls come evenly, so many nanoseconds apart: 100 a second.
const PAUSE: u64 = SECOND / 100;

/// Runs E13.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let compared = by_seed(scale, |seed| Compared::run(seed, scale.calls));
    let steps = format!("{} random steps", scale.calls);
    let none = |figure, of: fn(&Compared) -> u32| {
        let ours = compared.iter().map(|compared| f64::from(of(compared))).collect();
        Row::new(&*steps, figure, Target::AtMost(0.0), ours)
    };
    let rarest = compared.iter().map(|of| f64::from(of.steps.into_iter().min().unwrap_or_default()));
    let half = by_seed(scale, |seed| Fault::HALF.calls_until_open(seed, BreakerRules::default(), 1.0));
    let tenth = by_seed(scale, |seed| Fault::TENTH.calls_until_open(seed, sharp(), 0.95));
    let blunt = by_seed(scale, |seed| Fault::TENTH.calls_until_open(seed, BreakerRules::default(), 0.95));
    let falsely = by_seed(scale, false_openings);
    let rows = vec![
        none("divergences from the automaton", |of| of.divergences),
        none("probes beyond the permitted", |of| of.beyond),
        none("stale outcomes that changed anything", |of| of.stale),
        Row::new(
            &*steps,
            "share of the rarest state",
            Target::AtLeast(0.01),
            rarest.map(|steps| steps / f64::from(scale.calls)).collect(),
        ),
        Row::new("a probe is lost", "s until the next", Target::AtMost(PROBE_MAX_S as f64), vec![lost()]),
        Row::new(
            "50 % fail, 100 calls/s",
            "s until open, most",
            Target::AtMost(10.0),
            half.iter().map(|calls| calls * PAUSE as f64 / SECOND as f64).collect(),
        ),
        Row::new("1 %, then 10 % fail", "calls until open, p95", Target::AtMost(200.0), tenth)
            .beside("default rules", blunt),
        Row::new("1 % fail, an hour", "openings", Target::AtMost(0.0), falsely),
    ];
    vec![Experiment::new("E13", "breaker", rows)]
}

/// Rules that tell a tenth from a hundredth; the default ones look for half.
fn sharp() -> BreakerRules {
    let rules = BreakerRules::builder().failure_ratio(0.06, 150, Duration::from_secs(2));
    rules.build().expect("rules within the bounds")
}

#[derive(Debug, Default)]
struct Compared {
    divergences: u32,
    beyond: u32,
    stale: u32,
    /// Steps in each state.
    steps: [u32; 3],
}

impl Compared {
    fn run(seed: u64, steps: u32) -> Self {
        let rules = BreakerRules::builder().jitter(0.0, 0).slow(Duration::from_secs(2));
        let rules = rules.build().expect("rules within the bounds");
        let (mut breaker, mut automaton) = (Breaker::new(rules), Automaton::new());
        let (mut draw, mut now) = (Draw::new(seed, 0), 100 * SECOND);
        let mut out = Vec::<(Ticket, Call)>::new();
        // Probes that are out: of which state, which, and since when.
        let mut probes = Vec::<(u64, u64, u64)>::new();
        let mut found = Self::default();
        // Times are good for a while and bad for a while, so that every state is lived in.
        let mut failing = 5;
        for step in 0..steps {
            if step % 200 == 0 {
                failing = [1, 5, 30, 55, 90][draw.below(5) as usize];
            }
            now += match draw.below(20) {
                0 => draw.below(100 * SECOND),
                1..=4 => draw.below(3 * SECOND),
                _ => draw.below(SECOND / 10),
            };
            let at = Timestamp::from_nanos(now);
            match draw.below(1000) {
                0 => {
                    let _ = breaker.force_open(at);
                    automaton.go(BreakerState::Open);
                }
                // An operator does not leave it open for long, or nothing else would be tried.
                1..=5 => {
                    let _ = breaker.force_half_open(at);
                    automaton.go(BreakerState::HalfOpen);
                }
                6 => {
                    let _ = breaker.force_close(at);
                    automaton.go(BreakerState::Closed);
                }
                7..=550 => match (breaker.enter(at), automaton.enter(now)) {
                    (Ok(entry), Some(call)) => {
                        if breaker.state() == BreakerState::HalfOpen {
                            probes.push((call.era, call.id, now));
                        }
                        out.push((entry.ticket, call));
                    }
                    (Err(_), None) => {}
                    (Ok(_), None) | (Err(_), Some(_)) => found.divergences += 1,
                },
                _ if out.is_empty() => {}
                _ => {
                    let (ticket, call) = out.swap_remove(draw.below(out.len() as u64) as usize);
                    let outcome = match draw.below(100) {
                        0..=4 => Ignored,
                        rolled if rolled < 5 + failing => Failure,
                        _ => Success,
                    };
                    let before = (breaker.state(), breaker.failures_in_a_row());
                    let is_stale = call.era != automaton.era;
                    let moved = breaker.record(ticket, outcome, at);
                    automaton.record(call, outcome, now);
                    let after = (breaker.state(), breaker.failures_in_a_row());
                    found.stale += u32::from(is_stale && (moved.is_some() || before != after));
                    probes.retain(|(_, id, _)| *id != call.id);
                }
            }
            probes.retain(|(era, _, since)| *era == automaton.era && now - since < PROBE_MAX_S * SECOND);
            found.beyond += u32::from(1 < probes.len());
            let agrees = breaker.state() == automaton.state && breaker.failures_in_a_row() == automaton.row;
            found.divergences += u32::from(!agrees);
            found.steps[breaker.state() as usize] += 1;
            // Lost calls do not come back: what is out for long is forgotten now and then.
            if 50 < out.len() {
                out.truncate(10);
            }
        }
        found
    }
}

/// Seconds a half-open breaker waits for a probe that nobody brings back, before it lets another through.
fn lost() -> f64 {
    let start = Timestamp::from_secs(100);
    let mut breaker = Breaker::new(BreakerRules::default());
    let _ = breaker.force_half_open(start);
    let Ok(probe) = breaker.enter(start) else { return f64::INFINITY };
    let next = (1..=2 * PROBE_MAX_S).find(|now| breaker.enter(start + Duration::from_secs(*now)).is_ok());
    // Late, it changes nothing: the next one decides.
    let moved = breaker.record(probe.ticket, Failure, start + Duration::from_secs(2 * PROBE_MAX_S));
    if moved.is_some() { f64::INFINITY } else { next.map_or(f64::INFINITY, |seconds| seconds as f64) }
}

/// A downstream that fails in one share of calls, and then in another.
#[derive(Debug, Clone, Copy)]
struct Fault {
    before: f64,
    after: f64,
}

impl Fault {
    const HALF: Self = Self { before: 0.0, after: 0.5 };
    const TENTH: Self = Self { before: 0.01, after: 0.1 };

    /// Calls from the fault until it is seen, in that share of a seed's faults at most.
    fn calls_until_open(self, seed: u64, rules: BreakerRules, share: f64) -> f64 {
        let mut calls: Vec<f64> = (0..FAULTS).map(|number| self.once(seed, number, rules)).collect();
        calls.sort_by(f64::total_cmp);
        calls[(share * (FAULTS - 1) as f64) as usize]
    }

    fn once(self, seed: u64, number: u64, rules: BreakerRules) -> f64 {
        let (mut draw, mut breaker) = (Draw::new(seed, number), Breaker::new(rules));
        let mut now = 100 * SECOND;
        for _ in 0..1_000 {
            now += PAUSE;
            if call(&mut breaker, &mut draw, self.before, now) {
                // Opened without need: it does not count as seen.
                return f64::INFINITY;
            }
        }
        let opened_at = (1..=10_000u32).find(|_| {
            now += PAUSE;
            call(&mut breaker, &mut draw, self.after, now)
        });
        opened_at.map_or(f64::INFINITY, f64::from)
    }
}

fn false_openings(seed: u64) -> f64 {
    let (mut draw, mut breaker) = (Draw::new(seed, FAULTS), Breaker::new(sharp()));
    let mut now = 100 * SECOND;
    let opens = |_: &u64| {
        now += PAUSE;
        let opened = call(&mut breaker, &mut draw, Fault::TENTH.before, now);
        if opened {
            let _ = breaker.force_close(Timestamp::from_nanos(now));
        }
        opened
    };
    (0..3600 * SECOND / PAUSE).filter(opens).count() as f64
}

/// One call; whether the breaker refuses it or opens at it.
fn call(breaker: &mut Breaker, draw: &mut Draw, failing: f64, now: u64) -> bool {
    let now = Timestamp::from_nanos(now);
    let Ok(entry) = breaker.enter(now) else { return true };
    let outcome = if draw.uniform() < failing { Failure } else { Success };
    breaker.record(entry.ticket, outcome, now).is_some()
}
