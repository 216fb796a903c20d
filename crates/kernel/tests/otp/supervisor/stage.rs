//! Where the rows play: children that do as they are told and write down when they come and go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Receipt, Seq};
use gemba_kernel::{
    ChildError, ChildInfo, ChildSpec, Context, DynamicRef, DynamicSupervisor, Node, Reply, Server,
    ServerSpec, Stop, Supervisor, SupervisorRef, System, server,
};
use tokio::sync::watch;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Runs,
    Fails,
    Panics,
    Ignores,
    /// Until the script says otherwise.
    Hangs,
}

/// What a child does when it is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stops {
    AtOnce,
    After(Duration),
    Never,
    Panics,
}

/// What a child is told.
#[derive(Debug)]
pub(crate) enum Told {
    End(End),
    Life(Reply<Incarnation>),
}

/// How a child ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Normal,
    Shutdown,
    Error,
    Panic,
    Kill,
}

impl End {
    pub(crate) const CLEAN: [Self; 2] = [Self::Normal, Self::Shutdown];
    pub(crate) const ABNORMAL: [Self; 3] = [Self::Error, Self::Panic, Self::Kill];
    pub(crate) const ALL: [Self; 5] = [Self::Normal, Self::Shutdown, Self::Error, Self::Panic, Self::Kill];

    /// Whether `reason` is what such an end is told as.
    pub(crate) fn is(self, reason: &ExitReason) -> bool {
        match self {
            Self::Normal => *reason == ExitReason::Normal,
            Self::Shutdown => *reason == ExitReason::ShutdownWith { why: "told to".into() },
            Self::Error => *reason == ExitReason::Error { message: "told to".into() },
            Self::Panic => {
                matches!(reason, ExitReason::Panic { message, location: Some(_) } if &**message == "told to")
            }
            Self::Kill => *reason == ExitReason::Killed,
        }
    }
}

/// What all children of a row have written: `+a` it runs, `-a` it is gone, `!a` its start failed, `?a` it
/// declined, `…a` its start hangs, `~a` it was asked to stop and takes its time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<watch::Sender<Vec<String>>>);

impl Trace {
    pub(crate) fn write(&self, sign: &str, name: &str) {
        self.0.send_modify(|steps| steps.push(format!("{sign}{name}")));
    }

    /// What was written since it was last taken.
    pub(crate) fn take(&self) -> String {
        let mut taken = Vec::new();
        self.0.send_if_modified(|steps| {
            taken = std::mem::take(steps);
            false
        });
        taken.join(" ")
    }

    pub(crate) async fn wait_for(&self, step: &str) {
        let mut steps = self.0.subscribe();
        let written = steps.wait_for(|steps| steps.iter().any(|written| written == step));
        let in_time = tokio::time::timeout(Duration::from_secs(3600), written).await;
        in_time.unwrap_or_else(|_| panic!("no step {step}")).expect("the trace is held here");
    }

    /// A child that runs, and stops when it is asked to, unless it is told otherwise.
    pub(crate) fn kid(&self, name: &str) -> Kid {
        let script = Script { next: VecDeque::new(), then: Start::Runs };
        Kid {
            name: name.to_owned(),
            script: Arc::new(watch::Sender::new(script)),
            stops: Stops::AtOnce,
            trace: self.clone(),
        }
    }

    /// The spec of such a child.
    pub(crate) fn spec(&self, name: &str) -> ServerSpec<Player> {
        self.kid(name).spec()
    }

    /// Such children added to a supervisor.
    pub(crate) fn fill(&self, supervisor: Supervisor, names: &[&str]) -> Supervisor {
        names.iter().fold(supervisor, |supervisor, name| supervisor.child(self.spec(name)))
    }
}

struct Script {
    next: VecDeque<Start>,
    then: Start,
}

/// A child whose starts and stop are scripted.
#[derive(Clone)]
pub(crate) struct Kid {
    name: String,
    script: Arc<watch::Sender<Script>>,
    stops: Stops,
    trace: Trace,
}

impl Kid {
    /// How its next starts go, before those it was last told to make from now on.
    pub(crate) fn starts(&self, next: impl IntoIterator<Item = Start>) {
        self.script.send_modify(|script| script.next.extend(next));
    }

    /// How all its starts go from now on, one that hangs included.
    pub(crate) fn always(&self, then: Start) {
        self.script.send_modify(|script| script.then = then);
    }

    pub(crate) fn stopping(mut self, stops: Stops) -> Self {
        self.stops = stops;
        self
    }

    pub(crate) fn spec(&self) -> ServerSpec<Player> {
        let kid = self.clone();
        server(&self.name, move || Player { kid: kid.clone(), up: false })
    }
}

/// One life of a [`Kid`].
pub(crate) struct Player {
    kid: Kid,
    up: bool,
}

