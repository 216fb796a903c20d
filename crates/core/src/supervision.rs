//! How a supervisor decides: whom to start, whom to stop, and when to give up.
//!
//! [`Supervision`] is told what happened and answers with [`Command`]s. Children start in order and
//! stop in reverse order, one at a time; a dynamic supervisor's start and stop at once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::exit::{ExitReason, Incarnation};
use crate::name::Name;
use crate::receipt::Seq;
use crate::time::Timestamp;

mod budget;
mod children;
mod ending;
mod halt;
mod look;
mod rules;
mod significant;
mod steps;

use budget::Budget;
use children::{Children, Purpose, Retry, State};
pub use rules::{
    AutoShutdown, Backoff, CHILDREN_MAX, ChildCounts, ChildKey, ChildKind, ChildRefusal, ChildRules,
    ChildStatus, Command, Flags, GiveUp, Intensity, Restart, RuleError, Strategy,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Keeps the reason to end right after the start: as in OTP, a start that succeeds is told first.
    Starting(Option<ExitReason>),
    Running,
    Ending(ExitReason),
    Ended,
}

/// The state of one supervisor.
///
/// # Examples
///
/// ```
/// use gemba_core::exit::{ExitReason, Incarnation};
/// use gemba_core::receipt::Seq;
/// use gemba_core::supervision::{Command, Flags, Restart, Strategy, Supervision};
/// use gemba_core::time::Timestamp;
///
/// let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
/// let child = supervision.add("db".parse()?, Restart::Permanent)?;
/// assert_eq!(supervision.start(), [Command::Start(child)]);
/// assert_eq!(supervision.started(child, Incarnation(1), Timestamp::START), [Command::Ready]);
/// let now = Timestamp::from_secs(1);
/// let commands = supervision.exited(child, Incarnation(1), &ExitReason::Killed, Seq(7), now);
/// assert_eq!(commands, [Command::Start(child)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Supervision {
    flags: Flags,
    phase: Phase,
    children: Children,
    /// Alive, and to be stopped before anything is started.
    doomed: BTreeSet<ChildKey>,
    /// To be started in order once nobody is doomed. May still be alive.
    pending: BTreeSet<ChildKey>,
    /// Unkillable ones that are to be started again once they are really gone.
    awaited: BTreeSet<ChildKey>,
    /// The last significant child that ran has ended, and whether that ends the supervisor is for the starts of
    /// these to tell, as in OTP, which sees the end after the starts: one that comes to run, and it goes on.
    hopes: BTreeSet<ChildKey>,
    /// It is halted: nothing starts, and these come back when it runs again.
    halted: Option<BTreeSet<ChildKey>>,
    /// The child whose start the next one waits for.
    in_turn: Option<ChildKey>,
    /// Nothing pending starts before: a group waits for its restart.
    held: Option<Timestamp>,
    budget: Budget,
}

impl Supervision {
    /// A supervisor without children.
    pub fn new(flags: Flags) -> Self {
        Self {
            flags,
            phase: Phase::Starting(None),
            children: Children::default(),
            doomed: BTreeSet::new(),
            pending: BTreeSet::new(),
            awaited: BTreeSet::new(),
            hopes: BTreeSet::new(),
            halted: None,
            in_turn: None,
            held: None,
            budget: Budget::new(flags.intensity),
        }
    }

    /// Gives a child its place, behind all others. Nothing is started yet.
    ///
    /// # Errors
    ///
    /// [`ChildRefusal::AlreadyStarted`] or [`ChildRefusal::AlreadyPresent`] if the name is taken,
    /// [`ChildRefusal::Full`] if there are as many children as the flags allow, [`ChildRefusal::Halted`] while it
    /// is halted.
    pub fn add(&mut self, name: Name, rules: impl Into<ChildRules>) -> Result<ChildKey, ChildRefusal> {
        if self.is_halted() {
            return Err(ChildRefusal::Halted);
        }
        let limit = self.flags.children_max;
        if self.children.len() >= limit && self.children.find(&name).is_none() {
            return Err(ChildRefusal::Full { limit });
        }
        self.children.add(name, rules.into())
    }

