//! The settings of a plant as a part of a configuration: limits, pools, lines, and the rules of its actors.

use std::collections::BTreeMap;
use std::time::Duration;

use gemba_config::{Check, Faults};
use gemba_core::admission::Limits;
use gemba_core::rate::{Rate, RateError};
use gemba_core::scaling::{ScaleRules, ScaleRulesBuilder};
use gemba_core::wait::{WaitRules, WaitRulesBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pool::QUEUE_MAX;
use crate::settings::Settings;

mod answers;
mod build;
mod ladders;
mod measures;
mod rules;

use rules::{below, rest};

pub use answers::{ObjectivesSection, ReceiptsSection, SignalsTold};
pub use ladders::{LadderSection, LevelsSection, ThresholdsSection};
pub use measures::{BurnSection, HealthSection, PoolHealthSection, RegressionsSection};
pub use rules::{
    AdaptiveSection, BreakerSection, BurstSection, ForecastSection, JidokaSection, PricesSection,
};

/// The settings of a plant.
///
/// What a pool or a line does not say is as by [`PoolSpec::new`](crate::PoolSpec::new) and
/// [`LineSpec::new`](crate::LineSpec::new).
///
/// # Examples
///
/// ```
/// use gemba_config::{Check, Faults, Sources};
/// use gemba_flow::PlantSection;
///
/// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
/// struct Service { plant: PlantSection }
///
/// impl Check for Service {
///     fn check(&self, faults: &mut Faults<'_>) {
///         let mut faults = faults.at("plant");
///         self.plant.check(&mut faults);
///         self.plant.check_names(&["orders"], &["orders"], &mut faults);
///     }
/// }
///
/// let text = "[plant.limits]\nhard = 600\n[plant.pools.orders]\nworkers_min = 4\n[plant.pools.order]\n";
/// let errors = Sources::new("APP").text("app.toml", text).load::<Service>().unwrap_err();
/// assert_eq!(errors.faults()[0].message(), "plant.pools.order: no pool is called 'order'; there are: orders");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PlantSection {
    /// How many signals may be in flight.
    pub limits: LimitsSection,
    /// Pools by name.
    pub pools: BTreeMap<String, PoolSection>,
    /// Lines by name.
    pub lines: BTreeMap<String, LineSection>,
    /// When more arrivals are a surge, and what follows.
    pub burst: BurstSection,
    /// What is foreseen of the arrivals.
    pub forecast: ForecastSection,
    /// Which share of failures lights which light.
    pub ladder: LadderSection,
    /// Which percentiles, queues and resources light which light.
    pub levels: LevelsSection,
    /// How lines slow down and stop.
    pub jidoka: JidokaSection,
    /// What workers cost.
    pub prices: PricesSection,
    /// When a line is slower than its baseline.
    pub regressions: RegressionsSection,
    /// How fast error budgets may burn.
    pub burn: BurnSection,
    /// From where on pools are degraded and critical.
    pub pool_health: PoolHealthSection,
    /// How the checks of the node are asked and weighed, if not as the program has it.
    pub health: Option<HealthSection>,
}

/// The limits of admission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitsSection {
    /// Signals in flight at most, of all lines together.
    #[schemars(range(min = 1))]
    pub hard: u32,
    /// The share that is kept for critical signals.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub reserve_ratio: f64,
    /// The share of a limit from which on it warns.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub soft_ratio: f64,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { hard: 1200, reserve_ratio: 0.2, soft_ratio: 0.83 }
    }
}

