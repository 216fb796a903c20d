//! Ours: the ceiling on signals in flight, and the wait gate, as `gemba-core` has them.

use gemba_core::admission::{Admission, Limits, admits as has_room};
use gemba_core::leveller::{Leveller, Next, Offered, TurnedOut};
use gemba_core::time::Timestamp;
use gemba_core::wait::{WaitRules, admits};

use crate::contenders::RETRY_AFTER;
use crate::controller::{Attempt, Controller, Decision, Finished};
use crate::workload::Model;

/// The room of a queue whose length the wait gate decides: `gemba_flow`'s own default.
const CAPACITY: usize = 1000;

/// What a pool and its callers do.
#[derive(Debug)]
pub struct Ours {
    limits: Limits,
    queue: Leveller<Attempt>,
    running: u32,
}

impl Ours {
    /// With these rules, in front of the model's workers.
    pub fn new(model: &Model, rules: WaitRules) -> Self {
        let mut queue = Leveller::new(rules, CAPACITY, Timestamp::START);
        queue.set_workers(model.workers);
        Self { limits: Limits::default(), queue, running: 0 }
    }
}

impl Controller for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn arrive(&mut self, attempt: Attempt, idle: u32, now: Timestamp, out: &mut Vec<Attempt>) -> Decision {
        let Attempt { tier, deadline, .. } = attempt;
        let in_flight = self.running + self.queue.len() as u32;
        if let Admission::Refuse { .. } = has_room(in_flight, &self.limits, tier) {
            return Decision::Refuse(RETRY_AFTER);
        }
        if let Err(refused) = admits(&self.queue.forecast(idle, now), tier, deadline.since(now)) {
            return Decision::Refuse(refused.retry_after);
        }
        if 0 < idle && self.queue.is_empty() {
            self.queue.passed(tier, now);
            self.running += 1;
            return Decision::Start;
        }
        match self.queue.offer(attempt, tier, deadline, now) {
            Offered::Waits => Decision::Wait,
            Offered::Displaced(other) => {
                out.push(other);
                Decision::Wait
            }
            Offered::TurnedOut(_, TurnedOut::Refused(refused)) => Decision::Refuse(refused.retry_after),
            Offered::TurnedOut(..) => Decision::Refuse(RETRY_AFTER),
        }
    }

    fn next(&mut self, now: Timestamp, out: &mut Vec<Attempt>) -> Option<Attempt> {
        while let Some(next) = self.queue.next(now) {
            match next {
                Next::Start(waiting) => {
                    self.running += 1;
                    return Some(waiting.item);
                }
                Next::TurnedOut(attempt, _) => out.push(attempt),
            }
        }
        None
    }

    fn finished(&mut self, finished: Finished, _now: Timestamp) {
        self.running -= 1;
        self.queue.finished(finished.attempt.tier, finished.took);
    }

    fn sweep(&mut self, now: Timestamp, out: &mut Vec<Attempt>) {
        out.extend(self.queue.sweep(now, |_| false).into_iter().map(|(attempt, _)| attempt));
    }

    fn set_workers(&mut self, workers: u32) {
        self.queue.set_workers(workers);
    }

    fn waiting(&self) -> usize {
        self.queue.len()
    }
}
