//! What is shown of the signals of a line beside their counts: what it took lately, how fast, and what went wrong.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admission::Tier;

/// What a line took and refused in one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntakeView {
    /// How long the window is, in seconds.
    pub window_s: u32,
    /// Signals taken in it.
    pub accepted: u64,
    /// Signals refused in it.
    pub refused: u64,
    /// Signals taken per second.
    pub accepted_per_s: f64,
    /// Signals refused per second.
    pub refused_per_s: f64,
}

/// The answers of one tier of a line since the node started, against its objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectiveView {
    /// The tier.
    pub tier: Tier,
    /// Within how many milliseconds 99 % are to be answered.
    pub p99_ms_max: u64,
    /// Answers within the objective.
    pub in_time: u64,
    /// Answers that took longer.
    pub slow: u64,
    /// Whether at most 1 % are slow; `None` while there are too few answers to say.
    pub met: Option<bool>,
}

/// Signals that failed or ran out of time, of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefectView {
    /// The class the action gives its error; `timed_out`, `worker_died`, and `other` for classes beyond the limit.
    pub class: Arc<str>,
    /// How many.
    pub count: u64,
}
