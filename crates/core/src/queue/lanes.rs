//! What waits in one tier: a lane for each tenant, so that one who sends ten times as much waits behind itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Waiting;

/// Whose an item is. Those of nobody are one tenant together.
pub type Tenant = u64;

/// The tenant of what nobody has named one for.
pub const NOBODY: Tenant = 0;

/// The lanes of one tier.
///
/// Tenants are served in the order of how much of the workers' time they had (start-time fair queueing): each has the
/// same share, whatever it sends. A tenant that comes anew starts where the others are, so that nobody saves up turns;
/// one that comes back starts where it was, if that is further, so that nobody gains by waiting for each answer.
/// Without tenants it is a plain queue, and costs what one costs.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    /// Items of nobody.
    plain: Lane<T>,
    owned: BTreeMap<Tenant, Lane<T>>,
    /// Owned lanes by what they had, then by age.
    turns: BTreeSet<(u64, u64, Tenant)>,
    /// Owned lanes by how long what waits in them takes.
    weights: BTreeSet<(u64, Tenant)>,
    /// What those had of whom nothing waits any more, where it is more than the clock.
    away: BTreeMap<Tenant, u64>,
    /// What the last one served had.
    clock: u64,
    /// Lanes there have been.
    born: u64,
    len: usize,
}

/// Tenants that are remembered while nothing of them waits. Where more come and go, each of them had little.
const AWAY_MAX: usize = 1_000;

#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<Waiting<T>>,
    /// Nanoseconds of work it was given, counted from where it began.
    had: u64,
    /// Nanoseconds of work that wait.
    weight: u64,
    born: u64,
}

impl<T> Lane<T> {
    const fn new(had: u64, born: u64) -> Self {
        Self { items: VecDeque::new(), had, weight: 0, born }
    }
}

