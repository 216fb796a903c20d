//! The system from outside: the program itself, real processes, real requests.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use gemba_deployment::client::{Client, ClientError};
use gemba_deployment::policy::Strategy;
use gemba_deployment::splitter::Counted;
use gemba_deployment::splitter::table::{Share, Sticky, Table};
use gemba_deployment::store::Past;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

mod adapter;
mod bad;
mod config;
mod queue;
mod reload;
mod torture;

/// How long anything here may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const PROGRAM: &str = env!("CARGO_BIN_EXE_deployment");

/// A port nobody listens at, below those the system gives away.
fn port() -> u16 {
    let start = std::process::id() as u16 % 5_000 + 12_000;
    let mut ports = (start..20_000).filter(|port| {
        // One of each: a test of this file may have got the same one.
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("port-{}-{port}", std::process::id()));
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok() && std::fs::File::create_new(file).is_ok()
    });
    ports.next().unwrap()
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// This program with these arguments, once it has said where it listens.
async fn run(args: &[&str]) -> Child {
    run_with(args, Stdio::null()).await
}

async fn run_with(args: &[&str], log: Stdio) -> Child {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("listening on") {
                return true;
            }
        }
        false
    };
    assert!(timeout(SOON, listening).await.unwrap(), "{args:?} did not start");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

async fn sample(version: &str, more: &[&str]) -> (Child, SocketAddr) {
    let address = at(port());
    let listen = address.to_string();
    let args = [&["sample-service", "--listen", &listen, "--version", version], more].concat();
    (run(&args).await, address)
}

/// A splitter, and where it is told things.
async fn splitter() -> (Child, SocketAddr, String) {
    let (listen, admin) = (at(port()), at(port()));
    let child = run(&["splitter", "--listen", &listen.to_string(), "--admin", &admin.to_string()]).await;
    (child, listen, format!("http://{admin}"))
}

fn table(generation: u64, shares: &[(&str, u32, &[SocketAddr])]) -> Table {
    let share = |(version, weight, instances): &(&str, u32, &[SocketAddr])| Share {
        version: (*version).to_owned(),
        weight: *weight,
        instances: instances.to_vec(),
    };
    Table {
        generation,
        sticky: Sticky::Header("x-user".to_owned()),
        versions: shares.iter().map(share).collect(),
    }
}

async fn tell(admin: &str, table: &Table) -> u16 {
    reqwest::Client::new().put(format!("{admin}/table")).json(table).send().await.unwrap().status().as_u16()
}

