//! Handles to running supervisors, through all their lives: OTP's functions on children.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::{ActorPath, Name};
use gemba_core::supervision::{ChildCounts, ChildRefusal, ChildRules, ChildStatus};
use gemba_core::view::ActorKind;
use ractor::ActorRef;
use tokio::sync::oneshot;

use crate::address::Reply;
use crate::child::{ChildSpec, Shutdown, SpecError};
use crate::shell::{Message, Request};

/// How long a request to a supervisor waits for its answer: longer than a start may take, so that who asks for
/// one hears why it failed.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(35);

/// Where the present life of a supervisor is.
pub(crate) type Current = ArcSwapOption<ActorRef<Message>>;

/// Why a supervisor did not do what was asked about a child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// The supervisor is not running, or it is stopping (OTP: `noproc`).
    #[error("the supervisor is not running; a restart may be under way, try again in a moment")]
    NotRunning,
    /// There is no child of this name.
    #[error("there is no child '{name}'; which_children lists those there are")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// There is a child of this name, and it runs.
    #[error("a child called '{name}' runs already; give each child of a supervisor its own name")]
    AlreadyStarted {
        /// The name.
        name: Name,
        /// The life that holds the place.
        incarnation: Incarnation,
    },
    /// There is a child of this name that does not run.
    #[error("a child called '{name}' exists and is down; restart it, or delete it first")]
    AlreadyPresent {
        /// The name.
        name: Name,
    },
    /// The child runs.
    #[error("child '{name}' runs; terminate it first")]
    Running {
        /// The name.
        name: Name,
    },
    /// The child is about to be started again.
    #[error("child '{name}' is being restarted; wait for it, or terminate it first")]
    Restarting {
        /// The name.
        name: Name,
    },
    /// The supervisor was halted by an operator, and starts nothing.
    #[error("the supervisor is halted; it starts nothing until System::resume lets it run again")]
    Halted,
    /// The supervisor takes no more children.
    #[error("the supervisor has {limit} children and takes no more; raise children_max, or spread them")]
    Full {
        /// How many it takes.
        limit: usize,
    },
    /// The spec is wrong; every fault is named.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Spec(Vec<SpecError>),
    /// The child did not come to run.
    #[error("child '{name}' failed to start: {reason}")]
    Failed {
        /// The child.
        name: Name,
        /// Why.
        reason: ExitReason,
    },
    /// The child did not end when it was killed: it runs code that never yields. It is left behind.
    #[error(
        "child '{name}' cannot be killed: it runs code that never yields; its place stays taken until it does"
    )]
    Unkillable {
        /// The child.
        name: Name,
    },
    /// The supervisor did not answer in time; what was asked may still happen.
    #[error(
        "the supervisor did not answer within {within:?}; what was asked may still happen: which_children tells"
    )]
    Timeout {
        /// How long the caller waited.
        within: Duration,
    },
}

impl ChildError {
    pub(crate) fn refused(refusal: ChildRefusal, holder: Option<Incarnation>) -> Self {
        match refusal {
            ChildRefusal::AlreadyStarted { name } => {
                Self::AlreadyStarted { name, incarnation: holder.unwrap_or(Incarnation(0)) }
            }
            ChildRefusal::AlreadyPresent { name } => Self::AlreadyPresent { name },
            ChildRefusal::Running { name } => Self::Running { name },
            ChildRefusal::Restarting { name } => Self::Restarting { name },
            ChildRefusal::Halted => Self::Halted,
            ChildRefusal::Full { limit } => Self::Full { limit },
        }
    }
}

/// A child that has been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its place.
    pub path: ActorPath,
    /// The life that holds it.
    pub incarnation: Incarnation,
}

/// A child as its supervisor lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildInfo {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: ActorKind,
    /// How it stands.
    pub status: ChildStatus,
    /// The life that runs, if one does.
    pub incarnation: Option<Incarnation>,
}

/// The rules by which a child is kept, with every default filled in (OTP: `get_childspec`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSettings {
    /// Its name.
    pub name: Name,
    /// When it is restarted, whether it is significant, how it is counted.
    pub rules: ChildRules,
    /// How it is stopped.
    pub shutdown: Shutdown,
}

/// A handle to a static supervisor, through all its lives.
///
/// Every request has [`REQUEST_LIMIT`] as its deadline. Unlike OTP's, the supervisor answers while children
/// start and stop: a list may show a child that is starting, and a slow child holds up nobody else's request.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{ChildError, Node, Supervisor, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tree = Supervisor::one_for_one("tree");
/// let handle = tree.handle(); // Before the spec is handed over.
/// let node = Node::builder("example").child(tree).start().await?;
/// let worker = task("worker", |ctx| async move { ctx.stopped().await; Ok(()) });
/// let started = handle.start_child(worker).await?.expect("a task never declines to run");
/// assert_eq!(started.path.as_str(), "/tree/worker");
/// assert!(matches!(handle.delete_child("worker").await, Err(ChildError::Running { .. })));
/// handle.terminate_child("worker").await?;
/// handle.delete_child("worker").await?;
/// assert!(handle.which_children().await?.is_empty());
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SupervisorRef(Door);

/// A handle to a dynamic supervisor, through all its lives: children have no spec beyond their life.
///
/// Every request has [`REQUEST_LIMIT`] as its deadline. There is an example at
/// [`DynamicSupervisor`](crate::DynamicSupervisor), and one of work that is run for its result at
/// [`run`](Self::run).
#[derive(Clone)]
pub struct DynamicRef(Door);

impl SupervisorRef {
    pub(crate) fn new(current: Arc<Current>) -> Self {
        Self(Door(current))
    }

