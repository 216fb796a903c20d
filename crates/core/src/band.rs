//! In which band the utilization of a pool is: what its size is like for what there is to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Below this share of worker time in use a pool is idle. Source: S1-MET-01.
const IDLE_BELOW: f64 = 0.20;

/// From here to [`GOOD_MAX`] its size is right. Source: S1-MET-01.
const GOOD_MIN: f64 = 0.60;

/// To here. A pool grows above it. Source: S1-MET-01.
const GOOD_MAX: f64 = 0.80;

/// Above this it has nothing left for a moment of more. Source: S1-MET-01, critical.
const FULL_ABOVE: f64 = 0.95;

/// A band of utilization. Ordered: fuller is greater.
///
/// It says what the size of the pool is like, not how the pool is: that is its
/// [`PoolHealth`](crate::pool_health::PoolHealth). An idle pool is healthy, and costs more than it has to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Below 20 %: fewer workers would do.
    #[default]
    Idle,
    /// From 20 to 60 %.
    Light,
    /// From 60 to 80 %: as it is meant to be.
    Good,
    /// Above 80, up to 95 %: it grows, if it may.
    Busy,
    /// Above 95 %.
    Full,
}

impl Band {
    /// All bands, the emptiest first.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Light, Self::Good, Self::Busy, Self::Full];

    /// The band of a utilization from 0 to 1.
    pub fn of(utilization: f64) -> Self {
        if utilization < IDLE_BELOW {
            Self::Idle
        } else if utilization < GOOD_MIN {
            Self::Light
        } else if utilization <= GOOD_MAX {
            Self::Good
        } else if utilization <= FULL_ABOVE {
            Self::Busy
        } else {
            Self::Full
        }
    }

    /// The word for it, as it stands in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Light => "light",
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_belongs_to_the_better_side() {
        for (utilization, band) in [
            (0.0, Band::Idle),
            (0.199, Band::Idle),
            (0.20, Band::Light),
            (0.599, Band::Light),
            (0.60, Band::Good),
            (0.80, Band::Good),
            (0.801, Band::Busy),
            (0.95, Band::Busy),
            (0.951, Band::Full),
            (1.0, Band::Full),
        ] {
            assert_eq!(Band::of(utilization), band, "{utilization}");
        }
        assert!(Band::ALL.is_sorted());
    }
}
