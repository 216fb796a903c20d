//! A world in which starts and stops take a while, and which knows what a supervisor has promised.
//!
//! It keeps books of its own about who lives, who is to run and what was counted, and checks every command
//! against them. Its contract is the shell's: each start is reported once, and no report of an earlier start
//! comes while another is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::{Just, Strategy as Generator, any, prop_oneof};

use super::super::{
    AutoShutdown, Backoff, ChildKey, ChildRefusal, ChildRules, ChildStatus, Command, Flags, Strategy,
    Supervision,
};
use super::{Outcome, UNIT, name, no_luck, outcomes, reasons, rules};
use crate::exit::{ExitReason, Incarnation};
use crate::receipt::Seq;
use crate::time::Timestamp;

mod audit;
mod books;

/// One thing that happens. Whom it happens to is chosen by number among those it can happen to.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A start is over.
    Report(usize, Outcome),
    /// A life ends, even before its start was reported.
    Exit(usize, ExitReason),
    /// Somebody who was asked to stop has stopped.
    Stop(usize, ExitReason),
    /// A child ignores its kill.
    StopFails(usize),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Start(usize, ChildRules),
    Wait(u32),
    /// A retry comes that is due.
    Retry(usize),
    Resume,
    Shutdown,
    /// Something is reported that is not so, or not any more, or of somebody who is not there.
    Noise(usize, u8),
}

pub(super) fn steps(auto_shutdown: AutoShutdown) -> impl Generator<Value = Step> {
    let child = || 0usize..8;
    prop_oneof![
        40 => (child(), outcomes()).prop_map(|(child, outcome)| Step::Report(child, outcome)),
        24 => (child(), reasons()).prop_map(|(child, reason)| Step::Exit(child, reason)),
        24 => (child(), reasons()).prop_map(|(child, reason)| Step::Stop(child, reason)),
        3 => child().prop_map(Step::StopFails),
        6 => child().prop_map(Step::Terminate),
        6 => child().prop_map(Step::Restart),
        3 => child().prop_map(Step::Delete),
        8 => (child(), rules(auto_shutdown)).prop_map(|(name, rules)| Step::Start(name, rules)),
        12 => (0u32..9).prop_map(Step::Wait),
        12 => child().prop_map(Step::Retry),
        6 => Just(Step::Resume),
        1 => Just(Step::Shutdown),
        8 => (child(), any::<u8>()).prop_map(|(child, kind)| Step::Noise(child, kind)),
    ]
}

/// Hardly anything but crashes.
pub(super) fn storm() -> impl Generator<Value = Step> {
    let child = || 0usize..8;
    prop_oneof![
        20 => child().prop_map(|child| Step::Report(child, Outcome::Runs)),
        2 => (child(), outcomes()).prop_map(|(child, outcome)| Step::Report(child, outcome)),
        8 => child().prop_map(|child| Step::Exit(child, ExitReason::Killed)),
        16 => (child(), reasons()).prop_map(|(child, reason)| Step::Stop(child, reason)),
        8 => (0u32..5).prop_map(Step::Wait),
        8 => child().prop_map(Step::Retry),
        8 => Just(Step::Resume),
    ]
}

/// The shortest and the longest wait before restart number `tries` in a row.
pub(super) fn wait_between(backoff: &Backoff, tries: u32) -> (Duration, Duration) {
    if backoff.first.is_zero() || tries <= 1 {
        return (Duration::ZERO, Duration::ZERO);
    }
    let mut most = backoff.first;
    for _ in 2..tries.min(40) {
        most = backoff.max.min(most * 2);
    }
    (most / 2, most)
}

/// Who wanted a start, which decides what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Supervisor,
    /// `start_child`.
    Add,
    /// `restart_child`.
    Manual,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Starting,
    /// It ended before its start was reported.
    Stillborn(ExitReason),
    Up,
    LeftBehind,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the books")]
#[derive(Debug, Clone)]
struct Life {
    number: Incarnation,
    stage: Stage,
    purpose: Purpose,
    /// It is the child's first.
    first: bool,
    since: Timestamp,
    /// To be stopped: its end is nobody's cause.
    doomed: bool,
    /// To be stopped because somebody said so, not because of a sibling.
    dismissed: bool,
    asked: bool,
    /// It was asked while it was starting.
    again: bool,
}

