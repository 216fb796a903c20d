//! One run of one seed: everything that happens in it, and whether what must hold held.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use gemba::receipt::{Event, Receipt, Seq};
use gemba::view::TreeView;
use gemba::{Node, RegulatorHandle, System};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::chaos::{Chaos, Reach};
use crate::checks::{self, Counts, Faults};
use crate::clients::{CLIENTS, client};
use crate::draw::{Draw, Who};
use crate::lab::Lab;
use crate::log::{Entry, Fact, Log};
use crate::works::{HARD_MAX, LINES, plant};

/// The date in every run, in milliseconds since 1970.
const DATE: u64 = 1_700_000_000_000;

/// How often the node is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long the tree may take to be whole once nobody harms it.
const CALM_MAX: Duration = Duration::from_secs(60);

/// How many follow the board and the journal.
const READERS: u32 = 3;

/// What one run comes to; the last line of its output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub kills: u64,
    pub exits: u64,
    pub restarts: u64,
    pub gave_up: u64,
    pub signals: u64,
    pub done: u64,
    pub receipts: u64,
    pub virtual_ms: u64,
    pub faults: Vec<String>,
}

/// The log of a run, line by line, and what it comes to.
pub(crate) struct Outcome {
    pub lines: Vec<String>,
    pub summary: Summary,
}

/// Runs a seed: `lasts` of chaos, and then as long as it takes to be calm again.
pub(crate) fn run(seed: u64, lasts: Duration) -> Result<Outcome, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(play(seed, lasts))
}

async fn play(seed: u64, lasts: Duration) -> Result<Outcome, Box<dyn Error>> {
    let (log, written) = Log::new();
    let mut draw = Draw::new(seed, Who::Scenario);
    let builder = Node::builder("sim").unix_ms(DATE).intensity(1_000_000, Duration::from_secs(1));
    let system = builder.system().clone();
    let (lab, tree) = Lab::new(seed, lasts, &mut draw, &log);
    let (plant, lines) = plant(&system, &mut draw, &log);
    let (regulator, pools) = (plant.regulator(), LINES.iter().filter_map(|pool| plant.pool(pool)).collect());
    let node = builder.child(tree).child(plant).start().await?;

    let watch = tokio::spawn(watch(system.clone(), regulator.clone(), log.clone()));
    let readers: Vec<_> = (0..READERS).map(|n| tokio::spawn(read(n, system.clone(), log.clone()))).collect();
    let reach = Reach { system: system.clone(), lab, regulator: regulator.clone(), pools };
    let chaos = tokio::spawn(Chaos::new(seed, reach, log.clone()).rage(lasts));
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(client(seed, n, lines.clone(), log.clone(), lasts))).collect();
    for client in clients {
        client.await?;
    }
    chaos.await?;

    let mut faults = Faults::default();
    calm(&system, &regulator, &log, &mut faults).await;
    watch.abort();
    readers.iter().for_each(JoinHandle::abort);
    let tree = system.tree();
    log.write(serde_json::to_string(&system.board())?);
    log.write(serde_json::to_string(&tree)?);
    if let Err(error) = node.stop("the run is over").await {
        faults.0.push(error.to_string());
    }
    Ok(judge(&system, &tree, &log, &written, faults))
}

/// Writes the receipts down as they come, and never sees more in flight than may be.
async fn watch(system: System, regulator: RegulatorHandle, log: Log) {
    let mut next = Seq(0);
    loop {
        next = note(&system, next, &log);
        let in_flight = regulator.in_flight();
        if HARD_MAX < in_flight {
            log.write(format_args!("FAULT: {in_flight} in flight"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes down what the others of the board's readers see at the same moment.
async fn read(n: u32, system: System, log: Log) {
    let mut boards = system.board_publisher().subscribe();
    let mut news = system.journal().subscribe();
    loop {
        tokio::select! {
            biased;
            Ok(()) = boards.changed() => {
                let board = boards.latest();
                log.write(format_args!("reader {n}: {} as of {}", board.overall, board.receipt));
            }
            Ok(()) = news.changed() => {
                let page = system.journal().after(system.journal().newest(), None, 1);
                log.write(format_args!("reader {n}: {} receipts", page.next));
            }
            else => return,
        }
    }
}

/// Writes down what came after a receipt, and tells which was the last.
fn note(system: &System, after: Seq, log: &Log) -> Seq {
    let page = system.journal().after(after, None, usize::MAX);
    for receipt in page.receipts {
        let text = serde_json::to_string(&receipt).unwrap_or_else(|error| format!("FAULT: {error}"));
        log.fact(Fact::Receipt(receipt), text);
    }
    page.next
}

/// Waits until the tree is whole and nothing is in flight.
async fn calm(system: &System, regulator: &RegulatorHandle, log: &Log, faults: &mut Faults) {
    let since = log.now();
    loop {
        // Longer than the board takes to show what was.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (tree, board) = (system.tree(), system.board());
        let is_idle = regulator.in_flight() == 0 && board.lines.iter().all(|line| line.in_flight == 0);
        if is_idle && checks::is_whole(&tree.root, &board) && system.ready().is_ok() {
            return;
        }
        if since + CALM_MAX < log.now() {
            let in_flight = regulator.in_flight();
            let tree: Vec<_> =
                tree.root.iter().map(|actor| format!("{} {}", actor.path, actor.state)).collect();
            faults
                .0
                .push(format!("{in_flight} in flight, and the tree is {tree:?}, pools {:?}", board.pools));
            return;
        }
    }
}

fn judge(
    system: &System,
    tree: &TreeView,
    log: &Log,
    written: &Receiver<Entry>,
    mut faults: Faults,
) -> Outcome {
    let is_receipt = |entry: &Entry| match &entry.fact {
        Fact::Receipt(receipt) => Some(receipt.clone()),
        _ => None,
    };
    let mut entries: Vec<Entry> = written.try_iter().collect();
    let last = entries.iter().rev().find_map(is_receipt).map_or(Seq(0), |receipt| receipt.seq);
    note(system, last, log);
    entries.extend(written.try_iter());
    let receipts: Vec<Arc<Receipt>> = entries.iter().filter_map(is_receipt).collect();

    let Counts { signals, done } = checks::signals(&entries, &system.board(), &mut faults);
    checks::lives(&entries, &mut faults);
    checks::receipts(&receipts, &mut faults);
    checks::ends(&tree.root, &receipts, &mut faults);
    let count = |wanted: fn(&Event) -> bool| receipts.iter().filter(|one| wanted(&one.event)).count() as u64;
    let summary = Summary {
        kills: count(|event| matches!(event, Event::KillRequested { .. })),
        exits: count(|event| matches!(event, Event::ChildExited { .. })),
        restarts: count(|event| matches!(event, Event::ChildRestarted { .. })),
        gave_up: count(|event| matches!(event, Event::SupervisorGaveUp { .. })),
        signals,
        done,
        receipts: receipts.len() as u64,
        virtual_ms: log.now().as_millis() as u64,
        faults: faults.0,
    };
    let lines = entries.iter().map(|entry| format!("{:>12} {}", entry.at.as_micros(), entry.text)).collect();
    Outcome { lines, summary }
}
