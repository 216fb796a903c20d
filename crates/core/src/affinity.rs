//! Affinity groups: keys that belong to a pool, for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::time::Timestamp;

/// How long a group lasts unless it is bound anew: what was good for a key need not be so for ever.
/// Source: S1-TRB-03; FLOW.md, routing.
pub const AFFINITY_LASTS: Duration = Duration::from_secs(300);

/// The most keys of all groups together: every caller of a line with several pools looks its key up.
pub const AFFINITY_KEYS_MAX: usize = 1024;

/// One affinity group, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityView {
    /// Its name.
    pub group: Name,
    /// The pool its keys belong to.
    pub pool: Name,
    /// How many keys.
    pub keys: u32,
    /// How long it lasts, in milliseconds.
    pub left_ms: u64,
}

/// Why keys were not bound; all is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AffinityError {
    /// There is no key.
    #[error("a group has one key at least; clear the group to end it")]
    NoKeys,
    /// There would be too many.
    #[error("{keys} keys would be bound, {AFFINITY_KEYS_MAX} is the limit; clear a group, or bind fewer")]
    TooMany {
        /// How many there would be.
        keys: usize,
    },
}

/// Which keys belong to which pool.
///
/// A key is in one group at most: the last that took it. A group whose keys were all taken is no more.
///
/// # Units and limits
///
/// [`AFFINITY_KEYS_MAX`] keys, each group for [`AFFINITY_LASTS`].
///
/// # Examples
///
/// ```
/// use gemba_core::affinity::{AFFINITY_LASTS, Affinity};
/// use gemba_core::name::Name;
/// use gemba_core::routing::key_hash;
/// use gemba_core::time::Timestamp;
///
/// let (now, key) = (Timestamp::START, key_hash(b"customer 7"));
/// let mut affinity = Affinity::default();
/// affinity.bind(Name::new("large").unwrap(), Name::new("own-pool").unwrap(), [key], now).unwrap();
/// assert_eq!(affinity.homes()[&key].as_str(), "own-pool");
/// let over = affinity.expire(now + AFFINITY_LASTS);
/// assert_eq!((over.len(), affinity.homes().len()), (1, 0));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[doc(alias = "heijunka")]
pub struct Affinity(BTreeMap<Name, Group>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    pool: Name,
    keys: BTreeSet<u64>,
    until: Timestamp,
}

impl Affinity {
    /// From now on these keys, by their [hash](crate::routing::key_hash), are the group, and belong to `pool`.
    /// Tells how many they are.
    ///
    /// # Errors
    ///
    /// [`AffinityError`]: nothing is changed.
    pub fn bind(
        &mut self,
        group: Name,
        pool: Name,
        keys: impl IntoIterator<Item = u64>,
        now: Timestamp,
    ) -> Result<u32, AffinityError> {
        let keys: BTreeSet<u64> = keys.into_iter().take(AFFINITY_KEYS_MAX + 1).collect();
        if keys.is_empty() {
            return Err(AffinityError::NoKeys);
        }
        let of_others = self.0.iter().filter(|(name, _)| **name != group);
        let others: usize = of_others.map(|(_, other)| other.keys.difference(&keys).count()).sum();
        if AFFINITY_KEYS_MAX < others + keys.len() {
            return Err(AffinityError::TooMany { keys: others + keys.len() });
        }
        self.0.retain(|_, other| {
            other.keys.retain(|key| !keys.contains(key));
            !other.keys.is_empty()
        });
        let bound = keys.len() as u32;
        self.0.insert(group, Group { pool, keys, until: now + AFFINITY_LASTS });
        Ok(bound)
    }

    /// Ends a group, and tells whose it was; `None` if there is none.
    pub fn clear(&mut self, group: &Name) -> Option<Name> {
        self.0.remove(group).map(|group| group.pool)
    }

