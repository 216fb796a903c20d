//! E1, E2, E3: what is done in time under more and more load, whether anything is shed without need, and how
//! long the accepted take.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Spread, Target, by_seed, compare, row};
use crate::client::Client;
use crate::contenders::Contender;
use crate::engine::Run;
use crate::outcome::Outcome;
use crate::plot::{Plot, Series};
use crate::workload::{Model, Workload};

/// Loads, in times of the capacity.
pub const LOADS: [f64; 9] = [0.7, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Where the others are compared with ours.
const CALM: usize = 0;

/// The load of a pool that has next to nothing to do.
const IDLE: f64 = 0.1;

/// What the plots and rows need of an outcome.
#[derive(Debug, Clone, Copy)]
struct Figures {
    goodput: f64,
    shed: f64,
    shed_others: f64,
    p99_ms: f64,
    critical: f64,
}

impl Figures {
    fn of(outcome: &Outcome) -> Self {
        let [critical, normal, _] = outcome.tiers;
        let above = (critical.shed + normal.shed) as f64 / (critical.offered + normal.offered).max(1) as f64;
        Self {
            goodput: outcome.goodput(),
            shed: outcome.shed(),
            shed_others: above,
            p99_ms: outcome.latency_ms(0.99),
            critical: outcome.served(Tier::Critical),
        }
    }
}

/// Runs E1, E2 and E3 over one set of runs.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let model = Model::default();
    // By load, seed and contender.
    let figures: Vec<Vec<Vec<Figures>>> =
        LOADS.iter().map(|times| by_seed(scale, |seed| all(&model, *times, scale, seed))).collect();
    let of = |load: usize, figure: fn(&Figures) -> f64| -> Vec<Spread> {
        compare(&Contender::ALL, scale.seeds, |contender, seed| {
            figure(&figures[load][seed as usize - 1][contender as usize])
        })
    };
    let goodput: Vec<Vec<Spread>> = (0..LOADS.len()).map(|load| of(load, |of| of.goodput)).collect();
    let against = |load: usize| -> Spread {
        let ratio = |seed: &Vec<Figures>| {
            seed[Contender::Ours as usize].goodput / seed[Contender::Gradient2 as usize].goodput
        };
        Spread::of(figures[load].iter().map(ratio).collect())
    };
    let slower = |load: usize| -> Vec<Spread> {
        compare(&Contender::ALL, scale.seeds, |contender, seed| {
            let place = (seed as usize - 1, contender as usize);
            figures[load][place.0][place.1].p99_ms / figures[CALM][place.0][place.1].p99_ms
        })
    };
    let p99: Vec<Vec<Spread>> = (0..LOADS.len()).map(slower).collect();
    let shed: Vec<Vec<Spread>> = (0..LOADS.len()).map(|load| of(load, |of| of.shed)).collect();
    let others = of(1, |of| of.shed_others);
    let critical: Vec<Vec<Spread>> = (0..LOADS.len()).map(|load| of(load, |of| of.critical)).collect();
    vec![e1(&goodput, &critical, against), e2(&shed, &others, &model, scale), e3(&p99)]
}

fn all(model: &Model, times: f64, scale: &Scale, seed: u64) -> Vec<Figures> {
    let workload = Workload::poisson(model, &[model.phase(scale.warm_up + scale.measured, times)], seed);
    let measured_from = Timestamp::START + scale.warm_up;
    let run =
        Run { model: *model, workload: &workload, client: Client::ONCE, seed, measured_from, sizing: None };
    let figures = |contender: &Contender| Figures::of(&run.through(&mut *contender.controller(model)));
    Contender::ALL.iter().map(figures).collect()
}

