//! The process groups of a node by name, each with the type of message it takes.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use gemba_core::name::{Name, NameError};

use crate::group::{Cell, Group};
use crate::system::System;

/// What is known of a group whose type of message is not.
pub(crate) trait AnyGroup: Any + Send + Sync {
    fn is_empty(&self) -> bool;
    fn takes(&self) -> &'static str;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Why a group was not found or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The group takes messages of another type.
    #[error(
        "group '{group}' takes messages of type `{takes}`, not `{asked}`; use that type, or another name"
    )]
    Type {
        /// The group.
        group: Name,
        /// What it takes.
        takes: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
}

/// The groups there are; a group lives as long as it has members, or somebody has a handle to it.
#[derive(Clone, Default)]
pub(crate) struct Groups(Arc<DashMap<Name, Weak<dyn AnyGroup>>>);

impl Groups {
    /// Forgets a group that is no more. Not to be called by who holds an entry of the map.
    pub(crate) fn forget(&self, name: &Name) {
        self.0.remove_if(name, |_, group| group.strong_count() == 0);
    }

    fn cell<M: Send + 'static>(&self, name: &str) -> Result<Arc<Cell<M>>, GroupError> {
        let name = Name::new(name)?;
        let found = {
            let nobody = || -> Weak<dyn AnyGroup> { Weak::<Cell<M>>::new() };
            let mut entry = self.0.entry(name.clone()).or_insert_with(nobody);
            let found = entry.upgrade();
            if found.is_none() {
                let cell = Arc::new(Cell::new(name, self.clone()));
                let weak: Weak<Cell<M>> = Arc::downgrade(&cell);
                *entry = weak;
                return Ok(cell);
            }
            found
        };
        // Here, without the entry: if this was the last to hold the group, dropping it comes back to the map.
        let found = found.expect("a group that was not found has been made");
        let takes = found.takes();
        let wrong = |_| GroupError::Type { group: name, takes, asked: type_name::<M>() };
        found.as_any().downcast().map_err(wrong)
    }

    fn names(&self) -> Vec<Name> {
        // Held until the map is let go: dropping the last handle to a group comes back to it.
        let groups: Vec<_> =
            self.0.iter().filter_map(|entry| Some((entry.key().clone(), entry.value().upgrade()?))).collect();
        let mut names: Vec<_> =
            groups.iter().filter(|(_, group)| !group.is_empty()).map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("groups", &self.0.len()).finish()
    }
}

/// The process groups of a node; from [`System::groups`].
#[derive(Debug, Clone, Copy)]
pub struct NodeGroups<'a>(&'a System);

impl NodeGroups<'_> {
    /// The group called `name`, made if there is none; without members, and unknown to others, until
    /// somebody joins.
    ///
    /// # Errors
    ///
    /// [`GroupError::Type`] if it takes messages of another type, as long as anybody is in it or has a
    /// handle to it; [`GroupError::Name`].
    pub fn group<M: Send + 'static>(self, name: &str) -> Result<Group<M>, GroupError> {
        Ok(Group::new(self.0.clone(), self.0.all_groups().cell(name)?))
    }

    /// The names of the groups that have members, sorted.
    pub fn names(self) -> Vec<Name> {
        self.0.all_groups().names()
    }
}

impl System {
    /// The process groups of this node.
    pub fn groups(&self) -> NodeGroups<'_> {
        NodeGroups(self)
    }
}
