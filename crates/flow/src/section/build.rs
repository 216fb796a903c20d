//! A plant to be takes what its configuration says.

use std::time::Duration;

use gemba_core::admission::Limits;
use gemba_core::burn_rate::Objective;

use super::{
    LimitsSection, LineSection, ObjectivesSection, PlantSection, PoolSection, ReceiptsSection, millis, secs,
};
use crate::action::Action;
use crate::line::LineSpec;
use crate::plant::PlantBuilder;
use crate::pool::PoolSpec;

impl PlantBuilder {
    /// Sets the rules of the plant as a configuration has them. Pools and lines take theirs with
    /// [`PoolSpec::section`] and [`LineSpec::section`].
    pub fn section(self, section: &PlantSection) -> Self {
        let LimitsSection { hard, reserve_ratio, soft_ratio } = section.limits;
        let mut plant = self.prices(section.prices.prices()).levels(section.levels.rules());
        // What is faulty was told by `Check`, and stays as it is.
        if let Ok(limits) = Limits::new(hard, reserve_ratio, soft_ratio) {
            plant = plant.limits(limits);
        }
        if let Ok(rules) = section.burst.rules().build() {
            plant = plant.burst(rules);
        }
        if let Ok(rules) = section.forecast.rules().build() {
            plant = plant.forecast(rules);
        }
        if let Ok(rules) = section.ladder.rules().build() {
            plant = plant.ladder(rules);
        }
        if let Ok(rules) = section.jidoka.rules().build() {
            plant = plant.jidoka(rules);
        }
        if let Ok(rules) = section.regressions.rules() {
            plant = plant.regressions(rules);
        }
        if let Ok(rules) = section.burn.rules() {
            plant = plant.burn_rates(rules);
        }
        if let Ok(rules) = section.pool_health.rules() {
            plant = plant.pool_health(rules);
        }
        if let Some(health) = section.health {
            plant = plant.checking(health.rules());
        }
        plant
    }
}

impl PoolSpec {
    /// Sets all that a configuration says about the pool.
    pub fn section(self, section: &PoolSection) -> Self {
        self.scaling(section.scaling())
            .wait(section.wait())
            .queue_max(section.queue_max)
            .intensity(section.crashes_max, secs(section.crash_period_s))
            .stop_within(Duration::from_millis(section.stop_within_ms.into()))
    }
}

impl<A: Action, F: 'static> LineSpec<A, F> {
    /// Sets what a configuration says about the line.
    pub fn section(mut self, section: &LineSection) -> Self {
        // What it goes back to when the configuration says nothing about it any more.
        self.built.get_or_insert((self.rules, self.rates));
        if !section.pools.is_empty() {
            self.pools.clone_from(&section.pools);
        }
        if let Some(deadline) = section.deadline_ms {
            self = self.deadline(millis(deadline));
        }
        if let Some(within) = section.follow_up_within_ms {
            self = self.follow_up_within(millis(within));
        }
        if let Some(Ok(objective)) = section.objective_ratio.map(Objective::new) {
            self = self.objective(objective);
        }
        if let Some(rate) = section.rate() {
            self = self.rate(rate);
        }
        if let Some(rate) = section.rate_per_key() {
            self.rates.key = Some(rate);
        }
        if let Some(Ok(rules)) = section.breaker.map(|breaker| breaker.rules().build()) {
            self = self.breaker(rules);
        }
        if let Some(Ok(rules)) = section.adaptive.map(|adaptive| adaptive.rules().build()) {
            self = self.adaptive(rules);
        }
        if let Some(Ok(receipts)) = section.receipts.map(ReceiptsSection::rules) {
            self = self.receipts(receipts);
        }
        if let Some(Ok(objectives)) = section.objectives.map(ObjectivesSection::rules) {
            self = self.objectives(objectives);
        }
        self
    }
}
