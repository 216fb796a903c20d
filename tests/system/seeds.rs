//! The eight tests that the seeds name, against the real plant, and what they measure of just-in-time.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::receipt::{Event, Seq};
use gemba::view::BoardView;
use gemba::{Line, LineSpec, Node, Plant, PoolSpec, RefusalReason, Signal, SubmitError};
use gemba_kit::{board, finish, receipt, story, workers};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::plant::{Failed, Input, Work, patient, start_with, teach};

/// How long one signal takes, where nothing else is said.
const WORK: Duration = Duration::from_millis(100);

/// How a signal ended, and how long that took.
type Ended = (Result<u32, SubmitError<Failed>>, Duration);

/// Sends so many signals a second for so long, evenly, and waits for all of them.
async fn send(line: &Line<Work>, per_s: u64, lasts: Duration, deadline: Duration) -> Vec<Ended> {
    let mut signals = JoinSet::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / per_s as u32);
    for number in 0..per_s * lasts.as_secs() {
        beat.tick().await;
        let line = line.clone();
        signals.spawn(async move {
            let begun = Instant::now();
            let signal = Signal::new(Input::Sleep(WORK)).key(&number.to_le_bytes()).deadline(deadline);
            (line.submit(signal, &()).await, begun.elapsed())
        });
    }
    signals.join_all().await
}

/// A node with a line over these pools.
async fn over(pools: impl IntoIterator<Item = PoolSpec>) -> (Node, Line<Work>) {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system());
    let mut spec = LineSpec::new("work", Work);
    for (name, pool) in ["payment", "delivery", "notification"].into_iter().zip(pools) {
        plant = plant.pool(pool);
        spec = spec.pool(name);
    }
    let line = plant.line(spec);
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    (node, line)
}

fn pool(name: &str, workers_min: u32, workers_max: u32) -> PoolSpec {
    PoolSpec::new(name).workers(workers_min, workers_max)
}

fn of<'a>(board: &'a BoardView, name: &str) -> &'a gemba::view::PoolView {
    board.pools.iter().find(|pool| pool.name.as_str() == name).expect("the pool is on the board")
}

fn succeeded(ended: &[Ended]) -> usize {
    ended.iter().filter(|(result, _)| result.is_ok()).count()
}

