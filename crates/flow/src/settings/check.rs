//! Every setting is checked before any is applied.

use std::collections::BTreeMap;
use std::time::Duration;

use gemba_core::adaptive::AdaptiveRulesBuilder;
use gemba_core::admission::Limits;
use gemba_core::baseline::BaselineRules;
use gemba_core::breaker::BreakerRulesBuilder;
use gemba_core::burn_rate::{BurnRules, Objective};
use gemba_core::burst::{BurstRules, BurstRulesBuilder};
use gemba_core::cost::Prices;
use gemba_core::forecast::{ForecastRules, ForecastRulesBuilder};
use gemba_core::health::{HealthErrors, HealthRules};
use gemba_core::jidoka::{JidokaRules, JidokaRulesBuilder};
use gemba_core::ladder::{LadderRules, LadderRulesBuilder, LevelRules};
use gemba_core::pool_health::PoolHealthRules;
use gemba_core::scaling::ScaleRules;

use super::{DEADLINE_MAX, HealthChange, LineChange, RatesChange, SettingError, Settings, SettingsErrors};
use crate::exchange::Waiting;
use crate::floor::Floor;
use crate::line::{FOLLOW_UP_MAX, LineRules};
use crate::rate::Rates;

/// Settings that may be applied.
#[derive(Debug)]
pub(crate) struct Checked {
    pub limits: Option<Limits>,
    pub pools: Vec<(usize, ScaleRules)>,
    pub waiting: Vec<(usize, Waiting)>,
    pub burst: Option<BurstRules>,
    pub forecast: Option<ForecastRules>,
    pub ladder: Option<LadderRules>,
    pub levels: Option<LevelRules>,
    pub regressions: Option<BaselineRules>,
    pub burn_rates: Option<BurnRules>,
    pub pool_health: Option<PoolHealthRules>,
    pub health: Option<HealthRules>,
    pub jidoka: Option<JidokaRules>,
    pub prices: Option<Prices>,
    pub rates: Vec<(usize, Rates)>,
    /// Each line of which something changes, with all its rules.
    pub lines: BTreeMap<usize, LineRules>,
}

/// What is wrong so far.
#[derive(Default)]
struct Faults(Vec<SettingError>);

impl Faults {
    /// Keeps what is sound, and takes note of what is not.
    fn sift<T, E: Into<SettingError>>(&mut self, checked: Option<Result<T, E>>) -> Option<T> {
        checked?.map_err(|error| self.0.push(error.into())).ok()
    }

    /// The same of one thing, with a name.
    fn keep<T, E>(&mut self, checked: Result<T, E>, fault: impl FnOnce(E) -> SettingError) -> Option<T> {
        checked.map_err(|error| self.0.push(fault(error))).ok()
    }

    /// The pool of this name; that there is none is told once.
    fn pool(&mut self, floor: &Floor, name: &str) -> Option<usize> {
        let index = floor.pools.iter().position(|pool| pool.name.as_str() == name);
        if index.is_none() {
            self.once(SettingError::UnknownPool { pool: name.to_owned(), known: floor.pool_names().into() });
        }
        index
    }

    /// The line of this name, likewise.
    fn line(&mut self, floor: &Floor, name: &str) -> Option<usize> {
        let index = floor.lines.iter().position(|line| line.name.as_str() == name);
        if index.is_none() {
            self.once(SettingError::UnknownLine { line: name.to_owned(), known: floor.line_names().into() });
        }
        index
    }

    fn once(&mut self, fault: SettingError) {
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }
}

