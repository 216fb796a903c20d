//! The dispatcher of a pool: keeps the queue, knows who is idle, and sets how many workers there are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gemba_core::name::{ActorPath, Name};
use gemba_core::queue::{Popped, Pushed, TieredQueue};
use gemba_core::receipt::{Event, Seq};
use gemba_core::scaling::{Load, Scale, scale};
use gemba_core::time::Timestamp;
use gemba_kernel::{Context, DynamicSupervisor, Reply, Server, Shutdown, Stop, server};

use crate::job::{Because, Job};
use crate::pool::{PoolCell, Resized};
use crate::worker::{Idle, WORKER_MAILBOX, Worker, WorkerMsg};

/// How often a pool looks at its load.
const TICK: Duration = Duration::from_secs(1);

/// Over how many ticks utilisation is taken: a minute.
const WINDOW: usize = 60;

/// What a pool understands.
#[derive(Debug)]
pub(crate) enum PoolMsg {
    Dispatch(Job),
    Ready(Idle),
    Resize {
        workers: u32,
        reply: Reply<Resized>,
    },
    /// Workers wanted on top, for as long as a surge lasts.
    Surge {
        extra: u32,
        receipt: Option<Seq>,
    },
    Tick,
}

/// The actor. Its workers stand beside it in the tree, started before it and stopped after it.
pub(crate) struct Dispatcher {
    pool: Arc<PoolCell>,
    supervisor: DynamicSupervisor,
    queue: TieredQueue<Job>,
    idle: Vec<Idle>,
    /// Workers with a job in hand.
    busy: BTreeSet<u64>,
    /// Workers that are wanted: those that retire are no longer among them.
    roster: BTreeSet<u64>,
    retiring: u32,
    next_worker: u64,
    surge: u32,
    changed_at: Timestamp,
    usage: Usage,
}

impl Dispatcher {
    pub(crate) fn new(pool: Arc<PoolCell>, supervisor: DynamicSupervisor) -> Self {
        let queue = TieredQueue::new(pool.queue_max as usize);
        Self {
            pool,
            supervisor,
            queue,
            idle: Vec::new(),
            busy: BTreeSet::new(),
            roster: BTreeSet::new(),
            retiring: 0,
            next_worker: 1,
            surge: 0,
            changed_at: Timestamp::START,
            usage: Usage::default(),
        }
    }

    fn dispatch(&mut self, mut job: Job) {
        // Hop 2: straight to an idle worker, the one that worked last, whose caches are warm.
        while let Some(worker) = self.idle.pop() {
            match worker.address.cast(WorkerMsg::Work(job)) {
                Ok(()) => {
                    self.busy.insert(worker.id);
                    return;
                }
                // This life is over; its successor will pull.
                Err(WorkerMsg::Work(back)) => job = back,
                Err(WorkerMsg::Pull | WorkerMsg::Retire) => return,
            }
        }
        let (tier, deadline) = (job.tier, job.deadline);
        match self.queue.push(job, tier, deadline) {
            Pushed::Queued => {}
            Pushed::Displaced(job) | Pushed::Full(job) => job.give_back(Because::QueueFull),
        }
    }

    fn ready(&mut self, worker: Idle, now: Timestamp) {
        self.busy.remove(&worker.id);
        // A worker that asks twice, as after a restart of this dispatcher, is idle once.
        self.idle.retain(|other| other.id != worker.id);
        if !self.roster.contains(&worker.id) {
            return retire(&worker);
        }
        if 0 < self.retiring {
            self.retiring -= 1;
            self.roster.remove(&worker.id);
            return retire(&worker);
        }
        while let Some(popped) = self.queue.pop(now) {
            match popped {
                Popped::Expired(job) => job.give_back(Because::Expired),
                Popped::Work { item, tier, deadline } => {
                    match worker.address.cast(WorkerMsg::Work(item)) {
                        Ok(()) => {
                            self.busy.insert(worker.id);
                        }
                        Err(WorkerMsg::Work(job)) => self.queue.push_front(job, tier, deadline),
                        Err(WorkerMsg::Pull | WorkerMsg::Retire) => {}
                    }
                    return;
                }
            }
        }
        self.idle.push(worker);
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
        self.changed_at = ctx.now();
        let event = Event::PoolResized { pool: self.pool.name.clone(), from, to: workers, why: why.into() };
        ctx.system().record(cause, ctx.path(), event);
    }

    fn hire(&mut self) {
        let id = self.next_worker;
        self.next_worker += 1;
        self.roster.insert(id);
        let pool = self.pool.clone();
        let worker = server(Name::numbered(id).as_str(), move || Worker::new(id, pool.clone()));
        let stop = Shutdown::Within(self.pool.stop_within);
        self.supervisor.start_child_soon(worker.mailbox(WORKER_MAILBOX).transient().shutdown(stop));
    }

    /// Workers there will be once those that retire are gone.
    fn wanted(&self) -> u32 {
        (self.roster.len() as u32).saturating_sub(self.retiring)
    }

