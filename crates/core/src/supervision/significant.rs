//! Whether the end of significant children ends their supervisor.

use std::collections::BTreeSet;

use super::{AutoShutdown, ChildKey, Command, State, Supervision};
use crate::exit::ExitReason;

impl Supervision {
    /// A child ended by itself and is not started again.
    pub(super) fn over(&mut self, key: ChildKey) -> Vec<Command> {
        let significant = self.children.known(key).rules.significant;
        let mut commands = self.forget_if_over(key);
        let ends = match self.flags.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => significant,
            AutoShutdown::AllSignificant => significant && !self.is_significant_left(),
        };
        if ends {
            commands.extend(self.end_after_start(ExitReason::Shutdown));
        } else if significant {
            self.hopes = self.last_hopes();
        }
        commands
    }

    /// The significant children whose starts are under way or to come, if no other one is left.
    fn last_hopes(&self) -> BTreeSet<ChildKey> {
        let Some(mut hopes) = self.children.significant_if_starting() else { return BTreeSet::new() };
        hopes.extend(self.significant_pending());
        hopes
    }

    /// One of the last hopes is enough, however its life goes on.
    pub(super) fn came_to_run(&mut self, key: ChildKey) {
        if self.hopes.contains(&key) {
            self.hopes.clear();
        }
    }

    /// A start came to nothing: if it was the last hope, the last significant child is over after all.
    pub(super) fn give_up_hopes(&mut self) -> Vec<Command> {
        if self.hopes.is_empty() || self.is_ending() {
            return Vec::new();
        }
        let (children, pending) = (&self.children, &self.pending);
        self.hopes.retain(|key| {
            let state = children.state(*key);
            pending.contains(key) || matches!(state, Some(State::Starting(_) | State::Stopping))
        });
        if !self.hopes.is_empty() {
            return Vec::new();
        }
        if self.is_significant_left() {
            self.hopes = self.last_hopes();
            return Vec::new();
        }
        self.end_after_start(ExitReason::Shutdown)
    }

    /// Whether a significant child runs or will run.
    fn is_significant_left(&self) -> bool {
        0 < self.children.significant() || self.significant_pending().next().is_some()
    }

    fn significant_pending(&self) -> impl Iterator<Item = ChildKey> {
        let is_significant =
            |key: &ChildKey| self.children.get(*key).is_some_and(|child| child.rules.significant);
        self.pending.iter().copied().filter(is_significant)
    }
}
