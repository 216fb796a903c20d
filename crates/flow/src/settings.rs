//! Settings of a running plant: checked together, applied together, or none of them.

use std::sync::Arc;

use gemba_core::admission::{Limits, LimitsError};
use gemba_core::burst::{BurstRules, BurstRulesBuilder, BurstRulesError};
use gemba_core::cost::Prices;
use gemba_core::jidoka::{JidokaRules, JidokaRulesBuilder, JidokaRulesError};
use gemba_core::rate::{Rate, RateError};
use gemba_core::scaling::{ScaleRules, ScaleRulesBuilder, ScaleRulesError};
use gemba_core::wait::{WaitRulesBuilder, WaitRulesErrors};
use gemba_kernel::CallError;

use crate::exchange::Waiting;
use crate::floor::Floor;
use crate::rate::Rates;

/// What is to change; what is not named stays.
///
/// # Examples
///
/// ```
/// use gemba_core::burst::BurstRules;
/// use gemba_core::scaling::ScaleRules;
/// use gemba_flow::Settings;
///
/// let night = Settings::new()
///     .limits(600, 0.2, 0.83)
///     .pool("payment", ScaleRules::builder().workers(4, 10))
///     .burst(BurstRules::builder().disabled());
/// # let _ = night;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Settings {
    limits: Option<(u32, f64, f64)>,
    pools: Vec<(String, ScaleRulesBuilder)>,
    waiting: Vec<(String, WaitRulesBuilder, u32)>,
    burst: Option<BurstRulesBuilder>,
    jidoka: Option<JidokaRulesBuilder>,
    prices: Option<Prices>,
    rates: Vec<(String, Rates)>,
}

impl Settings {
    /// Settings that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many signals may be in flight, as in [`Limits::new`].
    pub fn limits(mut self, hard: u32, reserve_ratio: f64, soft_ratio: f64) -> Self {
        self.limits = Some((hard, reserve_ratio, soft_ratio));
        self
    }

    /// How large a pool is, and when it grows and shrinks.
    pub fn pool(mut self, pool: &str, rules: ScaleRulesBuilder) -> Self {
        self.pools.push((pool.to_owned(), rules));
        self
    }

    /// How jobs wait for a pool, and how many may. What waits already goes on waiting.
    pub fn waiting(mut self, pool: &str, rules: WaitRulesBuilder, queue_max: u32) -> Self {
        self.waiting.push((pool.to_owned(), rules, queue_max));
        self
    }

    /// When more arrivals are a surge; `BurstRules::builder().disabled()` ends the one that is on.
    pub fn burst(mut self, rules: BurstRulesBuilder) -> Self {
        self.burst = Some(rules);
        self
    }

    /// How lines slow down and stop.
    pub fn jidoka(mut self, rules: JidokaRulesBuilder) -> Self {
        self.jidoka = Some(rules);
        self
    }

    /// What workers cost.
    pub fn prices(mut self, prices: Prices) -> Self {
        self.prices = Some(prices);
        self
    }

    /// How many signals a line takes in a time, all together and of one key; `None` lifts a rate. A rate that
    /// changes begins anew, as after a rest; one that stays goes on.
    pub fn rates(mut self, line: &str, all: Option<Rate>, of_key: Option<Rate>, keys_max: usize) -> Self {
        self.rates.push((line.to_owned(), Rates { line: all, key: of_key, keys_max }));
        self
    }

