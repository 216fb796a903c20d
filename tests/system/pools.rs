//! Pools: who stands in for workers that hang, and which keys belong where.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::affinity::AFFINITY_LASTS;
use gemba::control::Control;
use gemba::receipt::{Event, Receipt, Seq};
use gemba::routing::key_hash;
use gemba::stand_in::STAY;
use gemba::{Line, LineSpec, Node, Plant, PoolSpec, Signal, SubmitError};
use gemba_kit::{board, finish, receipt, story, workers};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::plant::{Failed, Input, Work, start_with, teach};

const SECOND: Duration = Duration::from_secs(1);

/// A pool of `workers`, no more and no fewer, that knows that work is short.
async fn fixed(count: u32, shape: impl FnOnce(PoolSpec) -> PoolSpec) -> (Node, Line<Work>) {
    let pool = shape(PoolSpec::new("work").workers(count, count));
    let (node, line) = start_with(|spec: LineSpec<Work>| spec.tier(Tier::Critical), pool).await;
    workers(node.system(), "work", count as usize).await;
    teach(&line).await;
    (node, line)
}

/// Work that does not end before its deadline.
fn hang(line: &Line<Work>, within: Duration) -> JoinHandle<Result<u32, SubmitError<Failed>>> {
    let line = line.clone();
    tokio::spawn(
        async move { line.submit(Signal::new(Input::Sleep(3600 * SECOND)).deadline(within), &()).await },
    )
}

/// Has `count` callers send short work, one after the other, so that those who hang are missed.
fn work(line: &Line<Work>, count: u32) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..count {
        let line = line.clone();
        callers.spawn(async move {
            loop {
                let short = Signal::new(Input::Sleep(SECOND / 100));
                line.submit(short, &()).await.expect("a worker does it");
            }
        });
    }
    callers
}

