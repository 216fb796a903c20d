//! Why an actor ended, in OTP's terms.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One life of an actor. A path keeps its place in the tree; each start there is a new incarnation.
///
/// Numbers are unique within a node and grow, so a late farewell of an earlier life is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The first life after this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life {}", self.0)
    }
}

/// Why an actor ended.
///
/// [`Normal`](Self::Normal), [`Shutdown`](Self::Shutdown) and [`ShutdownWith`](Self::ShutdownWith) are
/// clean: a transient child that ends so is not started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExitReason {
    /// It had nothing more to do.
    Normal,
    /// Its supervisor asked it to stop.
    Shutdown,
    /// It stopped itself, cleanly, and says why.
    ShutdownWith {
        /// The reason it gave.
        why: Arc<str>,
    },
    /// A handler returned an error.
    Error {
        /// What the error said.
        message: Arc<str>,
    },
    /// A handler panicked.
    Panic {
        /// What the panic said.
        message: Arc<str>,
        /// `file:line` of the panic, where it was seen.
        location: Option<Arc<str>>,
    },
    /// It was killed, or did not stop within its time limit and was killed then.
    Killed,
    /// The actor to be watched did not exist.
    NoProc,
    /// A supervisor reached its restart intensity and gave up.
    GaveUp {
        /// Restarts within the period, the one that was not made included.
        restarts: u32,
        /// How many were allowed.
        limit: u32,
        /// The period, in milliseconds.
        period_ms: u64,
        /// What the last child exited with.
        last: Arc<str>,
    },
}

impl ExitReason {
    /// An error with the text of `error` and of its sources.
    pub fn error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Error { message: message.into() }
    }

    /// Whether the actor ended on purpose, so that a transient child stays down.
    pub const fn is_clean(&self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownWith { .. })
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("normal"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::ShutdownWith { why } => write!(f, "shutdown: {why}"),
            Self::Error { message } => write!(f, "error: {message}"),
            Self::Panic { message, location: Some(location) } => {
                write!(f, "panicked at {location}: {message}")
            }
            Self::Panic { message, location: None } => write!(f, "panicked: {message}"),
            Self::Killed => f.write_str("killed"),
            Self::NoProc => f.write_str("noproc"),
            Self::GaveUp { restarts, limit, period_ms, last } => {
                write!(f, "gave up: {restarts} restarts in {period_ms} ms (limit {limit}); last: {last}")
            }
        }
    }
}

/// So that `?` hands it on to callers who wait for a result.
impl std::error::Error for ExitReason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_intended_end_is_clean() {
        let message: Arc<str> = "x".into();
        for (reason, clean) in [
            (ExitReason::Normal, true),
            (ExitReason::Shutdown, true),
            (ExitReason::ShutdownWith { why: message.clone() }, true),
            (ExitReason::Error { message: message.clone() }, false),
            (ExitReason::Panic { message: message.clone(), location: None }, false),
            (ExitReason::Killed, false),
            (ExitReason::NoProc, false),
            (ExitReason::GaveUp { restarts: 4, limit: 3, period_ms: 5000, last: message }, false),
        ] {
            assert_eq!(reason.is_clean(), clean, "{reason}");
        }
    }

    #[test]
    fn an_error_brings_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot save")]
        struct Outer(#[source] fmt::Error);
        let reason = ExitReason::error(&Outer(fmt::Error));
        assert!(reason.to_string().starts_with("error: cannot save: "));
    }
}
