//! How many outcomes there were lately, and how many of them failures.

use std::time::Duration;

use crate::time::Timestamp;

/// Failures among outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) failures: u64,
    pub(crate) outcomes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.failures += other.failures;
        self.outcomes += other.outcomes;
    }

    fn subtract(&mut self, other: Self) {
        self.failures -= other.failures;
        self.outcomes -= other.outcomes;
    }
}

/// A rolling window: a ring of buckets, and their sum.
///
/// It covers its span and up to one bucket more, because the newest bucket is still being filled.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    buckets: Box<[Tally]>,
    /// Nanoseconds a bucket covers.
    width: u64,
    /// Buckets since the start of time, the one being filled included.
    newest: u64,
    sum: Tally,
}

impl Window {
    /// A window over `span` in `parts` buckets, and the one being filled; empty `now`.
    pub(crate) fn new(span: Duration, parts: u32, now: Timestamp) -> Self {
        let width = u64::try_from(span.as_nanos() / u128::from(parts)).unwrap_or(u64::MAX).max(1);
        let buckets = vec![Tally::default(); parts as usize + 1].into_boxed_slice();
        Self { buckets, width, newest: now.as_nanos() / width, sum: Tally::default() }
    }

    /// Counts `tally` as of `now`.
    pub(crate) fn add(&mut self, tally: Tally, now: Timestamp) {
        self.advance(now);
        let slot = self.slot(self.newest);
        self.buckets[slot].add(tally);
        self.sum.add(tally);
    }

    /// What the window holds `now`.
    pub(crate) fn sum(&mut self, now: Timestamp) -> Tally {
        self.advance(now);
        self.sum
    }

    /// How long it covers `now`, the bucket being filled included.
    pub(crate) fn covers(&mut self, now: Timestamp) -> Duration {
        self.advance(now);
        let whole = self.buckets.len() as u64 - 1;
        now.since(Timestamp::from_nanos(self.newest.saturating_sub(whole).saturating_mul(self.width)))
    }

    /// Covers another span from `now` on, and keeps what it counted within it: bucket by bucket if buckets stay as
    /// long, and otherwise each of the old ones where it began.
    pub(crate) fn resize(&mut self, span: Duration, parts: u32, now: Timestamp) {
        self.advance(now);
        let mut resized = Self::new(span, parts, now);
        let oldest = self.newest.saturating_sub(self.buckets.len() as u64 - 1);
        for number in oldest..=self.newest {
            let began = number.saturating_mul(self.width) / resized.width;
            if resized.newest < began.saturating_add(resized.buckets.len() as u64) {
                let tally = self.buckets[self.slot(number)];
                let slot = resized.slot(began.min(resized.newest));
                resized.buckets[slot].add(tally);
                resized.sum.add(tally);
            }
        }
        *self = resized;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buckets.fill(Tally::default());
        self.sum = Tally::default();
    }

    fn advance(&mut self, now: Timestamp) {
        let newest = now.as_nanos() / self.width;
        if self.newest.saturating_add(self.buckets.len() as u64) <= newest {
            self.clear();
            self.newest = newest;
        }
        // A `now` from before the newest bucket is counted there: time never goes back in a window.
        while self.newest < newest {
            self.newest += 1;
            let slot = self.slot(self.newest);
            self.sum.subtract(std::mem::take(&mut self.buckets[slot]));
        }
    }

    const fn slot(&self, number: u64) -> usize {
        (number % self.buckets.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn an_outcome_counts_for_the_span_and_at_most_a_bucket_longer() {
        let one = Tally { failures: 1, outcomes: 1 };
        let at = |millis: u64| Timestamp::from_nanos(millis * 1_000_000);
        for (then, now, counted) in [
            (0, 10_000, true),
            (0, 10_999, true),
            (0, 11_000, false),
            (999, 11_000, false),
            (500, 10_500, true),
        ] {
            let mut window = Window::new(Duration::from_secs(10), 10, Timestamp::START);
            window.add(one, at(then));
            let expected = if counted { one } else { Tally::default() };
            assert_eq!(window.sum(at(now)), expected, "{then} at {now}");
        }
    }

    #[test]
    fn another_span_keeps_what_it_still_covers() {
        let one = Tally { failures: 1, outcomes: 2 };
        let filled = || {
            let mut window = Window::new(Duration::from_secs(10), 10, Timestamp::START);
            (0..=10).for_each(|second| window.add(one, Timestamp::from_secs(second)));
            window
        };
        let now = Timestamp::from_secs(10);
        for (span, parts, kept) in
            [(10, 10, 11), (5, 5, 6), (20, 20, 11), (20, 10, 11), (5, 10, 6), (60, 6, 11)]
        {
            let mut window = filled();
            window.resize(Duration::from_secs(span), parts, now);
            let expected = Tally { failures: kept, outcomes: 2 * kept };
            assert_eq!(window.sum(now), expected, "{span} s in {parts} parts");
            // What is kept leaves in its time.
            let later = now + Duration::from_secs(2 * span);
            assert_eq!(window.sum(later), Tally::default(), "{span} s in {parts} parts");
        }
    }

    proptest! {
        #[test]
        fn a_window_that_is_set_to_its_own_span_stays_what_it_is(
            steps in vec((0u64..3000, 0u64..5, 0u64..5), 1..40), after in 0u64..9000,
        ) {
            let mut window = Window::new(Duration::from_secs(4), 4, Timestamp::START);
            let mut now = Timestamp::START;
            for (millis, failures, successes) in steps {
                now = now + Duration::from_millis(millis);
                window.add(Tally { failures, outcomes: failures + successes }, now);
            }
            let mut resized = window.clone();
            resized.resize(Duration::from_secs(4), 4, now);
            let later = now + Duration::from_millis(after);
            prop_assert_eq!(resized.sum(later), window.sum(later));
        }

        #[test]
        fn the_sum_is_the_sum_of_what_the_buckets_still_cover(steps in vec((0u64..3000, 0u64..5, 0u64..5), 1..60)) {
            let mut window = Window::new(Duration::from_secs(4), 4, Timestamp::START);
            let (mut now, mut log) = (Timestamp::START, Vec::new());
            for (millis, failures, successes) in steps {
                now = now + Duration::from_millis(millis);
                let tally = Tally { failures, outcomes: failures + successes };
                window.add(tally, now);
                log.push((now.as_millis() / 1000, tally));
                let covered = log.iter().filter(|(second, _)| now.as_millis() / 1000 < second + 5);
                let mut expected = Tally::default();
                covered.for_each(|(_, tally)| expected.add(*tally));
                prop_assert_eq!(window.sum(now), expected);
            }
        }
    }
}
