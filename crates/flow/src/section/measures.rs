//! What is held against budgets, baselines, pools and checks, as parts of a configuration.

use std::time::Duration;

use gemba_config::{Check, Faults};
use gemba_core::baseline::{BaselineRules, BaselineRulesError};
use gemba_core::burn_rate::{BurnRules, BurnRulesError};
use gemba_core::health::{HealthRules, HealthRulesBuilder};
use gemba_core::pool_health::{PoolHealthRules, PoolHealthRulesError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{below, rest};
use super::secs;

/// When a line is slower than its baseline. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RegressionsSection {
    /// By which share of the baseline the 95th percentile may be above it.
    #[schemars(range(max = 10.0), extend("exclusiveMinimum" = 0))]
    pub worse_ratio: f64,
    /// How likely chance may explain what is called a regression.
    #[schemars(range(max = 0.2), extend("exclusiveMinimum" = 0))]
    pub chance_ratio: f64,
    /// Outcomes a window needs.
    #[schemars(range(min = 50))]
    pub outcomes_min: u32,
}

impl Default for RegressionsSection {
    fn default() -> Self {
        Self { worse_ratio: 0.10, chance_ratio: 0.01, outcomes_min: 500 }
    }
}

impl RegressionsSection {
    pub(super) fn rules(&self) -> Result<BaselineRules, BaselineRulesError> {
        BaselineRules::new(self.worse_ratio, self.chance_ratio, self.outcomes_min.into())
    }
}

/// How many times faster than sustainable an error budget may burn. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BurnSection {
    /// Red within an hour and five minutes.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub hour_factor: f64,
    /// Red within six hours and half an hour.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub six_hours_factor: f64,
    /// Yellow within three days and six hours.
    #[schemars(range(max = 1000.0), extend("exclusiveMinimum" = 0))]
    pub three_days_factor: f64,
    /// Failures the longer window must hold.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failures_min: u32,
}

impl Default for BurnSection {
    fn default() -> Self {
        Self { hour_factor: 14.4, six_hours_factor: 6.0, three_days_factor: 1.0, failures_min: 10 }
    }
}

impl BurnSection {
    pub(super) fn rules(&self) -> Result<BurnRules, BurnRulesError> {
        let Self { hour_factor, six_hours_factor, three_days_factor, failures_min } = *self;
        BurnRules::new(hour_factor, six_hours_factor, three_days_factor, failures_min.into())
    }
}

impl Check for BurnSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let hours = ("six_hours_factor", self.six_hours_factor);
        let sound = [
            below(faults, hours, ("hour_factor", self.hour_factor), true),
            below(faults, ("three_days_factor", self.three_days_factor), hours, true),
        ];
        if sound.iter().all(|sound| *sound) {
            rest(faults, self.rules());
        }
    }
}

/// From where on a pool is degraded and critical. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolHealthSection {
    /// Degraded above this share of worker time in use.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub used_degraded_ratio: f64,
    /// Critical above it while jobs wait too long.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub used_critical_ratio: f64,
    /// Degraded above this share of failures in a minute.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub failed_degraded_ratio: f64,
    /// Critical above it.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub failed_critical_ratio: f64,
    /// How long it has to be better before it is called so.
    #[schemars(range(max = 3600))]
    pub better_after_s: u32,
}

impl Default for PoolHealthSection {
    fn default() -> Self {
        Self {
            used_degraded_ratio: 0.80,
            used_critical_ratio: 0.95,
            failed_degraded_ratio: 0.05,
            failed_critical_ratio: 0.20,
            better_after_s: 30,
        }
    }
}

impl PoolHealthSection {
    pub(super) const fn shares(&self) -> ([f64; 2], [f64; 2], Duration) {
        let used = [self.used_degraded_ratio, self.used_critical_ratio];
        let failed = [self.failed_degraded_ratio, self.failed_critical_ratio];
        (used, failed, Duration::from_secs(self.better_after_s as u64))
    }

    pub(super) fn rules(&self) -> Result<PoolHealthRules, PoolHealthRulesError> {
        let (used, failed, better_after) = self.shares();
        PoolHealthRules::new(used, failed, better_after)
    }
}

impl Check for PoolHealthSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let ([used, used_critical], [failed, failed_critical], _) = self.shares();
        let sound = [
            below(faults, ("used_degraded_ratio", used), ("used_critical_ratio", used_critical), false),
            below(
                faults,
                ("failed_degraded_ratio", failed),
                ("failed_critical_ratio", failed_critical),
                false,
            ),
        ];
        if sound.iter().all(|sound| *sound) {
            rest(faults, self.rules());
        }
    }
}

/// How often the checks of the node are asked, and how they are weighed, if not as the program has it. Can be changed
/// while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HealthSection {
    /// How often they are asked.
    #[schemars(range(min = 1, max = 3600))]
    pub period_s: u32,
    /// After how long without an answer one fails; two periods at least.
    #[schemars(range(min = 2))]
    pub stale_after_s: u32,
    /// How many answers in a row change one.
    #[schemars(range(min = 1, max = 100))]
    pub confirm: u32,
    /// The share of the weight above which the node is degraded, in thousandths.
    #[schemars(range(max = 999))]
    pub degraded_above_milli: u32,
}

impl Default for HealthSection {
    fn default() -> Self {
        Self { period_s: 5, stale_after_s: 15, confirm: 2, degraded_above_milli: 500 }
    }
}

impl HealthSection {
    pub(super) fn rules(self) -> HealthRulesBuilder {
        HealthRules::builder()
            .every(secs(self.period_s), secs(self.stale_after_s))
            .confirm(self.confirm)
            .degraded_above_milli(self.degraded_above_milli)
    }
}

impl Check for HealthSection {
    fn check(&self, faults: &mut Faults<'_>) {
        rest(faults, self.rules().build());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sets_is_as_the_rules_have_it() {
        assert_eq!(RegressionsSection::default().rules(), Ok(BaselineRules::default()));
        assert_eq!(BurnSection::default().rules(), Ok(BurnRules::default()));
        assert_eq!(PoolHealthSection::default().rules(), Ok(PoolHealthRules::default()));
        assert_eq!(HealthSection::default().rules().build(), HealthRules::builder().build());
    }
}
