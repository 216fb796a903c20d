//! What is done: counted, the last of it kept, and measured by Little's law.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Card, CardId};
use crate::time::Timestamp;

/// How many of the cards that are done can be looked at.
pub const RING: usize = 100;

/// A card that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneCard {
    /// Which.
    pub card: CardId,
    /// From its arrival to its end.
    pub lead: Duration,
    /// From its last delivery to its end.
    pub work: Duration,
    /// How often it was delivered.
    pub deliveries: u32,
}

/// What flowed over the board in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// How long the window was.
    pub window: Duration,
    /// Cards that were done.
    pub finished: u64,
    /// Cards on the board, on average over the window: L.
    pub mean_cards: f64,
    /// Cards done a second: λ.
    pub per_second: f64,
    /// How long they were on the board, on average: W.
    pub mean_lead: Duration,
    /// The share of that time in which they were worked on.
    pub efficiency: f64,
}

impl Flow {
    /// How far L is from λ·W, as a share of the greater: near 0 when as much comes as goes, and a sign of
    /// cards that pile up or of a wrong count when not.
    pub fn little(&self) -> f64 {
        let expected = self.per_second * self.mean_lead.as_secs_f64();
        let most = self.mean_cards.max(expected);
        if most == 0.0 { 0.0 } else { (self.mean_cards - expected).abs() / most }
    }
}

#[derive(Debug)]
pub(super) struct Done {
    count: u64,
    ring: VecDeque<DoneCard>,
    last_at: Timestamp,
    /// Of the window: since when, and up to when it is counted.
    since: Timestamp,
    counted_to: Timestamp,
    /// Nanoseconds times cards.
    area: u128,
    finished: u64,
    lead: Duration,
    work: Duration,
}

impl Done {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            count: 0,
            ring: VecDeque::with_capacity(RING),
            last_at: now,
            since: now,
            counted_to: now,
            area: 0,
            finished: 0,
            lead: Duration::ZERO,
            work: Duration::ZERO,
        }
    }

    /// Until now there were so many cards.
    pub(super) fn cards(&mut self, cards: u64, now: Timestamp) {
        self.area += now.since(self.counted_to).as_nanos() * u128::from(cards);
        self.counted_to = self.counted_to.max(now);
    }

    pub(super) fn finished(&mut self, card: &Card, since: Timestamp, now: Timestamp) -> DoneCard {
        let done = DoneCard {
            card: card.id,
            lead: now.since(card.arrived),
            work: now.since(since),
            deliveries: card.deliveries,
        };
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(done);
        self.count += 1;
        self.last_at = now;
        self.finished += 1;
        self.lead += done.lead;
        self.work += done.work;
        done
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    pub(super) const fn last_at(&self) -> Timestamp {
        self.last_at
    }

    pub(super) fn ring(&self) -> impl Iterator<Item = &DoneCard> {
        self.ring.iter()
    }

    pub(super) fn take_flow(&mut self, cards: u64, now: Timestamp) -> Flow {
        self.cards(cards, now);
        let window = now.since(self.since);
        let share = |part: f64, whole: f64| if whole == 0.0 { 0.0 } else { part / whole };
        let flow = Flow {
            window,
            finished: self.finished,
            mean_cards: share(self.area as f64, window.as_nanos() as f64),
            per_second: share(self.finished as f64, window.as_secs_f64()),
            mean_lead: self.lead.checked_div(self.finished as u32).unwrap_or_default(),
            efficiency: share(self.work.as_secs_f64(), self.lead.as_secs_f64()),
        };
        (self.since, self.area, self.finished) = (now, 0, 0);
        (self.lead, self.work) = (Duration::ZERO, Duration::ZERO);
        flow
    }
}
