//! Rows S69–S78, S90 and S91: how children are stopped.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_kernel::{ChildSpec, Shutdown, Stop, Supervisor, TaskContext, TaskSpec, task};
use tokio::time::Instant;

use super::stage::{Asked, End, Stops, Told, Trace, dynamic_stage, exits, stage, tell};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn top() -> Supervisor {
    Supervisor::one_for_one("top")
}

/// A task that answers the request to stop with this.
fn answering(name: &str, answer: impl Fn() -> Result<(), Stop> + Clone + Send + Sync + 'static) -> TaskSpec {
    task(name, move |ctx: TaskContext| {
        let answer = answer.clone();
        async move {
            ctx.stopped().await;
            answer()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn s69_children_stop_one_after_the_other_in_reverse_order() {
    let trace = Trace::default();
    let kid = |name| trace.kid(name).stopping(Stops::After(SECOND));
    let inner = Supervisor::one_for_one("inner").child(kid("b").spec()).child(kid("c").spec());
    let stage = stage(top().child(kid("a").spec()).child(inner).child(kid("d").spec())).await;
    trace.take();
    let begun = Instant::now();
    stage.stops_cleanly().await;
    assert_eq!(trace.take(), "~d -d ~c -c ~b -b ~a -a");
    assert_eq!(begun.elapsed(), 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn s70_a_child_with_infinity_has_all_the_time_it_needs() {
    let trace = Trace::default();
    let slow = |name| trace.kid(name).stopping(Stops::After(60 * MINUTE)).spec().shutdown(Shutdown::Infinity);
    let inner = Supervisor::one_for_one("inner").child(slow("b")).shutdown(Shutdown::Infinity);
    let begun = Instant::now();
    let system = stage(top().child(slow("a")).child(inner)).await.stop().await;
    assert_eq!(begun.elapsed(), 120 * MINUTE);
    for path in ["/top/a", "/top/inner/b", "/top/inner", "/top"] {
        assert_eq!(exits(&system, path), [ExitReason::Shutdown], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn s71_a_child_that_does_not_stop_in_time_is_killed() {
    let trace = Trace::default();
    let kids = || {
        let late = trace.kid("late").stopping(Stops::Never).spec().shutdown(Shutdown::Within(SECOND));
        [ChildSpec::from(trace.spec("good")), late.into()]
    };
    let fixed = stage(kids().into_iter().fold(top(), Supervisor::child)).await;
    let grown = dynamic_stage(Supervisor::dynamic("top")).await;
    for kid in kids() {
        grown.top.start_child(kid).await.unwrap();
    }
    let begun = Instant::now();
    for system in [fixed.stop().await, grown.stop().await] {
        assert_eq!(exits(&system, "/top/good"), [ExitReason::Shutdown]);
        assert_eq!(exits(&system, "/top/late"), [ExitReason::Killed]);
        assert_eq!(exits(&system, "/top"), [ExitReason::Shutdown]);
    }
    assert_eq!(begun.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn s72_a_brutal_stop_kills_at_once_without_a_last_word() {
    let trace = Trace::default();
    let brutal = || trace.kid("a").stopping(Stops::After(SECOND)).spec().shutdown(Shutdown::Brutal);
    let fixed = stage(top().child(brutal())).await;
    let grown = dynamic_stage(Supervisor::dynamic("top")).await;
    grown.top.start_child(brutal()).await.unwrap();
    let begun = Instant::now();
    for system in [fixed.stop().await, grown.stop().await] {
        assert_eq!(exits(&system, "/top/a"), [ExitReason::Killed]);
        assert_eq!(exits(&system, "/top"), [ExitReason::Shutdown]);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(trace.take(), "+a +a -a -a");
}

#[tokio::test(start_paused = true)]
async fn s73_dynamic_children_stop_together() {
    let trace = Trace::default();
    let stage = dynamic_stage(Supervisor::dynamic("top")).await;
    for (name, needs) in [("a", 1), ("b", 1), ("c", 5)] {
        let kid = trace.kid(name).stopping(Stops::After(needs * SECOND)).spec();
        stage.top.start_child(kid.shutdown(Shutdown::Within(2 * SECOND))).await.unwrap();
    }
    let begun = Instant::now();
    let system = stage.stop().await;
    assert_eq!(begun.elapsed(), 2 * SECOND);
    for (path, reason) in
        [("/top/a", ExitReason::Shutdown), ("/top/b", ExitReason::Shutdown), ("/top/c", ExitReason::Killed)]
    {
        assert_eq!(exits(&system, path), [reason], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn s74_a_child_that_ends_while_the_supervisor_stops_keeps_its_reason() {
    for end in End::ALL {
        let trace = Trace::default();
        let slow = trace.kid("slow").stopping(Stops::After(SECOND));
        let kids = [
            ChildSpec::from(trace.spec("permanent")),
            trace.spec("transient").transient().into(),
            trace.spec("temporary").temporary().into(),
        ];
        let stage = stage(kids.into_iter().fold(top(), Supervisor::child).child(slow.spec())).await;
        let system = stage.node.system().clone();
        let stopping = tokio::spawn(stage.stops_cleanly());
        trace.wait_for("~slow").await;
        for name in ["permanent", "transient", "temporary"] {
            tell(&system, &format!("/top/{name}"), end);
        }
        stopping.await.unwrap();
        for name in ["permanent", "transient", "temporary"] {
            let [reason] = &exits(&system, &format!("/top/{name}"))[..] else { panic!("{name} {end:?}") };
            assert!(end.is(reason), "{name}: {end:?} told as {reason:?}");
        }
        assert_eq!(trace.take().matches('+').count(), 4, "nobody is restarted");
    }
    for restart in [TaskSpec::permanent, TaskSpec::transient, TaskSpec::temporary] {
        let stage = dynamic_stage(Supervisor::dynamic("top")).await;
        let error = || Err(Stop::error("no, I end"));
        stage.top.start_child(restart(answering("error", error))).await.unwrap();
        stage.top.start_child(restart(answering("panic", || panic!("no")))).await.unwrap();
        let system = stage.stop().await;
        assert_eq!(exits(&system, "/top"), [ExitReason::Shutdown]);
        assert_eq!(exits(&system, "/top/error"), [ExitReason::Error { message: "no, I end".into() }]);
        assert!(matches!(exits(&system, "/top/panic")[..], [ExitReason::Panic { .. }]));
    }
}

#[tokio::test(start_paused = true)]
async fn s75_an_answer_to_the_stop_is_told_as_it_is() {
    let stage = stage(
        top()
            .child(answering("normal", || Ok(())))
            .child(answering("clean", || Err(Stop::shutdown("saved"))).transient())
            .child(answering("error", || Err(Stop::error("disk full"))))
            .child(Trace::default().kid("panic").stopping(Stops::Panics).spec()),
    );
    let system = stage.await.stop().await;
    // Its end on request is a shutdown, whatever the child calls it.
    assert_eq!(exits(&system, "/top/normal"), [ExitReason::Shutdown]);
    assert_eq!(exits(&system, "/top/clean"), [ExitReason::ShutdownWith { why: "saved".into() }]);
    assert_eq!(exits(&system, "/top/error"), [ExitReason::Error { message: "disk full".into() }]);
    assert!(matches!(exits(&system, "/top/panic")[..], [ExitReason::Panic { .. }]));
    assert_eq!(exits(&system, "/top"), [ExitReason::Shutdown]);
}

#[tokio::test(start_paused = true)]
async fn s76_a_child_nobody_holds_on_to_can_still_be_terminated() {
    let spec = Trace::default().spec("a");
    let address = spec.address();
    let stage = stage(top().child(spec)).await;
    drop((address.pin(), address));
    stage.top.clone().terminate_child("a").await.unwrap();
    assert_eq!((stage.list().await.as_str(), stage.exits("a")), ("a=Down", vec![ExitReason::Shutdown]));
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s77_a_killed_supervisor_takes_its_children_along_and_they_come_back_by_name() {
    let trace = Trace::default();
    let (a, b) = (trace.spec("a"), trace.spec("b"));
    let (to_a, to_b) = (a.address(), b.address());
    let inner = Supervisor::one_for_one("inner").child(a).child(b);
    let stage = stage(top().child(inner)).await;
    let old = [to_a.call(Told::Life).await.unwrap(), to_b.call(Told::Life).await.unwrap()];
    trace.take();
    stage.end("inner", End::Kill);
    stage.restarted("inner", 0).await;
    assert_eq!(stage.exits("inner"), [ExitReason::Killed]);
    let new = [to_a.call(Told::Life).await.unwrap(), to_b.call(Told::Life).await.unwrap()];
    assert!(new.iter().min() > old.iter().max());
    let told = trace.take();
    assert!(["-a -b +a +b", "-b -a +a +b"].contains(&&*told), "{told}");
    stage.end("inner/a", End::Kill);
    stage.restarted("inner/a", 1).await;
    assert!(to_a.call(Told::Life).await.unwrap() > new[0]);
    assert_eq!(to_b.call(Told::Life).await.unwrap(), new[1]);
}

#[tokio::test(start_paused = true)]
async fn s78_a_supervisor_minds_its_own_children_only() {
    let trace = Trace::default();
    let one = trace.fill(Supervisor::one_for_one("one"), &["a"]).intensity(0, MINUTE).temporary();
    let two = trace.fill(Supervisor::one_for_one("two"), &["b"]).intensity(0, MINUTE);
    let handle = two.handle();
    let stage = stage(top().child(one).child(two)).await;
    let before = handle.which().await;
    stage.end("one/a", End::Error);
    stage.exit("one", 0).await;
    assert_eq!(handle.which().await, before);
    assert_eq!(trace.take(), "+a +b -a");
    stage.top.terminate_child("two").await.unwrap();
    assert_eq!(stage.exits("two"), [ExitReason::Shutdown], "its own supervisor ends it");
}

#[tokio::test(start_paused = true)]
async fn s90_stop_times_add_up_in_a_static_supervisor_which_answers_meanwhile() {
    let half = SECOND / 2;
    let trace = Trace::default();
    let stubborn = |name: &str| {
        let kid = trace.kid(name).stopping(Stops::Never);
        kid.spec().shutdown(Shutdown::Within(half))
    };
    let names = ["a", "b", "c", "d"];
    let fixed = stage(names.iter().fold(top(), |top, name| top.child(stubborn(name)))).await;
    let grown = dynamic_stage(Supervisor::dynamic("top")).await;
    for name in names {
        grown.top.start_child(stubborn(name)).await.unwrap();
    }
    let begun = Instant::now();
    let (stopping, handle) = (fixed.top.clone(), fixed.top.clone());
    let stopping = tokio::spawn(async move { stopping.terminate_child("d").await });
    trace.wait_for("~d").await;
    assert_eq!((handle.counts().await, begun.elapsed()), ([4, 4, 0, 4], Duration::ZERO));
    stopping.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), half);
    let stopping = tokio::spawn(fixed.stop());
    trace.wait_for("~c").await;
    assert_eq!((handle.counts().await, begun.elapsed()), ([4, 3, 0, 4], half));
    stopping.await.unwrap();
    assert_eq!(begun.elapsed(), 4 * half);
    grown.stop().await;
    assert_eq!(begun.elapsed(), 5 * half);
}

#[tokio::test(start_paused = true)]
async fn s91_a_killed_supervisor_leaves_no_orphan() {
    let trace = Trace::default();
    let stubborn = trace.kid("a").stopping(Stops::Never).spec().shutdown(Shutdown::Infinity);
    let deaf = task("deaf", |_| std::future::pending()).shutdown(Shutdown::Infinity);
    let inner = Supervisor::one_for_one("inner").child(stubborn).child(deaf).temporary();
    let stage = stage(top().child(inner)).await;
    let begun = Instant::now();
    stage.end("inner", End::Kill);
    stage.exit("inner", 0).await;
    assert_eq!((trace.take().as_str(), begun.elapsed()), ("+a -a", Duration::ZERO));
    assert!(stage.node.system().tree().root.find(&"/top/inner/deaf".parse().unwrap()).is_none());
    stage.stops_cleanly().await;
}
