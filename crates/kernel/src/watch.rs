//! A cell: who is looked at for stuck handlers, and who of the node looks.
//!
//! It is there as long as there are servers. On a runtime of several threads it is a thread of its own: a
//! handler that blocks a worker may have tokio's timers, or the very task that looks, behind it.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use gemba_core::exit::Incarnation;
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Seq};
use gemba_core::stuck::{Finding, Watch};
use gemba_core::time::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
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
    /// The handler that is stuck.
    told: Option<Told>,
}

/// A handler that was told to be stuck, with all that is needed to take it back when its life is gone.
struct Told {
    receipt: Seq,
    path: ActorPath,
    incarnation: Incarnation,
    /// When it began, at the latest.
    since: Timestamp,
}

impl Told {
    fn take_back(self, system: &System, took: Duration) {
        let event =
            Event::HandlerRecovered { incarnation: self.incarnation, for_ms: took.as_millis() as u64 };
        system.record(Some(self.receipt), &self.path, event);
    }
}

impl Watchlist {
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().expect("nothing panics while it holds the list")
    }

    /// Adds a life, and has somebody look if nobody does.
    pub(crate) fn add(&self, vitals: &Arc<Vitals>, system: &System) {
        let is_watched = {
            let mut list = self.list();
            list.new.push(Arc::downgrade(vitals));
            std::mem::replace(&mut list.is_watched, true)
        };
        if !is_watched {
            // Not under the lock: a runtime that is over drops the task here, and `On` takes it.
            start(system);
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

/// Says, when it is dropped, that nobody looks any more: the next server has somebody look again.
struct On(Option<WeakSystem>);

impl On {
    fn system(&self) -> Option<System> {
        self.0.as_ref().and_then(WeakSystem::upgrade)
    }
}

impl Drop for On {
    fn drop(&mut self) {
        if let Some(system) = self.system() {
            system.watchlist().list().is_watched = false;
        }
    }
}

fn start(system: &System) {
    let runtime = Handle::current();
    let weak = system.downgrade();
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        // Its only thread is either blocked or looks; and its clock may be paused.
        drop(runtime.spawn(look_on(On(Some(weak)))));
        return;
    }
    let look = {
        let runtime = runtime.clone();
        // `On` is made over there: a thread that cannot be had must not say that nobody looks.
        move || look_from_a_thread(On(Some(weak)), &runtime)
    };
    if std::thread::Builder::new().name("gemba-watch".into()).spawn(look).is_err() {
        // No thread is left: a task sees most of it.
        drop(runtime.spawn(look_on(On(Some(system.downgrade())))));
    }
}

fn look_from_a_thread(mut on: On, runtime: &Handle) {
    let mut all: Vec<Watched> = Vec::new();
    let is_awake = Arc::new(AtomicBool::new(true));
    loop {
        std::thread::sleep(PERIOD);
        let Some(system) = on.system() else { return };
        welcome(&mut all, &system);
        let begun = std::time::Instant::now();
        all.chunks_mut(SLICE).for_each(|slice| look_at(slice, &system));
        let took = begun.elapsed();
        if is_over(&mut all, &system, &mut on) {
            return;
        }
        drop(system);
        // tokio's timers are turned by the worker that slept last; if a handler blocks that one, another has
        // to wake up and take them over. One nudge at a time: a runtime that is blocked collects none.
        if is_awake.swap(false, Relaxed) {
            let is_awake = is_awake.clone();
            runtime.spawn(async move { is_awake.store(true, Relaxed) });
        }
        std::thread::sleep((took * REST).saturating_sub(PERIOD));
    }
}

async fn look_on(mut on: On) {
    let mut all: Vec<Watched> = Vec::new();
    while let Some(system) = on.system() {
        welcome(&mut all, &system);
        let mut took = Duration::ZERO;
        for slice in all.chunks_mut(SLICE) {
            let begun = Instant::now();
            look_at(slice, &system);
            took += begun.elapsed();
            tokio::task::yield_now().await;
        }
        if is_over(&mut all, &system, &mut on) {
            return;
        }
        drop(system);
        tokio::time::sleep(PERIOD.max(took * REST)).await;
    }
}

fn welcome(all: &mut Vec<Watched>, system: &System) {
    let newcomers = system.watchlist().newcomers();
    all.extend(newcomers.into_iter().map(|vitals| Watched { vitals, busy: None }));
}

fn look_at(slice: &mut [Watched], system: &System) {
    for watched in slice {
        if !look(watched, system) {
            watched.vitals = Weak::new();
        }
    }
}

/// Forgets those that have ended, and takes back what was told of them; whether nobody is left to look at.
fn is_over(all: &mut Vec<Watched>, system: &System, on: &mut On) -> bool {
    all.retain_mut(|watched| {
        let is_there = watched.vitals.strong_count() > 0;
        if !is_there && let Some(told) = watched.busy.take().and_then(|seen| seen.told) {
            // Not every end is told: not that of a start that failed, nor any below a supervisor that was killed.
            let took = system.now().since(told.since);
            told.take_back(system, took);
        }
        is_there
    });
    let is_over = all.is_empty() && system.watchlist().dismiss();
    if is_over {
        on.0 = None;
    }
    is_over
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
    let now = system.now();
    match seen.watch.look(busy, limit, now) {
        None => {}
        Some(Finding::Stuck(ran)) => {
            let (incarnation, path) = (vitals.incarnation, vitals.path.clone());
            let handles = vitals.handles().into();
            let (for_ms, limit_ms) = (ran.as_millis() as u64, limit.as_millis() as u64);
            let event = Event::HandlerStuck { incarnation, handles, for_ms, limit_ms };
            let receipt = system.record(None, &path, event);
            seen.told = Some(Told { receipt, path, incarnation, since: now - ran });
        }
        Some(Finding::Recovered(took)) => {
            if let Some(told) = seen.told.take() {
                told.take_back(system, took);
            }
        }
    }
    if busy.is_none() {
        watched.busy = None;
    }
    true
}

#[cfg(test)]
mod tests {
    use gemba_core::view::ActorKind;
    use tokio::sync::watch::channel;

    use super::*;
    use crate::lifeline::{Lifeline, Report};
    use crate::slot::{Profile, Slot};

    #[test]
    fn a_server_does_not_hang_where_nobody_can_be_had_to_look() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        // It drops what it is given from now on, at once.
        drop(runtime);
        let _entered = handle.enter();
        let system = System::new("test".parse().unwrap());
        let profile = Profile { kind: ActorKind::Server, strategy: None, order: 0, mailbox: None };
        let slot = Arc::new(Slot::new("/server".parse().unwrap(), profile));
        let report = Report::Node(channel(None).0);
        let lifeline = Lifeline::new(system.clone(), slot, Incarnation(1), report, None);
        system.watch(&Vitals::new(&lifeline, "()", None));
        assert!(!system.watchlist().list().is_watched, "the next server has somebody look again");
    }
}
