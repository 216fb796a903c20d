//! Rows S24–S42: the functions on children.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::receipt::{Event, Receipt};
use gemba_core::supervision::{Backoff, ChildStatus};
use gemba_kernel::{
    ChildError, ChildSpec, Context, DynamicSupervisor, Node, Server, Stop, Supervisor, TaskContext, server,
    task,
};
use tokio::time::Instant;

use super::stage::{Asked, End, Start, Trace, dynamic_stage, exits, receipt_where, stage};

const MINUTE: Duration = Duration::from_secs(60);

fn top() -> Supervisor {
    Supervisor::one_for_one("top")
}

fn dynamic() -> DynamicSupervisor {
    Supervisor::dynamic("top")
}

fn not_found<T>(name: &str) -> Result<T, ChildError> {
    Err(ChildError::NotFound { name: name.into() })
}

/// The cheapest child there is.
fn idle(name: &str) -> ChildSpec {
    let idle = |ctx: TaskContext| async move {
        ctx.stopped().await;
        Ok(())
    };
    task(name, idle).temporary().into()
}

#[tokio::test(start_paused = true)]
async fn s24_start_child_of_a_running_child_names_it() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a"])).await;
    let incarnation = stage.lives().await[0].unwrap();
    let name = "a".parse().unwrap();
    let again = stage.top.start_child(trace.spec("a")).await;
    assert_eq!(again, Err(ChildError::AlreadyStarted { name, incarnation }));
    assert_eq!((stage.top.counts().await, trace.take().as_str()), ([1, 1, 0, 1], "+a"));
}

#[tokio::test(start_paused = true)]
async fn s25_start_child_of_a_child_that_is_down_is_refused() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a"])).await;
    stage.top.terminate_child("a").await.unwrap();
    let again = stage.top.start_child(trace.spec("a")).await;
    assert_eq!(again, Err(ChildError::AlreadyPresent { name: "a".parse().unwrap() }));
    assert_eq!((stage.list().await.as_str(), trace.take().as_str()), ("a=Down", "+a -a"));
}

