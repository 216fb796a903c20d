//! The state machine behaviour: a server that has a state, postpones, and waits with time-outs.

use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::future::{Future, ready};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::machine::{self, Alarm, Command, Engine, Next, Steps, Turn, When};
use gemba_core::name::ActorPath;
use gemba_core::time::Timestamp;

use crate::address::{Address, Pinned};
use crate::exit::Stop;
use crate::server::{Context, Server, ServerSpec, server};
use crate::system::System;

/// How many events from inside a machine handles before it gives way to others.
const BATCH: u32 = 64;

/// Which time-out: that of the state, that of quiet, or one with a name.
pub type Timeout = machine::Timeout<Cow<'static, str>>;

/// An actor that is in one of several states, in OTP's manner: what an event does depends on the state,
/// an event that comes too early is postponed, and waiting is a time-out.
///
/// The data that all states share is `self`. For each event [`handle`](Self::handle) says where the
/// machine goes; for each new state, the first one included, [`enter`](Self::enter) runs.
///
/// # Order
///
/// What comes next is, in this order: events just inserted; after a change of state the postponed ones, as
/// they came; what waits inside from before; time-outs of zero; the mailbox, in which running time-outs
/// take their turn when their time is over. A supervisor's stop is looked at when the mailbox is.
///
/// # Units and limits
///
/// [`POSTPONED_LIMIT`](Self::POSTPONED_LIMIT) postponed events, and
/// [`INSERTED_LIMIT`](crate::INSERTED_LIMIT) more that wait inside. One more ends the machine with an
/// error: to drop one would lose it unseen, and to leave the mailbox alone would lock out the very event
/// that changes the state.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use gemba_kernel::{Actions, CallError, Entering, Next, Node, Reply, StateMachine, Stop, state_machine};
///
/// struct Door { code: &'static str, typed: String }
/// #[derive(PartialEq)]
/// enum State { Locked, Open }
/// enum Event { Key(char), Relock, Walk(Reply<()>) }
///
/// impl StateMachine for Door {
///     type State = State;
///     type Event = Event;
///     async fn init(&mut self, _: &mut Actions<'_, Event>) -> Result<State, Stop> {
///         Ok(State::Locked)
///     }
///     async fn enter(&mut self, _: &State, new: &State, on: &mut Entering<'_, Event>) -> Result<(), Stop> {
///         self.typed.clear();
///         if *new == State::Open {
///             on.state_timeout(Duration::from_secs(10), Event::Relock);
///         }
///         Ok(())
///     }
///     async fn handle(&mut self, state: &State, event: Event, on: &mut Actions<'_, Event>) -> Result<Next<State>, Stop> {
///         match (state, event) {
///             (State::Locked, Event::Key(key)) => {
///                 self.typed.push(key);
///                 if self.typed.ends_with(self.code) { return Ok(Next::Goto(State::Open)) }
///             }
///             (State::Locked, walk @ Event::Walk(_)) => on.postpone(walk), // The caller waits at the door.
///             (State::Open, Event::Walk(reply)) => reply.send(()),
///             (_, Event::Relock) => return Ok(Next::Goto(State::Locked)),
///             (State::Open, Event::Key(_)) => {}
///         }
///         Ok(Next::Keep)
///     }
/// }
///
/// let spec = state_machine("door", || Door { code: "42", typed: String::new() });
/// let door = spec.address();
/// let node = Node::builder("house").child(spec).start().await?;
/// let walk = tokio::spawn({ let door = door.clone(); async move { door.call(Event::Walk).await } });
/// "1242".chars().try_for_each(|key| door.cast(Event::Key(key))).map_err(|_| "nobody home")?;
/// assert_eq!(walk.await?, Ok(()));
/// tokio::time::sleep(Duration::from_secs(11)).await; // It has locked itself again.
/// assert!(matches!(door.call(Event::Walk).await, Err(CallError::Timeout { .. })));
/// # node.stop("done").await?; Ok(()) }
/// ```
#[doc(alias = "gen_statem")]
pub trait StateMachine: Sized + Send + 'static {
    /// Where it can be; two values that are equal are the same state.
    type State: PartialEq + Send + Sync + 'static;

    /// What it understands. Time-outs bring one of these too.
    type Event: Send + 'static;

    /// How many postponed events it holds.
    const POSTPONED_LIMIT: usize = machine::POSTPONED_LIMIT;

    /// Names the first state. Runs before the supervisor goes on to the next child; the state is entered,
    /// and what this asks for carried out, right after.
    ///
    /// # Errors
    ///
    /// An error, or a panic, is a failed start; [`Stop::ignore`] declines to run.
    fn init(
        &mut self,
        on: &mut Actions<'_, Self::Event>,
    ) -> impl Future<Output = Result<Self::State, Stop>> + Send;

    /// Runs when `new` is entered, before any other event: on a change of state, for the first state, and
    /// on [`Next::Repeat`]; in the last two cases `old` is `new`. It can neither change the state nor
    /// postpone nor insert.
    ///
    /// # Errors
    ///
    /// An error ends the machine.
    fn enter(
        &mut self,
        old: &Self::State,
        new: &Self::State,
        on: &mut Entering<'_, Self::Event>,
    ) -> impl Future<Output = Result<(), Stop>> + Send {
        let _ = (old, new, on);
        ready(Ok(()))
    }

    /// Handles one event, and says where the machine goes.
    ///
    /// # Errors
    ///
    /// An error ends the machine; [`Stop::normal`] ends it on purpose. Replies sent before are delivered.
    ///
    /// # Cancel safety
    ///
    /// A kill drops this future at its `await`; what it held is released by `Drop`.
    fn handle(
        &mut self,
        state: &Self::State,
        event: Self::Event,
        on: &mut Actions<'_, Self::Event>,
    ) -> impl Future<Output = Result<Next<Self::State>, Stop>> + Send;

    /// Runs when the machine ends, as [`Server::terminate`] does.
    fn terminate(&mut self, state: &Self::State, reason: &ExitReason) -> impl Future<Output = ()> + Send {
        let _ = (state, reason);
        ready(())
    }

    /// What an event is, for traces and statistics; see [`Server::describe`].
    fn describe(event: &Self::Event) -> Cow<'static, str> {
        let _ = event;
        type_name::<Self::Event>().into()
    }

    /// What an operator may see of the machine; by default nothing. See [`Server::describe_state`].
    fn describe_state(&self, state: &Self::State) -> Option<String> {
        let _ = state;
        None
    }
}

