//! How a supervisor halts: all children stop, and none starts until somebody says so.

use std::collections::BTreeSet;

use super::children::State;
use super::{ChildKey, Command, Restart, Strategy, Supervision};
use crate::receipt::Seq;

impl Supervision {
    /// Stops all children, in reverse order, and starts none, whatever happens, until
    /// [`run_again`](Self::run_again). `receipt` is what they name as the cause of their end.
    ///
    /// Places are kept but for those of temporary children, whose end is for good. A supervisor that halts while it
    /// starts counts as started.
    pub fn halt(&mut self, receipt: Seq) -> Vec<Command> {
        if self.is_ending() || self.is_halted() {
            return Vec::new();
        }
        let mut kept = BTreeSet::new();
        let mut commands = Vec::new();
        for key in self.children.keys_from(ChildKey(0)).into_iter().rev() {
            let was_to_stop = self.doomed.contains(&key) && !self.pending.contains(&key);
            let child = self.children.known(key);
            let temporary = child.rules.restart == Restart::Temporary;
            let comes_back = match child.state() {
                State::Down => self.pending.contains(&key),
                State::Retrying(_) => {
                    self.children.set(key, State::Down);
                    true
                }
                State::Starting(_) | State::Up(_) | State::Stopping => {
                    child.cause = Some(receipt);
                    // Its end by this ends nobody else.
                    self.children.dismiss(key);
                    self.doomed.insert(key);
                    if self.flags.strategy == Strategy::Dynamic {
                        commands.extend(self.ask_to_stop(key));
                    }
                    !temporary && !was_to_stop
                }
                State::Unkillable => self.awaited.contains(&key),
            };
            if comes_back {
                kept.insert(key);
            }
        }
        self.pending.clear();
        self.awaited.clear();
        self.hopes.clear();
        self.held = None;
        self.halted = Some(kept);
        commands.extend(self.settle());
        commands
    }

    /// Starts a supervisor that is halted from the beginning: it runs, and none of its children does.
    pub fn start_halted(&mut self) -> Vec<Command> {
        self.halted = Some(self.children.iter().map(|(key, _)| key).collect());
        self.settle()
    }

    /// Starts in order the children that ran, or were to run, when it was halted. A child that still stops is
    /// started when it has. `receipt` is what they name as the cause of their start.
    pub fn run_again(&mut self, receipt: Seq) -> Vec<Command> {
        let Some(kept) = self.halted.take() else { return Vec::new() };
        for key in kept {
            let child = self.children.known(key);
            child.cause = Some(receipt);
            child.tries = 0;
            let wanted =
                if *child.state() == State::Unkillable { &mut self.awaited } else { &mut self.pending };
            wanted.insert(key);
        }
        self.settle()
    }

