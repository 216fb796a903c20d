//! Which of the pools that can do the work gets a signal.

use std::cmp::Ordering;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What the balancer knows about a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLoad {
    /// [`key_hash`] of its name.
    pub hash: u64,
    /// Workers it has.
    pub workers: u32,
    /// Jobs it has: worked on and queued.
    pub in_hand: u32,
    /// Jobs that may be queued.
    pub queue_max: u32,
}

impl PoolLoad {
    /// Whether it can take one more.
    fn has_room(self) -> bool {
        0 < self.workers && u64::from(self.in_hand) < u64::from(self.workers) + u64::from(self.queue_max)
    }

    /// Whether more than 85 % of its workers have a job.
    fn is_busy(self) -> bool {
        u64::from(self.workers) * 85 < u64::from(self.in_hand) * 100
    }

    /// Whether one more keeps it within 1.25 times the mean of `total` jobs over all workers.
    ///
    /// Jobs are whole: the bound is rounded up, with the one to come counted in, so that an idle plant
    /// has room for its first. `in_hand < ceil(q)` is `in_hand < q` for a whole `in_hand`, hence no division.
    fn is_within_bound(self, total: Total) -> bool {
        u128::from(self.in_hand) * 4 * u128::from(total.workers)
            < 5 * (u128::from(total.in_hand) + 1) * u128::from(self.workers)
    }

    /// Where it stands in the order of `key`; the greatest is the first.
    fn rank(self, key: u64) -> u64 {
        xxh3_64_with_seed(&self.hash.to_le_bytes(), key)
    }
}

/// All pools with workers, taken together.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    workers: u64,
    in_hand: u64,
}

/// Why no pool takes the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No pool serves the line.
    #[error("no pool serves this line; add one that does")]
    NoPools,
    /// No pool has a worker just now.
    #[error("no pool of this line has a worker now; retry when the supervisor has filled them again")]
    NoWorkers,
    /// Every pool with workers has all it can hold.
    #[error("every pool of this line is full; retry with backoff")]
    Full,
}

/// The hash of a routing key or a pool's name; the same on every machine.
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The index of the pool in `loads` that gets the signal.
///
/// With a key, the pools stand in an order of the key's own (rendezvous hashing: a pool more or less moves
/// only the keys of that pool) and the first one takes it, unless it is over its bound of 1.25 times the
/// mean load per worker, or over 85 % busy while another is not. If that passes over all of them, the first
/// with room takes it. Without a key, the pool with the fewest jobs per worker takes it.
///
/// # Errors
///
/// [`RouteError`]; a full pool and one without workers are never named.
#[doc(alias = "heijunka")]
pub fn route(key: Option<u64>, loads: &[PoolLoad]) -> Result<usize, RouteError> {
    route_home(key, None, loads)
}

/// [`route`] for a key that belongs to the pool whose name has the hash `home`: that pool is the first in the
/// order of the key, and is passed over at the same bounds.
///
/// # Errors
///
/// As [`route`].
pub fn route_home(key: Option<u64>, home: Option<u64>, loads: &[PoolLoad]) -> Result<usize, RouteError> {
    let chosen = match key {
        Some(key) => by_key(key, home, loads),
        None => least_loaded(loads),
    };
    chosen.ok_or_else(|| {
        if loads.is_empty() {
            RouteError::NoPools
        } else if loads.iter().all(|pool| pool.workers == 0) {
            RouteError::NoWorkers
        } else {
            RouteError::Full
        }
    })
}

fn by_key(key: u64, home: Option<u64>, loads: &[PoolLoad]) -> Option<usize> {
    let mut total = Total::default();
    let mut all_busy = true;
    for pool in loads.iter().filter(|pool| 0 < pool.workers) {
        total.workers += u64::from(pool.workers);
        total.in_hand += u64::from(pool.in_hand);
        all_busy &= pool.is_busy();
    }
    // One pass finds the first of either kind in the order of the key: a maximum needs no sorting.
    let (mut preferred, mut possible) = (None, None);
    for (index, pool) in loads.iter().enumerate().filter(|(_, pool)| pool.has_room()) {
        let ranked = Some((home == Some(pool.hash), pool.rank(key), index));
        possible = possible.max(ranked);
        if pool.is_within_bound(total) && (all_busy || !pool.is_busy()) {
            preferred = preferred.max(ranked);
        }
    }
    preferred.or(possible).map(|(_, _, index)| index)
}

