//! The test kit: wait for what happened instead of sleeping, and look at a node as its operator would.

use std::sync::Arc;
use std::time::Duration;

use gemba::receipt::{Event, Receipt, Seq};
use gemba::view::{ActorState, ActorView, BoardView};
use gemba::{Node, System};

/// How long anything in a test may take, in the test's own time.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How often to look at what changes without a receipt.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits for the first receipt after `after` that `wanted` accepts.
///
/// # Panics
///
/// When there is none within [`DEADLINE`].
pub async fn receipt(system: &System, after: Seq, wanted: impl Fn(&Receipt) -> bool) -> Arc<Receipt> {
    let mut newest = system.journal().subscribe();
    let search = async {
        let mut next = after;
        loop {
            let page = system.journal().after(next, None, usize::MAX);
            if let Some(found) = page.receipts.iter().find(|receipt| wanted(receipt)) {
                return found.clone();
            }
            next = page.next;
            newest.changed().await.expect("the journal lives as long as its node");
        }
    };
    tokio::time::timeout(DEADLINE, search).await.expect("the receipt comes before the deadline")
}

/// Waits until the board shows what `wanted` accepts.
///
/// # Panics
///
/// When it does not within [`DEADLINE`].
pub async fn board(system: &System, wanted: impl Fn(&BoardView) -> bool) -> Arc<BoardView> {
    let mut boards = system.board_publisher().subscribe();
    let search = async { boards.wait_for(|board| wanted(board)).await.expect("the board lives").clone() };
    tokio::time::timeout(DEADLINE, search).await.expect("the board shows it before the deadline")
}

/// Every receipt so far.
pub fn story(system: &System) -> Vec<Arc<Receipt>> {
    system.journal().after(Seq(0), None, usize::MAX).receipts
}

/// The actor at `path` as the tree shows it.
///
/// # Panics
///
/// When there is none.
pub fn actor(system: &System, path: &str) -> ActorView {
    let path = path.parse().expect("a path in a test is valid");
    system.tree().root.find(&path).cloned().unwrap_or_else(|| panic!("no actor stands at {path}"))
}

/// Waits until `workers` of a pool run.
///
/// # Panics
///
/// When they do not within [`DEADLINE`].
pub async fn workers(system: &System, pool: &str, workers: usize) {
    let path = format!("/plant/pools/{pool}/workers");
    let mut newest = system.journal().subscribe();
    let wait = async {
        let running = || {
            let workers = actor(system, &path).children;
            workers.iter().filter(|worker| worker.state == ActorState::Running).count()
        };
        while running() != workers {
            // The last one comes to run without a receipt, on several threads even after the last receipt.
            let _ = tokio::time::timeout(LOOK_AGAIN, newest.changed()).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.expect("the workers run before the deadline");
}

/// Checks what must hold at the end of every test, then stops the node: nothing in flight, every receipt but
/// a first cause names an earlier one.
///
/// # Panics
///
/// When something does not hold.
pub async fn finish(node: Node) {
    let system = node.system().clone();
    for line in &board(&system, |board| board.lines.iter().all(|line| line.in_flight == 0)).await.lines {
        let answered = line.refused + line.rejected + line.succeeded + line.failed + line.timed_out;
        let ended = answered + line.cancelled;
        assert_eq!(line.arrived, ended, "every signal of line {} has one end", line.name);
    }
    node.stop("the test is over").await.expect("the node stops in order");
    for receipt in story(&system) {
        if let Some(cause) = receipt.cause {
            assert!(cause < receipt.seq, "{receipt:?} names a later cause");
        }
        if let Event::ChildRestarted { .. } | Event::LightChanged { .. } = receipt.event {
            assert!(receipt.cause.is_some(), "{receipt:?} has a cause");
        }
    }
}
