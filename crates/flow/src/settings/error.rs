//! What is wrong with settings.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::adaptive::AdaptiveRulesError;
use gemba_core::admission::LimitsError;
use gemba_core::baseline::BaselineRulesError;
use gemba_core::breaker::BreakerRulesError;
use gemba_core::burn_rate::{BurnRulesError, ObjectiveError};
use gemba_core::burst::BurstRulesError;
use gemba_core::forecast::ForecastRulesError;
use gemba_core::health::HealthErrors;
use gemba_core::jidoka::JidokaRulesError;
use gemba_core::ladder::LadderRulesError;
use gemba_core::pool_health::PoolHealthRulesError;
use gemba_core::rate::RateError;
use gemba_core::scaling::ScaleRulesError;
use gemba_core::wait::WaitRulesErrors;
use gemba_kernel::CallError;

use super::DEADLINE_MAX;
use crate::line::FOLLOW_UP_MAX;

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The limits of admission.
    #[error("limits: {0}")]
    Limits(#[from] LimitsError),
    /// The rules of bursts.
    #[error("burst: {0}")]
    Burst(#[from] BurstRulesError),
    /// What is foreseen of the arrivals.
    #[error("forecast: {0}")]
    Forecast(#[from] ForecastRulesError),
    /// The rules by which lines stop.
    #[error("jidoka: {0}")]
    Jidoka(#[from] JidokaRulesError),
    /// Which share of failures lights which light.
    #[error("ladder: {0}")]
    Ladder(#[from] LadderRulesError),
    /// When a line is slower than its baseline.
    #[error("regressions: {0}")]
    Regressions(#[from] BaselineRulesError),
    /// Which burn rates tell.
    #[error("burn rates: {0}")]
    Burn(#[from] BurnRulesError),
    /// From where on a pool is degraded and critical.
    #[error("health of pools: {0}")]
    PoolHealth(#[from] PoolHealthRulesError),
    /// How the checks of the node are weighed.
    #[error("health: {0}")]
    Health(#[from] HealthErrors),
    /// The rules of a pool.
    #[error("pool '{pool}': {error}")]
    Pool {
        /// The pool.
        pool: String,
        /// What is wrong.
        error: ScaleRulesError,
    },
    /// How jobs wait for a pool.
    #[error("pool '{pool}': {error}")]
    Wait {
        /// The pool.
        pool: String,
        /// All that is wrong.
        error: WaitRulesErrors,
    },
    /// The rates of a line.
    #[error("line '{line}': {error}")]
    Rate {
        /// The line.
        line: String,
        /// What is wrong.
        error: RateError,
    },
    /// The breaker of a line.
    #[error("line '{line}': {error}")]
    Breaker {
        /// The line.
        line: String,
        /// What is wrong.
        error: BreakerRulesError,
    },
    /// The limit of calls to a downstream.
    #[error("line '{line}': {error}")]
    Adaptive {
        /// The line.
        line: String,
        /// What is wrong.
        error: AdaptiveRulesError,
    },
    /// What share of a line's work has to succeed.
    #[error("line '{line}': {error}")]
    Objective {
        /// The line.
        line: String,
        /// What is wrong.
        error: ObjectiveError,
    },
    /// Signals would have no time, or would never be given up.
    #[error("line '{line}': a deadline of {deadline:?}; give more than zero and at most {DEADLINE_MAX:?}")]
    Deadline {
        /// The line.
        line: String,
        /// The refused deadline.
        deadline: Duration,
    },
    /// What follows a success would have no time, or keep a worker for too long.
    #[error(
        "line '{line}': what follows may take {within:?}; give more than zero and at most {FOLLOW_UP_MAX:?}"
    )]
    FollowUp {
        /// The line.
        line: String,
        /// The refused time.
        within: Duration,
    },
    /// No line has this name.
    #[error("no line is called '{line}'; the lines are: {known}")]
    UnknownLine {
        /// The name.
        line: String,
        /// The lines there are.
        known: Arc<str>,
    },
    /// No pool has this name.
    #[error("no pool is called '{pool}'; the pools are: {known}")]
    UnknownPool {
        /// The name.
        pool: String,
        /// The pools there are.
        known: Arc<str>,
    },
}

/// Everything wrong with the settings. None of them was applied; the old ones stay in force.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} fault(s) in the settings, nothing was changed:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub struct SettingsErrors(pub Vec<SettingError>);

/// Why settings were not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// They are faulty.
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    /// The regulator is restarting, or did not answer in time: then they may be in force all the same, and
    /// applying them again does no harm.
    #[error(transparent)]
    Call(#[from] CallError),
}
