//! Typed addresses of servers: they survive restarts, and every mailbox behind them has a bound.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gemba_core::name::ActorPath;
use gemba_core::view::MailboxView;
use tokio::sync::{mpsc, oneshot};

use crate::slot::Mailbox;

/// How many messages a mailbox takes unless its spec says otherwise.
pub const MAILBOX_CAPACITY: usize = 1024;

/// How long [`Address::call`] waits for the answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where one answer goes. Dropping it tells the caller that there will be none.
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    pub(crate) fn new(sender: oneshot::Sender<T>) -> Self {
        Self(sender)
    }

    /// Answers. A caller that has given up does not notice.
    pub fn send(self, answer: T) {
        // The caller's deadline has passed; it has been told so.
        let _ = self.0.send(answer);
    }

    /// Whether the caller has given up.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("closed", &self.is_closed()).finish()
    }
}

/// Why a message was not taken; gives it back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CastError<M> {
    /// The mailbox is full. Shed the message or try again later.
    #[error("'{path}' refused: its mailbox of {capacity} is full")]
    Full {
        /// What was not taken.
        message: M,
        /// Who refused.
        path: Place,
        /// How many messages its mailbox takes.
        capacity: usize,
    },
    /// Nobody is there: not started, ended, or between two lives. A restart takes microseconds.
    #[error("'{path}' is not running")]
    NotRunning {
        /// What was not taken.
        message: M,
        /// Who is not there.
        path: Place,
    },
}

impl<M> CastError<M> {
    /// The message that was not taken.
    pub fn into_message(self) -> M {
        match self {
            Self::Full { message, .. } | Self::NotRunning { message, .. } => message,
        }
    }
}

impl<M> fmt::Debug for CastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, path) = match self {
            Self::Full { path, .. } => ("Full", path),
            Self::NotRunning { path, .. } => ("NotRunning", path),
        };
        f.debug_struct(name).field("path", path).finish_non_exhaustive()
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The deadline passed. The server may still carry out the request.
    #[error("'{path}' did not answer within {within:?}; it may still carry out the request")]
    Timeout {
        /// Who was asked.
        path: Place,
        /// How long the caller waited.
        within: Duration,
    },
    /// The mailbox is full; nothing was asked.
    #[error("'{path}' refused: its mailbox of {capacity} is full")]
    Full {
        /// Who refused.
        path: Place,
        /// How many messages its mailbox takes.
        capacity: usize,
    },
    /// Nobody is there; nothing was asked.
    #[error("'{path}' is not running")]
    NotRunning {
        /// Who is not there.
        path: Place,
    },
    /// The server ended, or dropped the request, before it answered. It may have been carried out.
    #[error("'{path}' ended before it answered; the request may have been carried out")]
    Died {
        /// Who ended.
        path: Place,
    },
}

/// The path of an address for an error text; an address may be older than its place in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Option<ActorPath>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "{path}"),
            None => f.write_str("a server not started yet"),
        }
    }
}

/// A cell: the mailbox of a place. Each life opens it anew; what an earlier life left unread is dropped.
pub(crate) struct Lane<M> {
    current: ArcSwapOption<mpsc::Sender<M>>,
    capacity: usize,
    path: OnceLock<ActorPath>,
}

impl<M: Send + 'static> Lane<M> {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { current: ArcSwapOption::empty(), capacity, path: OnceLock::new() })
    }

    pub(crate) fn open(&self, path: &ActorPath) -> (mpsc::Sender<M>, mpsc::Receiver<M>) {
        // A place keeps its path; the first life has said it.
        let _ = self.path.set(path.clone());
        let (sender, receiver) = mpsc::channel(self.capacity);
        self.current.store(Some(Arc::new(sender.clone())));
        (sender, receiver)
    }
}

impl<M> Lane<M> {
    fn place(&self) -> Place {
        Place(self.path.get().cloned())
    }
}

impl<M: Send + 'static> Mailbox for Lane<M> {
    fn view(&self) -> MailboxView {
        let depth = match &*self.current.load() {
            Some(sender) if !sender.is_closed() => sender.max_capacity() - sender.capacity(),
            _ => 0,
        };
        MailboxView { depth: depth as u64, capacity: self.capacity as u64 }
    }

    fn takes(&self) -> &'static str {
        std::any::type_name::<M>()
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Where a server takes messages, whichever life of it is there.
pub struct Address<M>(Arc<Lane<M>>);

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Send + 'static> Address<M> {
    pub(crate) fn from_lane(lane: Arc<Lane<M>>) -> Self {
        Self(lane)
    }

    /// Sends `message` and does not wait. `Ok` means that it is in the mailbox, not that it is handled:
    /// a server that dies drops what it has not read.
    ///
    /// # Errors
    ///
    /// [`CastError::Full`] and [`CastError::NotRunning`]; both give the message back.
    pub fn cast(&self, message: M) -> Result<(), CastError<M>> {
        match &*self.0.current.load() {
            Some(sender) => self.send(sender, message),
            None => Err(CastError::NotRunning { message, path: self.0.place() }),
        }
    }

    /// Sends the message made with a reply and waits for the answer, for [`CALL_TIMEOUT`] at most.
    ///
    /// # Errors
    ///
    /// [`CallError`]; it says whether the request may have been carried out.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn call<T>(&self, message: impl FnOnce(Reply<T>) -> M) -> Result<T, CallError> {
        self.call_within(CALL_TIMEOUT, message).await
    }

    /// [`call`](Self::call) with another deadline.
    pub async fn call_within<T>(
        &self,
        within: Duration,
        message: impl FnOnce(Reply<T>) -> M,
    ) -> Result<T, CallError> {
        let (reply, answer) = oneshot::channel();
        match self.cast(message(Reply(reply))) {
            Ok(()) => {}
            Err(CastError::Full { path, capacity, .. }) => return Err(CallError::Full { path, capacity }),
            Err(CastError::NotRunning { path, .. }) => return Err(CallError::NotRunning { path }),
        }
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Died { path: self.0.place() }),
            Err(_) => Err(CallError::Timeout { path: self.0.place(), within }),
        }
    }

    /// The address of the life that is there now, and of no other.
    pub fn pin(&self) -> Option<Pinned<M>> {
        let sender = self.0.current.load_full()?;
        (!sender.is_closed()).then(|| Pinned { sender: (*sender).clone() })
    }

    fn send(&self, sender: &mpsc::Sender<M>, message: M) -> Result<(), CastError<M>> {
        sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) => {
                CastError::Full { message, path: self.0.place(), capacity: self.0.capacity }
            }
            mpsc::error::TrySendError::Closed(message) => {
                CastError::NotRunning { message, path: self.0.place() }
            }
        })
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("path", &self.0.path.get()).finish_non_exhaustive()
    }
}

/// The address of one life of a server. When that life ends, it leads nowhere.
pub struct Pinned<M> {
    sender: mpsc::Sender<M>,
}

impl<M> Pinned<M> {
    pub(crate) fn new(sender: mpsc::Sender<M>) -> Self {
        Self { sender }
    }

    /// Sends `message` to this life and does not wait; gives it back if the life is over or its mailbox
    /// full.
    pub fn cast(&self, message: M) -> Result<(), M> {
        self.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) | mpsc::error::TrySendError::Closed(message) => message,
        })
    }

    /// Whether this life is over.
    pub fn is_over(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<M> Clone for Pinned<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<M> fmt::Debug for Pinned<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("over", &self.is_over()).finish()
    }
}
