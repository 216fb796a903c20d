//! When arrivals are a burst, and what follows, as settings.

use std::time::Duration;

/// Why settings do not make burst rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BurstRulesError {
    /// The present would be compared with less than itself.
    #[error("a burst factor of {factor} finds bursts in steady traffic; give a number above 1")]
    Factor {
        /// The refused factor.
        factor: f64,
    },
    /// The two averages do not tell present from past.
    #[error("the present over {fast:?} must be shorter than the baseline over {baseline:?}, and not zero")]
    Averages {
        /// Over what time the present is taken.
        fast: Duration,
        /// The time constant of the baseline.
        baseline: Duration,
    },
    /// There would be no time to learn what is normal.
    #[error("a warm-up of {warm_up:?} teaches no baseline; give at least {fast:?}")]
    WarmUp {
        /// The refused warm-up.
        warm_up: Duration,
        /// Over what time the present is taken.
        fast: Duration,
    },
    /// The least rate of a burst is not a rate.
    #[error("the least rate of a burst is {min_per_s} per second; give a number above 0")]
    MinRate {
        /// The refused rate.
        min_per_s: f64,
    },
    /// A surge would be over before it has held once.
    #[error("a surge may last {surge_max:?} but holds {hold:?} at least; give more than that")]
    SurgeMax {
        /// The refused limit.
        surge_max: Duration,
        /// How long a surge holds at least.
        hold: Duration,
    },
}

/// When arrivals are a burst, and what follows.
///
/// # Units and limits
///
/// By default a burst is 2.5 times the baseline and at least 10 arrivals per second. The present is the last
/// 2 s, the baseline an average over 10 min that stands still during a surge; nothing is a burst in the first
/// 60 s. In a surge each pool may have up to 50 workers beyond its maximum, as many again as a pool has at
/// most by default, if it needs them; for 300 s at least, then withdrawn evenly over 120 s; 30 s pass between
/// surges, and what has lasted 30 min is the new normal. Source: FLOW.md, bursts; FLOW-EVIDENCE.md, U1 to U8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstRules {
    pub(super) fast: Duration,
    pub(super) baseline: Duration,
    pub(super) factor: f64,
    pub(super) warm_up: Duration,
    pub(super) min_per_s: f64,
    pub(super) hold: Duration,
    pub(super) shrink: Duration,
    pub(super) surge_max: Duration,
    pub(super) cooldown: Duration,
    extra_workers: u32,
    pub(super) enabled: bool,
}

impl BurstRules {
    /// The defaults, to be changed.
    pub fn builder() -> BurstRulesBuilder {
        BurstRulesBuilder(Self::default())
    }

    /// Workers a pool may have beyond its maximum in a surge.
    pub const fn extra_workers(&self) -> u32 {
        self.extra_workers
    }
}

impl Default for BurstRules {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(2),
            baseline: Duration::from_secs(600),
            factor: 2.5,
            warm_up: Duration::from_secs(60),
            min_per_s: 10.0,
            hold: Duration::from_secs(300),
            shrink: Duration::from_secs(120),
            surge_max: Duration::from_secs(1800),
            cooldown: Duration::from_secs(30),
            extra_workers: 50,
            enabled: true,
        }
    }
}

/// Burst rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct BurstRulesBuilder(BurstRules);

impl BurstRulesBuilder {
    /// Over what time the present is taken, and the time constant of the baseline.
    pub const fn averages(mut self, fast: Duration, baseline: Duration) -> Self {
        (self.0.fast, self.0.baseline) = (fast, baseline);
        self
    }

    /// How many times the baseline, and at least how many arrivals per second, are a burst.
    pub const fn burst(mut self, factor: f64, min_per_s: f64) -> Self {
        (self.0.factor, self.0.min_per_s) = (factor, min_per_s);
        self
    }

    /// How long the baseline is learned before anything can be a burst.
    pub const fn warm_up(mut self, warm_up: Duration) -> Self {
        self.0.warm_up = warm_up;
        self
    }

    /// How long a surge holds, over how long it is withdrawn, and after how long it is the new normal.
    pub const fn surge(mut self, hold: Duration, shrink: Duration, surge_max: Duration) -> Self {
        (self.0.hold, self.0.shrink, self.0.surge_max) = (hold, shrink, surge_max);
        self
    }

    /// How long after a surge none begins.
    pub const fn cooldown(mut self, cooldown: Duration) -> Self {
        self.0.cooldown = cooldown;
        self
    }

    /// Workers each pool may have beyond its maximum in a surge; 0 only reports bursts.
    pub const fn extra_workers(mut self, extra_workers: u32) -> Self {
        self.0.extra_workers = extra_workers;
        self
    }

    /// No burst is looked for, and a surge that is on fades.
    pub const fn disabled(mut self) -> Self {
        self.0.enabled = false;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`BurstRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<BurstRules, BurstRulesError> {
        let BurstRules { fast, baseline, factor, warm_up, min_per_s, hold, surge_max, .. } = self.0;
        if !(1.0 < factor && factor.is_finite()) {
            return Err(BurstRulesError::Factor { factor });
        }
        if fast.is_zero() || baseline <= fast {
            return Err(BurstRulesError::Averages { fast, baseline });
        }
        if warm_up < fast {
            return Err(BurstRulesError::WarmUp { warm_up, fast });
        }
        if !(0.0 < min_per_s && min_per_s.is_finite()) {
            return Err(BurstRulesError::MinRate { min_per_s });
        }
        if surge_max <= hold {
            return Err(BurstRulesError::SurgeMax { surge_max, hold });
        }
        Ok(self.0)
    }
}
