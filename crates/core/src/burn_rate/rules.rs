//! How much of a line's work has to succeed, and which burn rates tell, as settings.

use super::FAILURES_MIN;

/// The largest number of failures a window may have to hold.
const FAILURES_MAX: u64 = 1_000_000;

/// The fastest burn rate that may be set.
const RATE_MAX: f64 = 1000.0;

/// What share of a line's work has to succeed.
///
/// # Units and limits
///
/// By default 0.999 over 30 days; 0.9 to 0.999999.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective(f64);

impl Default for Objective {
    fn default() -> Self {
        Self(0.999)
    }
}

/// An objective that leaves no budget, or too large a one.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("an objective of {share} is out of range; give 0.9 to 0.999999")]
pub struct ObjectiveError {
    /// The refused share.
    pub share: f64,
}

impl Objective {
    /// This share has to succeed.
    ///
    /// # Errors
    ///
    /// [`ObjectiveError`] outside 0.9 to 0.999999.
    pub fn new(share: f64) -> Result<Self, ObjectiveError> {
        if (0.9..=0.999_999).contains(&share) { Ok(Self(share)) } else { Err(ObjectiveError { share }) }
    }

    /// The share that may fail.
    pub fn budget(self) -> f64 {
        1.0 - self.0
    }
}

/// Which burn rates tell, in which windows.
///
/// # Units and limits
///
/// How many times faster than sustainable: by default 14.4 over an hour and five minutes and 6 over six hours and
/// half an hour are red, 1 over three days and six hours is yellow; each from 10 failures in its longer window on.
/// Source: FLOW-EVIDENCE.md, 1.5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnRules {
    pub(super) rates: [f64; 3],
    pub(super) failures_min: u64,
}

impl Default for BurnRules {
    fn default() -> Self {
        Self { rates: [14.4, 6.0, 1.0], failures_min: FAILURES_MIN }
    }
}

/// Why settings do not make rules for burn rates.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BurnRulesError {
    /// The rates are out of order: a longer window would tell of less than a shorter one.
    #[error(
        "{hour} in an hour, {hours} in six, {days} in three days: give {RATE_MAX} >= hour >= six hours >= three days > 0"
    )]
    Rates {
        /// Within an hour.
        hour: f64,
        /// Within six hours.
        hours: f64,
        /// Within three days.
        days: f64,
    },
    /// A single failure would tell, or none ever.
    #[error("{failures_min} failures at least; give 1 to {FAILURES_MAX}")]
    Failures {
        /// The refused number.
        failures_min: u64,
    },
}

impl BurnRules {
    /// The rates within an hour, six hours and three days, and how many failures each of these windows must hold.
    ///
    /// # Errors
    ///
    /// [`BurnRulesError`] says which setting cannot be.
    pub fn new(hour: f64, hours: f64, days: f64, failures_min: u64) -> Result<Self, BurnRulesError> {
        if !(0.0 < days && days <= hours && hours <= hour && hour <= RATE_MAX) {
            return Err(BurnRulesError::Rates { hour, hours, days });
        }
        if !(1..=FAILURES_MAX).contains(&failures_min) {
            return Err(BurnRulesError::Failures { failures_min });
        }
        Ok(Self { rates: [hour, hours, days], failures_min })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_be_are_refused_with_what_can() {
        assert_eq!(BurnRules::new(14.4, 6.0, 1.0, 10), Ok(BurnRules::default()));
        for (rates, failures, message) in [
            ([6.0, 14.4, 1.0], 10, "6 in an hour, 14.4 in six"),
            ([6.0, 6.0, 7.0], 10, "6 in an hour, 6 in six, 7 in three days"),
            ([6.0, 6.0, 0.0], 10, "6 in an hour"),
            ([1001.0, 6.0, 1.0], 10, "1001 in an hour"),
            ([f64::NAN, 6.0, 1.0], 10, "NaN in an hour"),
            ([6.0, 6.0, 6.0], 0, "0 failures at least; give 1 to 1000000"),
        ] {
            let [hour, hours, days] = rates;
            let error = BurnRules::new(hour, hours, days, failures).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        assert!(Objective::new(0.89).is_err() && Objective::new(1.0).is_err());
    }
}
