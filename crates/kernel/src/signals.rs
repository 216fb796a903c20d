//! A cell: what reaches a server besides messages: the ends of those it watches and is linked to.
//!
//! A signal is kept here, not in the mailbox: a full mailbox cannot lose it, and whoever asked for it can
//! take it back unread. It is handled when all is handled that was in the mailbox when it came, so that
//! the last messages of a peer arrive before its end does, as OTP promises.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use gemba_core::name::ActorPath;

use crate::bonds::{Rank, Tie, Trap, Watcher};
use crate::link::Exit;
use crate::monitor::Down;
use crate::server::Context;
use crate::vitals::Vitals;

/// Makes the message of a signal, in the task of the server: a panic of the user's function is the server's.
type Make<M> = Box<dyn FnOnce() -> M + Send>;

/// A monitor of a server; see [`Context::monitor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MonitorRef(u64);

/// A server's own side: without a cost until it watches somebody.
pub(crate) struct Inbox<M> {
    vitals: Arc<Vitals>,
    signals: Option<Arc<Signals<M>>>,
    /// Signals seen and not handled, at most.
    seen: usize,
}

impl<M: Send + 'static> Inbox<M> {
    pub(crate) fn new(vitals: Arc<Vitals>) -> Self {
        Self { vitals, signals: None, seen: 0 }
    }

    fn signals(&mut self) -> &Arc<Signals<M>> {
        self.signals.get_or_insert_with(|| {
            let inner = Inner { numbers: 0, monitors: BTreeMap::new(), queue: VecDeque::new(), trap: None };
            Arc::new(Signals { inner: Mutex::new(inner), vitals: self.vitals.clone() })
        })
    }

    /// Puts the signals there are behind the messages in the mailbox: `turn` is how many the life will have
    /// received then.
    pub(crate) fn notice(&mut self, turn: u64) {
        if let Some(signals) = &self.signals {
            let mut inner = signals.inner();
            for signal in inner.queue.iter_mut().filter(|signal| signal.turn.is_none()) {
                signal.turn = Some(turn);
            }
            self.seen = inner.queue.len();
        }
    }

    /// How many messages go before the next signal.
    pub(crate) fn turn(&self) -> Option<u64> {
        if self.seen == 0 {
            return None;
        }
        self.signals.as_ref()?.inner().queue.front()?.turn
    }

    /// The message of the next signal whose turn it is, after `received` messages.
    pub(crate) fn next(&mut self, received: u64) -> Option<Make<M>> {
        if self.seen == 0 {
            return None;
        }
        let mut inner = self.signals.as_ref()?.inner();
        // Whatever was taken back meanwhile is not waited for.
        self.seen = self.seen.min(inner.queue.len());
        let is_due = inner.queue.front()?.turn.is_some_and(|turn| turn <= received);
        let next = if is_due { inner.queue.pop_front() } else { None };
        self.seen -= usize::from(next.is_some());
        next.map(|signal| signal.make)
    }

    pub(crate) fn trap(&mut self, message: impl Fn(Exit) -> M + Send + Sync + 'static) -> Weak<dyn Trap> {
        let signals = self.signals();
        let earlier = signals.inner().trap.replace(Arc::new(message));
        // Whatever the function held is dropped where no lock is held.
        drop(earlier);
        let trap: Weak<Signals<M>> = Arc::downgrade(signals);
        trap
    }

    pub(crate) fn take_back_exits(&mut self, path: &ActorPath) {
        let Some(signals) = &self.signals else { return };
        let back = signals.inner().take_back(|from| matches!(from, From::Link(peer) if peer == path));
        drop(back);
    }
}

/// The side the others see.
struct Signals<M> {
    inner: Mutex<Inner<M>>,
    vitals: Arc<Vitals>,
}

struct Inner<M> {
    numbers: u64,
    /// Those that have not told anything; without a tie while they are being made.
    monitors: BTreeMap<u64, Option<Tie>>,
    queue: VecDeque<Signal<M>>,
    trap: Option<Arc<dyn Fn(Exit) -> M + Send + Sync>>,
}

struct Signal<M> {
    from: From,
    /// How many messages are to be handled before it, once that is known.
    turn: Option<u64>,
    make: Make<M>,
}

enum From {
    Monitor(u64),
    Link(ActorPath),
}

impl<M> Inner<M> {
    /// Takes out what is from there, to be dropped where no lock is held.
    fn take_back(&mut self, is_from: impl Fn(&From) -> bool) -> Vec<Signal<M>> {
        let (back, stay) = self.queue.drain(..).partition(|signal| is_from(&signal.from));
        self.queue = stay;
        // `partition` makes a collection of one kind.
        Vec::from(back)
    }
}

