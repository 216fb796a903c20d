//! A board of cards: pulled within a limit, leased to whoever works on them, returned when that fails.
//!
//! A card is always in exactly one place: to do, resting, in work, or dead. What is done leaves the board
//! and is counted. Read [`Kanban::deliver`] first: all else leads to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Timestamp;

mod card;
mod done;
mod fair;
mod plan;
mod rules;

pub use card::{Card, CardId, Delivery, KanbanCounts, KanbanError, LeaseId, PullerId, Returned};
pub use done::{DoneCard, Flow, RING};
pub use plan::share_out;
pub use rules::{KanbanRules, KanbanRulesBuilder, KanbanRulesError};

use done::Done;
use fair::Fair;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Todo,
    Resting(Timestamp),
    Working(LeaseId),
    Dead,
}

#[derive(Debug)]
struct Lease {
    card: CardId,
    puller: PullerId,
    since: Timestamp,
    until: Timestamp,
}

/// The board.
///
/// # Units and limits
///
/// See [`KanbanRules`]. Every method takes the time of an ordered set at most.
#[derive(Debug)]
#[doc(alias = "jit")]
pub struct Kanban {
    rules: KanbanRules,
    cards: BTreeMap<CardId, (Card, Place)>,
    /// Who is served next: by arrival, lower tiers as if they had come later.
    todo: BTreeSet<(Timestamp, CardId)>,
    resting: BTreeSet<(Timestamp, CardId)>,
    leases: BTreeMap<LeaseId, Lease>,
    expiries: BTreeSet<(Timestamp, LeaseId)>,
    dead: u64,
    pullers: Fair,
    next_lease: u64,
    done: Done,
}

impl Kanban {
    /// An empty board.
    pub fn new(rules: KanbanRules, now: Timestamp) -> Self {
        Self {
            rules,
            cards: BTreeMap::new(),
            todo: BTreeSet::new(),
            resting: BTreeSet::new(),
            leases: BTreeMap::new(),
            expiries: BTreeSet::new(),
            dead: 0,
            pullers: Fair::default(),
            next_lease: 1,
            done: Done::new(now),
        }
    }

    /// Whether one more card may come.
    ///
    /// # Errors
    ///
    /// [`KanbanError::Full`].
    pub fn has_room(&self, for_cards: u64) -> Result<(), KanbanError> {
        let cards = self.cards.len() as u64;
        if self.rules.cards_max < cards.saturating_add(for_cards) {
            return Err(KanbanError::Full { cards, dead: self.dead });
        }
        Ok(())
    }

    /// The number of the next delivery: for a board that goes on where another ended, so that no lease of that
    /// one is taken for one of this.
    pub fn first_lease(mut self, lease: LeaseId) -> Self {
        self.next_lease = lease.0;
        self
    }

    /// Puts a card on the board: to do, whether or not there is room, since it has been accepted.
    pub fn add(&mut self, card: Card, now: Timestamp) {
        self.add_resting(card, now, now);
        self.wake(now);
    }

    /// Puts a card on the board that nobody may have before `at`.
    pub fn add_resting(&mut self, card: Card, at: Timestamp, now: Timestamp) {
        self.done.cards(self.alive(), now);
        self.cards.insert(card.id, (card, Place::Resting(at)));
        self.resting.insert((at, card.id));
    }

    /// Puts a card that an earlier life gave up among the dead.
    pub fn add_dead(&mut self, card: Card) {
        self.cards.insert(card.id, (card, Place::Dead));
        self.dead += 1;
    }

    /// Lets somebody pull. Of those who ask, each gets cards in proportion to its weight, by cost.
    pub fn join(&mut self, puller: PullerId, weight: u32) {
        self.pullers.join(puller, weight);
    }

