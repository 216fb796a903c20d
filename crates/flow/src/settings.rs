//! Settings of a running plant: checked together, applied together, or none of them.

use std::time::Duration;

use gemba_core::adaptive::AdaptiveRulesBuilder;
use gemba_core::breaker::BreakerRulesBuilder;
use gemba_core::burst::BurstRulesBuilder;
use gemba_core::cost::Prices;
use gemba_core::forecast::ForecastRulesBuilder;
use gemba_core::health::HealthRulesBuilder;
use gemba_core::jidoka::JidokaRulesBuilder;
use gemba_core::ladder::{LadderRulesBuilder, LevelRules};
use gemba_core::objective::TierObjectives;
use gemba_core::rate::Rate;
use gemba_core::scaling::ScaleRulesBuilder;
use gemba_core::wait::WaitRulesBuilder;

use crate::rate::Rates;
use crate::receipts::Receipts;

mod check;
mod error;

pub(crate) use check::Checked;
pub use error::{ApplyError, SettingError, SettingsErrors};

/// The longest deadline a line may be given while it runs.
pub const DEADLINE_MAX: Duration = Duration::from_secs(86_400);

/// What is to change; what is not named stays.
///
/// Everything can be changed that a line, a pool or the plant goes by, but which there are, where signals go, and how
/// their supervisors restart them. What becomes of what is known under the old rules is said at each method: nothing
/// is forgotten that still means something.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_core::breaker::BreakerRules;
/// use gemba_core::burst::BurstRules;
/// use gemba_core::scaling::ScaleRules;
/// use gemba_flow::Settings;
///
/// let night = Settings::new()
///     .limits(600, 0.2, 0.83)
///     .pool("payment", ScaleRules::builder().workers(4, 10))
///     .breaker("payment", BreakerRules::builder().failures_in_a_row(3))
///     .deadline("payment", Duration::from_secs(8))
///     .burst(BurstRules::builder().disabled());
/// # let _ = night;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Settings {
    limits: Option<(u32, f64, f64)>,
    pools: Vec<(String, ScaleRulesBuilder)>,
    waiting: Vec<(String, WaitRulesBuilder, u32)>,
    burst: Option<BurstRulesBuilder>,
    forecast: Option<ForecastRulesBuilder>,
    ladder: Option<LadderRulesBuilder>,
    levels: Option<LevelRules>,
    regressions: Option<(f64, f64, u64)>,
    burn_rates: Option<([f64; 3], u64)>,
    pool_health: Option<([f64; 2], [f64; 2], Duration)>,
    health: Option<HealthChange>,
    jidoka: Option<JidokaRulesBuilder>,
    prices: Option<Prices>,
    rates: Vec<(String, RatesChange)>,
    lines: Vec<(String, LineChange)>,
}

/// How the checks of the node are to be weighed.
#[derive(Debug, Clone, Copy)]
enum HealthChange {
    AsBuilt,
    Rules(HealthRulesBuilder),
}

/// What is to become of the rates of a line.
#[derive(Debug, Clone, Copy)]
enum RatesChange {
    These(Rates),
    /// Those the program built it with, but for the ones that are given: of all signals, and of each key.
    AsBuiltBut(Option<Rate>, Option<Rate>),
}

/// What is to change of a line, in the order in which it was said.
#[derive(Debug, Clone, Copy)]
enum LineChange {
    AsBuilt,
    Breaker(BreakerRulesBuilder),
    Adaptive(Option<AdaptiveRulesBuilder>),
    Deadline(Duration),
    FollowUpWithin(Duration),
    Objective(f64),
    Receipts(Receipts),
    Objectives(TierObjectives),
}

impl Settings {
    /// Settings that change nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many signals may be in flight, as in [`Limits::new`](gemba_core::admission::Limits::new).
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

    /// What is foreseen of the arrivals. What was learnt stays, unless the slots of a season have another length.
    pub fn forecast(mut self, rules: ForecastRulesBuilder) -> Self {
        self.forecast = Some(rules);
        self
    }

    /// Which share of failures lights which light, and when a light clears. What was counted counts as far as the new
    /// window reaches; a light that is lit clears by the new figures.
    pub fn ladder(mut self, rules: LadderRulesBuilder) -> Self {
        self.ladder = Some(rules);
        self
    }

