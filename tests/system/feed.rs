//! A line fed from a durable queue: what is refused, fails, is killed or stopped on the way, and what is left then.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use gemba::breaker::BreakerRules;
use gemba::control::Control;
use gemba::kanban::{CardId, KanbanCounts, KanbanRules};
use gemba::policy::rule;
use gemba::receipt::{BreakerState, Event, Seq};
use gemba::supervision::Backoff;
use gemba::{
    Action, Card, JobContext, Line, LineSpec, Node, Plant, PoolSpec, Queue, Signal, System, feed, queue,
};
use gemba_kit::{DEADLINE, finish, receipt, story};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::limits::never_opens;
use crate::plant::Failed;

/// The item whose work fails always.
const POISON: u32 = 13;

/// The item of which no signal can be made.
const UNREADABLE: u32 = 14;

/// The item at which the line's policy panics.
const UNDECIDABLE: u32 = 15;

/// How long the work takes: enough for a kill to find some of it begun.
const WORK: Duration = Duration::from_millis(2);

/// Notes each piece of work that it has done, while its downstream is there.
#[derive(Debug)]
struct Ship {
    is_up: watch::Receiver<bool>,
    shipped: mpsc::Sender<u32>,
}

impl Action for Ship {
    type Input = u32;
    type Output = ();
    type Error = Failed;

    async fn run(&self, order: u32, _: &JobContext) -> Result<(), Failed> {
        tokio::time::sleep(WORK).await;
        if order == POISON || !*self.is_up.borrow() {
            return Err(Failed);
        }
        self.shipped.send(order).await.map_err(|_| Failed)
    }
}

/// More than any test ships.
const SHIPPED_MAX: usize = 1_000;

/// A node with the queue, the plant, and the feed between them.
struct Shop {
    node: Node,
    queue: Queue<u32>,
    line: Line<Ship>,
    is_up: watch::Sender<bool>,
    shipped: mpsc::Receiver<u32>,
}

/// Opens for a moment, after fewer failures than a card may have.
fn touchy() -> BreakerRules {
    let open = Duration::from_millis(200);
    BreakerRules::builder().failures_in_a_row(2).open(open, open).build().unwrap()
}

async fn start(file: &Path, in_flight_max: u32) -> Shop {
    start_with(file, in_flight_max, BreakerRules::builder().failures_in_a_row(100).build().unwrap()).await
}

async fn start_with(file: &Path, in_flight_max: u32, breaker: BreakerRules) -> Shop {
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let orders = queue::<u32>("orders", file).rules(KanbanRules::builder().retry(at_once)).open().unwrap();
    let queue = orders.handle();
    let (is_up, up) = watch::channel(true);
    let (sender, shipped) = mpsc::channel(SHIPPED_MAX);
    let node = Node::builder("shop").intensity(1_000, Duration::from_secs(1));
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("ship").workers(8, 8));
    let known = rule("known", 1, |order: &u32, (): &()| {
        assert!(*order != UNDECIDABLE, "asked to panic");
        (10_000 <= *order).then(|| "unknown".to_owned())
    });
    let action = Ship { is_up: up, shipped: sender };
    let line = plant.line(LineSpec::new("ship", action).policy(known).breaker(breaker));
    let plant = plant.build().expect("the plant is sound");
    let signal = |card: &Card<u32>| {
        assert!(*card.item() != UNREADABLE, "asked to panic");
        Signal::new(*card.item())
    };
    let feed = feed("feed", queue.source(), &line, signal).in_flight_max(in_flight_max);
    let feed = feed.pause_max(Duration::from_millis(100)).build().unwrap();
    let node = node.child(orders).child(plant).child(feed).start().await.expect("the node starts");
    Shop { node, queue, line, is_up, shipped }
}

fn file(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("orders.db")
}

