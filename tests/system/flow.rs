//! Signals through the line: limits, deadlines, refusals, and what every failure gives back.

use std::sync::Arc;
use std::time::Duration;

use gemba::admission::{Limits, Tier};
use gemba::breaker::{BreakerRules, Outcome};
use gemba::control::{Control, ControlError};
use gemba::light::Light;
use gemba::policy::{Policy, all, rule};
use gemba::receipt::{BreakerState, Event, Seq};
use gemba::view::{BoardView, LineState};
use gemba::{
    Action, JOURNAL_CAPACITY, JobContext, LineSpec, Node, Plant, PoolSpec, RefusalReason, RegionGuard,
    Resized, Signal, SubmitError,
};
use gemba_kit::{actor, board, finish, receipt, workers};

use crate::plant::{Failed, Input, Work, patient, start, start_with, teach};

fn sleep(secs: u64) -> Input {
    Input::Sleep(Duration::from_secs(secs))
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_signal_and_one_worker_for_a_moment() {
    let (node, line) = start(2).await;
    workers(node.system(), "work", 2).await;
    let died = line.submit(Signal::new(Input::Panic), &()).await;
    assert!(matches!(died, Err(SubmitError::WorkerDied)), "{died:?}");
    for n in 0..20 {
        assert_eq!(line.submit(Signal::new(Input::Answer(n)), &()).await.unwrap(), n);
    }
    let exit = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "child_exited").await;
    let restart = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "child_restarted").await;
    assert_eq!((restart.cause, &restart.path), (Some(exit.seq), &exit.path));
    assert!(exit.event.to_string().contains("asked to panic"), "{}", exit.event);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn workers_that_die_in_droves_lose_nothing_that_was_not_begun() {
    let (node, line) = start(4).await;
    workers(node.system(), "work", 4).await;
    teach(&line).await;
    let jobs: Vec<_> = (0..200)
        .map(|n| {
            let line = line.clone();
            let input = if n % 5 == 0 { Input::Panic } else { Input::Answer(n) };
            tokio::spawn(async move { (n, line.submit(Signal::new(input), &()).await) })
        })
        .collect();
    for job in jobs {
        match job.await.unwrap() {
            (n, Err(SubmitError::WorkerDied)) => assert_eq!(n % 5, 0),
            (n, result) => assert_eq!(result.unwrap(), n),
        }
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_limit_is_refused_at_once_and_the_reserve_is_for_critical_signals() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .limits(Limits::new(10, 0.2, 0.83).unwrap())
        .pool(PoolSpec::new("work").workers(10, 10));
    let line = plant.line(LineSpec::<Work>::new("work", Work));
    let plant = plant.build().unwrap();
    let regulator = plant.regulator();
    let node = node.child(plant).start().await.unwrap();
    workers(node.system(), "work", 10).await;
    let submit = |tier| {
        let line = line.clone();
        tokio::spawn(async move { line.submit(Signal::new(sleep(1)).tier(tier), &()).await })
    };
    let normal: Vec<_> = (0..8).map(|_| submit(Tier::Normal)).collect();
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(regulator.in_flight(), 8);
    let Err(SubmitError::Refused(refusal)) = submit(Tier::Normal).await.unwrap() else {
        panic!("the ninth is refused")
    };
    assert_eq!(refusal.reason, RefusalReason::Overloaded { in_flight: 8, limit: 8 });
    let critical = submit(Tier::Critical);
    for job in normal.into_iter().chain([critical]) {
        job.await.unwrap().unwrap();
    }
    assert_eq!(regulator.in_flight(), 0);
    let receipt_seq = regulator.set_limits(Limits::new(20, 0.2, 0.83).unwrap(), "test").await.unwrap();
    let changed = receipt(node.system(), Seq(receipt_seq.0 - 1), |receipt| receipt.seq == receipt_seq).await;
    assert!(matches!(changed.event, Event::LimitsChanged { hard_from: 10, hard_to: 20, .. }));
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_a_signal_whose_time_is_up_is_not_started() {
    let pool = patient(1, 1).queue_max(2);
    let (node, line) = start_with(|spec| spec.deadline(Duration::from_secs(10)), pool).await;
    workers(node.system(), "work", 1).await;
    teach(&line).await;
    let submit = |input, deadline| {
        let line = line.clone();
        tokio::spawn(async move { line.submit(Signal::new(input).deadline(deadline), &()).await })
    };
    let running = submit(sleep(2), Duration::from_secs(10));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let patient = submit(Input::Answer(1), Duration::from_secs(10));
    let hasty = submit(Input::Answer(2), Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let Err(SubmitError::Refused(refusal)) = submit(Input::Answer(3), Duration::from_secs(10)).await.unwrap()
    else {
        panic!("the queue is full")
    };
    assert_eq!(refusal.reason, RefusalReason::QueueFull);
    running.await.unwrap().unwrap();
    assert_eq!(patient.await.unwrap().unwrap(), 1);
    assert!(matches!(hasty.await.unwrap(), Err(SubmitError::TimedOut | SubmitError::Refused(_))));
    let late = line.submit(Signal::new(sleep(5)).deadline(Duration::from_secs(1)), &()).await;
    assert!(matches!(late, Err(SubmitError::TimedOut)), "{late:?}");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_its_queued_job_along() {
    let (node, line) = start_with(|spec| spec, PoolSpec::new("work").workers(1, 1)).await;
    workers(node.system(), "work", 1).await;
    let spawn = |input| {
        let line = line.clone();
        tokio::spawn(async move { line.submit(Signal::new(input), &()).await })
    };
    let running = spawn(sleep(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let gone = spawn(Input::Panic);
    tokio::time::sleep(Duration::from_millis(1)).await;
    gone.abort();
    running.await.unwrap().unwrap();
    assert_eq!(line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap(), 1);
    assert_eq!(actor(node.system(), "/plant/pools/work/workers/1").restarts, 0, "its action was not started");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_rejects_with_every_violation_and_nothing_is_done() {
    let odd = rule("odd", 3, |input: &Input, facts: &u32| {
        matches!(input, Input::Answer(n) if n % 2 == 1).then(|| format!("odd, and the facts say {facts}"))
    });
    let three = rule("three", 1, |input: &Input, _: &u32| {
        matches!(input, Input::Answer(3)).then(|| "it is three".to_owned())
    });
    let policy = all("parity", 7, [odd.boxed(), three.boxed()]);
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(1, 1));
    let line = plant.line(LineSpec::new("work", Work).policy(policy));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    assert_eq!(line.submit(Signal::new(Input::Answer(2)), &9).await.unwrap(), 2);
    let Err(SubmitError::Rejected(rejection)) = line.submit(Signal::new(Input::Answer(3)), &9).await else {
        panic!("it is odd")
    };
    assert_eq!((&*rejection.policy, rejection.version), ("parity", 7));
    let rules: Vec<_> = rejection.violations.iter().map(|found| (&*found.rule, found.version)).collect();
    assert_eq!(rules, [("odd", 3), ("three", 1)]);
    assert_eq!(rejection.to_string(), "rejected by policy parity v7: odd, and the facts say 9; it is three");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_downstream_that_fails_is_left_alone_and_tried_again_by_one_probe() {
    let rules = BreakerRules::default();
    let (node, line) = start_with(move |spec| spec.breaker(rules), PoolSpec::new("work").workers(2, 2)).await;
    workers(node.system(), "work", 2).await;
    for _ in 0..5 {
        let failed = line.submit(Signal::new(Input::Fail), &()).await;
        assert!(matches!(failed, Err(SubmitError::Failed(Failed))), "{failed:?}");
    }
    let Err(SubmitError::Refused(refusal)) = line.submit(Signal::new(Input::Answer(1)), &()).await else {
        panic!("the breaker is open")
    };
    assert_eq!(refusal.reason, RefusalReason::BreakerOpen);
    let red = board(node.system(), |board| board.overall == Light::Red).await;
    assert!(red.stations.iter().any(|station| station.name.as_str() == "breaker:work"), "{red:?}");
    tokio::time::sleep(refusal.retry_after).await;
    for n in 0..3 {
        assert_eq!(line.submit(Signal::new(Input::Answer(n)), &()).await.unwrap(), n);
    }
    receipt(node.system(), Seq(0), |receipt| {
        matches!(receipt.event, Event::BreakerMoved { to: BreakerState::Closed, .. })
    })
    .await;
    board(node.system(), |board| board.breakers[0].state == BreakerState::Closed).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn the_cord_stops_one_line_until_it_is_reset() {
    let (node, line) = start(1).await;
    let pull = || Control::PullCord { line: "work".parse().unwrap(), by: "ann".into(), why: "smoke".into() };
    let reset = || Control::ResetCord { line: "work".parse().unwrap(), by: "ben".into() };
    assert_eq!(
        node.system().control(reset()).await,
        Err(ControlError::NotPulled { line: "work".parse().unwrap() })
    );
    node.system().control(pull()).await.unwrap();
    let Err(SubmitError::Refused(refusal)) = line.submit(Signal::new(Input::Answer(1)), &()).await else {
        panic!("the line is stopped")
    };
    assert_eq!(refusal.reason, RefusalReason::Stopped { by: "ann".into(), why: "smoke".into() });
    assert!(matches!(node.system().control(pull()).await, Err(ControlError::AlreadyPulled { .. })));
    let seen = board(node.system(), |board| board.overall == Light::Red).await;
    assert_eq!(seen.lines[0].state, LineState::Stopped);
    // The cord outlives the board that took it.
    let kill = node.system().kill(&"/plant/board".parse().unwrap(), "test").unwrap();
    receipt(node.system(), kill, |receipt| {
        receipt.path.as_str() == "/plant" || receipt.path.name() == "kaizen"
    })
    .await;
    assert!(line.submit(Signal::new(Input::Answer(1)), &()).await.is_err());
    let unknown = Control::PullCord { line: "wrok".parse().unwrap(), by: "ann".into(), why: "smoke".into() };
    let error = loop {
        match node.system().control(unknown.clone()).await {
            Err(ControlError::Unavailable) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(error.to_string(), "no line is called 'wrok'; the lines are: work");
    node.system().control(reset()).await.unwrap();
    assert_eq!(line.submit(Signal::new(Input::Answer(1)), &()).await.unwrap(), 1);
    board(node.system(), |board| board.lines[0].state == LineState::Running).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_light_that_is_older_than_the_journal_stays_lit_when_the_board_dies() {
    let (node, _line) = start(1).await;
    let system = node.system();
    let pull = Control::PullCord { line: "work".parse().unwrap(), by: "ann".into(), why: "smoke".into() };
    let pulled = system.control(pull).await.unwrap();
    let red = |board: &BoardView| {
        let station = board.stations.iter().find(|station| station.name.as_str() == "line:work");
        station.is_some_and(|station| station.light == Light::Red)
    };
    board(system, red).await;
    let silenced = || Event::AlertsSilenced {
        stations: "pool:*".into(),
        for_ms: 1,
        by: "ann".into(),
        why: "noise".into(),
    };
    for _ in 0..JOURNAL_CAPACITY {
        system.record(None, &"/plant".parse().unwrap(), silenced());
    }
    assert!(pulled < system.journal().after(Seq(0), None, 1).receipts[0].seq, "nobody remembers the cord");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let kill = system.kill(&"/plant/board".parse().unwrap(), "test").unwrap();
    receipt(system, kill, |receipt| receipt.path.name() == "kaizen").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    board(system, red).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_grows_under_load_and_shrinks_when_it_is_gone() {
    let (node, line) = start_with(|spec| spec, patient(2, 10)).await;
    workers(node.system(), "work", 2).await;
    teach(&line).await;
    let jobs: Vec<_> = (0..40)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move {
                line.submit(Signal::new(sleep(10)).deadline(Duration::from_secs(300)), &()).await
            })
        })
        .collect();
    board(node.system(), |board| board.pools[0].workers == 10).await;
    for job in jobs {
        job.await.unwrap().unwrap();
    }
    tokio::time::timeout(Duration::from_secs(1800), async {
        let mut boards = node.system().board_publisher().subscribe();
        boards.wait_for(|board| board.pools[0].workers == 2).await.unwrap();
    })
    .await
    .expect("one by one, a minute apart");
    workers(node.system(), "work", 2).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_resizes_a_pool_within_its_limits() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(2, 6));
    let line = plant.line(LineSpec::<Work>::new("work", Work));
    let plant = plant.build().unwrap();
    let pool = plant.pool("work").unwrap();
    let node = node.child(plant).start().await.unwrap();
    workers(node.system(), "work", 2).await;
    assert_eq!(pool.resize(5).await.unwrap(), Resized { from: 2, to: 5 });
    workers(node.system(), "work", 5).await;
    assert_eq!(pool.resize(100).await.unwrap(), Resized { from: 5, to: 6 });
    workers(node.system(), "work", 6).await;
    let busy = tokio::spawn({
        let line = line.clone();
        async move { line.submit(Signal::new(sleep(1)), &()).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(pool.resize(0).await.unwrap(), Resized { from: 6, to: 2 });
    assert_eq!(busy.await.unwrap().unwrap(), 0, "a worker that has to go finishes what it has");
    workers(node.system(), "work", 2).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn passing_the_soft_limit_warns_and_refuses_nobody() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .limits(Limits::new(10, 0.2, 0.5).unwrap())
        .pool(PoolSpec::new("work").workers(10, 10));
    let line = plant.line(LineSpec::<Work>::new("work", Work));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 10).await;
    let jobs: Vec<_> = (0..4)
        .map(|_| {
            let line = line.clone();
            tokio::spawn(async move { line.submit(Signal::new(sleep(1)), &()).await })
        })
        .collect();
    let passed = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "soft_limit_passed").await;
    assert!(
        matches!(passed.event, Event::SoftLimitPassed { in_flight: 4, soft: 4, tier: Tier::Normal }),
        "{passed:?}"
    );
    board(node.system(), |board| board.overall == Light::Yellow).await;
    let fifth = {
        let line = line.clone();
        let signal = Signal::new(sleep(1)).tier(Tier::Critical);
        tokio::spawn(async move { line.submit(signal, &()).await })
    };
    let passed =
        receipt(node.system(), passed.seq, |receipt| receipt.event.kind() == "soft_limit_passed").await;
    assert!(
        matches!(passed.event, Event::SoftLimitPassed { in_flight: 5, soft: 5, tier: Tier::Critical }),
        "{passed:?}"
    );
    for job in jobs.into_iter().chain([fifth]) {
        job.await.unwrap().unwrap();
    }
    // The scribe counts a receipt soon after it was written.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let page = node.metrics();
    for tier in ["normal", "critical"] {
        let counted = format!("gemba_admission_soft_limit_passed_total{{tier=\"{tier}\"}} 1\n");
        assert!(page.contains(&counted), "{page}");
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn more_arrivals_than_the_baseline_explains_are_a_surge_sized_by_demand() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .pool(PoolSpec::new("work").workers(4, 10))
        .pool(PoolSpec::new("idle").workers(2, 10));
    let line = plant.line(LineSpec::<Work>::new("work", Work));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 4).await;
    let send = |per_s: u64, secs: u64| {
        let line = line.clone();
        async move {
            for _ in 0..per_s * secs {
                let line = line.clone();
                let job = Signal::new(Input::Sleep(Duration::from_millis(100)));
                tokio::spawn(async move { line.submit(job, &()).await });
                tokio::time::sleep(Duration::from_micros(1_000_000 / per_s)).await;
            }
        }
    };
    send(20, 90).await;
    let calm = board(node.system(), |board| board.arrivals.baseline_per_s.is_some()).await;
    assert!(!calm.arrivals.surge && calm.arrivals.enabled, "{:?}", calm.arrivals);
    // Work for 20: 29 workers at the target, and the pool has 10 at most.
    send(200, 30).await;
    let surge = board(node.system(), |board| board.arrivals.surge).await;
    assert!(50.0 < surge.arrivals.fast_per_s && surge.overall == Light::Yellow, "{:?}", surge.arrivals);
    let pool = |board: &BoardView, name: &str| {
        board.pools.iter().find(|pool| pool.name.as_str() == name).cloned().unwrap()
    };
    let grown = board(node.system(), |board| 15 <= pool(board, "work").surge).await;
    assert!(pool(&grown, "work").surge <= 22, "{:?}", pool(&grown, "work"));
    assert_eq!((pool(&grown, "idle").workers, pool(&grown, "idle").surge), (2, 0), "it has nothing to do");
    let resized = receipt(
        node.system(),
        Seq(0),
        |receipt| matches!(&receipt.event, Event::PoolResized { to, .. } if 10 < *to),
    )
    .await;
    let started = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "surge_started").await;
    assert_eq!(resized.cause, Some(started.seq));
    // It holds, fades, and is paid for.
    send(20, 440).await;
    let ended = receipt(node.system(), started.seq, |receipt| receipt.event.kind() == "surge_ended").await;
    let Event::SurgeEnded { lasted_ms, cost_micro } = ended.event else { panic!("{ended:?}") };
    assert!((400_000..450_000).contains(&lasted_ms), "{lasted_ms}");
    let after = board(node.system(), |board| !board.arrivals.surge && pool(board, "work").surge == 0).await;
    // About 19 workers for 300 s and half of them for 120 s, at 2.00 an hour.
    assert!((3_000_000..5_000_000).contains(&cost_micro), "{cost_micro}");
    assert!(cost_micro <= after.cost.surge_micro && after.cost.surge_micro < cost_micro + 100_000);
    assert_eq!(after.arrivals.surged_ms, lasted_ms);
    assert_eq!((after.arrivals.surges, after.cost.permanent_advised), (1, 0));
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_rise_at_the_same_time_of_a_season_is_prepared_for() {
    // A season of 168 slots of 5 s, and a rise in the same slot of it.
    let slot = Duration::from_secs(5);
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .forecast(gemba::forecast::ForecastRules::builder().season(slot, slot).build().unwrap())
        .burst(gemba::burst::BurstRules::builder().disabled().build().unwrap())
        .pool(PoolSpec::new("work").workers(2, 30));
    let line = plant.line(LineSpec::<Work>::new("work", Work));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    let season = 168 * slot;
    // Slots begin with the clock's, and so does the test.
    let slot_ms = slot.as_millis() as u64;
    tokio::time::sleep(Duration::from_millis(slot_ms - node.system().unix_ms() % slot_ms)).await;
    let begun = tokio::time::Instant::now();
    let (mut before, mut other) = (u32::MAX, u32::MAX);
    while begun.elapsed() < 2 * season {
        let at = begun.elapsed().as_secs() % season.as_secs();
        let rush = (400..430).contains(&at);
        if season < begun.elapsed() && at == 398 {
            before = board(node.system(), |_| true).await.pools[0].workers;
        }
        if season < begun.elapsed() && at == 390 {
            other = board(node.system(), |_| true).await.pools[0].workers;
        }
        let pause = Duration::from_millis(if rush { 10 } else { 500 });
        let line = line.clone();
        let job = Signal::new(Input::Sleep(Duration::from_millis(100)));
        tokio::spawn(async move { line.submit(job, &()).await });
        tokio::time::sleep(pause).await;
    }
    // Work for 10, with the buffer 11: 16 workers at the target. A pool tells of its arrivals once a second,
    // so that of a slot as short as this one up to a quarter counts for the next.
    assert!((11..=18).contains(&before), "{before} workers just before the rise");
    assert!(other < 8, "{other} workers long before it");
    finish(node).await;
}

/// Pays at a bank that stands in two regions: in the first that its breaker lets it call.
struct Bank {
    regions: RegionGuard,
    down: Arc<[&'static str]>,
}

#[derive(Debug, thiserror::Error)]
#[error("no region could be called")]
struct NoRegion;

impl Action for Bank {
    type Input = ();
    type Output = &'static str;
    type Error = NoRegion;

    async fn run(&self, (): (), _: &JobContext) -> Result<&'static str, NoRegion> {
        for region in ["eu", "us"] {
            let Ok(pass) = self.regions.enter(region) else { continue };
            if self.down.contains(&region) {
                pass.spend(Outcome::Failure);
            } else {
                pass.succeeded();
                return Ok(region);
            }
        }
        Err(NoRegion)
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_down_is_left_alone_and_the_others_do_its_work() {
    let node = Node::builder("test");
    let rules = BreakerRules::builder().failures_in_a_row(3).build().unwrap();
    let bank = |down: &[&'static str], name| Bank {
        regions: RegionGuard::new(node.system(), name, &["eu", "us", "ap"], rules, 0.5).unwrap(),
        down: down.into(),
    };
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(1, 1));
    let line = plant.line(LineSpec::new("half", bank(&["eu"], "bank")).pool("work"));
    let lost = plant.line(LineSpec::new("lost", bank(&["eu", "us"], "other")).pool("work"));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 1).await;

    for _ in 0..20 {
        assert_eq!(line.submit(Signal::new(()), &()).await.unwrap(), "us", "another region answers");
    }
    let seen = board(node.system(), |board| {
        board.stations.iter().any(|station| station.name.as_str() == "breaker:bank.eu")
    })
    .await;
    assert_eq!(seen.overall, Light::Red);
    assert!(!seen.stations.iter().any(|station| station.name.as_str() == "breaker:bank"), "only one region");

    for _ in 0..5 {
        lost.submit(Signal::new(()), &()).await.unwrap_err();
    }
    let all = receipt(
        node.system(),
        Seq(0),
        |receipt| matches!(&receipt.event, Event::BreakerMoved { breaker, .. } if breaker.as_str() == "other"),
    )
    .await;
    assert!(all.event.to_string().contains("2 of 3 regions fail"), "{}", all.event);

    // An operator forces them by name: all of one bank closed again, and a region of the other open.
    let force = |breaker: &str, to| {
        let (by, why) = ("ann".into(), "smoke".into());
        node.system().control(Control::ForceBreaker { breaker: breaker.parse().unwrap(), to, by, why })
    };
    force("other", BreakerState::Closed).await.unwrap();
    force("bank.us", BreakerState::Open).await.unwrap();
    line.submit(Signal::new(()), &()).await.unwrap_err();
    board(node.system(), |board| {
        !board
            .stations
            .iter()
            .any(|station| station.name.as_str() == "breaker:other" && station.light != Light::Green)
    })
    .await;
    let unknown = force("bank.mars", BreakerState::Open).await.unwrap_err().to_string();
    assert!(unknown.ends_with("the breakers are: half, lost, bank, bank.eu, bank.us, bank.ap, other, other.eu, other.us, other.ap"), "{unknown}");
    finish(node).await;
}
