//! Both real processes, spoken to as a client would: what they answer, and what is left when one is killed.
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Clients that pay at the same time under load.
const CLIENTS: usize = 8;

/// A running process; killed when it is dropped.
struct Process {
    child: Child,
    url: String,
}

impl Process {
    async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_payment"))
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line =
            timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("it says where it listens");
        Self { child, url: line.strip_prefix("listening on ").unwrap().to_owned() }
    }

    async fn kill(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    fn ask_to_stop(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    async fn ended(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap()
    }
}

/// A service, its gateway, and where their files are.
struct House {
    directory: TempDir,
    gateway: Process,
    service: Process,
    client: Client,
}

impl House {
    async fn open(dials: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("gateway.db");
        let mut arguments =
            vec!["gateway", "--listen", "127.0.0.1:0", "--database", database.to_str().unwrap()];
        arguments.extend(dials);
        let gateway = Process::start(&arguments).await;
        let service = start_service(&directory, &gateway.url).await;
        Self { directory, gateway, service, client: Client::new() }
    }

    async fn restart_service(&mut self) {
        self.service = start_service(&self.directory, &self.gateway.url).await;
    }

    fn database(&self) -> Connection {
        let path = self.directory.path().join("payment.db");
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
    }

    fn count(&self, condition: &str) -> usize {
        let sql = format!("SELECT count(*) FROM payment WHERE {condition}");
        self.database().query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize
    }

    /// The keys the service knows.
    fn keys(&self) -> HashSet<String> {
        let database = self.database();
        let mut statement = database.prepare("SELECT key FROM idempotency").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    async fn pay(&self, key: &str, body: &Value) -> Reply {
        pay(&self.client, &self.service.url, key, body).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.service.url)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.unwrap()
    }

    async fn gateway_summary(&self) -> Value {
        self.client.get(format!("{}/summary", self.gateway.url)).send().await.unwrap().json().await.unwrap()
    }

    /// The references the gateway charged, with how often.
    async fn charged(&self) -> HashMap<String, u32> {
        let (mut charged, mut after) = (HashMap::new(), Some(0));
        while let Some(id) = after {
            let url = format!("{}/charges?after={id}", self.gateway.url);
            let page: Value = self.client.get(url).send().await.unwrap().json().await.unwrap();
            for entry in page["charges"].as_array().unwrap() {
                if entry["outcome"] == "charged" {
                    *charged.entry(entry["reference"].as_str().unwrap().to_owned()).or_default() += 1;
                }
            }
            after = page["next"].as_i64();
        }
        charged
    }

    /// Waits until no payment's outcome is unknown.
    async fn reconciled(&self) {
        let open = || self.count("state IN ('authorising', 'unknown')");
        until("every payment has an outcome", async || open() == 0).await;
    }
}

async fn start_service(directory: &TempDir, gateway: &str) -> Process {
    let database = directory.path().join("payment.db");
    let database = database.to_str().unwrap();
    Process::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--inspect",
        "127.0.0.1:0",
        "--gateway",
        gateway,
        "--database",
        database,
        "--blacklist",
        "banned",
    ])
    .await
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Reply {
    async fn of(response: reqwest::Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that it is this problem, complete.
    #[track_caller]
    fn expect_problem(&self, status: u16, name: &str) -> Value {
        let body = self.json();
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(body["type"], format!("https://gemba.dev/problems/{name}"), "{self:?}");
        assert_eq!(body["status"], status, "{self:?}");
        for member in ["title", "detail", "instance"] {
            assert!(body[member].is_string(), "{member} of {self:?}");
        }
        body
    }
}

async fn pay(client: &Client, url: &str, key: &str, body: &Value) -> reqwest::Result<Reply> {
    let request = client.post(format!("{url}/v1/payments")).header("idempotency-key", key).json(body);
    Reply::of(request.timeout(PATIENCE).send().await?).await
}

fn order(customer: &str, token: &str) -> Value {
    json!({"amount_minor": 1999, "currency": "EUR", "customer": customer, "payment_method": token})
}

/// Looks until something is so: the other process cannot be waited for in any other way.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let start = Instant::now();
    let mut looks = interval(Duration::from_millis(20));
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        looks.tick().await;
    }
}

