//! E7: whether retries keep a pool down that was slow for ten seconds.

use std::time::Duration;

use gemba_core::time::Timestamp;

use super::{Experiment, Scale, Target, by_seed, compare, row};
use crate::client::Client;
use crate::contenders::Contender;
use crate::engine::Run;
use crate::outcome::Outcome;
use crate::workload::{Model, Trouble, Workload};

const LOAD: f64 = 0.8;
const SLOWER: f64 = 4.0;
const BEFORE: Duration = Duration::from_secs(20);
const LASTS: Duration = Duration::from_secs(10);

/// Runs E7.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let model = Model::default();
    let (begins, ends) = (BEFORE, BEFORE + LASTS);
    let mut rows = Vec::new();
    for client in Client::ALL {
        let outcomes: Vec<Vec<Outcome>> = by_seed(scale, |seed| all(&model, client, scale, seed));
        let of = |figure: &dyn Fn(&Outcome) -> f64| {
            compare(&Contender::ALL, scale.seeds, |contender, seed| {
                figure(&outcomes[seed as usize - 1][contender as usize])
            })
        };
        let recovery = of(&|of| of.recovery(ends).map_or(f64::INFINITY, |after| after.as_secs_f64()));
        let during = of(&|of| {
            let answered = of.between(begins, ends, |bin| bin.answered) as f64 / LASTS.as_secs_f64();
            answered * SLOWER / model.capacity_per_s()
        });
        let all = &Contender::ALL;
        rows.push(row(client.name, "seconds until recovered", Target::AtMost(1.0), all, &recovery));
        rows.push(row(client.name, "goodput meanwhile / what is left", Target::AtLeast(0.9), all, &during));
        if client == Client::OURS {
            let attempts =
                of(&|of| of.attempts as f64 / of.tiers.map(|tier| tier.offered as f64).iter().sum::<f64>());
            rows.push(row(client.name, "attempts / signal", Target::AtMost(1.1), all, &attempts));
        }
    }
    vec![Experiment { number: "E7", title: "retry storm", rows, plots: Vec::new() }]
}

fn all(model: &Model, client: Client, scale: &Scale, seed: u64) -> Vec<Outcome> {
    let lasts = BEFORE + LASTS + scale.watched;
    let (from, to) = (Timestamp::START + BEFORE, Timestamp::START + BEFORE + LASTS);
    let workload = Workload::poisson(model, &[model.phase(lasts, LOAD)], seed).with(Trouble {
        from,
        to,
        slower: SLOWER,
    });
    let run = Run {
        model: *model,
        workload: &workload,
        client,
        seed,
        measured_from: Timestamp::START,
        sizing: None,
    };
    Contender::ALL.iter().map(|contender| run.through(&mut *contender.controller(model))).collect()
}
