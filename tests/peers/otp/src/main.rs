//! `just bench-otp`: ours beside Erlang's, kameo's and ractor's supervision, in one run on one machine.
//!
//! Every measurement is a fresh process with two workers or schedulers, in release build. The contenders take
//! turns, round after round; told are medians with minimum and maximum, and ours divided by theirs.

mod kameo_side;
mod ours;
mod ractor_side;
mod report;
mod rows;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::report::Values;
use crate::rows::{ROWS, Row, Side};
use crate::run::{Bench, RunError};

/// Ours beside Erlang's, kameo's and ractor's, in one run.
#[derive(Debug, Parser)]
#[command(name = "just bench-otp")]
struct Options {
    /// Only the rows with this word in their title or case.
    word: Option<String>,
    /// How often each contender takes its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Small sizes and one round: shows that all of it runs, not how fast.
    #[arg(long)]
    quick: bool,
    /// Everything, as JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// A Markdown table.
    #[arg(long)]
    markdown: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("measure") {
        measure(arguments);
        return ExitCode::SUCCESS;
    }
    match compare(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-otp: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does one measurement, in the process that was started for it.
fn measure(mut arguments: impl Iterator<Item = String>) {
    match arguments.next().as_deref() {
        Some("gemba") => gauge::run(arguments, ours::measure),
        Some("kameo") => gauge::run(arguments, kameo_side::measure),
        Some("ractor") => gauge::run(arguments, |job| ractor_side::measure(job, false)),
        Some("ractor-timed") => gauge::run(arguments, |job| ractor_side::measure(job, true)),
        other => panic!("no contender is called {other:?}"),
    }
}

fn compare(options: &Options) -> Result<ExitCode, RunError> {
    let bench = Bench::prepare()?;
    let wanted = |row: &&Row| {
        options.word.as_deref().is_none_or(|word| row.title.contains(word) || row.case.contains(word))
    };
    let rows: Vec<_> = ROWS.iter().filter(wanted).collect();
    let rounds = if options.quick { 1 } else { usize::from(options.rounds) };
    if !options.json && !options.markdown {
        println!("{rounds} round(s), in turn; median [min .. max]; ratios of medians");
        println!("load of the machine before: {}\n", load());
    }
    let before = load();
    let mut results = Vec::new();
    let mut ours_failed = false;
    for row in rows {
        let (of_row, failed) = turns(&bench, row, rounds, options.quick);
        ours_failed |= failed;
        if !options.json && !options.markdown {
            print!("{}", report::text(&of_row));
        }
        results.extend(of_row);
    }
    if options.json {
        println!("{}", report::json(&results, rounds, options.quick, &before));
    } else if options.markdown {
        println!("{rounds} round(s), load of the machine before: {before}\n");
        print!("{}", report::markdown(&results));
    }
    Ok(if ours_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How busy others keep the machine: figures from a busy one say little.
fn load() -> String {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    told.split(' ').next().unwrap_or("unknown").to_owned()
}

/// All rounds of one row, the contenders in turn, and whether ours failed in one.
fn turns<'a>(bench: &Bench, row: &'a Row, rounds: usize, quick: bool) -> (Vec<report::Result<'a>>, bool) {
    let mut results: Vec<_> = row
        .figures
        .iter()
        .map(|figure| {
            let sides = row.sides.iter().map(|(side, _)| Values { side: *side, values: Vec::new() });
            report::Result { row, figure, sides: sides.collect(), quick }
        })
        .collect();
    let (size, scale) = row.sizes(quick);
    let mut failed: Vec<Side> = Vec::new();
    for round in 1..=rounds {
        for (index, &(side, part)) in row.sides.iter().enumerate() {
            // What failed once would cost its time limit in each round.
            if failed.contains(&side) {
                continue;
            }
            eprintln!("{}: round {round} of {rounds}, {}", row.title, side.name());
            match bench.measure(side, row.case, size.div_ceil(part), scale) {
                Ok(figures) => {
                    for result in &mut results {
                        result.sides[index].values.extend(figures.get(result.figure.key));
                    }
                }
                Err(error) => {
                    eprintln!("  no figure: {error}");
                    failed.push(side);
                }
            }
        }
    }
    for side in &failed {
        // Rounds that went well before do not make up for one that did not.
        let index = row.sides.iter().position(|(other, _)| other == side).expect("it took its turn");
        for result in &mut results {
            result.sides[index].values.clear();
        }
    }
    (results, failed.contains(&Side::Gemba))
}
