//! What a supervisor shows of its children; nothing here changes anything.

use super::children::{Child, State};
use super::{ChildCounts, ChildKey, ChildRules, ChildStatus, Flags, Phase, Supervision};
use crate::name::Name;
use crate::receipt::Seq;

impl Supervision {
    /// The rules it follows.
    pub const fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The child of this name.
    pub fn find(&self, name: &Name) -> Option<ChildKey> {
        self.children.find(name)
    }

    /// How a child stands.
    pub fn status(&self, key: ChildKey) -> Option<ChildStatus> {
        self.children.get(key).map(|child| self.status_of(key, child))
    }

    fn status_of(&self, key: ChildKey, child: &Child) -> ChildStatus {
        match child.state() {
            State::Down if self.pending.contains(&key) => ChildStatus::Restarting,
            State::Down => ChildStatus::Down,
            State::Retrying(_) => ChildStatus::Restarting,
            State::Starting(_) => ChildStatus::Starting,
            State::Up(_) => ChildStatus::Running,
            State::Stopping => ChildStatus::Stopping,
            State::Unkillable => ChildStatus::Unkillable,
        }
    }

    /// All children in the order of their starts.
    #[doc(alias = "which_children")]
    pub fn children(&self) -> impl Iterator<Item = (ChildKey, &Name, ChildStatus)> {
        self.children.iter().map(|(key, child)| (key, &child.name, self.status_of(key, child)))
    }

    /// How many children there are; does not scan them.
    #[doc(alias = "count_children")]
    pub fn counts(&self) -> ChildCounts {
        self.children.counts()
    }

    /// The rules of a child.
    pub fn rules(&self, key: ChildKey) -> Option<ChildRules> {
        self.children.get(key).map(|child| child.rules)
    }

    /// The receipt that led to the child's present fate: the exit for which it is restarted or stopped.
    pub fn cause(&self, key: ChildKey) -> Option<Seq> {
        self.children.get(key).and_then(|child| child.cause)
    }

    /// Whether the child is down, and stays so until somebody starts it by hand: it declined to run, it ended and its
    /// rule does not bring it back, or it was terminated.
    pub fn rests(&self, key: ChildKey) -> bool {
        let comes_back = self.halted.as_ref().is_some_and(|kept| kept.contains(&key));
        self.status(key) == Some(ChildStatus::Down) && !comes_back && !self.is_ending()
    }

    /// Whether the child is being stopped by its supervisor.
    pub fn is_doomed(&self, key: ChildKey) -> bool {
        self.doomed.contains(&key)
    }

    /// Whether the child has been asked to stop.
    pub fn is_stopping(&self, key: ChildKey) -> bool {
        self.children.state(key) == Some(&State::Stopping)
    }

    /// Whether the supervisor is on its way out.
    pub const fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_) | Phase::Ended)
    }

    /// How many children have a place.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether no child has a place.
    pub fn is_empty(&self) -> bool {
        self.children.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Restart, Strategy};
    use super::*;
    use crate::exit::{ExitReason, Incarnation};
    use crate::time::Timestamp;

    #[test]
    fn a_child_rests_when_nothing_brings_it_back() {
        let now = Timestamp::from_secs(1);
        let mut supervision = Supervision::new(Flags::new(Strategy::OneForOne));
        let mut add = |name: &str, restart| supervision.add(name.parse().unwrap(), restart).unwrap();
        let (declines, ends) = (add("declines", Restart::Permanent), add("ends", Restart::Transient));
        let kept = add("kept", Restart::Permanent);
        supervision.start();
        supervision.ignored(declines);
        supervision.started(ends, Incarnation(1), now);
        supervision.started(kept, Incarnation(2), now);
        supervision.exited(ends, Incarnation(1), &ExitReason::Normal, Seq(1), now);
        let rest = |supervision: &Supervision| [declines, ends, kept].map(|key| supervision.rests(key));
        assert_eq!(rest(&supervision), [true, true, false]);

        supervision.exited(kept, Incarnation(2), &ExitReason::Killed, Seq(2), now);
        assert!(!supervision.rests(kept), "it is started again");
        supervision.started(kept, Incarnation(3), now);
        supervision.halt(Seq(3));
        supervision.exited(kept, Incarnation(3), &ExitReason::Shutdown, Seq(4), now);
        assert_eq!(supervision.status(kept), Some(ChildStatus::Down));
        assert!(!supervision.rests(kept), "it comes back when the supervisor runs again");
        supervision.terminate(kept);
        assert_eq!(rest(&supervision), [true, true, true]);
    }
}
