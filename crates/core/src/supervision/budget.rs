//! The restarts a supervisor has left in its period.

use std::collections::VecDeque;

use super::rules::Intensity;
use crate::time::Timestamp;

/// The times of the restarts that still count: never more than the intensity allows.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    intensity: Intensity,
    restarts: VecDeque<Timestamp>,
}

impl Budget {
    pub(super) fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts a restart, unless it would be one too many. Exact to the nanosecond, in constant time: only
    /// the restart `limit` places back matters.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let limit = self.intensity.restarts as usize;
        if limit == 0 {
            return false;
        }
        if self.restarts.len() == limit {
            let oldest = self.restarts[0];
            if now.since(oldest) <= self.intensity.period {
                return false;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        true
    }
}