/// A pool. Most of it can be changed while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolSection {
    /// Fewest workers.
    #[schemars(range(min = 1))]
    pub workers_min: u32,
    /// Most workers, outside a surge.
    #[schemars(range(min = 1))]
    pub workers_max: u32,
    /// The utilization a pool is sized for.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub target_ratio: f64,
    /// The utilization above which it grows.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub grow_above_ratio: f64,
    /// How long it rests after a change before it grows.
    pub cooldown_up_s: u32,
    /// How long it rests after a change before it shrinks.
    pub cooldown_down_s: u32,
    /// It does not shrink below what it needed within this time.
    #[schemars(range(max = 3600))]
    pub shrink_window_s: u32,
    /// Jobs that wait longer make it grow at once.
    pub wait_max_ms: u32,
    /// Within which time waiting jobs are to be done.
    #[schemars(range(min = 1))]
    pub drain_within_s: u32,
    /// Jobs that may wait.
    pub queue_max: u32,
    /// The share of its deadline a signal may wait; up to twice that in a pool of fewer than four.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub wait_calm_ratio: f64,
    /// The same in an overload that lasts.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub wait_lasting_ratio: f64,
    /// Crashes of workers within the crash period before the pool is started anew; set at the start.
    pub crashes_max: u32,
    /// Within which time crashes are counted; set at the start.
    #[schemars(range(min = 1, max = 86400))]
    pub crash_period_s: u32,
    /// How long a worker may finish its job when the pool stops; set at the start.
    #[schemars(range(max = 600_000))]
    pub stop_within_ms: u32,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            workers_min: 2,
            workers_max: 50,
            target_ratio: 0.70,
            grow_above_ratio: 0.80,
            cooldown_up_s: 15,
            cooldown_down_s: 60,
            shrink_window_s: 300,
            wait_max_ms: 1000,
            drain_within_s: 20,
            queue_max: QUEUE_MAX,
            wait_calm_ratio: 0.25,
            wait_lasting_ratio: 0.12,
            crashes_max: 10,
            crash_period_s: 60,
            stop_within_ms: 5000,
        }
    }
}

/// A line. All but its pools can be changed while it runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LineSection {
    /// The pools that do its work, if not the one of its name; set at the start.
    pub pools: Vec<String>,
    /// How long a signal may take, waiting included, if not as the program has it.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub deadline_ms: Option<u32>,
    /// How long what follows a success may take, if not as the program has it.
    #[schemars(range(min = 1, max = 60_000))]
    pub follow_up_within_ms: Option<u32>,
    /// What share of its work has to succeed, if not as the program has it.
    #[schemars(range(min = 0.9, max = 0.999_999))]
    pub objective_ratio: Option<f64>,
    /// How many signals it takes in a time.
    pub rate: Option<RateSection>,
    /// How many signals of one key it takes in a time.
    pub rate_per_key: Option<RateSection>,
    /// When its breaker opens and closes.
    pub breaker: Option<BreakerSection>,
    /// Limits the calls to a downstream to what it bears.
    pub adaptive: Option<AdaptiveSection>,
    /// Which signals leave a receipt, if not as the program has it.
    pub receipts: Option<ReceiptsSection>,
    /// Within what time the signals of each tier are to be answered, if not as the program has it.
    pub objectives: Option<ObjectivesSection>,
}

/// So many in a period, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateSection {
    /// Signals in each period.
    #[schemars(range(min = 1))]
    pub count: u32,
    /// The period.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 2_678_400))]
    pub period_s: u32,
    /// How many may come at once after a rest; as many as in a period if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl RateSection {
    fn rate(self) -> Result<Rate, RateError> {
        Rate::new(self.count, secs(self.period_s))?.burst(self.burst.unwrap_or(self.count))
    }
}

impl LineSection {
    fn rate(&self) -> Option<Rate> {
        self.rate.and_then(|rate| rate.rate().ok())
    }

    fn rate_per_key(&self) -> Option<Rate> {
        self.rate_per_key.and_then(|rate| rate.rate().ok())
    }

    /// Adds what can be changed of the line; what it does not say is as the program has it.
    fn settings(&self, line: &str, settings: Settings) -> Settings {
        let mut settings =
            settings.rates_as_built_but(line, self.rate(), self.rate_per_key()).line_as_built(line);
        if let Some(deadline) = self.deadline_ms {
            settings = settings.deadline(line, millis(deadline));
        }
        if let Some(within) = self.follow_up_within_ms {
            settings = settings.follow_up_within(line, millis(within));
        }
        if let Some(objective) = self.objective_ratio {
            settings = settings.objective(line, objective);
        }
        if let Some(breaker) = self.breaker {
            settings = settings.breaker(line, breaker.rules());
        }
        if let Some(adaptive) = self.adaptive {
            settings = settings.adaptive(line, adaptive.rules());
        }
        // What is faulty was told by `Check`.
        if let Some(Ok(receipts)) = self.receipts.map(ReceiptsSection::rules) {
            settings = settings.receipts(line, receipts);
        }
        if let Some(Ok(objectives)) = self.objectives.map(ObjectivesSection::rules) {
            settings = settings.objectives(line, objectives);
        }
        settings
    }
}

