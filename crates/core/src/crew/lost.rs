//! How much of the workers' time outliers have cost lately.

use std::time::Duration;

use super::{Crew, State, Task};
use crate::stand_in::{LOST_WITHIN, is_panic, missing, outlier_after};
use crate::time::Timestamp;

/// Parts of the time that is looked back on, besides the one that is being filled.
const PARTS: u64 = 10;

/// Nanoseconds that a part lasts.
const WIDTH: u64 = LOST_WITHIN.as_nanos() as u64 / PARTS;

/// A ring of parts of time, and how many nanoseconds workers lost in each.
#[derive(Debug, Default)]
pub(super) struct Lost {
    parts: [u64; PARTS as usize + 1],
    /// Parts since the start of time, the one being filled included.
    newest: u64,
}

impl Lost {
    /// A worker lost the time from `from` to `to`, which is now; what is too long ago does not count.
    pub(super) fn add(&mut self, from: Timestamp, to: Timestamp) {
        self.advance(to);
        let (from, to) = (from.as_nanos(), to.as_nanos());
        for part in (from / WIDTH).max(self.newest.saturating_sub(PARTS))..=self.newest {
            let (begins, ends) = (part * WIDTH, (part + 1) * WIDTH);
            self.parts[Self::slot(part)] += to.min(ends).saturating_sub(from.max(begins));
        }
    }

    /// How many workers that is: their lost time over the time looked back on.
    pub(super) fn workers(&mut self, now: Timestamp) -> f64 {
        self.advance(now);
        let covered =
            Duration::from_nanos(PARTS * WIDTH + now.as_nanos() % WIDTH).min(now.since(Timestamp::START));
        let lost: u64 = self.parts.iter().sum();
        lost as f64 / covered.as_nanos().max(1) as f64
    }

    fn advance(&mut self, now: Timestamp) {
        let newest = now.as_nanos() / WIDTH;
        let first = (self.newest + 1).max(newest.saturating_sub(PARTS));
        for part in first..=newest {
            self.parts[Self::slot(part)] = 0;
        }
        self.newest = self.newest.max(newest);
    }

    const fn slot(part: u64) -> usize {
        (part % (PARTS + 1)) as usize
    }
}

impl<R: Clone, T: Task> Crew<R, T> {
    /// How many workers' time has gone into outliers over the last [`LOST_WITHIN`]: work that takes far longer than
    /// work does. To be asked every so often; a job counts from its start once it is an outlier.
    ///
    /// None is lost while half of those that have work are at an outlier: that work is what it is.
    pub fn lost(&mut self, now: Timestamp) -> u32 {
        let from = std::mem::replace(&mut self.lost_until, now);
        let Some(after) = self.queue.mean().map(outlier_after) else { return 0 };
        let mut outliers = Vec::new();
        for hand in self.roster.values_mut() {
            if let State::Busy { since, is_outlier, .. } = &mut hand.state
                && (*is_outlier || after <= now.since(*since))
            {
                outliers.push(if *is_outlier { from } else { *since });
                *is_outlier = true;
            }
        }
        if is_panic(outliers.len() as u32, self.busy) {
            return 0;
        }
        for since in outliers {
            self.lost.add(since, now);
        }
        missing(self.lost.workers(now), self.roster.len() as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(100);

    #[test]
    fn a_worker_counts_for_the_share_of_the_time_that_it_lost() {
        for (lost_ms, expected) in [(0, 0), (1_000, 25), (2_000, 50), (4_000, 100), (60_000, 100)] {
            let mut lost = Lost::default();
            lost.add(NOW - Duration::from_millis(lost_ms), NOW);
            assert_eq!(percent(&mut lost, NOW), expected, "{lost_ms} ms");
        }
    }

    fn percent(lost: &mut Lost, now: Timestamp) -> u32 {
        (lost.workers(now) * 100.0).round() as u32
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut lost = Lost::default();
        lost.add(NOW - LOST_WITHIN, NOW);
        lost.add(NOW - LOST_WITHIN, NOW);
        let at = [NOW, NOW + LOST_WITHIN / 2, NOW + LOST_WITHIN, NOW + 100 * LOST_WITHIN];
        assert_eq!(at.map(|at| percent(&mut lost, at)), [200, 100, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_worker_that_is_lost_all_the_time_is_one_however_often_one_looks(steps in vec(1u64..3_000, 1..100)) {
            let (mut lost, mut now) = (Lost::default(), NOW);
            lost.add(now - LOST_WITHIN, now);
            for ms in steps {
                let from = now;
                now = now + Duration::from_millis(ms);
                lost.add(from, now);
                prop_assert!(percent(&mut lost, now) == 100);
            }
        }
    }
}
