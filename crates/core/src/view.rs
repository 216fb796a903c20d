//! Views: plain copies of what a node shows, each with the time it was taken.
//!
//! One schema for the API, the terminal and `--json`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admission::Tier;
use crate::affinity::AffinityView;
use crate::band::Band;
use crate::baseline::Comparison;
use crate::bottleneck::Finding;
use crate::exit::{ExitReason, Incarnation};
use crate::health::HealthView;
use crate::light::Light;
use crate::name::{ActorPath, Name};
use crate::pool_health::PoolHealth;
use crate::proportion::Interval;
use crate::receipt::{BreakerState, Receipt, Seq};
use crate::six_sigma::Quality;
use crate::supervision::Strategy;
use crate::verdict::Verdict;

mod answers;

pub use answers::{DefectView, IntakeView, ObjectiveView};

/// What kind of actor stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Starts, watches and restarts others.
    Supervisor,
    /// A server with a bounded mailbox.
    Server,
    /// A plain ractor actor.
    Actor,
    /// A supervised tokio task.
    Task,
}

impl fmt::Display for ActorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Supervisor => "supervisor",
            Self::Server => "server",
            Self::Actor => "actor",
            Self::Task => "task",
        })
    }
}

/// Whether an actor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Its start function or its `init` is running.
    Starting,
    /// It serves.
    Running,
    /// A supervisor that an operator halted: its children are down, and stay so.
    Halted,
    /// It was asked to stop and has not ended yet.
    Stopping,
    /// It was killed and does not end: it runs code that never yields.
    Unkillable,
    /// It ended, and its place is kept.
    Down,
}

impl fmt::Display for ActorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Halted => "halted",
            Self::Stopping => "stopping",
            Self::Unkillable => "unkillable",
            Self::Down => "down",
        })
    }
}

/// The supervision tree of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TreeView {
    /// The name of the node.
    pub node: Name,
    /// When it was taken, in milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// How many actors the tree holds.
    pub actors: u64,
    /// The root supervisor.
    pub root: ActorView,
}

impl TreeView {
    /// Puts a tree together; for those who take views.
    pub fn new(node: Name, taken_unix_ms: u64, root: ActorView) -> Self {
        Self { node, taken_unix_ms, actors: root.iter().count() as u64, root }
    }
}

/// One actor of the tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActorView {
    /// Its place.
    pub path: ActorPath,
    /// What it is.
    pub kind: ActorKind,
    /// How it restarts its children, if it is a supervisor.
    pub strategy: Option<Strategy>,
    /// Whether it runs.
    pub state: ActorState,
    /// The life that holds the place now, or held it last.
    pub incarnation: Option<Incarnation>,
    /// How often the place was filled again since the node started.
    pub restarts: u64,
    /// How long the present life has run, in milliseconds; 0 when it is down.
    pub uptime_ms: u64,
    /// Messages waiting, if it has a mailbox of ours.
    pub mailbox: Option<MailboxView>,
    /// Messages handled by all lives.
    pub handled: u64,
    /// Time spent handling them, in milliseconds, by all lives.
    pub busy_ms: u64,
    /// How the last life ended.
    pub last_exit: Option<ExitView>,
    /// Its children, in the order they start; dynamic ones in the order of their names.
    pub children: Vec<ActorView>,
}

impl ActorView {
    /// This actor and all below it, parents first.
    pub fn iter(&self) -> impl Iterator<Item = &Self> {
        let mut stack = vec![self];
        std::iter::from_fn(move || {
            let next = stack.pop()?;
            stack.extend(next.children.iter().rev());
            Some(next)
        })
    }

    /// The actor at `path`, if it is this one or below it.
    pub fn find(&self, path: &ActorPath) -> Option<&Self> {
        self.iter().find(|actor| actor.path == *path)
    }
}

/// How full a mailbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxView {
    /// Messages waiting.
    pub depth: u64,
    /// Messages that fit.
    pub capacity: u64,
}

