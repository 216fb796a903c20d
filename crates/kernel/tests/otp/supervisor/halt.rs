//! Halting a supervisor from outside, and letting it run again.

use std::time::Duration;

use gemba_core::name::ActorPath;
use gemba_core::receipt::Event;
use gemba_core::view::ActorState;
use gemba_kernel::{ChildError, HaltError, Node, Supervisor};

use super::stage::{End, Start, Trace, dynamic_stage, receipt_where, stage, tell};

fn path(text: &str) -> ActorPath {
    text.parse().expect("a path of a row is valid")
}

fn top() -> Supervisor {
    Supervisor::one_for_one("top").intensity(9, Duration::from_secs(60))
}

#[tokio::test(start_paused = true)]
async fn all_below_a_halted_supervisor_stop_in_reverse_and_come_back_in_order() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a", "b", "c"])).await;
    let system = stage.node.system().clone();
    trace.take();
    let halt = system.halt(&path("/top"), "ann", "wrong answers").unwrap();
    stage.exit("a", 0).await;
    assert_eq!((trace.take().as_str(), stage.list().await.as_str()), ("-c -b -a", "a=Down b=Down c=Down"));
    let exit =
        receipt_where(&system, "an exit", 0, |receipt| matches!(receipt.event, Event::ChildExited { .. }))
            .await;
    assert_eq!(exit.cause, Some(halt), "their end has a reason");
    assert_eq!(system.tree().root.find(&path("/top")).unwrap().state, ActorState::Halted);

    assert_eq!(stage.top.restart_child("a").await, Err(ChildError::Halted));
    assert_eq!(stage.top.start_child(trace.spec("d")).await, Err(ChildError::Halted));
    let twice = system.halt(&path("/top"), "ben", "still wrong");
    assert_eq!(twice, Err(HaltError::Halted { path: path("/top"), receipt: halt }));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(trace.take(), "", "nothing starts by itself");

    let resumed = system.resume(&path("/top"), "ann").unwrap();
    stage.restarted("c", 0).await;
    assert_eq!(trace.take(), "+a +b +c");
    let started = receipt_where(&system, "a restart", 0, |receipt| {
        matches!(receipt.event, Event::ChildRestarted { .. })
    })
    .await;
    assert_eq!(started.cause, Some(resumed));
    assert_eq!(system.resume(&path("/top"), "ann"), Err(HaltError::Runs { path: path("/top") }));
    stage.end_and_wait("b", End::ABNORMAL[0]).await;
    stage.restarted("b", 1).await;
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn a_halt_outlives_the_supervisor_and_those_above_it() {
    let trace = Trace::default();
    let halted = trace.fill(Supervisor::one_for_one("halted"), &["a", "b"]);
    let plant = Supervisor::one_for_all("plant").child(halted).child(trace.spec("beside"));
    let node = Node::builder("test").child(plant).start().await.unwrap();
    let system = node.system();
    system.halt(&path("/plant/halted"), "ann", "test").unwrap();
    trace.wait_for("-a").await;
    trace.take();

    let kill = system.kill(&path("/plant/halted"), "ann").unwrap();
    let restart = |of: ActorPath, after| {
        receipt_where(system, "a restart", 0, move |receipt| {
            receipt.seq > after && receipt.path == of && matches!(receipt.event, Event::ChildRestarted { .. })
        })
    };
    // The group starts the halted one, without its children, and then the one beside it.
    restart(path("/plant/beside"), kill).await;
    let kill = system.kill(&path("/plant"), "ann").unwrap();
    restart(path("/plant/beside"), kill).await;
    tell(system, "/plant/beside", End::ABNORMAL[0]);
    restart(path("/plant/beside"), kill).await;
    assert!(!trace.take().contains("+a"), "nothing brings them back");
    let tree = system.tree();
    assert_eq!(tree.root.find(&path("/plant/halted")).unwrap().state, ActorState::Halted);

    system.resume(&path("/plant/halted"), "ann").unwrap();
    trace.wait_for("+b").await;
    assert_eq!(system.tree().root.find(&path("/plant/halted")).unwrap().state, ActorState::Running);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_to_come_back_at_first_keeps_the_others_from_nothing() {
    let trace = Trace::default();
    let a = trace.kid("a");
    a.starts([Start::Runs, Start::Fails]);
    let stage = stage(top().child(a.spec()).child(trace.spec("b"))).await;
    let system = stage.node.system();
    system.halt(&path("/top"), "ann", "test").unwrap();
    stage.exit("a", 0).await;
    trace.take();
    system.resume(&path("/top"), "ann").unwrap();
    trace.wait_for("+b").await;
    stage.restarted("a", 0).await;
    stage.restarted("b", 0).await;
    assert_eq!(stage.list().await, "a=Running b=Running");
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn children_of_a_dynamic_supervisor_come_back_but_for_the_temporary_ones() {
    let trace = Trace::default();
    let stage = dynamic_stage(Supervisor::dynamic("top")).await;
    stage.top.start_child(trace.spec("a")).await.unwrap();
    stage.top.start_child(trace.spec("b").temporary()).await.unwrap();
    let system = stage.node.system();
    system.halt(&path("/top"), "ann", "test").unwrap();
    trace.wait_for("-a").await;
    trace.wait_for("-b").await;
    stage.exit("a", 0).await;
    system.resume(&path("/top"), "ann").unwrap();
    stage.restarted("a", 0).await;
    assert_eq!(stage.list().await, "a=Running");
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_halted_says_why() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a"])).await;
    let system = stage.node.system();
    for (at, told) in [
        ("/", "'/' is the root of the node; send the process SIGTERM to stop it"),
        ("/tip", "no actor stands at '/tip'; did you mean '/top'?"),
        ("/top/a", "'/top/a' is a server; only a supervisor can be halted"),
    ] {
        assert_eq!(system.halt(&path(at), "ann", "test").unwrap_err().to_string(), told);
    }
    // One that is asked to stop while it is halted just ends.
    system.halt(&path("/top"), "ann", "test").unwrap();
    stage.exit("a", 0).await;
    stage.stops_cleanly().await;
}
