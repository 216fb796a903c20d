//! E10, E11, E25: how often a pool changes its size under constant work, how soon it has the right one after a
//! step, and what a surge costs more than if it had been foreseen.

use std::time::Duration;

use gemba_core::burst::BurstRules;
use gemba_core::scaling::ScaleRules;

use super::{Experiment, Row, Scale, Target, by_seed};
use crate::pool::Pool;
use crate::sizing::{LOOK, Sizing};

const SECOND: u64 = 1_000_000_000;
const LOOKS_PER_S: u32 = 4;

/// Constant work, in workers that would always be busy with it.
const WORK: [f64; 4] = [3.5, 7.0, 10.0, 14.0];

/// How long a pool finds its size before its changes count.
const SETTLES_S: u64 = 600;

/// How long the seeds' rule is watched: it changes its mind so often that an hour says all.
const SEEDS_S: u64 = 3600;

const SEEDS: &str = "seeds' rule";

/// Runs E10, E11 and E25.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    vec![
        Experiment::new("E10", "a pool under constant work", still(scale)),
        Experiment::new("E11", "a pool after a step", step(scale)),
        Experiment::new("E25", "cost of a surge", surge(scale)),
    ]
}

/// Above 80 % of a sample one worker more at once, below 50 % one fewer a minute; 2 to 50.
#[derive(Default)]
struct SeedsRule {
    shrunk_at: u64,
}

impl SeedsRule {
    fn size(&mut self, pool: &Pool, second: u64) -> u32 {
        let busy = f64::from(pool.load().running) / f64::from(pool.workers);
        if 0.8 < busy && pool.workers < 50 {
            pool.workers + 1
        } else if busy < 0.5 && 2 < pool.workers && self.shrunk_at + 60 <= second {
            self.shrunk_at = second;
            pool.workers - 1
        } else {
            pool.workers
        }
    }
}

/// Lets a second pass as the scaler of `gemba-core` would have it.
fn second(pool: &mut Pool, sizing: &mut Sizing, erlangs: f64) {
    for _ in 0..LOOKS_PER_S {
        pool.pass(erlangs, LOOK.as_nanos() as u64, Some(sizing));
        let workers = sizing.look(pool.load(), pool.now());
        if workers != pool.workers {
            pool.set_workers(workers);
        }
    }
}

/// What constant work does to the size of a pool.
#[derive(Debug, Clone, Copy, Default)]
struct Changes {
    per_h: f64,
    turns_per_h: f64,
    utilization: f64,
}

impl Changes {
    fn watch(pool: &mut Pool, seconds: u64, mut pass: impl FnMut(&mut Pool, u64)) -> Self {
        let (busy, offered) = (pool.busy, pool.offered);
        let (mut changes, mut turns, mut grew) = (0u32, 0u32, None);
        for now in 1..=seconds {
            let before = pool.workers;
            pass(pool, now);
            if pool.workers != before {
                let grows = before < pool.workers;
                changes += 1;
                turns += u32::from(grew.is_some_and(|grew| grew != grows));
                grew = Some(grows);
            }
        }
        let hours = seconds as f64 / 3600.0;
        Self {
            per_h: f64::from(changes) / hours,
            turns_per_h: f64::from(turns) / hours,
            utilization: (pool.busy - busy) as f64 / (pool.offered - offered) as f64,
        }
    }

    fn ours(seed: u64, erlangs: f64, lasts: Duration) -> Self {
        let (mut pool, mut sizing) = (Pool::new(seed, 2), Sizing::new(ScaleRules::default(), 2));
        for _ in 0..SETTLES_S {
            second(&mut pool, &mut sizing, erlangs);
        }
        Self::watch(&mut pool, lasts.as_secs(), |pool, _| second(pool, &mut sizing, erlangs))
    }

    fn seeds(seed: u64, erlangs: f64, lasts: Duration) -> Self {
        let mut rule = SeedsRule::default();
        let mut pool = Pool::new(seed, (erlangs / 0.7).ceil() as u32);
        Self::watch(&mut pool, lasts.as_secs().min(SEEDS_S), |pool, now| {
            pool.pass(erlangs, SECOND, None);
            pool.set_workers(rule.size(pool, now));
        })
    }
}

fn still(scale: &Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for erlangs in WORK {
        let both = by_seed(scale, |seed| {
            [Changes::ours(seed, erlangs, scale.steady), Changes::seeds(seed, erlangs, scale.steady)]
        });
        let mut row = |figure, target, of: fn(&Changes) -> f64| {
            let [ours, seeds] = [0, 1].map(|which| both.iter().map(|pair| of(&pair[which])).collect());
            rows.push(Row::new(format!("{erlangs} Erlang"), figure, target, ours).beside(SEEDS, seeds));
        };
        row("changes of size per hour", Target::AtMost(2.0), |of| of.per_h);
        row("changes of direction per hour", Target::AtMost(1.0), |of| of.turns_per_h);
        row("mean utilization", Target::AtLeast(0.65), |of| of.utilization);
        row("mean utilization", Target::AtMost(0.75), |of| of.utilization);
    }
    rows
}

