//! A cell: work that is done once under a supervisor, and its result.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::supervision::Restart;
use gemba_core::view::ActorKind;
use tokio::sync::oneshot;

use crate::bonds::Rank;
use crate::child::{ChildSpec, Shutdown};
use crate::exit::{Stop, guarded_call};
use crate::handle::{ChildError, DynamicRef};
use crate::shell::KILL_GRACE;
use crate::slot::Slot;
use crate::start::{Birth, Handle, NoStart, Start, Stopper};
use crate::task::{Stage, spawn};

/// Makes the work's future once its place is known.
type Work = Box<dyn FnOnce(Arc<Slot>, Incarnation) -> BoxFuture<'static, Result<(), Stop>> + Send>;

/// Work under way, and where its result arrives: the value, or why there is none. Never a panic of its own.
/// It gives its result once; after that it is never ready again.
///
/// Dropping it loses the result; the work goes on (Elixir: `Task.Supervisor.async_nolink`).
/// [`shutdown`](Self::shutdown) ends it.
///
/// # Cancel safety
///
/// A `&mut TaskHandle` may be awaited in a `select!`, dropped and awaited again.
#[must_use = "dropping the handle loses the result; the work goes on"]
pub struct TaskHandle<T> {
    path: ActorPath,
    incarnation: Incarnation,
    supervisor: DynamicRef,
    result: oneshot::Receiver<Result<T, ExitReason>>,
    /// The result has been read.
    is_over: bool,
}

impl DynamicRef {
    /// Starts `work` as a temporary child with a name of its own, and waits until it runs.
    ///
    /// It is stopped by being dropped at its next `await`, and has the reason `shutdown` then; work that
    /// needs to tidy up does so in `Drop`, or is a [`task`](crate::task).
    ///
    /// # Errors
    ///
    /// [`ChildError`]; nothing was started, except after [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request: the work may run all the same, and its result is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use gemba_kernel::{Node, Supervisor};
    ///
    /// let jobs = Supervisor::dynamic("jobs");
    /// let run = jobs.handle();
    /// let node = Node::builder("example").child(jobs).start().await.unwrap();
    /// let sum = run.run(async { 20 + 22 }).await.unwrap();
    /// assert_eq!(sum.await, Ok(42));
    /// let lost = run.run(async { panic!("no luck") }).await.unwrap();
    /// let reason = lost.await.map(|()| ()).unwrap_err();
    /// assert!(reason.to_string().ends_with("no luck"));
    /// # });
    /// ```
    #[doc(alias = "async_nolink")]
    pub async fn run<T, F>(&self, work: F) -> Result<TaskHandle<T>, ChildError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        // It only has to differ from the others; it says nothing of any node.
        static STARTED: AtomicU64 = AtomicU64::new(1);
        self.run_named(&format!("run-{}", STARTED.fetch_add(1, Relaxed)), work).await
    }

    /// [`run`](Self::run) under a name of the caller's; the name is free again when the work is over and
    /// its supervisor has seen that.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run); [`ChildError::AlreadyStarted`] while a child of this name is there, and
    /// [`ChildError::Spec`] for a name that cannot stand in a path.
    ///
    /// # Cancel safety
    ///
    /// As for [`run`](Self::run).
    pub async fn run_named<T, F>(&self, name: &str, work: F) -> Result<TaskHandle<T>, ChildError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (tell, result) = oneshot::channel();
        let work: Work = Box::new(move |slot, incarnation| {
            let teller = Teller { tell: Some(tell), slot, incarnation };
            work.map(move |value| {
                teller.done(value);
                Ok(())
            })
            .boxed()
        });
        let start = Arc::new(JobStart(Mutex::new(Some(work))));
        let mut child = ChildSpec::new(name, Shutdown::Within(Duration::from_secs(5)), start);
        child.restart = Restart::Temporary;
        let started = self.start_child(child).await?.expect("work never declines to run");
        let (path, incarnation) = (started.path, started.incarnation);
        Ok(TaskHandle { path, incarnation, supervisor: self.clone(), result, is_over: false })
    }
}

