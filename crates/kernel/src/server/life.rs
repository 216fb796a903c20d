//! One life of a server: its loop, from `init` to `terminate`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::machine::Alarm;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::context::Context;
use super::{Server, TERMINATE_LIMIT};
use crate::exit::{Stop, Why, guarded, guarded_call, reason_of};
use crate::lifeline::Lifeline;
use crate::start::NoStart;
use crate::sys::Wants;
use crate::vitals::{Stage, StopOrder, Vitals, at_work, flag};

/// How many messages a server handles before it reads the clock.
const BATCH: u32 = 64;

/// How long a server that always has work keeps its thread before it gives way to others.
const TURN: Duration = Duration::from_millis(1);

/// One life of a server. Fields are dropped in this order: the lifeline goes last, when all the life
/// held is released.
pub(super) struct Life<S: Server> {
    pub server: S,
    pub receiver: mpsc::Receiver<S::Msg>,
    pub context: Context<S::Msg>,
    pub vitals: Arc<Vitals>,
    pub work: Work,
    pub lifeline: Arc<Lifeline>,
}

/// Where a life is in its work.
#[derive(Default)]
pub(super) struct Work {
    /// Messages handled.
    handled: u64,
    /// Messages taken from the mailbox.
    received: u64,
    /// Continuations since the last message of another kind.
    chained: u32,
    suspended: bool,
    /// When the present turn began; `None` after a wait.
    turn: Option<Instant>,
    /// Whether it has had its turn.
    is_tired: bool,
    /// Wakes for a timer; made for the first one.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What the life does next.
enum Next<M> {
    Handle(M),
    /// The turn of a state machine's time-out has come.
    Ring(Alarm),
    /// There is something on the control lane.
    Attend,
}

impl<S: Server> Life<S> {
    /// Runs `init`; an error says why no life comes of it.
    pub(super) async fn init(&mut self) -> Result<(), Stop> {
        let vitals = self.vitals.clone();
        vitals.enter(Stage::Init, Instant::now());
        let result = match guarded(at_work(&vitals, self.server.init(&mut self.context))).await {
            Ok(result) => result,
            Err(panic) => Err(Stop(Why::Ends(panic))),
        };
        vitals.enter(Stage::Serve, Instant::now());
        vitals.pause();
        result
    }

    /// Lets go of a life that did not come to run. This is the supervisor's task: no panic may reach that.
    pub(super) fn declined(self, stop: Stop) -> NoStart {
        let no_start = NoStart::from(stop);
        let reason = match &no_start {
            NoStart::Failed(reason) => reason.clone(),
            NoStart::Ignored => ExitReason::Normal,
        };
        self.lifeline.ends(reason);
        // What the state says about being dropped does not change why it did not run.
        let _ = guarded_call(move || drop(self));
        no_start
    }

    pub(super) async fn run(mut self) {
        let vitals = self.vitals.clone();
        let order = match guarded(at_work(&vitals, self.serve())).await {
            Ok(order) => order,
            Err(panic) => StopOrder { reason: panic, is_limited: false },
        };
        let reason = self.terminate(&vitals, order).await;
        let Self { server, receiver, context, work, lifeline, .. } = self;
        let reason = match guarded_call(move || drop((server, receiver, context, work))) {
            Ok(()) => reason,
            Err(panic) => panic,
        };
        lifeline.ends(reason);
    }

    /// Lets the server clean up. What goes wrong here is the reason of the exit.
    async fn terminate(&mut self, vitals: &Vitals, order: StopOrder) -> ExitReason {
        vitals.enter(Stage::Terminate, Instant::now());
        let terminating = guarded(at_work(vitals, self.server.terminate(&order.reason)));
        let terminated = if order.is_limited {
            Ok(terminating.await)
        } else {
            tokio::time::timeout(TERMINATE_LIMIT, terminating).await
        };
        match terminated {
            Ok(Ok(())) => order.reason,
            Ok(Err(panic)) => panic,
            Err(_) => ExitReason::Killed,
        }
    }

