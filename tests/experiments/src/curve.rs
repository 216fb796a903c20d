//! E1, E2, E3: what is done in time under more and more load, what is shed without need, how long it takes.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::sim::client::Client;
use gemba::sim::plot::{Plot, Series};

use crate::contenders::Kind;
use crate::drive::{Run, Sample};
use crate::finding::{Finding, Ratio, Report, quantile};
use crate::rounds::rounds;
use crate::scale::Scale;
use crate::trace::{Model, Trace};

/// Those whose course is known from virtual time alone, CoDel and a long queue, are not repeated here.
const KINDS: [Kind; 7] =
    [Kind::Ours, Kind::Gradient2, Kind::Bounded, Kind::Seeds, Kind::Tower, Kind::Factory, Kind::NoControl];

/// With work that keeps a processor busy, those that come closest.
const KINDS_SPIN: [Kind; 4] = [Kind::Ours, Kind::Gradient2, Kind::Bounded, Kind::Tower];

/// The load from which on the seeds' limit lets everything be late: the control of E1.
const CONTROL: f64 = 2.0;

/// Below this goodput nobody has earned a latency: answering a few quickly is no feat.
const GOODPUT_MIN: f64 = 0.5;

#[derive(Debug, Clone, Copy)]
struct Figures {
    goodput: f64,
    refused: f64,
    refused_above: f64,
    /// Not answered in time, for whatever reason.
    missed: f64,
    p99_ms: f64,
    /// How long the refused waited for their refusal.
    refused_p99_ms: f64,
    /// Share of the work done whose answer was too late.
    wasted: f64,
}

impl Figures {
    fn of(run: &Run, from: Duration) -> Self {
        let to = run.trace.lasts;
        let share = |of: &dyn Fn(&Sample) -> bool| {
            let offered = run.within(from, to).count().max(1);
            run.within(from, to).filter(|sample| of(sample)).count() as f64 / offered as f64
        };
        let goodput = run.goodput(from, to);
        let done = run.within(from, to).filter(|sample| sample.took.is_some()).count().max(1);
        let late = run.within(from, to).filter(|sample| sample.took.is_some() && !sample.good).count();
        let refused = run.within(from, to).filter(|sample| sample.refused);
        let mut waits: Vec<f64> = refused.map(|sample| sample.latency.as_secs_f64() * 1e3).collect();
        waits.sort_by(f64::total_cmp);
        Self {
            refused_p99_ms: quantile(&waits, 0.99),
            goodput,
            refused: share(&|sample| sample.refused),
            refused_above: share(&|sample| sample.refused && sample.tier != Tier::Batch),
            missed: share(&|sample| !sample.good),
            p99_ms: if goodput < GOODPUT_MIN {
                f64::INFINITY
            } else {
                quantile(&run.latencies_ms(from, to), 0.99)
            },
            wasted: late as f64 / done as f64,
        }
    }
}

/// By load, contender and repetition.
type Table = Vec<Vec<Vec<Figures>>>;

pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let mut e1 = Report { number: "E1", title: "goodput, work that sleeps", ..Report::default() };
    let kinds = scale.of(&KINDS);
    let table = measure(&mut e1, Model::SLEEPS, kinds, scale);
    fill(&mut e1, &table, kinds, scale.loads);
    let svg = plot("Goodput under load", &table, kinds, scale.loads, 1.2, |of| of.goodput);
    e1.plots.push(("wall-e1-goodput.svg", svg));
    let e2 = shedding(&table, kinds).measured_with(&e1);
    let e3 = latency(&table, kinds, scale.loads).measured_with(&e1);
    vec![e1, e2, e3]
}

pub(crate) fn run_spin(scale: &Scale) -> Vec<Report> {
    let note = "one worker; the generator and everything else share the other processor";
    let mut e1 = Report { number: "E1s", title: "goodput, work that spins", note, ..Report::default() };
    let kinds = scale.of(&KINDS_SPIN);
    let table = measure(&mut e1, Model::SPINS, kinds, scale);
    fill(&mut e1, &table, kinds, scale.loads);
    vec![e1]
}

fn measure(report: &mut Report, model: Model, kinds: &[Kind], scale: &Scale) -> Table {
    let lasts = scale.warm_up + scale.measured;
    scale
        .loads
        .iter()
        .map(|times| {
            let trace = |seed| Trace::poisson(model, &[model.phase(lasts, *times)], seed);
            let look = |run: &Run| Figures::of(run, scale.warm_up);
            rounds(report, kinds, (scale.rounds, scale.warm_up), Client::ONCE, trace, look)
        })
        .collect()
}

fn column(of: &[Figures], figure: fn(&Figures) -> f64) -> Vec<f64> {
    of.iter().map(figure).collect()
}

