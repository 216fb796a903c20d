//! What it costs to choose a pool for a signal, and to move capacity between pools.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::time::Instant;

use gemba::lending::{Lender, Lending};
use gemba::routing::{PoolLoad, key_hash, route};
use gemba::time::Timestamp;

use super::{Figure, ROUNDS, print};

type SipHasher = BuildHasherDefault<DefaultHasher>;

/// How often each contender chooses in a round.
const TIMES: u32 = 200_000;

fn loads(pools: u32) -> Vec<PoolLoad> {
    let load = |n: u32| PoolLoad {
        hash: key_hash(format!("pool-{n}").as_bytes()),
        workers: 10,
        in_hand: n % 7,
        queue_max: 100,
    };
    (0..pools).map(load).collect()
}

/// Nanoseconds for each of [`TIMES`] calls with another key.
fn timed<T>(mut choose: impl FnMut(u32) -> T) -> f64 {
    let begun = Instant::now();
    for n in 0..TIMES {
        black_box(choose(black_box(n)));
    }
    begun.elapsed().as_nanos() as f64 / f64::from(TIMES)
}

/// Choosing a pool for a key, its hash included: target below 10 µs. The others know nothing of loads, limits and
/// pools without workers.
pub(super) fn routing(pools: u32) {
    let loads = loads(pools);
    let names: Vec<String> = (0..pools).map(|n| format!("pool-{n}")).collect();
    let hasher = SipHasher::default();
    let mut ours = Figure::new("gemba: by key, within the bounds of load");
    let mut free = Figure::new("gemba: without a key, the least loaded");
    let mut modulo = Figure::new("a hash modulo the number of pools");
    let mut rendezvous = Figure::new("rendezvous hashing with std's hasher");
    for _ in 0..ROUNDS {
        ours.values.push(timed(|n| route(Some(key_hash(&n.to_le_bytes())), &loads)));
        free.values.push(timed(|_| route(None, black_box(&loads))));
        modulo.values.push(timed(|n| hasher.hash_one(n) % u64::from(pools)));
        rendezvous.values.push(timed(|n| {
            names
                .iter()
                .enumerate()
                .max_by_key(|(_, name)| hasher.hash_one((name, n)))
                .map(|(index, _)| index)
        }));
    }
    let what = format!("routing among {pools} pools; target: below 10000");
    print(&what, "ns, less is better", &[ours, free, modulo, rendezvous]);
}

/// Deciding which pool lends a worker's worth to which, each time with a move: target below 10 ms. Beside it, what one
/// writes by hand: sort the pools by load and take from the first for the last, whatever their limits are.
pub(super) fn rebalancing(pools: u32) {
    // The busiest always has all it may have, and the idlest always something to lend.
    let lender = |n: u32| Lender {
        utilization: if n == 0 { 0.95 } else { f64::from(n) / f64::from(2 * pools) },
        workers: if n == 0 { u32::MAX } else { 10 },
        workers_min: 1,
        workers_max: u32::MAX / 2,
    };
    let lenders: Vec<_> = (0..pools).map(lender).collect();
    let mut ours = Figure::new("gemba: within every pool's limits");
    let mut by_hand = Figure::new("sort by load, take from the first");
    for _ in 0..ROUNDS {
        let mut lending = Lending::new(pools as usize);
        ours.values.push(timed(|n| {
            lending.order(black_box(&lenders), Timestamp::from_secs(n.into())).expect("there is one to lend")
        }));
        let mut lent = vec![0_i64; pools as usize];
        by_hand.values.push(timed(|_| {
            let mut order: Vec<_> = black_box(&lenders).iter().enumerate().collect();
            order.sort_by(|(_, a), (_, b)| a.utilization.total_cmp(&b.utilization));
            let (from, to) = (order[0].0, order[order.len() - 1].0);
            lent[from] -= 1;
            lent[to] += 1;
            (from, to)
        }));
    }
    let what = format!("a rebalancing among {pools} pools; target: below 10000000");
    print(&what, "ns, less is better", &[ours, by_hand]);
}
