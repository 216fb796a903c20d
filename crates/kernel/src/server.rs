//! The server behaviour: an actor whose state is `self`, with a bounded, typed mailbox.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::time::Timestamp;
use gemba_core::view::ActorKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::address::{Address, Lane, MAILBOX_CAPACITY, Pinned};
use crate::child::{ChildSpec, Shutdown, child_from, child_rules};
use crate::exit::{Stop, guarded, guarded_call, reason_of};
use crate::lifeline::Lifeline;
use crate::slot::{Killer, Mailbox};
use crate::start::{Birth, Handle, NoStart, Start, Stopper};
use crate::system::System;

/// How many messages a server handles before it reads the clock and gives way to others.
const BATCH: u32 = 64;

/// An actor with state, in OTP's manner: messages come one at a time, an error or a panic ends it, and
/// its supervisor starts a new one from the function in its spec.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Context, Reply, Server, Stop};
///
/// struct Counter(u64);
///
/// enum Msg {
///     Add(u64),
///     Get(Reply<u64>),
/// }
///
/// impl Server for Counter {
///     type Msg = Msg;
///
///     async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
///         match msg {
///             Msg::Add(n) => self.0 += n,
///             Msg::Get(reply) => reply.send(self.0),
///         }
///         Ok(())
///     }
/// }
/// ```
#[doc(alias = "gen_server")]
pub trait Server: Sized + Send + 'static {
    /// What it understands.
    type Msg: Send + 'static;

    /// Runs before the first message and before the supervisor goes on to the next child.
    ///
    /// # Errors
    ///
    /// An error, or a panic, is a failed start.
    fn init(&mut self, ctx: &mut Context<Self::Msg>) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = ctx;
        ready(Ok(()))
    }

    /// Handles one message.
    ///
    /// # Errors
    ///
    /// An error ends the server; [`Stop::normal`] ends it on purpose.
    ///
    /// # Cancel safety
    ///
    /// A kill drops this future at its `await`; what it held is released by `Drop`.
    fn handle(
        &mut self,
        msg: Self::Msg,
        ctx: &mut Context<Self::Msg>,
    ) -> impl Future<Output = Result<(), Stop>> + Send;

    /// Runs when the server ends otherwise than by a panic or a kill.
    fn terminate(&mut self, reason: &ExitReason) -> impl Future<Output = ()> + Send {
        let _ = reason;
        ready(())
    }
}

/// What a server knows of itself while it handles a message.
pub struct Context<M> {
    system: System,
    path: ActorPath,
    incarnation: Incarnation,
    address: Address<M>,
    own: mpsc::Sender<M>,
    timers: Vec<Timer>,
}

struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<M: Send + 'static> Context<M> {
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
        &self.path
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
        Pinned::new(self.own.clone())
    }

    /// Sends itself a message each `period`, until this life ends. A tick that finds the mailbox full is
    /// left out.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn every(&mut self, period: Duration, message: impl Fn() -> M + Send + 'static) {
        let own = self.own.clone();
        let ticks = async move {
            let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                if let Err(mpsc::error::TrySendError::Closed(_)) = own.try_send(message()) {
                    return;
                }
            }
        };
        self.timers.push(Timer(tokio::spawn(ticks).abort_handle()));
    }

    /// Sends itself `message` after `delay`, unless this life ends before. A mailbox that is full then is
    /// waited for.
    pub fn after(&mut self, delay: Duration, message: M) {
        let own = self.own.clone();
        let timer = async move {
            tokio::time::sleep(delay).await;
            // A life that is over needs no reminder.
            let _ = own.send(message).await;
        };
        self.timers.retain(|timer| !timer.0.is_finished());
        self.timers.push(Timer(tokio::spawn(timer).abort_handle()));
    }
}

impl<M> fmt::Debug for Context<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("path", &self.path)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// A server as a child: its name, the function that makes it, and its rules.
pub struct ServerSpec<S: Server> {
    child: ChildSpec,
    make: Arc<dyn Fn() -> S + Send + Sync>,
    lane: Arc<Lane<S::Msg>>,
}