impl<M> Signals<M> {
    fn inner(&self) -> MutexGuard<'_, Inner<M>> {
        self.inner.lock().expect("nothing panics while it holds the signals")
    }

    /// Puts a signal last. Called under the lock of a place: takes no other lock than its own.
    fn push(&self, mut inner: MutexGuard<'_, Inner<M>>, from: From, make: Make<M>) {
        inner.queue.push_back(Signal { from, turn: None, make });
        drop(inner);
        self.vitals.signal();
    }
}

impl<M: Send + 'static> Trap for Signals<M> {
    fn exit(&self, exit: Exit) {
        let inner = self.inner();
        let Some(trap) = inner.trap.clone() else { return };
        let from = From::Link(exit.path.clone());
        self.push(inner, from, Box::new(move || trap(exit)));
    }
}

impl<M> Drop for Signals<M> {
    /// A life that is over watches nobody. Its links are told by its place.
    fn drop(&mut self) {
        if let Ok(inner) = self.inner.get_mut() {
            inner.monitors.values().flatten().for_each(Tie::cut);
        }
    }
}

impl<M: Send + 'static> Context<M> {
    /// Watches the life that is at `path` now and sends itself `message` with its [`Down`], once; at once,
    /// with [`ExitReason::NoProc`](gemba_core::exit::ExitReason::NoProc), if nobody is there.
    ///
    /// The message takes no room in the mailbox, so it is never refused, and comes after all that the
    /// watched one has sent before. `message` is called in this server's own task. The monitor lasts until
    /// it has told, this life ends, or [`demonitor`](Self::demonitor).
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba_core::name::ActorPath;
    /// use gemba_kernel::{Context, Down, Node, Server, Stop, server, task};
    ///
    /// struct Watch { path: ActorPath }
    ///
    /// impl Server for Watch {
    ///     type Msg = Down;
    ///
    ///     async fn init(&mut self, ctx: &mut Context<Down>) -> Result<(), Stop> {
    ///         ctx.monitor(&self.path, |down| down);
    ///         Ok(())
    ///     }
    ///
    ///     async fn handle(&mut self, down: Down, ctx: &mut Context<Down>) -> Result<(), Stop> {
    ///         println!("{} ended: {}", down.path, down.reason);
    ///         ctx.monitor(&down.path, |down| down); // The next life is another one to watch.
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let job = task("job", |ctx| async move { ctx.stopped().await; Ok(()) });
    /// let watch = server("watch", || Watch { path: "/job".parse().expect("a valid path") });
    /// let node = Node::builder("example").child(job).child(watch).start().await?;
    /// node.system().kill(&"/job".parse()?, "example")?; // And the watch prints it.
    /// # node.stop("done").await?;
    /// # Ok(()) }
    /// ```
    pub fn monitor(
        &mut self,
        path: &ActorPath,
        message: impl FnOnce(Down) -> M + Send + 'static,
    ) -> MonitorRef {
        let target = self.system().registry().get(path);
        let signals = self.inbox.signals();
        let number = {
            let mut inner = signals.inner();
            inner.numbers += 1;
            let number = inner.numbers;
            inner.monitors.insert(number, None);
            number
        };
        let weak = Arc::downgrade(signals);
        let tell: Watcher = Box::new(move |down| {
            // A watcher that is over, or has given up the monitor, does not want to know.
            if let Some(signals) = weak.upgrade() {
                let mut inner = signals.inner();
                if inner.monitors.remove(&number).is_some() {
                    signals.push(inner, From::Monitor(number), Box::new(move || message(down)));
                }
            }
        });
        // The lock of a place comes before that of the signals, so not under it.
        let tie = match target {
            Some(slot) => slot.watch(None, Rank::Monitor, tell),
            None => Err(tell),
        };
        match tie {
            Ok(tie) => {
                // It may have told already; then there is nothing to cut.
                if let Some(place) = signals.inner().monitors.get_mut(&number) {
                    *place = Some(tie);
                }
            }
            Err(tell) => tell(Down::nobody(path.clone(), None)),
        }
        MonitorRef(number)
    }

    /// Ends a monitor (OTP: `demonitor` with `flush`): its message does not come any more; one that was
    /// waiting to be handled is taken back. Ending it twice, or after its message, does nothing.
    pub fn demonitor(&mut self, monitor: MonitorRef) {
        let signals = self.inbox.signals();
        let (tie, back) = {
            let mut inner = signals.inner();
            let tie = inner.monitors.remove(&monitor.0).flatten();
            (tie, inner.take_back(|from| matches!(from, From::Monitor(number) if *number == monitor.0)))
        };
        if let Some(tie) = tie {
            tie.cut();
        }
        drop(back);
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("seen", &self.seen).finish_non_exhaustive()
    }
}
