//! Plain ractor's side: actors as they are, a supervisor written by hand, and its factory as the pool.

#![allow(clippy::disallowed_types, reason = "how a child leaves its reference to whoever measures")]

use std::sync::{Arc, Mutex, PoisonError};

use gauge::{Case, Exit, Figures, Job, Life, ON_PURPOSE, POOL, Strategy, Tree, Which};
use ractor::factory::{
    DiscardSettings, Factory, FactoryArguments, FactoryMessage, Job as Work, JobOptions, Worker,
    WorkerBuilder, WorkerId, queues, routing,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

/// Does one job, of those ractor has the feature for; with `deadline`, calls have a time-out as everyone
/// else's have.
pub(crate) async fn measure(job: Job, deadline: bool) -> Figures {
    match job.case {
        Case::Call { callers } => calls(job.size, callers, deadline).await,
        Case::Cast => casts(job.size).await,
        Case::Children { tasks: false } => children(job.size).await,
        Case::Restart(Strategy::OneForOne, _) | Case::Sustained => gauge::restarts::<ByHand>(job).await,
        Case::Pool { clients } => pool(job.size, clients).await,
        Case::Children { tasks: true } | Case::Restart(..) | Case::Worn(_) | Case::Crowd(_) => {
            panic!("ractor has no supervisor to measure")
        }
    }
}

struct Child;

enum Msg {
    Add(u64),
    Ask(RpcReplyPort<u64>),
    Life(RpcReplyPort<u64>),
    Fail,
    Panic,
}

impl Actor for Child {
    type Msg = Msg;
    type State = (Life, u64);
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok((Life::new(), 0))
    }

    async fn handle(
        &self,
        _: ActorRef<Msg>,
        message: Msg,
        (life, sum): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Add(n) => *sum += n,
            // A caller that has given up does not mind.
            Msg::Ask(reply) => drop(reply.send(*sum)),
            Msg::Life(reply) => drop(reply.send(life.number())),
            Msg::Fail => return Err(ON_PURPOSE.into()),
            Msg::Panic => panic!("{ON_PURPOSE}"),
        }
        Ok(())
    }
}

async fn calls(size: u64, callers: u64, deadline: bool) -> Figures {
    let (child, _) = Actor::spawn(None, Child, ()).await.expect("it starts");
    if deadline {
        return gauge::calls(callers, size, move |_| {
            let child = child.clone();
            async move { ractor::call_t!(child, Msg::Ask, 5000).is_ok() }
        })
        .await;
    }
    gauge::calls(callers, size, move |_| {
        let child = child.clone();
        async move { ractor::call!(child, Msg::Ask).is_ok() }
    })
    .await
}

/// Its mailbox has no bound, so nothing waits.
async fn casts(size: u64) -> Figures {
    let (child, _) = Actor::spawn(None, Child, ()).await.expect("it starts");
    gauge::casts(size, |size| {
        let child = child.clone();
        async move {
            for n in 0..size {
                child.cast(Msg::Add(n)).expect("it runs");
            }
            ractor::call!(child, Msg::Ask).expect("it runs");
        }
    })
    .await
}

/// A supervisor as one writes it by hand: starts the child again, and has no strategy and no limit.
struct Parent;

type Present = Arc<Mutex<Option<ActorRef<Msg>>>>;

enum ParentMsg {
    Start(u64, RpcReplyPort<()>),
}

impl Actor for Parent {
    type Msg = ParentMsg;
    type State = Present;
    type Arguments = Present;

    async fn pre_start(
        &self,
        _: ActorRef<ParentMsg>,
        present: Present,
    ) -> Result<Present, ActorProcessingErr> {
        Ok(present)
    }

    async fn handle(
        &self,
        myself: ActorRef<ParentMsg>,
        ParentMsg::Start(children, reply): ParentMsg,
        present: &mut Present,
    ) -> Result<(), ActorProcessingErr> {
        for _ in 0..children {
            start(&myself, present).await?;
        }
        Ok(reply.send(())?)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ParentMsg>,
        event: SupervisionEvent,
        present: &mut Present,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(..) | SupervisionEvent::ActorTerminated(..) => {
                start(&myself, present).await
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

async fn start(parent: &ActorRef<ParentMsg>, present: &Present) -> Result<(), ActorProcessingErr> {
    let (child, _) = Actor::spawn_linked(None, Child, (), parent.get_cell()).await?;
    *present.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    Ok(())
}

struct ByHand {
    parent: ActorRef<ParentMsg>,
    present: Present,
}

impl ByHand {
    fn child(&self) -> ActorRef<Msg> {
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.clone().expect("it was started")
    }
}

impl Tree for ByHand {
    async fn start(_: Strategy, siblings: u64) -> Self {
        let present = Present::default();
        let (parent, _) = Actor::spawn(None, Parent, present.clone()).await.expect("it starts");
        ractor::call!(parent, ParentMsg::Start, siblings + 1).expect("it starts");
        Self { parent, present }
    }

    async fn crash(&self, how: Exit) {
        match how {
            Exit::Error => self.child().cast(Msg::Fail).expect("it runs"),
            Exit::Panic => self.child().cast(Msg::Panic).expect("it runs"),
            Exit::Kill => self.child().kill(),
        }
    }

    async fn life(&self, _: Which) -> Option<u64> {
        // A call that arrives while its actor ends may never be answered.
        ractor::call_t!(self.child(), Msg::Life, 1000).ok()
    }

    async fn stop(self) {
        self.parent.stop_and_wait(None, None).await.expect("it runs");
    }
}

async fn children(size: u64) -> Figures {
    let (parent, _) = Actor::spawn(None, Parent, Present::default()).await.expect("it starts");
    let start = || async {
        ractor::call!(parent, ParentMsg::Start, size).expect("they start");
        parent
    };
    // Its children are killed with it; ractor has no other way of its own.
    gauge::children(size, start, |parent| async move {
        parent.stop_and_wait(None, None).await.expect("it runs");
    })
    .await
}

struct Hand;

struct Hands;

impl WorkerBuilder<Hand, ()> for Hands {
    fn build(&mut self, _: WorkerId) -> (Hand, ()) {
        (Hand, ())
    }
}

impl Worker for Hand {
    type Key = ();
    type Message = RpcReplyPort<u64>;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), RpcReplyPort<u64>>>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &ActorRef<FactoryMessage<(), RpcReplyPort<u64>>>,
        job: Work<(), RpcReplyPort<u64>>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(job.msg.send(0)?)
    }
}

type Queue = queues::DefaultQueue<(), RpcReplyPort<u64>>;
type Router = routing::QueuerRouting<(), RpcReplyPort<u64>>;

async fn pool(size: u64, clients: u64) -> Figures {
    let arguments = FactoryArguments {
        num_initial_workers: POOL as usize,
        queue: Queue::default(),
        router: Router::default(),
        capacity_controller: None,
        dead_mans_switch: None,
        discard_handler: None,
        discard_settings: DiscardSettings::None,
        lifecycle_hooks: None,
        worker_builder: Box::new(Hands),
        stats: None,
    };
    let factory = Factory::<(), RpcReplyPort<u64>, (), Hand, Router, Queue>::default();
    let (factory, _) = Actor::spawn(None, factory, arguments).await.expect("it starts");
    let dispatch = |reply| {
        FactoryMessage::Dispatch(Work { key: (), msg: reply, options: JobOptions::default(), accepted: None })
    };
    gauge::calls(clients, size, move |_| {
        let factory = factory.clone();
        async move { ractor::call!(factory, dispatch).is_ok() }
    })
    .await
}
