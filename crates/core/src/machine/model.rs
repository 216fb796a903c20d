//! The engine against OTP's rules told naively: random machines, every step of both compared.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{Alarm, Command, Engine, Next, Steps, Timeout, Turn, When};
use crate::time::Timestamp;

const STATES: usize = 3;
const EVENTS: usize = 6;
/// Where a run that inserts for ever is cut off, in both.
const HANDLED_MAX: usize = 80;
/// One unit of time; below it, every start has a number of its own, so that no two are over together.
const UNIT: u64 = 1000;

type Key = Timeout<u8>;

#[derive(Debug, Clone, Copy)]
enum Act {
    Insert(usize),
    Postpone,
    Start(Key, u64, usize),
    StartAt(Key, u64, usize),
    Cancel(Key),
    Update(Key, usize),
}

/// What a random machine does with one event in one state.
#[derive(Debug, Clone)]
struct Script {
    acts: Vec<Act>,
    next: Next<usize>,
}

#[derive(Debug, Clone)]
struct Program {
    on_event: Vec<Vec<Script>>,
    on_enter: Vec<Vec<Act>>,
}

/// What happens outside of the machine.
#[derive(Debug, Clone, Copy)]
enum Outside {
    Send(usize),
    Wait(u64),
    Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Entered { from: usize, to: usize },
    Handled { state: usize, event: usize },
}

/// OTP's rules over plain lists, searched from the front.
struct Naive<'a> {
    program: &'a Program,
    state: usize,
    queue: Vec<usize>,
    postponed: Vec<usize>,
    /// Timers that run: which, its number, when, what.
    timers: Vec<(Key, u64, u64, usize)>,
    /// Time-outs over before the next message.
    zero: Vec<(Key, usize)>,
    mailbox: Vec<Letter>,
    now: u64,
    started: u64,
    trace: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letter {
    Event(usize),
    /// A timer's message; it stays listed among the timers until it is handled or flushed.
    Timer(u64),
}

impl Naive<'_> {
    fn wait(&mut self, units: u64) {
        self.now += units * UNIT;
        self.deliver();
    }

    fn deliver(&mut self) {
        let mut over: Vec<_> = self.timers.iter().filter(|timer| timer.2 <= self.now).copied().collect();
        over.sort_by_key(|timer| timer.2);
        for (_, number, _, _) in over {
            if !self.mailbox.contains(&Letter::Timer(number)) {
                self.mailbox.push(Letter::Timer(number));
            }
        }
    }

    fn work(&mut self) {
        while !self.mailbox.is_empty() {
            let event = match self.mailbox.remove(0) {
                Letter::Event(event) => event,
                Letter::Timer(number) => {
                    let found = self.timers.iter().position(|timer| timer.1 == number).unwrap();
                    self.timers.remove(found).3
                }
            };
            self.handle(event);
            self.drain();
        }
    }

    fn drain(&mut self) {
        loop {
            if !self.queue.is_empty() {
                let event = self.queue.remove(0);
                self.handle(event);
            } else if !self.zero.is_empty() {
                let (_, event) = self.zero.remove(0);
                self.handle(event);
            } else {
                return;
            }
        }
    }

    fn handle(&mut self, event: usize) {
        if self.trace.len() >= HANDLED_MAX {
            return;
        }
        self.trace.push(Step::Handled { state: self.state, event });
        let script = self.program.on_event[self.state][event].clone();
        let (old, mut acts) = (self.state, script.acts);
        let enters = match script.next {
            Next::Keep => false,
            Next::Repeat => true,
            Next::Goto(state) => {
                self.state = state;
                state != old
            }
        };
        if enters {
            acts.extend(self.enter(old));
        }
        if acts.iter().any(|act| matches!(act, Act::Postpone)) {
            self.postponed.push(event);
        }
        self.finish(old != self.state, &acts);
    }

    fn enter(&mut self, from: usize) -> Vec<Act> {
        self.trace.push(Step::Entered { from, to: self.state });
        self.program.on_enter[self.state].clone()
    }

    fn finish(&mut self, changed: bool, acts: &[Act]) {
        self.flush(Timeout::Event);
        if changed {
            self.flush(Timeout::State);
            self.postponed.append(&mut self.queue);
            std::mem::swap(&mut self.queue, &mut self.postponed);
        }
        for (place, act) in acts.iter().enumerate() {
            let later = &acts[place + 1..];
            if let Some(key) = key_of(act)
                && !later.iter().any(|other| key_of(other) == Some(key))
            {
                self.timeout(key, act);
            }
        }
        let inserted = acts.iter().filter_map(|act| if let Act::Insert(e) = act { Some(*e) } else { None });
        self.queue = inserted.chain(self.queue.iter().copied()).collect();
        self.deliver();
    }

    fn timeout(&mut self, key: Key, act: &Act) {
        let started = self.started + 1;
        match *act {
            Act::Start(_, 0, event) => {
                self.flush(key);
                self.zero.push((key, event));
            }
            Act::Start(_, units, event) => {
                self.flush(key);
                self.timers.push((key, started, self.now + units * UNIT + started, event));
            }
            Act::StartAt(_, units, event) => {
                self.flush(key);
                self.timers.push((key, started, units * UNIT + started, event));
                self.deliver();
            }
            Act::Cancel(_) => return self.flush(key),
            Act::Update(_, event) => {
                if let Some(timer) = self.timers.iter_mut().find(|timer| timer.0 == key) {
                    timer.3 = event;
                    return;
                }
                match self.zero.iter_mut().find(|zero| zero.0 == key) {
                    Some(zero) => {
                        zero.1 = event;
                        return;
                    }
                    None => self.zero.push((key, event)),
                }
            }
            Act::Insert(_) | Act::Postpone => return,
        }
        self.started = started;
    }

    /// Stops a time-out, and takes its message out of the mailbox.
    fn flush(&mut self, key: Key) {
        let numbers: Vec<_> =
            self.timers.iter().filter(|timer| timer.0 == key).map(|timer| timer.1).collect();
        self.mailbox.retain(|letter| !numbers.iter().any(|number| *letter == Letter::Timer(*number)));
        self.timers.retain(|timer| timer.0 != key);
        self.zero.retain(|zero| zero.0 != key);
    }
}

