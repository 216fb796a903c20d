//! The tree of the plant: its shape, its restarts, its end.

use std::time::Duration;

use gemba::receipt::{Event, Seq};
use gemba::supervision::Strategy;
use gemba::view::ActorState;
use gemba::wait::WaitRules;
use gemba::{JobContext, Line, LineSpec, Node, Plant, PoolSpec, RefusalReason, Signal, SubmitError};
use gemba_kit::{actor, finish, receipt, story, workers};

/// Answers at once, sleeps, or panics, as its input says.
#[derive(Debug)]
pub(crate) struct Work;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    Answer(u32),
    Sleep(Duration),
    Panic,
    Fail,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("asked to fail")]
pub(crate) struct Failed;

impl gemba::Action for Work {
    type Input = Input;
    type Output = u32;
    type Error = Failed;

    async fn run(&self, input: Input, _: &JobContext) -> Result<u32, Failed> {
        match input {
            Input::Answer(n) => Ok(n),
            Input::Sleep(time) => {
                tokio::time::sleep(time).await;
                Ok(0)
            }
            Input::Panic => panic!("asked to panic"),
            Input::Fail => Err(Failed),
        }
    }
}

/// A pool in which signals may wait for all of their deadline.
pub(crate) fn patient(workers_min: u32, workers_max: u32) -> PoolSpec {
    let rules = WaitRules::builder().shares(1.0, 1.0).deviations(0.0);
    PoolSpec::new("work")
        .workers(workers_min, workers_max)
        .intensity(1000, Duration::from_secs(60))
        .wait(rules)
}

/// Lets the pool learn that work is short: before it knows, it lets one signal per worker wait.
pub(crate) async fn teach(line: &Line<Work>) {
    line.submit(Signal::new(Input::Sleep(Duration::from_millis(1))), &())
        .await
        .expect("an idle worker does it");
}

/// A node with one line and one pool of `workers_min` to 10 workers.
pub(crate) async fn start(workers_min: u32) -> (Node, Line<Work>) {
    start_with(
        |spec| spec,
        PoolSpec::new("work").workers(workers_min, 10).intensity(1000, Duration::from_secs(60)),
    )
    .await
}

pub(crate) async fn start_with(
    shape: impl FnOnce(LineSpec<Work>) -> LineSpec<Work>,
    pool: PoolSpec,
) -> (Node, Line<Work>) {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(pool);
    let line = plant.line(shape(LineSpec::new("work", Work)));
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    (node, line)
}