impl<T> TaskHandle<T> {
    /// Where the work stands in the tree.
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Which life it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The result, if it comes within this time; otherwise the work goes on, and may be awaited again
    /// (Elixir: `Task.yield`).
    ///
    /// # Cancel safety
    ///
    /// A result is never lost if the future is dropped.
    pub async fn await_within(&mut self, within: Duration) -> Option<Result<T, ExitReason>> {
        tokio::time::timeout(within, self).await.ok()
    }

    /// Ends the work, waits until it is gone, and gives its result: the value, if it was there before.
    ///
    /// # Errors
    ///
    /// Why there is no value: [`ExitReason::Shutdown`] if this ended it, or what ended it before.
    /// [`ExitReason::Error`] with the text of [`ChildError::Unkillable`] for work that never yields, which
    /// nobody can end, and with that of [`ChildError::Timeout`] if its supervisor does not answer.
    /// [`ExitReason::NoProc`] if the result was read before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn shutdown(mut self) -> Result<T, ExitReason> {
        if self.is_over {
            return Err(ExitReason::NoProc);
        }
        match self.supervisor.terminate_life(self.path.name(), self.incarnation).await {
            Ok(()) => self.await,
            // What is not there any more has told its result; but a supervisor that was killed may have left
            // behind work that never yields.
            Err(ChildError::NotFound { .. } | ChildError::NotRunning) => {
                self.await_within(KILL_GRACE).await.unwrap_or_else(|| {
                    let name = self.path.name().parse().expect("a path is made of names");
                    Err(ExitReason::error(&ChildError::Unkillable { name }))
                })
            }
            Err(error) => Err(ExitReason::error(&error)),
        }
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, ExitReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_over {
            return Poll::Pending;
        }
        let told = Pin::new(&mut self.result).poll(cx);
        self.is_over = told.is_ready();
        // Nobody to tell it: the work has never run.
        told.map(|told| told.unwrap_or(Err(ExitReason::NoProc)))
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("path", &self.path)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// Tells the result of the work, whatever becomes of it.
struct Teller<T: Send + 'static> {
    tell: Option<oneshot::Sender<Result<T, ExitReason>>>,
    slot: Arc<Slot>,
    incarnation: Incarnation,
}

impl<T: Send + 'static> Teller<T> {
    fn done(mut self, value: T) {
        if let Some(tell) = self.tell.take() {
            // Whoever has dropped the handle does not want it.
            let _ = tell.send(Ok(value));
        }
    }
}

impl<T: Send + 'static> Drop for Teller<T> {
    /// There is no value: why, is known when the life is over.
    fn drop(&mut self) {
        let Some(tell) = self.tell.take().filter(|tell| !tell.is_closed()) else { return };
        let tell = Box::new(move |down: crate::monitor::Down| {
            // As above.
            let _ = tell.send(Err(down.reason));
        });
        // Its life holds the place until this is over.
        let _ = self.slot.watch(Some(self.incarnation), Rank::Monitor, tell);
    }
}

/// Starts the work, once.
struct JobStart(Mutex<Option<Work>>);

impl Start for JobStart {
    fn kind(&self) -> ActorKind {
        ActorKind::Task
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        let work = self.0.lock().expect("nothing panics while it holds the work").take();
        let lifeline = birth.lifeline;
        Box::pin(ready(match work {
            Some(work) => {
                let work = work(lifeline.slot.clone(), lifeline.incarnation);
                Ok(spawn(Stage::Running(work), Stopper::Exit, lifeline))
            }
            None => Err(ExitReason::NoProc.into()),
        }))
    }
}

impl Drop for JobStart {
    /// Work that never ran is dropped in the supervisor's task: a panic must not reach that.
    fn drop(&mut self) {
        if let Ok(work) = self.0.get_mut() {
            let work = work.take();
            let _ = guarded_call(move || drop(work));
        }
    }
}