fn key_of(act: &Act) -> Option<Key> {
    match act {
        Act::Start(key, ..) | Act::StartAt(key, ..) | Act::Cancel(key) | Act::Update(key, _) => Some(*key),
        Act::Insert(_) | Act::Postpone => None,
    }
}

/// The engine, driven as the kernel drives it, with alarms that ring through a mailbox.
struct Driven<'a> {
    program: &'a Program,
    engine: Engine<usize, usize, u8>,
    steps: Steps<usize, u8>,
    mailbox: VecDeque<Result<usize, Alarm>>,
    alarms: Vec<(Timestamp, Alarm)>,
    now: u64,
    trace: Vec<Step>,
}

impl Driven<'_> {
    fn wait(&mut self, units: u64) {
        self.now += units * UNIT;
        self.alarms.sort();
        self.deliver();
    }

    fn deliver(&mut self) {
        let now = Timestamp::from_nanos(self.now);
        let over: Vec<_> = self.alarms.iter().filter(|(at, _)| *at <= now).copied().collect();
        self.alarms.retain(|(at, _)| *at > now);
        self.mailbox.extend(over.into_iter().map(|(_, alarm)| Err(alarm)));
    }

    fn work(&mut self) {
        while let Some(letter) = self.mailbox.pop_front() {
            let mut next = match letter {
                Ok(event) => Some(event),
                Err(alarm) => self.engine.ring(alarm),
            };
            while let Some(event) = next {
                self.handle(event);
                next = self.engine.pop();
            }
        }
    }

    fn handle(&mut self, event: usize) {
        if self.trace.len() >= HANDLED_MAX {
            return;
        }
        self.trace.push(Step::Handled { state: *self.engine.state(), event });
        let script = self.program.on_event[*self.engine.state()][event].clone();
        self.ask(&script.acts, Some(event));
        let turn = self.engine.turn(script.next);
        self.finish(&turn);
    }

    fn ask(&mut self, acts: &[Act], event: Option<usize>) {
        let mut postponed = false;
        for act in acts {
            match *act {
                Act::Insert(event) => self.steps.insert(event),
                Act::Postpone => postponed = true,
                Act::Start(key, units, event) => {
                    self.steps.start(key, When::After(Duration::from_nanos(units * UNIT)), event);
                }
                Act::StartAt(key, units, event) => {
                    self.steps.start(key, When::At(Timestamp::from_nanos(units * UNIT)), event);
                }
                Act::Cancel(key) => self.steps.cancel(key),
                Act::Update(key, event) => self.steps.update(key, event),
            }
        }
        if let (true, Some(event)) = (postponed, event) {
            self.steps.postpone(event);
        }
    }

    fn finish(&mut self, turn: &Turn<usize>) {
        let from = match turn {
            Turn::Stays => None,
            Turn::Again => Some(*self.engine.state()),
            Turn::From(old) => Some(*old),
        };
        if let Some(from) = from {
            let to = *self.engine.state();
            self.trace.push(Step::Entered { from, to });
            let acts = self.program.on_enter[to].clone();
            self.ask(&acts, None);
        }
        self.engine.settle(turn, &mut self.steps, Timestamp::from_nanos(self.now)).unwrap();
        for command in self.engine.commands().collect::<Vec<_>>() {
            // An alarm that is not waited for rings all the same here: it must do nothing.
            if let Command::Arm { alarm, at } = command {
                self.alarms.push((at + Duration::from_nanos(alarm.0), alarm));
            }
        }
        self.deliver();
    }
}