    /// Starts all children added so far, in order.
    pub fn start(&mut self) -> Vec<Command> {
        self.pending = self.children.iter().map(|(key, _)| key).collect();
        self.settle()
    }

    /// Starts one child that was added while the supervisor runs.
    pub fn start_child(&mut self, key: ChildKey) -> Vec<Command> {
        if self.is_ending() || self.children.get(key).is_none() {
            return Vec::new();
        }
        self.begin_start(key, Purpose::Add)
    }

    /// Starts a child that is down, by hand. It does not count against the intensity.
    ///
    /// # Errors
    ///
    /// [`ChildRefusal::Running`] or [`ChildRefusal::Restarting`] if it is not down, [`ChildRefusal::Halted`] while
    /// the supervisor is halted.
    pub fn restart_child(&mut self, key: ChildKey) -> Result<Vec<Command>, ChildRefusal> {
        if self.is_halted() {
            return Err(ChildRefusal::Halted);
        }
        self.check_down(key)?;
        if self.is_ending() || self.children.get(key).is_none() {
            return Ok(Vec::new());
        }
        self.children.known(key).tries = 0;
        Ok(self.begin_start(key, Purpose::Manual))
    }

    /// Gives up the place of a child that is down.
    ///
    /// # Errors
    ///
    /// As [`restart_child`](Self::restart_child).
    pub fn delete_child(&mut self, key: ChildKey) -> Result<Vec<Command>, ChildRefusal> {
        self.check_down(key)?;
        Ok(if self.children.get(key).is_some() { self.forget(key) } else { Vec::new() })
    }

    fn check_down(&self, key: ChildKey) -> Result<(), ChildRefusal> {
        let Some(child) = self.children.get(key) else { return Ok(()) };
        let name = child.name.clone();
        match self.status(key) {
            None | Some(ChildStatus::Down) => Ok(()),
            Some(ChildStatus::Restarting) => Err(ChildRefusal::Restarting { name }),
            Some(_) => Err(ChildRefusal::Running { name }),
        }
    }

    /// Stops one child for good, and gives up its place if nobody else keeps it: that of a temporary child
    /// and of any child of a dynamic supervisor. Whatever was to start it again no longer does.
    pub fn terminate(&mut self, key: ChildKey) -> Vec<Command> {
        let Some(state) = self.children.state(key).cloned() else { return Vec::new() };
        self.pending.remove(&key);
        self.leave_halted(key);
        match state {
            State::Down | State::Retrying(_) => {
                self.children.set(key, State::Down);
                self.hopes.remove(&key);
                self.forget_if_over(key)
            }
            State::Starting(_) | State::Up(_) => {
                let commands = self.doom(key);
                self.children.dismiss(key);
                commands
            }
            State::Stopping | State::Unkillable => {
                self.children.dismiss(key);
                self.awaited.remove(&key);
                Vec::new()
            }
        }
    }

    /// Ends the supervisor: its children first, in reverse order.
    pub fn shutdown(&mut self, reason: ExitReason) -> Vec<Command> {
        if self.is_ending() {
            return Vec::new();
        }
        self.end(reason)
    }

    /// A start came to run.
    pub fn started(&mut self, key: ChildKey, incarnation: Incarnation, now: Timestamp) -> Vec<Command> {
        match self.children.state(key).cloned() {
            Some(State::Starting(early)) => {
                self.came_to_run(key);
                self.children.set(key, State::Up(incarnation));
                self.children.known(key).up_since = now;
                let Some(early) = early else { return self.settle() };
                let (early, reason) = *early;
                let receipt = self.children.known(key).cause.unwrap_or_default();
                let mut commands = self.ended(key, early, &reason, receipt, now);
                // Whoever waited for this start is next, whatever becomes of the child.
                if !self.is_ending() {
                    commands.extend(self.settle());
                }
                commands
            }
            // It was to be stopped while it was starting: the stop is asked for again, now that there is
            // somebody to ask.
            Some(State::Stopping) => {
                self.came_to_run(key);
                vec![Command::Stop(key)]
            }
            Some(State::Down | State::Retrying(_) | State::Up(_) | State::Unkillable) | None => Vec::new(),
        }
    }

