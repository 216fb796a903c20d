//! A cell: one signal between its caller and its worker. The input goes one way, exactly one answer the other.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gemba_core::time::Timestamp;
use tokio::time::Sleep;

use crate::action::Action;
use crate::job::{Answer, Because, Station, Trace};
use crate::permit::Permit;
use crate::sync::{Mutex, MutexGuard};

/// How much longer than the deadline a caller waits for the worker to say that time is up. A worker whose
/// thread is blocked cannot.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// Where a job is, and where its caller waits.
pub(crate) struct Seat<A: Action> {
    pub station: Arc<Station<A>>,
    pub deadline: Timestamp,
    pub trace: Trace,
    inner: Mutex<Inner<A>>,
}

struct Inner<A: Action> {
    phase: Phase<A>,
    waker: Option<Waker>,
    /// Whether nobody else sees to it that the caller does not wait for ever.
    is_alone: bool,
}

enum Phase<A: Action> {
    /// Not started.
    Waiting {
        input: A::Input,
        permit: Permit,
        /// Ends with the waiting.
        queue: tracing::Span,
    },
    Running,
    Answered(Answer<A>),
    /// The answer was taken, or nobody waits for it.
    Over,
}

impl<A: Action> Seat<A> {
    /// A job that is not started, and its caller's side.
    pub(crate) fn new(
        station: Arc<Station<A>>,
        input: A::Input,
        permit: Permit,
        deadline: Timestamp,
        trace: Trace,
    ) -> (Arc<Self>, Ticket<A>) {
        let queue = if trace.span.is_disabled() {
            tracing::Span::none()
        } else {
            tracing::debug_span!(target: "gemba::signal", parent: &trace.span, "await_worker")
        };
        let inner = Inner { phase: Phase::Waiting { input, permit, queue }, waker: None, is_alone: false };
        let seat = Arc::new(Self { station, deadline, trace, inner: Mutex::new(inner) });
        (seat.clone(), Ticket { seat, timer: None, is_over: false })
    }

    fn inner(&self) -> MutexGuard<'_, Inner<A>> {
        self.inner.lock().expect("nothing panics while it holds a seat")
    }

    /// Takes what is to be done; `None` if it is not to be done any more.
    pub(crate) fn begin(&self) -> Option<(A::Input, Permit)> {
        let mut inner = self.inner();
        match std::mem::replace(&mut inner.phase, Phase::Running) {
            Phase::Waiting { input, permit, queue } => {
                // A subscriber is told of the end of a span: not while the seat is held.
                drop(inner);
                drop(queue);
                Some((input, permit))
            }
            other @ (Phase::Running | Phase::Answered(_) | Phase::Over) => {
                inner.phase = other;
                None
            }
        }
    }

    /// Answers what was begun. An answer that nobody waits for, or that comes second, is dropped.
    pub(crate) fn answer(&self, answer: Answer<A>) {
        let mut inner = self.inner();
        if let Phase::Running = inner.phase {
            inner.phase = Phase::Answered(answer);
            let waker = inner.waker.take();
            drop(inner);
            wake(waker);
        }
    }

    /// Gives back what was not begun.
    pub(crate) fn give_back(&self, because: Because) {
        let mut inner = self.inner();
        match std::mem::replace(&mut inner.phase, Phase::Over) {
            Phase::Waiting { input, permit, queue } => {
                inner.phase = Phase::Answered(Answer::Returned { input, permit, because });
                let waker = inner.waker.take();
                drop(inner);
                drop(queue);
                wake(waker);
            }
            other @ (Phase::Running | Phase::Answered(_) | Phase::Over) => inner.phase = other,
        }
    }

    /// The deadline is over, and so is the time in which the worker would have said so.
    pub(crate) fn overdue(&self) {
        self.give_back(Because::Expired);
        self.answer(Answer::TimedOut);
    }

    /// From now on the caller sees to it alone that it does not wait for ever.
    pub(crate) fn leave_alone(&self) {
        let mut inner = self.inner();
        inner.is_alone = true;
        let waker = inner.waker.take();
        drop(inner);
        wake(waker);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.inner().phase, Phase::Over)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The caller's side: a future of the answer.
///
/// It has no timer: the pool's dispatcher looks for jobs that are overdue, because a timer for each signal costs
/// more than all else of it. When there is no dispatcher, the caller is told, and sets one.
///
/// # Cancel safety
///
/// Dropping it withdraws a job that was not begun, and releases its permit.
pub(crate) struct Ticket<A: Action> {
    seat: Arc<Seat<A>>,
    timer: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl<A: Action> Ticket<A> {
    /// From now on it has a timer of its own.
    pub(crate) fn leave_alone(&self) {
        self.seat.leave_alone();
    }

    /// The answer; if it is not there, `None`, and whether to look at the clock.
    fn take(&self, waker: &Waker) -> Result<Answer<A>, bool> {
        let mut inner = self.seat.inner();
        match std::mem::replace(&mut inner.phase, Phase::Over) {
            Phase::Answered(answer) => Ok(answer),
            other @ (Phase::Waiting { .. } | Phase::Running | Phase::Over) => {
                inner.phase = other;
                if !inner.waker.as_ref().is_some_and(|present| present.will_wake(waker)) {
                    inner.waker = Some(waker.clone());
                }
                Err(inner.is_alone)
            }
        }
    }
}

impl<A: Action> Future for Ticket<A> {
    type Output = Answer<A>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<A>> {
        loop {
            match self.take(cx.waker()) {
                Ok(answer) => {
                    self.is_over = true;
                    return Poll::Ready(answer);
                }
                Err(false) => return Poll::Pending,
                Err(true) => {
                    let seat = self.seat.clone();
                    let timer = self.timer.get_or_insert_with(|| {
                        let left = seat.deadline.since(seat.station.system.now());
                        Box::pin(tokio::time::sleep(left + ANSWER_GRACE))
                    });
                    std::task::ready!(timer.as_mut().poll(cx));
                    seat.overdue();
                }
            }
        }
    }
}

impl<A: Action> Drop for Ticket<A> {
    fn drop(&mut self) {
        if !self.is_over {
            // What it held is released outside the lock.
            let phase = std::mem::replace(&mut self.seat.inner().phase, Phase::Over);
            drop(phase);
        }
    }
}

#[cfg(test)]
mod tests {
    use gemba_core::breaker::BreakerRules;
    use gemba_core::burn_rate::Objective;
    use gemba_core::name::{ActorPath, Name};
    use gemba_kernel::{Node, Publisher};

