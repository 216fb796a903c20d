//! The splitter as a data path: throughput beside nginx, what it adds to a latency, its shares, and what a caller
//! notices when they or the splitter itself change.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use gemba_deployment::splitter::Counted;

use crate::Scale;
use crate::front::{Front, Instances};
use crate::processes::Ports;
use crate::table::{Row, Target};
use crate::wire::{closed_loop, exactly, get, open_loop};

/// Requests a second where latencies are compared: a fiftieth of what a splitter carries on two processors.
const CALM_RATE: f64 = 500.0;
const CALM_LANES: u32 = 8;

/// Requests over which a share is to be kept.
const SHARED: u64 = 10_000;

/// How often shares change under load.
const CHANGE_EVERY: Duration = Duration::from_millis(50);

/// Callers under which something changes.
const CALLERS: usize = 16;

const NO_PEER: &str = "nginx is not installed";

pub(crate) fn rows(scale: &Scale, ports: &mut Ports, directory: &Path) -> io::Result<Vec<Row>> {
    let instances = Instances::start(ports)?;
    let splitter = Front::splitter(ports, &instances, directory)?;
    let nginx = Front::nginx(ports, &instances, directory)?;
    let mut rows = Vec::new();
    for connections in [1, 64] {
        if scale.wants("throughput") {
            rows.extend(throughput(scale, &splitter, nginx.as_ref(), connections));
        }
    }
    if scale.wants("overhead") {
        rows.extend(overhead(scale, &instances, &splitter, nginx.as_ref()));
    }
    if scale.wants("share") {
        rows.push(share(&splitter, &instances)?);
        rows.push(changes(scale, &splitter, &instances)?);
    }
    if scale.wants("handover") {
        rows.push(handover(scale, splitter, directory)?);
    }
    Ok(rows)
}

/// Each round measures both, one after the other, the first of them in turns.
fn throughput(scale: &Scale, splitter: &Front, nginx: Option<&Front>, connections: usize) -> [Row; 2] {
    let (mut ours, mut theirs) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let (mut ratios, mut failed) = (Vec::new(), 0);
    for round in 0..scale.rounds {
        let mut measured = [None, None];
        for place in [round % 2, (round + 1) % 2] {
            let Some(front) = (if place == 0 { Some(splitter) } else { nginx }) else { continue };
            let before = front.running.cpu_s();
            let came = closed_loop(front.address, connections, scale.lasts);
            let cpu_us = (front.running.cpu_s() - before) * 1e6 / came.answered.max(1) as f64;
            failed += if place == 0 { came.failed } else { 0 };
            measured[place] = Some((came.per_second(), cpu_us));
        }
        if let Some((rate, cpu)) = measured[0] {
            ours.0.push(rate);
            ours.1.push(cpu);
        }
        if let Some((rate, cpu)) = measured[1] {
            theirs.0.push(rate);
            theirs.1.push(cpu);
            ratios.extend(ours.0.last().map(|ours| ours / rate * 100.0));
        }
    }
    let what =
        |text: &str| format!("{text}, {connections} connection{}", if connections == 1 { "" } else { "s" });
    let note = match (nginx, failed) {
        (None, _) => NO_PEER.to_owned(),
        (Some(_), 0) => String::new(),
        (Some(_), failed) => format!("{failed} requests failed"),
    };
    let rates = Row::new(&what("requests, splitter and nginx"), "1/s", None, ours.0).beside(theirs.0);
    let median = |row: &Option<[f64; 3]>| row.map_or_else(String::new, |[median, ..]| format!("{median:.1}"));
    let cpu = Row::new("", "", None, ours.1).beside(theirs.1);
    let spent = format!("processor: {} µs a request, nginx {}", median(&cpu.figure), median(&cpu.nginx));
    [
        Row::new(&what("throughput of nginx's"), "%", Some(Target::AtLeast(50.0)), ratios).note(note),
        rates.note(spent),
    ]
}

