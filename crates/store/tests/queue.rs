//! The durable queue as its users meet it, across drops, panics, kills of its actor and of its process.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::board::{Board, BoardRules};
use gemba_core::kanban::{CardId, KanbanError, KanbanRules, KanbanRulesBuilder};
use gemba_core::light::Light;
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Receipt, Seq};
use gemba_core::supervision::Backoff;
use gemba_kernel::{Node, Supervisor};
use gemba_store::{AckError, AppendError, DatabaseError, OpenError, PAYLOAD_MAX, Queue, Subscriber, queue};
use tempfile::TempDir;

/// Retries at once, so that no test waits.
fn rules() -> KanbanRulesBuilder {
    KanbanRules::builder()
}

async fn started(file: &Path, rules: KanbanRulesBuilder) -> (Node, Queue<u64>) {
    let mut spec = queue::<u64>("orders", file).rules(rules).open();
    // A process that another test is just starting has a copy of each descriptor, and so of each claim, for a moment.
    for _ in 0..500 {
        if !matches!(spec, Err(OpenError::Database(DatabaseError::Taken))) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        spec = queue::<u64>("orders", file).rules(rules).open();
    }
    let spec = spec.unwrap();
    let queue = spec.handle();
    let node = Node::builder("shop").intensity(1_000, Duration::from_secs(1)).child(spec);
    (node.start().await.unwrap(), queue)
}

fn file(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("orders.db")
}

async fn pull(subscriber: &mut Subscriber<u64>) -> gemba_store::Card<u64> {
    tokio::time::timeout(Duration::from_secs(30), subscriber.pull()).await.expect("a card comes").unwrap()
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart_and_what_was_done_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules()).await;
    for item in 0..5 {
        queue.append(&item).await.unwrap();
    }
    let mut subscriber = queue.subscribe(1).await.unwrap();
    let first = pull(&mut subscriber).await;
    assert_eq!((*first.item(), first.deliveries()), (0, 1));
    first.done().await.unwrap();
    let in_hand = pull(&mut subscriber).await;
    node.stop("restart").await.unwrap();
    drop((in_hand, subscriber, queue));

    let (node, queue) = started(&file(&directory), rules()).await;
    let mut subscriber = queue.subscribe(1).await.unwrap();
    for (item, deliveries) in [(1, 2), (2, 1), (3, 1), (4, 1)] {
        let card = pull(&mut subscriber).await;
        assert_eq!((*card.item(), card.deliveries()), (item, deliveries));
        card.done().await.unwrap();
    }
    let counts = queue.view().await.unwrap().counts;
    assert_eq!((counts.todo, counts.working, counts.done), (0, 0, 4));
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_card_that_is_dropped_goes_to_somebody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules()).await;
    queue.append(&7).await.unwrap();
    let (mut one, mut other) = (queue.subscribe(1).await.unwrap(), queue.subscribe(1).await.unwrap());
    drop(pull(&mut one).await);
    let again = pull(&mut other).await;
    assert_eq!((*again.item(), again.deliveries()), (7, 2));
    drop(other); // Its leases go with it.
    let last = pull(&mut one).await;
    assert_eq!(last.deliveries(), 3);
    assert!(matches!(again.done().await, Err(AckError::Kanban(KanbanError::LeaseOver))));
    last.done().await.unwrap();
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_pull_that_is_given_up_takes_no_card_along() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules()).await;
    let (mut one, mut other) = (queue.subscribe(1).await.unwrap(), queue.subscribe(1).await.unwrap());
    for _ in 0..20 {
        tokio::select! {
            biased;
            card = one.pull() => panic!("there is none: {card:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    queue.append(&7).await.unwrap();
    let card = pull(&mut other).await;
    assert_eq!(card.deliveries(), 1);
    card.done().await.unwrap();
    assert_eq!(queue.view().await.unwrap().counts.done, 1);
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn what_nobody_worked_on_keeps_its_deliveries_and_what_is_set_aside_is_dead_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules().deliveries_max(2)).await;
    queue.append_with(&7, None, Tier::Critical, 1).await.unwrap();
    let mut subscriber = queue.subscribe(1).await.unwrap();
    for _ in 0..5 {
        let card = pull(&mut subscriber).await;
        assert_eq!((card.deliveries(), card.tier()), (1, Tier::Critical));
        card.put_back(Duration::ZERO, "the line is full").await.unwrap();
    }
    node.stop("restart").await.unwrap();
    drop((subscriber, queue));

    let (node, queue) = started(&file(&directory), rules().deliveries_max(2)).await;
    let mut subscriber = queue.subscribe(1).await.unwrap();
    let card = pull(&mut subscriber).await;
    assert_eq!(card.deliveries(), 1, "so it stands on the disk, too");
    card.set_aside("a policy says no").await.unwrap();
    let dead = queue.dead(CardId(0), 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].deliveries, &*dead[0].error), (1, 1, "a policy says no"));
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_worker_that_panics_goes_on_and_a_poison_card_is_set_aside_with_its_error() {
    let directory = tempfile::tempdir().unwrap();
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let spec =
        queue::<u64>("orders", file(&directory)).rules(rules().deliveries_max(3).retry(at_once)).open();
    let spec = spec.unwrap();
    let queue = spec.handle();
    let worker = queue.worker("worker", |_, item, deliveries| {
        let (item, poison) = (*item, *item == 3);
        async move {
            assert!(!poison || deliveries != 2, "item {item} is poison");
            if poison { Err("poison") } else { Ok(()) }
        }
    });
    let node = Node::builder("shop").intensity(0, Duration::from_secs(1));
    let node = node.child(spec).child(worker).start().await.unwrap();
    for item in 0..10 {
        queue.append(&item).await.unwrap();
    }
    let counts = until(&queue, |counts| counts.done == 9 && counts.dead == 1).await;
    assert_eq!((counts.todo, counts.working), (0, 0));
    let dead = queue.dead(CardId(0), 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].deliveries, &*dead[0].payload), (1, 3, &b"3"[..]));
    assert_eq!(dead[0].error, "poison");

    queue.redrive(dead[0].card).await.unwrap();
    until(&queue, |counts| counts.dead == 1).await;
    queue.discard(dead[0].card).await.unwrap();
    let gone = queue.discard(dead[0].card).await;
    assert!(matches!(gone, Err(AckError::Kanban(KanbanError::NotDead(_)))), "{gone:?}");
    assert!(queue.dead(CardId(0), 10).await.unwrap().is_empty());
    node.stop("done").await.unwrap();
}

