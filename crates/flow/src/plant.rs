//! The plant: puts lines, pools and the actors that govern them together under one `one_for_all` supervisor.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gemba_core::admission::Limits;
use gemba_core::affinity::Affinity;
use gemba_core::baseline::{BaselineRules, Baselines};
use gemba_core::burn_rate::BurnRules;
use gemba_core::burst::BurstRules;
use gemba_core::cost::Prices;
use gemba_core::forecast::ForecastRules;
use gemba_core::health::{HealthRulesBuilder, HealthView};
use gemba_core::jidoka::JidokaRules;
use gemba_core::ladder::{LadderRules, LevelRules, Measure};
use gemba_core::lending::Lending;
use gemba_core::name::{ActorPath, Name};
use gemba_core::pool_health::PoolHealthRules;
use gemba_core::receipt::Seq;
use gemba_core::view::{ArrivalsView, CostView};
use gemba_kernel::{ChildSpec, Publisher, Supervisor, System, server};

use crate::action::Action;
use crate::balancer::{Balancer, POOLS_PER_LINE_MAX, Routes};
use crate::board::{AndonBoard, BoardMsg};
use crate::burst::{BurstHandler, Levelling};
use crate::dispatcher::Dispatcher;
use crate::floor::{Andon, Floor, Surge};
use crate::follow_up::FollowUps;
use crate::gate::Gate;
use crate::guard::Guard;
use crate::health::{Fault, HealthSpec, Monitor, Source, Wellness};
use crate::kaizen::{self, Kaizen, KaizenRules, Levels, Measuring};
use crate::line::{FOLLOW_UP_MAX, Line, LineCell, LineRules, LineSpec};
use crate::meters::Meters;
use crate::permit::Ceiling;
use crate::phases::Phases;
use crate::pool::{PoolCell, PoolHandle, PoolSpec};
use crate::rate::{RateGate, Rates};
use crate::regulator::{Regulator, RegulatorHandle};
use crate::settings::{ApplyError, DEADLINE_MAX, Settings};
use crate::tally::Account;

mod error;

pub use error::{PlantError, PlantErrors};

/// A plant to be.
#[derive(Debug)]
pub struct PlantBuilder {
    system: System,
    limits: Limits,
    levelling: Levelling,
    kaizen: KaizenRules,
    measuring: Measuring,
    jidoka: JidokaRules,
    health: HealthSpec,
    /// How checks are weighed, if a configuration says so.
    checking: Option<HealthRulesBuilder>,
    ceiling: Arc<Ceiling>,
    routes: Arc<Routes>,
    pools: Vec<PoolSpec>,
    lines: Vec<Arc<LineCell>>,
    serves: Vec<Vec<String>>,
    errors: Vec<PlantError>,
}

/// The plant: the owner's root `one_for_all`, as a child of the node.
#[derive(Debug)]
pub struct Plant {
    supervisor: Supervisor,
    regulator: RegulatorHandle,
}

impl Plant {
    /// A plant on this node, with the default limits and without lines.
    pub fn builder(system: &System) -> PlantBuilder {
        let limits = Limits::default();
        PlantBuilder {
            system: system.clone(),
            limits,
            levelling: Levelling::default(),
            kaizen: KaizenRules::default(),
            measuring: Measuring::default(),
            jidoka: JidokaRules::default(),
            health: HealthSpec::new(),
            checking: None,
            ceiling: Ceiling::new(limits),
            routes: Routes::new(),
            pools: Vec::new(),
            lines: Vec::new(),
            serves: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The regulator, for those who operate it.
    pub fn regulator(&self) -> RegulatorHandle {
        self.regulator.clone()
    }

    /// Changes settings of the running plant: all of them, or none. They hold until they are changed again,
    /// also across a restart of the plant.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Settings`] names every fault; the old settings stay in force.
    /// [`ApplyError::Call`] when the regulator is restarting.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn apply(&self, settings: Settings, why: impl Into<Arc<str>>) -> Result<Seq, ApplyError> {
        self.regulator.apply(settings, why).await
    }

    /// A pool by name, for those who operate it.
    pub fn pool(&self, name: &str) -> Option<PoolHandle> {
        self.regulator.floor.pools.iter().find(|pool| pool.name.as_str() == name).cloned().map(PoolHandle)
    }
}

impl From<Plant> for ChildSpec {
    fn from(plant: Plant) -> Self {
        plant.supervisor.into()
    }
}

impl PlantBuilder {
    /// How many signals may be in flight; by default those of [`Limits::default`], 1200 of all lines together, a
    /// fifth of them for critical ones alone.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.ceiling.set_limits(limits);
        self
    }

