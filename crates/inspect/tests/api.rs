//! The API over a real socket, on a real node, asked by the client and by hand.

#![allow(clippy::unwrap_used, reason = "the helpers of tests unwrap like the tests themselves")]

use std::sync::Arc;
use std::time::Duration;

use gemba_core::affinity::AffinityError;
use gemba_core::control::{Control, ControlError};
use gemba_core::health::HealthState;
use gemba_core::light::Light;
use gemba_core::name::ActorPath;
use gemba_core::receipt::{BreakerState, Event, Receipt, Seq, SettingChange};
use gemba_core::reload::{ReloadError, Reloaded};
use gemba_core::routing::key_hash;
use gemba_core::view::{ActorState, BoardView, StationView};
use gemba_inspect::{Client, ClientError, InspectConfig, Inspector, Readiness, Token};
use gemba_kernel::{Context, Node, Server, Stop, Supervisor, System, server};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const TOKEN: &str = "correct-horse-battery";
const LIMIT: Duration = Duration::from_secs(5);

struct Idle;

impl Server for Idle {
    type Msg = ();

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
        Ok(())
    }
}

/// A node with one server, and its inspector on a port of its own.
struct Bench {
    node: Node,
    url: String,
    http: reqwest::Client,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Bench {
    async fn start() -> Self {
        let desks = Supervisor::one_for_one("desks").child(server("desk", || Idle));
        let node = Node::builder("bench").child(server("idle", || Idle)).child(desks).start().await.unwrap();
        let mut config =
            InspectConfig::new(Token::new(TOKEN).unwrap(), Arc::new(|| "gemba_actors 1\n".to_owned()));
        config.hosts.push("node.example".parse().unwrap());
        let inspector = Inspector::new(node.system().clone(), config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (shutdown, asked) = oneshot::channel();
        let serving = tokio::spawn(inspector.serve(listener, async { drop(asked.await) }));
        Self { node, url, http: reqwest::Client::new(), shutdown, serving }
    }

    fn system(&self) -> &System {
        self.node.system()
    }

    fn client(&self, token: Option<&str>) -> Client {
        Client::new(&self.url, token.map(|token| Token::new(token).unwrap())).unwrap()
    }

    fn ask(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.url)).timeout(LIMIT)
    }

    async fn get(&self, path: &str) -> Response {
        self.ask("GET", path).send().await.unwrap()
    }

    /// Waits for a receipt that `wanted` accepts.
    async fn receipt(&self, wanted: impl Fn(&Receipt) -> bool) -> Arc<Receipt> {
        let journal = self.system().journal();
        let mut news = journal.subscribe();
        let search = async {
            loop {
                let page = journal.after(Seq(0), None, usize::MAX);
                if let Some(found) = page.receipts.iter().find(|receipt| wanted(receipt)) {
                    return found.clone();
                }
                news.changed().await.unwrap();
            }
        };
        timeout(LIMIT, search).await.expect("the receipt did not come")
    }

    fn kills(&self) -> usize {
        let page = self.system().journal().after(Seq(0), None, usize::MAX);
        page.receipts.iter().filter(|receipt| matches!(receipt.event, Event::KillRequested { .. })).count()
    }
}

fn path(text: &str) -> ActorPath {
    text.parse().unwrap()
}

/// The problem document of a response, after checking what every problem has.
async fn problem(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let document: Value = response.json().await.unwrap();
    assert_eq!(document["status"], status.as_u16());
    assert!(document["type"].as_str().unwrap().starts_with("https://gemba.dev/problems/"));
    assert!(!document["title"].as_str().unwrap().is_empty());
    (status, document)
}

