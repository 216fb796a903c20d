//! What a caller hands to a line.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::queue::{NOBODY, Tenant};
use gemba_core::routing::key_hash;

/// What enters a line.
#[derive(Debug, Clone)]
pub struct Signal<I> {
    pub(crate) input: I,
    pub(crate) key: Option<u64>,
    pub(crate) tenant: Tenant,
    pub(crate) tier: Option<Tier>,
    pub(crate) deadline: Option<Duration>,
}

impl<I> Signal<I> {
    /// A signal with the tier and deadline of its line.
    pub fn new(input: I) -> Self {
        Self { input, key: None, tenant: NOBODY, tier: None, deadline: None }
    }

    /// Signals of one key go to one pool while it has room: one that follows from the key, or the one it was
    /// [bound](gemba_core::affinity) to.
    pub fn key(mut self, key: &[u8]) -> Self {
        self.key = Some(key_hash(key));
        self
    }

    /// On whose behalf it comes, such as a customer of a service that has many.
    ///
    /// While more comes than can be done, tenants share the workers' time evenly within a tier: one that sends ten
    /// times as much, or work that takes ten times as long, waits and is refused behind itself, and the others
    /// hardly notice. What is of no tenant counts as one tenant together.
    ///
    /// Tenants are known by their hash: of a million, two share a turn with a chance of 1 in 10 million. How long
    /// their work takes is learnt of the thousand that came last at least; of others the mean of all is taken.
    pub fn tenant(mut self, tenant: &[u8]) -> Self {
        self.tenant = key_hash(tenant).max(NOBODY + 1);
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
