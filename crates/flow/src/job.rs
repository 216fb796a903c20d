//! A job: one signal on its way, which ends in exactly one answer because its `Drop` gives one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;
use gemba_kernel::System;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::action::{Action, JobContext};
use crate::guard::Guard;
use crate::permit::Permit;

/// What comes back from a job.
pub(crate) enum Answer<A: Action> {
    /// The action ran to its end.
    Done(Result<A::Output, A::Error>),
    /// The action ran out of time; what it had begun may have happened.
    TimedOut,
    /// The action was not started, and its input comes back with the permit.
    Returned { input: A::Input, permit: Permit, because: Because },
}

/// Why a job came back unstarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    /// Whoever held it ended: a dispatcher or a worker between two lives.
    HolderDied,
    /// The pool's queue is full, or a higher tier took its place there.
    QueueFull,
    /// Its deadline passed while it waited.
    Expired,
    /// The breaker is open.
    BreakerOpen { retry_in: Duration },
    /// As many calls to the downstream are in flight as it bears.
    Busy { retry_in: Duration },
}

/// A job of any line, as pools and workers see it.
pub(crate) struct Job {
    pub tier: Tier,
    pub deadline: Timestamp,
    work: Box<dyn Work>,
}

impl Job {
    /// A job, and where its answer will come. No answer at all means that the worker died in the action.
    pub(crate) fn new<A: Action>(
        order: Order<A>,
        tier: Tier,
        deadline: Timestamp,
    ) -> (Self, oneshot::Receiver<Answer<A>>) {
        let (sender, answer) = oneshot::channel();
        let span = tracing::Span::current();
        let work = Box::new(Typed { order: Some(order), answer: Some(sender), deadline, span });
        (Self { tier, deadline, work }, answer)
    }

    /// Runs the action and answers.
    pub(crate) fn run(self) -> BoxFuture<'static, ()> {
        self.work.run()
    }

    /// Whether nobody waits for its answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.work.is_abandoned()
    }

    /// Gives the input back unstarted.
    pub(crate) fn give_back(self, because: Because) {
        self.work.give_back(because);
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("tier", &self.tier)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

trait Work: Send {
    fn run(self: Box<Self>) -> BoxFuture<'static, ()>;
    fn give_back(self: Box<Self>, because: Because);
    fn is_abandoned(&self) -> bool;
}

/// What is to be done.
pub(crate) struct Order<A: Action> {
    pub action: Arc<A>,
    pub guard: Arc<Guard>,
    pub system: System,
    pub input: A::Input,
    pub permit: Permit,
}

struct Typed<A: Action> {
    /// Taken when the action starts.
    order: Option<Order<A>>,
    answer: Option<oneshot::Sender<Answer<A>>>,
    deadline: Timestamp,
    span: tracing::Span,
}

impl<A: Action> Typed<A> {
    fn answer(&mut self, answer: Answer<A>) {
        if let Some(sender) = self.answer.take() {
            // A caller that is gone takes its answer with it; the permit is released all the same.
            let _ = sender.send(answer);
        }
    }

    fn hand_back(&mut self, because: Because) {
        if let Some(Order { input, permit, .. }) = self.order.take() {
            self.answer(Answer::Returned { input, permit, because });
        }
    }

    async fn execute(mut self) {
        if self.is_abandoned() {
            return;
        }
        let Some(order) = &self.order else { return };
        let left = self.deadline.since(order.system.now());
        if left.is_zero() {
            return self.hand_back(Because::Expired);
        }
        let pass = match order.guard.enter() {
            Ok(pass) => pass,
            Err(because) => return self.hand_back(because),
        };
        let Some(Order { action, system, input, permit, .. }) = self.order.take() else { return };
        let context = JobContext { system, deadline: self.deadline };
        let answer = if let Ok(result) = tokio::time::timeout(left, action.run(input, &context)).await {
            pass.spend(action.judge(&result));
            Answer::Done(result)
        } else {
            drop(pass);
            Answer::TimedOut
        };
        // Before the answer: a caller that has it may count on the room.
        drop(permit);
        self.answer(answer);
    }
}

impl<A: Action> Work for Typed<A> {
    fn run(self: Box<Self>) -> BoxFuture<'static, ()> {
        let span = tracing::debug_span!(target: "gemba::signal", parent: &self.span, "execute_action");
        Box::pin(self.execute().instrument(span))
    }

    fn give_back(mut self: Box<Self>, because: Because) {
        self.hand_back(because);
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl<A: Action> Drop for Typed<A> {
    fn drop(&mut self) {
        self.hand_back(Because::HolderDied);
    }
}
