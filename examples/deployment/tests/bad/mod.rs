//! Versions that are bad each in its own way: where each ends, why, and that nobody else notices.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gemba_deployment::policy::Strategy;
use gemba_deployment::view::ServiceView;
use serde_json::json;

use super::*;

/// How long an instance may take to stop here, unless a test needs it to take its time.
const STOP_WITHIN_MS: u64 = 500;

/// Two regions, in which v1 runs. The port of the listener is the one that a version wants for itself.
async fn manager(files: &Path, stop_within_ms: u64) -> (Manager, TcpListener) {
    let taken = TcpListener::bind(at(port())).unwrap();
    let port_taken = taken.local_addr().unwrap().to_string();
    let unexecutable = files.join("text");
    std::fs::write(&unexecutable, "no program").unwrap();
    std::fs::set_permissions(&unexecutable, std::fs::Permissions::from_mode(0o644)).unwrap();
    let addresses: Vec<_> = (0..4).map(|_| at(port())).collect();
    let fleet = json!({ "services": { "api": {
        "instances": 1, "capacity": 4,
        "ready_within_ms": 5_000, "stop_within_ms": stop_within_ms,
        "regions": [
            { "name": "us-west", "listen": addresses[0], "admin": addresses[1] },
            { "name": "us-east", "listen": addresses[2], "admin": addresses[3] },
        ],
        "care": care(),
        "versions": {
            "v1": version("v1", &[]),
            "missing": { "command": ["/no/such/program", "{port}"] },
            "text": { "command": [unexecutable, "{port}"] },
            "forged": { "command": [PROGRAM, "{port}"], "sha256": "0".repeat(64) },
            "never-ready": version("never-ready", &["--never-ready"]),
            "exits": { "command": ["sh", "-c", "echo no licence >&2; exit 3 # {port}"] },
            "stubborn": version("stubborn", &["--ignore-sigterm"]),
            "taken": { "command": [PROGRAM, "sample-service", "--listen", port_taken, "--version", "{port}"] },
            "flooding": version("flooding", &["--flood"]),
        },
    } } });
    let manager = Manager::over(fleet, vec![addresses[0], addresses[2]]).await;
    let first = manager.deliver("v1", Strategy::First).await;
    assert_eq!(first.succeeded, Some(true), "{first:?}");
    (manager, taken)
}

impl Manager {
    /// Returns when this version has everything, and of no other one there is an instance.
    async fn runs_alone(&self, version: &str) {
        let view = self
            .until("api", |view| {
                let versions = view.regions.iter().flat_map(|region| &region.versions);
                let mut running = versions.filter(|version| 0 < version.instances.1 || 0.0 < version.share);
                view.delivery.is_none() && running.all(|other| other.version == version && 1.0 <= other.share)
            })
            .await;
        assert_eq!(view.stable.as_deref(), Some(version), "{view:?}");
    }

    /// The processes of a version, by their numbers.
    fn pids(&self, version: &str) -> Vec<i64> {
        let home = |region: &str| {
            self.directory.path().join(format!("state/instances/api/{region}.{version}.1/pid"))
        };
        let pid = |region| {
            let identity: Value = serde_json::from_str(&std::fs::read_to_string(home(region)).ok()?).ok()?;
            identity["pid"].as_i64()
        };
        ["us-west", "us-east"].into_iter().filter_map(pid).collect()
    }
}

fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that is over and was not waited for does nothing any more.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_cannot_run_is_not_begun_or_taken_back_with_its_reason() {
    let files = tempfile::tempdir().unwrap();
    let (manager, _taken) = manager(files.path(), STOP_WITHIN_MS).await;
    let (stop, traffic) = traffic(manager.regions.clone());
    for (version, reason) in [
        ("unheard-of", "version_known: the fleet has no version unheard-of"),
        ("missing", "artefact: there is no program /no/such/program"),
        ("forged", "has the digest "),
    ] {
        let refused: Result<String, ClientError> =
            manager.client.begin("api", version, Strategy::Canary, None).await;
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(reason), "{version}: {text}");
        assert!(manager.client.history("api").await.unwrap().iter().all(|past| past.to != version));
    }
    for (version, reasons) in [
        ("text", ["may not be run", "its permissions"]),
        ("exits", ["it ended before it was ready (exit code 3)", "no licence"]),
        ("taken", ["it ended before it was ready (exit code 1)", "cannot listen at 127.0.0.1:"]),
        ("never-ready", ["it was not ready within 5s", "503"]),
    ] {
        let past = manager.deliver(version, Strategy::Canary).await;
        assert_eq!((past.is_begun, past.succeeded), (true, Some(false)), "{past:?}");
        let why = past.why.unwrap();
        assert!(why.starts_with("it did not start in us-west: "), "{version}: {why}");
        assert!(reasons.iter().all(|reason| why.contains(reason)), "{version}: {why}");
        assert!(past.steps.last().unwrap().1.contains(&why), "{:?}", past.steps);
        manager.runs_alone("v1").await;
        assert_eq!(manager.pids(version), Vec::<i64>::new(), "{version}");
    }
    let _ = stop.send(());
    assert_eq!(traffic.await.unwrap(), Vec::<String>::new(), "nobody saw any of them");
    manager.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_runs_badly_is_held_by_its_limits() {
    let files = tempfile::tempdir().unwrap();
    let (manager, _taken) = manager(files.path(), STOP_WITHIN_MS).await;
    let (stop, traffic) = traffic(manager.regions.clone());
    // It answers as well as the other one does, so it arrives; what it does wrong shows when it is to end.
    let past = manager.deliver("stubborn", Strategy::Canary).await;
    assert_eq!(past.succeeded, Some(true), "{past:?}");
    let stubborn = manager.pids("stubborn");
    assert!(stubborn.len() == 2 && stubborn.iter().all(|pid| is_alive(*pid)), "{stubborn:?}");

    let past = manager.deliver("flooding", Strategy::Canary).await;
    assert_eq!(past.succeeded, Some(true), "{past:?}");
    manager.runs_alone("flooding").await;
    assert!(stubborn.iter().all(|pid| !is_alive(*pid)), "killed, as it did not stop: {stubborn:?}");
    let _ = stop.send(());
    assert_eq!(traffic.await.unwrap(), Vec::<String>::new());

    // Twenty lines a second of each instance reach the manager's log, and its own does not fill the disk.
    let log = std::fs::read_to_string(manager.log()).unwrap();
    let lines = log.lines().filter(|line| line.contains("a line that nobody will read")).count();
    assert!((1..4_000).contains(&lines), "{lines} lines");
    let home = manager.directory.path().join("state/instances/api/us-west.flooding.1");
    // Sparse where it was emptied: what it takes of the disk counts.
    let blocks = || -> u64 {
        let files = std::fs::read_dir(&home).unwrap().map(|file| file.unwrap().metadata().unwrap());
        files.map(|file| std::os::unix::fs::MetadataExt::blocks(&file)).sum()
    };
    let emptying = async {
        let mut most = 0;
        while most <= blocks() {
            most = blocks();
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(SOON, emptying).await.is_ok(), "it only grows: {} blocks", blocks());
    manager.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_wanted_again_while_it_ends_is_started_anew() {
    let files = tempfile::tempdir().unwrap();
    // Twenty looks of the manager, so that one of them is seen here.
    let (manager, _taken) = manager(files.path(), 5_000).await;
    let (stop, traffic) = traffic(manager.regions.clone());
    manager.client.begin("api", "stubborn", Strategy::Canary, None).await.unwrap();
    let until = async |wanted: (usize, usize)| {
        let is_so = |view: &ServiceView| {
            let versions = view.regions.iter().flat_map(|region| &region.versions);
            let of = versions.filter(|version| version.version == "stubborn");
            wanted == of.fold((0, 0), |sum, of| (sum.0 + of.instances.0, sum.1 + of.instances.1))
        };
        manager.until("api", is_so).await;
    };
    until((1, 1)).await;
    manager.client.order("api", "abort").await.unwrap();
    // It was asked to end, and does not until its time is over.
    until((0, 1)).await;
    let past = manager.deliver("stubborn", Strategy::Canary).await;
    assert_eq!(past.succeeded, Some(true), "{past:?}");
    let _ = stop.send(());
    assert_eq!(traffic.await.unwrap(), Vec::<String>::new());
    manager.down().await;
}
