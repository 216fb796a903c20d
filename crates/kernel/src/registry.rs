//! A cell: every place of the tree by its path.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use gemba_core::name::{ActorPath, Name};
use gemba_core::time::Timestamp;
use gemba_core::view::{ActorKind, ActorState, ActorView};

use crate::slot::{Meter, Profile, Slot};

/// How many places are compared with a path that leads nowhere.
const SIMILAR_MAX: usize = 10_000;

/// Our ETS table of places, filed under their supervisors: no list looks at anybody else's children.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    root: OnceLock<Arc<Slot>>,
    families: DashMap<ActorPath, HashMap<Name, Arc<Slot>>>,
    /// What was done at places that are forgotten, by kind.
    forgotten: [Meter; 4],
}

const fn index(kind: ActorKind) -> usize {
    match kind {
        ActorKind::Supervisor => 0,
        ActorKind::Server => 1,
        ActorKind::Actor => 2,
        ActorKind::Task => 3,
    }
}

impl Registry {
    /// The root's place, made if it is new.
    pub(crate) fn root(&self, profile: &Profile) -> Arc<Slot> {
        self.root.get_or_init(|| Arc::new(Slot::new(ActorPath::root(), profile.clone()))).clone()
    }

    /// The place of the child called `name`, made if it is new.
    pub(crate) fn slot(&self, supervisor: &ActorPath, name: &Name, profile: &Profile) -> Arc<Slot> {
        let mut family = match self.families.get_mut(supervisor) {
            Some(family) => family,
            None => self.families.entry(supervisor.clone()).or_default(),
        };
        family
            .entry(name.clone())
            .and_modify(|slot| slot.keep())
            .or_insert_with(|| Arc::new(Slot::new(supervisor.child(name), profile.clone())))
            .clone()
    }

    pub(crate) fn get(&self, path: &ActorPath) -> Option<Arc<Slot>> {
        let Some(supervisor) = path.parent() else { return self.root.get().cloned() };
        self.families.get(&supervisor)?.get(path.name()).cloned()
    }

    /// The places right below `path`, in no order.
    fn children(&self, path: &ActorPath) -> Vec<Arc<Slot>> {
        self.families.get(path).map_or_else(Vec::new, |family| family.values().cloned().collect())
    }

    /// The same in the order they start: what anybody sees of a node must not depend on a hash.
    fn in_order(&self, path: &ActorPath) -> Vec<Arc<Slot>> {
        let mut children: Vec<_> =
            self.children(path).into_iter().map(|child| (child.order(), child)).collect();
        children.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
        children.into_iter().map(|(_, child)| child).collect()
    }

    /// Removes the place at `path`, and those below it if it was a supervisor's.
    pub(crate) fn forget(&self, path: &ActorPath, with_descendants: bool) {
        if let Some(supervisor) = path.parent() {
            let removed =
                self.families.get_mut(&supervisor).and_then(|mut family| family.remove(path.name()));
            self.keep_counts(removed.as_deref());
            self.families.remove_if(&supervisor, |_, family| family.is_empty());
        }
        if with_descendants {
            self.forget_below(path);
        }
    }

    fn forget_below(&self, path: &ActorPath) {
        if let Some((_, family)) = self.families.remove(path) {
            for child in family.into_values() {
                self.keep_counts(Some(&child));
                self.forget_below(&child.path);
            }
        }
    }

    /// What a place has counted is not lost with it. Called when the place is gone: see
    /// [`handled_by_forgotten`](Self::handled_by_forgotten).
    fn keep_counts(&self, removed: Option<&Slot>) {
        if let Some(slot) = removed {
            self.forgotten[index(slot.kind())].count(slot.meter.handled(), slot.meter.busy());
        }
    }

    /// Messages handled at places of this kind that are forgotten. Read before the tree, a place is never in both: a sum
    /// may miss one for a moment, and counts none twice.
    pub(crate) fn handled_by_forgotten(&self, kind: ActorKind) -> u64 {
        self.forgotten[index(kind)].handled()
    }

    /// Removes a place that was given up while somebody held it, now that nobody does.
    pub(crate) fn forget_given_up(&self, path: &ActorPath) {
        let Some(supervisor) = path.parent() else { return };
        // Looked at under the lock under which a new child would take it over.
        let removed = self.families.get_mut(&supervisor).and_then(|mut family| {
            let over = family.get(path.name()).is_some_and(|slot| slot.is_over());
            if over { family.remove(path.name()) } else { None }
        });
        self.families.remove_if(&supervisor, |_, family| family.is_empty());
        self.keep_counts(removed.as_deref());
        if removed.is_some_and(|slot| slot.kind() == ActorKind::Supervisor) {
            self.forget_below(path);
        }
    }

    /// The places right below `path` whose life is running, in the order they start.
    pub(crate) fn running(&self, path: &ActorPath) -> Vec<ActorPath> {
        let running = |slot: &Arc<Slot>| slot.state() == ActorState::Running;
        self.in_order(path).into_iter().filter(running).map(|slot| slot.path.clone()).collect()
    }

