//! Pools: who stands in for workers that hang.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::receipt::{Event, Seq};
use gemba::stand_in::STAY;
use gemba::{Line, LineSpec, Node, PoolSpec, Signal, SubmitError};
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