fn e1(goodput: &[Vec<Spread>], critical: &[Vec<Spread>], against: impl Fn(usize) -> Spread) -> Experiment {
    let mut rows = Vec::new();
    for (load, times) in LOADS.iter().enumerate().skip(2) {
        let target = Target::AtLeast(if *times < 1.1 { 0.95 } else { 0.97 });
        rows.push(row(&format!("{times}x"), "goodput / capacity", target, &Contender::ALL, &goodput[load]));
    }
    for (load, times) in LOADS.iter().enumerate().skip(2) {
        let case = format!("{times}x");
        let (figure, target) = ("goodput / Gradient2's", Target::AtLeast(0.99));
        rows.push(Row { case, figure, target, ours: against(load), others: Vec::new(), known: None });
    }
    // A run in which the limit of 1200 protects the pool has not measured anything.
    let seeds = goodput[3][Contender::Seeds as usize];
    let case = "1.2x, control".to_owned();
    rows.push(Row {
        case,
        figure: "goodput of 1200/960",
        target: Target::AtMost(0.05),
        ours: seeds,
        others: Vec::new(),
        known: None,
    });
    let plots = vec![
        ("e1-goodput.svg", plot("Goodput under load", "answered in time / capacity", goodput, 1.2)),
        ("e1-critical.svg", plot("The critical tier under load", "share answered in time", critical, 1.2)),
    ];
    Experiment { number: "E1", title: "goodput", rows, plots }
}

fn e2(shed: &[Vec<Spread>], above: &[Spread], model: &Model, scale: &Scale) -> Experiment {
    let contenders = &Contender::ALL;
    let idle = Spread::of(by_seed(scale, |seed| sheds_when_idle(model, scale, seed)));
    let rows = vec![
        row("0.7x", "share shed", Target::AtMost(1e-4), contenders, &shed[0]),
        row("0.9x", "share shed", Target::AtMost(0.015), contenders, &shed[1]),
        row("0.9x", "share shed above the lowest tier", Target::AtMost(0.0), contenders, above),
        Row {
            case: format!("{IDLE}x, {} signals", scale.idle_signals),
            figure: "signals shed",
            target: Target::AtMost(0.0),
            ours: idle,
            others: Vec::new(),
            known: None,
        },
    ];
    Experiment { number: "E2", title: "no needless shedding", rows, plots: Vec::new() }
}

fn sheds_when_idle(model: &Model, scale: &Scale, seed: u64) -> f64 {
    let lasts = Duration::from_secs_f64(f64::from(scale.idle_signals) / (IDLE * model.capacity_per_s()));
    let workload = Workload::poisson(model, &[model.phase(lasts, IDLE)], seed);
    let run = Run {
        model: *model,
        workload: &workload,
        client: Client::ONCE,
        seed,
        measured_from: Timestamp::START,
        sizing: None,
    };
    let outcome = run.through(&mut *Contender::Ours.controller(model));
    Tier::ALL.iter().map(|tier| outcome.tiers[*tier as usize].shed as f64).sum()
}

fn e3(p99: &[Vec<Spread>]) -> Experiment {
    let rows = LOADS
        .iter()
        .enumerate()
        .skip(1)
        .map(|(load, times)| {
            let case = format!("{times}x");
            row(&case, "p99 / p99 at 0.7x", Target::AtMost(1.25), &Contender::ALL, &p99[load])
        })
        .collect();
    let plots = vec![("e3-p99.svg", plot("p99 of what was answered", "p99 / p99 at 0.7x", p99, 3.0))];
    Experiment { number: "E3", title: "p99 of accepted", rows, plots }
}

fn plot(title: &str, unit: &str, figures: &[Vec<Spread>], most: f64) -> String {
    let series = Contender::ALL.iter().map(|contender| Series {
        name: contender.word(),
        points: LOADS.iter().zip(figures).map(|(x, of)| (*x, of[*contender as usize].median)).collect(),
    });
    Plot {
        title: title.to_owned(),
        x: "load / capacity".to_owned(),
        y: unit.to_owned(),
        y_max: Some(most),
        log_x: true,
        series: series.collect(),
    }
    .svg()
}
