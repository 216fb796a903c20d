//! The children of one supervisor, in the order of their starts, with counts that never scan.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::rules::{ChildCounts, ChildKey, ChildKind, ChildRefusal, ChildRules};
use crate::exit::{ExitReason, Incarnation};
use crate::name::Name;
use crate::receipt::Seq;
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Down,
    /// Waits for its next start.
    Retrying(Box<Retry>),
    /// Keeps the exit of a life that ended before its start was reported.
    Starting(Option<Box<(Incarnation, ExitReason)>>),
    Up(Incarnation),
    Stopping,
    Unkillable,
}

/// A restart that is put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retry {
    pub generation: u32,
    /// The failed start that is still to be counted against the intensity; a crash is counted at once.
    pub failure: Option<(ExitReason, Seq)>,
    /// When it is due; a group that takes the child along waits as long.
    pub at: Timestamp,
}

impl State {
    fn is_alive(&self) -> bool {
        matches!(self, Self::Starting(_) | Self::Up(_) | Self::Stopping)
    }

    fn is_active(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Stopping | Self::Unkillable)
    }
}

/// Who asked for a start that is under way, which decides what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The supervisor's own start.
    First,
    /// `start_child`: a failure leaves nothing behind.
    Add,
    /// `restart_child`: a failure leaves the child down.
    Manual,
    /// A restart: a failure is tried again.
    Restart,
}

#[derive(Debug, Clone)]
pub(super) struct Child {
    pub name: Name,
    pub rules: ChildRules,
    state: State,
    pub purpose: Purpose,
    pub cause: Option<Seq>,
    /// Restarts in a row, for the back-off.
    pub tries: u32,
    pub up_since: Timestamp,
    pub generation: u32,
    /// The first life that can still end; the farewells of earlier ones are old news.
    pub earliest: Incarnation,
    /// Somebody asked for its end, which therefore ends nobody else.
    dismissed: bool,
}

impl Child {
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    fn counts_as_significant(&self) -> bool {
        self.rules.significant && !self.dismissed && self.state != State::Down
    }

    fn counts_as_starting(&self) -> bool {
        self.counts_as_significant() && matches!(self.state, State::Starting(_))
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Children {
    next: u64,
    by_key: BTreeMap<ChildKey, Child>,
    names: HashMap<Name, ChildKey>,
    counts: ChildCounts,
    alive: usize,
    /// Significant children that are not down, and that nobody asked to stop.
    significant: usize,
    /// Those of them whose start is under way.
    starting: usize,
}

impl Children {
    /// Gives a child its place behind all others.
    pub(super) fn add(&mut self, name: Name, rules: ChildRules) -> Result<ChildKey, ChildRefusal> {
        if let Some(key) = self.names.get(&name) {
            return Err(match self.by_key[key].state {
                State::Down | State::Retrying(_) => ChildRefusal::AlreadyPresent { name },
                State::Starting(_) | State::Up(_) | State::Stopping | State::Unkillable => {
                    ChildRefusal::AlreadyStarted { name }
                }
            });
        }
        let key = ChildKey(self.next);
        self.next += 1;
        self.names.insert(name.clone(), key);
        let child = Child {
            name,
            rules,
            state: State::Down,
            purpose: Purpose::First,
            cause: None,
            tries: 0,
            up_since: Timestamp::START,
            generation: 0,
            earliest: Incarnation(0),
            dismissed: false,
        };
        self.by_key.insert(key, child);
        self.counts.specs += 1;
        *self.of_kind(rules.kind) += 1;
        Ok(key)
    }

    pub(super) fn remove(&mut self, key: ChildKey) {
        self.set(key, State::Down);
        if let Some(child) = self.by_key.remove(&key) {
            self.names.remove(&child.name);
            self.counts.specs -= 1;
            *self.of_kind(child.rules.kind) -= 1;
        }
    }

    /// Moves a child to another state, and the counts with it. Tells the state it was in.
    pub(super) fn set(&mut self, key: ChildKey, state: State) -> Option<State> {
        let child = self.by_key.get_mut(&key)?;
        let counted = (child.counts_as_significant(), child.counts_as_starting());
        let was = std::mem::replace(&mut child.state, state);
        child.dismissed &= child.state != State::Down;
        let now = &child.state;
        self.alive = self.alive + usize::from(now.is_alive()) - usize::from(was.is_alive());
        self.counts.active = self.counts.active + usize::from(now.is_active()) - usize::from(was.is_active());
        self.significant =
            self.significant + usize::from(child.counts_as_significant()) - usize::from(counted.0);
        self.starting = self.starting + usize::from(child.counts_as_starting()) - usize::from(counted.1);
        Some(was)
    }

    /// Notes that somebody asked for the end of a child.
    pub(super) fn dismiss(&mut self, key: ChildKey) {
        let child = self.known(key);
        if child.counts_as_significant() {
            let starting = child.counts_as_starting();
            child.dismissed = true;
            self.significant -= 1;
            self.starting -= usize::from(starting);
        }
    }

    pub(super) fn get(&self, key: ChildKey) -> Option<&Child> {
        self.by_key.get(&key)
    }

    pub(super) fn state(&self, key: ChildKey) -> Option<&State> {
        self.by_key.get(&key).map(|child| &child.state)
    }

    /// The child behind a key that the caller has looked up.
    pub(super) fn known(&mut self, key: ChildKey) -> &mut Child {
        self.by_key.get_mut(&key).expect("the caller looked it up")
    }

    pub(super) fn find(&self, name: &Name) -> Option<ChildKey> {
        self.names.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (ChildKey, &Child)> {
        self.by_key.iter().map(|(key, child)| (*key, child))
    }

    /// The keys from `first` on.
    pub(super) fn keys_from(&self, first: ChildKey) -> Vec<ChildKey> {
        self.by_key.range(first..).map(|(key, _)| *key).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn counts(&self) -> ChildCounts {
        self.counts
    }

    /// Children with a life, or the start of one.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    /// Significant children that run, start, stop or will be started again.
    pub(super) fn significant(&self) -> usize {
        self.significant
    }

    /// Those of them that start, if all of them do.
    pub(super) fn significant_if_starting(&self) -> Option<BTreeSet<ChildKey>> {
        let starting = || self.iter().filter(|(_, child)| child.counts_as_starting()).map(|(key, _)| key);
        match self.starting {
            // The scan is left for the case that needs it.
            0 if self.significant == 0 => Some(BTreeSet::new()),
            all if all == self.significant => Some(starting().collect()),
            _ => None,
        }
    }

    fn of_kind(&mut self, kind: ChildKind) -> &mut usize {
        match kind {
            ChildKind::Worker => &mut self.counts.workers,
            ChildKind::Supervisor => &mut self.counts.supervisors,
        }
    }
}