async fn until(
    queue: &Queue<u64>,
    is_so: impl Fn(&gemba_core::kanban::KanbanCounts) -> bool,
) -> gemba_core::kanban::KanbanCounts {
    let so = async {
        loop {
            let counts = queue.view().await.unwrap().counts;
            if is_so(&counts) {
                return counts;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), so).await.expect("it comes to be so")
}

#[tokio::test]
async fn killing_the_keeper_neither_loses_nor_doubles_what_is_in_hand() {
    let directory = tempfile::tempdir().unwrap();
    let spec = queue::<u64>("orders", file(&directory)).open().unwrap();
    let queue = spec.handle();
    let shop = Supervisor::one_for_one("shop").intensity(1_000, Duration::from_secs(1)).child(spec);
    let node = Node::builder("node").child(shop).start().await.unwrap();
    let keeper = ActorPath::new("/shop/orders").unwrap();
    let mut subscriber = queue.subscribe(1).await.unwrap();
    let mut done = BTreeSet::new();
    for round in 0..20_u64 {
        queue.append(&(2 * round)).await.unwrap();
        queue.append(&(2 * round + 1)).await.unwrap();
        let in_hand = pull(&mut subscriber).await;
        node.system().kill(&keeper, "a test").unwrap();
        let next = pull(&mut subscriber).await;
        assert_ne!(in_hand.id(), next.id(), "in hand, and given to somebody else");
        for card in [in_hand, next] {
            assert!(done.insert(*card.item()), "{} twice", card.item());
            card.done().await.unwrap();
        }
    }
    assert_eq!(done.len(), 40);
    // Those that were in hand rested in the keeper's next life until it heard that they are done.
    until(&queue, |counts| counts.todo + counts.working + counts.resting == 0).await;
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_puller_whose_card_is_off_the_file_gets_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules().wip_max(1)).await;
    queue.append(&1).await.unwrap();
    let (mut one, mut other) = (queue.subscribe(1).await.unwrap(), queue.subscribe(1).await.unwrap());
    let first = pull(&mut one).await;
    let gone = queue.append(&2).await.unwrap();
    until(&queue, |counts| counts.todo == 1).await;
    let waiting = tokio::spawn(async move { *pull(&mut other).await.item() });
    until(&queue, |counts| counts.wanted == 1).await;
    // As when its holder of an earlier life has done it and the keeper does not know.
    let connection = rusqlite::Connection::open(file(&directory)).unwrap();
    assert_eq!(connection.execute("DELETE FROM card WHERE id = ?1", [gone.card.0]).unwrap(), 1);
    first.done().await.unwrap();
    until(&queue, |counts| counts.todo + counts.working == 0).await;
    queue.append(&3).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 3);
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_subscription_that_nobody_waits_for_any_more_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules()).await;
    for _ in 0..20 {
        tokio::select! {
            biased;
            one = queue.subscribe(1) => panic!("it takes a message there and back: {one:?}"),
            () = std::future::ready(()) => {}
        }
    }
    let subscriber = queue.subscribe(1).await.unwrap();
    until(&queue, |counts| counts.pullers == 1).await;
    drop(subscriber);
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_key_is_appended_once_even_when_its_card_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules()).await;
    let first = queue.append_once("order-7", &7).await.unwrap();
    let second = queue.append_once("order-7", &7).await.unwrap();
    assert_eq!((first.card, first.was_there, second.was_there), (second.card, false, true));
    let mut subscriber = queue.subscribe(1).await.unwrap();
    pull(&mut subscriber).await.done().await.unwrap();
    assert!(queue.append_once("order-7", &7).await.unwrap().was_there);
    assert!(!queue.append_once("order-8", &8).await.unwrap().was_there);
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_so_and_what_is_done_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules().cards_max(2)).await;
    queue.append(&1).await.unwrap();
    queue.append(&2).await.unwrap();
    let full = queue.append(&3).await;
    assert!(matches!(full, Err(AppendError::Kanban(KanbanError::Full { cards: 2, dead: 0 }))), "{full:?}");
    pull(&mut queue.subscribe(1).await.unwrap()).await.done().await.unwrap();
    queue.append(&3).await.unwrap();
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn cards_in_work_keep_to_the_limit_which_can_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules().wip_max(1)).await;
    for item in 0..3 {
        queue.append(&item).await.unwrap();
    }
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        subscribers.push(queue.subscribe(1).await.unwrap());
    }
    let [one, two, three] = &mut subscribers[..] else { panic!() };
    let first = pull(one).await;
    let mut second = Box::pin(two.pull());
    tokio::select! {
        biased;
        card = &mut second => panic!("beyond the limit: {card:?}"),
        counts = until(&queue, |counts| counts.wanted == 1) => assert_eq!(counts.working, 1),
    }
    queue.set_rules(rules().wip_max(2).build().unwrap()).await.unwrap();
    let second = second.await.unwrap();
    first.done().await.unwrap();
    let third = pull(three).await;
    assert_eq!((*second.item(), *third.item()), (1, 2));
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn higher_tiers_go_first() {
    let directory = tempfile::tempdir().unwrap();
    let (node, queue) = started(&file(&directory), rules()).await;
    for (item, tier) in [(1, Tier::Batch), (2, Tier::Normal), (3, Tier::Critical)] {
        queue.append_with(&item, None, tier, 1).await.unwrap();
    }
    let mut subscriber = queue.subscribe(1).await.unwrap();
    for item in [3, 2, 1] {
        let card = pull(&mut subscriber).await;
        assert_eq!(*card.item(), item);
        card.done().await.unwrap();
    }
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_card_of_another_type_ends_among_the_dead_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let texts = queue::<String>("orders", file(&directory)).open().unwrap();
    let handle = texts.handle();
    let node = Node::builder("shop").child(texts).start().await.unwrap();
    handle.append(&"seven".to_owned()).await.unwrap();
    node.stop("done").await.unwrap();
    drop(handle);

    let (node, queue) = started(&file(&directory), rules().deliveries_max(2).retry(at_once)).await;
    queue.append(&8).await.unwrap();
    let mut subscriber = queue.subscribe(1).await.unwrap();
    let card = pull(&mut subscriber).await;
    assert_eq!(*card.item(), 8);
    card.done().await.unwrap();
    tokio::select! {
        card = subscriber.pull() => panic!("there is none: {card:?}"),
        _ = until(&queue, |counts| counts.dead == 1) => {}
    }
    let dead = queue.dead(CardId(0), 10).await.unwrap();
    assert!(dead[0].error.starts_with("not of this queue's type"), "{}", dead[0].error);
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_words() {
    let directory = tempfile::tempdir().unwrap();
    let bad = queue::<u64>("orders", file(&directory)).rules(rules().wip_max(0).cards_max(0)).open();
    let error = bad.unwrap_err();
    assert!(matches!(&error, OpenError::Rules(faults) if faults.len() == 2), "{error}");
    let (node, numbers) = started(&file(&directory), rules()).await;
    let taken = queue::<u64>("orders", file(&directory)).open().unwrap_err();
    assert!(matches!(taken, OpenError::Database(DatabaseError::Taken)), "{taken}");
    node.stop("done").await.unwrap();
    drop(numbers);

    let texts = queue::<String>("texts", directory.path().join("texts.db")).open().unwrap();
    let too_large = texts.handle().append(&"x".repeat(PAYLOAD_MAX)).await;
    assert!(matches!(too_large, Err(AppendError::TooLarge { .. })), "{too_large:?}");
}

/// Set for the process that is to be killed.
const VICTIM: &str = "GEMBA_QUEUE_VICTIM";

/// How many cards there are: more than all victims together live to do.
const CARDS: u64 = 800;

/// Works until it is killed: appends what is missing, and does cards, printing what it has finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let (_node, queue) = started(Path::new(&path), rules().deliveries_max(1_000)).await;
    let feeding = queue.clone();
    tokio::spawn(async move {
        for item in 0..CARDS {
            feeding.append_once(&item.to_string(), &item).await.unwrap();
        }
    });
    let mut subscriber = queue.subscribe(1).await.unwrap();
    loop {
        let card = subscriber.pull().await.unwrap();
        let item = *card.item();
        card.done().await.unwrap();
        println!("\ndone {item}");
    }
}

