//! Supervisors as children: a strategy, an intensity, and a list; and the handle to a running one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use gemba_core::exit::ExitReason;
use gemba_core::name::ActorPath;
use gemba_core::supervision::{Intensity, Strategy, Supervision};
use gemba_core::view::ActorKind;
use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::oneshot;

use crate::address::Reply;
use crate::child::{ChildSpec, Shutdown, SpecError, child_rules};
use crate::shell::{Beginning, Message, SupervisorActor};
use crate::slot::Killer;
use crate::start::{Birth, Handle, NoStart, Start, Stopper};

/// How long [`DynamicSupervisor::start_child`] and its siblings wait for the supervisor's answer.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// A supervisor as a child, or as a node's root: a strategy, an intensity, and children in order.
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
/// # let _ = pools;
/// ```
pub struct Supervisor {
    child: ChildSpec,
    strategy: Strategy,
    intensity: Intensity,
    children: Vec<ChildSpec>,
    current: Arc<Current>,
}

type Current = ArcSwapOption<ActorRef<Message>>;

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

    /// Children come and go while it runs; each is restarted alone, and all stop at once.
    #[doc(alias = "simple_one_for_one")]
    pub fn dynamic(name: &str) -> Self {
        Self::new(name, Strategy::Dynamic)
    }

    fn new(name: &str, strategy: Strategy) -> Self {
        let mut supervisor = Self {
            child: ChildSpec::new(name, Shutdown::Infinity, Arc::new(Nothing)),
            strategy,
            intensity: Intensity::default(),
            children: Vec::new(),
            current: Arc::new(ArcSwapOption::empty()),
        };
        supervisor.seal();
        supervisor
    }

    /// How many restarts it makes within `period` before it gives up; default 3 in 5 s.
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.intensity = Intensity { restarts, period };
        self.seal();
        self
    }

    /// Adds a child behind those there are. Children start in order and stop in reverse.
    pub fn child(mut self, child: impl Into<ChildSpec>) -> Self {
        self.children.push(child.into());
        self.seal();
        self
    }

    /// How to add children to it while it runs, in each of its lives.
    pub fn handle(&self) -> DynamicSupervisor {
        DynamicSupervisor(self.current.clone())
    }

    /// Puts the tree below into the start function, which each life of the supervisor reads.
    fn seal(&mut self) {
        self.child.start = Arc::new(SupervisorStart {
            strategy: self.strategy,
            intensity: self.intensity,
            children: self.children.clone(),
            current: self.current.clone(),
        });
    }
}

child_rules!(Supervisor);

/// Why a child was not added to a running supervisor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartChildError {
    /// The supervisor is not running, or it is stopping.
    #[error("the supervisor is not running now; try again after its restart")]
    NotRunning,
    /// The supervisor has a child of this name.
    #[error("a child called '{name}' exists already; give each child of a supervisor its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The spec is wrong.
    #[error("{0}")]
    Spec(SpecError),
    /// The child did not come to run.
    #[error("child '{name}' failed to start: {reason}")]
    Failed {
        /// The child.
        name: String,
        /// Why.
        reason: ExitReason,
    },
    /// The supervisor did not answer in time; the child may still start.
    #[error("the supervisor did not answer within 30 s; the child may still start")]
    Timeout,
}

/// A handle to a supervisor, through all its lives, for adding and removing children.
#[derive(Clone)]
pub struct DynamicSupervisor(Arc<Current>);