impl Settings {
    /// Checks every setting before any is applied.
    pub(crate) fn check(&self, floor: &Floor) -> Result<Checked, SettingsErrors> {
        let mut faults = Faults::default();
        let limits = self.limits.map(|(hard, reserve, soft)| Limits::new(hard, reserve, soft));
        let regressions =
            self.regressions.map(|(worse, chance, least)| BaselineRules::new(worse, chance, least));
        let burn =
            self.burn_rates.map(|([hour, hours, days], least)| BurnRules::new(hour, hours, days, least));
        let pool_health =
            self.pool_health.map(|(used, failed, after)| PoolHealthRules::new(used, failed, after));
        let mut pools = Vec::new();
        for (name, rules) in &self.pools {
            let index = faults.pool(floor, name);
            let fault = |error| SettingError::Pool { pool: name.clone(), error };
            pools.extend(index.zip(faults.keep(rules.build(), fault)));
        }
        let mut waiting = Vec::new();
        for (name, rules, queue_max) in &self.waiting {
            let index = faults.pool(floor, name);
            let fault = |error| SettingError::Wait { pool: name.clone(), error };
            let rules = faults.keep(rules.build(), fault);
            waiting.extend(index.zip(rules.map(|rules| Waiting { rules, queue_max: *queue_max })));
        }
        let mut rates = Vec::new();
        for (name, given) in &self.rates {
            let index = faults.line(floor, name);
            let given = given.rates(index.map_or_else(Rates::default, |index| floor.lines[index].built.1));
            let fault = |error| SettingError::Rate { line: name.clone(), error };
            rates.extend(index.zip(faults.keep(given.check(), fault).map(|()| given)));
        }
        let checked = Checked {
            limits: faults.sift(limits),
            pools,
            waiting,
            burst: faults.sift(self.burst.map(BurstRulesBuilder::build)),
            forecast: faults.sift(self.forecast.map(ForecastRulesBuilder::build)),
            ladder: faults.sift(self.ladder.map(LadderRulesBuilder::build)),
            levels: self.levels.clone(),
            regressions: faults.sift(regressions),
            burn_rates: faults.sift(burn),
            pool_health: faults.sift(pool_health),
            health: faults.sift(self.health.map(|rules| checking(rules, floor))),
            jidoka: faults.sift(self.jidoka.map(JidokaRulesBuilder::build)),
            prices: self.prices,
            rates,
            lines: self.check_lines(floor, &mut faults),
        };
        if faults.0.is_empty() { Ok(checked) } else { Err(SettingsErrors(faults.0)) }
    }

    fn check_lines(&self, floor: &Floor, faults: &mut Faults) -> BTreeMap<usize, LineRules> {
        let mut lines = BTreeMap::new();
        for (name, change) in &self.lines {
            let Some(index) = faults.line(floor, name) else { continue };
            let line = &floor.lines[index];
            let rules = lines.entry(index).or_insert_with(|| line.rules());
            if matches!(change, LineChange::AsBuilt) {
                *rules = line.built.0;
            } else {
                change.check(name, rules, faults);
            }
        }
        lines
    }
}

impl RatesChange {
    /// The rates of a line that was built with these.
    fn rates(self, built: Rates) -> Rates {
        match self {
            Self::These(rates) => rates,
            Self::AsBuiltBut(all, of_key) => {
                Rates { line: all.or(built.line), key: of_key.or(built.key), ..built }
            }
        }
    }
}

impl LineChange {
    /// Makes the change to the rules of the line, or says why it cannot be.
    fn check(self, name: &str, rules: &mut LineRules, faults: &mut Faults) {
        let line = || name.to_owned();
        match self {
            Self::AsBuilt => {}
            Self::Receipts(receipts) => rules.receipts = receipts,
            Self::Objectives(objectives) => rules.objectives = objectives,
            Self::Breaker(given) => {
                let built = faults.keep(BreakerRulesBuilder::build(given), |error| SettingError::Breaker {
                    line: line(),
                    error,
                });
                rules.breaker = built.unwrap_or(rules.breaker);
            }
            Self::Adaptive(given) => {
                let built = given.map(AdaptiveRulesBuilder::build).transpose();
                let built = faults.keep(built, |error| SettingError::Adaptive { line: line(), error });
                rules.adaptive = built.unwrap_or(rules.adaptive);
            }
            Self::Objective(share) => {
                let built = faults
                    .keep(Objective::new(share), |error| SettingError::Objective { line: line(), error });
                rules.objective = built.unwrap_or(rules.objective);
            }
            Self::Deadline(deadline) => {
                let fault = |deadline| SettingError::Deadline { line: line(), deadline };
                faults.keep(within(deadline, DEADLINE_MAX), fault);
                rules.deadline = deadline;
            }
            Self::FollowUpWithin(given) => {
                let fault = |within| SettingError::FollowUp { line: line(), within };
                faults.keep(within(given, FOLLOW_UP_MAX), fault);
                rules.follow_up_within = given;
            }
        }
    }
}

fn within(given: Duration, most: Duration) -> Result<Duration, Duration> {
    if given.is_zero() || most < given { Err(given) } else { Ok(given) }
}

/// Rules that the checks of the node can go by.
fn checking(change: HealthChange, floor: &Floor) -> Result<HealthRules, HealthErrors> {
    let rules = match change {
        HealthChange::AsBuilt => floor.checking_built,
        HealthChange::Rules(rules) => rules.build()?,
    };
    floor.health.latest().health.clone().set_rules(rules)?;
    Ok(rules)
}
