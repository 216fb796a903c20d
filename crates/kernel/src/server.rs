//! The server behaviour: an actor whose state is `self`, with a bounded, typed mailbox.

use std::any::type_name;
use std::borrow::Cow;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, BoxFuture};
use gemba_core::exit::ExitReason;
use gemba_core::machine::Alarm;
use gemba_core::view::ActorKind;

use crate::address::{Address, CALL_TIMEOUT, Lane};
use crate::bonds::Killer;
use crate::child::{ChildSpec, Shutdown, child_from, child_rules};
use crate::exit::{Stop, guarded_call};
use crate::slot::Mailbox;
use crate::start::{Birth, Handle, NoStart, Start, Stopper};
use crate::vitals::Vitals;

mod agenda;
mod alarms;
mod context;
mod life;

pub use context::Context;
pub(crate) use context::later;
use life::{Life, Work};

/// How long `terminate` may take when the server ends by itself or by
/// [`Address::stop`](crate::Address::stop). A supervisor that stops it has a limit of its own.
pub const TERMINATE_LIMIT: Duration = Duration::from_secs(5);

/// How long a handler may run before it is called stuck, unless its spec says otherwise: as long as a
/// caller waits for it.
pub const STUCK_AFTER: Duration = CALL_TIMEOUT;

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

    /// Runs before the first message and before the supervisor goes on to the next child. Work that may take
    /// long is better begun by [`Context::continue_with`].
    ///
    /// # Errors
    ///
    /// An error, or a panic, is a failed start; [`Stop::ignore`] declines to run, which is none. `terminate`
    /// does not run then.
    ///
    /// # Cancel safety
    ///
    /// A kill, or an exit over a link, drops this future at its `await` and fails the start.
    fn init(&mut self, ctx: &mut Context<Self::Msg>) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = ctx;
        ready(Ok(()))
    }

    /// Handles one message.
    ///
    /// It may `await`, and other actors run meanwhile; it must not block its thread, see
    /// [`stuck_after`](ServerSpec::stuck_after).
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

    /// Runs once before the first message, when the start is over; for state machines.
    #[doc(hidden)]
    fn begin(&mut self, ctx: &mut Context<Self::Msg>) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = ctx;
        ready(Ok(()))
    }

    /// Runs when an alarm's turn has come; for state machines.
    #[doc(hidden)]
    fn ring(
        &mut self,
        alarm: Alarm,
        ctx: &mut Context<Self::Msg>,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = (alarm, ctx);
        ready(Ok(()))
    }

    /// Runs when the server ends, whatever the reason: its own wish, an error, a panic in a handler, its
    /// supervisor's or an operator's stop. Only a kill leaves it out; what must happen then too belongs
    /// into `Drop`.
    ///
    /// After a panic the state is as the handler left it. A panic in here becomes the reason of the exit.
    ///
    /// # Units and limits
    ///
    /// The supervisor's limit when that asked, else [`TERMINATE_LIMIT`]; beyond it the server is killed.
    fn terminate(&mut self, reason: &ExitReason) -> impl Future<Output = ()> + Send {
        let _ = reason;
        ready(())
    }

    /// What a message is, for traces and statistics; by default the name of the type. It is asked only while
    /// somebody looks. Leave out what is secret.
    fn describe(msg: &Self::Msg) -> Cow<'static, str> {
        let _ = msg;
        type_name::<Self::Msg>().into()
    }

    /// What an operator may see of the state; by default nothing. Leave out what is secret. It is asked
    /// between two messages, only when somebody wants to see it; a panic in here harms nothing.
    #[doc(alias = "format_status")]
    fn describe_state(&self) -> Option<String> {
        None
    }
}

/// A server as a child: its name, the function that makes it, and its rules. Made by [`server`].
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct ServerSpec<S: Server> {
    child: ChildSpec,
    make: Arc<dyn Fn() -> S + Send + Sync>,
    lane: Arc<Lane<S::Msg>>,
    stuck_after: Option<Duration>,
}

/// A server called `name`, made anew by `make` for each life: what a life has changed dies with it. `make` is
/// called where its supervisor works and must not block; a panic in it is a failed start.
///
/// # Units and limits
///
/// Permanent; its mailbox takes [`MAILBOX_CAPACITY`](crate::MAILBOX_CAPACITY) messages; `init` has
/// [`START_LIMIT`](crate::START_LIMIT); it has 5 s to stop before it is killed. The name is a segment of a path,
/// see [`Name`](gemba_core::name::Name); a wrong one is told when the node starts.
///
/// # Examples
///
/// ```
/// # use gemba_kernel::{Context, Node, Reply, Server, Stop, server};
/// # struct Counter(u64);
/// # enum Msg { Add(u64), Get(Reply<u64>) }
/// # impl Server for Counter {
/// #     type Msg = Msg;
/// #     async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
/// #         match msg {
/// #             Msg::Add(n) => self.0 += n,
/// #             Msg::Get(reply) => reply.send(self.0),
/// #         }
/// #         Ok(())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = server("counter", || Counter(40)).mailbox(64).transient();
/// let counter = spec.address(); // Before the spec is handed over.
/// let node = Node::builder("example").child(spec).start().await?;
/// counter.cast(Msg::Add(2))?;
/// assert_eq!(counter.call(Msg::Get).await?, 42);
/// node.stop("done").await?;
/// # Ok(()) }
/// ```
pub fn server<S: Server>(name: &str, make: impl Fn() -> S + Send + Sync + 'static) -> ServerSpec<S> {
    let (make, lane): (Arc<dyn Fn() -> S + Send + Sync>, _) = (Arc::new(make), Lane::new());
    let stuck_after = Some(STUCK_AFTER);
    let start = ServerStart { make: make.clone(), lane: lane.clone(), stuck_after };
    let child = ChildSpec::new(name, Shutdown::Within(Duration::from_secs(5)), Arc::new(start));
    ServerSpec { child, make, lane, stuck_after }
}

