//! A delivery through each adapter: a good version to everything, a bad one back to nothing.

mod commands;
mod given;
mod kubernetes;

use std::net::SocketAddr;
use std::time::Duration;

use gemba_deployment::adapter::settings::AdapterKind;
use gemba_deployment::client::Client;
use gemba_deployment::fleet::Fleet;
use gemba_deployment::policy::Strategy;
use gemba_deployment::store::Past;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::{SOON, at, port, run};

/// What the README shows is taken, but for the cluster by a program that was built without it.
#[test]
fn the_readme_shows_regions_that_are_right() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let regions = readme.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let command = "command = [\"api\", \"{port}\"]";
    let text = format!(
        "[services.api]\ninstances = 2\ncapacity = 6\n{regions}[services.api.versions]\nv1 = {{ {command} }}\nv2 = {{ {command} }}\n"
    );
    let loaded = gemba::config::Sources::new("README").text("fleet.toml", &text).load::<Fleet>();
    let found = loaded.map(|loaded| {
        let service = loaded.value.service("api").unwrap().clone();
        service.regions.iter().map(|region| region.adapter).collect::<Vec<_>>()
    });
    let all = [AdapterKind::Process, AdapterKind::Kubernetes, AdapterKind::Command, AdapterKind::Static];
    assert_eq!(found.unwrap(), all);
}

/// Everything that is wrong with the tables of adapters is told at once.
#[test]
fn every_mistake_in_a_table_is_told() {
    let text = r#"
        [services.api]
        instances = 2
        capacity = 6
        [services.api.versions.v1]
        [[services.api.regions]]
        name = "a"
        adapter = "kubernetes"
        listen = "127.0.0.1:8081"
        [services.api.regions.kubernetes]
        namespace = "Shop"
        image = "registry.example/api:v1"
        gateway = "public"
        counts = "https://counts"
        [[services.api.regions]]
        name = "b"
        adapter = "command"
        [services.api.regions.static]
        addresses = { v1 = [] }
        [[services.api.regions]]
        name = "c"
        adapter = "kubernetes"
        [services.api.regions.kubernetes]
        image = "api:{version}"
        gateway = "public"
        [services.api.regions.kubernetes.prometheus]
        url = "prometheus:9090"
        requests = "sum(requests)"
        failures = "sum(failures{version=\"{version}\"})"
        latencies = "sum(latencies{service=\"{service}\"})"
    "#;
    let errors = gemba::config::Sources::new("T").text("fleet.toml", text).load::<Fleet>().unwrap_err();
    let told = errors.to_string();
    for (path, words) in [
        ("regions[0].listen", "is for a splitter, which this adapter has none of; leave it out"),
        (
            "regions[0].kubernetes.namespace",
            "is \"Shop\"; give small letters, digits and hyphens, 63 at most",
        ),
        (
            "regions[0].kubernetes.image",
            "is \"registry.example/api:v1\"; put {version} where its version stands",
        ),
        ("regions[0].kubernetes.counts", "is \"https://counts\"; give an address that begins with http://"),
        ("regions[1].command", "is missing; the adapter command needs this table"),
        ("regions[1].static", "is a table for adapter = \"static\"; give that, or leave the table out"),
        ("regions[1].static.addresses.v1", "is an empty list; give at least one address"),
        ("regions[2].kubernetes.prometheus.url", "is \"prometheus:9090\"; give an address"),
        (
            "regions[2].kubernetes.prometheus.requests",
            "is the same for every version; put {version} or {service}",
        ),
    ] {
        assert!(told.contains(&format!("services.api.{path}: {words}")), "{path}: {words} in\n{told}");
    }
}

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
