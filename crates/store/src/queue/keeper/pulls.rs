//! Who waits for cards, and what becomes of a card on its way to one who does not wait any more.

use std::collections::VecDeque;
use std::time::Duration;

use gemba_core::kanban::{Delivery, KanbanError, LeaseId, PullerId};
use gemba_core::time::Timestamp;
use gemba_kernel::{Address, Reply};

use super::{GONE, Keeper, Msg};
use crate::queue::held::Held;

/// How many pulls may wait for a card.
const PULLS_MAX: usize = 10_000;

impl Keeper {
    pub(super) fn pull(&mut self, puller: PullerId, reply: Reply<Result<Held, KanbanError>>) {
        let waiting: usize = self.parked.values().map(VecDeque::len).sum();
        if PULLS_MAX <= waiting {
            return; // Its reply is dropped: the puller asks again.
        }
        match self.board.pull(puller, 1) {
            Ok(()) => self.parked.entry(puller).or_default().push_back(reply),
            Err(error) => reply.send(Err(error)),
        }
    }

    pub(super) fn leave(&mut self, puller: PullerId, now: Timestamp) {
        self.parked.remove(&puller);
        // What was on its way to it, nobody has worked on.
        let coming = self.deliveries.iter().filter(|(_, delivery)| delivery.puller == puller);
        for lease in coming.map(|(lease, _)| *lease).collect::<Vec<_>>() {
            self.deliveries.remove(&lease);
            self.put_back(lease, Duration::ZERO, GONE.to_owned(), None, now);
        }
        for returned in self.board.leave(puller, now) {
            self.returned(returned, Some("its subscriber left".into()), None);
        }
    }

    /// Forgets who has gone away waiting.
    pub(super) fn sift(&mut self) {
        for (puller, waiting) in &mut self.parked {
            let before = waiting.len();
            waiting.retain(|reply| !reply.is_closed());
            for _ in waiting.len()..before {
                self.board.withdraw(*puller);
            }
        }
    }

    /// A delivery comes to nothing: whoever was to have it goes on asking.
    pub(super) fn wish_again(&mut self, lease: LeaseId) {
        let Some(Delivery { puller, .. }) = self.deliveries.remove(&lease) else { return };
        if self.parked.get(&puller).is_some_and(|waiting| !waiting.is_empty()) {
            // One that has left meanwhile waits for nothing.
            let _ = self.board.pull(puller, 1);
        }
    }

    pub(super) fn hand_out(&mut self, lease: LeaseId, payload: Vec<u8>, keeper: &Address<Msg>) {
        let Some(Delivery { card, puller, tier, deliveries, .. }) = self.deliveries.remove(&lease) else {
            return;
        };
        let held = Held::new(card, lease, (tier, deliveries), payload, keeper.clone());
        // If its puller has gone, the card gives itself back.
        if let Some(reply) = self.parked.get_mut(&puller).and_then(VecDeque::pop_front) {
            reply.send(Ok(held));
        }
    }
}
