//! A bounded queue in which higher tiers go first and may take the place of lower ones, and tenants take turns.

use crate::admission::Tier;
use crate::time::Timestamp;
use lanes::Lanes;
pub use lanes::{NOBODY, Tenant};

mod lanes;

/// What became of an item that was to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an item that is not queued must be answered"]
pub enum Pushed<T> {
    /// It waits.
    Queued,
    /// It waits, and this one, the newest of the lowest tier, had to go for it.
    Displaced(T),
    /// There is no room, and nothing of a lower tier waits.
    Full(T),
}

/// What came out of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an item that left the queue must be answered"]
pub enum Popped<T> {
    /// The next to be worked on.
    Work {
        /// The item.
        item: T,
        /// The tier it waited in.
        tier: Tier,
        /// When its answer is due.
        deadline: Timestamp,
    },
    /// It waited too long: its deadline has come, so do not start it.
    Expired(T),
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    tenant: Tenant,
    /// Nanoseconds it will keep a worker busy.
    work: u64,
    deadline: Timestamp,
}

/// A queue of at most a fixed number of items: higher tiers first, within a tier tenants in turns, each with the same
/// share of the workers' time, and first in, first out for each tenant.
///
/// # Units and limits
///
/// The capacity is shared by all tiers and tenants. Only [`push_front`](Self::push_front) may exceed it, by the items
/// that had left the queue before.
#[derive(Debug)]
#[doc(alias = "heijunka")]
pub struct TieredQueue<T> {
    tiers: [Lanes<T>; Tier::ALL.len()],
    capacity: usize,
}

impl<T> TieredQueue<T> {
    /// An empty queue for `capacity` items; with 0, every push is refused.
    pub const fn new(capacity: usize) -> Self {
        Self { tiers: [const { Lanes::new() }; Tier::ALL.len()], capacity }
    }

    /// Queues an `item` of nobody behind its tier, in place of the newest item of a lower tier if the queue is full.
    pub fn push(&mut self, item: T, tier: Tier, deadline: Timestamp) -> Pushed<T> {
        self.push_for(item, tier, (NOBODY, 0), deadline)
    }

    /// Queues an `item` of a tenant that will keep a worker busy for that many nanoseconds.
    pub fn push_for(
        &mut self,
        item: T,
        tier: Tier,
        (tenant, work): (Tenant, u64),
        deadline: Timestamp,
    ) -> Pushed<T> {
        let displaced = if self.len() < self.capacity {
            None
        } else {
            match self.take_newest_below(tier) {
                Some(displaced) => Some(displaced),
                None => return Pushed::Full(item),
            }
        };
        self.tier(tier).push_back(Waiting { item, tenant, work, deadline });
        displaced.map_or(Pushed::Queued, Pushed::Displaced)
    }

    /// Puts an item of nobody that comes back unstarted at the head of its tier.
    ///
    /// It was accepted once and is not refused now, so the queue may exceed its capacity by it.
    pub fn push_front(&mut self, item: T, tier: Tier, deadline: Timestamp) {
        self.push_front_for(item, tier, (NOBODY, 0), deadline);
    }

    /// Puts an item that comes back unstarted at the head of what its tenant has in its tier.
    pub fn push_front_for(
        &mut self,
        item: T,
        tier: Tier,
        (tenant, work): (Tenant, u64),
        deadline: Timestamp,
    ) {
        self.tier(tier).push_front(Waiting { item, tenant, work, deadline });
    }

    /// Takes the oldest item of the highest tier, or `None` if nothing waits.
    pub fn pop(&mut self, now: Timestamp) -> Option<Popped<T>> {
        Tier::ALL.into_iter().find_map(|tier| {
            let Waiting { item, deadline, .. } = self.tier(tier).pop_front()?;
            Some(if deadline <= now { Popped::Expired(item) } else { Popped::Work { item, tier, deadline } })
        })
    }

    /// Takes the oldest item of the tenant whose turn it is in `tier`, whatever its deadline.
    pub fn take_oldest(&mut self, tier: Tier) -> Option<T> {
        self.tier(tier).pop_front().map(|waiting| waiting.item)
    }

    /// The item that would make room for one of `tier`: of the lowest tier below it, the newest of the tenant that has
    /// most waiting.
    pub fn newest_below(&self, tier: Tier) -> Option<&T> {
        let lowest = self.lowest_below(tier)?;
        self.tiers[lowest as usize].newest().map(|waiting| &waiting.item)
    }