/// A state machine called `name`, made anew by `make` for each life; limits and rules are those of a
/// [`server`]. There is an example at [`StateMachine`].
pub fn state_machine<M: StateMachine>(
    name: &str,
    make: impl Fn() -> M + Send + Sync + 'static,
) -> ServerSpec<Machine<M>> {
    server(name, move || Machine { user: make(), engine: None, steps: Steps::default() })
}

/// What [`enter`](StateMachine::enter) may ask for: time-outs. They are carried out when the event is done
/// with; of several requests for one time-out the last one counts.
///
/// To insert or to postpone from `enter` cannot be written:
///
/// ```compile_fail,E0599
/// fn enter(on: &mut gemba_kernel::Entering<'_, u8>) {
///     on.insert(1);
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn enter(on: &mut gemba_kernel::Entering<'_, u8>) {
///     on.postpone(1);
/// }
/// ```
pub struct Entering<'a, E> {
    context: &'a mut Context<E>,
    steps: &'a mut Steps<E, Cow<'static, str>>,
}

impl<E: Send + 'static> Entering<'_, E> {
    /// Brings `event` when the machine has been in its state until `when`. A change of state cancels it,
    /// [`Next::Repeat`] does not; asked for with a change of state, it is the new state's.
    ///
    /// # Units and limits
    ///
    /// A [`Duration`] from now, or a [`Timestamp`]. A duration of zero needs no
    /// timer: the event comes before the next message. A moment that has passed is over at once, but
    /// behind the messages that are there.
    pub fn state_timeout(&mut self, when: impl Into<When>, event: E) {
        self.steps.start(Timeout::State, when.into(), event);
    }

    /// Brings `event` if no other event is handled until `when`.
    pub fn event_timeout(&mut self, when: impl Into<When>, event: E) {
        self.steps.start(Timeout::Event, when.into(), event);
    }

    /// Brings `event` at `when`, whatever the state is then. One that runs under this name is replaced.
    pub fn timeout(&mut self, name: impl Into<Cow<'static, str>>, when: impl Into<When>, event: E) {
        self.steps.start(Timeout::Named(name.into()), when.into(), event);
    }

    /// Cancels a time-out, also one that is over but has not been handled. One that does not run is no
    /// mistake.
    pub fn cancel(&mut self, timeout: impl Into<Timeout>) {
        self.steps.cancel(timeout.into());
    }

    /// Lets a running time-out bring `event` instead, at its own time. If it does not run, `event` comes
    /// before the next message.
    pub fn update(&mut self, timeout: impl Into<Timeout>, event: E) {
        self.steps.update(timeout.into(), event);
    }

    /// The node.
    pub fn system(&self) -> &System {
        self.context.system()
    }

    /// The time since the node started.
    pub fn now(&self) -> Timestamp {
        self.context.now()
    }

    /// Its place in the tree.
    pub fn path(&self) -> &ActorPath {
        self.context.path()
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.context.incarnation()
    }

    /// The address of its place; it outlives this life.
    pub fn address(&self) -> Address<E> {
        self.context.address()
    }

    /// The address of this life alone.
    pub fn pinned(&self) -> Pinned<E> {
        self.context.pinned()
    }
}

impl<E> fmt::Debug for Entering<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entering").field("context", &self.context).finish_non_exhaustive()
    }
}

/// What the handler of an event may ask for: to postpone and to insert events, and all that
/// [`Entering`] offers.
#[derive(Debug)]
pub struct Actions<'a, E>(Entering<'a, E>);