    /// The first supervisor below `path` that does not run and should, and its state: one whose own supervisor leaves
    /// it down counts for nothing, and neither does what is below it.
    pub(crate) fn missing_supervisor(&self, path: &ActorPath) -> Option<(ActorPath, ActorState)> {
        let mut children = self.in_order(path);
        children.retain(|child| child.kind() == ActorKind::Supervisor && !child.rests());
        let mut states = children.iter().map(|child| (child.path.clone(), child.shown_state()));
        let missing = states.find(|(_, state)| *state != ActorState::Running);
        missing.or_else(|| children.iter().find_map(|child| self.missing_supervisor(&child.path)))
    }

    /// Gives up the places right below `path` but for those whose names `keeps` knows: they go now, or with who still
    /// holds them.
    pub(crate) fn sweep(&self, path: &ActorPath, keeps: impl Fn(&str) -> bool) {
        for child in self.children(path) {
            if !keeps(child.path.name()) && child.give_up() {
                self.forget(&child.path, true);
            }
        }
    }

    /// The place most like `path`, among the first [`SIMILAR_MAX`], for an error that helps.
    pub(crate) fn similar(&self, path: &ActorPath) -> Option<ActorPath> {
        let mut nearest: Option<(usize, ActorPath)> = None;
        let mut compared = 0;
        for family in &self.families {
            for slot in family.values().take(SIMILAR_MAX - compared) {
                compared += 1;
                let found = (distance(slot.path.as_str(), path.as_str()), slot.path.clone());
                if nearest.as_ref().is_none_or(|nearest| found < *nearest) {
                    nearest = Some(found);
                }
            }
        }
        nearest.filter(|(distance, _)| *distance <= 3).map(|(_, path)| path)
    }

    /// The tree below and including `root`, parents above children, siblings in the order they start.
    pub(crate) fn tree(&self, root: &ActorPath, now: Timestamp) -> Option<ActorView> {
        let root = self.get(root)?;
        Some(self.view(&root, now))
    }

    fn view(&self, slot: &Slot, now: Timestamp) -> ActorView {
        let mut view = slot.view(now);
        view.children = self.in_order(&slot.path).iter().map(|child| self.view(child, now)).collect();
        view
    }
}

/// How many single-character edits lead from one text to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_shows_siblings_in_the_order_they_start() {
        let registry = Registry::default();
        let profile = |order| Profile { kind: ActorKind::Task, strategy: None, order, mailbox: None };
        registry.root(&profile(0));
        for (supervisor, name, order) in [("/", "b", 0), ("/", "a", 1), ("/b", "x", 0)] {
            registry.slot(&supervisor.parse().unwrap(), &name.parse().unwrap(), &profile(order));
        }
        let tree = registry.tree(&ActorPath::root(), Timestamp::START).unwrap();
        let order: Vec<_> = tree.iter().map(|actor| actor.path.to_string()).collect();
        assert_eq!(order, ["/", "/b", "/b/x", "/a"]);
        assert_eq!(registry.similar(&"/b/y".parse().unwrap()).unwrap().as_str(), "/b/x");
        assert_eq!(registry.similar(&"/something/else".parse().unwrap()), None);
        registry.forget(&"/b".parse().unwrap(), true);
        assert_eq!(registry.get(&"/b/x".parse().unwrap()).map(|slot| slot.path.clone()), None);
    }

    #[test]
    fn what_was_handled_at_a_place_is_not_forgotten_with_it() {
        let registry = Registry::default();
        let profile = |kind| Profile { kind, strategy: None, order: 0, mailbox: None };
        let place = |path: &str, kind, handled| {
            let path: ActorPath = path.parse().unwrap();
            let name = path.name().parse().unwrap();
            let slot = registry.slot(&path.parent().unwrap(), &name, &profile(kind));
            slot.meter.count(handled, std::time::Duration::ZERO);
        };
        let handled = || [ActorKind::Server, ActorKind::Task].map(|kind| registry.handled_by_forgotten(kind));
        place("/pools", ActorKind::Supervisor, 0);
        place("/pools/worker", ActorKind::Server, 5);
        place("/pools/clock", ActorKind::Task, 7);
        place("/left", ActorKind::Server, 30);
        assert_eq!(handled(), [0, 0]);
        registry.forget(&"/pools/worker".parse().unwrap(), false);
        registry.forget(&"/pools/worker".parse().unwrap(), false);
        assert_eq!(handled(), [5, 0]);
        registry.forget(&"/pools".parse().unwrap(), true);
        assert_eq!(handled(), [5, 7], "those below it too");
        let left = "/left".parse().unwrap();
        registry.forget_given_up(&left);
        assert_eq!(handled(), [5, 7], "it is not given up");
        registry.get(&left).unwrap().give_up();
        registry.forget_given_up(&left);
        assert_eq!(handled(), [35, 7]);
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "abc", 3), ("countr", "counter", 1), ("abc", "abd", 1), ("abc", "abc", 0)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
