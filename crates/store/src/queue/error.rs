//! What a queue could not do, and what can be done about it.

use gemba_core::kanban::{KanbanError, KanbanRulesError};
use gemba_kernel::CallError;

use super::PAYLOAD_MAX;
use crate::database::DatabaseError;

/// Why a queue was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its rules cannot be; all faults are told.
    #[error("the rules of the queue cannot be: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Rules(Vec<KanbanRulesError>),
    /// Its file cannot be used.
    #[error("the file of the queue cannot be used")]
    Database(#[from] DatabaseError),
}

/// Why a card was not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The queue is full.
    #[error(transparent)]
    Kanban(KanbanError),
    /// The card is too large.
    #[error(
        "the card has {bytes} bytes of JSON, {PAYLOAD_MAX} is the limit; keep the content elsewhere and its name on the card"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The card cannot be written as JSON.
    #[error("the card cannot be written as JSON")]
    Item(#[source] serde_json::Error),
    /// The file cannot be written.
    #[error("the queue's file cannot be written")]
    Database(#[from] DatabaseError),
}

/// Why no card comes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The queue's actor does not answer.
    #[error("the queue does not answer")]
    Keeper(#[from] CallError),
}

/// Why the end of a card was not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// It is not this holder's any more, or not where the request needs it.
    #[error(transparent)]
    Kanban(#[from] KanbanError),
    /// The queue's actor does not answer; the lease will end by itself.
    #[error("the queue does not answer; the card goes to somebody else when its lease ends")]
    Keeper(#[from] CallError),
    /// The file cannot be written; the lease will end by itself.
    #[error("the queue's file cannot be written; the card goes to somebody else when its lease ends")]
    Database(#[from] DatabaseError),
}