async fn until(queue: &Queue<u32>, wanted: impl Fn(KanbanCounts) -> bool) -> KanbanCounts {
    let look = async {
        loop {
            let counts = queue.view().await.unwrap().counts;
            if wanted(counts) {
                return counts;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, look).await.expect("the queue comes there before the deadline")
}

impl Shop {
    /// How often each order was shipped.
    fn shipped(&mut self) -> BTreeMap<u32, u32> {
        let mut times = BTreeMap::new();
        while let Ok(order) = self.shipped.try_recv() {
            *times.entry(order).or_default() += 1;
        }
        times
    }

    fn system(&self) -> &System {
        self.node.system()
    }

    async fn append(&self, orders: impl Iterator<Item = u32>) {
        for order in orders {
            self.queue.append(&order).await.unwrap();
        }
    }
}

#[tokio::test]
async fn each_card_of_the_queue_is_one_signal_and_one_answer() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = start(&file(&directory), 4).await;
    shop.append(100..200).await;
    let counts = until(&shop.queue, |counts| counts.done == 100).await;
    assert_eq!((counts.todo, counts.resting, counts.working, counts.dead), (0, 0, 0, 0));
    assert!(counts.pullers <= 4, "{counts:?}");
    assert!(shop.shipped().into_iter().eq((100..200).map(|order| (order, 1))));
    finish(shop.node).await;
}

#[tokio::test]
async fn a_poison_card_wears_out_its_deliveries_and_a_rejected_one_is_dead_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = start(&file(&directory), 1).await;
    shop.append([1, POISON, UNREADABLE, 10_000, UNDECIDABLE, 2].into_iter()).await;
    until(&shop.queue, |counts| counts.done == 2 && counts.dead == 4).await;
    let dead = shop.queue.dead(CardId(0), 10).await.unwrap();
    let told: Vec<_> = dead.iter().map(|card| (&*card.payload, card.deliveries, &*card.error)).collect();
    assert_eq!(told[0], (&b"13"[..], 5, "the action failed: asked to fail"));
    assert_eq!(told[1], (&b"14"[..], 5, "no signal could be made of it: panic"));
    assert_eq!(told[2], (&b"10000"[..], 1, "rejected by policy known v1: unknown"));
    assert_eq!(told[3], (&b"15"[..], 5, "its line's policy panicked"));
    let lives = story(shop.system()).iter().filter(|receipt| receipt.path.as_str() == "/feed").count();
    assert_eq!(lives, 1, "the feed itself has not panicked");
    assert!(shop.shipped().into_iter().eq([(1, 1), (2, 1)]));
    finish(shop.node).await;
}

#[tokio::test]
async fn while_the_breaker_is_open_no_card_dies_and_when_it_closes_all_are_done() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = start_with(&file(&directory), 2, touchy()).await;
    shop.is_up.send_replace(false);
    shop.append(100..140).await;
    // More probes than a card has deliveries.
    let mut after = Seq(0);
    for _ in 0..7 {
        let opened = |event: &Event| matches!(event, Event::BreakerMoved { to: BreakerState::Open, .. });
        after = receipt(shop.system(), after, |receipt| opened(&receipt.event)).await.seq;
    }
    shop.is_up.send_replace(true);
    let counts = until(&shop.queue, |counts| counts.done == 40).await;
    assert_eq!((counts.dead, counts.todo, counts.working), (0, 0, 0));
    assert!(shop.shipped().into_iter().eq((100..140).map(|order| (order, 1))));
    finish(shop.node).await;
}

#[tokio::test]
async fn a_stopped_line_is_not_fed_and_no_card_is_the_worse_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = start(&file(&directory), 4).await;
    let pull = Control::PullCord { line: "ship".parse().unwrap(), by: "ann".into(), why: "smoke".into() };
    shop.system().control(pull).await.unwrap();
    shop.append(100..120).await;
    let resting = until(&shop.queue, |counts| 0 < counts.resting && counts.wanted == 0).await;
    assert_eq!((resting.done, resting.dead, resting.working), (0, 0, 0));
    shop.node.stop("restart").await.unwrap();
    drop((shop.queue, shop.line));
    assert!(shop.shipped.try_recv().is_err());

    let mut shop = start(&file(&directory), 4).await;
    until(&shop.queue, |counts| counts.done == 20).await;
    assert!(shop.shipped().into_iter().eq((100..120).map(|order| (order, 1))));
    finish(shop.node).await;
}