impl PoolSection {
    fn scaling(&self) -> ScaleRulesBuilder {
        ScaleRules::builder()
            .workers(self.workers_min, self.workers_max)
            .thresholds(self.target_ratio, self.grow_above_ratio)
            .cooldowns(secs(self.cooldown_up_s), secs(self.cooldown_down_s))
            .shrink_window(secs(self.shrink_window_s))
            .waiting(Duration::from_millis(self.wait_max_ms.into()), secs(self.drain_within_s))
    }

    fn wait(&self) -> WaitRulesBuilder {
        WaitRules::builder().shares(self.wait_calm_ratio, self.wait_lasting_ratio)
    }

    /// The keys that are set at the start, and whether they differ.
    const fn at_start(&self, other: &Self) -> [(&'static str, bool); 3] {
        [
            ("crashes_max", self.crashes_max != other.crashes_max),
            ("crash_period_s", self.crash_period_s != other.crash_period_s),
            ("stop_within_ms", self.stop_within_ms != other.stop_within_ms),
        ]
    }
}

impl PlantSection {
    /// What of it can be changed while the plant runs, for [`Plant::apply`](crate::Plant::apply).
    pub fn settings(&self) -> Settings {
        let LimitsSection { hard, reserve_ratio, soft_ratio } = self.limits;
        let mut settings = Settings::new()
            .limits(hard, reserve_ratio, soft_ratio)
            .burst(self.burst.rules())
            .forecast(self.forecast.rules())
            .ladder(self.ladder.rules())
            .levels(self.levels.rules())
            .jidoka(self.jidoka.rules())
            .prices(self.prices.prices());
        let RegressionsSection { worse_ratio, chance_ratio, outcomes_min } = self.regressions;
        let BurnSection { hour_factor, six_hours_factor, three_days_factor, failures_min } = self.burn;
        let (used, failed, better_after) = self.pool_health.shares();
        settings = settings
            .regressions(worse_ratio, chance_ratio, outcomes_min.into())
            .burn_rates(hour_factor, six_hours_factor, three_days_factor, failures_min.into())
            .pool_health(used, failed, better_after);
        settings = match self.health {
            Some(health) => settings.health(health.rules()),
            None => settings.health_as_built(),
        };
        for (name, pool) in &self.pools {
            settings = settings.pool(name, pool.scaling()).waiting(name, pool.wait(), pool.queue_max);
        }
        for (name, line) in &self.lines {
            settings = line.settings(name, settings);
        }
        settings
    }

    /// The keys whose values differ in `other` and can be set at the start alone. A service that reads its
    /// configuration again refuses it because of them, rather than to follow half of it.
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        let sections = [
            ("pools", !self.pools.keys().eq(other.pools.keys())),
            ("lines", !self.lines.keys().eq(other.lines.keys())),
        ];
        keys.extend(sections.iter().filter(|(_, differs)| *differs).map(|(key, _)| (*key).to_owned()));
        for (name, one) in &self.pools {
            let differ = other.pools.get(name).map(|other| one.at_start(other));
            let differ = differ.into_iter().flatten().filter(|(_, differs)| *differs);
            keys.extend(differ.map(|(key, _)| format!("pools.{name}.{key}")));
        }
        for (name, one) in &self.lines {
            if other.lines.get(name).is_some_and(|other| one.pools != other.pools) {
                keys.push(format!("lines.{name}.pools"));
            }
        }
        keys
    }

    /// Reports pools and lines that the program does not have, and routes that lead to no pool.
    pub fn check_names(&self, pools: &[&str], lines: &[&str], faults: &mut Faults<'_>) {
        for name in self.pools.keys().filter(|name| !pools.contains(&name.as_str())) {
            faults.at("pools").at(name).unknown("pool", name, pools.iter().copied());
        }
        for (name, line) in &self.lines {
            if !lines.contains(&name.as_str()) {
                faults.at("lines").at(name).unknown("line", name, lines.iter().copied());
            }
            for (place, pool) in line.pools.iter().enumerate() {
                if !pools.contains(&pool.as_str()) {
                    let mut faults = faults.at("lines");
                    let mut faults = faults.at(name);
                    faults.at("pools").item(place).unknown("pool", pool, pools.iter().copied());
                }
            }
        }
    }
}

