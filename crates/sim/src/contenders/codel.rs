//! CoDel with adaptive LIFO, as Facebook describes it: once the queue has not been empty for an interval, the
//! newest go first and nobody waits long.

use std::collections::VecDeque;
use std::time::Duration;

use gemba_core::time::Timestamp;

use crate::controller::{Attempt, Controller, Decision, Finished};

/// How long the queue must not have been empty, and how long one may wait until then.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long one may wait from then on: folly's target delay.
const TARGET: Duration = Duration::from_millis(5);

/// A queue without limits but that on the wait.
#[derive(Debug, Default)]
pub struct CoDel {
    queue: VecDeque<Attempt>,
    emptied: Timestamp,
}

impl CoDel {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn is_overloaded(&self, now: Timestamp) -> bool {
        INTERVAL < now.since(self.emptied)
    }

    fn note(&mut self, now: Timestamp) {
        if self.queue.is_empty() {
            self.emptied = now;
        }
    }
}

impl Controller for CoDel {
    fn name(&self) -> &'static str {
        "CoDel+LIFO"
    }

    fn arrive(&mut self, attempt: Attempt, idle: u32, now: Timestamp, _out: &mut Vec<Attempt>) -> Decision {
        self.note(now);
        if 0 < idle {
            return Decision::Start;
        }
        self.queue.push_back(attempt);
        Decision::Wait
    }

    fn next(&mut self, now: Timestamp, out: &mut Vec<Attempt>) -> Option<Attempt> {
        self.sweep(now, out);
        let next = if self.is_overloaded(now) { self.queue.pop_back() } else { self.queue.pop_front() };
        self.note(now);
        next
    }

    fn finished(&mut self, _finished: Finished, _now: Timestamp) {}

    fn sweep(&mut self, now: Timestamp, out: &mut Vec<Attempt>) {
        let may_wait = if self.is_overloaded(now) { TARGET } else { INTERVAL };
        while self.queue.front().is_some_and(|attempt| may_wait < now.since(attempt.came)) {
            out.extend(self.queue.pop_front());
        }
        self.note(now);
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
