//! Rows S43–S49: when a child is restarted.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::receipt::{Event, Seq};
use gemba_kernel::Supervisor;

use super::stage::{Asked, End, Trace, stage};

const MINUTE: Duration = Duration::from_secs(60);

fn top() -> Supervisor {
    Supervisor::one_for_one("top").intensity(9, MINUTE)
}

#[tokio::test(start_paused = true)]
async fn s43_a_permanent_child_is_restarted_after_every_exit() {
    for end in End::ALL {
        let stage = stage(Trace::default().fill(top(), &["a"])).await;
        let before = stage.lives().await;
        let reason = stage.end_and_wait("a", end).await;
        assert!(end.is(&reason), "{end:?}: {reason:?}");
        stage.restarted("a", 0).await;
        assert!(stage.lives().await > before);
        assert_eq!(stage.top.counts().await, [1, 1, 0, 1]);
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s44_a_transient_child_stays_down_after_a_clean_exit() {
    for end in End::CLEAN {
        let trace = Trace::default();
        let stage = stage(top().child(trace.spec("a").transient())).await;
        let reason = stage.end_and_wait("a", end).await;
        assert!(end.is(&reason), "{end:?}: {reason:?}");
        assert_eq!((stage.list().await.as_str(), stage.top.counts().await), ("a=Down", [1, 0, 0, 1]));
        assert!(stage.top.restart_child("a").await.unwrap().is_some());
        assert_eq!(trace.take(), "+a -a +a");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s45_a_transient_child_is_restarted_after_an_abnormal_exit() {
    for end in End::ABNORMAL {
        let stage = stage(top().child(Trace::default().spec("a").transient())).await;
        let before = stage.lives().await;
        let reason = stage.end_and_wait("a", end).await;
        assert!(end.is(&reason), "{end:?}: {reason:?}");
        stage.restarted("a", 0).await;
        assert!(stage.lives().await > before);
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s46_a_temporary_child_is_never_restarted_and_forgotten() {
    for end in End::ALL {
        let trace = Trace::default();
        let stage = stage(top().child(trace.spec("a").temporary())).await;
        let reason = stage.end_and_wait("a", end).await;
        assert!(end.is(&reason), "{end:?}: {reason:?}");
        assert_eq!(stage.top.counts().await, [0, 0, 0, 0]);
        assert_eq!(trace.take(), "+a -a");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s47_a_temporary_sibling_is_stopped_by_a_group_restart_and_not_brought_back() {
    for strategy in [Supervisor::one_for_all, Supervisor::rest_for_one] {
        let trace = Trace::default();
        let top = strategy("top").child(trace.spec("a")).child(trace.spec("b").temporary());
        let stage = stage(top).await;
        stage.end("a", End::Error);
        stage.restarted("a", 0).await;
        assert_eq!(stage.list().await, "a=Running");
        assert_eq!(trace.take(), "+a +b -a -b +a");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s48_only_an_exit_that_is_restarted_counts_against_the_intensity() {
    for end in End::CLEAN {
        let trace = Trace::default();
        let top = top().intensity(0, MINUTE);
        let top = top.child(trace.spec("transient").transient()).child(trace.spec("temporary").temporary());
        let stage = stage(top.child(trace.spec("permanent"))).await;
        stage.end_and_wait("transient", end).await;
        stage.end_and_wait("temporary", end).await;
        assert_eq!(stage.list().await, "transient=Down permanent=Running");
        stage.end("permanent", end);
        let reason = stage.ended().await;
        assert!(matches!(reason, ExitReason::GaveUp { restarts: 1, limit: 0, .. }), "{end:?}: {reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s49_every_end_leaves_one_receipt_with_its_reason() {
    let trace = Trace::default();
    for end in End::ALL {
        let top = top().child(trace.spec("permanent"));
        let stage = stage(top.child(trace.spec("temporary").temporary())).await;
        stage.end_and_wait("permanent", end).await;
        stage.end_and_wait("temporary", end).await;
        stage.restarted("permanent", 0).await;
        for name in ["permanent", "temporary"] {
            let [reason] = &stage.exits(name)[..] else { panic!("{:?}", stage.exits(name)) };
            assert!(end.is(reason), "{name}: {end:?}");
        }
        let all = stage.node.system().journal().after(Seq(0), None, usize::MAX).receipts;
        let seq = |kind| {
            all.iter()
                .find(|receipt| receipt.event.kind() == kind)
                .map(|receipt| (receipt.seq, receipt.cause))
        };
        let (exited, _) = seq("child_exited").unwrap();
        assert_eq!(seq("child_restarted").unwrap().1, Some(exited), "a restart names its exit");
        let kill = all.iter().find(|receipt| matches!(receipt.event, Event::KillRequested { .. }));
        assert_eq!(seq("child_exited").unwrap().1, kill.map(|kill| kill.seq), "and a kill its killer");
        stage.stops_cleanly().await;
    }
}
