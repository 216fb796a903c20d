//! What a line takes and what it refuses: rates, downstreams that slow down, and lights that shed.

use std::time::Duration;

use gemba::adaptive::AdaptiveRules;
use gemba::admission::Tier;
use gemba::control::{Control, ControlError};
use gemba::jidoka::{Cause, JidokaRules, Reset};
use gemba::ladder::{LevelRules, Measure, Thresholds};
use gemba::light::Light;
use gemba::rate::{Rate, RateError};
use gemba::receipt::{BreakerState, Event, Seq};
use gemba::view::LineState;
use gemba::{LineSpec, Node, Plant, PlantError, PoolSpec, RateScope, RefusalReason, Signal, SubmitError};
use gemba_kit::{board, finish, receipt, workers};
use tokio::task::JoinSet;

use crate::plant::{Input, Work, patient, start_with, teach};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn over_its_rate_a_line_refuses_at_once_and_says_when_to_come_again() {
    let rates = |spec: LineSpec<Work>| {
        spec.rate(Rate::new(10, SECOND).unwrap())
            .rate_per_key(Rate::new(5, 60 * SECOND).unwrap().burst(2).unwrap(), 1000)
    };
    let (node, line) = start_with(rates, PoolSpec::new("work").workers(2, 2)).await;
    workers(node.system(), "work", 2).await;
    let submit = |key: &'static [u8]| line.submit(Signal::new(Input::Answer(1)).key(key), &());
    assert!(submit(b"ann").await.is_ok() && submit(b"ann").await.is_ok());
    let Err(SubmitError::Refused(refusal)) = submit(b"ann").await else { panic!("her third in a minute") };
    assert_eq!(refusal.reason, RefusalReason::RateLimited { scope: RateScope::Key });
    assert!(11 * SECOND < refusal.retry_after && refusal.retry_after <= 12 * SECOND, "{refusal:?}");
    tokio::time::sleep(refusal.retry_after).await;
    assert!(submit(b"ann").await.is_ok(), "it may when it was told");

    for _ in 0..9 {
        assert!(line.submit(Signal::new(Input::Answer(1)), &()).await.is_ok());
    }
    let Err(SubmitError::Refused(refusal)) = submit(b"ben").await else { panic!("the line's eleventh") };
    assert_eq!(refusal.reason, RefusalReason::RateLimited { scope: RateScope::Line });
    assert!(refusal.retry_after <= SECOND / 10, "{refusal:?}");
    tokio::time::sleep(2 * SECOND).await;
    assert!(submit(b"ben").await.is_ok() && submit(b"ben").await.is_ok(), "the refusal cost him nothing");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_cannot_be_kept_is_a_fault_of_the_plant() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work"));
    plant.line(LineSpec::<Work>::new("work", Work).rate_per_key(Rate::new(1, SECOND).unwrap(), 0));
    let errors = plant.build().unwrap_err();
    assert_eq!(errors.0, [PlantError::Rate { line: "work".into(), error: RateError::Keys }]);
}

