//! Supervisors as children: the rules, and a list that may be made anew for each life.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use gemba_core::exit::ExitReason;
use gemba_core::name::Name;
use gemba_core::supervision::{AutoShutdown, Backoff, Flags, GiveUp, Intensity, Strategy, Supervision};
use gemba_core::view::ActorKind;
use ractor::{Actor, ActorCell};
use tokio::sync::oneshot;

use crate::bonds::Killer;
use crate::child::{ABOVE, ChildSpec, Shutdown, SpecError, check_supervisor, child_from, child_rules};
use crate::exit::{Stop, guarded_call};
use crate::handle::{Current, DynamicRef, SupervisorRef};
use crate::shell::{Beginning, Message, SupervisorActor};
use crate::start::{Birth, Handle, NoStart, Start, Stopper};

/// A supervisor as a child: a strategy, an intensity, and children in order.
///
/// Children start in the order in which they are added, each when the one before it runs, and stop in reverse. A
/// child that ends is restarted by its own rule, `permanent` unless it says otherwise, and by the strategy; more
/// restarts than the intensity allows, and the supervisor ends and leaves it to its own.
///
/// # Units and limits
///
/// Defaults: 3 restarts in 5 s, no back-off, no auto-shutdown, [`CHILDREN_MAX`](gemba_core::supervision::CHILDREN_MAX)
/// children.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_kernel::{Supervisor, task};
///
/// let pools = Supervisor::rest_for_one("pools")
///     .intensity(10, Duration::from_secs(60))
///     .child(task("db", |ctx| async move { ctx.stopped().await; Ok(()) }))
///     .child(task("cache", |ctx| async move { ctx.stopped().await; Ok(()) }).transient());
/// assert!(pools.check().is_empty());
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let handle = pools.handle();
/// let node = gemba_kernel::Node::builder("example").child(pools).start().await?;
/// assert_eq!(handle.count_children().await?.active, 2);
/// node.stop("done").await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct Supervisor {
    child: ChildSpec,
    flags: Flags,
    children: Vec<ChildSpec>,
    current: Arc<Current>,
}

/// A supervisor whose children come and go while it runs: each is restarted alone, and all stop at once.
///
/// # Units and limits
///
/// As for [`Supervisor`]; [`children_max`](Self::children_max) bounds how many there are.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Node, Supervisor, task};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let sessions = Supervisor::dynamic("sessions").children_max(10_000);
/// let handle = sessions.handle();
/// let node = Node::builder("demo").child(sessions).start().await?;
/// let session = task("ada", |ctx| async move { ctx.stopped().await; Ok(()) }).temporary();
/// handle.start_child(session).await?;
/// assert_eq!(handle.count_children().await?.active, 1);
/// handle.terminate_child("ada").await?;
/// node.stop("done").await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[doc(alias = "simple_one_for_one")]
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct DynamicSupervisor {
    child: ChildSpec,
    flags: Flags,
    current: Arc<Current>,
}

impl Supervisor {
    /// Restarts only the child that died.
    pub fn one_for_one(name: &str) -> Self {
        Self::new(name, Strategy::OneForOne)
    }

    /// Restarts all children when one dies.
    pub fn one_for_all(name: &str) -> Self {
        Self::new(name, Strategy::OneForAll)
    }

    /// Restarts the child that died and those that started after it.
    pub fn rest_for_one(name: &str) -> Self {
        Self::new(name, Strategy::RestForOne)
    }

    /// Children come and go while it runs.
    #[doc(alias = "simple_one_for_one")]
    pub fn dynamic(name: &str) -> DynamicSupervisor {
        DynamicSupervisor {
            child: ChildSpec::new(name, Shutdown::Infinity, Arc::new(Nothing)),
            flags: Flags::new(Strategy::Dynamic),
            current: Arc::new(ArcSwapOption::empty()),
        }
    }

    fn new(name: &str, strategy: Strategy) -> Self {
        Self {
            child: ChildSpec::new(name, Shutdown::Infinity, Arc::new(Nothing)),
            flags: Flags::new(strategy),
            children: Vec::new(),
            current: Arc::new(ArcSwapOption::empty()),
        }
    }

    /// Adds a child behind those there are. Children start in order and stop in reverse.
    pub fn child(mut self, child: impl Into<ChildSpec>) -> Self {
        self.children.push(child.into());
        self
    }

