//! E15: the durable queue: cards come again after a crash, nobody sleeps while there is work, and L = λW.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use gemba::sim::draw::Draw;
use gemba::{Node, Queue, queue};
use tokio::sync::{mpsc, watch};

use crate::closed::{at, millis, runtime};
use crate::finding::{Finding, Report};
use crate::scale::Scale;

/// Who pulls, and how long a card's work takes at most.
const PULLERS: u32 = 4;
const WORK_MAX: Duration = Duration::from_millis(8);

/// Mean pause between two cards: half of what the pullers can do.
const PAUSE: Duration = Duration::from_millis(3);

/// One in so many cards kills the first who pulls it.
const CRASHES: u64 = 10;

/// How often the queue is asked how many cards it has.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// What pullers and the producer say.
#[derive(Debug)]
enum Said {
    Appended { card: u64, at: Instant },
    Pulled { card: u64, at: Instant },
    Crashed { card: u64, at: Instant },
    Done { card: u64, at: Instant },
}

pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note = "four pullers at half load; every tenth card its puller's task dies; a card that kills twice rests by rule, and does not here";
    let mut report = Report { number: "E15", title: "durable queue", note, ..Report::default() };
    let runtime = runtime();
    let found = runtime.block_on(play(scale.cards));
    let woken = runtime.block_on(wake(scale.cards.min(500)));
    runtime.shutdown_timeout(Duration::from_millis(500));
    let case = format!("{} cards, {} crashes", scale.cards, found.again.len());
    let of = |share| vec![at(found.again.clone(), share)];
    report.findings.push(Finding::new(&case, "p50 until delivered again, ms", of(0.5)));
    report.findings.push(Finding::new(&case, "p99 until delivered again, ms", of(0.99)).at_most(50.0));
    report.findings.push(Finding::new(&case, "cards lost", vec![found.lost]).at_most(0.0));
    report
        .findings
        .push(Finding::new(&case, "delivered after they were done", vec![found.twice]).at_most(0.0));
    let little = Finding::new(&case, "|L - λW| / L", vec![found.little]).at_most(0.05);
    report.findings.push(little);
    report.findings.push(Finding::new(&case, "L, cards", vec![found.present]));
    let case = "one card, an idle puller";
    report.findings.push(Finding::new(case, "p99 from append to pull, ms", vec![at(woken.clone(), 0.99)]));
    let lost = woken.iter().filter(|wait| 50.0 < **wait).count() as f64;
    report.findings.push(Finding::new(case, "waited beyond 50 ms", vec![lost]).at_most(0.0));
    vec![report]
}

#[derive(Debug, Default)]
struct Found {
    again: Vec<f64>,
    lost: f64,
    twice: f64,
    /// Cards on the board, on average, as the queue told when it was asked.
    present: f64,
    little: f64,
}

async fn open(directory: &tempfile::TempDir) -> (Node, Queue<u64>) {
    let file = directory.path().join("cards.db");
    let spec = queue::<u64>("cards", file).open().expect("a file of our own");
    let queue = spec.handle();
    (Node::builder("experiment").child(spec).start().await.expect("the node starts"), queue)
}