    /// Whether it is halted.
    pub const fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// The child does not come back when it runs again.
    pub(super) fn leave_halted(&mut self, key: ChildKey) {
        if let Some(kept) = &mut self.halted {
            kept.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Backoff, Flags};
    use super::*;
    use crate::exit::{ExitReason, Incarnation};
    use crate::supervision::ChildRefusal;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_secs(100);

    /// A supervisor that carries out its own commands: whatever is asked to start runs, what is asked to stop stops.
    struct World {
        supervision: Supervision,
        life: u64,
        story: Vec<String>,
    }

    impl World {
        fn new(strategy: Strategy, children: &[(&str, Restart)]) -> Self {
            let mut supervision = Supervision::new(Flags::new(strategy));
            for (name, restart) in children {
                supervision.add(name.parse().unwrap(), *restart).unwrap();
            }
            Self { supervision, life: 0, story: Vec::new() }
        }

        fn started(strategy: Strategy, children: &[(&str, Restart)]) -> Self {
            let mut world = Self::new(strategy, children);
            let commands = world.supervision.start();
            world.follow(commands);
            world.story.clear();
            world
        }

        fn follow(&mut self, commands: Vec<Command>) {
            for command in commands {
                let more = match command {
                    Command::Start(key) => {
                        self.story.push(format!("start {}", key.0));
                        self.life += 1;
                        self.supervision.started(key, Incarnation(self.life), NOW)
                    }
                    Command::Stop(key) => {
                        self.story.push(format!("stop {}", key.0));
                        let last = Incarnation(u64::MAX / 2 + self.life);
                        self.supervision.exited(key, last, &ExitReason::Shutdown, Seq(9), NOW)
                    }
                    Command::Forget(key) => {
                        self.story.push(format!("forget {}", key.0));
                        Vec::new()
                    }
                    Command::Ready => {
                        self.story.push("ready".into());
                        Vec::new()
                    }
                    Command::End(reason) => {
                        self.story.push(format!("end {reason}"));
                        Vec::new()
                    }
                    Command::GaveUp(_) | Command::Resume { .. } | Command::Retry { .. } => Vec::new(),
                };
                self.follow(more);
            }
        }

        fn halt(&mut self) -> Vec<String> {
            let commands = self.supervision.halt(Seq(5));
            self.follow(commands);
            std::mem::take(&mut self.story)
        }

        fn run_again(&mut self) -> Vec<String> {
            let commands = self.supervision.run_again(Seq(6));
            self.follow(commands);
            std::mem::take(&mut self.story)
        }
    }

    const PERMANENT: Restart = Restart::Permanent;

    #[test]
    fn all_stop_in_reverse_and_come_back_in_order() {
        for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne, Strategy::Dynamic] {
            let children = [("a", PERMANENT), ("b", Restart::Transient), ("c", PERMANENT)];
            let mut world = World::started(strategy, &children);
            assert_eq!(world.halt(), ["stop 2", "stop 1", "stop 0"], "{strategy}");
            assert_eq!(world.halt(), [""; 0], "once");
            assert_eq!(world.run_again(), ["start 0", "start 1", "start 2"], "{strategy}");
            assert_eq!(world.run_again(), [""; 0], "once");
        }
    }

    #[test]
    fn who_was_down_stays_down_and_who_is_temporary_is_gone() {
        let children = [("a", PERMANENT), ("b", Restart::Temporary), ("c", PERMANENT)];
        let mut world = World::started(Strategy::OneForOne, &children);
        let commands = world.supervision.terminate(ChildKey(2));
        world.follow(commands);
        world.story.clear();
        assert_eq!(world.halt(), ["stop 1", "forget 1", "stop 0"]);
        assert_eq!(world.run_again(), ["start 0"]);
    }

    #[test]
    fn while_it_is_halted_nothing_starts() {
        let mut world = World::started(Strategy::OneForAll, &[("a", PERMANENT), ("b", PERMANENT)]);
        assert_eq!(world.supervision.halt(Seq(5)), [Command::Stop(ChildKey(1))]);
        // The other one dies before it is asked.
        let died = world.supervision.exited(ChildKey(0), Incarnation(1), &ExitReason::Killed, Seq(7), NOW);
        assert_eq!(died, []);
        let stopped =
            world.supervision.exited(ChildKey(1), Incarnation(2), &ExitReason::Shutdown, Seq(8), NOW);
        assert_eq!(stopped, []);
        assert_eq!(world.supervision.cause(ChildKey(1)), Some(Seq(5)));
        assert_eq!(world.supervision.add("c".parse().unwrap(), PERMANENT), Err(ChildRefusal::Halted));
        assert_eq!(world.supervision.restart_child(ChildKey(0)), Err(ChildRefusal::Halted));
        assert_eq!(world.run_again(), ["start 0", "start 1"]);
        assert_eq!(world.supervision.cause(ChildKey(1)), Some(Seq(6)));
    }

