//! The breaker against its rules told naively: a million random steps of both compared (E13).

use super::*;
use BreakerState::{Closed, HalfOpen, Open};
use Outcome::{Failure, Ignored, Success};

/// Steps of the comparison: a million where the machine helps, a tenth of it in a debug build.
const STEPS: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

const SECOND: u64 = 1_000_000_000;

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// A call as the model sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    /// The state's number in which it began.
    era: u64,
    id: u64,
    started: u64,
}

/// The default rules without jitter, written down as plainly as possible; slow calls are those of 2 s.
#[derive(Debug)]
struct Model {
    state: BreakerState,
    era: u64,
    /// When an open one lets a probe through; never if an operator opened it.
    until: Option<u64>,
    openings: u32,
    row: u32,
    /// Every outcome since it was closed: second, and whether it failed.
    log: Vec<(u64, bool)>,
    probes: Vec<Call>,
    successes: u32,
    calls: u64,
}

impl Model {
    fn new() -> Self {
        let (log, probes) = (Vec::new(), Vec::new());
        let (era, until, openings, row, successes, calls) = (0, None, 0, 0, 0, 0);
        Self { state: Closed, era, until, openings, row, log, probes, successes, calls }
    }

    fn go(&mut self, state: BreakerState) {
        (self.state, self.era, self.successes) = (state, self.era + 1, 0);
        self.log.clear();
        self.probes.clear();
        self.until = None;
        if state == Closed {
            (self.row, self.openings) = (0, 0);
        }
    }

    fn open(&mut self, now: u64) {
        let length = (30 << self.openings.min(10)).min(300) * SECOND;
        self.openings += 1;
        self.go(Open);
        self.until = Some(now + length);
    }

    fn enter(&mut self, now: u64) -> Option<Call> {
        if self.state == Open {
            if self.until.is_none_or(|until| now < until) {
                return None;
            }
            self.go(HalfOpen);
        }
        let call = Call { era: self.era, id: self.calls + 1, started: now };
        if self.state == HalfOpen {
            self.probes.retain(|probe| now - probe.started < 60 * SECOND);
            if !self.probes.is_empty() {
                return None;
            }
            self.probes.push(call);
        }
        self.calls += 1;
        Some(call)
    }

    fn record(&mut self, call: Call, outcome: Outcome, now: u64) {
        if call.era != self.era {
            return;
        }
        let known = self.probes.iter().any(|probe| probe.id == call.id);
        if self.state == HalfOpen && !known {
            return;
        }
        self.probes.retain(|probe| probe.id != call.id);
        if outcome == Ignored {
            return;
        }
        let failed = outcome == Failure || 2 * SECOND <= now - call.started;
        self.row = if failed { self.row + 1 } else { 0 };
        if self.state == HalfOpen {
            self.successes += u32::from(!failed);
            if failed {
                self.open(now);
            } else if self.successes == 3 {
                self.go(Closed);
            }
            return;
        }
        let second = now / SECOND;
        self.log.push((second, failed));
        self.log.retain(|(then, _)| second - then <= 10);
        let failures = self.log.iter().filter(|(_, failed)| *failed).count();
        if 5 <= self.row || (20 <= self.log.len() && self.log.len() <= 2 * failures) {
            self.open(now);
        }
    }
}

#[test]
fn a_million_random_steps_differ_in_nothing_from_the_rules() {
    let rules = BreakerRules::builder().jitter(0.0, 0).slow(Duration::from_secs(2)).build().unwrap();
    let (mut breaker, mut model, mut dice) = (Breaker::new(rules), Model::new(), Dice(13));
    let (mut now, mut out) = (100 * SECOND, Vec::<(Ticket, Call)>::new());
    let mut seen = [0u32; 3];
    // Times are good for a while and bad for a while, so that every state is lived in.
    let mut failing = 5;
    for step in 0..STEPS {
        if step % 200 == 0 {
            failing = [1, 5, 30, 55, 90][dice.below(5) as usize];
        }
        now += match dice.below(20) {
            0 => dice.below(100 * SECOND),
            1..=4 => dice.below(3 * SECOND),
            _ => dice.below(SECOND / 10),
        };
        let at = Timestamp::from_nanos(now);
        match dice.below(1000) {
            0 => {
                let _ = breaker.force_open(at);
                model.go(Open);
            }
            // An operator does not leave it open for long, or nothing else would be tried.
            1..=5 => {
                let _ = breaker.force_half_open(at);
                model.go(HalfOpen);
            }
            6 => {
                let _ = breaker.force_close(at);
                model.go(Closed);
            }
            7..=550 => {
                let (ours, theirs) = (breaker.enter(at), model.enter(now));
                assert_eq!(ours.is_ok(), theirs.is_some(), "step {step}: {model:?}");
                out.extend(ours.ok().map(|entry| entry.ticket).zip(theirs));
            }
            _ if out.is_empty() => {}
            _ => {
                let (ticket, call) = out.swap_remove(dice.below(out.len() as u64) as usize);
                let outcome = match dice.below(100) {
                    0..=4 => Ignored,
                    rolled if rolled < 5 + failing => Failure,
                    _ => Success,
                };
                let _ = breaker.record(ticket, outcome, at);
                model.record(call, outcome, now);
            }
        }
        assert_eq!(breaker.state(), model.state, "step {step}: {model:?}");
        assert_eq!(breaker.failures_in_a_row(), model.row, "step {step}: {model:?}");
        // Lost calls do not come back: what is out for long is forgotten now and then.
        if 50 < out.len() {
            out.truncate(10);
        }
        seen[breaker.state() as usize] += 1;
    }
    assert!(seen.iter().all(|steps| STEPS / 100 < *steps), "steps in each state: {seen:?}");
}