fn a_key() -> impl Strategy<Value = Key> {
    prop_oneof![Just(Timeout::State), Just(Timeout::Event), (0..2_u8).prop_map(Timeout::Named)]
}

fn a_timeout() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (a_key(), 0..4_u64, 0..EVENTS).prop_map(|(key, units, event)| Act::Start(key, units, event)),
        1 => (a_key(), 0..9_u64, 0..EVENTS).prop_map(|(key, units, event)| Act::StartAt(key, units, event)),
        2 => a_key().prop_map(Act::Cancel),
        2 => (a_key(), 0..EVENTS).prop_map(|(key, event)| Act::Update(key, event)),
    ]
}

fn a_script() -> impl Strategy<Value = Script> {
    let act = prop_oneof![
        2 => (0..EVENTS).prop_map(Act::Insert),
        2 => Just(Act::Postpone),
        4 => a_timeout(),
    ];
    let next = prop_oneof![
        3 => Just(Next::Keep),
        1 => Just(Next::Repeat),
        3 => (0..STATES).prop_map(Next::Goto),
    ];
    (option::of(vec(act, 0..4)), next)
        .prop_map(|(acts, next)| Script { acts: acts.unwrap_or_default(), next })
}

fn a_program() -> impl Strategy<Value = Program> {
    (vec(vec(a_script(), EVENTS), STATES), vec(vec(a_timeout(), 0..3), STATES))
        .prop_map(|(on_event, on_enter)| Program { on_event, on_enter })
}

fn a_world() -> impl Strategy<Value = Vec<Outside>> {
    let outside = prop_oneof![
        4 => (0..EVENTS).prop_map(Outside::Send),
        2 => (1..4_u64).prop_map(Outside::Wait),
        3 => Just(Outside::Work),
    ];
    vec(outside, 0..40)
}

proptest! {
    #[test]
    fn the_engine_does_what_otps_rules_say(program in a_program(), world in a_world(), first in any::<bool>()) {
        let state = usize::from(first);
        let mut naive = Naive {
            program: &program, state, queue: Vec::new(), postponed: Vec::new(), timers: Vec::new(),
            zero: Vec::new(), mailbox: Vec::new(), now: 0, started: 0, trace: Vec::new(),
        };
        let mut driven = Driven {
            program: &program, engine: Engine::new(state, 1024), steps: Steps::default(),
            mailbox: VecDeque::new(), alarms: Vec::new(), now: 0, trace: Vec::new(),
        };
        let acts = naive.enter(state);
        naive.finish(false, &acts);
        naive.drain();
        driven.finish(&Turn::Again);
        while let Some(event) = driven.engine.pop() {
            driven.handle(event);
        }
        for outside in world.into_iter().chain([Outside::Wait(9), Outside::Work]) {
            match outside {
                Outside::Send(event) => {
                    naive.mailbox.push(Letter::Event(event));
                    driven.mailbox.push_back(Ok(event));
                }
                Outside::Wait(units) => {
                    naive.wait(units);
                    driven.wait(units);
                }
                Outside::Work => {
                    naive.work();
                    driven.work();
                }
            }
        }
        prop_assert_eq!(naive.trace, driven.trace);
    }
}
