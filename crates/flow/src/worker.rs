//! A worker: runs a job, takes the next.

use std::sync::Arc;

use gemba_core::crew::{Life, Turn};
use gemba_kernel::{Context, Server, Stop};

use crate::exchange::Reach;
use crate::job::Job;
use crate::pool::PoolCell;

/// How many messages wait for a worker: one job, and the word to end.
pub(crate) const WORKER_MAILBOX: usize = 4;

/// One worker of a pool.
pub(crate) struct Worker {
    id: u64,
    pool: Arc<PoolCell>,
    /// Where it takes messages; `None` before it has joined.
    reach: Option<Reach>,
}

/// What a worker understands.
#[derive(Debug)]
pub(crate) enum WorkerMsg {
    /// Run this.
    Work(Job),
    /// End; another size is wanted.
    Retire,
}

impl Worker {
    pub(crate) fn new(id: u64, pool: Arc<PoolCell>) -> Self {
        Self { id, pool, reach: None }
    }

    /// What comes next comes by the mailbox, so that a stop can come between.
    fn follow(&self, turn: Turn<Job>, ctx: &mut Context<WorkerMsg>) {
        let message = match turn {
            Turn::Work(job) => WorkerMsg::Work(job),
            Turn::Retire => WorkerMsg::Retire,
            Turn::Wait => return,
        };
        if let Some(reach) = &self.reach
            && let Err(message) = reach.cast(message)
        {
            ctx.continue_with(message);
        }
    }
}

impl Server for Worker {
    type Msg = WorkerMsg;

    async fn init(&mut self, ctx: &mut Context<WorkerMsg>) -> Result<(), Stop> {
        let reach = Arc::new(ctx.pinned());
        self.reach = Some(reach.clone());
        let life = Life { worker: self.id, incarnation: ctx.incarnation(), reach };
        let turn = self.pool.exchange.join(life, ctx.now());
        self.follow(turn, ctx);
        Ok(())
    }

    async fn handle(&mut self, msg: WorkerMsg, ctx: &mut Context<WorkerMsg>) -> Result<(), Stop> {
        match msg {
            WorkerMsg::Work(job) => {
                let mut ran = job.run().await;
                ran.follow_up().await;
                let turn = self.pool.exchange.done(self.id, ctx.incarnation(), &ran);
                self.follow(turn, ctx);
                Ok(())
            }
            WorkerMsg::Retire => Err(Stop::normal()),
        }
    }
}
