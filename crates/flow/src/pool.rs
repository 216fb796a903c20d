//! Pools: which there are, how large, and what is known of each.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::band::Band;
use gemba_core::name::Name;
use gemba_core::pool_health::{Liveness, PoolFacts, PoolWatch};
use gemba_core::receipt::Seq;
use gemba_core::routing::{PoolLoad, key_hash};
use gemba_core::scaling::{Bounds, ScaleRules, ScaleRulesBuilder};
use gemba_core::supervision::Intensity;
use gemba_core::time::Timestamp;
use gemba_core::view::PoolView;
use gemba_core::wait::{WaitRules, WaitRulesBuilder};
use gemba_kernel::{Address, CallError, Publisher};

use crate::dispatcher::PoolMsg;
use crate::exchange::{Exchange, Waiting};
use crate::load::LoadCell;

/// How many jobs may wait for a worker of a pool, unless its spec says otherwise.
pub const QUEUE_MAX: u32 = 1024;

/// A pool to be: how many workers, how long a queue, how many crashes.
///
/// # Units and limits
///
/// Defaults: 2 to 50 workers, [`QUEUE_MAX`] waiting jobs, each for a quarter of its deadline at most, and for up to
/// half where fewer than four work (see [`WaitRules`]), ten crashes in 60 s before the pool gives up.
///
/// A pool that has done no work yet does not know how long work takes: until the first signal is done, one may wait
/// for each worker, and the next is refused.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    pub(crate) name: String,
    pub(crate) scaling: ScaleRulesBuilder,
    pub(crate) queue_max: u32,
    pub(crate) wait: WaitRulesBuilder,
    pub(crate) intensity: Intensity,
    pub(crate) stop_within: Duration,
    pub(crate) stand_ins: bool,
}

impl PoolSpec {
    /// A pool called `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scaling: ScaleRules::builder(),
            queue_max: QUEUE_MAX,
            wait: WaitRules::builder(),
            intensity: Intensity { restarts: 10, period: Duration::from_secs(60) },
            stop_within: Duration::from_secs(5),
            stand_ins: true,
        }
    }

    /// Fewest and most workers, outside a surge.
    pub fn workers(mut self, workers_min: u32, workers_max: u32) -> Self {
        self.scaling = self.scaling.workers(workers_min, workers_max);
        self
    }

    /// When it grows and shrinks.
    pub fn scaling(mut self, rules: ScaleRulesBuilder) -> Self {
        self.scaling = rules;
        self
    }

    /// How many jobs may wait.
    pub fn queue_max(mut self, queue_max: u32) -> Self {
        self.queue_max = queue_max;
        self
    }

    /// How long jobs may wait, and for whom. What would wait longer is refused at once, with the time after which it
    /// is worth trying again; what could no longer be done in time is not started.
    ///
    /// # Examples
    ///
    /// Work that nobody is in a hurry for may wait almost as long as its deadline allows:
    ///
    /// ```
    /// use gemba_core::wait::WaitRules;
    /// use gemba_flow::PoolSpec;
    ///
    /// let pool = PoolSpec::new("reports").wait(WaitRules::builder().shares(0.9, 0.9));
    /// ```
    #[doc(alias = "heijunka")]
    pub fn wait(mut self, rules: WaitRulesBuilder) -> Self {
        self.wait = rules;
        self
    }

    /// How many of its workers may crash within `period` before the whole pool is started anew.
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.intensity = Intensity { restarts, period };
        self
    }

    /// How long a worker may finish the job in hand when the pool stops, as in a restart of the plant; then
    /// it is killed, and the caller told that the outcome is unknown. Default 5 s.
    ///
    /// The shorter, the sooner the line answers again after a restart. Choose it short where an unknown
    /// outcome is found out afterwards, and long where it is not.
    pub fn stop_within(mut self, limit: Duration) -> Self {
        self.stop_within = limit;
        self
    }

    /// Nobody stands in for workers that hang: for work that bears no more of its kind than the workers there are,
    /// the hanging ones included, as with a fixed number of connections.
    ///
    /// Otherwise a pool has up to [`STAND_INS_PERCENT`](gemba_core::stand_in::STAND_INS_PERCENT) more workers than
    /// its size while others are at work that takes far longer than work does, and for a while after. A pool of
    /// one worker at most never has more than that one.
    pub fn without_stand_ins(mut self) -> Self {
        self.stand_ins = false;
        self
    }
}

/// How large a pool may be just now, and the receipt of the surge because of which; set by burst.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub bounds: Bounds,
    /// Most workers without a surge: its own, less what it has lent, and what it has borrowed.
    pub most: u32,
    pub receipt: Option<Seq>,
}

/// What comes to a pool; published by its dispatcher each second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Jobs since this life of the dispatcher began.
    pub arrived: u64,
    /// How long a job takes.
    pub service: Duration,
    /// Workers that would be right, whatever the bounds.
    pub right: u32,
}

/// What a pool has done for all its lines since the node started, and how long it took lately.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Served {
    pub succeeded: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// What all actors of the plant know of a pool.
