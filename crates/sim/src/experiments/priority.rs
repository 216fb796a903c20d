//! E5: whether the critical tier notices that lower ones overload the pool.

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;

use super::{Experiment, Scale, Spread, Target, compare, row};
use crate::client::Client;
use crate::contenders::Contender;
use crate::engine::Run;
use crate::outcome::{Outcome, quantile_ms};
use crate::workload::{Model, Phase, Workload};

/// What the critical tier offers, and what is offered together, in times of the capacity.
const CASES: [(f64, f64); 7] =
    [(0.08, 3.0), (0.08, 10.0), (0.3, 5.0), (0.5, 3.0), (0.5, 10.0), (0.8, 3.0), (0.8, 10.0)];

const CONTENDERS: [Contender; 5] =
    [Contender::Ours, Contender::BoundedOne, Contender::Gradient2, Contender::Vegas, Contender::CoDel];

/// Runs E5.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let mut rows = Vec::new();
    for (high, together) in CASES {
        let case = format!("critical {high}x of {together}x");
        let served = compare(&CONTENDERS, scale.seeds, |contender, seed| {
            100.0 * outcome(contender, high, together - high, scale, seed).served(Tier::Critical)
        });
        let least = if high <= 0.5 { 99.9 } else { 99.5 };
        rows.push(row(&case, "% of critical served", Target::AtLeast(least), &CONTENDERS, &served));
        let slower = compare(&CONTENDERS[..1], scale.seeds, |contender, seed| {
            let p99 = |low| quantile_ms(&outcome(contender, high, low, scale, seed).critical_us, 0.99);
            p99(together - high) / p99(0.0)
        });
        rows.push(row(&case, "p99 of critical / alone", Target::AtMost(1.15), &CONTENDERS[..1], &slower));
        let low = low_share(high, together, scale);
        rows.push(row(
            &case,
            "lower tier's part of capacity",
            Target::AtLeast(0.05),
            &CONTENDERS[..1],
            &[low],
        ));
    }
    vec![Experiment { number: "E5", title: "priority isolation", rows, plots: Vec::new() }]
}

/// What the lower tier gets when the critical one alone is twice what the pool can do, or as it is.
fn low_share(high: f64, together: f64, scale: &Scale) -> Spread {
    let share = |seed| {
        let outcome = outcome(Contender::Ours, high, together - high, scale, seed);
        let good = outcome.tiers[Tier::Batch as usize].good as f64;
        good / scale.measured.as_secs_f64() / outcome.model.capacity_per_s()
    };
    Spread::of((1..=scale.seeds).map(share).collect())
}

fn outcome(contender: Contender, high: f64, low: f64, scale: &Scale, seed: u64) -> Outcome {
    let model = Model::default();
    let phase = Phase { lasts: scale.warm_up + scale.measured, load: [high, 0.0, low] };
    let workload = Workload::poisson(&model, &[phase], seed);
    let measured_from = Timestamp::START + scale.warm_up;
    let run = Run { model, workload: &workload, client: Client::ONCE, seed, measured_from, sizing: None };
    run.through(&mut *contender.controller(&model))
}
