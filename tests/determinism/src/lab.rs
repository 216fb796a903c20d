//! The lab: supervisors of every strategy, over servers and tasks that crash, hang, end, watch and link each other.

use std::time::Duration;

use gemba::exit::ExitReason;
use gemba::name::ActorPath;
use gemba::{
    Address, ChildSpec, Context, Down, DynamicRef, Exit, Reply, Server, ServerSpec, Shutdown, Stop,
    Supervisor, SupervisorRef, TaskContext, server, task,
};

use crate::draw::{Draw, Who};
use crate::log::{Fact, Log};

/// How often a server of the lab does something by itself.
const TICK: Duration = Duration::from_millis(150);

/// How long nothing goes wrong at first: longer than all slow starts together.
const START: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Msg {
    Work(Duration),
    Ask(Duration, Reply<u64>),
    Poison,
    Fail,
    End,
    Tick,
    Down(Down),
    Exit(Exit),
}

/// What all servers of the lab share.
#[derive(Debug, Clone)]
struct Common {
    seed: u64,
    lasts: Duration,
    log: Log,
    /// Whom a server may watch and link.
    paths: Vec<ActorPath>,
}

impl Common {
    /// Whether it is time for mischief: not while the tree starts, and not when it is to be whole again.
    fn is_wild(&self) -> bool {
        START < self.log.now() && self.log.now() < self.lasts
    }
}

/// One life of a server.
struct Creature {
    common: Common,
    alive: Option<Alive>,
    draw: Draw,
    handled: u64,
    /// Whom it shares its fate with.
    linked: Option<ActorPath>,
}

/// Says when a life is gone, however it ends.
struct Alive {
    path: String,
    incarnation: u64,
    log: Log,
}

impl Alive {
    fn new(path: &ActorPath, incarnation: u64, log: &Log) -> Self {
        let path = path.to_string();
        log.fact(Fact::Born(path.clone(), incarnation), format_args!("{path} lives as {incarnation}"));
        Self { path, incarnation, log: log.clone() }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let Self { path, incarnation, log } = self;
        log.fact(Fact::Dead(path.clone(), *incarnation), format_args!("{path} was {incarnation}"));
    }
}

impl Server for Creature {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        let incarnation = ctx.incarnation().0;
        self.draw = Draw::new(self.common.seed, Who::Life(incarnation));
        self.alive = Some(Alive::new(ctx.path(), incarnation, &self.common.log));
        let is_wild = self.common.is_wild();
        match self.draw.between(1, 20) {
            1 if is_wild => return Err(Stop::error("a bad start")),
            2 if is_wild => panic!("a worse start"),
            3..=6 => tokio::time::sleep(self.draw.millis(1, 40)).await,
            _ => {}
        }
        if self.draw.percent(30) {
            ctx.trap_exits(Msg::Exit);
        }
        if is_wild && self.draw.percent(30) {
            let peer = self.draw.below(self.common.paths.len());
            ctx.link(&self.common.paths[peer]);
            self.linked = Some(self.common.paths[peer].clone());
        }
        for _ in 0..2 {
            let peer = self.draw.below(self.common.paths.len());
            ctx.monitor(&self.common.paths[peer], Msg::Down);
        }
        ctx.every(TICK, || Msg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        self.handled += 1;
        match msg {
            Msg::Work(time) => tokio::time::sleep(time).await,
            Msg::Ask(time, reply) => {
                tokio::time::sleep(time).await;
                reply.send(self.handled);
            }
            Msg::Poison => panic!("poison"),
            Msg::Fail => return Err(Stop::error("asked to fail")),
            Msg::End => return Err(Stop::normal()),
            Msg::Tick => self.tick(ctx),
            Msg::Down(down) => {
                self.common.log.write(format_args!(
                    "{} hears that {} is down: {}",
                    ctx.path(),
                    down.path,
                    down.reason
                ));
                let delay = self.draw.millis(1, 50);
                ctx.start_timer("again", delay, Msg::Work(Duration::ZERO));
            }
            Msg::Exit(exit) => {
                self.common.log.write(format_args!("{} survives {}: {}", ctx.path(), exit.path, exit.reason));
            }
        }
        Ok(())
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        if let Some(alive) = &self.alive {
            alive.log.write(format_args!("{} ends, {} handled: {reason}", alive.path, self.handled));
        }
        // Some take longer than they may, and are killed.
        tokio::time::sleep(self.draw.millis(0, 120)).await;
    }
}

