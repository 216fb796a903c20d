//! A cell: who is looked at for stuck handlers, and who of the node looks.
//!
//! It is there as long as there are servers. On a runtime of several threads it is a thread of its own: a
//! handler that blocks a worker may have tokio's timers, or the very task that looks, behind it.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use gemba_core::receipt::{Event, Seq};
use gemba_core::stuck::{Finding, Watch};
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
    /// The receipt of the handler that is stuck.
    told: Option<Seq>,
}

impl Watchlist {
    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().expect("nothing panics while it holds the list")
    }

    /// Adds a life, and has somebody look if nobody does.
    pub(crate) fn add(&self, vitals: &Arc<Vitals>, system: &System) {
        let mut list = self.list();
        list.new.push(Arc::downgrade(vitals));
        if !list.is_watched {
            list.is_watched = true;
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
    let on = On(Some(system.downgrade()));
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        // Its only thread is either blocked or looks; and its clock may be paused.
        drop(runtime.spawn(look_on(on)));
        return;
    }
    let look = {
        let runtime = runtime.clone();
        move || look_from_a_thread(on, &runtime)
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

/// Forgets those that have ended; whether nobody is left to look at.
fn is_over(all: &mut Vec<Watched>, system: &System, on: &mut On) -> bool {
    all.retain(|watched| watched.vitals.strong_count() > 0);
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
