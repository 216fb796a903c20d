//! A node: one tree of actors from its start to its orderly end.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::name::{ActorPath, Name, NameError};
use gemba_core::receipt::{Event, Seq};
use gemba_core::view::ActorKind;
use tokio::sync::watch;

use crate::child::{ChildSpec, SpecError, check_supervisor};
use crate::exit::install_panic_hook;
use crate::instruments::Instruments;
use crate::lifeline::{Lifeline, Report};
use crate::pulse;
use crate::scribe::scribe;
use crate::slot::Profile;
use crate::start::{Birth, Handle, NoStart};
use crate::supervisor::Supervisor;
use crate::system::{Phase, System};
use crate::task::task;

/// How long a node may take to stop, unless its builder says otherwise.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Why a node did not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node's own name is wrong.
    #[error("the node's name: {0}")]
    Name(#[from] NameError),
    /// The tree is wrong; every fault is named, and nothing was started.
    #[error("{} fault(s) in the tree, nothing was started:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Spec(Vec<SpecError>),
    /// The metrics were to go somewhere, and go elsewhere already; nothing was started.
    #[error(
        "the node's metrics go elsewhere already, nothing was started: say where once, and ask System::instruments after the start"
    )]
    Instruments,
    /// A child did not start; those before it were stopped again.
    #[error("the node did not start: {0}")]
    Start(ExitReason),
    /// The root supervisor ended by itself, as after too many restarts.
    #[error("the root supervisor ended: {0}")]
    Ended(ExitReason),
    /// The tree did not stop within the limit; what was left was killed. The journal's receipts say who stopped.
    #[error(
        "the tree did not stop within {0:?}, and what was left was killed; raise stop_limit, or give children less time with shutdown"
    )]
    StopOverdue(Duration),
    /// A second signal came while the node was stopping; what was left was killed.
    #[error("a second signal ended the node before it had stopped; what was left was killed")]
    Interrupted,
}

/// A node to be: its name and the children of its root supervisor, a `one_for_one`.
#[derive(Debug)]
#[must_use = "a node to be does nothing until it is started"]
pub struct NodeBuilder {
    name: String,
    root: Supervisor,
    stop_limit: Duration,
    system: System,
    /// Whether metrics were to go where they do not.
    has_lost_instruments: bool,
    children: Vec<ChildSpec>,
}

impl NodeBuilder {
    /// Adds a child behind those there are.
    pub fn child(mut self, child: impl Into<ChildSpec>) -> Self {
        self.children.push(child.into());
        self
    }

    /// How many restarts the root makes within `period` before the node ends; default 3 in 5 s.
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.root = self.root.intensity(restarts, period);
        self
    }

    /// How long the node may take to stop; default [`STOP_LIMIT`]. What has not stopped then is killed.
    pub fn stop_limit(mut self, limit: Duration) -> Self {
        self.stop_limit = limit;
        self
    }

    /// Where its metrics go; nowhere by default. To be said once, before anybody asks
    /// [`System::instruments`]: who asked earlier writes elsewhere, and [`start`](Self::start) refuses that.
    pub fn instruments(mut self, instruments: Instruments) -> Self {
        self.has_lost_instruments |= self.system.set_instruments(instruments).is_err();
        self
    }

    /// What the date is when the node's time begins, in milliseconds since 1970; the machine's by default.
    ///
    /// For simulations. All other time of a node is tokio's: on a runtime of one thread whose clock is paused,
    /// a node of which this is set does the same thing twice.
    pub fn unix_ms(self, at_start: u64) -> Self {
        self.system.set_epoch_unix_ms(at_start);
        self
    }

    /// The node's system, which the actors to be may hold already.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Starts the tree, in order, and returns when every child runs.
    ///
    /// # The panic hook
    ///
    /// The first node of the process puts a hook before the one that is there, for good. A panic of an actor is
    /// not printed then: its receipt has the message and the place, and is logged with `tracing`. All other
    /// panics go to the hook that was there. So set a hook of your own before the first node starts; one that is
    /// set later prints the panics of actors too, and their receipts lack the place.
    ///
    /// # Errors
    ///
    /// [`NodeError::Name`], [`NodeError::Spec`] and [`NodeError::Instruments`] before anything is started;
    /// [`NodeError::Start`] after what was started has been stopped again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what was started.
    pub async fn start(self) -> Result<Node, NodeError> {
        Name::new(&self.name)?;
        let mut errors = Vec::new();
        check_supervisor(self.root.flags(), &self.children, "/", &mut errors);
        if !errors.is_empty() {
            return Err(NodeError::Spec(errors));
        }
        if self.has_lost_instruments {
            return Err(NodeError::Instruments);
        }
        install_panic_hook();
        let system = self.system;
        pulse::start(&system);
        let root_path = ActorPath::root();
        let started = system.record(None, &root_path, Event::NodeStarted { node: system.node().clone() });
        let position = Arc::new(watch::Sender::new(Seq(0)));
        let mut root = self.root.child(task("journal", move |ctx| scribe(ctx, position.clone())));
        for child in self.children {
            root = root.child(child);
        }
        let root: ChildSpec = root.into();
        let (exit_sender, exit) = watch::channel(None);
        let profile =
            Profile { kind: ActorKind::Supervisor, strategy: root.start.strategy(), order: 0, mailbox: None };
        let slot = system.registry().root(&profile);
        let incarnation = system.next_incarnation();
        slot.claim(incarnation, profile).expect("the node has just been made");
        let lifeline =
            Lifeline::new(system.clone(), slot.clone(), incarnation, Report::Node(exit_sender), None);
        let birth = Birth { lifeline, cause: Some(started) };
        let root = root.start.start(birth).await.map_err(|no_start| match no_start {
            NoStart::Failed(reason) => NodeError::Start(reason),
            NoStart::Ignored => NodeError::Start(ExitReason::Normal),
        })?;
        slot.running(incarnation, system.now());
        system.enter(Phase::Running);
        Ok(Node { system, root, exit, stop_limit: self.stop_limit })
    }
}

