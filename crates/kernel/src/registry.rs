//! A cell: every place of the tree by its path.

use std::collections::BTreeMap;
use std::sync::Arc;

use dashmap::DashMap;
use gemba_core::name::ActorPath;
use gemba_core::time::Timestamp;
use gemba_core::view::{ActorState, ActorView};

use crate::slot::{Profile, Slot};

/// Our ETS table of places.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    slots: DashMap<ActorPath, Arc<Slot>>,
}

impl Registry {
    /// The place at `path`, made if it is new.
    pub(crate) fn slot(&self, path: &ActorPath, profile: &Profile) -> Arc<Slot> {
        if let Some(slot) = self.slots.get(path) {
            return slot.clone();
        }
        self.slots
            .entry(path.clone())
            .or_insert_with(|| Arc::new(Slot::new(path.clone(), profile.clone())))
            .clone()
    }

    pub(crate) fn get(&self, path: &ActorPath) -> Option<Arc<Slot>> {
        self.slots.get(path).map(|slot| slot.clone())
    }

    /// The places right below `path`.
    fn children(&self, path: &ActorPath) -> Vec<ActorPath> {
        let below = |other: &ActorPath| other.parent().as_ref() == Some(path);
        self.slots.iter().filter(|entry| below(entry.key())).map(|entry| entry.key().clone()).collect()
    }

    /// Removes the place at `path`, and those below it if it was a supervisor's.
    pub(crate) fn forget(&self, path: &ActorPath, with_descendants: bool) {
        self.slots.remove(path);
        if with_descendants {
            self.slots.retain(|other, _| !other.is_within(path));
        }
    }

    /// The places right below `path` whose life is running.
    pub(crate) fn running(&self, path: &ActorPath) -> Vec<ActorPath> {
        let is_running =
            |path: &ActorPath| self.get(path).is_some_and(|slot| slot.state() == ActorState::Running);
        self.children(path).into_iter().filter(is_running).collect()
    }

    /// Removes the places right below `path` that nobody holds.
    pub(crate) fn sweep(&self, path: &ActorPath) {
        for child in self.children(path) {
            if self.get(&child).is_some_and(|slot| slot.state() == ActorState::Down) {
                self.forget(&child, true);
            }
        }
    }

    /// The place most like `path`, for an error that helps.
    pub(crate) fn similar(&self, path: &ActorPath) -> Option<ActorPath> {
        self.slots
            .iter()
            .map(|entry| (distance(entry.key().as_str(), path.as_str()), entry.key().clone()))
            .min()
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, path)| path)
    }

    /// The tree below and including `root`, parents above children, siblings in the order they start.
    pub(crate) fn tree(&self, root: &ActorPath, now: Timestamp) -> Option<ActorView> {
        let mut slots: Vec<_> = self.slots.iter().map(|entry| entry.value().clone()).collect();
        slots.retain(|slot| slot.path.is_within(root));
        // Deepest first: when a parent is reached, all its children have been filed under it.
        slots.sort_by_key(|slot| std::cmp::Reverse(depth(&slot.path)));
        let mut children: BTreeMap<ActorPath, Vec<(u64, ActorView)>> = BTreeMap::new();
        for slot in slots {
            let mut view = slot.view(now);
            if let Some(mut below) = children.remove(&slot.path) {
                below.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
                view.children = below.into_iter().map(|(_, child)| child).collect();
            }
            if slot.path == *root {
                return Some(view);
            }
            let parent = slot.path.parent().expect("only the root has no parent");
            children.entry(parent).or_default().push((slot.order(), view));
        }
        None
    }
}

fn depth(path: &ActorPath) -> usize {
    if path.is_root() { 0 } else { path.as_str().matches('/').count() }
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
    use gemba_core::view::ActorKind;

    #[test]
    fn a_tree_shows_siblings_in_the_order_they_start() {
        let registry = Registry::default();
        for (path, order) in [("/", 0), ("/b", 0), ("/a", 1), ("/b/x", 0)] {
            let profile = Profile { kind: ActorKind::Task, strategy: None, order, mailbox: None };
            registry.slot(&path.parse().unwrap(), &profile);
        }
        let tree = registry.tree(&ActorPath::root(), Timestamp::START).unwrap();
        let order: Vec<_> = tree.iter().map(|actor| actor.path.to_string()).collect();
        assert_eq!(order, ["/", "/b", "/b/x", "/a"]);
        assert_eq!(registry.similar(&"/b/y".parse().unwrap()).unwrap().as_str(), "/b/x");
        assert_eq!(registry.similar(&"/something/else".parse().unwrap()), None);
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "abc", 3), ("countr", "counter", 1), ("abc", "abd", 1), ("abc", "abc", 0)]
        {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
