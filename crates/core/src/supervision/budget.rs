//! The restarts a supervisor has left in its period.

use std::collections::VecDeque;

use super::rules::Intensity;
use crate::time::Timestamp;

/// The times of the restarts that still count: never more than the intensity allows, nor than there were
/// within the period.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    intensity: Intensity,
    restarts: VecDeque<Timestamp>,
}

impl Budget {
    pub(super) fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts a restart, unless it would be one too many. Exact to the nanosecond, in constant time: each
    /// restart is forgotten once.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        while self.restarts.front().is_some_and(|oldest| now.since(*oldest) > self.intensity.period) {
            self.restarts.pop_front();
        }
        let counts = self.restarts.len() < self.intensity.restarts as usize;
        if counts {
            self.restarts.push_back(now);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_no_longer_counts_is_forgotten() {
        let mut budget = Budget::new(Intensity { restarts: u32::MAX, period: Duration::from_secs(1) });
        for second in 0..1000 {
            assert!(budget.take(Timestamp::from_secs(second)));
        }
        assert_eq!(budget.restarts.len(), 2, "the end of the period counts");
    }
}