    /// A child declined to run, which is no failure: it stays down, or gives up its place as a child that
    /// ended for good.
    pub fn ignored(&mut self, key: ChildKey) -> Vec<Command> {
        match self.children.state(key) {
            Some(State::Starting(_) | State::Stopping) => {}
            Some(State::Down | State::Retrying(_) | State::Up(_) | State::Unkillable) | None => {
                return Vec::new();
            }
        }
        self.children.set(key, State::Down);
        self.doomed.remove(&key);
        self.stopped(key)
    }

    /// A start did not come to run.
    ///
    /// A first start that fails rolls back what was started before it and ends the supervisor. A child
    /// added later gives up its place, one restarted by hand stays down. A restart that fails is tried
    /// again, and each try counts against the intensity.
    pub fn start_failed(
        &mut self,
        key: ChildKey,
        reason: &ExitReason,
        receipt: Seq,
        now: Timestamp,
    ) -> Vec<Command> {
        let was_stopping = match self.children.state(key) {
            Some(State::Starting(_)) => false,
            Some(State::Stopping) => true,
            // It was reported already.
            Some(State::Down | State::Retrying(_) | State::Up(_) | State::Unkillable) | None => {
                return Vec::new();
            }
        };
        self.children.set(key, State::Down);
        let was_doomed = self.doomed.remove(&key);
        if self.is_ending() {
            return self.settle();
        }
        let child = self.children.known(key);
        match child.purpose {
            Purpose::Add => {
                let mut commands = self.forget(key);
                commands.extend(self.give_up_hopes());
                commands.extend(self.settle());
                commands
            }
            // It was to stop anyway, though it may not have been its turn to be asked.
            Purpose::First | Purpose::Manual | Purpose::Restart if was_stopping || was_doomed => {
                self.stopped(key)
            }
            Purpose::Manual => self.stopped(key),
            Purpose::First | Purpose::Restart if matches!(self.phase, Phase::Starting(_)) => {
                let message = format!("child '{}' failed to start: {reason}", child.name);
                self.end(ExitReason::Error { message: message.into() })
            }
            Purpose::First | Purpose::Restart => {
                // What the retry starts too waits for it; the others do not.
                match self.flags.strategy {
                    Strategy::OneForAll => self.pending.clear(),
                    Strategy::RestForOne => self.pending.retain(|other| *other < key),
                    Strategy::OneForOne | Strategy::Dynamic => {}
                }
                child.tries = child.tries.saturating_add(1);
                let delay = self.flags.backoff.delay(child.tries, receipt.0);
                let mut commands = self.put_off(key, Some((reason.clone(), receipt)), now + delay);
                let end = self.give_up_hopes();
                if self.is_ending() {
                    return end;
                }
                commands.extend(self.settle());
                commands
            }
        }
    }

    /// A life ended. A farewell of an earlier life than the present one is ignored.
    pub fn exited(
        &mut self,
        key: ChildKey,
        incarnation: Incarnation,
        reason: &ExitReason,
        receipt: Seq,
        now: Timestamp,
    ) -> Vec<Command> {
        if self.children.get(key).is_none_or(|child| incarnation < child.earliest) {
            return Vec::new();
        }
        match self.children.known(key).state() {
            State::Starting(_) => {
                self.children.set(key, State::Starting(Some(Box::new((incarnation, reason.clone())))));
                let child = self.children.known(key);
                child.cause = Some(receipt);
                child.earliest = incarnation.next();
                Vec::new()
            }
            State::Up(present) if *present != incarnation => Vec::new(),
            State::Up(_) | State::Stopping | State::Unkillable => {
                self.ended(key, incarnation, reason, receipt, now)
            }
            State::Down | State::Retrying(_) => Vec::new(),
        }
    }

