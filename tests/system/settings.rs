//! What a plant, a line and a node go by is changed while they run.

use std::sync::Arc;
use std::time::Duration;

use gemba::adaptive::AdaptiveRules;
use gemba::admission::Tier;
use gemba::breaker::BreakerRules;
use gemba::control::Control;
use gemba::forecast::ForecastRules;
use gemba::health::{HealthRules, HealthState};
use gemba::jidoka::{Cause, JidokaRules};
use gemba::ladder::{LadderRules, LevelRules, Measure, Thresholds};
use gemba::light::Light;
use gemba::name::Name;
use gemba::objective::TierObjectives;
use gemba::rate::Rate;
use gemba::receipt::{BreakerState, Event, Receipt, Seq};
use gemba::view::{BoardView, LineState};
use gemba::{
    ApplyError, Check, HealthSpec, Line, LineSection, LineSpec, Node, Plant, PlantSection, RateScope,
    Receipts, RefusalReason, RegulatorHandle, Settings, Signal, SubmitError,
};
use gemba_kit::{board, finish, receipt, story, workers};

use crate::plant::{Input, Work, patient};

const SECOND: Duration = Duration::from_secs(1);

/// A node with one line, whose breaker opens after four failures, and who can change it.
async fn start(health: HealthSpec) -> (Node, Line<Work>, RegulatorHandle) {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).health(health).pool(patient(4, 4));
    let breaker = BreakerRules::builder().failures_in_a_row(4).build().expect("sound rules");
    let line = plant.line(LineSpec::<Work>::new("work", Work).breaker(breaker));
    let plant = plant.build().expect("the plant is sound");
    let regulator = plant.regulator();
    let node = node.child(plant).start().await.expect("the node starts");
    workers(node.system(), "work", 4).await;
    (node, line, regulator)
}

/// How many receipts of failures there are.
fn failures_told(node: &Node) -> usize {
    let failed = |receipt: &Receipt| receipt.event.kind() == "signal_ended";
    story(node.system()).iter().filter(|receipt| failed(receipt)).count()
}