impl<E: Send + 'static> Actions<'_, E> {
    /// Sets `event` aside until the state has changed; then it comes before newer ones. [`Next::Repeat`]
    /// does not bring it back.
    pub fn postpone(&mut self, event: E) {
        self.0.steps.postpone(event);
    }

    /// Brings `event` next, before all that waits; several come in the order they were inserted.
    #[doc(alias = "next_event")]
    pub fn insert(&mut self, event: E) {
        self.0.steps.insert(event);
    }

    /// What a server has: timers that repeat, among others.
    pub fn context(&mut self) -> &mut Context<E> {
        self.0.context
    }
}

impl<'a, E> Deref for Actions<'a, E> {
    type Target = Entering<'a, E>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<E> DerefMut for Actions<'_, E> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// The server that carries a state machine; made by [`state_machine`].
pub struct Machine<M: StateMachine> {
    user: M,
    /// Made by `init`.
    engine: Option<Engine<M::State, M::Event, Cow<'static, str>>>,
    steps: Steps<M::Event, Cow<'static, str>>,
}

impl<M: StateMachine> Server for Machine<M> {
    type Msg = M::Event;

    async fn init(&mut self, context: &mut Context<M::Event>) -> Result<(), Stop> {
        let mut on = Actions(Entering { context, steps: &mut self.steps });
        let first = self.user.init(&mut on).await?;
        self.engine = Some(Engine::new(first, M::POSTPONED_LIMIT));
        Ok(())
    }

    async fn begin(&mut self, context: &mut Context<M::Event>) -> Result<(), Stop> {
        self.enter(&Turn::Again, context).await?;
        self.settle(&Turn::Again, context)?;
        self.handle_all(None, context).await
    }

    async fn handle(&mut self, event: M::Event, context: &mut Context<M::Event>) -> Result<(), Stop> {
        self.handle_all(Some(event), context).await
    }

    async fn ring(&mut self, alarm: Alarm, context: &mut Context<M::Event>) -> Result<(), Stop> {
        let event = self.engine().ring(alarm);
        self.handle_all(event, context).await
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        if let Some(engine) = &self.engine {
            self.user.terminate(engine.state(), reason).await;
        }
    }

    fn describe(event: &M::Event) -> Cow<'static, str> {
        M::describe(event)
    }

    fn describe_state(&self) -> Option<String> {
        self.user.describe_state(self.engine.as_ref()?.state())
    }
}

impl<M: StateMachine> Machine<M> {
    fn engine(&mut self) -> &mut Engine<M::State, M::Event, Cow<'static, str>> {
        self.engine.as_mut().expect("a machine that handles has been initialised")
    }

    /// Handles `first`, and then what there is before the next message.
    async fn handle_all(
        &mut self,
        first: Option<M::Event>,
        context: &mut Context<M::Event>,
    ) -> Result<(), Stop> {
        let mut handled = 0;
        let mut next = first.or_else(|| self.pop(context));
        while let Some(event) = next {
            if handled == BATCH {
                // A machine that inserts for ever must not hold its thread for ever: here it can be killed.
                tokio::task::yield_now().await;
                handled = 0;
            }
            handled += 1;
            let engine = self.engine.as_ref().expect("a machine that handles has been initialised");
            let mut on = Actions(Entering { context, steps: &mut self.steps });
            let goes = self.user.handle(engine.state(), event, &mut on).await?;
            let turn = self.engine().turn(goes);
            if !matches!(turn, Turn::Stays) {
                self.enter(&turn, context).await?;
            }
            self.settle(&turn, context)?;
            next = self.pop(context);
        }
        Ok(())
    }

    /// The next of its own events. It is one like any other: it is not quiet.
    fn pop(&mut self, context: &mut Context<M::Event>) -> Option<M::Event> {
        self.engine().pop().inspect(|_| context.disturb())
    }

    async fn enter(&mut self, turn: &Turn<M::State>, context: &mut Context<M::Event>) -> Result<(), Stop> {
        let engine = self.engine.as_ref().expect("a machine that handles has been initialised");
        let old = if let Turn::From(old) = turn { old } else { engine.state() };
        let mut on = Entering { context, steps: &mut self.steps };
        self.user.enter(old, engine.state(), &mut on).await
    }

    /// Carries out what was asked for.
    fn settle(&mut self, turn: &Turn<M::State>, context: &mut Context<M::Event>) -> Result<(), Stop> {
        // Most events change no time-out, and need not know the time.
        let now = if self.steps.sets_timeouts() { context.now() } else { Timestamp::START };
        let engine = self.engine.as_mut().expect("a machine that handles has been initialised");
        engine.settle(turn, &mut self.steps, now)?;
        for command in engine.commands() {
            match command {
                Command::Arm { alarm, at } => {
                    let at = context.system().epoch() + Duration::from_nanos(at.as_nanos());
                    context.alarms().arm(alarm, at);
                }
                Command::Disarm { alarm } => context.alarms().disarm(alarm),
            }
        }
        Ok(())
    }
}

impl<M: StateMachine> fmt::Debug for Machine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine<{}>", type_name::<M>())
    }
}
