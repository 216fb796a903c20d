//! A cell: what one life of a server shows, and what it is told past its mailbox.
//!
//! This is the control lane: stops and questions wait here, not in the mailbox, so that they get through
//! while the mailbox is full. Between two messages the life looks at one word, which nobody else writes
//! unless there is something to be told.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::{ArcWake, AtomicWaker};
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::stuck::Busy;
use gemba_core::time::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::lifeline::Lifeline;
use crate::sys::{Observer, Wants};

/// How many questions about its state a life lets wait; more are refused.
pub(crate) const QUESTIONS_MAX: usize = 64;

/// What a life may have to look at between two messages.
pub(crate) mod flag {
    /// It is to stop.
    pub(crate) const STOP: u32 = 1;
    /// Somebody wants to know whether it got past the message in hand.
    pub(crate) const PROBE: u32 = 1 << 1;
    /// It is to leave its mailbox alone. Stays set as long as that holds.
    pub(crate) const SUSPEND: u32 = 1 << 2;
    /// Somebody asks for the text of its state.
    pub(crate) const STATE: u32 = 1 << 3;
    /// Somebody counts or traces its messages.
    pub(crate) const OBSERVE: u32 = 1 << 4;
    /// One it watches or is linked to has ended.
    pub(crate) const SIGNAL: u32 = 1 << 5;
    /// A timer is due.
    pub(crate) const TIMER: u32 = 1 << 6;
    /// What came over the control lane.
    pub(crate) const CONTROL: u32 = STOP | PROBE | SUSPEND | STATE | SIGNAL;
    /// What ends a batch.
    pub(crate) const URGENT: u32 = CONTROL | TIMER;
}

/// What a life does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Init = 0,
    Serve = 1,
    Terminate = 2,
}

/// What the state of a server says of itself; an error is a panic of the hook.
pub(crate) type StateText = Result<Option<String>, ExitReason>;

/// Why a life is to stop.
#[derive(Debug, Clone)]
pub(crate) struct StopOrder {
    pub reason: ExitReason,
    /// How long `terminate` may take; `None` if whoever asked kills in time, as a supervisor does.
    pub limit: Option<Duration>,
}

/// One life of a server, for those outside.
pub(crate) struct Vitals {
    pub path: ActorPath,
    pub incarnation: Incarnation,
    /// What it handles.
    pub message_type: &'static str,
    /// How long a handler may run before it is called stuck.
    pub stuck_after: Option<Duration>,
    epoch: Instant,
    flags: AtomicU32,
    stage: AtomicU32,
    suspended: AtomicBool,
    /// Wakes the life when it waits.
    waker: AtomicWaker,
    /// The number of the message in hand, or of the last one.
    message: AtomicU64,
    /// The number of the first message of the batch in hand.
    first: AtomicU64,
    /// When the batch in hand began; 0 while it waits.
    busy_since: AtomicU64,
    /// When the mailbox first refused a message since the life took one; 0 if it did not.
    full_since: AtomicU64,
    /// Made when somebody first asks for something.
    desk: Mutex<Option<Box<Desk>>>,
    lifeline: Weak<Lifeline>,
    reason: OnceLock<ExitReason>,
    /// Told at the end, and when a probe or a suspension has been seen.
    settled: Notify,
}

#[derive(Default)]
struct Desk {
    stop: Option<StopOrder>,
    questions: Vec<oneshot::Sender<StateText>>,
    observer: Option<Box<Observer>>,
}

impl Vitals {
    pub(crate) fn new(
        lifeline: &Arc<Lifeline>,
        message_type: &'static str,
        stuck_after: Option<Duration>,
    ) -> Arc<Self> {
        Arc::new(Self {
            path: lifeline.slot.path.clone(),
            incarnation: lifeline.incarnation,
            message_type,
            stuck_after,
            epoch: lifeline.system.epoch(),
            flags: AtomicU32::new(0),
            stage: AtomicU32::new(Stage::Init as u32),
            suspended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            message: AtomicU64::new(0),
            first: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            full_since: AtomicU64::new(0),
            desk: Mutex::new(None),
            lifeline: Arc::downgrade(lifeline),
            reason: OnceLock::new(),
            settled: Notify::new(),
        })
    }

    fn desk(&self) -> MutexGuard<'_, Option<Box<Desk>>> {
        self.desk.lock().expect("nothing panics while it holds a desk")
    }

    /// A moment as nanoseconds of the node's time; never 0, which stands for none.
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

