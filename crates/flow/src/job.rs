//! A job: one signal on its way, which ends in exactly one answer because its `Drop` gives one.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::admission::Tier;
use gemba_core::breaker::Outcome;
use gemba_core::crew::Task;
use gemba_core::leveller::TurnedOut;
use gemba_core::queue::Tenant;
use gemba_core::time::Timestamp;
use gemba_core::trace::TraceContext;
use gemba_kernel::System;
use tokio::time::Sleep;
use tracing::Instrument;

use crate::action::{Action, JobContext, Site};
use crate::follow_up::FollowUp;
use crate::line::LineCell;
use crate::permit::Permit;
use crate::phases::Phase;
use crate::seat::{Seat, Ticket};

/// What comes back from a job.
pub(crate) enum Answer<A: Action> {
    /// The action ran to its end.
    Done { result: Result<A::Output, A::Error>, respond: Option<Box<Respond>> },
    /// The action ran out of time; what it had begun may have happened.
    TimedOut,
    /// The worker died in the action; what it had begun may have happened.
    WorkerDied,
    /// The action was not started, and its input comes back with the permit.
    Returned { input: A::Input, permit: Permit, because: Because },
}

/// An answer on its way to its caller, of a signal that is timed or traced.
pub(crate) struct Respond {
    pub ended: Timestamp,
    /// Ends when the caller has the answer.
    #[expect(dead_code, reason = "a span tells its end when it is dropped")]
    span: tracing::Span,
}

/// Why a job came back unstarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    /// Whoever held it ended: a dispatcher or a worker between two lives.
    HolderDied,
    /// The pool's queue is full.
    QueueFull,
    /// Its wait would leave it too little time, or has done so.
    TurnedOut { why: TurnedOut, retry_after: Duration },
    /// Its deadline passed before it was started.
    Expired,
    /// The breaker is open.
    BreakerOpen { retry_in: Duration },
    /// As many calls to the downstream are in flight as it bears.
    Busy { retry_in: Duration },
}

/// How a run came out, as far as its worker is concerned.
pub(crate) struct Ran {
    pub ended: Timestamp,
    /// How long it kept the worker busy; `None` if the action was not started.
    pub took: Option<Duration>,
    /// What is still to be done, now that the caller has its answer, and how long it takes.
    follow_up: Option<BoxFuture<'static, Duration>>,
}

impl Ran {
    /// Does what follows, if something does: the worker is busy with it too.
    pub(crate) async fn follow_up(&mut self) {
        if let Some(work) = self.follow_up.take() {
            let longer = work.await;
            self.ended = self.ended + longer;
            self.took = self.took.map(|took| took + longer);
        }
    }
}

/// What somebody wants to know of a signal.
pub(crate) struct Trace {
    pub span: tracing::Span,
    /// What its caller said of it, for its action.
    pub context: Option<Box<TraceContext>>,
    /// When it was sent to a pool, if it is timed.
    pub sent: Option<Timestamp>,
}

/// What the jobs of a line have in common.
pub(crate) struct Station<A> {
    pub action: A,
    pub cell: Arc<LineCell>,
    pub system: System,
}

/// A job of any line, as pools and workers see it.
pub(crate) struct Job {
    tier: Tier,
    tenant: Tenant,
    deadline: Timestamp,
    /// Taken when a worker starts it, or when it is given back.
    seat: Option<Arc<dyn Work>>,
}

impl Job {
    /// A job, and where its answer will come.
    pub(crate) fn new<A: Action>(
        station: Arc<Station<A>>,
        input: A::Input,
        permit: Permit,
        (tier, tenant): (Tier, Tenant),
        deadline: Timestamp,
        trace: Trace,
    ) -> (Self, Ticket<A>) {
        let (seat, ticket) = Seat::new(station, input, permit, deadline, trace);
        (Self { tier, tenant, deadline, seat: Some(seat) }, ticket)
    }

    /// Runs the action and answers.
    pub(crate) fn run(mut self) -> BoxFuture<'static, Ran> {
        self.seat.take().expect("it is taken once").run()
    }

    /// Whether nobody waits for its answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.is_abandoned())
    }

    /// Gives the input back unstarted.
    pub(crate) fn give_back(mut self, because: Because) {
        if let Some(seat) = self.seat.take() {
            seat.give_back(because);
        }
    }
}

impl Task for Job {
    type Trace = Arc<dyn Work>;