    /// Adds a child behind all others, starts it and waits until it runs. `None`: it declined to run; unless
    /// it is temporary it keeps its place.
    ///
    /// # Errors
    ///
    /// [`ChildError`]; nothing was added, except after [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, child: impl Into<ChildSpec>) -> Result<Option<Started>, ChildError> {
        self.0.start_child(child.into()).await
    }

    /// Stops a child and waits until it is gone. Its place is kept, unless it is temporary; it is not
    /// restarted until somebody asks, or a sibling takes it along. A child that is down already is fine.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotFound`], [`ChildError::Unkillable`], [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn terminate_child(&self, name: &str) -> Result<(), ChildError> {
        self.0.terminate_child(name, None).await
    }

    /// Starts a child that is down and waits until it runs; does not count against the intensity. `None`:
    /// it declined to run.
    ///
    /// # Errors
    ///
    /// [`ChildError::Running`], [`ChildError::Restarting`], [`ChildError::NotFound`],
    /// [`ChildError::NotRunning`], [`ChildError::Timeout`], and [`ChildError::Failed`]: it is down as before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn restart_child(&self, name: &str) -> Result<Option<Started>, ChildError> {
        self.0.ask(|reply| Request::RestartChild { name: name.to_owned(), reply }).await?
    }

    /// Gives up the place of a child that is down.
    ///
    /// # Errors
    ///
    /// [`ChildError::Running`], [`ChildError::Restarting`], [`ChildError::NotFound`], [`ChildError::NotRunning`],
    /// [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn delete_child(&self, name: &str) -> Result<(), ChildError> {
        self.0.ask(|reply| Request::DeleteChild { name: name.to_owned(), reply }).await?
    }

    /// The rules by which a child is kept.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotFound`], [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    #[doc(alias = "get_childspec")]
    pub async fn child_settings(&self, name: &str) -> Result<ChildSettings, ChildError> {
        self.0.child_settings(name).await
    }

    /// All children in the order of their starts (OTP lists them the other way round).
    ///
    /// # Errors
    ///
    /// [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ChildError> {
        self.0.ask(|reply| Request::WhichChildren { reply }).await
    }

    /// How many children there are; takes the same time for a million.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn count_children(&self) -> Result<ChildCounts, ChildError> {
        self.0.ask(|reply| Request::CountChildren { reply }).await
    }
}

impl DynamicRef {
    pub(crate) fn new(current: Arc<Current>) -> Self {
        Self(Door(current))
    }

    /// Starts a child and waits until it runs. `None`: it declined to run, and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`ChildError`]; nothing was started, except after [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn start_child(&self, child: impl Into<ChildSpec>) -> Result<Option<Started>, ChildError> {
        self.0.start_child(child.into()).await
    }

    /// Asks for a child to be started and does not wait; a start that fails is in the journal.
    pub fn start_child_soon(&self, child: impl Into<ChildSpec>) {
        let (reply, _) = oneshot::channel();
        let child = Box::new(child.into());
        // A supervisor that is restarting starts without this child, as it would forget it.
        let _ = self.0.send(Request::StartChild { child, reply: Reply::new(reply) });
    }

    /// Stops a child and waits until it is gone, and its place with it.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotFound`], [`ChildError::Unkillable`], [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn terminate_child(&self, name: &str) -> Result<(), ChildError> {
        self.0.terminate_child(name, None).await
    }

    /// The same for this life of the child, and no later one.
    pub(crate) async fn terminate_life(&self, name: &str, only: Incarnation) -> Result<(), ChildError> {
        self.0.terminate_child(name, Some(only)).await
    }

    /// The rules by which a child is kept.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotFound`], [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    #[doc(alias = "get_childspec")]
    pub async fn child_settings(&self, name: &str) -> Result<ChildSettings, ChildError> {
        self.0.child_settings(name).await
    }

    /// All children in the order of their starts.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ChildError> {
        self.0.ask(|reply| Request::WhichChildren { reply }).await
    }

    /// How many children there are; takes the same time for a million.
    ///
    /// # Errors
    ///
    /// [`ChildError::NotRunning`], [`ChildError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn count_children(&self) -> Result<ChildCounts, ChildError> {
        self.0.ask(|reply| Request::CountChildren { reply }).await
    }
}

#[derive(Clone)]
struct Door(Arc<Current>);

impl Door {
    async fn start_child(&self, child: ChildSpec) -> Result<Option<Started>, ChildError> {
        let child = Box::new(child);
        self.ask(|reply| Request::StartChild { child, reply }).await?
    }

    async fn terminate_child(&self, name: &str, only: Option<Incarnation>) -> Result<(), ChildError> {
        self.ask(|reply| Request::TerminateChild { name: name.to_owned(), only, reply }).await?
    }

    async fn child_settings(&self, name: &str) -> Result<ChildSettings, ChildError> {
        self.ask(|reply| Request::ChildSettings { name: name.to_owned(), reply }).await?
    }

    fn send(&self, request: Request) -> Result<(), ChildError> {
        let supervisor = self.0.load();
        let supervisor = supervisor.as_ref().ok_or(ChildError::NotRunning)?;
        supervisor.cast(Message::Request(request)).map_err(|_| ChildError::NotRunning)
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, ChildError> {
        let (reply, answer) = oneshot::channel();
        self.send(request(Reply::new(reply)))?;
        match tokio::time::timeout(REQUEST_LIMIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ChildError::NotRunning),
            Err(_) => Err(ChildError::Timeout { within: REQUEST_LIMIT }),
        }
    }
}

impl fmt::Debug for SupervisorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorRef").field("running", &self.0.0.load().is_some()).finish()
    }
}

impl fmt::Debug for DynamicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicRef").field("running", &self.0.0.load().is_some()).finish()
    }
}
