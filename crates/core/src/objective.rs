//! How fast each tier is to be answered, and whether it is.

use std::time::Duration;

use crate::admission::Tier;

/// The share of answers that may be slower: an objective is one of the 99th percentile.
pub const SLOW_RATIO_MAX: f64 = 0.01;

/// Fewer answers say nothing about one in a hundred.
pub const ANSWERS_MIN: u64 = 100;

/// The shortest objective there can be.
const SHORTEST: Duration = Duration::from_millis(1);

/// The longest: what is slower is not told apart where latencies are counted.
const LONGEST: Duration = Duration::from_secs(600);

/// An objective out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the objective of {tier} signals is {within:?}; give 1 ms to 600 s, or none")]
pub struct ObjectiveError {
    /// Whose it is.
    pub tier: Tier,
    /// The refused time.
    pub within: Duration,
}

/// Within what time 99 % of the signals of each tier are to be answered, waiting included.
///
/// By default 100 ms for critical signals, 500 ms for normal ones, and none for batch signals, which are served as
/// well as can be. Nothing is refused for it: it is measured, and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierObjectives([Option<Duration>; Tier::ALL.len()]);

impl Default for TierObjectives {
    fn default() -> Self {
        Self([Some(Duration::from_millis(100)), Some(Duration::from_millis(500)), None])
    }
}

impl TierObjectives {
    /// The same with another objective for `tier`, 1 ms to 600 s; with `None` it is not measured.
    ///
    /// # Errors
    ///
    /// [`ObjectiveError`] if it is out of that range.
    pub fn with(mut self, tier: Tier, within: Option<Duration>) -> Result<Self, ObjectiveError> {
        if let Some(within) = within.filter(|within| *within < SHORTEST || LONGEST < *within) {
            return Err(ObjectiveError { tier, within });
        }
        self.0[tier as usize] = within;
        Ok(self)
    }

    /// The objective of `tier`, if it has one.
    pub const fn of(&self, tier: Tier) -> Option<Duration> {
        self.0[tier as usize]
    }
}

/// Answers of a tier, counted against its objective.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Those within the objective.
    pub in_time: u64,
    /// Those that took longer.
    pub slow: u64,
}

impl Answers {
    /// Whether at most one in a hundred was slow; `None` while there are too few to say.
    pub fn meet_it(self) -> Option<bool> {
        let all = self.in_time + self.slow;
        (ANSWERS_MIN <= all).then_some(self.slow as f64 <= SLOW_RATIO_MAX * all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_slow_and_a_few_say_nothing() {
        for (in_time, slow, expected) in [
            (0, 0, None),
            (98, 1, None),
            (99, 1, Some(true)),
            (98, 2, Some(false)),
            (9_900, 100, Some(true)),
            (9_900, 101, Some(false)),
        ] {
            assert_eq!(Answers { in_time, slow }.meet_it(), expected, "{in_time} {slow}");
        }
    }

    #[test]
    fn batch_has_none_by_default_and_one_out_of_range_is_refused() {
        let objectives = TierObjectives::default();
        let of = |tier| objectives.of(tier).map(|within| within.as_millis());
        assert_eq!(Tier::ALL.map(of), [Some(100), Some(500), None]);
        let other = objectives.with(Tier::Batch, Some(Duration::from_secs(60))).unwrap();
        assert_eq!(other.of(Tier::Batch), Some(Duration::from_secs(60)));
        assert_eq!(other.with(Tier::Batch, None), Ok(objectives));
        for within in [Duration::ZERO, Duration::from_secs(601)] {
            let error = objectives.with(Tier::Normal, Some(within)).unwrap_err();
            assert_eq!(error, ObjectiveError { tier: Tier::Normal, within });
            assert!(error.to_string().contains("normal"), "{error}");
        }
    }
}