#[tokio::test]
async fn a_payment_ends_in_the_status_of_its_outcome() {
    let house = House::open(&[]).await;
    let captured = house.pay("a", &order("c", "tok_ok")).await;
    assert_eq!(
        (captured.status, captured.json()["status"].as_str()),
        (201, Some("captured")),
        "{captured:?}"
    );
    let id = captured.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(captured.header("location"), format!("/v1/payments/{id}"));
    let mut payment = captured.json();
    // What the answer says of its request beside the payment.
    for member in ["trace_id", "took_ms"] {
        assert!(payment.as_object_mut().unwrap().remove(member).is_some(), "{member} of {captured:?}");
    }
    assert_eq!(house.get(&format!("/v1/payments/{id}")).await, payment);
    assert_eq!(house.get("/v1/payments?customer=c&limit=1").await["payments"][0]["id"], id);

    let declined = house.pay("b", &order("c", "tok_declined")).await;
    assert_eq!(declined.expect_problem(402, "declined")["decline_code"], "card_declined");
    let invalid = house.pay("c", &order("c", "tok_of_nobody")).await;
    assert_eq!(invalid.expect_problem(402, "declined")["decline_code"], "invalid_token");
    let mut large = order("banned", "tok_ok");
    large["amount_minor"] = json!(500_001);
    let rejected = house.pay("d", &large).await.expect_problem(422, "rejected_by_policy");
    let rules: Vec<_> =
        rejected["violations"].as_array().unwrap().iter().map(|v| v["rule"].clone()).collect();
    assert_eq!(rules, ["blacklist", "amount_limit"]);
    assert_eq!((&rejected["policy"], &rejected["policy_version"]), (&json!("fraud"), &json!(3)));

    let summary = house.gateway_summary().await;
    assert_eq!(summary, json!({"charges": 1, "references": 1, "declined": 2, "attempts": 3}));
    assert_eq!(house.charged().await, HashMap::from([(id, 1)]));
}

