//! Where we promise more than OTP: lesson L4, back-off.

use std::time::Duration;

use gemba_core::supervision::Backoff;
use gemba_kernel::{Supervisor, SupervisorRef};
use tokio::time::Instant;

use super::stage::{End, Stage, Start, Trace, stage};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn one_for_one() -> Supervisor {
    Supervisor::one_for_one("top")
}

/// A supervisor that waits a minute, or a little less, before the second restart in a row.
fn patient(top: Supervisor) -> Supervisor {
    let backoff = Backoff { healthy_after: 10 * MINUTE, ..Backoff::exponential(MINUTE, MINUTE) };
    top.intensity(100, MINUTE).backoff(backoff)
}

/// Lets a child crash twice, so that it waits for its second restart.
async fn crash_twice(stage: &Stage<SupervisorRef>, name: &str) {
    let before = stage.restarts(name);
    stage.end_and_wait(name, End::Error).await;
    stage.restarted(name, before).await;
    stage.end_and_wait(name, End::Error).await;
}

#[tokio::test(start_paused = true)]
async fn l4_a_child_terminated_while_it_waits_for_its_restart_stays_down() {
    let trace = Trace::default();
    let stage = stage(patient(trace.fill(one_for_one(), &["a"]))).await;
    crash_twice(&stage, "a").await;
    assert_eq!(stage.list().await, "a=Restarting");
    stage.top.terminate_child("a").await.unwrap();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(stage.list().await, "a=Down");
    assert_eq!(trace.take(), "+a -a +a -a");
}

#[tokio::test(start_paused = true)]
async fn l4_a_child_replaced_while_it_waits_for_its_restart_has_one_life() {
    let trace = Trace::default();
    let stage = stage(patient(trace.fill(one_for_one(), &["a"]))).await;
    crash_twice(&stage, "a").await;
    stage.top.terminate_child("a").await.unwrap();
    stage.top.delete_child("a").await.unwrap();
    stage.top.start_child(trace.spec("a")).await.unwrap();
    let new = stage.lives().await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!((stage.list().await.as_str(), stage.lives().await), ("a=Running", new));
    // Started by hand without giving up its place, it is the same: the earlier wait is void.
    crash_twice(&stage, "a").await;
    stage.top.terminate_child("a").await.unwrap();
    stage.top.restart_child("a").await.unwrap();
    let new = stage.lives().await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!((stage.list().await.as_str(), stage.lives().await), ("a=Running", new));
    assert_eq!(trace.take(), "+a -a +a -a +a -a +a -a +a");
}

