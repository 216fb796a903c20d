//! A child of its own for each signal.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use gemba_core::breaker::Outcome;
use gemba_kernel::{DynamicRef, DynamicSupervisor, Supervisor};
use tokio::sync::oneshot;

use crate::action::{Action, JobContext};
use crate::follow_up::FollowUp;

/// Does the work of another action in a temporary child, one for each signal: it starts when a worker has taken the
/// signal, has a place and a history of its own in the tree, can be killed by itself, and is gone when it is done
/// (pattern 1B of the requirements: `simple_one_for_one`).
///
/// The worker waits for its child, so that all else is as for any action: no more children than workers, one answer,
/// the deadline, the breaker, the permit. A child that panics or is killed takes its worker along, and the caller is
/// told that the outcome is unknown. A child that nobody waits for any more, because its time is up or its worker
/// was killed, ends at its next `await`.
///
/// A hop and a start cost some microseconds, where a worker has none; use it where a signal deserves to be seen.
///
/// # Units and limits
///
/// As many children as the pools of the line have workers. A temporary child is never restarted; what counts
/// crashes is the pool that loses workers ([`PoolSpec::intensity`](crate::PoolSpec::intensity), 10 in 60 s unless it
/// says otherwise), and so says the supervisor of the children.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::convert::Infallible;
///
/// use gemba_flow::{Action, JobContext, LineSpec, PerSignal, Plant, PoolSpec, Signal};
/// use gemba_kernel::Node;
///
/// struct Double;
///
/// impl Action for Double {
///     type Input = u32;
///     type Output = u32;
///     type Error = Infallible;
///
///     async fn run(&self, n: u32, _: &JobContext) -> Result<u32, Infallible> {
///         Ok(2 * n)
///     }
/// }
///
/// let node = Node::builder("example");
/// let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("double"));
/// let (action, children) = PerSignal::new("doubles", Double);
/// let line = plant.line(LineSpec::<_>::new("double", action));
/// // Before the plant: it stops after it.
/// let node = node.child(children).child(plant.build().unwrap()).start().await.unwrap();
/// # for _ in 0..100 {
/// #     if line.submit(Signal::new(0), &()).await.is_ok() { break; }
/// # }
/// assert_eq!(line.submit(Signal::new(21), &()).await.unwrap(), 42);
/// # node.stop("done").await.unwrap();
/// # });
/// ```
#[doc(alias = "simple_one_for_one")]
pub struct PerSignal<A> {
    action: Arc<A>,
    children: DynamicRef,
}

impl<A: Action> PerSignal<A> {
    /// The action to give to a line, and the supervisor of its children, to be put into the tree before the plant.
    pub fn new(name: &str, action: A) -> (Self, DynamicSupervisor) {
        let children = Supervisor::dynamic(name).intensity(10, Duration::from_secs(60));
        (Self { action: Arc::new(action), children: children.handle() }, children)
    }
}

impl<A: Action> Action for PerSignal<A> {
    type Input = A::Input;
    type Output = A::Output;
    type Error = A::Error;

    async fn run(&self, input: A::Input, job: &JobContext) -> Result<A::Output, A::Error> {
        let (action, job) = (self.action.clone(), job.clone());
        // It goes when this future does, whatever ends it.
        let (_waits, nobody_waits) = oneshot::channel::<()>();
        let work = async move {
            match select(nobody_waits, pin!(action.run(input, &job))).await {
                Either::Left(_) => None,
                Either::Right((result, _)) => Some(result),
            }
        };
        // A panic says it to the caller and to the supervisor of the worker: the outcome is unknown.
        let child = self.children.run(work).await.unwrap_or_else(|error| panic!("no child for it: {error}"));
        let result = child.await.unwrap_or_else(|reason| panic!("its child ended: {reason}"));
        result.expect("this future waits for it")
    }

    fn follow_up(&self, output: &A::Output, job: &JobContext) -> Option<FollowUp> {
        self.action.follow_up(output, job)
    }

    fn class(&self, error: &A::Error) -> &'static str {
        self.action.class(error)
    }

    fn judge(&self, result: &Result<A::Output, A::Error>) -> Outcome {
        self.action.judge(result)
    }
}

impl<A> fmt::Debug for PerSignal<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerSignal").field("children", &self.children).finish_non_exhaustive()
    }
}