    async fn serve(&mut self) -> StopOrder {
        if let Err(stop) = self.aside(None).await {
            return StopOrder { reason: reason_of(Err(stop)), is_limited: false };
        }
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Attend => {
                    if let Some(order) = self.attend() {
                        return order;
                    }
                }
                Next::Handle(message) => {
                    if let Err(stop) = self.handle_batch(message).await {
                        return StopOrder { reason: reason_of(Err(stop)), is_limited: false };
                    }
                    self.give_way().await;
                }
                Next::Ring(alarm) => {
                    if let Err(stop) = self.aside(Some(alarm)).await {
                        return StopOrder { reason: reason_of(Err(stop)), is_limited: false };
                    }
                    self.give_way().await;
                }
            }
        }
    }

    /// What comes first: a continuation, the control lane, a timer that is due, the mailbox and what takes
    /// its turn in it, alarms and signals, quiet.
    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Next<S::Msg>> {
        if self.work.chained < BATCH
            && !self.work.suspended
            && let Some(message) = self.context.agenda().continuation()
        {
            self.work.chained += 1;
            return Poll::Ready(Next::Handle(message));
        }
        let flags = self.vitals.flags_or_wake(cx.waker());
        let level = if self.work.suspended { flag::SUSPEND } else { 0 };
        if flags & flag::CONTROL != level {
            return Poll::Ready(Next::Attend);
        }
        if self.work.suspended {
            return Poll::Pending;
        }
        if let Some(message) = self.context.agenda().continuation() {
            self.work.chained = 0;
            return Poll::Ready(Next::Handle(message));
        }
        let is_time = self.poll_time(cx);
        let agenda = self.context.agenda();
        if is_time && let Some(message) = agenda.due(Instant::now(), agenda.newest()) {
            return Poll::Ready(Next::Handle(message));
        }
        let alarms = self.context.alarms();
        if is_time {
            alarms.look(Instant::now(), self.work.received + self.receiver.len() as u64);
        }
        if let Some(alarm) = alarms.turn(self.work.received) {
            return Poll::Ready(Next::Ring(alarm));
        }
        if let Some(make) = self.context.inbox.next(self.work.received) {
            return Poll::Ready(Next::Handle(make()));
        }
        if let Poll::Ready(message) = self.receiver.poll_recv(cx) {
            self.work.received += 1;
            return Poll::Ready(Next::Handle(message.expect("the context holds a sender")));
        }
        if is_time && let Some(message) = self.context.agenda().quiet(Instant::now()) {
            return Poll::Ready(Next::Handle(message));
        }
        self.work.turn = None;
        Poll::Pending
    }

    /// Whether something that was planned is due; if not, the life will be woken then.
    fn poll_time(&mut self, cx: &mut task::Context<'_>) -> bool {
        let planned = self.context.agenda().next();
        let Some(at) = planned.into_iter().chain(self.context.alarms().next()).min() else { return false };
        let sleep = self.work.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        // The clock, too: a thread that always has work may not have turned the wheel of timers.
        sleep.as_mut().poll(cx).is_ready() || at <= Instant::now()
    }

    /// Handles what is there already, up to a bound, without going back to sleep between: timers that are
    /// due, then the mailbox.
    async fn handle_batch(&mut self, first: S::Msg) -> Result<(), Stop> {
        let begun = Instant::now();
        self.vitals.begin(self.work.handled + 1, begun);
        let agenda = self.context.agenda();
        let newest = agenda.is_due(begun).then(|| agenda.newest());
        let before = self.work.handled;
        let mut received = 0;
        let mut flags = self.vitals.flags();
        let mut next = Some(first);
        let mut result = Ok(());
        while let Some(message) = next {
            self.work.handled += 1;
            self.vitals.takes(self.work.handled);
            self.context.agenda().disturb();
            result = if flags & flag::OBSERVE == 0 {
                self.server.handle(message, &mut self.context).await
            } else {
                self.handle_observed(message).await
            };
            flags = self.vitals.flags();
            next = if result.is_ok() { self.following(flags, &mut received, begun, newest) } else { None };
        }
        self.vitals.pause();
        let ended = Instant::now();
        self.work.is_tired = ended.duration_since(*self.work.turn.get_or_insert(begun)) >= TURN;
        self.lifeline.slot.meter.count(self.work.handled - before, ended.duration_since(begun));
        result
    }

    /// The message to handle right after another, if there is one at hand.
    fn following(
        &mut self,
        flags: u32,
        received: &mut u32,
        begun: Instant,
        newest: Option<u64>,
    ) -> Option<S::Msg> {
        let agenda = self.context.agenda();
        if agenda.has_continuation() {
            if self.work.chained == BATCH {
                return None;
            }
            self.work.chained += 1;
            return agenda.continuation();
        }
        self.work.chained = 0;
        if flags & flag::CONTROL != 0 {
            return None;
        }
        if let Some(newest) = newest
            && let Some(message) = agenda.due(begun, newest)
        {
            return Some(message);
        }
        *received += 1;
        if *received == BATCH || self.context.alarms().is_turn(self.work.received) {
            return None;
        }
        let message = self.receiver.try_recv().ok()?;
        self.work.received += 1;
        Some(message)
    }

    /// What a state machine does aside from messages: it begins, and its alarms ring.
    async fn aside(&mut self, alarm: Option<Alarm>) -> Result<(), Stop> {
        let begun = Instant::now();
        self.work.handled += u64::from(alarm.is_some());
        self.vitals.begin(self.work.handled, begun);
        self.vitals.takes(self.work.handled);
        self.context.agenda().disturb();
        let result = match alarm {
            Some(alarm) => self.server.ring(alarm, &mut self.context).await,
            None => self.server.begin(&mut self.context).await,
        };
        self.vitals.pause();
        let ended = Instant::now();
        self.work.is_tired = ended.duration_since(*self.work.turn.get_or_insert(begun)) >= TURN;
        self.lifeline.slot.meter.count(u64::from(alarm.is_some()), ended.duration_since(begun));
        result
    }

    #[cold]
    async fn handle_observed(&mut self, message: S::Msg) -> Result<(), Stop> {
        let begun = Instant::now();
        let wants = self.vitals.wants(begun);
        let text = wants.any().then(|| {
            // A text that fails must not end the server.
            guarded_call(|| S::describe(&message)).unwrap_or("(its description failed)".into())
        });
        if let (Some(text), Wants { traced: true, .. }) = (&text, wants) {
            self.vitals.show(self.work.handled, self.context.system().unix_ms(), text);
        }
        let result = self.server.handle(message, &mut self.context).await;
        if let (Some(text), Wants { counted: true, .. }) = (text, wants) {
            self.vitals.count(text, begun.elapsed());
        }
        result
    }

    /// Does what came over the control lane; an order if the life is to stop.
    fn attend(&mut self) -> Option<StopOrder> {
        self.work.chained = 0;
        let flags = self.vitals.flags();
        if flags & flag::STOP != 0 {
            return self.vitals.stop_order();
        }
        if flags & flag::STATE != 0 {
            self.vitals.lower(flag::STATE);
            for question in self.vitals.take_questions() {
                // Whoever asked may have given up.
                let _ = question.send(guarded_call(|| self.server.describe_state()));
            }
        }
        if flags & flag::PROBE != 0 {
            self.vitals.lower(flag::PROBE);
            self.vitals.answer_probes();
        }
        if flags & flag::SIGNAL != 0 {
            self.vitals.lower(flag::SIGNAL);
            self.context.inbox.notice(self.work.received + self.receiver.len() as u64);
        }
        let suspended = flags & flag::SUSPEND != 0;
        if suspended != self.work.suspended {
            self.work.suspended = suspended;
            self.vitals.set_suspended(suspended);
        }
        None
    }

    /// Lets others have the thread, if this life has had it for long.
    async fn give_way(&mut self) {
        if std::mem::take(&mut self.work.is_tired) {
            self.work.turn = None;
            tokio::task::yield_now().await;
        }
    }
}