#[tokio::test]
async fn a_charge_the_gateway_did_not_answer_is_found_and_not_made_again() {
    let house = House::open(&[]).await;
    let order = order("c", "tok_timeout_after_charge");
    let processing = house.pay("a", &order).await;
    assert_eq!((processing.status, processing.json()["status"].as_str()), (202, Some("processing")));
    let location = processing.header("location").to_owned();
    until("it is captured", async || house.get(&location).await["status"] == "captured").await;
    let replay = house.pay("a", &order).await;
    assert_eq!((replay.status, replay.header("idempotency-replayed")), (201, "true"));
    for member in ["trace_id", "took_ms"] {
        assert!(!replay.json()[member].is_null(), "{member} of {replay:?}");
        assert_eq!(
            replay.json()[member],
            processing.json()[member],
            "what is found out is that request's answer"
        );
    }
    assert_eq!(house.charged().await.into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn an_answer_names_its_trace_and_how_long_it_took_and_so_does_the_trail() {
    let house = House::open(&[]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let caller = "00f067aa0ba902b7";
    let pay = async |key, body, traceparent: &str| {
        let request = house.client.post(format!("{}/v1/payments", house.service.url));
        let request = request.header("idempotency-key", key).header("traceparent", traceparent);
        Reply::of(request.json(body).timeout(PATIENCE).send().await.unwrap()).await.unwrap()
    };
    let given = format!("00-{trace}-{caller}-01");
    let (good, banned) = (order("c", "tok_ok"), order("banned", "tok_ok"));
    let missing = json!({"currency": "EUR"});
    for (key, body, status) in [("a", &good, 201), ("b", &banned, 422), ("c", &missing, 422)] {
        let reply = pay(key, body, &given).await;
        let said = reply.json();
        assert_eq!((reply.status, said["trace_id"].as_str()), (status, Some(trace)), "{reply:?}");
        assert!(said["took_ms"].is_u64(), "{reply:?}");
        let response = reply.header("traceresponse");
        assert!(response.starts_with(&format!("00-{trace}-")) && !response.contains(caller), "{response}");
    }
    // A replay is the answer of the first request; its own trace stands in the header.
    let replay = pay("a", &good, "no trace at all").await;
    assert_eq!(
        (replay.header("idempotency-replayed"), replay.json()["trace_id"].as_str()),
        ("true", Some(trace))
    );
    assert!(!replay.header("traceresponse").contains(trace), "{replay:?}");
    assert_eq!(replay.header("traceresponse").len(), given.len());
    let named = "SELECT count(*) FROM audit WHERE detail LIKE '%' || ?1 || '%'";
    let named: u32 = house.database().query_row(named, [trace], |row| row.get(0)).unwrap();
    assert_eq!(named, 2, "the captured and the rejected one");
}

#[tokio::test]
async fn a_key_stands_for_one_payment() {
    // Long enough for the others to come while the first is at the gateway.
    let house = House::open(&["--latency-ms-p50", "1000"]).await;
    let order = order("c", "tok_ok");
    let key = |n: usize| if n.is_multiple_of(2) { "a" } else { "\"a\"" };
    let replies = futures_util::future::join_all((0..10).map(|n| house.pay(key(n), &order))).await;
    let (first, others): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
    for reply in &others {
        reply.expect_problem(409, "in_progress");
        assert_eq!(reply.header("retry-after"), "1");
    }
    assert_eq!((first.len(), others.len()), (1, 9));

    let replay = house.pay("a", &order).await;
    assert_eq!((replay.status, replay.header("idempotency-replayed")), (201, "true"));
    assert_eq!(replay.text, first[0].text);
    let mut other = order.clone();
    other["amount_minor"] = json!(2000);
    house.pay("a", &other).await.expect_problem(422, "idempotency_key_reuse");
    assert_eq!(house.gateway_summary().await["attempts"], 1);
    assert_eq!(house.count("true"), 1);
}

#[tokio::test]
async fn what_cannot_be_accepted_is_a_problem_and_leaves_nothing_behind() {
    let house = House::open(&[]).await;
    let with = |field: &str, value: Value| {
        let mut body = order("c", "tok_ok");
        body[field] = value;
        body.to_string().into_bytes()
    };
    let sound = order("c", "tok_ok").to_string().into_bytes();
    let huge = vec![b'x'; 10 * 1024 * 1024];
    let nested = "[".repeat(10_000).into_bytes();
    let doubled =
        br#"{"amount_minor":1,"amount_minor":2,"currency":"EUR","customer":"c","payment_method":"tok_ok"}"#;
    for (key, body, status, name, field) in [
        (Some("k"), b"{".to_vec(), 400, "malformed_body", None),
        (Some("k"), b"[]".to_vec(), 400, "malformed_body", None),
        (Some("k"), nested, 400, "malformed_body", None),
        (Some("k"), doubled.to_vec(), 400, "malformed_body", None),
        (Some("k"), b"\xff\xfe".to_vec(), 400, "malformed_body", None),
        (Some("k"), with("amount_minor", json!("1999")), 422, "invalid_request", Some("amount_minor")),
        (Some("k"), with("amount_minor", json!(19.99)), 422, "invalid_request", Some("amount_minor")),
        (Some("k"), with("amount_minor", json!(-1)), 422, "invalid_request", Some("amount_minor")),
        (Some("k"), with("amount_minor", json!(0)), 422, "invalid_request", Some("amount_minor")),
        (Some("k"), with("amount_minor", json!(1_u64 << 63)), 422, "invalid_request", Some("amount_minor")),
        (Some("k"), with("currency", json!("EURO")), 422, "invalid_request", Some("currency")),
        (Some("k"), with("colour", json!("red")), 422, "invalid_request", Some("colour")),
        (None, sound.clone(), 400, "idempotency_key_invalid", None),
        (Some("two words"), sound.clone(), 400, "idempotency_key_invalid", None),
        (Some("k"), huge, 413, "body_too_large", None),
    ] {
        let mut request = house.client.post(format!("{}/v1/payments", house.service.url)).body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let reply = Reply::of(request.send().await.unwrap()).await.unwrap();
        let problem = reply.expect_problem(status, name);
        assert_eq!(problem["errors"][0]["field"].as_str(), field, "{reply:?}");
    }
    for (method, path, status, name) in [
        (Method::GET, "/v2/payments", 404, "not_found"),
        (Method::GET, "/v1/payments/1", 404, "not_found"),
        (Method::GET, "/v1/payments/018f4e1c-0000-7000-8000-000000000000", 404, "not_found"),
        (Method::DELETE, "/v1/payments", 405, "method_not_allowed"),
        (Method::GET, "/v1/payments", 422, "invalid_request"),
        (Method::GET, "/v1/payments?customer=c&limit=1000", 422, "invalid_request"),
    ] {
        let request = house.client.request(method.clone(), format!("{}{path}", house.service.url));
        let reply = Reply::of(request.send().await.unwrap()).await.unwrap();
        reply.expect_problem(status, name);
        assert_eq!(reply.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
    assert_eq!((house.count("true"), house.keys().len()), (0, 0));
}

#[tokio::test]
async fn while_the_gateway_is_gone_payments_are_refused_and_their_keys_stay_free() {
    let mut house = House::open(&[]).await;
    let address = house.gateway.url.strip_prefix("http://").unwrap().to_owned();
    house.gateway.kill().await;
    let refused = pay(&house.client, &house.service.url, "a", &order("c", "tok_ok")).await.unwrap();
    refused.expect_problem(503, "refused");
    assert_eq!(refused.header("retry-after"), "1");
    let database = house.directory.path().join("gateway.db");
    let arguments = ["gateway", "--listen", &address, "--database", database.to_str().unwrap()];
    house.gateway = Process::start(&arguments).await;
    assert_eq!(house.pay("a", &order("c", "tok_ok")).await.status, 201);
    assert_eq!(house.charged().await.len(), 1);
}

/// Clients that pay until the service is gone, each payment with a customer and a key of its own.
struct Load {
    clients: JoinSet<Answered>,
}

/// The keys that were answered, with status and id, and those a connection broke for.
#[derive(Debug, Default)]
struct Answered {
    replies: HashMap<String, (u16, String)>,
    broken: HashSet<String>,
}

impl Load {
    fn start(house: &House, round: usize) -> Self {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let url = house.service.url.clone();
            clients.spawn(async move {
                let (client, mut answered) = (Client::new(), Answered::default());
                for n in 0.. {
                    let key = format!("{round}-{number}-{n}");
                    let Ok(reply) = pay(&client, &url, &key, &order(&key, "tok_ok")).await else {
                        answered.broken.insert(key);
                        break;
                    };
                    let id = reply.json()["id"].as_str().unwrap_or_default().to_owned();
                    answered.replies.insert(key, (reply.status, id));
                }
                answered
            });
        }
        Self { clients }
    }

    /// Waits until the service has captured so many payments.
    async fn reached(house: &House, captured: usize) {
        until("the load has come so far", async || captured <= house.count("state = 'captured'")).await;
    }

    async fn ended(self) -> Answered {
        let all = timeout(PATIENCE, self.clients.join_all()).await.expect("every client stops");
        let mut together = Answered::default();
        for answered in all {
            together.replies.extend(answered.replies);
            together.broken.extend(answered.broken);
        }
        together
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_load_nothing_is_lost_and_nothing_charged_twice() {
    let mut house = House::open(&["--latency-ms-p50", "5", "--latency-ms-p99", "50"]).await;
    let mut captured = HashMap::new();
    for round in 1..=3 {
        let load = Load::start(&house, round);
        Load::reached(&house, captured.len() + 60).await;
        house.service.child.start_kill().unwrap();
        house.service.ended().await;
        let answered = load.ended().await;
        assert_eq!(answered.broken.len(), CLIENTS);

        house.restart_service().await;
        house.reconciled().await;
        for (key, (status, id)) in answered.replies {
            assert_eq!(status, 201, "{key}");
            assert_eq!(house.get(&format!("/v1/payments/{id}")).await["status"], "captured", "{key}");
            captured.insert(key, id);
        }
        // Whoever got no answer asks again with the same key, and has paid once in the end.
        for key in answered.broken {
            let reply = house.pay(&key, &order(&key, "tok_ok")).await;
            assert_eq!(reply.status, 201, "{key}: {reply:?}");
            captured.insert(key, reply.json()["id"].as_str().unwrap().to_owned());
        }
    }
    let charged = house.charged().await;
    assert!(charged.values().all(|times| *times == 1), "{charged:?}");
    let paid: HashSet<_> = captured.into_values().collect();
    assert_eq!(charged.into_keys().collect::<HashSet<_>>(), paid);
    assert_eq!(house.count("state = 'captured'"), paid.len());
    let sql = "SELECT count(*) FROM audit WHERE event = 'captured'";
    let in_trail = house.database().query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
    assert_eq!(in_trail, paid.len(), "each capture stands in the trail once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_under_load_it_answers_what_it_began_and_ends_well() {
    let mut house = House::open(&["--latency-ms-p50", "20", "--latency-ms-p99", "200"]).await;
    let load = Load::start(&house, 1);
    Load::reached(&house, 60).await;
    house.service.ask_to_stop();
    let status = house.service.ended().await;
    assert_eq!(status.code(), Some(0));
    let answered = load.ended().await;
    let begun = house.keys();
    let unanswered: Vec<_> = begun.iter().filter(|key| !answered.replies.contains_key(*key)).collect();
    assert!(unanswered.is_empty(), "begun and not answered: {unanswered:?}");
    assert!(answered.replies.values().all(|(status, _)| *status == 201));
    assert_eq!(house.count("state <> 'captured'"), 0);
    house.gateway.ask_to_stop();
    assert_eq!(house.gateway.ended().await.code(), Some(0));
}

async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_payment")).args(arguments).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_wrong_flag_is_named_with_what_would_be_right() {
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("a.db");
    let file = file.to_str().unwrap();
    for (arguments, code, flag, fix) in [
        (vec!["serve", "--listen", "here", "--database", file], 2, "--listen", "127.0.0.1:8080"),
        (vec!["serve", "--inspect", "8080", "--database", file], 2, "--inspect", "127.0.0.1:8080"),
        (vec!["serve", "--port", "80"], 2, "--port", "--help"),
        (vec!["gateway", "--error-rate", "2"], 2, "--error-rate", "0 to 1"),
        (vec!["gateway", "--latency-ms-p50", "x"], 2, "--latency-ms-p50", "invalid digit"),
        (vec!["serve", "--gateway", "nowhere", "--database", file], 2, "--gateway", "http://127.0.0.1:8090"),
        (vec!["serve", "--database", "/nowhere/a.db"], 1, "--database", "cannot be written"),
    ] {
        let (ended, said) = run(&arguments).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(flag) && said.contains(fix), "{arguments:?}: {said}");
    }
}