    /// When more arrivals are a surge.
    pub fn burst(mut self, rules: BurstRules) -> Self {
        self.levelling.burst = rules;
        self
    }

    /// What is foreseen of the arrivals, so that pools are large enough before a rise comes.
    pub fn forecast(mut self, rules: ForecastRules) -> Self {
        self.levelling.forecast = rules;
        self
    }

    /// What workers cost.
    pub fn prices(mut self, prices: Prices) -> Self {
        self.levelling.prices = prices;
        self
    }

    /// Which share of failures lights which light.
    pub fn ladder(mut self, rules: LadderRules) -> Self {
        self.measuring.ladder = rules;
        self
    }

    /// Which percentiles, queues and resources light which light. They slow lines down and stop them only where
    /// [`jidoka`](Self::jidoka) says so of their cause; a light clears as by [`ladder`](Self::ladder).
    pub fn levels(mut self, rules: LevelRules) -> Self {
        self.measuring.levels = rules;
        self
    }

    /// Keeps the baselines of the lines in this file, across restarts, and writes `build` into each, so that
    /// one build is compared with another. Without it they last as long as the node.
    pub fn baselines(mut self, file: impl Into<PathBuf>, build: &str) -> Self {
        (self.kaizen.file, self.kaizen.build) = (Some(file.into()), build.into());
        self
    }

    /// When a line is slower than its baseline.
    pub fn regressions(mut self, rules: BaselineRules) -> Self {
        self.measuring.baseline = rules;
        self
    }

    /// Which burn rates of a line's error budget tell.
    pub fn burn_rates(mut self, rules: BurnRules) -> Self {
        self.measuring.burn = rules;
        self
    }

    /// From where on a pool is degraded and critical.
    pub fn pool_health(mut self, rules: PoolHealthRules) -> Self {
        self.measuring.pools = rules;
        self
    }

    /// How lines slow down and stop because of what is wrong with them, and who lets them run again.
    pub fn jidoka(mut self, rules: JidokaRules) -> Self {
        self.jidoka = rules;
        self
    }

    /// What is checked about the node, and how often; by default its machine and its queues, every 5 s.
    pub fn health(mut self, spec: HealthSpec) -> Self {
        self.health = spec;
        self
    }

    /// How checks are weighed, whatever [`health`](Self::health) says: a configuration sets it.
    #[cfg(feature = "config")]
    pub(crate) fn checking(mut self, rules: HealthRulesBuilder) -> Self {
        self.checking = Some(rules);
        self
    }

    /// Adds a pool.
    pub fn pool(mut self, pool: PoolSpec) -> Self {
        self.pools.push(pool);
        self
    }

