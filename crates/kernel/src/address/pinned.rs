//! The address of one life, as a pid is: it leads to no successor.

use std::fmt;

use gemba_core::exit::Incarnation;
use gemba_core::name::ActorPath;
use tokio::sync::mpsc;

/// The address of one life of a server, as a pid is. When that life ends, it leads nowhere.
pub struct Pinned<M> {
    sender: mpsc::Sender<M>,
    path: ActorPath,
    incarnation: Incarnation,
}

impl<M> Pinned<M> {
    pub(crate) fn new(sender: mpsc::Sender<M>, path: ActorPath, incarnation: Incarnation) -> Self {
        Self { sender, path, incarnation }
    }

    /// Where this life stands, or stood.
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Which life it is: what [`System::monitor_life`](crate::System::monitor_life) watches.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Sends `message` to this life and does not wait; gives it back if the life is over or its mailbox
    /// full.
    ///
    /// # Errors
    ///
    /// The message, not sent. [`is_over`](Self::is_over) tells the two apart: a life that is over takes no more,
    /// a full mailbox may later.
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
        Self { sender: self.sender.clone(), path: self.path.clone(), incarnation: self.incarnation }
    }
}

impl<M> fmt::Debug for Pinned<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned")
            .field("path", &self.path)
            .field("incarnation", &self.incarnation)
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}
