//! How a signal ended, as counts and receipts tell it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a signal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalOutcome {
    /// Nothing was done: the line had no room for it, or was closed.
    Refused,
    /// A policy said no.
    Rejected,
    /// The action succeeded.
    Succeeded,
    /// The action failed, or its worker died.
    Failed,
    /// The action ran out of time.
    TimedOut,
    /// The caller went away before the answer.
    Cancelled,
}

impl SignalOutcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Refused, Self::Rejected, Self::Succeeded, Self::Failed, Self::TimedOut, Self::Cancelled];

    /// The outcome as it stands in labels and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether its action ran, and came to an end or did not.
    pub const fn was_worked_on(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::TimedOut)
    }

    /// Whether it is a defect of the work. What was refused or rejected did no harm.
    pub const fn is_defect(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }
}

impl fmt::Display for SignalOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "ran out of time",
            Self::Cancelled => "was given up by its caller",
            Self::Refused => "was refused",
            Self::Rejected => "was rejected",
            Self::Succeeded | Self::Failed => self.word(),
        })
    }
}
