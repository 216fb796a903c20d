//! The plant: puts lines, pools and the actors that govern them together under one `one_for_all` supervisor.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gemba_core::admission::Limits;
use gemba_core::affinity::Affinity;
use gemba_core::baseline::{BaselineRules, Baselines};
use gemba_core::burst::BurstRules;
use gemba_core::cost::Prices;
use gemba_core::forecast::ForecastRules;
use gemba_core::health::{HealthError, HealthView};
use gemba_core::jidoka::JidokaRules;
use gemba_core::ladder::{LadderRules, LevelRules, Measure};
use gemba_core::lending::Lending;
use gemba_core::name::{ActorPath, Name, NameError};
use gemba_core::rate::RateError;
use gemba_core::receipt::Seq;
use gemba_core::scaling::ScaleRulesError;
use gemba_core::view::{ArrivalsView, CostView};
use gemba_core::wait::WaitRulesErrors;
use gemba_kernel::{ChildSpec, Publisher, Supervisor, System, server};

use crate::action::Action;
use crate::balancer::{Balancer, POOLS_PER_LINE_MAX, Routes};
use crate::board::{AndonBoard, BoardMsg};
use crate::burst::{BurstHandler, Levelling};
use crate::dispatcher::Dispatcher;
use crate::floor::{Floor, Surge};
use crate::follow_up::FollowUps;
use crate::gate::Gate;
use crate::guard::Guard;
use crate::health::{Fault, HealthSpec, Monitor, Source, Wellness};
use crate::kaizen::{self, Kaizen, KaizenRules, Levels};
use crate::line::{FOLLOW_UP_MAX, Line, LineCell, LineSpec};
use crate::meters::Meters;
use crate::permit::Ceiling;
use crate::phases::Phases;
use crate::pool::{PoolCell, PoolHandle, PoolSpec};
use crate::rate::{RateGate, Rates};
use crate::regulator::{Regulator, RegulatorHandle};
use crate::settings::{ApplyError, Settings};
use crate::tally::Account;

/// What is wrong with a plant. All faults are told together, and nothing is started.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlantError {
    /// A line or pool has a name that cannot stand in a path.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Two pools or two lines have the same name.
    #[error("two {what}s are called '{name}'; give each its own name")]
    Duplicate {
        /// `line` or `pool`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A line names a pool that does not exist.
    #[error("line '{line}' names pool '{pool}', which the plant does not have; add it with `pool`")]
    UnknownPool {
        /// The line.
        line: String,
        /// The pool it names.
        pool: String,
    },
    /// A line names too many pools.
    #[error("line '{line}' names {pools} pools; {POOLS_PER_LINE_MAX} is the limit")]
    TooManyPools {
        /// The line.
        line: String,
        /// How many it names.
        pools: usize,
    },
    /// The file of baselines cannot be used.
    #[error("baselines in '{path}': {why}")]
    Baselines {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pool's rules contradict each other.
    #[error("pool '{pool}': {error}")]
    Scaling {
        /// The pool.
        pool: String,
        /// What is wrong.
        error: ScaleRulesError,
    },
    /// What follows a success has no time, or keeps a worker for too long.
    #[error(
        "line '{line}': what follows may take {within:?}; give more than zero and at most {FOLLOW_UP_MAX:?}"
    )]
    FollowUp {
        /// The line.
        line: String,
        /// The refused time.
        within: Duration,
    },
    /// A line's rates cannot be kept.
    #[error("line '{line}': {error}")]
    Rate {
        /// The line.
        line: String,
        /// What is wrong.
        error: RateError,
    },
    /// A check of the node's health cannot be one.
    #[error("health: {0}")]
    Health(#[from] HealthError),
    /// A pool's rules on waiting are out of range.
    #[error("pool '{pool}': {error}")]
    Wait {
        /// The pool.
        pool: String,
        /// All that is wrong with them.
        error: WaitRulesErrors,
    },
}

/// Everything wrong with a plant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} fault(s) in the plant, nothing was started:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub struct PlantErrors(pub Vec<PlantError>);