/// What the life itself does with it.
impl Vitals {
    /// What there is to look at; one plain load.
    pub(crate) fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// The same, after the life has made sure that it will be woken by what comes later.
    pub(crate) fn flags_or_wake(&self, waker: &Waker) -> u32 {
        self.waker.register(waker);
        self.flags.load(Acquire)
    }

    pub(crate) fn lower(&self, flags: u32) {
        self.flags.fetch_and(!flags, AcqRel);
    }

    pub(crate) fn enter(&self, stage: Stage, at: Instant) {
        self.stage.store(stage as u32, Relaxed);
        self.first.store(self.message.load(Relaxed), Relaxed);
        self.busy_since.store(self.nanos(at), Relaxed);
    }

    /// A batch begins, with this message.
    pub(crate) fn begin(&self, first: u64, at: Instant) {
        self.first.store(first, Relaxed);
        self.busy_since.store(self.nanos(at), Relaxed);
        if self.full_since.load(Relaxed) != 0 {
            self.full_since.store(0, Relaxed);
        }
    }

    /// The next message is in hand.
    pub(crate) fn takes(&self, message: u64) {
        self.message.store(message, Relaxed);
    }

    /// The life has nothing in hand.
    pub(crate) fn pause(&self) {
        self.busy_since.store(0, Relaxed);
    }

    pub(crate) fn stop_order(&self) -> Option<StopOrder> {
        self.desk().as_ref()?.stop.clone()
    }

    pub(crate) fn take_questions(&self) -> Vec<oneshot::Sender<StateText>> {
        self.desk().as_mut().map(|desk| std::mem::take(&mut desk.questions)).unwrap_or_default()
    }

    /// Who wants the message that comes now.
    pub(crate) fn wants(&self, now: Instant) -> Wants {
        self.observer(|observer| {
            let wants = observer.as_mut().map(|observer| observer.wants(now));
            *observer = observer.take_if(|observer| !observer.is_idle());
            wants.unwrap_or_default()
        })
    }

    /// Shows a message to who traces.
    pub(crate) fn show(&self, number: u64, unix_ms: u64, text: &str) {
        self.observer(|observer| {
            if let Some(observer) = observer {
                observer.show(number, unix_ms, text);
            }
        });
    }

    /// Counts a message for the statistics.
    pub(crate) fn count(&self, text: Cow<'static, str>, took: Duration) {
        self.observer(|observer| {
            if let Some(observer) = observer {
                observer.count(text, took);
            }
        });
    }

    pub(crate) fn set_suspended(&self, suspended: bool) {
        self.suspended.store(suspended, Release);
        self.settled.notify_waiters();
    }

    /// Tells those who asked that the message they wondered about has been handled.
    pub(crate) fn answer_probes(&self) {
        self.settled.notify_waiters();
    }

    /// The life is over: its place is free, and everyone who waits is told.
    pub(crate) fn end(&self, reason: ExitReason) {
        self.pause();
        // The first reason is the right one.
        let _ = self.reason.set(reason);
        let desk = self.desk().take();
        // Outside the lock: this wakes those who asked.
        drop(desk);
        self.settled.notify_waiters();
    }
}

/// What others do with it.
impl Vitals {
    /// Lets the life see a flag at its next look.
    fn raise(&self, flags: u32) {
        self.flags.fetch_or(flags, AcqRel);
        self.waker.wake();
    }

    /// Tells the life that there is a signal for it.
    pub(crate) fn signal(&self) {
        self.raise(flag::SIGNAL);
    }

    /// Why the life ended, once it has.
    pub(crate) fn reason(&self) -> Option<&ExitReason> {
        self.reason.get()
    }

    /// Tells the life to stop. The first order counts, but one that comes with a limit lends it to all.
    pub(crate) fn stop(&self, order: StopOrder) {
        {
            let mut desk = self.desk();
            match &mut desk.get_or_insert_default().stop {
                Some(earlier) => {
                    earlier.limit = earlier.limit.zip(order.limit).map(|(one, other)| one.max(other));
                }
                none => *none = Some(order),
            }
        }
        self.raise(flag::STOP);
    }

    /// Kills the life, if it is there still.
    pub(crate) fn kill(&self) {
        let killer = self.lifeline.upgrade().and_then(|lifeline| lifeline.slot.killer());
        if let Some((_, killer)) = killer.filter(|(incarnation, _)| *incarnation == self.incarnation) {
            killer.kill();
        }
    }

    /// Waits for the end of the life.
    pub(crate) async fn ended(&self) -> ExitReason {
        self.settled_until(|vitals| vitals.reason().cloned()).await
    }