/// How a life ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitView {
    /// The life.
    pub incarnation: Incarnation,
    /// Why it ended.
    pub reason: ExitReason,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// The andon board of a node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BoardView {
    /// The worst light.
    pub overall: Light,
    /// When it was taken, in milliseconds since 1970.
    pub taken_unix_ms: u64,
    /// Every station, the worst first.
    pub stations: Vec<StationView>,
    /// Every line.
    pub lines: Vec<LineView>,
    /// Every pool.
    pub pools: Vec<PoolView>,
    /// Every breaker.
    pub breakers: Vec<BreakerView>,
    /// How arrivals stand against their baseline.
    pub arrivals: ArrivalsView,
    /// What the workers cost.
    pub cost: CostView,
    /// How evenly the pools are loaded: 1 is level, 0 is one full and one idle.
    pub balance_ratio: f64,
    /// How many signals are in flight, and how many of each tier may be.
    pub admission: AdmissionView,
    /// Whether the node is well; `None` if nobody has judged it.
    pub verdict: Option<Verdict>,
    /// Which keys belong to which pool, by groups.
    pub affinity: Vec<AffinityView>,
    /// What kaizen has learnt of each line.
    pub studies: Vec<StudyView>,
    /// What the checks of the node found.
    pub health: HealthView,
    /// Where most of the time goes, worst first, over the last minute.
    pub bottlenecks: Vec<Finding>,
    /// The number of the newest receipt in it.
    pub receipt: Seq,
}

/// How many signals are in flight, and how many of each tier may be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AdmissionView {
    /// Signals that hold a permit.
    pub in_flight: u32,
    /// Each tier, the one served first at the front.
    pub tiers: Vec<TierView>,
}

/// The limits of one tier, and how near they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TierView {
    /// The tier.
    pub tier: Tier,
    /// Signals in flight at which it is warned.
    pub soft: u32,
    /// Signals in flight at which it is refused.
    pub hard: u32,
    /// Signals in flight over that limit: 1 is full.
    pub load_ratio: f64,
}

/// What kaizen has learnt of one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyView {
    /// The line.
    pub line: Name,
    /// Failures among what was worked on since the node started.
    pub quality: Quality,
    /// Defects per million; `None` without an outcome.
    pub dpmo: Option<f64>,
    /// The defects per million that explain the count, with a confidence of 95 %.
    pub dpmo_interval: Interval,
    /// The defects per million it is proven to stay below.
    pub proven_dpmo: f64,
    /// The sigma level, with the shift of 1.5.
    pub sigma: Option<f64>,
    /// How many times faster than sustainable the error budget burns, by window.
    pub burn_rates: Vec<(Arc<str>, f64)>,
    /// How the line was when it was good.
    pub baseline: Option<BaselineView>,
    /// How the last full window stands against that.
    pub comparison: Option<Comparison>,
}

/// A baseline without the latencies themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineView {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The build that was measured.
    pub build: Arc<str>,
    /// Outcomes per second.
    pub rate_per_s: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// One station of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationView {
    /// `line:payment`, `budget:payment`, `pool:payment`, `breaker:gateway`, `supervisor:…`, `node`.
    pub name: Name,
    /// What it shows.
    pub light: Light,
    /// Why, in words.
    pub why: Arc<str>,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// The receipt that changed it last.
    pub receipt: Option<Seq>,
}

/// Whether a line takes signals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineState {
    /// It does.
    #[default]
    Running,
    /// Something is wrong with it: it refuses what is less urgent.
    Slowed,
    /// It refuses all: the cord was pulled, or too much is wrong with it.
    Stopped,
    /// It refuses all and finishes what is in flight: it is going to stop, or the node is going down.
    Draining,
}

impl LineState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Running, Self::Slowed, Self::Stopped, Self::Draining];
}

impl fmt::Display for LineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Slowed => "slowed",
            Self::Stopped => "stopped",
            Self::Draining => "draining",
        })
    }
}

/// One line: counts since the node started, rates and quantiles over the last seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineView {
    /// Its name.
    pub name: Name,
    /// Whether it takes signals.
    pub state: LineState,
    /// Who stopped it and why, while the cord is pulled.
    pub cord: Option<CordView>,
    /// Signals in flight now.
    pub in_flight: u64,
    /// Signals that came, refused ones included.
    pub arrived: u64,
    /// Signals refused before anything was done: limit, cord, drain, full queue, breaker, deadline.
    pub refused: u64,
    /// Signals a policy rejected.
    pub rejected: u64,
    /// Signals whose action succeeded.
    pub succeeded: u64,
    /// Signals whose action failed or whose worker died.
    pub failed: u64,
    /// Signals whose action ran out of time.
    pub timed_out: u64,
    /// Signals whose caller went away before the answer.
    pub cancelled: u64,
    /// What it took and refused lately, the shortest window first.
    #[serde(default)]
    pub intake: Vec<IntakeView>,
    /// Successes among what was worked on in the last 10 s, 0 to 1; `None` without an outcome.
    #[serde(default)]
    pub success_ratio: Option<f64>,
    /// Outcomes per second over the last 10 s.
    pub throughput_per_s: f64,
    /// Median latency of the last 10 s, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the last 10 s, in milliseconds.
    pub p99_ms: f64,
    /// How the tiers that have an objective stand to it, the most urgent first; of those that had signals.
    #[serde(default)]
    pub objectives: Vec<ObjectiveView>,
    /// What went wrong since the node started, by class, the most frequent first.
    #[serde(default)]
    pub defects: Vec<DefectView>,
}