    /// Adds a line and gives the handle where signals enter. A fault in the spec is told by
    /// [`build`](Self::build); until the plant runs, the line refuses.
    pub fn line<A: Action, F: Sync + 'static>(&mut self, spec: LineSpec<A, F>) -> Line<A, F> {
        let name = match Name::new(&spec.name) {
            Ok(name) => {
                if self.lines.iter().any(|line| line.name == name) {
                    self.errors.push(PlantError::Duplicate { what: "line", name: name.to_string() });
                }
                name
            }
            Err(error) => {
                self.errors.push(error.into());
                Name::new("line").expect("a valid literal")
            }
        };
        let plant = ActorPath::new("/plant").expect("a valid literal");
        let LineRules { breaker, adaptive, deadline, follow_up_within: within, objective, .. } = spec.rules;
        let guard = Guard::new(name.clone(), plant, breaker, adaptive, self.system.clone());
        let rate = RateGate::new(&spec.rates).unwrap_or_else(|error| {
            self.errors.push(PlantError::Rate { line: spec.name.clone(), error });
            RateGate::new(&Rates::default()).expect("no rate is a sound one")
        });
        if deadline.is_zero() || DEADLINE_MAX < deadline {
            self.errors.push(PlantError::Deadline { line: spec.name.clone(), deadline });
        }
        if within.is_zero() || FOLLOW_UP_MAX < within {
            self.errors.push(PlantError::FollowUp { line: spec.name.clone(), within });
        }
        let own = vec![spec.name.clone()];
        let pools = if spec.pools.is_empty() { own } else { spec.pools.clone() };
        let cell = Arc::new(LineCell {
            name,
            gate: Gate::open(deadline),
            meter: Meters::new(pools.iter().map(String::as_str)),
            guard,
            phases: Phases::new(),
            follow_ups: FollowUps::new(within),
            rate,
            account: Account::new(spec.rules.receipts, spec.rules.objectives),
            objective: Publisher::new(objective),
            built: spec.built.unwrap_or((spec.rules, spec.rates)),
        });
        let index = self.lines.len();
        self.lines.push(cell.clone());
        self.serves.push(pools);
        let (ceiling, routes) = (self.ceiling.clone(), self.routes.clone());
        Line::new(spec, cell, ceiling, routes, index, self.system.clone())
    }

    /// Checks everything and puts the tree together.
    ///
    /// # Errors
    ///
    /// [`PlantErrors`] with every fault.
    pub fn build(mut self) -> Result<Plant, PlantErrors> {
        let mut pools = Vec::new();
        let mut pool_specs = Vec::new();
        let named: HashSet<String> = self.pools.iter().map(|spec| spec.name.clone()).collect();
        for spec in std::mem::take(&mut self.pools) {
            match assemble_pool(&spec) {
                Ok((cell, supervisor)) => {
                    pools.push(cell);
                    pool_specs.push(supervisor);
                }
                Err(errors) => self.errors.extend(errors),
            }
        }
        self.check_pool_names(&pools);
        let serves = self.resolve(&pools, &named);
        let baselines = self.read_baselines();
        let checking_built = self.health.own_rules();
        if let Some(rules) = self.checking.take() {
            self.health = self.health.rules(rules);
        }
        let health = self.health.build().map_err(|error| {
            self.errors.extend(error.faults().into_iter().map(|fault| match fault {
                Fault::Name(error) => PlantError::Name(error),
                Fault::Rule(error) => PlantError::Health(error),
            }));
        });
        let (health, sources) = match health {
            Ok(health) if self.errors.is_empty() => health,
            _ => return Err(PlantErrors(self.errors)),
        };
        let node_levels = Levels::new(&Measure::OF_NODE, &self.measuring);
        let floor = Arc::new(Floor {
            lines: self.lines,
            pools,
            serves,
            ceiling: self.ceiling,
            routes: self.routes,
            line_views: Publisher::new(Vec::new()),
            stances: Publisher::new(Vec::new()),
            learnt: Publisher::new(Vec::new()),
            node_levels: Publisher::new(node_levels),
            studies: Publisher::new(Vec::new()),
            bottlenecks: Publisher::new(Vec::new()),
            baselines: Publisher::new(baselines),
            lending: Publisher::new(Lending::default()),
            affinity: Publisher::new(Affinity::default()),
            levelling: Publisher::new(self.levelling),
            jidoka: Publisher::new(self.jidoka),
            measuring: Publisher::new(self.measuring),
            checking: Publisher::new(*health.rules()),
            checking_built: checking_built.unwrap_or(*health.rules()),
            health: Publisher::new(Wellness { health, receipt: None }),
            health_view: Publisher::new(HealthView::default()),
            arrivals: Publisher::new(ArrivalsView::default()),
            cost: Publisher::new(CostView::default()),
            surge: Publisher::new(Surge::default()),
            andon: Publisher::new(Andon::default()),
        });
        floor.set_patience();
        Ok(assemble(&floor, pool_specs, self.kaizen, sources.into(), &self.system))
    }

    fn read_baselines(&mut self) -> Baselines {
        let Some(path) = &self.kaizen.file else { return Baselines::new() };
        kaizen::file::read(path).unwrap_or_else(|error| {
            let path = path.display().to_string();
            self.errors.push(PlantError::Baselines { path, why: error.to_string() });
            Baselines::new()
        })
    }

    fn check_pool_names(&mut self, pools: &[Arc<PoolCell>]) {
        let mut names = HashSet::new();
        for pool in pools {
            if !names.insert(&pool.name) {
                self.errors.push(PlantError::Duplicate { what: "pool", name: pool.name.to_string() });
            }
        }
    }

    /// Turns the names of pools into places in the list. What is wrong with one that was `named` has been told.
    fn resolve(&mut self, pools: &[Arc<PoolCell>], named: &HashSet<String>) -> Vec<Vec<usize>> {
        let mut resolved = Vec::new();
        for (line, names) in self.lines.iter().zip(&self.serves) {
            let line = line.name.to_string();
            if POOLS_PER_LINE_MAX < names.len() {
                self.errors.push(PlantError::TooManyPools { line: line.clone(), pools: names.len() });
            }
            let mut serves = Vec::new();
            for pool in names {
                match pools.iter().position(|other| other.name.as_str() == pool) {
                    Some(index) => serves.push(index),
                    None if named.contains(pool) => {}
                    None => {
                        self.errors.push(PlantError::UnknownPool { line: line.clone(), pool: pool.clone() });
                    }
                }
            }
            resolved.push(serves);
        }
        resolved
    }
}

