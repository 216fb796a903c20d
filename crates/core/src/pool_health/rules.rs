//! From where on a pool is degraded and critical, as settings.

use std::time::Duration;

/// Above this share of worker time in use a pool is degraded. Source: S1-POOL-08.
const UTILIZATION_MAX: f64 = 0.80;

/// Above this, while jobs wait too long, it is critical. Source: S1-POOL-08.
const UTILIZATION_CRITICAL: f64 = 0.95;

/// Above this share of failures a pool is degraded. Source: S1-POOL-08.
const ERRORS_MAX: f64 = 0.05;

/// Above this it is critical. Source: S1-POOL-08.
const ERRORS_CRITICAL: f64 = 0.20;

/// How long a pool has to be better before it is called so.
const BETTER_AFTER: Duration = Duration::from_secs(30);

/// The longest time it may have to.
const BETTER_AFTER_MAX: Duration = Duration::from_secs(3600);

/// From where on a pool is degraded and critical.
///
/// # Units and limits
///
/// By default degraded above 80 % of worker time in use or 5 % of failures in a minute, critical above 95 % while
/// jobs wait too long or 20 % of failures, and better after 30 s of being better. Source: S1-POOL-08.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolHealthRules {
    pub(super) used: [f64; 2],
    pub(super) failed: [f64; 2],
    pub(super) better_after: Duration,
}

impl Default for PoolHealthRules {
    fn default() -> Self {
        Self {
            used: [UTILIZATION_MAX, UTILIZATION_CRITICAL],
            failed: [ERRORS_MAX, ERRORS_CRITICAL],
            better_after: BETTER_AFTER,
        }
    }
}

/// Why settings do not make rules for the health of pools.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolHealthRulesError {
    /// Shares that are none, or a critical one that is not above the degraded one.
    #[error("degraded above {degraded}, critical above {critical} {what}: give 0 < degraded < critical <= 1")]
    Shares {
        /// Of what.
        what: &'static str,
        /// From where on it is degraded.
        degraded: f64,
        /// From where on it is critical.
        critical: f64,
    },
    /// A pool would hardly ever be better again.
    #[error("better after {better_after:?}; give at most {BETTER_AFTER_MAX:?}")]
    BetterAfter {
        /// The refused time.
        better_after: Duration,
    },
}

impl PoolHealthRules {
    /// The shares of worker time in use and of failures above which a pool is degraded and critical, and how long it
    /// has to be better before it is called so.
    ///
    /// # Errors
    ///
    /// [`PoolHealthRulesError`] says which setting cannot be.
    pub fn new(
        used: [f64; 2],
        failed: [f64; 2],
        better_after: Duration,
    ) -> Result<Self, PoolHealthRulesError> {
        for (what, [degraded, critical]) in [("of worker time in use", used), ("of failures", failed)] {
            if !(0.0 < degraded && degraded < critical && critical <= 1.0) {
                return Err(PoolHealthRulesError::Shares { what, degraded, critical });
            }
        }
        if BETTER_AFTER_MAX < better_after {
            return Err(PoolHealthRulesError::BetterAfter { better_after });
        }
        Ok(Self { used, failed, better_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_be_are_refused_with_what_can() {
        let second = Duration::from_secs(1);
        assert_eq!(
            PoolHealthRules::new([0.8, 0.95], [0.05, 0.2], 30 * second),
            Ok(PoolHealthRules::default())
        );
        for (used, failed, after, message) in [
            ([0.0, 0.9], [0.1, 0.2], second, "degraded above 0, critical above 0.9 of worker time in use"),
            ([0.9, 0.9], [0.1, 0.2], second, "degraded above 0.9, critical above 0.9 of worker"),
            ([0.8, 1.1], [0.1, 0.2], second, "degraded above 0.8, critical above 1.1"),
            ([0.8, 0.9], [0.2, 0.1], second, "degraded above 0.2, critical above 0.1 of failures"),
            ([0.8, 0.9], [f64::NAN, 0.1], second, "degraded above NaN"),
            ([0.8, 0.9], [0.1, 0.2], 3601 * second, "better after 3601s; give at most 3600s"),
        ] {
            let error = PoolHealthRules::new(used, failed, after).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
