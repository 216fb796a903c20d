//! Plays random scenarios on our supervisors and on Erlang's own, and compares what happened.
//!
//! `cargo run --release -p conformance -- --scenarios 5000 --seed 7`

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "each table here names the steps, receipts and errors that are its business, and no others"
)]

mod child;
mod compare;
mod erlang;
mod etf;
mod generate;
mod lab;
mod model;
mod ours;
mod rng;
mod shrink;
mod trace;

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

use crate::erlang::{AT_ONCE, Erlang, ErlangError};
use crate::model::Scenario;
use crate::trace::Trace;

/// How often Erlang is asked again about a scenario that differs: what it did in any of them is OTP's behaviour.
const REPEATS: usize = 2;

/// How many failures are shrunk and shown.
const SHOWN_MAX: usize = 8;

/// Compares our supervisors with Erlang's.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
struct Args {
    /// How many scenarios.
    #[arg(long, default_value_t = 1000)]
    scenarios: u64,
    /// The seed of the first; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Ends at the first difference.
    #[arg(long)]
    fail_fast: bool,
    /// Shows a scenario and both traces, whether they differ or not.
    #[arg(long)]
    show: bool,
}

/// What is told with `--json`.
#[derive(Debug, Default, Serialize)]
struct Report {
    passed: u64,
    failed: u64,
    /// Scenarios whose trace agreed with Erlang's only when Erlang was asked again.
    repeated: u64,
    erlang: String,
    seed: u64,
    scenarios: u64,
    failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct Failure {
    /// Repeats it: `--scenarios 1 --seed <seed>`.
    seed: u64,
    difference: String,
    /// Made as small as it goes while it still fails.
    scenario: String,
    traces: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(report) => {
            tell(&args, &report);
            if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Report, ErlangError> {
    let mut erlang = Erlang::start()?;
    let mut report = Report {
        erlang: erlang.release.clone(),
        seed: args.seed,
        scenarios: args.scenarios,
        ..Report::default()
    };
    let mut seeds = (0..args.scenarios).map(|n| args.seed.wrapping_add(n));
    let mut under_way: HashMap<u32, Scenario> = HashMap::new();
    let mut differ = Vec::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            let scenario = generate::scenario(seed);
            under_way.insert(erlang.send(&scenario)?, scenario);
        }
        if under_way.is_empty() {
            break;
        }
        let (number, otp) = erlang.any()?;
        let Some(scenario) = under_way.remove(&number) else { continue };
        let ours = ours::play(&scenario, &otp);
        if args.show {
            println!("{scenario}\n{}", trace::side_by_side(&otp, &ours));
        }
        if compare::difference(&scenario, &otp, &ours).is_none() {
            report.passed += 1;
            continue;
        }
        let at_once = args.fail_fast && differs(&mut erlang, &scenario)?.is_some();
        differ.push(scenario);
        if at_once {
            break;
        }
    }
    // Now that Erlang is not busy with others.
    for scenario in differ {
        if differs(&mut erlang, &scenario)?.is_none() {
            report.passed += 1;
            report.repeated += 1;
            continue;
        }
        report.failed += 1;
        if report.failures.len() < SHOWN_MAX {
            report.failures.push(explain(&mut erlang, scenario)?);
        }
    }
    Ok(report)
}

/// The difference, unless what we do is something that Erlang does too, if only sometimes.
fn differs(erlang: &mut Erlang, scenario: &Scenario) -> Result<Option<(String, Trace, Trace)>, ErlangError> {
    let mut first = None;
    for _ in 0..=REPEATS {
        let otp = erlang.play(scenario)?;
        let ours = ours::play(scenario, &otp);
        match compare::difference(scenario, &otp, &ours) {
            None => return Ok(None),
            Some(difference) => {
                first.get_or_insert((difference, otp, ours));
            }
        }
    }
    Ok(first)
}

fn explain(erlang: &mut Erlang, scenario: Scenario) -> Result<Failure, ErlangError> {
    let seed = scenario.seed;
    let small =
        shrink::shrink(scenario, |candidate| Ok::<_, ErlangError>(differs(erlang, candidate)?.is_some()))?;
    let (difference, otp, ours) = differs(erlang, &small)?
        .unwrap_or_else(|| ("it came and went".to_owned(), Trace(Vec::new()), Trace(Vec::new())));
    Ok(Failure { seed, difference, scenario: small.to_string(), traces: trace::side_by_side(&otp, &ours) })
}

fn tell(args: &Args, report: &Report) {
    if args.json {
        println!("{}", serde_json::to_string(report).expect("a report is plain data"));
        return;
    }
    for failure in &report.failures {
        println!("{}\n{}\n{}", failure.difference, failure.scenario, failure.traces);
        println!("again: cargo run --release -p conformance -- --scenarios 1 --seed {}\n", failure.seed);
    }
    println!("{} passed, {} failed", report.passed, report.failed);
}
