//! The rules of a plant's actors as parts of a configuration.

use std::fmt::Display;
use std::time::Duration;

use gemba_config::{Check, Faults};
use gemba_core::adaptive::{AdaptiveRules, AdaptiveRulesBuilder};
use gemba_core::breaker::{BreakerRules, BreakerRulesBuilder};
use gemba_core::burst::{BurstRules, BurstRulesBuilder};
use gemba_core::cost::Prices;
use gemba_core::forecast::{ForecastRules, ForecastRulesBuilder};
use gemba_core::jidoka::{Cause, JidokaRules, JidokaRulesBuilder, Reset};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secs;

/// Reports that a value is not below another one of its table; returns whether it is.
pub(super) fn below(faults: &mut Faults<'_>, low: (&str, f64), high: (&str, f64), or_equal: bool) -> bool {
    let sound = low.1 < high.1 || (or_equal && low.1 <= high.1);
    if !sound {
        let most = if or_equal { "at most" } else { "less than" };
        faults
            .at(low.0)
            .add(format!("is {}; give {most} {}, which is {}", low.1, high.0, high.1))
            .beside(high.0);
    }
    sound
}

/// Reports what the rules themselves refuse, for the whole table.
pub(super) fn rest<T, E: Display>(faults: &mut Faults<'_>, rules: Result<T, E>) {
    if let Err(error) = rules {
        faults.add(error.to_string());
    }
}

/// When more arrivals are a surge, and what follows. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BurstSection {
    /// Whether surges are looked for.
    pub enabled: bool,
    /// The present: arrivals are averaged over it.
    #[schemars(range(min = 1))]
    pub fast_s: u32,
    /// What the present is compared with.
    #[schemars(range(min = 1))]
    pub baseline_s: u32,
    /// How many times the baseline is a surge.
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub factor: f64,
    /// How long arrivals are watched before there is a baseline.
    pub warm_up_s: u32,
    /// Fewer arrivals are no surge.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub min_per_s: f64,
    /// How long a surge lasts at least.
    pub hold_s: u32,
    /// Within which time its workers go.
    pub shrink_s: u32,
    /// How long a surge lasts at most.
    pub surge_max_s: u32,
    /// How long to rest between two surges.
    pub cooldown_s: u32,
    /// Workers that each pool may have beyond its maximum in a surge.
    pub extra_workers: u32,
}

impl Default for BurstSection {
    fn default() -> Self {
        Self {
            enabled: true,
            fast_s: 2,
            baseline_s: 600,
            factor: 2.5,
            warm_up_s: 60,
            min_per_s: 10.0,
            hold_s: 300,
            shrink_s: 120,
            surge_max_s: 1800,
            cooldown_s: 30,
            extra_workers: 50,
        }
    }
}

impl BurstSection {
    pub(super) fn rules(&self) -> BurstRulesBuilder {
        let rules = BurstRules::builder()
            .averages(secs(self.fast_s), secs(self.baseline_s))
            .burst(self.factor, self.min_per_s)
            .warm_up(secs(self.warm_up_s))
            .surge(secs(self.hold_s), secs(self.shrink_s), secs(self.surge_max_s))
            .cooldown(secs(self.cooldown_s))
            .extra_workers(self.extra_workers);
        if self.enabled { rules } else { rules.disabled() }
    }
}

impl Check for BurstSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let fast = ("fast_s", self.fast_s.into());
        let sound = [
            below(faults, fast, ("baseline_s", self.baseline_s.into()), false),
            below(faults, fast, ("warm_up_s", self.warm_up_s.into()), true),
            below(faults, ("hold_s", self.hold_s.into()), ("surge_max_s", self.surge_max_s.into()), false),
        ];
        if sound.iter().all(|sound| *sound) {
            rest(faults, self.rules().build());
        }
    }
}

/// What is foreseen of the arrivals. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ForecastSection {
    /// How long each of the 168 slots of a season is.
    #[schemars(range(min = 1))]
    pub slot_s: u32,
    /// How far ahead the forecast looks.
    #[schemars(range(min = 1))]
    pub lead_s: u32,
    /// The share added to what is expected.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub buffer_ratio: f64,
    /// More arrivals count in part only.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub level_above_per_s: f64,
    /// The part of them that counts.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub level_ratio: f64,
    /// How much the newest season counts against all before it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub newest_ratio: f64,
}

