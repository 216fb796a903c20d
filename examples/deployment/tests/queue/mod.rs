//! Deliveries that wait for their turn, from outside.

use gemba_deployment::client::text;
use gemba_deployment::policy::Strategy;
use gemba_deployment::view::ServiceView;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::*;

/// A program that is there when a delivery of it is asked for, and gone at its turn.
const PROGRAM_LOST: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/lost");

/// Services of one region and one instance, of which so many are delivered at once. Without traffic no delivery gets
/// beyond its first stage.
pub(super) async fn manager(services: &[&str], running_max: usize) -> Manager {
    let service = |name: &&str| {
        let (listen, admin) = (at(port()), at(port()));
        let service = json!({
            "instances": 1, "capacity": 2, "stop_within_ms": 500,
            "regions": [{ "name": "us-west", "listen": listen, "admin": admin }],
            "care": care(),
            "versions": {
                "v1": version("v1", &[]), "v2": version("v2", &[]), "v3": version("v3", &[]),
                "lost": { "command": [PROGRAM_LOST, "{port}"] },
            },
        });
        ((*name).to_owned(), service)
    };
    let services: serde_json::Map<_, _> = services.iter().map(service).collect();
    let manager =
        Manager::over(json!({ "queue": { "running_max": running_max }, "services": services }), vec![]).await;
    for service in services.keys() {
        manager.client.begin(service, "v1", Strategy::First, None).await.unwrap();
    }
    for service in services.keys() {
        manager.until(service, |view| view.stable.as_deref() == Some("v1")).await;
    }
    manager
}