fn least_loaded(loads: &[PoolLoad]) -> Option<usize> {
    let with_room = loads.iter().enumerate().filter(|(_, pool)| pool.has_room());
    with_room.min_by(|(_, a), (_, b)| by_load(**a, **b)).map(|(index, _)| index)
}

/// Fewer jobs per worker first; between equals the larger pool, which changes least by one more.
fn by_load(a: PoolLoad, b: PoolLoad) -> Ordering {
    let a_over_b = u64::from(a.in_hand) * u64::from(b.workers);
    let b_over_a = u64::from(b.in_hand) * u64::from(a.workers);
    a_over_b.cmp(&b_over_a).then(b.workers.cmp(&a.workers))
}

/// How evenly pools are loaded, from their utilizations: 1 is level, 0 is half of the range apart or more.
pub fn balance(utilizations: &[f64]) -> f64 {
    let most = utilizations.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = utilizations.iter().copied().fold(f64::INFINITY, f64::min);
    if most < least { 1.0 } else { (1.0 - 2.0 * (most - least)).max(0.0) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const fn pool(hash: u64, workers: u32, in_hand: u32) -> PoolLoad {
        PoolLoad { hash, workers, in_hand, queue_max: 10 }
    }

    /// A key whose first choice among pools with the hashes 0 and 1 is the one at `index`.
    fn key_of(index: usize) -> u64 {
        (0..100).find(|key| route(Some(*key), &[pool(0, 10, 0), pool(1, 10, 0)]) == Ok(index)).unwrap()
    }

    #[test]
    fn a_key_leaves_its_first_pool_only_at_the_stated_bounds() {
        for (first, other, stays, why) in [
            ((10, 8), (10, 5), true, "8 is below 1.25 × 14 / 2 = 8.75"),
            ((10, 8), (10, 3), false, "8 is above 1.25 × 12 / 2 = 7.5"),
            ((100, 85), (100, 80), true, "85 % is not over 85 %"),
            ((100, 86), (100, 85), false, "86 % is over, and the other is not"),
            ((100, 87), (100, 86), true, "both are over 85 %"),
            ((100, 90), (100, 80), false, "over 85 %, the other is not"),
            ((10, 20), (10, 3), false, "full"),
            ((0, 0), (10, 9), false, "it has no worker"),
            ((10, 19), (10, 20), true, "the other is full"),
            ((10, 19), (0, 0), true, "the other has no worker"),
        ] {
            let loads = [pool(0, first.0, first.1), pool(1, other.0, other.1)];
            assert_eq!(route(Some(key_of(0)), &loads), Ok(usize::from(!stays)), "{first:?} {other:?}: {why}");
        }
    }

    #[test]
    fn a_key_leaves_the_pool_it_belongs_to_at_the_same_bounds() {
        for (home, other, stays, why) in [
            ((10, 8), (10, 5), true, "8 is below 1.25 × 14 / 2 = 8.75"),
            ((10, 8), (10, 3), false, "8 is above 1.25 × 12 / 2 = 7.5"),
            ((100, 90), (100, 80), false, "over 85 %, the other is not"),
            ((10, 20), (10, 3), false, "full"),
            ((0, 0), (10, 9), false, "it has no worker"),
        ] {
            let loads = [pool(0, other.0, other.1), pool(1, home.0, home.1)];
            assert_eq!(route_home(Some(key_of(0)), Some(1), &loads), Ok(usize::from(stays)), "{why}");
        }
        let even = [pool(0, 10, 0), pool(1, 10, 0)];
        assert_eq!(route_home(Some(key_of(0)), Some(2), &even), Ok(0), "its pool does not serve the line");
        assert_eq!(route_home(None, Some(1), &even), route(None, &even), "what has no key belongs nowhere");
    }

    #[test]
    fn when_every_pool_is_passed_over_the_first_with_room_takes_it() {
        // The mean is 137 / 120, so that both small ones are over 1.25 × 138 / 12 = 14.4; the large one is full.
        let full = PoolLoad { hash: 2, workers: 100, in_hand: 100, queue_max: 0 };
        let loads = [pool(0, 10, 19), pool(1, 10, 18), full];
        for first in [0, 1] {
            assert_eq!(route(Some(key_of(first)), &loads), Ok(first));
        }
        assert_eq!(route(Some(key_of(0)), &[pool(0, 10, 20), pool(1, 10, 18), full]), Ok(1));
    }

    #[test]
    fn without_a_key_the_fewest_jobs_per_worker_decide() {
        for (loads, expected) in [
            ([pool(1, 10, 5), pool(2, 20, 8)], 1),
            ([pool(1, 10, 4), pool(2, 20, 8)], 1),
            ([pool(1, 10, 3), pool(2, 20, 8)], 0),
            ([pool(1, 0, 0), pool(2, 20, 29)], 1),
            ([pool(1, 1, 11), pool(2, 20, 29)], 1),
        ] {
            assert_eq!(route(None, &loads), Ok(expected), "{loads:?}");
        }
    }

    #[test]
    fn a_signal_without_a_pool_is_told_why() {
        for key in [None, Some(7)] {
            assert_eq!(route(key, &[]), Err(RouteError::NoPools));
            assert_eq!(route(key, &[pool(1, 0, 0), pool(2, 0, 3)]), Err(RouteError::NoWorkers));
            assert_eq!(route(key, &[pool(1, 0, 0), pool(2, 5, 15)]), Err(RouteError::Full));
            assert_eq!(route(key, &[pool(1, 0, 0), pool(2, 5, 14)]), Ok(1));
        }
    }

    #[test]
    fn keys_spread_evenly_and_stay_when_a_pool_is_added() {
        let three = [1, 2, 3].map(|name: u8| pool(key_hash(&[name]), 10, 0));
        let four = [1, 2, 3, 4].map(|name: u8| pool(key_hash(&[name]), 10, 0));
        let mut counts = [0u32; 3];
        for customer in 0..3000u32 {
            let key = Some(key_hash(&customer.to_le_bytes()));
            let (before, after) = (route(key, &three).unwrap(), route(key, &four).unwrap());
            counts[before] += 1;
            assert!(after == before || after == 3, "customer {customer} moved from {before} to {after}");
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn balance_follows_the_table_of_the_design() {
        for (utilizations, expected) in [
            (&[0.7, 0.7][..], 1.0),
            (&[0.7, 0.6, 0.65], 0.8),
            (&[0.75, 0.5], 0.5),
            (&[0.9, 0.4], 0.0),
            (&[1.0, 0.0], 0.0),
            (&[0.3], 1.0),
            (&[], 1.0),
        ] {
            assert!((balance(utilizations) - expected).abs() < 1e-9, "{utilizations:?}");
        }
    }

    fn loads() -> impl Strategy<Value = Vec<PoolLoad>> {
        let pool = (0..=u64::MAX, 0u32..20, 0u32..60, 0u32..30);
        vec(
            pool.prop_map(|(hash, workers, in_hand, queue_max)| PoolLoad {
                hash,
                workers,
                in_hand,
                queue_max,
            }),
            0..6,
        )
    }

    proptest! {
        #[test]
        fn the_pool_named_has_room_and_none_is_named_only_if_none_has(key in proptest::option::of(0..=u64::MAX), loads in loads()) {
            let room = |pool: &PoolLoad| 0 < pool.workers && pool.in_hand < pool.workers + pool.queue_max;
            match route(key, &loads) {
                Ok(index) => prop_assert!(room(&loads[index])),
                Err(_) => prop_assert!(!loads.iter().any(room)),
            }
        }

        #[test]
        fn the_order_in_which_pools_are_listed_does_not_matter_to_a_key(key in 0..=u64::MAX, loads in loads()) {
            let reversed: Vec<_> = loads.iter().rev().copied().collect();
            let pool = |loads: &[PoolLoad]| route(Some(key), loads).map(|index| loads[index]);
            prop_assert_eq!(pool(&loads), pool(&reversed));
        }

        #[test]
        fn keyed_signals_never_load_a_pool_of_equals_beyond_its_bound(keys in vec(0..=u64::MAX, 1..100)) {
            let mut loads = [1, 2, 3, 4].map(|hash| PoolLoad { hash, workers: 100, in_hand: 0, queue_max: 0 });
            for (placed, key) in keys.into_iter().enumerate() {
                let index = route(Some(key), &loads).unwrap();
                loads[index].in_hand += 1;
                let bound = (1.25 * (placed + 1) as f64 / 4.0).ceil();
                prop_assert!(f64::from(loads[index].in_hand) <= bound, "{loads:?}");
            }
        }

        #[test]
        fn balance_is_a_ratio(utilizations in vec(0.0..=1.0, 0..8)) {
            prop_assert!((0.0..=1.0).contains(&balance(&utilizations)));
        }
    }
}
