//! The moment the picture shows: a plant under load, one of its workers killed and started again just now.

use std::sync::Arc;
use std::time::Duration;

use gemba::exit::{ExitReason, Incarnation};
use gemba::light::Light;
use gemba::name::ActorPath;
use gemba::receipt::{BreakerState, Event, Receipt, Seq};
use gemba::supervision::Strategy;
use gemba::time::Timestamp;
use gemba::view::{
    ActorKind, ActorView, ArrivalsView, BoardView, BreakerView, CostView, LineState, LineView, MailboxView,
    PoolView, StationView, TreeView,
};

use crate::demo::killer::BY;
use crate::demo::overseer::Loss;
use crate::demo::screen::scene::Scene;
use crate::demo::tally::Counts;
use crate::show::actor_sample;

/// 14:02:11 UTC on the first day of 1970.
const NOW: u64 = 50_531_123;

/// For how long the demonstration has run, in milliseconds.
const ELAPSED: u64 = 43_000;

/// A pool, the line that ends in it, and the restarts of each of its workers.
struct Shop {
    name: &'static str,
    restarts: &'static [u64],
    busy: u32,
    workers_max: u32,
    utilization: f64,
    throughput_per_s: f64,
}

const SHOPS: [Shop; 3] = [
    Shop {
        name: "payment",
        restarts: &[3, 1, 0, 2, 0, 1, 1, 0, 2, 0],
        busy: 3,
        workers_max: 30,
        utilization: 0.31,
        throughput_per_s: 299.6,
    },
    Shop {
        name: "delivery",
        restarts: &[0, 2, 1, 0, 1, 2, 1, 0],
        busy: 1,
        workers_max: 25,
        utilization: 0.22,
        throughput_per_s: 284.0,
    },
    Shop {
        name: "notification",
        restarts: &[1, 0, 2, 0, 1],
        busy: 0,
        workers_max: 20,
        utilization: 0.02,
        throughput_per_s: 15.6,
    },
];

/// The scene at that moment; a worker is selected.
pub(crate) fn under_load() -> Scene {
    let mut scene = Scene::new(300, true);
    scene.seen.tree = Some(Arc::new(TreeView::new("payment".parse().unwrap(), NOW, tree())));
    scene.seen.board = Some(Arc::new(board()));
    scene.seen.receipts = receipts().into_iter().map(Arc::new).collect();
    scene.seen.restarts = 21;
    scene.killed = 21;
    scene.loss = Some(Loss::default());
    scene.elapsed = Duration::from_millis(ELAPSED);
    scene.counts = Counts {
        submitted: 12_900,
        succeeded: 12_187,
        rejected: 455,
        declined: 254,
        p50_ms: 4.3,
        p99_ms: 9.6,
        ..Counts::default()
    };
    scene
}

fn tree() -> ActorView {
    use ActorKind::{Server, Supervisor, Task};
    let pools = actor("/plant/pools", Supervisor, SHOPS.iter().map(pool).collect());
    let mut parts = ["board", "regulator", "balancer", "burst", "kaizen"]
        .map(|name| actor(&format!("/plant/{name}"), Server, Vec::new()))
        .to_vec();
    parts.insert(2, pools);
    let mut plant = actor("/plant", Supervisor, parts);
    plant.strategy = Some(Strategy::OneForAll);
    let mut children = ["journal", "inspector", "reconciler", "confirmations", "http"]
        .map(|name| actor(&format!("/{name}"), Task, Vec::new()))
        .to_vec();
    children.insert(1, plant);
    actor("/", Supervisor, children)
}

fn pool(shop: &Shop) -> ActorView {
    let place = format!("/plant/pools/{}", shop.name);
    let worker = |(index, restarts): (usize, &u64)| {
        let mut worker = actor(&format!("{place}/workers/{}", index + 1), ActorKind::Server, Vec::new());
        worker.restarts = *restarts;
        worker.mailbox = Some(MailboxView { depth: u64::from(index < shop.busy as usize), capacity: 4 });
        worker
    };
    let workers = shop.restarts.iter().enumerate().map(worker).collect();
    let mut workers = actor(&format!("{place}/workers"), ActorKind::Supervisor, workers);
    workers.strategy = Some(Strategy::Dynamic);
    let dispatcher = actor(&format!("{place}/dispatcher"), ActorKind::Server, Vec::new());
    let mut pool = actor(&place, ActorKind::Supervisor, vec![workers, dispatcher]);
    pool.strategy = Some(Strategy::RestForOne);
    pool
}