impl Manager {
    /// Returns when a service is as it should be.
    pub(super) async fn until(&self, service: &str, is_so: impl Fn(&ServiceView) -> bool) -> ServiceView {
        let looking = async {
            loop {
                let view = self.client.service(service).await.unwrap();
                if is_so(&view) {
                    return view;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        if let Ok(view) = timeout(SOON, looking).await {
            return view;
        }
        panic!("{}", text(&self.client.service(service).await.unwrap()));
    }

    /// Who waits, in order.
    pub(super) async fn queue(&self) -> Vec<String> {
        let queue = self.client.queue().await.unwrap();
        let positions: Vec<_> = queue.iter().map(|waiting| waiting.position).collect();
        assert_eq!(positions, (1..=queue.len()).collect::<Vec<_>>());
        queue.iter().map(|waiting| format!("{} {}", waiting.service, waiting.version)).collect()
    }
}

pub(super) fn delivers(version: &str) -> impl Fn(&ServiceView) -> bool {
    move |view| view.delivery.as_ref().is_some_and(|delivery| delivery.to == version && 0.0 < delivery.share)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_too_many_waits_its_turn_also_when_the_manager_dies() {
    let mut manager = manager(&["a", "b", "c"], 1).await;
    let client = manager.client.clone();
    let begin = async |service: &str, version: &str| {
        client.begin(service, version, Strategy::Canary, Some(&format!("{service}-{version}"))).await.unwrap()
    };
    begin("a", "v2").await;
    manager.until("a", delivers("v2")).await;
    begin("b", "v2").await;
    begin("c", "v2").await;
    assert_eq!(manager.queue().await, ["b v2", "c v2"]);
    let again = client.begin("b", "v2", Strategy::Canary, Some("b-v2")).await.unwrap();
    assert_eq!(
        (again.as_str(), manager.queue().await.len()),
        ("b-v2", 2),
        "the same id is the same delivery"
    );
    let other = client.begin("b", "v3", Strategy::Canary, Some("b-v2")).await.unwrap_err().to_string();
    assert!(other.contains("b-v2 is a delivery of b v2; take another id"), "{other}");
    let wrong = client.begin("b", "v3", Strategy::Canary, Some("a\0b")).await.unwrap_err().to_string();
    assert!(wrong.contains("id: is 3 bytes; give 1 to 128 printable characters"), "{wrong}");
    let twice = client.begin("b", "v2", Strategy::Canary, None).await.unwrap_err().to_string();
    assert!(twice.contains("one_at_a_time: delivery b-v2 brings this version already"), "{twice}");

    let view = client.service("c").await.unwrap();
    let line = "c v2 waits, number 2 in the queue: 1 delivery goes on, 1 is the limit\n";
    assert!(text(&view).contains(line), "{}", text(&view));
    let metrics = reqwest::get(format!("{}/metrics", manager.inspector)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("gemba_rollouts_waiting 2"), "{metrics}");

    let out = client.order("c", "abort").await.unwrap();
    assert!(out.starts_with("v2 not begun: taken out of the queue (by "), "{out}");
    let past = &client.history("c").await.unwrap()[0];
    assert_eq!((past.is_begun, past.succeeded), (false, Some(false)), "{past:?}");
    begin("c", "v3").await;
    assert_eq!(manager.queue().await, ["b v2", "c v3"]);
    let steps = &client.history("c").await.unwrap()[0].steps;
    let step = "v3 waits, number 2 in the queue: 1 delivery goes on, 1 is the limit";
    assert_eq!(steps.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>(), [step]);

    manager.die().await;
    assert_eq!(manager.queue().await, ["b v2", "c v3"], "it is on the disk");
    manager.until("a", delivers("v2")).await;
    client.order("a", "abort").await.unwrap();
    manager.until("b", delivers("v2")).await;
    assert_eq!(manager.queue().await, ["c v3"], "first come, first served");

    // What is newer takes the place of what goes on, also before those that wait.
    begin("b", "v3").await;
    manager.until("b", delivers("v3")).await;
    assert_eq!(manager.queue().await, ["c v3"]);
    let history = client.history("b").await.unwrap();
    let superseded = history.iter().find(|past| past.id == "b-v2").unwrap();
    assert_eq!(superseded.why.as_deref(), Some("superseded by v3 (delivery b-v3)"), "{superseded:?}");
    assert!(superseded.is_begun && superseded.succeeded == Some(false));

    // Every rule is asked again at its turn.
    std::fs::write(PROGRAM_LOST, "a program").unwrap();
    begin("c", "lost").await;
    std::fs::remove_file(PROGRAM_LOST).unwrap();
    assert_eq!(manager.queue().await, ["c lost"], "in the place of v3");
    client.order("b", "abort").await.unwrap();
    manager.until("c", |view| view.waiting.is_none()).await;
    let [lost, superseded, ..] = &client.history("c").await.unwrap()[..] else { panic!("two at least") };
    assert_eq!((lost.is_begun, lost.succeeded), (false, Some(false)), "{lost:?}");
    assert_eq!(lost.why.as_deref(), Some(format!("there is no program {PROGRAM_LOST}").as_str()));
    assert_eq!(superseded.why.as_deref(), Some("superseded by lost (delivery c-lost)"));
    assert!(manager.client.service("c").await.unwrap().delivery.is_none());
    manager.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_is_told_with_every_other_rule() {
    let (listen, admin) = (at(port()), at(port()));
    // Every day of the week, all day long: whatever the time is.
    let always = json!([{ "why": "stocktaking" }]);
    let fleet = json!({ "services": { "api": {
        "instances": 1, "capacity": 1, "freeze": always,
        "regions": [{ "name": "us-west", "listen": listen, "admin": admin }],
        "versions": { "v1": version("v1", &[]) },
    } } });
    let manager = Manager::over(fleet, vec![]).await;
    let refused = manager.client.begin("api", "v9", Strategy::Canary, None).await.unwrap_err().to_string();
    for rule in ["version_known: ", "way_back: ", "freeze: nothing is begun now: stocktaking, until "] {
        assert!(refused.contains(rule), "{rule} in {refused}");
    }
    assert_eq!(manager.queue().await, Vec::<String>::new(), "what is refused does not wait");
    manager.client.down().await.unwrap();
    let refused = manager.client.begin("api", "v1", Strategy::First, None).await.unwrap_err().to_string();
    assert!(refused.contains("restart the manager, then ask again"), "its splitters are gone: {refused}");
}
