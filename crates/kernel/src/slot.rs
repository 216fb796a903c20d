//! A cell: one place of the tree, what is known of it, and who holds it.
//!
//! A slot outlives the lives that fill it, so that counts, addresses and the last exit survive restarts,
//! and the tree can be shown without asking a busy actor.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::receipt::Seq;
use gemba_core::supervision::Strategy;
use gemba_core::time::Timestamp;
use gemba_core::view::{ActorKind, ActorState, ActorView, ExitView, MailboxView};
use tokio::sync::Notify;

use crate::bonds::{Bonds, Killer, Rank, Tie, Trap, Watcher};
use crate::halt::Latch;
use crate::link::Exit;
use crate::vitals::Vitals;

/// What can be asked of any mailbox of ours.
pub(crate) trait Mailbox: Any + Send + Sync {
    fn view(&self) -> MailboxView;
    /// What it takes, by name.
    fn message_type(&self) -> &'static str;
    /// The life that reads it, or read it last.
    fn life(&self) -> Option<Arc<Vitals>>;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// What stands at a place, the same for each of its lives.
#[derive(Clone)]
pub(crate) struct Profile {
    pub kind: ActorKind,
    pub strategy: Option<Strategy>,
    pub order: u64,
    pub mailbox: Option<Arc<dyn Mailbox>>,
}

/// Counts what an actor does; written by the actor alone, read by anyone.
#[derive(Debug, Default)]
pub struct Meter {
    handled: AtomicU64,
    busy_ns: AtomicU64,
}

impl Meter {
    /// Counts messages that took `busy` together.
    pub fn count(&self, messages: u64, busy: Duration) {
        self.handled.fetch_add(messages, Relaxed);
        self.busy_ns.fetch_add(u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Messages handled.
    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Time spent handling them.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.load(Relaxed))
    }
}

struct Life {
    profile: Profile,
    state: ActorState,
    incarnation: Option<Incarnation>,
    lives: u64,
    started: Timestamp,
    /// In a box: most places have no exit to show.
    last_exit: Option<Box<ExitView>>,
    killer: Option<Killer>,
    /// The operator's kill of a life, until its exit is told.
    kill: Option<Box<(Incarnation, Seq)>>,
    /// Those of the present life.
    bonds: Option<Box<Bonds>>,
    /// Of a supervisor's place: whether it is halted, in this life and in those to come. In a box: most were never.
    latch: Option<Box<Latch>>,
    /// No supervisor has a child here any more.
    given_up: bool,
    /// Nobody is here, and its supervisor wants nobody here.
    rests: bool,
}

impl Life {
    fn is_held_by(&self, incarnation: Incarnation) -> bool {
        self.incarnation == Some(incarnation) && self.state != ActorState::Down
    }

    fn holder(&self) -> Option<Incarnation> {
        self.incarnation.filter(|_| self.state != ActorState::Down)
    }

    fn bonds(&mut self) -> &mut Bonds {
        self.bonds.get_or_insert_default()
    }

    fn shown_state(&self) -> ActorState {
        let is_halted = matches!(self.latch.as_deref(), Some(Latch::Halted(_)));
        if is_halted && self.state == ActorState::Running { ActorState::Halted } else { self.state }
    }
}

/// One place of the tree.
pub(crate) struct Slot {
    pub path: ActorPath,
    pub meter: Meter,
    life: Mutex<Life>,
    /// Its holder was asked to stop, or is gone.
    changed: Notify,
}

impl Slot {
    pub(crate) fn new(path: ActorPath, profile: Profile) -> Self {
        let life = Life {
            profile,
            state: ActorState::Down,
            incarnation: None,
            lives: 0,
            started: Timestamp::START,
            last_exit: None,
            killer: None,
            kill: None,
            bonds: None,
            latch: None,
            given_up: false,
            rests: false,
        };
        Self { path, meter: Meter::default(), life: Mutex::new(life), changed: Notify::new() }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().expect("nothing panics while it holds a slot")
    }

