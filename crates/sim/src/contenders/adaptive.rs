//! Limits on what is in flight that adapt to latency, as Netflix's concurrency-limits library describes them.
//!
//! Written from the description of the algorithms and their defaults (FLOW-EVIDENCE.md, 1.1). As there, the
//! limits see the mean latency of windows of at least a second and ten samples, and do not grow while less
//! than half of them is used.

use std::collections::VecDeque;
use std::time::Duration;

use gemba_core::time::Timestamp;

use crate::contenders::RETRY_AFTER;
use crate::controller::{Attempt, Controller, Decision, Finished};

/// The least a window of samples lasts and holds.
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
pub(crate) const SAMPLES_MIN: u32 = 10;

/// How a limit follows the latency.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Gradient2(Gradient2),
    Vegas(Vegas),
    Aimd(Aimd),
}

/// Compares the latency now with its long-time mean.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gradient2 {
    long: f64,
    windows: u32,
}

impl Gradient2 {
    pub(crate) const RANGE: (f64, f64) = (20.0, 200.0);
    const SMOOTHING: f64 = 0.2;
    const TOLERANCE: f64 = 1.5;
    const LONG_WINDOWS: u32 = 600;
    const WARM_UP: u32 = 10;
    const QUEUE: f64 = 4.0;

    /// The limit after a window with this mean latency and so many in flight at most.
    pub(crate) fn next(&mut self, limit: f64, short: f64, in_flight: f64) -> f64 {
        self.windows = self.windows.saturating_add(1);
        // A plain mean at first, then an exponential one.
        let weight = if self.windows <= Self::WARM_UP {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / f64::from(Self::LONG_WINDOWS + 1)
        };
        self.long += weight * (short - self.long);
        // What was learnt under load is forgotten when the load is over.
        if 2.0 < self.long / short {
            self.long *= 0.95;
        }
        if in_flight < limit / 2.0 {
            return limit;
        }
        let gradient = (Self::TOLERANCE * self.long / short).clamp(0.5, 1.0);
        let wanted = limit * gradient + Self::QUEUE;
        (limit * (1.0 - Self::SMOOTHING) + wanted * Self::SMOOTHING).clamp(Self::RANGE.0, Self::RANGE.1)
    }
}

/// Estimates the queue from the lowest latency seen.
#[derive(Debug, Clone, Copy)]
struct Vegas {
    lowest: f64,
    since_probe: f64,
}

impl Vegas {
    const MAX: f64 = 1000.0;
    /// It measures the lowest latency anew after so many windows' samples per slot of the limit.
    const PROBE: f64 = 30.0;

    fn next(&mut self, limit: f64, short: f64, in_flight: f64, samples: u32) -> f64 {
        self.since_probe += f64::from(samples);
        if Self::PROBE * limit <= self.since_probe || short < self.lowest {
            (self.lowest, self.since_probe) = (short, 0.0);
            return limit;
        }
        if in_flight < limit / 2.0 {
            return limit;
        }
        let unit = libm::log10(limit).max(1.0);
        let queue = (limit * (1.0 - self.lowest / short)).ceil();
        let next = if queue <= unit {
            limit + 6.0 * unit
        } else if queue < 3.0 * unit {
            limit + unit
        } else if 6.0 * unit < queue {
            limit - unit
        } else {
            limit
        };
        next.clamp(1.0, Self::MAX)
    }
}

/// Grows by one, and shrinks by a tenth when answers come too late.
#[derive(Debug, Clone, Copy)]
struct Aimd {
    too_late: f64,
}

impl Aimd {
    const RANGE: (f64, f64) = (20.0, 200.0);
    const BACKOFF: f64 = 0.9;

    fn next(self, limit: f64, slowest: f64, in_flight: f64) -> f64 {
        let next = if self.too_late < slowest {
            limit * Self::BACKOFF
        } else if limit / 2.0 <= in_flight {
            limit + 1.0
        } else {
            limit
        };
        next.clamp(Self::RANGE.0, Self::RANGE.1)
    }
}

/// First in, first out, behind an adaptive limit on what is in flight.
#[derive(Debug)]
pub struct Adaptive {
    name: &'static str,
    rule: Rule,
    limit: f64,
    queue: VecDeque<Attempt>,
    running: u32,
    window: Window,
}

/// Samples since the limit was last looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since: Timestamp,
    samples: u32,
    sum: f64,
    slowest: f64,
    in_flight: u32,
}

impl Adaptive {
    fn new(name: &'static str, rule: Rule) -> Self {
        Self { name, rule, limit: 20.0, queue: VecDeque::new(), running: 0, window: Window::default() }
    }

    /// Gradient2, with its defaults.
    pub fn gradient2() -> Self {
        Self::new("Gradient2", Rule::Gradient2(Gradient2::default()))
    }

    /// Vegas, with its defaults.
    pub fn vegas() -> Self {
        Self::new("Vegas", Rule::Vegas(Vegas { lowest: f64::INFINITY, since_probe: 0.0 }))
    }

    /// AIMD with its defaults, but that answers are late after `deadline` instead of 5 s.
    pub fn aimd(deadline: Duration) -> Self {
        Self::new("AIMD", Rule::Aimd(Aimd { too_late: deadline.as_secs_f64() }))
    }

    fn in_flight(&self) -> u32 {
        self.running + self.queue.len() as u32
    }

    fn sample(&mut self, took: Duration, in_flight: u32, now: Timestamp) {
        let window = &mut self.window;
        let took = took.as_secs_f64();
        window.samples += 1;
        window.sum += took;
        window.slowest = window.slowest.max(took);
        window.in_flight = window.in_flight.max(in_flight);
        if now.since(window.since) < WINDOW || window.samples < SAMPLES_MIN {
            return;
        }
        let Window { samples, sum, slowest, in_flight, .. } =
            std::mem::replace(window, Window { since: now, ..Window::default() });
        let (mean, in_flight) = (sum / f64::from(samples), f64::from(in_flight));
        self.limit = match &mut self.rule {
            Rule::Gradient2(rule) => rule.next(self.limit, mean, in_flight),
            Rule::Vegas(rule) => rule.next(self.limit, mean, in_flight, samples),
            Rule::Aimd(rule) => rule.next(self.limit, slowest, in_flight),
        };
    }
}

impl Controller for Adaptive {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arrive(&mut self, attempt: Attempt, idle: u32, _now: Timestamp, _out: &mut Vec<Attempt>) -> Decision {
        if self.limit.floor() <= f64::from(self.in_flight()) {
            return Decision::Refuse(RETRY_AFTER);
        }
        if 0 < idle {
            self.running += 1;
            return Decision::Start;
        }
        self.queue.push_back(attempt);
        Decision::Wait
    }

    fn next(&mut self, _now: Timestamp, _out: &mut Vec<Attempt>) -> Option<Attempt> {
        let next = self.queue.pop_front()?;
        self.running += 1;
        Some(next)
    }

    fn finished(&mut self, finished: Finished, now: Timestamp) {
        let in_flight = self.in_flight();
        self.running -= 1;
        self.sample(now.since(finished.attempt.came), in_flight, now);
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
