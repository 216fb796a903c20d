//! A worker: pulls a job, runs it, pulls the next.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::Incarnation;
use gemba_kernel::{Context, Pinned, Server, Stop};

use crate::dispatcher::PoolMsg;
use crate::job::Job;
use crate::pool::PoolCell;

/// How many messages wait for a worker: one job, and what a dispatcher says around it.
pub(crate) const WORKER_MAILBOX: usize = 4;

/// How long a worker waits before it asks again, when the dispatcher is down or its mailbox full.
const PULL_AGAIN: Duration = Duration::from_millis(10);

/// One worker of a pool.
pub(crate) struct Worker {
    id: u64,
    pool: Arc<PoolCell>,
    /// Jobs this life has done.
    done: u64,
}

/// What a worker understands.
#[derive(Debug)]
pub(crate) enum WorkerMsg {
    /// Ask the dispatcher for work: it has forgotten who is idle, or could not listen.
    Pull,
    /// Run this.
    Work(Job),
    /// End; another size is wanted.
    Retire,
}

/// An idle worker as its dispatcher knows it: this life of it, and no other.
#[derive(Debug)]
pub(crate) struct Idle {
    pub id: u64,
    pub life: Incarnation,
    /// Jobs this life has done: a pull from before the last job is told from one after it.
    pub done: u64,
    pub address: Pinned<WorkerMsg>,
}

impl Worker {
    pub(crate) fn new(id: u64, pool: Arc<PoolCell>) -> Self {
        Self { id, pool, done: 0 }
    }

    fn pull(&self, ctx: &mut Context<WorkerMsg>) {
        let idle = Idle { id: self.id, life: ctx.incarnation(), done: self.done, address: ctx.pinned() };
        if self.pool.address.cast(PoolMsg::Ready(idle)).is_err() {
            ctx.after(PULL_AGAIN, WorkerMsg::Pull);
        }
    }
}

impl Server for Worker {
    type Msg = WorkerMsg;

    async fn init(&mut self, ctx: &mut Context<WorkerMsg>) -> Result<(), Stop> {
        self.pull(ctx);
        Ok(())
    }

    async fn handle(&mut self, msg: WorkerMsg, ctx: &mut Context<WorkerMsg>) -> Result<(), Stop> {
        match msg {
            WorkerMsg::Pull => self.pull(ctx),
            WorkerMsg::Work(job) => {
                job.run().await;
                self.done += 1;
                self.pull(ctx);
            }
            WorkerMsg::Retire => return Err(Stop::normal()),
        }
        Ok(())
    }
}