/// A pulled cord.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CordView {
    /// Who pulled it.
    pub by: Arc<str>,
    /// Why.
    pub why: Arc<str>,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: u64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub name: Name,
    /// Workers it has now.
    pub workers: u32,
    /// Workers with a job in hand.
    pub busy: u32,
    /// Jobs waiting.
    pub queued: u32,
    /// Jobs that may wait.
    pub queue_max: u32,
    /// Fewest workers.
    pub workers_min: u32,
    /// Most workers, outside a surge.
    pub workers_max: u32,
    /// Workers added for a surge.
    pub surge: u32,
    /// Workers that stand in for those that hang.
    #[serde(default)]
    pub stand_ins: u32,
    /// Busy time over worker time in the last window, 0 to 1.
    pub utilization: f64,
    /// What that means for its size.
    #[serde(default)]
    pub band: Band,
    /// Jobs that were sent to it since the node started.
    #[serde(default)]
    pub routed: u64,
    /// Signals whose action succeeded in it, of all lines it serves.
    #[serde(default)]
    pub succeeded: u64,
    /// Signals whose action failed in it, or whose worker died.
    #[serde(default)]
    pub failed: u64,
    /// Signals whose action ran out of time in it.
    #[serde(default)]
    pub timed_out: u64,
    /// Median time from arrival to answer of those of the last 10 s, in milliseconds.
    #[serde(default)]
    pub p50_ms: f64,
    /// The 99th percentile.
    #[serde(default)]
    pub p99_ms: f64,
    /// How well it is.
    #[serde(default)]
    pub health: PoolHealth,
    /// Why, in words.
    #[serde(default)]
    pub health_why: Arc<str>,
}

/// One breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerView {
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub state: BreakerState,
    /// Failures without a success between.
    pub failures_in_a_row: u32,
    /// How long until it lets a probe through, in milliseconds, while it is open.
    pub retry_in_ms: Option<u64>,
}

/// Arrivals against their baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArrivalsView {
    /// Arrivals per second now.
    pub fast_per_s: f64,
    /// Arrivals per second normally; `None` in the first minute.
    pub baseline_per_s: Option<f64>,
    /// Arrivals per second from which on it is a burst; `None` in the first minute.
    pub threshold_per_s: Option<f64>,
    /// Whether a surge is on.
    pub surge: bool,
    /// How long it goes on at least, its withdrawal included, in milliseconds.
    pub surge_left_ms: Option<u64>,
    /// Surges begun since the node started.
    pub surges: u32,
    /// How long they have lasted together, the one that is on included, in milliseconds.
    pub surged_ms: u64,
    /// Whether bursts are looked for.
    pub enabled: bool,
}

/// What workers cost since the node started, in millionths of whatever the operator counts in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostView {
    /// Workers within the maxima of their pools.
    pub baseline_micro: u64,
    /// Workers beyond them, in surges.
    pub surge_micro: u64,
    /// What a year of such surges would cost; `None` in the first week.
    pub surge_micro_per_year: Option<u64>,
    /// Workers beyond the maxima that were needed for so much of the time that permanent ones would be
    /// cheaper; 0 in the first week.
    pub permanent_advised: u32,
    /// What these would save a year.
    pub saved_micro_per_year: u64,
    /// For how long worker time has been counted, in milliseconds.
    pub watched_ms: u64,
}

/// A page of receipts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReceiptsView {
    /// The receipts, oldest first.
    pub receipts: Vec<Arc<Receipt>>,
    /// Ask for `after` this number to go on.
    pub next: Seq,
    /// Receipts asked for that the ring has forgotten.
    pub forgotten: u64,
}