async fn counted(admin: &str) -> Counted {
    reqwest::get(format!("{admin}/counts")).await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn shares_move_without_a_lost_request_and_a_caller_stays_with_a_version() {
    let ((_v1, v1), (_v2, v2)) = (sample("v1", &[]).await, sample("v2", &[]).await);
    let (v1, v2) = ([v1], [v2]);
    let (_splitter, listen, admin) = splitter().await;
    let client = reqwest::Client::new();
    let ask = async |user: usize| {
        let answer =
            client.get(format!("http://{listen}/")).header("x-user", user.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap().trim().to_owned())
    };
    assert_eq!(ask(1).await.0, 503, "before the first table");
    let mut before: Option<Vec<String>> = None;
    for (generation, share) in [(1, 0), (2, 500), (3, 2_500), (4, 10_000)] {
        let versions: Vec<(&str, u32, &[SocketAddr])> = match share {
            0 => vec![("v1", 10_000, &v1)],
            10_000 => vec![("v2", 10_000, &v2)],
            share => vec![("v2", share, &v2), ("v1", 10_000 - share, &v1)],
        };
        assert_eq!(tell(&admin, &table(generation, &versions)).await, 204);
        let mut now = Vec::new();
        for user in 0..400 {
            let (status, version) = ask(user).await;
            assert_eq!(status, 200, "user {user} at {share}");
            now.push(version);
        }
        let new = now.iter().filter(|version| *version == "v2").count();
        // 400 users: five standard deviations.
        assert!((new as f64 - 400.0 * f64::from(share) / 1e4).abs() <= 45.0, "{new} of 400 at {share}");
        if let Some(before) = &before {
            assert!(before.iter().zip(&now).all(|(was, is)| was == "v1" || is == "v2"), "nobody goes back");
        }
        before = Some(now);
    }
    assert_eq!(tell(&admin, &table(3, &[("v1", 10_000, &v1)])).await, 409, "a late word");
    assert_eq!(tell(&admin, &table(9, &[("v1", 9_999, &v1)])).await, 422);
    let counts = counted(&admin).await;
    let requests: u64 = counts.versions.iter().map(|version| version.requests).sum();
    assert_eq!((counts.generation, requests), (4, 1_600), "{counts:?}");
    assert!(counts.versions.iter().all(|version| version.failures == 0 && version.in_flight == 0));
}

#[tokio::test]
async fn what_may_be_repeated_is_asked_elsewhere_and_what_may_not_is_refused() {
    let (_v1, good) = sample("v1", &[]).await;
    let (_splitter, listen, admin) = splitter().await;
    let dead = at(port());
    assert_eq!(tell(&admin, &table(1, &[("v1", 10_000, &[dead, good])])).await, 204);
    let client = reqwest::Client::new();
    let mut refused = 0;
    for user in 0..50 {
        let request =
            |method| client.request(method, format!("http://{listen}/")).header("x-user", user.to_string());
        assert_eq!(request(reqwest::Method::GET).send().await.unwrap().status(), 200);
        let answer = request(reqwest::Method::POST).body("once").send().await.unwrap();
        refused += u32::from(answer.status() == 502);
    }
    // Half of the callers are sent to the dead instance first.
    assert!((5..=45).contains(&refused), "{refused} of 50");
    assert_eq!(counted(&admin).await.versions[0].failures, u64::from(refused));
}

#[tokio::test]
async fn what_concerns_a_connection_is_not_passed_on_and_a_trace_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_splitter, listen, admin) = splitter().await;
    let instance = listener.local_addr().unwrap();
    assert_eq!(tell(&admin, &table(1, &[("v1", 10_000, &[instance])])).await, 204);
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let bytes = stream.read(&mut request).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nconnection: x-inner\r\nx-inner: 1\r\nkeep-alive: 5\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..bytes]).to_lowercase()
    });
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut stream = TcpStream::connect(listen).await.unwrap();
    let request = format!(
        "GET /a?b=c HTTP/1.1\r\nhost: api\r\nconnection: close, x-secret\r\nx-secret: 1\r\nte: trailers\r\ntraceparent: {trace}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let request = served.await.unwrap();
    assert!(request.starts_with("get /a?b=c http/1.1"), "{request}");
    assert!(
        request.contains(&format!("traceparent: {trace}")) && request.contains("x-forwarded-for: 127.0.0.1")
    );
    assert!(!request.contains("x-secret") && !request.contains("te: trailers"), "{request}");
    let answer = answer.to_lowercase();
    assert!(
        answer.ends_with("ok") && answer.contains("x-version: v1") && !answer.contains("x-inner"),
        "{answer}"
    );
}

/// A manager and its fleet.
struct Manager {
    child: Option<Child>,
    client: Client,
    inspector: String,
    /// Where requests come in.
    regions: Vec<SocketAddr>,
    directory: TempDir,
}

/// A version of the sample service.
fn version(name: &str, more: &[&str]) -> Value {
    let parts = [PROGRAM, "sample-service", "--listen", "127.0.0.1:{port}", "--version", name];
    let parts = [&parts[..], more].concat();
    json!({ "command": parts })
}

/// What a rollout of a test is careful with: it takes two seconds, and a hundred requests of each side.
fn care() -> Value {
    json!({
        "stages": [{ "share": 0.5, "lasts_ms": 1_000 }], "bake_ms": 1_000,
        "outcomes_min": 100, "excess_max": 0.1, "latency_limit_ms": 30_000,
    })
}

impl Manager {
    async fn new() -> Self {
        let addresses: Vec<_> = (0..4).map(|_| at(port())).collect();
        let fleet = json!({
            "services": { "api": {
                "instances": 1, "capacity": 4,
                "ready_within_ms": 5_000, "stop_within_ms": 500,
                "regions": [
                    { "name": "us-west", "listen": addresses[0], "admin": addresses[1] },
                    { "name": "us-east", "listen": addresses[2], "admin": addresses[3] },
                ],
                "care": care(),
                "versions": {
                    "v1": version("v1", &[]),
                    "v2": version("v2", &[]),
                    "failing": version("failing", &["--error-rate", "0.3"]),
                },
            } },
        });
        Self::over(fleet, vec![addresses[0], addresses[2]]).await
    }