    /// The present life ended.
    fn ended(
        &mut self,
        key: ChildKey,
        incarnation: Incarnation,
        reason: &ExitReason,
        receipt: Seq,
        now: Timestamp,
    ) -> Vec<Command> {
        self.children.known(key).earliest = incarnation.next();
        self.came_to_run(key);
        let was = self.children.set(key, State::Down);
        let was_doomed = self.doomed.remove(&key);
        if self.is_ending() {
            return self.settle();
        }
        if was == Some(State::Unkillable) {
            if self.awaited.remove(&key) {
                // In its turn: the rest of its group may still be stopping, starting or waiting.
                self.pending.insert(key);
                return self.settle();
            }
            return self.forget_if_over(key);
        }
        if was_doomed || was == Some(State::Stopping) {
            return self.stopped(key);
        }
        let child = self.children.known(key);
        if !child.rules.restart.applies_to(reason) {
            return self.over(key);
        }
        if !self.flags.backoff.first.is_zero()
            && now.since(child.up_since) >= self.flags.backoff.healthy_after
        {
            child.tries = 0;
        }
        child.tries = child.tries.saturating_add(1);
        let tries = child.tries;
        if !self.budget.take(now) {
            return self.give_up(key, "exited", reason);
        }
        let delay = self.flags.backoff.delay(tries, receipt.0);
        self.replace(key, receipt, delay, now)
    }

    /// A restart that was put off is due.
    pub fn retry(&mut self, key: ChildKey, generation: u32, now: Timestamp) -> Vec<Command> {
        let Some(State::Retrying(retry)) = self.children.state(key) else { return Vec::new() };
        if retry.generation != generation {
            return Vec::new();
        }
        let failure = retry.failure.clone();
        self.children.set(key, State::Down);
        let Some((reason, receipt)) = failure else { return self.begin_start(key, Purpose::Restart) };
        if !self.budget.take(now) {
            return self.give_up(key, "failed to start", &reason);
        }
        self.replace(key, receipt, Duration::ZERO, now)
    }

    /// The wait of a group for its restart may be over.
    pub fn resume(&mut self, now: Timestamp) -> Vec<Command> {
        if self.held.is_none_or(|until| now < until) {
            return Vec::new();
        }
        self.held = None;
        self.settle()
    }

    /// A child ignored its kill, by whomever. It is left behind; its place stays taken until it is really
    /// gone, and if nobody asked it to stop it is started again then.
    pub fn stop_failed(&mut self, key: ChildKey) -> Vec<Command> {
        let comes_back = match self.children.state(key) {
            Some(State::Up(_)) => self.children.known(key).rules.restart != Restart::Temporary,
            Some(State::Stopping) => self.pending.contains(&key),
            Some(State::Down | State::Retrying(_) | State::Starting(_) | State::Unkillable) | None => {
                return Vec::new();
            }
        };
        self.children.set(key, State::Unkillable);
        self.doomed.remove(&key);
        self.pending.remove(&key);
        if comes_back {
            self.awaited.insert(key);
        }
        self.settle()
    }

    /// A child that was to stop has stopped, or one did not come to run: unless it is pending, it stays down.
    fn stopped(&mut self, key: ChildKey) -> Vec<Command> {
        let mut commands = if self.pending.contains(&key) { Vec::new() } else { self.forget_if_over(key) };
        commands.extend(self.give_up_hopes());
        commands.extend(self.settle());
        commands
    }