    /// Ends the groups whose time is over: their names, and whose they were.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(Name, Name)> {
        let mut over = Vec::new();
        self.0.retain(|name, group| {
            let lasts = now < group.until;
            if !lasts {
                over.push((name.clone(), group.pool.clone()));
            }
            lasts
        });
        over
    }

    /// The pool of each key that has one.
    pub fn homes(&self) -> BTreeMap<u64, &Name> {
        self.0.values().flat_map(|group| group.keys.iter().map(|key| (*key, &group.pool))).collect()
    }

    /// The names of all groups, for an error that helps.
    pub fn names(&self) -> String {
        self.0.keys().map(Name::as_str).collect::<Vec<_>>().join(", ")
    }

    /// All groups, by name.
    pub fn view(&self, now: Timestamp) -> Vec<AffinityView> {
        let view = |(name, group): (&Name, &Group)| AffinityView {
            group: name.clone(),
            pool: group.pool.clone(),
            keys: group.keys.len() as u32,
            left_ms: group.until.since(now).as_millis() as u64,
        };
        self.0.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(100);

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn homes(affinity: &Affinity) -> Vec<(u64, &str)> {
        affinity.homes().into_iter().map(|(key, pool)| (key, pool.as_str())).collect()
    }

    #[test]
    fn a_group_is_bound_changed_and_cleared() {
        let mut affinity = Affinity::default();
        assert_eq!(affinity.bind(name("large"), name("a"), [1, 2, 2], NOW), Ok(2));
        assert_eq!(affinity.bind(name("small"), name("b"), [3], NOW), Ok(1));
        assert_eq!(homes(&affinity), [(1, "a"), (2, "a"), (3, "b")]);
        assert_eq!(affinity.bind(name("large"), name("b"), [2, 4], NOW), Ok(2), "the group is these now");
        assert_eq!(homes(&affinity), [(2, "b"), (3, "b"), (4, "b")]);
        assert_eq!(affinity.bind(name("third"), name("a"), [3], NOW), Ok(1), "the last that took it");
        assert_eq!((affinity.names().as_str(), homes(&affinity)[1]), ("large, third", (3, "a")));
        assert_eq!(affinity.clear(&name("large")), Some(name("b")));
        assert_eq!((affinity.clear(&name("large")), homes(&affinity)), (None, vec![(3, "a")]));
    }

    #[test]
    fn it_ages_and_binding_anew_renews_it() {
        let mut affinity = Affinity::default();
        for group in ["one", "two"] {
            affinity
                .bind(name(group), name("a"), [group.len() as u64 + u64::from(group == "two")], NOW)
                .unwrap();
        }
        let later = NOW + AFFINITY_LASTS / 2;
        affinity.bind(name("two"), name("a"), [9], later).unwrap();
        assert_eq!(affinity.view(later)[0].left_ms, 150_000);
        assert_eq!(affinity.expire(NOW + AFFINITY_LASTS - Duration::from_nanos(1)), []);
        assert_eq!(affinity.expire(NOW + AFFINITY_LASTS), [(name("one"), name("a"))]);
        assert_eq!(homes(&affinity), [(9, "a")]);
        assert_eq!(affinity.expire(later + AFFINITY_LASTS), [(name("two"), name("a"))]);
    }

    #[test]
    fn more_keys_than_may_be_change_nothing() {
        let mut affinity = Affinity::default();
        let most = AFFINITY_KEYS_MAX as u64;
        assert_eq!(affinity.bind(name("all"), name("a"), 0..most, NOW), Ok(AFFINITY_KEYS_MAX as u32));
        let before = affinity.clone();
        let keys = AFFINITY_KEYS_MAX + 1;
        assert_eq!(affinity.bind(name("more"), name("b"), [most], NOW), Err(AffinityError::TooMany { keys }));
        assert_eq!(
            affinity.bind(name("all"), name("b"), 0..=most, NOW),
            Err(AffinityError::TooMany { keys })
        );
        assert_eq!(affinity.bind(name("none"), name("b"), [], NOW), Err(AffinityError::NoKeys));
        assert_eq!(affinity, before);
        assert_eq!(affinity.bind(name("some"), name("b"), [0, 1], NOW), Ok(2), "keys may change their group");
    }

    proptest! {
        #[test]
        fn a_key_is_in_one_group_and_no_more_are_bound_than_may_be(
            steps in vec((0u8..5, 0u64..2_000, 0u64..1_200), 1..20)
        ) {
            let mut affinity = Affinity::default();
            for (group, first, count) in steps {
                let group = name(&format!("group-{group}"));
                let bound = affinity.bind(group, name("a"), first..first + count, NOW);
                prop_assert_eq!(bound.is_ok_and(|bound| u64::from(bound) == count), bound.is_ok());
                let told: u32 = affinity.view(NOW).iter().map(|group| group.keys).sum();
                prop_assert_eq!(told as usize, affinity.homes().len());
                prop_assert!(affinity.homes().len() <= AFFINITY_KEYS_MAX);
            }
        }
    }
}
