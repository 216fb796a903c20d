//! Our side: servers, tasks and supervisors of the kernel, and a line over a pool.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use gauge::{Case, Exit, Figures, GROUP, Job, Life, ON_PURPOSE, POOL, Strategy, Tree, WINDOW, Which};
use gemba::breaker::BreakerRules;
use gemba::name::ActorPath;
use gemba::{
    Action, Address, CastError, ChildSpec, Context, JobContext, LineSpec, Node, Plant, PoolSpec, Reply,
    Server, Signal, Stop, Supervisor, server, task,
};

/// Does one job.
pub(crate) async fn measure(job: Job) -> Figures {
    match job.case {
        Case::Call { callers } => calls(job.size, callers).await,
        Case::Cast => casts(job.size).await,
        Case::Children { tasks } => children(job.size, tasks).await,
        Case::Restart(..) | Case::Worn(_) | Case::Crowd(_) | Case::Sustained => {
            gauge::restarts::<Ours>(job).await
        }
        Case::Pool { clients } => pool(job.size, clients).await,
    }
}

enum Msg {
    Add(u64),
    Ask(Reply<u64>),
    Life(Reply<u64>),
    Fail,
    Panic,
}

struct Child {
    life: Life,
    sum: u64,
}

impl Child {
    fn new() -> Self {
        Self { life: Life::new(), sum: 0 }
    }
}

impl Server for Child {
    type Msg = Msg;

    async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Add(n) => self.sum += n,
            Msg::Ask(reply) => reply.send(self.sum),
            Msg::Life(reply) => reply.send(self.life.number()),
            Msg::Fail => return Err(Stop::error(ON_PURPOSE)),
            Msg::Panic => panic!("{ON_PURPOSE}"),
        }
        Ok(())
    }
}

fn child(name: &str) -> (Address<Msg>, ChildSpec) {
    let spec = server(name, Child::new);
    (spec.address(), spec.into())
}

async fn calls(size: u64, callers: u64) -> Figures {
    let (address, spec) = child("echo");
    let _node = Node::builder("bench").child(spec).start().await.expect("the node starts");
    gauge::calls(callers, size, move |_| {
        let address = address.clone();
        async move { address.call(Msg::Ask).await.is_ok() }
    })
    .await
}

/// A full mailbox gives the message back; the sender gives way and tries again.
async fn casts(size: u64) -> Figures {
    let (address, spec) = child("sum");
    let _node = Node::builder("bench").child(spec).start().await.expect("the node starts");
    gauge::casts(size, |size| {
        let address = address.clone();
        async move {
            for n in 0..size {
                insist(&address, Msg::Add(n)).await;
            }
            let (reply, answer) = (Msg::Ask, &address);
            while answer.call(reply).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    })
    .await
}

async fn insist(address: &Address<Msg>, message: Msg) {
    let mut message = message;
    while let Err(error) = address.cast(message) {
        assert!(matches!(error, CastError::Full { .. }), "{error:?}");
        message = error.into_message();
        tokio::task::yield_now().await;
    }
}

async fn children(size: u64, tasks: bool) -> Figures {
    let supervisor = Supervisor::dynamic("children").intensity(u32::MAX, WINDOW);
    let handle = supervisor.handle();
    let node = Node::builder("bench").child(supervisor).start().await.expect("the node starts");
    let start = || async {
        for n in 0..size {
            let name = n.to_string();
            let spec: ChildSpec = if tasks { idle(&name).into() } else { child(&name).1 };
            handle.start_child(spec).await.expect("the child starts");
        }
        node
    };
    gauge::children(size, start, |node| async { node.stop("done").await.expect("it stops") }).await
}

fn idle(name: &str) -> gemba::TaskSpec {
    task(name, |ctx| {
        let life = Life::new();
        async move {
            ctx.stopped().await;
            drop(life);
            Ok(())
        }
    })
}

struct Ours {
    node: Node,
    first: Address<Msg>,
    first_path: ActorPath,
    last: Address<Msg>,
}

impl Tree for Ours {
    async fn start(strategy: Strategy, siblings: u64) -> Self {
        let group = match strategy {
            Strategy::OneForOne => 1,
            Strategy::OneForAll | Strategy::RestForOne => GROUP,
        };
        let mut supervisor = match strategy {
            Strategy::OneForOne => Supervisor::one_for_one("group"),
            Strategy::OneForAll => Supervisor::one_for_all("group"),
            Strategy::RestForOne => Supervisor::rest_for_one("group"),
        };
        supervisor = supervisor.intensity(u32::MAX, WINDOW);
        let (addresses, specs): (Vec<_>, Vec<_>) = (0..group).map(|n| child(&n.to_string())).unzip();
        let siblings = (0..siblings).map(|n| child(&format!("sibling-{n}")).1);
        for spec in specs.into_iter().chain(siblings) {
            supervisor = supervisor.child(spec);
        }
        let node = Node::builder("bench").child(supervisor).start().await.expect("the node starts");
        let first_path = ActorPath::new("/group/0").expect("a valid literal");
        let last = addresses.last().expect("a group has a child").clone();
        Self { node, first: addresses[0].clone(), first_path, last }
    }

    async fn crash(&self, how: Exit) {
        match how {
            Exit::Error => self.first.cast(Msg::Fail).expect("it runs, and its mailbox is empty"),
            Exit::Panic => self.first.cast(Msg::Panic).expect("it runs, and its mailbox is empty"),
            Exit::Kill => {
                self.node.system().kill(&self.first_path, "bench").expect("it runs");
            }
        }
    }

    async fn life(&self, which: Which) -> Option<u64> {
        let child = if which == Which::First { &self.first } else { &self.last };
        child.call(Msg::Life).await.ok()
    }

    async fn stop(self) {
        self.node.stop("done").await.expect("it stops");
    }
}

struct Answer;

impl Action for Answer {
    type Input = u64;
    type Output = u64;
    type Error = Infallible;

    fn run(&self, n: u64, _: &JobContext) -> impl Future<Output = Result<u64, Infallible>> + Send {
        std::future::ready(Ok(n))
    }
}

/// The whole line: admission, policy, routing, the pool, breaker and metrics.
async fn pool(size: u64, clients: u64) -> Figures {
    let builder = Node::builder("bench");
    let mut plant = Plant::builder(builder.system()).pool(PoolSpec::new("work").workers(POOL, POOL));
    let breaker = BreakerRules::builder().build().expect("the defaults are in range");
    let line = Arc::new(plant.line(LineSpec::new("work", Answer).breaker(breaker)));
    let plant = plant.build().expect("the plant is sound");
    let _node = builder.child(plant).start().await.expect("the node starts");
    gauge::calls(clients, size, move |n| {
        let line = line.clone();
        async move { line.submit(Signal::new(n), &()).await.is_ok() }
    })
    .await
}
