//! Rows S01–S23: start, specs, flags.

use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::name::Name;
use gemba_core::supervision::{
    AutoShutdown, Backoff, ChildKind, ChildRules, Flags, Intensity, Restart, RuleError, Strategy,
};
use gemba_kernel::{
    ChildError, ChildSpec, DynamicSupervisor, Node, NodeBuilder, NodeError, Shutdown, SpecError, Stop,
    Supervisor, supervisor,
};

use super::stage::{Asked, End, Kid, Start, Told, Trace, dynamic_stage, exits, stage};

fn top() -> Supervisor {
    Supervisor::one_for_one("top")
}

fn dynamic() -> DynamicSupervisor {
    Supervisor::dynamic("top")
}

/// Why a node with these children does not start.
async fn refused(children: impl IntoIterator<Item = ChildSpec>) -> NodeError {
    let node = children.into_iter().fold(Node::builder("row"), NodeBuilder::child);
    node.start().await.expect_err("the row does not start")
}

/// A child with each restart type.
fn each_restart(kid: &Kid) -> [ChildSpec; 3] {
    [kid.spec().into(), kid.spec().transient().into(), kid.spec().temporary().into()]
}

#[tokio::test(start_paused = true)]
async fn s01_a_supervisor_without_children_starts_and_stops() {
    let stage = stage(top()).await;
    assert_eq!(stage.top.counts().await, [0, 0, 0, 0]);
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s02_a_supervisor_may_decline_to_run() {
    let inner = supervisor("inner", || Err(Stop::ignore()));
    let handle = inner.handle();
    let stage = stage(top().child(inner)).await;
    assert_eq!(stage.list().await, "inner=Down");
    assert_eq!(stage.top.counts().await, [1, 0, 1, 0]);
    assert_eq!(handle.count_children().await, Err(ChildError::NotRunning));
    let system = stage.stop().await;
    assert_eq!(exits(&system, "/top/inner"), []);
}

#[tokio::test(start_paused = true)]
async fn s03_an_init_that_fails_fails_the_start_and_leaves_nothing() {
    let trace = Trace::default();
    let broken = supervisor("broken", || Err(Stop::error("no shards")));
    let error = refused([trace.spec("a").into(), broken.into()]).await;
    assert_eq!(
        error.to_string(),
        "the node did not start: error: child 'broken' failed to start: error: no shards"
    );
    assert_eq!(trace.take(), "+a -a");
}

#[tokio::test(start_paused = true)]
async fn s04_an_init_that_panics_fails_the_start_and_tells_the_panic() {
    let trace = Trace::default();
    let broken = supervisor("broken", || panic!("no shards"));
    let error = refused([trace.spec("a").into(), broken.into()]).await.to_string();
    assert!(error.contains("child 'broken' failed to start: panicked at "), "{error}");
    assert!(error.contains("start.rs:") && error.ends_with(": no shards"), "{error}");
    assert_eq!(trace.take(), "+a -a");
}

#[tokio::test(start_paused = true)]
async fn s05_children_start_one_after_the_other() {
    let trace = Trace::default();
    let a = trace.kid("a");
    a.always(Start::Hangs);
    let top = trace.fill(top().child(a.spec()), &["b", "c"]);
    let starting = tokio::spawn(stage(top));
    trace.wait_for("…a").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(trace.take(), "…a");
    a.always(Start::Runs);
    starting.await.unwrap().stops_cleanly().await;
    assert_eq!(trace.take(), "+a +b +c -c -b -a");
}

#[tokio::test(start_paused = true)]
async fn s06_a_failed_start_rolls_back_and_starts_nobody_more() {
    for (how, told) in [(Start::Fails, "error: told not to"), (Start::Panics, ": told not to")] {
        let trace = Trace::default();
        let c = trace.kid("c");
        c.always(how);
        let top = trace.fill(trace.fill(top(), &["a", "b"]).child(c.spec()), &["d"]);
        let error = refused([top.into()]).await;
        let NodeError::Start(ExitReason::Error { message }) = error else { panic!("{error}") };
        assert!(message.contains("child 'c' failed to start: ") && message.ends_with(told), "{message}");
        assert_eq!(trace.take(), "+a +b !c -b -a");
    }
}

#[tokio::test(start_paused = true)]
async fn s07_the_root_error_of_a_start_comes_up_through_all_levels() {
    let trace = Trace::default();
    let deep = trace.kid("deep");
    deep.always(Start::Panics);
    let inner = Supervisor::one_for_all("inner").child(deep.spec());
    let outer = Supervisor::rest_for_one("outer").child(inner);
    let error = refused([top().child(outer).into()]).await.to_string();
    for part in ["child 'top'", "child 'outer'", "child 'inner'", "child 'deep'", "stage.rs:", "told not to"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn s08_a_spec_is_completed_with_the_defaults() {
    let flags = Flags::new(Strategy::OneForOne);
    assert_eq!(flags.intensity, Intensity { restarts: 3, period: Duration::from_secs(5) });
    assert_eq!(flags.auto_shutdown, AutoShutdown::Never);
    let inner = Supervisor::one_for_one("inner");
    let stage = stage(Trace::default().fill(top(), &["a"]).child(inner)).await;
    for (name, kind, shutdown) in [
        ("a", ChildKind::Worker, Shutdown::Within(Duration::from_secs(5))),
        ("inner", ChildKind::Supervisor, Shutdown::Infinity),
    ] {
        let settings = stage.top.child_settings(name).await.unwrap();
        assert_eq!(settings.name.as_str(), name);
        assert_eq!(settings.rules, ChildRules { restart: Restart::Permanent, significant: false, kind });
        assert_eq!(settings.shutdown, shutdown);
    }
}

#[tokio::test(start_paused = true)]
async fn s09_a_dynamic_supervisor_tells_the_settings_of_each_child() {
    let trace = Trace::default();
    let stage = dynamic_stage(dynamic()).await;
    for name in ["a", "b", "c"] {
        stage.top.start_child(trace.spec(name).transient().shutdown(Shutdown::Brutal)).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        let settings = stage.top.child_settings(name).await.unwrap();
        assert_eq!(settings.rules, ChildRules::from(Restart::Transient));
        assert_eq!(settings.shutdown, Shutdown::Brutal);
    }
    let stranger = stage.top.child_settings("stranger").await;
    assert_eq!(stranger, Err(ChildError::NotFound { name: "stranger".into() }));
}

#[tokio::test(start_paused = true)]
async fn s10_a_child_without_a_valid_name_is_refused() {
    let trace = Trace::default();
    let stage = stage(top()).await;
    for name in ["", "a/b", "tab\t"] {
        let checked = ChildSpec::from(trace.spec(name)).check(AutoShutdown::Never);
        let [SpecError::Name { .. }] = checked[..] else { panic!("{checked:?}") };
        let asked = stage.top.start_child(trace.spec(name)).await;
        assert_eq!(asked, Err(ChildError::Spec(checked)));
    }
    assert_eq!((stage.top.counts().await, trace.take()), ([0, 0, 0, 0], String::new()));
}

#[tokio::test(start_paused = true)]
async fn s11_each_fault_of_a_spec_has_its_own_error() {
    let trace = Trace::default();
    let stage = stage(top()).await;
    let supervisor = "the supervisor".to_owned();
    let (name, rule) = ("a".to_owned(), RuleError::SignificantNever);
    for (faulty, error) in [
        (
            ChildSpec::from(trace.spec("a").mailbox(0)),
            SpecError::Mailbox { supervisor: supervisor.clone(), name: name.clone() },
        ),
        (
            trace.spec("a b").into(),
            SpecError::Name { supervisor: supervisor.clone(), error: Name::new("a b").unwrap_err() },
        ),
        (trace.spec("a").transient().significant().into(), SpecError::Rule { supervisor, name, error: rule }),
    ] {
        assert_eq!(faulty.check(AutoShutdown::Never), std::slice::from_ref(&error));
        assert_eq!(stage.top.start_child(faulty).await, Err(ChildError::Spec(vec![error])));
    }
    assert_eq!(trace.take(), "");
}

#[tokio::test(start_paused = true)]
async fn s12_two_children_of_one_name_are_refused_before_anything_starts() {
    let trace = Trace::default();
    let error = refused([trace.fill(top(), &["a", "b", "a"]).into()]).await;
    let NodeError::Spec(errors) = error else { panic!("{error}") };
    let [SpecError::Duplicate { supervisor, name }] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((supervisor.as_str(), name.as_str()), ("/top", "a"));
    assert_eq!(trace.take(), "");
}

#[test]
fn s13_a_significant_child_must_be_able_to_end_its_supervisor() {
    let spec = || Trace::default().spec("a").significant();
    let errors = |spec: ChildSpec, auto_shutdown| spec.check(auto_shutdown);
    let rule = |errors: Vec<SpecError>| match &errors[..] {
        [SpecError::Rule { error, .. }] => *error,
        other => panic!("{other:?}"),
    };
    for auto_shutdown in [AutoShutdown::AnySignificant, AutoShutdown::AllSignificant] {
        assert_eq!(rule(errors(spec().into(), auto_shutdown)), RuleError::SignificantPermanent);
        assert_eq!(errors(spec().transient().into(), auto_shutdown), []);
        assert_eq!(errors(spec().temporary().into(), auto_shutdown), []);
    }
    for never in [spec().transient(), spec().temporary()] {
        assert_eq!(rule(errors(never.into(), AutoShutdown::Never)), RuleError::SignificantNever);
    }
}

#[test]
fn the_check_of_a_supervisor_names_its_own_name_too() {
    let child = Trace::default().spec("no/name");
    let errors = Supervisor::one_for_one("not a name").child(child).check();
    assert!(matches!(&errors[..], [SpecError::Name { .. }, SpecError::Name { .. }]), "{errors:?}");
    assert!(errors[0].to_string().starts_with("below 'the supervisor': "), "{}", errors[0]);
}

#[test]
fn s15_each_fault_of_the_flags_has_its_own_error() {
    let second = Duration::from_secs(1);
    assert_eq!(top().check(), []);
    assert_eq!(top().intensity(0, second).check(), []);
    let backoff = Backoff::exponential(2 * second, second);
    let wrong = top().intensity(1, Duration::ZERO).backoff(backoff).children_max(0).check();
    let flag = |error| SpecError::Flag { supervisor: "/top".into(), error };
    let shrinks = RuleError::Backoff { first: 2 * second, max: second };
    assert_eq!(wrong, [RuleError::Period, shrinks, RuleError::ChildrenMax].map(flag));
}

#[test]
fn s16_specs_are_checked_without_a_start() {
    let trace = Trace::default();
    let tree = |auto_shutdown| {
        let significant = trace.spec("b").temporary().significant();
        let inner = Supervisor::one_for_one("inner").auto_shutdown(auto_shutdown).child(significant);
        top().child(trace.spec("a")).child(inner)
    };
    assert_eq!(tree(AutoShutdown::AnySignificant).check(), []);
    let errors = tree(AutoShutdown::Never).check();
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("'b' below '/top/inner': it is significant"), "{}", told[0]);
    assert_eq!(trace.take(), "");
}

#[tokio::test(start_paused = true)]
async fn s18_a_child_that_declines_keeps_its_place() {
    let trace = Trace::default();
    let b = trace.kid("b");
    b.always(Start::Ignores);
    let stage = stage(trace.fill(top(), &["a"])).await;
    assert_eq!(stage.top.start_child(b.spec()).await, Ok(None));
    assert_eq!(stage.list().await, "a=Running b=Down");
    assert_eq!(stage.top.counts().await, [2, 1, 0, 2]);
    b.always(Start::Runs);
    assert!(stage.top.restart_child("b").await.unwrap().is_some());
    stage.stops_cleanly().await;
    assert_eq!(trace.take(), "+a ?b +b -b -a");
}

#[tokio::test(start_paused = true)]
async fn s19_a_temporary_child_that_declines_leaves_no_spec() {
    let trace = Trace::default();
    let b = trace.kid("b");
    b.always(Start::Ignores);
    let stage = stage(trace.fill(top(), &["a"]).child(b.spec().temporary())).await;
    assert_eq!(stage.top.counts().await, [1, 1, 0, 1]);
    assert_eq!(stage.top.start_child(b.spec().temporary()).await, Ok(None));
    assert_eq!((stage.list().await.as_str(), stage.top.counts().await), ("a=Running", [1, 1, 0, 1]));
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s20_a_dynamic_child_that_declines_leaves_no_entry() {
    let trace = Trace::default();
    let kid = trace.kid("a");
    kid.always(Start::Ignores);
    let stage = dynamic_stage(dynamic()).await;
    for spec in each_restart(&kid) {
        assert_eq!(stage.top.start_child(spec).await, Ok(None));
        assert_eq!((stage.list().await, stage.top.counts().await), (String::new(), [0, 0, 0, 0]));
    }
    stage.stops_cleanly().await;
    assert_eq!(trace.take(), "?a ?a ?a");
}

#[tokio::test(start_paused = true)]
async fn s21_a_dynamic_child_that_declines_its_restart_leaves_no_entry() {
    let trace = Trace::default();
    let kid = trace.kid("a");
    kid.starts([Start::Runs, Start::Ignores]);
    let stage = dynamic_stage(dynamic()).await;
    stage.top.start_child(kid.spec()).await.unwrap();
    stage.end_and_wait("a", End::Error).await;
    assert_eq!(trace.take(), "+a -a ?a");
    assert_eq!((stage.list().await, stage.top.counts().await), (String::new(), [0, 0, 0, 0]));
    stage.stops_cleanly().await;
}

#[tokio::test(start_paused = true)]
async fn s22_an_address_comes_from_the_spec_and_outlives_restarts() {
    let spec = Trace::default().spec("a");
    let address = spec.address();
    let stage = stage(top()).await;
    let started = stage.top.start_child(spec).await.unwrap().unwrap();
    assert_eq!(started.path.as_str(), "/top/a");
    assert_eq!(address.call(Told::Life).await, Ok(started.incarnation));
    stage.end("a", End::Error);
    stage.restarted("a", 0).await;
    assert!(address.call(Told::Life).await.unwrap() > started.incarnation);
}

#[tokio::test(start_paused = true)]
async fn s23_a_child_that_fails_to_start_is_not_kept_and_not_counted() {
    let kid = Trace::default().kid("a");
    kid.always(Start::Fails);
    let failed = Err(ChildError::Failed {
        name: "a".parse().unwrap(),
        reason: ExitReason::Error { message: "told not to".into() },
    });
    let fixed = stage(top().intensity(0, Duration::from_secs(5))).await;
    let grown = dynamic_stage(dynamic().intensity(0, Duration::from_secs(5))).await;
    for _ in 0..3 {
        for spec in each_restart(&kid) {
            assert_eq!(fixed.top.add(spec.clone()).await, failed);
            assert_eq!(grown.top.add(spec).await, failed);
        }
    }
    assert_eq!((fixed.top.counts().await, grown.top.counts().await), ([0; 4], [0; 4]));
    fixed.stops_cleanly().await;
    grown.stops_cleanly().await;
}