#[tokio::test]
async fn a_node_shows_its_tree_board_receipts_and_health() {
    let bench = Bench::start().await;
    let client = bench.client(None);
    let tree = client.tree().await.unwrap();
    assert_eq!(tree.node.as_str(), "bench");
    assert!(tree.root.find(&path("/idle")).is_some());
    assert_eq!(client.board().await.unwrap().overall, Light::Green);
    assert_eq!(client.ready().await.unwrap(), Readiness::Ready);
    assert_eq!(client.health().await.unwrap().state, HealthState::Unknown, "a node without a plant");

    let all = client.receipts(None, None, 1_000).await.unwrap();
    assert!(matches!(all.receipts[0].event, Event::NodeStarted { .. }));
    let newest = client.receipts(None, None, 1).await.unwrap();
    assert_eq!(newest.receipts[0].seq, all.receipts.last().unwrap().seq, "without `after`, the newest");
    let second = client.receipts(Some(Seq(1)), None, 1).await.unwrap();
    assert_eq!((second.receipts[0].seq, second.next), (Seq(2), Seq(2)));
    let idle = client.receipts(Some(Seq(0)), Some(&path("/idle")), 10).await.unwrap();
    assert!(!idle.receipts.is_empty() && idle.receipts.iter().all(|receipt| receipt.path == path("/idle")));

    let metrics = bench.get("/metrics").await;
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4");
    assert_eq!(metrics.text().await.unwrap(), "gemba_actors 1\n");
    assert_eq!(bench.get("/livez").await.text().await.unwrap(), "ok\n");
    assert_eq!(
        bench.get("/readyz?verbose").await.text().await.unwrap(),
        "[+]node ok\n[+]board green\n[+]health unknown\nreadyz ok\n"
    );
    let tree = bench.get("/api/v1/tree").await;
    assert_eq!(tree.headers()["cache-control"], "no-store");
    assert!(!tree.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_change_without_the_token_changes_nothing() {
    let bench = Bench::start().await;
    let kill = "/api/v1/actors/idle/kill";
    for (authorization, body) in [
        (None, String::new()),
        (Some("Bearer correct-horse-batterx"), String::new()),
        (Some("Bearer "), String::new()),
        (Some("Basic Y29ycmVjdDpob3JzZQ=="), String::new()),
        // Neither a wrong path nor a wrong body is looked at before the token.
        (None, "x".repeat(20_000)),
    ] {
        for (method, address) in [
            ("POST", kill),
            ("POST", "/api/v1/lines/payment/cord"),
            ("DELETE", "/api/v1/lines/two words/cord"),
            ("POST", "/api/v1/affinity/large"),
            ("DELETE", "/api/v1/affinity/large"),
        ] {
            let mut request = bench.ask(method, address).body(body.clone());
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"gemba\"");
            let (status, document) = problem(response).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {address} {authorization:?}");
            assert!(document["detail"].as_str().unwrap().contains("token"));
        }
    }
    assert_eq!(bench.kills(), 0);
    let refused = bench.client(None).kill(&path("/idle"), "ann").await;
    assert!(matches!(refused, Err(ClientError::Unauthorized { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_kill_leaves_a_receipt_and_the_supervisor_answers_it() {
    let bench = Bench::start().await;
    let client = bench.client(Some(TOKEN));
    let life = client.tree().await.unwrap().root.find(&path("/idle")).unwrap().incarnation;
    let receipt = client.kill(&path("/idle"), "ann").await.unwrap();
    let asked = bench.receipt(|candidate| candidate.seq == receipt).await;
    assert_eq!(asked.event, Event::KillRequested { by: "ann".into() });
    bench.receipt(|candidate| matches!(candidate.event, Event::ChildRestarted { .. })).await;
    let tree = client.tree().await.unwrap();
    let idle = tree.root.find(&path("/idle")).unwrap();
    assert_ne!(idle.incarnation, life);
    assert_eq!(idle.restarts, 1);
}

#[tokio::test]
async fn a_supervisor_is_halted_and_runs_again() {
    let bench = Bench::start().await;
    let client = bench.client(Some(TOKEN));
    let desks = path("/desks");
    let halt = client.halt(&desks, "ann", Some("wrong answers")).await.unwrap();
    bench.receipt(|receipt| receipt.cause == Some(halt)).await;
    let tree = client.tree().await.unwrap();
    assert_eq!(tree.root.find(&desks).unwrap().state, ActorState::Halted);
    let again = client.halt(&desks, "ben", None).await.unwrap_err();
    assert!(again.to_string().contains(&format!("halted already, see receipt {halt}")), "{again}");
    let resumed = client.resume(&desks, "ann").await.unwrap();
    bench.receipt(|receipt| receipt.cause == Some(resumed)).await;
    let idle = client.halt(&path("/idle"), "ann", None).await.unwrap_err();
    assert!(idle.to_string().contains("only a supervisor can be halted"), "{idle}");
    let refused = bench.client(None).halt(&desks, "ann", None).await;
    assert!(matches!(refused, Err(ClientError::Unauthorized { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_be_killed_is_said_to_whoever_holds_the_token() {
    let bench = Bench::start().await;
    let client = bench.client(Some(TOKEN));
    let unknown = client.kill(&path("/idel"), "ann").await.unwrap_err();
    assert!(matches!(unknown, ClientError::NotFound { .. }), "{unknown}");
    let root = client.kill(&ActorPath::root(), "ann").await.unwrap_err();
    assert!(matches!(root, ClientError::Refused { .. }), "{root}");
    assert_eq!(bench.kills(), 0);
}

#[tokio::test]
async fn a_cord_is_pulled_and_reset_with_who_and_why() {
    let bench = Bench::start().await;
    let system = bench.system().clone();
    bench.system().on_control(move |control, reply| {
        let event = match control {
            Control::PullCord { line, .. } if line.as_str() != "payment" => {
                return reply.send(Err(ControlError::UnknownLine { line, known: "payment".into() }));
            }
            Control::PullCord { line, by, why } => Event::CordPulled { line, by, why },
            Control::ResetCord { line, .. } if line.as_str() != "payment" => {
                return reply.send(Err(ControlError::NotPulled { line }));
            }
            Control::ResetCord { line, by } => Event::CordReset { line, by },
            Control::Rebalance { .. } => return reply.send(Err(ControlError::NothingToMove)),
            Control::Acknowledge { .. }
            | Control::Silence { .. }
            | Control::AcceptBaseline { .. }
            | Control::BindKeys { .. }
            | Control::ClearKeys { .. } => return reply.send(Err(ControlError::Unavailable)),
            Control::ForceBreaker { breaker, .. } if breaker.as_str() != "payment" => {
                return reply.send(Err(ControlError::UnknownBreaker { breaker, known: "payment".into() }));
            }
            Control::ForceBreaker { breaker, to, by, why } => {
                let why = format!("{by}: {why}").into();
                Event::BreakerMoved { breaker, from: BreakerState::Closed, to, why }
            }
        };
        reply.send(Ok(system.record(None, &ActorPath::root(), event)));
    });
    let client = bench.client(Some(TOKEN));
    let (payment, other) = ("payment".parse().unwrap(), "other".parse().unwrap());
    let pulled = client.pull_cord(&payment, "ann", Some("smoke")).await.unwrap();
    let receipt = bench.receipt(|candidate| candidate.seq == pulled).await;
    let expected = Event::CordPulled { line: payment.clone(), by: "ann".into(), why: "smoke".into() };
    assert_eq!(receipt.event, expected);
    let reset = client.reset_cord(&payment, "ann").await.unwrap();
    let receipt = bench.receipt(|candidate| candidate.seq == reset).await;
    assert_eq!(receipt.event, Event::CordReset { line: payment.clone(), by: "ann".into() });

    let forced = client.force_breaker(&payment, BreakerState::HalfOpen, "ann", Some("try")).await.unwrap();
    let receipt = bench.receipt(|candidate| candidate.seq == forced).await;
    assert_eq!(receipt.event.to_string(), "breaker payment closed → half-open: ann: try");
    let unknown = client.force_breaker(&other, BreakerState::Open, "ann", None).await;
    assert!(matches!(unknown, Err(ClientError::NotFound { .. })), "{unknown:?}");
    let wrong = bench.ask("POST", "/api/v1/breakers/payment/ajar").bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::NOT_FOUND);

    let unknown = client.pull_cord(&other, "ann", None).await;
    assert!(matches!(unknown, Err(ClientError::NotFound { .. })), "{unknown:?}");
    let idle = client.reset_cord(&other, "ann").await;
    assert!(matches!(idle, Err(ClientError::Failed { status: StatusCode::CONFLICT, .. })), "{idle:?}");
    let level = client.rebalance("ann").await;
    assert!(matches!(level, Err(ClientError::Failed { status: StatusCode::CONFLICT, .. })), "{level:?}");
    let bare = bench.ask("POST", "/api/v1/lines/payment/cord").bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::OK, "a body may be left out");
}

#[tokio::test]
async fn an_alert_is_acknowledged_silenced_with_an_end_and_a_baseline_accepted() {
    let bench = Bench::start().await;
    let system = bench.system().clone();
    bench.system().on_control(move |control, reply| {
        let event = match control {
            Control::Acknowledge { station, .. } if station.as_str() == "node" => {
                return reply.send(Err(ControlError::Green { station }));
            }
            Control::Acknowledge { station, by } => Event::AlertAcknowledged { station, by },
            Control::Silence { for_ms, .. } if 1_000_000 < for_ms => {
                return reply.send(Err(ControlError::TooLong { for_ms }));
            }
            Control::Silence { stations, for_ms, by, why } => {
                Event::AlertsSilenced { stations, for_ms, by, why }
            }
            Control::AcceptBaseline { line, by } => {
                Event::BaselineSet { line, p95_us: 1, outcomes: 2, why: by }
            }
            Control::Rebalance { by } => {
                let (from, to) = ("a".parse().unwrap(), "b".parse().unwrap());
                Event::CapacityMoved { from, to, balance_milli: 500, by: Some(by) }
            }
            Control::PullCord { .. }
            | Control::ResetCord { .. }
            | Control::ForceBreaker { .. }
            | Control::BindKeys { .. }
            | Control::ClearKeys { .. } => return reply.send(Err(ControlError::Unavailable)),
        };
        reply.send(Ok(system.record(None, &ActorPath::root(), event)));
    });
    let client = bench.client(Some(TOKEN));
    let (pool, node) = ("pool:a".parse().unwrap(), "node".parse().unwrap());
    let seq = client.acknowledge(&pool, "ann").await.unwrap();
    let receipt = bench.receipt(|candidate| candidate.seq == seq).await;
    assert_eq!(receipt.event, Event::AlertAcknowledged { station: pool, by: "ann".into() });
    let green = client.acknowledge(&node, "ann").await;
    assert!(matches!(green, Err(ClientError::Failed { status: StatusCode::CONFLICT, .. })), "{green:?}");

    let seq = client.silence("pool:*", Duration::from_secs(60), "ann", Some("move")).await.unwrap();
    let receipt = bench.receipt(|candidate| candidate.seq == seq).await;
    let (stations, by, why) = ("pool:*".into(), "ann".into(), "move".into());
    assert_eq!(receipt.event, Event::AlertsSilenced { stations, for_ms: 60_000, by, why });
    let long = client.silence("*", Duration::from_secs(1001), "ann", None).await;
    assert!(matches!(long, Err(ClientError::Failed { status: StatusCode::BAD_REQUEST, .. })), "{long:?}");
    let seq = client.accept_baseline(&"payment".parse().unwrap(), "ann").await.unwrap();
    assert_eq!(bench.receipt(|candidate| candidate.seq == seq).await.event.kind(), "baseline_set");

    let seq = client.rebalance("ann").await.unwrap();
    let moved = bench.receipt(|candidate| candidate.seq == seq).await.event.to_string();
    assert_eq!(moved, "pool a lends a worker to pool b: balance 0.50, asked for by ann");

    for (address, token, body, status) in [
        ("/api/v1/alerts/pool:a/silence", true, "", 400),
        ("/api/v1/alerts/two%20words*/silence", true, r#"{"for_s":1}"#, 400),
        ("/api/v1/alerts/**/silence", true, r#"{"for_s":1}"#, 400),
        ("/api/v1/alerts/two%20words/acknowledgement", true, "", 400),
        ("/api/v1/alerts/pool:a/acknowledgement", false, "", 401),
        ("/api/v1/alerts/pool:a/silence", false, r#"{"for_s":1}"#, 401),
        ("/api/v1/lines/payment/baseline", false, "", 401),
        ("/api/v1/pools/balance", false, "", 401),
    ] {
        let request = bench.ask("POST", address).body(body);
        let request = if token { request.bearer_auth(TOKEN) } else { request };
        assert_eq!(request.send().await.unwrap().status(), status, "{address} {body}");
    }
}

#[tokio::test]
async fn keys_are_bound_to_a_pool_and_a_group_is_cleared() {
    let bench = Bench::start().await;
    let system = bench.system().clone();
    bench.system().on_control(move |control, reply| {
        let event = match control {
            Control::BindKeys { keys, .. } if keys.is_empty() => {
                return reply.send(Err(AffinityError::NoKeys.into()));
            }
            Control::BindKeys { group, pool, keys, by, why } => {
                assert_eq!(keys, [key_hash(b"customer 7"), key_hash(b"customer 8")]);
                Event::AffinityBound { group, pool, keys: keys.len() as u32, by, why }
            }
            Control::ClearKeys { group, .. } if group.as_str() != "large" => {
                return reply.send(Err(ControlError::UnknownGroup { group, known: "large".into() }));
            }
            Control::ClearKeys { group, by } => {
                Event::AffinityEnded { group, pool: "spare".parse().unwrap(), why: by }
            }
            Control::PullCord { .. }
            | Control::ResetCord { .. }
            | Control::ForceBreaker { .. }
            | Control::Acknowledge { .. }
            | Control::Silence { .. }
            | Control::Rebalance { .. }
            | Control::AcceptBaseline { .. } => return reply.send(Err(ControlError::Unavailable)),
        };
        reply.send(Ok(system.record(None, &ActorPath::root(), event)));
    });
    let body = r#"{"pool":"spare","keys":["customer 7","customer 8"],"by":"ann","why":"a large import"}"#;
    for (method, group, body, status, kind) in [
        ("POST", "large", body, 200, Some("affinity_bound")),
        ("POST", "large", r#"{"pool":"spare"}"#, 400, None),
        ("DELETE", "large", "", 200, Some("affinity_ended")),
        ("DELETE", "small", "", 404, None),
    ] {
        let request = bench.ask(method, &format!("/api/v1/affinity/{group}")).bearer_auth(TOKEN);
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{method} {group}");
        if let Some(kind) = kind {
            bench.receipt(|receipt| receipt.event.kind() == kind).await;
        }
    }
}

#[tokio::test]
async fn a_configuration_is_read_again_for_whoever_holds_the_token() {
    let bench = Bench::start().await;
    let ask = || bench.ask("POST", "/api/v1/reload").bearer_auth(TOKEN);
    let (status, _) = problem(ask().send().await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "nobody reads one");

    let (known, asked) = std::sync::mpsc::channel::<Arc<str>>();
    bench.system().on_reload(move |by, reply| {
        match &*by {
            "faulty" => reply
                .send(Err(ReloadError::Faults(vec!["limits.hard is 0".into(), "unknown key 'x'".into()]))),
            "fixed" => reply.send(Err(ReloadError::NeedsRestart(vec!["listen".into(), "database".into()]))),
            "operator" => drop(reply),
            _ => {
                let changes =
                    vec![SettingChange { setting: "limits".into(), from: "1".into(), to: "2".into() }];
                reply.send(Ok(Reloaded { receipt: Seq(42), changes }));
            }
        }
        known.send(by).unwrap();
    });

    let (status, _) = problem(bench.ask("POST", "/api/v1/reload").send().await.unwrap()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let error = bench.client(None).reload("ann").await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized { .. }), "{error}");
    assert_eq!(asked.try_iter().count(), 0);

    let reloaded = bench.client(Some(TOKEN)).reload("ann").await.unwrap();
    assert_eq!((reloaded.receipt, &*reloaded.changes[0].to), (Seq(42), "2"));
    let faulty = ask().json(&serde_json::json!({"by": "faulty"}));
    let (status, document) = problem(faulty.send().await.unwrap()).await;
    let kind = document["type"].as_str().unwrap().rsplit('/').next();
    assert_eq!((status, kind), (StatusCode::UNPROCESSABLE_ENTITY, Some("faulty-configuration")));
    assert_eq!(document["faults"], serde_json::json!(["limits.hard is 0", "unknown key 'x'"]));
    let error = bench.client(Some(TOKEN)).reload("fixed").await.unwrap_err();
    let ClientError::Failed { status, detail } = &error else { panic!("{error}") };
    assert!(*status == StatusCode::CONFLICT && detail.contains("start only: listen, database"), "{detail}");
    let (status, _) = problem(ask().send().await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "the reply was dropped");
    let names: Vec<_> = asked.try_iter().collect();
    assert_eq!(names, ["ann", "faulty", "fixed", "operator"].map(Arc::from));
}

#[tokio::test]
async fn a_wrong_request_is_answered_with_a_problem() {
    let bench = Bench::start().await;
    let large = format!("{{\"why\":\"{}\"}}", "x".repeat(20_000));
    for (method, address, body, status, word) in [
        ("GET", "/", "", 404, "/api/v1"),
        ("GET", "/api/v2/tree", "", 404, "/api/v1"),
        ("POST", "/api/v1/tree", "", 405, "method"),
        ("GET", "/api/v1/actors/idle/kill", "", 405, "method"),
        ("PUT", "/api/v1/lines/payment/cord", "", 405, "method"),
        ("GET", "/api/v1/receipts?after=x", "", 400, "'after'"),
        ("GET", "/api/v1/receipts?after=18446744073709551615", "", 400, "'after'"),
        ("GET", "/api/v1/receipts?limit=0", "", 400, "'limit'"),
        ("GET", "/api/v1/receipts?limit=1001", "", 400, "'limit'"),
        ("GET", "/api/v1/receipts?path=idle", "", 400, "'path'"),
        ("GET", "/api/v1/receipts?page=2", "", 400, "'page'"),
        ("GET", "/api/v1/events?after=x", "", 400, "'after'"),
        ("GET", "/readyz?quiet", "", 400, "'quiet'"),
        ("POST", "/api/v1/actors/idle", "", 404, "kill"),
        ("POST", "/api/v1/actors/two words/kill", "", 400, "path"),
        ("POST", "/api/v1/actors/nobody/kill", "", 404, "/nobody"),
        ("POST", "/api/v1/actors/kill", "", 403, "root"),
        ("POST", "/api/v1/actors/idle/kill", "{", 400, "body"),
        ("POST", "/api/v1/actors/idle/kill", r#"{"who":"ann"}"#, 400, "who"),
        ("POST", "/api/v1/actors/idle/kill", &large, 413, "16384"),
        ("POST", "/api/v1/lines/two words/cord", "", 400, "name"),
        ("POST", "/api/v1/lines/payment/cord", "", 503, "board"),
        ("POST", "/api/v1/affinity/large", "", 400, "pool"),
        ("POST", "/api/v1/affinity/large", r#"{"pool":"two words"}"#, 400, "name"),
        ("POST", "/api/v1/affinity/large", r#"{"pool":"a","keys":"one"}"#, 400, "body"),
        ("POST", "/api/v1/affinity/large", r#"{"pool":"a","keys":["one"]}"#, 503, "board"),
        ("DELETE", "/api/v1/affinity/large", "", 503, "board"),
    ] {
        let request = bench.ask(method, address).bearer_auth(TOKEN).body(body.to_owned());
        let response = request.send().await.unwrap();
        let allow = response.headers().contains_key("allow");
        assert_eq!(allow, status == 405, "{method} {address}: a 405 lists what is allowed");
        let retry = response.headers().contains_key("retry-after");
        assert_eq!(retry, status == 503, "{method} {address}: a 503 says when to come back");
        let (got, document) = problem(response).await;
        assert_eq!(got.as_u16(), status, "{method} {address}");
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{method} {address}: {detail}");
        let asked = reqwest::Url::parse(&format!("{}{address}", bench.url)).unwrap();
        assert_eq!(document["instance"], asked.path(), "{method} {address}");
    }
    assert_eq!(bench.kills(), 0);
}

#[tokio::test]
async fn foreign_names_and_foreign_pages_are_refused() {
    let bench = Bench::start().await;
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("node.example", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ] {
        let response = bench.ask("GET", "/api/v1/tree").header("host", host).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
    let own = bench.url.as_str();
    for (name, value, status) in [
        ("origin", own, 200),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        let request = bench.ask("POST", "/api/v1/actors/idle/kill").bearer_auth(TOKEN).header(name, value);
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{name}: {value}");
    }
    assert_eq!(bench.kills(), 1, "only the page of this node killed");
}

/// Reads a stream until its text contains `end`.
async fn read_until(stream: &mut Response, text: &mut String, end: &str) {
    let reading = async {
        while !text.contains(end) {
            let chunk = stream.chunk().await.unwrap().expect("the stream ended early");
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    timeout(LIMIT, reading).await.unwrap_or_else(|_| panic!("no '{end}' in: {text}"));
}

#[tokio::test]
async fn events_resume_where_the_client_was_and_go_on_live() {
    let bench = Bench::start().await;
    let newest = bench.system().journal().newest();
    let request = bench.ask("GET", "/api/v1/events").header("last-event-id", "1");
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    read_until(&mut stream, &mut text, &format!("id: {newest}").replace('#', "")).await;
    read_until(&mut stream, &mut text, "event: board").await;
    assert!(!text.contains("id: 1\n"), "the first was seen before: {text}");
    assert!(text.contains("id: 2\n") && text.contains("event: receipt"), "{text}");

    bench.client(Some(TOKEN)).kill(&path("/idle"), "ann").await.unwrap();
    read_until(&mut stream, &mut text, "child_restarted").await;
    bench.system().board_publisher().publish(BoardView { overall: Light::Yellow, ..BoardView::default() });
    read_until(&mut stream, &mut text, "\"overall\":\"yellow\"").await;
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert!(serde_json::from_str::<Value>(data).is_ok(), "{data}");
}

#[tokio::test]
async fn streams_are_bounded_and_their_places_are_given_back() {
    let bench = Bench::start().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let stream = bench.get("/api/v1/events").await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let (status, document) = problem(bench.get("/api/v1/events").await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(document["detail"].as_str().unwrap().contains("64"));
    drop(streams);
    let again = async {
        // The server learns of a closed connection in its own time.
        while bench.get("/api/v1/events").await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, again).await.expect("the places were not given back");
}

#[tokio::test]
async fn a_server_ends_when_asked_though_a_stream_is_open() {
    let bench = Bench::start().await;
    let mut stream = bench.get("/api/v1/events").await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: board").await;
    bench.shutdown.send(()).unwrap();
    timeout(gemba_inspect::DRAIN_MAX + LIMIT, bench.serving).await.unwrap().unwrap();
    let rest = async { while let Ok(Some(_)) = stream.chunk().await {} };
    timeout(LIMIT, rest).await.expect("the stream was not closed");
    assert!(bench.http.get(format!("{}/livez", bench.url)).send().await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_node_that_takes_no_work_says_why() {
    let bench = Bench::start().await;
    let client = bench.client(None);
    let station = StationView {
        name: "node".parse().unwrap(),
        light: Light::Purple,
        why: "p99 above 1 s".into(),
        since_unix_ms: 0,
        receipt: None,
    };
    let purple = BoardView { overall: Light::Purple, stations: vec![station], ..BoardView::default() };
    bench.system().board_publisher().publish(purple);
    let draining = client.ready().await.unwrap();
    assert_eq!(draining, Readiness::NotReady("the board is draining: node p99 above 1 s".into()));
    bench.system().board_publisher().publish(BoardView::default());
    assert_eq!(client.ready().await.unwrap(), Readiness::Ready);

    bench.node.stop("test").await.unwrap();
    assert_eq!(client.ready().await.unwrap(), Readiness::NotReady("the node is stopping".into()));
    assert_eq!(client.tree().await.unwrap().node.as_str(), "bench", "it can still be looked at");
}

#[tokio::test]
async fn a_client_tells_what_kind_of_trouble_it_has() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let silent = Client::new(&url, None).unwrap().tree().await.unwrap_err();
    assert!(matches!(silent, ClientError::Unreachable { .. }), "{silent}");
    assert!(silent.to_string().contains("gemba demo"), "it says what to start: {silent}");

    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", stranger.local_addr().unwrap());
    let page = axum::Router::new().fallback(|| async { "<html>hello</html>" });
    let serving = tokio::spawn(axum::serve(stranger, page).into_future());
    let invalid = Client::new(&url, None).unwrap().tree().await.unwrap_err();
    assert!(matches!(invalid, ClientError::Invalid { status: StatusCode::OK, .. }), "{invalid}");
    serving.abort();

    for wrong in ["", "127.0.0.1:4040", "https://127.0.0.1:4040", "http://127.0.0.1:4040/?x=1", "ftp://x"] {
        assert!(matches!(Client::new(wrong, None), Err(ClientError::Address { .. })), "{wrong}");
    }
}