    /// Starts anew a child whose restart has been counted, and the siblings that its strategy names.
    fn replace(&mut self, key: ChildKey, receipt: Seq, delay: Duration, now: Timestamp) -> Vec<Command> {
        self.children.known(key).cause = Some(receipt);
        let first = match self.flags.strategy {
            Strategy::OneForOne | Strategy::Dynamic if delay.is_zero() => {
                return self.begin_start(key, Purpose::Restart);
            }
            Strategy::OneForOne | Strategy::Dynamic => return self.put_off(key, None, now + delay),
            Strategy::OneForAll => ChildKey(0),
            Strategy::RestForOne => key,
        };
        // Failures that come together wait once, and as long as the longest of them.
        let at = self.gather(first, receipt).max(now + delay);
        self.pending.insert(key);
        let mut commands = Vec::new();
        if at > now {
            let at = self.held.map_or(at, |held| held.max(at));
            self.held = Some(at);
            commands.push(Command::Resume { at });
        }
        commands.extend(self.settle());
        commands
    }

    fn put_off(&mut self, key: ChildKey, failure: Option<(ExitReason, Seq)>, at: Timestamp) -> Vec<Command> {
        let child = self.children.known(key);
        child.generation = child.generation.wrapping_add(1);
        let generation = child.generation;
        self.children.set(key, State::Retrying(Box::new(Retry { generation, failure, at })));
        vec![Command::Retry { key, generation, at }]
    }

    fn doom(&mut self, key: ChildKey) -> Vec<Command> {
        self.doomed.insert(key);
        if self.flags.strategy == Strategy::Dynamic {
            return self.ask_to_stop(key).into_iter().collect();
        }
        self.settle()
    }
}

