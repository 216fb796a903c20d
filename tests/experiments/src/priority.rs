//! E5: whether urgent signals are served while others flood.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::sim::client::Client;

use crate::contenders::Kind;
use crate::drive::{Run, Sample};
use crate::finding::{Finding, Ratio, Report, quantile};
use crate::rounds::rounds;
use crate::scale::Scale;
use crate::trace::{Model, Phase, Trace};

const KINDS: [Kind; 5] = [Kind::Ours, Kind::Gradient2, Kind::Bounded, Kind::Tower, Kind::CoDel];

/// All that arrives, in times of the capacity.
const TOTALS: [f64; 2] = [5.0, 10.0];

/// Critical arrivals, in times of the capacity, and the least share of them that is to be served.
const CRITICAL: [(f64, f64); 2] = [(0.5, 0.999), (0.8, 0.995)];

/// Signals whose work is more than this share of the deadline are left out.
const DOABLE: f64 = 0.8;

#[derive(Debug, Clone, Copy)]
struct Figures {
    critical: f64,
    p99_ms: f64,
    batch: f64,
}

impl Figures {
    fn of(run: &Run, from: Duration) -> Self {
        let to = run.trace.lasts;
        let of = |tier: Tier| run.within(from, to).filter(move |sample| sample.tier == tier);
        let good = |tier| of(tier).filter(|sample| sample.good).count() as f64;
        // Nobody can be in time with work that fills the deadline.
        let doable = |sample: &&Sample| sample.drawn < run.trace.model.deadline.mul_f64(DOABLE);
        let offered = of(Tier::Critical).filter(doable).count().max(1) as f64;
        let served = of(Tier::Critical).filter(doable).filter(|sample| sample.good).count() as f64;
        let latencies = of(Tier::Critical).filter(|sample| sample.good);
        let mut latencies: Vec<f64> = latencies.map(|sample| sample.latency.as_secs_f64() * 1e3).collect();
        latencies.sort_by(f64::total_cmp);
        let measured = to.saturating_sub(from).as_secs_f64();
        Self {
            critical: served / offered,
            p99_ms: quantile(&latencies, 0.99),
            batch: good(Tier::Batch) / measured / run.capacity_per_s,
        }
    }
}

pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note = "signals whose work is more than 0.8 of the deadline are left out";
    let mut report = Report { number: "E5", title: "priority isolation", note, ..Report::default() };
    let model = Model::SLEEPS;
    let lasts = scale.warm_up + scale.measured;
    let load = |report: &mut Report, kinds: &[Kind], load: [f64; 3]| {
        let trace = |seed| Trace::poisson(model, &[Phase { lasts, load }], seed);
        let look = |run: &Run| Figures::of(run, scale.warm_up);
        rounds(report, kinds, (scale.rounds, scale.warm_up), Client::ONCE, trace, look)
    };
    for (critical, least) in CRITICAL {
        let alone = load(&mut report, &[Kind::Ours], [critical, 0.0, 0.0]);
        for total in TOTALS.into_iter().filter(|total| scale.loads.contains(total)) {
            let kinds = scale.of(&KINDS);
            let of = load(&mut report, kinds, [critical, 0.0, total - critical]);
            let case = format!("{critical} C critical, {total} C in all");
            let pick = |place: usize, figure: fn(&Figures) -> f64| -> Vec<f64> {
                of[place].iter().map(figure).collect()
            };
            let mut served =
                Finding::new(&case, "critical served, share", pick(0, |of| of.critical)).at_least(least);
            for (place, kind) in kinds.iter().enumerate().skip(1) {
                served = served.beside(kind.word(), pick(place, |of| of.critical));
            }
            let pairs: Vec<_> =
                of[0].iter().zip(&of[1]).map(|(ours, theirs)| (ours.critical, theirs.critical)).collect();
            served.ratio = Ratio::of("Gradient2", &pairs);
            let slower: Vec<f64> =
                of[0].iter().zip(&alone[0]).map(|(flooded, alone)| flooded.p99_ms / alone.p99_ms).collect();
            report.findings.push(served);
            report.findings.push(Finding::new(&case, "critical p99 / alone", slower).at_most(1.15));
            let batch = Finding::new(&case, "lowest tier's goodput / capacity", pick(0, |of| of.batch));
            report.findings.push(if total == TOTALS[1] { batch.at_least(0.05) } else { batch });
        }
    }
    vec![report]
}
