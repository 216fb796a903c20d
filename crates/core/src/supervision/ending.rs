//! How a supervisor gives up, and how it ends.

use super::children::State;
use super::{ChildKey, Command, GiveUp, Intensity, Phase, Strategy, Supervision};
use crate::exit::ExitReason;

impl Supervision {
    pub(super) fn give_up(&mut self, key: ChildKey, what: &str, reason: &ExitReason) -> Vec<Command> {
        if matches!(self.phase, Phase::Starting(Some(_))) {
            // It will end as soon as it has started, and has said so.
            return Vec::new();
        }
        let Intensity { restarts: limit, period } = self.flags.intensity;
        let told = ExitReason::GaveUp {
            restarts: limit.saturating_add(1),
            limit,
            period_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
            last: format!("child '{}' {what}: {reason}", self.children.known(key).name).into(),
        };
        let mut commands = vec![Command::GaveUp(told.clone())];
        commands.extend(self.end_after_start(match self.flags.give_up {
            GiveUp::Abnormally => told,
            GiveUp::Cleanly => ExitReason::Shutdown,
        }));
        commands
    }

    pub(super) fn end_after_start(&mut self, reason: ExitReason) -> Vec<Command> {
        if let Phase::Starting(then) = &mut self.phase {
            then.get_or_insert(reason);
            return Vec::new();
        }
        self.end(reason)
    }

    pub(super) fn end(&mut self, reason: ExitReason) -> Vec<Command> {
        self.phase = Phase::Ending(reason);
        self.pending.clear();
        self.awaited.clear();
        self.halted = None;
        let mut commands = Vec::new();
        for key in self.children.keys_from(ChildKey(0)).into_iter().rev() {
            match self.children.known(key).state() {
                State::Retrying(_) => {
                    self.children.set(key, State::Down);
                }
                State::Starting(_) | State::Up(_) | State::Stopping => {
                    self.doomed.insert(key);
                    if self.flags.strategy == Strategy::Dynamic {
                        commands.extend(self.ask_to_stop(key));
                    }
                }
                State::Down | State::Unkillable => {}
            }
        }
        commands.extend(self.settle());
        commands
    }
}