    /// Takes the item that would make room for one of `tier`.
    pub fn take_newest_below(&mut self, tier: Tier) -> Option<T> {
        let lowest = self.lowest_below(tier)?;
        self.tier(lowest).pop_newest().map(|waiting| waiting.item)
    }

    /// Whether a tenant has more work waiting in `tier` than `tenant` would have with `work` nanoseconds more.
    pub fn has_heavier(&self, tier: Tier, (tenant, work): (Tenant, u64)) -> bool {
        self.tiers[tier as usize].has_heavier(tenant, work)
    }

    /// Queues `item` in place of the newest of the tenant that has most waiting in its tier, which is given back, or
    /// gives `item` back if no tenant has more than its own would then have.
    pub fn push_in_place_of_heavier(
        &mut self,
        item: T,
        tier: Tier,
        share: (Tenant, u64),
        deadline: Timestamp,
    ) -> Pushed<T> {
        if !self.has_heavier(tier, share) {
            return Pushed::Full(item);
        }
        let lanes = self.tier(tier);
        let Some(displaced) = lanes.pop_newest() else { return Pushed::Full(item) };
        let (tenant, work) = share;
        lanes.push_back(Waiting { item, tenant, work, deadline });
        Pushed::Displaced(displaced.item)
    }

    /// Takes out what is past its deadline, and what nobody waits for any more, so that it holds no room.
    pub fn sweep(&mut self, now: Timestamp, is_abandoned: impl Fn(&T) -> bool) -> Vec<T> {
        let mut swept = Vec::new();
        for tier in &mut self.tiers {
            let over = tier.extract(|waiting| waiting.deadline <= now || is_abandoned(&waiting.item));
            swept.extend(over.into_iter().map(|waiting| waiting.item));
        }
        swept
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.tiers.iter().map(Lanes::len).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.tiers.iter().all(Lanes::is_empty)
    }

    /// How many items of `tier` wait.
    pub fn len_of(&self, tier: Tier) -> usize {
        self.tiers[tier as usize].len()
    }

    /// Of how many tenants items of `tier` wait, and how many of them are of `tenant`.
    pub fn shared_by(&self, tier: Tier, tenant: Tenant) -> (usize, usize) {
        let lanes = &self.tiers[tier as usize];
        (lanes.tenants(), lanes.len_of(tenant))
    }

