//! What there is to deploy and where: services, their versions and regions, and how careful a rollout is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gemba::name::Name;
use gemba::rollout::{RolloutRules, Stage};
use serde::{Deserialize, Serialize};

use crate::splitter::table::Sticky;

/// Instances of a version in a region at most.
pub const INSTANCES_MAX: u32 = 64;

/// Regions of a service at most.
pub const REGIONS_MAX: usize = 32;

/// Stands in a command for the port an instance is to listen at.
pub const PORT: &str = "{port}";

/// The whole fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The services.
    pub services: Vec<Service>,
    /// Where instances and splitters keep their pid files and logs.
    pub state: PathBuf,
    /// Services that may be rolled out at once; the rest is refused and may come again.
    #[serde(default = "at_once")]
    pub rollouts_max: usize,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Its regions, in the order of a rollout.
    pub regions: Vec<Region>,
    /// Instances of a version in each region.
    pub instances: u32,
    /// Instances of all versions together that a region has room for.
    pub capacity: u32,
    /// The path that says whether an instance is ready.
    #[serde(default = "health")]
    pub health: String,
    /// How long an instance may take to be ready.
    #[serde(default = "ready_within_ms")]
    pub ready_within_ms: u64,
    /// How long an instance may take to stop.
    #[serde(default = "stop_within_ms")]
    pub stop_within_ms: u64,
    /// What keeps a caller with one version.
    #[serde(default)]
    pub sticky: Sticky,
    /// The header by which a caller chooses the version, if it has a share: for whoever tries the new one out.
    #[serde(default)]
    pub chosen_by: Option<String>,
    /// Its versions.
    pub versions: BTreeMap<String, Artefact>,
    /// How careful its rollouts are.
    #[serde(default)]
    pub care: Care,
}

/// One region of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name.
    pub name: Name,
    /// Where its splitter takes requests.
    pub listen: SocketAddr,
    /// Where its splitter is told the shares.
    pub admin: SocketAddr,
}

/// What a version is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    /// The program and its arguments; [`PORT`] stands for its port.
    pub command: Vec<String>,
    /// The SHA-256 of the program's file, in hexadecimal. Without it, any file of the name will do.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// One stage of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// The share of the requests, 0 to 1.
    pub share: f64,
    /// How long it lasts at least.
    pub lasts_ms: u64,
}

/// How careful a rollout is.
///
/// Source of the defaults: docs/seeds.md, S2-HEI-05 and S2-JID-06.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Care {
    /// The stages before a version has everything.
    pub stages: Vec<StageSpec>,
    /// How long it has everything in a region before the next region follows.
    pub bake_ms: u64,
    /// The share of failures above which it is taken back, whatever else fails.
    pub failures_limit: f64,
    /// The 99th percentile above which it is taken back.
    pub latency_limit_ms: u64,
    /// Outcomes of each side before a stage is passed.
    pub outcomes_min: u64,
    /// How far the share of failures may, with 95 % certainty, be above that of what runs today when a stage is passed.
    pub excess_max: f64,
}

impl Default for Care {
    fn default() -> Self {
        let stage = |share, lasts_ms| StageSpec { share, lasts_ms };
        Self {
            stages: vec![stage(0.05, 300_000), stage(0.25, 600_000)],
            bake_ms: 300_000,
            failures_limit: 0.05,
            latency_limit_ms: 1_000,
            outcomes_min: 200,
            excess_max: 0.01,
        }
    }
}

impl Care {
    /// As rules of a rollout.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, in words.
    pub fn rules(&self) -> Result<RolloutRules, Vec<String>> {
        let stage =
            |spec: &StageSpec| Stage { share: spec.share, lasts: Duration::from_millis(spec.lasts_ms) };
        let rules = RolloutRules::builder()
            .stages(self.stages.iter().map(stage))
            .every(LOOK)
            .outcomes_min(self.outcomes_min)
            .excess_max(self.excess_max)
            .limits(self.failures_limit, Duration::from_millis(self.latency_limit_ms))
            .bake(Duration::from_millis(self.bake_ms));
        rules.build().map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }
}

/// How often the health of a new version is looked at.
pub const LOOK: Duration = Duration::from_secs(1);

