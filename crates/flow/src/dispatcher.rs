//! A pool's dispatcher: how many workers there are, and who looks after what waits too long.
//!
//! No signal passes through it: callers and workers meet in the pool's [`exchange`](crate::exchange).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::metric;
use gemba_core::name::{ActorPath, Name};
use gemba_core::pool_health::Liveness;
use gemba_core::receipt::{Event, Seq};
use gemba_core::scaling::{Load, Scale, Scaler};
use gemba_core::stand_in::StandIns;
use gemba_core::time::Timestamp;
use gemba_kernel::{Context, DynamicRef, Reply, Server, Shutdown, Stop, server};

use crate::liveness::Roll;
use crate::pool::{Demand, PoolCell, Resized};
use crate::worker::{WORKER_MAILBOX, Worker, WorkerMsg};

/// How often a pool looks at its load.
const TICK: Duration = Duration::from_secs(1);

/// How often workers are asked whether they are alive. Source: S1-POOL-06.
const LIVENESS: Duration = Duration::from_secs(30);

/// How often the queue is looked through for what is late: well within the time a caller waits beyond its
/// deadline for the word that nothing was done.
const SWEEP: Duration = Duration::from_millis(50);

/// What a pool understands.
#[derive(Debug)]
pub(crate) enum PoolMsg {
    Resize {
        workers: u32,
        reply: Reply<Resized>,
    },
    Tick,
    Sweep,
    /// Ask the workers whether they are alive.
    Ask,
    /// What they said.
    Alive {
        roll: Roll,
        asked: u32,
    },
}

/// The actor. Its workers stand beside it in the tree, started before it and stopped after it.
pub(crate) struct Dispatcher {
    pool: Arc<PoolCell>,
    supervisor: DynamicRef,
    scaler: Scaler,
    stand_ins: StandIns,
    /// What the workers said last.
    roll: Roll,
}

impl Dispatcher {
    pub(crate) fn new(pool: Arc<PoolCell>, supervisor: DynamicRef) -> Self {
        let (scaler, stand_ins) = (Scaler::new(Timestamp::START), StandIns::default());
        Self { pool, supervisor, scaler, stand_ins, roll: Roll::default() }
    }

    /// How many workers there are to be, without those that stand in for others.
    fn size(&self) -> u32 {
        self.pool.exchange.wanted().saturating_sub(self.stand_ins.present())
    }

    /// Brings the pool to a size, not counting who stands in for others.
    fn set_workers(&mut self, workers: u32, why: &str, cause: Option<Seq>, ctx: &Context<PoolMsg>) {
        if workers != self.size() {
            self.set_roster(workers + self.stand_ins.present(), why, cause, ctx);
            self.scaler.changed(ctx.now());
        }
    }

    /// Brings the roster to `workers`; a worker that has to go finishes what it has.
    fn set_roster(&self, workers: u32, why: &str, cause: Option<Seq>, ctx: &Context<PoolMsg>) {
        let resize = self.pool.exchange.resize(workers, ctx.now());
        for life in resize.retired {
            // One whose life is over has nothing to end; its successor is told when it joins.
            let _ = life.reach.cast(WorkerMsg::Retire);
        }
        for id in resize.hired {
            self.start(id);
        }
        let (from, pool) = (resize.from, self.pool.name.clone());
        let event = Event::PoolResized { pool, from, to: workers, why: why.into() };
        ctx.system().record(cause, ctx.path(), event);
    }

    fn start(&self, id: u64) {
        let pool = self.pool.clone();
        let worker = server(Name::numbered(id).as_str(), move || Worker::new(id, pool.clone()));
        let stop = Shutdown::Within(self.pool.stop_within);
        self.supervisor.start_child_soon(worker.mailbox(WORKER_MAILBOX).transient().shutdown(stop));
    }