    /// Ends a puller's pulls and takes back what it had; the next puller gets that at once.
    pub fn leave(&mut self, puller: PullerId, now: Timestamp) -> Vec<Returned> {
        self.pullers.leave(puller);
        let held: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.puller == puller).map(|(id, _)| *id).collect();
        held.into_iter().filter_map(|lease| self.take_back(lease, Some(Duration::ZERO), now)).collect()
    }

    /// Asks for cards; they come by [`deliver`](Self::deliver), now or when there are some.
    ///
    /// # Errors
    ///
    /// [`KanbanError::NotJoined`].
    pub fn pull(&mut self, puller: PullerId, cards: u32) -> Result<(), KanbanError> {
        if self.pullers.ask(puller, cards) { Ok(()) } else { Err(KanbanError::NotJoined) }
    }

    /// Takes one card less than was asked for: its puller has gone away waiting.
    pub fn withdraw(&mut self, puller: PullerId) {
        self.pullers.withdraw(puller);
    }

    /// The next card and who gets it; `None` when nobody asks, nothing waits, or the limit is reached. Call it
    /// until then, after everything else that was called.
    pub fn deliver(&mut self, now: Timestamp) -> Option<Delivery> {
        self.wake(now);
        if self.pullers.is_empty() || self.rules.wip_max <= self.leases.len() as u64 {
            return None;
        }
        let (_, id) = *self.todo.first()?;
        let (card, _) = self.cards[&id];
        let puller = self.pullers.next(card.cost)?;
        self.todo.pop_first();
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        let until = now + self.rules.lease;
        let (card, place) = self.cards.get_mut(&id).expect("what is to do is on the board");
        card.deliveries = card.deliveries.saturating_add(1);
        *place = Place::Working(lease);
        let (tier, deliveries) = (card.tier, card.deliveries);
        self.leases.insert(lease, Lease { card: id, puller, since: now, until });
        self.expiries.insert((until, lease));
        Some(Delivery { card: id, lease, puller, tier, deliveries, until })
    }

    /// The card of a lease, if it still holds.
    pub fn leased(&self, lease: LeaseId) -> Option<CardId> {
        self.leases.get(&lease).map(|lease| lease.card)
    }

    /// The card is done and leaves the board.
    ///
    /// # Errors
    ///
    /// [`KanbanError::LeaseOver`].
    pub fn finish(&mut self, lease: LeaseId, now: Timestamp) -> Result<DoneCard, KanbanError> {
        self.done.cards(self.alive(), now);
        let Lease { card: id, since, .. } = self.end(lease).ok_or(KanbanError::LeaseOver)?;
        let (card, _) = self.cards.remove(&id).expect("what is in work is on the board");
        Ok(self.done.finished(&card, since, now))
    }

    /// The card was not done; it rests for `delay`, or as the rules say, and is tried again.
    ///
    /// # Errors
    ///
    /// [`KanbanError::LeaseOver`].
    pub fn give_back(
        &mut self,
        lease: LeaseId,
        delay: Option<Duration>,
        now: Timestamp,
    ) -> Result<Returned, KanbanError> {
        self.take_back(lease, delay, now).ok_or(KanbanError::LeaseOver)
    }

    /// The card was not worked on: the delivery does not count, and it may be had again after `delay`.
    ///
    /// # Errors
    ///
    /// [`KanbanError::LeaseOver`].
    pub fn put_back(
        &mut self,
        lease: LeaseId,
        delay: Duration,
        now: Timestamp,
    ) -> Result<Returned, KanbanError> {
        self.done.cards(self.alive(), now);
        let Lease { card: id, .. } = self.end(lease).ok_or(KanbanError::LeaseOver)?;
        let (card, place) = self.cards.get_mut(&id).expect("what is in work is on the board");
        card.deliveries = card.deliveries.saturating_sub(1);
        let at = now + delay;
        *place = Place::Resting(at);
        self.resting.insert((at, id));
        Ok(Returned::Again { card: id, at })
    }

    /// Trying the card again would change nothing: it is dead at once, however often it may be delivered.
    ///
    /// # Errors
    ///
    /// [`KanbanError::LeaseOver`].
    pub fn set_aside(&mut self, lease: LeaseId, now: Timestamp) -> Result<Returned, KanbanError> {
        self.done.cards(self.alive(), now);
        let Lease { card: id, .. } = self.end(lease).ok_or(KanbanError::LeaseOver)?;
        let (card, place) = self.cards.get_mut(&id).expect("what is in work is on the board");
        *place = Place::Dead;
        self.dead += 1;
        Ok(Returned::Dead { card: id, deliveries: card.deliveries })
    }

    /// The card takes longer: its lease begins anew.
    ///
    /// # Errors
    ///
    /// [`KanbanError::LeaseOver`].
    pub fn extend(&mut self, lease: LeaseId, now: Timestamp) -> Result<Timestamp, KanbanError> {
        let held = self.leases.get_mut(&lease).ok_or(KanbanError::LeaseOver)?;
        self.expiries.remove(&(held.until, lease));
        held.until = now + self.rules.lease;
        self.expiries.insert((held.until, lease));
        Ok(held.until)
    }

    /// Takes back what was not done in time.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Returned> {
        let mut returned = Vec::new();
        while let Some((until, lease)) = self.expiries.first().copied()
            && until <= now
        {
            returned.extend(self.take_back(lease, None, now));
        }
        returned
    }

    /// Gives a dead card all its deliveries again.
    ///
    /// # Errors
    ///
    /// [`KanbanError::NotDead`].
    pub fn redrive(&mut self, id: CardId, now: Timestamp) -> Result<(), KanbanError> {
        self.done.cards(self.alive(), now);
        let Some((card, place @ Place::Dead)) = self.cards.get_mut(&id) else {
            return Err(KanbanError::NotDead(id));
        };
        (card.deliveries, *place) = (0, Place::Todo);
        let card = *card;
        self.dead -= 1;
        self.todo.insert(self.turn(&card));
        Ok(())
    }

    /// Takes a dead card off the board.
    ///
    /// # Errors
    ///
    /// [`KanbanError::NotDead`].
    pub fn discard(&mut self, id: CardId) -> Result<(), KanbanError> {
        let Some((_, Place::Dead)) = self.cards.get(&id) else { return Err(KanbanError::NotDead(id)) };
        self.cards.remove(&id);
        self.dead -= 1;
        Ok(())
    }

    /// A card turned out to be done, wherever the board thought it was: its worker came back after its lease,
    /// and yet before anybody else had it.
    pub fn settle(&mut self, id: CardId, now: Timestamp) {
        self.done.cards(self.alive(), now);
        let Some((card, place)) = self.cards.remove(&id) else { return };
        let since = match place {
            Place::Todo => {
                self.todo.remove(&self.turn(&card));
                now
            }
            Place::Resting(at) => {
                self.resting.remove(&(at, id));
                now
            }
            Place::Working(lease) => self.end(lease).map_or(now, |held| held.since),
            Place::Dead => {
                self.dead -= 1;
                now
            }
        };
        self.done.finished(&card, since, now);
    }

    /// When something will happen by itself: a card has rested, or a lease ends.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let rested = self.resting.first().map(|(at, _)| *at);
        let ended = self.expiries.first().map(|(at, _)| *at);
        rested.into_iter().chain(ended).min()
    }

    /// Sets other rules; what is in work beyond a lower limit is finished first.
    pub fn set_rules(&mut self, rules: KanbanRules) {
        self.rules = rules;
        self.todo = self
            .cards
            .values()
            .filter(|(_, place)| *place == Place::Todo)
            .map(|(card, _)| self.turn(card))
            .collect();
    }

    /// The rules in force.
    pub const fn rules(&self) -> &KanbanRules {
        &self.rules
    }

    /// Whether work stands still: the limit is reached, cards wait, and nothing has finished for
    /// `stalled_after`.
    pub fn is_stalled(&self, now: Timestamp) -> bool {
        let oldest = self.leases.first_key_value().map(|(_, lease)| lease.since);
        let quiet = |since| self.rules.stalled_after <= now.since(self.done.last_at().max(since));
        !self.todo.is_empty() && self.rules.wip_max <= self.leases.len() as u64 && oldest.is_some_and(quiet)
    }

    /// How many cards are where.
    pub fn counts(&self) -> KanbanCounts {
        KanbanCounts {
            todo: self.todo.len() as u64,
            resting: self.resting.len() as u64,
            working: self.leases.len() as u64,
            dead: self.dead,
            done: self.done.count(),
            wip_max: self.rules.wip_max,
            pullers: self.pullers.pullers() as u64,
            wanted: self.pullers.wanted(),
        }
    }

    /// How long the card that has waited longest has waited.
    pub fn oldest(&self, now: Timestamp) -> Duration {
        // A card of a lower tier may be older than the one to be served next.
        let first = self.cards.values().find(|(_, place)| *place != Place::Dead);
        first.map_or(Duration::ZERO, |(card, _)| now.since(card.arrived))
    }

    /// The cards done last, the newest last.
    pub fn last_done(&self) -> impl Iterator<Item = &DoneCard> {
        self.done.ring()
    }

    /// What has flowed since the last call.
    pub fn take_flow(&mut self, now: Timestamp) -> Flow {
        self.done.take_flow(self.alive(), now)
    }

    /// Cards on the board that are not dead.
    fn alive(&self) -> u64 {
        self.cards.len() as u64 - self.dead
    }

    fn turn(&self, card: &Card) -> (Timestamp, CardId) {
        (card.arrived + self.rules.promote_after * card.tier as u32, card.id)
    }

    /// Cards that have rested are to do again.
    fn wake(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.resting.first().copied()
            && at <= now
        {
            self.resting.pop_first();
            let (card, place) = self.cards.get_mut(&id).expect("what rests is on the board");
            *place = Place::Todo;
            let card = *card;
            self.todo.insert(self.turn(&card));
        }
    }

    fn end(&mut self, lease: LeaseId) -> Option<Lease> {
        let held = self.leases.remove(&lease)?;
        self.expiries.remove(&(held.until, lease));
        Some(held)
    }

    fn take_back(&mut self, lease: LeaseId, delay: Option<Duration>, now: Timestamp) -> Option<Returned> {
        self.done.cards(self.alive(), now);
        let Lease { card: id, .. } = self.end(lease)?;
        let (card, place) = self.cards.get_mut(&id).expect("what is in work is on the board");
        let deliveries = card.deliveries;
        if self.rules.deliveries_max <= deliveries {
            *place = Place::Dead;
            self.dead += 1;
            return Some(Returned::Dead { card: id, deliveries });
        }
        let at = now + delay.unwrap_or_else(|| self.rules.retry.delay(deliveries, id.0));
        *place = Place::Resting(at);
        self.resting.insert((at, id));
        Some(Returned::Again { card: id, at })
    }
}

#[cfg(test)]
#[path = "kanban/checks.rs"]
mod checks;
