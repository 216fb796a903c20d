//! Flow control over the real actors in real time, beside what others do.
//!
//! Prints one table, writes plots, and fails when a target is missed that is not a known miss.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::finding::Report;
use crate::scale::Scale;

mod andon;
mod closed;
mod contenders;
mod cost;
mod crash;
mod curve;
mod drive;
mod fairness;
mod finding;
mod kanban;
mod known;
mod lane;
mod observing;
mod pace;
mod priority;
mod refusal;
mod rounds;
mod scale;
mod simulated;
mod slow;
mod spike;
mod table;
mod trace;
mod work;

/// Runs the experiments in real time: figures, targets, verdicts.
#[derive(Debug, Parser)]
#[command(name = "experiments")]
struct Arguments {
    /// Words that select experiments, such as E4 or crash; all without one.
    words: Vec<String>,
    /// Shorter runs: enough to see that nothing is broken.
    #[arg(long)]
    quick: bool,
    /// Repetitions instead of five; fewer prove little.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: Option<u64>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Where the plots go.
    #[arg(long, default_value = "target/experiments")]
    plots: PathBuf,
}

type Experiment = fn(&Scale) -> Vec<Report>;

/// What there is, and the words that select it.
const ALL: &[(&str, Experiment)] = &[
    ("virtual", simulated::run),
    ("E1 E2 E3 goodput shedding latency", curve::run),
    ("E1s spin", curve::run_spin),
    ("E2i idle", refusal::run_idle),
    ("E4 refusal", refusal::run),
    ("E5 priority", priority::run),
    ("E6 spike", spike::run),
    ("E7 storm", spike::run_storm),
    ("E8 slow", slow::run),
    ("E9 fairness tenants", fairness::run),
    ("E14 crash", crash::run),
    ("restart", crash::run_restart),
    ("E15 kanban", kanban::run),
    ("E17 cost", cost::run),
    ("all controls", cost::run_all),
    ("E18 observing", observing::run),
    ("E19 andon", andon::run),
    ("E27 lane", lane::run),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut scale = if arguments.quick { Scale::QUICK } else { Scale::FULL };
    scale.rounds = arguments.rounds.unwrap_or(scale.rounds);
    let is_wanted = |names: &str| {
        arguments.words.is_empty()
            || names.split(' ').any(|name| arguments.words.iter().any(|word| word.eq_ignore_ascii_case(name)))
    };
    let mut reports = Vec::new();
    for (names, experiment) in ALL.iter().filter(|(names, _)| is_wanted(names)) {
        eprintln!("running {names}");
        let found = experiment(&scale);
        if !arguments.json {
            for report in &found {
                print!("{}", table::text(report));
            }
        }
        reports.extend(found);
    }
    if reports.is_empty() {
        eprintln!("experiments: no experiment is called {}; see --help", arguments.words.join(" "));
        return ExitCode::FAILURE;
    }
    if let Err(error) = table::write_plots(&arguments.plots, &reports) {
        eprintln!("experiments: cannot write plots to {}: {error}", arguments.plots.display());
        return ExitCode::FAILURE;
    }
    if arguments.json {
        println!("{}", table::json(&reports));
    } else {
        print!("{}", table::summary(&reports));
    }
    if reports.iter().all(known::is_as_known) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