#[tokio::test(start_paused = true)]
async fn somebody_stands_in_for_a_worker_that_hangs_and_stays_for_a_while() {
    let (node, line) = fixed(3, |pool| pool).await;
    let begun = Instant::now();
    let hung = hang(&line, 25 * SECOND);
    let callers = work(&line, 2);
    let came = board(node.system(), |board| board.pools[0].stand_ins == 1).await;
    assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
    workers(node.system(), "work", 4).await;
    assert_eq!((came.pools[0].surge, came.pools[0].workers_max), (0, 3));
    let told = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "pool_resized").await;
    let Event::PoolResized { from: 3, to: 4, why, .. } = &told.event else { panic!("{told:?}") };
    assert_eq!(&**why, "1 lost to work that takes far longer than others, 1 stand in");

    // One of three hangs, and three work side by side.
    drop(callers);
    tokio::time::sleep(SECOND).await;
    let at_work = Instant::now();
    let one = || line.submit(Signal::new(Input::Sleep(SECOND)), &());
    let (a, b, c) = tokio::join!(one(), one(), one());
    assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (0, 0, 0));
    assert_eq!(at_work.elapsed(), SECOND);

    assert!(matches!(hung.await.unwrap(), Err(SubmitError::TimedOut)), "its deadline holds as ever");
    board(node.system(), |board| board.pools[0].stand_ins == 0).await;
    assert!((STAY..STAY + 10 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    workers(node.system(), "work", 3).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_tenth_of_a_pool_stands_in_and_nobody_where_it_must_not() {
    let (node, line) = fixed(20, |pool| pool).await;
    for _ in 0..5 {
        hang(&line, 60 * SECOND);
    }
    let callers = work(&line, 10);
    board(node.system(), |board| board.pools[0].stand_ins == 2).await;
    tokio::time::sleep(20 * SECOND).await;
    workers(node.system(), "work", 22).await;
    drop(callers);
    finish(node).await;

    for (count, shape) in [(3, PoolSpec::without_stand_ins as fn(PoolSpec) -> PoolSpec), (1, |pool| pool)] {
        let (node, line) = fixed(count, shape).await;
        let hung = hang(&line, 30 * SECOND);
        let callers = if count == 1 { JoinSet::new() } else { work(&line, 2) };
        assert!(hung.await.unwrap().is_err());
        let resized = story(node.system()).iter().any(|receipt| receipt.event.kind() == "pool_resized");
        assert!(!resized, "the pool of {count}");
        drop(callers);
        finish(node).await;
    }
}

/// A line with two pools of four workers each.
async fn two_pools() -> (Node, Line<Work>) {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .pool(PoolSpec::new("a").workers(4, 4))
        .pool(PoolSpec::new("b").workers(4, 4));
    let line = plant.line(LineSpec::<Work>::new("work", Work).pool("a").pool("b"));
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    workers(node.system(), "a", 4).await;
    workers(node.system(), "b", 4).await;
    (node, line)
}

/// The pool at work while a signal of `key` is, which is the only one.
async fn pool_of(node: &Node, line: &Line<Work>, key: &[u8]) -> String {
    let signal = Signal::new(Input::Sleep(SECOND)).key(key);
    let (done, at_work) = tokio::join!(line.submit(signal, &()), async {
        tokio::time::sleep(SECOND / 2).await;
        let board = board(node.system(), |board| board.pools.iter().any(|pool| 0 < pool.busy)).await;
        let busy: Vec<_> = board.pools.iter().filter(|pool| 0 < pool.busy).collect();
        assert_eq!(busy.len(), 1);
        busy[0].name.to_string()
    });
    done.expect("a worker does it");
    board(node.system(), |board| board.pools.iter().all(|pool| pool.busy == 0)).await;
    at_work
}

fn bind(group: &str, pool: &str, keys: &[&[u8]]) -> Control {
    let keys = keys.iter().map(|key| key_hash(key)).collect();
    let [group, pool] = [group, pool].map(|name| name.parse().expect("a valid name"));
    Control::BindKeys { group, pool, keys, by: "ann".into(), why: "its data is there".into() }
}

#[tokio::test(start_paused = true)]
async fn keys_are_bound_to_a_pool_changed_and_cleared_while_it_runs() {
    let (node, line) = two_pools().await;
    let system = node.system();
    let own = pool_of(&node, &line, b"customer 7").await;
    let other = if own == "a" { "b" } else { "a" };
    let receipt_of = system.control(bind("large", other, &[b"customer 7", b"customer 8"])).await.unwrap();
    let told = receipt(system, Seq(receipt_of.0 - 1), |receipt| receipt.seq == receipt_of).await;
    let sentence = format!("2 keys of group large belong to pool {other}, by ann: its data is there");
    assert_eq!((told.event.to_string(), told.path.to_string()), (sentence, "/plant/balancer".into()));
    assert_eq!(pool_of(&node, &line, b"customer 7").await, other);
    assert_eq!(pool_of(&node, &line, b"customer 8").await, other);
    let shown = board(system, |board| !board.affinity.is_empty()).await;
    let group = &shown.affinity[0];
    assert_eq!((group.group.as_str(), group.pool.as_str(), group.keys), ("large", other, 2));

    let killed = system.kill(&"/plant/balancer".parse().unwrap(), "test").unwrap();
    let is_back = |receipt: &Receipt| {
        receipt.path.as_str() == "/plant/balancer" && receipt.event.kind() == "child_restarted"
    };
    receipt(system, killed, is_back).await;
    workers(system, other, 4).await;
    assert_eq!(pool_of(&node, &line, b"customer 7").await, other, "it outlives the balancer");

    system.control(bind("large", &own, &[b"customer 7"])).await.unwrap();
    assert_eq!(pool_of(&node, &line, b"customer 7").await, own);
    let clear = || Control::ClearKeys { group: "large".parse().unwrap(), by: "ann".into() };
    system.control(bind("large", other, &[b"customer 7"])).await.unwrap();
    system.control(clear()).await.unwrap();
    assert_eq!(pool_of(&node, &line, b"customer 7").await, own);

    let refused = [clear(), bind("large", "c", &[b"customer 7"]), bind("large", other, &[])];
    let mut said = Vec::new();
    for control in refused {
        said.push(system.control(control).await.unwrap_err().to_string());
    }
    assert_eq!(
        said,
        [
            "no affinity group is called 'large'; the groups are: ",
            "no pool is called 'c'; the pools are: a, b",
            "a group has one key at least; clear the group to end it",
        ]
    );
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_bound_key_goes_elsewhere_when_its_pool_is_full_or_down_and_is_free_after_five_minutes() {
    let (node, line) = two_pools().await;
    let system = node.system();
    let own = pool_of(&node, &line, b"customer 7").await;
    let other = if own == "a" { "b" } else { "a" };
    system.control(bind("large", other, &[b"customer 7"])).await.unwrap();
    let bound_at = Instant::now();

    let mut jobs = JoinSet::new();
    for _ in 0..8 {
        let line = line.clone();
        jobs.spawn(
            async move { line.submit(Signal::new(Input::Sleep(SECOND)).key(b"customer 7"), &()).await },
        );
    }
    let shared = board(system, |board| board.pools.iter().all(|pool| 0 < pool.busy)).await;
    assert!(shared.pools.iter().all(|pool| pool.busy <= 5), "within 1.25 times the mean: {:?}", shared.pools);
    while let Some(done) = jobs.join_next().await {
        done.unwrap().unwrap();
    }
    board(system, |board| board.pools.iter().all(|pool| pool.busy == 0)).await;

    let pool = format!("/plant/pools/{other}").parse().unwrap();
    system.halt(&pool, "ann", "bad build").unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(pool_of(&node, &line, b"customer 7").await, own, "its pool is down");
    system.resume(&pool, "ann").unwrap();
    workers(system, other, 4).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(pool_of(&node, &line, b"customer 7").await, other);

    tokio::time::sleep_until(bound_at + AFFINITY_LASTS - SECOND).await;
    board(system, |board| board.affinity.is_empty()).await;
    let lasted = bound_at.elapsed();
    assert!((AFFINITY_LASTS..AFFINITY_LASTS + SECOND).contains(&lasted), "{lasted:?}");
    let ended = receipt(system, Seq(0), |receipt| receipt.event.kind() == "affinity_ended").await;
    let sentence = format!("group large belongs to pool {other} no more: it was bound 300 s ago");
    assert_eq!(ended.event.to_string(), sentence);
    assert_eq!(pool_of(&node, &line, b"customer 7").await, own);
    finish(node).await;
}
