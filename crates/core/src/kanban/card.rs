//! Cards, who has them, and what the board says of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admission::Tier;
use crate::time::Timestamp;

/// A card, for as long as it exists. Later cards have greater numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CardId(pub u64);

/// One delivery of a card. Whoever comes back with an older one comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// One who pulls cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PullerId(pub u64);

impl fmt::Display for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "card {}", self.0)
    }
}

/// What the board knows of a card. Its content is not the board's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    /// Who it is.
    pub id: CardId,
    /// How urgent it is.
    pub tier: Tier,
    /// How much of a puller's share it uses up; 1 for a common card.
    pub cost: u32,
    /// When it came.
    pub arrived: Timestamp,
    /// How often it has been given to somebody.
    pub deliveries: u32,
}

/// A card goes to a puller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a delivery that is not made waits for its lease to end"]
pub struct Delivery {
    /// The card.
    pub card: CardId,
    /// Which delivery it is: what the puller comes back with.
    pub lease: LeaseId,
    /// To whom.
    pub puller: PullerId,
    /// How urgent it is.
    pub tier: Tier,
    /// Its number, from 1.
    pub deliveries: u32,
    /// Until when.
    pub until: Timestamp,
}

/// Where a card went that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a return is to be kept"]
pub enum Returned {
    /// It will be given to somebody from then on.
    Again {
        /// The card.
        card: CardId,
        /// From when.
        at: Timestamp,
    },
    /// It was delivered as often as it may be, and is set aside.
    Dead {
        /// The card.
        card: CardId,
        /// How often.
        deliveries: u32,
    },
}

/// Why the board does not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KanbanError {
    /// The board keeps as many cards as it may.
    #[error(
        "the queue keeps {cards} cards, its limit, {dead} of them dead; come again later, add workers, or redrive or discard the dead"
    )]
    Full {
        /// Cards there are.
        cards: u64,
        /// Of these, dead ones.
        dead: u64,
    },
    /// The lease is over: its time ran out, or its puller left, and the card may be with somebody else.
    #[error(
        "the lease of this card is over, and it may be with somebody else; drop what was done, or extend the lease in time"
    )]
    LeaseOver,
    /// No such puller.
    #[error("this subscriber has left; subscribe again")]
    NotJoined,
    /// The card is not there, or not in the place that the request needs.
    #[error("{0} is not among the dead; look again, it may have been dealt with")]
    NotDead(CardId),
}

/// How many cards are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KanbanCounts {
    /// Waiting for a puller.
    pub todo: u64,
    /// Failed, and resting before the next try.
    pub resting: u64,
    /// In work.
    pub working: u64,
    /// Given up.
    pub dead: u64,
    /// Done, since the board was made.
    pub done: u64,
    /// How many may be in work.
    pub wip_max: u64,
    /// Who may pull.
    pub pullers: u64,
    /// Cards asked for and not given yet.
    pub wanted: u64,
}