    fn tier(&self) -> Tier {
        self.tier
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn trace(&self) -> Arc<dyn Work> {
        self.seat.clone().expect("only a job that nobody has started is queued or given")
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            seat.give_back(Because::HolderDied);
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("tier", &self.tier)
            .field("tenant", &self.tenant)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A seat, whatever its line.
pub(crate) trait Work: Send + Sync {
    fn run(self: Arc<Self>) -> BoxFuture<'static, Ran>;
    fn give_back(&self, because: Because);
    fn is_abandoned(&self) -> bool;
    /// Answers, because nobody else did in time.
    fn overdue(&self);
    /// Tells the caller that nobody else looks after it.
    fn leave_alone(&self);
}

impl<A: Action> Work for Seat<A> {
    fn run(self: Arc<Self>) -> BoxFuture<'static, Ran> {
        let holder = Holder { seat: self, is_answered: false };
        if holder.seat.trace.span.is_disabled() {
            return Box::pin(execute(holder));
        }
        let parent = &holder.seat.trace.span;
        let span = tracing::debug_span!(target: "gemba::signal", parent: parent, "execute_action",
            breaker = tracing::field::Empty,
            judged = tracing::field::Empty,
        );
        Box::pin(execute(holder).instrument(span))
    }

    fn give_back(&self, because: Because) {
        Seat::give_back(self, because);
    }

    fn is_abandoned(&self) -> bool {
        Seat::is_abandoned(self)
    }

    fn overdue(&self) {
        Seat::overdue(self);
    }

    fn leave_alone(&self) {
        Seat::leave_alone(self);
    }
}

impl<A: Action> Site for Seat<A> {
    fn system(&self) -> &System {
        &self.station.system
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn trace(&self) -> Option<&TraceContext> {
        self.trace.context.as_deref()
    }
}

/// A job in the hands of a worker: whatever ends it without an answer, a panic or a kill, is an answer.
struct Holder<A: Action> {
    seat: Arc<Seat<A>>,
    is_answered: bool,
}

impl<A: Action> Drop for Holder<A> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.seat.give_back(Because::HolderDied);
            self.seat.answer(Answer::WorkerDied);
        }
    }
}

async fn execute<A: Action>(mut holder: Holder<A>) -> Ran {
    let Holder { seat, is_answered } = &mut holder;
    let Station { action, cell, system } = &*seat.station;
    let begun = system.now();
    let not_begun = Ran { ended: begun, took: None, follow_up: None };
    if seat.deadline <= begun {
        *is_answered = true;
        seat.give_back(Because::Expired);
        return not_begun;
    }
    let pass = match cell.guard.enter(begun) {
        Ok(pass) => {
            note(seat, "breaker", pass.word());
            pass
        }
        Err(because) => {
            let busy = matches!(because, Because::Busy { .. });
            note(seat, "breaker", if busy { "busy" } else { "open" });
            *is_answered = true;
            seat.give_back(because);
            return not_begun;
        }
    };
    let Some((input, permit)) = seat.begin() else {
        // Its caller went away.
        *is_answered = true;
        pass.spend(Outcome::Ignored, begun);
        return not_begun;
    };
    if let Some(sent) = seat.trace.sent {
        cell.phases.record(Phase::Queue, begun.since(sent));
    }
    let context = JobContext(seat.clone());
    let result = in_time(action.run(input, &context), &context).await;
    let ended = system.now();
    let mut follow_up = None;
    let answer = if let Some(result) = result {
        let judged = action.judge(&result);
        note(seat, "judged", judged.word());
        pass.spend(judged, ended);
        follow_up = result.as_ref().ok().and_then(|output| action.follow_up(output, &context));
        Answer::Done { result, respond: respond(seat, begun, ended) }
    } else {
        note(seat, "judged", Outcome::Failure.word());
        drop(pass);
        Answer::TimedOut
    };
    // Before the answer: a caller that has it may count on the room.
    drop(permit);
    *is_answered = true;
    seat.answer(answer);
    let follow_up = follow_up.map(|work| follow(seat.clone(), work));
    Ran { ended, took: Some(ended.since(begun)), follow_up }
}

/// Says on the span of the action what its breaker decided, and what it learnt. A span of its own would cost more than
/// the decision it shows.
fn note<A: Action>(seat: &Seat<A>, field: &str, word: &'static str) {
    if !seat.trace.span.is_disabled() {
        tracing::Span::current().record(field, word);
    }
}

/// What times and traces the answer, of a signal of which somebody wants to know.
fn respond<A: Action>(seat: &Seat<A>, begun: Timestamp, ended: Timestamp) -> Option<Box<Respond>> {
    let Trace { span, sent, .. } = &seat.trace;
    if sent.is_none() && span.is_disabled() {
        return None;
    }
    if sent.is_some() {
        seat.station.cell.phases.record(Phase::Execute, ended.since(begun));
    }
    let span = tracing::debug_span!(target: "gemba::signal", parent: span, "respond");
    Some(Box::new(Respond { ended, span }))
}

/// Does what follows a success, and tells how long it took. Apart, so that only a job that has it has room for it.
fn follow<A: Action>(seat: Arc<Seat<A>>, work: FollowUp) -> BoxFuture<'static, Duration> {
    Box::pin(async move {
        let Station { cell, system, .. } = &*seat.station;
        let begun = system.now();
        // Of a signal that nobody traces, what follows would be a trace of its own.
        let span = if seat.trace.span.is_disabled() {
            tracing::Span::none()
        } else {
            tracing::debug_span!(target: "gemba::signal", parent: &seat.trace.span, "follow_up")
        };
        cell.follow_ups.run(work).instrument(span).await;
        let took = system.now().since(begun);
        cell.phases.record(Phase::FollowUp, took);
        took
    })
}

/// What `work` comes to; `None` if the deadline is first. The timer is set when the work first has to wait: much
/// of it never does.
async fn in_time<T>(work: impl Future<Output = T>, context: &JobContext) -> Option<T> {
    let (mut work, mut limit) = (pin!(work), pin!(None::<Sleep>));
    poll_fn(|cx| {
        if let Poll::Ready(result) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        if limit.is_none() {
            limit.set(Some(tokio::time::sleep(context.remaining())));
        }
        limit.as_mut().as_pin_mut().map_or(Poll::Pending, |limit| limit.poll(cx).map(|()| None))
    })
    .await
}
