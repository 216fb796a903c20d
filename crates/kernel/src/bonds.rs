//! What hangs on one life: who is told of its end, whom its end takes along, and what ends it from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use futures_util::future;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use ractor::ActorCell;
use tokio::task::AbortHandle;

use crate::link::Exit;
use crate::monitor::Down;
use crate::slot::Slot;

/// Told of the end of a life, once. It must not block, and must not panic: it runs where the life ended.
pub(crate) type Watcher = Box<dyn FnOnce(Down) + Send>;

type Watchers = BTreeMap<(Rank, u64), Watcher>;

/// Who is told first of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// What leads to the life: it is gone before anybody hears of the end.
    Name,
    Monitor,
}

/// A life that takes exits over its links as messages.
pub(crate) trait Trap: Send + Sync {
    fn exit(&self, exit: Exit);
}

/// How to kill what holds a place.
#[derive(Debug, Clone)]
pub(crate) enum Killer {
    Actor(ActorCell),
    Task(AbortHandle),
    /// A server that is in `init`, and has no task of its own yet.
    Init(future::AbortHandle),
}

impl Killer {
    pub(crate) fn kill(&self) {
        match self {
            Self::Actor(cell) => cell.kill(),
            Self::Task(handle) => handle.abort(),
            Self::Init(handle) => handle.abort(),
        }
    }
}

/// Made when a life is first watched or linked, so that the others pay one word.
#[derive(Default)]
pub(crate) struct Bonds {
    watched: u64,
    watchers: Watchers,
    links: BTreeMap<Incarnation, Weak<Slot>>,
    /// How the life takes exits over its links as messages, if it does.
    pub trap: Option<Weak<dyn Trap>>,
    /// Why a peer, or a link to nobody, ends the life.
    pub exit: Option<ExitReason>,
}

impl Bonds {
    pub(crate) fn watch(&mut self, rank: Rank, watcher: Watcher) -> (Rank, u64) {
        self.watched += 1;
        let number = (rank, self.watched);
        self.watchers.insert(number, watcher);
        number
    }

    /// Gives the watcher back, to be dropped where no lock is held.
    pub(crate) fn unwatch(&mut self, number: (Rank, u64)) -> Option<Watcher> {
        self.watchers.remove(&number)
    }

    pub(crate) fn link(&mut self, peer: Incarnation, slot: Weak<Slot>) {
        self.links.insert(peer, slot);
    }

    /// Whether they were linked.
    pub(crate) fn unlink(&mut self, peer: Incarnation) -> bool {
        self.links.remove(&peer).is_some()
    }

    pub(crate) fn unlink_all(&mut self, path: &ActorPath) -> Vec<(Incarnation, Weak<Slot>)> {
        let is_there = |slot: &Weak<Slot>| slot.upgrade().is_some_and(|slot| slot.path == *path);
        let (gone, stay): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.links).into_iter().partition(|(_, slot)| is_there(slot));
        self.links = stay;
        gone.into_iter().collect()
    }

    /// Takes away what leads to the life. Its place is free, and nobody has heard of its end.
    pub(crate) fn tell_names(&mut self, path: &ActorPath, incarnation: Incarnation, reason: &ExitReason) {
        let others = self.watchers.split_off(&(Rank::Monitor, 0));
        let names = std::mem::replace(&mut self.watchers, others);
        tell_all(names, path, incarnation, reason);
    }

    /// Tells everybody else that the life is over, links last. No lock is held.
    pub(crate) fn tell(self, path: &ActorPath, incarnation: Incarnation, reason: &ExitReason) {
        tell_all(self.watchers, path, incarnation, reason);
        for (peer, slot) in self.links {
            if let Some(slot) = slot.upgrade() {
                let exit =
                    Exit { path: path.clone(), incarnation: Some(incarnation), reason: reason.clone() };
                slot.peer_ended(peer, exit);
            }
        }
    }
}

fn tell_all(watchers: Watchers, path: &ActorPath, incarnation: Incarnation, reason: &ExitReason) {
    for watcher in watchers.into_values() {
        watcher(Down { path: path.clone(), incarnation: Some(incarnation), reason: reason.clone() });
    }
}

impl fmt::Debug for Bonds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bonds")
            .field("watchers", &self.watchers.len())
            .field("links", &self.links.len())
            .finish_non_exhaustive()
    }
}

/// A watcher at its place, so that it can be taken away again.
pub(crate) struct Tie {
    slot: Arc<Slot>,
    incarnation: Incarnation,
    number: (Rank, u64),
}

impl Tie {
    pub(crate) fn new(slot: Arc<Slot>, incarnation: Incarnation, number: (Rank, u64)) -> Self {
        Self { slot, incarnation, number }
    }

    /// The life that is watched.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Takes the watcher away. One that has been told, or is being told now, is not there any more.
    pub(crate) fn cut(&self) {
        drop(self.slot.unwatch(self.incarnation, self.number));
    }
}

impl fmt::Debug for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tie({}, {})", self.slot.path, self.incarnation)
    }
}
