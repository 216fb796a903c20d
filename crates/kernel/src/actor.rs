//! Plain ractor actors as children, just as they are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use gemba_core::exit::ExitReason;
use gemba_core::view::{ActorKind, ActorState};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::bonds::Killer;
use crate::child::{ChildSpec, Shutdown, child_from, child_rules};
use crate::exit::{guarded, guarded_call};
use crate::lifeline::Lifeline;
use crate::start::{Birth, Handle, NoStart, Start, Stopper};

/// A ractor actor as a child.
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct ActorSpec<A: Actor> {
    child: ChildSpec,
    current: Arc<Current<A>>,
}

type Current<A> = ArcSwapOption<ActorRef<<A as Actor>::Msg>>;

/// A ractor actor called `name`; `make` gives the actor and its arguments for each life.
///
/// Its mailbox is ractor's: without a bound, and without a depth the inspector could show. A kill or a
/// panic is told with its reason and place like those of our own servers.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Node, actor};
/// use ractor::{Actor, ActorProcessingErr, ActorRef};
///
/// struct Greeter;
///
/// impl Actor for Greeter {
///     type Msg = String;
///     type State = ();
///     type Arguments = ();
///     async fn pre_start(&self, _: ActorRef<String>, (): ()) -> Result<(), ActorProcessingErr> {
///         Ok(())
///     }
///     async fn handle(&self, _: ActorRef<String>, name: String, _: &mut ()) -> Result<(), ActorProcessingErr> {
///         println!("Hello, {name}");
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = actor("greeter", || (Greeter, ()));
/// let greeter = spec.lookup(); // Each time it is asked, for the life that is there.
/// let node = Node::builder("example").child(spec).start().await?;
/// greeter().expect("it has been started").cast("Ada".to_owned())?;
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
pub fn actor<A: Actor>(
    name: &str,
    make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
) -> ActorSpec<A> {
    let current = Arc::new(ArcSwapOption::empty());
    let start = ActorStart { make: Arc::new(make), current: current.clone() };
    let shutdown = Shutdown::Within(Duration::from_secs(5));
    ActorSpec { child: ChildSpec::new(name, shutdown, Arc::new(start)), current }
}

impl<A: Actor> ActorSpec<A> {
    /// A function that looks up the actor's present life: `None` before its first start. Between two lives, and
    /// after the last, it gives the one that has ended; to send to that is an error of ractor's.
    pub fn lookup(&self) -> impl Fn() -> Option<ActorRef<A::Msg>> + Send + Sync + 'static {
        let current = self.current.clone();
        move || current.load().as_deref().cloned()
    }
}

child_rules!(ActorSpec<A: Actor>);
child_from!(ActorSpec<A: Actor>);

struct ActorStart<A: Actor> {
    make: Arc<dyn Fn() -> (A, A::Arguments) + Send + Sync>,
    current: Arc<Current<A>>,
}

impl<A: Actor> Start for ActorStart<A> {
    fn kind(&self) -> ActorKind {
        ActorKind::Actor
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        let made = guarded_call(|| (self.make)());
        let current = self.current.clone();
        Box::pin(async move {
            let (actor, arguments) = made?;
            let lifeline = birth.lifeline.clone();
            let arguments = (arguments, lifeline.clone());
            let actor = Birth::spawn(&birth.lifeline, Hosted(actor), arguments).await?;
            current.store(Some(Arc::new(actor.clone())));
            let (killer, stopper) = (Killer::Actor(actor.get_cell()), Stopper::Actor(actor.get_cell()));
            Ok(Handle::new(killer, stopper, Arc::downgrade(&lifeline)))
        })
    }
}

/// The user's actor under our guard: each callback's panic is caught with its place, and the state is
/// dropped here rather than in the supervisor.
struct Hosted<A>(A);

struct Held<S> {
    state: Option<S>,
    lifeline: Arc<Lifeline>,
}

impl<S> Drop for Held<S> {
    /// After a kill ractor drops the state: a panic there is to be told like any other.
    fn drop(&mut self) {
        if let Some(state) = self.state.take()
            && let Err(panic) = guarded_call(move || drop(state))
        {
            self.lifeline.ends(panic);
        }
    }
}

impl<S> Held<S> {
    fn state(&mut self) -> &mut S {
        self.state.as_mut().expect("the state is taken in post_stop, after the last callback")
    }

    /// Keeps the first reason for the announcement and hands ractor an error of its own kind.
    fn judge(
        &self,
        result: Result<Result<(), ActorProcessingErr>, ExitReason>,
    ) -> Result<(), ActorProcessingErr> {
        let reason = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => ExitReason::error(&*error),
            Err(panic) => panic,
        };
        self.lifeline.ends(reason.clone());
        Err(NoStart::Failed(reason).into())
    }
}

impl<A: Actor> Actor for Hosted<A> {
    type Msg = A::Msg;
    type State = Held<A::State>;
    type Arguments = (A::Arguments, Arc<Lifeline>);

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        (arguments, lifeline): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        match guarded(self.0.pre_start(myself, arguments)).await {
            Ok(Ok(state)) => {
                lifeline.arm();
                Ok(Held { state: Some(state), lifeline })
            }
            Ok(Err(error)) => Err(NoStart::Failed(ExitReason::error(&*error)).into()),
            Err(panic) => Err(NoStart::Failed(panic).into()),
        }
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let result = guarded(self.0.post_start(myself, held.state())).await;
        held.judge(result)
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let begun = held.lifeline.system.now();
        let result = guarded(self.0.handle(myself, message, held.state())).await;
        held.lifeline.slot.meter.count(1, held.lifeline.system.now().since(begun));
        held.judge(result)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let result = guarded(self.0.handle_supervisor_evt(myself, event, held.state())).await;
        held.judge(result)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        held: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let result = guarded(self.0.post_stop(myself, held.state())).await;
        held.judge(result)?;
        let state = held.state.take();
        let asked = held.lifeline.slot.state() == ActorState::Stopping;
        held.lifeline.ends(match guarded_call(move || drop(state)) {
            Ok(()) if asked => ExitReason::Shutdown,
            Ok(()) => ExitReason::Normal,
            Err(panic) => panic,
        });
        Ok(())
    }
}

impl<A> fmt::Debug for Hosted<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hosted")
    }
}
