//! How much of the time a crew works.

use std::collections::VecDeque;

use crate::time::Timestamp;

/// Over how many readings utilization is taken; at one a second, a minute.
const USAGE_READINGS: usize = 60;

/// Busy time over worker time, exact, in a window of readings.
#[derive(Debug, Default)]
pub(super) struct Usage {
    noted_at: Timestamp,
    /// Nanoseconds times workers, since the last reading.
    busy: u64,
    present: u64,
    window: VecDeque<(u64, u64)>,
}

impl Usage {
    /// Notes that until now `busy` of `present` workers worked. Callers' clocks may be a little behind each other.
    pub(super) fn note(&mut self, busy: u32, present: u32, now: Timestamp) {
        let elapsed = now.as_nanos().saturating_sub(self.noted_at.as_nanos());
        self.busy = self.busy.saturating_add(elapsed.saturating_mul(u64::from(busy)));
        self.present = self.present.saturating_add(elapsed.saturating_mul(u64::from(present)));
        self.noted_at = self.noted_at.max(now);
    }

    /// Ends a reading, and tells the share of the last minute's.
    pub(super) fn read(&mut self) -> f64 {
        self.window.push_back((std::mem::take(&mut self.busy), std::mem::take(&mut self.present)));
        if USAGE_READINGS < self.window.len() {
            self.window.pop_front();
        }
        let (busy, present) = self
            .window
            .iter()
            .fold((0, 0), |(b, p), (busy, present)| (b + u128::from(*busy), p + u128::from(*present)));
        if present == 0 { 0.0 } else { busy as f64 / present as f64 }
    }
}
