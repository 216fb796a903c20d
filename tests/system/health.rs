//! What a node says of its health while its checks pass, fail, hang, panic and block.

use std::time::Duration;

use gemba::health::{CheckState, HealthError, HealthRules, HealthState};
use gemba::light::Light;
use gemba::pool_health::PoolHealth;
use gemba::receipt::{Event, Seq};
use gemba::view::BoardView;
use gemba::{Check, HealthSpec, Node, Plant, PlantError, PoolSpec};
use gemba_kit::{board, finish, receipt, story, workers};
use tokio::sync::watch;

use crate::plant::start_with;

const MILLI: Duration = Duration::from_millis(1);

/// Asked ten times a second, of which each has half to answer.
fn spec() -> HealthSpec {
    HealthSpec::new().without_machine().rules(HealthRules::builder().every(100 * MILLI, 300 * MILLI))
}

async fn start(spec: HealthSpec) -> Node {
    let node = Node::builder("test");
    let plant = Plant::builder(node.system()).pool(PoolSpec::new("work")).health(spec);
    node.child(plant.build().expect("the checks can be")).start().await.expect("the node starts")
}

/// A check that passes as long as `well` says so.
fn switched(name: &str, well: &watch::Receiver<bool>) -> Check {
    let well = well.clone();
    Check::new(name, move || {
        let well = *well.borrow();
        async move { if well { Ok("well") } else { Err("unwell") } }
    })
}

