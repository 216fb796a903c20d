//! E27 and the light's way to the board: how long what governs takes while the work lane is full.

use std::time::{Duration, Instant};

use gemba::control::Control;
use gemba::name::Name;
use gemba::{
    Address, Context, Line, LineSpec, Node, Plant, PoolSpec, Reply, Server, Signal, Stop, System, server,
};

use crate::closed::{at, millis, runtime};
use crate::contenders::ours::DoWork;
use crate::finding::{Finding, Report};
use crate::scale::Scale;
use crate::work::{Work, rounds_per_s, spin};

/// Callers that keep the lines full: more than may be in flight.
const FLOOD: usize = 2_000;
const LONG: Duration = Duration::from_millis(300);

/// Times each figure is taken.
const TIMES: usize = 200;

/// Work of a message to the server whose mailbox is full, and how many wait.
const MESSAGE: Duration = Duration::from_micros(50);
const WAITING: usize = 1_000;

/// The period of the timer that is watched.
const PERIOD: Duration = Duration::from_millis(10);

/// E27.
pub(crate) fn run(_: &Scale) -> Vec<Report> {
    let note = "2000 callers keep the line full; the server has 1000 messages of 50 µs waiting";
    let mut report = Report { number: "E27", title: "control lane under load", note, ..Report::default() };
    let runtime = runtime();
    let (cords, lights) = runtime.block_on(cords());
    let stops = runtime.block_on(stops());
    let ticks = runtime.block_on(ticks());
    runtime.shutdown_timeout(Duration::from_millis(100));
    let figures = [
        ("cord pulled, line refuses", cords, Some(5.0)),
        ("cord pulled, board shows it", lights, Some(100.0)),
        ("server stopped, messages waiting", stops, Some(5.0)),
        ("timer of a server, messages waiting", ticks, Some(5.0)),
    ];
    for (case, times, most) in figures {
        report.findings.push(Finding::new(case, "p50, ms", vec![at(times.clone(), 0.5)]));
        let finding = Finding::new(case, "p99, ms", vec![at(times, 0.99)]);
        report.findings.push(match most {
            Some(most) => finding.at_most(most),
            None => finding,
        });
    }
    vec![report]
}

/// Of a line beside the full one, in the same plant: until its cord has taken effect, and until the board shows it.
async fn cords() -> (Vec<f64>, Vec<f64>) {
    let node = Node::builder("experiment");
    let mut plant = Plant::builder(node.system())
        .pool(PoolSpec::new("work").workers(23, 23))
        .pool(PoolSpec::new("beside").workers(2, 2));
    let work = plant.line(LineSpec::new("work", DoWork));
    let beside: Line<DoWork> = plant.line(LineSpec::new("beside", DoWork));
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    for _ in 0..FLOOD {
        let line = work.clone();
        tokio::spawn(async move {
            loop {
                if line.submit(Signal::new(Work::Sleep(LONG)), &()).await.is_err() {
                    tokio::time::sleep(LONG / 10).await;
                }
            }
        });
    }
    tokio::time::sleep(2 * LONG).await;
    let system = node.system().clone();
    let measured = tokio::spawn(async move { pull(&system, beside.name()).await });
    let found = measured.await.expect("it does not panic");
    // The callers end with the runtime.
    drop(node);
    found
}

async fn pull(system: &System, line: &Name) -> (Vec<f64>, Vec<f64>) {
    let (mut cords, mut lights) = (Vec::new(), Vec::new());
    let mut boards = system.board_publisher().subscribe();
    for _ in 0..TIMES {
        let begun = Instant::now();
        let pull =
            Control::PullCord { line: line.clone(), by: "experiment".into(), why: "to measure".into() };
        system.control(pull).await.expect("the plant runs");
        cords.push(millis(begun.elapsed()));
        let shows =
            boards.wait_for(|board| board.lines.iter().any(|view| view.name == *line && view.cord.is_some()));
        shows.await.expect("the board lives");
        lights.push(millis(begun.elapsed()));
        let reset = Control::ResetCord { line: line.clone(), by: "experiment".into() };
        system.control(reset).await.expect("the plant runs");
        let shows =
            boards.wait_for(|board| board.lines.iter().all(|view| view.name != *line || view.cord.is_none()));
        shows.await.expect("the board lives");
    }
    (cords, lights)
}

/// A server with more messages than it gets done.
struct Crowded {
    rounds: u64,
    last: Option<Instant>,
    late: Vec<f64>,
}

enum Msg {
    Work,
    Tick,
    Late(Reply<Vec<f64>>),
}

impl Server for Crowded {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        ctx.every(PERIOD, || Msg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Work => spin(self.rounds),
            Msg::Tick => {
                let now = Instant::now();
                if let Some(last) = self.last.replace(now) {
                    self.late.push(millis((now - last).saturating_sub(PERIOD)));
                }
            }
            Msg::Late(reply) => reply.send(std::mem::take(&mut self.late)),
        }
        Ok(())
    }
}

async fn crowded() -> (Node, Address<Msg>) {
    let rounds = (MESSAGE.as_secs_f64() * rounds_per_s()) as u64;
    let spec =
        server("crowded", move || Crowded { rounds, last: None, late: Vec::new() }).mailbox(WAITING + 8);
    let address = spec.address();
    (Node::builder("experiment").child(spec).start().await.expect("the node starts"), address)
}

fn fill(address: &Address<Msg>) {
    for _ in 0..WAITING {
        if address.cast(Msg::Work).is_err() {
            break;
        }
    }
}

/// From the request to stop until the server has ended, with messages waiting.
async fn stops() -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMES / 10 {
        let (node, address) = crowded().await;
        fill(&address);
        let begun = Instant::now();
        address.stop(Duration::from_secs(5)).await.expect("it stops");
        times.push(millis(begun.elapsed()));
        node.stop("measured").await.expect("the node stops in order");
    }
    times
}

/// How late the ticks of a server are whose mailbox is kept full.
async fn ticks() -> Vec<f64> {
    let (node, address) = crowded().await;
    let until = Instant::now() + PERIOD * TIMES as u32;
    while Instant::now() < until {
        fill(&address);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(MESSAGE * WAITING as u32).await;
    let late = address.call(Msg::Late).await.expect("it answers");
    node.stop("measured").await.expect("the node stops in order");
    late
}