fn row(
    case: String,
    name: &'static str,
    of: &[Vec<Figures>],
    kinds: &[Kind],
    figure: fn(&Figures) -> f64,
) -> Finding {
    let ours = Finding::new(case, name, column(&of[0], figure));
    kinds.iter().zip(of).skip(1).fold(ours, |row, (kind, of)| row.beside(kind.word(), column(of, figure)))
}

fn fill(report: &mut Report, table: &Table, kinds: &[Kind], loads: &[f64]) {
    let anchor = kinds.iter().position(|kind| *kind == Kind::Gradient2).expect("it takes part");
    for (times, of) in loads.iter().zip(table).skip(1) {
        let least = if *times < 1.1 { 0.95 } else { 0.97 };
        let pairs: Vec<_> =
            of[0].iter().zip(&of[anchor]).map(|(ours, theirs)| (ours.goodput, theirs.goodput)).collect();
        let mut finding =
            row(format!("{times}x"), "goodput / capacity", of, kinds, |of| of.goodput).at_least(least);
        finding.ratio = Ratio::of("Gradient2", &pairs);
        report.findings.push(finding);
        if let Some(ratio) = finding_ratio(&pairs) {
            report
                .findings
                .push(Finding::new(format!("{times}x"), "goodput / Gradient2's", ratio).at_least(0.99));
        }
    }
    let last = &table[loads.len() - 1];
    report.findings.push(row("10x".to_owned(), "work wasted, share", last, kinds, |of| of.wasted));
    let waited = row("10x".to_owned(), "p99 until refused, ms", last, kinds, |of| of.refused_p99_ms);
    report.findings.push(waited);
    if let Some(seeds) = kinds.iter().position(|kind| *kind == Kind::Seeds) {
        let load = loads.iter().position(|times| *times == CONTROL).expect("it is measured");
        let figures = column(&table[load][seeds], |of| of.goodput);
        report
            .findings
            .push(Finding::new(format!("{CONTROL}x, control"), "goodput of 1200/960", figures).at_most(0.05));
    }
}

fn finding_ratio(pairs: &[(f64, f64)]) -> Option<Vec<f64>> {
    let ratios: Vec<f64> =
        pairs.iter().filter(|(_, theirs)| 0.0 < *theirs).map(|(ours, theirs)| ours / theirs).collect();
    (!ratios.is_empty()).then_some(ratios)
}

fn shedding(table: &Table, kinds: &[Kind]) -> Report {
    let mut report =
        Report { number: "E2", title: "no needless shedding", note: FROM_E1, ..Report::default() };
    let cases = [
        ("share refused", (|of| of.refused) as fn(&Figures) -> f64, Some(1e-4)),
        ("share refused above the lowest tier", |of| of.refused_above, Some(0.0)),
        // One in a thousand has more work than time.
        ("share not in time", |of| of.missed, None),
    ];
    for (name, figure, most) in cases {
        let finding = row("0.7x".to_owned(), name, &table[0], kinds, figure);
        report.findings.push(match most {
            Some(most) => finding.at_most(most),
            None => finding,
        });
    }
    report
}

const FROM_E1: &str = "from the runs of E1";

fn latency(table: &Table, kinds: &[Kind], loads: &[f64]) -> Report {
    let mut report = Report { number: "E3", title: "p99 of accepted", note: FROM_E1, ..Report::default() };
    let calm: Vec<Vec<f64>> = table[0].iter().map(|of| column(of, |of| of.p99_ms)).collect();
    let relative = |of: &[Figures], calm: &[f64]| -> Vec<f64> {
        of.iter().zip(calm).map(|(of, calm)| of.p99_ms / calm.max(f64::MIN_POSITIVE)).collect()
    };
    report.findings.push(row("0.7x".to_owned(), "p99, ms", &table[0], kinds, |of| of.p99_ms));
    for (times, of) in loads.iter().zip(table).skip(1) {
        let ours = Finding::new(format!("{times}x"), "p99 / p99 at 0.7x", relative(&of[0], &calm[0]));
        let finding = kinds
            .iter()
            .enumerate()
            .skip(1)
            .fold(ours, |row, (place, kind)| row.beside(kind.word(), relative(&of[place], &calm[place])));
        report.findings.push(finding.at_most(1.25));
    }
    let title = "p99 of what was answered in time, ms";
    report.plots.push(("wall-e3-p99.svg", plot(title, table, kinds, loads, 500.0, |of| of.p99_ms)));
    report
}

fn plot(
    title: &str,
    table: &Table,
    kinds: &[Kind],
    loads: &[f64],
    most: f64,
    figure: fn(&Figures) -> f64,
) -> String {
    let series = kinds.iter().enumerate().map(|(place, kind)| Series {
        name: kind.word(),
        points: loads
            .iter()
            .zip(table)
            .map(|(x, of)| (*x, crate::finding::median(column(&of[place], figure))))
            .collect(),
    });
    let (x, y) = ("load / capacity".to_owned(), title.to_owned());
    Plot { title: title.to_owned(), x, y, y_max: Some(most), log_x: true, series: series.collect() }.svg()
}
