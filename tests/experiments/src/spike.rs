//! E6, E7: how long it takes until all is well again after a spike, and after a slow time with callers who retry.

use std::time::Duration;

use gemba::sim::client::Client;
use gemba::sim::plot::{Plot, Series};

use crate::contenders::Kind;
use crate::drive::{Run, Sample};
use crate::finding::{Finding, Report};
use crate::rounds::rounds;
use crate::scale::Scale;
use crate::trace::{Model, Trace};

/// How long it goes well before the trouble.
const BEFORE: Duration = Duration::from_secs(2);

/// All is well when of those that arrive in any such window this share is served.
const WINDOW: Duration = Duration::from_millis(500);
const WELL: f64 = 0.95;

/// How far windows lie apart.
const STEP: Duration = Duration::from_millis(100);

const SPIKE_KINDS: [Kind; 5] = [Kind::Ours, Kind::Gradient2, Kind::Seeds, Kind::Bounded, Kind::NoControl];
const STORM_KINDS: [Kind; 4] = [Kind::Ours, Kind::Gradient2, Kind::Seeds, Kind::BoundedFour];

/// By which factor work takes longer in a slow time.
const SLOWER: f64 = 4.0;

fn served<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    let (mut offered, mut good) = (0u32, 0u32);
    for sample in samples {
        offered += 1;
        good += u32::from(sample.good);
    }
    f64::from(good) / f64::from(offered.max(1))
}

/// Seconds after `end` from which on every window is well; infinite if the last is not.
fn recovery(run: &Run, end: Duration) -> f64 {
    let mut from = run.trace.lasts.saturating_sub(WINDOW);
    let mut well = f64::INFINITY;
    while end <= from {
        if served(run.within(from, from + WINDOW)) < WELL {
            break;
        }
        well = from.saturating_sub(end).as_secs_f64();
        if from < end + STEP {
            well = 0.0;
        }
        let Some(earlier) = from.checked_sub(STEP) else { break };
        from = earlier;
    }
    well
}

#[derive(Debug, Clone)]
struct Figures {
    recovery: f64,
    /// Of what arrived after the trouble, what was not served, in seconds of capacity.
    lost: f64,
    during: f64,
    attempts: f64,
    /// By second of arrival, the share served.
    course: Vec<(f64, f64)>,
}

impl Figures {
    /// `slower`: by which factor the workers could do less during the trouble.
    fn of(run: &Run, end: Duration, slower: f64) -> Self {
        let lasts = run.trace.lasts;
        let late = run.within(end, lasts).filter(|sample| !sample.good).count() as f64;
        let attempts: u64 = run.samples.iter().map(|sample| u64::from(sample.attempts)).sum();
        // The capacity that was measured mixes both times: the drawn one is without the trouble.
        let trouble = end.saturating_sub(BEFORE).as_secs_f64();
        let good = run
            .samples
            .iter()
            .filter(|sample| sample.good && (BEFORE..end).contains(&(sample.at + sample.latency)));
        let during = good.count() as f64 / trouble / (run.trace.model.capacity_per_s() / slower);
        let seconds = lasts.as_secs_f64() as u64;
        let second = |second: u64| Duration::from_secs(second);
        let course =
            (0..seconds).map(|at| (at as f64, served(run.within(second(at), second(at + 1))))).collect();
        Self {
            recovery: recovery(run, end),
            lost: late / run.trace.model.capacity_per_s(),
            during,
            attempts: attempts as f64 / run.samples.len().max(1) as f64,
            course,
        }
    }
}

fn pick(of: &[Figures], figure: fn(&Figures) -> f64) -> Vec<f64> {
    of.iter().map(figure).collect()
}

fn row(
    case: &str,
    name: &'static str,
    of: &[Vec<Figures>],
    kinds: &[Kind],
    figure: fn(&Figures) -> f64,
) -> Finding {
    let ours = Finding::new(case, name, pick(&of[0], figure));
    kinds.iter().zip(of).skip(1).fold(ours, |row, (kind, of)| row.beside(kind.word(), pick(of, figure)))
}

fn plot(title: &str, of: &[Vec<Figures>], kinds: &[Kind]) -> String {
    let series =
        kinds.iter().zip(of).map(|(kind, of)| Series { name: kind.word(), points: of[0].course.clone() });
    Plot {
        title: title.to_owned(),
        x: "s".to_owned(),
        y: "share served of what arrived".to_owned(),
        y_max: Some(1.0),
        log_x: false,
        series: series.collect(),
    }
    .svg()
}

/// E6.
pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let mut report = Report { number: "E6", title: "recovery after a spike", ..Report::default() };
    let (model, kinds) = (Model::SLEEPS, scale.of(&SPIKE_KINDS));
    let (end, phases) = (
        BEFORE + scale.trouble,
        [model.phase(BEFORE, 0.7), model.phase(scale.trouble, 10.0), model.phase(scale.watched, 0.7)],
    );
    let trace = |seed| Trace::poisson(model, &phases, seed);
    let look = |run: &Run| Figures::of(run, end, 1.0);
    let of = rounds(&mut report, kinds, (scale.rounds, Duration::ZERO), Client::ONCE, trace, look);
    let case = format!("10x for {} s", scale.trouble.as_secs());
    report.findings.push(row(&case, "s until well", &of, kinds, |of| of.recovery).at_most(1.0));
    report.findings.push(row(&case, "lost after, s of capacity", &of, kinds, |of| of.lost).at_most(0.2));
    report.plots.push(("wall-e6-spike.svg", plot("A tenfold spike", &of, kinds)));
    vec![report]
}

/// E7.
pub(crate) fn run_storm(scale: &Scale) -> Vec<Report> {
    let note = "0.8x; work takes four times as long for a while";
    let mut report = Report { number: "E7", title: "retry storm", note, ..Report::default() };
    let (model, kinds) = (Model::SLEEPS, scale.of(&STORM_KINDS));
    let end = BEFORE + scale.trouble;
    let phases = [model.phase(end + scale.watched, 0.8)];
    for client in scale.clients.iter().copied() {
        let trace = |seed| {
            let mut trace = Trace::poisson(model, &phases, seed);
            trace.slow = Some((BEFORE, end, SLOWER));
            trace
        };
        let look = |run: &Run| Figures::of(run, end, SLOWER);
        let of = rounds(&mut report, kinds, (scale.rounds, Duration::ZERO), client, trace, look);
        report.findings.push(row(client.name, "s until well", &of, kinds, |of| of.recovery).at_most(1.0));
        report.findings.push(
            row(client.name, "goodput meanwhile / slow capacity", &of, kinds, |of| of.during).at_least(0.9),
        );
        let attempts = row(client.name, "attempts per signal", &of, kinds, |of| of.attempts);
        report.findings.push(if client == Client::OURS { attempts.at_most(1.1) } else { attempts });
        if client == Client::IN_STEP {
            report.plots.push(("wall-e7-storm.svg", plot("Slow for a while, three retries", &of, kinds)));
        }
    }
    vec![report]
}