    /// Waits until the life is past the message in hand: `None` if it goes on, or why it ended.
    pub(crate) async fn probe(&self) -> Option<ExitReason> {
        self.raise(flag::PROBE);
        // Others are told at the same place; the life itself lowers the flag.
        self.settled_until(|vitals| match vitals.reason() {
            Some(reason) => Some(Some(reason.clone())),
            None => (vitals.flags() & flag::PROBE == 0).then_some(None),
        })
        .await
    }

    /// Asks the life to leave its mailbox alone, and waits until it does: `false` if it ended instead.
    pub(crate) async fn suspend(&self) -> bool {
        self.raise(flag::SUSPEND);
        self.settled_until(|vitals| {
            let is_withdrawn = vitals.flags() & flag::SUSPEND == 0;
            if vitals.reason().is_some() {
                Some(false)
            } else {
                (is_withdrawn || vitals.is_suspended()).then_some(true)
            }
        })
        .await
    }

    pub(crate) fn resume(&self) {
        self.lower(flag::SUSPEND);
        self.waker.wake();
        self.settled.notify_waiters();
    }

    async fn settled_until<T>(&self, done: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if let Some(done) = done(self) {
                return done;
            }
            settled.await;
        }
    }

    /// Asks for the text of the state: `None` if too many ask already, or nobody is there.
    pub(crate) fn ask_state(&self) -> Option<oneshot::Receiver<StateText>> {
        let (question, answer) = oneshot::channel();
        {
            let mut desk = self.desk();
            let desk = desk.get_or_insert_default();
            if desk.questions.len() >= QUESTIONS_MAX || self.reason().is_some() {
                return None;
            }
            desk.questions.push(question);
        }
        self.raise(flag::STATE);
        Some(answer)
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Acquire)
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Init,
            1 => Stage::Serve,
            _ => Stage::Terminate,
        }
    }

    /// What a life handles in its present stage.
    pub(crate) fn handles(&self) -> &'static str {
        match self.stage() {
            Stage::Init => "init",
            Stage::Serve => self.message_type,
            Stage::Terminate => "terminate",
        }
    }

    /// The number of the message in hand, or of the last one.
    pub(crate) fn message(&self) -> u64 {
        self.message.load(Relaxed)
    }

    /// What the life has in hand: which message, and since when it has not paused.
    pub(crate) fn busy(&self) -> Option<Busy> {
        let since = self.busy_since.load(Relaxed);
        let message = self.message.load(Relaxed);
        (since != 0).then(|| Busy {
            message: (message << 2) | self.stage() as u64,
            since: Timestamp::from_nanos(since),
            is_first: message == self.first.load(Relaxed),
        })
    }

    /// How long the mailbox has been full, as far as refusals tell; called for each refusal.
    pub(crate) fn full_for(&self) -> Duration {
        let now = self.nanos(Instant::now());
        match self.full_since.compare_exchange(0, now, Relaxed, Relaxed) {
            Ok(_) => Duration::ZERO,
            Err(since) => Duration::from_nanos(now.saturating_sub(since)),
        }
    }

    /// Does something with who observes the messages, and has them shown if anybody does.
    pub(crate) fn observer<T>(&self, change: impl FnOnce(&mut Option<Box<Observer>>) -> T) -> T {
        let mut desk = self.desk();
        let desk = desk.get_or_insert_default();
        let result = change(&mut desk.observer);
        if desk.observer.is_some() && self.reason().is_none() {
            self.flags.fetch_or(flag::OBSERVE, AcqRel);
        } else {
            desk.observer = None;
            self.flags.fetch_and(!flag::OBSERVE, AcqRel);
        }
        result
    }
}

/// As a waker, it tells a life that works through its mailbox that a timer is due.
impl ArcWake for Vitals {
    fn wake_by_ref(vitals: &Arc<Self>) {
        vitals.raise(flag::TIMER);
    }
}

thread_local! {
    /// The life this thread carries out just now, by the address of its vitals; 0 for none.
    static AT_WORK: Cell<usize> = const { Cell::new(0) };
}

struct AtWork(usize);

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.set(self.0);
    }
}

/// Runs `future` as this life, so that a call it makes to itself can be told. Takes it pinned: a future
/// handed over by value would have its room twice.
pub(crate) fn at_work<T>(
    vitals: &Vitals,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    let address = std::ptr::from_ref(vitals).addr();
    poll_fn(move |cx| {
        let _before = AtWork(AT_WORK.replace(address));
        future.as_mut().poll(cx)
    })
}

impl Vitals {
    /// Whether it is this very life that asks.
    pub(crate) fn is_asking(&self) -> bool {
        AT_WORK.get() == std::ptr::from_ref(self).addr()
    }
}

impl fmt::Debug for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vitals")
            .field("path", &self.path)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
