//! A cell: within what time the signals of a line are to be answered, by tier.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::objective::TierObjectives;

/// Each in nanoseconds; 0 is none. They are not read together: a signal has one tier.
#[derive(Debug)]
pub(crate) struct Objectives([AtomicU64; Tier::ALL.len()]);

impl Objectives {
    pub(crate) fn new(objectives: TierObjectives) -> Self {
        Self(Tier::ALL.map(|tier| AtomicU64::new(nanos(objectives.of(tier)))))
    }

    /// The objective of `tier`, if it has one.
    pub(crate) fn of(&self, tier: Tier) -> Option<Duration> {
        let nanos = self.0[tier as usize].load(Relaxed);
        (0 < nanos).then(|| Duration::from_nanos(nanos))
    }

    /// All of them.
    pub(crate) fn latest(&self) -> TierObjectives {
        let with = |all: TierObjectives, tier| all.with(tier, self.of(tier)).unwrap_or(all);
        Tier::ALL.into_iter().fold(TierObjectives::default(), with)
    }

    /// From now on; what was counted stays as it was counted.
    pub(crate) fn set(&self, objectives: TierObjectives) {
        for tier in Tier::ALL {
            self.0[tier as usize].store(nanos(objectives.of(tier)), Relaxed);
        }
    }
}

/// At most ten minutes: it fits.
fn nanos(objective: Option<Duration>) -> u64 {
    objective.map_or(0, |within| within.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_what_is_told() {
        let given = TierObjectives::default().with(Tier::Normal, None).unwrap();
        let given = given.with(Tier::Batch, Some(Duration::from_secs(600))).unwrap();
        let cell = Objectives::new(TierObjectives::default());
        assert_eq!(cell.latest(), TierObjectives::default());
        cell.set(given);
        assert_eq!(cell.latest(), given);
        assert_eq!((cell.of(Tier::Normal), cell.of(Tier::Batch)), (None, Some(Duration::from_secs(600))));
    }
}
