//! Through a cluster: the adapter against an API server of the tests, which is compared with a recorded one.

mod fake;
mod recorder;
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gemba_deployment::adapter::remote::{Hands, Order};
use gemba_deployment::adapter::{Shares, Standing};
use kube::Client;

use self::fake::{Fake, Fault, Play};
use self::recorder::{Exchange, Recorder};
use super::*;

/// What a real API server and the adapter said to each other; `just kubernetes-record` writes it.
const RECORDING: &str = include_str!("recorded-v1.20.2.json");

fn kubeconfig(file: &Path, server: SocketAddr) {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{server}") } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": {} }],
    });
    std::fs::write(file, config.to_string()).unwrap();
}

/// Digits are another thing each time.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        if letter != '#' || !out.ends_with('#') {
            out.push(letter);
        }
    }
    out
}

/// An exchange as far as it is the same each time.
fn asked(exchange: &Exchange) -> (String, String, Option<String>, Option<String>, u16) {
    let path = exchange.path.split('&').filter(|part| !part.contains("resourceVersion=")).collect::<Vec<_>>();
    let (user, kind) = (exchange.user.clone(), exchange.content_type.clone());
    (exchange.method.clone(), path.join("&"), user, kind, exchange.status)
}

/// Every path in a value with the type of what is there.
fn shape(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| shape(value, &format!("{path}.{key}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{path}[]"), found)),
        Value::String(_) => drop(found.insert(format!("{path}: text"))),
        Value::Number(_) => drop(found.insert(format!("{path}: number"))),
        Value::Bool(_) => drop(found.insert(format!("{path}: bool"))),
        Value::Null => drop(found.insert(format!("{path}: null"))),
    }
}

fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    shape(value, "", &mut found);
    found
}

/// Looks are repeated until something has arrived; how often is nobody's concern.
fn distinct(exchanges: Vec<Exchange>) -> Vec<Exchange> {
    let mut kept: Vec<Exchange> = Vec::new();
    for exchange in exchanges {
        if kept.last().is_none_or(|last| asked(last) != asked(&exchange)) {
            kept.push(exchange);
        }
    }
    kept
}

