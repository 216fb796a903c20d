//! What an operator may ask of a node, besides looking at it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::affinity::AffinityError;
use crate::alert::SILENCE_MAX;
use crate::name::Name;
use crate::receipt::BreakerState;

/// A request of an operator to the actors of the plant. It travels as a message like everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// Stop a line: it refuses every signal until the cord is reset.
    PullCord {
        /// The line.
        line: Name,
        /// Who asks.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// Let a stopped line run again.
    ResetCord {
        /// The line.
        line: Name,
        /// Who asks.
        by: Arc<str>,
    },
    /// Take care of what a station shows: its alert is neither repeated nor escalated.
    Acknowledge {
        /// The station.
        station: Name,
        /// Who asks.
        by: Arc<str>,
    },
    /// Hear nothing of some stations for a while.
    Silence {
        /// A station's name, or the beginning of names with a `*` behind it.
        stations: Arc<str>,
        /// For how long, in milliseconds; zero ends a silence.
        for_ms: u64,
        /// Who asks.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// Open a breaker until it is forced to another state, let probes through, or close it.
    ForceBreaker {
        /// The breaker.
        breaker: Name,
        /// The state it is to be in.
        to: BreakerState,
        /// Who asks.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// Move a worker's worth of capacity from an idle pool to an overloaded one now, not when it is due.
    Rebalance {
        /// Who asks.
        by: Arc<str>,
    },
    /// Compare a line with how it is now, not with its baseline so far.
    AcceptBaseline {
        /// The line.
        line: Name,
        /// Who asks.
        by: Arc<str>,
    },
    /// Let keys belong to a pool for [`AFFINITY_LASTS`](crate::affinity::AFFINITY_LASTS), as one group.
    BindKeys {
        /// The group's name; one of the same name is replaced.
        group: Name,
        /// The pool.
        pool: Name,
        /// The keys, by their [hash](crate::routing::key_hash).
        keys: Vec<u64>,
        /// Who asks.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// End an affinity group.
    ClearKeys {
        /// The group.
        group: Name,
        /// Who asks.
        by: Arc<str>,
    },
}

/// Why an operator's request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No line has this name.
    #[error("no line is called '{line}'; the lines are: {known}")]
    UnknownLine {
        /// The name asked for.
        line: Name,
        /// The lines there are.
        known: Arc<str>,
    },
    /// No breaker has this name.
    #[error("no breaker is called '{breaker}'; the breakers are: {known}")]
    UnknownBreaker {
        /// The name asked for.
        breaker: Name,
        /// The breakers there are.
        known: Arc<str>,
    },
    /// The cord of this line is pulled already.
    #[error("the cord of line '{line}' is pulled already, by {by}; reset it first")]
    AlreadyPulled {
        /// The line.
        line: Name,
        /// Who pulled it.
        by: Arc<str>,
    },
    /// The cord of this line is not pulled.
    #[error("the cord of line '{line}' is not pulled; nothing to reset")]
    NotPulled {
        /// The line.
        line: Name,
    },
    /// No station has this name.
    #[error("no station is called '{station}'; the board shows: {known}")]
    UnknownStation {
        /// The name asked for.
        station: Name,
        /// The stations there are, the worst first.
        known: Arc<str>,
    },
    /// The station is green: there is nothing to take care of.
    #[error("'{station}' is green; there is nothing to acknowledge")]
    Green {
        /// The station.
        station: Name,
    },
    /// The silence is too long.
    #[error("a silence of {} s is too long; {} s is the limit", for_ms / 1000, SILENCE_MAX.as_secs())]
    TooLong {
        /// What was asked for, in milliseconds.
        for_ms: u64,
    },
    /// No capacity can be moved.
    #[error(
        "nothing to move: no pool is used above 80 % with all the workers it may have, beside one that has more \
         than its fewest and less to do; see `gemba board`"
    )]
    NothingToMove,
    /// The line has not been measured for long enough.
    #[error(
        "line '{line}' has {outcomes} outcomes in its window, a baseline takes {needed}; try again later"
    )]
    TooFewOutcomes {
        /// The line.
        line: Name,
        /// Outcomes there are.
        outcomes: u64,
        /// Outcomes it takes.
        needed: u64,
    },
    /// No pool has this name.
    #[error("no pool is called '{pool}'; the pools are: {known}")]
    UnknownPool {
        /// The name asked for.
        pool: Name,
        /// The pools there are.
        known: Arc<str>,
    },
    /// No affinity group has this name.
    #[error("no affinity group is called '{group}'; the groups are: {known}")]
    UnknownGroup {
        /// The name asked for.
        group: Name,
        /// The groups there are.
        known: Arc<str>,
    },
    /// The keys cannot be bound.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// Nothing on this node takes such requests, or it is just restarting.
    #[error("no board answers on this node now; it has no plant, or the plant is restarting: try again")]
    Unavailable,
}
