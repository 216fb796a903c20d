//! A delivery through each adapter: a good version to everything, a bad one back to nothing.

mod commands;
mod given;
#[cfg(feature = "kubernetes")]
mod kubernetes;

use std::net::SocketAddr;
use std::time::Duration;

use gemba_deployment::client::Client;
use gemba_deployment::policy::Strategy;
use gemba_deployment::store::Past;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::{SOON, at, port, run};

/// A manager of a service `api` with one version in each of these regions.
struct Manager {
    client: Client,
    listen: SocketAddr,
    directory: TempDir,
    child: Option<Child>,
}

/// What a person would be patient enough for in a test.
fn care() -> Value {
    json!({
        "stages": [{ "share": 0.5, "lasts_ms": 1_000 }], "bake_ms": 1_000,
        "outcomes_min": 100, "excess_max": 0.1, "latency_limit_ms": 30_000,
    })
}

impl Manager {
    async fn new(directory: TempDir, regions: &Value, versions: &Value) -> Self {
        let fleet = json!({
            "state": directory.path().join("state"),
            "services": { "api": {
                "instances": 2, "capacity": 6, "ready_within_ms": 30_000,
                "regions": regions, "care": care(), "versions": versions,
            } },
        });
        let fleet = gemba::config::to_toml(&fleet).unwrap();
        std::fs::write(directory.path().join("fleet.toml"), fleet).unwrap();
        let listen = at(port());
        let client = Client::new(&format!("http://{listen}"));
        let mut manager = Self { client, listen, directory, child: None };
        manager.start().await;
        manager
    }

    async fn start(&mut self) {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let (fleet, database, listen) = (path("fleet.toml"), path("deployment.db"), self.listen.to_string());
        let wanted = ["--listen", &listen, "--config", &fleet, "--database", &database];
        self.child = Some(run(&[&["serve", "--inspect", "127.0.0.1:0"], &wanted[..]].concat()).await);
    }

    /// As a fault would.
    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    async fn deliver(&self, version: &str, strategy: Strategy) -> Past {
        let id = self.client.begin("api", version, strategy, None).await.unwrap();
        self.ending(&id).await
    }

    async fn ending(&self, id: &str) -> Past {
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
        timeout(SOON, ending).await.unwrap_or_else(|_| panic!("{id} does not end"))
    }

    /// Waits until a region shows just this.
    async fn stands(&self, region: usize, version: &str, share: f64, instances: (usize, usize)) {
        let standing = async {
            loop {
                let view = self.client.service("api").await.unwrap();
                let shown = view.regions[region].versions.iter().find(|shown| shown.version == version);
                let is_so = shown
                    .is_some_and(|shown| (shown.share - share).abs() < 1e-9 && shown.instances == instances);
                if is_so {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, standing).await.unwrap_or_else(|_| panic!("{version} does not get there"));
    }
}
