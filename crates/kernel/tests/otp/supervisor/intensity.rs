//! Rows S62–S68: the restarts a supervisor has, and what it does without.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::receipt::Event;
use gemba_core::supervision::{GiveUp, Restart};
use gemba_kernel::{Stop, Supervisor, task};
use tokio::sync::watch;

use super::stage::{Asked, End, Trace, dynamic_stage, receipt_where, stage};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn one_for_one() -> Supervisor {
    Supervisor::one_for_one("top")
}

fn gave_up(limit: u32, period: Duration, last: &str) -> ExitReason {
    let period_ms = period.as_millis().try_into().expect("a short period");
    ExitReason::GaveUp { restarts: limit + 1, limit, period_ms, last: last.into() }
}

#[tokio::test(start_paused = true)]
async fn s62_one_restart_too_many_stops_all_children_in_reverse_order() {
    let last = "child 'b' exited: error: told to";
    for (top, restart) in [
        (one_for_one(), "-b +b"),
        (Supervisor::one_for_all("top"), "-b -c -a +a +b +c"),
        (Supervisor::rest_for_one("top"), "-b -c +b +c"),
    ] {
        let trace = Trace::default();
        let stage = stage(trace.fill(top.intensity(2, MINUTE), &["a", "b", "c"])).await;
        assert_eq!(trace.take(), "+a +b +c");
        for n in 0..2 {
            stage.end("b", End::Error);
            stage.restarted("b", n).await;
            // The group is up again when its supervisor has heard of the last start.
            stage.top.counts().await;
            assert_eq!(trace.take(), restart);
        }
        stage.end("b", End::Error);
        assert_eq!(stage.ended().await, gave_up(2, MINUTE, last));
        assert_eq!(trace.take(), "-b -c -a");
    }
    let trace = Trace::default();
    let stage = dynamic_stage(Supervisor::dynamic("top").intensity(2, MINUTE)).await;
    for name in ["a", "b"] {
        stage.top.start_child(trace.spec(name)).await.unwrap();
    }
    for n in 0..2 {
        stage.end("b", End::Error);
        stage.restarted("b", n).await;
    }
    stage.end("b", End::Error);
    assert_eq!(stage.ended().await, gave_up(2, MINUTE, last));
    assert_eq!(trace.take(), "+a +b -b +b -b +b -b -a");
}

#[tokio::test(start_paused = true)]
async fn s63_an_intensity_of_0_ends_the_supervisor_at_the_first_crash() {
    for (give_up, reason) in [
        (GiveUp::Cleanly, ExitReason::Shutdown),
        (GiveUp::Abnormally, gave_up(0, MINUTE, "child 'a' exited: error: told to")),
    ] {
        let trace = Trace::default();
        let top = one_for_one().intensity(0, MINUTE).give_up(give_up);
        let stage = stage(trace.fill(top, &["a", "b"])).await;
        stage.end("a", End::Error);
        assert_eq!(stage.ended().await, reason);
        assert_eq!(trace.take(), "+a +b -a -b");
    }
}

#[tokio::test(start_paused = true)]
async fn s64_restarts_further_apart_than_the_period_never_add_up() {
    let stage = stage(Trace::default().fill(one_for_one().intensity(1, SECOND), &["a"])).await;
    for n in 0..5 {
        stage.end("a", End::Error);
        stage.restarted("a", n).await;
        tokio::time::advance(Duration::from_millis(2100)).await;
    }
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s65_a_restart_counts_for_exactly_the_period() {
    for (gap, gives_up) in [
        (Duration::from_millis(999), true),
        (SECOND, true),
        (SECOND + Duration::from_nanos(1), false),
        (Duration::from_millis(1050), false),
    ] {
        let stage = stage(Trace::default().fill(one_for_one().intensity(1, SECOND), &["a"])).await;
        // Whole seconds of the clock are no boundary.
        tokio::time::advance(Duration::from_millis(700)).await;
        stage.end("a", End::Error);
        stage.restarted("a", 0).await;
        tokio::time::advance(gap).await;
        stage.end("a", End::Error);
        if gives_up {
            stage.ended().await;
        } else {
            stage.restarted("a", 1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s66_a_group_restart_counts_once() {
    let top = Supervisor::one_for_all("top").intensity(1, MINUTE);
    let stage = stage(Trace::default().fill(top, &["a", "b", "c", "d"])).await;
    stage.end("b", End::Error);
    stage.restarted("d", 0).await;
    assert_eq!(stage.top.counts().await, [4, 4, 0, 4]);
    stage.end("c", End::Error);
    assert_eq!(stage.ended().await, gave_up(1, MINUTE, "child 'c' exited: error: told to"));
}

#[tokio::test(start_paused = true)]
async fn s67_what_a_supervisor_gives_up_with_decides_whether_it_comes_back() {
    for (give_up, restart, list) in [
        (GiveUp::Cleanly, Restart::Permanent, "inner=Running other=Running"),
        (GiveUp::Cleanly, Restart::Transient, "inner=Down other=Running"),
        (GiveUp::Cleanly, Restart::Temporary, "other=Running"),
        (GiveUp::Abnormally, Restart::Permanent, "inner=Running other=Running"),
        (GiveUp::Abnormally, Restart::Transient, "inner=Running other=Running"),
        (GiveUp::Abnormally, Restart::Temporary, "other=Running"),
    ] {
        let trace = Trace::default();
        let inner = trace.fill(Supervisor::one_for_one("inner"), &["a"]).intensity(0, MINUTE);
        let inner = match restart {
            Restart::Permanent => inner,
            Restart::Transient => inner.transient(),
            Restart::Temporary => inner.temporary(),
        };
        let stage = stage(trace.fill(one_for_one().child(inner.give_up(give_up)), &["other"])).await;
        stage.end("inner/a", End::Error);
        let reason = stage.exit("inner", 0).await;
        let told = gave_up(0, MINUTE, "child 'a' exited: error: told to");
        let expected = if give_up == GiveUp::Cleanly { ExitReason::Shutdown } else { told.clone() };
        assert_eq!(reason, expected);
        let receipt = receipt_where(stage.node.system(), "giving up", 0, |receipt| {
            matches!(receipt.event, Event::SupervisorGaveUp { .. })
        });
        assert_eq!(receipt.await.event, Event::SupervisorGaveUp { reason: told }, "told in either case");
        if list.contains("inner=Running") {
            stage.restarted("inner", 0).await;
        }
        assert_eq!(stage.list().await, list, "{give_up:?} {restart:?}");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s68_thousands_of_restarts_within_the_period_are_counted_exactly() {
    const LIMIT: u32 = 5000;
    for (crashes, gives_up) in [(LIMIT, false), (LIMIT + 1, true)] {
        let lives = Arc::new(watch::Sender::new(0));
        let counted = lives.clone();
        let crash = task("a", move |ctx| {
            counted.send_modify(|lives| *lives += 1);
            let goes_on = *counted.borrow() > crashes;
            async move {
                if goes_on {
                    ctx.stopped().await;
                    return Ok(());
                }
                Err(Stop::error("told to"))
            }
        });
        let stage = stage(one_for_one().intensity(LIMIT, MINUTE).child(crash)).await;
        if gives_up {
            assert_eq!(stage.ended().await, gave_up(LIMIT, MINUTE, "child 'a' exited: error: told to"));
        } else {
            let mut lives = lives.subscribe();
            lives.wait_for(|lives| *lives == crashes + 1).await.unwrap();
            assert_eq!(stage.top.counts().await, [1, 1, 0, 1]);
        }
    }
}