    use super::*;
    use crate::action::JobContext;
    use crate::follow_up::{FOLLOW_UP_WITHIN, FollowUps};
    use crate::gate::Gate;
    use crate::guard::Guard;
    use crate::line::{DEADLINE, LineCell};
    use crate::meters::Meters;
    use crate::permit::Ceiling;
    use crate::phases::Phases;
    use crate::rate::{RateGate, Rates};
    use crate::tally::Account;

    struct Echo;

    #[derive(Debug, thiserror::Error)]
    #[error("never")]
    struct Never;

    impl Action for Echo {
        type Input = u32;
        type Output = u32;
        type Error = Never;

        async fn run(&self, n: u32, _: &JobContext) -> Result<u32, Never> {
            Ok(n)
        }
    }

    const PATIENCE: Duration = Duration::from_secs(1);

    /// A signal that is in flight, due in [`PATIENCE`].
    fn seat(ceiling: &Arc<Ceiling>) -> (Arc<Seat<Echo>>, Ticket<Echo>) {
        let system = Node::builder("test").system().clone();
        let name = Name::new("echo").unwrap();
        let path = ActorPath::new("/plant").unwrap();
        let guard = Guard::new(name.clone(), path, BreakerRules::default(), None, system.clone());
        let deadline = system.now() + PATIENCE;
        let cell = Arc::new(LineCell {
            name,
            gate: Gate::open(DEADLINE),
            meter: Meters::new(["echo"]),
            guard,
            phases: Phases::new(),
            follow_ups: FollowUps::new(FOLLOW_UP_WITHIN),
            rate: RateGate::new(&Rates::default()).unwrap(),
            account: Account::default(),
            objective: Publisher::new(Objective::default()),
            built: Default::default(),
        });
        let station = Arc::new(Station { action: Echo, cell, system });
        let permit = ceiling.admit(gemba_core::admission::Tier::Normal).unwrap();
        Seat::new(
            station,
            7,
            permit,
            deadline,
            Trace { span: tracing::Span::none(), context: None, sent: None },
        )
    }

    fn ceiling() -> Arc<Ceiling> {
        Ceiling::new(gemba_core::admission::Limits::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_counts_and_what_was_not_begun_comes_back_whole() {
        let ceiling = ceiling();
        let (waiting, ticket) = seat(&ceiling);
        waiting.answer(Answer::WorkerDied);
        waiting.give_back(Because::QueueFull);
        waiting.overdue();
        assert!(waiting.begin().is_none(), "it went back");
        let Answer::Returned { input: 7, permit, because: Because::QueueFull } = ticket.await else {
            panic!("it was not begun")
        };
        assert_eq!(ceiling.in_flight(), 1);
        drop(permit);
        assert_eq!(ceiling.in_flight(), 0);

        let (running, ticket) = seat(&ceiling);
        let (7, permit) = running.begin().unwrap() else { panic!("it is the input") };
        assert!(running.begin().is_none(), "nobody begins it twice");
        running.give_back(Because::HolderDied);
        running.answer(Answer::Done { result: Ok(8), respond: None });
        running.answer(Answer::WorkerDied);
        assert!(matches!(ticket.await, Answer::Done { result: Ok(8), .. }));
        drop(permit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_frees_its_permit_unless_the_action_runs() {
        let ceiling = ceiling();
        let (waiting, ticket) = seat(&ceiling);
        drop(ticket);
        assert!(waiting.is_abandoned() && waiting.begin().is_none());
        assert_eq!(ceiling.in_flight(), 0);

        let (running, ticket) = seat(&ceiling);
        let (_, permit) = running.begin().unwrap();
        drop(ticket);
        running.answer(Answer::Done { result: Ok(8), respond: None });
        assert_eq!(ceiling.in_flight(), 1, "the action's permit");
        drop(permit);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_left_alone_answers_itself_when_its_time_is_up() {
        let ceiling = ceiling();
        for begun in [false, true] {
            let (seat, ticket) = seat(&ceiling);
            let asked = tokio::time::Instant::now();
            let held = begun.then(|| seat.begin().unwrap());
            let waiting = tokio::spawn(ticket);
            tokio::time::sleep(PATIENCE / 2).await;
            assert!(!waiting.is_finished());
            seat.leave_alone();
            match waiting.await.unwrap() {
                Answer::TimedOut => assert!(begun),
                Answer::Returned { because, .. } => assert_eq!((begun, because), (false, Because::Expired)),
                Answer::Done { .. } | Answer::WorkerDied => panic!("nobody answered"),
            }
            let waited = asked.elapsed();
            assert!(PATIENCE + ANSWER_GRACE <= waited && waited < 2 * PATIENCE, "{waited:?}");
            drop(held);
        }
        assert_eq!(ceiling.in_flight(), 0);
    }
}
