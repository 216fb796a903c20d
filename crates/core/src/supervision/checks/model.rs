//! What OTP's supervisor does, written down as plainly as possible: one list, one step after another.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::{Just, Strategy as Generator, prop_oneof};

use super::super::{
    AutoShutdown, ChildCounts, ChildKey, ChildKind, ChildRefusal, ChildRules, ChildStatus, Command, Flags,
    GiveUp, Restart, Strategy, Supervision,
};
use super::{Outcome, UNIT, fits, gave_up, name, no_luck, reasons, rules};
use crate::exit::{ExitReason, Incarnation};
use crate::name::Name;
use crate::receipt::Seq;
use crate::time::Timestamp;

/// One thing that happens to a supervisor. Children are chosen by their number among those there are.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Exit(usize, ExitReason),
    Terminate(usize),
    Restart(usize),
    Delete(usize),
    Start(usize, ChildRules),
    /// The oldest message to itself is served: a failed restart is tried again.
    Serve,
    Wait(u32),
    Shutdown,
}

pub(super) fn steps(auto_shutdown: AutoShutdown) -> impl Generator<Value = Step> {
    let child = || 0usize..8;
    prop_oneof![
        8 => (child(), reasons()).prop_map(|(child, reason)| Step::Exit(child, reason)),
        2 => child().prop_map(Step::Terminate),
        2 => child().prop_map(Step::Restart),
        1 => child().prop_map(Step::Delete),
        4 => (child(), rules(auto_shutdown)).prop_map(|(name, rules)| Step::Start(name, rules)),
        4 => Just(Step::Serve),
        4 => (0u32..9).prop_map(Step::Wait),
        1 => Just(Step::Shutdown),
    ]
}

/// How the starts turn out, in the order in which they are made; those after the last one succeed.
#[derive(Debug, Clone)]
struct Script(VecDeque<Outcome>);

impl Script {
    fn next(&mut self) -> Outcome {
        self.0.pop_front().unwrap_or(Outcome::Runs)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    /// With the number of the message that will try again.
    Restarting(u32),
    Runs,
}

#[derive(Debug, Clone)]
struct Child {
    key: u64,
    name: Name,
    rules: ChildRules,
    process: Process,
}

#[derive(Debug)]
struct Model {
    flags: Flags,
    /// In the order of their starts.
    children: Vec<Child>,
    added: u64,
    restarts: Vec<Timestamp>,
    /// Messages to itself.
    mailbox: VecDeque<(u64, u32)>,
    messages: u32,
    script: Script,
    trace: Vec<String>,
    ended: bool,
}

impl Model {
    fn new(flags: Flags, script: Script) -> Self {
        let mailbox = VecDeque::new();
        let (children, restarts, trace) = (Vec::new(), Vec::new(), Vec::new());
        Self { flags, children, added: 0, restarts, mailbox, messages: 0, script, trace, ended: false }
    }

