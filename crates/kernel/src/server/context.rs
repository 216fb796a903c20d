//! What a server knows of itself, and what it plans for itself.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::Incarnation;
use gemba_core::name::ActorPath;
use gemba_core::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::agenda::{Agenda, Exclusive};
use super::alarms::Alarms;
use crate::address::{Address, Pinned};
use crate::lifeline::Lifeline;
use crate::signals::Inbox;
use crate::slot::Slot;
use crate::system::System;
use crate::vitals::Vitals;

/// What a server knows of itself while it handles a message.
///
/// Its timers are part of it: they end with the life that started them, and they get through while the
/// mailbox is full.
pub struct Context<M> {
    system: System,
    pub(crate) slot: Arc<Slot>,
    incarnation: Incarnation,
    address: Address<M>,
    own: mpsc::Sender<M>,
    /// Whether the agenda may hold what concerns the very next message: a continuation, a wait for quiet.
    pub(super) is_planned: bool,
    /// Made for the first plan.
    agenda: Exclusive<Option<Box<Agenda<M>>>>,
    /// Made for a state machine's first time-out.
    alarms: Option<Box<Alarms>>,
    pub(crate) inbox: Inbox<M>,
}

impl<M: Send + 'static> Context<M> {
    pub(super) fn new(
        lifeline: &Lifeline,
        address: Address<M>,
        own: mpsc::Sender<M>,
        vitals: Arc<Vitals>,
    ) -> Self {
        Self {
            system: lifeline.system.clone(),
            slot: lifeline.slot.clone(),
            incarnation: lifeline.incarnation,
            address,
            own,
            is_planned: false,
            agenda: Exclusive::new(None),
            alarms: None,
            inbox: Inbox::new(vitals),
        }
    }

    /// The node.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The time since the node started.
    pub fn now(&self) -> Timestamp {
        self.system.now()
    }

    /// Its place in the tree.
    pub fn path(&self) -> &ActorPath {
        &self.slot.path
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The address of its place; it outlives this life.
    pub fn address(&self) -> Address<M> {
        self.address.clone()
    }

    /// The address of this life alone.
    pub fn pinned(&self) -> Pinned<M> {
        Pinned::new(self.own.clone(), self.path().clone(), self.incarnation)
    }

    /// Handles `message` right after the present callback, before anything that waits in the mailbox, and
    /// before what this callback sends to itself. Works from `init`, and may be chained.
    ///
    /// Several continuations of one callback run in their order. A chain is not endless work that nobody can
    /// stop: after 64 links without another message, a stop gets in.
    ///
    /// # Examples
    ///
    /// A start that is quick, and goes on before the first message:
    ///
    /// ```
    /// use gemba_kernel::{Context, Server, Stop};
    ///
    /// struct Cache(Vec<u8>);
    ///
    /// enum Msg {
    ///     Load,
    /// }
    ///
    /// impl Server for Cache {
    ///     type Msg = Msg;
    ///
    ///     async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
    ///         ctx.continue_with(Msg::Load);
    ///         Ok(())
    ///     }
    ///
    ///     async fn handle(&mut self, Msg::Load: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
    ///         self.0 = vec![7; 1024];
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[doc(alias = "handle_continue")]
    pub fn continue_with(&mut self, message: M) {
        self.is_planned = true;
        self.agenda().continue_with(message);
    }

    /// Handles a message each `period`, until this life ends. Ticks that find it busy are left out, but one.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn every(&mut self, period: Duration, message: impl Fn() -> M + Send + 'static) {
        assert!(!period.is_zero(), "a period of zero would leave no time for anything else");
        self.agenda().every(later(period), period, Box::new(message));
    }

    /// Handles `message` after `delay`, unless this life ends before. It cannot be cancelled; what should be
    /// has a name, see [`start_timer`](Self::start_timer).
    #[doc(alias = "send_after")]
    pub fn after(&mut self, delay: Duration, message: M) {
        self.agenda().start(later(delay), message);
    }

    /// Handles `message` after `delay`. A timer of this name that runs already is replaced: its message does
    /// not come, not even if it was due.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use gemba_kernel::Context;
    /// # enum Msg { Expire }
    /// fn touch(ctx: &mut Context<Msg>) {
    ///     // Each touch gives another minute.
    ///     ctx.start_timer("session", Duration::from_secs(60), Msg::Expire);
    /// }
    /// ```
    pub fn start_timer(&mut self, name: impl Into<Cow<'static, str>>, delay: Duration, message: M) {
        self.agenda().start_named(name.into(), later(delay), message);
    }

    /// Cancels the timer of this name, for sure: its message does not come. Tells how long it had still to
    /// go; `None` if no such timer runs.
    pub fn cancel_timer(&mut self, name: &str) -> Option<Duration> {
        self.plans()?.cancel(name, Instant::now())
    }

    /// How long the timer of this name has still to go; `None` if no such timer runs.
    pub fn read_timer(&mut self, name: &str) -> Option<Duration> {
        self.plans()?.read(name, Instant::now())
    }

    /// Handles `message` if it is quiet for so long: any message that is handled before, a timer's
    /// included, cancels it. Asking again replaces it. Works from `init`.
    ///
    /// For a time that messages should not cancel, use [`start_timer`](Self::start_timer).
    #[doc(alias = "timeout")]
    pub fn receive_timeout(&mut self, quiet: Duration, message: M) {
        self.is_planned = true;
        self.agenda().await_quiet(later(quiet), message);
    }

    pub(crate) fn alarms(&mut self) -> &mut Alarms {
        self.alarms.get_or_insert_default()
    }

    /// The alarms, if any was ever set.
    pub(super) fn set_alarms(&mut self) -> Option<&mut Alarms> {
        self.alarms.as_deref_mut()
    }

    /// How many messages go before the next alarm or signal, counted from the first of this life; for ever
    /// if there is none.
    pub(super) fn turn(&self) -> u64 {
        let alarm = self.alarms.as_ref().and_then(|alarms| alarms.first());
        alarm.into_iter().chain(self.inbox.turn()).min().unwrap_or(u64::MAX)
    }

    /// A message is handled: it is not quiet.
    #[inline]
    pub(crate) fn disturb(&mut self) {
        if self.is_planned
            && let Some(plans) = self.plans()
        {
            plans.disturb();
        }
    }

    fn agenda(&mut self) -> &mut Agenda<M> {
        self.agenda.get_mut().get_or_insert_with(|| Box::new(Agenda::new()))
    }

    /// The agenda, if anything was ever planned.
    pub(super) fn plans(&mut self) -> Option<&mut Agenda<M>> {
        self.agenda.get_mut().as_deref_mut()
    }
}

/// The moment after this delay; one too long to be told is a century.
pub(crate) fn later(delay: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

impl<M> fmt::Debug for Context<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("path", &self.slot.path)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
