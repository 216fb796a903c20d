//! E14 and the restart of the plant under load: what is left of permits and answers when everybody may die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gemba::admission::{Limits, Tier};
use gemba::breaker::BreakerRules;
use gemba::sim::draw::Draw;
use gemba::{Line, LineSpec, Node, Plant, PoolSpec, RegulatorHandle, Signal, SubmitError, System};
use tokio::task::JoinSet;

use crate::closed::{millis, runtime};
use crate::contenders::ours::DoWork;
use crate::finding::{Finding, Report};
use crate::scale::Scale;
use crate::work::Work;

/// In flight at most, so that callers are refused too.
const LIMIT: u32 = 100;
const WORKERS: u32 = 16;

/// Callers there are at a time: some more than may be in flight.
const CALLERS: usize = 120;

/// How often a worker is killed.
const KILL_EVERY: Duration = Duration::from_millis(5);

/// Lives of the plant in a minute are counted: fewer kills than its supervisor bears.
const PLANTS_MAX: u32 = 8;

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(10);

struct Floor {
    node: Node,
    line: Line<DoWork>,
    regulator: RegulatorHandle,
}

async fn start(limit: u32, workers: u32) -> Floor {
    let node = Node::builder("experiment");
    let pool = PoolSpec::new("work")
        .workers(workers, workers)
        .intensity(u32::MAX, Duration::from_secs(60))
        .stop_within(Duration::from_millis(50));
    let limits = Limits::new(limit, 0.2, 0.83).expect("in range");
    let mut plant = Plant::builder(node.system()).limits(limits).pool(pool);
    // Kills count as failures, and are no reason to stop here.
    let rules = BreakerRules::builder().failures_in_a_row(u32::MAX);
    let rules = rules.failure_ratio(1.0, u32::MAX, Duration::from_secs(10)).build().expect("in range");
    let line = plant.line(LineSpec::new("work", DoWork).deadline(Duration::from_secs(2)).breaker(rules));
    let plant = plant.build().expect("the plant is sound");
    let regulator = plant.regulator();
    let node = node.child(plant).start().await.expect("the node starts");
    Floor { node, line, regulator }
}

/// What a storm of kills left behind.
#[derive(Debug, Default)]
struct Left {
    /// Callers that went away while their signal was in flight, and all there were.
    dropped: u64,
    callers: u64,
    permits: u32,
    in_flight: u64,
    unended: u64,
    over: u32,
    kills: u32,
    plants: u32,
}

/// E14.
pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note =
        "callers dropped at a random moment, a worker killed every 5 ms, the plant restarted now and then";
    let mut report = Report { number: "E14", title: "accounts after crashes", note, ..Report::default() };
    let runtime = runtime();
    let left = runtime.block_on(storm(scale.drops));
    runtime.shutdown_timeout(Duration::from_millis(100));
    let Left { dropped, callers, kills, plants, .. } = left;
    let case = format!("{dropped} of {callers} callers gone, {kills} workers and {plants} plants killed");
    let figures = [
        ("permits held by nobody", f64::from(left.permits)),
        ("signals in flight at rest", left.in_flight as f64),
        ("arrivals without an end", left.unended as f64),
        ("readings over the limit", f64::from(left.over)),
    ];
    for (figure, value) in figures {
        report.findings.push(Finding::new(&case, figure, vec![value]).at_most(0.0));
    }
    vec![report]
}

