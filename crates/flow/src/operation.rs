//! Any operation, timed: what it gives goes through, and how long it took stands beside the lines.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gemba_core::metric;
use gemba_core::name::{Name, NameError};
use gemba_core::time::Timestamp;
use gemba_kernel::System;
use metrics::Histogram;

/// Operations that are told apart at most: each is a series of buckets that stays until the node ends.
pub const OPERATIONS_MAX: usize = 64;

/// An operation that cannot be timed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// Its name cannot stand in a label.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Another one has this name.
    #[error("two operations are called '{name}'; give each its own name, and clone the handle")]
    Duplicate {
        /// The name.
        name: Name,
    },
    /// There are as many as can be told apart.
    #[error(
        "operation '{name}' is one too many: {OPERATIONS_MAX} can be told apart; time fewer, or larger ones"
    )]
    TooMany {
        /// The one that has no place.
        name: Name,
    },
}

/// The operations of a node that are timed: parts of an action, calls of a library, whatever is no line.
///
/// They stand on the page of metrics as `gemba_operation_duration_seconds`, by how they ended. A line has more: a
/// baseline, a place among the bottlenecks, and lights.
///
/// # Units and limits
///
/// At most [`OPERATIONS_MAX`], each named once, where the program is put together. They are timed once the node runs:
/// before, it has no metrics to show them in.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use gemba_flow::Operations;
/// use gemba_kernel::Node;
///
/// let node = Node::builder("example");
/// let mut operations = Operations::new(node.system());
/// let lookup = operations.add("lookup")?;
/// let node = node.start().await?;
/// assert_eq!(lookup.time(async { 21 * 2 }).await, 42);
/// let parsed = lookup.try_time(async { "x".parse::<u8>() }).await;
/// assert!(parsed.is_err());
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Operations {
    system: System,
    names: BTreeSet<Name>,
}

impl Operations {
    /// No operation yet.
    pub fn new(system: &System) -> Self {
        Self { system: system.clone(), names: BTreeSet::new() }
    }

    /// Adds an operation and gives the handle to time it with, which is to be kept: it knows where to count.
    ///
    /// # Errors
    ///
    /// [`OperationError`] if its name cannot be, is taken, or is one too many.
    pub fn add(&mut self, name: &str) -> Result<Operation, OperationError> {
        let name = Name::new(name)?;
        if self.names.contains(&name) {
            return Err(OperationError::Duplicate { name });
        }
        if self.names.len() == OPERATIONS_MAX {
            return Err(OperationError::TooMany { name });
        }
        self.names.insert(name.clone());
        Ok(Operation(Arc::new(Timed { system: self.system.clone(), name, ended: OnceLock::new() })))
    }
}

/// Times one operation. Clones time the same one.
#[derive(Clone)]
pub struct Operation(Arc<Timed>);

struct Timed {
    system: System,
    name: Name,
    /// Where it counts, by how it ended. Known when it is first timed: a node that does not run has no metrics yet.
    ended: OnceLock<[Histogram; Ended::ALL.len()]>,
}

#[derive(Debug, Clone, Copy)]
enum Ended {
    Done,
    Failed,
    Cancelled,
}

impl Ended {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Cancelled];

    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Timed {
    fn record(&self, ended: Ended, took: Duration) {
        // Whoever asks for them before settles that there are none, and the node would not start with its own.
        if !self.system.has_instruments() {
            return;
        }
        let histogram = |ended: Ended| {
            self.system.instruments().histogram(&metric::OPERATION, &[self.name.as_str(), ended.word()])
        };
        self.ended.get_or_init(|| Ended::ALL.map(histogram))[ended as usize].record(took.as_secs_f64());
    }
}

impl Operation {
    /// Does the work and gives what it gives.
    ///
    /// # Cancel safety
    ///
    /// That of the work. Work that is dropped before its end, or panics, is counted as `cancelled`.
    pub async fn time<T>(&self, work: impl Future<Output = T>) -> T {
        let mut lap = self.begin();
        let result = work.await;
        lap.ended = Ended::Done;
        result
    }

    /// Does the work and gives what it gives; an error is counted apart, as `failed`.
    ///
    /// # Errors
    ///
    /// Those of the work.
    ///
    /// # Cancel safety
    ///
    /// As of [`time`](Self::time).
    pub async fn try_time<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut lap = self.begin();
        let result = work.await;
        lap.ended = if result.is_ok() { Ended::Done } else { Ended::Failed };
        result
    }

    fn begin(&self) -> Lap<'_> {
        Lap { timed: &self.0, begun: self.0.system.now(), ended: Ended::Cancelled }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.0.name).finish()
    }
}

/// An operation that runs: one record when it is dropped, by how it ended.
struct Lap<'a> {
    timed: &'a Timed,
    begun: Timestamp,
    ended: Ended,
}

impl Drop for Lap<'_> {
    fn drop(&mut self) {
        let took = self.timed.system.now().since(self.begun);
        self.timed.record(self.ended, took);
    }
}

#[cfg(test)]
mod tests {
    use gemba_kernel::Node;

    use super::*;

    #[test]
    fn there_are_so_many_names_and_each_is_taken_once() {
        let mut operations = Operations::new(Node::builder("test").system());
        for n in 0..OPERATIONS_MAX {
            operations.add(&format!("operation-{n}")).unwrap();
        }
        let taken = operations.add("operation-7").unwrap_err();
        assert!(matches!(&taken, OperationError::Duplicate { name } if name.as_str() == "operation-7"));
        assert!(matches!(operations.add("more").unwrap_err(), OperationError::TooMany { .. }));
        assert!(matches!(operations.add("no name/").unwrap_err(), OperationError::Name(_)));
    }
}
