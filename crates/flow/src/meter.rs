//! A cell: how many signals of a line came and how they ended, and how long they took.
//!
//! Counted in stripes, one of which each thread has for itself most of the time: a shared cache line costs
//! ten times as much on two threads. Kaizen folds the stripes each second.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::cell::Cell;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::objective::Answers;
pub(crate) use gemba_core::receipt::SignalOutcome as Ended;
use hdrhistogram::Histogram;

/// Stripes; a power of two, so that a mask finds one.
pub(crate) const STRIPES: usize = 8;

/// The longest latency told apart, in microseconds; longer ones count as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Counts of one line since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub arrived: u64,
    pub ended: [u64; Ended::ALL.len()],
}

impl Counts {
    pub(crate) const fn of(&self, ended: Ended) -> u64 {
        self.ended[ended as usize]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.arrived += other.arrived;
        for (total, ended) in self.ended.iter_mut().zip(other.ended) {
            *total += ended;
        }
    }

    /// Signals that came and have not ended. Read while signals move it can be off by those that do.
    pub(crate) fn in_flight(&self) -> u64 {
        self.arrived.saturating_sub(self.ended.iter().sum())
    }
}

/// Padded to two cache lines, which processors fetch together.
#[repr(align(128))]
struct Stripe {
    arrived: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
    /// By tier, those in time and those that were slow.
    answers: [[AtomicU64; 2]; Tier::ALL.len()],
    latency_us: Mutex<Histogram<u64>>,
}

pub(crate) struct Meter {
    stripes: [Stripe; STRIPES],
}

thread_local! {
    static STRIPE: Cell<usize> = Cell::new({
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) & (STRIPES - 1)
    });
}

/// The stripe of this thread.
pub(crate) fn stripe() -> usize {
    STRIPE.get()
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are in range")
}

impl Meter {
    pub(crate) fn new() -> Self {
        let stripe = |_| Stripe {
            arrived: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; Ended::ALL.len()],
            answers: [const { [const { AtomicU64::new(0) }; 2] }; Tier::ALL.len()],
            latency_us: Mutex::new(histogram()),
        };
        Self { stripes: std::array::from_fn(stripe) }
    }

    fn mine(&self) -> &Stripe {
        &self.stripes[stripe()]
    }

    pub(crate) fn arrived(&self) {
        self.mine().arrived.fetch_add(1, Relaxed);
    }

    /// Counts an end. The latency of what was not worked on says nothing about the work and is left out.
    pub(crate) fn ended(&self, ended: Ended, latency: Duration) {
        let stripe = self.mine();
        stripe.ended[ended as usize].fetch_add(1, Relaxed);
        if ended.was_worked_on() {
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
            stripe.latency_us.lock().expect("recording cannot panic").saturating_record(micros);
        }
    }

    /// Counts what was worked on against the objective of its tier.
    pub(crate) fn answered(&self, tier: Tier, is_slow: bool) {
        self.mine().answers[tier as usize][usize::from(is_slow)].fetch_add(1, Relaxed);
    }

    /// The answers of a tier that was counted.
    pub(crate) fn answers(&self, tier: Tier) -> Answers {
        let mut answers = Answers::default();
        for stripe in &self.stripes {
            let [in_time, slow] = &stripe.answers[tier as usize];
            answers.in_time += in_time.load(Relaxed);
            answers.slow += slow.load(Relaxed);
        }
        answers
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for stripe in &self.stripes {
            // Ends first: a signal that ends meanwhile is seen as in flight rather than as ended twice.
            for (total, ended) in counts.ended.iter_mut().zip(&stripe.ended) {
                *total += ended.load(Relaxed);
            }
        }
        for stripe in &self.stripes {
            counts.arrived += stripe.arrived.load(Relaxed);
        }
        counts
    }

    /// The latencies in microseconds since the last call, which begin anew.
    pub(crate) fn take_latencies(&self) -> Histogram<u64> {
        let mut all = histogram();
        for stripe in &self.stripes {
            let mut stripe = stripe.latency_us.lock().expect("recording cannot panic");
            if !stripe.is_empty() {
                all.add(&*stripe).expect("both have the same bounds");
                stripe.reset();
            }
        }
        all
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.counts()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_together_and_what_was_not_worked_on_leaves_the_latency_alone() {
        let meter = Meter::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        meter.ended(Ended::Succeeded, Duration::from_millis(2));
                        for ended in [Ended::Refused, Ended::Rejected, Ended::Cancelled] {
                            meter.ended(ended, Duration::ZERO);
                        }
                        (0..4).for_each(|_| meter.arrived());
                    }
                });
            }
        });
        let counts = meter.counts();
        assert_eq!((counts.arrived, counts.in_flight()), (1600, 0));
        assert_eq!((counts.of(Ended::Succeeded), counts.of(Ended::Refused)), (400, 400));
        let latencies = meter.take_latencies();
        assert_eq!((latencies.len(), latencies.max() / 100), (400, 20));
        assert!(meter.take_latencies().is_empty());
    }
}
