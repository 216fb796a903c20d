//! Why a message was not taken, a call has no answer, or a server did not stop.

use std::fmt;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::name::ActorPath;
use gemba_core::view::ActorKind;

/// Why a message was not taken; gives it back.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CastError<M> {
    /// The mailbox is full. Shed the message, try again later, or wait with
    /// [`cast_within`](crate::Address::cast_within).
    #[error("'{path}' refused: its mailbox of {capacity} is full{}; shed the message or wait with cast_within", since(*full_for))]
    Full {
        /// What was not taken.
        message: M,
        /// Who refused.
        path: Place,
        /// How many messages its mailbox takes.
        capacity: usize,
        /// How long it has been full, as far as refusals tell: zero for the first.
        full_for: Duration,
    },
    /// Nobody is there: not started, ended, or between two lives. A restart takes microseconds, unless its
    /// supervisor backs off or `init` takes its time; whoever is not restarted stays away.
    #[error("'{path}' is not running; a restart may be under way, try again in a moment")]
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
    /// The deadline passed. The server may still carry out the request, unless it looks at
    /// [`Reply::is_closed`](crate::Reply::is_closed) first.
    #[error("'{path}' did not answer within {within:?}; it may still carry out the request")]
    Timeout {
        /// Who was asked.
        path: Place,
        /// How long the caller waited.
        within: Duration,
    },
    /// The mailbox is full; nothing was asked. Ask less, or again later.
    #[error("'{path}' refused: its mailbox of {capacity} is full{}; nothing was asked: ask less, or again later", since(*full_for))]
    Full {
        /// Who refused.
        path: Place,
        /// How many messages its mailbox takes.
        capacity: usize,
        /// How long it has been full, as far as refusals tell: zero for the first.
        full_for: Duration,
    },
    /// Nobody is there: not started, ended, or between two lives; nothing was asked. If a restart is under way,
    /// ask again in a moment, or with [`call_across_restart`](crate::Address::call_across_restart), which waits
    /// for it.
    #[error(
        "'{path}' is not running; nothing was asked: a restart may be under way, ask again in a moment or with call_across_restart"
    )]
    NotRunning {
        /// Who is not there.
        path: Place,
    },
    /// The server ended before it answered. The request may have been carried out: ask again only if that does
    /// no harm twice, as [`call_across_restart`](crate::Address::call_across_restart) does.
    #[error("'{path}' ended before it answered: {reason}; the request may have been carried out")]
    Died {
        /// Who ended.
        path: Place,
        /// Why.
        reason: ExitReason,
    },
    /// The server goes on, but dropped the request without an answer.
    #[error("'{path}' dropped the request without an answer; it may have been carried out")]
    NoReply {
        /// Who was asked.
        path: Place,
    },
    /// A server called itself from one of its callbacks, which would wait for its own end; nothing was
    /// asked. Do the work in place, or [`continue_with`](crate::Context::continue_with) a message.
    #[error("'{path}' called itself and would wait for ever; do it in place, or continue with a message")]
    CallingSelf {
        /// Who called.
        path: Place,
    },
}

/// Why a server that was asked to stop has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// Nobody is there to stop.
    #[error("'{path}' is not running; there is nothing to stop")]
    NotRunning {
        /// Who is not there.
        path: Place,
    },
    /// It has not ended yet. It was not killed, and will stop when its present handler is done; one that hangs
    /// is ended by [`stop_or_kill`](crate::Address::stop_or_kill).
    #[error(
        "'{path}' did not stop within {within:?}; it will when its present handler is done, unless that hangs: then stop_or_kill"
    )]
    Timeout {
        /// Who was asked.
        path: Place,
        /// How long the caller waited.
        within: Duration,
    },
    /// It was killed and has not ended: its handler blocks its thread, and nobody can end that. It ends when the
    /// handler comes to an `await` or returns. Move blocking work to `tokio::task::spawn_blocking`.
    #[error(
        "'{path}' cannot be killed: its handler blocks its thread, and it ends when that is done; move blocking work to spawn_blocking"
    )]
    Unkillable {
        /// Who was killed.
        path: Place,
    },
    /// A server asked for its own end and would wait for it; return [`Stop::normal`](crate::Stop::normal).
    #[error("'{path}' would wait for its own end; return Stop::normal() from the handler instead")]
    CallingSelf {
        /// Who asked.
        path: Place,
    },
}

/// Why a path led to no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// No actor has this path.
    #[error("no actor stands at '{path}'{}", similar.as_ref().map_or(String::new(), |similar| format!("; did you mean '{similar}'?")))]
    NotFound {
        /// The path asked for.
        path: ActorPath,
        /// The path most like it.
        similar: Option<ActorPath>,
    },
    /// What stands there takes no messages of ours: a supervisor, a task, a plain actor.
    #[error("'{path}' is a {kind}; only a server has an address")]
    NotAServer {
        /// The path asked for.
        path: ActorPath,
        /// What stands there.
        kind: ActorKind,
    },
    /// The server there takes messages of another type.
    #[error("'{path}' takes {takes}, this address sends {asked}")]
    OtherMessage {
        /// The path asked for.
        path: ActorPath,
        /// What it takes.
        takes: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
}

/// The path of an address for an error text; an address may be older than its place in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub(super) Option<ActorPath>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "{path}"),
            None => f.write_str("a server not started yet"),
        }
    }
}

fn since(full_for: Duration) -> String {
    if full_for.is_zero() { String::new() } else { format!(", for {:.1} s now", full_for.as_secs_f64()) }
}
