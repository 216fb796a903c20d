//! A cell: the load a pool publishes, so that callers can route without asking it.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use gemba_core::crew::CrewLoad;

/// Written under the lock of the pool's exchange, by its dispatcher and by who changes settings, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct LoadCell {
    workers: AtomicU32,
    busy: AtomicU32,
    queued: AtomicU32,
    queue_max: AtomicU32,
    utilization: AtomicU64,
}

/// One reading of a pool's load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub workers: u32,
    pub busy: u32,
    pub queued: u32,
    /// How many may wait.
    pub queue_max: u32,
    pub utilization: f64,
}

impl LoadCell {
    pub(crate) fn publish(&self, CrewLoad { workers, busy, queued }: CrewLoad) {
        self.workers.store(workers, Relaxed);
        self.busy.store(busy, Relaxed);
        self.queued.store(queued, Relaxed);
    }

    pub(crate) fn set_queue_max(&self, queue_max: u32) {
        self.queue_max.store(queue_max, Relaxed);
    }

    pub(crate) fn set_utilization(&self, ratio: f64) {
        self.utilization.store(ratio.to_bits(), Relaxed);
    }

    pub(crate) fn read(&self) -> Reading {
        Reading {
            workers: self.workers.load(Relaxed),
            busy: self.busy.load(Relaxed),
            queued: self.queued.load(Relaxed),
            queue_max: self.queue_max.load(Relaxed),
            utilization: f64::from_bits(self.utilization.load(Relaxed)),
        }
    }
}