#[tokio::test(start_paused = true)]
async fn s26_terminate_child_stops_it_keeps_its_place_and_may_be_repeated() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a"])).await;
    stage.top.terminate_child("a").await.unwrap();
    assert_eq!(trace.take(), "+a -a");
    assert_eq!(stage.exits("a"), [ExitReason::Shutdown]);
    assert_eq!((stage.list().await.as_str(), stage.top.counts().await), ("a=Down", [1, 0, 0, 1]));
    stage.top.terminate_child("a").await.unwrap();
    assert_eq!(stage.top.counts().await, [1, 0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn s27_an_unknown_child_is_not_found() {
    let stage = stage(Trace::default().fill(top(), &["a"])).await;
    for name in ["b", "", "no/name"] {
        assert_eq!(stage.top.terminate_child(name).await, not_found(name));
        assert_eq!(stage.top.delete_child(name).await, not_found(name));
        assert_eq!(stage.top.restart_child(name).await, not_found(name));
    }
}

#[tokio::test(start_paused = true)]
async fn s28_a_running_child_is_neither_deleted_nor_restarted() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a"])).await;
    let running = ChildError::Running { name: "a".parse().unwrap() };
    assert_eq!(stage.top.delete_child("a").await, Err(running.clone()));
    assert_eq!(stage.top.restart_child("a").await, Err(running));
    assert_eq!((stage.list().await.as_str(), trace.take().as_str()), ("a=Running", "+a"));
}

#[tokio::test(start_paused = true)]
async fn s29_delete_child_gives_up_the_place_of_a_child_that_is_down() {
    let trace = Trace::default();
    let stage = stage(trace.fill(top(), &["a"])).await;
    stage.top.terminate_child("a").await.unwrap();
    stage.top.delete_child("a").await.unwrap();
    assert_eq!(stage.top.counts().await, [0, 0, 0, 0]);
    assert!(stage.node.system().tree().root.find(&"/top/a".parse().unwrap()).is_none());
    assert_eq!(stage.top.restart_child("a").await, not_found("a"));
    assert!(stage.top.start_child(trace.spec("a")).await.unwrap().is_some());
    assert_eq!(stage.list().await, "a=Running");
}

#[tokio::test(start_paused = true)]
async fn s30_a_restart_by_hand_that_fails_leaves_the_child_down() {
    let trace = Trace::default();
    let a = trace.kid("a");
    a.starts([Start::Runs, Start::Fails]);
    let stage = stage(top().intensity(0, MINUTE).child(a.spec())).await;
    stage.top.terminate_child("a").await.unwrap();
    let failed = stage.top.restart_child("a").await;
    assert!(matches!(failed, Err(ChildError::Failed { .. })), "{failed:?}");
    assert_eq!((stage.list().await.as_str(), trace.take().as_str()), ("a=Down", "+a -a !a"));
    assert!(stage.top.restart_child("a").await.unwrap().is_some());
    assert_eq!(stage.list().await, "a=Running");
}

#[tokio::test(start_paused = true)]
async fn s31_what_is_done_by_hand_does_not_count_against_the_intensity() {
    let stage = stage(Trace::default().fill(top(), &["a"]).intensity(0, MINUTE)).await;
    for _ in 0..3 {
        stage.top.terminate_child("a").await.unwrap();
        stage.top.restart_child("a").await.unwrap();
    }
    assert_eq!(stage.top.counts().await, [1, 1, 0, 1]);
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s32_a_request_to_a_supervisor_that_is_gone_fails_at_once() {
    let trace = Trace::default();
    let early = top().handle();
    let stage = stage(top().intensity(0, MINUTE).child(trace.spec("a"))).await;
    stage.end("a", End::Error);
    stage.ended().await;
    let begun = Instant::now();
    for gone in [early, stage.top] {
        let no = ChildError::NotRunning;
        assert_eq!(gone.start_child(trace.spec("b")).await, Err(no.clone()));
        assert_eq!(gone.terminate_child("a").await, Err(no.clone()));
        assert_eq!(gone.restart_child("a").await, Err(no.clone()));
        assert_eq!(gone.delete_child("a").await, Err(no.clone()));
        assert_eq!(gone.child_settings("a").await, Err(no.clone()));
        assert_eq!(gone.which_children().await, Err(no.clone()));
        assert_eq!(gone.count_children().await, Err(no));
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn s35_a_dynamic_supervisor_stops_and_forgets_its_own_children_only() {
    let trace = Trace::default();
    let other = Supervisor::dynamic("other");
    let (top, other_handle) = (dynamic(), other.handle());
    let handle = top.handle();
    let node = Node::builder("row").child(top).child(other).start().await.unwrap();
    handle.start_child(trace.spec("a")).await.unwrap();
    other_handle.start_child(trace.spec("stranger")).await.unwrap();
    handle.terminate_child("a").await.unwrap();
    assert_eq!(handle.counts().await, [0, 0, 0, 0]);
    assert_eq!(exits(node.system(), "/top/a"), [ExitReason::Shutdown]);
    assert_eq!(handle.terminate_child("a").await, not_found("a"));
    assert_eq!(handle.terminate_child("stranger").await, not_found("stranger"));
    assert_eq!(other_handle.which().await[0].status, ChildStatus::Running);
    assert_eq!(trace.take(), "+a +stranger -a");
}

#[tokio::test(start_paused = true)]
async fn s36_the_name_of_a_temporary_child_is_free_however_it_ended() {
    let trace = Trace::default();
    let fixed = stage(top()).await;
    let grown = dynamic_stage(dynamic()).await;
    for end in End::ALL {
        fixed.top.start_child(trace.spec("a").temporary()).await.unwrap();
        grown.top.start_child(trace.spec("a").temporary()).await.unwrap();
        fixed.end_and_wait("a", end).await;
        grown.end_and_wait("a", end).await;
        assert_eq!((fixed.top.counts().await, grown.top.counts().await), ([0; 4], [0; 4]), "{end:?}");
    }
    for _ in 0..2 {
        fixed.top.start_child(trace.spec("a").temporary()).await.unwrap();
        fixed.top.terminate_child("a").await.unwrap();
        assert_eq!(fixed.top.counts().await, [0; 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn s37_what_a_temporary_child_was_made_of_is_not_kept() {
    struct Holder;
    impl Server for Holder {
        type Msg = ();
        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Ok(())
        }
    }
    let argument = Arc::new([0_u8; 4096]);
    let holder = |argument: &Arc<[u8; 4096]>| {
        let argument = argument.clone();
        server("holder", move || {
            let _ = &argument;
            Holder
        })
    };
    let (fixed, grown) = (stage(top()).await, dynamic_stage(dynamic()).await);
    fixed.top.start_child(holder(&argument).temporary()).await.unwrap();
    grown.top.start_child(holder(&argument).temporary()).await.unwrap();
    assert_eq!(Arc::strong_count(&argument), 1);
    fixed.top.terminate_child("holder").await.unwrap();
    fixed.top.start_child(holder(&argument).transient()).await.unwrap();
    assert_eq!(Arc::strong_count(&argument), 2, "it may be started again");
    fixed.top.terminate_child("holder").await.unwrap();
    fixed.top.delete_child("holder").await.unwrap();
    assert_eq!(Arc::strong_count(&argument), 1);
}

#[tokio::test(start_paused = true)]
async fn s38_a_dynamic_supervisor_counts_thousands_of_children() {
    for (n, supervisors) in [(1000, false), (2000, false), (1000, true), (2000, true)] {
        let stage = dynamic_stage(dynamic()).await;
        for i in 0..n {
            let child = if supervisors {
                Supervisor::one_for_one(&format!("{i}")).temporary().into()
            } else {
                idle(&format!("{i}"))
            };
            stage.top.start_child(child).await.unwrap();
        }
        let expected = if supervisors { [n, n, n, 0] } else { [n, n, 0, n] };
        assert_eq!(stage.top.counts().await, expected);
        let names = stage.top.which().await.into_iter().map(|info| info.name);
        assert!(names.eq((0..n).map(|i| format!("{i}").parse().unwrap())), "in the order of their starts");
        let system = stage.node.system().clone();
        for i in 0..n {
            system.kill(&format!("/top/{i}").parse().unwrap(), "the row").unwrap();
        }
        let last = |receipt: &Receipt| {
            matches!(receipt.event, Event::ChildExited { reason: ExitReason::Killed, .. })
        };
        receipt_where(&system, "an exit", n - 1, last).await;
        assert_eq!(stage.top.counts().await, [0, 0, 0, 0]);
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s39_a_child_that_waits_for_its_restart_is_present_and_not_active() {
    let trace = Trace::default();
    let kids = ["a", "b", "c"].map(|name| trace.kid(name));
    let backoff = Backoff::exponential(MINUTE, MINUTE);
    let stage = dynamic_stage(dynamic().intensity(9, MINUTE).backoff(backoff)).await;
    for kid in &kids {
        stage.top.start_child(kid.spec()).await.unwrap();
        kid.always(Start::Fails);
    }
    stage.end_and_wait("a", End::Error).await;
    stage.end_and_wait("c", End::Error).await;
    assert_eq!(stage.list().await, "a=Restarting b=Running c=Restarting");
    assert_eq!(stage.top.counts().await, [3, 1, 0, 3]);
    stage.top.terminate_child("a").await.unwrap();
    assert_eq!(
        (stage.list().await.as_str(), stage.top.counts().await),
        ("b=Running c=Restarting", [2, 1, 0, 2])
    );
    stage.stops_cleanly().await;
    assert_eq!(trace.take(), "+a +b +c -a !a -c !c -b");
}

#[tokio::test(start_paused = true)]
async fn s40_children_are_listed_in_the_order_of_their_starts() {
    let trace = Trace::default();
    let inner = trace.fill(Supervisor::one_for_all("inner"), &["x"]);
    let stage = stage(trace.fill(top(), &["c", "a"]).child(inner)).await;
    stage.top.start_child(trace.spec("b")).await.unwrap();
    let order = "c=Running a=Running inner=Running b=Running";
    assert_eq!(stage.list().await, order);
    stage.end("a", End::Error);
    stage.restarted("a", 0).await;
    assert_eq!(stage.list().await, order);
    assert_eq!(stage.top.counts().await, [4, 4, 1, 3]);
}

#[tokio::test(start_paused = true)]
async fn s41_a_static_supervisor_starts_and_stops_children_by_name_at_any_size() {
    // A build that is not optimised takes its time.
    let many = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    for n in [1000, many] {
        let stage = stage(top()).await;
        for i in 0..n {
            stage.top.start_child(idle(&format!("{i}"))).await.unwrap();
        }
        assert_eq!(stage.top.counts().await, [n, n, 0, n]);
        let names = stage.top.which().await.into_iter().map(|info| info.name);
        assert!(names.eq((0..n).map(|i| format!("{i}").parse().unwrap())), "in the order of their starts");
        for i in 0..n {
            stage.top.terminate_child(&format!("{i}")).await.unwrap();
        }
        assert_eq!(stage.top.counts().await, [0, 0, 0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn s42_a_dynamic_supervisor_stops_thousands_of_children_by_name() {
    for n in [1000, 10_000] {
        let stage = dynamic_stage(dynamic()).await;
        for i in 0..n {
            stage.top.start_child(idle(&format!("{i}"))).await.unwrap();
        }
        assert_eq!(stage.top.counts().await, [n, n, 0, n]);
        for i in (0..n).rev() {
            stage.top.terminate_child(&format!("{i}")).await.unwrap();
        }
        assert_eq!(stage.top.counts().await, [0, 0, 0, 0]);
        stage.stops_cleanly().await;
    }
}
