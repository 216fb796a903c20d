//! A node with its inspector and its metrics.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use gemba_alert::{AlertRoutes, RouteErrors};
use gemba_core::exit::ExitReason;
use gemba_inspect::{HostName, Token};
use gemba_kernel::{ChildSpec, Instruments, System};
use gemba_observe::Prometheus;

use crate::inspector::{Bound, InspectError, metrics};

/// Why a node did not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The tree did not start, or did not end in order.
    #[error(transparent)]
    Tree(#[from] gemba_kernel::NodeError),
    /// The inspector cannot listen.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A route of the alerts cannot be one.
    #[error(transparent)]
    Alerts(#[from] RouteErrors),
}

/// The inspector to be, and before which child it starts.
#[derive(Debug)]
struct Inspect {
    address: SocketAddr,
    token: Token,
    place: usize,
}

/// A node to be: a name, the children of its root supervisor (a `one_for_one`), and how it is inspected.
#[derive(Debug)]
pub struct NodeBuilder {
    kernel: gemba_kernel::NodeBuilder,
    prometheus: Prometheus,
    inspect: Option<Inspect>,
    inspect_hosts: Vec<HostName>,
    alerts: Option<(AlertRoutes, usize)>,
    children: Vec<ChildSpec>,
}

impl NodeBuilder {
    /// Adds a child behind those there are. Children start in order and stop in reverse.
    pub fn child(mut self, child: impl Into<ChildSpec>) -> Self {
        self.children.push(child.into());
        self
    }

    /// How many restarts the root makes within `period` before the node ends; default 3 in 5 s. Children that
    /// may fail more often stand under a [`Supervisor`](crate::Supervisor) of their own.
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.kernel = self.kernel.intensity(restarts, period);
        self
    }

    /// How long the node may take to stop; default [`STOP_LIMIT`](crate::STOP_LIMIT). What has not stopped then
    /// is killed.
    pub fn stop_limit(mut self, limit: Duration) -> Self {
        self.kernel = self.kernel.stop_limit(limit);
        self
    }

    /// What the date is when the node's time begins, in milliseconds since 1970; the machine's by default.
    ///
    /// For simulations. All other time of a node is tokio's: on a runtime of one thread whose clock is paused,
    /// a node of which this is set does the same thing twice.
    pub fn unix_ms(mut self, at_start: u64) -> Self {
        self.kernel = self.kernel.unix_ms(at_start);
        self
    }

    /// Shows the node on `address`, usually [`INSPECT`](crate::INSPECT), with a token made up for this start:
    /// [`Node::inspector`] tells it. Looking needs no token; what changes something, as a kill, does.
    ///
    /// An address that is taken keeps the node from starting; port 0 takes any that is free.
    ///
    /// The inspector is a child like the others: it outlives what is added after it.
    pub fn inspect(self, address: SocketAddr) -> Self {
        self.inspect_with(address, Token::generate())
    }

    /// Shows the node on `address`; what changes it needs `token`.
    pub fn inspect_with(mut self, address: SocketAddr, token: Token) -> Self {
        self.inspect = Some(Inspect { address, token, place: self.children.len() });
        self
    }

    /// Names under which the inspector may be asked, besides IP addresses and `localhost`: without them it refuses who
    /// comes by a name, a Prometheus whose target is one included, because a foreign page could have made that name.
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba::{HostName, INSPECT, Node};
    ///
    /// let node = Node::builder("tower").inspect(INSPECT).inspect_hosts([HostName::new("node1.example")?]);
    /// # let _ = node;
    /// # Ok::<(), gemba::HostNameError>(())
    /// ```
    pub fn inspect_hosts(mut self, hosts: impl IntoIterator<Item = HostName>) -> Self {
        self.inspect_hosts.extend(hosts);
        self
    }

    /// Tells people of lights: who of which, and how. Faults in the routes are told by
    /// [`start`](Self::start).
    ///
    /// The supervisor `alerts` is a child like the others: it outlives what is added after it, and tells of
    /// its restarts too.
    pub fn alerts(mut self, routes: AlertRoutes) -> Self {
        self.alerts = Some((routes, self.children.len()));
        self
    }

    /// The node's system, for what is built before the node starts: [`Plant::builder`](crate::Plant::builder).
    pub fn system(&self) -> &System {
        self.kernel.system()
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
    /// [`NodeError::Tree`] if a name or a rule is wrong (all faults at once, and nothing was started), or a child
    /// did not start (what was started has been stopped again). [`NodeError::Inspect`] if the inspector cannot
    /// listen; nothing was started.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what was started.
    pub async fn start(self) -> Result<Node, NodeError> {
        let node = self.kernel.system().node().clone();
        let mut kernel = self.kernel.instruments(Instruments::new(self.prometheus.recorder()));
        let mut children = self.children;
        let mut inspector = None;
        let mut added = Vec::new();
        if let Some((routes, place)) = self.alerts {
            added.push((place, routes.child(&node)?));
        }
        if let Some(Inspect { address, token, place }) = self.inspect {
            let bound = Bound::new(address, token.clone(), self.inspect_hosts)?;
            let address = bound.address().map_err(|source| InspectError::Bind { address, source })?;
            added.push((place, bound.child(self.prometheus.clone())));
            inspector = Some((address, token));
        }
        // The last first, so that the places of the others still hold.
        added.sort_by_key(|(place, _)| Reverse(*place));
        for (place, child) in added {
            children.insert(place, child);
        }
        for child in children {
            kernel = kernel.child(child);
        }
        Ok(Node { kernel: kernel.start().await?, inspector, prometheus: self.prometheus })
    }
}

/// A running node. Dropping it kills the tree; [`stop`](Self::stop) ends it in order.
///
/// # Examples
///
/// ```
/// use gemba::{Node, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = task("clock", |ctx| async move { ctx.stopped().await; Ok(()) });
/// // Port 0: any that is free. With `INSPECT` it is the one that `gemba tree` asks.
/// let node = Node::builder("tower").inspect(([127, 0, 0, 1], 0).into()).child(clock).start().await?;
/// assert!(node.inspector().is_some());
/// assert!(node.system().ready().is_ok());
/// node.stop("the day is over").await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Node {
    kernel: gemba_kernel::Node,
    inspector: Option<(SocketAddr, Token)>,
    prometheus: Prometheus,
}

