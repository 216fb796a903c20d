//! Supervised tasks: a plain async function as a child, for work that takes no messages.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::view::ActorKind;
use tokio::sync::watch;

use crate::child::{ChildSpec, Shutdown, child_from, child_rules};
use crate::exit::{Stop, guarded, guarded_call, reason_of};
use crate::lifeline::Lifeline;
use crate::slot::{Killer, Meter, Slot};
use crate::start::{Birth, Handle, NoStart, Start, Stopper};
use crate::system::System;

type Body = dyn Fn(TaskContext) -> BoxFuture<'static, Result<(), Stop>> + Send + Sync;

/// What a task knows of itself.
#[derive(Debug, Clone)]
pub struct TaskContext {
    system: System,
    lifeline: std::sync::Weak<Lifeline>,
    path: ActorPath,
    incarnation: Incarnation,
    stop: watch::Receiver<bool>,
}

impl TaskContext {
    /// The node.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Its place in the tree.
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.lifeline.upgrade().map(|lifeline| lifeline.slot.clone())
    }

    /// Counts work for the inspector.
    pub fn count(&self, handled: u64, busy: Duration) {
        if let Some(lifeline) = self.lifeline.upgrade() {
            let meter: &Meter = &lifeline.slot.meter;
            meter.count(handled, busy);
        }
    }

    /// Ends when the supervisor asks the task to stop; it has its shutdown time from then on.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.clone();
        async move {
            // A supervisor that is gone wants its tasks to stop as well.
            let _ = stop.wait_for(|stopped| *stopped).await;
        }
    }
}

/// A task as a child.
pub struct TaskSpec {
    child: ChildSpec,
}

/// A task called `name`; `body` is called for each life. It ends when its future does: with `Ok` normally,
/// with an error or a panic abnormally. A task that ignores [`TaskContext::stopped`] is killed when its
/// shutdown time is over.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_kernel::task;
///
/// let poller = task("poller", |ctx| async move {
///     loop {
///         tokio::select! {
///             () = ctx.stopped() => return Ok(()),
///             () = tokio::time::sleep(Duration::from_secs(1)) => ctx.count(1, Duration::ZERO),
///         }
///     }
/// });
/// # let _ = poller;
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
        let body = self.body.clone();
        Box::pin(async move {
            let (stop, stopped) = watch::channel(false);
            let lifeline = birth.lifeline;
            let weak = Arc::downgrade(&lifeline);
            let ctx = TaskContext {
                system: lifeline.system.clone(),
                lifeline: weak.clone(),
                path: lifeline.slot.path.clone(),
                incarnation: lifeline.incarnation,
                stop: stopped,
            };
            lifeline.arm();
            let (slot, incarnation) = (lifeline.slot.clone(), lifeline.incarnation);
            let run = run(body, ctx, lifeline);
            let killer = Killer::Task(tokio::spawn(run).abort_handle());
            slot.set_killer(incarnation, killer.clone());
            Ok(Handle::new(killer, Stopper::Signal(stop), weak))
        })
    }
}

async fn run(body: Arc<Body>, ctx: TaskContext, lifeline: Arc<Lifeline>) {
    let stopped = ctx.stop.clone();
    let reason = match guarded_call(|| body(ctx)) {
        Ok(future) => guarded(future).await.map_or_else(|panic| panic, reason_of),
        Err(panic) => panic,
    };
    // A task that ends because it was asked to ends as OTP's children do.
    let reason =
        if reason == ExitReason::Normal && *stopped.borrow() { ExitReason::Shutdown } else { reason };
    lifeline.ends(reason);
}

impl fmt::Debug for TaskStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskStart")
    }
}
