//! What is wrong with a plant to be.

use std::time::Duration;

use gemba_core::health::HealthError;
use gemba_core::name::NameError;
use gemba_core::rate::RateError;
use gemba_core::scaling::ScaleRulesError;
use gemba_core::wait::WaitRulesErrors;

use crate::balancer::POOLS_PER_LINE_MAX;
use crate::line::FOLLOW_UP_MAX;
use crate::settings::DEADLINE_MAX;

/// What is wrong with a plant. All faults are told together, and nothing is started.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlantError {
    /// A line or pool has a name that cannot stand in a path.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Two pools or two lines have the same name.
    #[error("two {what}s are called '{name}'; give each its own name")]
    Duplicate {
        /// `line` or `pool`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A line names a pool that does not exist.
    #[error("line '{line}' names pool '{pool}', which the plant does not have; add it with `pool`")]
    UnknownPool {
        /// The line.
        line: String,
        /// The pool it names.
        pool: String,
    },
    /// A line names too many pools.
    #[error("line '{line}' names {pools} pools; {POOLS_PER_LINE_MAX} is the limit")]
    TooManyPools {
        /// The line.
        line: String,
        /// How many it names.
        pools: usize,
    },
    /// The file of baselines cannot be used.
    #[error("baselines in '{path}': {why}")]
    Baselines {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A pool's rules contradict each other.
    #[error("pool '{pool}': {error}")]
    Scaling {
        /// The pool.
        pool: String,
        /// What is wrong.
        error: ScaleRulesError,
    },
    /// A line's signals have no time, or more than anybody waits.
    #[error("line '{line}': a deadline of {deadline:?}; give more than zero and at most {DEADLINE_MAX:?}")]
    Deadline {
        /// The line.
        line: String,
        /// The refused deadline.
        deadline: Duration,
    },
    /// What follows a success has no time, or keeps a worker for too long.
    #[error(
        "line '{line}': what follows may take {within:?}; give more than zero and at most {FOLLOW_UP_MAX:?}"
    )]
    FollowUp {
        /// The line.
        line: String,
        /// The refused time.
        within: Duration,
    },
    /// A line's rates cannot be kept.
    #[error("line '{line}': {error}")]
    Rate {
        /// The line.
        line: String,
        /// What is wrong.
        error: RateError,
    },
    /// A check of the node's health cannot be one.
    #[error("health: {0}")]
    Health(#[from] HealthError),
    /// A pool's rules on waiting are out of range.
    #[error("pool '{pool}': {error}")]
    Wait {
        /// The pool.
        pool: String,
        /// All that is wrong with them.
        error: WaitRulesErrors,
    },
}

/// Everything wrong with a plant.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} fault(s) in the plant, nothing was started:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub struct PlantErrors(pub Vec<PlantError>);