/// What the workers of [`step`] do at the target, in workers.
const STEP_OF: f64 = 30.0;
const STEP_BEFORE_S: u64 = 120;
const STEP_AFTER_S: u64 = 300;

fn step(scale: &Scale) -> Vec<Row> {
    // From half to 0.95 of what 30 workers do at the target; the maximum is out of the way, so that too large
    // a pool would show.
    let rules = ScaleRules::builder().workers(2, 90).build().expect("rules within the bounds");
    let [before, after] = [0.5, 0.95].map(|part| part * STEP_OF * rules.target());
    let right = (after / rules.target()).ceil();
    let tolerated = f64::max(1.0, 0.1 * right);
    let one = |seed: u64, is_ours: bool| {
        let (mut pool, mut sizing) = (Pool::new(seed, 15), Sizing::new(rules, 15));
        let mut rule = SeedsRule::default();
        let mut pass = |pool: &mut Pool, erlangs, now| {
            if is_ours {
                second(pool, &mut sizing, erlangs);
            } else {
                pool.pass(erlangs, SECOND, None);
                pool.set_workers(rule.size(pool, now));
            }
        };
        // The seeds' rule has left the right size before a step could come.
        if is_ours {
            (1..=STEP_BEFORE_S).for_each(|now| pass(&mut pool, before, now));
        }
        let (mut until, mut beyond) = (f64::INFINITY, 0.0f64);
        for now in 1..=STEP_AFTER_S {
            pass(&mut pool, after, STEP_BEFORE_S + now);
            let off = f64::from(pool.workers) - right;
            if off.abs() <= tolerated && until.is_infinite() {
                until = now as f64;
            }
            beyond = beyond.max(off);
        }
        [until, beyond]
    };
    let worst = |is_ours| {
        by_seed(scale, |seed| {
            let steps = (0..u64::from(scale.steps)).map(|step| one(seed << 16 | step, is_ours));
            steps.fold([0.0, 0.0], |[a, b], [c, d]| [f64::max(a, c), f64::max(b, d)])
        })
    };
    let (ours, seeds) = (worst(true), worst(false));
    let of = |worst: &[[f64; 2]], which: usize| worst.iter().map(|worst| worst[which]).collect();
    let row = |figure, target, which| {
        Row::new("from 0.5 to 0.95 of 30 workers", figure, target, of(&ours, which))
            .beside(SEEDS, of(&seeds, which))
    };
    vec![
        row("looks until the size is right, most", Target::AtMost(2.0), 0),
        row("workers too many, most", Target::AtMost(tolerated), 1),
    ]
}

/// Work for seven workers, ten times as much for ten minutes, and seven again.
fn work_at(second: u32) -> f64 {
    if (3600..4200).contains(&second) { 70.0 } else { 7.0 }
}

/// Worker seconds of two hours, and the share of jobs in time.
fn bill(seed: u64, mut pass: impl FnMut(&mut Pool, u32)) -> [f64; 2] {
    let mut pool = Pool::new(seed, 10);
    let mut worker_seconds = 0;
    for second in 0..7200 {
        worker_seconds += u64::from(pool.workers);
        pass(&mut pool, second);
    }
    [worker_seconds as f64, pool.in_time as f64 / (pool.in_time + pool.late).max(1) as f64]
}

fn surge(scale: &Scale) -> Vec<Row> {
    let rules = ScaleRules::builder().workers(2, 30).build().expect("rules within the bounds");
    let bills = by_seed(scale, |seed| {
        let extra = BurstRules::builder().extra_workers(100).build().expect("rules within the bounds");
        let mut sizing = Sizing::new(rules, 10).surges(extra);
        let ours = bill(seed, |pool, now| second(pool, &mut sizing, work_at(now)));
        // The seeds add five workers to what their rule has for five minutes, and have 30 at most.
        let mut rule = SeedsRule::default();
        let seeds = bill(seed, |pool, now| {
            pool.pass(work_at(now), SECOND, None);
            let wanted = rule.size(pool, u64::from(now)).min(30);
            pool.set_workers(wanted + if (3600..3900).contains(&now) { 5 } else { 0 });
        });
        // One who knows the work of the next second has the right size for it.
        let oracle = bill(seed, |pool, now| {
            pool.pass(work_at(now), SECOND, None);
            pool.set_workers((work_at(now + 1) / rules.target()).ceil() as u32);
        });
        [ours, seeds, oracle]
    });
    let cost = |who: usize| bills.iter().map(|bill| bill[who][0] / bill[2][0]).collect();
    let served = |who: usize| bills.iter().map(|bill| bill[who][1]).collect();
    let case = "10x for 10 minutes of 2 hours";
    vec![
        Row::new(case, "worker seconds / if foreseen", Target::AtMost(1.15), cost(0)).beside(SEEDS, cost(1)),
        Row::new(case, "share of jobs in time", Target::AtLeast(0.99), served(0))
            .beside(SEEDS, served(1))
            .beside("if foreseen", served(2)),
    ]
}