    /// How many items may wait.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes it. What waits beyond it goes on waiting.
    pub const fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Empties the queue, in the order in which the items would have been served.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        let served = |tier: &mut Lanes<T>| std::iter::from_fn(|| tier.pop_front()).collect::<Vec<_>>();
        self.tiers.iter_mut().flat_map(served).map(|waiting| waiting.item)
    }

    fn lowest_below(&self, tier: Tier) -> Option<Tier> {
        let lower = Tier::ALL.into_iter().rev().take_while(|other| tier < *other);
        lower.into_iter().find(|other| !self.tiers[*other as usize].is_empty())
    }

    const fn tier(&mut self, tier: Tier) -> &mut Lanes<T> {
        &mut self.tiers[tier as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::sample::select;

    use super::*;

    const DUE: Timestamp = Timestamp::from_secs(10);
    const NOW: Timestamp = Timestamp::from_secs(1);

    fn served(queue: &mut TieredQueue<u32>) -> Vec<u32> {
        queue.drain().collect()
    }

    #[test]
    fn a_sweep_takes_what_is_late_or_abandoned_and_keeps_the_order_of_the_rest() {
        let mut queue = TieredQueue::new(10);
        for (item, secs) in [(1, 5), (2, 1), (3, 5), (4, 5)] {
            let _ = queue.push(item, Tier::Normal, Timestamp::from_secs(secs));
        }
        assert_eq!(queue.sweep(Timestamp::from_secs(1), |item| *item == 3), [2, 3]);
        assert_eq!(queue.drain().collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn higher_tiers_go_first_and_a_tier_keeps_its_order() {
        let mut queue = TieredQueue::new(6);
        for (item, tier) in
            [(1, Tier::Batch), (2, Tier::Normal), (3, Tier::Critical), (4, Tier::Normal), (5, Tier::Critical)]
        {
            assert_eq!(queue.push(item, tier, DUE), Pushed::Queued);
        }
        assert_eq!(queue.pop(NOW), Some(Popped::Work { item: 3, tier: Tier::Critical, deadline: DUE }));
        assert_eq!((queue.len(), queue.len_of(Tier::Critical), queue.len_of(Tier::Normal)), (4, 1, 2));
        assert_eq!(served(&mut queue), [5, 2, 4, 1]);
        assert!(queue.is_empty());
        assert_eq!(queue.pop(NOW), None);
    }

    #[test]
    fn in_a_full_queue_the_newest_of_the_lowest_tier_makes_room_for_a_higher_one() {
        let mut queue = TieredQueue::new(4);
        for (item, tier) in [(1, Tier::Batch), (2, Tier::Batch), (3, Tier::Normal), (4, Tier::Normal)] {
            assert_eq!(queue.push(item, tier, DUE), Pushed::Queued);
        }
        assert_eq!(queue.push(5, Tier::Batch, DUE), Pushed::Full(5));
        assert_eq!(queue.push(6, Tier::Normal, DUE), Pushed::Displaced(2));
        assert_eq!(queue.push(7, Tier::Critical, DUE), Pushed::Displaced(1));
        assert_eq!(queue.push(8, Tier::Normal, DUE), Pushed::Full(8));
        assert_eq!(queue.push(9, Tier::Critical, DUE), Pushed::Displaced(6));
        assert_eq!(served(&mut queue), [7, 9, 3, 4]);
    }

    #[test]
    fn an_item_is_work_until_its_deadline_and_expired_from_then_on() {
        for (now, work) in [(DUE - std::time::Duration::from_nanos(1), true), (DUE, false)] {
            let mut queue = TieredQueue::new(1);
            assert_eq!(queue.push((), Tier::Normal, DUE), Pushed::Queued);
            assert_eq!(matches!(queue.pop(now), Some(Popped::Work { .. })), work, "{now:?}");
        }
    }

    #[test]
    fn an_item_that_comes_back_goes_first_though_the_queue_is_full() {
        let mut queue = TieredQueue::new(1);
        assert_eq!(queue.push(2, Tier::Normal, DUE), Pushed::Queued);
        queue.push_front(1, Tier::Normal, DUE);
        assert_eq!(queue.push(3, Tier::Normal, DUE), Pushed::Full(3));
        assert_eq!(served(&mut queue), [1, 2]);
    }

    #[test]
    fn a_queue_made_smaller_keeps_what_waits_and_takes_no_more() {
        let mut queue = TieredQueue::new(3);
        for item in ["a", "b", "c"] {
            assert_eq!(queue.push(item, Tier::Normal, DUE), Pushed::Queued);
        }
        queue.set_capacity(1);
        assert_eq!(queue.push("d", Tier::Normal, DUE), Pushed::Full("d"));
        assert_eq!(queue.drain().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(queue.push("d", Tier::Normal, DUE), Pushed::Queued);
    }

    #[test]
    fn a_queue_without_capacity_takes_nothing() {
        assert_eq!(TieredQueue::new(0).push(1, Tier::Critical, DUE), Pushed::Full(1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(Tier, u64),
        Return(Tier),
        Pop,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let tier = || select(&Tier::ALL[..]);
        let push = (tier(), 0u64..20).prop_map(|(tier, due)| Step::Push(tier, due));
        vec(prop_oneof![4 => push, 1 => tier().prop_map(Step::Return), 2 => Just(Step::Pop)], 0..200)
    }

    proptest! {
        #[test]
        fn it_holds_its_capacity_and_what_came_back_and_loses_nothing(capacity in 0usize..8, steps in steps()) {
            let mut queue = TieredQueue::new(capacity);
            let (mut offered, mut out, mut returned) = (0usize, 0usize, 0usize);
            for step in steps {
                match step {
                    Step::Push(tier, due) => {
                        offered += 1;
                        match queue.push(offered, tier, Timestamp::from_secs(due)) {
                            Pushed::Queued => prop_assert!(queue.len() <= capacity),
                            Pushed::Displaced(_) | Pushed::Full(_) => out += 1,
                        }
                    }
                    Step::Return(tier) => {
                        offered += 1;
                        returned += 1;
                        queue.push_front(offered, tier, DUE);
                    }
                    Step::Pop => {
                        let highest = Tier::ALL.into_iter().find(|tier| 0 < queue.len_of(*tier));
                        match queue.pop(DUE) {
                            None => prop_assert!(queue.is_empty()),
                            Some(Popped::Expired(_)) => out += 1,
                            Some(Popped::Work { tier, deadline, .. }) => {
                                prop_assert_eq!(Some(tier), highest);
                                prop_assert!(DUE < deadline);
                                out += 1;
                            }
                        }
                    }
                }
                prop_assert_eq!(queue.len() + out, offered);
                prop_assert!(queue.len() <= capacity + returned);
            }
            prop_assert_eq!(queue.drain().count() + out, offered);
        }
    }
}
