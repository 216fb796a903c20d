//! A cell: the breaker around an action, the limit of calls to its downstream, and the pass each call holds.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use gemba_core::adaptive::{Adaptive, AdaptiveRules, Slip};
use gemba_core::breaker::{Breaker, BreakerRules, Closed, Moved, Outcome, Ticket};
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::{BreakerState, Event, Seq};
use gemba_core::time::Timestamp;
use gemba_core::view::BreakerView;
use gemba_kernel::System;

use crate::job::Because;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard};

/// A breaker by name. It outlives the workers that fail behind it.
pub(crate) struct Guard {
    name: Name,
    path: ActorPath,
    system: System,
    free: Free,
    breaker: Mutex<Breaker>,
    /// The receipt of its last change: an open breaker is why it is half-open later, and closed again. 0 is none.
    told: AtomicU64,
    /// Where nobody says how much the downstream can do; idle while there is no limit.
    adaptive: Mutex<Adaptive>,
}

/// What nearly every call reads, and only a change writes: leave for every call while the breaker is closed, 0
/// otherwise, and whether calls to the downstream have a limit. Padded to two cache lines, which processors fetch
/// together, because outcomes are written beside it.
#[repr(align(128))]
struct Free {
    closed: AtomicU64,
    limited: AtomicBool,
}

impl Guard {
    pub(crate) fn new(
        name: Name,
        path: ActorPath,
        rules: BreakerRules,
        adaptive: Option<AdaptiveRules>,
        system: System,
    ) -> Arc<Self> {
        let limited = AtomicBool::new(adaptive.is_some());
        let adaptive = Mutex::new(Adaptive::new(adaptive.unwrap_or_default(), system.now()));
        let breaker = Breaker::new(rules);
        let closed = AtomicU64::new(breaker.closed().map_or(0, Closed::to_bits));
        let free = Free { closed, limited };
        Arc::new(Self {
            name,
            path,
            system,
            free,
            breaker: Mutex::new(breaker),
            told: AtomicU64::new(0),
            adaptive,
        })
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.name
    }

    /// The actor whose receipts tell of the line.
    pub(crate) const fn path(&self) -> &ActorPath {
        &self.path
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("the breaker does not panic")
    }

    /// The limit, if there is one.
    fn limit(&self) -> Option<MutexGuard<'_, Adaptive>> {
        self.free.limited.load(Relaxed).then(|| self.adaptive())
    }

    fn adaptive(&self) -> MutexGuard<'_, Adaptive> {
        self.adaptive.lock().expect("the limit does not panic")
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> (BreakerRules, Option<AdaptiveRules>) {
        (*self.breaker().rules(), self.limit().map(|limit| *limit.rules()))
    }

    /// Goes by other rules from now on, for calls in flight as well. A limit that was off begins anew.
    pub(crate) fn set_rules(&self, breaker: BreakerRules, adaptive: Option<AdaptiveRules>) {
        let now = self.system.now();
        self.breaker().set_rules(breaker, now);
        let mut limit = self.adaptive();
        match adaptive {
            None => {}
            Some(rules) if self.free.limited.load(Relaxed) => limit.set_rules(rules),
            Some(rules) => limit.begin(rules, now),
        }
        self.free.limited.store(adaptive.is_some(), Relaxed);
    }

    /// Lets a call pass, or says why not and when to come again.
    pub(crate) fn enter(&self, now: Timestamp) -> Result<Pass<'_>, Because> {
        let slip = match self.limit().map(|mut limit| limit.enter(now)) {
            None => None,
            Some(Ok(slip)) => Some(slip),
            Some(Err(busy)) => return Err(Because::Busy { retry_in: busy.retry_in }),
        };
        if let Some(closed) = Closed::from_bits(self.free.closed.load(Acquire)) {
            return Ok(Pass { guard: self, held: Some((closed.ticket(now), slip)), is_probe: false });
        }
        let mut breaker = self.breaker();
        match breaker.enter(now) {
            Ok(entry) => {
                let is_probe = breaker.state() == BreakerState::HalfOpen;
                self.moved(breaker, entry.moved);
                Ok(Pass { guard: self, held: Some((entry.ticket, slip)), is_probe })
            }
            Err(refused) => {
                drop(breaker);
                self.leave(slip, Outcome::Ignored, now);
                Err(Because::BreakerOpen { retry_in: refused.retry_in })
            }
        }
    }

    fn record(&self, ticket: Ticket, slip: Option<Slip>, outcome: Outcome, now: Timestamp) {
        self.leave(slip, outcome, now);
        let mut breaker = self.breaker();
        let moved = breaker.record(ticket, outcome, now);
        self.moved(breaker, moved);
    }

    fn show(&self, breaker: &Breaker) {
        self.free.closed.store(breaker.closed().map_or(0, Closed::to_bits), Release);
    }

    /// Shows whether all calls pass from now on, and tells of the change, before anybody else can make another one:
    /// receipts are in the order of the changes.
    fn moved(&self, breaker: MutexGuard<'_, Breaker>, moved: Option<Moved>) {
        if moved.is_some() {
            self.show(&breaker);
            self.tell(moved);
        }
        drop(breaker);
    }

    fn leave(&self, slip: Option<Slip>, outcome: Outcome, now: Timestamp) {
        if let Some(slip) = slip {
            self.adaptive().leave(slip, outcome, now);
        }
    }

    /// The limit of calls to the downstream, and how many are in flight; `None` if there is no limit.
    pub(crate) fn calls(&self) -> Option<(u32, u32)> {
        self.limit().map(|limit| (limit.limit(), limit.in_flight()))
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
        self.show(&breaker);
        let why = format!("forced by {by}: {why}").into();
        let event = Event::BreakerMoved { breaker: self.name.clone(), from, to, why };
        let receipt = self.system.record(None, &self.path, event);
        self.told.store(receipt.0, Release);
        drop(breaker);
        receipt
    }

    fn tell(&self, moved: Option<Moved>) {
        if let Some(Moved { from, to, why }) = moved {
            let event = Event::BreakerMoved { breaker: self.name.clone(), from, to, why };
            // One that opens because calls fail begins a chain: a failed call leaves no receipt.
            let last = Some(Seq(self.told.load(Acquire))).filter(|last| Seq(0) < *last);
            let cause = last.filter(|_| from != BreakerState::Closed);
            self.told.store(self.system.record(cause, &self.path, event).0, Release);
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
    /// Whether it is one of the few that pass a half-open breaker.
    is_probe: bool,
}

impl Pass<'_> {
    /// The state of the breaker that let it pass.
    pub(crate) const fn word(&self) -> &'static str {
        if self.is_probe { "half_open" } else { "closed" }
    }

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
