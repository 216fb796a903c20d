//! The system from outside: the program itself, real processes, real requests.

#![allow(clippy::unwrap_used, reason = "the whole file is tests")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use gemba_deployment::client::{Client, ClientError};
use gemba_deployment::policy::Strategy;
use gemba_deployment::store::Past;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use support::{PROGRAM, SOON, at, port, run};

/// A manager over two regions, and its fleet.
struct Manager {
    child: Option<Child>,
    client: Client,
    listen: SocketAddr,
    regions: [SocketAddr; 2],
    directory: TempDir,
    /// What it is run from, and its splitters with it.
    program: PathBuf,
}

impl Manager {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let addresses: Vec<_> = (0..5).map(|_| at(port())).collect();
        let command = |version: &str, more: &[&str]| {
            let parts = [PROGRAM, "sample-service", "--listen", "127.0.0.1:{port}", "--version", version];
            let parts = [&parts[..], more].concat();
            json!({ "command": parts })
        };
        let taken = at(port());
        std::mem::forget(TcpListener::bind(taken).unwrap());
        let fleet = json!({
            "state": directory.path().join("state"),
            "services": [{
                "name": "api", "instances": 1, "capacity": 4,
                "ready_within_ms": 5_000, "stop_within_ms": 500,
                "regions": [
                    { "name": "us-west", "listen": addresses[0], "admin": addresses[1] },
                    { "name": "us-east", "listen": addresses[2], "admin": addresses[3] },
                ],
                "care": {
                    "stages": [{ "share": 0.5, "lasts_ms": 1_000 }], "bake_ms": 1_000,
                    "outcomes_min": 100, "excess_max": 0.1, "latency_limit_ms": 30_000,
                },
                "versions": {
                    "v1": command("v1", &[]),
                    "v2": command("v2", &[]),
                    "failing": command("failing", &["--error-rate", "0.3"]),
                    "never-ready": command("never-ready", &["--never-ready"]),
                    "stubborn": command("stubborn", &["--ignore-sigterm"]),
                    "flooding": command("flooding", &["--flood"]),
                    "missing": { "command": ["/no/such/program", "{port}"] },
                    "exits": { "command": ["sh", "-c", "echo no licence >&2; exit 3 # {port}"] },
                    "taken": { "command": [PROGRAM, "sample-service", "--listen", taken.to_string(), "--version", "{port}"] },
                    "forged": { "command": [PROGRAM, "{port}"], "sha256": "0".repeat(64) },
                },
            }],
        });
        std::fs::write(directory.path().join("fleet.json"), fleet.to_string()).unwrap();
        let client = Client::new(&format!("http://{}", addresses[4]));
        let mut manager = Self {
            child: None,
            client,
            listen: addresses[4],
            regions: [addresses[0], addresses[2]],
            directory,
            program: PROGRAM.into(),
        };
        manager.start().await;
        manager
    }

    async fn start(&mut self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let (fleet, database, listen) = (path("fleet.json"), path("deployment.db"), self.listen.to_string());
        let args = [
            "serve",
            "--inspect",
            "127.0.0.1:0",
            "--listen",
            &listen,
            "--fleet",
            &fleet,
            "--database",
            &database,
        ];
        self.child = Some(run(&self.program, &args).await);
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
        let folders =
            ["splitters", "instances/api"].map(|folder| self.directory.path().join("state").join(folder));
        for home in
            folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten()
        {
            let text = std::fs::read_to_string(home.path().join("pid")).unwrap_or_default();
            let identity: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let pid = identity["pid"].as_i64().and_then(|pid| rustix::process::Pid::from_raw(pid as i32));
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// Requests to both regions until it is told to stop; tells who failed, each time.
fn traffic(
    regions: [SocketAddr; 2],
) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<Vec<String>>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let (client, mut failures) = (reqwest::Client::new(), Vec::new());
        for number in 0u64.. {
            if !matches!(stopped.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Empty)) {
                break;
            }
            let asks = (0..4).map(|lane| {
                let url = format!("http://{}/", regions[lane % 2]);
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
    let (stop, traffic) = traffic(manager.regions);

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
    // As a fault would: SIGKILL, in the middle of the first stage.
    manager.child.take().unwrap().kill().await.unwrap();
    manager.start().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_run_is_taken_back_with_its_reason() {
    let manager = Manager::new().await;
    let refused = |result: Result<String, ClientError>| result.unwrap_err().to_string();
    let early = refused(manager.client.begin("api", "v2", Strategy::Canary, None).await);
    assert!(early.contains("way_back"), "{early}");
    assert_eq!(manager.deliver("v1", Strategy::First).await.succeeded, Some(true));
    for (version, rules) in
        [("v9", vec!["version_known"]), ("missing", vec!["artefact"]), ("forged", vec!["artefact"])]
    {
        let text = refused(manager.client.begin("api", version, Strategy::Canary, None).await);
        assert!(rules.iter().all(|rule| text.contains(rule)), "{version}: {text}");
    }
    for (version, reason) in
        [("exits", "no licence"), ("taken", "cannot listen"), ("never-ready", "was not ready within")]
    {
        let past = manager.deliver(version, Strategy::Canary).await;
        assert_eq!(past.succeeded, Some(false), "{past:?}");
        let why = past.why.unwrap();
        assert!(why.contains(reason) && why.contains("us-west"), "{version}: {why}");
    }
    // These run, and are no worse than others; what they do wrong shows when they are to end.
    let (stop, traffic) = traffic(manager.regions);
    for version in ["stubborn", "flooding"] {
        let past = manager.deliver(version, Strategy::Canary).await;
        assert_eq!(past.succeeded, Some(true), "{past:?}");
    }
    let _ = stop.send(());
    assert_eq!(traffic.await.unwrap(), Vec::<String>::new());
    manager.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_was_updated_updates_its_splitters_and_no_request_fails() {
    let mut manager = Manager::new().await;
    assert_eq!(manager.deliver("v1", Strategy::First).await.succeeded, Some(true));
    let pids = |manager: &Manager| {
        ["api.us-west", "api.us-east"].map(|splitter| {
            let file = manager.directory.path().join("state/splitters").join(splitter).join("pid");
            let identity: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            identity["pid"].as_u64().unwrap()
        })
    };
    let before = pids(&manager);
    let (stop, traffic) = traffic(manager.regions);
    // As a crash, and with the same program: they are adopted.
    manager.child.take().unwrap().kill().await.unwrap();
    manager.start().await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(pids(&manager), before);
    // Another file is another build.
    let copy = manager.directory.path().join("deployment");
    std::fs::copy(PROGRAM, &copy).unwrap();
    manager.program = copy;
    manager.child.take().unwrap().kill().await.unwrap();
    manager.start().await;
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
    // The new ones are told the shares, and their counts go on.
    assert_eq!(manager.deliver("v2", Strategy::Canary).await.succeeded, Some(true));
    let _ = stop.send(());
    assert_eq!(traffic.await.unwrap(), Vec::<String>::new());
    manager.down().await;
}