impl Player {
    fn write(&self, sign: &str) {
        self.kid.trace.write(sign, &self.kid.name);
    }
}

impl Server for Player {
    type Msg = Told;

    async fn init(&mut self, _: &mut Context<Told>) -> Result<(), Stop> {
        let mut start = Start::Runs;
        self.kid.script.send_if_modified(|script| {
            start = script.next.pop_front().unwrap_or(script.then);
            false
        });
        if start == Start::Hangs {
            self.write("…");
            let mut script = self.kid.script.subscribe();
            let script = script.wait_for(|script| script.then != Start::Hangs).await;
            start = script.expect("the kid holds it").then;
        }
        match start {
            Start::Runs => {
                self.write("+");
                self.up = true;
                Ok(())
            }
            Start::Fails => {
                self.write("!");
                Err(Stop::error("told not to"))
            }
            Start::Panics => {
                self.write("!");
                panic!("told not to")
            }
            Start::Ignores => {
                self.write("?");
                Err(Stop::ignore())
            }
            Start::Hangs => unreachable!("it was waited for"),
        }
    }

    async fn handle(&mut self, told: Told, ctx: &mut Context<Told>) -> Result<(), Stop> {
        match told {
            Told::End(End::Normal) => Err(Stop::normal()),
            Told::End(End::Shutdown) => Err(Stop::shutdown("told to")),
            Told::End(End::Error) => Err(Stop::error("told to")),
            Told::End(End::Panic) => panic!("told to"),
            Told::End(End::Kill) => unreachable!("the system kills"),
            Told::Life(reply) => {
                reply.send(ctx.incarnation());
                Ok(())
            }
        }
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        if *reason != ExitReason::Shutdown || self.kid.stops == Stops::AtOnce {
            return;
        }
        self.write("~");
        match self.kid.stops {
            Stops::AtOnce => {}
            Stops::After(time) => tokio::time::sleep(time).await,
            Stops::Never => std::future::pending().await,
            Stops::Panics => panic!("told to"),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if self.up {
            self.write("-");
        }
    }
}

/// A running supervisor that can be asked about its children.
pub(crate) trait Asked {
    async fn counts(&self) -> [usize; 4];
    async fn which(&self) -> Vec<ChildInfo>;
    async fn add(&self, child: ChildSpec) -> Result<Option<Incarnation>, ChildError>;
    async fn terminate(&self, name: &str) -> Result<(), ChildError>;
}

macro_rules! asked {
    ($handle:ty) => {
        impl Asked for $handle {
            async fn counts(&self) -> [usize; 4] {
                let counts = self.count_children().await.expect("the supervisor runs");
                [counts.specs, counts.active, counts.supervisors, counts.workers]
            }

            async fn which(&self) -> Vec<ChildInfo> {
                self.which_children().await.expect("the supervisor runs")
            }

            async fn add(&self, child: ChildSpec) -> Result<Option<Incarnation>, ChildError> {
                self.start_child(child).await.map(|started| started.map(|started| started.incarnation))
            }

            async fn terminate(&self, name: &str) -> Result<(), ChildError> {
                self.terminate_child(name).await
            }
        }
    };
}

asked!(SupervisorRef);
asked!(DynamicRef);

/// A node with one supervisor, `/top`, that is not restarted.
pub(crate) struct Stage<R> {
    pub(crate) node: Node,
    pub(crate) top: R,
}

/// Raises the curtain on a static supervisor called `top`.
pub(crate) async fn stage(top: Supervisor) -> Stage<SupervisorRef> {
    let handle = top.handle();
    let node = Node::builder("row").stop_limit(DAY).child(top.temporary()).start().await;
    Stage { node: node.expect("the row starts"), top: handle }
}

/// Raises the curtain on a dynamic one.
pub(crate) async fn dynamic_stage(top: DynamicSupervisor) -> Stage<DynamicRef> {
    let handle = top.handle();
    let node = Node::builder("row").stop_limit(DAY).child(top.temporary()).start().await;
    Stage { node: node.expect("the row starts"), top: handle }
}

fn path_of(name: &str) -> ActorPath {
    let path = if name.is_empty() { "/top".to_owned() } else { format!("/top/{name}") };
    path.parse().expect("a row's names are valid")
}

impl<R: Asked> Stage<R> {
    /// Tells a child below the top to end.
    pub(crate) fn end(&self, name: &str, end: End) {
        tell(self.node.system(), path_of(name).as_str(), end);
    }

    /// Tells a child to end, and waits until its supervisor has decided about it.
    pub(crate) async fn end_and_wait(&self, name: &str, end: End) -> ExitReason {
        let seen = self.exits(name).len();
        self.end(name, end);
        let reason = self.exit(name, seen).await;
        self.top.counts_or_gone().await;
        reason
    }

