//! A delivery, from the keeper to the end of the work: one that is dropped gives its card back.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::kanban::{CardId, LeaseId, PullerId};
use gemba_kernel::Address;

use super::keeper::{GONE, Msg};

/// A puller that has joined, on its way to whoever asked. Dropping it, because nobody waits any more, is its leave.
#[derive(Debug)]
pub(super) struct Joined {
    puller: PullerId,
    keeper: Address<Msg>,
    has_arrived: bool,
}

impl Joined {
    pub(super) const fn new(puller: PullerId, keeper: Address<Msg>) -> Self {
        Self { puller, keeper, has_arrived: false }
    }

    /// It has arrived: from here on, leaving is up to whoever has it.
    pub(super) fn puller(mut self) -> PullerId {
        self.has_arrived = true;
        self.puller
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if !self.has_arrived {
            let _ = self.keeper.cast(Msg::Leave(self.puller));
        }
    }
}

/// A card on its way to whoever works on it. Dropping it gives the card back.
#[derive(Debug)]
pub(super) struct Held {
    pub card: CardId,
    pub lease: LeaseId,
    pub tier: Tier,
    pub deliveries: u32,
    pub payload: Vec<u8>,
    keeper: Address<Msg>,
    /// Whether whoever asked for it has it, and may have worked on it.
    is_in_hand: bool,
    is_over: bool,
}

impl Held {
    pub(super) fn new(
        card: CardId,
        lease: LeaseId,
        (tier, deliveries): (Tier, u32),
        payload: Vec<u8>,
        keeper: Address<Msg>,
    ) -> Self {
        Self { card, lease, tier, deliveries, payload, keeper, is_in_hand: false, is_over: false }
    }

    /// It has arrived: from here on the delivery counts.
    pub(super) fn is_in_hand(&mut self) {
        self.is_in_hand = true;
    }

    /// It is done, or given back by other means.
    pub(super) fn is_over(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_over {
            let back = if self.is_in_hand {
                let error = "dropped before it was done".to_owned();
                Msg::GiveBack { lease: self.lease, delay: None, error, reply: None }
            } else {
                Msg::PutBack { lease: self.lease, delay: Duration::ZERO, why: GONE.to_owned(), reply: None }
            };
            // If it does not get through, the lease ends by itself.
            let _ = self.keeper.cast(back);
        }
    }
}