fn actor(path: &str, kind: ActorKind, children: Vec<ActorView>) -> ActorView {
    ActorView { uptime_ms: ELAPSED, ..actor_sample(path, kind, children) }
}

fn board() -> BoardView {
    let station = |name: &str, light, why: &str| StationView {
        name: name.parse().unwrap(),
        light,
        why: why.into(),
        since_unix_ms: NOW - ELAPSED,
        receipt: Some(Seq(59)),
    };
    let killed = "1 life 57 exited: killed";
    let mut stations = vec![
        station("supervisor:plant.pools.payment.workers", Light::Yellow, killed),
        station("supervisor:plant.pools.delivery.workers", Light::Yellow, killed),
    ];
    let names = ["line:payment", "pool:payment", "node"];
    stations.extend(names.map(|name| station(name, Light::Green, "normal")));
    BoardView {
        overall: Light::Yellow,
        taken_unix_ms: NOW,
        receipt: Seq(112),
        stations,
        lines: SHOPS.iter().map(line_view).collect(),
        pools: SHOPS.iter().map(pool_view).collect(),
        breakers: SHOPS.iter().map(breaker_view).collect(),
        arrivals: ArrivalsView { fast_per_s: 599.2, baseline_per_s: None, ..ArrivalsView::default() },
        cost: CostView::default(),
        admission: gemba::admission::Limits::default().view(9),
        verdict: None,
        balance_ratio: 0.74,
        affinity: Vec::new(),
        studies: Vec::new(),
        bottlenecks: Vec::new(),
        health: gemba::health::HealthView::default(),
    }
}

fn line_view(shop: &Shop) -> LineView {
    let arrived = (shop.throughput_per_s * ELAPSED as f64 / 1e3) as u64;
    LineView {
        name: shop.name.parse().unwrap(),
        state: LineState::Running,
        cord: None,
        in_flight: u64::from(shop.busy),
        arrived,
        refused: 0,
        rejected: 0,
        succeeded: arrived,
        failed: 0,
        timed_out: 0,
        cancelled: 0,
        intake: Vec::new(),
        success_ratio: Some(1.0),
        throughput_per_s: shop.throughput_per_s,
        p50_ms: 4.3,
        p99_ms: 9.6,
        objectives: Vec::new(),
        defects: Vec::new(),
    }
}

fn pool_view(shop: &Shop) -> PoolView {
    let workers = shop.restarts.len() as u32;
    PoolView {
        name: shop.name.parse().unwrap(),
        workers,
        busy: shop.busy,
        queued: 0,
        queue_max: 1_024,
        workers_min: workers,
        workers_max: shop.workers_max,
        surge: 0,
        stand_ins: 0,
        utilization: shop.utilization,
        band: gemba::band::Band::of(shop.utilization),
        routed: 0,
        succeeded: 0,
        failed: 0,
        timed_out: 0,
        p50_ms: 4.3,
        p99_ms: 9.6,
        health: gemba::pool_health::PoolHealth::default(),
        health_why: "as it should be".into(),
    }
}

fn breaker_view(shop: &Shop) -> BreakerView {
    BreakerView {
        name: shop.name.parse().unwrap(),
        state: BreakerState::Closed,
        failures_in_a_row: 0,
        retry_in_ms: None,
    }
}

/// Two workers killed and started again, two seconds apart, the selected one last.
fn receipts() -> Vec<Receipt> {
    let life = |path: &str, before, now, restarts| {
        let path: ActorPath = path.parse().unwrap();
        [
            Event::KillRequested { by: BY.into() },
            Event::ChildExited { incarnation: Incarnation(before), reason: ExitReason::Killed },
            Event::ChildRestarted { incarnation: Incarnation(now), restarts },
        ]
        .map(|event| (path.clone(), event))
    };
    let earlier = life("/plant/pools/delivery/workers/6", 52, 65, 2);
    let later = life("/plant/pools/payment/workers/1", 57, 66, 3);
    let receipt = |(index, (path, event))| Receipt {
        seq: Seq(107 + index),
        at: Timestamp::START,
        unix_ms: if index < 3 { NOW - 2_000 } else { NOW },
        cause: (index % 3 != 0).then_some(Seq(106 + index)),
        path,
        event,
    };
    (0_u64..).zip(earlier.into_iter().chain(later)).map(receipt).collect()
}
