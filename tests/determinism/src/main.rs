//! Runs the real actors in virtual time, each seed twice, and compares what happened.
//!
//! `cargo run --release -p gemba-determinism -- --seeds 1000 --seed 1`

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each check names the facts that are its business, and no others"
)]

mod chaos;
mod checks;
mod clients;
mod draw;
mod gate;
mod lab;
mod log;
mod run;
mod works;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Runs a node under chaos in virtual time, drawn from a seed, and sees that each seed gives the same twice.
#[derive(Debug, Parser)]
#[command(name = "determinism")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the chaos lasts in each run, in virtual milliseconds.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2_000..=3_600_000))]
    millis: u64,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs this seed once, here, and writes its log.
    #[arg(long)]
    show: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let lasts = Duration::from_millis(args.millis);
    let passed = match args.show {
        Some(seed) => show(seed, lasts),
        None => compare(&args, lasts),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("determinism: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(seed: u64, lasts: Duration) -> Result<bool, Box<dyn std::error::Error>> {
    let run::Outcome { lines, summary } = run::run(seed, lasts)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", serde_json::to_string(&summary)?)?;
    out.flush()?;
    Ok(summary.faults.is_empty())
}

fn compare(args: &Args, lasts: Duration) -> Result<bool, Box<dyn std::error::Error>> {
    let report = gate::run(gate::Order { seed: args.seed, seeds: args.seeds, lasts })?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.findings.is_empty())
}