#[derive(Debug)]
pub(crate) struct PoolCell {
    pub name: Name,
    pub hash: u64,
    pub rules: Publisher<ScaleRules>,
    /// How jobs wait; the regulator changes it.
    pub waiting: Publisher<Waiting>,
    pub load: Arc<LoadCell>,
    pub exchange: Exchange,
    pub granted: Publisher<Granted>,
    pub demand: Publisher<Demand>,
    /// How long a worker may be at one job: the longest deadline of the lines it serves, and what follows.
    pub patience: Publisher<Duration>,
    /// What the workers said last; published by the dispatcher.
    pub liveness: Publisher<Option<Liveness>>,
    /// What it has done; published by kaizen.
    pub served: Publisher<Served>,
    /// How well it is; published by kaizen, so that its next life goes on from there.
    pub watch: Publisher<PoolWatch>,
    pub stop_within: Duration,
    /// Whether somebody may stand in for a worker that hangs.
    pub may_stand_in: bool,
    /// Workers that do, beyond the pool's size; published by the dispatcher.
    pub stand_ins: Publisher<u32>,
    pub address: Address<PoolMsg>,
}

impl PoolCell {
    pub(crate) fn new(
        name: Name,
        rules: ScaleRules,
        wait: WaitRules,
        spec: &PoolSpec,
        address: Address<PoolMsg>,
    ) -> Self {
        let load = Arc::new(LoadCell::default());
        Self {
            hash: key_hash(name.as_str().as_bytes()),
            name,
            rules: Publisher::new(rules),
            waiting: Publisher::new(Waiting { rules: wait, queue_max: spec.queue_max }),
            granted: Publisher::new(Granted {
                bounds: Bounds::of(&rules),
                most: rules.workers_max(),
                receipt: None,
            }),
            demand: Publisher::new(Demand::default()),
            patience: Publisher::new(Duration::ZERO),
            liveness: Publisher::new(None),
            served: Publisher::new(Served::default()),
            watch: Publisher::new(PoolWatch::new(Timestamp::START)),
            exchange: Exchange::new(wait, spec.queue_max, load.clone()),
            load,
            stop_within: spec.stop_within,
            may_stand_in: spec.stand_ins,
            stand_ins: Publisher::new(0),
            address,
        }
    }

    /// How large it is; an operator may change it.
    pub(crate) fn rules(&self) -> ScaleRules {
        *self.rules.latest()
    }

    pub(crate) fn routing_load(&self) -> PoolLoad {
        let now = self.load.read();
        let in_hand = now.busy.saturating_add(now.queued);
        PoolLoad { hash: self.hash, workers: now.workers, in_hand, queue_max: now.queue_max }
    }

    /// What is known of its health, but how its work ended.
    pub(crate) fn facts(&self) -> PoolFacts {
        let (now, rules, demand) = (self.load.read(), self.rules(), self.demand.latest());
        // What waits, each as long as a job takes, shared among the workers.
        let wait = demand.service.saturating_mul(now.queued) / now.workers.max(1);
        PoolFacts {
            utilization: now.utilization,
            wait,
            wait_max: rules.wait_max().max(demand.service),
            failures_total: 0,
            outcomes_total: 0,
            liveness: *self.liveness.latest(),
        }
    }

    pub(crate) fn view(&self) -> PoolView {
        let (watch, served) = (self.watch.latest(), *self.served.latest());
        let (now, most, stand_ins) = (self.load.read(), self.granted.latest().most, *self.stand_ins.latest());
        PoolView {
            name: self.name.clone(),
            workers: now.workers,
            busy: now.busy,
            queued: now.queued,
            queue_max: now.queue_max,
            workers_min: self.rules().workers_min(),
            workers_max: most,
            surge: now.workers.saturating_sub(most).saturating_sub(stand_ins),
            stand_ins,
            utilization: now.utilization,
            band: Band::of(now.utilization),
            routed: self.exchange.arrived(),
            succeeded: served.succeeded,
            failed: served.failed,
            timed_out: served.timed_out,
            p50_ms: served.p50_ms,
            p99_ms: served.p99_ms,
            health: watch.class(),
            health_why: watch.why(),
        }
    }
}

/// A running pool, for those who operate it.
#[derive(Debug, Clone)]
pub struct PoolHandle(pub(crate) Arc<PoolCell>);

/// What became of a request to resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resized {
    /// Workers before.
    pub from: u32,
    /// Workers from now on: what was asked for, within the pool's limits.
    pub to: u32,
}

impl PoolHandle {
    /// The pool as it is now.
    pub fn view(&self) -> PoolView {
        self.0.view()
    }

    /// Sets how many workers the pool should have, and waits until it has taken note. Workers beyond the
    /// new number finish what they have. The size moves on with the load afterwards.
    ///
    /// # Errors
    ///
    /// [`CallError::Timeout`] after five seconds; the change may still happen.
    /// [`CallError::NotRunning`] and [`CallError::Died`]: the next life goes on with the workers that run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn resize(&self, workers: u32) -> Result<Resized, CallError> {
        self.0.address.call(|reply| PoolMsg::Resize { workers, reply }).await
    }
}