#[test]
fn kill_minus_nine_loses_no_card_and_does_none_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut done = Vec::new();
    let mut kills = 0;
    while kills < 30 {
        kills += 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture", "--test-threads=1"])
            .env(VICTIM, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let said = std::io::BufReader::new(child.stdout.take().unwrap());
        // Some die before they have done anything, some in the middle of a write.
        let lives = 1 + (kills * 37) % 30;
        let mut finished = 0;
        for line in std::io::BufRead::lines(said) {
            if let Some(item) = line.unwrap().strip_prefix("done ") {
                done.push(item.parse::<u64>().unwrap());
                finished += 1;
                if finished == lives {
                    child.kill().unwrap();
                }
            }
        }
        // Killed, and read to the end of what it said.
        child.wait().unwrap();
    }
    let printed: BTreeSet<_> = done.iter().copied().collect();
    assert_eq!(printed.len(), done.len(), "a card was done twice");
    let rest: BTreeSet<_> =
        tokio::runtime::Runtime::new().unwrap().block_on(rest(&path)).into_iter().collect();
    assert!(printed.is_disjoint(&rest), "a card that was done came again");
    // What was finished just before a kill may not have been printed any more: one card a kill at most.
    let known = (printed.len() + rest.len()) as u64;
    assert!(known <= CARDS && CARDS <= known + kills, "{known} of {CARDS} after {kills} kills");
}