#[tokio::test]
async fn a_feed_that_is_killed_gives_back_what_it_had_and_its_next_life_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = start(&file(&directory), 8).await;
    shop.append(100..400).await;
    let mut kills = 0;
    for done in [20, 60, 120] {
        until(&shop.queue, |counts| done <= counts.done).await;
        shop.system().kill(&"/feed".parse().unwrap(), "test").unwrap();
        kills += 1;
    }
    let counts = until(&shop.queue, |counts| counts.done == 300).await;
    assert_eq!((counts.dead, counts.working, counts.todo), (0, 0, 0));
    let shipped = shop.shipped();
    assert!(shipped.keys().copied().eq(100..400), "nothing is lost");
    // What ran when the feed died has come again, and nothing else.
    let again: u32 = shipped.values().map(|times| times - 1).sum();
    assert!(again <= kills * 8, "{again} came twice");
    finish(shop.node).await;
}

#[tokio::test]
async fn a_node_that_stops_in_the_middle_leaves_every_card_done_or_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let mut shop = start(&file(&directory), 8).await;
    shop.append(100..300).await;
    until(&shop.queue, |counts| 40 <= counts.done).await;
    shop.node.stop("test").await.unwrap();
    drop((shop.queue, shop.line));
    let mut shipped = BTreeMap::new();
    while let Ok(order) = shop.shipped.try_recv() {
        *shipped.entry(order).or_insert(0) += 1;
    }

    let mut shop = start(&file(&directory), 8).await;
    let left = 200 - shipped.len() as u64;
    until(&shop.queue, |counts| counts.done == left).await;
    for (order, times) in shop.shipped() {
        *shipped.entry(order).or_insert(0) += times;
    }
    assert!(shipped.into_iter().eq((100..300).map(|order| (order, 1))), "each once: the stop was in order");
    finish(shop.node).await;
}

#[tokio::test]
async fn what_fails_while_the_feed_stops_keeps_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let shop = start_with(&file(&directory), 8, never_opens()).await;
    shop.is_up.send_replace(false);
    shop.append(100..200).await;
    // They fail in the time that the feed has to stop.
    until(&shop.queue, |counts| counts.working == 8).await;
    shop.node.stop("test").await.unwrap();
    drop((shop.queue, shop.line));
    let connection = rusqlite::Connection::open(file(&directory)).unwrap();
    let mut query = connection.prepare("SELECT error FROM card").unwrap();
    let errors = query.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
    let errors: BTreeSet<_> = errors.map(|error| error.unwrap().unwrap_or_default()).collect();
    // Some may have been on their way to a pull that was withdrawn, and some not have come to their first.
    let said = ["", "its puller had gone", "the action failed: asked to fail"].map(str::to_owned);
    assert!(errors.contains(&said[2]) && errors.is_subset(&said.into()), "{errors:?}");
}

#[tokio::test]
async fn settings_that_cannot_be_are_told_together() {
    let directory = tempfile::tempdir().unwrap();
    let shop = start(&file(&directory), 1).await;
    let signal = |card: &Card<u32>| Signal::new(*card.item());
    let other =
        feed("other", shop.queue.source(), &shop.line, signal).in_flight_max(0).pause_max(Duration::MAX);
    let told = other.build().unwrap_err().to_string();
    assert!(
        told.starts_with("feed other cannot be: in_flight_max is 0; give 1 to 1000; pause_max is"),
        "{told}"
    );
    finish(shop.node).await;
}
