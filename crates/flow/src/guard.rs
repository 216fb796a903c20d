//! A cell: the breaker around an action, and the pass each call holds.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gemba_core::breaker::{Breaker, BreakerRules, Closed, Moved, Outcome, Ticket};
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::Event;
use gemba_core::time::Timestamp;
use gemba_core::view::BreakerView;
use gemba_kernel::System;

/// A breaker by name. It outlives the workers that fail behind it.
pub(crate) struct Guard {
    name: Name,
    path: ActorPath,
    system: System,
    free: Free,
    breaker: Mutex<Breaker>,
}

/// Leave for every call while the breaker is closed, 0 otherwise: what nearly every call reads, and only a change
/// writes. Padded to two cache lines, which processors fetch together, because outcomes are written beside it.
#[repr(align(128))]
struct Free(AtomicU64);

impl Guard {
    pub(crate) fn new(name: Name, path: ActorPath, rules: BreakerRules, system: System) -> Arc<Self> {
        let breaker = Breaker::new(rules);
        let free = Free(AtomicU64::new(breaker.closed().map_or(0, Closed::to_bits)));
        Arc::new(Self { name, path, system, free, breaker: Mutex::new(breaker) })
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("the breaker does not panic")
    }

    /// Lets a call pass, or says when to come again.
    pub(crate) fn enter(&self, now: Timestamp) -> Result<Pass<'_>, Duration> {
        if let Some(closed) = Closed::from_bits(self.free.0.load(Acquire)) {
            return Ok(Pass { guard: self, ticket: Some(closed.ticket(now)) });
        }
        let mut breaker = self.breaker();
        let entry = breaker.enter(now).map_err(|refused| refused.retry_in)?;
        self.moved(breaker, entry.moved);
        Ok(Pass { guard: self, ticket: Some(entry.ticket) })
    }

    fn record(&self, ticket: Ticket, outcome: Outcome, now: Timestamp) {
        let mut breaker = self.breaker();
        let moved = breaker.record(ticket, outcome, now);
        self.moved(breaker, moved);
    }

    /// Shows whether all calls pass from now on, before anybody else can change it, and tells of the change.
    fn moved(&self, breaker: MutexGuard<'_, Breaker>, moved: Option<Moved>) {
        if moved.is_some() {
            self.free.0.store(breaker.closed().map_or(0, Closed::to_bits), Release);
        }
        drop(breaker);
        self.tell(moved);
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
    ticket: Option<Ticket>,
}

impl Pass<'_> {
    /// Says how the action went.
    pub(crate) fn spend(mut self, outcome: Outcome, now: Timestamp) {
        if let Some(ticket) = self.ticket.take() {
            self.guard.record(ticket, outcome, now);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.guard.record(ticket, Outcome::Failure, self.guard.system.now());
        }
    }
}