#[tokio::test(start_paused = true)]
async fn the_tree_is_the_one_that_was_drawn() {
    let (node, _) = start(2).await;
    workers(node.system(), "work", 2).await;
    let tree = node.system().tree();
    let shape: Vec<_> = tree
        .root
        .iter()
        .map(|actor| match actor.strategy {
            Some(strategy) => format!("{} {strategy}", actor.path),
            None => actor.path.to_string(),
        })
        .collect();
    assert_eq!(
        shape,
        [
            "/ one_for_one",
            "/journal",
            "/plant one_for_all",
            "/plant/board",
            "/plant/regulator",
            "/plant/pools one_for_one",
            "/plant/pools/work rest_for_one",
            "/plant/pools/work/workers dynamic",
            "/plant/pools/work/workers/1",
            "/plant/pools/work/workers/2",
            "/plant/pools/work/dispatcher",
            "/plant/balancer",
            "/plant/burst",
            "/plant/kaizen",
            "/plant/health",
        ]
    );
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn killing_any_governor_restarts_the_whole_plant_in_order() {
    for victim in ["board", "regulator", "balancer", "burst", "kaizen", "health"] {
        let (node, line) = start(2).await;
        workers(node.system(), "work", 2).await;
        let kill = node.system().kill(&format!("/plant/{victim}").parse().unwrap(), "test").unwrap();
        // At once, without waiting for the restart: the caller does not notice it.
        let answer = line.submit(Signal::new(Input::Answer(7)), &()).await;
        assert_eq!(answer.unwrap(), 7, "while {victim} is down");
        receipt(node.system(), kill, |receipt| {
            receipt.path.as_str() == "/plant/health" && receipt.event.kind() == "child_restarted"
        })
        .await;
        let restarted: Vec<_> = story(node.system())
            .iter()
            .filter(|receipt| kill < receipt.seq && receipt.event.kind() == "child_restarted")
            .filter(|receipt| receipt.path.parent().unwrap().as_str() == "/plant")
            .map(|receipt| receipt.path.name().to_owned())
            .collect();
        assert_eq!(
            restarted,
            ["board", "regulator", "pools", "balancer", "burst", "kaizen", "health"],
            "after {victim}"
        );
        let exited: Vec<_> = story(node.system())
            .iter()
            .filter(|receipt| kill < receipt.seq && receipt.event.kind() == "child_exited")
            .filter(|receipt| receipt.path.parent().unwrap().as_str() == "/plant")
            .map(|receipt| receipt.path.name().to_owned())
            .collect();
        let mut expected = vec![victim.to_owned()];
        expected.extend(
            ["health", "kaizen", "burst", "balancer", "pools", "regulator", "board"]
                .iter()
                .filter(|name| **name != victim)
                .map(ToString::to_string),
        );
        assert_eq!(exited, expected, "stopped in reverse");
        finish(node).await;
    }
}

#[tokio::test(start_paused = true)]
async fn killing_the_dispatcher_keeps_the_workers_and_their_jobs() {
    let (node, line) = start(2).await;
    workers(node.system(), "work", 2).await;
    let before = actor(node.system(), "/plant/pools/work/workers/1").incarnation;
    let job = tokio::spawn({
        let line = line.clone();
        async move { line.submit(Signal::new(Input::Sleep(Duration::from_secs(1))), &()).await }
    });
    tokio::task::yield_now().await;
    node.system().kill(&"/plant/pools/work/dispatcher".parse().unwrap(), "test").unwrap();
    for n in 0..5 {
        assert_eq!(line.submit(Signal::new(Input::Answer(n)), &()).await.unwrap(), n);
    }
    assert_eq!(job.await.unwrap().unwrap(), 0, "a job in hand is not disturbed");
    assert_eq!(actor(node.system(), "/plant/pools/work/workers/1").incarnation, before);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn queued_jobs_survive_the_death_of_the_dispatcher() {
    let (node, line) = start_with(|spec| spec, patient(1, 1)).await;
    teach(&line).await;
    let submit = |input| {
        let line = line.clone();
        tokio::spawn(async move { line.submit(Signal::new(input), &()).await })
    };
    let running = submit(Input::Sleep(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let queued: Vec<_> = (0..10).map(|n| submit(Input::Answer(n))).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    node.system().kill(&"/plant/pools/work/dispatcher".parse().unwrap(), "test").unwrap();
    for (n, job) in queued.into_iter().enumerate() {
        assert_eq!(job.await.unwrap().unwrap(), n as u32);
    }
    running.await.unwrap().unwrap();
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_workers_crash_too_often_is_started_anew_and_recovers() {
    let pool = PoolSpec::new("work").workers(2, 2).intensity(2, Duration::from_secs(60));
    let (node, line) = start_with(|spec| spec, pool).await;
    workers(node.system(), "work", 2).await;
    for _ in 0..3 {
        let died = line.submit(Signal::new(Input::Panic), &()).await;
        assert!(matches!(died, Err(SubmitError::WorkerDied)), "{died:?}");
    }
    let gave_up =
        receipt(node.system(), Seq(0), |receipt| matches!(receipt.event, Event::SupervisorGaveUp { .. }))
            .await;
    assert_eq!(gave_up.path.as_str(), "/plant/pools/work/workers");
    assert_eq!(line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap(), 1);
    assert_eq!(
        actor(node.system(), "/plant/pools/work/dispatcher").restarts,
        1,
        "rest_for_one takes it along"
    );
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_answers_everything_that_is_in_flight() {
    let (node, line) = start_with(|spec| spec, PoolSpec::new("work").workers(1, 1)).await;
    let submit = |input| {
        let line = line.clone();
        tokio::spawn(async move { line.submit(Signal::new(input), &()).await })
    };
    let running = submit(Input::Sleep(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let queued = submit(Input::Answer(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let system = node.system().clone();
    node.stop("test").await.unwrap();
    assert_eq!(running.await.unwrap().unwrap(), 0, "a worker finishes what it has");
    let refused = queued.await.unwrap();
    assert!(matches!(&refused, Err(SubmitError::Refused(_))), "{refused:?}");
    assert!(line.submit(Signal::new(Input::Answer(2)), &()).await.is_err());
    assert_eq!(actor(&system, "/").state, ActorState::Down);
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_the_pools_stop_is_told_that_the_node_goes_down() {
    let (node, line) = start_with(|spec| spec, PoolSpec::new("work").workers(1, 1)).await;
    let running = {
        let line = line.clone();
        let input = Input::Sleep(Duration::from_secs(1));
        tokio::spawn(async move { line.submit(Signal::new(input), &()).await })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    let stopping = tokio::spawn(async move { node.stop("test").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = line.submit(Signal::new(Input::Answer(1)), &()).await;
    let Err(SubmitError::Refused(refused)) = late else { panic!("{late:?}") };
    assert_eq!(refused.reason, RefusalReason::Draining);
    assert_eq!(running.await.unwrap().unwrap(), 0, "a worker finishes what it has");
    stopping.await.unwrap().unwrap();
}

#[test]
fn a_wrong_pool_or_line_is_one_fault_and_makes_no_others() {
    for (workers, deadline_s) in [((5, 2), 1), ((2, 5), 0), ((2, 5), 86_401)] {
        let node = Node::builder("test");
        let (min, max) = workers;
        let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(min, max));
        plant.line(LineSpec::<Work>::new("work", Work).deadline(Duration::from_secs(deadline_s)));
        let errors = plant.build().unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
    }
}

#[test]
fn every_fault_of_a_plant_is_told_at_once() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .pool(PoolSpec::new("a").workers(5, 2).wait(WaitRules::builder().shares(0.0, 0.0)))
        .pool(PoolSpec::new("b"))
        .pool(PoolSpec::new("b"));
    plant.line(LineSpec::<Work>::new("two words", Work).pool("c"));
    let errors = plant.build().unwrap_err();
    assert_eq!(errors.0.len(), 5, "{errors}");
}

#[test]
fn handles_can_be_sent_shared_and_cloned() {
    fn is_a_handle<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    is_a_handle::<gemba::System>();
    is_a_handle::<gemba::Address<Input>>();
    is_a_handle::<gemba::Pinned<Input>>();
    is_a_handle::<gemba::DynamicRef>();
    is_a_handle::<gemba::RegulatorHandle>();
    is_a_handle::<gemba::PoolHandle>();
    is_a_handle::<Line<Work>>();
    is_a_handle::<gemba::Client>();
    is_a_handle::<gemba::Token>();
}

#[test]
fn strategies_have_the_names_of_otp() {
    assert_eq!(Strategy::OneForAll.to_string(), "one_for_all");
}