/// Appends what is missing, and does all there is.
async fn rest(path: &Path) -> Vec<u64> {
    let (node, queue) = started(path, rules().deliveries_max(1_000)).await;
    for item in 0..CARDS {
        queue.append_once(&item.to_string(), &item).await.unwrap();
    }
    let mut subscriber = queue.subscribe(1).await.unwrap();
    let mut rest = Vec::new();
    while 0 < queue.view().await.unwrap().counts.todo {
        let card = pull(&mut subscriber).await;
        rest.push(*card.item());
        card.done().await.unwrap();
    }
    node.stop("done").await.unwrap();
    rest
}

/// What the andon board of a plant shows of the queue: the journal, folded as the board folds it.
async fn light(node: &Node, wanted: Light) -> Arc<Receipt> {
    let mut newest = node.system().journal().subscribe();
    let search = async {
        loop {
            let mut board = Board::new(BoardRules::default());
            let mut last = None;
            for receipt in node.system().journal().after(Seq(0), None, usize::MAX).receipts {
                if !board.apply(&receipt).is_empty() {
                    last = Some(receipt);
                }
            }
            let stations = board.stations();
            let station = stations.iter().find(|station| station.name.as_str() == "queue:orders");
            if let (Some(station), Some(last)) = (station, last)
                && station.light == wanted
            {
                return last;
            }
            newest.changed().await.expect("the journal lives as long as its node");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), search).await.expect("the light comes")
}

