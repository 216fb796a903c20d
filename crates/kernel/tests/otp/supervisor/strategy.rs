//! Rows S50–S61 and S89: whom a restart takes along.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::supervision::Backoff;
use gemba_kernel::{ChildError, Supervisor, TaskContext, task};
use tokio::time::Instant;

use super::stage::{Asked, End, Start, Trace, dynamic_stage, exit, receipt_where, stage};

const MINUTE: Duration = Duration::from_secs(60);

fn one_for_one() -> Supervisor {
    Supervisor::one_for_one("top")
}

fn one_for_all() -> Supervisor {
    Supervisor::one_for_all("top")
}

fn rest_for_one() -> Supervisor {
    Supervisor::rest_for_one("top")
}

#[tokio::test(start_paused = true)]
async fn s50_one_for_one_replaces_the_dead_child_only() {
    let trace = Trace::default();
    let stage = stage(trace.fill(one_for_one(), &["a", "b"])).await;
    let before = stage.lives().await;
    stage.end("a", End::Error);
    stage.restarted("a", 0).await;
    let after = stage.lives().await;
    assert!(after[0] > before[0] && after[1] == before[1], "{before:?} {after:?}");
    assert_eq!((stage.top.counts().await, trace.take().as_str()), ([2, 2, 0, 2], "+a +b -a +a"));
}

#[tokio::test(start_paused = true)]
async fn s51_one_for_all_stops_all_before_it_starts_all() {
    let trace = Trace::default();
    let stage = stage(trace.fill(one_for_all(), &["a", "b", "c"])).await;
    let before = stage.lives().await;
    stage.end("b", End::Error);
    stage.restarted("c", 0).await;
    assert!(stage.lives().await.into_iter().min() > before.into_iter().max());
    assert_eq!(trace.take(), "+a +b +c -b -c -a +a +b +c");
    let exit = |path: &'static str| {
        let system = stage.node.system();
        receipt_where(system, path, 0, move |receipt| {
            receipt.path.as_str() == path && receipt.event.kind() == "child_exited"
        })
    };
    let dead = exit("/top/b").await;
    for sibling in ["/top/a", "/top/c"] {
        assert_eq!(exit(sibling).await.cause, Some(dead.seq), "{sibling} names whom it was stopped for");
    }
}

#[tokio::test(start_paused = true)]
async fn s52_rest_for_one_takes_along_those_that_started_later() {
    let trace = Trace::default();
    let stage = stage(trace.fill(rest_for_one(), &["1", "2", "3", "4", "5"])).await;
    let before = stage.lives().await;
    stage.end("3", End::Error);
    stage.restarted("5", 0).await;
    let after = stage.lives().await;
    assert_eq!(after[..2], before[..2]);
    assert_eq!(trace.take(), "+1 +2 +3 +4 +5 -3 -5 -4 +3 +4 +5");
}

#[tokio::test(start_paused = true)]
async fn s53_a_dynamic_child_is_restarted_with_what_it_was_made_of() {
    let trace = Trace::default();
    let stage = dynamic_stage(Supervisor::dynamic("top")).await;
    for (name, argument) in [("a", "seven"), ("b", "eight")] {
        let trace = trace.clone();
        let made_of = move |ctx: TaskContext| {
            trace.write(ctx.path().name(), argument);
            async move {
                ctx.stopped().await;
                Ok(())
            }
        };
        stage.top.start_child(task(name, made_of)).await.unwrap();
    }
    let before = stage.lives().await;
    stage.end("a", End::Kill);
    stage.restarted("a", 0).await;
    trace.wait_for("aseven").await;
    let after = stage.lives().await;
    assert!(after[0] > before[0] && after[1] == before[1], "{before:?} {after:?}");
    stage.stops_cleanly().await;
    assert_eq!(trace.take(), "aseven beight aseven");
}

