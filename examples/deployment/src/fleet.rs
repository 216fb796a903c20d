//! What there is to deploy and where: services, their versions and regions, and how deliveries wait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use gemba::HostName;
use gemba::config::{Check, Faults};
use gemba::name::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::adapter::settings::{AdapterKind, CommandSettings, KubernetesSettings, StaticSettings};
pub use crate::care::{Care, LOOK, StageSpec};
use crate::freeze::FreezeWindow;
use crate::host::ListenAddress;
use crate::splitter::table::Sticky;

mod joined;

/// Instances of a version in a region at most.
pub const INSTANCES_MAX: u32 = 64;

/// Regions of a service at most.
pub const REGIONS_MAX: usize = 32;

/// Stands in a command for the port an instance is to listen at.
pub const PORT: &str = "{port}";

/// The whole fleet, and the manager of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// Where the manager takes requests.
    #[serde(default = "listen")]
    pub listen: ListenAddress,
    /// Where its inspector listens.
    #[serde(default = "inspect")]
    pub inspect: ListenAddress,
    /// Names under which the inspector may be asked, besides IP addresses and localhost; for a Prometheus whose target
    /// is a name.
    #[serde(default)]
    #[schemars(with = "Vec<String>", example = ["node1.example"])]
    pub inspect_hosts: Vec<HostName>,
    /// The file of its record; made if there is none.
    #[serde(default = "database")]
    pub database: PathBuf,
    /// Where instances and splitters keep their pid files and logs.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// How many deliveries go on at once, and how the others wait.
    #[serde(default)]
    pub queue: QueueSection,
    /// When no delivery is begun, of any service.
    #[serde(default)]
    pub freeze: Vec<FreezeWindow>,
    /// The services by name.
    #[serde(deserialize_with = "named")]
    #[schemars(with = "BTreeMap<String, Service>")]
    pub services: BTreeMap<Name, Service>,
}

/// How many deliveries go on at once, and how the others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueSection {
    /// Deliveries that go on at once, each of another service.
    #[schemars(range(min = 1, max = 1_000))]
    pub running_max: u32,
    /// Deliveries that wait for their turn.
    #[schemars(range(min = 1, max = 10_000))]
    pub waiting_max: u32,
    /// How long one waits at most.
    #[schemars(range(min = 1, max = 604_800))]
    pub wait_max_s: u64,
}

impl Default for QueueSection {
    fn default() -> Self {
        // 200 is what RELIABILITY 4.2 asks for; a day is as long as anybody remembers what they asked for.
        Self { running_max: 4, waiting_max: 200, wait_max_s: 86_400 }
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name, which is the key it stands under.
    #[serde(skip, default = "unnamed")]
    pub name: Name,
    /// Its regions, in the order of a rollout.
    #[schemars(length(min = 1, max = 32))]
    pub regions: Vec<Region>,
    /// Instances of a version in each region.
    #[schemars(range(min = 1, max = 64))]
    pub instances: u32,
    /// Instances of all versions together that a region has room for.
    #[schemars(range(min = 1))]
    pub capacity: u32,
    /// The path that says whether an instance is ready.
    #[serde(default = "health")]
    pub health: String,
    /// How long an instance may take to be ready.
    #[serde(default = "ready_within_ms")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub ready_within_ms: u64,
    /// How long an instance may take to stop before it is killed.
    #[serde(default = "stop_within_ms")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub stop_within_ms: u64,
    /// How long a delivery may take before its light is yellow; it goes on.
    #[serde(default = "slow_after_ms")]
    #[schemars(range(min = 1_000, max = 604_800_000))]
    pub slow_after_ms: u64,
    /// What keeps a caller with one version.
    #[serde(default)]
    pub sticky: Sticky,
    /// The header by which a caller chooses the version, if it has a share: for whoever tries the new one out.
    #[serde(default)]
    pub chosen_by: Option<String>,
    /// When no delivery of this service is begun.
    #[serde(default)]
    pub freeze: Vec<FreezeWindow>,
    /// How careful its rollouts are.
    #[serde(default)]
    pub care: Care,
    /// Its versions by name.
    pub versions: BTreeMap<String, Artefact>,
}

/// One region of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name.
    #[schemars(with = "String", example = "us-west")]
    pub name: Name,
    /// What drives it; all but `process` have a table of their own.
    #[serde(default)]
    pub adapter: AdapterKind,
    /// Where its splitter takes requests; with `process` and `static`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "127.0.0.1:8081")]
    pub listen: Option<ListenAddress>,
    /// Where its splitter is told the shares; with `process` and `static`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "127.0.0.1:9081")]
    pub admin: Option<ListenAddress>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesSettings>,
    /// The scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandSettings>,
    /// The addresses.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub given: Option<StaticSettings>,
}