/// A running node. Dropping it kills the tree; [`stop`](Self::stop) ends it in order.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Node, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = task("clock", |ctx| async move { ctx.stopped().await; Ok(()) });
/// let node = Node::builder("tower").child(clock).start().await?;
/// assert!(node.system().ready().is_ok());
/// node.stop("the day is over").await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping a node kills its tree; stop it, or run_until_signal"]
pub struct Node {
    system: System,
    root: Handle,
    exit: watch::Receiver<Option<ExitReason>>,
    stop_limit: Duration,
}

impl Node {
    /// A node called `name`, with only the journal in its tree.
    ///
    /// # Errors
    ///
    /// A name that cannot stand in a path is reported by [`NodeBuilder::start`].
    pub fn builder(name: &str) -> NodeBuilder {
        let checked = Name::new(name).unwrap_or_else(|_| Name::new("node").expect("a valid literal"));
        NodeBuilder {
            name: name.to_owned(),
            root: Supervisor::one_for_one("node"),
            stop_limit: STOP_LIMIT,
            system: System::new(checked),
            has_lost_instruments: false,
            children: Vec::new(),
        }
    }

    /// The node from the inside.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Waits until the root supervisor ends by itself.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn ended(&mut self) -> ExitReason {
        match self.exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(ExitReason::Killed),
            Err(_) => ExitReason::Killed,
        }
    }

    /// Stops the tree in reverse order of its start, and waits for its end.
    ///
    /// # Errors
    ///
    /// [`NodeError::StopOverdue`] if it took longer than the stop limit; the rest was killed then.
    /// [`NodeError::Ended`] if it ended otherwise than by this stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the node: what has not stopped yet is killed. To limit the time, set
    /// [`stop_limit`](NodeBuilder::stop_limit) instead.
    pub async fn stop(mut self, why: &str) -> Result<(), NodeError> {
        self.begin_stop(why);
        self.await_stop().await
    }

    /// Runs until SIGTERM or Ctrl-C, then stops in order. A second signal ends the wait.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop), and [`NodeError::Interrupted`] after a second signal: what was left is killed.
    /// [`NodeError::Ended`] if the root supervisor ended before any signal, as after too many restarts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the node, which kills the tree at once, without an orderly stop: as a branch
    /// of a `select!` that another branch wins. To end the node for a reason of your own, wait for that beside
    /// [`ended`](Self::ended), and call [`stop`](Self::stop) then.
    pub async fn run_until_signal(mut self) -> Result<(), NodeError> {
        let mut signals = Signals::new();
        tokio::select! {
            biased;
            reason = self.ended() => return Err(NodeError::Ended(reason)),
            signal = signals.next() => self.begin_stop(signal),
        }
        tokio::select! {
            biased;
            result = self.await_stop() => result,
            _ = signals.next() => Err(NodeError::Interrupted),
        }
    }

    fn begin_stop(&mut self, why: &str) {
        self.system.enter(Phase::Stopping);
        let event = Event::NodeStopping { why: why.into() };
        let receipt = self.system.record(None, &ActorPath::root(), event);
        self.root.stop(Some(receipt));
    }

    async fn await_stop(&mut self) -> Result<(), NodeError> {
        let limit = self.stop_limit;
        match tokio::time::timeout(limit, self.ended()).await {
            Ok(ExitReason::Shutdown) => Ok(()),
            Ok(reason) => Err(NodeError::Ended(reason)),
            Err(_) => Err(NodeError::StopOverdue(limit)),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.root.killer.kill();
    }
}

/// SIGTERM and Ctrl-C.
struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok(),
        }
    }

    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        let Some(terminate) = &mut self.terminate else { return interrupt().await };
        tokio::select! {
            biased;
            _ = terminate.recv() => "SIGTERM",
            signal = interrupt() => signal,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        interrupt().await
    }
}

async fn interrupt() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "Ctrl-C",
        // Without the signal there is only SIGTERM, or the end by itself.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_that_would_get_lost_keep_a_node_from_starting() {
        let twice =
            Node::builder("test").instruments(Instruments::default()).instruments(Instruments::default());
        assert!(matches!(twice.start().await, Err(NodeError::Instruments)));
        let asked = Node::builder("test");
        let _ = asked.system().instruments();
        let late = asked.instruments(Instruments::default());
        assert!(matches!(late.start().await, Err(NodeError::Instruments)));
        let once = Node::builder("test").instruments(Instruments::default());
        once.start().await.unwrap().stop("test").await.unwrap();
    }
}
