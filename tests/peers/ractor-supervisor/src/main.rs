//! ractor-supervisor's side of `just bench-otp`: its static and its dynamic supervisor, as it comes.

#![allow(clippy::disallowed_types, reason = "how a child leaves its reference to whoever measures")]

use std::sync::{Arc, Mutex, PoisonError};

use gauge::{Case, Exit, Figures, GROUP, Job, Life, ON_PURPOSE, Strategy, Tree, WINDOW, Which};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr};
use ractor_supervisor::{
    ChildSpec, DynamicSupervisor, DynamicSupervisorOptions, Restart, SpawnFn, Supervisor,
    SupervisorArguments, SupervisorMsg, SupervisorOptions, SupervisorStrategy,
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let word = arguments.next();
    assert_eq!(word.as_deref(), Some("measure"), "`just bench-otp` runs this");
    gauge::run(arguments, measure);
}

async fn measure(job: Job) -> Figures {
    match job.case {
        Case::Children { tasks: false } => children(job.size).await,
        Case::Restart(..) | Case::Worn(_) | Case::Crowd(_) | Case::Sustained => {
            gauge::restarts::<Static>(job).await
        }
        Case::Call { .. } | Case::Cast | Case::Children { tasks: true } | Case::Pool { .. } => {
            panic!("its children are plain ractor actors")
        }
    }
}

/// Where a child leaves the reference to its present life.
type Present = Arc<Mutex<Option<ActorRef<Msg>>>>;

struct Child;

enum Msg {
    Life(RpcReplyPort<u64>),
    Fail,
    Panic,
}

#[ractor::async_trait]
impl Actor for Child {
    type Msg = Msg;
    type State = Life;
    type Arguments = Option<Present>;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        present: Option<Present>,
    ) -> Result<Life, ActorProcessingErr> {
        if let Some(present) = present {
            *present.lock().unwrap_or_else(PoisonError::into_inner) = Some(myself);
        }
        Ok(Life::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Msg>,
        message: Msg,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Life(reply) => Ok(reply.send(life.number())?),
            Msg::Fail => Err(ON_PURPOSE.into()),
            Msg::Panic => panic!("{ON_PURPOSE}"),
        }
    }
}

async fn spawn(supervisor: ActorCell, id: String, present: Option<Present>) -> Result<ActorCell, SpawnErr> {
    Ok(Supervisor::spawn_linked(id, Child, present, supervisor).await?.0.get_cell())
}

fn spec(id: String, present: Option<Present>) -> ChildSpec {
    let spawn_fn = SpawnFn::new(move |supervisor, id| spawn(supervisor, id, present.clone()));
    ChildSpec { id, restart: Restart::Permanent, spawn_fn, backoff_fn: None, reset_after: None }
}

struct Static {
    supervisor: ActorRef<SupervisorMsg>,
    first: Present,
    last: Present,
}

fn present(at: &Present) -> Option<ActorRef<Msg>> {
    at.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Tree for Static {
    async fn start(strategy: Strategy, siblings: u64) -> Self {
        let (group, strategy) = match strategy {
            Strategy::OneForOne => (1, SupervisorStrategy::OneForOne),
            Strategy::OneForAll => (GROUP, SupervisorStrategy::OneForAll),
            Strategy::RestForOne => (GROUP, SupervisorStrategy::RestForOne),
        };
        // Its names are global, and some are given free only after the supervisor has ended.
        let tree = Life::new().number();
        let presents: Vec<_> = (0..group).map(|_| Present::default()).collect();
        let named = presents
            .iter()
            .enumerate()
            .map(|(n, present)| spec(format!("{tree}-{n}"), Some(present.clone())));
        let others = (0..siblings).map(|n| spec(format!("sibling-{n}"), None));
        let arguments = SupervisorArguments {
            child_specs: named.chain(others).collect(),
            options: SupervisorOptions {
                strategy,
                max_restarts: usize::MAX,
                max_window: WINDOW,
                reset_after: None,
            },
        };
        let (supervisor, _) = Supervisor::spawn(format!("{tree}"), arguments).await.expect("it starts");
        let tree =
            Self { supervisor, first: presents[0].clone(), last: presents[presents.len() - 1].clone() };
        while tree.life(Which::Last).await.is_none() {
            tokio::task::yield_now().await;
        }
        tree
    }

    async fn crash(&self, how: Exit) {
        let first = present(&self.first).expect("it was started");
        match how {
            Exit::Error => first.cast(Msg::Fail).expect("it runs"),
            Exit::Panic => first.cast(Msg::Panic).expect("it runs"),
            Exit::Kill => first.kill(),
        }
    }

    async fn life(&self, which: Which) -> Option<u64> {
        let child = if which == Which::First { &self.first } else { &self.last };
        // A call to a child that a group restart overtakes may never be answered.
        ractor::call_t!(present(child)?, Msg::Life, 1000).ok()
    }

    async fn stop(self) {
        self.supervisor.stop_and_wait(None, None).await.expect("it runs");
    }
}

async fn children(size: u64) -> Figures {
    let options = DynamicSupervisorOptions {
        max_children: None,
        max_restarts: usize::MAX,
        max_window: WINDOW,
        reset_after: None,
    };
    let (supervisor, _) = DynamicSupervisor::spawn("children".into(), options).await.expect("it starts");
    let start = || async {
        for n in 0..size {
            let child = spec(n.to_string(), None);
            DynamicSupervisor::spawn_child(supervisor.clone(), child).await.expect("the child starts");
        }
        supervisor
    };
    gauge::children(size, start, |supervisor| async move {
        supervisor.stop_and_wait(None, None).await.expect("it runs");
    })
    .await
}