    #[test]
    fn a_restart_that_waits_is_put_off_until_it_runs_again() {
        let flags = Flags {
            backoff: Backoff::exponential(
                std::time::Duration::from_secs(1),
                std::time::Duration::from_secs(8),
            ),
            ..Flags::new(Strategy::OneForOne)
        };
        let mut world = World::new(Strategy::OneForOne, &[("a", PERMANENT)]);
        world.supervision.flags = flags;
        let commands = world.supervision.start();
        world.follow(commands);
        for life in [1, 2] {
            let commands =
                world.supervision.exited(ChildKey(0), Incarnation(life), &ExitReason::Killed, Seq(7), NOW);
            world.follow(commands);
        }
        world.story.clear();
        assert_eq!(world.halt(), [""; 0]);
        assert_eq!(world.supervision.retry(ChildKey(0), 1, NOW), [], "the timer comes too late");
        assert_eq!(world.run_again(), ["start 0"]);
    }

    #[test]
    fn one_that_begins_halted_is_ready_without_its_children() {
        let mut world = World::new(Strategy::OneForOne, &[("a", PERMANENT), ("b", PERMANENT)]);
        let commands = world.supervision.start_halted();
        world.follow(commands);
        assert_eq!(world.story, ["ready"]);
        world.story.clear();
        assert_eq!(world.run_again(), ["start 0", "start 1"]);
        world.halt();
        let commands = world.supervision.shutdown(ExitReason::Shutdown);
        world.follow(commands);
        assert_eq!(std::mem::take(&mut world.story), ["end shutdown"]);
        assert_eq!(world.run_again(), [""; 0]);
    }

    #[test]
    fn one_that_halts_while_it_starts_keeps_the_rest_of_its_children_for_later() {
        let mut world = World::new(Strategy::OneForOne, &[("a", PERMANENT), ("b", Restart::Temporary)]);
        assert_eq!(world.supervision.start(), [Command::Start(ChildKey(0))]);
        assert_eq!(world.supervision.halt(Seq(5)), [Command::Stop(ChildKey(0))]);
        assert_eq!(world.supervision.started(ChildKey(0), Incarnation(1), NOW), [Command::Stop(ChildKey(0))]);
        let commands =
            world.supervision.exited(ChildKey(0), Incarnation(1), &ExitReason::Shutdown, Seq(7), NOW);
        assert_eq!(commands, [Command::Ready]);
        assert_eq!(world.run_again(), ["start 0", "start 1"]);
    }

    #[test]
    fn one_that_fails_to_come_back_keeps_nobody_down_but_its_group() {
        let (a, b) = (ChildKey(0), ChildKey(1));
        for (strategy, is_grouped) in
            [(Strategy::OneForOne, false), (Strategy::RestForOne, true), (Strategy::OneForAll, true)]
        {
            let mut world = World::started(strategy, &[("a", PERMANENT), ("b", PERMANENT)]);
            world.halt();
            assert_eq!(world.supervision.run_again(Seq(6)), [Command::Start(a)], "{strategy}");
            let mut expected = vec![Command::Retry { key: a, generation: 1, at: NOW }];
            if !is_grouped {
                expected.push(Command::Start(b));
            }
            let commands = world.supervision.start_failed(a, &ExitReason::Killed, Seq(7), NOW);
            assert_eq!(commands, expected, "{strategy}");
            world.follow(commands);
            let commands = world.supervision.retry(a, 1, NOW);
            world.story.clear();
            world.follow(commands);
            let retried = if is_grouped { &["start 0", "start 1"][..] } else { &["start 0"] };
            assert_eq!(world.story, retried, "{strategy}");
        }
    }

    #[test]
    fn one_that_does_not_stop_comes_back_once_it_is_gone() {
        let mut world = World::started(Strategy::OneForOne, &[("a", PERMANENT), ("b", PERMANENT)]);
        assert_eq!(world.supervision.halt(Seq(5)), [Command::Stop(ChildKey(1))]);
        assert_eq!(world.supervision.stop_failed(ChildKey(1)), [Command::Stop(ChildKey(0))]);
        world.supervision.exited(ChildKey(0), Incarnation(1), &ExitReason::Shutdown, Seq(7), NOW);
        assert_eq!(world.run_again(), ["start 0"]);
        let gone = world.supervision.exited(ChildKey(1), Incarnation(2), &ExitReason::Killed, Seq(8), NOW);
        assert_eq!(gone, [Command::Start(ChildKey(1))]);
    }
}