    /// Takes the place for a new life, or names the one that still holds it.
    pub(crate) fn claim(&self, incarnation: Incarnation, profile: Profile) -> Result<(), Incarnation> {
        let mut life = self.life();
        if life.state != ActorState::Down {
            return Err(life.incarnation.expect("a place that is taken has a holder"));
        }
        life.profile = profile;
        life.state = ActorState::Starting;
        life.incarnation = Some(incarnation);
        life.rests = false;
        Ok(())
    }

    /// No child is to stand here any more. `true` if nobody holds the place; otherwise it goes with its holder.
    pub(crate) fn give_up(&self) -> bool {
        let mut life = self.life();
        life.given_up = true;
        life.state == ActorState::Down
    }

    /// A child is to stand here again.
    pub(crate) fn keep(&self) {
        let mut life = self.life();
        (life.given_up, life.rests) = (false, false);
    }

    /// Its supervisor leaves the place empty until somebody asks for it.
    pub(crate) fn rest(&self) {
        self.life().rests = true;
    }

    /// Whether the place is empty on purpose.
    pub(crate) fn rests(&self) -> bool {
        let life = self.life();
        life.rests && life.state == ActorState::Down
    }

    /// Whether the place is given up, and nobody holds it.
    pub(crate) fn is_over(&self) -> bool {
        let life = self.life();
        life.given_up && life.state == ActorState::Down
    }

    /// Says how the supervisor that holds the place restarts its children.
    pub(crate) fn set_strategy(&self, incarnation: Incarnation, strategy: Strategy) {
        let mut life = self.life();
        if life.incarnation == Some(incarnation) {
            life.profile.strategy = Some(strategy);
        }
    }

    pub(crate) fn set_killer(&self, incarnation: Incarnation, killer: Killer) {
        let mut life = self.life();
        if life.is_held_by(incarnation) {
            // A peer's exit may have come before there was a way to kill.
            let is_doomed = life.bonds.as_ref().is_some_and(|bonds| bonds.exit.is_some());
            let doom = is_doomed.then(|| killer.clone());
            life.killer = Some(killer);
            drop(life);
            if let Some(killer) = doom {
                killer.kill();
            }
        }
    }

    /// The life of this place serves from now on. Tells how often the place has been filled again.
    pub(crate) fn running(&self, incarnation: Incarnation, now: Timestamp) -> u64 {
        let mut life = self.life();
        if life.incarnation == Some(incarnation) {
            // One that is over already, or is to stop, has filled the place all the same.
            life.lives += 1;
            life.started = now;
            if life.state == ActorState::Starting {
                life.state = ActorState::Running;
            }
        }
        life.lives.saturating_sub(1)
    }

    pub(crate) fn set_state(&self, incarnation: Incarnation, state: ActorState) {
        let mut life = self.life();
        if life.is_held_by(incarnation) {
            life.state = state;
        }
    }

    /// Gives the place free; the counts stay. Gives back why the life ended, and who is to be told: not yet,
    /// and not under the lock.
    pub(crate) fn release(
        &self,
        incarnation: Incarnation,
        said: Option<ExitReason>,
        unix_ms: u64,
    ) -> (ExitReason, Option<Box<Bonds>>) {
        let mut life = self.life();
        let holds = life.is_held_by(incarnation);
        let mut bonds = if holds { life.bonds.take() } else { None };
        let ended = || bonds.as_mut().and_then(|bonds| bonds.exit.take());
        let reason = said.or_else(ended).unwrap_or(ExitReason::Killed);
        if holds {
            life.state = ActorState::Down;
            life.killer = None;
            life.last_exit = Some(Box::new(ExitView { incarnation, reason: reason.clone(), unix_ms }));
            drop(life);
            self.changed.notify_waiters();
        }
        (reason, bonds)
    }