/// The same plan directly, through the splitter and through nginx, in turns.
fn overhead(scale: &Scale, instances: &Instances, splitter: &Front, nginx: Option<&Front>) -> [Row; 2] {
    let (mut p99, mut p50) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let mut failed = 0;
    for _ in 0..scale.rounds {
        let quantiles = |to| {
            let over = Arc::new(OnceLock::new());
            let mut came = open_loop(to, CALM_RATE, CALM_LANES, scale.lasts, &over);
            (came.quantile_us(0.5) / 1e3, came.quantile_us(0.99) / 1e3, came.failed)
        };
        let direct = quantiles(instances.addresses[0]);
        let ours = quantiles(splitter.address);
        failed += ours.2;
        p50.0.push(ours.0 - direct.0);
        p99.0.push(ours.1 - direct.1);
        if let Some(nginx) = nginx {
            let theirs = quantiles(nginx.address);
            p50.1.push(theirs.0 - direct.0);
            p99.1.push(theirs.1 - direct.1);
        }
    }
    let at = format!("at {CALM_RATE} requests/s; {failed} failed");
    [
        Row::new("added at the 99th percentile", "ms", Some(Target::AtMost(1.0)), p99.0)
            .beside(p99.1)
            .note(at),
        Row::new("added at the median", "ms", None, p50.0).beside(p50.1),
    ]
}

fn counted(splitter: &Front) -> io::Result<Counted> {
    let admin = splitter.admin.ok_or_else(|| io::Error::other("nginx counts nothing"))?;
    let answer = get(admin, "/counts")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(serde_json::from_str(body)?)
}

/// Exactly so many requests, of which the new version is to have five in a hundred.
fn share(splitter: &Front, instances: &Instances) -> io::Result<Row> {
    splitter.tell([500, 9_500], instances.addresses)?;
    let of = |version: &str, counted: &Counted| {
        counted.versions.iter().find(|counts| counts.version == version).map_or(0, |counts| counts.requests)
    };
    let mut shares = Vec::new();
    for _ in 0..5 {
        let before = counted(splitter)?;
        let failed = exactly(splitter.address, CALLERS as u64, SHARED / CALLERS as u64);
        let after = counted(splitter)?;
        let (new, old) = (of("v2", &after) - of("v2", &before), of("v1", &after) - of("v1", &before));
        if failed != 0 || new + old != SHARED {
            return Err(io::Error::other(format!("{} requests, {failed} failed", new + old)));
        }
        shares.push((new as f64 / SHARED as f64 - 0.05).abs() * 100.0);
    }
    let most = shares.iter().copied().fold(0.0, f64::max);
    let row =
        Row::new("share out of 5 %, over 10 000 requests", "points", Some(Target::AtMost(0.1)), vec![most]);
    Ok(row.note(format!("the most of 5 times, {CALLERS} callers")))
}

fn changes(scale: &Scale, splitter: &Front, instances: &Instances) -> io::Result<Row> {
    let (to, lasts) = (splitter.address, scale.lasts);
    let load = thread::spawn(move || closed_loop(to, CALLERS, lasts));
    let mut changed = 0;
    while !load.is_finished() {
        let new = [0, 500, 2_500, 10_000][changed % 4];
        splitter.tell([new, 10_000 - new], instances.addresses)?;
        changed += 1;
        thread::sleep(CHANGE_EVERY);
    }
    let came = load.join().expect("it does not panic");
    let row = Row::new(
        "failed while shares change",
        "requests",
        Some(Target::AtMost(0.0)),
        vec![came.failed as f64],
    );
    Ok(row.note(format!("of {}; {changed} changes", came.answered)))
}

fn handover(scale: &Scale, splitter: Front, directory: &Path) -> io::Result<Row> {
    let (to, lasts) = (splitter.address, scale.lasts * 2);
    let load = thread::spawn(move || closed_loop(to, CALLERS, lasts));
    let mut handed = 0;
    let mut now = splitter;
    while !load.is_finished() {
        thread::sleep(scale.lasts / 3);
        let next = now.successor(directory, handed + 2)?;
        let before = std::mem::replace(&mut now, next);
        thread::spawn(move || before.running.until_ended());
        handed += 1;
    }
    let came = load.join().expect("it does not panic");
    let row = Row::new(
        "failed while splitters take over",
        "requests",
        Some(Target::AtMost(0.0)),
        vec![came.failed as f64],
    );
    Ok(row.note(format!("of {}; {handed} handovers", came.answered)))
}
