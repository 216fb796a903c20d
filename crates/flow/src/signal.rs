//! What a caller hands to a line.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::queue::{NOBODY, Tenant};
use gemba_core::routing::key_hash;
use gemba_core::trace::TraceContext;

/// What enters a line.
#[derive(Debug, Clone)]
pub struct Signal<I> {
    pub(crate) input: I,
    pub(crate) key: Option<u64>,
    pub(crate) tenant: Tenant,
    pub(crate) tier: Option<Tier>,
    pub(crate) deadline: Option<Duration>,
    /// In a box, so that a signal that nobody follows carries no more than a word for it.
    pub(crate) trace: Option<Box<TraceContext>>,
}

impl<I> Signal<I> {
    /// A signal with the tier and deadline of its line.
    pub fn new(input: I) -> Self {
        Self { input, key: None, tenant: NOBODY, tier: None, deadline: None, trace: None }
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

    /// Whose trace it belongs to, such as what came in the header `traceparent` of a request.
    ///
    /// Its receipt names the trace, its spans go on with it where they are exported, and its action finds it in
    /// [`JobContext::trace`](crate::JobContext::trace), to be passed on.
    pub fn trace(mut self, context: TraceContext) -> Self {
        self.trace = Some(Box::new(context));
        self
    }
}
