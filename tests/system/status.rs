//! What the board and the metrics say of a plant at work.

use std::time::Duration;

use gemba::admission::{Limits, Tier};
use gemba::band::Band;
use gemba::{LineSpec, Node, Plant, Signal, SubmitError};
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