    fn at(&mut self, key: u64) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.key == key)
    }

    fn keys(&self) -> Vec<u64> {
        self.children.iter().map(|child| child.key).collect()
    }

    fn tell(&mut self, what: &str, key: u64) {
        self.trace.push(format!("{what} {key}"));
    }

    fn forget(&mut self, key: u64) {
        self.tell("forget", key);
        self.children.retain(|child| child.key != key);
    }

    /// A child that ended for good: its place stays, unless nobody will fill it again.
    fn leave(&mut self, key: u64) {
        let dynamic = self.flags.strategy == Strategy::Dynamic;
        let child = self.at(key).unwrap();
        child.process = Process::None;
        if dynamic || child.rules.restart == Restart::Temporary {
            self.forget(key);
        }
    }

    fn launch(&mut self, key: u64) -> Outcome {
        self.tell("start", key);
        let outcome = self.script.next();
        match outcome {
            Outcome::Runs => self.at(key).unwrap().process = Process::Runs,
            Outcome::Ignores => self.leave(key),
            Outcome::Fails => {}
        }
        outcome
    }

    fn halt(&mut self, key: u64) {
        if self.at(key).unwrap().process == Process::Runs {
            self.tell("stop", key);
            self.at(key).unwrap().process = Process::None;
        }
    }

    /// Starts them in order, up to the first that fails.
    fn launch_all(&mut self, keys: &[u64]) -> Option<u64> {
        keys.iter().copied().find(|key| self.launch(*key) == Outcome::Fails)
    }

    fn end(&mut self, reason: &ExitReason) {
        for key in self.keys().into_iter().rev() {
            self.halt(key);
        }
        self.trace.push(format!("end {reason}"));
        self.ended = true;
    }

    fn start(&mut self) {
        match self.launch_all(&self.keys()) {
            None => self.trace.push("ready".into()),
            Some(failed) => {
                let message =
                    format!("child '{}' failed to start: {}", self.at(failed).unwrap().name, no_luck());
                self.end(&ExitReason::Error { message: message.into() });
            }
        }
    }

    fn add(&mut self, name: Name, rules: ChildRules) -> Result<u64, ChildRefusal> {
        if let Some(child) = self.children.iter().find(|child| child.name == name) {
            return Err(match child.process {
                Process::Runs => ChildRefusal::AlreadyStarted { name },
                Process::None | Process::Restarting(_) => ChildRefusal::AlreadyPresent { name },
            });
        }
        let limit = self.flags.children_max;
        if self.children.len() == limit {
            return Err(ChildRefusal::Full { limit });
        }
        let key = self.added;
        self.added += 1;
        self.children.push(Child { key, name, rules, process: Process::None });
        Ok(key)
    }

    fn start_child(&mut self, name: Name, rules: ChildRules) -> Result<(), ChildRefusal> {
        let key = self.add(name, rules)?;
        if self.launch(key) == Outcome::Fails {
            self.forget(key);
        }
        Ok(())
    }

    fn terminate(&mut self, key: u64) {
        self.halt(key);
        self.leave(key);
    }

    fn check_down(&mut self, key: u64) -> Result<(), ChildRefusal> {
        let Child { name, process, .. } = self.at(key).unwrap().clone();
        match process {
            Process::None => Ok(()),
            Process::Restarting(_) => Err(ChildRefusal::Restarting { name }),
            Process::Runs => Err(ChildRefusal::Running { name }),
        }
    }

    fn restart_child(&mut self, key: u64) -> Result<(), ChildRefusal> {
        self.check_down(key)?;
        self.launch(key);
        Ok(())
    }

    fn delete(&mut self, key: u64) -> Result<(), ChildRefusal> {
        self.check_down(key)?;
        self.forget(key);
        Ok(())
    }

    fn exit(&mut self, key: u64, reason: &ExitReason, now: Timestamp) {
        let child = self.at(key).unwrap();
        child.process = Process::None;
        let rules = child.rules;
        let again = match rules.restart {
            Restart::Permanent => true,
            Restart::Transient => {
                !matches!(reason, ExitReason::Normal | ExitReason::Shutdown | ExitReason::ShutdownWith { .. })
            }
            Restart::Temporary => false,
        };
        if again {
            return self.restart(key, "exited", reason, now);
        }
        self.leave(key);
        let last = || {
            let mut others = self.children.iter().filter(|child| child.process != Process::None);
            !others.any(|child| child.rules.significant)
        };
        let ends = match self.flags.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => rules.significant,
            AutoShutdown::AllSignificant => rules.significant && last(),
        };
        if ends {
            self.end(&ExitReason::Shutdown);
        }
    }

    fn restart(&mut self, key: u64, what: &str, reason: &ExitReason, now: Timestamp) {
        if !fits(self.flags.intensity, &self.restarts, now) {
            let name = self.at(key).unwrap().name.clone();
            let told = gave_up(&self.flags, &name, what, reason);
            self.trace.push(told.to_string());
            return match self.flags.give_up {
                GiveUp::Abnormally => self.end(&told),
                GiveUp::Cleanly => self.end(&ExitReason::Shutdown),
            };
        }
        self.restarts.push(now);
        let group: Vec<u64> = match self.flags.strategy {
            Strategy::OneForOne | Strategy::Dynamic => vec![key],
            Strategy::OneForAll => self.keys(),
            Strategy::RestForOne => self.keys().into_iter().filter(|other| key <= *other).collect(),
        };
        for key in group.iter().rev() {
            self.halt(*key);
            self.at(*key).unwrap().process = Process::None;
            if self.at(*key).unwrap().rules.restart == Restart::Temporary {
                self.forget(*key);
            }
        }
        let left: Vec<u64> = group.into_iter().filter(|key| self.at(*key).is_some()).collect();
        if let Some(failed) = self.launch_all(&left) {
            self.messages += 1;
            let message = self.messages;
            self.at(failed).unwrap().process = Process::Restarting(message);
            self.tell("retry", failed);
            self.mailbox.push_back((failed, message));
        }
    }

    fn serve(&mut self, now: Timestamp) {
        let Some((key, message)) = self.mailbox.pop_front() else { return };
        if self.at(key).is_some_and(|child| child.process == Process::Restarting(message)) {
            self.restart(key, "failed to start", &no_luck(), now);
        }
    }

    fn counts(&self) -> ChildCounts {
        let kind = |kind| self.children.iter().filter(|child| child.rules.kind == kind).count();
        ChildCounts {
            specs: self.children.len(),
            active: self.children.iter().filter(|child| child.process == Process::Runs).count(),
            supervisors: kind(ChildKind::Supervisor),
            workers: kind(ChildKind::Worker),
        }
    }

    fn list(&self) -> Vec<(u64, Name, ChildStatus)> {
        let status = |process| match process {
            Process::None => ChildStatus::Down,
            Process::Restarting(_) => ChildStatus::Restarting,
            Process::Runs => ChildStatus::Running,
        };
        self.children.iter().map(|child| (child.key, child.name.clone(), status(child.process))).collect()
    }
}

