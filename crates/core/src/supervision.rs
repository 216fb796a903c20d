//! How a supervisor decides: whom to start, whom to stop, and when to give up.
//!
//! [`Supervision`] is told what happened and answers with [`Command`]s. Children start in order and
//! stop in reverse order, one at a time; a dynamic supervisor's start and stop at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::exit::{ExitReason, Incarnation};
use crate::name::Name;
use crate::receipt::Seq;
use crate::time::Timestamp;

mod rules;

pub use rules::{ChildKey, Command, DuplicateChild, Intensity, Restart, Strategy};

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Down,
    /// Keeps the exit of a life that ended before its start was reported.
    Starting(Option<(Incarnation, ExitReason)>),
    Up(Incarnation),
    Stopping,
    Unkillable,
}

#[derive(Debug, Clone)]
struct Child {
    name: Name,
    restart: Restart,
    state: State,
    has_run: bool,
    cause: Option<Seq>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Ending(ExitReason),
}

/// The state of one supervisor.
///
/// # Examples
///
/// ```
/// use gemba_core::exit::{ExitReason, Incarnation};
/// use gemba_core::receipt::Seq;
/// use gemba_core::supervision::{Command, Intensity, Restart, Strategy, Supervision};
/// use gemba_core::time::Timestamp;
///
/// let mut supervision = Supervision::new(Strategy::OneForOne, Intensity::default());
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
    strategy: Strategy,
    intensity: Intensity,
    phase: Phase,
    next: u64,
    children: BTreeMap<ChildKey, Child>,
    names: HashMap<Name, ChildKey>,
    /// Alive, and to be stopped before anything is started.
    doomed: BTreeSet<ChildKey>,
    /// To be started in order once nobody is doomed. May still be alive.
    pending: BTreeSet<ChildKey>,
    /// Unkillable ones that are to be started again once they are really gone.
    awaited: BTreeSet<ChildKey>,
    /// The child whose start the next one waits for.
    in_turn: Option<ChildKey>,
    alive: usize,
    restarts: VecDeque<Timestamp>,
}

impl Supervision {
    /// A supervisor without children.
    pub fn new(strategy: Strategy, intensity: Intensity) -> Self {
        Self {
            strategy,
            intensity,
            phase: Phase::Starting,
            next: 0,
            children: BTreeMap::new(),
            names: HashMap::new(),
            doomed: BTreeSet::new(),
            pending: BTreeSet::new(),
            awaited: BTreeSet::new(),
            in_turn: None,
            alive: 0,
            restarts: VecDeque::new(),
        }
    }

    /// Gives a child its place, behind all others. Nothing is started yet.
    ///
    /// # Errors
    ///
    /// [`DuplicateChild`] if the name is taken.
    pub fn add(&mut self, name: Name, restart: Restart) -> Result<ChildKey, DuplicateChild> {
        if self.names.contains_key(&name) {
            return Err(DuplicateChild { name });
        }
        let key = ChildKey(self.next);
        self.next += 1;
        self.names.insert(name.clone(), key);
        self.children.insert(key, Child { name, restart, state: State::Down, has_run: false, cause: None });
        Ok(key)
    }

    /// Starts all children added so far, in order.
    pub fn start(&mut self) -> Vec<Command> {
        self.pending = self.children.keys().copied().collect();
        self.settle()
    }

    /// Starts one child that was added while the supervisor runs.
    pub fn start_child(&mut self, key: ChildKey) -> Vec<Command> {
        if self.is_ending() || !self.children.contains_key(&key) {
            return Vec::new();
        }
        self.begin_start(key)
    }

