//! Where we promise more than OTP: lessons L1–L3, L5 and L10.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::receipt::{Event, Receipt, Seq};
use gemba_core::supervision::AutoShutdown;
use gemba_core::view::ActorState;
use gemba_kernel::{
    ChildError, JOURNAL_CAPACITY, REQUEST_LIMIT, Shutdown, Stop, Supervisor, System, TaskContext, TaskSpec,
    task,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::stage::{Asked, End, Start, Stops, Told, Trace, dynamic_stage, exits, receipt_where, stage};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn one_for_one() -> Supervisor {
    Supervisor::one_for_one("top")
}

/// A row in real time, which does not wait for ever.
async fn in_time<T>(row: impl Future<Output = T>) -> T {
    tokio::time::timeout(MINUTE, row).await.expect("a minute is enough")
}

fn stands(system: &System, path: &str) -> bool {
    system.tree().root.find(&path.parse().expect("a row's names are valid")).is_some()
}

/// A child that blocks its thread, until what lets it go is dropped. A later life just runs.
fn blocked(name: &str, trace: &Trace) -> (TaskSpec, watch::Sender<()>) {
    let (release, released) = watch::channel(());
    let (trace, label) = (trace.clone(), name.to_owned());
    let body = move |ctx: TaskContext| {
        let (released, trace, label) = (released.clone(), trace.clone(), label.clone());
        async move {
            trace.write("+", &label);
            // No await: a task cannot be killed here.
            while released.has_changed().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            ctx.stopped().await;
            Ok(())
        }
    };
    (task(name, body).shutdown(Shutdown::Within(Duration::from_millis(20))), release)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_child_that_blocks_its_thread_is_left_behind_and_keeps_its_place() {
    in_time(async {
        let trace = Trace::default();
        let (blocked, release) = blocked("a", &trace);
        let stage = stage(one_for_one().child(trace.spec("b")).child(blocked)).await;
        trace.wait_for("+a").await;
        let name = "a".parse().unwrap();
        assert_eq!(stage.top.terminate_child("a").await, Err(ChildError::Unkillable { name }));
        let hangs = |receipt: &Receipt| matches!(receipt.event, Event::ChildUnkillable { .. });
        assert_eq!(receipt_where(stage.node.system(), "left behind", 0, hangs).await.path.as_str(), "/top/a");
        assert_eq!(
            (stage.list().await.as_str(), stage.top.counts().await),
            ("b=Running a=Unkillable", [2, 2, 0, 2])
        );
        let tree = stage.node.system().tree();
        assert_eq!(tree.root.find(&"/top/a".parse().unwrap()).unwrap().state, ActorState::Unkillable);
        // Its place is not used again, and nobody else is held up.
        let taken = stage.top.start_child(trace.spec("a")).await;
        assert!(matches!(taken, Err(ChildError::AlreadyStarted { .. })), "{taken:?}");
        assert!(matches!(stage.top.restart_child("a").await, Err(ChildError::Running { .. })));
        stage.end("b", End::Error);
        stage.restarted("b", 0).await;
        drop(release);
        assert_eq!(stage.exit("a", 0).await, ExitReason::Shutdown, "it stopped after all");
        assert_eq!(stage.list().await, "b=Running a=Down");
        assert!(stage.top.restart_child("a").await.unwrap().is_some());
        stage.stops_cleanly().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_supervisor_stops_without_a_child_that_blocks_its_thread() {
    in_time(async {
        let trace = Trace::default();
        let (brutal, let_go) = blocked("brutal", &trace);
        let (within, release) = blocked("within", &trace);
        let fixed = stage(one_for_one().child(trace.spec("b")).child(within)).await;
        let grown = dynamic_stage(Supervisor::dynamic("top")).await;
        grown.top.start_child(brutal.shutdown(Shutdown::Brutal)).await.unwrap();
        trace.wait_for("+within").await;
        trace.wait_for("+brutal").await;
        let (fixed, grown) = tokio::join!(fixed.stop(), grown.stop());
        for system in [fixed, grown] {
            let all = system.journal().after(Seq(0), None, usize::MAX).receipts;
            let left = all.iter().filter(|receipt| receipt.event.kind() == "child_unkillable").count();
            assert_eq!((left, exits(&system, "/top")), (1, vec![ExitReason::Shutdown]));
        }
        drop((release, let_go));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_dynamic_child_left_behind_outlives_its_supervisor_and_then_leaves_no_place() {
    in_time(async {
        let trace = Trace::default();
        let (blocked, release) = blocked("a", &trace);
        let grown = Supervisor::dynamic("grown").intensity(0, MINUTE);
        let handle = grown.handle();
        let stage = stage(one_for_one().child(grown)).await;
        handle.start_child(blocked).await.unwrap();
        handle.start_child(trace.spec("b")).await.unwrap();
        trace.wait_for("+a").await;
        stage.end("grown/b", End::Error);
        stage.restarted("grown", 0).await;
        let system = stage.node.system();
        assert_eq!((handle.counts().await, stands(system, "/top/grown/a")), ([0; 4], true));
        drop(release);
        assert_eq!(stage.exit("grown/a", 0).await, ExitReason::Shutdown);
        assert!(!stands(system, "/top/grown/a"));
        stage.stops_cleanly().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_group_restart_goes_on_without_a_child_that_blocks_its_thread() {
    in_time(async {
        let trace = Trace::default();
        let (blocked, release) = blocked("b", &trace);
        let top = Supervisor::one_for_all("top").child(trace.spec("a")).child(blocked).child(trace.spec("c"));
        let stage = stage(top).await;
        trace.wait_for("+b").await;
        stage.end("a", End::Error);
        stage.restarted("c", 0).await;
        assert_eq!(stage.list().await, "a=Running b=Unkillable c=Running");
        drop(release);
        stage.restarted("b", 0).await;
        assert_eq!(stage.list().await, "a=Running b=Running c=Running");
        stage.stops_cleanly().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_killed_supervisor_of_a_child_that_blocks_its_thread_is_left_behind_with_it() {
    in_time(async {
        for released_first in [true, false] {
            let trace = Trace::default();
            let (blocked, release) = blocked("a", &trace);
            let inner = Supervisor::one_for_one("inner").child(blocked);
            let stage = stage(one_for_one().child(inner)).await;
            trace.wait_for("+a").await;
            stage.end("inner", End::Kill);
            receipt_where(stage.node.system(), "left behind", 0, |receipt| {
                receipt.path.as_str() == "/top/inner"
                    && matches!(receipt.event, Event::ChildUnkillable { .. })
            })
            .await;
            assert_eq!(stage.list().await, "inner=Unkillable");
            if released_first {
                drop(release);
                stage.restarted("inner", 0).await;
                assert_eq!(stage.list().await, "inner=Running");
                stage.stops_cleanly().await;
            } else {
                stage.stops_cleanly().await;
                drop(release);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_child_left_behind_and_then_terminated_is_not_brought_back() {
    in_time(async {
        let trace = Trace::default();
        let (blocked, release) = blocked("b", &trace);
        let top = Supervisor::one_for_all("top").child(trace.spec("a")).child(blocked);
        let stage = stage(top).await;
        trace.wait_for("+b").await;
        stage.end("a", End::Error);
        stage.restarted("a", 0).await;
        let name = "b".parse().unwrap();
        assert_eq!(stage.top.terminate_child("b").await, Err(ChildError::Unkillable { name }));
        drop(release);
        stage.exit("b", 0).await;
        assert_eq!(stage.list().await, "a=Running b=Down");
        stage.stops_cleanly().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_a_temporary_child_left_behind_is_not_brought_back_by_a_group_restart() {
    in_time(async {
        let trace = Trace::default();
        let (blocked, release) = blocked("b", &trace);
        let top = Supervisor::one_for_all("top").child(trace.spec("a")).child(blocked.temporary());
        let stage = stage(top).await;
        trace.wait_for("+b").await;
        let name = "b".parse().unwrap();
        assert_eq!(stage.top.terminate_child("b").await, Err(ChildError::Unkillable { name }));
        stage.end("a", End::Error);
        stage.restarted("a", 0).await;
        drop(release);
        stage.exit("b", 0).await;
        assert_eq!(stage.list().await, "a=Running");
        stage.stops_cleanly().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn l2_a_name_is_free_when_the_death_is_told() {
    let trace = Trace::default();
    let stage = dynamic_stage(Supervisor::dynamic("top")).await;
    let path = "/top/a".parse().unwrap();
    for n in 0..200 {
        let spec = trace.spec("a").temporary();
        let address = spec.address();
        let started = stage.top.start_child(spec).await.unwrap().unwrap();
        let found = stage.node.system().address::<Told>(&path).unwrap();
        assert_eq!(found.call(Told::Life).await, Ok(started.incarnation));
        let pinned = address.pin().unwrap();
        stage.end("a", if n % 2 == 0 { End::Kill } else { End::Error });
        stage.exit("a", n).await;
        assert!(pinned.is_over());
    }
}

#[tokio::test(start_paused = true)]
async fn l3_a_child_that_hangs_in_its_start_is_terminated_without_waiting_for_it() {
    for shutdown in [Shutdown::Brutal, Shutdown::Within(SECOND)] {
        let trace = Trace::default();
        let a = trace.kid("a");
        let stage = stage(one_for_one().child(a.spec().shutdown(shutdown))).await;
        a.always(Start::Hangs);
        stage.end("a", End::Error);
        trace.wait_for("…a").await;
        let begun = Instant::now();
        stage.top.terminate_child("a").await.unwrap();
        let limit = if shutdown == Shutdown::Brutal { Duration::ZERO } else { SECOND };
        assert_eq!(begun.elapsed(), limit);
        a.always(Start::Runs);
        assert_eq!((stage.list().await.as_str(), trace.take().as_str()), ("a=Down", "+a -a …a"));
        assert!(stage.top.restart_child("a").await.unwrap().is_some());
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn l3_a_supervisor_stops_while_a_child_hangs_in_its_start() {
    let trace = Trace::default();
    let a = trace.kid("a");
    let stage = stage(one_for_one().child(a.spec()).child(trace.spec("b"))).await;
    a.always(Start::Hangs);
    stage.end("a", End::Error);
    trace.wait_for("…a").await;
    let begun = Instant::now();
    stage.stops_cleanly().await;
    assert_eq!(begun.elapsed(), 5 * SECOND, "as long as the child has to stop");
    assert_eq!(trace.take(), "+a +b -a …a -b");
}

#[tokio::test(start_paused = true)]
async fn l3_a_supervisor_that_starts_is_stopped_with_the_child_it_waits_for() {
    for shutdown in [Shutdown::Infinity, Shutdown::Within(MINUTE)] {
        let trace = Trace::default();
        let (before, slow) = (trace.spec("before"), trace.kid("slow"));
        let inner = Supervisor::one_for_one("inner").shutdown(shutdown).child(before).child(slow.spec());
        let stage = stage(one_for_one().child(inner)).await;
        slow.always(Start::Hangs);
        stage.end("inner", End::Kill);
        trace.wait_for("…slow").await;
        trace.take();
        let begun = Instant::now();
        stage.stops_cleanly().await;
        assert_eq!(begun.elapsed(), 5 * SECOND, "as long as the child has to stop");
        assert_eq!(trace.take(), "-before");
    }
}

#[tokio::test(start_paused = true)]
async fn l3_an_added_child_that_is_stopped_before_it_runs_is_not_kept() {
    for by_hand in [true, false] {
        let trace = Trace::default();
        let slow = trace.kid("slow");
        slow.always(Start::Hangs);
        let stage = stage(Supervisor::one_for_all("top").child(trace.spec("a"))).await;
        let (top, spec) = (stage.top.clone(), slow.spec().shutdown(Shutdown::Within(SECOND)));
        let adding = tokio::spawn(async move { top.start_child(spec).await });
        trace.wait_for("…slow").await;
        if by_hand {
            stage.top.terminate_child("slow").await.unwrap();
        } else {
            stage.end("a", End::Error);
            stage.restarted("a", 0).await;
        }
        let failed = adding.await.unwrap();
        assert!(matches!(failed, Err(ChildError::Failed { .. })), "{failed:?}");
        assert_eq!(stage.list().await, "a=Running");
        tokio::time::sleep(MINUTE).await;
        assert!(!stands(stage.node.system(), "/top/slow"));
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn l3_a_request_has_a_deadline_and_may_still_be_carried_out() {
    let trace = Trace::default();
    let slow = trace.kid("slow").stopping(Stops::After(MINUTE));
    let stage = stage(one_for_one().child(slow.spec().shutdown(Shutdown::Infinity))).await;
    let begun = Instant::now();
    let within = REQUEST_LIMIT;
    assert_eq!(stage.top.terminate_child("slow").await, Err(ChildError::Timeout { within }));
    assert_eq!(begun.elapsed(), within);
    assert_eq!(stage.exit("slow", 0).await, ExitReason::Shutdown);
    assert_eq!(begun.elapsed(), MINUTE);
    assert_eq!(stage.list().await, "slow=Down");
}

#[tokio::test(start_paused = true)]
async fn l5_giving_up_is_told_with_what_led_to_it() {
    let trace = Trace::default();
    let inner = trace.fill(Supervisor::one_for_one("inner"), &["a"]).intensity(0, MINUTE).transient();
    let stage =
        stage(one_for_one().auto_shutdown(AutoShutdown::AnySignificant).child(inner.significant())).await;
    stage.end("inner/a", End::Panic);
    stage.restarted("inner", 0).await;
    let gave_up = receipt_where(stage.node.system(), "giving up", 0, |receipt| {
        matches!(receipt.event, Event::SupervisorGaveUp { .. })
    });
    let gave_up = gave_up.await;
    assert_eq!(gave_up.path.as_str(), "/top/inner");
    let told = gave_up.event.to_string();
    assert!(told.contains("child 'a' exited: panicked at ") && told.contains("told to"), "{told}");
    let all = stage.node.system().journal().after(Seq(0), None, usize::MAX).receipts;
    let cause = all.iter().find(|receipt| Some(receipt.seq) == gave_up.cause).unwrap();
    assert_eq!((cause.path.as_str(), cause.event.kind()), ("/top/inner/a", "child_exited"));
}

#[tokio::test(start_paused = true)]
async fn l10_the_tree_is_read_without_asking_a_busy_supervisor() {
    let trace = Trace::default();
    let a = trace.kid("a");
    let slow = trace.kid("slow").stopping(Stops::After(SECOND));
    let stage = stage(one_for_one().child(a.spec()).child(slow.spec())).await;
    a.always(Start::Hangs);
    stage.end("a", End::Error);
    trace.wait_for("…a").await;
    let top = stage.top.clone();
    let stopping = tokio::spawn(async move { top.terminate_child("slow").await });
    trace.wait_for("~slow").await;
    let tree = stage.node.system().tree();
    let states = ["a", "slow"]
        .map(|name| tree.root.find(&format!("/top/{name}").parse().unwrap()).map(|actor| actor.state));
    assert_eq!(states, [Some(ActorState::Starting), Some(ActorState::Stopping)]);
    stopping.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn l10_a_storm_of_restarts_is_bounded_and_what_is_forgotten_is_counted() {
    const CRASHES: u64 = 10_000;
    let lives = watch::Sender::new(0);
    let mut seen = lives.subscribe();
    let crash = task("a", move |ctx| {
        lives.send_modify(|lives| *lives += 1);
        let goes_on = *lives.borrow() > CRASHES;
        async move {
            if goes_on {
                ctx.stopped().await;
                return Ok(());
            }
            Err(Stop::error("told to"))
        }
    });
    let stage = stage(one_for_one().intensity(u32::MAX, MINUTE).child(crash)).await;
    seen.wait_for(|lives| *lives > CRASHES).await.unwrap();
    assert_eq!(stage.top.counts().await, [1, 1, 0, 1]);
    let journal = stage.node.system().journal();
    let page = journal.after(Seq(0), None, usize::MAX);
    assert_eq!(page.receipts.len(), JOURNAL_CAPACITY);
    assert_eq!(page.forgotten + page.receipts.len() as u64, journal.newest().0);
    assert!(page.forgotten > 0);
    let tree = stage.node.system().tree();
    assert_eq!(tree.root.find(&"/top/a".parse().unwrap()).unwrap().restarts, CRASHES);
}
