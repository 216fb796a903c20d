//! A cell: the breaker around an action, the limit of calls to its downstream, and the pass each call holds.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use gemba_core::adaptive::{Adaptive, AdaptiveRules, Slip};
use gemba_core::breaker::{Breaker, BreakerRules, Moved, Outcome, Ticket};
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::{BreakerState, Event, Seq};
use gemba_core::time::Timestamp;
use gemba_core::view::BreakerView;
use gemba_kernel::System;

use crate::job::Because;

/// A breaker by name. It outlives the workers that fail behind it.
pub(crate) struct Guard {
    name: Name,
    path: ActorPath,
    system: System,
    breaker: Mutex<Breaker>,
    /// Where nobody says how much the downstream can do.
    adaptive: Option<Mutex<Adaptive>>,
}

impl Guard {
    pub(crate) fn new(
        name: Name,
        path: ActorPath,
        rules: BreakerRules,
        adaptive: Option<AdaptiveRules>,
        system: System,
    ) -> Arc<Self> {
        let adaptive = adaptive.map(|rules| Mutex::new(Adaptive::new(rules, system.now())));
        Arc::new(Self { name, path, system, breaker: Mutex::new(Breaker::new(rules)), adaptive })
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("the breaker does not panic")
    }

    fn adaptive(&self) -> Option<MutexGuard<'_, Adaptive>> {
        Some(self.adaptive.as_ref()?.lock().expect("the limit does not panic"))
    }

    /// Lets a call pass, or says why not and when to come again.
    pub(crate) fn enter(&self, now: Timestamp) -> Result<Pass<'_>, Because> {
        let slip = match self.adaptive().map(|mut adaptive| adaptive.enter(now)) {
            None => None,
            Some(Ok(slip)) => Some(slip),
            Some(Err(busy)) => return Err(Because::Busy { retry_in: busy.retry_in }),
        };
        // Bound to a name: a guard that lives in the scrutinee would still be held in the arms.
        let entered = self.breaker().enter(now);
        match entered {
            Ok(entry) => {
                self.tell(entry.moved);
                Ok(Pass { guard: self, held: Some((entry.ticket, slip)) })
            }
            Err(refused) => {
                self.leave(slip, Outcome::Ignored, now);
                Err(Because::BreakerOpen { retry_in: refused.retry_in })
            }
        }
    }

    fn record(&self, ticket: Ticket, slip: Option<Slip>, outcome: Outcome, now: Timestamp) {
        self.leave(slip, outcome, now);
        let moved = self.breaker().record(ticket, outcome, now);
        self.tell(moved);
    }

    fn leave(&self, slip: Option<Slip>, outcome: Outcome, now: Timestamp) {
        if let (Some(slip), Some(mut adaptive)) = (slip, self.adaptive()) {
            adaptive.leave(slip, outcome, now);
        }
    }

    /// The limit of calls to the downstream, and how many are in flight; `None` if there is no limit.
    pub(crate) fn calls(&self) -> Option<(u32, u32)> {
        self.adaptive().map(|adaptive| (adaptive.limit(), adaptive.in_flight()))
    }

    /// Puts the breaker into a state by hand. What was counted is forgotten, and an open one stays open.
    pub(crate) fn force(&self, to: BreakerState, by: &str, why: &str) -> Seq {
        let now = self.system.now();
        let mut breaker = self.breaker();
        let from = breaker.state();
        // Also a breaker that is in that state already is changed: a timer no longer ends it, or its counts
        // begin anew. The receipt below tells of both.
        let _ = match to {
            BreakerState::Open => breaker.force_open(now),
            BreakerState::HalfOpen => breaker.force_half_open(now),
            BreakerState::Closed => breaker.force_close(now),
        };
        drop(breaker);
        let why = format!("forced by {by}: {why}").into();
        self.system.record(
            None,
            &self.path,
            Event::BreakerMoved { breaker: self.name.clone(), from, to, why },
        )
    }

    fn tell(&self, moved: Option<Moved>) {
        if let Some(Moved { from, to, why }) = moved {
            let event = Event::BreakerMoved { breaker: self.name.clone(), from, to, why };
            self.system.record(None, &self.path, event);
        }
    }

    pub(crate) fn view(&self) -> BreakerView {
        let breaker = self.breaker();
        BreakerView {
            name: self.name.clone(),
            state: breaker.state(),
            failures_in_a_row: breaker.failures_in_a_row(),
            retry_in_ms: breaker.retry_in(self.system.now()).map(|left| left.as_millis() as u64),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Permission to run one action. Dropping it unspent, as a panic, a kill and a time-out do, is a failure.
#[must_use = "an unspent pass counts as a failure"]
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    guard: &'a Guard,
    held: Option<(Ticket, Option<Slip>)>,
}

impl Pass<'_> {
    /// Says how the action went.
    pub(crate) fn spend(mut self, outcome: Outcome, now: Timestamp) {
        if let Some((ticket, slip)) = self.held.take() {
            self.guard.record(ticket, slip, outcome, now);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some((ticket, slip)) = self.held.take() {
            self.guard.record(ticket, slip, Outcome::Failure, self.guard.system.now());
        }
    }
}