    /// How to manage its children while it runs, in each of its lives.
    pub fn handle(&self) -> SupervisorRef {
        SupervisorRef::new(self.current.clone())
    }

    /// Everything that is wrong with it and those below it. Nothing is started.
    #[doc(alias = "check_childspecs")]
    pub fn check(&self) -> Vec<SpecError> {
        let mut errors = Vec::new();
        if let Err(error) = &self.child.name {
            errors.push(SpecError::Name { supervisor: ABOVE.to_owned(), error: error.clone() });
        }
        let name = self.child.name.as_ref().map_or("?", Name::as_str);
        check_supervisor(&self.flags, &self.children, &format!("/{name}"), &mut errors);
        errors
    }

    pub(crate) fn flags(&self) -> &Flags {
        &self.flags
    }
}

impl DynamicSupervisor {
    /// How to add and remove children while it runs, in each of its lives.
    pub fn handle(&self) -> DynamicRef {
        DynamicRef::new(self.current.clone())
    }
}

child_rules!(Supervisor);
child_rules!(DynamicSupervisor);

impl From<Supervisor> for ChildSpec {
    fn from(supervisor: Supervisor) -> Self {
        let Supervisor { child, flags, children, current } = supervisor;
        Self { start: Arc::new(SupervisorStart { flags, children: children.into(), current }), ..child }
    }
}

impl From<DynamicSupervisor> for ChildSpec {
    fn from(supervisor: DynamicSupervisor) -> Self {
        let DynamicSupervisor { child, flags, current } = supervisor;
        Self { start: Arc::new(SupervisorStart { flags, children: [].into(), current }), ..child }
    }
}

/// The rules both kinds of supervisor offer.
macro_rules! flags {
    ($supervisor:ident) => {
        impl $supervisor {
            /// How many restarts it makes within `period` before it gives up; default 3 in 5 s. A period of zero is
            /// refused when the node starts; 0 restarts mean that the first crash ends it. See
            /// [`Intensity`](gemba_core::supervision::Intensity) for what counts.
            pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
                self.flags.intensity = Intensity { restarts, period };
                self
            }

            /// Whether the end of significant children ends it; default never.
            pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
                self.flags.auto_shutdown = auto_shutdown;
                self
            }

            /// How long it waits before it restarts a child that keeps failing; default not at all. The first
            /// restart in a row comes at once, see [`Backoff`](gemba_core::supervision::Backoff).
            pub fn backoff(mut self, backoff: Backoff) -> Self {
                self.flags.backoff = backoff;
                self
            }

            /// What it ends with when it gives up; by default a transient supervisor is restarted then,
            /// with [`GiveUp::Cleanly`] it stays down, as in OTP.
            pub fn give_up(mut self, give_up: GiveUp) -> Self {
                self.flags.give_up = give_up;
                self
            }

            /// How many children it takes: 1 at least, default
            /// [`CHILDREN_MAX`](gemba_core::supervision::CHILDREN_MAX); a start beyond is refused with
            /// [`ChildError::Full`](crate::ChildError::Full).
            pub fn children_max(mut self, limit: usize) -> Self {
                self.flags.children_max = limit;
                self
            }
        }
    };
}

flags!(Supervisor);
flags!(DynamicSupervisor);

/// Stands in until a supervisor is handed over with its list.
struct Nothing;

impl Start for Nothing {
    fn kind(&self) -> ActorKind {
        ActorKind::Supervisor
    }

    fn start(&self, _: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        Box::pin(std::future::ready(Err(ExitReason::NoProc.into())))
    }
}

/// Kills a supervisor whose start nobody waits for any more.
struct KillUnlessStarted(Option<ActorCell>);

impl Drop for KillUnlessStarted {
    fn drop(&mut self) {
        if let Some(actor) = self.0.take() {
            actor.kill();
        }
    }
}

struct SupervisorStart {
    flags: Flags,
    children: Arc<[ChildSpec]>,
    current: Arc<Current>,
}

impl Start for SupervisorStart {
    fn kind(&self) -> ActorKind {
        ActorKind::Supervisor
    }

    fn strategy(&self) -> Option<Strategy> {
        Some(self.flags.strategy)
    }

    fn flags(&self) -> Option<Flags> {
        Some(self.flags)
    }

    fn children(&self) -> &[ChildSpec] {
        &self.children
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        Box::pin(begin(self.flags, self.children.clone(), self.current.clone(), birth))
    }
}