impl Creature {
    fn tick(&mut self, ctx: &mut Context<Msg>) {
        // In the end each shall be stopped for itself.
        if let Some(peer) = self.linked.take_if(|_| !self.common.is_wild()) {
            ctx.unlink(&peer);
        }
        match self.draw.between(1, 100) {
            1 if self.common.is_wild() => panic!("by itself"),
            2..=30 => ctx.continue_with(Msg::Work(self.draw.millis(0, 5))),
            31..=40 => ctx.receive_timeout(self.draw.millis(1, 60), Msg::Work(Duration::ZERO)),
            _ => {}
        }
    }
}

async fn errand(common: Common, ctx: TaskContext) -> Result<(), Stop> {
    let incarnation = ctx.incarnation().0;
    let mut draw = Draw::new(common.seed, Who::Life(incarnation));
    let _alive = Alive::new(ctx.path(), incarnation, &common.log);
    let stopped = ctx.stopped();
    let lasts = START + draw.pause(Duration::from_secs(4));
    let is_to_the_end = common.lasts < common.log.now() + lasts;
    let lasts = if is_to_the_end { Duration::MAX } else { lasts };
    if tokio::time::timeout(lasts, stopped).await.is_ok() {
        tokio::time::sleep(draw.millis(0, 120)).await;
        return Ok(());
    }
    match draw.between(1, 3) {
        1 => Ok(()),
        2 => Err(Stop::error("the errand failed")),
        _ => panic!("the errand went wrong"),
    }
}

/// How the lab is reached while it runs.
#[derive(Debug)]
pub(crate) struct Lab {
    common: Common,
    pub addresses: Vec<Address<Msg>>,
    /// Every server and task there is from the start.
    pub paths: Vec<ActorPath>,
    pub trees: Vec<SupervisorRef>,
    pub crowd: DynamicRef,
}

impl Lab {
    /// Puts the lab together, and what to start.
    pub(crate) fn new(seed: u64, lasts: Duration, draw: &mut Draw, log: &Log) -> (Self, Supervisor) {
        let paths: Vec<ActorPath> = ["one", "all", "rest"]
            .iter()
            .flat_map(|tree| ["a", "b", "c", "d"].map(|child| format!("/lab/{tree}/{child}")))
            .map(|path| path.parse().expect("a valid path"))
            .collect();
        let common = Common { seed, lasts, log: log.clone(), paths: paths.clone() };
        let (mut addresses, mut trees) = (Vec::new(), Vec::new());
        let mut lab = Supervisor::one_for_one("lab").intensity(8, Duration::from_secs(10));
        for tree in
            [Supervisor::one_for_one("one"), Supervisor::one_for_all("all"), Supervisor::rest_for_one("rest")]
        {
            let mut tree = tree.intensity(draw.between(2, 20) as u32, draw.millis(1_000, 8_000));
            for child in ["a", "b", "d"] {
                let spec = creature(child, &common).stuck_after(Duration::from_millis(400));
                addresses.push(spec.address());
                let spec = spec.shutdown(Shutdown::Within(Duration::from_millis(100)));
                tree = tree.child(if child == "d" { ChildSpec::from(spec.transient()) } else { spec.into() });
                if child == "b" {
                    let common = common.clone();
                    let errand = task("c", move |ctx| errand(common.clone(), ctx));
                    tree = tree.child(errand.shutdown(Shutdown::Within(Duration::from_millis(100))));
                }
            }
            trees.push(tree.handle());
            lab = lab.child(tree);
        }
        let crowd = Supervisor::dynamic("crowd").intensity(5, Duration::from_secs(5)).children_max(20);
        let handle = crowd.handle();
        (Self { common, addresses, paths, trees, crowd: handle }, lab.child(crowd))
    }

    /// One more server, for those who add children.
    pub(crate) fn newcomer(&self, name: &str) -> ServerSpec<impl Server<Msg = Msg> + use<>> {
        creature(name, &self.common)
    }
}

fn creature(name: &str, common: &Common) -> ServerSpec<Creature> {
    let common = common.clone();
    server(name, move || Creature {
        draw: Draw::new(common.seed, Who::Life(0)),
        common: common.clone(),
        alive: None,
        handled: 0,
        linked: None,
    })
    .mailbox(16)
}
