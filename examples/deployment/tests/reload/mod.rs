//! The file of the fleet, read again while the manager runs.

use gemba_deployment::policy::Strategy;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::*;

impl Manager {
    /// Changes the file and says so; returns when the log has so many lines about it, which are told.
    async fn reload(&self, fleet: &str, told: usize) -> Vec<String> {
        let about = |line: &&str| {
            line.contains("configuration reloaded") || line.contains("configuration not reloaded")
        };
        let lines = || -> Vec<String> {
            let log = std::fs::read_to_string(self.log()).unwrap();
            log.lines().filter(about).map(str::to_owned).collect()
        };
        let before = lines().len();
        std::fs::write(self.file(), fleet).unwrap();
        let pid = self.child.as_ref().and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        let telling = async {
            while lines().len() < before + told {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(SOON, telling).await.is_ok(), "{told} lines more than {:#?}", lines());
        lines().split_off(before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_added_while_it_runs_and_a_bad_file_changes_nothing() {
    let mut manager = queue::manager(&["a", "b"], 1).await;
    let start = std::fs::read_to_string(manager.file()).unwrap();
    let client = manager.client.clone();
    client.begin("a", "v2", Strategy::Canary, None).await.unwrap();
    client.begin("b", "v2", Strategy::Canary, None).await.unwrap();
    assert_eq!(manager.queue().await, ["b v2"]);

    // Every mistake, and not the place that there would be for b.
    let bad = start
        .replace("running_max = 1", "running_max = 2\nwating_max = 3")
        .replace("capacity = 2", "capacity = 0");
    let told = manager.reload(&bad, 3).await;
    for fault in ["unknown key 'wating_max' in queue", "services.a.capacity is 0", "services.b.capacity is 0"]
    {
        let is_told = |line: &&String| line.contains(fault) && line.contains("the old one stays in force");
        assert_eq!(told.iter().filter(is_told).count(), 1, "{fault} in {told:#?}");
    }
    // Right by itself, but not for a manager that runs: v1 runs, and a region is where it is.
    let fixed = start
        .replace("running_max = 1", "running_max = 2")
        .replace("\"v1\"", "\"v0\"")
        .replace("\"us-west\"", "\"us-east\"");
    let told = manager.reload(&fixed, 4).await;
    for reason in [
        "services.a.regions can be set at the start only; restart the manager, what runs stays",
        "services.b.regions can be set at the start only",
        "services.a.versions.v1 is in use: it stays what it is; add another version",
        "services.b.versions.v1 is in use",
    ] {
        assert!(told.iter().any(|line| line.contains(reason)), "{reason} in {told:#?}");
    }
    assert_eq!(manager.queue().await, ["b v2"]);

    let good = start.replace("running_max = 1", "running_max = 2")
        + &gemba::config::to_toml(
            &json!({ "services": { "b": { "versions": { "v4": version("v4", &[]) } } } }),
        )
        .unwrap();
    let told = manager.reload(&good, 1).await;
    assert!(told[0].contains("configuration reloaded"), "{told:?}");
    // There is a place for b now; and what is newer still takes it.
    manager.until("b", queue::delivers("v2")).await;
    client.begin("b", "v4", Strategy::Canary, None).await.unwrap();
    manager.until("b", queue::delivers("v4")).await;
    let receipts = format!("{}/api/v1/receipts?after=0&limit=1000", manager.inspector);
    let receipts: Value = reqwest::get(receipts).await.unwrap().json().await.unwrap();
    let events = receipts["receipts"].as_array().unwrap().iter().map(|receipt| &receipt["event"]);
    let refused = events.clone().filter(|event| event["kind"] == "settings_refused");
    assert_eq!(refused.map(|event| event["faults"].as_array().unwrap().len()).collect::<Vec<_>>(), [3, 4]);
    let changed: Vec<_> = events.filter(|event| event["kind"] == "settings_changed").collect();
    assert_eq!(changed.len(), 1, "{changed:#?}");
    let settings =
        changed[0]["changes"].as_array().unwrap().iter().map(|change| change["setting"].as_str().unwrap());
    assert_eq!(settings.collect::<Vec<_>>(), ["queue.running_max", "services.b.versions.v4"]);

    // What is delivered now does not go away under it.
    let told = manager.reload(&start.replace("running_max = 1", "running_max = 2"), 1).await;
    assert!(
        told[0].contains("services.b.versions.v4 is in use: it stays until nothing of it runs or waits"),
        "{told:?}"
    );

    // Neither at the start: what runs is not left to itself.
    manager.child.take().unwrap().kill().await.unwrap();
    let serve = ["serve", "--config", manager.file().to_str().unwrap()].map(str::to_owned);
    let refused = Command::new(PROGRAM).args(serve).output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("services.b.versions.v4: it runs; put it back"),
        "{said}"
    );
    std::fs::write(manager.file(), good).unwrap();
    manager.start().await;
    manager.down().await;
}
