//! How checks are weighed, how long they may take, and how often they are asked.

use std::time::Duration;

use crate::name::Name;

/// The longest time between two looks.
pub const PERIOD_MAX: Duration = Duration::from_secs(3600);

/// The greatest weight of a check.
pub const WEIGHT_MAX: u32 = 1000;

/// The most checks of a node.
pub const CHECKS_MAX: usize = 64;

/// One check: what it is called, how much it counts, how long it may take.
///
/// # Units and limits
///
/// By default a weight of 1 (1 to [`WEIGHT_MAX`]), 100 ms to answer, and it need not pass. Source: S3-PERF-03 for
/// the time; FLOW-EVIDENCE.md, D17, for checks that must pass: a full disk and a dead network are two of five.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRules {
    /// Its name.
    pub name: Name,
    /// How much it counts.
    pub weight: u32,
    /// Whether the node is degraded when this fails, whatever its weight.
    pub must_pass: bool,
    /// How long it may take; what takes longer fails.
    pub within: Duration,
}

impl CheckRules {
    /// A check by the defaults.
    pub const fn new(name: Name) -> Self {
        Self { name, weight: 1, must_pass: false, within: Duration::from_millis(100) }
    }
}

/// What cannot be about the checks of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// Nobody is asked, or asked too rarely to know anything.
    #[error("checks every {period:?}; give more than zero and at most {PERIOD_MAX:?}")]
    Period {
        /// The refused period.
        period: Duration,
    },
    /// Stale before the next answer can come.
    #[error("answers are stale after {stale_after:?}; give at least two periods, {least:?}")]
    StaleAfter {
        /// The refused time.
        stale_after: Duration,
        /// What would do.
        least: Duration,
    },
    /// Not a share that can be exceeded.
    #[error("degraded above {milli} thousandths of the weight; give 0 to 999")]
    DegradedAbove {
        /// The refused share, in thousandths.
        milli: u32,
    },
    /// No answer would ever be believed.
    #[error("{confirm} answers in a row change a check; give 1 to 100")]
    Confirm {
        /// The refused number.
        confirm: u32,
    },
    /// A check that does not count, or counts for all.
    #[error("check '{check}' has a weight of {weight}; give 1 to {WEIGHT_MAX}")]
    Weight {
        /// The check.
        check: Name,
        /// The refused weight.
        weight: u32,
    },
    /// A check has no time, or more than there is between two looks.
    #[error("check '{check}' may take {within:?}; give more than zero and at most the period, {period:?}")]
    Within {
        /// The check.
        check: Name,
        /// The refused time.
        within: Duration,
        /// The period.
        period: Duration,
    },
    /// Two checks have the same name.
    #[error("two checks are called '{check}'; give each its own name")]
    Duplicate {
        /// The name.
        check: Name,
    },
    /// More checks than a node takes.
    #[error("{checks} checks; {CHECKS_MAX} is the limit")]
    TooMany {
        /// How many there are.
        checks: usize,
    },
}

/// Everything that cannot be about the checks of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct HealthErrors(pub Vec<HealthError>);

/// How often checks are asked, and how they are weighed.
///
/// # Units and limits
///
/// By default every 5 s; an answer is stale after 15 s; two answers in a row change a check; degraded above half of
/// the weight. Source: FLOW.md, jidoka; S0-JID-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthRules {
    period: Duration,
    stale_after: Duration,
    confirm: u32,
    degraded_above_milli: u32,
}

impl HealthRules {
    /// The defaults, to be changed.
    pub const fn builder() -> HealthRulesBuilder {
        HealthRulesBuilder(Self {
            period: Duration::from_secs(5),
            stale_after: Duration::from_secs(15),
            confirm: 2,
            degraded_above_milli: 500,
        })
    }

    /// How often checks are asked.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// After how long without an answer a check fails.
    pub const fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// How many answers in a row change a check.
    pub const fn confirm(&self) -> u32 {
        self.confirm
    }

    /// The share of the weight above which the node is degraded, in thousandths.
    pub const fn degraded_above_milli(&self) -> u32 {
        self.degraded_above_milli
    }

    /// Whether these checks can go by these rules.
    ///
    /// # Errors
    ///
    /// [`HealthErrors`] names every check that cannot be.
    pub fn admits(&self, checks: &[CheckRules]) -> Result<(), HealthErrors> {
        let mut errors = Vec::new();
        if CHECKS_MAX < checks.len() {
            errors.push(HealthError::TooMany { checks: checks.len() });
        }
        for (index, check) in checks.iter().enumerate() {
            let name = check.name.clone();
            if check.weight == 0 || WEIGHT_MAX < check.weight {
                errors.push(HealthError::Weight { check: name.clone(), weight: check.weight });
            }
            if check.within.is_zero() || self.period < check.within {
                let (within, period) = (check.within, self.period);
                errors.push(HealthError::Within { check: name.clone(), within, period });
            }
            if checks[..index].iter().any(|earlier| earlier.name == check.name) {
                errors.push(HealthError::Duplicate { check: name });
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(HealthErrors(errors)) }
    }
}

/// Rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct HealthRulesBuilder(HealthRules);

impl HealthRulesBuilder {
    /// How often checks are asked, and after how long without an answer one fails.
    pub const fn every(mut self, period: Duration, stale_after: Duration) -> Self {
        (self.0.period, self.0.stale_after) = (period, stale_after);
        self
    }

    /// How many answers in a row change a check: what differs once may be chance.
    pub const fn confirm(mut self, answers: u32) -> Self {
        self.0.confirm = answers;
        self
    }

    /// The share of the weight above which the node is degraded, in thousandths.
    pub const fn degraded_above_milli(mut self, milli: u32) -> Self {
        self.0.degraded_above_milli = milli;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`HealthErrors`] names every setting that cannot be.
    pub fn build(self) -> Result<HealthRules, HealthErrors> {
        let HealthRules { period, stale_after, confirm, degraded_above_milli } = self.0;
        let mut errors = Vec::new();
        if period.is_zero() || PERIOD_MAX < period {
            errors.push(HealthError::Period { period });
        }
        let least = period.saturating_mul(2);
        if stale_after < least {
            errors.push(HealthError::StaleAfter { stale_after, least });
        }
        if !(1..=100).contains(&confirm) {
            errors.push(HealthError::Confirm { confirm });
        }
        if 999 < degraded_above_milli {
            errors.push(HealthError::DegradedAbove { milli: degraded_above_milli });
        }
        if errors.is_empty() { Ok(self.0) } else { Err(HealthErrors(errors)) }
    }
}