    /// Checks every setting before any is applied.
    pub(crate) fn check(&self, floor: &Floor) -> Result<Checked, SettingsErrors> {
        let mut errors = Vec::new();
        let limits = self.limits.map(|(hard, reserve, soft)| Limits::new(hard, reserve, soft)).transpose();
        let burst = self.burst.map(BurstRulesBuilder::build).transpose();
        let jidoka = self.jidoka.map(JidokaRulesBuilder::build).transpose();
        let mut pools = Vec::new();
        for (name, rules) in &self.pools {
            let index = index_of(floor, name, &mut errors);
            let error = |error| errors.push(SettingError::Pool { pool: name.clone(), error });
            pools.extend(index.zip(rules.build().map_err(error).ok()));
        }
        let mut waiting = Vec::new();
        for (name, rules, queue_max) in &self.waiting {
            let index = index_of(floor, name, &mut errors);
            let error = |error| errors.push(SettingError::Wait { pool: name.clone(), error });
            let rules = rules.build().map_err(error).ok();
            waiting.extend(index.zip(rules.map(|rules| Waiting { rules, queue_max: *queue_max })));
        }
        let rates = self.check_rates(floor, &mut errors);
        let limits = limits.map_err(|error| errors.push(error.into()));
        let burst = burst.map_err(|error| errors.push(error.into()));
        let jidoka = jidoka.map_err(|error| errors.push(error.into()));
        match (limits, burst, jidoka) {
            (Ok(limits), Ok(burst), Ok(jidoka)) if errors.is_empty() => {
                Ok(Checked { limits, pools, waiting, burst, jidoka, prices: self.prices, rates })
            }
            _ => Err(SettingsErrors(errors)),
        }
    }

    fn check_rates(&self, floor: &Floor, errors: &mut Vec<SettingError>) -> Vec<(usize, Rates)> {
        let mut sound = Vec::new();
        for (name, rates) in &self.rates {
            let line = || name.clone();
            let index = floor.lines.iter().position(|line| line.name.as_str() == name);
            if index.is_none() {
                let known = floor.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>();
                errors.push(SettingError::UnknownLine { line: line(), known: known.join(", ").into() });
            }
            errors.extend(rates.check().err().map(|error| SettingError::Rate { line: line(), error }));
            sound.extend(index.map(|index| (index, *rates)));
        }
        sound
    }
}

/// The pool of this name; that there is none is told once.
fn index_of(floor: &Floor, name: &str, errors: &mut Vec<SettingError>) -> Option<usize> {
    let index = floor.pools.iter().position(|pool| pool.name.as_str() == name);
    if index.is_none() {
        let unknown = SettingError::UnknownPool { pool: name.to_owned(), known: floor.pool_names().into() };
        if !errors.contains(&unknown) {
            errors.push(unknown);
        }
    }
    index
}

/// Settings that may be applied.
#[derive(Debug)]
pub(crate) struct Checked {
    pub limits: Option<Limits>,
    pub pools: Vec<(usize, ScaleRules)>,
    pub waiting: Vec<(usize, Waiting)>,
    pub burst: Option<BurstRules>,
    pub jidoka: Option<JidokaRules>,
    pub prices: Option<Prices>,
    pub rates: Vec<(usize, Rates)>,
}

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The limits of admission.
    #[error("limits: {0}")]
    Limits(#[from] LimitsError),
    /// The rules of bursts.
    #[error("burst: {0}")]
    Burst(#[from] BurstRulesError),
    /// The rules by which lines stop.
    #[error("jidoka: {0}")]
    Jidoka(#[from] JidokaRulesError),
    /// The rules of a pool.
    #[error("pool '{pool}': {error}")]
    Pool {
        /// The pool.
        pool: String,
        /// What is wrong.
        error: ScaleRulesError,
    },
    /// How jobs wait for a pool.
    #[error("pool '{pool}': {error}")]
    Wait {
        /// The pool.
        pool: String,
        /// All that is wrong.
        error: WaitRulesErrors,
    },
    /// The rates of a line.
    #[error("line '{line}': {error}")]
    Rate {
        /// The line.
        line: String,
        /// What is wrong.
        error: RateError,
    },
    /// No line has this name.
    #[error("no line is called '{line}'; the lines are: {known}")]
    UnknownLine {
        /// The name.
        line: String,
        /// The lines there are.
        known: Arc<str>,
    },
    /// No pool has this name.
    #[error("no pool is called '{pool}'; the pools are: {known}")]
    UnknownPool {
        /// The name.
        pool: String,
        /// The pools there are.
        known: Arc<str>,
    },
}

/// Everything wrong with the settings. None of them was applied; the old ones stay in force.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} fault(s) in the settings, nothing was changed:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub struct SettingsErrors(pub Vec<SettingError>);

/// Why settings were not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// They are faulty.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// The regulator is restarting, or did not answer in time: then they may be in force all the same, and
    /// applying them again does no harm.
    #[error(transparent)]
    Call(#[from] CallError),
}
