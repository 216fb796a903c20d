//! What a line takes and what it refuses: rates, downstreams that slow down, and lights that shed.

use std::time::Duration;

use gemba::adaptive::AdaptiveRules;
use gemba::rate::{Rate, RateError};
use gemba::{LineSpec, Node, Plant, PlantError, PoolSpec, RateScope, RefusalReason, Signal, SubmitError};
use gemba_kit::{finish, workers};

use crate::plant::{Input, Work, start_with};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn over_its_rate_a_line_refuses_at_once_and_says_when_to_come_again() {
    let rates = |spec: LineSpec<Work>| {
        spec.rate(Rate::new(10, SECOND).unwrap())
            .rate_per_key(Rate::new(5, 60 * SECOND).unwrap().burst(2).unwrap(), 1000)
    };
    let (node, line) = start_with(rates, PoolSpec::new("work").workers(2, 2)).await;
    workers(node.system(), "work", 2).await;
    let submit = |key: &'static [u8]| line.submit(Signal::new(Input::Answer(1)).key(key), &());
    assert!(submit(b"ann").await.is_ok() && submit(b"ann").await.is_ok());
    let Err(SubmitError::Refused(refusal)) = submit(b"ann").await else { panic!("her third in a minute") };
    assert_eq!(refusal.reason, RefusalReason::RateLimited { scope: RateScope::Key });
    assert!(11 * SECOND < refusal.retry_after && refusal.retry_after <= 12 * SECOND, "{refusal:?}");
    tokio::time::sleep(refusal.retry_after).await;
    assert!(submit(b"ann").await.is_ok(), "it may when it was told");

    for _ in 0..9 {
        assert!(line.submit(Signal::new(Input::Answer(1)), &()).await.is_ok());
    }
    let Err(SubmitError::Refused(refusal)) = submit(b"ben").await else { panic!("the line's eleventh") };
    assert_eq!(refusal.reason, RefusalReason::RateLimited { scope: RateScope::Line });
    assert!(refusal.retry_after <= SECOND / 10, "{refusal:?}");
    tokio::time::sleep(2 * SECOND).await;
    assert!(submit(b"ben").await.is_ok() && submit(b"ben").await.is_ok(), "the refusal cost him nothing");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_cannot_be_kept_is_a_fault_of_the_plant() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work"));
    plant.line(LineSpec::<Work>::new("work", Work).rate_per_key(Rate::new(1, SECOND).unwrap(), 0));
    let errors = plant.build().unwrap_err();
    assert_eq!(errors.0, [PlantError::Rate { line: "work".into(), error: RateError::Keys }]);
}

#[tokio::test(start_paused = true)]
async fn a_downstream_gets_no_more_calls_than_it_bears() {
    let rules = AdaptiveRules::builder().limits(1, 3, 3).build().unwrap();
    let (node, line) = start_with(|spec| spec.adaptive(rules), PoolSpec::new("work").workers(8, 8)).await;
    workers(node.system(), "work", 8).await;
    let jobs: Vec<_> = (0..8)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.submit(Signal::new(Input::Sleep(SECOND)), &()).await })
        })
        .collect();
    let (mut done, mut busy) = (0, 0);
    for job in jobs {
        match job.await.unwrap() {
            Ok(_) => done += 1,
            Err(SubmitError::Refused(refusal)) => {
                assert_eq!(refusal.reason, RefusalReason::DownstreamBusy);
                busy += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((done, busy), (3, 5), "nobody waited, and no worker was kept");
    // A panic and a caller's deadline give their place back.
    for _ in 0..4 {
        let died = line.submit(Signal::new(Input::Panic), &()).await;
        assert!(matches!(died, Err(SubmitError::WorkerDied)), "{died:?}");
    }
    assert_eq!(line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap(), 1);
    finish(node).await;
}
