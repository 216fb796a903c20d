//! Who gets the next card: deficit round robin over those who ask, by weight and cost.

use std::collections::{BTreeMap, VecDeque};

use super::PullerId;

/// One who asks for cards.
#[derive(Debug)]
struct Puller {
    weight: u64,
    /// Cost it may still be given before the next has its turn.
    deficit: u64,
    /// Cards asked for and not given.
    wants: u64,
}

/// Everybody who may ask, and the ring of those who do.
///
/// Whoever asks is served as long as there are cards: nobody waits for the turn of one who does not ask.
#[derive(Debug, Default)]
pub(super) struct Fair {
    pullers: BTreeMap<PullerId, Puller>,
    asking: VecDeque<PullerId>,
}

impl Fair {
    pub(super) fn join(&mut self, id: PullerId, weight: u32) {
        let puller = Puller { weight: u64::from(weight.max(1)), deficit: 0, wants: 0 };
        self.pullers.insert(id, puller);
    }

    /// Whether it had joined.
    pub(super) fn leave(&mut self, id: PullerId) -> bool {
        self.asks_no_more(id);
        self.pullers.remove(&id).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asking.is_empty()
    }

    pub(super) fn pullers(&self) -> usize {
        self.pullers.len()
    }

    /// Cards asked for and not given.
    pub(super) fn wanted(&self) -> u64 {
        self.pullers.values().map(|puller| puller.wants).sum()
    }

    /// Whether it has joined.
    pub(super) fn ask(&mut self, id: PullerId, cards: u32) -> bool {
        let Some(puller) = self.pullers.get_mut(&id) else { return false };
        let is_new = puller.wants == 0 && 0 < cards;
        puller.wants += u64::from(cards);
        if is_new {
            puller.deficit = 0;
            self.asking.push_back(id);
            if self.asking.len() == 1 {
                self.begin_turn();
            }
        }
        true
    }

    /// Takes back one wish of `id`, who no longer waits for it.
    pub(super) fn withdraw(&mut self, id: PullerId) {
        let Some(puller) = self.pullers.get_mut(&id) else { return };
        puller.wants = puller.wants.saturating_sub(1);
        if puller.wants == 0 {
            self.asks_no_more(id);
        }
    }

    /// Who gets a card of this cost.
    pub(super) fn next(&mut self, cost: u32) -> Option<PullerId> {
        let cost = u64::from(cost);
        self.skip_rounds(cost);
        loop {
            let id = *self.asking.front()?;
            let puller = self.pullers.get_mut(&id)?;
            if cost <= puller.deficit {
                puller.deficit -= cost;
                puller.wants -= 1;
                if puller.wants == 0 {
                    self.asks_no_more(id);
                }
                return Some(id);
            }
            self.asking.rotate_left(1);
            self.begin_turn();
        }
    }

    /// Whoever is in front now has its turn.
    fn begin_turn(&mut self) {
        if let Some(puller) = self.asking.front().and_then(|id| self.pullers.get_mut(id)) {
            puller.deficit += puller.weight;
        }
    }

    fn asks_no_more(&mut self, id: PullerId) {
        let had_its_turn = self.asking.front() == Some(&id);
        self.asking.retain(|other| *other != id);
        if had_its_turn {
            self.begin_turn();
        }
    }

    /// Takes the rounds in which nobody can afford the card in one step.
    fn skip_rounds(&mut self, cost: u64) {
        let rounds = self.asking.iter().map(|id| {
            let puller = &self.pullers[id];
            cost.saturating_sub(puller.deficit).div_ceil(puller.weight)
        });
        let Some(idle @ 1..) = rounds.min().map(|rounds| rounds.saturating_sub(1)) else { return };
        for id in &self.asking {
            let puller = self.pullers.get_mut(id).expect("those who ask have joined");
            puller.deficit += idle * puller.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PullerId = PullerId(1);
    const B: PullerId = PullerId(2);

    fn asking(weights: &[(PullerId, u32)], wants: u32) -> Fair {
        let mut fair = Fair::default();
        for (id, weight) in weights {
            fair.join(*id, *weight);
            assert!(fair.ask(*id, wants));
        }
        fair
    }

    #[test]
    fn shares_follow_the_weights() {
        let mut fair = asking(&[(A, 3), (B, 1)], 1_000);
        let of_a = (0..400).filter(|_| fair.next(1) == Some(A)).count();
        assert_eq!(of_a, 300);
    }

    #[test]
    fn shares_count_cost_and_not_cards() {
        let mut fair = asking(&[(A, 1), (B, 1)], 10_000);
        let mut costs = BTreeMap::new();
        for card in 0..4_000_u32 {
            let cost = 1 + card % 7;
            *costs.entry(fair.next(cost).unwrap()).or_insert(0) += cost;
        }
        let (a, b) = (costs[&A], costs[&B]);
        assert!(a.abs_diff(b) <= 14, "{a} {b}");
    }

    #[test]
    fn the_first_to_ask_is_the_first_to_get_and_one_alone_gets_all() {
        let mut fair = asking(&[(B, 1), (A, 1)], 2);
        assert_eq!([fair.next(1), fair.next(1), fair.next(1)], [Some(B), Some(A), Some(B)]);
        assert_eq!([fair.next(1), fair.next(1)], [Some(A), None]);
    }

    #[test]
    fn a_card_dearer_than_many_rounds_is_given_at_once() {
        let mut fair = asking(&[(A, 1), (B, 2)], 2);
        assert_eq!(fair.next(u32::MAX), Some(B));
        assert!(!fair.is_empty());
    }

    #[test]
    fn one_who_left_is_not_waited_for() {
        let mut fair = asking(&[(A, 1), (B, 1)], 5);
        assert!(fair.leave(A) && !fair.leave(A));
        assert_eq!((fair.next(1), fair.wanted(), fair.pullers()), (Some(B), 4, 1));
        assert!(!fair.ask(A, 1));
    }
}