    /// Which percentiles, queues and resources light which light: these, and no others. A light without a threshold
    /// goes out.
    pub fn levels(mut self, rules: LevelRules) -> Self {
        self.levels = Some(rules);
        self
    }

    /// When a line is slower than its baseline, as in [`BaselineRules::new`](gemba_core::baseline::BaselineRules::new).
    pub fn regressions(mut self, worse_ratio: f64, chance: f64, outcomes_min: u64) -> Self {
        self.regressions = Some((worse_ratio, chance, outcomes_min));
        self
    }

    /// Which burn rates of an error budget tell, as in [`BurnRules::new`](gemba_core::burn_rate::BurnRules::new). What
    /// was counted counts.
    pub fn burn_rates(mut self, hour: f64, hours: f64, days: f64, failures_min: u64) -> Self {
        self.burn_rates = Some(([hour, hours, days], failures_min));
        self
    }

    /// From where on pools are degraded and critical, as in
    /// [`PoolHealthRules::new`](gemba_core::pool_health::PoolHealthRules::new).
    pub fn pool_health(mut self, used: [f64; 2], failed: [f64; 2], better_after: Duration) -> Self {
        self.pool_health = Some((used, failed, better_after));
        self
    }

    /// How often the checks of the node are asked, and how they are weighed. What they answered last holds.
    pub fn health(mut self, rules: HealthRulesBuilder) -> Self {
        self.health = Some(HealthChange::Rules(rules));
        self
    }

    /// The same as the program built the plant.
    pub fn health_as_built(mut self) -> Self {
        self.health = Some(HealthChange::AsBuilt);
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
        let rates = Rates { line: all, key: of_key, keys_max };
        self.rates.push((line.to_owned(), RatesChange::These(rates)));
        self
    }

    /// The rates of a line are again as the program built it, but for those that are given.
    pub(crate) fn rates_as_built_but(mut self, line: &str, all: Option<Rate>, of_key: Option<Rate>) -> Self {
        self.rates.push((line.to_owned(), RatesChange::AsBuiltBut(all, of_key)));
        self
    }

    /// All of a line but its rates is again as the program built it, but for what is said of it after this.
    pub fn line_as_built(self, line: &str) -> Self {
        self.line(line, LineChange::AsBuilt)
    }

    /// When the breaker of a line opens and closes. It stays in its state: one that is open waits for its time.
    pub fn breaker(self, line: &str, rules: BreakerRulesBuilder) -> Self {
        self.line(line, LineChange::Breaker(rules))
    }

    /// Limits the calls of a line to its downstream to what that bears; `None` lifts the limit. One that there was is
    /// brought into its new bounds; one that begins does not count calls that are in flight.
    pub fn adaptive(self, line: &str, rules: impl Into<Option<AdaptiveRulesBuilder>>) -> Self {
        self.line(line, LineChange::Adaptive(rules.into()))
    }

    /// How long a signal of a line may take, waiting included; at most [`DEADLINE_MAX`]. Signals on their way keep
    /// theirs.
    pub fn deadline(self, line: &str, deadline: Duration) -> Self {
        self.line(line, LineChange::Deadline(deadline))
    }

    /// How long what follows a success may take, at most [`FOLLOW_UP_MAX`](crate::FOLLOW_UP_MAX).
    pub fn follow_up_within(self, line: &str, within: Duration) -> Self {
        self.line(line, LineChange::FollowUpWithin(within))
    }

    /// What share of a line's work has to succeed, 0.9 to 0.999999. What was counted is held against the new budget.
    pub fn objective(self, line: &str, share: f64) -> Self {
        self.line(line, LineChange::Objective(share))
    }

    /// Which signals of a line leave a receipt, and how many in a second.
    pub fn receipts(self, line: &str, receipts: Receipts) -> Self {
        self.line(line, LineChange::Receipts(receipts))
    }

    /// Within what time 99 % of the signals of each tier are to be answered. What was counted stays as it was counted.
    pub fn objectives(self, line: &str, objectives: TierObjectives) -> Self {
        self.line(line, LineChange::Objectives(objectives))
    }

    fn line(mut self, line: &str, change: LineChange) -> Self {
        self.lines.push((line.to_owned(), change));
        self
    }
}
