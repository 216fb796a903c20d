//! One life of a server: its loop, from `init` to `terminate`.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::future::{AbortRegistration, Abortable, Aborted};
use futures_util::task::waker_ref;
use gemba_core::exit::ExitReason;
use gemba_core::machine::Alarm;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::agenda::Agenda;
use super::context::Context;
use super::{Server, TERMINATE_LIMIT};
use crate::exit::{Stop, Why, guarded, guarded_call, reason_of};
use crate::lifeline::Lifeline;
use crate::start::NoStart;
use crate::sys::Wants;
use crate::vitals::{Stage, StopOrder, Vitals, at_work, flag};

/// How many messages a server handles before it reads the clock.
const BATCH: u64 = 64;

/// How long a server that always has work keeps its thread before it gives way to others.
const TURN: Duration = Duration::from_millis(1);

/// How many batches it handles in that time at most.
const TURN_BATCHES: u32 = 64;

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
    chained: u64,
    suspended: bool,
    /// When the present turn began; `None` after a wait.
    turn: Option<Instant>,
    /// Batches in the present turn.
    batches: u32,
    /// Whether it has had its turn.
    is_tired: bool,
    last: Last,
    /// Wakes for a timer; made for the first one.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What the life did last, if that may be due again at once, and for ever.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Other,
    Timer,
    Alarm,
}

/// What the life does next.
enum Next<M> {
    Handle(M),
    /// The turn of a state machine's time-out has come.
    Ring(Alarm),
    /// There is something on the control lane.
    Attend,
}

/// What comes right after a message, in the same batch.
enum Following<M> {
    /// A continuation, or the message of a timer.
    Planned(M),
    /// Whatever the mailbox holds.
    Mailbox,
    /// The batch ends here.
    Nothing,
}

