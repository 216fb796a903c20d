//! A cell: where a pool's jobs meet its workers, without anybody between them.
//!
//! A caller takes an idle worker itself and sends it the job; a worker that is done takes the next job from the
//! queue itself. Both decide under one lock, held for a few instructions, so that no job waits beside an idle
//! worker.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use gemba_core::crew::{Crew, Dismissed, Life, Next, Offered, Resize, Turn};
use gemba_core::exit::Incarnation;
use gemba_core::scaling::Sample;
use gemba_core::time::Timestamp;
use gemba_core::wait::WaitRules;
use gemba_kernel::Pinned;

use crate::job::{Because, Job, Ran};
use crate::load::LoadCell;
use crate::meter::stripe;
use crate::seat::ANSWER_GRACE;
use crate::sync::{Mutex, MutexGuard};
use crate::worker::WorkerMsg;

/// How a life of a worker is reached.
pub(crate) type Reach = Arc<Pinned<WorkerMsg>>;

/// What leads to a life of a worker; a message that it does not take comes back.
pub(crate) trait Inbox: Clone {
    fn cast(&self, message: WorkerMsg) -> Result<(), WorkerMsg>;
}

impl Inbox for Reach {
    fn cast(&self, message: WorkerMsg) -> Result<(), WorkerMsg> {
        Pinned::cast(self, message)
    }
}

/// How jobs wait for a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Waiting {
    pub rules: WaitRules,
    /// How many may.
    pub queue_max: u32,
}

/// The crew of a pool. It outlives the dispatcher that governs it.
pub(crate) struct Exchange<R = Reach> {
    crew: Mutex<Crew<R, Job>>,
    load: Arc<LoadCell>,
}

impl<R: Inbox> Exchange<R> {
    pub(crate) fn new(rules: WaitRules, queue_max: u32, load: Arc<LoadCell>) -> Self {
        load.set_queue_max(queue_max);
        Self { crew: Mutex::new(Crew::new(rules, queue_max as usize, Timestamp::START)), load }
    }

    /// By which rules jobs wait from now on, and how many.
    pub(crate) fn set_waiting(&self, Waiting { rules, queue_max }: Waiting, now: Timestamp) {
        self.with(|crew| crew.set_waiting(rules, queue_max as usize, now));
        self.load.set_queue_max(queue_max);
    }

    fn crew(&self) -> MutexGuard<'_, Crew<R, Job>> {
        self.crew.lock().expect("nothing panics while it holds a crew")
    }

    /// Does something with the crew, and publishes what has become of it.
    fn with<T>(&self, act: impl FnOnce(&mut Crew<R, Job>) -> T) -> T {
        let mut crew = self.crew();
        let result = act(&mut crew);
        self.load.publish(crew.load());
        result
    }

    /// Sends the job to an idle worker, or queues it; one that is not taken answers by itself. Tells whether
    /// somebody sees to it that its caller does not wait for ever.
    pub(crate) fn offer(&self, mut job: Job, now: Timestamp) -> bool {
        loop {
            let (offered, is_open) = self.with(|crew| (crew.offer(job, stripe(), now), crew.is_open()));
            match offered {
                Offered::Given(Life { worker, incarnation, reach }, given) => {
                    match reach.cast(WorkerMsg::Work(given)) {
                        Ok(()) | Err(WorkerMsg::Retire) => {}
                        // This life is over; its successor will join.
                        Err(WorkerMsg::Work(back)) => {
                            self.with(|crew| crew.unreachable(worker, incarnation, now));
                            job = back;
                            continue;
                        }
                    }
                }
                Offered::Queued => {}
                Offered::Displaced(dismissed) | Offered::Dismissed(dismissed) => answer(dismissed),
                Offered::Closed(job) => job.give_back(Because::HolderDied),
            }
            return is_open;
        }
    }

    /// A life of a worker begins, and is told what to do.
    pub(crate) fn join(&self, life: Life<R>, now: Timestamp) -> Turn<Job> {
        told(self.with(|crew| crew.join(life, stripe(), now)))
    }

    /// A worker is done, and is told what to do next.
    pub(crate) fn done(&self, worker: u64, incarnation: Incarnation, ran: &Ran) -> Turn<Job> {
        told(self.with(|crew| crew.done(worker, incarnation, ran.took, stripe(), ran.ended)))
    }

    /// A life of the dispatcher begins: only these workers are there, and from now on jobs may wait.
    pub(crate) fn open(&self, workers: &BTreeSet<u64>, now: Timestamp) {
        let lost = self.with(|crew| {
            crew.open();
            crew.retain(|worker| workers.contains(&worker), now)
        });
        // They may run still, where nobody sees them: in a thread that is blocked.
        for seat in lost {
            seat.leave_alone();
        }
    }

    /// A life of the dispatcher is over: what waits goes back, and the callers of what runs look after themselves.
    pub(crate) fn close(&self) {
        let (queued, in_hand) = self.with(Crew::close);
        for job in queued {
            job.give_back(Because::HolderDied);
        }
        for seat in in_hand {
            seat.leave_alone();
        }
    }

    /// Gives back what has waited too long, and drops what nobody waits for: neither may wait until a worker comes
    /// to it. Answers for workers that cannot: their threads are blocked. Tells how many are lost to outliers.
    pub(crate) fn sweep(&self, now: Timestamp) -> u32 {
        let due = now - ANSWER_GRACE;
        let (dismissed, overdue, lost) =
            self.with(|crew| (crew.sweep(now, Job::is_abandoned), crew.overdue(due), crew.lost(now)));
        for dismissed in dismissed {
            answer(dismissed);
        }
        for seat in overdue {
            seat.overdue();
        }
        lost
    }

    pub(crate) fn hire(&self, now: Timestamp) -> u64 {
        self.with(|crew| crew.hire(now))
    }

    pub(crate) fn resize(&self, workers: u32, now: Timestamp) -> Resize<R> {
        self.with(|crew| crew.resize(workers, now))
    }

    /// Workers there will be once those that retire are gone.
    pub(crate) fn wanted(&self) -> u32 {
        self.crew().wanted()
    }

    /// What has come and what was done since the last call.
    pub(crate) fn sample(&self, now: Timestamp) -> Sample {
        self.crew().sample(now)
    }

    /// Jobs that have come since the node started.
    pub(crate) fn arrived(&self) -> u64 {
        self.crew().arrived()
    }
}

/// Answers what is not worked on any more, outside the lock.
fn told(next: Next<Job>) -> Turn<Job> {
    for dismissed in next.dismissed {
        answer(dismissed);
    }
    next.turn
}

fn answer(Dismissed { task, why, retry_after }: Dismissed<Job>) {
    task.give_back(Because::TurnedOut { why, retry_after });
}

impl<R: Inbox> fmt::Debug for Exchange<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange").field(&self.crew().load()).finish()
    }
}