impl<T> Lanes<T> {
    pub(super) const fn new() -> Self {
        Self {
            plain: Lane::new(0, 0),
            owned: BTreeMap::new(),
            turns: BTreeSet::new(),
            weights: BTreeSet::new(),
            away: BTreeMap::new(),
            clock: 0,
            born: 0,
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of `tenant` wait.
    pub(super) fn len_of(&self, tenant: Tenant) -> usize {
        if tenant == NOBODY {
            self.plain.items.len()
        } else {
            self.owned.get(&tenant).map_or(0, |lane| lane.items.len())
        }
    }

    /// Tenants of which something waits.
    pub(super) fn tenants(&self) -> usize {
        self.owned.len() + usize::from(!self.plain.items.is_empty())
    }

    pub(super) fn push_back(&mut self, waiting: Waiting<T>) {
        self.change(waiting.tenant, |lane| {
            lane.weight += waiting.work;
            lane.items.push_back(waiting);
        });
        self.len += 1;
    }

    /// For what was taken and could not be started: its turn is given back.
    pub(super) fn push_front(&mut self, waiting: Waiting<T>) {
        self.change(waiting.tenant, |lane| {
            lane.weight += waiting.work;
            lane.had = lane.had.saturating_sub(waiting.work);
            lane.items.push_front(waiting);
        });
        self.len += 1;
    }

    /// Takes the oldest of the tenant whose turn it is.
    pub(super) fn pop_front(&mut self) -> Option<Waiting<T>> {
        let tenant = self.whose_turn()?;
        let taken = self.change(tenant, |lane| {
            let taken = lane.items.pop_front()?;
            lane.weight -= taken.work;
            lane.had += taken.work;
            Some((taken, lane.had))
        });
        let (taken, had) = taken?;
        self.clock = self.clock.max(had - taken.work);
        self.len -= 1;
        if self.len == 0 {
            // Nobody waits for anybody: all begin anew.
            let most = self.away.values().copied().fold(self.plain.had, u64::max);
            self.clock = self.clock.max(most);
            self.away.clear();
        }
        Some(taken)
    }

    fn whose_turn(&self) -> Option<Tenant> {
        let owned = self.turns.first();
        let plain = (!self.plain.items.is_empty()).then_some((self.plain.had, self.plain.born, NOBODY));
        match (plain, owned) {
            (Some(plain), Some(owned)) => Some(plain.min(*owned).2),
            (plain, owned) => plain.or(owned.copied()).map(|(_, _, tenant)| tenant),
        }
    }

    /// The tenant of which the most work waits, and how much.
    fn heaviest(&self) -> Option<(u64, Tenant)> {
        let plain = (!self.plain.items.is_empty()).then_some((self.plain.weight, NOBODY));
        plain.max(self.weights.last().copied())
    }

    /// What makes room first: the newest of the tenant of which the most work waits.
    pub(super) fn newest(&self) -> Option<&Waiting<T>> {
        let (_, tenant) = self.heaviest()?;
        if tenant == NOBODY { self.plain.items.back() } else { self.owned.get(&tenant)?.items.back() }
    }

    /// Takes what makes room first.
    pub(super) fn pop_newest(&mut self) -> Option<Waiting<T>> {
        let (_, tenant) = self.heaviest()?;
        let taken = self.change(tenant, |lane| {
            let taken = lane.items.pop_back()?;
            lane.weight -= taken.work;
            Some(taken)
        })?;
        self.len -= 1;
        Some(taken)
    }

    /// Whether a tenant has more work waiting than `tenant` would have with `work` more.
    pub(super) fn has_heavier(&self, tenant: Tenant, work: u64) -> bool {
        let own = if tenant == NOBODY {
            self.plain.weight
        } else {
            self.owned.get(&tenant).map_or(0, |lane| lane.weight)
        };
        self.heaviest().is_some_and(|(weight, heaviest)| heaviest != tenant && own + work < weight)
    }

    /// Takes out what `is_over` names, in the order of lanes and then of age.
    pub(super) fn extract(&mut self, is_over: impl Fn(&Waiting<T>) -> bool) -> Vec<Waiting<T>> {
        let mut taken = Vec::new();
        let tenants = self.owned.keys().copied().chain([NOBODY]).collect::<Vec<_>>();
        for tenant in tenants {
            let lane = if tenant == NOBODY { Some(&self.plain) } else { self.owned.get(&tenant) };
            if !lane.is_some_and(|lane| lane.items.iter().any(&is_over)) {
                continue;
            }
            let over = self.change(tenant, |lane| {
                let (over, kept): (VecDeque<_>, _) =
                    std::mem::take(&mut lane.items).into_iter().partition(&is_over);
                lane.items = kept;
                lane.weight = lane.items.iter().map(|waiting| waiting.work).sum();
                over
            });
            self.len -= over.len();
            taken.extend(over);
        }
        taken
    }

    /// Changes a lane and keeps the order of lanes; a lane in which nothing is left is forgotten.
    fn change<R>(&mut self, tenant: Tenant, change: impl FnOnce(&mut Lane<T>) -> R) -> R {
        if tenant == NOBODY {
            if self.plain.items.is_empty() {
                self.plain.had = self.plain.had.max(self.clock);
            }
            return change(&mut self.plain);
        }
        let (clock, away) = (self.clock, &mut self.away);
        let lane = self.owned.entry(tenant).or_insert_with(|| {
            self.born += 1;
            Lane::new(away.remove(&tenant).map_or(clock, |had| had.max(clock)), self.born)
        });
        self.turns.remove(&(lane.had, lane.born, tenant));
        self.weights.remove(&(lane.weight, tenant));
        let result = change(lane);
        if lane.items.is_empty() {
            let had = lane.had;
            self.owned.remove(&tenant);
            if clock < had {
                self.remember(tenant, had);
            }
        } else {
            self.turns.insert((lane.had, lane.born, tenant));
            self.weights.insert((lane.weight, tenant));
        }
        result
    }

    /// Keeps what a tenant had of whom nothing waits any more.
    fn remember(&mut self, tenant: Tenant, had: u64) {
        if AWAY_MAX <= self.away.len() {
            let clock = self.clock;
            self.away.retain(|_, had| clock < *had);
        }
        if AWAY_MAX <= self.away.len() {
            self.away.clear();
        }
        self.away.insert(tenant, had);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::time::Timestamp;

    fn waiting(item: u32, tenant: Tenant, work: u64) -> Waiting<u32> {
        Waiting { item, tenant, work, deadline: Timestamp::from_secs(1) }
    }

    fn served(lanes: &mut Lanes<u32>, items: usize) -> Vec<Tenant> {
        (0..items).filter_map(|_| lanes.pop_front()).map(|taken| taken.tenant).collect()
    }

    #[test]
    fn without_tenants_it_is_first_in_first_out() {
        let mut lanes = Lanes::new();
        (0..5).for_each(|item| lanes.push_back(waiting(item, NOBODY, 10)));
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop_front()).map(|taken| taken.item).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn tenants_take_turns_and_those_of_nobody_are_one() {
        let mut lanes = Lanes::new();
        (0..6).for_each(|item| lanes.push_back(waiting(item, 7, 10)));
        (0..2).for_each(|item| lanes.push_back(waiting(item, 8, 10)));
        (0..2).for_each(|item| lanes.push_back(waiting(item, NOBODY, 10)));
        assert_eq!(lanes.tenants(), 3);
        assert_eq!(served(&mut lanes, 10), [NOBODY, 7, 8, NOBODY, 7, 8, 7, 7, 7, 7]);
    }

    #[test]
    fn who_needs_four_times_as_long_has_a_turn_where_others_have_four() {
        let mut lanes = Lanes::new();
        (0..10).for_each(|item| lanes.push_back(waiting(item, 1, 40)));
        (0..40).for_each(|item| lanes.push_back(waiting(item, 2, 10)));
        let first = served(&mut lanes, 25);
        assert_eq!(first.iter().filter(|tenant| **tenant == 1).count(), 5, "{first:?}");
    }

    #[test]
    fn who_comes_anew_has_saved_no_turns_and_lost_none() {
        let mut lanes = Lanes::new();
        (0..100).for_each(|item| lanes.push_back(waiting(item, 1, 10)));
        served(&mut lanes, 50);
        (0..10).for_each(|item| lanes.push_back(waiting(item, 2, 10)));
        let next = served(&mut lanes, 10);
        assert_eq!(next.iter().filter(|tenant| **tenant == 2).count(), 5, "{next:?}");
    }

    #[test]
    fn who_sends_the_next_when_the_last_is_answered_has_its_share_and_no_more() {
        for rival in [2, NOBODY] {
            let mut lanes = Lanes::new();
            (0..100).for_each(|item| lanes.push_back(waiting(item, 1, 10)));
            served(&mut lanes, 1);
            let mut next = Vec::new();
            for item in 0..50 {
                if lanes.len_of(rival) == 0 {
                    lanes.push_back(waiting(item, rival, 10));
                }
                next.extend(served(&mut lanes, 1));
            }
            let had = next.iter().filter(|tenant| **tenant == rival).count();
            assert!((25..=26).contains(&had), "{next:?}");
        }
    }

    #[test]
    fn only_so_many_are_remembered_and_nobody_once_all_are_served() {
        let mut lanes = Lanes::new();
        lanes.push_back(waiting(0, 1, 10));
        lanes.push_back(waiting(0, 1, 10));
        lanes.pop_front();
        for tenant in 2..2 * AWAY_MAX as u64 {
            lanes.push_back(waiting(0, tenant, 10));
            lanes.pop_front();
            assert!(lanes.away.len() <= AWAY_MAX);
        }
        served(&mut lanes, 10);
        assert!(lanes.is_empty() && lanes.away.is_empty());
        // Nobody is ahead of anybody now.
        (0..2).for_each(|item| lanes.push_back(waiting(item, 7, 10)));
        (0..2).for_each(|item| lanes.push_back(waiting(item, 1, 10)));
        assert_eq!(served(&mut lanes, 4), [7, 1, 7, 1]);
    }

    #[test]
    fn the_heaviest_makes_room_for_who_has_less() {
        let mut lanes = Lanes::new();
        (0..3).for_each(|item| lanes.push_back(waiting(item, 1, 10)));
        lanes.push_back(waiting(9, 2, 10));
        assert!(lanes.has_heavier(2, 10) && lanes.has_heavier(3, 20) && lanes.has_heavier(NOBODY, 10));
        assert!(!lanes.has_heavier(2, 20) && !lanes.has_heavier(1, 0) && !lanes.has_heavier(3, 30));
        assert_eq!(lanes.newest().map(|newest| newest.item), Some(2));
        assert_eq!(lanes.pop_newest().map(|newest| newest.item), Some(2));
    }

    proptest! {
        /// Whatever comes and goes: nothing is lost, each lane keeps its order, and the books agree.
        #[test]
        fn the_books_agree(steps in vec((0u8..4, 0u64..4, 1u64..50), 0..200)) {
            let mut lanes = Lanes::new();
            let mut model: BTreeMap<Tenant, VecDeque<(u32, u64)>> = BTreeMap::new();
            for (number, (step, tenant, work)) in steps.into_iter().enumerate() {
                let item = number as u32;
                match step {
                    0 | 1 => {
                        lanes.push_back(waiting(item, tenant, work));
                        model.entry(tenant).or_default().push_back((item, work));
                    }
                    2 => {
                        if let Some(taken) = lanes.pop_front() {
                            prop_assert_eq!(model.get_mut(&taken.tenant).and_then(VecDeque::pop_front), Some((taken.item, taken.work)));
                        } else {
                            prop_assert!(model.values().all(VecDeque::is_empty));
                        }
                    }
                    _ => {
                        let over = lanes.extract(|waiting| waiting.item % 7 == u32::from(step));
                        let gone: usize = model.values_mut().map(|lane| {
                            let before = lane.len();
                            lane.retain(|(item, _)| item % 7 != u32::from(step));
                            before - lane.len()
                        }).sum();
                        prop_assert_eq!(over.len(), gone);
                    }
                }
                prop_assert_eq!(lanes.len(), model.values().map(VecDeque::len).sum::<usize>());
                for (tenant, lane) in &model {
                    prop_assert_eq!(lanes.len_of(*tenant), lane.len());
                }
                let heaviest = model.values().map(|lane| lane.iter().map(|(_, work)| work).sum::<u64>()).max();
                prop_assert_eq!(lanes.heaviest().map_or(0, |(weight, _)| weight), heaviest.unwrap_or(0));
                prop_assert!(lanes.away.keys().all(|tenant| !lanes.owned.contains_key(tenant)));
                prop_assert_eq!(lanes.turns.len(), lanes.owned.len());
                prop_assert_eq!(lanes.weights.len(), lanes.owned.len());
            }
        }
    }
}
