//! What the board and the metrics say of a plant at work.

use std::time::Duration;

use gemba::admission::{Limits, Tier};
use gemba::band::Band;
use gemba::{LineSpec, Node, Plant, PoolSpec, Signal, SubmitError};
use gemba_kit::{board, finish, workers};

use crate::plant::{Input, Work, patient};

/// The value of a series on the page of metrics.
fn value(node: &Node, series: &str) -> f64 {
    let page = node.metrics();
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().expect("a number")
}

/// Waits until a series has a value; gauges follow the board within a second.
async fn shows(node: &Node, series: &str, expected: f64) {
    let mut left = 100;
    while (value(node, series) - expected).abs() > 1e-9 {
        left -= 1;
        assert!(0 < left, "{series} is {} and not {expected}", value(node, series));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_tier_has_its_load_and_each_line_what_it_took_and_refused() {
    let node = Node::builder("test");
    let mut plant =
        Plant::builder(node.system()).limits(Limits::new(10, 0.2, 0.83).unwrap()).pool(patient(10, 10));
    let line = plant.line(LineSpec::<Work>::new("work", Work));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 10).await;
    let first = board(node.system(), |board| board.lines.iter().all(|line| line.intake.len() == 3)).await;
    assert_eq!((first.admission.in_flight, first.pools[0].band), (0, Band::Idle));
    let submit = |tier| {
        let line = line.clone();
        let signal = Signal::new(Input::Sleep(Duration::from_secs(90))).deadline(Duration::from_secs(100));
        tokio::spawn(async move { line.submit(signal.tier(tier), &()).await })
    };
    let done: Vec<_> = (0..8).map(|_| submit(Tier::Normal)).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    for tier in [Tier::Normal, Tier::Batch] {
        assert!(matches!(submit(tier).await.unwrap(), Err(SubmitError::Refused(_))));
    }
    let full = board(node.system(), |board| board.lines[0].intake[0].refused == 2).await;
    let loads: Vec<_> = full.admission.tiers.iter().map(|tier| (tier.hard, tier.load_ratio)).collect();
    assert_eq!((full.admission.in_flight, loads), (8, vec![(10, 0.8), (8, 1.0), (8, 1.0)]));
    assert_eq!(full.lines[0].intake.iter().map(|window| window.accepted).collect::<Vec<_>>(), [8, 8, 8]);
    shows(&node, "gemba_admission_load_ratio{tier=\"critical\"}", 0.8).await;
    shows(&node, "gemba_admission_load_ratio{tier=\"batch\"}", 1.0).await;
    // After a minute eight of ten workers have been busy throughout.
    board(node.system(), |board| board.pools[0].band == Band::Good).await;
    shows(&node, "gemba_pool_utilization_band{pool=\"work\",band=\"good\"}", 1.0).await;
    shows(&node, "gemba_pool_utilization_band{pool=\"work\",band=\"idle\"}", 0.0).await;
    let later = board(node.system(), |board| board.lines[0].intake[1].refused == 0).await;
    assert_eq!(later.lines[0].intake[2].refused, 2, "the longest window still knows");
    for job in done {
        job.await.unwrap().unwrap();
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn the_node_is_judged_and_a_pool_tells_what_it_did() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .limits(Limits::new(40, 0.2, 0.83).unwrap())
        .pool(PoolSpec::new("near").workers(4, 4))
        .pool(PoolSpec::new("far").workers(4, 4))
        .pool(PoolSpec::new("other").workers(2, 2));
    let line = plant.line(LineSpec::<Work>::new("work", Work).pool("near").pool("far"));
    let other = plant.line(LineSpec::<Work>::new("other", Work));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    for (pool, count) in [("near", 4), ("far", 4), ("other", 2)] {
        workers(node.system(), pool, count).await;
    }
    for n in 0..40 {
        let input = if n % 10 == 0 { Input::Fail } else { Input::Sleep(Duration::from_millis(20)) };
        let _ = line.submit(Signal::new(input), &()).await;
    }
    for _ in 0..3 {
        other.submit(Signal::new(Input::Sleep(Duration::from_millis(300))), &()).await.unwrap();
    }
    let counted = board(node.system(), |board| {
        board.pools.iter().map(|pool| pool.succeeded + pool.failed).sum::<u64>() == 43
    });
    let counted = counted.await;
    assert_eq!(counted.verdict.as_ref().map(|verdict| verdict.well), Some(true), "{:?}", counted.verdict);
    let [near, far, alone] = &counted.pools[..] else { panic!("three pools") };
    assert_eq!((alone.routed, alone.succeeded, alone.failed, alone.timed_out), (3, 3, 0, 0));
    assert!((299.0..310.0).contains(&alone.p50_ms) && (299.0..310.0).contains(&alone.p99_ms), "{alone:?}");
    assert_eq!((near.succeeded + far.succeeded, near.failed + far.failed), (36, 4));
    assert_eq!(near.routed + far.routed, 40);
    assert!((19.0..23.0).contains(&near.p50_ms) && near.p99_ms < 100.0, "{near:?}");
    let view = counted.lines.iter().find(|line| line.name.as_str() == "work").unwrap();
    assert_eq!((view.arrived, view.succeeded, view.failed), (40, 36, 4), "the line is the sum of its pools");
    assert_eq!(view.success_ratio, Some(0.9));
    shows(&node, "gemba_line_success_ratio{line=\"work\"}", 0.9).await;
    shows(&node, "gemba_pool_routed_jobs_total{pool=\"other\"}", 3.0).await;
    shows(&node, "gemba_pool_signals_total{pool=\"other\",outcome=\"succeeded\"}", 3.0).await;
    shows(&node, "gemba_pool_duration_seconds_count{pool=\"other\"}", 3.0).await;
    shows(&node, "gemba_node_well", 1.0).await;

    // More than fits: what is refused is told until a minute after.
    let flood: Vec<_> = (0..200)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.submit(Signal::new(Input::Answer(1)), &()).await })
        })
        .collect();
    for signal in flood {
        let _ = signal.await.unwrap();
    }
    let ill = board(node.system(), |board| board.verdict.as_ref().is_some_and(|verdict| !verdict.well)).await;
    let why = &ill.verdict.as_ref().unwrap().why;
    assert!(why[0].ends_with("signals refused in the last minute"), "{why:?}");
    shows(&node, "gemba_node_well", 0.0).await;
    board(node.system(), |board| board.verdict.as_ref().is_some_and(|verdict| verdict.well)).await;
    finish(node).await;
}