#[tokio::test]
async fn a_dead_card_is_a_receipt_and_a_yellow_light_until_somebody_deals_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let (node, queue) = started(&file(&directory), rules().deliveries_max(2).retry(at_once)).await;
    queue.append(&7).await.unwrap();
    let mut subscriber = queue.subscribe(1).await.unwrap();
    for _ in 0..2 {
        pull(&mut subscriber).await.give_back(None, "no such address").await.unwrap();
    }
    let turned = light(&node, Light::Yellow).await;
    let Event::QueueMoved { from: Light::Green, dead: 1, waiting: 0, working: 0, .. } = turned.event else {
        panic!("{turned:?}")
    };
    let receipts = node.system().journal().after(Seq(0), None, usize::MAX).receipts;
    let died: Vec<_> = receipts.iter().filter(|receipt| receipt.event.kind() == "card_died").collect();
    assert_eq!(died.len(), 1);
    assert_eq!(died[0].event.to_string(), "card 1 of queue orders died after 2 deliveries: no such address");
    assert_eq!(died[0].path.as_str(), "/orders");
    // A new life of the actor finds the card dead, and says nothing twice.
    node.system().kill(&ActorPath::new("/orders").unwrap(), "test").unwrap();
    while queue.view().await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    queue.redrive(CardId(1)).await.unwrap();
    light(&node, Light::Green).await;
    let receipts = node.system().journal().after(Seq(0), None, usize::MAX).receipts;
    let moved = receipts.iter().filter(|receipt| receipt.event.kind() == "queue_moved").count();
    assert_eq!(moved, 2);
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_queue_whose_work_stands_still_is_red_until_something_ends() {
    let directory = tempfile::tempdir().unwrap();
    let slow = rules().wip_max(1).stalled_after(Duration::from_secs(1));
    let (node, queue) = started(&file(&directory), slow).await;
    queue.append(&1).await.unwrap();
    queue.append(&2).await.unwrap();
    let mut subscriber = queue.subscribe(1).await.unwrap();
    let stuck = pull(&mut subscriber).await;
    let turned = light(&node, Light::Red).await;
    assert!(matches!(turned.event, Event::QueueMoved { waiting: 1, working: 1, dead: 0, .. }), "{turned:?}");
    stuck.done().await.unwrap();
    light(&node, Light::Green).await;
    node.stop("done").await.unwrap();
}