async fn storm(drops: u64) -> Left {
    let Floor { node, line, regulator } = start(LIMIT, WORKERS).await;
    let system = node.system().clone();
    let mut draw = Draw::new(1, 0);
    let mut left = Left::default();
    let (mut last_kill, mut last_plant) = (Instant::now(), Instant::now());
    let mut callers = JoinSet::new();
    while left.dropped < drops {
        let (line, patience) = (line.clone(), Duration::from_micros((draw.uniform() * 3_000.0) as u64));
        let number = left.callers;
        left.callers += 1;
        let tier = Tier::ALL[number as usize % 3];
        callers.spawn(async move {
            let signal = Signal::new(Work::Sleep(Duration::from_millis(1 + number % 4))).tier(tier);
            // Whoever is not answered by then goes away.
            tokio::time::timeout(patience, line.submit(signal, &())).await.is_err()
        });
        if CALLERS <= callers.len() {
            let gone = callers.join_next().await.is_some_and(|gone| gone.is_ok_and(|gone| gone));
            left.dropped += u64::from(gone);
        }
        left.over += u32::from(LIMIT < regulator.in_flight());
        if KILL_EVERY <= last_kill.elapsed() {
            left.kills += u32::from(kill_worker(&system, &mut draw));
            last_kill = Instant::now();
        }
        if left.plants < PLANTS_MAX && Duration::from_millis(400) <= last_plant.elapsed() {
            left.plants += u32::from(kill(&system, "/plant/board"));
            last_plant = Instant::now();
        }
    }
    while callers.join_next().await.is_some() {}
    let begun = Instant::now();
    let view = loop {
        let board = system.board();
        let view = board.lines.iter().find(|view| view.name == *line.name()).cloned();
        let is_done = view.as_ref().is_some_and(|view| view.in_flight == 0 && left.callers <= view.arrived);
        if (is_done && regulator.in_flight() == 0) || REST < begun.elapsed() {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    left.permits = regulator.in_flight();
    if let Some(view) = view {
        left.in_flight = view.in_flight;
        let answered = view.refused + view.rejected + view.succeeded + view.failed + view.timed_out;
        let ended = answered + view.cancelled;
        left.unended = view.arrived.abs_diff(ended) + view.arrived.abs_diff(left.callers);
    }
    node.stop("measured").await.expect("the node stops in order");
    left
}

fn kill(system: &System, path: &str) -> bool {
    let path = path.parse().expect("a valid literal");
    system.kill(&path, "the experiment").is_ok()
}

fn kill_worker(system: &System, draw: &mut Draw) -> bool {
    let path = "/plant/pools/work/workers".parse().expect("a valid literal");
    let workers = system.children(&path);
    let Some(worker) = workers.get((draw.uniform() * workers.len() as f64) as usize) else { return false };
    system.kill(worker, "the experiment").is_ok()
}

/// Load of the restart under load, signals per second, and how long a signal's work takes.
const RATE: f64 = 2_000.0;
const SHORT: Duration = Duration::from_millis(5);

/// How often the plant is restarted.
const RESTARTS: usize = 5;

/// The restart of the plant under load.
pub(crate) fn run_restart(_: &Scale) -> Vec<Report> {
    let note = "2000 signals/s of 5 ms; the board is killed, and with it all of the plant, five times";
    let mut report =
        Report { number: "restart", title: "restart of the plant under load", note, ..Report::default() };
    let runtime = runtime();
    let (gaps, refused, unknown, lost) = runtime.block_on(restarts());
    runtime.shutdown_timeout(Duration::from_millis(100));
    report.findings.push(Finding::new("one_for_all restart", "ms without an answer", gaps).at_most(100.0));
    let all = refused.len();
    let count = |of: Vec<bool>| of.into_iter().filter(|is| *is).count() as f64;
    report
        .findings
        .push(Finding::new(format!("of {all} signals"), "lost, without any answer", vec![lost]).at_most(0.0));
    report.findings.push(Finding::new(
        format!("of {all} signals"),
        "refused meanwhile",
        vec![count(refused)],
    ));
    report.findings.push(Finding::new(
        format!("of {all} signals"),
        "told that the outcome is unknown",
        vec![unknown],
    ));
    vec![report]
}

async fn restarts() -> (Vec<f64>, Vec<bool>, f64, f64) {
    let Floor { node, line, .. } = start(1_200, 32).await;
    let system = node.system().clone();
    let line = Arc::new(line);
    let mut callers = JoinSet::new();
    let mut killed = Vec::new();
    let begun = Instant::now();
    let mut gaps = Draw::new(1, 0);
    let mut at = Duration::from_millis(500);
    let mut next_kill = Duration::from_secs(1);
    let end = Duration::from_secs(1 + 2 * RESTARTS as u64);
    while at < end {
        at += Duration::from_secs_f64(gaps.exponential() / RATE);
        let wait = at.saturating_sub(begun.elapsed());
        if Duration::from_millis(1) < wait {
            tokio::time::sleep(wait).await;
        }
        if next_kill <= at && killed.len() < RESTARTS {
            assert!(kill(&system, "/plant/board"), "the board runs");
            killed.push(begun.elapsed());
            next_kill += Duration::from_secs(2);
        }
        let line = line.clone();
        callers.spawn(async move {
            let answer = line.submit(Signal::new(Work::Sleep(SHORT)), &());
            let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
            (begun.elapsed(), answer)
        });
    }
    let (mut answers, mut refused, mut unknown, mut lost) = (Vec::new(), Vec::new(), 0.0, 0.0);
    while let Some(ended) = callers.join_next().await {
        let (at, answer) = ended.expect("a caller does not panic");
        refused.push(matches!(answer, Ok(Err(SubmitError::Refused(_)))));
        match answer {
            Ok(Ok(_)) => answers.push(at),
            Ok(Err(SubmitError::WorkerDied | SubmitError::TimedOut)) => unknown += 1.0,
            Ok(Err(_)) => {}
            Err(_) => lost += 1.0,
        }
    }
    node.stop("measured").await.expect("the node stops in order");
    answers.sort();
    let longest = |killed: &Duration| {
        let near = answers
            .windows(2)
            .filter(|pair| *killed <= pair[1] && pair[0] < *killed + Duration::from_secs(1));
        millis(near.map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(Duration::MAX))
    };
    (killed.iter().map(longest).collect(), refused, unknown, lost)
}