    /// The reason of the exit number `n`, from 0, of a child, or of the top itself.
    pub(crate) async fn exit(&self, name: &str, n: usize) -> ExitReason {
        exit(self.node.system(), path_of(name).as_str(), n).await
    }

    /// Why the top ended.
    pub(crate) async fn ended(&self) -> ExitReason {
        self.exit("", 0).await
    }

    /// The reasons of all exits of a child so far.
    pub(crate) fn exits(&self, name: &str) -> Vec<ExitReason> {
        exits(self.node.system(), path_of(name).as_str())
    }

    /// Waits for the restart number `n`, from 0, of a child.
    pub(crate) async fn restarted(&self, name: &str, n: usize) {
        let path = path_of(name);
        let what = format!("a restart of {path}");
        receipt_where(self.node.system(), &what, n, |receipt| is_restart_of(&path, receipt)).await;
    }

    /// How many restarts of a child have been told so far.
    pub(crate) fn restarts(&self, name: &str) -> usize {
        let path = path_of(name);
        let told = self.node.system().journal().after(Seq(0), Some(&path), usize::MAX).receipts;
        told.iter().filter(|receipt| is_restart_of(&path, receipt)).count()
    }

    /// Each child as `name=status`, in the order they are listed.
    pub(crate) async fn list(&self) -> String {
        let infos = self.top.which().await;
        let told: Vec<_> = infos.iter().map(|info| format!("{}={:?}", info.name, info.status)).collect();
        told.join(" ")
    }

    /// The life of each child that runs, by the order they are listed.
    pub(crate) async fn lives(&self) -> Vec<Option<Incarnation>> {
        self.top.which().await.iter().map(|info| info.incarnation).collect()
    }

    /// Stops the node, and tells what is left to read.
    pub(crate) async fn stop(self) -> System {
        let system = self.node.system().clone();
        self.node.stop("the row is over").await.expect("the row stops");
        system
    }

    /// Stops the node, and checks that the top ended as asked.
    pub(crate) async fn stops_cleanly(self) {
        let system = self.stop().await;
        assert_eq!(exits(&system, "/top"), [ExitReason::Shutdown]);
    }
}

/// An answer that comes when the supervisor has decided about all it was told before, or is gone.
trait Settled {
    async fn counts_or_gone(&self);
}

impl<R: Asked> Settled for R {
    async fn counts_or_gone(&self) {
        // Any request waits its turn; the name of nobody changes nothing.
        let _ = self.terminate("nobody").await;
    }
}

/// Tells the child at a path to end.
pub(crate) fn tell(system: &System, path: &str, end: End) {
    let path = path.parse().expect("a row's names are valid");
    if end == End::Kill {
        system.kill(&path, "the row").expect("the child runs");
        return;
    }
    let address = system.address::<Told>(&path).expect("the child is there");
    address.cast(Told::End(end)).expect("the child runs");
}

/// The reason of the exit number `n`, from 0, at a path.
pub(crate) async fn exit(system: &System, path: &str, n: usize) -> ExitReason {
    let what = format!("an exit of {path}");
    let found = receipt_where(system, &what, n, |receipt| {
        receipt.path.as_str() == path && reason_of(receipt).is_some()
    });
    reason_of(&*found.await).expect("it is an exit").clone()
}

/// The reasons of all exits at a path so far.
pub(crate) fn exits(system: &System, path: &str) -> Vec<ExitReason> {
    let path = path.parse().expect("a row's names are valid");
    let all = system.journal().after(Seq(0), Some(&path), usize::MAX).receipts;
    all.iter()
        .filter(|receipt| receipt.path == path)
        .filter_map(|receipt| reason_of(receipt).cloned())
        .collect()
}

fn is_restart_of(path: &ActorPath, receipt: &Receipt) -> bool {
    receipt.path == *path && matches!(receipt.event, Event::ChildRestarted { .. })
}

fn reason_of(receipt: &Receipt) -> Option<&ExitReason> {
    if let Event::ChildExited { reason, .. } = &receipt.event { Some(reason) } else { None }
}

/// Waits for the receipt number `n`, from 0, for which `is` holds.
pub(crate) async fn receipt_where(
    system: &System,
    what: &str,
    n: usize,
    is: impl Fn(&Receipt) -> bool,
) -> Arc<Receipt> {
    let mut newest = system.journal().subscribe();
    let (mut read, mut seen) = (Seq(0), 0);
    tokio::time::timeout(Duration::from_secs(3600), async {
        loop {
            let page = system.journal().after(read, None, usize::MAX);
            read = page.next;
            for receipt in page.receipts.into_iter().filter(|receipt| is(receipt)) {
                if seen == n {
                    return receipt;
                }
                seen += 1;
            }
            newest.changed().await.expect("the system holds the journal");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}: no number {n}"))
}
