//! The steps from what is to what is wanted: stops first, in reverse order; then starts, in order.

use super::children::{Purpose, State};
use super::{ChildKey, Command, Phase, Restart, Strategy, Supervision};
use crate::receipt::Seq;
use crate::time::Timestamp;

impl Supervision {
    /// Takes the next step towards what is wanted: stops first, in reverse order; then starts, in order.
    pub(super) fn settle(&mut self) -> Vec<Command> {
        if let Some(&key) = self.doomed.last() {
            // A dynamic supervisor has asked all of them already.
            let one_by_one = self.flags.strategy != Strategy::Dynamic;
            return if one_by_one { self.ask_to_stop(key).into_iter().collect() } else { Vec::new() };
        }
        match &self.phase {
            Phase::Ending(reason) if self.children.alive() == 0 => {
                let end = Command::End(reason.clone());
                self.phase = Phase::Ended;
                vec![end]
            }
            Phase::Ending(_) | Phase::Ended => Vec::new(),
            Phase::Starting(_) | Phase::Running => self.start_pending(),
        }
    }

    /// Dooms everyone from `first` on and lines them up to be started again, those that were down included,
    /// as OTP does. Tells until when one of them was to wait.
    pub(super) fn gather(&mut self, first: ChildKey, receipt: Seq) -> Timestamp {
        let mut until = Timestamp::START;
        for key in self.children.keys_from(first) {
            let child = self.children.known(key);
            child.cause = Some(receipt);
            let temporary = child.rules.restart == Restart::Temporary;
            let mut wanted = &mut self.pending;
            match child.state() {
                State::Down => {}
                State::Retrying(retry) => {
                    until = until.max(retry.at);
                    self.children.set(key, State::Down);
                }
                State::Starting(_) | State::Up(_) | State::Stopping => {
                    self.doomed.insert(key);
                }
                State::Unkillable => wanted = &mut self.awaited,
            }
            if temporary {
                // Its end is for good, and ends nobody else.
                self.children.dismiss(key);
            } else {
                wanted.insert(key);
            }
        }
        until
    }

    pub(super) fn ask_to_stop(&mut self, key: ChildKey) -> Option<Command> {
        match self.children.known(key).state() {
            // Its life is over already, and the report of its start under way: then it counts as stopped.
            State::Stopping | State::Starting(Some(_)) => None,
            State::Down | State::Retrying(_) | State::Starting(None) | State::Up(_) | State::Unkillable => {
                self.children.set(key, State::Stopping);
                Some(Command::Stop(key))
            }
        }
    }

    pub(super) fn start_pending(&mut self) -> Vec<Command> {
        let in_turn = self.in_turn.and_then(|key| self.children.state(key));
        if self.held.is_some() || in_turn.is_some_and(|state| matches!(state, State::Starting(_))) {
            return Vec::new();
        }
        let purpose = if self.phase == Phase::Running { Purpose::Restart } else { Purpose::First };
        if self.flags.strategy == Strategy::Dynamic {
            let pending = std::mem::take(&mut self.pending);
            let mut commands: Vec<_> =
                pending.into_iter().flat_map(|key| self.begin_start(key, purpose)).collect();
            commands.extend(self.ready());
            return commands;
        }
        self.in_turn = self.pending.pop_first();
        match self.in_turn {
            Some(key) => self.begin_start(key, purpose),
            None => self.ready(),
        }
    }

    pub(super) fn ready(&mut self) -> Vec<Command> {
        let Phase::Starting(then) = &mut self.phase else { return Vec::new() };
        let then = then.take();
        self.phase = Phase::Running;
        let mut commands = vec![Command::Ready];
        commands.extend(then.into_iter().flat_map(|reason| self.end(reason)).collect::<Vec<_>>());
        commands
    }

    pub(super) fn begin_start(&mut self, key: ChildKey, purpose: Purpose) -> Vec<Command> {
        if self.children.state(key) != Some(&State::Down) {
            return Vec::new();
        }
        self.children.known(key).purpose = purpose;
        self.children.set(key, State::Starting(None));
        vec![Command::Start(key)]
    }

    /// A place that nobody will fill again is given up: temporary children, and all of a dynamic supervisor.
    pub(super) fn forget_if_over(&mut self, key: ChildKey) -> Vec<Command> {
        if self.halted.as_ref().is_some_and(|kept| kept.contains(&key)) {
            return Vec::new();
        }
        let temporary = self.children.known(key).rules.restart == Restart::Temporary;
        if temporary || self.flags.strategy == Strategy::Dynamic { self.forget(key) } else { Vec::new() }
    }

    pub(super) fn forget(&mut self, key: ChildKey) -> Vec<Command> {
        self.children.remove(key);
        self.pending.remove(&key);
        self.doomed.remove(&key);
        self.awaited.remove(&key);
        self.leave_halted(key);
        vec![Command::Forget(key)]
    }
}
