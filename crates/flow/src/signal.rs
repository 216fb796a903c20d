//! What a caller hands to a line.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::routing::key_hash;

/// What enters a line.
#[derive(Debug, Clone)]
pub struct Signal<I> {
    pub(crate) input: I,
    pub(crate) key: Option<u64>,
    pub(crate) tier: Option<Tier>,
    pub(crate) deadline: Option<Duration>,
}

impl<I> Signal<I> {
    /// A signal with the tier and deadline of its line.
    pub fn new(input: I) -> Self {
        Self { input, key: None, tier: None, deadline: None }
    }

    /// Signals of one key go to one pool while it has room.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = Some(key_hash(key));
        self
    }

    /// How urgent it is.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = Some(tier);
        self
    }

    /// How long it may take, from now.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}
