//! Alerts and kaizen across actors: who is told, what an operator may say to it, what outlives a restart.

use std::time::Duration;

use gemba::alert::NoticeKind;
use gemba::baseline::{BaselineRules, Comparison};
use gemba::control::{Control, ControlError};
use gemba::light::Light;
use gemba::receipt::{Event, Receipt, Seq};
use gemba::{AlertRoutes, Line, LineSpec, Node, NodeError, Plant, PlantError, PoolSpec, Signal, System};
use gemba_kit::{actor, board, finish, receipt, story};

use crate::plant::{Input, Work};

/// A node that tells the log, with a plant on the builder's terms.
async fn start(shape: impl FnOnce(gemba::PlantBuilder) -> gemba::PlantBuilder) -> (Node, Line<Work>) {
    let node = Node::builder("test").alerts(AlertRoutes::new());
    let mut plant = shape(Plant::builder(node.system()).pool(PoolSpec::new("work").workers(4, 4)));
    let line = plant.line(LineSpec::new("work", Work));
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    (node, line)
}

fn pull() -> Control {
    Control::PullCord {
        line: "work".parse().expect("a valid literal"),
        by: "ann".into(),
        why: "smoke".into(),
    }
}

async fn alerted(system: &System, after: Seq, wanted: NoticeKind) -> std::sync::Arc<Receipt> {
    receipt(
        system,
        after,
        |receipt| matches!(&receipt.event, Event::Alerted { notice, .. } if *notice == wanted),
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn a_pulled_cord_is_told_escalated_acknowledged_and_resolved() {
    let (node, _) = start(|plant| plant).await;
    let system = node.system();
    let pulled = system.control(pull()).await.unwrap();
    let told = alerted(system, pulled, NoticeKind::Firing).await;
    let expected = Event::Alerted {
        station: "line:work".parse().unwrap(),
        light: Light::Red,
        notice: NoticeKind::Firing,
        routes: vec!["log".parse().unwrap()],
    };
    assert_eq!(told.event, expected);
    // The chain of causes leads from the alert over the light to the cord.
    let light = receipt(system, Seq(0), |receipt| Some(receipt.seq) == told.cause).await;
    assert_eq!((light.event.kind(), light.cause), ("light_changed", Some(pulled)));

    tokio::time::sleep(Duration::from_secs(250)).await;
    let escalated = alerted(system, told.seq, NoticeKind::Escalated).await;
    assert_eq!((escalated.unix_ms - told.unix_ms) / 1000, 300, "after five minutes");
    let station = || "line:work".parse().unwrap();
    let acknowledge = |station| Control::Acknowledge { station, by: "ann".into() };
    let acknowledged = system.control(acknowledge(station())).await.unwrap();
    assert!(matches!(
        system.control(acknowledge("node".parse().unwrap())).await,
        Err(ControlError::Green { .. })
    ));
    assert!(matches!(
        system.control(acknowledge("line:other".parse().unwrap())).await,
        Err(ControlError::UnknownStation { .. })
    ));
    tokio::time::sleep(Duration::from_secs(900)).await;
    system.control(Control::ResetCord { line: "work".parse().unwrap(), by: "ann".into() }).await.unwrap();
    let resolved = alerted(system, acknowledged, NoticeKind::Resolved).await;
    let notices: Vec<_> = story(system).into_iter().filter(|one| one.event.kind() == "alerted").collect();
    assert_eq!(notices.last().unwrap().seq, resolved.seq);
    assert_eq!(notices.len(), 3, "nothing between the acknowledgement and the end");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_silence_keeps_a_station_quiet_until_it_ends() {
    let (node, _) = start(|plant| plant).await;
    let system = node.system();
    let silence = |for_ms| Control::Silence {
        stations: "line:*".into(),
        for_ms,
        by: "ann".into(),
        why: "maintenance".into(),
    };
    assert!(matches!(system.control(silence(u64::MAX)).await, Err(ControlError::TooLong { .. })));
    let silenced = system.control(silence(60_000)).await.unwrap();
    let silenced = receipt(system, Seq(0), |receipt| receipt.seq == silenced).await;
    let pulled = system.control(pull()).await.unwrap();
    let told = alerted(system, pulled, NoticeKind::Firing).await;
    assert!(60_000 <= told.unix_ms - silenced.unix_ms, "not before its end");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn the_alerter_remembers_what_it_told_when_it_is_killed() {
    let (node, _) = start(|plant| plant).await;
    let system = node.system();
    let pulled = system.control(pull()).await.unwrap();
    let told = alerted(system, pulled, NoticeKind::Firing).await;
    let kill = system.kill(&"/alerts/alerter".parse().unwrap(), "test").unwrap();
    receipt(system, kill, |receipt| {
        receipt.event.kind() == "child_restarted" && receipt.path.as_str() == "/alerts/alerter"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let again = story(system).into_iter().filter(|one| told.seq < one.seq && one.event.kind() == "alerted");
    // The restart of the alerter is news about its supervisor, not about the line.
    let stations: Vec<_> = again.map(|one| one.event.to_string()).collect();
    assert!(stations.iter().all(|alert| alert.contains("supervisor:alerts")), "{stations:?}");
    actor(system, "/alerts/routes/log");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_route_stops_the_node_before_it_starts() {
    let node = Node::builder("test").alerts(AlertRoutes::new().slack("nowhere").pagerduty(""));
    let Err(NodeError::Alerts(errors)) = node.start().await else { panic!("the routes are wrong") };
    assert_eq!(errors.0.len(), 2);
}

/// Sends signals that take so long each, until the window has enough.
async fn work(line: &Line<Work>, each: Duration) {
    for _ in 0..600 {
        line.submit(Signal::new(Input::Sleep(each)), &()).await.expect("there is room");
    }
}

#[tokio::test(start_paused = true)]
async fn a_baseline_outlives_the_process_and_a_slower_line_is_a_regression_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baselines.json");
    let rules = BaselineRules::default();
    let (node, line) = start(|plant| plant.baselines(&path, "build 1").regressions(rules)).await;
    work(&line, Duration::from_millis(10)).await;
    tokio::time::sleep(Duration::from_secs(250)).await;
    let set = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "baseline_set").await;
    let Event::BaselineSet { outcomes: 600, p95_us, .. } = set.event else { panic!("{set:?}") };
    assert!((10_000..13_000).contains(&p95_us), "{p95_us}");
    finish(node).await;

    // The next process runs another build, and is slower.
    let (node, line) = start(|plant| plant.baselines(&path, "build 2").regressions(rules)).await;
    let system = node.system();
    work(&line, Duration::from_millis(30)).await;
    tokio::time::sleep(Duration::from_secs(250)).await;
    let found = receipt(system, Seq(0), |receipt| receipt.event.kind() == "regression_found").await;
    let shown = board(system, |board| {
        board.stations.iter().any(|one| one.name.as_str() == "line:work" && one.light == Light::Yellow)
    })
    .await;
    let study = &shown.studies[0];
    assert_eq!(&*study.baseline.as_ref().unwrap().build, "build 1");
    assert!(matches!(study.comparison, Some(Comparison::Regression { .. })), "{:?}", study.comparison);
    let accept = || Control::AcceptBaseline { line: "work".parse().unwrap(), by: "ann".into() };
    let early = system.control(accept()).await;
    assert!(matches!(early, Err(ControlError::TooFewOutcomes { outcomes: 0, .. })), "{early:?}");
    work(&line, Duration::from_millis(30)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let accepted = system.control(accept()).await.unwrap();
    let over = receipt(system, found.seq, |receipt| receipt.event.kind() == "regression_over").await;
    assert_eq!(over.cause, Some(accepted));
    finish(node).await;

    std::fs::write(&path, "no json").unwrap();
    let node = Node::builder("test");
    let errors = Plant::builder(node.system()).baselines(&path, "build 3").build().unwrap_err();
    assert!(matches!(errors.0[..], [PlantError::Baselines { .. }]), "{errors}");
}

/// Takes as long as it was made for.
#[derive(Debug)]
struct Takes(Duration);

impl gemba::Action for Takes {
    type Input = u64;
    type Output = Duration;
    type Error = crate::plant::Failed;

    async fn run(&self, _: u64, _: &gemba::JobContext) -> Result<Duration, Self::Error> {
        tokio::time::sleep(self.0).await;
        Ok(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_tries_two_actions_and_keeps_the_better_one() {
    let (today, better) = (Duration::from_millis(20), Duration::from_millis(10));
    let rules = gemba::ab_test::AbRules::builder().samples(100, 10_000).build().unwrap();
    let trial =
        gemba::Trial::new("shorter", rules, Takes(today), Takes(better), |customer| *customer).unwrap();
    let watch = trial.watch();
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(4, 4));
    let line = plant.line(LineSpec::new("work", trial));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    let first = line.submit(Signal::new(7), &()).await.unwrap();
    assert_eq!(line.submit(Signal::new(7), &()).await.unwrap(), first, "a key stays on its arm");
    for customer in 0..2000 {
        line.submit(Signal::new(customer), &()).await.unwrap();
    }
    let decided = receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "test_decided").await;
    assert!(decided.event.to_string().starts_with("test shorter is over: B wins by latency"), "{decided:?}");
    assert!(watch.verdict().is_final(), "{}", watch.verdict());
    for customer in 0..20 {
        assert_eq!(line.submit(Signal::new(customer), &()).await.unwrap(), better);
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn the_bottleneck_is_the_pool_whose_work_takes_the_time_and_littles_law_holds() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .pool(PoolSpec::new("quick").workers(4, 4))
        .pool(PoolSpec::new("slow").workers(2, 2));
    let quick = plant.line(LineSpec::new("quick", Work));
    let slow = plant.line(LineSpec::new("slow", Work));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    let drive = |line: Line<Work>, each: u64, clients: usize| async move {
        let client = |line: Line<Work>| async move {
            let end = tokio::time::Instant::now() + Duration::from_secs(70);
            while tokio::time::Instant::now() < end {
                line.submit(Signal::new(Input::Sleep(Duration::from_millis(each))), &()).await.unwrap();
            }
        };
        let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client(line.clone()))).collect();
        for client in clients {
            client.await.unwrap();
        }
    };
    // Two at work and one always waiting for them; the other pool is never full.
    tokio::join!(drive(quick, 5, 1), drive(slow, 100, 3));
    let shown = board(node.system(), |board| !board.bottlenecks.is_empty()).await;
    let first = &shown.bottlenecks[0];
    assert_eq!((first.station.as_str(), first.reason), ("slow", gemba::bottleneck::Reason::Service));
    assert!(first.utilization > 0.9 && 30.0 < first.queue_ms && first.queue_ms < 70.0, "{first:?}");
    assert!(first.little.holds(), "{first:?}");
    finish(node).await;
}
