//! Tasks: one-off supervised work with a result, as Elixir's `Task.Supervisor.async_nolink` has it.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::view::ActorState;
use gemba_kernel::{ChildError, DynamicRef, Node, Supervisor, task};
use tokio::sync::oneshot;

async fn node() -> (Node, DynamicRef) {
    let jobs = Supervisor::dynamic("jobs");
    let handle = jobs.handle();
    (Node::builder("test").child(jobs).start().await.expect("the tree is sound"), handle)
}

#[tokio::test(start_paused = true)]
async fn work_gives_its_value_and_leaves_nothing_behind() {
    let (node, jobs) = node().await;
    let handle = jobs.run(async { 42 }).await.unwrap();
    let path = handle.path().clone();
    assert_eq!(handle.await, Ok(42));
    node.system().monitor(&path).await;
    assert_eq!(jobs.count_children().await.unwrap().specs, 0);
    assert!(node.system().tree().root.find(&path).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_panic_arrives_with_message_and_place_and_nobody_else_is_hurt() {
    let (node, jobs) = node().await;
    let healthy = jobs.run(std::future::pending::<()>()).await.unwrap();
    let line = line!() + 1;
    let handle = jobs.run(async { panic!("lost {}", 7) }).await.unwrap();
    let Err(reason) = handle.await;
    let ExitReason::Panic { message, location } = reason else { panic!("{reason:?}") };
    assert_eq!(&*message, "lost 7");
    assert!(location.unwrap().ends_with(&format!("tasks.rs:{line}")));
    assert_eq!(node.system().whereis(healthy.path()), Some(healthy.incarnation()));
}

struct Sour;

impl Drop for Sour {
    fn drop(&mut self) {
        panic!("sour");
    }
}

#[tokio::test(start_paused = true)]
async fn work_whose_end_panics_hurts_nobody_else() {
    let (node, jobs) = node().await;
    let supervisor = node.system().whereis(&"/jobs".parse().unwrap());
    let sour = Sour;
    let killed = jobs
        .run(async move {
            let _sour = sour;
            std::future::pending::<()>().await;
        })
        .await
        .unwrap();
    node.system().kill(killed.path(), "test").unwrap();
    assert_eq!(killed.await, Err(ExitReason::Killed));
    let sour = Sour;
    let _holder = jobs.run_named("name", std::future::pending::<()>()).await.unwrap();
    jobs.run_named("name", async move { drop(sour) }).await.unwrap_err();
    assert_eq!(node.system().whereis(&"/jobs".parse().unwrap()), supervisor);
}

#[tokio::test(start_paused = true)]
async fn work_that_is_killed_or_stopped_says_so() {
    let (node, jobs) = node().await;
    let killed = jobs.run(std::future::pending::<()>()).await.unwrap();
    node.system().kill(killed.path(), "test").unwrap();
    assert_eq!(killed.await, Err(ExitReason::Killed));
    let stopped = jobs.run_named("stopped", std::future::pending::<()>()).await.unwrap();
    jobs.terminate_child("stopped").await.unwrap();
    assert_eq!(stopped.await, Err(ExitReason::Shutdown));
    let (dropped, gone) = oneshot::channel::<()>();
    let left = jobs
        .run(async move {
            let _dropped = dropped;
            std::future::pending::<()>().await;
        })
        .await
        .unwrap();
    node.stop("test").await.unwrap();
    assert_eq!(left.await, Err(ExitReason::Shutdown));
    assert!(gone.await.is_err(), "what the work held is released");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_the_work_and_keeps_a_value_that_was_there() {
    let (_node, jobs) = node().await;
    let endless = jobs.run(std::future::pending::<u8>()).await.unwrap();
    assert_eq!(endless.shutdown().await, Err(ExitReason::Shutdown));
    let done = jobs.run(async { 7 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(done.shutdown().await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn shutdown_of_work_that_is_over_leaves_a_later_one_of_its_name_alone() {
    let (node, jobs) = node().await;
    let earlier = jobs.run_named("name", async { 1 }).await.unwrap();
    node.system().monitor_life(earlier.path(), earlier.incarnation()).await;
    let mut later = jobs.run_named("name", std::future::pending::<u8>()).await.unwrap();
    assert_eq!(earlier.shutdown().await, Ok(1));
    assert_eq!(node.system().whereis(later.path()), Some(later.incarnation()));
    assert_eq!(later.await_within(Duration::from_secs(1)).await, None, "it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_result_is_given_once() {
    let (_node, jobs) = node().await;
    let mut work = jobs.run(async { 7 }).await.unwrap();
    assert_eq!(work.await_within(Duration::from_secs(1)).await, Some(Ok(7)));
    assert_eq!(work.await_within(Duration::from_secs(1)).await, None);
    assert_eq!(work.shutdown().await, Err(ExitReason::NoProc));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_blocks_its_thread_and_has_lost_its_supervisor_is_told_as_unkillable() {
    let (node, jobs) = node().await;
    let (started, begun) = oneshot::channel();
    let (let_go, until) = std::sync::mpsc::channel::<()>();
    let work = jobs
        .run(async move {
            let _ = started.send(());
            // No await: nobody can end it until the test lets it go.
            let _ = until.recv();
        })
        .await
        .unwrap();
    begun.await.unwrap();
    node.system().kill(&"/jobs".parse().unwrap(), "test").unwrap();
    while jobs.count_children().await.is_ok() {
        tokio::task::yield_now().await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(60), work.shutdown()).await;
    let reason = ended.expect("it says so").unwrap_err();
    assert!(reason.to_string().contains("cannot be killed"), "{reason}");
    drop(let_go);
}

#[tokio::test(start_paused = true)]
async fn work_goes_on_while_nobody_waits_or_holds_its_handle() {
    let (_node, jobs) = node().await;
    let (open, gate) = oneshot::channel();
    let mut handle = jobs.run(gate).await.unwrap();
    assert_eq!(handle.await_within(Duration::from_secs(1)).await, None);
    assert_eq!(handle.await_within(Duration::from_secs(1)).await, None);
    open.send("late").unwrap();
    assert_eq!(handle.await_within(Duration::from_secs(1)).await, Some(Ok(Ok("late"))));
    let (open, gate) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    let work = async move { tell.send(gate.await) };
    drop(jobs.run(work).await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    open.send(1).unwrap();
    assert_eq!(told.await, Ok(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn work_that_cannot_start_is_refused_and_dropped() {
    let (_node, jobs) = node().await;
    let _holder = jobs.run_named("name", std::future::pending::<()>()).await.unwrap();
    let (held, gone) = oneshot::channel::<()>();
    let refused = jobs.run_named("name", async move { drop(held) }).await;
    assert!(matches!(refused, Err(ChildError::AlreadyStarted { .. })), "{refused:?}");
    assert!(gone.await.is_err());
    assert!(matches!(jobs.run_named("no name", async {}).await, Err(ChildError::Spec(_))));
    let nowhere = Supervisor::dynamic("nowhere").handle();
    assert!(matches!(nowhere.run(async {}).await, Err(ChildError::NotRunning)));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_free_again_when_its_work_is_down() {
    let (node, jobs) = node().await;
    for round in 0..1000 {
        let handle = jobs.run_named("name", async move { round }).await.unwrap();
        let monitor = node.system().monitor_life(handle.path(), handle.incarnation());
        assert_eq!(handle.await, Ok(round));
        monitor.await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_hears_that_it_is_to_stop_wherever_it_waits() {
    let (node, jobs) = node().await;
    let (started, begun) = tokio::sync::mpsc::channel(2);
    let cleanly = task("cleanly", move |ctx| {
        let started = started.clone();
        async move {
            // Two parts of it wait: one that was made before the request, and one that looks after it.
            let elsewhere = tokio::spawn(ctx.stopped());
            started.send(()).await?;
            ctx.stopped().await;
            elsewhere.await?;
            ctx.stopped().await;
            Ok(())
        }
    });
    let mut begun = begun;
    let path = jobs.start_child(cleanly.temporary()).await.unwrap().unwrap().path;
    begun.recv().await.unwrap();
    assert_eq!(node.system().tree().root.find(&path).unwrap().state, ActorState::Running);
    let monitor = node.system().monitor(&path);
    jobs.terminate_child("cleanly").await.unwrap();
    assert_eq!(monitor.await.reason, ExitReason::Shutdown);
}