impl Check for PlantSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let LimitsSection { hard, reserve_ratio, soft_ratio } = self.limits;
        rest(&mut faults.at("limits"), Limits::new(hard, reserve_ratio, soft_ratio));
        for (name, pool) in &self.pools {
            let mut faults = faults.at("pools");
            pool.check(&mut faults.at(name));
        }
        for (name, line) in &self.lines {
            let mut faults = faults.at("lines");
            line.check(&mut faults.at(name));
        }
        self.burst.check(&mut faults.at("burst"));
        self.forecast.check(&mut faults.at("forecast"));
        self.ladder.check(&mut faults.at("ladder"));
        self.levels.check(&mut faults.at("levels"));
        rest(&mut faults.at("jidoka"), self.jidoka.rules().build());
        rest(&mut faults.at("regressions"), self.regressions.rules());
        self.burn.check(&mut faults.at("burn"));
        self.pool_health.check(&mut faults.at("pool_health"));
        if let Some(health) = self.health {
            health.check(&mut faults.at("health"));
        }
    }
}

impl Check for PoolSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let (min, max) = (self.workers_min, self.workers_max);
        let sound = [
            below(faults, ("workers_min", min.into()), ("workers_max", max.into()), true),
            below(
                faults,
                ("target_ratio", self.target_ratio),
                ("grow_above_ratio", self.grow_above_ratio),
                false,
            ),
            below(
                faults,
                ("wait_lasting_ratio", self.wait_lasting_ratio),
                ("wait_calm_ratio", self.wait_calm_ratio),
                true,
            ),
        ];
        if sound.iter().all(|sound| *sound) {
            rest(faults, self.scaling().build());
            rest(faults, self.wait().build());
        }
    }
}

impl Check for LineSection {
    fn check(&self, faults: &mut Faults<'_>) {
        for (key, rate) in [("rate", self.rate), ("rate_per_key", self.rate_per_key)] {
            if let Some(rate) = rate {
                rest(&mut faults.at(key), rate.rate());
            }
        }
        if let Some(breaker) = &self.breaker {
            breaker.check(&mut faults.at("breaker"));
        }
        if let Some(adaptive) = &self.adaptive {
            adaptive.check(&mut faults.at("adaptive"));
        }
        if let Some(receipts) = self.receipts {
            rest(&mut faults.at("receipts"), receipts.rules());
        }
        if let Some(objectives) = self.objectives {
            rest(&mut faults.at("objectives"), objectives.rules());
        }
    }
}

