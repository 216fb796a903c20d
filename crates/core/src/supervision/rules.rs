//! The rules of supervision, in OTP's words: strategy, restart type, intensity.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::ExitReason;
use crate::name::Name;

/// Which siblings are restarted with a child that died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// None.
    OneForOne,
    /// All.
    OneForAll,
    /// Those that started after it.
    RestForOne,
    /// None; children are added and removed while it runs (OTP: `simple_one_for_one`).
    Dynamic,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
            Self::Dynamic => "dynamic",
        })
    }
}

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// When it ended abnormally.
    Transient,
    /// Never; its place is given up.
    Temporary,
}

impl Restart {
    pub(super) const fn applies_to(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => !reason.is_clean(),
            Self::Temporary => false,
        }
    }
}

/// How many restarts a supervisor makes within a period before it gives up and ends itself.
///
/// # Units and limits
///
/// Default: 3 restarts in 5 s. The restart that would be one too many is not made. `restarts: 0` means
/// that the first crash ends the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// Restarts allowed within the period.
    pub restarts: u32,
    /// The period; a restart counts for exactly so long.
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: 3, period: Duration::from_secs(5) }
    }
}

/// A child of one supervisor, in the order of their starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub(super) u64);

impl ChildKey {
    /// Where the child stands among its siblings; the first is 0.
    pub const fn order(self) -> u64 {
        self.0
    }
}

/// What a supervisor does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Start a new life of the child and report [`started`](super::Supervision::started) or
    /// [`start_failed`](super::Supervision::start_failed).
    Start(ChildKey),
    /// Ask the child to stop, kill it after its time limit, and report
    /// [`exited`](super::Supervision::exited) or [`stop_failed`](super::Supervision::stop_failed).
    Stop(ChildKey),
    /// Remove the child's place: nobody will start it again.
    Forget(ChildKey),
    /// All children have started for the first time.
    Ready,
    /// End the supervisor: no child is left.
    End(ExitReason),
}

/// The supervisor has a child of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a child called '{name}' exists already; give each child of a supervisor its own name")]
pub struct DuplicateChild {
    /// The name.
    pub name: Name,
}