/// A retry that is to come.
#[derive(Debug, Clone, Copy)]
struct Retry {
    generation: u32,
    at: Timestamp,
    /// It is one of a failed start, which is still to be counted.
    failed: bool,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the books")]
#[derive(Debug, Clone)]
struct Child {
    rules: ChildRules,
    life: Option<Life>,
    retry: Option<Retry>,
    /// Whether it runs once everything has come to rest.
    wanted: bool,
    started: bool,
    /// Its group has gone on without it.
    late: bool,
    /// Who has just asked for its start.
    hand: Option<Purpose>,
    /// Its place is given up, whatever its rules.
    leaves: bool,
    /// Restarts in a row.
    row: u32,
    dead: Vec<Incarnation>,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the books")]
#[derive(Debug)]
pub(super) struct World {
    flags: Flags,
    real: Supervision,
    now: Timestamp,
    children: BTreeMap<ChildKey, Child>,
    /// How long the next wait may be.
    wait: Option<(Duration, Duration)>,
    lives: u64,
    restarts: Vec<Timestamp>,
    retries: Vec<(ChildKey, u32, Timestamp)>,
    resumes: Vec<Timestamp>,
    held: Option<Timestamp>,
    /// The significant children whose starts decide whether the last one that ran was the last.
    hopes: BTreeSet<ChildKey>,
    /// Somebody started a child by hand while a group was on the move: then no order is promised until all is
    /// quiet again.
    mixed: bool,
    ready: bool,
    /// What it will end with, and whether it has begun to.
    verdict: Option<ExitReason>,
    ending: bool,
    /// What it has to say before it ends.
    told: Option<ExitReason>,
    ended: bool,
    /// What happened, if it is wanted.
    log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(flags: Flags, children: &[ChildRules]) -> Self {
        let mut world = Self {
            flags,
            real: Supervision::new(flags),
            now: Timestamp::from_secs(1),
            children: BTreeMap::new(),
            wait: None,
            lives: 0,
            restarts: Vec::new(),
            retries: Vec::new(),
            resumes: Vec::new(),
            held: None,
            hopes: BTreeSet::new(),
            mixed: false,
            ready: false,
            verdict: None,
            ending: false,
            told: None,
            ended: false,
            log: std::env::var_os("SUPERVISION_LOG").map(|_| Vec::new()),
        };
        for (number, rules) in children.iter().enumerate() {
            let key = world.real.add(name(number), *rules).unwrap();
            world.admit(key, *rules);
        }
        world
    }

    pub(super) fn run(mut self, steps: &[Step]) {
        let commands = self.real.start();
        self.carry_out(commands);
        for step in steps {
            self.step(step);
            self.audit();
        }
        self.come_to_rest();
        self.check_rest();
        self.step(&Step::Shutdown);
        self.come_to_rest();
        assert!(self.ended, "an end comes once everybody is gone");
        self.noise(0, 7);
    }

    fn note(&mut self, what: &impl std::fmt::Debug) {
        if let Some(log) = &mut self.log {
            log.push(format!("{what:?}"));
        }
    }

    fn admit(&mut self, key: ChildKey, rules: ChildRules) {
        let child = Child {
            rules,
            life: None,
            retry: None,
            wanted: !self.ending,
            started: false,
            late: false,
            hand: None,
            leaves: false,
            row: 0,
            dead: Vec::new(),
        };
        assert!(self.children.insert(key, child).is_none(), "every child has a key of its own");
    }

    /// One of those for whom it holds.
    fn choose(&self, number: usize, holds: impl Fn(&Child) -> bool) -> Option<ChildKey> {
        let keys: Vec<_> =
            self.children.iter().filter(|(_, child)| holds(child)).map(|(key, _)| *key).collect();
        (!keys.is_empty()).then(|| keys[number % keys.len()])
    }

