//! Since when versions are wanted: what cannot even be looked at has its limit too.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{Begun, Patience};
use crate::adapter::Wanted;

/// Since when each version is wanted by a delivery.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    delivery: String,
    since: BTreeMap<String, Instant>,
}

/// Versions that a delivery wanted and that nobody saw ready in time.
#[derive(Debug, Clone, Default)]
pub(super) struct Late {
    delivery: String,
    versions: Vec<String>,
}

impl Awaited {
    /// Takes note of what is wanted now.
    pub(super) fn note(&mut self, wanted: &Wanted) {
        if self.delivery != wanted.delivery {
            self.delivery.clone_from(&wanted.delivery);
            self.since.clear();
        }
        self.since.retain(|version, _| wanted.instances.contains_key(version));
        for version in wanted.instances.keys() {
            self.since.entry(version.clone()).or_insert_with(Instant::now);
        }
    }

    /// The versions whose time to become ready is over: since they were started, or wanted if nobody could.
    pub(super) fn late(&self, begun: &BTreeMap<String, Begun>, patience: Patience) -> Late {
        let now = Instant::now();
        let is_late = |(version, since): &(&String, &Instant)| {
            let begun = begun.get(*version).filter(|begun| begun.delivery == self.delivery);
            let by = begun.map_or(Some(**since + patience.ready_within), |begun| begun.ready_by);
            by.is_some_and(|by| by <= now)
        };
        let versions = self.since.iter().filter(is_late).map(|(version, _)| version.clone()).collect();
        Late { delivery: self.delivery.clone(), versions }
    }
}

impl Late {
    /// Whether this version is late for this delivery.
    pub(super) fn is_of(&self, delivery: &str, version: &str) -> bool {
        self.delivery == delivery && self.versions.iter().any(|late| late == version)
    }
}
