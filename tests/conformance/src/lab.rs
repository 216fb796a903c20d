//! Where our children report to, and where their steps reach them.
//!
//! One thread plays a scenario, so a lock is never waited for.

#![allow(clippy::disallowed_types, reason = "children of all kinds report into one log, in order")]

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use gemba_core::exit::Incarnation;
use gemba_core::receipt::Seq;
use gemba_kernel::{Pinned, System};
use tokio::sync::{mpsc, oneshot};

use crate::model::{Child, How, OnStop};
use crate::trace::{At, Event, Verdict};

/// What is written down while a scenario is played; receipts are merged in afterwards.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Section(At, Verdict),
    /// Nothing moves.
    Settled {
        busy: bool,
        snapshot: Vec<(String, String)>,
    },
    Event(Event),
    /// A life let go of all it held. Why it ended is in its receipt.
    Gone {
        id: String,
        incarnation: Incarnation,
    },
    Answer {
        asked: String,
        answer: String,
    },
}

/// How a step reaches a life.
#[derive(Debug)]
pub(crate) enum Control {
    Server(Pinned<How>),
    Task(mpsc::Sender<How>),
}

/// A life, as far as its reports go.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub n: u32,
    /// Whether it chose to answer a stop with `normal`.
    pub obeyed_normally: bool,
    server: bool,
}

#[derive(Debug, Default)]
struct Inner {
    /// With the number of the newest receipt at the time.
    log: Vec<(Seq, Entry)>,
    starts: HashMap<String, u32>,
    controls: HashMap<String, Control>,
    lives: HashMap<Incarnation, Life>,
    hanging: HashMap<String, oneshot::Sender<()>>,
    /// Whom a step released that does not hang yet.
    released: BTreeSet<String>,
    ignoring: usize,
}

/// Shared by all children of a scenario.
#[derive(Debug)]
pub(crate) struct Lab {
    inner: Mutex<Inner>,
    system: System,
}

impl Lab {
    pub(crate) fn new(system: &System) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), system: system.clone() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds the log")
    }

    pub(crate) fn write(&self, entry: Entry) {
        let newest = self.system.journal().newest();
        self.inner().log.push((newest, entry));
    }

    /// How much has happened so far.
    pub(crate) fn activity(&self) -> (usize, Seq) {
        (self.inner().log.len(), self.system.journal().newest())
    }

    pub(crate) fn log(&self) -> Vec<(Seq, Entry)> {
        self.inner().log.clone()
    }

    pub(crate) fn life(&self, incarnation: Incarnation) -> Option<Life> {
        self.inner().lives.get(&incarnation).cloned()
    }

    /// Whether the life is that of a server, which reports its own start.
    pub(crate) fn is_server(&self, incarnation: Incarnation) -> bool {
        self.inner().lives.get(&incarnation).is_some_and(|life| life.server)
    }

    /// A start began; which one it is.
    pub(crate) fn begins(&self, id: &str) -> u32 {
        let n = self.counts(id);
        self.write(Entry::Event(Event::Init(id.to_owned(), n)));
        n
    }

    /// As [`begins`](Self::begins), for a task, whose start its supervisor tells.
    pub(crate) fn counts(&self, id: &str) -> u32 {
        let mut inner = self.inner();
        let n = inner.starts.entry(id.to_owned()).or_default();
        *n += 1;
        *n
    }

    pub(crate) fn runs(
        self: &Arc<Self>,
        id: &str,
        n: u32,
        incarnation: Incarnation,
        control: Control,
    ) -> Alive {
        let id = id.to_owned();
        let mut inner = self.inner();
        let server = matches!(control, Control::Server(_));
        inner.controls.insert(id.clone(), control);
        inner.lives.insert(incarnation, Life { n, obeyed_normally: false, server });
        Alive { lab: self.clone(), id, incarnation }
    }

    pub(crate) fn obeys_normally(&self, incarnation: Incarnation) {
        if let Some(life) = self.inner().lives.get_mut(&incarnation) {
            life.obeyed_normally = true;
        }
    }

    /// Waits until a step releases the child.
    pub(crate) async fn hang(&self, id: &str) {
        if self.inner().released.remove(id) {
            return;
        }
        let (sender, released) = oneshot::channel();
        self.inner().hanging.insert(id.to_owned(), sender);
        // A lab that is gone releases everybody.
        let _ = released.await;
    }

    /// Releases a child that hangs, or that is going to: ours may ask them in another order than OTP, which
    /// takes one request after the other.
    pub(crate) fn release(&self, id: &str) {
        let mut inner = self.inner();
        let hung = inner.hanging.remove(id).is_some_and(|sender| sender.send(()).is_ok());
        if !hung {
            inner.released.insert(id.to_owned());
        }
    }

    /// Those that were released and never hung.
    pub(crate) fn never_hung(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.inner().released)
    }

    pub(crate) fn hanging(&self) -> Vec<String> {
        let inner = self.inner();
        let alive = inner.hanging.iter().filter(|(_, sender)| !sender.is_closed());
        alive.map(|(id, _)| id.clone()).collect()
    }

    /// Ends a life. Whether there was one.
    pub(crate) fn end(&self, id: &str, how: How) -> bool {
        match self.inner().controls.get(id) {
            Some(Control::Server(server)) => server.cast(how).is_ok(),
            Some(Control::Task(task)) => task.try_send(how).is_ok(),
            None => false,
        }
    }

    /// Ignores the stop until it is killed.
    pub(crate) async fn ignore(&self) {
        struct Ignoring<'a>(&'a Lab);
        impl Drop for Ignoring<'_> {
            fn drop(&mut self) {
                self.0.inner().ignoring -= 1;
            }
        }
        self.inner().ignoring += 1;
        let _ignoring = Ignoring(self);
        std::future::pending::<()>().await;
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.inner().ignoring > 0
    }
}

/// Held by a life; tells when it is let go.
#[derive(Debug)]
pub(crate) struct Alive {
    lab: Arc<Lab>,
    id: String,
    pub incarnation: Incarnation,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.lab.write(Entry::Gone { id: self.id.clone(), incarnation: self.incarnation });
    }
}

/// What a server does before it goes, when it was asked to.
pub(crate) async fn obey(lab: &Lab, child: &Child) {
    match child.on_stop {
        OnStop::Ignore => lab.ignore().await,
        OnStop::Hang => lab.hang(&child.id).await,
        OnStop::Panic => panic!("asked to stop"),
        // The others answer with a reason of their own, which only a task can do.
        OnStop::Shutdown | OnStop::Normal | OnStop::ShutdownWith | OnStop::Error => {}
    }
}