#[tokio::test(start_paused = true)]
async fn s54_a_failure_within_a_group_restart_of_all_begins_anew_with_all() {
    for (intensity, gives_up) in [(2, false), (1, true)] {
        let trace = Trace::default();
        let b = trace.kid("b");
        b.starts([Start::Runs, Start::Fails]);
        let top = one_for_all().child(trace.spec("a")).child(b.spec());
        let stage = stage(top.intensity(intensity, MINUTE)).await;
        stage.end("a", End::Error);
        if gives_up {
            stage.ended().await;
            assert_eq!(trace.take(), "+a +b -a -b +a !b -a", "two restarts are one too many");
        } else {
            stage.restarted("b", 0).await;
            assert_eq!(trace.take(), "+a +b -a -b +a !b -a +a +b");
            assert_eq!(stage.list().await, "a=Running b=Running");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s55_a_failure_within_a_group_restart_of_the_rest_begins_anew_with_the_failed_child() {
    let trace = Trace::default();
    let b = trace.kid("b");
    b.starts([Start::Runs, Start::Fails]);
    let top = rest_for_one().child(trace.spec("a")).child(b.spec()).child(trace.spec("c"));
    let stage = stage(top).await;
    stage.end("a", End::Error);
    stage.restarted("c", 0).await;
    assert_eq!(trace.take(), "+a +b +c -a -c -b +a !b +b +c");
    assert_eq!(stage.list().await, "a=Running b=Running c=Running");
}

#[tokio::test(start_paused = true)]
async fn s56_each_try_of_a_restart_counts_and_the_supervisor_gives_up() {
    for (top, tries) in [
        (one_for_one(), "-b !b !b !b !b -c -a"),
        (rest_for_one(), "-b -c !b !b !b !b -a"),
        (one_for_all(), "-b -c -a +a !b -a +a !b -a +a !b -a +a !b -a"),
    ] {
        let trace = Trace::default();
        let b = trace.kid("b");
        let top = top.intensity(4, MINUTE).child(trace.spec("a")).child(b.spec()).child(trace.spec("c"));
        let stage = stage(top).await;
        assert_eq!(trace.take(), "+a +b +c");
        b.always(Start::Fails);
        stage.end("b", End::Error);
        let reason = stage.ended().await;
        assert_eq!(
            reason.to_string(),
            "gave up: 5 restarts in 60000 ms (limit 4); last: child 'b' failed to start: error: told not to"
        );
        assert_eq!(trace.take(), tries);
    }
    let trace = Trace::default();
    let a = trace.kid("a");
    let stage = dynamic_stage(Supervisor::dynamic("top").intensity(4, MINUTE)).await;
    stage.top.start_child(a.spec()).await.unwrap();
    a.always(Start::Fails);
    stage.end("a", End::Error);
    assert!(matches!(stage.ended().await, ExitReason::GaveUp { restarts: 5, limit: 4, .. }));
    assert_eq!(trace.take(), "+a -a !a !a !a !a");
}

#[tokio::test(start_paused = true)]
async fn s57_a_restart_that_fails_is_tried_again_at_once_unless_there_is_a_back_off() {
    let second = Duration::from_secs(1);
    for (backoff, waits) in [(Backoff::default(), false), (Backoff::exponential(second, MINUTE), true)] {
        let a = Trace::default().kid("a");
        let top = one_for_one().intensity(5, 10 * MINUTE).backoff(backoff).child(a.spec());
        let stage = stage(top).await;
        a.always(Start::Fails);
        let begun = Instant::now();
        stage.end("a", End::Error);
        stage.ended().await;
        // 1, 2, 4, 8 and 16 s, each with up to half of it taken away.
        let waited = if waits { 15 * second..=32 * second } else { Duration::ZERO..=Duration::ZERO };
        assert!(waited.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn s58_a_group_whose_member_never_comes_back_ends_its_supervisor() {
    let trace = Trace::default();
    let b = trace.kid("b");
    let stage = stage(one_for_all().intensity(3, MINUTE).child(trace.spec("a")).child(b.spec())).await;
    b.always(Start::Fails);
    stage.end("b", End::Error);
    stage.ended().await;
    let told = trace.take();
    let count = |step| told.split(' ').filter(|written| *written == step).count();
    assert_eq!([count("+a"), count("-a"), count("+b"), count("!b")], [4, 4, 1, 3], "{told}");
}

#[tokio::test(start_paused = true)]
async fn s59_a_child_supervisor_that_gives_up_is_restarted_without_its_dynamic_children() {
    let trace = Trace::default();
    let grown = Supervisor::dynamic("grown");
    let handle = grown.handle();
    let inner = |name: &str, kid| trace.fill(Supervisor::one_for_one(name).intensity(0, MINUTE), &[kid]);
    let top = one_for_all().child(inner("x", "a")).child(inner("y", "b")).child(grown);
    let stage = stage(top).await;
    handle.start_child(trace.spec("d")).await.unwrap();
    let before = stage.lives().await;
    assert_eq!(trace.take(), "+a +b +d");
    stage.end("x/a", End::Error);
    stage.restarted("grown", 0).await;
    assert!(stage.lives().await.into_iter().min() > before.into_iter().max());
    assert_eq!(trace.take(), "-a -d -b +a +b");
    assert_eq!(handle.counts().await, [0, 0, 0, 0]);
    assert_eq!(exit(stage.node.system(), "/top/y", 0).await, ExitReason::Shutdown);
    assert!(matches!(stage.exit("x", 0).await, ExitReason::GaveUp { .. }));
}

#[tokio::test(start_paused = true)]
async fn s60_a_supervisor_in_a_restart_loop_answers_and_stops() {
    for (top, list, counts) in [
        (one_for_one(), "a=Running b=Restarting c=Running", [3, 2, 0, 3]),
        (rest_for_one(), "a=Running b=Restarting c=Down", [3, 1, 0, 3]),
    ] {
        let trace = Trace::default();
        let b = trace.kid("b");
        let top = top.intensity(u32::MAX, MINUTE).child(trace.spec("a")).child(b.spec());
        let stage = stage(top.child(trace.spec("c"))).await;
        b.always(Start::Fails);
        stage.end("b", End::Error);
        trace.wait_for("!b").await;
        assert_eq!((stage.list().await.as_str(), stage.top.counts().await), (list, counts));
        let name = "b".parse().unwrap();
        let restarting = ChildError::Restarting { name };
        assert_eq!(stage.top.restart_child("b").await, Err(restarting.clone()));
        assert_eq!(stage.top.delete_child("b").await, Err(restarting));
        let name = "b".parse().unwrap();
        let again = stage.top.start_child(trace.spec("b")).await;
        assert_eq!(again, Err(ChildError::AlreadyPresent { name }));
        stage.top.terminate_child("b").await.unwrap();
        trace.take();
        assert_eq!(stage.list().await, list.replace("Restarting", "Down"));
        assert_eq!(trace.take(), "", "the loop is over");
        stage.stops_cleanly().await;
    }
    let trace = Trace::default();
    let a = trace.kid("a");
    let stage = dynamic_stage(Supervisor::dynamic("top").intensity(u32::MAX, MINUTE)).await;
    stage.top.start_child(a.spec()).await.unwrap();
    a.always(Start::Fails);
    stage.end("a", End::Error);
    trace.wait_for("!a").await;
    assert_eq!((stage.list().await.as_str(), stage.top.counts().await), ("a=Restarting", [1, 0, 0, 1]));
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s61_a_slow_start_holds_up_neither_answers_nor_other_restarts() {
    let trace = Trace::default();
    let a = trace.kid("a");
    let stage = stage(one_for_one().child(a.spec()).child(trace.spec("b"))).await;
    a.always(Start::Hangs);
    let begun = Instant::now();
    stage.end("a", End::Error);
    trace.wait_for("…a").await;
    assert_eq!(stage.list().await, "a=Starting b=Running");
    stage.end("b", End::Error);
    stage.restarted("b", 0).await;
    assert!(stage.top.start_child(trace.spec("c")).await.unwrap().is_some());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(trace.take(), "+a +b -a …a -b +b +c");
    a.always(Start::Runs);
    stage.restarted("a", 0).await;
    assert_eq!(stage.list().await, "a=Running b=Running c=Running");
}

#[tokio::test(start_paused = true)]
async fn s89_a_group_restart_brings_back_those_that_were_down() {
    for top in [one_for_all(), rest_for_one()] {
        let trace = Trace::default();
        let top = top.child(trace.spec("a")).child(trace.spec("b").transient()).child(trace.spec("c"));
        let stage = stage(top).await;
        stage.end_and_wait("b", End::Normal).await;
        stage.top.terminate_child("c").await.unwrap();
        assert_eq!(stage.list().await, "a=Running b=Down c=Down");
        stage.end("a", End::Error);
        stage.restarted("c", 0).await;
        assert_eq!(stage.list().await, "a=Running b=Running c=Running");
        assert_eq!(trace.take(), "+a +b +c -b -c -a +a +b +c");
    }
}