impl Region {
    /// The addresses of its splitter: where requests come in, and where it is told the shares.
    pub fn splitter(&self) -> Option<(SocketAddr, SocketAddr)> {
        let (listen, admin) = (self.listen.as_ref()?.0, self.admin.as_ref()?.0);
        self.adapter.has_splitter().then_some((listen, admin))
    }

    fn check(&self, faults: &mut Faults<'_>) {
        let tables = [
            ("kubernetes", self.kubernetes.is_some()),
            ("command", self.command.is_some()),
            ("static", self.given.is_some()),
        ];
        for (table, is_given) in tables {
            match (self.adapter.table() == Some(table), is_given) {
                (true, false) => {
                    faults.at(table).add(format!("is missing; the adapter {table} needs this table"));
                }
                (false, true) => {
                    let message =
                        format!("is a table for adapter = \"{table}\"; give that, or leave the table out");
                    faults.at(table).add(message).beside("adapter");
                }
                (true, true) | (false, false) => {}
            }
        }
        for (key, address) in [("listen", &self.listen), ("admin", &self.admin)] {
            match (self.adapter.has_splitter(), address) {
                (true, None) => {
                    faults.at(key).add("is missing; give the splitter an address such as 127.0.0.1:9081");
                }
                (false, Some(_)) => {
                    faults.at(key).add("is for a splitter, which this adapter has none of; leave it out");
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        if let Some(settings) = self.kubernetes.as_ref() {
            settings.check(&mut faults.at("kubernetes"));
        }
        if let Some(settings) = self.command.as_ref() {
            settings.check(&mut faults.at("command"));
        }
        if let Some(settings) = self.given.as_ref() {
            settings.check(&mut faults.at("static"));
        }
    }
}

/// What a version is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// The program and its arguments; `{port}` stands for the port it is to listen at.
    /// A service without a region of `process` needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// The SHA-256 of the program's file, in hexadecimal. Without it, any file of the name will do.
    #[serde(default)]
    pub sha256: Option<String>,
}

fn listen() -> ListenAddress {
    ListenAddress(([127, 0, 0, 1], 8070).into())
}

fn inspect() -> ListenAddress {
    ListenAddress(gemba::INSPECT)
}

fn database() -> PathBuf {
    "deployment.db".into()
}

fn state() -> PathBuf {
    "deployment-state".into()
}

fn health() -> String {
    "/health".to_owned()
}

fn ready_within_ms() -> u64 {
    30_000
}

fn stop_within_ms() -> u64 {
    10_000
}

/// Three times what the stages of the default care take in two regions.
fn slow_after_ms() -> u64 {
    7_200_000
}

fn unnamed() -> Name {
    "unnamed".parse().expect("it has letters only")
}

/// Tells each service the key it stands under.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Name, Service>, D::Error> {
    let mut services = BTreeMap::<Name, Service>::deserialize(deserializer)?;
    for (name, service) in &mut services {
        service.name = name.clone();
    }
    Ok(services)
}

impl Fleet {
    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// Every window in which no delivery of this service is begun.
    pub fn freezes<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a FreezeWindow> {
        self.freeze.iter().chain(&service.freeze)
    }
}

impl Check for Fleet {
    fn check(&self, faults: &mut Faults<'_>) {
        check_freezes(&self.freeze, faults);
        if self.services.is_empty() {
            faults.at("services").add("names none; name one, as in [services.api]");
        }
        joined::check(self, faults);
        let own = [("listen", self.listen.0), ("inspect", self.inspect.0)];
        let mut taken: BTreeMap<SocketAddr, String> =
            own.into_iter().map(|(key, address)| (address, key.to_owned())).collect();
        for (name, service) in &self.services {
            let mut services = faults.at("services");
            let mut here = services.at(name.as_str());
            service.check(&mut here);
            let mut regions = here.at("regions");
            for (index, region) in service.regions.iter().enumerate() {
                let mut region_faults = regions.item(index);
                region.check(&mut region_faults);
                for (key, address) in [("listen", &region.listen), ("admin", &region.admin)] {
                    let Some(ListenAddress(address)) = *address else { continue };
                    let mut fault = region_faults.at(key);
                    if address.port() == 0 {
                        fault.add("is port 0, a different one each time; name one from 1 to 65535");
                        continue;
                    }
                    let place = format!("services.{name}.regions[{index}].{key}");
                    if let Some(other) = taken.insert(address, place) {
                        fault.add(format!("is {address}, which {other} has; give another port"));
                    }
                }
            }
        }
    }
}

impl Service {
    fn check(&self, faults: &mut Faults<'_>) {
        check_freezes(&self.freeze, faults);
        self.care.check(&mut faults.at("care"));
        for (index, region) in self.regions.iter().enumerate() {
            if self.regions[..index].iter().any(|other| other.name == region.name) {
                let mut regions = faults.at("regions");
                let mut place = regions.item(index);
                place.at("name").add(format!("is {}, as another one is; give each its own", region.name));
            }
        }
        if self.capacity < self.instances {
            let (capacity, instances) = (self.capacity, self.instances);
            faults
                .at("capacity")
                .add(format!("is {capacity}; give at least {instances}, the instances of one version"))
                .beside("instances");
        }
        if !self.health.starts_with('/') {
            let health = &self.health;
            faults.at("health").add(format!("is \"{health}\"; give a path, which begins with /"));
        }
        if self.versions.is_empty() {
            faults.at("versions").add("names none; name one, as in [services.api.versions.v1]");
        }
        let mut versions = faults.at("versions");
        for (version, artefact) in &self.versions {
            let mut faults = versions.at(version);
            if let Err(error) = Name::new(version) {
                faults.add(error.to_string());
            }
            let is_process = |region: &Region| region.adapter == AdapterKind::Process;
            artefact.check(self.regions.iter().any(is_process), &mut faults);
        }
    }
}

impl Artefact {
    fn check(&self, is_process: bool, faults: &mut Faults<'_>) {
        let mut command = faults.at("command");
        if self.command.is_empty() {
            if is_process {
                command.add("is missing; a region driven by processes needs a program");
            }
        } else if self.command.first().is_some_and(String::is_empty) {
            command.item(0).add("is empty; give a program");
        } else if !self.command.iter().any(|part| part.contains(PORT)) {
            command.add(format!("has no {PORT}, and would not know where to listen; add it to an argument"));
        }
        if let Some(digest) = self.sha256.as_ref().filter(|digest| !is_digest(digest)) {
            faults.at("sha256").add(format!("is \"{digest}\"; give 64 hexadecimal digits"));
        }
    }
}

fn check_freezes(windows: &[FreezeWindow], faults: &mut Faults<'_>) {
    let mut freeze = faults.at("freeze");
    for (index, window) in windows.iter().enumerate() {
        window.check(&mut freeze.item(index));
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn service() -> Service {
        let address = |port| ListenAddress(([127, 0, 0, 1], port).into());
        let region = |name: &str, port| Region {
            name: name.parse().unwrap(),
            adapter: AdapterKind::Process,
            listen: Some(address(port)),
            admin: Some(address(port + 1)),
            kubernetes: None,
            command: None,
            given: None,
        };
        let artefact = Artefact { command: vec!["sample".to_owned(), PORT.to_owned()], sha256: None };
        Service {
            name: "api".parse().unwrap(),
            regions: vec![region("us-west", 8_000), region("us-east", 8_010)],
            instances: 2,
            capacity: 4,
            health: health(),
            ready_within_ms: 1_000,
            stop_within_ms: 1_000,
            slow_after_ms: slow_after_ms(),
            sticky: Sticky::Random,
            chosen_by: None,
            freeze: Vec::new(),
            care: Care::default(),
            versions: [("v1".to_owned(), artefact.clone()), ("v2".to_owned(), artefact)].into(),
        }
    }

    pub(crate) fn fleet() -> Fleet {
        Fleet {
            listen: listen(),
            inspect: inspect(),
            inspect_hosts: Vec::new(),
            database: database(),
            state: state(),
            queue: QueueSection::default(),
            freeze: Vec::new(),
            services: [("api".parse().unwrap(), service())].into(),
        }
    }

    #[test]
    fn a_fleet_that_is_written_is_read_again() {
        let text = gemba::config::to_toml(&fleet()).unwrap();
        let sources = gemba::config::Sources::new("TEST").text("fleet.toml", &text);
        assert_eq!(sources.load::<Fleet>().unwrap().value, fleet(), "{text}");
    }

    #[test]
    fn limits_in_the_file_are_those_of_the_code() {
        let schema: serde_json::Value = serde_json::from_str(&gemba::config::schema::<Fleet>()).unwrap();
        let service = &schema["$defs"]["Service"]["properties"];
        assert_eq!(service["instances"]["maximum"], INSTANCES_MAX);
        assert_eq!(service["regions"]["maxItems"], REGIONS_MAX);
    }
}
