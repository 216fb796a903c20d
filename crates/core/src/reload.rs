//! What comes of reading a configuration again while a service runs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::receipt::{Seq, SettingChange};

/// The configuration was read again and is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The receipt of what changed; of what was applied without a change if nothing did.
    pub receipt: Seq,
    /// Each setting that changed, before and after.
    pub changes: Vec<SettingChange>,
}

/// Why the old settings stay in force, all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The new ones are faulty.
    #[error("{} fault(s) in the configuration, nothing was changed:\n  {}", .0.len(), .0.join("\n  "))]
    Faults(Vec<Arc<str>>),
    /// Some of what is new can be set at the start only.
    #[error("can be set at the start only: {}; restart the service to change it, or leave it as it was", .0.join(", "))]
    NeedsRestart(Vec<Arc<str>>),
    /// Nobody on this node reads a configuration again, or not now; then it may be in force all the same, and asking
    /// again does no harm.
    #[error(
        "nobody reads a configuration again on this node now: the service cannot, or is busy with it; try again"
    )]
    Unavailable,
}

impl ReloadError {
    /// Each fault by itself, for logs and receipts.
    pub fn faults(&self) -> Vec<Arc<str>> {
        match self {
            Self::Faults(faults) => faults.clone(),
            Self::NeedsRestart(keys) => {
                let fault = |key: &Arc<str>| {
                    format!("{key} can be set at the start only; restart the service").into()
                };
                keys.iter().map(fault).collect()
            }
            Self::Unavailable => vec![self.to_string().into()],
        }
    }
}
