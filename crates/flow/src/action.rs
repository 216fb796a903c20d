//! What a line does with a signal.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::breaker::Outcome;
use gemba_core::time::Timestamp;
use gemba_core::trace::TraceContext;
use gemba_kernel::System;

use crate::follow_up::FollowUp;
use crate::trace::trace_of;

/// The work of a line: what its workers run, behind the breaker.
///
/// A panic ends the worker, not the plant: the caller is told that the outcome is unknown, and the worker's
/// supervisor starts another.
pub trait Action: Send + Sync + 'static {
    /// What it needs.
    type Input: Send + 'static;
    /// What it gives.
    type Output: Send + 'static;
    /// How it fails.
    type Error: std::error::Error + Send + 'static;

    /// Does the work.
    ///
    /// # Errors
    ///
    /// Its own; the caller gets them as [`SubmitError::Failed`](crate::SubmitError::Failed).
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the signal's deadline passes and when the worker is killed. What it
    /// has begun outside this process may have happened.
    fn run(
        &self,
        input: Self::Input,
        job: &JobContext,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// What follows a success when the caller has its answer; by default nothing. It is asked before the answer is
    /// given and should only put together what is to be done: a panic here is one of the action.
    fn follow_up(&self, output: &Self::Output, job: &JobContext) -> Option<FollowUp> {
        let _ = (output, job);
        None
    }

    /// What kind of failure an error is, such as `not_sent` or `no_answer`: a name from a small set, for failures are
    /// counted by it, and `gemba review` shows which is the most frequent. By default all are one kind.
    ///
    /// # Units and limits
    ///
    /// [`CLASSES_MAX`](crate::CLASSES_MAX) classes for each line, with those that the runtime adds: `timed_out`,
    /// `worker_died`, and `other` for what has no place any more.
    fn class(&self, error: &Self::Error) -> &'static str {
        let _ = error;
        "error"
    }

    /// What the result says about the downstream. By default every error is a failure; a downstream that
    /// answers "no" is in good health and should be [`Outcome::Ignored`] or [`Outcome::Success`].
    fn judge(&self, result: &Result<Self::Output, Self::Error>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }
}

/// What an action knows of the job in hand.
#[derive(Clone)]
pub struct JobContext(pub(crate) Arc<dyn Site>);

/// Where a job is done.
pub(crate) trait Site: Send + Sync {
    fn system(&self) -> &System;
    fn deadline(&self) -> Timestamp;
    fn trace(&self) -> Option<&TraceContext>;
}

impl JobContext {
    /// The node.
    pub fn system(&self) -> &System {
        self.0.system()
    }

    /// How much time is left: what a call to a downstream gets.
    pub fn remaining(&self) -> Duration {
        self.0.deadline().since(self.system().now())
    }

    /// The trace the signal belongs to, as a call to a downstream passes it on in its header `traceparent`: from the
    /// span that is entered now where spans are exported, otherwise as the [signal](crate::Signal::trace) came with
    /// it. `None` if it came with none, and nobody exports it.
    pub fn trace(&self) -> Option<TraceContext> {
        trace_of(&tracing::Span::current()).or_else(|| self.0.trace().copied())
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext").field("deadline", &self.0.deadline()).finish_non_exhaustive()
    }
}
