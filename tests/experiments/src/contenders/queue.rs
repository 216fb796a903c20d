//! What one writes by hand on tokio: a queue without a bound, one with the limits of the seeds, a bounded one.

use std::sync::Arc;

use gemba::admission::{Limits, Tier};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Call, Contender, End, Job, REFUSED};

/// First in, first out, served by as many at a time as there are workers. Who goes away is served all the same.
pub(crate) struct Fifo {
    workers: Arc<Semaphore>,
    /// Places in flight for everybody, and those kept for critical ones.
    room: Option<(Arc<Semaphore>, Arc<Semaphore>)>,
}

impl Fifo {
    pub(crate) fn unbounded(workers: u32) -> Self {
        Self { workers: Arc::new(Semaphore::new(workers as usize)), room: None }
    }

    /// 1200 in flight, 960 of them for all tiers.
    pub(crate) fn seeds(workers: u32) -> Self {
        let limits = Limits::default();
        let all = limits.hard(Tier::Normal) as usize;
        let reserve = limits.hard(Tier::Critical) as usize - all;
        let room = (Arc::new(Semaphore::new(all)), Arc::new(Semaphore::new(reserve)));
        Self { room: Some(room), ..Self::unbounded(workers) }
    }
}

impl Contender for Fifo {
    fn call(&self, job: Job) -> Call {
        let place = match &self.room {
            None => None,
            Some((all, reserve)) => {
                let place = all.clone().try_acquire_owned();
                let place = match job.tier {
                    Tier::Critical => place.or_else(|_| reserve.clone().try_acquire_owned()),
                    Tier::Normal | Tier::Batch => place,
                };
                match place {
                    Ok(place) => Some(place),
                    Err(_) => return Box::pin(async { REFUSED }),
                }
            }
        };
        let workers = self.workers.clone();
        Box::pin(async move {
            let served = tokio::spawn(async move {
                let _worker = workers.acquire_owned().await.expect("it is never closed");
                let took = job.work.run().await;
                drop(place);
                End::Served { took }
            });
            served.await.unwrap_or(End::Late)
        })
    }
}

/// A bounded channel in front of a semaphore: what does not fit is refused.
pub(crate) struct Bounded(mpsc::Sender<(Job, oneshot::Sender<End>)>);

impl Bounded {
    pub(crate) fn start(workers: u32, waiting: usize) -> Self {
        // The dispatcher holds one more, while it waits for a worker.
        let (sender, mut jobs) = mpsc::channel::<(Job, oneshot::Sender<End>)>(waiting.max(2) - 1);
        let workers = Arc::new(Semaphore::new(workers as usize));
        tokio::spawn(async move {
            while let Some((job, answer)) = jobs.recv().await {
                let worker = workers.clone().acquire_owned().await.expect("it is never closed");
                tokio::spawn(async move {
                    let took = job.work.run().await;
                    drop(worker);
                    // Who has gone away does not want to know.
                    let _ = answer.send(End::Served { took });
                });
            }
        });
        Self(sender)
    }
}

impl Contender for Bounded {
    fn call(&self, job: Job) -> Call {
        let (answer, answered) = oneshot::channel();
        match self.0.try_send((job, answer)) {
            Ok(()) => Box::pin(async { answered.await.unwrap_or(End::Late) }),
            Err(_) => Box::pin(async { REFUSED }),
        }
    }
}
