//! The dispatcher of a pool: keeps the queue, knows who is idle, and sets how many workers there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::Incarnation;
use gemba_core::metric;
use gemba_core::name::{ActorPath, Name};
use gemba_core::queue::{Popped, Pushed, TieredQueue};
use gemba_core::receipt::{Event, Seq};
use gemba_core::scaling::{Load, Scale, Scaler};
use gemba_core::time::Timestamp;
use gemba_kernel::{Context, DynamicRef, Reply, Server, Shutdown, Stop, server};

use crate::job::{Because, Job};
use crate::pool::{Demand, PoolCell, Resized};
use crate::usage::Usage;
use crate::worker::{Idle, WORKER_MAILBOX, Worker, WorkerMsg};

/// How often a pool looks at its load.
const TICK: Duration = Duration::from_secs(1);

/// How often the queue is looked through for what is late: well within the time a caller waits beyond its
/// deadline for the word that nothing was done.
const SWEEP: Duration = Duration::from_millis(50);

/// What a pool understands.
#[derive(Debug)]
pub(crate) enum PoolMsg {
    Dispatch(Job),
    Ready(Idle),
    Resize { workers: u32, reply: Reply<Resized> },
    Tick,
    Sweep,
}

/// The actor. Its workers stand beside it in the tree, started before it and stopped after it.
pub(crate) struct Dispatcher {
    pool: Arc<PoolCell>,
    supervisor: DynamicRef,
    queue: TieredQueue<Job>,
    idle: Vec<Idle>,
    /// Workers that are wanted: those that retire are no longer among them.
    roster: BTreeMap<u64, Hand>,
    busy: usize,
    /// Workers an earlier life of this dispatcher has left: wanted, once they pull.
    left: BTreeSet<u64>,
    retiring: u32,
    next_worker: u64,
    scaler: Scaler,
    usage: Usage,
}

/// A worker on the roster.
#[derive(Debug, Default)]
struct Hand {
    life: Option<Incarnation>,
    /// Jobs given to that life.
    given: u64,
    busy: bool,
}

impl Dispatcher {
    pub(crate) fn new(pool: Arc<PoolCell>, supervisor: DynamicRef) -> Self {
        let queue = TieredQueue::new(pool.queue_max as usize);
        Self {
            pool,
            supervisor,
            queue,
            idle: Vec::new(),
            roster: BTreeMap::new(),
            busy: 0,
            left: BTreeSet::new(),
            retiring: 0,
            next_worker: 1,
            scaler: Scaler::new(Timestamp::START),
            usage: Usage::default(),
        }
    }

    fn dispatch(&mut self, mut job: Job) {
        self.usage.arrived();
        // Hop 2: straight to an idle worker, the one that worked last, whose caches are warm.
        while let Some(worker) = self.idle.pop() {
            match self.give(&worker, job) {
                Ok(()) => return,
                // This life is over; its successor will pull.
                Err(back) => job = back,
            }
        }
        let (tier, deadline) = (job.tier, job.deadline);
        match self.queue.push(job, tier, deadline) {
            Pushed::Queued => {}
            Pushed::Displaced(job) | Pushed::Full(job) => job.give_back(Because::QueueFull),
        }
    }

    fn give(&mut self, worker: &Idle, job: Job) -> Result<(), Job> {
        match worker.address.cast(WorkerMsg::Work(job)) {
            Ok(()) => {
                if let Some(hand) = self.roster.get_mut(&worker.id) {
                    hand.given += 1;
                    self.busy += usize::from(!std::mem::replace(&mut hand.busy, true));
                }
                Ok(())
            }
            Err(WorkerMsg::Work(job)) => Err(job),
            // It returns what it was given.
            Err(WorkerMsg::Pull | WorkerMsg::Retire) => Ok(()),
        }
    }