#[tokio::test(start_paused = true)]
async fn a_line_leaves_other_receipts_and_is_held_against_other_objectives_from_then_on() {
    let (node, line, regulator) = start(HealthSpec::new().without_machine()).await;
    fail(&line, 1).await;
    assert_eq!(failures_told(&node), 0);
    let unmeasured = TierObjectives::default().with(Tier::Normal, None).unwrap();
    let told = Settings::new().receipts("work", Receipts::failures()).objectives("work", unmeasured);
    regulator.apply(told, "to see").await.unwrap();
    fail(&line, 1).await;
    assert_eq!(failures_told(&node), 1);
    board(node.system(), |board| board.lines[0].failed == 2 && board.lines[0].objectives.is_empty()).await;

    regulator.apply(Settings::new().line_as_built("work"), "seen").await.unwrap();
    fail(&line, 1).await;
    assert_eq!(failures_told(&node), 1);
    // The failure in between was held against nothing.
    let counted = |board: &BoardView| {
        board.lines[0].objectives.iter().map(|tier| tier.in_time + tier.slow).sum::<u64>()
    };
    board(node.system(), |board| counted(board) == 2).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_configuration_does_not_say_of_rates_stays_as_the_program_has_it() {
    let hourly = |count| Rate::new(count, 3600 * SECOND).unwrap();
    let section =
        PlantSection { lines: [("work".to_owned(), LineSection::default())].into(), ..Default::default() };
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).section(&section).pool(patient(4, 4));
    let spec = LineSpec::<Work>::new("work", Work).rate(hourly(3)).rate_per_key(hourly(2), 10);
    let line = plant.line(spec.section(&section.lines["work"]));
    let plant = plant.build().expect("the plant is sound");
    let regulator = plant.regulator();
    let node = node.child(plant).start().await.expect("the node starts");
    workers(node.system(), "work", 4).await;
    let submit = |key: &'static [u8]| line.submit(Signal::new(Input::Answer(1)).key(key), &());
    assert!(submit(b"ann").await.is_ok() && submit(b"ann").await.is_ok());
    regulator.apply(section.settings(), "the same").await.unwrap();
    let scope = |answer| match answer {
        Err(SubmitError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(scope(submit(b"ann").await), RefusalReason::RateLimited { scope: RateScope::Key });
    assert!(submit(b"ben").await.is_ok());
    assert_eq!(scope(submit(b"ben").await), RefusalReason::RateLimited { scope: RateScope::Line });
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_said_of_jidoka_holds_after_a_restart_of_the_plant() {
    let (node, line, regulator) = start(HealthSpec::new().without_machine()).await;
    let system = node.system();
    let (name, by): (Name, Arc<str>) = ("work".parse().unwrap(), "ann".into());
    // A line that has moved is remembered with the rules of that moment.
    let pull = Control::PullCord { line: name.clone(), by: by.clone(), why: "smoke".into() };
    system.control(pull).await.unwrap();
    system.control(Control::ResetCord { line: name, by }).await.unwrap();
    let breaker =
        BreakerRules::builder().failures_in_a_row(u32::MAX).failure_ratio(1.0, u32::MAX, 10 * SECOND);
    let shown = JidokaRules::builder().drives(Cause::Failures, false);
    regulator.apply(Settings::new().jidoka(shown).breaker("work", breaker), "only show it").await.unwrap();
    let kill = system.kill(&"/plant/regulator".parse().unwrap(), "test").unwrap();
    receipt(system, kill, |receipt| receipt.path.name() == "kaizen").await;
    workers(system, "work", 4).await;
    tokio::time::sleep(2 * SECOND).await;
    for n in 0..1000 {
        line.submit(Signal::new(if n % 2 == 0 { Input::Fail } else { Input::Answer(n) }), &()).await.ok();
    }
    let purple = |receipt: &Receipt| matches!(&receipt.event, Event::LadderMoved { to: Light::Purple, .. });
    receipt(system, kill, purple).await;
    tokio::time::sleep(5 * SECOND).await;
    board(system, |board| board.lines[0].state == LineState::Running).await;
    assert!(line.submit(Signal::new(Input::Answer(1)), &()).await.is_ok());
    finish(node).await;
}

async fn fail(line: &Line<Work>, times: u32) {
    for _ in 0..times {
        assert!(line.submit(Signal::new(Input::Fail), &()).await.is_err());
    }
}

async fn breaker(node: &Node, state: BreakerState) {
    board(node.system(), |board| board.breakers[0].state == state).await;
}

#[tokio::test(start_paused = true)]
async fn a_line_takes_another_breaker_deadline_and_limit_of_calls_while_it_runs() {
    let (node, line, regulator) = start(HealthSpec::new().without_machine()).await;
    fail(&line, 3).await;
    // Three have failed: the breaker that opens at two opens with the next.
    let strict = BreakerRules::builder().failures_in_a_row(2).open(5 * SECOND, 5 * SECOND).jitter(0.0, 0);
    regulator.apply(Settings::new().breaker("work", strict), "strict").await.unwrap();
    breaker(&node, BreakerState::Closed).await;
    fail(&line, 1).await;
    breaker(&node, BreakerState::Open).await;

    // It is open for its five seconds, whatever is said meanwhile.
    let lax = BreakerRules::builder().failures_in_a_row(100).probes(1, SECOND, 1);
    regulator.apply(Settings::new().breaker("work", lax), "lax").await.unwrap();
    let Err(SubmitError::Refused(refusal)) = line.submit(Signal::new(Input::Answer(1)), &()).await else {
        panic!("it is open")
    };
    assert_eq!(refusal.reason, RefusalReason::BreakerOpen);
    assert!(refusal.retry_after <= 5 * SECOND, "{refusal:?}");
    tokio::time::sleep(refusal.retry_after).await;
    line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap();
    breaker(&node, BreakerState::Closed).await;

    // A signal on its way keeps its deadline of five seconds.
    let early = tokio::spawn({
        let line = line.clone();
        async move { line.submit(Signal::new(Input::Sleep(4 * SECOND)), &()).await }
    });
    tokio::time::sleep(SECOND).await;
    let short = Settings::new()
        .deadline("work", 2 * SECOND)
        .adaptive("work", AdaptiveRules::builder().limits(1, 1, 1));
    regulator.apply(short, "short").await.unwrap();
    let late = line.submit(Signal::new(Input::Sleep(3 * SECOND)), &());
    let second = async {
        tokio::time::sleep(SECOND / 10).await;
        line.submit(Signal::new(Input::Answer(1)), &()).await
    };
    let (late, second) = tokio::join!(late, second);
    assert!(matches!(late, Err(SubmitError::TimedOut)), "{late:?}");
    let Err(SubmitError::Refused(refusal)) = second else { panic!("one call at a time: {second:?}") };
    assert_eq!(refusal.reason, RefusalReason::DownstreamBusy);
    early.await.unwrap().unwrap();

    // As the program has it: the breaker opens at four again, and there is no limit of calls.
    let receipt_of = regulator.apply(Settings::new().line_as_built("work"), "back").await.unwrap();
    let told = receipt(node.system(), Seq(receipt_of.0 - 1), |receipt| receipt.seq == receipt_of).await;
    let text = "settings changed: breaker of line work, calls of line work, deadline of line work: back";
    assert_eq!(told.event.to_string(), text);
    let both = || line.submit(Signal::new(Input::Sleep(3 * SECOND)), &());
    let (one, other) = tokio::join!(both(), both());
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    fail(&line, 4).await;
    breaker(&node, BreakerState::Open).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn lights_follow_other_thresholds_and_go_out_without_any() {
    let (node, line, regulator) = start(HealthSpec::new().without_machine()).await;
    tokio::time::sleep(2 * SECOND).await;
    for n in 0..1000 {
        line.submit(Signal::new(if n % 50 == 0 { Input::Fail } else { Input::Answer(n) }), &()).await.ok();
    }
    // By default 2 % are purple; what was counted is held against other thresholds from the next look on.
    let ladder = |yellow, red| LadderRules::builder().thresholds(yellow, red, 0.9).clearing(1.0, SECOND);
    regulator.apply(Settings::new().ladder(ladder(0.001, 0.5)), "calm").await.unwrap();
    let is = |to: Light| move |receipt: &Receipt| matches!(&receipt.event, Event::LadderMoved { to: now, .. } if *now == to);
    let yellow = receipt(node.system(), Seq(0), is(Light::Yellow)).await;
    regulator.apply(Settings::new().ladder(ladder(0.001, 0.002)), "strict").await.unwrap();
    receipt(node.system(), yellow.seq, is(Light::Red)).await;

    let level = |limit| {
        let limits = Thresholds::new(None, Some(limit), None).unwrap();
        Settings::new()
            .levels(LevelRules::default().with(Measure::Connections, limits).with(Measure::Queued, limits))
    };
    regulator.apply(level(2), "watch").await.unwrap();
    let jobs: Vec<_> = (0..8)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.submit(Signal::new(Input::Sleep(4 * SECOND)), &()).await })
        })
        .collect();
    let level_is = |to: Light| move |receipt: &Receipt| matches!(&receipt.event, Event::LevelMoved { measure: Measure::Queued, to: now, .. } if *now == to);
    let red = receipt(node.system(), Seq(0), level_is(Light::Red)).await;
    regulator.apply(Settings::new().levels(LevelRules::default()), "no more").await.unwrap();
    let out = receipt(node.system(), red.seq, level_is(Light::Green)).await;
    assert!(out.event.to_string().ends_with("threshold 2 signals"), "{}", out.event);
    assert_eq!(out.cause, Some(red.seq));
    for job in jobs {
        let _ = job.await.unwrap();
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn checks_are_asked_by_other_rules_and_what_does_not_fit_them_is_refused() {
    let broken = Check::new("stock", || async { Err::<&str, _>("empty") }).weight(1).within(2 * SECOND);
    let well = Check::new("desk", || async { Ok::<_, &str>("open") }).weight(8);
    let spec = HealthSpec::new().without_machine().check(broken).check(well);
    let (node, _line, regulator) = start(spec).await;
    receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "check_moved").await;
    let too_often = Settings::new().health(HealthRules::builder().every(SECOND, 3 * SECOND));
    let error = regulator.apply(too_often, "often").await.unwrap_err();
    assert!(error.to_string().contains("check 'stock' may take 2s"), "{error}");
    let strict = HealthRules::builder().every(3 * SECOND, 9 * SECOND).degraded_above_milli(50);
    let asked = node.system().now();
    regulator.apply(Settings::new().health(strict), "strict").await.unwrap();
    let degraded =
        |receipt: &Receipt| matches!(receipt.event, Event::HealthMoved { to: HealthState::Degraded, .. });
    let told = receipt(node.system(), Seq(0), degraded).await;
    assert!(told.at.since(asked) <= 4 * SECOND, "a period of three seconds: {told:?}");
    regulator.apply(Settings::new().health_as_built(), "back").await.unwrap();
    let well =
        |receipt: &Receipt| matches!(receipt.event, Event::HealthMoved { to: HealthState::Healthy, .. });
    receipt(node.system(), told.seq, well).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_is_told_at_once_in_the_answer_and_in_a_receipt() {
    let (node, line, regulator) = start(HealthSpec::new().without_machine()).await;
    let hour = Duration::from_secs(3600);
    let faulty = Settings::new()
        .limits(600, 0.2, 0.83)
        .breaker("work", BreakerRules::builder().failures_in_a_row(0))
        .adaptive("work", AdaptiveRules::builder().tolerance(3.0))
        .deadline("work", Duration::ZERO)
        .follow_up_within("work", hour)
        .objective("work", 1.0)
        .breaker("wrok", BreakerRules::builder())
        .deadline("wrok", SECOND)
        .ladder(LadderRules::builder().thresholds(0.5, 0.1, 0.2))
        .forecast(ForecastRules::builder().buffer(2.0))
        .regressions(0.0, 0.01, 500)
        .burn_rates(1.0, 6.0, 14.4, 10)
        .pool_health([0.9, 0.8], [0.1, 0.2], SECOND)
        .health(HealthRules::builder().confirm(0));
    let error = regulator.apply(faulty, "by mistake").await.unwrap_err();
    let ApplyError::Settings(errors) = &error else { panic!("{error}") };
    assert_eq!(errors.0.len(), 12, "{error}");
    let told = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "settings_refused").await;
    let Event::SettingsRefused { faults, faults_total, why } = &told.event else { panic!("{told:?}") };
    assert_eq!((faults.len(), *faults_total, &**why), (12, 12, "by mistake"));
    for expected in [
        "line 'work': the number of failures in a row is 0; give at least 1",
        "line 'work': a tolerance of 3 is out of range; give a number from 1 up to, but not including, 2",
        "line 'work': a deadline of 0ns; give more than zero and at most 86400s",
        "line 'work': what follows may take 3600s; give more than zero and at most 60s",
        "line 'work': an objective of 1 is out of range; give 0.9 to 0.999999",
        "no line is called 'wrok'; the lines are: work",
        "burn rates: 1 in an hour, 6 in six, 14.4 in three days",
        "health: 0 answers in a row change a check; give 1 to 100",
    ] {
        assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{expected} in {faults:?}");
    }
    assert_eq!(regulator.limits().hard(Tier::Critical), 1200, "nothing was changed");
    fail(&line, 3).await;
    breaker(&node, BreakerState::Closed).await;
    finish(node).await;
}
