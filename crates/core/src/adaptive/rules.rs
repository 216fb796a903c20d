//! How the limit of calls to a downstream adapts, as settings.

use std::time::Duration;

/// Why settings do not make rules for an adaptive limit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptiveRulesError {
    /// The bounds of the limit exclude each other, or its start.
    #[error("a limit from {min} to {max} that starts at {initial} is none; give 1 <= min <= initial <= max")]
    Bounds {
        /// The least limit.
        min: u32,
        /// The limit at first.
        initial: u32,
        /// The greatest limit.
        max: u32,
    },
    /// A latency would never, or always, be too high.
    #[error("a tolerance of {tolerance} is out of range; give a number from 1 up to, but not including, 2")]
    Tolerance {
        /// The refused tolerance.
        tolerance: f64,
    },
    /// There would be no time between probes.
    #[error("a probe every {every:?} is too often; give at least 5 s")]
    Probe {
        /// The refused pause.
        every: Duration,
    },
    /// No latency would be healthy.
    #[error("no call takes no time; give a healthy latency above zero, or none")]
    Healthy,
}

/// How the limit adapts.
///
/// # Units and limits
///
/// Calls in flight: by default 1 to 1000, 20 at first. A latency up to 1.5 times that of an idle downstream
/// is borne; this latency is measured anew every 10 s, and without a bound unless one is set.
/// Source: FLOW.md, admission; FLOW-EVIDENCE.md, Gradient2. The tolerance is below 2 because a probe halves
/// the limit: with more, one overload would excuse the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveRules {
    pub(super) min: u32,
    pub(super) initial: u32,
    pub(super) max: u32,
    pub(super) tolerance: f64,
    pub(super) probe_every: Duration,
    pub(super) healthy_max: Option<Duration>,
}

impl AdaptiveRules {
    /// The defaults, to be changed.
    pub fn builder() -> AdaptiveRulesBuilder {
        AdaptiveRulesBuilder(Self::default())
    }
}

impl Default for AdaptiveRules {
    fn default() -> Self {
        Self {
            min: 1,
            initial: 20,
            max: 1000,
            tolerance: 1.5,
            probe_every: Duration::from_secs(10),
            healthy_max: None,
        }
    }
}

/// Rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct AdaptiveRulesBuilder(AdaptiveRules);

impl AdaptiveRulesBuilder {
    /// The least limit, the one at first, and the greatest.
    pub const fn limits(mut self, min: u32, initial: u32, max: u32) -> Self {
        (self.0.min, self.0.initial, self.0.max) = (min, initial, max);
        self
    }

    /// How many times the latency of an idle downstream is borne.
    pub const fn tolerance(mut self, tolerance: f64) -> Self {
        self.0.tolerance = tolerance;
        self
    }

    /// How often the latency of an idle downstream is measured anew.
    pub const fn probe_every(mut self, every: Duration) -> Self {
        self.0.probe_every = every;
        self
    }

    /// The highest latency that an idle downstream may have. A slower one is not borne, but left alone.
    pub const fn healthy_max(mut self, latency: Duration) -> Self {
        self.0.healthy_max = Some(latency);
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`AdaptiveRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<AdaptiveRules, AdaptiveRulesError> {
        let AdaptiveRules { min, initial, max, tolerance, probe_every, healthy_max } = self.0;
        if min == 0 || initial < min || max < initial {
            return Err(AdaptiveRulesError::Bounds { min, initial, max });
        }
        if !(1.0..2.0).contains(&tolerance) {
            return Err(AdaptiveRulesError::Tolerance { tolerance });
        }
        if probe_every < Duration::from_secs(5) {
            return Err(AdaptiveRulesError::Probe { every: probe_every });
        }
        if healthy_max.is_some_and(|latency| latency.is_zero()) {
            return Err(AdaptiveRulesError::Healthy);
        }
        Ok(self.0)
    }
}