/// The real one, whose starts and stops are reported at once.
#[derive(Debug)]
struct Real {
    supervision: Supervision,
    lives: HashMap<ChildKey, Incarnation>,
    life: u64,
    mailbox: VecDeque<(ChildKey, u32)>,
    script: Script,
    trace: Vec<String>,
}

impl Real {
    fn new(flags: Flags, script: Script) -> Self {
        let (lives, mailbox, trace) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { supervision: Supervision::new(flags), lives, life: 0, mailbox, script, trace }
    }

    fn carry_out(&mut self, commands: Vec<Command>, now: Timestamp) {
        let mut queue: VecDeque<Command> = commands.into();
        while let Some(command) = queue.pop_front() {
            let (told, more) = match command {
                Command::Start(key) => (format!("start {}", key.0), self.launch(key, now)),
                Command::Stop(key) => {
                    let life = self.lives.remove(&key).expect("a stop is for somebody who runs");
                    let told = format!("stop {}", key.0);
                    (told, self.supervision.exited(key, life, &ExitReason::Shutdown, Seq(1), now))
                }
                Command::Retry { key, generation, at } => {
                    assert_eq!(at, now, "without a back-off nothing waits");
                    self.mailbox.push_back((key, generation));
                    (format!("retry {}", key.0), Vec::new())
                }
                Command::Resume { .. } => panic!("without a back-off no group waits"),
                Command::Forget(key) => (format!("forget {}", key.0), Vec::new()),
                Command::Ready => ("ready".into(), Vec::new()),
                Command::GaveUp(reason) => (reason.to_string(), Vec::new()),
                Command::End(reason) => (format!("end {reason}"), Vec::new()),
            };
            self.trace.push(told);
            queue.extend(more);
        }
    }

    fn launch(&mut self, key: ChildKey, now: Timestamp) -> Vec<Command> {
        match self.script.next() {
            Outcome::Runs => {
                self.life += 1;
                let life = Incarnation(self.life);
                assert_eq!(self.lives.insert(key, life), None, "never two lives of one child");
                self.supervision.started(key, life, now)
            }
            Outcome::Ignores => self.supervision.ignored(key),
            Outcome::Fails => self.supervision.start_failed(key, &no_luck(), Seq(1), now),
        }
    }