    fn tick(&mut self, ctx: &Context<PoolMsg>) {
        let now = ctx.now();
        let sample = self.pool.exchange.sample(now);
        let reading = self.pool.load.read();
        let (running, queued) = (reading.busy, reading.queued);
        let wanted = self.size();
        let load = Load { workers: wanted, running, queued };
        let granted = self.pool.granted.latest();
        let scale = self.scaler.observe(sample, load, &self.pool.rules(), granted.bounds, now);
        let (utilization, needed) = (self.scaler.utilization(), self.scaler.needed());
        self.pool.load.set_utilization(utilization);
        self.pool.demand.publish(Demand {
            arrived: self.pool.exchange.arrived(),
            service: self.scaler.service(running),
            right: self.scaler.right(),
        });
        let gauge = ctx.system().instruments().gauge(&metric::NEEDED, &[self.pool.name.as_str()]);
        gauge.set(f64::from(needed));
        let why = format!("utilization {utilization:.2}, {queued} queued, {needed} needed lately");
        let workers = match scale {
            Scale::Hold => return,
            Scale::Grow(by) => wanted + by,
            Scale::Shrink(by) => wanted.saturating_sub(by),
        };
        let beyond = self.pool.rules().workers_max() < workers.max(wanted);
        match granted.receipt.filter(|_| beyond || granted.bounds.fading.is_some()) {
            Some(surge) => self.set_workers(workers, &format!("surge: {why}"), Some(surge), ctx),
            None => self.set_workers(workers, &why, None, ctx),
        }
    }

    /// Answers and lets go what is late, and sees that somebody stands in for workers that hang.
    fn sweep(&mut self, ctx: &Context<PoolMsg>) {
        let now = ctx.now();
        let lost = self.pool.exchange.sweep(now);
        let may = self.pool.may_stand_in && 1 < self.pool.rules().workers_max();
        let lost = if may { lost } else { 0 };
        let (before, size) = (self.stand_ins.present(), self.size());
        let present = self.stand_ins.observe(lost, size, now);
        if present == before {
            return;
        }
        self.pool.stand_ins.publish(present);
        let why = if before < present {
            format!("{lost} lost to work that takes far longer than others, {present} stand in")
        } else {
            format!("nothing hangs any more, {present} stand in")
        };
        self.set_roster(size + present, &why, None, ctx);
    }

    /// Asks every worker at once, beside everything else.
    fn ask(&self, ctx: &Context<PoolMsg>) {
        let (system, me, workers) = (ctx.system().clone(), ctx.pinned(), workers_of(ctx));
        let asked = self.pool.exchange.wanted();
        tokio::spawn(async move {
            let roll = Roll::call(&system, &workers).await;
            // A dispatcher that is gone has a successor that asks anew.
            let _ = me.cast(PoolMsg::Alive { roll, asked });
        });
    }

    fn resize(&mut self, workers: u32, ctx: &Context<PoolMsg>) -> Resized {
        let from = self.size();
        let bounds = self.pool.granted.latest().bounds;
        let to = workers.clamp(bounds.workers_min, bounds.workers_max);
        self.set_workers(to, "asked for", None, ctx);
        Resized { from, to }
    }
}

/// Where the workers stand that run.
fn workers_of(ctx: &Context<PoolMsg>) -> Vec<ActorPath> {
    let pool = ctx.path().parent().expect("a dispatcher stands in its pool");
    ctx.system().children(&pool.child(&Name::new("workers").expect("a valid literal")))
}

/// The workers that run: those an earlier life of the dispatcher has left.
fn workers(ctx: &Context<PoolMsg>) -> BTreeSet<u64> {
    workers_of(ctx).iter().filter_map(|path| path.name().parse().ok()).collect()
}

impl Server for Dispatcher {
    type Msg = PoolMsg;

    async fn init(&mut self, ctx: &mut Context<PoolMsg>) -> Result<(), Stop> {
        let now = ctx.now();
        self.scaler = Scaler::new(now);
        self.pool.exchange.open(&workers(ctx), now);
        let _ = self.pool.exchange.sample(now);
        self.pool.stand_ins.publish(0);
        for _ in self.pool.exchange.wanted()..self.pool.granted.latest().bounds.workers_min {
            self.start(self.pool.exchange.hire(now));
        }
        ctx.every(TICK, || PoolMsg::Tick);
        ctx.every(LIVENESS, || PoolMsg::Ask);
        ctx.every(SWEEP, || PoolMsg::Sweep);
        Ok(())
    }

    async fn handle(&mut self, msg: PoolMsg, ctx: &mut Context<PoolMsg>) -> Result<(), Stop> {
        match msg {
            PoolMsg::Resize { workers, reply } => reply.send(self.resize(workers, ctx)),
            PoolMsg::Tick => self.tick(ctx),
            PoolMsg::Ask => self.ask(ctx),
            PoolMsg::Alive { roll, asked } => {
                let patience = LIVENESS.max(*self.pool.patience.latest());
                let alive = roll.alive(&self.roll, patience).min(asked);
                self.pool.liveness.publish(Some(Liveness { asked, alive }));
                self.roll = roll;
            }
            PoolMsg::Sweep => self.sweep(ctx),
        }
        Ok(())
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.pool.exchange.close();
    }
}