async fn play(cards: u64) -> Found {
    let directory = tempfile::tempdir().expect("a folder of our own");
    let (node, queue) = open(&directory).await;
    let (say, mut said) = mpsc::channel(1024);
    for number in 0..PULLERS {
        tokio::spawn(puller(queue.clone(), number, say.clone()));
    }
    let appending = queue.clone();
    let producer = tokio::spawn(async move {
        let mut draw = Draw::new(1, 0);
        let begun = Instant::now();
        let mut due = Duration::ZERO;
        for number in 0..cards {
            due += PAUSE.mul_f64(draw.exponential());
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            appending.append(&number).await.expect("the disk takes it");
            let _ = say.send(Said::Appended { card: number, at: Instant::now() }).await;
        }
    });
    let (mut appended, mut lead, begun) = (HashMap::new(), Duration::ZERO, Instant::now());
    let (teller, seen) = watch::channel((0.0, 0.0));
    let watching = tokio::spawn(look(queue.clone(), teller));
    let mut found = Found::default();
    let (mut crashed, mut done, mut last) = (HashMap::new(), HashSet::new(), begun);
    while (done.len() as u64) < cards {
        let Ok(Some(word)) = tokio::time::timeout(Duration::from_secs(10), said.recv()).await else { break };
        match word {
            Said::Appended { card, at } => {
                appended.insert(card, at);
            }
            Said::Pulled { card, at } => {
                if let Some(since) = crashed.remove(&card) {
                    found.again.push(millis(at.saturating_duration_since(since)));
                }
                found.twice += f64::from(u8::from(done.contains(&card)));
            }
            Said::Crashed { card, at } => {
                crashed.insert(card, at);
            }
            Said::Done { card, at } => {
                done.insert(card);
                last = at;
                // A fast puller may be done before its producer has told.
                let since = appended.get(&card).copied().unwrap_or(at);
                lead += at.saturating_duration_since(since);
            }
        }
    }
    producer.await.expect("the producer does not panic");
    found.lost = (cards - done.len() as u64) as f64;
    watching.abort();
    let cards_seen = *seen.borrow();
    // λW is the sum of the leads over the time.
    let flowed = lead.as_secs_f64() / last.saturating_duration_since(begun).as_secs_f64();
    let present = cards_seen.0 / f64::max(cards_seen.1, 1.0);
    found.little = (present - flowed).abs() / present.max(f64::MIN_POSITIVE);
    found.present = present;
    node.stop("measured").await.expect("the node stops in order");
    found
}

/// Asks the queue again and again how many cards it has: their sum, and how often it was asked.
async fn look(queue: Queue<u64>, teller: watch::Sender<(f64, f64)>) {
    while let Ok(view) = queue.view().await {
        let cards = view.counts.todo + view.counts.resting + view.counts.working;
        teller.send_modify(|(sum, times)| (*sum, *times) = (*sum + cards as f64, *times + 1.0));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Pulls for ever, in a task that dies now and then and is followed by another.
async fn puller(queue: Queue<u64>, number: u32, say: mpsc::Sender<Said>) {
    let mut life = 0;
    loop {
        life += 1;
        let (queue, say) = (queue.clone(), say.clone());
        let task = tokio::spawn(async move {
            let Ok(mut subscriber) = queue.subscribe(1).await else { return false };
            let mut draw = Draw::new(u64::from(number), life);
            while let Ok(card) = subscriber.pull().await {
                let id = *card.item();
                let _ = say.send(Said::Pulled { card: id, at: Instant::now() }).await;
                tokio::time::sleep(WORK_MAX.mul_f64(draw.uniform())).await;
                if draw.uniform() < 1.0 / CRASHES as f64 && card.deliveries() == 1 {
                    let _ = say.send(Said::Crashed { card: id, at: Instant::now() }).await;
                    // As a panic would: whatever the task holds is dropped.
                    return true;
                }
                if card.done().await.is_ok() {
                    let _ = say.send(Said::Done { card: id, at: Instant::now() }).await;
                }
            }
            false
        });
        if !task.await.unwrap_or(false) {
            break;
        }
    }
}

/// Milliseconds from an append to an idle puller's pull, one card at a time.
async fn wake(cards: u64) -> Vec<f64> {
    let directory = tempfile::tempdir().expect("a folder of our own");
    let (node, queue) = open(&directory).await;
    let mut subscriber = queue.subscribe(1).await.expect("the queue runs");
    let (say, mut said) = mpsc::channel(1);
    let pulling = tokio::spawn(async move {
        while let Ok(card) = subscriber.pull().await {
            let pulled = Instant::now();
            let _ = card.done().await;
            if say.send(pulled).await.is_err() {
                break;
            }
        }
    });
    let mut waits = Vec::new();
    for number in 0..cards {
        queue.append(&number).await.expect("the disk takes it");
        let appended = Instant::now();
        let pulled = said.recv().await.expect("the puller runs");
        waits.push(millis(pulled.saturating_duration_since(appended)));
    }
    pulling.abort();
    node.stop("measured").await.expect("the node stops in order");
    waits
}