async fn begin(
    flags: Flags,
    children: Arc<[ChildSpec]>,
    current: Arc<Current>,
    birth: Birth,
) -> Result<Handle, NoStart> {
    let (ready, started) = oneshot::channel();
    let lifeline = Arc::downgrade(&birth.lifeline);
    let slot = birth.lifeline.slot.clone();
    let incarnation = birth.lifeline.incarnation;
    let supervision = Supervision::new(flags);
    let begin = Beginning { lifeline: birth.lifeline, cause: birth.cause, supervision, children, ready };
    // Not `Birth::spawn`: the lifeline has moved into the actor, which may already be gone.
    let spawned = Actor::spawn(None, SupervisorActor, begin).await;
    let (actor, _) = spawned.map_err(|error| ExitReason::error(&error))?;
    slot.set_killer(incarnation, Killer::Actor(actor.get_cell()));
    if slot.latch().is_some() {
        // Whoever set it before there was a way to reach this life could not tell it.
        let _ = actor.cast(Message::Latch);
    }
    current.store(Some(Arc::new(actor.clone())));
    // Dropping this future, as at the end of the time for a start, leaves nobody behind.
    let mut guard = KillUnlessStarted(Some(actor.get_cell()));
    match started.await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return Err(reason.into()),
        Err(_) => return Err(ExitReason::Killed.into()),
    }
    guard.0 = None;
    Ok(Handle::new(Killer::Actor(actor.get_cell()), Stopper::Supervisor(actor), lifeline))
}

/// A supervisor whose rules and children are made anew for each of its lives; made by [`supervisor`].
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct SupervisorInit {
    child: ChildSpec,
    current: Arc<Current>,
}

/// A supervisor called `name`; `init` is called for each life and says with whom it begins, or that there is
/// nothing to do: [`Stop::ignore`].
///
/// Of the supervisor that `init` makes, the strategy, the limits (intensity, back-off, auto-shutdown, giving up,
/// `children_max`) and the children count. What concerns its place is said here, where it stands: its own name,
/// `transient`, `temporary`, `significant` and `shutdown` have no effect there, and a
/// [`handle`](Supervisor::handle) taken there leads nowhere; take [`SupervisorInit::handle`].
///
/// An error or a panic in `init`, or rules that cannot be followed, are a failed start.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Stop, Supervisor, supervisor, task};
///
/// let shards = supervisor("shards", || {
///     let shards = std::env::var("SHARDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
///     if shards == 0 {
///         return Err(Stop::ignore());
///     }
///     Ok((0..shards).fold(Supervisor::one_for_one("shards"), |tree, n: u32| {
///         tree.child(task(&format!("{n}"), |ctx| async move { ctx.stopped().await; Ok(()) }))
///     }))
/// });
/// # let _ = shards;
/// ```
pub fn supervisor(
    name: &str,
    init: impl Fn() -> Result<Supervisor, Stop> + Send + Sync + 'static,
) -> SupervisorInit {
    let current = Arc::new(ArcSwapOption::empty());
    let start = InitStart { init: Box::new(init), current: current.clone() };
    SupervisorInit { child: ChildSpec::new(name, Shutdown::Infinity, Arc::new(start)), current }
}

impl SupervisorInit {
    /// How to manage its children while it runs, in each of its lives.
    pub fn handle(&self) -> SupervisorRef {
        SupervisorRef::new(self.current.clone())
    }
}

child_rules!(SupervisorInit);
child_from!(SupervisorInit);

struct InitStart {
    init: Box<dyn Fn() -> Result<Supervisor, Stop> + Send + Sync>,
    current: Arc<Current>,
}

impl Start for InitStart {
    fn kind(&self) -> ActorKind {
        ActorKind::Supervisor
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        let made = guarded_call(|| (self.init)());
        let current = self.current.clone();
        Box::pin(async move {
            let Supervisor { flags, children, .. } = made??;
            let mut errors = Vec::new();
            check_supervisor(&flags, &children, birth.path().as_str(), &mut errors);
            if !errors.is_empty() {
                let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
                return Err(ExitReason::Error { message: told.join("; ").into() }.into());
            }
            birth.lifeline.slot.set_strategy(birth.lifeline.incarnation, flags.strategy);
            begin(flags, children.into(), current, birth).await
        })
    }
}

