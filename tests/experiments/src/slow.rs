//! E8: whether one slow pool of three, or one hung worker of ten, hurts the others.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::sim::client::Client;

use crate::contenders::Kind;
use crate::contenders::ours::POOLS;
use crate::drive::{Run, Sample};
use crate::finding::{Finding, Report, quantile};
use crate::rounds::rounds;
use crate::scale::Scale;
use crate::trace::{Model, Trace};

/// Load of each pool.
const LOAD: f64 = 0.7;

#[derive(Debug, Clone, Copy)]
struct Figures {
    p99_ms: f64,
    served: f64,
    refused: f64,
    /// Of these, those above the lowest tier.
    refused_above: f64,
}

/// Of the signals whose number `counts`.
fn figures(run: &Run, from: Duration, counts: impl Fn(usize) -> bool) -> Figures {
    let of: Vec<&Sample> = run
        .samples
        .iter()
        .enumerate()
        .filter(|(number, sample)| counts(*number) && from <= sample.at)
        .map(|(_, sample)| sample)
        .collect();
    let all = of.len().max(1) as f64;
    let mut latencies: Vec<f64> =
        of.iter().filter(|sample| sample.good).map(|sample| sample.latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    let above = of.iter().filter(|sample| sample.refused && sample.tier != Tier::Batch).count();
    Figures {
        p99_ms: quantile(&latencies, 0.99),
        served: latencies.len() as f64 / all,
        refused: of.iter().filter(|sample| sample.refused).count() as f64 / all,
        refused_above: above as f64 / all,
    }
}

pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let mut report = Report { number: "E8", title: "one slow pool, one hung worker", ..Report::default() };
    let lasts = scale.warm_up + scale.measured;
    let trace = |workers| {
        move |seed| {
            let model = Model { workers, ..Model::SLEEPS };
            Trace::poisson(model, &[model.phase(lasts, LOAD)], seed)
        }
    };
    // The first pool's signals are those whose number divides by the number of pools.
    let look = |run: &Run| figures(run, scale.warm_up, |number| number % POOLS != 0);
    let kinds = [Kind::Pools { slow: true }, Kind::Pools { slow: false }];
    let of = rounds(&mut report, &kinds, (scale.rounds, scale.warm_up), Client::ONCE, trace(24), look);
    let ratio = |figure: fn(&Figures) -> f64| -> Vec<f64> {
        of[0].iter().zip(&of[1]).map(|(slow, well)| figure(slow) / figure(well)).collect()
    };
    let case = "1 of 3 pools 10x slower";
    report
        .findings
        .push(Finding::new(case, "p99 of the others / before", ratio(|of| of.p99_ms)).at_most(1.05));
    report
        .findings
        .push(Finding::new(case, "served of the others / before", ratio(|of| of.served)).at_least(0.99));

    let look = |run: &Run| figures(run, scale.warm_up, |_| true);
    let kinds = [Kind::Hung { hung: true }, Kind::Hung { hung: false }];
    let of = rounds(&mut report, &kinds, (scale.rounds, scale.warm_up), Client::ONCE, trace(10), look);
    let case = "1 of 10 workers hung";
    let pick = |place: usize, figure: fn(&Figures) -> f64| of[place].iter().map(figure).collect();
    let refused = Finding::new(case, "refused, share", pick(0, |of: &Figures| of.refused)).at_most(0.001);
    report.findings.push(refused.beside("none hung", pick(1, |of: &Figures| of.refused)));
    let above = pick(0, |of: &Figures| of.refused_above);
    report.findings.push(Finding::new(case, "refused above the lowest tier, share", above));
    let served = Finding::new(case, "served, share", pick(0, |of: &Figures| of.served));
    report.findings.push(served.beside("none hung", pick(1, |of: &Figures| of.served)));
    vec![report]
}