    fn start_child(&mut self, name: Name, rules: ChildRules) -> Result<Vec<Command>, ChildRefusal> {
        let key = self.supervision.add(name, rules)?;
        Ok(self.supervision.start_child(key))
    }

    fn counts_and_list(&self) -> (ChildCounts, Vec<(u64, Name, ChildStatus)>) {
        let list = self.supervision.children().map(|(key, name, status)| (key.0, name.clone(), status));
        (self.supervision.counts(), list.collect())
    }
}

/// Puts the model and the real one through the same steps.
pub(super) fn compare(flags: Flags, children: &[ChildRules], steps: &[Step], script: &[Outcome]) {
    let script = Script(script.iter().copied().collect());
    let (mut model, mut real) = (Model::new(flags, script.clone()), Real::new(flags, script));
    let mut now = Timestamp::from_secs(1);
    for (number, rules) in children.iter().enumerate() {
        model.add(name(number), *rules).unwrap();
        real.supervision.add(name(number), *rules).unwrap();
    }
    model.start();
    let commands = real.supervision.start();
    real.carry_out(commands, now);
    assert_eq!(real.trace, model.trace);
    // At the end all that is still to be tried again is tried.
    let drain = std::iter::repeat_n(&Step::Serve, 100);
    for step in steps.iter().chain(drain) {
        if model.ended {
            return;
        }
        step_both(&mut model, &mut real, step, &mut now);
        assert_eq!(real.trace, model.trace, "after {step:?}");
        if !model.ended {
            assert_eq!(real.counts_and_list(), (model.counts(), model.list()), "after {step:?}");
        }
    }
    assert!(model.mailbox.is_empty() && real.mailbox.is_empty());
}

fn step_both(model: &mut Model, real: &mut Real, step: &Step, now: &mut Timestamp) {
    let choose = |among: &[u64], number: usize| (!among.is_empty()).then(|| among[number % among.len()]);
    let keys = model.keys();
    let fixed = model.flags.strategy != Strategy::Dynamic;
    let (expected, commands) = match step {
        Step::Exit(number, reason) => {
            let up = model.children.iter().filter(|child| child.process == Process::Runs);
            let Some(key) = choose(&up.map(|child| child.key).collect::<Vec<_>>(), *number) else { return };
            model.exit(key, reason, *now);
            let life = real.lives.remove(&ChildKey(key)).expect("who runs in the model runs");
            (Ok(()), Ok(real.supervision.exited(ChildKey(key), life, reason, Seq(1), *now)))
        }
        Step::Terminate(number) => {
            let Some(key) = choose(&keys, *number) else { return };
            model.terminate(key);
            (Ok(()), Ok(real.supervision.terminate(ChildKey(key))))
        }
        Step::Restart(number) => {
            let Some(key) = choose(&keys, *number).filter(|_| fixed) else { return };
            (model.restart_child(key), real.supervision.restart_child(ChildKey(key)))
        }
        Step::Delete(number) => {
            let Some(key) = choose(&keys, *number).filter(|_| fixed) else { return };
            (model.delete(key), real.supervision.delete_child(ChildKey(key)))
        }
        Step::Start(number, rules) => {
            (model.start_child(name(*number), *rules), real.start_child(name(*number), *rules))
        }
        Step::Serve => {
            model.serve(*now);
            let message = real.mailbox.pop_front();
            (Ok(()), Ok(message.map_or(vec![], |(key, number)| real.supervision.retry(key, number, *now))))
        }
        Step::Wait(units) => {
            *now = *now + UNIT * *units;
            return;
        }
        Step::Shutdown => {
            model.end(&ExitReason::Shutdown);
            (Ok(()), Ok(real.supervision.shutdown(ExitReason::Shutdown)))
        }
    };
    match commands {
        Ok(commands) => {
            assert_eq!(expected, Ok(()));
            real.carry_out(commands, *now);
        }
        Err(refusal) => assert_eq!(Err(refusal), expected),
    }
}
