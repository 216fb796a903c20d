//! ractor's factory with static discard of the newest.

use ractor::factory::discard::{DiscardMode, DiscardSettings};
use ractor::factory::queues::DefaultQueue;
use ractor::factory::routing::QueuerRouting;
use ractor::factory::{
    Factory, FactoryArguments, FactoryMessage, Job as FactoryJob, JobOptions, Worker, WorkerId,
    worker_builder,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::{Call, Contender, End, Job, REFUSED};

/// Work and who waits for it. A job that is discarded drops it.
type Message = (Job, oneshot::Sender<End>);

struct DoJob;

impl Worker for DoJob {
    type Key = ();
    type Message = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), Message>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), Message>>,
        job: FactoryJob<(), Message>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (job, answer) = job.msg;
        let took = job.work.run().await;
        let _ = answer.send(End::Served { took });
        Ok(())
    }
}

/// A factory whose queue holds one job for each worker.
pub(crate) struct Discarding(ActorRef<FactoryMessage<(), Message>>);

pub(crate) async fn start(workers: u32) -> Discarding {
    let definition =
        Factory::<(), Message, (), DoJob, QueuerRouting<(), Message>, DefaultQueue<(), Message>>::default();
    let arguments = FactoryArguments::builder()
        .worker_builder(Box::new(worker_builder(|_| (DoJob, ()))))
        .num_initial_workers(workers as usize)
        .router(QueuerRouting::default())
        .queue(DefaultQueue::default())
        .discard_settings(DiscardSettings::Static { limit: workers as usize, mode: DiscardMode::Newest })
        .build();
    let (factory, _) = Actor::spawn(None, definition, arguments).await.expect("the factory starts");
    Discarding(factory)
}

impl Contender for Discarding {
    fn call(&self, job: Job) -> Call {
        let (answer, answered) = oneshot::channel();
        let options = JobOptions::default();
        let job = FactoryJob { key: (), msg: (job, answer), options, accepted: None };
        match self.0.cast(FactoryMessage::Dispatch(job)) {
            Ok(()) => Box::pin(async { answered.await.unwrap_or(REFUSED) }),
            Err(_) => Box::pin(async { End::Late }),
        }
    }
}