    /// Has `watcher` told of the end of the present life; gives it back if nobody is there, or not `only`.
    pub(crate) fn watch(
        self: &Arc<Self>,
        only: Option<Incarnation>,
        rank: Rank,
        watcher: Watcher,
    ) -> Result<Tie, Watcher> {
        let mut life = self.life();
        let Some(incarnation) = life.holder().filter(|holder| only.is_none_or(|only| only == *holder)) else {
            return Err(watcher);
        };
        let number = life.bonds().watch(rank, watcher);
        Ok(Tie::new(self.clone(), incarnation, number))
    }

    pub(crate) fn unwatch(&self, incarnation: Incarnation, number: (Rank, u64)) -> Option<Watcher> {
        let mut life = self.life();
        if !life.is_held_by(incarnation) {
            return None;
        }
        life.bonds.as_mut()?.unwatch(number)
    }

    /// Notes at the life `mine` that it is linked to `peer`. `false` if it is over.
    pub(crate) fn link(&self, mine: Incarnation, peer: Incarnation, slot: Weak<Self>) -> bool {
        let mut life = self.life();
        let lives = life.is_held_by(mine);
        if lives {
            life.bonds().link(peer, slot);
        }
        lives
    }

    pub(crate) fn unlink(&self, mine: Incarnation, peer: Incarnation) {
        let mut life = self.life();
        if life.is_held_by(mine)
            && let Some(bonds) = &mut life.bonds
        {
            bonds.unlink(peer);
        }
    }

    /// Forgets the links of the life `mine` with those at `path`, and names them.
    pub(crate) fn unlink_all(&self, mine: Incarnation, path: &ActorPath) -> Vec<(Incarnation, Weak<Self>)> {
        let mut life = self.life();
        if !life.is_held_by(mine) {
            return Vec::new();
        }
        life.bonds.as_mut().map_or_else(Vec::new, |bonds| bonds.unlink_all(path))
    }

    /// From now on the life `mine` takes exits as messages.
    pub(crate) fn trap(&self, mine: Incarnation, trap: Weak<dyn Trap>) {
        let mut life = self.life();
        if life.is_held_by(mine) {
            life.bonds().trap = Some(trap);
        }
    }

    /// A peer of the life `mine` has ended: that matters if they are linked still.
    pub(crate) fn peer_ended(&self, mine: Incarnation, exit: Exit) {
        let mut life = self.life();
        let is_linked = life.is_held_by(mine)
            && life.bonds.as_mut().zip(exit.incarnation).is_some_and(|(bonds, peer)| bonds.unlink(peer));
        if is_linked {
            Self::take_exit(life, exit);
        }
    }

    /// Gives the life `mine` an exit that no peer has sent.
    pub(crate) fn exit(&self, mine: Incarnation, exit: Exit) {
        let life = self.life();
        if life.is_held_by(mine) {
            Self::take_exit(life, exit);
        }
    }

    fn take_exit(mut life: MutexGuard<'_, Life>, exit: Exit) {
        // As OTP's, a supervisor passes over the exits of those that are not its children.
        if life.profile.kind == ActorKind::Supervisor {
            return;
        }
        let bonds = life.bonds();
        let trap = bonds.trap.as_ref().and_then(Weak::upgrade);
        if let Some(trap) = &trap {
            // Under the lock: an unlink that comes now finds the message and takes it back.
            trap.exit(exit);
            drop(life);
        } else if !exit.reason.is_clean() {
            Self::doom(life, exit.reason);
        }
        // `trap` ends here, after the lock: it may be the last to hold what it leads to.
    }

    /// Ends the life `mine` at its next `await`, for this reason.
    pub(crate) fn end(&self, mine: Incarnation, reason: ExitReason) {
        let life = self.life();
        if life.is_held_by(mine) {
            Self::doom(life, reason);
        }
    }

    fn doom(mut life: MutexGuard<'_, Life>, reason: ExitReason) {
        life.bonds().exit.get_or_insert(reason);
        let killer = life.killer.clone();
        drop(life);
        if let Some(killer) = killer {
            killer.kill();
        }
    }

