//! What follows a success: after the answer, within its time, and never lost unseen.

use std::time::Duration;

use gemba::ab_test::AbRules;
use gemba::light::Light;
use gemba::receipt::{Event, Seq};
use gemba::{Action, FollowUp, JobContext, Line, LineSpec, Node, Plant, PlantError, PoolSpec, Signal, Trial};
use gemba_kit::{board, finish, receipt, workers};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::plant::Failed;

/// Succeeds at once; what follows depends on the input.
#[derive(Debug)]
struct Noted(mpsc::Sender<Instant>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// After half a second, a note of when it was.
    Note,
    Fail,
    Panic,
    Forever,
}

impl Action for Noted {
    type Input = Then;
    type Output = Then;
    type Error = Failed;

    async fn run(&self, then: Then, _: &JobContext) -> Result<Then, Failed> {
        Ok(then)
    }

    fn follow_up(&self, then: &Then, _: &JobContext) -> Option<FollowUp> {
        let notes = self.0.clone();
        match then {
            Then::Nothing => None,
            Then::Note => Some(FollowUp::new(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                notes.send(Instant::now()).await
            })),
            Then::Fail => Some(FollowUp::new(async { Err("no paper") })),
            Then::Panic => Some(FollowUp::new(async { panics() })),
            Then::Forever => Some(FollowUp::new(std::future::pending::<Result<(), String>>())),
        }
    }
}

fn panics() -> Result<(), String> {
    panic!("asked to panic")
}

async fn start(pool: PoolSpec) -> (Node, Line<Noted>, mpsc::Receiver<Instant>) {
    let (sender, notes) = mpsc::channel(100);
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(pool);
    let line = plant.line(LineSpec::new("work", Noted(sender)));
    let plant = plant.build().expect("the plant is sound");
    let node = node.child(plant).start().await.expect("the node starts");
    (node, line, notes)
}

#[tokio::test(start_paused = true)]
async fn the_caller_has_its_answer_before_what_follows_is_done() {
    let (node, line, mut notes) = start(PoolSpec::new("work").workers(2, 2)).await;
    workers(node.system(), "work", 2).await;
    let begun = Instant::now();
    assert_eq!(line.submit(Signal::new(Then::Note), &()).await.unwrap(), Then::Note);
    assert!(begun.elapsed() < Duration::from_millis(10), "{:?}", begun.elapsed());
    assert!(notes.try_recv().is_err());
    let at = notes.recv().await.unwrap();
    assert!(Duration::from_millis(500) <= at - begun);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_follows_is_bounded_by_the_workers_and_slows_the_line() {
    let (node, line, mut notes) = start(PoolSpec::new("work").workers(1, 1)).await;
    workers(node.system(), "work", 1).await;
    let begun = Instant::now();
    for _ in 0..4 {
        line.submit(Signal::new(Then::Note), &()).await.unwrap();
    }
    // The fourth is answered when three have been followed up.
    assert!(Duration::from_millis(1_500) <= begun.elapsed(), "{:?}", begun.elapsed());
    for _ in 0..4 {
        notes.recv().await.unwrap();
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_runs_out_of_time_or_takes_its_worker_along_is_told() {
    let (node, line, _notes) = start(PoolSpec::new("work").workers(4, 4)).await;
    workers(node.system(), "work", 4).await;
    let mut after = Seq(0);
    for (then, why) in [
        (Then::Fail, "no paper"),
        (Then::Forever, "it took longer than 1s"),
        (Then::Panic, "its worker ended"),
    ] {
        assert_eq!(line.submit(Signal::new(then), &()).await.unwrap(), then, "the caller has a success");
        let told = receipt(node.system(), after, |receipt| receipt.event.kind() == "follow_ups_failed").await;
        let Event::FollowUpsFailed { failed: 1, why: last, .. } = &told.event else { panic!("{told:?}") };
        assert_eq!(&**last, why);
        after = told.seq;
    }
    let yellow = board(node.system(), |board| {
        board
            .stations
            .iter()
            .any(|station| station.name.as_str() == "line:work" && station.light == Light::Yellow)
    })
    .await;
    assert_eq!(yellow.lines[0].failed, 0, "no signal failed");
    assert_eq!(line.submit(Signal::new(Then::Nothing), &()).await.unwrap(), Then::Nothing);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_trial_is_what_follows_its_first_action() {
    let (sender, mut notes) = mpsc::channel(100);
    let trial = Trial::new("test", AbRules::default(), Noted(sender.clone()), Noted(sender), |_| 0).unwrap();
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work"));
    let line = plant.line(LineSpec::new("work", trial));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    line.submit(Signal::new(Then::Note), &()).await.unwrap();
    let what_follows = tokio::time::timeout(Duration::from_secs(10), notes.recv()).await;
    assert!(what_follows.expect("it follows").is_some());
    finish(node).await;
}

#[tokio::test]
async fn a_time_that_cannot_be_is_refused() {
    for (within, is_refused) in [(0, true), (1, false), (60_000, false), (60_001, true)] {
        let (sender, _) = mpsc::channel(1);
        let node = Node::builder("test");
        let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work"));
        let within = Duration::from_millis(within);
        plant.line::<_, ()>(LineSpec::new("work", Noted(sender)).follow_up_within(within));
        let refused = plant.build().is_err_and(|errors| {
            matches!(&errors.0[..], [PlantError::FollowUp { within: found, .. }] if *found == within)
        });
        assert_eq!(refused, is_refused, "{within:?}");
    }
}
