//! A cell: counts and histograms of which each thread keeps a part of its own, added up when somebody reads them.
//!
//! A number that all threads write costs ten times as much on two of them as on one. A part that only its thread
//! writes costs a load and a store, on however many.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use metrics::{CounterFn, HistogramFn};
use thread_local::ThreadLocal;

/// A number that only one thread writes at a time. Padded to two cache lines, which processors fetch together.
#[derive(Default)]
#[repr(align(128))]
struct Own(AtomicU64);

/// Adds to what only this thread writes.
fn add(own: &AtomicU64, value: u64) {
    own.store(own.load(Relaxed).wrapping_add(value), Relaxed);
}

/// A counter.
#[derive(Default)]
pub(crate) struct Count {
    parts: ThreadLocal<Own>,
    /// What was counted elsewhere.
    absolute: AtomicU64,
}

impl Count {
    pub(crate) fn total(&self) -> u64 {
        let counted = self.parts.iter().map(|part| part.0.load(Relaxed)).sum::<u64>();
        self.absolute.load(Relaxed).wrapping_add(counted)
    }
}

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        add(&self.parts.get_or_default().0, value);
    }

    fn absolute(&self, value: u64) {
        self.absolute.fetch_max(value, Relaxed);
    }
}

/// The most buckets of a histogram. A fixed number, so that a sample costs no look through a pointer.
const BUCKETS_MAX: usize = 20;

/// A histogram with fixed buckets.
pub(crate) struct Buckets {
    /// Upper bounds, ascending; what is above the last has a bucket of its own.
    bounds: &'static [f64],
    parts: ThreadLocal<Part>,
}

#[derive(Default)]
#[repr(align(128))]
struct Part {
    counts: [AtomicU64; BUCKETS_MAX],
    /// The bits of a float.
    sum: AtomicU64,
}

/// What a histogram holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Totals {
    /// By bucket, not cumulated; one more than there are bounds.
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: f64,
}

impl Buckets {
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        assert!(bounds.len() < BUCKETS_MAX, "a histogram has {BUCKETS_MAX} buckets at most");
        Self { bounds, parts: ThreadLocal::new() }
    }

    pub(crate) const fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals { counts: vec![0; self.bounds.len() + 1], sum: 0.0 };
        for part in &self.parts {
            for (total, count) in totals.counts.iter_mut().zip(&part.counts) {
                *total += count.load(Relaxed);
            }
            totals.sum += f64::from_bits(part.sum.load(Relaxed));
        }
        totals
    }

    #[inline]
    fn add(&self, value: f64, count: u64, sum: f64) {
        // A sum with something that is no number would be none for ever.
        if value.is_nan() {
            return;
        }
        let part = self.parts.get_or_default();
        // Faster than a binary search: there are few, and nothing to guess wrong.
        let bucket = self.bounds.iter().filter(|bound| **bound < value).count();
        add(&part.counts[bucket], count);
        let sum = f64::from_bits(part.sum.load(Relaxed)) + sum;
        part.sum.store(sum.to_bits(), Relaxed);
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        self.add(value, 1, value);
    }

    fn record_many(&self, value: f64, count: usize) {
        self.add(value, count as u64, value * count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_together_and_what_was_counted_elsewhere_is_added() {
        let count = Count::default();
        count.absolute(50);
        count.absolute(40);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|_| count.increment(2)));
            }
        });
        assert_eq!(count.total(), 8_050);
        // The part of a thread that is over stays.
        std::thread::scope(|scope| scope.spawn(|| count.increment(1)).join().unwrap());
        assert_eq!(count.total(), 8_051);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_no_number_to_none() {
        let buckets = Buckets::new(&[1.0, 2.0, 4.0]);
        for value in [0.5, 1.0, 1.5, 4.0, 4.5, -1.0] {
            buckets.record(value);
        }
        buckets.record_many(3.0, 1_000_000_000);
        buckets.record(f64::NAN);
        let totals = buckets.totals();
        assert_eq!(totals.counts, [3, 1, 1_000_000_001, 1]);
        assert!((totals.sum - 3_000_000_010.5).abs() < 1e-3, "{}", totals.sum);
    }
}