    /// Why the life `mine`, which was killed, ends.
    pub(crate) fn doom_of(&self, mine: Incarnation) -> ExitReason {
        let life = self.life();
        let bonds = life.bonds.as_ref().filter(|_| life.is_held_by(mine));
        bonds.and_then(|bonds| bonds.exit.clone()).unwrap_or(ExitReason::Killed)
    }

    /// The life that holds the place.
    pub(crate) fn holder(&self) -> Option<Incarnation> {
        self.life().holder()
    }

    /// Returns when nobody holds the place.
    pub(crate) async fn freed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state() == ActorState::Down {
                return;
            }
            changed.await;
        }
    }

    /// Tells the holder, if it waits for that, that it is to stop: its state says so already.
    pub(crate) fn ask_to_stop(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn was_asked_to_stop(&self, incarnation: Incarnation) -> bool {
        let life = self.life();
        let goes_on = matches!(life.state, ActorState::Starting | ActorState::Running);
        !(goes_on && life.is_held_by(incarnation))
    }

    /// Returns when the life is to stop, or is over.
    pub(crate) async fn asked_to_stop(&self, incarnation: Incarnation) {
        loop {
            let changed = self.changed.notified();
            if self.was_asked_to_stop(incarnation) {
                return;
            }
            changed.await;
        }
    }

    /// The present life and how to kill it.
    pub(crate) fn killer(&self) -> Option<(Incarnation, Killer)> {
        let life = self.life();
        life.incarnation.zip(life.killer.clone())
    }

    /// Notes that an operator asked for the death of this life.
    pub(crate) fn note_kill(&self, incarnation: Incarnation, receipt: Seq) {
        self.life().kill = Some(Box::new((incarnation, receipt)));
    }

    /// The receipt of the operator's kill of this life, once.
    pub(crate) fn take_kill(&self, incarnation: Incarnation) -> Option<Seq> {
        self.life().kill.take_if(|kill| kill.0 == incarnation).map(|kill| kill.1)
    }

    /// Sets the latch by what it was, and gives it back with how to reach the present life.
    pub(crate) fn set_latch<E>(
        &self,
        set: impl FnOnce(Option<Latch>) -> Result<Latch, E>,
    ) -> Result<(Latch, Option<Killer>), E> {
        let mut life = self.life();
        let latch = set(life.latch.as_deref().copied())?;
        life.latch = Some(Box::new(latch));
        Ok((latch, life.killer.clone()))
    }

    /// What was asked last of the supervisor here.
    pub(crate) fn latch(&self) -> Option<Latch> {
        self.life().latch.as_deref().copied()
    }

    pub(crate) fn state(&self) -> ActorState {
        self.life().state
    }

    /// The state as the tree shows it: a supervisor that runs without its children is halted.
    pub(crate) fn shown_state(&self) -> ActorState {
        self.life().shown_state()
    }

    pub(crate) fn kind(&self) -> ActorKind {
        self.life().profile.kind
    }

    pub(crate) fn order(&self) -> u64 {
        self.life().profile.order
    }

    pub(crate) fn mailbox(&self) -> Option<Arc<dyn Mailbox>> {
        self.life().profile.mailbox.clone()
    }

    /// The actor as the tree shows it, without its children.
    pub(crate) fn view(&self, now: Timestamp) -> ActorView {
        let life = self.life();
        let state = life.shown_state();
        let up = matches!(life.state, ActorState::Running | ActorState::Stopping | ActorState::Unkillable);
        ActorView {
            path: self.path.clone(),
            kind: life.profile.kind,
            strategy: life.profile.strategy,
            state,
            incarnation: life.incarnation,
            restarts: life.lives.saturating_sub(1),
            uptime_ms: if up { now.since(life.started).as_millis() as u64 } else { 0 },
            mailbox: life.profile.mailbox.as_ref().map(|mailbox| mailbox.view()),
            handled: self.meter.handled(),
            busy_ms: self.meter.busy().as_millis() as u64,
            last_exit: life.last_exit.as_deref().cloned(),
            children: Vec::new(),
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("path", &self.path).field("state", &self.state()).finish_non_exhaustive()
    }
}
