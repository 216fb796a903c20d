//! Whether a pool lends a worker's worth of its capacity to one that is busier.

use std::time::Duration;

use crate::routing::balance;
use crate::time::Timestamp;

/// Below this coefficient capacity is moved. Source: FLOW.md, routing; the seeds' band table.
const BALANCE_MIN: f64 = 0.8;

/// How often pools are compared.
const EVERY: Duration = Duration::from_secs(10);

/// How long after a move the next may follow: the pools have to show its effect first.
const REST: Duration = Duration::from_secs(30);

/// A pool that could use more is above this utilization: below it, it would grow within its own maximum.
const NEEDS_ABOVE: f64 = 0.8;

/// What is compared of a pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lender {
    /// Busy time over worker time in the last window, 0 to 1.
    pub utilization: f64,
    /// Workers it has.
    pub workers: u32,
    /// Fewest workers.
    pub workers_min: u32,
    /// Most workers, what it has lent and borrowed not counted.
    pub workers_max: u32,
}

/// One worker's worth of capacity changed its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "every move leaves a receipt"]
pub struct Moved {
    /// Place of the pool that lends it, in the list.
    pub from: usize,
    /// Place of the pool that gets it.
    pub to: usize,
}

/// Keeps what pools have lent each other: the sum of their maxima stays what it was.
///
/// Capacity goes from idle to overloaded, one worker at a time, and only to a pool that is at its maximum.
/// It goes back by the same rule, when the one that lent it is the overloaded one.
#[derive(Debug, Clone, Default)]
#[doc(alias = "heijunka")]
pub struct Lending {
    /// For each pool what it has borrowed, or lent if it is below zero.
    lent: Vec<i64>,
    looked_at: Timestamp,
    moved_at: Option<Timestamp>,
}

impl Lending {
    /// Nothing is lent between so many pools.
    pub fn new(pools: usize) -> Self {
        Self { lent: vec![0; pools], looked_at: Timestamp::START, moved_at: None }
    }

    /// Most workers of the pool at `index` whose own maximum is `workers_max`.
    pub fn workers_max(&self, index: usize, workers_max: u32) -> u32 {
        let lent = self.lent.get(index).copied().unwrap_or(0);
        u32::try_from((i64::from(workers_max) + lent).max(1)).unwrap_or(u32::MAX)
    }

    /// Brings what is lent within bounds that were changed: who may have fewer workers than it lends gets the difference
    /// back, from those that borrowed most. Tells whether anything changed.
    pub fn fit(&mut self, pools: &[Lender]) -> bool {
        self.lent.resize(pools.len(), 0);
        let mut owed = 0;
        for (lent, pool) in self.lent.iter_mut().zip(pools) {
            let least = i64::from(pool.workers_min) - i64::from(pool.workers_max);
            owed += (least - *lent).max(0);
            *lent = (*lent).max(least);
        }
        let is_new = 0 < owed;
        // What is lent adds up to nothing: there is somebody who borrowed as long as something is owed.
        while 0 < owed
            && let Some(most) = self.lent.iter_mut().max()
        {
            *most -= 1;
            owed -= 1;
        }
        is_new
    }

    /// Takes a look at all pools, in the order of the plant, and moves at most one worker's worth.
    pub fn observe(&mut self, pools: &[Lender], now: Timestamp) -> Option<Moved> {
        self.lent.resize(pools.len(), 0);
        if now.since(self.looked_at) < EVERY {
            return None;
        }
        self.looked_at = now;
        if self.moved_at.is_some_and(|at| now.since(at) < REST) {
            return None;
        }
        let utilizations: Vec<_> = pools.iter().map(|pool| pool.utilization).collect();
        if BALANCE_MIN <= balance(&utilizations) {
            return None;
        }
        self.shift(pools, now)
    }

    /// Moves a worker's worth now because somebody asked for it: between the same pools as
    /// [`observe`](Self::observe), which then rests as after a move of its own, but whatever the coefficient is and
    /// however recent the last move.
    pub fn order(&mut self, pools: &[Lender], now: Timestamp) -> Option<Moved> {
        self.lent.resize(pools.len(), 0);
        self.shift(pools, now)
    }

    fn shift(&mut self, pools: &[Lender], now: Timestamp) -> Option<Moved> {
        let to = self.neediest(pools)?;
        let from = self.idlest(pools, to)?;
        self.lent[from] -= 1;
        self.lent[to] += 1;
        self.moved_at = Some(now);
        Some(Moved { from, to })
    }

    /// The busiest pool that has all the workers it may have.
    fn neediest(&self, pools: &[Lender]) -> Option<usize> {
        let full = pools.iter().enumerate().filter(|(index, pool)| {
            NEEDS_ABOVE < pool.utilization && self.workers_max(*index, pool.workers_max) <= pool.workers
        });
        full.max_by(|(_, a), (_, b)| a.utilization.total_cmp(&b.utilization)).map(|(index, _)| index)
    }