    fn step(&mut self, step: &Step) {
        self.note(step);
        self.mixed &= !self.is_quiet();
        let starts = |life: &Life| matches!(life.stage, Stage::Starting | Stage::Stillborn(_));
        let commands = match step {
            Step::Report(number, outcome) => {
                let who = |child: &Child| child.life.as_ref().is_some_and(starts);
                let Some(key) = self.choose(*number, who) else { return };
                self.report(key, *outcome)
            }
            Step::Exit(number, reason) => {
                let who = |child: &Child| {
                    child.life.as_ref().is_some_and(|life| !matches!(life.stage, Stage::Stillborn(_)))
                };
                let Some(key) = self.choose(*number, who) else { return };
                self.exit(key, reason)
            }
            Step::Stop(number, reason) => {
                let who = |child: &Child| child.life.as_ref().is_some_and(|life| life.asked && !starts(life));
                let Some(key) = self.choose(*number, who) else { return };
                self.exit(key, reason)
            }
            Step::StopFails(number) => {
                let who = |child: &Child| {
                    child.life.as_ref().is_some_and(|life| life.asked && life.stage == Stage::Up)
                };
                let Some(key) = self.choose(*number, who) else { return };
                let child = self.children.get_mut(&key).unwrap();
                child.life.as_mut().unwrap().stage = Stage::LeftBehind;
                child.late = true;
                self.real.stop_failed(key)
            }
            Step::Wait(units) => {
                self.now = self.now + UNIT * *units;
                return;
            }
            Step::Retry(number) => {
                let mut due: Vec<_> = (0..self.retries.len()).collect();
                due.retain(|at| self.retries[*at].2 <= self.now);
                if due.is_empty() {
                    return;
                }
                let (key, generation, _) = self.retries.remove(due[number % due.len()]);
                self.retry(key, generation)
            }
            Step::Resume => self.resume(),
            Step::Shutdown => {
                self.end(&ExitReason::Shutdown);
                self.real.shutdown(ExitReason::Shutdown)
            }
            Step::Noise(number, kind) => return self.noise(*number, *kind),
            Step::Terminate(..) | Step::Restart(..) | Step::Delete(..) | Step::Start(..) => {
                self.request(step)
            }
        };
        self.carry_out(commands);
    }

    fn request(&mut self, step: &Step) -> Vec<Command> {
        let any = |_: &Child| true;
        self.mixed |= matches!(step, Step::Start(..) | Step::Restart(..)) && !self.is_quiet();
        match step {
            Step::Terminate(number) => {
                let Some(key) = self.choose(*number, any) else { return Vec::new() };
                let child = self.children.get_mut(&key).unwrap();
                (child.wanted, child.retry) = (false, None);
                if let Some(life) = &mut child.life {
                    (life.doomed, life.dismissed) = (true, true);
                } else {
                    self.hopes.remove(&key);
                }
                self.real.terminate(key)
            }
            Step::Restart(number) | Step::Delete(number) => {
                let Some(key) = self.choose(*number, any) else { return Vec::new() };
                let down = self.real.status(key) == Some(ChildStatus::Down);
                let again = matches!(step, Step::Restart(_));
                let answer = if again { self.real.restart_child(key) } else { self.real.delete_child(key) };
                assert_eq!(down, answer.is_ok(), "only a child that is down is restarted or deleted");
                let child = self.children.get_mut(&key).unwrap();
                assert!(!down || child.life.is_none() && (!child.wanted || self.ending));
                if again && down && !self.ending {
                    (child.wanted, child.row, child.hand) = (true, 0, Some(Purpose::Manual));
                }
                child.leaves |= down && !again;
                answer.unwrap_or_default()
            }
            Step::Start(number, rules) => {
                let full = self.children.len() >= self.flags.children_max;
                let taken = self.real.find(&name(*number));
                match self.real.add(name(*number), *rules) {
                    Ok(key) => {
                        assert!(taken.is_none() && !full);
                        self.admit(key, *rules);
                        self.children.get_mut(&key).unwrap().hand = Some(Purpose::Add);
                        return self.real.start_child(key);
                    }
                    Err(ChildRefusal::Full { .. }) => assert!(taken.is_none() && full),
                    Err(ChildRefusal::AlreadyStarted { .. }) => {
                        assert!(self.children[&taken.unwrap()].life.is_some());
                    }
                    Err(ChildRefusal::AlreadyPresent { .. }) => {
                        assert!(self.children[&taken.unwrap()].life.is_none());
                    }
                    Err(refusal) => panic!("{refusal}"),
                }
                Vec::new()
            }
            Step::Report(..)
            | Step::Exit(..)
            | Step::Stop(..)
            | Step::StopFails(_)
            | Step::Wait(_)
            | Step::Retry(_)
            | Step::Resume
            | Step::Shutdown
            | Step::Noise(..) => unreachable!("nobody requests them"),
        }
    }