#[tokio::test(start_paused = true)]
async fn checks_that_hang_or_panic_fail_and_delay_nobody() {
    let hang = || std::future::pending::<Result<&str, &str>>();
    let fail: fn() -> Result<&'static str, &'static str> = || panic!("on fire");
    let node = start(
        spec()
            .check(Check::new("hangs", hang).within(50 * MILLI))
            .check(Check::new("panics", move || async move { fail() }))
            .check(Check::new("fine", || async { Ok::<_, &str>("well") })),
    )
    .await;
    let system = node.system();
    let view = board(system, |board| {
        let checks = &board.health.checks;
        !checks.is_empty() && checks.iter().all(|check| check.state != CheckState::Unknown)
    })
    .await;
    let said = |name: &str| view.health.checks.iter().find(|check| check.name.as_str() == name).unwrap();
    assert_eq!((said("fine").state, &*said("fine").says), (CheckState::Passing, "well"));
    assert_eq!((said("queue").state, said("hangs").state), (CheckState::Passing, CheckState::Failing));
    assert_eq!(&*said("hangs").says, "no answer within 50ms");
    assert_eq!(&*said("panics").says, "it panicked: on fire");
    assert!(said("fine").took_us < 50_000, "it waited for nobody: {:?}", said("fine"));
    assert_eq!(view.health.state, HealthState::Healthy, "two of four are not more than half");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_counts_once_though_it_may_take_the_whole_period() {
    let (asked, _) = watch::channel(0u32);
    let look = move || {
        asked.send_modify(|count| *count += 1);
        let hangs = *asked.borrow() % 2 == 0;
        async move { if hangs { std::future::pending().await } else { Ok::<_, &str>("well") } }
    };
    let node = start(spec().check(Check::new("every-other", look).within(100 * MILLI))).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let moved = |receipt: &gemba::receipt::Receipt| matches!(receipt.event, Event::CheckMoved { .. });
    assert!(!story(node.system()).iter().any(|receipt| moved(receipt)), "two in a row are asked for");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn more_than_half_degrades_lights_up_and_is_over_when_they_pass() {
    let (well, watched) = watch::channel(true);
    let node = start(spec().check(switched("a", &watched)).check(switched("b", &watched))).await;
    let system = node.system();
    board(system, |board| board.health.state == HealthState::Healthy).await;
    let moved = |receipt: &gemba::receipt::Receipt| matches!(receipt.event, Event::HealthMoved { .. });
    assert!(!story(system).iter().any(|receipt| moved(receipt)), "well from the start is no news");

    well.send(false).unwrap();
    let degraded = receipt(system, Seq(0), moved).await;
    let Event::HealthMoved { to: HealthState::Degraded, failing_milli: 667, .. } = degraded.event else {
        panic!("{degraded:?}")
    };
    let cause = story(system).into_iter().find(|receipt| Some(receipt.seq) == degraded.cause).unwrap();
    assert!(matches!(&cause.event, Event::CheckMoved { failing: true, .. }), "{cause:?}");
    let red = board(system, |board| board.overall == Light::Red).await;
    let light = |name: &str| red.stations.iter().find(|station| station.name.as_str() == name).unwrap().light;
    assert_eq!((light("node"), light("check:a")), (Light::Red, Light::Yellow));
    assert!(system.ready().is_ok(), "a degraded node takes work: it may be all there is");

    well.send(true).unwrap();
    board(system, |board| board.health.state == HealthState::Healthy && board.overall == Light::Green).await;
    finish(node).await;
}

#[tokio::test]
async fn a_check_that_blocks_its_thread_is_not_asked_again_before_it_has_ended() {
    let (asked, count) = watch::channel(0u32);
    let (release, blocked) = watch::channel(true);
    let look = move || {
        asked.send_modify(|count| *count += 1);
        while *blocked.borrow() {
            std::thread::sleep(MILLI);
        }
        Ok::<_, &str>("at last")
    };
    let node = start(spec().check(Check::blocking("stuck", look).within(50 * MILLI))).await;
    let system = node.system();
    let hangs =
        |board: &BoardView| board.health.checks.iter().any(|check| check.says.ends_with("has not ended"));
    board(system, hangs).await;
    assert_eq!(*count.borrow(), 1);
    release.send(false).unwrap();
    board(system, |board| board.health.checks.iter().all(|check| check.state == CheckState::Passing)).await;
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn the_monitor_goes_on_in_its_next_life_where_it_was() {
    let (_well, watched) = watch::channel(false);
    let node = start(spec().check(switched("a", &watched)).check(switched("b", &watched))).await;
    let system = node.system();
    board(system, |board| board.health.state == HealthState::Degraded).await;
    let killed = system.kill(&"/plant/health".parse().unwrap(), "test").unwrap();
    receipt(system, killed, |receipt| {
        receipt.path.as_str() == "/plant/health" && matches!(receipt.event, Event::ChildRestarted { .. })
    })
    .await;
    tokio::time::sleep(500 * MILLI).await;
    let moves = story(system)
        .iter()
        .filter(|receipt| matches!(receipt.event, Event::HealthMoved { .. } | Event::CheckMoved { .. }))
        .count();
    assert_eq!(moves, 3, "it is told once");
    assert_eq!(system.board().health.state, HealthState::Degraded);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn checks_that_cannot_be_are_faults_of_the_plant() {
    let node = Node::builder("test");
    let fine = || async { Ok::<_, &str>("well") };
    let spec = HealthSpec::new()
        .check(Check::new("queue", fine))
        .check(Check::new("slow", fine).within(Duration::from_secs(6)));
    let errors = Plant::builder(node.system()).health(spec).build().unwrap_err();
    assert_eq!(errors.0.len(), 2, "{errors}");
    assert!(matches!(errors.0[0], PlantError::Health(HealthError::Duplicate { .. })), "{errors}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_workers_do_not_answer_is_critical_until_they_do() {
    let (node, _) = start_with(|spec| spec, PoolSpec::new("work").workers(2, 2)).await;
    let system = node.system();
    workers(system, "work", 2).await;
    let sides = ["1", "2"].map(|worker| format!("/plant/pools/work/workers/{worker}").parse().unwrap());
    let sides = sides.map(|path| system.sys(&path).unwrap());
    sides[0].suspend().await.unwrap();
    let one = board(system, |board| board.pools[0].health == PoolHealth::Degraded).await;
    assert_eq!(&*one.pools[0].health_why, "1 of 2 workers answer");
    sides[1].suspend().await.unwrap();
    let critical = board(system, |board| board.pools[0].health == PoolHealth::Critical).await;
    assert_eq!(&*critical.pools[0].health_why, "0 of 2 workers answer");
    let pool = |board: &BoardView| {
        board.stations.iter().find(|station| station.name.as_str() == "pool:work").cloned()
    };
    board(system, |board| pool(board).is_some_and(|pool| pool.light == Light::Red)).await;
    let red = board(system, |board| board.overall == Light::Red).await;
    assert_eq!(red.stations[0].name.as_str(), "pool:work");
    for side in &sides {
        side.resume().unwrap();
    }
    board(system, |board| board.pools[0].health == PoolHealth::Healthy && board.overall == Light::Green)
        .await;
    finish(node).await;
}