/// The time that this share of those that succeeded did not exceed.
fn quantile(ended: &[Ended], share: f64) -> Duration {
    let mut times: Vec<_> =
        ended.iter().filter(|(result, _)| result.is_ok()).map(|(_, time)| *time).collect();
    times.sort();
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

#[tokio::test(start_paused = true)]
async fn test_normal_load() {
    let (node, line) = start_with(|spec| spec, patient(2, 10)).await;
    workers(node.system(), "work", 2).await;
    teach(&line).await;
    // Work for three of ten: the pool finds the size at which they are used well, and keeps it.
    let ended = send(&line, 30, Duration::from_secs(600), Duration::from_secs(5)).await;
    assert_eq!(succeeded(&ended), ended.len());
    let now = board(node.system(), |_| true).await;
    let seen = of(&now, "work");
    assert!((4..=6).contains(&seen.workers), "{seen:?}");
    assert!((0.5..=0.8).contains(&seen.utilization), "{seen:?}");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_spike_load() {
    let (node, line) = start_with(|spec| spec, pool("work", 10, 50)).await;
    workers(node.system(), "work", 10).await;
    // Work for nine of ten.
    let ended = send(&line, 90, Duration::from_secs(120), Duration::from_secs(5)).await;
    assert_eq!(succeeded(&ended), ended.len());
    let grown = story(node.system())
        .into_iter()
        .any(|receipt| matches!(receipt.event, Event::PoolResized { from: 10, to, .. } if 10 < to));
    assert!(grown, "workers are added");
    assert!(quantile(&ended, 0.99) <= 2 * WORK, "and nobody waits for long: {:?}", quantile(&ended, 0.99));
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_sustained_overload() {
    let (node, line) = start_with(|spec| spec, patient(50, 50).queue_max(2_000)).await;
    workers(node.system(), "work", 50).await;
    teach(&line).await;
    let submit = |tier, count: u32| {
        let mut signals = JoinSet::new();
        for _ in 0..count {
            let line = line.clone();
            let signal = Signal::new(Input::Sleep(WORK)).tier(tier).deadline(Duration::from_secs(600));
            signals.spawn(async move { line.submit(signal, &()).await });
        }
        signals
    };
    let normal = submit(Tier::Normal, 1_500);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let critical = submit(Tier::Critical, 300);
    let overloaded = |results: &[Result<u32, SubmitError<Failed>>], hard: u32| {
        let refusals = results.iter().filter_map(|result| match result {
            Ok(_) => None,
            Err(SubmitError::Refused(refusal)) => Some(refusal.reason.clone()),
            Err(other) => panic!("{other}"),
        });
        let at_limit = RefusalReason::Overloaded { in_flight: hard, limit: hard };
        refusals.inspect(|reason| assert_eq!(*reason, at_limit)).count()
    };
    let (normal, critical) = (normal.join_all().await, critical.join_all().await);
    // 1200 at most, a fifth of them for critical signals alone.
    assert_eq!(overloaded(&normal, 960), 1_500 - 960);
    assert_eq!(overloaded(&critical, 1_200), 300 - 240);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_multiple_pools_balance() {
    let pools = ["payment", "delivery", "notification"].map(|name| pool(name, 10, 10));
    let (node, line) = over(pools).await;
    for name in ["payment", "delivery", "notification"] {
        workers(node.system(), name, 10).await;
    }
    let sending = tokio::spawn({
        let line = line.clone();
        // Work for 18 of 30.
        async move { send(&line, 180, Duration::from_secs(60), Duration::from_secs(5)).await }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    let (mut seconds, mut least, mut sum) = (0, 1.0f64, 0.0);
    while !sending.is_finished() && seconds < 25 {
        let now = board(node.system(), |_| true).await;
        (seconds, least, sum) = (seconds + 1, least.min(now.balance_ratio), sum + now.balance_ratio);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(
        0.5 < least && 0.8 < sum / f64::from(seconds),
        "least {least}, mean {}",
        sum / f64::from(seconds)
    );
    let ended = sending.await.unwrap();
    assert_eq!(succeeded(&ended), ended.len());
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_pool_migration() {
    let (node, line) = over([pool("payment", 2, 2), pool("delivery", 10, 10)]).await;
    workers(node.system(), "payment", 2).await;
    workers(node.system(), "delivery", 10).await;
    // All have the same key, and so the same first pool. Work for eight: neither refused nor kept waiting where
    // only two can work, the overload goes where there is room.
    let mut signals = JoinSet::new();
    for _ in 0..8 {
        let line = line.clone();
        signals.spawn(async move {
            let begun = Instant::now();
            for _ in 0..100 {
                line.submit(Signal::new(Input::Sleep(WORK)).key(b"one customer"), &()).await.unwrap();
            }
            begun.elapsed()
        });
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let now = board(node.system(), |board| 0 < of(board, "delivery").busy).await;
    assert!(of(&now, "payment").busy + of(&now, "delivery").busy <= 8);
    let slowest = signals.join_all().await.into_iter().max().unwrap();
    assert!(slowest < 2 * 100 * WORK, "{slowest:?} for what takes {:?} alone", 100 * WORK);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_stress_10k_requests() {
    let pools = ["payment", "delivery", "notification"].map(|name| pool(name, 20, 50));
    let (node, line) = over(pools).await;
    for name in ["payment", "delivery", "notification"] {
        workers(node.system(), name, 20).await;
    }
    let ended = send(&line, 400, Duration::from_secs(25), Duration::from_secs(5)).await;
    assert_eq!((ended.len(), succeeded(&ended)), (10_000, 10_000), "each is answered once, and all succeed");
    let now = board(node.system(), |board| board.lines[0].succeeded == 10_000).await;
    assert_eq!(now.lines[0].arrived, 10_000);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_burst_handling() {
    let (node, line) = start_with(|spec| spec, pool("work", 10, 20)).await;
    workers(node.system(), "work", 10).await;
    send(&line, 20, Duration::from_secs(90), Duration::from_secs(5)).await;
    assert!(story(node.system()).iter().all(|receipt| receipt.event.kind() != "surge_started"));
    send(&line, 200, Duration::from_secs(20), Duration::from_secs(5)).await;
    let surge = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "surge_started").await;
    let resized = receipt(
        node.system(),
        surge.seq,
        |receipt| matches!(receipt.event, Event::PoolResized { to, .. } if 20 < to),
    )
    .await;
    assert_eq!(resized.cause, Some(surge.seq), "workers beyond the most are added because of it");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn test_graceful_refusal() {
    let (node, line) = start_with(|spec| spec, patient(2, 2).queue_max(3)).await;
    workers(node.system(), "work", 2).await;
    teach(&line).await;
    let mut signals = JoinSet::new();
    for _ in 0..5 {
        let line = line.clone();
        let long = Signal::new(Input::Sleep(Duration::from_secs(1))).deadline(Duration::from_secs(60));
        signals.spawn(async move { line.submit(long, &()).await });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    for _ in 0..100 {
        let begun = Instant::now();
        let Err(SubmitError::Refused(refusal)) = line.submit(Signal::new(Input::Answer(1)), &()).await else {
            panic!("there is no room")
        };
        assert!(!refusal.retry_after.is_zero(), "it says when to come again");
        assert!(begun.elapsed() < Duration::from_millis(5), "at once, not after a wait");
    }
    assert!(signals.join_all().await.iter().all(Result::is_ok), "what was accepted is done all the same");
    finish(node).await;
}

/// Queue depth stays bounded, refusals happen whenever there is overload, and what is accepted takes as long at
/// ten times the load as at 1.2 times.
#[tokio::test(start_paused = true)]
async fn under_lasting_overload_the_queue_is_bounded_and_the_accepted_wait_no_longer() {
    let mut p99s = Vec::new();
    for per_s in [24, 60, 200] {
        let (node, line) = start_with(|spec| spec, pool("work", 2, 2).queue_max(10)).await;
        workers(node.system(), "work", 2).await;
        let sending = tokio::spawn({
            let line = line.clone();
            async move { send(&line, per_s, Duration::from_secs(60), Duration::from_secs(5)).await }
        });
        let mut deepest = 0;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            deepest = deepest.max(of(&*board(node.system(), |_| true).await, "work").queued);
        }
        assert!((1..=10).contains(&deepest), "{per_s}/s: {deepest} waiting");
        let ended = sending.await.unwrap();
        // Two workers do 20 a second; what is over that is refused, and no more.
        let done = succeeded(&ended);
        assert!((1_150..=1_260).contains(&done), "{per_s}/s: {done} of {}", ended.len());
        assert!(ended.iter().all(|(result, _)| matches!(result, Ok(_) | Err(SubmitError::Refused(_)))));
        let (p50, p99) = (quantile(&ended, 0.5), quantile(&ended, 0.99));
        assert!(p99 <= 2 * p50, "{per_s}/s: p50 {p50:?}, p99 {p99:?}");
        p99s.push(p99);
        finish(node).await;
    }
    assert!(p99s[2] <= p99s[0].mul_f64(1.1), "{p99s:?}");
}