impl<S: Server> Life<S> {
    /// Runs `init`, which can be killed; an error says why no life comes of it.
    pub(super) async fn init(&mut self, killed: AbortRegistration) -> Result<(), Stop> {
        let vitals = self.vitals.clone();
        vitals.enter(Stage::Init, Instant::now());
        let mut init = pin!(Some(Abortable::new(self.server.init(&mut self.context), killed)));
        let result = match init.as_mut().as_pin_mut() {
            Some(init) => guarded(at_work(&vitals, init)).await,
            None => Ok(Err(Aborted)),
        };
        // As in `declined`: one that was killed drops what it held in here.
        let _ = guarded_call(|| init.set(None));
        vitals.enter(Stage::Serve, Instant::now());
        vitals.pause();
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(Aborted)) => Err(Stop(Why::Ends(self.lifeline.slot.doom_of(self.lifeline.incarnation)))),
            Err(panic) => Err(Stop(Why::Ends(panic))),
        }
    }

    /// Lets go of a life that did not come to run. This is the supervisor's task: no panic may reach that.
    pub(super) fn declined(self: Box<Self>, stop: Stop) -> NoStart {
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

    pub(super) async fn run(mut self: Box<Self>) {
        let vitals = self.vitals.clone();
        let order = match guarded(at_work(&vitals, pin!(self.serve()))).await {
            Ok(order) => order,
            Err(panic) => StopOrder { reason: panic, limit: Some(TERMINATE_LIMIT) },
        };
        let reason = self.terminate(&vitals, &order).await.unwrap_or(order.reason);
        let lifeline = self.lifeline.clone();
        let reason = match guarded_call(move || drop(self)) {
            Ok(()) => reason,
            Err(panic) => panic,
        };
        lifeline.ends(reason);
    }

    /// Lets the server clean up. What goes wrong here is the reason of the exit instead.
    async fn terminate(&mut self, vitals: &Vitals, order: &StopOrder) -> Option<ExitReason> {
        vitals.enter(Stage::Terminate, Instant::now());
        let terminating = pin!(self.server.terminate(&order.reason));
        let terminating = guarded(at_work(vitals, terminating));
        let terminated = match order.limit {
            None => Ok(terminating.await),
            Some(limit) => tokio::time::timeout(limit, terminating).await,
        };
        match terminated {
            Ok(Ok(())) => None,
            Ok(Err(panic)) => Some(panic),
            Err(_) => Some(ExitReason::Killed),
        }
    }

    async fn serve(&mut self) -> StopOrder {
        if let Err(stop) = self.aside(None).await {
            return StopOrder { reason: reason_of(Err(stop)), limit: Some(TERMINATE_LIMIT) };
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
                        return StopOrder { reason: reason_of(Err(stop)), limit: Some(TERMINATE_LIMIT) };
                    }
                    self.give_way().await;
                }
                Next::Ring(alarm) => {
                    if let Err(stop) = self.aside(Some(alarm)).await {
                        return StopOrder { reason: reason_of(Err(stop)), limit: Some(TERMINATE_LIMIT) };
                    }
                    self.give_way().await;
                }
            }
        }
    }

    /// What comes first: a continuation, the control lane, a timer that is due, the mailbox and what takes
    /// its turn in it, alarms and signals, quiet. But no timer or alarm goes again that is `yielding`.
    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Next<S::Msg>> {
        if self.context.is_planned
            && self.work.chained < BATCH
            && !self.work.suspended
            && let Some(message) = self.context.plans().and_then(Agenda::continuation)
        {
            self.work.chained += 1;
            return Poll::Ready(Next::Handle(message));
        }
        let flags = self.vitals.flags_or_wake(cx.waker());
        if flags & flag::TIMER != 0 {
            self.vitals.lower(flag::TIMER);
        }
        let level = if self.work.suspended { flag::SUSPEND } else { 0 };
        if flags & flag::CONTROL != level {
            return Poll::Ready(Next::Attend);
        }
        if self.work.suspended {
            return Poll::Pending;
        }
        if self.context.is_planned
            && let Some(message) = self.context.plans().and_then(Agenda::continuation)
        {
            self.work.chained = 0;
            return Poll::Ready(Next::Handle(message));
        }
        let is_time = self.poll_time();
        if is_time && let Some(alarms) = self.context.set_alarms() {
            alarms.look(Instant::now(), self.work.received + self.receiver.len() as u64);
        }
        let yielding = self.yielding();
        if is_time
            && yielding == Last::Other
            && let Some(message) = self.context.plans().and_then(|plans| plans.due(Instant::now(), None))
        {
            self.work.last = Last::Timer;
            return Poll::Ready(Next::Handle(message));
        }
        if yielding != Last::Alarm
            && let Some(alarms) = self.context.set_alarms()
            && let Some(alarm) = alarms.turn(self.work.received)
        {
            self.work.last = Last::Alarm;
            return Poll::Ready(Next::Ring(alarm));
        }
        if let Some(make) = self.context.inbox.next(self.work.received) {
            return Poll::Ready(Next::Handle(make()));
        }
        if let Poll::Ready(message) = self.receiver.poll_recv(cx) {
            self.work.received += 1;
            return Poll::Ready(Next::Handle(message.expect("the context holds a sender")));
        }
        // A mailbox that gives nothing may hold messages all the same, when this task has had its share for now.
        if is_time
            && self.receiver.is_empty()
            && let Some(message) = self.context.plans().and_then(|plans| plans.quiet(Instant::now()))
        {
            return Poll::Ready(Next::Handle(message));
        }
        (self.work.turn, self.work.batches) = (None, 0);
        if yielding != Last::Other {
            // Who waited has gone meanwhile, and what let it go first is still due.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// What lets others go first this time. Timers go before alarms, those before signals, and all before the
    /// mailbox; but after a timer comes what else waits, and after an alarm a signal if it is its turn. Otherwise a
    /// handler that takes longer than its own period would keep them waiting for ever.
    fn yielding(&mut self) -> Last {
        let last = std::mem::take(&mut self.work.last);
        let received = self.work.received;
        let others_wait = match last {
            Last::Other => false,
            Last::Timer => self.context.turn() <= received || !self.receiver.is_empty(),
            Last::Alarm => self.context.inbox.turn().is_some_and(|turn| turn <= received),
        };
        if others_wait { last } else { Last::Other }
    }

    /// Whether something that was planned is due; if not, the life will be told then.
    fn poll_time(&mut self) -> bool {
        let planned = self.context.plans().and_then(|plans| plans.next());
        let alarm = self.context.set_alarms().and_then(|alarms| alarms.next());
        let Some(at) = planned.into_iter().chain(alarm).min() else { return false };
        let sleep = self.work.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        // It wakes the life's flags and not just its task, so that a timer ends the batch in hand.
        let waker = waker_ref(&self.vitals);
        // The clock, too: a thread that always has work may not have turned the wheel of timers.
        sleep.as_mut().poll(&mut task::Context::from_waker(&waker)).is_ready() || at <= Instant::now()
    }

    /// Handles what is there already, up to a bound, without going back to sleep between: timers that are
    /// due, then the mailbox.
    async fn handle_batch(&mut self, first: S::Msg) -> Result<(), Stop> {
        let begun = Instant::now();
        self.vitals.begin(self.work.handled + 1, begun);
        let newest = self.context.plans().and_then(|plans| plans.newest_if_due(begun));
        let before = self.work.handled;
        // Alarms and signals take their turn among the messages.
        let last = self.context.turn().min(self.work.received + BATCH);
        let mut flags = self.vitals.flags();
        let mut message = first;
        let result = loop {
            self.work.handled += 1;
            self.vitals.takes(self.work.handled);
            self.context.disturb();
            if flags & flag::OBSERVE == 0 {
                if let Err(stop) = self.server.handle(message, &mut self.context).await {
                    break Err(stop);
                }
            } else if let Err(stop) = Box::pin(self.handle_observed(message)).await {
                // Apart, so that nobody has room for it while nobody looks.
                break Err(stop);
            }
            flags = self.vitals.flags();
            let mut planned = None;
            if flags & flag::URGENT != 0 || self.context.is_planned || newest.is_some() {
                match self.following(flags, begun, newest) {
                    Following::Planned(message) => planned = Some(message),
                    Following::Mailbox => {}
                    Following::Nothing => break Ok(()),
                }
            }
            message = match planned {
                Some(message) => message,
                None if self.work.received >= last => break Ok(()),
                None => match self.receiver.try_recv() {
                    Ok(message) => {
                        self.work.received += 1;
                        message
                    }
                    Err(_) => break Ok(()),
                },
            };
        };
        self.pause(begun, self.work.handled - before);
        result
    }

    /// Ends a batch: counts it, and tells whether this life has had its turn.
    fn pause(&mut self, begun: Instant, handled: u64) {
        self.vitals.pause();
        let ended = Instant::now();
        let busy = ended.duration_since(begun);
        let turn = self.work.turn.map_or(busy, |turn| ended.duration_since(turn));
        self.work.turn.get_or_insert(begun);
        self.work.batches += 1;
        self.work.is_tired = turn >= TURN || self.work.batches == TURN_BATCHES;
        self.lifeline.slot.meter.count(handled, busy);
    }

    /// What to handle right after another message, when it may not be the mailbox's turn.
    #[cold]
    fn following(&mut self, flags: u32, begun: Instant, newest: Option<u64>) -> Following<S::Msg> {
        if let Some(plans) = self.context.plans()
            && plans.has_continuation()
        {
            if self.work.chained == BATCH {
                return Following::Nothing;
            }
            self.work.chained += 1;
            return plans.continuation().map_or(Following::Nothing, Following::Planned);
        }
        self.work.chained = 0;
        self.context.is_planned = self.context.plans().is_some_and(|plans| plans.awaits_quiet());
        if flags & flag::URGENT != 0 {
            return Following::Nothing;
        }
        let due = newest.and_then(|newest| self.context.plans()?.due(begun, Some(newest)));
        due.map_or(Following::Mailbox, Following::Planned)
    }

    /// What a state machine does aside from messages: it begins, and its alarms ring.
    async fn aside(&mut self, alarm: Option<Alarm>) -> Result<(), Stop> {
        let begun = Instant::now();
        self.work.handled += u64::from(alarm.is_some());
        self.vitals.begin(self.work.handled, begun);
        self.vitals.takes(self.work.handled);
        let result = match alarm {
            Some(alarm) => {
                self.context.disturb();
                self.server.ring(alarm, &mut self.context).await
            }
            // What `init` has planned stands: no message has been handled.
            None => self.server.begin(&mut self.context).await,
        };
        self.pause(begun, u64::from(alarm.is_some()));
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
            (self.work.turn, self.work.batches) = (None, 0);
            tokio::task::yield_now().await;
        }
    }
}