#[cfg(test)]
mod checks;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(100);
    const CRASH: ExitReason = ExitReason::Killed;

    /// Three permanent children that run as incarnations 1, 2 and 3.
    fn three(strategy: Strategy) -> (Supervision, [ChildKey; 3]) {
        let mut supervision = Supervision::new(Flags::new(strategy));
        let keys =
            ["a", "b", "c"].map(|name| supervision.add(name.parse().unwrap(), Restart::Permanent).unwrap());
        let mut commands = supervision.start();
        for (key, life) in keys.iter().zip(1..) {
            assert_eq!(commands.first(), Some(&Command::Start(*key)), "children start in order");
            if strategy != Strategy::Dynamic {
                assert_eq!(commands.len(), 1, "one at a time");
            }
            let more = supervision.started(*key, Incarnation(life), NOW);
            commands = commands.into_iter().skip(1).chain(more).collect();
        }
        (supervision, keys)
    }

    /// Carries out every command as if each start and stop succeeded at once, and tells the order.
    fn run(supervision: &mut Supervision, commands: Vec<Command>, life: &mut u64) -> Vec<String> {
        let mut queue: VecDeque<Command> = commands.into();
        let mut trace = Vec::new();
        while let Some(command) = queue.pop_front() {
            let more = match &command {
                Command::Start(key) => {
                    trace.push(format!("start {}", key.0));
                    *life += 1;
                    supervision.started(*key, Incarnation(*life), NOW)
                }
                Command::Stop(key) => {
                    trace.push(format!("stop {}", key.0));
                    let State::Stopping = *supervision.children.state(*key).unwrap() else {
                        panic!("not stopping")
                    };
                    supervision.exited(*key, Incarnation(0), &ExitReason::Shutdown, Seq(2), NOW)
                }
                Command::Forget(key) => {
                    trace.push(format!("forget {}", key.0));
                    Vec::new()
                }
                Command::Ready | Command::GaveUp(_) | Command::Resume { .. } => Vec::new(),
                Command::Retry { key, generation, at } => supervision.retry(*key, *generation, *at),
                Command::End(reason) => {
                    trace.push(format!("end {reason}"));
                    Vec::new()
                }
            };
            queue.extend(more);
        }
        trace
    }

    #[test]
    fn each_strategy_restarts_whom_it_names() {
        for (strategy, expected) in [
            (Strategy::OneForOne, &["start 1"][..]),
            (Strategy::Dynamic, &["start 1"]),
            (Strategy::OneForAll, &["stop 2", "stop 0", "start 0", "start 1", "start 2"]),
            (Strategy::RestForOne, &["stop 2", "start 1", "start 2"]),
        ] {
            let (mut supervision, keys) = three(strategy);
            let commands = supervision.exited(keys[1], Incarnation(2), &CRASH, Seq(1), NOW);
            assert_eq!(run(&mut supervision, commands, &mut 10), expected, "{strategy}");
            assert_eq!(supervision.cause(keys[1]), Some(Seq(1)));
        }
    }

    #[test]
    fn restart_types_follow_the_reason() {
        let error = ExitReason::Error { message: "x".into() };
        for (restart, reason, expected) in [
            (Restart::Permanent, &ExitReason::Normal, "start"),
            (Restart::Permanent, &error, "start"),
            (Restart::Transient, &ExitReason::Normal, "keep"),
            (Restart::Transient, &ExitReason::Shutdown, "keep"),
            (Restart::Transient, &error, "start"),
            (Restart::Temporary, &error, "forget"),
            (Restart::Temporary, &ExitReason::Normal, "forget"),
        ] {
            let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
            let key = supervision.add("a".parse().unwrap(), restart).unwrap();
            supervision.start();
            supervision.started(key, Incarnation(1), NOW);
            let expected = match expected {
                "start" => vec![Command::Start(key)],
                "forget" => vec![Command::Forget(key)],
                _ => vec![],
            };
            assert_eq!(
                supervision.exited(key, Incarnation(1), reason, Seq(1), NOW),
                expected,
                "{restart:?} {reason}"
            );
        }
    }

    #[test]
    fn the_restart_that_fits_is_made_and_the_next_one_escalates() {
        let (mut supervision, keys) = three(Strategy::OneForOne);
        let mut life = 1;
        for restart in 0..3 {
            let now = NOW + Duration::from_secs(restart);
            assert_eq!(
                supervision.exited(keys[0], Incarnation(life), &CRASH, Seq(1), now),
                [Command::Start(keys[0])]
            );
            life += 10;
            supervision.started(keys[0], Incarnation(life), now);
        }
        let mut patient = supervision.clone();
        let commands =
            supervision.exited(keys[0], Incarnation(life), &CRASH, Seq(1), NOW + Duration::from_secs(5));
        let trace = run(&mut supervision, commands, &mut 50);
        assert_eq!(
            trace,
            [
                "stop 2",
                "stop 1",
                "end gave up: 4 restarts in 5000 ms (limit 3); last: child 'a' exited: killed"
            ]
        );
        let later = NOW + Duration::from_secs(5) + Duration::from_nanos(1);
        assert_eq!(
            patient.exited(keys[0], Incarnation(life), &CRASH, Seq(1), later),
            [Command::Start(keys[0])],
            "a nanosecond later the first restart no longer counts"
        );
    }

    #[test]
    fn a_shutdown_stops_in_reverse_order_and_then_ends() {
        let (mut supervision, _) = three(Strategy::OneForOne);
        let commands = supervision.shutdown(ExitReason::Shutdown);
        assert_eq!(run(&mut supervision, commands, &mut 10), ["stop 2", "stop 1", "stop 0", "end shutdown"]);
    }

    #[test]
    fn a_first_start_that_fails_rolls_back() {
        let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
        let a = supervision.add("a".parse().unwrap(), Restart::Permanent).unwrap();
        let b = supervision.add("b".parse().unwrap(), Restart::Permanent).unwrap();
        supervision.start();
        assert_eq!(supervision.started(a, Incarnation(1), NOW), [Command::Start(b)]);
        let commands = supervision.start_failed(b, &ExitReason::Killed, Seq(1), NOW);
        assert_eq!(
            run(&mut supervision, commands, &mut 10),
            ["stop 0", "end error: child 'b' failed to start: killed"]
        );
    }

    #[test]
    fn a_restart_that_fails_is_tried_again_within_the_intensity() {
        let (mut supervision, keys) = three(Strategy::OneForOne);
        supervision.exited(keys[0], Incarnation(1), &CRASH, Seq(1), NOW);
        for generation in 1..3 {
            let retry = Command::Retry { key: keys[0], generation, at: NOW };
            assert_eq!(supervision.start_failed(keys[0], &CRASH, Seq(1), NOW), [retry]);
            assert_eq!(supervision.retry(keys[0], generation, NOW), [Command::Start(keys[0])]);
        }
        supervision.start_failed(keys[0], &CRASH, Seq(1), NOW);
        let commands = supervision.retry(keys[0], 3, NOW);
        assert!(matches!(&commands[..], [Command::GaveUp(_), Command::Stop(key)] if *key == keys[2]));
    }

    #[test]
    fn a_late_farewell_of_an_earlier_life_changes_nothing() {
        let (mut supervision, keys) = three(Strategy::OneForAll);
        assert_eq!(supervision.exited(keys[0], Incarnation(99), &CRASH, Seq(1), NOW), []);
    }

    #[test]
    fn a_life_that_ends_before_its_start_is_reported_is_restarted_once() {
        let (mut supervision, keys) = three(Strategy::OneForOne);
        supervision.exited(keys[0], Incarnation(1), &CRASH, Seq(1), NOW);
        assert_eq!(supervision.exited(keys[0], Incarnation(4), &CRASH, Seq(2), NOW), []);
        assert_eq!(supervision.started(keys[0], Incarnation(4), NOW), [Command::Start(keys[0])]);
    }

    #[test]
    fn a_life_that_ended_while_it_started_needs_no_stop() {
        let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
        let key = supervision.add("a".parse().unwrap(), Restart::Permanent).unwrap();
        supervision.start();
        assert_eq!(supervision.exited(key, Incarnation(1), &CRASH, Seq(1), NOW), []);
        assert_eq!(supervision.shutdown(ExitReason::Shutdown), [], "nobody is there to be asked");
        let commands = supervision.started(key, Incarnation(1), NOW);
        assert_eq!(commands, [Command::End(ExitReason::Shutdown)]);
    }

    #[test]
    fn a_report_that_comes_twice_counts_once() {
        let (mut supervision, keys) = three(Strategy::OneForOne);
        supervision.shutdown(ExitReason::Shutdown);
        let commands = supervision.exited(keys[2], Incarnation(3), &ExitReason::Shutdown, Seq(1), NOW);
        assert_eq!(commands, [Command::Stop(keys[1])]);
        assert_eq!(supervision.start_failed(keys[2], &CRASH, Seq(2), NOW), []);
        assert_eq!(supervision.exited(keys[2], Incarnation(3), &CRASH, Seq(3), NOW), []);
    }

    #[test]
    fn a_child_that_is_starting_when_the_end_comes_is_stopped_too() {
        let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
        let key = supervision.add("a".parse().unwrap(), Restart::Permanent).unwrap();
        supervision.start();
        assert_eq!(supervision.shutdown(ExitReason::Shutdown), [Command::Stop(key)]);
        assert_eq!(supervision.started(key, Incarnation(1), NOW), [Command::Stop(key)]);
        assert_eq!(
            supervision.exited(key, Incarnation(1), &ExitReason::Shutdown, Seq(1), NOW),
            [Command::End(ExitReason::Shutdown)]
        );
    }

    #[test]
    fn an_unkillable_child_holds_up_nobody_and_is_started_once_it_is_gone() {
        let (mut supervision, keys) = three(Strategy::OneForAll);
        assert_eq!(
            supervision.exited(keys[0], Incarnation(1), &CRASH, Seq(1), NOW),
            [Command::Stop(keys[2])]
        );
        let mut commands = supervision.stop_failed(keys[2]);
        assert_eq!(commands, [Command::Stop(keys[1])]);
        commands = supervision.exited(keys[1], Incarnation(2), &ExitReason::Shutdown, Seq(2), NOW);
        assert_eq!(run(&mut supervision, commands, &mut 10), ["start 0", "start 1"]);
        assert_eq!(
            supervision.exited(keys[2], Incarnation(3), &CRASH, Seq(3), NOW),
            [Command::Start(keys[2])]
        );
    }

    #[test]
    fn a_dynamic_supervisor_starts_stops_and_forgets_at_once() {
        let (mut supervision, keys) = three(Strategy::Dynamic);
        assert_eq!(supervision.terminate(keys[1]), [Command::Stop(keys[1])]);
        assert_eq!(
            supervision.exited(keys[1], Incarnation(2), &ExitReason::Shutdown, Seq(1), NOW),
            [Command::Forget(keys[1])]
        );
        assert_eq!(supervision.len(), 2);
        assert_eq!(
            supervision.shutdown(ExitReason::Shutdown),
            [Command::Stop(keys[2]), Command::Stop(keys[0])],
            "all at once"
        );
    }

    #[test]
    fn a_name_stands_once() {
        let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
        supervision.add("a".parse().unwrap(), Restart::Permanent).unwrap();
        assert!(supervision.add("a".parse().unwrap(), Restart::Permanent).is_err());
    }

    #[test]
    fn a_group_restart_brings_back_siblings_that_had_ended() {
        let mut supervision = Supervision::new(Flags::new(Strategy::OneForAll));
        let a = supervision.add("a".parse().unwrap(), Restart::Transient).unwrap();
        let b = supervision.add("b".parse().unwrap(), Restart::Permanent).unwrap();
        supervision.start();
        supervision.started(a, Incarnation(1), NOW);
        supervision.started(b, Incarnation(2), NOW);
        assert_eq!(supervision.exited(a, Incarnation(1), &ExitReason::Normal, Seq(1), NOW), []);
        let commands = supervision.exited(b, Incarnation(2), &CRASH, Seq(2), NOW);
        assert_eq!(run(&mut supervision, commands, &mut 10), ["start 0", "start 1"]);
    }

    #[test]
    fn failures_that_come_together_wait_as_long_as_the_longest_of_them() {
        let flags = Flags {
            intensity: Intensity { restarts: 100, ..Intensity::default() },
            backoff: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(64)),
            ..Flags::new(Strategy::RestForOne)
        };
        let mut supervision = Supervision::new(flags);
        let [a, b] =
            ["a", "b"].map(|name| supervision.add(name.parse().unwrap(), Restart::Permanent).unwrap());
        let commands = supervision.start();
        let mut life = 0;
        run(&mut supervision, commands, &mut life);
        let commands = supervision.exited(a, Incarnation(1), &CRASH, Seq(1), NOW);
        life = 10;
        run(&mut supervision, commands, &mut life);
        let mut held = NOW;
        for _ in 0..5 {
            let commands = supervision.exited(b, Incarnation(life), &CRASH, Seq(1), NOW);
            if let [Command::Resume { at }] = commands[..] {
                held = at;
                let commands = supervision.resume(held);
                run(&mut supervision, commands, &mut life);
            } else {
                run(&mut supervision, commands, &mut life);
            }
        }
        let commands = supervision.exited(b, Incarnation(life), &CRASH, Seq(1), NOW);
        let [Command::Resume { at }] = commands[..] else { panic!("{commands:?}") };
        assert!(held <= at, "the longest wait so far");
        let commands = supervision.exited(a, Incarnation(11), &CRASH, Seq(2), NOW);
        assert_eq!(commands, [Command::Resume { at }], "a's own second wait would be shorter");
    }
}
