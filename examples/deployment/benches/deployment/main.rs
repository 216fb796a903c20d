//! The deployment system against its targets, with nginx beside its splitter in the same run.
//!
//! `just bench-deployment [WORD…] [--quick] [--json]`: words select rows (`throughput`, `overhead`, `share`, `handover`,
//! `rollout`, `simulated`).

mod front;
mod processes;
#[path = "../../tests/rehearsal/mod.rs"]
mod rehearsal;
mod rollouts;
mod simulated;
mod table;
mod traffic;
mod upstream;
mod wire;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use processes::Ports;
use table::words;

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    words: Vec<String>,
    /// How often, and for how long each time.
    pub(crate) rounds: usize,
    pub(crate) lasts: Duration,
    /// Deliveries of each kind.
    pub(crate) rollouts: usize,
    /// Deliveries in virtual time.
    pub(crate) runs: u64,
}

impl Scale {
    fn new(words: Vec<String>, is_quick: bool) -> Self {
        if is_quick {
            return Self { words, rounds: 1, lasts: Duration::from_millis(500), rollouts: 0, runs: 20 };
        }
        Self { words, rounds: 5, lasts: Duration::from_secs(2), rollouts: 3, runs: 1_000 }
    }

    /// Whether these rows are to be measured.
    pub(crate) fn wants(&self, word: &str) -> bool {
        let is_possible = word != "rollout" || 0 < self.rollouts;
        is_possible && (self.words.is_empty() || self.words.iter().any(|wanted| word.contains(&**wanted)))
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).collect::<Vec<_>>();
    if let Some(place) = args.iter().position(|arg| arg == "--upstream") {
        let served = args.get(place + 1).and_then(|address| address.parse().ok()).map(upstream::serve);
        return if matches!(served, Some(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut flag = |name: &str| {
        let before = args.len();
        args.retain(|arg| arg != name);
        args.len() < before
    };
    // Cargo says `--bench` to a benchmark.
    let (is_quick, is_json, _) = (flag("--quick"), flag("--json"), flag("--bench"));
    match measure(&Scale::new(args, is_quick)) {
        Ok(rows) => {
            if is_json {
                println!("{}", serde_json::to_string_pretty(&rows).expect("rows are plain data"));
            } else {
                print!("{}", words(&rows));
            }
            // A brief run shows that everything runs; its figures are too few to be held against targets.
            if !is_quick && rows.iter().any(|row| row.is_met() == Some(false)) {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("not measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(scale: &Scale) -> Result<Vec<table::Row>, Box<dyn Error>> {
    let mut ports = Ports::new();
    let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut rows = Vec::new();
    if ["throughput", "overhead", "share", "handover"].iter().any(|word| scale.wants(word)) {
        rows.extend(traffic::rows(scale, &mut ports, directories[0].path())?);
    }
    rows.extend(rollouts::rows(scale, &mut ports, directories[1].path())?);
    rows.extend(simulated::rows(scale));
    Ok(rows)
}