    /// The least busy pool that keeps its fewest workers without the one it lends.
    fn idlest(&self, pools: &[Lender], to: usize) -> Option<usize> {
        let able = pools.iter().enumerate().filter(|(index, pool)| {
            *index != to && pool.workers_min < self.workers_max(*index, pool.workers_max)
        });
        let (index, pool) = able.min_by(|(_, a), (_, b)| a.utilization.total_cmp(&b.utilization))?;
        (pool.utilization < pools[to].utilization).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn pool(utilization: f64, workers: u32) -> Lender {
        Lender { utilization, workers, workers_min: 2, workers_max: 10 }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1000 + seconds)
    }

    #[test]
    fn capacity_goes_from_idle_to_overloaded_every_thirty_seconds() {
        let mut lending = Lending::new(3);
        let mut pools = [pool(0.3, 3), pool(0.95, 10), pool(0.5, 5)];
        let mut moves = Vec::new();
        for second in 0..100 {
            if let Some(moved) = lending.observe(&pools, at(second)) {
                assert_eq!(moved, Moved { from: 0, to: 1 });
                pools[1].workers += 1;
                moves.push(second);
            }
        }
        assert_eq!(moves, [0, 30, 60, 90]);
        assert_eq!([0, 1, 2].map(|index| lending.workers_max(index, 10)), [6, 14, 10]);
    }

    #[test]
    fn nothing_moves_between_level_pools_or_to_one_that_cannot_use_it() {
        for (pools, why) in [
            ([pool(0.85, 10), pool(0.76, 10)], "0.82 is level enough"),
            ([pool(0.95, 9), pool(0.1, 2)], "it may grow by itself"),
            ([pool(0.75, 10), pool(0.1, 2)], "it is not overloaded"),
        ] {
            assert_eq!(Lending::new(2).observe(&pools, at(0)), None, "{why}");
        }
        let moved = Lending::new(2).observe(&[pool(0.95, 10), pool(0.1, 2)], at(0));
        assert_eq!(moved, Some(Moved { from: 1, to: 0 }));
    }

    #[test]
    fn an_order_waits_for_no_turn_but_moves_nothing_to_who_cannot_use_it() {
        let pools = [pool(0.85, 10), pool(0.76, 10)];
        let mut lending = Lending::new(2);
        assert_eq!(lending.observe(&pools, at(0)), None, "level enough");
        assert_eq!(lending.order(&pools, at(1)), Some(Moved { from: 1, to: 0 }));
        let grown = [pool(0.95, 11), pool(0.1, 2)];
        assert_eq!(lending.order(&grown, at(2)), Some(Moved { from: 1, to: 0 }));
        assert_eq!(
            lending.observe(&[pool(0.95, 12), pool(0.1, 2)], at(20)),
            None,
            "it rests after an order too"
        );
        assert_eq!(lending.order(&[pool(0.95, 9), pool(0.1, 2)], at(40)), None, "it may grow by itself");
        assert_eq!([0, 1].map(|index| lending.workers_max(index, 10)), [12, 8]);
    }

    #[test]
    fn what_was_lent_comes_back_when_the_lender_needs_it() {
        let mut lending = Lending::new(2);
        let _ = lending.observe(&[pool(0.95, 10), pool(0.1, 2)], at(0));
        let back = lending.observe(&[pool(0.1, 3), pool(0.95, 9)], at(30));
        assert_eq!(back, Some(Moved { from: 0, to: 1 }));
        assert_eq!([0, 1].map(|index| lending.workers_max(index, 10)), [10, 10]);
    }

    #[test]
    fn a_pool_whose_maximum_is_lowered_gets_back_what_it_cannot_lend_any_more() {
        let mut lending = Lending::new(3);
        let mut pools = [pool(0.1, 2), pool(0.95, 10), pool(0.5, 5)];
        for second in (0..240).step_by(30) {
            let _ = lending.observe(&pools, at(second));
            pools[1].workers += 1;
        }
        assert!(!lending.fit(&pools));
        assert_eq!([0, 1, 2].map(|index| lending.workers_max(index, 10)), [2, 18, 10]);
        pools[0].workers_max = 5;
        assert!(lending.fit(&pools) && !lending.fit(&pools));
        let maxima = [(0, 5), (1, 10), (2, 10)].map(|(index, most)| lending.workers_max(index, most));
        assert_eq!(maxima, [2, 13, 10]);
    }

    proptest! {
        #[test]
        fn the_maxima_add_up_and_none_is_below_its_minimum(steps in vec(vec((0.0..=1.0, 0u32..30), 4), 0..200)) {
            let mut lending = Lending::new(4);
            for (step, loads) in steps.into_iter().enumerate() {
                let pools: Vec<_> = loads.into_iter().map(|(load, workers)| pool(load, workers)).collect();
                let _ = lending.observe(&pools, at(30 * step as u64));
                let maxima: Vec<_> = (0..4).map(|index| lending.workers_max(index, 10)).collect();
                prop_assert_eq!(maxima.iter().sum::<u32>(), 40);
                prop_assert!(maxima.iter().all(|most| 2 <= *most), "{maxima:?}");
            }
        }
    }
}