#[tokio::test(start_paused = true)]
async fn l4_a_wait_that_was_called_off_does_not_cut_a_later_one_short() {
    let trace = Trace::default();
    let names = ["a", "b", "c", "d"];
    let stage = stage(patient(trace.fill(one_for_one(), &names))).await;
    for name in names {
        crash_twice(&stage, name).await;
    }
    // The first waits end after 30 s to 60 s; those that follow after 59 s at least.
    tokio::time::sleep(29 * SECOND).await;
    for name in names {
        stage.top.terminate_child(name).await.unwrap();
        stage.top.restart_child(name).await.unwrap();
        crash_twice(&stage, name).await;
    }
    tokio::time::sleep(29 * SECOND).await;
    assert_eq!(stage.list().await, "a=Restarting b=Restarting c=Restarting d=Restarting");
    tokio::time::sleep(MINUTE).await;
    for name in names {
        stage.restarted(name, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_shorter_wait_does_not_cut_that_of_the_group_short() {
    let trace = Trace::default();
    let top = trace.fill(Supervisor::rest_for_one("top"), &["a", "b", "c"]);
    let backoff = Backoff { healthy_after: 10 * MINUTE, ..Backoff::exponential(SECOND, MINUTE) };
    let stage = stage(top.intensity(100, MINUTE).backoff(backoff)).await;
    for (n, name) in ["a", "c", "c", "c"].into_iter().enumerate() {
        stage.end_and_wait(name, End::Error).await;
        stage.restarted("c", n).await;
    }
    let begun = Instant::now();
    // For its fourth restart in a row it waits for 4 s, less a half at most; the other one for 1 s.
    stage.end_and_wait("c", End::Error).await;
    stage.end_and_wait("a", End::Error).await;
    stage.restarted("c", 4).await;
    assert!((2 * SECOND..=4 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(stage.list().await, "a=Running b=Running c=Running");
}

#[tokio::test(start_paused = true)]
async fn l4_a_group_waits_once_and_as_long_as_the_longest() {
    for (strategy, in_reverse) in
        [(Supervisor::one_for_all as fn(&str) -> _, "-c -b -a"), (Supervisor::rest_for_one, "-c")]
    {
        let trace = Trace::default();
        let stage = stage(patient(trace.fill(strategy("top"), &["a", "b", "c"]))).await;
        crash_twice(&stage, "c").await;
        let told = trace.take();
        assert!(told.ends_with(in_reverse), "{told}");
        let begun = Instant::now();
        if in_reverse == "-c" {
            // The group grows while it waits; the new failure, the first of its child, makes it wait no
            // shorter.
            stage.end_and_wait("a", End::Error).await;
            assert_eq!(trace.take(), "-a -b");
        }
        assert_eq!(stage.list().await, "a=Restarting b=Restarting c=Restarting");
        trace.wait_for("+c").await;
        assert!((MINUTE / 2..=MINUTE + SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(stage.list().await, "a=Running b=Running c=Running");
        assert_eq!(trace.take(), "+a +b +c");
        stage.stops_cleanly().await;
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_group_waits_for_the_member_whose_start_fails() {
    for strategy in [Supervisor::one_for_all, Supervisor::rest_for_one] {
        let trace = Trace::default();
        let c = trace.kid("c");
        let top = trace.fill(strategy("top"), &["a", "b"]).child(c.spec());
        let stage = stage(patient(top)).await;
        c.starts([Start::Fails]);
        stage.end("c", End::Error);
        trace.wait_for("!c").await;
        assert_eq!(stage.list().await, "a=Running b=Running c=Restarting");
        trace.take();
        // Another failure does not bring back early the one that waits.
        let begun = Instant::now();
        stage.end_and_wait("a", End::Error).await;
        assert_eq!(trace.take(), "-a -b");
        assert_eq!(stage.list().await, "a=Restarting b=Restarting c=Restarting");
        trace.wait_for("+c").await;
        assert!((MINUTE / 2..=MINUTE + SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(stage.list().await, "a=Running b=Running c=Running");
        assert_eq!(trace.take(), "+a +b +c");
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_member_terminated_or_replaced_while_its_group_waits_is_not_brought_back() {
    let trace = Trace::default();
    let stage = stage(patient(trace.fill(Supervisor::one_for_all("top"), &["a", "b", "c"]))).await;
    crash_twice(&stage, "a").await;
    assert_eq!(stage.list().await, "a=Restarting b=Restarting c=Restarting");
    stage.top.terminate_child("a").await.unwrap();
    stage.top.terminate_child("b").await.unwrap();
    stage.top.delete_child("b").await.unwrap();
    stage.top.start_child(trace.spec("b")).await.unwrap();
    assert_eq!(stage.list().await, "a=Down c=Restarting b=Running");
    trace.take();
    tokio::time::sleep(10 * MINUTE).await;
    trace.wait_for("+c").await;
    assert_eq!(stage.list().await, "a=Down c=Running b=Running");
    assert_eq!(trace.take(), "+c");
}

#[tokio::test(start_paused = true)]
async fn l4_a_supervisor_stops_at_once_while_children_wait_for_their_restart() {
    for top in [one_for_one(), Supervisor::one_for_all("top"), Supervisor::rest_for_one("top")] {
        let trace = Trace::default();
        let stage = stage(patient(trace.fill(top, &["a", "b"]))).await;
        crash_twice(&stage, "a").await;
        let begun = Instant::now();
        stage.stops_cleanly().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let told = trace.take();
        assert_eq!(told.matches("+a").count(), told.matches("-a").count(), "{told}");
        tokio::time::sleep(10 * MINUTE).await;
        assert_eq!(trace.take(), "");
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_child_that_was_well_for_a_while_is_restarted_at_once_again() {
    let trace = Trace::default();
    let stage = stage(patient(trace.fill(one_for_one(), &["a"]))).await;
    crash_twice(&stage, "a").await;
    stage.restarted("a", 1).await;
    for (n, well, waits) in [(2, 9 * MINUTE, true), (3, 10 * MINUTE, false)] {
        tokio::time::sleep(well).await;
        let begun = Instant::now();
        stage.end("a", End::Error);
        stage.restarted("a", n).await;
        assert_eq!(begun.elapsed() > Duration::ZERO, waits, "after {well:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_start_that_keeps_failing_waits_longer_each_time() {
    let trace = Trace::default();
    let a = trace.kid("a");
    let backoff = Backoff::exponential(SECOND, 8 * SECOND);
    let stage = stage(one_for_one().intensity(100, MINUTE).backoff(backoff).child(a.spec())).await;
    a.starts([Start::Fails; 6]);
    let begun = Instant::now();
    stage.end("a", End::Error);
    stage.restarted("a", 0).await;
    // 1, 2, 4, 8, 8 and 8 s, each with up to half of it taken away.
    assert!((31 * SECOND / 2..=32 * SECOND).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(trace.take(), "+a -a !a !a !a !a !a !a +a");
}