    /// A manager over this fleet, once it listens.
    async fn over(mut fleet: Value, regions: Vec<SocketAddr>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| json!(directory.path().join(name));
        let (listen, inspect) = (at(port()), at(port()));
        for (key, value) in [
            ("state", path("state")),
            ("database", path("deployment.db")),
            ("listen", json!(listen)),
            ("inspect", json!(inspect)),
        ] {
            fleet[key] = value;
        }
        let client = Client::new(&format!("http://{listen}"));
        let inspector = format!("http://{inspect}");
        let mut manager = Self { child: None, client, inspector, regions, directory };
        manager.write(&fleet);
        manager.start().await;
        manager
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("fleet.toml")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn write(&self, fleet: &Value) {
        std::fs::write(self.file(), gemba::config::to_toml(fleet).unwrap()).unwrap();
    }

    async fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        self.child = Some(run_with(&["serve", "--config", self.file().to_str().unwrap()], log.into()).await);
    }

    /// As a fault would: SIGKILL, and another one.
    async fn die(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
        self.start().await;
    }

    /// Delivers a version and waits for its end.
    async fn deliver(&self, version: &str, strategy: Strategy) -> Past {
        let id = self.client.begin("api", version, strategy, None).await.unwrap();
        let ending = async {
            loop {
                let history = self.client.history("api").await.unwrap();
                let past = history.into_iter().find(|past| past.id == id).unwrap();
                if past.succeeded.is_some() {
                    return past;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, ending).await.unwrap_or_else(|_| panic!("{version} does not end"))
    }

    async fn down(self) {
        self.client.down().await.unwrap();
    }
}

/// What survives its manager must not survive a test that failed.
impl Drop for Manager {
    fn drop(&mut self) {
        let inside = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let state = self.directory.path().join("state");
        let instances = inside(state.join("instances")).flat_map(|service| inside(service.path()));
        for home in inside(state.join("splitters")).chain(instances) {
            let text = std::fs::read_to_string(home.path().join("pid")).unwrap_or_default();
            let identity: Value = serde_json::from_str(&text).unwrap_or_default();
            let pid = identity["pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Requests to both regions until it is told to stop; tells who failed, each time.
fn traffic(
    regions: Vec<SocketAddr>,
) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<Vec<String>>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let (client, mut failures) = (reqwest::Client::new(), Vec::new());
        for number in 0u64.. {
            if !matches!(stopped.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty)) {
                break;
            }
            let asks = (0..4).map(|lane| {
                let url = format!("http://{}/", regions[lane % regions.len()]);
                let request = client.get(url).header("x-request-id", format!("{number}-{lane}"));
                async move {
                    match request.send().await {
                        Ok(answer) if answer.status().is_success() => None,
                        Ok(answer) => Some(answer.headers()["x-version"].to_str().unwrap().to_owned()),
                        Err(error) => Some(error.to_string()),
                    }
                }
            });
            failures.extend(futures_util::future::join_all(asks).await.into_iter().flatten());
            sleep(Duration::from_millis(5)).await;
        }
        failures
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_version_arrives_a_bad_one_does_not_and_the_manager_may_die_meanwhile() {
    let mut manager = Manager::new().await;
    let first = manager.deliver("v1", Strategy::First).await;
    assert_eq!(first.succeeded, Some(true), "{first:?}");
    let (stop, traffic) = traffic(manager.regions.clone());

    let id = manager.client.begin("api", "v2", Strategy::Canary, Some("seven")).await.unwrap();
    assert_eq!(manager.client.begin("api", "v2", Strategy::Canary, Some("seven")).await.unwrap(), id, "once");
    let starting = async {
        while manager
            .client
            .service("api")
            .await
            .unwrap()
            .delivery
            .is_none_or(|delivery| delivery.share == 0.0)
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, starting).await.unwrap();
    // In the middle of the first stage.
    manager.die().await;
    let ending = async {
        while manager.client.service("api").await.unwrap().stable.as_deref() != Some("v2") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, ending).await.unwrap();
    let steps = &manager.client.history("api").await.unwrap()[0].steps;
    let regions: Vec<_> = ["us-west: everything", "us-east: everything"]
        .map(|done| steps.iter().position(|(_, what)| what.starts_with(done)))
        .into_iter()
        .collect();
    assert!(regions[0] < regions[1], "one after the other: {steps:?}");

    let bad = manager.deliver("failing", Strategy::Canary).await;
    assert_eq!(bad.succeeded, Some(false), "{bad:?}");
    assert!(bad.why.unwrap().contains("fails more often"), "for what it did");
    assert_eq!(manager.client.service("api").await.unwrap().stable.as_deref(), Some("v2"));
    let _ = stop.send(());
    let failures = traffic.await.unwrap();
    let strangers: Vec<_> = failures.iter().filter(|version| *version != "failing").collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    manager.down().await;
}
