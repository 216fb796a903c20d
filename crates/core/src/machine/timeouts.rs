//! The time-outs of a state machine: one for its state, one for quiet, any number with names.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::time::Timestamp;

/// Which time-out. Each runs at most once at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timeout<N> {
    /// The one a change of state cancels.
    State,
    /// The one any event cancels.
    Event,
    /// One of those that nothing cancels but the machine.
    Named(N),
}

impl<T: Into<Cow<'static, str>>> From<T> for Timeout<Cow<'static, str>> {
    fn from(name: T) -> Self {
        Self::Named(name.into())
    }
}

/// When a time-out is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So long from now. Zero is before the next message, and needs no timer.
    After(Duration),
    /// At this moment. One that has passed is over at once, behind the messages that are there already.
    At(Timestamp),
}

impl From<Duration> for When {
    fn from(delay: Duration) -> Self {
        Self::After(delay)
    }
}

impl From<Timestamp> for When {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

/// One start of one time-out. A start has an alarm of its own, so one that rings too late is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm(pub(super) u64);

/// What is to be done with a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Let it ring at this moment, through the mailbox.
    Arm {
        /// What rings.
        alarm: Alarm,
        /// When.
        at: Timestamp,
    },
    /// It is not waited for any more; if it rings all the same, nothing happens.
    Disarm {
        /// What need not ring.
        alarm: Alarm,
    },
}

/// What is to become of a time-out.
#[derive(Debug)]
pub(super) enum Change<E> {
    Start(When, E),
    Cancel,
    Update(E),
}

#[derive(Debug)]
struct Running<E, N> {
    timeout: Timeout<N>,
    content: E,
    /// It is over already, and waits in `zero`.
    is_zero: bool,
}

#[derive(Debug)]
pub(super) struct Timeouts<E, N> {
    state: Option<Alarm>,
    event: Option<Alarm>,
    named: BTreeMap<N, Alarm>,
    running: BTreeMap<Alarm, Running<E, N>>,
    /// Those over before the next message, the oldest first.
    zero: VecDeque<Alarm>,
    started: u64,
    commands: Vec<Command>,
}

impl<E, N: Clone + Ord> Timeouts<E, N> {
    pub(super) const fn new() -> Self {
        Self {
            state: None,
            event: None,
            named: BTreeMap::new(),
            running: BTreeMap::new(),
            zero: VecDeque::new(),
            started: 0,
            commands: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, timeout: Timeout<N>, change: Change<E>, now: Timestamp) {
        match change {
            Change::Start(when, content) => self.start(timeout, when, content, now),
            Change::Cancel => self.cancel(&timeout),
            Change::Update(content) => self.update(timeout, content, now),
        }
    }

    pub(super) fn cancel(&mut self, timeout: &Timeout<N>) {
        let Some(alarm) = self.unlist(timeout) else { return };
        let running = self.running.remove(&alarm);
        if running.is_some_and(|running| running.is_zero) {
            self.zero.retain(|other| *other != alarm);
        } else {
            self.commands.push(Command::Disarm { alarm });
        }
    }

    /// The oldest time-out that is over and needed no timer.
    pub(super) fn pop_zero(&mut self) -> Option<E> {
        let alarm = self.zero.pop_front()?;
        self.take(alarm)
    }

    pub(super) fn ring(&mut self, alarm: Alarm) -> Option<E> {
        self.take(alarm)
    }

    pub(super) fn commands(&mut self) -> impl Iterator<Item = Command> {
        self.commands.drain(..)
    }

    fn start(&mut self, timeout: Timeout<N>, when: When, content: E, now: Timestamp) {
        self.cancel(&timeout);
        self.started += 1;
        let alarm = Alarm(self.started);
        let is_zero = when == When::After(Duration::ZERO);
        match when {
            _ if is_zero => self.zero.push_back(alarm),
            When::After(delay) => self.commands.push(Command::Arm { alarm, at: now + delay }),
            When::At(at) => self.commands.push(Command::Arm { alarm, at }),
        }
        self.list(timeout.clone(), alarm);
        self.running.insert(alarm, Running { timeout, content, is_zero });
    }

    fn update(&mut self, timeout: Timeout<N>, content: E, now: Timestamp) {
        let running = self.listed(&timeout).and_then(|alarm| self.running.get_mut(&alarm));
        match running {
            Some(running) => running.content = content,
            None => self.start(timeout, When::After(Duration::ZERO), content, now),
        }
    }

    fn take(&mut self, alarm: Alarm) -> Option<E> {
        let running = self.running.remove(&alarm)?;
        self.unlist(&running.timeout);
        Some(running.content)
    }

    fn listed(&self, timeout: &Timeout<N>) -> Option<Alarm> {
        match timeout {
            Timeout::State => self.state,
            Timeout::Event => self.event,
            Timeout::Named(name) => self.named.get(name).copied(),
        }
    }

    fn list(&mut self, timeout: Timeout<N>, alarm: Alarm) {
        match timeout {
            Timeout::State => self.state = Some(alarm),
            Timeout::Event => self.event = Some(alarm),
            Timeout::Named(name) => {
                self.named.insert(name, alarm);
            }
        }
    }

    fn unlist(&mut self, timeout: &Timeout<N>) -> Option<Alarm> {
        match timeout {
            Timeout::State => self.state.take(),
            Timeout::Event => self.event.take(),
            Timeout::Named(name) => self.named.remove(name),
        }
    }
}
