//! E6: how long after ten seconds of ten-fold load all is well again.

use std::time::Duration;

use gemba_core::time::Timestamp;

use super::{Experiment, Scale, Target, by_seed, compare, row};
use crate::client::Client;
use crate::contenders::Contender;
use crate::engine::Run;
use crate::outcome::{BIN, Outcome};
use crate::plot::{Plot, Series};
use crate::workload::{Model, Workload};

const LOAD: f64 = 0.7;
const SPIKE: f64 = 10.0;
const BEFORE: Duration = Duration::from_secs(20);
/// What the plot shows of the time before and after.
const SHOWN_BEFORE: Duration = Duration::from_secs(5);
const SHOWN_AFTER: Duration = Duration::from_secs(20);

const LASTS: Duration = Duration::from_secs(10);

/// Runs E6.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let model = Model::default();
    let ends = BEFORE + LASTS;
    let outcomes: Vec<Vec<Outcome>> = by_seed(scale, |seed| all(&model, scale, seed));
    let of = |figure: &dyn Fn(&Outcome) -> f64| {
        compare(&Contender::ALL, scale.seeds, |contender, seed| {
            figure(&outcomes[seed as usize - 1][contender as usize])
        })
    };
    let recovery = of(&|of| of.recovery(ends).map_or(f64::INFINITY, |after| after.as_secs_f64()));
    let lost = of(&|of| {
        let lost = of.between(ends, Duration::MAX, |bin| bin.offered - bin.good);
        lost as f64 / model.capacity_per_s()
    });
    let delay = of(&|of| delay_after(of, ends).as_secs_f64() / model.service.as_secs_f64());
    let all = &Contender::ALL;
    let rows = vec![
        row("10 s of 10x", "seconds until recovered", Target::AtMost(1.0), all, &recovery),
        row("10 s of 10x", "lost afterwards, seconds of capacity", Target::AtMost(0.2), all, &lost),
        row("10 s of 10x", "mean services until waits are short", Target::AtMost(5.0), all, &delay),
    ];
    let plots = vec![("e6-spike.svg", plot(&outcomes[0], ends))];
    vec![Experiment { number: "E6", title: "recovery after a spike", rows, plots }]
}

fn all(model: &Model, scale: &Scale, seed: u64) -> Vec<Outcome> {
    let phases =
        [model.phase(BEFORE, LOAD), model.phase(LASTS, SPIKE), model.phase(scale.watched.mul_f64(0.6), LOAD)];
    let workload = Workload::poisson(model, &phases, seed);
    let run = Run {
        model: *model,
        workload: &workload,
        client: Client::ONCE,
        seed,
        measured_from: Timestamp::START,
        sizing: None,
    };
    Contender::ALL.iter().map(|contender| run.through(&mut *contender.controller(model))).collect()
}

/// How long it is until a tenth of a second in which nobody is started who waited longer than work takes.
fn delay_after(outcome: &Outcome, ends: Duration) -> Duration {
    let first = (ends.as_nanos() / BIN.as_nanos()) as usize;
    let short = outcome.model.service.as_micros() as u32;
    let bins = &outcome.history[first..];
    let until = bins.iter().position(|bin| bin.waited_us <= short).unwrap_or(bins.len());
    BIN * until as u32
}

fn plot(outcomes: &[Outcome], ends: Duration) -> String {
    let from = (BEFORE.saturating_sub(SHOWN_BEFORE).as_nanos() / BIN.as_nanos()) as usize;
    let to = ((ends + SHOWN_AFTER).as_nanos() / BIN.as_nanos()) as usize;
    let series = outcomes.iter().map(|outcome| {
        let per_second = outcome.history[from..to.min(outcome.history.len())].chunks_exact(10);
        let goodput = |(second, bins): (usize, &[crate::outcome::Bin])| {
            let answered = bins.iter().map(|bin| f64::from(bin.answered)).sum::<f64>();
            (second as f64 - SHOWN_BEFORE.as_secs_f64(), answered / outcome.model.capacity_per_s())
        };
        Series { name: outcome.controller, points: per_second.enumerate().map(goodput).collect() }
    });
    Plot {
        title: "Ten seconds of ten-fold load".to_owned(),
        x: "seconds since it began".to_owned(),
        y: "answered in time / capacity".to_owned(),
        y_max: Some(1.2),
        log_x: false,
        series: series.collect(),
    }
    .svg()
}
