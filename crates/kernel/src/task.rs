//! Supervised tasks: a plain async function as a child, for work that takes no messages.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::view::ActorKind;

use crate::bonds::Killer;
use crate::child::{ChildSpec, Shutdown, child_from, child_rules};
use crate::exit::{Stop, guarded_call, reason_of};
use crate::lifeline::Lifeline;
use crate::slot::Slot;
use crate::start::{Birth, Handle, NoStart, Start, Stopper};
use crate::system::System;

type Body = dyn Fn(TaskContext) -> BoxFuture<'static, Result<(), Stop>> + Send + Sync;

/// What a task knows of itself.
#[derive(Debug, Clone)]
pub struct TaskContext {
    system: System,
    pub(crate) slot: Arc<Slot>,
    incarnation: Incarnation,
}

impl TaskContext {
    /// The node.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Its place in the tree.
    pub fn path(&self) -> &ActorPath {
        &self.slot.path
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Counts work for the inspector.
    pub fn count(&self, handled: u64, busy: Duration) {
        self.slot.meter.count(handled, busy);
    }

    /// Ends when the supervisor asks the task to stop; it has its shutdown time from then on.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let (slot, incarnation) = (self.slot.clone(), self.incarnation);
        async move { slot.asked_to_stop(incarnation).await }
    }
}

/// A task as a child; made by [`task`].
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct TaskSpec {
    child: ChildSpec,
}

/// A task called `name`; `body` is called for each life. It ends when its future does: with `Ok` normally,
/// with an error or a panic abnormally. A task that ignores [`TaskContext::stopped`] is killed when its
/// shutdown time is over, at its next `await`; one that blocks its thread cannot be killed.
///
/// # Units and limits
///
/// Permanent: a task that ends normally is started again too, unless it is `transient` or `temporary`. It has 5 s
/// to stop.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_kernel::{Node, task};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let poller = task("poller", |ctx| async move {
///     loop {
///         tokio::select! {
///             () = ctx.stopped() => return Ok(()),
///             () = tokio::time::sleep(Duration::from_secs(1)) => ctx.count(1, Duration::ZERO),
///         }
///     }
/// });
/// let node = Node::builder("example").child(poller).start().await?;
/// node.stop("done").await?; // It ends where it waits for `stopped`.
/// # Ok(()) }
/// ```
pub fn task<F>(name: &str, body: impl Fn(TaskContext) -> F + Send + Sync + 'static) -> TaskSpec
where
    F: Future<Output = Result<(), Stop>> + Send + 'static,
{
    let body: Arc<Body> = Arc::new(move |ctx| Box::pin(body(ctx)));
    let shutdown = Shutdown::Within(Duration::from_secs(5));
    TaskSpec { child: ChildSpec::new(name, shutdown, Arc::new(TaskStart { body })) }
}

child_rules!(TaskSpec);
child_from!(TaskSpec);

struct TaskStart {
    body: Arc<Body>,
}

impl Start for TaskStart {
    fn kind(&self) -> ActorKind {
        ActorKind::Task
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        let lifeline = birth.lifeline;
        let ctx = TaskContext {
            system: lifeline.system.clone(),
            slot: lifeline.slot.clone(),
            incarnation: lifeline.incarnation,
        };
        Box::pin(ready(Ok(spawn(Stage::New(self.body.clone(), ctx), Stopper::Task, lifeline))))
    }
}

/// Starts the task of one life.
pub(crate) fn spawn(stage: Stage, stopper: Stopper, lifeline: Arc<Lifeline>) -> Handle {
    lifeline.arm();
    let (slot, incarnation, weak) = (lifeline.slot.clone(), lifeline.incarnation, Arc::downgrade(&lifeline));
    let killer = Killer::Task(tokio::spawn(Run { stage, lifeline }).abort_handle());
    slot.set_killer(incarnation, killer.clone());
    Handle::new(killer, stopper, weak)
}

/// One life of a task. Written by hand because there may be a million: an `async fn` keeps room for each of
/// the stages beside the others.
struct Run {
    stage: Stage,
    lifeline: Arc<Lifeline>,
}

pub(crate) enum Stage {
    New(Arc<Body>, TaskContext),
    Running(BoxFuture<'static, Result<(), Stop>>),
    Over,
}

impl Run {
    fn ends(&self, reason: ExitReason) -> Poll<()> {
        // A task that ends because it was asked to ends as OTP's children do.
        let was_asked = self.lifeline.slot.was_asked_to_stop(self.lifeline.incarnation);
        let asked = reason == ExitReason::Normal && was_asked;
        self.lifeline.ends(if asked { ExitReason::Shutdown } else { reason });
        Poll::Ready(())
    }
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Stage::New(..) = &self.stage
            && let Stage::New(body, ctx) = std::mem::replace(&mut self.stage, Stage::Over)
        {
            match guarded_call(|| body(ctx)) {
                Ok(future) => self.stage = Stage::Running(future),
                Err(panic) => return self.ends(panic),
            }
        }
        let Stage::Running(future) = &mut self.stage else { return Poll::Ready(()) };
        let reason = match guarded_call(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => reason_of(result),
            Err(panic) => panic,
        };
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let reason = guarded_call(move || drop(stage)).map_or_else(|panic| panic, |()| reason);
        self.ends(reason)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        // After a kill the reason stays `killed`, whatever the task held says about being dropped.
        let _ = guarded_call(move || drop(stage));
    }
}

impl fmt::Debug for TaskStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskStart")
    }
}