/// `rest_for_one`: when the workers' supervisor dies, the dispatcher hires anew.
fn assemble_pool(spec: &PoolSpec) -> Result<(Arc<PoolCell>, Supervisor), Vec<PlantError>> {
    let pool = || spec.name.clone();
    let name = Name::new(&spec.name).map_err(PlantError::from);
    let rules = spec.scaling.build().map_err(|error| PlantError::Scaling { pool: pool(), error });
    let wait = spec.wait.build().map_err(|error| PlantError::Wait { pool: pool(), error });
    let (name, rules, wait) = match (name, rules, wait) {
        (Ok(name), Ok(rules), Ok(wait)) => (name, rules, wait),
        (name, rules, wait) => {
            return Err(name.err().into_iter().chain(rules.err()).chain(wait.err()).collect());
        }
    };
    let workers = Supervisor::dynamic("workers").intensity(spec.intensity.restarts, spec.intensity.period);
    let supervisor = workers.handle();
    // The dispatcher's address is part of the cell that the dispatcher is made from.
    let cell: Arc<OnceLock<Arc<PoolCell>>> = Arc::new(OnceLock::new());
    let filled = cell.clone();
    let dispatcher = server("dispatcher", move || {
        let cell = filled.get().expect("it is filled before anything starts");
        Dispatcher::new(cell.clone(), supervisor.clone())
    });
    let pool = Arc::new(PoolCell::new(name, rules, wait, spec, dispatcher.address()));
    let pool = cell.get_or_init(|| pool).clone();
    Ok((pool, Supervisor::rest_for_one(&spec.name).child(workers).child(dispatcher)))
}

fn assemble(
    floor: &Arc<Floor>,
    pool_specs: Vec<Supervisor>,
    kaizen_rules: KaizenRules,
    sources: Arc<[Source]>,
    system: &System,
) -> Plant {
    let for_health = floor.clone();
    let health = server("health", move || Monitor::new(for_health.clone(), sources.clone()));
    let (for_regulator, for_system, monitor) = (floor.clone(), system.clone(), health.address());
    let regulator = server("regulator", move || {
        Regulator::new(for_regulator.clone(), for_system.clone(), monitor.clone())
    });
    let address = regulator.address();
    let (for_board, regulator_address) = (floor.clone(), address.clone());
    let for_kaizen = floor.clone();
    let kaizen = server("kaizen", move || Kaizen::new(for_kaizen.clone(), kaizen_rules.clone()));
    let kaizen_address = kaizen.address();
    let (for_balancer, for_burst) = (floor.clone(), floor.clone());
    let balancer = server("balancer", move || Balancer::new(for_balancer.clone()));
    let balancer_address = balancer.address();
    let board = server("board", move || {
        let (kaizen, balancer) = (kaizen_address.clone(), balancer_address.clone());
        AndonBoard::new(for_board.clone(), regulator_address.clone(), kaizen, balancer)
    });
    let burst = server("burst", move || BurstHandler::new(for_burst.clone()));

    let board_address = board.address();
    system.on_control(move |control, reply| {
        // A board that is down drops the request with its reply: the operator is told to try again.
        let _ = board_address.cast(BoardMsg::Control { control, reply });
    });

    let pools = pool_specs.into_iter().fold(Supervisor::one_for_one("pools"), Supervisor::child);
    let supervisor = Supervisor::one_for_all("plant")
        .intensity(10, Duration::from_secs(60))
        .child(board)
        .child(regulator)
        .child(pools)
        .child(balancer)
        .child(burst)
        .child(kaizen)
        .child(health);
    Plant { supervisor, regulator: RegulatorHandle { address, floor: floor.clone() } }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plant with lines {}", self.regulator.floor.line_names())
    }
}