    fn ready(&mut self, worker: Idle, now: Timestamp) {
        if self.left.remove(&worker.id) {
            self.roster.insert(worker.id, Hand::default());
        }
        let Some(hand) = self.roster.get_mut(&worker.id) else { return retire(&worker) };
        if hand.life == Some(worker.life) && worker.done < hand.given {
            return; // It asked before it had the job it has now.
        }
        (hand.life, hand.given) = (Some(worker.life), worker.done);
        if std::mem::replace(&mut hand.busy, false) {
            self.busy -= 1;
            self.usage.finished();
        }
        // A worker that asks twice is idle once.
        self.idle.retain(|other| other.id != worker.id);
        if 0 < self.retiring {
            self.retiring -= 1;
            self.roster.remove(&worker.id);
            return retire(&worker);
        }
        self.feed(worker, now);
    }

    /// Gives an idle worker the next job of the queue, or puts it with the other idle ones.
    fn feed(&mut self, worker: Idle, now: Timestamp) {
        while let Some(popped) = self.queue.pop(now) {
            match popped {
                Popped::Expired(job) => job.give_back(Because::Expired),
                Popped::Work { item, tier, deadline } => {
                    if let Err(job) = self.give(&worker, item) {
                        self.queue.push_front(job, tier, deadline);
                    }
                    return;
                }
            }
        }
        self.idle.push(worker);
    }

    /// Gives back what is late, and drops what nobody waits for: neither may hold a permit until a worker
    /// comes to it.
    fn sweep(&mut self, now: Timestamp) {
        if !self.queue.is_empty() {
            for job in self.queue.sweep(now, Job::is_abandoned) {
                job.give_back(Because::Expired);
            }
        }
    }

    /// Brings the roster to `workers`; a worker that has to go finishes what it has.
    fn set_workers(&mut self, workers: u32, why: &str, cause: Option<Seq>, ctx: &Context<PoolMsg>) {
        let from = self.wanted();
        if workers == from {
            return;
        }
        for _ in workers..from {
            match self.idle.pop() {
                Some(worker) => {
                    self.roster.remove(&worker.id);
                    retire(&worker);
                }
                None => self.retiring += 1,
            }
        }
        for _ in from..workers {
            if 0 < self.retiring {
                self.retiring -= 1;
            } else {
                self.hire();
            }
        }
        self.scaler.changed(ctx.now());
        let event = Event::PoolResized { pool: self.pool.name.clone(), from, to: workers, why: why.into() };
        ctx.system().record(cause, ctx.path(), event);
    }

    fn hire(&mut self) {
        let id = self.next_worker;
        self.next_worker += 1;
        self.roster.insert(id, Hand::default());
        let pool = self.pool.clone();
        let worker = server(Name::numbered(id).as_str(), move || Worker::new(id, pool.clone()));
        let stop = Shutdown::Within(self.pool.stop_within);
        self.supervisor.start_child_soon(worker.mailbox(WORKER_MAILBOX).transient().shutdown(stop));
    }

    /// Workers there are.
    fn present(&self) -> usize {
        self.roster.len() + self.left.len()
    }

    /// Workers there will be once those that retire are gone.
    fn wanted(&self) -> u32 {
        (self.present() as u32).saturating_sub(self.retiring)
    }

