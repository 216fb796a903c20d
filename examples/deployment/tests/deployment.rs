//! The system from outside: the program itself, real processes, real requests.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use gemba_deployment::client::{Client, ClientError};
use gemba_deployment::policy::Strategy;
use gemba_deployment::store::Past;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

mod adapter;
mod bad;
mod config;
mod queue;
mod reload;
mod support;
mod torture;

use support::{PROGRAM, SOON, at, port, run, run_from, sample};

/// A manager and its fleet.
struct Manager {
    child: Option<Child>,
    client: Client,
    inspector: String,
    /// Where requests come in.
    regions: Vec<SocketAddr>,
    directory: TempDir,
    /// What it is run from, and its splitters with it.
    program: PathBuf,
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
                "ready_within_ms": 30_000, "stop_within_ms": 500, "slow_after_ms": 1_000,
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
        let mut manager =
            Self { child: None, client, inspector, regions, directory, program: PROGRAM.into() };
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
        let file = self.file();
        let args = ["serve", "--config", file.to_str().unwrap()];
        // Nothing on this machine is asked through a proxy, whatever the environment says.
        let proxy = [("http_proxy", "http://127.0.0.1:1"), ("no_proxy", "")];
        self.child = Some(run_from(&self.program, &args, &proxy, log.into()).await);
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
    // What held it up first may have been its start.
    let mut slow = steps.iter().filter(|(_, what)| what.starts_with("slower than 1s"));
    assert!(slow.any(|(_, what)| what.contains("stage ")), "it says what holds it up: {steps:?}");

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_updated_updates_its_splitters_and_no_request_fails() {
    let mut manager = Manager::new().await;
    assert_eq!(manager.deliver("v1", Strategy::First).await.succeeded, Some(true));
    let pids = |manager: &Manager| {
        ["api.us-west", "api.us-east"].map(|splitter| {
            let file = manager.directory.path().join("state/splitters").join(splitter).join("pid");
            let identity: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            identity["pid"].as_u64().unwrap()
        })
    };
    let before = pids(&manager);
    let (stop, traffic) = traffic(manager.regions.clone());
    // As a crash, and with the same program: they are adopted.
    manager.die().await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(pids(&manager), before);
    // Another file is another build.
    let copy = manager.directory.path().join("deployment");
    std::fs::copy(PROGRAM, &copy).unwrap();
    manager.program = copy;
    manager.die().await;
    let replaced = async {
        let is_gone = |pid: u64| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        while !before.iter().all(|pid| is_gone(*pid)) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, replaced).await.unwrap();
    let after = pids(&manager);
    assert!(before.iter().zip(after).all(|(before, after)| *before != after), "{before:?} {after:?}");
    // A manager that has just begun has not seen yet that its instances are well.
    let is_well = async || {
        let regions = manager.client.service("api").await.unwrap().regions;
        regions.iter().all(|region| region.versions.iter().any(|version| version.instances == (1, 1)))
    };
    let well = async {
        while !is_well().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, well).await.unwrap();
    // The new ones are told the shares, and their counts go on.
    assert_eq!(manager.deliver("v2", Strategy::Canary).await.succeeded, Some(true));
    let _ = stop.send(());
    assert_eq!(traffic.await.unwrap(), Vec::<String>::new());
    manager.down().await;
}