/// A server called `name`, made anew by `make` for each life.
pub fn server<S: Server>(name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> ServerSpec<S> {
    ServerSpec::assemble(name, Arc::new(make), MAILBOX_CAPACITY, None)
}

impl<S: Server> ServerSpec<S> {
    fn assemble(
        name: &str,
        make: Arc<dyn Fn() -> S + Send + Sync>,
        capacity: usize,
        rules: Option<&ChildSpec>,
    ) -> Self {
        let lane = Lane::new(capacity);
        let start = ServerStart { make: make.clone(), lane: lane.clone() };
        let mut child = ChildSpec::new(name, Shutdown::Within(Duration::from_secs(5)), Arc::new(start));
        if let Some(rules) = rules {
            child.name.clone_from(&rules.name);
            child.restart = rules.restart;
            child.significant = rules.significant;
            child.shutdown = rules.shutdown;
        }
        Self { child, make, lane }
    }

    /// How many messages its mailbox takes; default [`MAILBOX_CAPACITY`]. Call it before
    /// [`address`](Self::address).
    pub fn mailbox(self, capacity: usize) -> Self {
        Self::assemble("", self.make, capacity, Some(&self.child))
    }

    /// Where it takes messages, now, before its start and after each restart.
    pub fn address(&self) -> Address<S::Msg> {
        Address::from_lane(self.lane.clone())
    }
}

child_rules!(ServerSpec<S: Server>);
child_from!(ServerSpec<S: Server>);

struct ServerStart<S: Server> {
    make: Arc<dyn Fn() -> S + Send + Sync>,
    lane: Arc<Lane<S::Msg>>,
}

impl<S: Server> Start for ServerStart<S> {
    fn kind(&self) -> ActorKind {
        ActorKind::Server
    }

    fn mailbox(&self) -> Option<Arc<dyn Mailbox>> {
        Some(self.lane.clone())
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        let made = guarded_call(|| (self.make)());
        let lane = self.lane.clone();
        Box::pin(async move {
            let (own, receiver) = lane.open(birth.path());
            let (stop, stopped) = oneshot::channel();
            let lifeline = birth.lifeline.clone();
            let context = Context {
                system: birth.system().clone(),
                path: birth.path().clone(),
                incarnation: lifeline.incarnation,
                address: Address::from_lane(lane),
                own,
                timers: Vec::new(),
            };
            let mut life = Life { server: made?, receiver, stopped, context, lifeline: lifeline.clone() };
            match guarded(life.server.init(&mut life.context)).await {
                Ok(Ok(())) => {}
                Ok(Err(stop)) => return Err(NoStart::from(stop)),
                Err(panic) => return Err(NoStart::Failed(panic)),
            }
            lifeline.arm();
            let killer = Killer::Task(tokio::spawn(life.run()).abort_handle());
            lifeline.slot.set_killer(lifeline.incarnation, killer.clone());
            Ok(Handle::new(killer, Stopper::Once(stop), Arc::downgrade(&lifeline)))
        })
    }
}

/// One life of a server. Fields are dropped in this order: the lifeline goes last, when all the life
/// held is released.
struct Life<S: Server> {
    server: S,
    receiver: mpsc::Receiver<S::Msg>,
    stopped: oneshot::Receiver<()>,
    context: Context<S::Msg>,
    lifeline: Arc<Lifeline>,
}

impl<S: Server> Life<S> {
    async fn run(mut self) {
        let reason = match guarded(self.serve()).await {
            Ok(reason) => match guarded(self.server.terminate(&reason)).await {
                Ok(()) => reason,
                Err(panic) => panic,
            },
            Err(panic) => panic,
        };
        let Self { server, receiver, context, lifeline, .. } = self;
        let reason = match guarded_call(move || drop((server, receiver, context))) {
            Ok(()) => reason,
            Err(panic) => panic,
        };
        lifeline.ends(reason);
    }

    async fn serve(&mut self) -> ExitReason {
        loop {
            let message = tokio::select! {
                biased;
                _ = &mut self.stopped => return ExitReason::Shutdown,
                message = self.receiver.recv() => message.expect("the context holds a sender"),
            };
            if let Err(reason) = self.handle_batch(message).await {
                return reason;
            }
        }
    }

    /// Handles what is there already, up to a bound, without going back to sleep between.
    async fn handle_batch(&mut self, first: S::Msg) -> Result<(), ExitReason> {
        let begun = self.context.now();
        let mut handled = 0;
        let mut next = Some(first);
        let mut result = Ok(());
        while let Some(message) = next {
            handled += 1;
            result = self.server.handle(message, &mut self.context).await;
            let goes_on = result.is_ok()
                && handled < BATCH
                && matches!(self.stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            next = if goes_on { self.receiver.try_recv().ok() } else { None };
        }
        self.lifeline.slot.meter.count(u64::from(handled), self.context.now().since(begun));
        result.map_err(|stop| reason_of(Err(stop)))
    }
}