#[cfg(test)]
mod tests {
    use gemba_core::exit::Incarnation;
    use gemba_core::receipt::{Event, Seq};
    use gemba_core::view::{ActorState, ActorView};
    use ractor::{ActorProcessingErr, ActorRef};

    use super::*;
    use crate::address::Reply;
    use crate::handle::ChildError;
    use crate::{Address, Context, Node, NodeError, Server, Stop, server, task};

    struct Echo;

    #[derive(Debug)]
    enum Msg {
        Ping(Reply<Incarnation>),
        Panic,
        Fail,
        Sleep(Duration),
    }

    impl Server for Echo {
        type Msg = Msg;

        async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
            match msg {
                Msg::Ping(reply) => reply.send(ctx.incarnation()),
                Msg::Panic => panic!("asked to"),
                Msg::Fail => return Err(Stop::error("asked to")),
                Msg::Sleep(time) => tokio::time::sleep(time).await,
            }
            Ok(())
        }
    }

    fn echo(name: &str) -> (Address<Msg>, ChildSpec) {
        let spec = server(name, || Echo);
        (spec.address(), spec.into())
    }

    fn find<'a>(root: &'a ActorView, path: &str) -> &'a ActorView {
        root.find(&path.parse().unwrap()).unwrap_or_else(|| panic!("no {path}"))
    }

    /// Waits for the receipt number `n` of this kind, with a deadline of virtual time.
    async fn receipt(node: &Node, kind: &str, n: usize) -> Arc<gemba_core::receipt::Receipt> {
        let mut newest = node.system().journal().subscribe();
        tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let all = node.system().journal().after(Seq(0), None, usize::MAX).receipts;
                if let Some(found) = all.iter().filter(|receipt| receipt.event.kind() == kind).nth(n) {
                    return found.clone();
                }
                newest.changed().await.unwrap();
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no receipt {kind} {n}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_followed_by_a_new_life_at_the_same_address() {
        let (address, child) = echo("echo");
        let node = Node::builder("test").child(child).start().await.unwrap();
        let first = address.call(Msg::Ping).await.unwrap();
        address.cast(Msg::Panic).unwrap();
        let restarted = receipt(&node, "child_restarted", 0).await;
        let second = address.call(Msg::Ping).await.unwrap();
        assert!(first < second);
        let exit = receipt(&node, "child_exited", 0).await;
        assert_eq!(restarted.cause, Some(exit.seq));
        let Event::ChildExited { reason: ExitReason::Panic { message, location }, .. } = &exit.event else {
            panic!("{exit:?}")
        };
        assert_eq!(&**message, "asked to");
        assert!(location.as_ref().unwrap().contains("supervisor.rs:"));
        let tree = node.system().tree();
        let echo = find(&tree.root, "/echo");
        assert_eq!((echo.restarts, echo.state), (1, ActorState::Running));
        assert_eq!(echo.incarnation, Some(second));
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_kill_ends_a_life_at_its_await_and_names_the_operator() {
        let (address, child) = echo("echo");
        let node = Node::builder("test").child(child).start().await.unwrap();
        address.cast(Msg::Sleep(Duration::from_secs(3600))).unwrap();
        tokio::task::yield_now().await;
        let call = tokio::spawn({
            let address = address.clone();
            async move { address.call(Msg::Ping).await }
        });
        tokio::task::yield_now().await;
        let kill = node.system().kill(&"/echo".parse().unwrap(), "tester").unwrap();
        let exit = receipt(&node, "child_exited", 0).await;
        assert_eq!(exit.cause, Some(kill));
        assert!(matches!(&exit.event, Event::ChildExited { reason: ExitReason::Killed, .. }));
        assert!(matches!(call.await.unwrap(), Err(crate::CallError::Died { .. })));
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_for_all_restarts_in_order_after_all_have_stopped() {
        let (a, first) = echo("a");
        let (_, second) = echo("b");
        let below = Supervisor::one_for_one("below").child(echo("leaf").1);
        let plant = Supervisor::one_for_all("plant").child(first).child(second).child(below);
        let node = Node::builder("test").child(plant).start().await.unwrap();
        a.cast(Msg::Fail).unwrap();
        receipt(&node, "child_restarted", 2).await;
        let receipts = node.system().journal().after(Seq(0), Some(&"/plant".parse().unwrap()), 100).receipts;
        let story: Vec<_> = receipts
            .iter()
            .map(|receipt| format!("{} {}", receipt.path.name(), receipt.event.kind()))
            .skip_while(|line| !line.contains("exited"))
            .collect();
        assert_eq!(
            story,
            [
                "a child_exited",
                "leaf child_exited",
                "below child_exited",
                "b child_exited",
                "a child_restarted",
                "b child_restarted",
                "leaf child_restarted",
                "below child_restarted",
            ]
        );
        let first_cause = receipt(&node, "child_exited", 0).await;
        for receipt in receipts.iter().filter(|receipt| receipt.seq > first_cause.seq) {
            assert!(receipt.cause.is_some_and(|cause| cause >= first_cause.seq), "{receipt:?}");
        }
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_is_killed_takes_its_children_along_before_it_is_replaced() {
        let busy = task("busy", |_| async { std::future::pending().await });
        let (leaf, spec) = echo("leaf");
        let plant = Supervisor::one_for_one("plant").child(spec).child(busy);
        let node = Node::builder("test").child(plant).start().await.unwrap();
        let before = leaf.call(Msg::Ping).await.unwrap();
        node.system().kill(&"/plant".parse().unwrap(), "tester").unwrap();
        receipt(&node, "child_restarted", 2).await;
        assert!(before < leaf.call(Msg::Ping).await.unwrap());
        let tree = node.system().tree();
        assert!(tree.root.iter().all(|actor| actor.state == ActorState::Running), "{tree:?}");
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_restarts_end_the_node() {
        let (address, child) = echo("echo");
        let mut node =
            Node::builder("test").intensity(2, Duration::from_secs(5)).child(child).start().await.unwrap();
        for n in 0..3 {
            address.cast(Msg::Fail).unwrap();
            receipt(&node, "child_exited", n).await;
            tokio::task::yield_now().await;
        }
        let reason = node.ended().await;
        assert_eq!(
            reason.to_string(),
            "gave up: 3 restarts in 5000 ms (limit 2); last: child 'echo' exited: error: asked to"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_ignores_its_shutdown_is_killed_and_the_rest_stops_in_reverse() {
        let deaf = task("deaf", |_| async { std::future::pending().await });
        let node =
            Node::builder("test").child(echo("a").1).child(deaf).child(echo("c").1).start().await.unwrap();
        let system = node.system().clone();
        let begun = system.now();
        node.stop("test").await.unwrap();
        assert_eq!(system.now().since(begun).as_secs(), 5, "the limit of a task");
        let exits: Vec<_> = system
            .journal()
            .after(Seq(0), None, 100)
            .receipts
            .iter()
            .filter(|receipt| receipt.event.kind() == "child_exited")
            .map(|receipt| {
                let told = receipt.event.to_string();
                format!("{}: {}", receipt.path.name(), told.split_once("exited: ").unwrap().1)
            })
            .collect();
        assert_eq!(exits, ["c: shutdown", "deaf: killed", "a: shutdown", "journal: shutdown"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_start_does_not_make_its_supervisor_deaf() {
        struct Slow(Arc<std::sync::OnceLock<()>>);
        impl Server for Slow {
            type Msg = ();
            async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
                if self.0.set(()).is_err() {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                Ok(())
            }
            async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
                Err(Stop::error("asked to"))
            }
        }
        let once = Arc::new(std::sync::OnceLock::new());
        let slow = server("slow", move || Slow(once.clone()));
        let slow_address = slow.address();
        let (quick_address, quick) = echo("quick");
        let node = Node::builder("test").child(slow).child(quick).start().await.unwrap();
        slow_address.cast(()).unwrap();
        receipt(&node, "child_exited", 0).await;
        quick_address.cast(Msg::Fail).unwrap();
        let restarted = receipt(&node, "child_restarted", 0).await;
        assert_eq!(restarted.path.as_str(), "/quick", "while the slow one is still starting");
        receipt(&node, "child_restarted", 1).await;
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_start_that_fails_stops_what_was_started() {
        struct Broken;
        impl Server for Broken {
            type Msg = ();
            async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
                Err(Stop::error("no database"))
            }
            async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
                Ok(())
            }
        }
        let inner = Supervisor::one_for_one("inner").child(server("db", || Broken));
        let error = Node::builder("test").child(echo("a").1).child(inner).start().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the node did not start: error: child 'inner' failed to start: error: child 'db' failed to start: \
             error: no database"
        );
    }

    #[tokio::test]
    async fn every_fault_of_a_tree_is_told_at_once() {
        let inner = Supervisor::one_for_one("inner").child(echo("x").1).child(echo("x").1);
        let deaf = server("deaf", || Echo).mailbox(0);
        let error = Node::builder("test")
            .child(echo("two words").1)
            .child(inner)
            .child(deaf)
            .start()
            .await
            .unwrap_err();
        let NodeError::Spec(errors) = error else { panic!("{error}") };
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn children_of_a_dynamic_supervisor_come_and_go() {
        let workers = Supervisor::dynamic("workers");
        let handle = workers.handle();
        let node = Node::builder("test").child(workers).start().await.unwrap();
        let (address, spec) = echo("1");
        assert_eq!(handle.start_child(spec.clone()).await.unwrap().unwrap().path.as_str(), "/workers/1");
        assert!(matches!(handle.start_child(spec).await, Err(ChildError::AlreadyStarted { .. })));
        let first = address.call(Msg::Ping).await.unwrap();
        address.cast(Msg::Panic).unwrap();
        receipt(&node, "child_restarted", 0).await;
        assert!(first < address.call(Msg::Ping).await.unwrap());
        handle.terminate_child("1").await.unwrap();
        receipt(&node, "child_exited", 1).await;
        assert!(matches!(handle.terminate_child("2").await, Err(ChildError::NotFound { .. })));
        assert_eq!(find(&node.system().tree().root, "/workers").children.len(), 0);
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_found_by_its_path_and_its_type() {
        let (_, spec) = echo("echo");
        let node = Node::builder("test").child(spec).start().await.unwrap();
        let address = |path: &str| node.system().address::<Msg>(&path.parse().unwrap());
        address("/echo").unwrap().call(Msg::Ping).await.unwrap();
        let error = address("/ecko").unwrap_err();
        assert_eq!(error.to_string(), "no actor stands at '/ecko'; did you mean '/echo'?");
        let error = address("/journal").unwrap_err();
        assert_eq!(error.to_string(), "'/journal' is a task; only a server has an address");
        let error = node.system().address::<String>(&"/echo".parse().unwrap()).unwrap_err();
        assert!(error.to_string().ends_with("Msg, this address sends alloc::string::String"), "{error}");
        node.stop("test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_mailbox_says_so_and_gives_the_message_back() {
        let spec = server("echo", || Echo).mailbox(2);
        let address = spec.address();
        let node = Node::builder("test").child(spec).start().await.unwrap();
        address.cast(Msg::Sleep(Duration::from_secs(60))).unwrap();
        tokio::task::yield_now().await;
        address.cast(Msg::Panic).unwrap();
        address.cast(Msg::Panic).unwrap();
        let error = address.cast(Msg::Fail).unwrap_err();
        assert_eq!(
            error.to_string(),
            "'/echo' refused: its mailbox of 2 is full; shed the message or wait with cast_within"
        );
        assert!(matches!(error.into_message(), Msg::Fail));
        let mailbox = find(&node.system().tree().root, "/echo").mailbox.unwrap();
        assert_eq!((mailbox.depth, mailbox.capacity), (2, 2));
        drop(node);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_ractor_actor_is_a_child_as_it_is() {
        struct Plain;
        impl Actor for Plain {
            type Msg = bool;
            type State = u32;
            type Arguments = u32;
            async fn pre_start(&self, _: ActorRef<bool>, n: u32) -> Result<u32, ActorProcessingErr> {
                Ok(n)
            }
            async fn handle(
                &self,
                _: ActorRef<bool>,
                panic: bool,
                n: &mut u32,
            ) -> Result<(), ActorProcessingErr> {
                assert!(!panic, "state was {n}");
                *n += 1;
                Ok(())
            }
        }
        let spec = crate::actor("plain", || (Plain, 41));
        let lookup = spec.lookup();
        let node = Node::builder("test").child(spec).start().await.unwrap();
        lookup().unwrap().cast(false).unwrap();
        lookup().unwrap().cast(true).unwrap();
        let exit = receipt(&node, "child_exited", 0).await;
        assert!(exit.event.to_string().contains("state was 42"), "{}", exit.event);
        receipt(&node, "child_restarted", 0).await;
        lookup().unwrap().cast(false).unwrap();
        node.stop("test").await.unwrap();
    }
}
