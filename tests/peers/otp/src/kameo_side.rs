//! kameo's side: supervised actors at its defaults, and kameo_actors' pool.

#![allow(clippy::disallowed_types, reason = "how a child leaves its reference to whoever measures")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use gauge::{Case, Exit, Figures, GROUP, Job, Life, ON_PURPOSE, POOL, Strategy, Tree, WINDOW, Which};
use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::message::{Context, Message};
use kameo::supervision::SupervisionStrategy;
use kameo_actors::pool::{ActorPool, Dispatch};

/// Does one job, of those it has the feature for.
pub(crate) async fn measure(job: Job) -> Figures {
    match job.case {
        Case::Call { callers } => calls(job.size, callers).await,
        Case::Cast => casts(job.size).await,
        Case::Children { tasks: false } => children(job.size).await,
        Case::Restart(Strategy::OneForAll, _) => gauge::restarts::<Kameo<ALL>>(job).await,
        Case::Restart(Strategy::RestForOne, _) => gauge::restarts::<Kameo<REST>>(job).await,
        Case::Restart(Strategy::OneForOne, _) | Case::Worn(_) | Case::Crowd(_) | Case::Sustained => {
            gauge::restarts::<Kameo<ONE>>(job).await
        }
        Case::Pool { clients } => pool(job.size, clients).await,
        Case::Children { tasks: true } => panic!("kameo supervises no plain tasks"),
    }
}

/// Where a child leaves the reference to its present life: an older one no longer kills.
#[derive(Clone, Default)]
struct Present(Option<Arc<Mutex<Option<ActorRef<Child>>>>>);

struct Child {
    life: Life,
    sum: u64,
}

impl Actor for Child {
    type Args = Present;
    type Error = Infallible;

    async fn on_start(present: Present, me: ActorRef<Self>) -> Result<Self, Infallible> {
        if let Some(present) = present.0 {
            *present.lock().unwrap_or_else(PoisonError::into_inner) = Some(me);
        }
        Ok(Self { life: Life::new(), sum: 0 })
    }
}

struct Add(u64);
struct Ask;
struct WhichLife;
struct Fail;
struct Panic;

impl Message<Add> for Child {
    type Reply = ();
    async fn handle(&mut self, Add(n): Add, _: &mut Context<Self, ()>) {
        self.sum += n;
    }
}

impl Message<Ask> for Child {
    type Reply = u64;
    async fn handle(&mut self, _: Ask, _: &mut Context<Self, u64>) -> u64 {
        self.sum
    }
}

impl Message<WhichLife> for Child {
    type Reply = u64;
    async fn handle(&mut self, _: WhichLife, _: &mut Context<Self, u64>) -> u64 {
        self.life.number()
    }
}

impl Message<Fail> for Child {
    type Reply = Result<(), &'static str>;
    async fn handle(&mut self, _: Fail, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Err(ON_PURPOSE)
    }
}

impl Message<Panic> for Child {
    type Reply = ();
    async fn handle(&mut self, _: Panic, _: &mut Context<Self, ()>) {
        panic!("{ON_PURPOSE}");
    }
}

async fn calls(size: u64, callers: u64) -> Figures {
    let child = Child::spawn(Present::default());
    gauge::calls(callers, size, move |_| {
        let child = child.clone();
        async move { child.ask(Ask).await.is_ok() }
    })
    .await
}

/// `tell` waits while the mailbox of 64 is full.
async fn casts(size: u64) -> Figures {
    let child = Child::spawn(Present::default());
    gauge::casts(size, |size| {
        let child = child.clone();
        async move {
            for n in 0..size {
                child.tell(Add(n)).await.expect("it runs");
            }
            child.ask(Ask).await.expect("it runs");
        }
    })
    .await
}

const ONE: u8 = 0;
const ALL: u8 = 1;
const REST: u8 = 2;

struct Parent<const STRATEGY: u8>;

impl<const STRATEGY: u8> Actor for Parent<STRATEGY> {
    type Args = ();
    type Error = Infallible;

    fn supervision_strategy() -> SupervisionStrategy {
        match STRATEGY {
            ALL => SupervisionStrategy::OneForAll,
            REST => SupervisionStrategy::RestForOne,
            _ => SupervisionStrategy::OneForOne,
        }
    }

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

async fn supervise<const STRATEGY: u8>(
    parent: &ActorRef<Parent<STRATEGY>>,
    present: Present,
) -> ActorRef<Child> {
    let child = Child::supervise(parent, present).restart_limit(u32::MAX, WINDOW).spawn().await;
    // OTP's start_child returns after init.
    child.wait_for_startup().await;
    child
}

async fn children(size: u64) -> Figures {
    let parent = Parent::<ONE>::spawn(());
    let start = || async {
        for _ in 0..size {
            supervise(&parent, Present::default()).await;
        }
        parent
    };
    gauge::children(size, start, |parent| async move {
        parent.stop_gracefully().await.expect("it runs");
        parent.wait_for_shutdown().await;
    })
    .await
}

struct Kameo<const STRATEGY: u8> {
    parent: ActorRef<Parent<STRATEGY>>,
    first: ActorRef<Child>,
    present: Present,
    last: ActorRef<Child>,
}

impl<const STRATEGY: u8> Tree for Kameo<STRATEGY> {
    async fn start(_: Strategy, siblings: u64) -> Self {
        let parent = Parent::<STRATEGY>::spawn(());
        let present = Present(Some(Arc::default()));
        let first = supervise(&parent, present.clone()).await;
        let mut last = first.clone();
        if STRATEGY != ONE {
            for _ in 1..GROUP {
                last = supervise(&parent, Present::default()).await;
            }
        }
        for _ in 0..siblings {
            supervise(&parent, Present::default()).await;
        }
        Self { parent, first, present, last }
    }

    async fn crash(&self, how: Exit) {
        match how {
            Exit::Error => self.first.tell(Fail).await.expect("it runs"),
            Exit::Panic => self.first.tell(Panic).await.expect("it runs"),
            Exit::Kill => {
                let present = self.present.0.as_ref().expect("the first child leaves its reference");
                present.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("it runs").kill();
            }
        }
    }

    async fn life(&self, which: Which) -> Option<u64> {
        let child = if which == Which::First { &self.first } else { &self.last };
        child.ask(WhichLife).await.ok()
    }

    async fn stop(self) {
        self.parent.stop_gracefully().await.expect("it runs");
        self.parent.wait_for_shutdown().await;
    }
}

async fn pool(size: u64, clients: u64) -> Figures {
    let pool = ActorPool::spawn(ActorPool::new(POOL as usize, || Child::spawn(Present::default())));
    gauge::calls(clients, size, move |_| {
        let pool = pool.clone();
        async move { pool.ask(Dispatch(Ask)).await.is_ok() }
    })
    .await
}
