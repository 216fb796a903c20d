//! What a crew did since it was last looked at, counted exactly.

use std::time::Duration;

use crate::scaling::Sample;
use crate::time::Timestamp;

/// Jobs that came and went, and worker time, since the last [`sample`](Usage::sample).
#[derive(Debug)]
pub(super) struct Usage {
    arrived: u64,
    finished: u64,
    /// Nanoseconds times workers.
    busy: u64,
    present: u64,
    arrived_total: u64,
    sampled_at: Timestamp,
    noted_at: Timestamp,
}

impl Usage {
    pub(super) const fn since(now: Timestamp) -> Self {
        Self {
            arrived: 0,
            finished: 0,
            busy: 0,
            present: 0,
            arrived_total: 0,
            sampled_at: now,
            noted_at: now,
        }
    }

    /// A job came, whether there is room for it or not.
    pub(super) const fn arrived(&mut self) {
        self.arrived += 1;
        self.arrived_total += 1;
    }

    pub(super) const fn arrived_total(&self) -> u64 {
        self.arrived_total
    }

    /// A worker is done with a job.
    pub(super) const fn finished(&mut self) {
        self.finished += 1;
    }

    /// Notes that until now `busy` of `present` workers worked. Callers' clocks may be a little behind each other.
    pub(super) fn note(&mut self, busy: u32, present: u32, now: Timestamp) {
        let elapsed = now.as_nanos().saturating_sub(self.noted_at.as_nanos());
        self.busy = self.busy.saturating_add(elapsed.saturating_mul(u64::from(busy)));
        self.present = self.present.saturating_add(elapsed.saturating_mul(u64::from(present)));
        self.noted_at = self.noted_at.max(now);
    }

    /// Ends a look at the crew, and begins the next.
    pub(super) fn sample(&mut self, now: Timestamp) -> Sample {
        let elapsed = now.since(self.sampled_at);
        self.sampled_at = self.sampled_at.max(now);
        Sample {
            arrived: std::mem::take(&mut self.arrived),
            finished: std::mem::take(&mut self.finished),
            busy: Duration::from_nanos(std::mem::take(&mut self.busy)),
            offered: Duration::from_nanos(std::mem::take(&mut self.present)),
            elapsed,
        }
    }
}