impl Node {
    /// A node called `name`.
    pub fn builder(name: &str) -> NodeBuilder {
        NodeBuilder {
            kernel: gemba_kernel::Node::builder(name),
            prometheus: Prometheus::new(),
            inspect: None,
            inspect_hosts: Vec::new(),
            alerts: None,
            children: Vec::new(),
        }
    }

    /// The node from the inside.
    pub fn system(&self) -> &System {
        self.kernel.system()
    }

    /// Where the inspector listens, and the token it asks for, if there is one.
    pub fn inspector(&self) -> Option<(SocketAddr, &Token)> {
        self.inspector.as_ref().map(|(address, token)| (*address, token))
    }

    /// The node's metrics as they are now, in the text format of Prometheus: what the inspector serves at
    /// `/metrics`, for programs that serve it themselves.
    pub fn metrics(&self) -> String {
        metrics(self.system(), &self.prometheus)
    }

    /// Waits until the root supervisor ends by itself.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn ended(&mut self) -> ExitReason {
        self.kernel.ended().await
    }

    /// Stops the tree in reverse order of its start, and waits for its end.
    ///
    /// # Errors
    ///
    /// [`NodeError::Tree`] if it took longer than the [stop limit](NodeBuilder::stop_limit), when what was left
    /// is killed, or ended otherwise than by this stop.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the node: what has not stopped yet is killed. To limit the time, set
    /// [`stop_limit`](NodeBuilder::stop_limit) instead.
    pub async fn stop(self, why: &str) -> Result<(), NodeError> {
        Ok(self.kernel.stop(why).await?)
    }

    /// Runs until SIGTERM or Ctrl-C, then stops in order. A second signal ends the wait.
    ///
    /// # Errors
    ///
    /// [`NodeError::Tree`] if it took too long, was interrupted, or ended by itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the node, which kills the tree at once, without an orderly stop: as a branch
    /// of a `select!` that another branch wins. To end the node for a reason of your own, wait for that beside
    /// [`ended`](Self::ended), and call [`stop`](Self::stop) then.
    pub async fn run_until_signal(self) -> Result<(), NodeError> {
        Ok(self.kernel.run_until_signal().await?)
    }
}
