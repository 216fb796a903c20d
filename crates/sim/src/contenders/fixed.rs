//! Limits that do not adapt: none at all, the 1200 and 960 of the seeds, bounded queues, and no queue.

use std::collections::VecDeque;

use gemba_core::admission::{Admission, Limits, admits};
use gemba_core::time::Timestamp;

use crate::contenders::RETRY_AFTER;
use crate::controller::{Attempt, Controller, Decision, Finished};

#[derive(Debug, Clone, Copy)]
enum Limit {
    None,
    InFlight(Limits),
    Waiting(usize),
}

/// First in, first out, behind a limit that stays as it is.
#[derive(Debug)]
pub struct Fixed {
    name: &'static str,
    limit: Limit,
    queue: VecDeque<Attempt>,
    running: u32,
}

impl Fixed {
    fn new(name: &'static str, limit: Limit) -> Self {
        Self { name, limit, queue: VecDeque::new(), running: 0 }
    }

    /// Everything waits until it is served.
    pub fn none() -> Self {
        Self::new("no control", Limit::None)
    }

    /// 1200 in flight, 960 of them for all tiers.
    pub fn seeds() -> Self {
        Self::new("1200/960", Limit::InFlight(Limits::default()))
    }

    /// At most `waiting` in the queue.
    pub fn bounded(name: &'static str, waiting: u32) -> Self {
        Self::new(name, Limit::Waiting(waiting as usize))
    }

    /// tower's `LoadShed` around its `ConcurrencyLimit`: as many as there are workers, and nobody waits.
    pub fn tower() -> Self {
        Self::new("tower", Limit::Waiting(0))
    }
}

impl Controller for Fixed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn arrive(&mut self, attempt: Attempt, idle: u32, _now: Timestamp, _out: &mut Vec<Attempt>) -> Decision {
        let waiting = self.queue.len();
        let is_over = match self.limit {
            Limit::None => false,
            Limit::InFlight(limits) => {
                matches!(
                    admits(self.running + waiting as u32, &limits, attempt.tier),
                    Admission::Refuse { .. }
                )
            }
            Limit::Waiting(limit) => idle == 0 && limit <= waiting,
        };
        if is_over {
            return Decision::Refuse(RETRY_AFTER);
        }
        if 0 < idle {
            self.running += 1;
            return Decision::Start;
        }
        self.queue.push_back(attempt);
        Decision::Wait
    }

    fn next(&mut self, _now: Timestamp, _out: &mut Vec<Attempt>) -> Option<Attempt> {
        let next = self.queue.pop_front()?;
        self.running += 1;
        Some(next)
    }

    fn finished(&mut self, _finished: Finished, _now: Timestamp) {
        self.running -= 1;
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
