//! A cell: who is looked at for stuck handlers, and the task of the node that looks.
//!
//! The task is there as long as there are servers. It runs on any thread of the runtime, so a handler that
//! blocks one thread is seen from another.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use gemba_core::receipt::{Event, Seq};
use gemba_core::stuck::{Finding, Watch};
use tokio::time::Instant;

use crate::system::{System, WeakSystem};
use crate::vitals::Vitals;

/// How often all servers are looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// How many are looked at before others get the thread.
const SLICE: usize = 1024;

/// How much longer the task rests than a look took: a million servers must not cost a whole thread.
const REST: u32 = 50;

/// The servers of a node that are looked at.
#[derive(Debug, Default)]
pub(crate) struct Watchlist(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    /// Those that came since the last look.
    new: Vec<Weak<Vitals>>,
    is_watched: bool,
}

/// One life. Most wait, and then nothing is kept of them but this.
struct Watched {
    vitals: Weak<Vitals>,
    busy: Option<Box<Seen>>,
}

/// What was seen of a life that works.
#[derive(Default)]
struct Seen {
    watch: Watch,
    /// The receipt of the handler that is stuck.
    told: Option<Seq>,
}

impl Watchlist {
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().expect("nothing panics while it holds the list")
    }

    /// Adds a life, and starts the task if there is none.
    pub(crate) fn add(&self, vitals: &Arc<Vitals>, system: &System) {
        let mut list = self.list();
        list.new.push(Arc::downgrade(vitals));
        if !list.is_watched {
            list.is_watched = true;
            tokio::spawn(look_on(On(Some(system.downgrade()))));
        }
    }

    /// Those that came since the last look.
    fn newcomers(&self) -> Vec<Weak<Vitals>> {
        std::mem::take(&mut self.list().new)
    }

    /// Lets the task go, unless somebody came just now.
    fn dismiss(&self) -> bool {
        let mut list = self.list();
        list.is_watched = !list.new.is_empty();
        !list.is_watched
    }
}

/// Says, when it is dropped, that nobody looks any more: the next server starts another task.
struct On(Option<WeakSystem>);

impl Drop for On {
    fn drop(&mut self) {
        if let Some(system) = self.0.as_ref().and_then(WeakSystem::upgrade) {
            system.watchlist().list().is_watched = false;
        }
    }
}

async fn look_on(mut on: On) {
    let mut all: Vec<Watched> = Vec::new();
    while let Some(system) = on.0.as_ref().and_then(WeakSystem::upgrade) {
        let newcomers = system.watchlist().newcomers();
        all.extend(newcomers.into_iter().map(|vitals| Watched { vitals, busy: None }));
        let mut took = Duration::ZERO;
        for slice in all.chunks_mut(SLICE) {
            let begun = Instant::now();
            for watched in slice {
                if !look(watched, &system) {
                    watched.vitals = Weak::new();
                }
            }
            took += begun.elapsed();
            tokio::task::yield_now().await;
        }
        all.retain(|watched| watched.vitals.strong_count() > 0);
        if all.is_empty() && system.watchlist().dismiss() {
            on.0 = None;
            return;
        }
        drop(system);
        tokio::time::sleep(PERIOD.max(took * REST)).await;
    }
}

/// Takes a look at one life; `false` if it is over.
fn look(watched: &mut Watched, system: &System) -> bool {
    let alive = watched.vitals.upgrade().filter(|vitals| vitals.reason().is_none());
    let Some((vitals, limit)) = alive.and_then(|vitals| vitals.stuck_after.map(|limit| (vitals, limit)))
    else {
        return false;
    };
    let busy = vitals.busy();
    if busy.is_none() && watched.busy.is_none() {
        return true;
    }
    let seen = watched.busy.get_or_insert_default();
    let incarnation = vitals.incarnation;
    match seen.watch.look(busy, limit, system.now()) {
        None => {}
        Some(Finding::Stuck(ran)) => {
            let handles = vitals.handles().into();
            let (for_ms, limit_ms) = (ran.as_millis() as u64, limit.as_millis() as u64);
            let event = Event::HandlerStuck { incarnation, handles, for_ms, limit_ms };
            let stuck = system.record(None, &vitals.path, event);
            if vitals.reason().is_some() {
                // It ended just now, and nobody would take back what was told.
                let event = Event::HandlerRecovered { incarnation, for_ms };
                system.record(Some(stuck), &vitals.path, event);
            }
            seen.told = Some(stuck);
        }
        Some(Finding::Recovered(took)) => {
            let event = Event::HandlerRecovered { incarnation, for_ms: took.as_millis() as u64 };
            system.record(seen.told.take(), &vitals.path, event);
        }
    }
    if busy.is_none() {
        watched.busy = None;
    }
    true
}
