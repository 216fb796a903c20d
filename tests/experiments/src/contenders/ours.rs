//! Ours: a plant with one line and one pool, as it comes.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use gemba::admission::Tier;
use gemba::{
    Action, JobContext, Line, LineSpec, Node, Plant, PoolSpec, RegulatorHandle, Signal, SubmitError,
};

use super::{Call, Contender, End, Job};
use crate::trace::Model;
use crate::work::Work;

/// Does the work it is given.
#[derive(Debug)]
pub(crate) struct DoWork;

impl Action for DoWork {
    type Input = Work;
    type Output = Duration;
    type Error = Infallible;

    async fn run(&self, work: Work, _: &JobContext) -> Result<Duration, Infallible> {
        Ok(work.run().await)
    }
}

/// A running node and its line.
#[derive(Debug)]
pub(crate) struct Ours {
    pub line: Line<DoWork>,
    pub regulator: RegulatorHandle,
    /// It lives as long as this.
    _node: Node,
}

/// A pool of as many workers as the model has, no more and no fewer; all else as it is by default.
pub(crate) async fn start(model: &Model) -> Ours {
    let node = Node::builder("experiment");
    let pool = PoolSpec::new("work").workers(model.workers, model.workers);
    let mut plant = Plant::builder(node.system()).pool(pool);
    let line = plant.line(LineSpec::new("work", DoWork).deadline(model.deadline));
    let plant = plant.build().expect("the plant is sound");
    let regulator = plant.regulator();
    let node = node.child(plant).start().await.expect("the node starts");
    Ours { line, regulator, _node: node }
}

impl Contender for Ours {
    fn call(&self, job: Job) -> Call {
        let line = self.line.clone();
        Box::pin(async move {
            let left = job.due.saturating_duration_since(Instant::now());
            let mut signal = Signal::new(job.work).tier(job.tier).deadline(left);
            if 0 < job.tenant {
                signal = signal.tenant(&[job.tenant]);
            }
            end(line.submit(signal, &()).await)
        })
    }
}

/// Pools of the experiment with a slow one.
pub(crate) const POOLS: usize = 3;

/// By which factor the slow one is slower.
const SLOWER: u32 = 10;

/// One line and one pool each for every third signal.
#[derive(Debug)]
pub(crate) struct Pools {
    lines: Vec<Line<DoWork>>,
    slow: bool,
    _node: Node,
}

/// The model's workers, a third to each pool; the first pool's work is slow if `slow`.
pub(crate) async fn start_pools(model: &Model, slow: bool) -> Pools {
    let node = Node::builder("experiment");
    let mut plant = Plant::builder(node.system());
    let workers = model.workers / POOLS as u32;
    let mut lines = Vec::new();
    for name in ["one", "two", "three"] {
        plant = plant.pool(PoolSpec::new(name).workers(workers, workers));
        lines.push(plant.line(LineSpec::new(name, DoWork).deadline(model.deadline)));
    }
    let plant = plant.build().expect("the plant is sound");
    let node = node.child(plant).start().await.expect("the node starts");
    Pools { lines, slow, _node: node }
}

impl Contender for Pools {
    fn call(&self, job: Job) -> Call {
        let place = job.number as usize % POOLS;
        let line = self.lines[place].clone();
        let work = match job.work {
            Work::Sleep(time) if self.slow && place == 0 => Work::Sleep(time * SLOWER),
            work @ (Work::Sleep(_) | Work::Spin(_) | Work::SleepIn { .. } | Work::None) => work,
        };
        Box::pin(async move {
            let left = job.due.saturating_duration_since(Instant::now());
            end(line.submit(Signal::new(work).tier(job.tier).deadline(left), &()).await)
        })
    }
}

/// [`start`], and if `hung` one worker always has a job that does not end before its deadline.
pub(crate) async fn start_hung(model: &Model, hung: bool) -> Ours {
    let ours = start(model).await;
    if hung {
        let line = ours.line.clone();
        let deadline = model.deadline;
        tokio::spawn(async move {
            loop {
                let job = Signal::new(Work::Sleep(2 * deadline)).tier(Tier::Critical).deadline(deadline);
                // It is never in time.
                let _ = line.submit(job, &()).await;
                tokio::task::yield_now().await;
            }
        });
    }
    ours
}

pub(crate) fn end<E>(answer: Result<Duration, SubmitError<E>>) -> End {
    match answer {
        Ok(took) => End::Served { took },
        Err(SubmitError::Refused(refusal)) => End::Refused { retry_after: refusal.retry_after },
        Err(_) => End::Late,
    }
}