#[tokio::test(start_paused = true)]
async fn a_downstream_gets_no_more_calls_than_it_bears() {
    let rules = AdaptiveRules::builder().limits(1, 3, 3).build().unwrap();
    let (node, line) = start_with(|spec| spec.adaptive(rules), PoolSpec::new("work").workers(8, 8)).await;
    workers(node.system(), "work", 8).await;
    let jobs: Vec<_> = (0..8)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.submit(Signal::new(Input::Sleep(SECOND)), &()).await })
        })
        .collect();
    let (mut done, mut busy) = (0, 0);
    for job in jobs {
        match job.await.unwrap() {
            Ok(_) => done += 1,
            Err(SubmitError::Refused(refusal)) => {
                assert_eq!(refusal.reason, RefusalReason::DownstreamBusy);
                busy += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((done, busy), (3, 5), "nobody waited, and no worker was kept");
    // A panic and a caller's deadline give their place back.
    for _ in 0..4 {
        let died = line.submit(Signal::new(Input::Panic), &()).await;
        assert!(matches!(died, Err(SubmitError::WorkerDied)), "{died:?}");
    }
    assert_eq!(line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap(), 1);
    finish(node).await;
}

/// Lets a line answer and fail so often, one after another.
async fn play(line: &gemba::Line<Work>, succeed: u32, fail: u32) {
    for n in 0..succeed + fail {
        let input = if n < fail { Input::Fail } else { Input::Answer(n) };
        let _ = line.submit(Signal::new(input).tier(Tier::Critical), &()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_fails_sheds_then_takes_critical_signals_only_then_drains_and_runs_again() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(2, 2));
    let spec = |name| LineSpec::<Work>::new(name, Work).pool("work").breaker(never_opens());
    let (line, _other) = (plant.line(spec("one")), plant.line(spec("two")));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 2).await;
    tokio::time::sleep(2 * SECOND).await;
    let submit = |tier| {
        let line = line.clone();
        async move {
            match line.submit(Signal::new(Input::Answer(7)).tier(tier), &()).await {
                Ok(_) => None,
                Err(SubmitError::Refused(refusal)) => Some(refusal.reason),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let sheds = |tier, reason: Option<RefusalReason>| {
        assert!(matches!(reason, Some(RefusalReason::Shed { tier: of, .. }) if of == tier), "{reason:?}");
    };
    let moved = |after, state| {
        receipt(
            node.system(),
            after,
            move |receipt| matches!(&receipt.event, Event::LineMoved { line, to, .. } if line.as_str() == "one" && *to == state),
        )
    };
    // 10 of 8000 are more than 0.05 % beyond chance, and less than 0.5 %.
    play(&line, 7990, 10).await;
    let slowed = moved(Seq(0), LineState::Slowed).await;
    sheds(Tier::Batch, submit(Tier::Batch).await);
    assert_eq!(submit(Tier::Normal).await, None);

    play(&line, 0, 60).await;
    let red = moved(slowed.seq, LineState::Slowed).await;
    assert!(red.event.to_string().contains("critical signals only"), "{}", red.event);
    sheds(Tier::Normal, submit(Tier::Normal).await);
    assert_eq!(submit(Tier::Critical).await, None);

    play(&line, 0, 200).await;
    let stopped = moved(red.seq, LineState::Stopped).await;
    let reason = submit(Tier::Critical).await;
    assert!(matches!(reason, Some(RefusalReason::Stopped { .. })), "{reason:?}");
    let seen = board(node.system(), |board| board.lines[0].state == LineState::Stopped).await;
    assert_eq!(seen.lines[1].state, LineState::Running, "the other line has nothing to do with it");

    // Nothing comes through, so its failures are soon a minute ago: critical signals try it first.
    tokio::time::sleep(100 * SECOND).await;
    moved(stopped.seq, LineState::Slowed).await;
    assert_eq!(submit(Tier::Critical).await, None);
    sheds(Tier::Normal, submit(Tier::Normal).await);
    moved(stopped.seq, LineState::Running).await;
    assert_eq!(submit(Tier::Batch).await, None);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_slow_lights_up_and_sheds_where_latency_may_stop_it() {
    let limits = |yellow, red| Thresholds::new(Some(yellow), Some(red), None).unwrap();
    let levels = LevelRules::default()
        .with(Measure::P95, limits(50_000, 90_000))
        .with(Measure::Memory, limits(1, u64::MAX));
    let rules = JidokaRules::builder().drives(Cause::Latency, true).build().unwrap();
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .levels(levels)
        .jidoka(rules)
        .pool(PoolSpec::new("work").workers(10, 10));
    let line = plant.line(LineSpec::<Work>::new("work", Work).breaker(never_opens()));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 10).await;

    let level = |after, measure, light| {
        receipt(
            node.system(),
            after,
            move |receipt| matches!(&receipt.event, Event::LevelMoved { measure: of, to, .. } if *of == measure && *to == light),
        )
    };
    for _ in 0..30 {
        let slow = Input::Sleep(Duration::from_millis(100));
        let mut ten = JoinSet::new();
        for _ in 0..10 {
            let line = line.clone();
            ten.spawn(async move { line.submit(Signal::new(slow).tier(Tier::Critical), &()).await });
        }
        ten.join_all().await;
    }
    let red = level(Seq(0), Measure::P95, Light::Red).await;
    let seen = red.event.to_string();
    assert!(seen.starts_with("line work") && seen.ends_with("threshold 90ms"), "{seen}");
    let moved = receipt(node.system(), red.seq, |receipt| {
        matches!(&receipt.event, Event::LineMoved { to: LineState::Slowed, .. })
    })
    .await;
    assert_eq!(moved.cause, Some(red.seq));
    let normal = line.submit(Signal::new(Input::Answer(1)), &()).await;
    assert!(matches!(normal, Err(SubmitError::Refused(_))), "{normal:?}");
    board(node.system(), |board| {
        board
            .stations
            .iter()
            .any(|station| station.name.as_str() == "line:work" && station.light == Light::Red)
    })
    .await;

    let memory = level(Seq(0), Measure::Memory, Light::Yellow).await;
    assert!(memory.event.to_string().starts_with("node green"), "{}", memory.event);

    // Ten seconds until it is forgotten, and a minute below.
    tokio::time::sleep(75 * SECOND).await;
    let green = level(red.seq, Measure::P95, Light::Green).await;
    assert_eq!(green.cause, Some(red.seq));
    receipt(node.system(), green.seq, |receipt| {
        matches!(&receipt.event, Event::LineMoved { to: LineState::Running, .. })
    })
    .await;
    assert_eq!(line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap(), 1);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_waits_for_a_person_runs_when_the_person_says_so() {
    let rules = JidokaRules::builder().reset(Cause::Failures, Reset::ByHand).build().unwrap();
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).jidoka(rules).pool(PoolSpec::new("work").workers(2, 2));
    let line = plant.line(LineSpec::<Work>::new("work", Work).breaker(never_opens()));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 2).await;
    tokio::time::sleep(2 * SECOND).await;
    play(&line, 400, 200).await;
    // Purple; but a line alone does not stop.
    board(node.system(), |board| board.lines[0].state == LineState::Slowed).await;
    let submit = || line.submit(Signal::new(Input::Answer(1)), &());
    tokio::time::sleep(600 * SECOND).await;
    assert!(submit().await.is_err(), "nobody has looked at it");
    let kill = node.system().kill(&"/plant/regulator".parse().unwrap(), "test").unwrap();
    receipt(node.system(), kill, |receipt| receipt.path.name() == "kaizen").await;
    assert!(submit().await.is_err(), "nor has a restart");
    let reset = Control::ResetCord { line: "work".parse().unwrap(), by: "ann".into() };
    while node.system().control(reset.clone()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(submit().await.unwrap(), 1);
    finish(node).await;
}

pub(crate) fn never_opens() -> gemba::breaker::BreakerRules {
    gemba::breaker::BreakerRules::builder()
        .failures_in_a_row(u32::MAX)
        .failure_ratio(1.0, u32::MAX, 10 * SECOND)
        .build()
        .expect("the rules are sound")
}

#[tokio::test(start_paused = true)]
async fn an_operator_opens_a_breaker_and_no_timer_ends_it() {
    let (node, line) = start_with(|spec| spec, PoolSpec::new("work").workers(2, 2)).await;
    workers(node.system(), "work", 2).await;
    let force = |breaker: &str, to| {
        let (by, why) = ("ann".into(), "the bank asked for it".into());
        node.system().control(Control::ForceBreaker { breaker: breaker.parse().unwrap(), to, by, why })
    };
    let submit = || line.submit(Signal::new(Input::Answer(1)), &());
    let opened = force("work", BreakerState::Open).await.unwrap();
    let told = receipt(node.system(), Seq(opened.0 - 1), |receipt| receipt.seq == opened).await;
    assert_eq!(told.event.to_string(), "breaker work closed → open: forced by ann: the bank asked for it");
    tokio::time::sleep(3600 * SECOND).await;
    let Err(SubmitError::Refused(refusal)) = submit().await else { panic!("it is held open") };
    assert_eq!(refusal.reason, RefusalReason::BreakerOpen);
    force("work", BreakerState::HalfOpen).await.unwrap();
    for _ in 0..3 {
        assert_eq!(submit().await.unwrap(), 1);
    }
    board(node.system(), |board| board.breakers[0].state == BreakerState::Closed).await;
    force("work", BreakerState::Open).await.unwrap();
    force("work", BreakerState::Closed).await.unwrap();
    assert_eq!(submit().await.unwrap(), 1);
    let unknown = force("wrok", BreakerState::Open).await.unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownBreaker { .. }), "{unknown}");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_pool_lends_its_capacity_to_one_at_its_maximum() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .burst(gemba::burst::BurstRules::builder().disabled().build().unwrap())
        .pool(patient(2, 4))
        .pool(PoolSpec::new("idle").workers(2, 4));
    let line = plant.line(LineSpec::<Work>::new("work", Work).deadline(600 * SECOND));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 2).await;
    teach(&line).await;
    let jobs: Vec<_> = (0..600)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.submit(Signal::new(Input::Sleep(SECOND)), &()).await })
        })
        .collect();
    let moved = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "capacity_moved").await;
    assert!(moved.event.to_string().starts_with("pool idle lends a worker to pool work"), "{}", moved.event);
    // The next would be due in half a minute.
    board(node.system(), |board| board.pools[0].workers == 5).await;
    let order = || node.system().control(Control::Rebalance { by: "ann".into() });
    let ordered = order().await.unwrap();
    let told = receipt(node.system(), moved.seq, |receipt| receipt.seq == ordered).await;
    assert!(told.event.to_string().ends_with("asked for by ann"), "{}", told.event);
    let lent = board(node.system(), |board| board.pools[0].workers == 6).await;
    assert!(told.at.since(moved.at) < 30 * SECOND, "{told:?}");
    assert_eq!(order().await, Err(ControlError::NothingToMove), "the other has its fewest");
    let maxima: Vec<_> = lent.pools.iter().map(|pool| (pool.workers_max, pool.surge)).collect();
    assert_eq!(maxima, [(6, 0), (2, 0)], "never below its minimum");
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn settings_are_applied_together_or_not_at_all() {
    use gemba::{
        ApplyError, SettingError, Settings, burst::BurstRules, scaling::ScaleRules, wait::WaitRules,
    };
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(2, 4));
    let _line = plant.line(LineSpec::<Work>::new("work", Work));
    let plant = plant.build().unwrap();
    let regulator = plant.regulator();
    let node = node.child(plant).start().await.unwrap();
    workers(node.system(), "work", 2).await;

    let faulty = Settings::new()
        .limits(0, 0.2, 0.83)
        .pool("work", ScaleRules::builder().workers(9, 3))
        .pool("wrok", ScaleRules::builder())
        .waiting("wrok", WaitRules::builder().shares(0.0, 0.1), 10)
        .burst(BurstRules::builder().burst(0.5, 10.0))
        .jidoka(JidokaRules::builder().stopped_max(0.9));
    let error = regulator.apply(faulty, "test").await.unwrap_err();
    let ApplyError::Settings(errors) = &error else { panic!("{error}") };
    assert_eq!(errors.0.len(), 5, "{error}");
    assert!(errors.0.iter().any(|error| matches!(error, SettingError::UnknownPool { .. })), "{error}");
    assert_eq!(regulator.limits().hard(Tier::Critical), 1200, "the old ones stay in force");

    let sound = Settings::new()
        .limits(600, 0.2, 0.83)
        .pool("work", ScaleRules::builder().workers(3, 6))
        .waiting("work", WaitRules::builder().shares(1.0, 1.0), 1)
        .burst(BurstRules::builder().disabled());
    let changed = regulator.apply(sound, "the night").await.unwrap();
    let told = receipt(node.system(), Seq(changed.0 - 1), |receipt| receipt.seq == changed).await;
    assert_eq!(
        told.event.to_string(),
        "settings changed: limits, pool work, waiting for pool work, burst: the night"
    );
    let Event::SettingsChanged { changes, .. } = &told.event else { panic!("{told:?}") };
    assert!(changes[0].from.contains("1200") && changes[0].to.contains("600"), "{changes:?}");
    assert_eq!(regulator.limits().hard(Tier::Critical), 600);
    workers(node.system(), "work", 3).await;
    let seen = board(node.system(), |board| !board.arrivals.enabled).await;
    assert_eq!((seen.pools[0].workers_min, seen.pools[0].workers_max), (3, 6));
    assert_eq!(seen.pools[0].queue_max, 1);
    // They outlive the regulator that took them.
    let kill = node.system().kill(&"/plant/regulator".parse().unwrap(), "test").unwrap();
    receipt(node.system(), kill, |receipt| receipt.path.name() == "kaizen").await;
    board(node.system(), |board| board.pools[0].workers == 3 && !board.arrivals.enabled).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_slows_a_line_down_is_traced_to_the_breaker_that_opened() {
    let (node, line) = start_with(|spec| spec, PoolSpec::new("work").workers(2, 2)).await;
    let system = node.system();
    workers(system, "work", 2).await;
    tokio::time::sleep(2 * SECOND).await;
    for n in 0..1000 {
        line.submit(Signal::new(Input::Answer(n)), &()).await.unwrap();
    }
    for _ in 0..5 {
        assert!(line.submit(Signal::new(Input::Fail), &()).await.is_err());
    }
    let kind = |kind: &'static str| move |receipt: &gemba::receipt::Receipt| receipt.event.kind() == kind;
    let slowed = receipt(system, Seq(0), kind("line_moved")).await;
    let mut chain = vec![slowed.event.kind()];
    let mut next = slowed.cause;
    while let Some(seq) = next {
        let cause = receipt(system, Seq(0), |receipt| receipt.seq == seq).await;
        chain.push(cause.event.kind());
        next = cause.cause;
    }
    assert_eq!(chain, ["line_moved", "ladder_moved", "breaker_moved"]);
    // The scribe counts a receipt soon after it was written.
    tokio::time::sleep(SECOND).await;
    let page = node.metrics();
    assert!(
        page.lines().any(|line| {
            line.starts_with("gemba_ladder_steps_total{of=\"work\",measure=\"failures\",to=")
                && line.ends_with(" 1")
        }),
        "{page}"
    );
    let opened = receipt(system, Seq(0), kind("breaker_moved")).await;
    tokio::time::sleep(60 * SECOND).await;
    line.submit(Signal::new(Input::Answer(1)).tier(Tier::Critical), &()).await.unwrap();
    let probed = receipt(system, opened.seq, kind("breaker_moved")).await;
    assert_eq!(probed.cause, Some(opened.seq), "it is half-open because it was open");
    finish(node).await;
}
