//! A breaker's rules told naively: what E13 compares the breaker with.

use gemba_core::breaker::Outcome;
use gemba_core::breaker::Outcome::{Failure, Ignored};
use gemba_core::receipt::BreakerState;
use gemba_core::receipt::BreakerState::{Closed, HalfOpen, Open};

const SECOND: u64 = 1_000_000_000;

/// A call as the automaton sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// The state's number in which it began.
    pub(super) era: u64,
    pub(super) id: u64,
    started: u64,
}

/// The default rules without jitter, written down as plainly as possible; slow calls are those of 2 s.
#[derive(Debug)]
pub(super) struct Automaton {
    pub(super) state: BreakerState,
    pub(super) era: u64,
    /// When an open one lets a probe through; never if an operator opened it.
    until: Option<u64>,
    openings: u32,
    pub(super) row: u32,
    /// Every outcome since it was closed: second, and whether it failed.
    log: Vec<(u64, bool)>,
    probes: Vec<Call>,
    successes: u32,
    calls: u64,
}

impl Automaton {
    pub(super) fn new() -> Self {
        let (log, probes) = (Vec::new(), Vec::new());
        let (era, until, openings, row, successes, calls) = (0, None, 0, 0, 0, 0);
        Self { state: Closed, era, until, openings, row, log, probes, successes, calls }
    }

    pub(super) fn go(&mut self, state: BreakerState) {
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

    pub(super) fn enter(&mut self, now: u64) -> Option<Call> {
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

    pub(super) fn record(&mut self, call: Call, outcome: Outcome, now: u64) {
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