/// A plant to be.
#[derive(Debug)]
pub struct PlantBuilder {
    system: System,
    limits: Limits,
    levelling: Levelling,
    kaizen: KaizenRules,
    jidoka: JidokaRules,
    health: HealthSpec,
    ceiling: Arc<Ceiling>,
    routes: Arc<Routes>,
    pools: Vec<PoolSpec>,
    lines: Vec<Arc<LineCell>>,
    serves: Vec<Vec<String>>,
    /// For each line, how long a worker may be at one of its signals.
    patience: Vec<Duration>,
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
            jidoka: JidokaRules::default(),
            health: HealthSpec::new(),
            ceiling: Ceiling::new(limits),
            routes: Routes::new(),
            pools: Vec::new(),
            lines: Vec::new(),
            serves: Vec::new(),
            patience: Vec::new(),
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
        self.kaizen.ladder = rules;
        self
    }

    /// Which percentiles, queues and resources light which light. They slow lines down and stop them only where
    /// [`jidoka`](Self::jidoka) says so of their cause; a light clears as by [`ladder`](Self::ladder).
    pub fn levels(mut self, rules: LevelRules) -> Self {
        self.kaizen.levels = rules;
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
        self.kaizen.baseline = rules;
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

    /// Adds a pool.
    pub fn pool(mut self, pool: PoolSpec) -> Self {
        self.pools.push(pool);
        self
    }

    /// Adds a line and gives the handle where signals enter. A fault in the spec is told by
    /// [`build`](Self::build); until the plant runs, the line refuses.
    pub fn line<A: Action, F: Sync + 'static>(&mut self, spec: LineSpec<A, F>) -> Line<A, F> {
        let name = Name::new(&spec.name).unwrap_or_else(|error| {
            self.errors.push(error.into());
            Name::new("line").expect("a valid literal")
        });
        if self.lines.iter().any(|line| line.name == name) {
            self.errors.push(PlantError::Duplicate { what: "line", name: name.to_string() });
        }
        let plant = ActorPath::new("/plant").expect("a valid literal");
        let guard = Guard::new(name.clone(), plant, spec.breaker, spec.adaptive, self.system.clone());
        let rate = RateGate::new(&spec.rates).unwrap_or_else(|error| {
            self.errors.push(PlantError::Rate { line: spec.name.clone(), error });
            RateGate::new(&Rates::default()).expect("no rate is a sound one")
        });
        let within = spec.follow_up_within;
        if within.is_zero() || FOLLOW_UP_MAX < within {
            self.errors.push(PlantError::FollowUp { line: spec.name.clone(), within });
        }
        let own = vec![spec.name.clone()];
        let pools = if spec.pools.is_empty() { own } else { spec.pools.clone() };
        let cell = Arc::new(LineCell {
            name,
            gate: Gate::open(),
            meter: Meters::new(pools.iter().map(String::as_str)),
            guard,
            phases: Phases::new(),
            follow_ups: FollowUps::new(within),
            rate,
            account: Account::new(spec.receipts, spec.objectives),
        });
        let index = self.lines.len();
        self.lines.push(cell.clone());
        self.patience.push(spec.deadline.saturating_add(within));
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
        let serves = self.resolve(&pools);
        let baselines = self.read_baselines();
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
        for (pools_of_line, patience) in serves.iter().zip(&self.patience) {
            for pool in pools_of_line.iter().map(|index| &pools[*index]) {
                let longest = (*pool.patience.latest()).max(*patience);
                pool.patience.publish(longest);
            }
        }
        let node_levels = Levels::new(&Measure::OF_NODE, &self.kaizen.levels, self.kaizen.ladder);
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
            health: Publisher::new(Wellness { health, receipt: None }),
            health_view: Publisher::new(HealthView::default()),
            arrivals: Publisher::new(ArrivalsView::default()),
            cost: Publisher::new(CostView::default()),
            surge: Publisher::new(Surge::default()),
            told: Publisher::new(Seq(0)),
        });
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

    /// Turns the names of pools into places in the list.
    fn resolve(&mut self, pools: &[Arc<PoolCell>]) -> Vec<Vec<usize>> {
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
    let (for_regulator, for_system) = (floor.clone(), system.clone());
    let regulator = server("regulator", move || Regulator::new(for_regulator.clone(), for_system.clone()));
    let address = regulator.address();
    let (for_board, regulator_address) = (floor.clone(), address.clone());
    let for_kaizen = floor.clone();
    let kaizen = server("kaizen", move || Kaizen::new(for_kaizen.clone(), kaizen_rules.clone()));
    let kaizen_address = kaizen.address();
    let (for_balancer, for_burst, for_health) = (floor.clone(), floor.clone(), floor.clone());
    let balancer = server("balancer", move || Balancer::new(for_balancer.clone()));
    let balancer_address = balancer.address();
    let board = server("board", move || {
        let (kaizen, balancer) = (kaizen_address.clone(), balancer_address.clone());
        AndonBoard::new(for_board.clone(), regulator_address.clone(), kaizen, balancer)
    });
    let burst = server("burst", move || BurstHandler::new(for_burst.clone()));

    let health = server("health", move || Monitor::new(for_health.clone(), sources.clone()));

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