impl DynamicSupervisor {
    /// Starts a child and waits until it runs.
    ///
    /// # Errors
    ///
    /// [`StartChildError`]; nothing was started, except after [`StartChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, child: impl Into<ChildSpec>) -> Result<ActorPath, StartChildError> {
        let child = child.into();
        let mut errors = Vec::new();
        child.check("the supervisor", &mut errors);
        if let Some(error) = errors.into_iter().next() {
            return Err(StartChildError::Spec(error));
        }
        self.ask(|reply| Message::StartChild { child, reply }).await?
    }

    /// Asks for a child to be started and does not wait; a start that fails is in the journal.
    pub fn start_child_soon(&self, child: impl Into<ChildSpec>) {
        let (reply, _) = oneshot::channel();
        if let Some(supervisor) = &*self.0.load() {
            // A supervisor that is restarting starts from its own list.
            let _ = supervisor.cast(Message::StartChild { child: child.into(), reply: Reply::new(reply) });
        }
    }

    /// Stops a child by its shutdown rule and waits until the stop is under way. `false` if there is none
    /// of this name.
    ///
    /// # Errors
    ///
    /// [`StartChildError::NotRunning`] and [`StartChildError::Timeout`].
    pub async fn terminate_child(&self, name: &str) -> Result<bool, StartChildError> {
        self.ask(|reply| Message::TerminateChild { name: name.to_owned(), reply }).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, StartChildError> {
        let (reply, answer) = oneshot::channel();
        let supervisor = self.0.load_full().ok_or(StartChildError::NotRunning)?;
        supervisor.cast(message(Reply::new(reply))).map_err(|_| StartChildError::NotRunning)?;
        match tokio::time::timeout(REQUEST_LIMIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(StartChildError::NotRunning),
            Err(_) => Err(StartChildError::Timeout),
        }
    }
}

impl fmt::Debug for DynamicSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicSupervisor").field("running", &self.0.load().is_some()).finish()
    }
}

/// Stands in until a supervisor's list is sealed into its start function.
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
    strategy: Strategy,
    intensity: Intensity,
    children: Vec<ChildSpec>,
    current: Arc<Current>,
}

impl Start for SupervisorStart {
    fn kind(&self) -> ActorKind {
        ActorKind::Supervisor
    }

    fn strategy(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn children(&self) -> &[ChildSpec] {
        &self.children
    }

    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>> {
        let supervision = Supervision::new(self.strategy, self.intensity);
        let children = self.children.clone();
        let current = self.current.clone();
        Box::pin(async move {
            let (ready, started) = oneshot::channel();
            let lifeline = Arc::downgrade(&birth.lifeline);
            let slot = birth.lifeline.slot.clone();
            let incarnation = birth.lifeline.incarnation;
            let begin =
                Beginning { lifeline: birth.lifeline, cause: birth.cause, supervision, children, ready };
            // Not `Birth::spawn`: the lifeline has moved into the actor, which may already be gone.
            let spawned = match birth.supervisor {
                Some(supervisor) => Actor::spawn_linked(None, SupervisorActor, begin, supervisor).await,
                None => Actor::spawn(None, SupervisorActor, begin).await,
            };
            let (actor, _) = spawned.map_err(|error| ExitReason::error(&error))?;
            slot.set_killer(incarnation, Killer::Actor(actor.get_cell()));
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
        })
    }
}

#[cfg(test)]
mod tests {
    use gemba_core::exit::Incarnation;
    use gemba_core::receipt::{Event, Seq};
    use gemba_core::view::{ActorState, ActorView};
    use ractor::ActorProcessingErr;

    use super::*;
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
        assert_eq!(handle.start_child(spec.clone()).await.unwrap().as_str(), "/workers/1");
        assert!(matches!(handle.start_child(spec).await, Err(StartChildError::Duplicate { .. })));
        let first = address.call(Msg::Ping).await.unwrap();
        address.cast(Msg::Panic).unwrap();
        receipt(&node, "child_restarted", 0).await;
        assert!(first < address.call(Msg::Ping).await.unwrap());
        assert!(handle.terminate_child("1").await.unwrap());
        receipt(&node, "child_exited", 1).await;
        assert!(!handle.terminate_child("2").await.unwrap());
        assert_eq!(find(&node.system().tree().root, "/workers").children.len(), 0);
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
        assert_eq!(error.to_string(), "'/echo' refused: its mailbox of 2 is full");
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
        let link = spec.link();
        let node = Node::builder("test").child(spec).start().await.unwrap();
        link().unwrap().cast(false).unwrap();
        link().unwrap().cast(true).unwrap();
        let exit = receipt(&node, "child_exited", 0).await;
        assert!(exit.event.to_string().contains("state was 42"), "{}", exit.event);
        receipt(&node, "child_restarted", 0).await;
        link().unwrap().cast(false).unwrap();
        node.stop("test").await.unwrap();
    }
}