fn at_once() -> usize {
    4
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

impl Fleet {
    /// Reads a fleet from a file of JSON and checks the whole of it.
    ///
    /// # Errors
    ///
    /// Every fault, in words.
    pub fn read(file: &Path) -> Result<Self, Vec<String>> {
        let text = std::fs::read(file).map_err(|error| vec![format!("it cannot be read: {error}")])?;
        let fleet: Self = serde_json::from_slice(&text).map_err(|error| vec![error.to_string()])?;
        let faults = fleet.faults();
        if faults.is_empty() { Ok(fleet) } else { Err(faults) }
    }

    /// Everything that is wrong with it.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut addresses = BTreeMap::new();
        if self.services.is_empty() {
            faults.push("services: there are none; name one".to_owned());
        }
        if self.rollouts_max == 0 {
            faults.push("rollouts_max: 0 would refuse every rollout; give at least 1".to_owned());
        }
        for (index, service) in self.services.iter().enumerate() {
            let at = format!("services.{}", service.name);
            if self.services[..index].iter().any(|other| other.name == service.name) {
                faults.push(format!("{at}: there are two of this name"));
            }
            service.collect_faults(&at, &mut faults);
            for region in &service.regions {
                for (role, address) in [("listen", region.listen), ("admin", region.admin)] {
                    let here = format!("{at}.regions.{}.{role}", region.name);
                    if address.port() == 0 {
                        faults.push(format!("{here}: port 0 is a different one each time; name one"));
                    } else if let Some(other) = addresses.insert(address, here.clone()) {
                        faults.push(format!("{here}: {address} is taken by {other}"));
                    }
                }
            }
        }
        faults
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name.as_str() == name)
    }
}

impl Service {
    fn collect_faults(&self, at: &str, faults: &mut Vec<String>) {
        if self.regions.is_empty() || REGIONS_MAX < self.regions.len() {
            faults.push(format!("{at}.regions: are {}; name 1 to {REGIONS_MAX}", self.regions.len()));
        }
        for (index, region) in self.regions.iter().enumerate() {
            if self.regions[..index].iter().any(|other| other.name == region.name) {
                faults.push(format!("{at}.regions.{}: there are two of this name", region.name));
            }
        }
        if !(1..=INSTANCES_MAX).contains(&self.instances) {
            faults.push(format!("{at}.instances: is {}; give 1 to {INSTANCES_MAX}", self.instances));
        }
        if self.capacity < self.instances {
            let (capacity, instances) = (self.capacity, self.instances);
            faults.push(format!(
                "{at}.capacity: {capacity} does not hold the {instances} instances of one version"
            ));
        }
        if !self.health.starts_with('/') {
            faults.push(format!("{at}.health: '{}' is no path; begin it with /", self.health));
        }
        for (setting, value) in
            [("ready_within_ms", self.ready_within_ms), ("stop_within_ms", self.stop_within_ms)]
        {
            if !(10..=3_600_000).contains(&value) {
                faults.push(format!("{at}.{setting}: is {value}; give 10 to 3600000"));
            }
        }
        if self.versions.is_empty() {
            faults.push(format!("{at}.versions: there are none; name one"));
        }
        for (version, artefact) in &self.versions {
            let here = format!("{at}.versions.{version}");
            if Name::new(version).is_err() {
                faults.push(format!("{here}: a version has letters, digits or any of `:_.-`"));
            }
            if artefact.command.first().is_none_or(String::is_empty) {
                faults.push(format!("{here}.command: is empty; name a program"));
            } else if !artefact.command.iter().any(|part| part.contains(PORT)) {
                faults.push(format!("{here}.command: has no {PORT}, and would not know where to listen"));
            }
            if artefact.sha256.as_ref().is_some_and(|digest| !is_digest(digest)) {
                faults.push(format!("{here}.sha256: is no SHA-256; give 64 hexadecimal digits"));
            }
        }
        if let Err(errors) = self.care.rules() {
            faults.extend(errors.into_iter().map(|error| format!("{at}.care: {error}")));
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn service() -> Service {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let region = |name: &str, port| Region {
            name: name.parse().unwrap(),
            listen: address(port),
            admin: address(port + 1),
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
            sticky: Sticky::Random,
            chosen_by: None,
            versions: [("v1".to_owned(), artefact.clone()), ("v2".to_owned(), artefact)].into(),
            care: Care::default(),
        }
    }

    pub(crate) fn fleet() -> Fleet {
        Fleet { services: vec![service()], state: "state".into(), rollouts_max: 1 }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        assert_eq!(fleet().faults(), Vec::<String>::new());
        let mut fleet = fleet();
        fleet.rollouts_max = 0;
        let service = &mut fleet.services[0];
        service.instances = 0;
        service.health = "health".to_owned();
        service.regions[1] = service.regions[0].clone();
        service.care.stages[0].share = 2.0;
        service.versions.get_mut("v1").unwrap().command.pop();
        service.versions.get_mut("v2").unwrap().sha256 = Some("abc".to_owned());
        let faults = fleet.faults();
        assert_eq!(faults.len(), 10, "{faults:#?}");
        assert!(faults.contains(&"services.api.instances: is 0; give 1 to 64".to_owned()), "{faults:#?}");
    }

    #[test]
    fn a_file_is_read_as_it_is_written_and_unknown_fields_are_faults() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("fleet.json");
        let text = serde_json::to_string(&fleet()).unwrap();
        std::fs::write(&file, &text).unwrap();
        assert_eq!(Fleet::read(&file).unwrap(), fleet());
        std::fs::write(&file, text.replace("\"capacity\"", "\"capazity\"")).unwrap();
        assert!(Fleet::read(&file).unwrap_err()[0].contains("capazity"));
    }
}
