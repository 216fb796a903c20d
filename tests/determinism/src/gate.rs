//! The gate: runs every seed twice, each time in a process of its own, and compares what the two wrote.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::run::Summary;

/// How many seeds that are not as they should be are shown.
const SHOWN_MAX: usize = 5;

/// How many faults of a seed are shown.
const FAULTS_MAX: usize = 5;

/// The seeds to run, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub seed: u64,
    pub seeds: u64,
    pub lasts: Duration,
}

/// A seed that is not as it should be.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub seed: u64,
    pub faults: Vec<String>,
    /// The first line in which two runs differ: its number, and what each says.
    pub differs: Option<(usize, String, String)>,
}

/// What all seeds come to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub seed: u64,
    pub seeds: u64,
    pub differing: u64,
    pub failing: u64,
    pub kills: u64,
    pub exits: u64,
    pub restarts: u64,
    pub gave_up: u64,
    pub signals: u64,
    pub done: u64,
    pub receipts: u64,
    pub virtual_s: f64,
    pub wall_s: f64,
    pub findings: Vec<Finding>,
    /// Of the logs of all seeds.
    pub hash: String,
}

/// What one process wrote.
struct Written {
    log: Vec<u8>,
    summary: Summary,
}

/// Runs all seeds, as many at once as there are processors.
pub(crate) fn run(order: Order) -> io::Result<Report> {
    let begun = Instant::now();
    let threads = thread::available_parallelism()?.get() as u64;
    let parts = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let mine = (0..order.seeds).skip(part as usize).step_by(threads as usize);
                    mine.map(|n| twice(order.seed.wrapping_add(n), order.lasts))
                        .collect::<io::Result<Vec<_>>>()
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().expect("a thread of the gate does not panic")).collect()
    });
    let parts: Vec<Vec<_>> = Result::from_iter::<Vec<io::Result<_>>>(parts)?;
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_by_key(|(seed, ..)| *seed);
    let mut report = Report { seed: order.seed, seeds: order.seeds, ..Report::default() };
    let mut hashes = Vec::new();
    for (seed, summary, hash, differs) in all {
        report.kills += summary.kills;
        report.exits += summary.exits;
        report.restarts += summary.restarts;
        report.gave_up += summary.gave_up;
        report.signals += summary.signals;
        report.done += summary.done;
        report.receipts += summary.receipts;
        report.virtual_s += summary.virtual_ms as f64 / 1e3;
        report.differing += u64::from(differs.is_some());
        report.failing += u64::from(!summary.faults.is_empty());
        hashes.extend(hash.to_le_bytes());
        if differs.is_some() || !summary.faults.is_empty() {
            report.findings.push(Finding { seed, faults: summary.faults, differs });
        }
    }
    report.hash = format!("{:016x}", xxh3_64(&hashes));
    report.wall_s = begun.elapsed().as_secs_f64();
    Ok(report)
}

type Twice = (u64, Summary, u64, Option<(usize, String, String)>);

fn twice(seed: u64, lasts: Duration) -> io::Result<Twice> {
    let (first, second) = (once(seed, lasts)?, once(seed, lasts)?);
    let hash = xxh3_64(&first.log);
    let differs = (hash != xxh3_64(&second.log)).then(|| difference(&first.log, &second.log));
    Ok((seed, first.summary, hash, differs))
}

/// One run, in a process of its own: some of what tokio and ractor count is counted by process.
fn once(seed: u64, lasts: Duration) -> io::Result<Written> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--show", &seed.to_string(), "--millis", &lasts.as_millis().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let log = output.stdout;
    let end = log.strip_suffix(b"\n").unwrap_or(&log);
    let last = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let summary = serde_json::from_slice(&end[last..]).unwrap_or_else(|_| {
        let fault = format!("the run ended with {}: {}", output.status, text(&output.stderr));
        Summary { faults: vec![fault], ..Summary::default() }
    });
    Ok(Written { log, summary })
}

fn difference(first: &[u8], second: &[u8]) -> (usize, String, String) {
    let lines = |log: &[u8]| String::from_utf8_lossy(log).lines().map(str::to_owned).collect::<Vec<_>>();
    let (first, second) = (lines(first), lines(second));
    let same = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
    let line = |log: &[String]| log.get(same).cloned().unwrap_or_else(|| "(the end)".to_owned());
    (same + 1, line(&first), line(&second))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { seed, faults, differs } in self.findings.iter().take(SHOWN_MAX) {
            writeln!(f, "seed {seed}:")?;
            for fault in faults.iter().take(FAULTS_MAX) {
                writeln!(f, "  {fault}")?;
            }
            if let Some((line, first, second)) = differs {
                writeln!(f, "  two runs differ from line {line} on:\n  - {first}\n  + {second}")?;
            }
            writeln!(f, "  again: just determinism --seeds 1 --seed {seed}; its log: --show {seed}\n")?;
        }
        for (what, value) in [
            ("seeds, each run twice", self.seeds.to_string()),
            ("differing", self.differing.to_string()),
            ("failing", self.failing.to_string()),
            ("actors killed", self.kills.to_string()),
            ("exits", self.exits.to_string()),
            ("restarts", self.restarts.to_string()),
            ("supervisors that gave up", self.gave_up.to_string()),
            ("signals, each answered once", self.signals.to_string()),
            ("of them done", self.done.to_string()),
            ("receipts", self.receipts.to_string()),
            ("virtual seconds", format!("{:.0}", self.virtual_s)),
            ("wall seconds, for both", format!("{:.1}", self.wall_s)),
            ("hash of all logs", self.hash.clone()),
        ] {
            writeln!(f, "{what:<28} {value:>18}")?;
        }
        Ok(())
    }
}