    /// Stops one child and, unless its supervisor is static and it is not temporary, gives up its place.
    pub fn terminate(&mut self, key: ChildKey) -> Vec<Command> {
        let Some(child) = self.children.get(&key) else { return Vec::new() };
        self.pending.remove(&key);
        match child.state {
            State::Down => self.forget_if_over(key),
            State::Starting(_) | State::Up(_) => {
                self.doomed.insert(key);
                self.settle()
            }
            State::Stopping | State::Unkillable => {
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
        let Some(child) = self.children.get_mut(&key) else { return Vec::new() };
        child.has_run = true;
        match std::mem::replace(&mut child.state, State::Up(incarnation)) {
            State::Starting(None) => self.settle(),
            State::Starting(Some((early, reason))) => {
                let receipt = child.cause.unwrap_or_default();
                let mut commands = self.exited(key, early, &reason, receipt, now);
                if self.phase == Phase::Starting {
                    commands.extend(self.settle());
                }
                commands
            }
            // It was to be stopped while it was starting: the stop is asked for again, now that there is
            // somebody to ask.
            State::Stopping => {
                child.state = State::Stopping;
                vec![Command::Stop(key)]
            }
            other @ (State::Down | State::Up(_) | State::Unkillable) => {
                child.state = other;
                Vec::new()
            }
        }
    }

    /// A start did not come to run.
    ///
    /// A first start that fails rolls back what was started before it and ends the supervisor, or, for a
    /// child added later, gives up its place. A restart that fails counts against the intensity and is
    /// tried again.
    pub fn start_failed(
        &mut self,
        key: ChildKey,
        reason: &ExitReason,
        receipt: Seq,
        now: Timestamp,
    ) -> Vec<Command> {
        let Some(child) = self.children.get_mut(&key) else { return Vec::new() };
        let was_stopping = match child.state {
            State::Starting(_) => false,
            State::Stopping => true,
            // It was reported already.
            State::Down | State::Up(_) | State::Unkillable => return Vec::new(),
        };
        let first = !child.has_run;
        child.state = State::Down;
        self.alive -= 1;
        self.doomed.remove(&key);
        if self.is_ending() {
            return self.settle();
        }
        if was_stopping {
            let mut commands = self.forget_if_over(key);
            commands.extend(self.settle());
            return commands;
        }
        if self.phase == Phase::Starting {
            let name = &self.children[&key].name;
            let message = format!("child '{name}' failed to start: {reason}");
            return self.end(ExitReason::Error { message: message.into() });
        }
        if first {
            let mut commands = vec![Command::Forget(key)];
            self.remove(key);
            commands.extend(self.settle());
            return commands;
        }
        self.restart(key, reason, receipt, now)
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
        let ending = self.is_ending();
        let Some(child) = self.children.get_mut(&key) else { return Vec::new() };
        match &child.state {
            State::Starting(_) => {
                child.state = State::Starting(Some((incarnation, reason.clone())));
                child.cause = Some(receipt);
                return Vec::new();
            }
            State::Up(present) if *present != incarnation => return Vec::new(),
            State::Down => return Vec::new(),
            State::Up(_) | State::Stopping => self.alive -= 1,
            State::Unkillable => {}
        }
        let was = std::mem::replace(&mut child.state, State::Down);
        let was_doomed = self.doomed.remove(&key);
        if ending {
            return self.settle();
        }
        if was == State::Unkillable {
            if self.awaited.remove(&key) {
                return self.begin_start(key);
            }
            return self.forget_if_over(key);
        }
        if was_doomed || was == State::Stopping {
            let mut commands =
                if self.pending.contains(&key) { Vec::new() } else { self.forget_if_over(key) };
            commands.extend(self.settle());
            return commands;
        }
        if !child.restart.applies_to(reason) {
            return self.forget_if_over(key);
        }
        self.restart(key, reason, receipt, now)
    }

    /// A child ignored its kill. It is left behind; its place stays taken until it is really gone.
    pub fn stop_failed(&mut self, key: ChildKey) -> Vec<Command> {
        let Some(child) = self.children.get_mut(&key) else { return Vec::new() };
        if child.state != State::Stopping {
            return Vec::new();
        }
        child.state = State::Unkillable;
        self.alive -= 1;
        self.doomed.remove(&key);
        if self.pending.remove(&key) {
            self.awaited.insert(key);
        }
        self.settle()
    }

    /// Which siblings it restarts with a child.
    pub const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The child of this name.
    pub fn find(&self, name: &Name) -> Option<ChildKey> {
        self.names.get(name).copied()
    }

    /// The receipt that led to the child's present fate: the exit for which it is restarted or stopped.
    pub fn cause(&self, key: ChildKey) -> Option<Seq> {
        self.children.get(&key).and_then(|child| child.cause)
    }

    /// Whether the child is being stopped by its supervisor.
    pub fn is_doomed(&self, key: ChildKey) -> bool {
        self.doomed.contains(&key)
    }

    /// Whether the child has been asked to stop.
    pub fn is_stopping(&self, key: ChildKey) -> bool {
        self.children.get(&key).is_some_and(|child| child.state == State::Stopping)
    }

    /// Whether the supervisor is on its way out.
    pub const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// How many children have a place.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether no child has a place.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    fn restart(&mut self, key: ChildKey, reason: &ExitReason, receipt: Seq, now: Timestamp) -> Vec<Command> {
        if !self.may_restart(now) {
            let period_ms = u64::try_from(self.intensity.period.as_millis()).unwrap_or(u64::MAX);
            let name = &self.children[&key].name;
            return self.end(ExitReason::GaveUp {
                restarts: self.intensity.restarts.saturating_add(1),
                limit: self.intensity.restarts,
                period_ms,
                last: format!("child '{name}' exited: {reason}").into(),
            });
        }
        self.child(key).cause = Some(receipt);
        match self.strategy {
            Strategy::OneForOne | Strategy::Dynamic => self.begin_start(key),
            Strategy::OneForAll => self.restart_group(key, ChildKey(0), receipt),
            Strategy::RestForOne => self.restart_group(key, key, receipt),
        }
    }

    /// Stops everyone from `first` on and starts them again, those that were down included, as OTP does.
    fn restart_group(&mut self, failed: ChildKey, first: ChildKey, receipt: Seq) -> Vec<Command> {
        for (&key, child) in self.children.range_mut(first..) {
            child.cause = Some(receipt);
            match child.state {
                State::Down => {}
                State::Starting(_) | State::Up(_) | State::Stopping => {
                    self.doomed.insert(key);
                }
                State::Unkillable => {
                    self.awaited.insert(key);
                    continue;
                }
            }
            if child.restart != Restart::Temporary {
                self.pending.insert(key);
            }
        }
        self.pending.insert(failed);
        self.settle()
    }

    /// Exact to the nanosecond, in constant time: only the restart `limit` places back matters.
    fn may_restart(&mut self, now: Timestamp) -> bool {
        let limit = self.intensity.restarts as usize;
        if limit == 0 {
            return false;
        }
        if self.restarts.len() == limit {
            let oldest = self.restarts[0];
            if now.since(oldest) <= self.intensity.period {
                return false;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        true
    }

    fn end(&mut self, reason: ExitReason) -> Vec<Command> {
        self.phase = Phase::Ending(reason);
        self.pending.clear();
        self.awaited.clear();
        for (&key, child) in &self.children {
            if matches!(child.state, State::Starting(_) | State::Up(_) | State::Stopping) {
                self.doomed.insert(key);
            }
        }
        self.settle()
    }

    /// Takes the next step towards what is wanted: stops first, in reverse order; then starts, in order.
    fn settle(&mut self) -> Vec<Command> {
        if !self.doomed.is_empty() {
            return self.stop_doomed();
        }
        if let Phase::Ending(reason) = &self.phase {
            return if self.alive == 0 { vec![Command::End(reason.clone())] } else { Vec::new() };
        }
        if self.strategy == Strategy::Dynamic {
            return self.start_at_once();
        }
        if self.phase == Phase::Starting || !self.pending.is_empty() {
            return self.start_pending();
        }
        Vec::new()
    }

    fn stop_doomed(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        for &key in self.doomed.iter().rev() {
            let child = self.children.get_mut(&key).expect("only children are doomed");
            match child.state {
                // Its life is over already, and the report of its start under way: then it counts as stopped.
                State::Stopping | State::Starting(Some(_)) => {}
                State::Down | State::Starting(None) | State::Up(_) | State::Unkillable => {
                    child.state = State::Stopping;
                    commands.push(Command::Stop(key));
                }
            }
            if self.strategy != Strategy::Dynamic {
                break;
            }
        }
        commands
    }

    fn start_at_once(&mut self) -> Vec<Command> {
        let pending = std::mem::take(&mut self.pending);
        let mut commands: Vec<_> = pending.into_iter().flat_map(|key| self.begin_start(key)).collect();
        if self.phase == Phase::Starting {
            self.phase = Phase::Running;
            commands.push(Command::Ready);
        }
        commands
    }

    fn start_pending(&mut self) -> Vec<Command> {
        let in_turn = self.in_turn.and_then(|key| self.children.get(&key));
        if in_turn.is_some_and(|child| matches!(child.state, State::Starting(_))) {
            return Vec::new();
        }
        self.in_turn = self.pending.pop_first();
        match self.in_turn {
            Some(key) => self.begin_start(key),
            None if self.phase == Phase::Starting => {
                self.phase = Phase::Running;
                vec![Command::Ready]
            }
            None => Vec::new(),
        }
    }

    fn begin_start(&mut self, key: ChildKey) -> Vec<Command> {
        let child = self.child(key);
        if child.state != State::Down {
            return Vec::new();
        }
        child.state = State::Starting(None);
        self.alive += 1;
        vec![Command::Start(key)]
    }

    /// A place that nobody will fill again is given up: temporary children, and all of a dynamic supervisor.
    fn forget_if_over(&mut self, key: ChildKey) -> Vec<Command> {
        let child = &self.children[&key];
        if child.restart == Restart::Temporary || self.strategy == Strategy::Dynamic {
            self.remove(key);
            return vec![Command::Forget(key)];
        }
        Vec::new()
    }

    fn remove(&mut self, key: ChildKey) {
        if let Some(child) = self.children.remove(&key) {
            self.names.remove(&child.name);
        }
        self.pending.remove(&key);
        self.doomed.remove(&key);
        self.awaited.remove(&key);
    }

    fn child(&mut self, key: ChildKey) -> &mut Child {
        self.children.get_mut(&key).expect("the caller looked it up")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(100);
    const CRASH: ExitReason = ExitReason::Killed;

    /// Three permanent children that run as incarnations 1, 2 and 3.
    fn three(strategy: Strategy) -> (Supervision, [ChildKey; 3]) {
        let mut supervision = Supervision::new(strategy, Intensity::default());
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
                    let State::Stopping = supervision.children[key].state else { panic!("not stopping") };
                    supervision.exited(*key, Incarnation(0), &ExitReason::Shutdown, Seq(2), NOW)
                }
                Command::Forget(key) => {
                    trace.push(format!("forget {}", key.0));
                    Vec::new()
                }
                Command::Ready => Vec::new(),
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
            let mut supervision = Supervision::new(Strategy::OneForOne, Intensity::default());
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
        let mut supervision = Supervision::new(Strategy::OneForOne, Intensity::default());
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
        for _ in 0..2 {
            assert_eq!(supervision.start_failed(keys[0], &CRASH, Seq(1), NOW), [Command::Start(keys[0])]);
        }
        let commands = supervision.start_failed(keys[0], &CRASH, Seq(1), NOW);
        assert_eq!(commands, [Command::Stop(keys[2])]);
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
        let mut supervision = Supervision::new(Strategy::OneForOne, Intensity::default());
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
        let mut supervision = Supervision::new(Strategy::OneForOne, Intensity::default());
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
        let mut supervision = Supervision::new(Strategy::OneForOne, Intensity::default());
        supervision.add("a".parse().unwrap(), Restart::Permanent).unwrap();
        assert!(supervision.add("a".parse().unwrap(), Restart::Permanent).is_err());
    }

    #[test]
    fn a_group_restart_brings_back_siblings_that_had_ended() {
        let mut supervision = Supervision::new(Strategy::OneForAll, Intensity::default());
        let a = supervision.add("a".parse().unwrap(), Restart::Transient).unwrap();
        let b = supervision.add("b".parse().unwrap(), Restart::Permanent).unwrap();
        supervision.start();
        supervision.started(a, Incarnation(1), NOW);
        supervision.started(b, Incarnation(2), NOW);
        assert_eq!(supervision.exited(a, Incarnation(1), &ExitReason::Normal, Seq(1), NOW), []);
        let commands = supervision.exited(b, Incarnation(2), &CRASH, Seq(2), NOW);
        assert_eq!(run(&mut supervision, commands, &mut 10), ["start 0", "start 1"]);
    }
}
