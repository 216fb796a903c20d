//! When a breaker opens, for how long, and what closes it, as settings.

use std::time::Duration;

/// The longest time a breaker may be set to stay open.
const OPEN_MAX: Duration = Duration::from_secs(86_400);

/// Why settings do not make breaker rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BreakerRulesError {
    /// A count that must be at least one is zero.
    #[error("{setting} is 0; give at least 1")]
    Zero {
        /// Which count.
        setting: &'static str,
    },
    /// The share of failures that opens the breaker is not a share.
    #[error("the failure ratio is {failure_ratio}; give a number above 0 and at most 1")]
    Ratio {
        /// The refused ratio.
        failure_ratio: f64,
    },
    /// The times for which it stays open exclude each other.
    #[error("open for {open_min:?} to {open_max:?} is not a range; give 0 < min <= max <= {OPEN_MAX:?}")]
    Open {
        /// For how long it opens first.
        open_min: Duration,
        /// For how long it opens at most.
        open_max: Duration,
    },
    /// The jitter is not a share.
    #[error("the jitter is {jitter}; give a number from 0 up to, but not including, 1")]
    Jitter {
        /// The refused jitter.
        jitter: f64,
    },
}

/// When a breaker opens, for how long, and what closes it.
///
/// # Units and limits
///
/// By default it opens after 5 failures in a row, or at half of at least 20 calls in 10 s; for 30 s,
/// doubled each time up to 5 min, ± 20 %. Then 1 probe at a time passes, and 3 successes close it; a probe
/// without an answer for 60 s is taken for lost. No call is slow. Source: FLOW.md, jidoka.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerRules {
    pub(super) failures_in_a_row: u32,
    pub(super) failure_ratio: f64,
    pub(super) calls_min: u32,
    pub(super) window: Duration,
    pub(super) open_min: Duration,
    pub(super) open_max: Duration,
    pub(super) jitter: f64,
    pub(super) seed: u64,
    pub(super) probes: u32,
    pub(super) probe_max: Duration,
    pub(super) successes: u32,
    pub(super) slow: Option<Duration>,
}

impl BreakerRules {
    /// The defaults, to be changed.
    pub fn builder() -> BreakerRulesBuilder {
        BreakerRulesBuilder(Self::default())
    }
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            failures_in_a_row: 5,
            failure_ratio: 0.5,
            calls_min: 20,
            window: Duration::from_secs(10),
            open_min: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
            jitter: 0.2,
            seed: 0,
            probes: 1,
            probe_max: Duration::from_secs(60),
            successes: 3,
            slow: None,
        }
    }
}

/// Breaker rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct BreakerRulesBuilder(BreakerRules);

impl BreakerRulesBuilder {
    /// How many failures without a success between open it.
    pub const fn failures_in_a_row(mut self, failures: u32) -> Self {
        self.0.failures_in_a_row = failures;
        self
    }

    /// Which share of failures opens it, among how many calls at least, in which time.
    pub const fn failure_ratio(mut self, ratio: f64, calls_min: u32, window: Duration) -> Self {
        (self.0.failure_ratio, self.0.calls_min, self.0.window) = (ratio, calls_min, window);
        self
    }

    /// For how long it stays open, the first time and at most, jitter not included.
    pub const fn open(mut self, min: Duration, max: Duration) -> Self {
        (self.0.open_min, self.0.open_max) = (min, max);
        self
    }

    /// By which share the time it stays open is spread, and the seed the spread comes from.
    ///
    /// Breakers of one downstream need different seeds, or they all probe it in the same instant.
    pub const fn jitter(mut self, jitter: f64, seed: u64) -> Self {
        (self.0.jitter, self.0.seed) = (jitter, seed);
        self
    }

    /// How many probes may be out at once, for how long, and how many successes close it.
    pub const fn probes(mut self, at_once: u32, each: Duration, successes: u32) -> Self {
        (self.0.probes, self.0.probe_max, self.0.successes) = (at_once, each, successes);
        self
    }

    /// From which duration on a success counts as a failure.
    pub const fn slow(mut self, limit: Duration) -> Self {
        self.0.slow = Some(limit);
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`BreakerRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<BreakerRules, BreakerRulesError> {
        let rules = self.0;
        let zero = [
            ("the number of failures in a row", rules.failures_in_a_row == 0),
            ("the least number of calls", rules.calls_min == 0),
            ("the window", rules.window.is_zero()),
            ("the number of probes", rules.probes == 0),
            ("the time for a probe", rules.probe_max.is_zero()),
            ("the number of successes that close it", rules.successes == 0),
        ];
        if let Some((setting, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(BreakerRulesError::Zero { setting });
        }
        let BreakerRules { failure_ratio, open_min, open_max, jitter, .. } = rules;
        if !(0.0 < failure_ratio && failure_ratio <= 1.0) {
            return Err(BreakerRulesError::Ratio { failure_ratio });
        }
        if open_min.is_zero() || open_max < open_min || OPEN_MAX < open_max {
            return Err(BreakerRulesError::Open { open_min, open_max });
        }
        if !(0.0..1.0).contains(&jitter) {
            return Err(BreakerRulesError::Jitter { jitter });
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_be_are_refused_by_name() {
        let second = Duration::from_secs(1);
        for (builder, message) in [
            (BreakerRules::builder().failures_in_a_row(0), "the number of failures in a row is 0"),
            (BreakerRules::builder().failure_ratio(0.5, 0, second), "the least number of calls is 0"),
            (BreakerRules::builder().failure_ratio(0.5, 1, Duration::ZERO), "the window is 0"),
            (BreakerRules::builder().failure_ratio(0.0, 1, second), "the failure ratio is 0"),
            (BreakerRules::builder().failure_ratio(1.01, 1, second), "the failure ratio is 1.01"),
            (BreakerRules::builder().open(Duration::ZERO, second), "open for 0ns to 1s"),
            (BreakerRules::builder().open(2 * second, second), "open for 2s to 1s"),
            (BreakerRules::builder().open(second, OPEN_MAX + second), "open for 1s to 86401s"),
            (BreakerRules::builder().jitter(1.0, 0), "the jitter is 1"),
            (BreakerRules::builder().probes(0, second, 1), "the number of probes is 0"),
            (BreakerRules::builder().probes(1, Duration::ZERO, 1), "the time for a probe is 0"),
            (BreakerRules::builder().probes(1, second, 0), "the number of successes that close it is 0"),
        ] {
            let error = builder.build().unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        assert_eq!(BreakerRules::builder().build(), Ok(BreakerRules::default()));
    }
}