/// Compares one exchange with the recorded one: what was asked, and what an answer has in it.
fn compare(ours: &Exchange, real: &Exchange) {
    assert_eq!(asked(ours), asked(real));
    let place = format!("{} {} ({})", real.method, real.path, real.status);
    let bodies = [ours, real].map(|exchange| {
        let mut body = exchange.body.clone();
        if let Some(version) = body.pointer_mut("/metadata/resourceVersion") {
            *version = json!("#");
        }
        body
    });
    assert_eq!(bodies[0], bodies[1], "{place}");
    let (mine, theirs) = (shape_of(&ours.answer), shape_of(&real.answer));
    let invented: Vec<_> = mine.difference(&theirs).collect();
    assert!(invented.is_empty(), "{place}: a real one has no {invented:#?}");
    if real.answer["kind"] == "Status" {
        assert_eq!(mine, theirs, "{place}");
        for key in ["reason", "code", "status"] {
            assert_eq!(ours.answer[key], real.answer[key], "{place}: {key}");
        }
        let said = [ours, real]
            .map(|exchange| without_numbers(exchange.answer["message"].as_str().unwrap_or_default()));
        assert_eq!(said[0], said[1], "{place}");
    } else if real.answer.is_string() {
        assert_eq!(ours.answer, real.answer, "{place}");
    } else if real.method == "PATCH" {
        // What was applied is what is answered, by both.
        for (answer, whose) in [(&ours.answer, "ours"), (&real.answer, "the real one's")] {
            assert_eq!(answer["spec"]["rules"], real.body["spec"]["rules"], "{place}: {whose}");
            assert_eq!(answer["spec"]["replicas"], real.body["spec"]["replicas"], "{place}: {whose}");
            assert_eq!(
                answer["metadata"]["annotations"], real.body["metadata"]["annotations"],
                "{place}: {whose}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_of_the_tests_answers_as_the_recorded_one() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::new(Play::default()).await;
    kubeconfig(&directory.path().join("admin"), fake.address);
    let admin: Client = scenario::client(&directory.path().join("admin")).await;
    let mut recorder = Recorder::new(admin.clone()).await;
    let told = timeout(SOON, scenario::play(&admin, &recorder, directory.path())).await.unwrap();
    let real: Vec<(String, String)> = serde_json::from_value(recording["told"].clone()).unwrap();
    assert_eq!(told.len(), real.len());
    for ((case, said), (real_case, real_said)) in told.iter().zip(&real) {
        assert_eq!((*case, without_numbers(said)), (real_case.as_str(), without_numbers(real_said)));
    }
    let ours = distinct(recorder.exchanges());
    let real = distinct(serde_json::from_value(recording["exchanges"].clone()).unwrap());
    let list = |exchanges: &[Exchange]| exchanges.iter().map(asked).collect::<Vec<_>>();
    assert_eq!(list(&ours), list(&real));
    for (ours, real) in ours.iter().zip(&real) {
        compare(ours, real);
    }
}

/// What the adapter says in each case, to a person.
#[test]
fn a_person_is_told_what_to_do() {
    let recording: Value = serde_json::from_str(RECORDING).unwrap();
    let told: Vec<(String, String)> = serde_json::from_value(recording["told"].clone()).unwrap();
    let told: BTreeMap<String, String> = told.into_iter().collect();
    for (case, words) in [
        ("no HTTPRoute is known", "install the CRDs of the Gateway API"),
        ("start v1", "done"),
        ("a twentieth to v2", "done"),
        ("v2 is stuck", "ImagePullBackOff: Back-off pulling image"),
        ("an older manager shares", "which is newer than 9: another manager drives this region"),
        ("an older manager ends", "which is newer than 9: another manager drives this region"),
        ("a stranger looks", "give this user a role in gemba-record with list on deployments"),
        ("a stranger shares", "give this user a role in gemba-record with get on httproutes"),
        ("somebody else's rules", "let them go there, or set take_over = true"),
        ("taken over", "done"),
        ("end v1 again", "done"),
        ("a watch from long ago", "too old resource version"),
    ] {
        assert!(told[case].contains(words), "{case}: {}", told[case]);
    }
}

fn order(version: &str) -> Order<'_> {
    Order { delivery: "7", generation: 5, version }
}

#[tokio::test]
async fn a_cluster_that_is_busy_forgets_or_breaks_off_is_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    let fake = Fake::new(Play { routes: true, controllers: true, watch_ms: Some(50) }).await;
    kubeconfig(&file, fake.address);
    let mut cluster = scenario::cluster(&scenario::service(&file, false));
    fake.faults(&[Fault::Busy]).await;
    let busy = cluster.start(&order("v1"), 2).await.unwrap_err();
    assert_eq!((busy.is_passing, busy.again_after), (true, Some(Duration::from_secs(1))), "{busy}");
    assert!(busy.what.contains("too busy"), "{busy}");
    fake.faults(&[Fault::Broken]).await;
    let broken = cluster.start(&order("v1"), 2).await.unwrap_err();
    assert!(broken.is_passing && broken.what.contains("the cluster does not answer"), "{broken}");
    cluster.start(&order("v1"), 2).await.unwrap();
    // The past is forgotten: it is listed anew within the same look.
    fake.faults(&[Fault::Gone]).await;
    let ready = Standing { ready: 2, all: 2, failures: None };
    assert_eq!(cluster.look().await.unwrap()["v1"], ready);
    assert_eq!(fake.faults_left().await, 0);
    // A watch ends again and again; what happens meanwhile is not missed.
    for version in ["v2", "v3", "v4"] {
        cluster.start(&order(version), 2).await.unwrap();
        let seen = async {
            while cluster.look().await.unwrap().get(version) != Some(&ready) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, seen).await.unwrap_or_else(|_| panic!("{version} is not seen"));
    }
    // Somebody writes the HTTPRoute between the look and the word: looked at once more, and told.
    let shares = |generation| Shares { generation, versions: vec![("v1".to_owned(), 10_000)] };
    cluster.share("7", &shares(5)).await.unwrap();
    fake.faults(&[Fault::Race, Fault::Race]).await;
    cluster.share("7", &shares(6)).await.unwrap();
    let route = fake.object("gemba-record/httproutes/api").await.unwrap();
    assert_eq!(route["metadata"]["annotations"]["gemba.dev/generation"], "6");
    fake.faults(&[Fault::Race; 5]).await;
    let lost = cluster.share("7", &shares(7)).await.unwrap_err();
    assert!(lost.is_passing && lost.what.contains("somebody else changed it meanwhile"), "{lost}");
    assert_eq!(fake.faults_left().await, 1, "it gave up for now");

    kubeconfig(&file, at(port()));
    let nobody = scenario::cluster(&scenario::service(&file, false)).look().await.unwrap_err();
    assert!(nobody.is_passing && nobody.what.contains("the cluster does not answer"), "{nobody}");
    let nowhere = scenario::service(&directory.path().join("none"), false);
    let nowhere = scenario::cluster(&nowhere).look().await.unwrap_err();
    assert!(!nowhere.is_passing && nowhere.what.contains("cannot be used"), "{nowhere}");
}

/// One region in a cluster of its own.
fn region(name: &str, kubeconfig: &Path, counts: (&str, &Value)) -> Value {
    let mut settings = json!({
        "kubeconfig": kubeconfig, "namespace": "shop", "image": "registry.example/api:{version}",
        "gateway": "public", "drain_ms": 100,
    });
    settings[counts.0] = counts.1.clone();
    json!({ "name": name, "adapter": "kubernetes", "kubernetes": settings })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_take_a_good_version_and_give_a_bad_one_back() {
    let directory = tempfile::tempdir().unwrap();
    let play = Play { routes: true, controllers: true, watch_ms: None };
    let (west, east) = (Fake::new(play).await, Fake::new(play).await);
    let (west_file, east_file) = (directory.path().join("west"), directory.path().join("east"));
    kubeconfig(&west_file, west.address);
    kubeconfig(&east_file, east.address);
    let endpoint = json!(format!("http://{}/counts", west.address));
    let prometheus = json!({
        "url": format!("http://{}", east.address), "requests": "requests{service=\"{service}\"}",
        "failures": "failures{service=\"{service}\"}", "latencies": "seconds_bucket{service=\"{service}\"}",
    });
    let regions = json!([
        region("us-west", &west_file, ("counts", &endpoint)),
        region("us-east", &east_file, ("prometheus", &prometheus)),
    ]);
    let versions = json!({ "v1": {}, "v2": {}, "bad": {}, "unknown": {} });
    let mut manager = Manager::new(directory, &regions, &versions).await;
    assert_eq!(manager.deliver("v1", Strategy::First).await.succeeded, Some(true));
    west.faults(&[Fault::Busy, Fault::Broken, Fault::Busy]).await;
    let id = manager.client.begin("api", "v2", Strategy::Canary, Some("seven")).await.unwrap();
    manager.stands(0, "v2", 0.5, (2, 2)).await;
    manager.kill().await;
    manager.start().await;
    let good = manager.ending(&id).await;
    assert_eq!(good.succeeded, Some(true), "{good:?}");
    let bad = manager.deliver("bad", Strategy::Canary).await;
    assert!(bad.why.as_ref().unwrap().contains("fails more often"), "{bad:?}");
    let unknown = manager.deliver("unknown", Strategy::Canary).await;
    let why = unknown.why.unwrap();
    assert!(why.contains("did not start in us-west: ImagePullBackOff"), "{why}");
    for fake in [&west, &east] {
        let as_it_was = async {
            loop {
                let route = fake.object("shop/httproutes/api").await.unwrap();
                let backends = json!([{ "name": "api-v2", "port": 80, "weight": 10_000 }]);
                let mut left = Vec::new();
                for version in ["v1", "v2", "bad", "unknown"] {
                    if fake.object(&format!("shop/deployments/api-{version}")).await.is_some() {
                        left.push(version);
                    }
                }
                if route["spec"]["rules"][0]["backendRefs"] == backends && left == ["v2"] {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, as_it_was).await.unwrap_or_else(|_| panic!("{} is not as it was", fake.address));
    }
    assert_eq!(west.faults_left().await, 0);
    manager.client.down().await.unwrap();
    assert_eq!(west.object("shop/deployments/api-v2").await, None);
    let route = west.object("shop/httproutes/api").await.unwrap();
    assert_eq!(route["spec"]["rules"][0]["backendRefs"], json!([]));
}