impl Default for ForecastSection {
    fn default() -> Self {
        Self {
            slot_s: 3600,
            lead_s: 600,
            buffer_ratio: 0.10,
            level_above_per_s: 1000.0,
            level_ratio: 0.5,
            newest_ratio: 0.5,
        }
    }
}

impl ForecastSection {
    pub(super) fn rules(&self) -> ForecastRulesBuilder {
        ForecastRules::builder()
            .season(secs(self.slot_s), secs(self.lead_s))
            .buffer(self.buffer_ratio)
            .level(self.level_above_per_s, self.level_ratio)
            .newest_weight(self.newest_ratio)
    }
}

impl Check for ForecastSection {
    fn check(&self, faults: &mut Faults<'_>) {
        if below(faults, ("lead_s", self.lead_s.into()), ("slot_s", self.slot_s.into()), true) {
            rest(faults, self.rules().build());
        }
    }
}

/// How lines slow down and stop. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each cause, and one for all of them")]
pub struct JidokaSection {
    /// Whether failures slow a line down and stop it, or only show.
    pub failures_stop: bool,
    /// Whether signals that take too long do.
    pub latency_stops: bool,
    /// Whether a queue that is too long does.
    pub queue_stops: bool,
    /// Whether processors, memory or connections that run out do.
    pub resources_stop: bool,
    /// Whether a person lets a line run again that stopped.
    pub reset_by_hand: bool,
    /// For how long a line that was stopped takes only critical signals.
    pub probation_s: u32,
    /// The share of the lines that may be stopped at once without a person asking for it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub stopped_max_ratio: f64,
}

impl Default for JidokaSection {
    fn default() -> Self {
        Self {
            failures_stop: true,
            latency_stops: false,
            queue_stops: false,
            resources_stop: false,
            reset_by_hand: false,
            probation_s: 60,
            stopped_max_ratio: 0.5,
        }
    }
}

impl JidokaSection {
    pub(super) fn rules(&self) -> JidokaRulesBuilder {
        let reset = if self.reset_by_hand { Reset::ByHand } else { Reset::Automatic };
        let rules = JidokaRules::builder()
            .drives(Cause::Failures, self.failures_stop)
            .drives(Cause::Latency, self.latency_stops)
            .drives(Cause::Queue, self.queue_stops)
            .drives(Cause::Resources, self.resources_stop)
            .probation(secs(self.probation_s))
            .stopped_max(self.stopped_max_ratio);
        Cause::ALL.into_iter().fold(rules, |rules, cause| rules.reset(cause, reset))
    }
}

/// What a worker costs for an hour, in millionths of whatever the operator counts in. Can be changed while the
/// plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PricesSection {
    /// A worker within the pool's maximum, in millionths.
    pub baseline_micro_per_h: u64,
    /// A worker beyond it, in millionths.
    pub surge_micro_per_h: u64,
}

impl Default for PricesSection {
    fn default() -> Self {
        let Prices { baseline_micro_per_h, surge_micro_per_h } = Prices::default();
        Self { baseline_micro_per_h, surge_micro_per_h }
    }
}

impl PricesSection {
    pub(super) const fn prices(&self) -> Prices {
        Prices { baseline_micro_per_h: self.baseline_micro_per_h, surge_micro_per_h: self.surge_micro_per_h }
    }
}

/// When a breaker opens and closes. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BreakerSection {
    /// Failures one after another that open it.
    #[schemars(range(min = 1))]
    pub failures_in_a_row: u32,
    /// The share of failures that opens it.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub failure_ratio: f64,
    /// Calls within the window for the share to say something.
    #[schemars(range(min = 1))]
    pub calls_min: u32,
    /// Over which time the share is taken.
    #[schemars(range(min = 1))]
    pub window_s: u32,
    /// How long it is open at first.
    #[schemars(range(min = 1, max = 86400))]
    pub open_min_s: u32,
    /// How long it is open at most.
    #[schemars(range(min = 1, max = 86400))]
    pub open_max_s: u32,
    /// Probes at once when it is half open.
    #[schemars(range(min = 1))]
    pub probes: u32,
    /// How long a probe may take.
    #[schemars(range(min = 1))]
    pub probe_max_s: u32,
    /// Successes that close it.
    #[schemars(range(min = 1))]
    pub successes: u32,
    /// A slower success counts as a failure.
    #[schemars(range(min = 1))]
    pub slow_ms: Option<u32>,
}

