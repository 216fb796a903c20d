//! What is not built into routing, and why: the measured reasons of decision 0023.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use gemba_core::routing::{PoolLoad, route};
use gemba_sim::draw::Draw;

const POOLS: usize = 4;
const WORKERS: u32 = 4;

/// Mean time of work, in nanoseconds.
const SERVICE: f64 = 40e6;

/// Signals of a run: some 110 s at this load.
const SIGNALS: usize = 40_000;

/// When the last pool begins, in mean times of work, where it does not from the start.
const RETURNS: f64 = 1_000.0;

/// How long slow start lasts, and how long work of a pool that has just begun may be slower; in the same unit.
const WARM: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Router {
    LeastLoaded,
    TwoChoices,
    /// Least loaded, where one that has just begun seems fuller than it is, less and less.
    SlowStart,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    router: Router,
    /// Of the capacity of all pools that run at the end.
    load: f64,
    /// Whether the last pool begins later.
    returns: bool,
    /// How many times longer its work takes at first.
    colder: f64,
    seed: u64,
}

#[derive(Debug, Default)]
struct Pool {
    busy: u32,
    queue: VecDeque<(u64, f64)>,
}

/// How long signals waited, sorted, in mean times of work: those that came in the time looked at.
fn waits(case: Case) -> Vec<f64> {
    let (mut arrivals, mut work, mut choice) =
        (Draw::new(case.seed, 1), Draw::new(case.seed, 2), Draw::new(case.seed, 3));
    let begins = if case.returns { RETURNS } else { 0.0 };
    let pause = SERVICE / (case.load * f64::from(WORKERS) * POOLS as f64);
    let mut pools: [Pool; POOLS] = std::array::from_fn(|_| Pool::default());
    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let (mut waits, mut now) = (Vec::new(), 0.0);
    for _ in 0..SIGNALS {
        now += pause * arrivals.exponential();
        let sent = now as u64;
        while let Some(Reverse((at, index))) = ends.peek().copied()
            && at <= sent
        {
            ends.pop();
            let pool = &mut pools[index];
            pool.busy -= 1;
            if let Some((since, takes)) = pool.queue.pop_front() {
                pool.busy += 1;
                note(&mut waits, since, at, case);
                ends.push(Reverse((at + takes as u64, index)));
            }
        }
        let age = now / SERVICE - begins;
        let loads: Vec<PoolLoad> = pools
            .iter()
            .enumerate()
            .map(|(index, pool)| {
                let is_new = index == POOLS - 1 && case.returns;
                let workers = if is_new && age < 0.0 { 0 } else { WORKERS };
                let in_hand = pool.busy + pool.queue.len() as u32;
                let seems = if case.router == Router::SlowStart && is_new {
                    // An idle pool seems to have one job at a tenth of its share.
                    (f64::from(in_hand + 1) / (age / WARM).clamp(0.1, 1.0)) as u32 - 1
                } else {
                    in_hand
                };
                PoolLoad { hash: index as u64, workers, in_hand: seems, queue_max: 1_000_000 }
            })
            .collect();
        let index = match case.router {
            Router::LeastLoaded | Router::SlowStart => route(None, &loads).expect("there is room"),
            Router::TwoChoices => {
                let up: Vec<usize> = (0..POOLS).filter(|index| 0 < loads[*index].workers).collect();
                let first = choice.below(up.len() as u64) as usize;
                let second = (first + 1 + choice.below(up.len() as u64 - 1) as usize) % up.len();
                let pair = [up[first], up[second]];
                pair[route(None, &pair.map(|index| loads[index])).expect("there is room")]
            }
        };
        let is_cold = index == POOLS - 1 && case.returns && age < WARM;
        let takes = SERVICE * work.exponential() * if is_cold { case.colder } else { 1.0 };
        let pool = &mut pools[index];
        if pool.busy < WORKERS {
            pool.busy += 1;
            note(&mut waits, sent, sent, case);
            ends.push(Reverse((sent + takes as u64, index)));
        } else {
            pool.queue.push_back((sent, takes));
        }
    }
    waits.sort_by(f64::total_cmp);
    waits
}

/// Keeps the wait of a signal that came when it mattered: after a return if there is one, else at any time.
fn note(waits: &mut Vec<f64>, sent: u64, started: u64, case: Case) {
    let at = sent as f64 / SERVICE;
    if !case.returns || (RETURNS..RETURNS + 2.0 * WARM).contains(&at) {
        waits.push((started - sent) as f64 / SERVICE);
    }
}

/// Mean and 99th percentile of the waits of ten seeds.
fn figures(case: Case) -> (f64, f64) {
    let mut all: Vec<f64> = (1..=10).flat_map(|seed| waits(Case { seed, ..case })).collect();
    all.sort_by(f64::total_cmp);
    (all.iter().sum::<f64>() / all.len() as f64, all[all.len() * 99 / 100])
}

#[test]
fn two_choices_wait_longer_than_the_least_loaded_of_all() {
    for load in [0.7, 0.9] {
        let case = Case { router: Router::LeastLoaded, load, returns: false, colder: 1.0, seed: 0 };
        let least = figures(case);
        let two = figures(Case { router: Router::TwoChoices, ..case });
        println!("load {load}: least loaded {least:.3?}, two choices {two:.3?} (mean, p99)");
        assert!(1.05 * least.0 < two.0 && least.1 <= two.1, "{load}: {least:?} {two:?}");
    }
}

#[test]
fn a_pool_that_returns_helps_at_once_and_slow_start_keeps_it_from_that() {
    for colder in [1.0, 3.0] {
        let case = Case { router: Router::LeastLoaded, load: 0.7, returns: true, colder, seed: 0 };
        let at_once = figures(case);
        let slowly = figures(Case { router: Router::SlowStart, ..case });
        println!(
            "{colder} times slower at first: at once {at_once:.3?}, slow start {slowly:.3?} (mean, p99)"
        );
        assert!(at_once.0 < slowly.0, "{colder}: {at_once:?} {slowly:?}");
    }
}