impl<S: Server> ServerSpec<S> {
    /// How many messages its mailbox takes; default [`MAILBOX_CAPACITY`](crate::MAILBOX_CAPACITY).
    pub fn mailbox(self, capacity: usize) -> Self {
        self.lane.resize(capacity.min(tokio::sync::Semaphore::MAX_PERMITS));
        self
    }

    /// How long a handler, `init` or `terminate` may run before it is called stuck; default [`STUCK_AFTER`].
    /// `None` for a server whose handlers are meant to take long.
    ///
    /// A handler that runs longer leaves the receipt
    /// [`HandlerStuck`](gemba_core::receipt::Event::HandlerStuck), and
    /// [`HandlerRecovered`](gemba_core::receipt::Event::HandlerRecovered) when it goes on, or its life is over;
    /// the board shows it meanwhile. It is told late by a quarter of a second at most, and never too early.
    ///
    /// No one can end a handler that blocks its thread, a kill included: a kill acts where the handler awaits.
    /// If all threads of the runtime are blocked, nothing runs any more, not even what would tell. So move
    /// blocking work off, and await it:
    ///
    /// ```
    /// # use gemba_kernel::{Context, Server, Stop};
    /// # struct Hasher;
    /// # struct Hash(Vec<u8>);
    /// # fn slow_hash(_: &[u8]) -> u64 { 7 }
    /// # impl Server for Hasher {
    /// #     type Msg = Hash;
    /// async fn handle(&mut self, Hash(data): Hash, _: &mut Context<Hash>) -> Result<(), Stop> {
    ///     let hash = tokio::task::spawn_blocking(move || slow_hash(&data)).await?;
    /// #     let _ = hash;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// The server waits for it and can be killed meanwhile; the blocking thread ends in its own time. Work that
    /// the server should not wait for is a [`task`](crate::task) of its own under a supervisor.
    pub fn stuck_after(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.stuck_after = limit.into();
        self.seal()
    }

    /// Where it takes messages, now, before its start and after each restart.
    pub fn address(&self) -> Address<S::Msg> {
        Address::from_lane(self.lane.clone())
    }

    /// Puts what was set into the start function, which each life of the server reads.
    fn seal(mut self) -> Self {
        let (make, lane, stuck_after) = (self.make.clone(), self.lane.clone(), self.stuck_after);
        self.child.start = Arc::new(ServerStart { make, lane, stuck_after });
        self
    }
}

child_rules!(ServerSpec<S: Server>);
child_from!(ServerSpec<S: Server>);

struct ServerStart<S: Server> {
    make: Arc<dyn Fn() -> S + Send + Sync>,
    lane: Arc<Lane<S::Msg>>,
    stuck_after: Option<Duration>,
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
        let (lane, stuck_after) = (self.lane.clone(), self.stuck_after);
        Box::pin(async move {
            let lifeline = birth.lifeline.clone();
            let system = birth.system().clone();
            let incarnation = lifeline.incarnation;
            let message_type = type_name::<S::Msg>();
            let vitals = Vitals::new(&lifeline, message_type, stuck_after);
            lifeline.attend(vitals.clone());
            let (own, receiver) = lane.open(&vitals);
            let server = made.inspect_err(|reason| lifeline.ends(reason.clone()))?;
            if stuck_after.is_some() {
                system.watch(&vitals);
            }
            let context = Context::new(&lifeline, Address::from_lane(lane), own, vitals.clone());
            let work = Work::default();
            // On the heap by itself: futures that hold it by value would hold it several times.
            let mut life = Box::new(Life {
                server,
                receiver,
                context,
                vitals: vitals.clone(),
                work,
                lifeline: lifeline.clone(),
            });
            let (init, registration) = AbortHandle::new_pair();
            lifeline.slot.set_killer(incarnation, Killer::Init(init.clone()));
            if let Err(stop) = life.init(registration).await {
                return Err(life.declined(stop));
            }
            lifeline.arm();
            let killer = Killer::Task(tokio::spawn(life.run()).abort_handle());
            lifeline.slot.set_killer(incarnation, killer.clone());
            if init.is_aborted() {
                // Whoever killed it when `init` was over has ended nothing so far.
                killer.kill();
            }
            Ok(Handle::new(killer, Stopper::Life(vitals), Arc::downgrade(&lifeline)))
        })
    }
}