impl Default for BreakerSection {
    fn default() -> Self {
        Self {
            failures_in_a_row: 5,
            failure_ratio: 0.5,
            calls_min: 20,
            window_s: 10,
            open_min_s: 30,
            open_max_s: 300,
            probes: 1,
            probe_max_s: 60,
            successes: 3,
            slow_ms: None,
        }
    }
}

impl BreakerSection {
    pub(super) fn rules(self) -> BreakerRulesBuilder {
        let rules = BreakerRules::builder()
            .failures_in_a_row(self.failures_in_a_row)
            .failure_ratio(self.failure_ratio, self.calls_min, secs(self.window_s))
            .open(secs(self.open_min_s), secs(self.open_max_s))
            .probes(self.probes, secs(self.probe_max_s), self.successes);
        match self.slow_ms {
            Some(limit) => rules.slow(Duration::from_millis(limit.into())),
            None => rules,
        }
    }
}

impl Check for BreakerSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let (min, max) = (self.open_min_s.into(), self.open_max_s.into());
        if below(faults, ("open_min_s", min), ("open_max_s", max), true) {
            rest(faults, self.rules().build());
        }
    }
}

/// Limits the calls to a downstream to what it bears. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdaptiveSection {
    /// Least limit.
    #[schemars(range(min = 1))]
    pub limit_min: u32,
    /// Limit at first.
    #[schemars(range(min = 1))]
    pub limit_initial: u32,
    /// Greatest limit.
    #[schemars(range(min = 1))]
    pub limit_max: u32,
    /// How many times the latency of an idle downstream is borne.
    #[schemars(range(min = 1.0), extend("exclusiveMaximum" = 2))]
    pub tolerance: f64,
    /// How often the latency of an idle downstream is measured anew.
    #[schemars(range(min = 5))]
    pub probe_every_s: u32,
    /// The highest latency an idle downstream may have.
    #[schemars(range(min = 1))]
    pub healthy_max_ms: Option<u32>,
}

impl Default for AdaptiveSection {
    fn default() -> Self {
        Self {
            limit_min: 1,
            limit_initial: 20,
            limit_max: 1000,
            tolerance: 1.5,
            probe_every_s: 10,
            healthy_max_ms: None,
        }
    }
}

impl AdaptiveSection {
    pub(super) fn rules(self) -> AdaptiveRulesBuilder {
        let rules = AdaptiveRules::builder()
            .limits(self.limit_min, self.limit_initial, self.limit_max)
            .tolerance(self.tolerance)
            .probe_every(secs(self.probe_every_s));
        match self.healthy_max_ms {
            Some(limit) => rules.healthy_max(Duration::from_millis(limit.into())),
            None => rules,
        }
    }
}

impl Check for AdaptiveSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let initial = ("limit_initial", self.limit_initial.into());
        let sound = [
            below(faults, ("limit_min", self.limit_min.into()), initial, true),
            below(faults, initial, ("limit_max", self.limit_max.into()), true),
        ];
        if sound.iter().all(|sound| *sound) {
            rest(faults, self.rules().build());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sets_is_as_the_rules_have_it() {
        assert_eq!(BurstSection::default().rules().build(), Ok(BurstRules::default()));
        assert_eq!(ForecastSection::default().rules().build(), Ok(ForecastRules::default()));
        assert_eq!(JidokaSection::default().rules().build(), Ok(JidokaRules::default()));
        assert_eq!(PricesSection::default().prices(), Prices::default());
        assert_eq!(BreakerSection::default().rules().build(), Ok(BreakerRules::default()));
        assert_eq!(AdaptiveSection::default().rules().build(), Ok(AdaptiveRules::default()));
    }
}
