//! Rows S79–S88: children whose end ends their supervisor.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::supervision::{AutoShutdown, RuleError};
use gemba_kernel::{ChildSpec, Node, NodeError, Shutdown, SpecError, Supervisor};

use super::stage::{Asked, End, Stops, Trace, dynamic_stage, stage};

const MINUTE: Duration = Duration::from_secs(60);
const MODES: [AutoShutdown; 3] =
    [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];

fn top(auto_shutdown: AutoShutdown) -> Supervisor {
    Supervisor::one_for_one("top").auto_shutdown(auto_shutdown)
}

/// A significant child of each kind there may be.
fn significant(trace: &Trace, name: &str) -> [ChildSpec; 2] {
    let spec = || trace.spec(name).significant();
    [spec().temporary().into(), spec().transient().into()]
}

#[tokio::test(start_paused = true)]
async fn s79_a_temporary_child_that_is_not_significant_ends_nobody() {
    for auto_shutdown in MODES {
        let trace = Trace::default();
        let stage = stage(trace.fill(top(auto_shutdown), &["other"])).await;
        for end in End::ALL {
            stage.top.start_child(trace.spec("a").temporary()).await.unwrap();
            stage.end_and_wait("a", end).await;
            assert_eq!(stage.top.counts().await, [1, 1, 0, 1], "{auto_shutdown:?} {end:?}");
        }
        stage.top.start_child(trace.spec("a").temporary()).await.unwrap();
        stage.top.terminate_child("a").await.unwrap();
        assert_eq!(stage.list().await, "other=Running");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s80_a_transient_child_that_is_not_significant_ends_nobody() {
    for auto_shutdown in MODES {
        let trace = Trace::default();
        let stage = stage(top(auto_shutdown).child(trace.spec("a").transient())).await;
        for (n, end) in [End::Kill, End::Error, End::Panic].into_iter().enumerate() {
            stage.end("a", end);
            stage.restarted("a", n).await;
        }
        for end in End::CLEAN {
            stage.end_and_wait("a", end).await;
            assert_eq!(stage.list().await, "a=Down", "{auto_shutdown:?} {end:?}");
            stage.top.restart_child("a").await.unwrap();
        }
        stage.top.terminate_child("a").await.unwrap();
        assert_eq!(stage.list().await, "a=Down");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s81_a_significant_temporary_child_that_ends_by_itself_ends_its_supervisor() {
    for end in End::ALL {
        let trace = Trace::default();
        let [temporary, _] = significant(&trace, "b");
        let top = trace.fill(top(AutoShutdown::AnySignificant), &["a"]).child(temporary);
        let stage = stage(trace.fill(top, &["c", "d"])).await;
        stage.end("b", end);
        assert_eq!(stage.ended().await, ExitReason::Shutdown, "{end:?}");
        assert_eq!(trace.take(), "+a +b +c +d -b -d -c -a");
    }
    let trace = Trace::default();
    let [temporary, _] = significant(&trace, "a");
    let stage = stage(top(AutoShutdown::AnySignificant).child(temporary)).await;
    stage.top.terminate_child("a").await.unwrap();
    assert_eq!(stage.top.counts().await, [0, 0, 0, 0], "ended by hand, it ends nobody");
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s82_a_significant_transient_child_that_ends_cleanly_ends_its_supervisor() {
    for end in End::CLEAN {
        let trace = Trace::default();
        let [_, transient] = significant(&trace, "a");
        let top = trace.fill(top(AutoShutdown::AnySignificant).child(transient), &["b"]);
        let stage = stage(top.intensity(9, MINUTE)).await;
        for (n, abnormal) in End::ABNORMAL.into_iter().enumerate() {
            stage.end("a", abnormal);
            stage.restarted("a", n).await;
        }
        stage.top.terminate_child("a").await.unwrap();
        stage.top.restart_child("a").await.unwrap();
        assert_eq!(stage.list().await, "a=Running b=Running");
        stage.end("a", end);
        assert_eq!(stage.ended().await, ExitReason::Shutdown, "{end:?}");
        assert_eq!(trace.take(), "+a +b -a +a -a +a -a +a -a +a -a -b");
    }
}

#[tokio::test(start_paused = true)]
async fn s83_with_all_significant_the_last_one_ends_its_supervisor() {
    for kind in [0, 1] {
        let trace = Trace::default();
        let kids = ["a", "b", "c"].map(|name| significant(&trace, name)[kind].clone());
        let top = kids.into_iter().fold(top(AutoShutdown::AllSignificant), Supervisor::child);
        let stage = stage(trace.fill(top, &["other"])).await;
        stage.end_and_wait("a", End::Normal).await;
        // Whoever is ended by hand is not waited for, and does not end it either.
        stage.top.terminate_child("b").await.unwrap();
        assert!(stage.list().await.ends_with("c=Running other=Running"));
        stage.end("c", End::Normal);
        assert_eq!(stage.ended().await, ExitReason::Shutdown);
        assert_eq!(trace.take(), "+a +b +c +other -a -b -c -other");
    }
    // The same while the one ended by hand still takes its time.
    let trace = Trace::default();
    let slow = trace.kid("slow").stopping(Stops::After(MINUTE)).spec().shutdown(Shutdown::Infinity);
    let [_, a] = significant(&trace, "a");
    let top = top(AutoShutdown::AllSignificant).child(slow.transient().significant()).child(a);
    let stage = stage(top).await;
    let handle = stage.top.clone();
    let stopping = tokio::spawn(async move { handle.terminate_child("slow").await });
    trace.wait_for("~slow").await;
    stage.end("a", End::Normal);
    assert_eq!(stage.ended().await, ExitReason::Shutdown);
    assert_eq!(trace.take(), "+slow +a ~slow -a -slow");
    assert!(stopping.await.unwrap().is_err(), "its caller had waited long enough");
}

#[tokio::test(start_paused = true)]
async fn s84_a_dynamic_supervisor_ends_with_any_significant_child_and_refuses_all() {
    for kind in [0, 1] {
        let trace = Trace::default();
        let stage =
            dynamic_stage(Supervisor::dynamic("top").auto_shutdown(AutoShutdown::AnySignificant)).await;
        stage.top.start_child(trace.spec("other")).await.unwrap();
        stage.top.start_child(significant(&trace, "a")[kind].clone()).await.unwrap();
        stage.top.terminate_child("a").await.unwrap();
        assert_eq!(stage.list().await, "other=Running");
        stage.top.start_child(significant(&trace, "a")[kind].clone()).await.unwrap();
        stage.end("a", End::Normal);
        assert_eq!(stage.ended().await, ExitReason::Shutdown);
        assert_eq!(trace.take(), "+other +a -a +a -a -other");
    }
    let all = Supervisor::dynamic("top").auto_shutdown(AutoShutdown::AllSignificant);
    let refused = Node::builder("row").child(all).start().await.unwrap_err();
    let NodeError::Spec(errors) = refused else { panic!("{refused}") };
    assert!(matches!(errors[..], [SpecError::Flag { error: RuleError::AllOfDynamic, .. }]), "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn s85_a_significant_sibling_stopped_by_a_group_restart_ends_nobody() {
    for (strategy, list) in [
        (Supervisor::one_for_one as fn(&str) -> _, "a=Running temporary=Running transient=Running"),
        (Supervisor::one_for_all, "a=Running transient=Running"),
        (Supervisor::rest_for_one, "a=Running transient=Running"),
    ] {
        for auto_shutdown in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
            let trace = Trace::default();
            let [temporary, _] = significant(&trace, "temporary");
            let [_, transient] = significant(&trace, "transient");
            let top: Supervisor = strategy("top");
            let top = top.auto_shutdown(auto_shutdown).child(trace.spec("a"));
            let stage = stage(top.child(temporary).child(transient)).await;
            stage.end("a", End::Error);
            stage.restarted("a", 0).await;
            stage.top.counts().await;
            assert_eq!(stage.list().await, list);
            stage.stops_cleanly().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s86_a_supervisor_that_shut_itself_down_ended_cleanly_for_its_own() {
    for significant in [true, false] {
        let trace = Trace::default();
        let supervisor = |name: &str| {
            Supervisor::one_for_one(name).transient().auto_shutdown(AutoShutdown::AnySignificant)
        };
        let inner = supervisor("inner").child(trace.spec("a").transient().significant());
        let mid = supervisor("mid").child(if significant { inner.significant() } else { inner });
        let top = top(AutoShutdown::AnySignificant).child(trace.spec("other"));
        let stage = stage(top.child(mid.significant())).await;
        stage.end("mid/inner/a", End::Normal);
        assert_eq!(stage.exit("mid/inner", 0).await, ExitReason::Shutdown);
        if significant {
            assert_eq!(stage.ended().await, ExitReason::Shutdown);
            assert_eq!(stage.exits("mid"), [ExitReason::Shutdown]);
            assert_eq!(trace.take(), "+other +a -a -other");
        } else {
            assert_eq!(stage.list().await, "other=Running mid=Running");
            assert_eq!(stage.top.counts().await, [2, 2, 1, 1]);
            stage.stops_cleanly().await;
        }
    }
}