    fn life(&mut self, key: ChildKey) -> &mut Life {
        self.children.get_mut(&key).unwrap().life.as_mut().unwrap()
    }

    /// Buries a life that has ended, and tells what it was.
    fn bury(&mut self, key: ChildKey) -> Life {
        let child = self.children.get_mut(&key).unwrap();
        let life = child.life.take().unwrap();
        child.dead.push(life.number);
        life
    }

    /// The same for a start that has come to nothing.
    fn unborn(&mut self, key: ChildKey) -> Life {
        self.children.get_mut(&key).unwrap().life.take().unwrap()
    }

    fn report(&mut self, key: ChildKey, outcome: Outcome) -> Vec<Command> {
        let now = self.now;
        match outcome {
            Outcome::Runs => {
                let life = self.life(key);
                life.since = now;
                // Who was to stop is asked once more, now that there is somebody.
                life.again = std::mem::take(&mut life.asked);
                let number = life.number;
                self.came_to_run(key);
                let life = self.life(key);
                if let Stage::Stillborn(reason) = std::mem::replace(&mut life.stage, Stage::Up) {
                    self.ended_by_itself(key, &reason);
                }
                self.real.started(key, number, now)
            }
            Outcome::Ignores => {
                let life = self.unborn(key);
                let child = self.children.get_mut(&key).unwrap();
                if !life.doomed {
                    child.wanted = false;
                }
                self.give_up_hopes();
                self.real.ignored(key)
            }
            Outcome::Fails => {
                let life = self.unborn(key);
                self.start_failed(key, &life);
                self.give_up_hopes();
                self.real.start_failed(key, &no_luck(), Seq(self.lives), now)
            }
        }
    }

    fn exit(&mut self, key: ChildKey, reason: &ExitReason) -> Vec<Command> {
        let life = self.life(key);
        let number = life.number;
        match life.stage {
            Stage::Starting if !life.asked => life.stage = Stage::Stillborn(reason.clone()),
            Stage::Up => self.ended_by_itself(key, reason),
            Stage::Starting | Stage::LeftBehind | Stage::Stillborn(_) => {
                self.came_to_run(key);
                self.bury(key);
            }
        }
        self.real.exited(key, number, reason, Seq(self.lives), self.now)
    }

    fn retry(&mut self, key: ChildKey, generation: u32) -> Vec<Command> {
        let retry = self.children.get(&key).and_then(|child| child.retry);
        let Some(Retry { failed, .. }) = retry.filter(|retry| retry.generation == generation) else {
            let before = format!("{:?}", self.real);
            let commands = self.real.retry(key, generation, self.now);
            assert_eq!(commands, [], "a retry that is not to come any more changes nothing");
            assert_eq!(format!("{:?}", self.real), before);
            return commands;
        };
        self.children.get_mut(&key).unwrap().retry = None;
        if failed {
            self.restart(key, "failed to start", &no_luck());
        }
        self.real.retry(key, generation, self.now)
    }

    fn resume(&mut self) -> Vec<Command> {
        let held = self.held;
        self.held = held.filter(|until| self.now < *until);
        let commands = self.real.resume(self.now);
        if self.held.is_some() || held.is_none() {
            assert_eq!(commands, [], "nothing resumes before its time");
        }
        commands
    }

    /// Whether nobody starts, stops or waits for its turn.
    fn is_quiet(&self) -> bool {
        self.children.values().all(|child| match &child.life {
            Some(life) => life.stage == Stage::Up && !life.doomed || life.stage == Stage::LeftBehind,
            None => !child.wanted || child.retry.is_some(),
        })
    }

    fn is_group(&self) -> bool {
        matches!(self.flags.strategy, Strategy::OneForAll | Strategy::RestForOne)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(log) = self.log.take().filter(|_| std::thread::panicking()) {
            eprintln!("{:?}\n{}", self.flags, log.join("\n"));
        }
    }
}