fn secs(secs: u32) -> Duration {
    Duration::from_secs(secs.into())
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

#[cfg(test)]
mod tests {
    use gemba_config::{ConfigErrors, Sources};

    use super::*;
    use crate::pool::PoolSpec;

    fn load(text: &str) -> Result<PlantSection, ConfigErrors> {
        Sources::new("PLANT").text("plant.toml", text).load().map(|loaded| loaded.value)
    }

    #[test]
    fn what_nobody_sets_is_as_the_code_has_it() {
        let pool = PoolSection::default();
        let spec = PoolSpec::new("a");
        assert_eq!(pool.scaling().build(), Ok(ScaleRules::default()));
        assert_eq!(pool.wait().build(), Ok(WaitRules::default()));
        let set = PoolSpec::new("a").section(&pool);
        assert_eq!(
            (set.queue_max, set.intensity, set.stop_within),
            (spec.queue_max, spec.intensity, spec.stop_within)
        );
        let LimitsSection { hard, reserve_ratio, soft_ratio } = LimitsSection::default();
        assert_eq!(Limits::new(hard, reserve_ratio, soft_ratio), Ok(Limits::default()));
        assert_eq!(load("").unwrap(), PlantSection::default());
    }

    #[test]
    fn every_faulty_setting_is_told_with_its_key_and_what_is_allowed() {
        let errors = load(
            "[limits]\nhard = 0\nreserve_ratio = 1.5\n\
             [pools.a]\nworkers_min = 0\n\
             [pools.b]\nworkers_min = 9\nworkers_max = 3\ntarget_ratio = 0.9\n\
             [lines.a.rate]\ncount = 0\n\
             [lines.a.breaker]\nopen_min_s = 400\n\
             [lines.b]\nrate = { count = 5, priod_s = 1 }\n\
             [lines.b.adaptive]\nlimit_initial = 2000\ntolerance = 2\n\
             [lines.c]\nreceipts = { of = \"some\" }\nobjectives.batch_ms = 600_001\n\
             [lines.d]\nreceipts = { of = \"each\", per_s = 1001 }\n\
             [burst]\nfactor = 1\nhold_s = 1800\n\
             [forecast]\nlead_s = 7200\n\
             [ladder]\nyellow_ratio = 0.5\nwindow_s = 1\n\
             [levels]\np95_ms = { yellow = 280, red = 150 }\nprocessor_percent.red = 0\n\
             [jidoka]\nstopped_max_ratio = -0.1\n\
             [burn]\nsix_hours_factor = 20\n[pool_health]\nfailed_degraded_ratio = 0.3\n\
             [regressions]\noutcomes_min = 9\n[health]\nperiod_s = 10\n",
        )
        .unwrap_err();
        let told: Vec<_> = errors.faults().iter().map(gemba_config::Fault::message).collect();
        let expected = [
            "limits.hard is 0; give a whole number of at least 1",
            "limits.reserve_ratio is 1.5; give a number at least 0 and below 1",
            "pools.a.workers_min is 0; give a whole number of at least 1",
            "pools.b.workers_min: is 9; give at most workers_max, which is 3",
            "pools.b.target_ratio: is 0.9; give less than grow_above_ratio, which is 0.8",
            "lines.a.rate.count is 0; give a whole number of at least 1",
            "lines.a.breaker.open_min_s: is 400; give at most open_max_s, which is 300",
            "unknown key 'priod_s' in lines.b.rate",
            "lines.b.adaptive.limit_initial: is 2000; give at most limit_max, which is 1000",
            "lines.b.adaptive.tolerance is 2; give a number at least 1 and below 2",
            "lines.c.receipts.of is \"some\"; give one of none, failures, unsuccessful, each",
            "lines.c.objectives.batch_ms is 600001; give a whole number from 0 to 600000",
            "lines.d.receipts.per_s is 1001; give a whole number from 1 to 1000",
            "burst.factor is 1; give a number above 1",
            "burst.hold_s: is 1800; give less than surge_max_s, which is 1800",
            "forecast.lead_s: is 7200; give at most slot_s, which is 3600",
            "ladder.yellow_ratio: is 0.5; give less than red_ratio, which is 0.005",
            "levels.p95_ms: the thresholds [280, 150] of yellow, red and purple do not rise; give each above the \
             one before, from 1 up",
            "levels.processor_percent.red is 0; give a whole number of at least 1",
            "jidoka.stopped_max_ratio is -0.1; give a number from 0 to 1",
            "burn.six_hours_factor: is 20; give at most hour_factor, which is 14.4",
            "pool_health.failed_degraded_ratio: is 0.3; give less than failed_critical_ratio, which is 0.2",
            "regressions.outcomes_min is 9; give a whole number of at least 50",
            "health: answers are stale after 15s; give at least two periods, 20s",
        ];
        assert_eq!(told, expected, "{errors}");
    }

    #[test]
    fn what_is_set_at_the_start_alone_is_named() {
        let one = load("[pools.a]\nworkers_min = 3\n[lines.a.rate]\ncount = 5\n").unwrap();
        let running = load(
            "[limits]\nhard = 7\n[pools.a]\nworkers_min = 4\nqueue_max = 1\n[lines.a.rate]\ncount = 6\n\
             [lines.a]\ndeadline_ms = 5\nreceipts.of = \"each\"\nobjectives.normal_ms = 5\n[lines.a.breaker]\nprobes = 2\n[ladder]\nwindow_s = 61\n\
             [levels]\nqueued.red = 9\n[forecast]\nlead_s = 60\n[burn]\nfailures_min = 1\n[health]\nconfirm = 1\n",
        )
        .unwrap();
        assert_eq!(one.needs_restart(&running), Vec::<String>::new());
        let other = load(
            "[pools.a]\ncrashes_max = 1\nstop_within_ms = 1\n[lines.a]\npools = [\"b\"]\ndeadline_ms = 5\n[pools.b]\n",
        );
        let keys = ["pools", "pools.a.crashes_max", "pools.a.stop_within_ms", "lines.a.pools"];
        assert_eq!(one.needs_restart(&other.unwrap()), keys);
    }
}
