//! E19: how soon people hear of a light, whether a receiver that hangs holds up the others, and how often they hear.

use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use gemba::light::Light;
use gemba::name::ActorPath;
use gemba::receipt::Event;
use gemba::{Node, System};
use gemba_alert::AlertRoutes;
use gemba_core::alert::AlertRules;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::closed::{at, millis, runtime};
use crate::finding::{Finding, Report};
use crate::scale::Scale;

/// Lights that are told of, one at a time.
const LIGHTS: usize = 200;

/// Times one fault is reported.
const FLOOD: usize = 10_000;

/// Nothing more is told after so long a silence.
const SILENCE: Duration = Duration::from_secs(2);

/// E19.
pub(crate) fn run(_: &Scale) -> Vec<Report> {
    let note = "from the receipt of a red light to a webhook on this machine";
    let mut report = Report { number: "E19", title: "andon", note, ..Report::default() };
    let runtime = runtime();
    let well = runtime.block_on(lights(false));
    let hung = runtime.block_on(lights(true));
    let told = runtime.block_on(flood());
    runtime.shutdown_timeout(Duration::from_millis(100));
    for (case, times) in [("all routes well", well), ("one route hangs", hung)] {
        report.findings.push(Finding::new(case, "p50, ms", vec![at(times.clone(), 0.5)]));
        report.findings.push(Finding::new(case, "p99, ms", vec![at(times, 0.99)]).at_most(100.0));
    }
    let case = format!("one fault, {FLOOD} times at once");
    report.findings.push(Finding::new(case, "notices", vec![told]).at_most(1.0));
    vec![report]
}

/// A receiver that takes every notice, and one that answers none.
async fn receiver() -> (String, mpsc::Receiver<Instant>) {
    let (heard, notices) = mpsc::channel(1024);
    let router = Router::new()
        .route(
            "/well",
            post(move || async move {
                let _ = heard.send(Instant::now()).await;
                StatusCode::OK
            }),
        )
        .route("/hangs", post(std::future::pending::<StatusCode>));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of this machine");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, notices)
}

async fn start(url: &str, hangs: bool) -> Node {
    let rules = AlertRules::builder().notices_per_minute(u32::MAX).build().expect("in range");
    let mut routes = AlertRoutes::new().rules(rules).webhook("well", Light::Yellow, &format!("{url}/well"));
    if hangs {
        routes = routes.webhook("hangs", Light::Yellow, &format!("{url}/hangs"));
    }
    let alerts = routes.child(&"experiment".parse().expect("a valid literal")).expect("the routes are sound");
    Node::builder("experiment").child(alerts).start().await.expect("the node starts")
}

fn light(system: &System, station: &str, to: Light) {
    let event = Event::LightChanged {
        station: station.parse().expect("a valid literal"),
        from: Light::Green,
        to,
        why: "to measure".into(),
    };
    system.record(None, &ActorPath::root(), event);
}

async fn lights(hangs: bool) -> Vec<f64> {
    let (url, mut notices) = receiver().await;
    let node = start(&url, hangs).await;
    let mut times = Vec::new();
    for number in 0..LIGHTS {
        let begun = Instant::now();
        light(node.system(), &format!("pool:p{number}"), Light::Red);
        let Ok(Some(heard)) = tokio::time::timeout(Duration::from_secs(10), notices.recv()).await else {
            times.push(f64::INFINITY);
            continue;
        };
        times.push(millis(heard.saturating_duration_since(begun)));
    }
    // The hung route is not waited for.
    drop(node);
    times
}

async fn flood() -> f64 {
    let (url, mut notices) = receiver().await;
    let node = start(&url, false).await;
    for _ in 0..FLOOD {
        light(node.system(), "pool:one", Light::Red);
    }
    let mut told = 0.0;
    while let Ok(Some(_)) = tokio::time::timeout(SILENCE, notices.recv()).await {
        told += 1.0;
    }
    node.stop("measured").await.expect("the node stops in order");
    told
}