    fn tick(&mut self, ctx: &Context<PoolMsg>) {
        let utilization = self.usage.utilization(self.busy.len(), self.roster.len(), ctx.now());
        self.pool.load.set_utilization(utilization);
        let queued = self.queue.len() as u32;
        let load = Load { utilization, workers: self.wanted(), queued };
        let why = format!("utilization {utilization:.2}, {queued} queued");
        match scale(load, &self.pool.rules, self.surge, self.changed_at, ctx.now()) {
            Scale::Hold => {}
            Scale::Grow(by) => self.set_workers(self.wanted() + by, &why, None, ctx),
            Scale::Shrink(by) => self.set_workers(self.wanted().saturating_sub(by), &why, None, ctx),
        }
    }

    fn surge(&mut self, extra: u32, receipt: Option<Seq>, ctx: &Context<PoolMsg>) {
        let before = std::mem::replace(&mut self.surge, extra);
        self.pool.load.set_surge(extra);
        let floor = self.pool.rules.workers_min();
        let wanted = (self.wanted() + extra).saturating_sub(before).max(floor);
        self.set_workers(wanted, if before < extra { "surge" } else { "surge fades" }, receipt, ctx);
    }

    fn resize(&mut self, workers: u32, ctx: &Context<PoolMsg>) -> Resized {
        let from = self.wanted();
        let most = self.pool.rules.workers_max().saturating_add(self.surge);
        let to = workers.clamp(self.pool.rules.workers_min(), most);
        self.set_workers(to, "asked for", None, ctx);
        Resized { from, to }
    }

    /// Finds the workers an earlier life of this dispatcher has left, and asks them to pull.
    fn adopt(&mut self, workers: &ActorPath, ctx: &Context<PoolMsg>) {
        for path in ctx.system().children(workers) {
            let (Ok(id), Some(worker)) = (path.name().parse(), ctx.system().address::<WorkerMsg>(&path))
            else {
                continue;
            };
            self.roster.insert(id);
            self.next_worker = self.next_worker.max(id + 1);
            // A worker that is between two lives pulls when it starts.
            let _ = worker.cast(WorkerMsg::Pull);
        }
    }

    fn publish(&mut self, now: Timestamp) {
        self.usage.note(self.busy.len(), self.roster.len(), now);
        self.pool.load.publish(self.roster.len() as u32, self.busy.len() as u32, self.queue.len() as u32);
    }
}

fn retire(worker: &Idle) {
    // One whose life is over has nothing to end; its successor is told when it pulls.
    let _ = worker.address.cast(WorkerMsg::Retire);
}

impl Server for Dispatcher {
    type Msg = PoolMsg;

    async fn init(&mut self, ctx: &mut Context<PoolMsg>) -> Result<(), Stop> {
        let pool = ctx.path().parent().expect("a dispatcher stands in its pool");
        let workers = pool.child(&Name::new("workers").expect("a valid literal"));
        self.adopt(&workers, ctx);
        self.changed_at = ctx.now();
        for _ in self.wanted()..self.pool.rules.workers_min() {
            self.hire();
        }
        self.pool.load.set_surge(0);
        self.publish(ctx.now());
        ctx.every(TICK, || PoolMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: PoolMsg, ctx: &mut Context<PoolMsg>) -> Result<(), Stop> {
        let now = ctx.now();
        match msg {
            PoolMsg::Dispatch(job) => self.dispatch(job),
            PoolMsg::Ready(worker) => self.ready(worker, now),
            PoolMsg::Resize { workers, reply } => reply.send(self.resize(workers, ctx)),
            PoolMsg::Surge { extra, receipt } => self.surge(extra, receipt, ctx),
            PoolMsg::Tick => self.tick(ctx),
        }
        self.publish(now);
        Ok(())
    }
}

/// Busy time over worker time, exact, in a window of ticks.
#[derive(Debug, Default)]
struct Usage {
    noted_at: Timestamp,
    busy: u128,
    present: u128,
    window: VecDeque<(u128, u128)>,
    last: (usize, usize),
}

impl Usage {
    /// Notes that from now on `busy` of `present` workers work.
    fn note(&mut self, busy: usize, present: usize, now: Timestamp) {
        let elapsed = now.since(self.noted_at).as_nanos();
        let (was_busy, was_present) = std::mem::replace(&mut self.last, (busy, present));
        self.busy += elapsed * was_busy as u128;
        self.present += elapsed * was_present as u128;
        self.noted_at = now;
    }

    /// Ends a tick and tells the utilisation of the window.
    fn utilization(&mut self, busy: usize, present: usize, now: Timestamp) -> f64 {
        self.note(busy, present, now);
        self.window.push_back((std::mem::take(&mut self.busy), std::mem::take(&mut self.present)));
        if WINDOW < self.window.len() {
            self.window.pop_front();
        }
        let (busy, present) = self.window.iter().fold((0, 0), |(b, p), tick| (b + tick.0, p + tick.1));
        if present == 0 { 0.0 } else { busy as f64 / present as f64 }
    }
}