    fn tick(&mut self, ctx: &Context<PoolMsg>) {
        if !self.left.is_empty() {
            let running = ctx.system().children(&workers_of(ctx));
            let ids: BTreeSet<u64> = running.iter().filter_map(|path| path.name().parse().ok()).collect();
            self.left.retain(|id| ids.contains(id));
        }
        let busy = self.busy + self.left.len();
        let sample = self.usage.sample(busy, self.present(), ctx.now());
        let (running, queued) = (busy as u32, self.queue.len() as u32);
        let load = Load { workers: self.wanted(), running, queued };
        let granted = self.pool.granted.latest();
        let scale = self.scaler.observe(sample, load, &self.pool.rules(), granted.bounds, ctx.now());
        let (utilization, needed) = (self.scaler.utilization(), self.scaler.needed());
        self.pool.load.set_utilization(utilization);
        self.pool.demand.publish(Demand {
            arrived: self.usage.arrived_total(),
            service: self.scaler.service(running),
            right: self.scaler.right(),
        });
        let gauge = ctx.system().instruments().gauge(&metric::NEEDED, &[self.pool.name.as_str()]);
        gauge.set(f64::from(needed));
        let why = format!("utilization {utilization:.2}, {queued} queued, {needed} needed lately");
        let workers = match scale {
            Scale::Hold => return,
            Scale::Grow(by) => self.wanted() + by,
            Scale::Shrink(by) => self.wanted().saturating_sub(by),
        };
        let beyond = self.pool.rules().workers_max() < workers.max(self.wanted());
        match granted.receipt.filter(|_| beyond || granted.bounds.fading.is_some()) {
            Some(surge) => self.set_workers(workers, &format!("surge: {why}"), Some(surge), ctx),
            None => self.set_workers(workers, &why, None, ctx),
        }
    }

    fn resize(&mut self, workers: u32, ctx: &Context<PoolMsg>) -> Resized {
        let from = self.wanted();
        let bounds = self.pool.granted.latest().bounds;
        let to = workers.clamp(bounds.workers_min, bounds.workers_max);
        self.set_workers(to, "asked for", None, ctx);
        Resized { from, to }
    }

    /// Finds the workers an earlier life of this dispatcher has left, and asks them to pull. Those that end
    /// without doing so are made up for by a tick.
    fn adopt(&mut self, ctx: &Context<PoolMsg>) {
        for path in ctx.system().children(&workers_of(ctx)) {
            let (Ok(id), Ok(worker)) = (path.name().parse(), ctx.system().address::<WorkerMsg>(&path)) else {
                continue;
            };
            self.left.insert(id);
            self.next_worker = self.next_worker.max(id + 1);
            // A worker that is between two lives pulls when it starts.
            let _ = worker.cast(WorkerMsg::Pull);
        }
    }

    fn publish(&mut self, now: Timestamp) {
        // Those that have not pulled yet have a job of the earlier life in hand.
        let busy = self.busy + self.left.len();
        self.usage.note(busy, self.present(), now);
        self.pool.load.publish(self.present() as u32, busy as u32, self.queue.len() as u32);
    }
}

/// The supervisor of the pool's workers: the dispatcher's sibling.
fn workers_of(ctx: &Context<PoolMsg>) -> ActorPath {
    let pool = ctx.path().parent().expect("a dispatcher stands in its pool");
    pool.child(&Name::new("workers").expect("a valid literal"))
}

fn retire(worker: &Idle) {
    // One whose life is over has nothing to end; its successor is told when it pulls.
    let _ = worker.address.cast(WorkerMsg::Retire);
}

impl Server for Dispatcher {
    type Msg = PoolMsg;

    async fn init(&mut self, ctx: &mut Context<PoolMsg>) -> Result<(), Stop> {
        self.adopt(ctx);
        (self.scaler, self.usage) = (Scaler::new(ctx.now()), Usage::since(ctx.now()));
        for _ in (self.left.len() as u32)..self.pool.granted.latest().bounds.workers_min {
            self.hire();
        }
        self.publish(ctx.now());
        ctx.every(TICK, || PoolMsg::Tick);
        ctx.every(SWEEP, || PoolMsg::Sweep);
        Ok(())
    }

    async fn handle(&mut self, msg: PoolMsg, ctx: &mut Context<PoolMsg>) -> Result<(), Stop> {
        let now = ctx.now();
        match msg {
            PoolMsg::Dispatch(job) => self.dispatch(job),
            PoolMsg::Ready(worker) => self.ready(worker, now),
            PoolMsg::Resize { workers, reply } => reply.send(self.resize(workers, ctx)),
            PoolMsg::Tick => self.tick(ctx),
            PoolMsg::Sweep => self.sweep(now),
        }
        self.publish(now);
        Ok(())
    }
}
