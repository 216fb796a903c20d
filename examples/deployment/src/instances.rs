//! Instances: processes of a version in a region, each on a port of its own, under one supervisor.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use gemba::{ChildSpec, DynamicRef, LogRules, Probe, ProcessHandle, ProcessSpec, process};

use crate::adapter::Standing;
use crate::fleet::{PORT, Service};

/// Lines of an instance that are logged in a second: what it wants to say is in its own log.
const LINES_PER_SECOND_MAX: u32 = 20;

/// One instance: which version, where, and which of several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// The region.
    pub region: String,
    /// The version.
    pub version: String,
    /// From 1.
    pub number: u32,
}

impl Seat {
    /// As it stands in the record, in paths and in names: `us-west.v2.1`.
    pub fn name(&self) -> String {
        format!("{}.{}.{}", self.region, self.version, self.number)
    }

    /// The seat of this name in one of these regions.
    pub fn parse(name: &str, service: &Service) -> Option<Self> {
        // A version may have dots in it, and so may a region: a file where two have one name is refused, but one that
        // has lost a version says less. The region that leaves a version which is known; else the longest.
        let seat = |region: &str| {
            let (version, number) = name.strip_prefix(region)?.strip_prefix('.')?.rsplit_once('.')?;
            let number = number.parse().ok()?;
            Some(Self { region: region.to_owned(), version: version.to_owned(), number })
        };
        let seats = service.regions.iter().filter_map(|region| seat(region.name.as_str()));
        seats.max_by_key(|seat| (service.versions.contains_key(&seat.version), seat.region.len()))
    }
}

/// A running instance.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub handle: ProcessHandle,
}

/// The instances of one service that this manager knows of.
#[derive(Debug)]
pub struct Instances {
    service: Service,
    home: PathBuf,
    supervisor: DynamicRef,
    pub(crate) running: BTreeMap<Seat, Instance>,
}

impl Instances {
    /// None yet; their homes will stand in `home`.
    pub fn new(service: Service, home: PathBuf, supervisor: DynamicRef) -> Self {
        Self { service, home, supervisor, running: BTreeMap::new() }
    }

    /// Takes another description of the service, for instances that are started from now on.
    pub(crate) fn renew(&mut self, service: Service) {
        self.service = service;
    }

    /// Starts an instance, or adopts the one that runs there.
    ///
    /// # Errors
    ///
    /// In words, if the version is not known or the supervisor does not take it.
    pub async fn start(&mut self, seat: &Seat, port: u16) -> Result<(), String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let spec = self.spec(seat, address)?;
        let child = process(&format!("{}.{}", self.service.name, seat.name()), spec);
        let handle = child.handle();
        match self.supervisor.start_child(ChildSpec::from(child)).await {
            Ok(_) => {
                self.running.insert(seat.clone(), Instance { address, handle });
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn spec(&self, seat: &Seat, address: SocketAddr) -> Result<ProcessSpec, String> {
        let artefact = self.service.versions.get(&seat.version);
        let artefact = artefact.ok_or_else(|| format!("version {} is not known", seat.version))?;
        let mut parts = artefact.command.iter().map(|part| part.replace(PORT, &address.port().to_string()));
        let command = parts.next().ok_or("the command is empty")?;
        ProcessSpec::builder(command)
            .args(parts)
            .probe(Probe::Http(address, self.service.health.as_str().into()))
            .ready_within(Duration::from_millis(self.service.ready_within_ms))
            .stop_within(Duration::from_millis(self.service.stop_within_ms))
            .log(LogRules { lines_per_second_max: LINES_PER_SECOND_MAX, ..LogRules::default() })
            .survives(self.home.join(seat.name()))
            .build()
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    /// The addresses of the ready instances of a version in a region.
    pub fn ready(&self, region: &str, version: &str) -> Vec<SocketAddr> {
        let here = self.of(region, version).filter(|(_, instance)| instance.handle.view().is_ready());
        here.map(|(_, instance)| instance.address).collect()
    }

    /// How a version stands in a region.
    pub fn standing(&self, region: &str, version: &str) -> Standing {
        let (ready, all) = (self.ready(region, version).len(), self.of(region, version).count());
        Standing { ready: ready as u32, all: all as u32, failures: self.failures(region, version) }
    }

    /// How each version stands in a region.
    pub fn standings(&self, region: &str) -> BTreeMap<String, Standing> {
        let here = self.running.keys().filter(|seat| seat.region == region);
        here.map(|seat| (seat.version.clone(), self.standing(region, &seat.version))).collect()
    }

    /// What went wrong with instances of a version in a region, and how often.
    fn failures(&self, region: &str, version: &str) -> Option<(u64, String)> {
        let views = self.of(region, version).map(|(_, instance)| instance.handle.view());
        let mut found = (0, None);
        for view in views {
            found.0 += view.failures;
            found.1 = view.last_failure.map(|error| crate::chain(&error)).or(found.1);
        }
        found.1.map(|why| (found.0, why))
    }

    fn of(&self, region: &str, version: &str) -> impl Iterator<Item = (&Seat, &Instance)> {
        self.running.iter().filter(move |(seat, _)| seat.region == region && seat.version == version)
    }
}

/// Where instances listen: below the ports that the system gives to whoever asks for any.
const PORTS: RangeInclusive<u16> = 20_000..=29_999;

/// A port that nobody listens at now, and that is none of `taken`.
pub fn free_port(taken: &[u16]) -> Option<u16> {
    // From a place of chance on, so that two managers do not go for the same one.
    let start = RandomState::new().hash_one(()) % u64::from(*PORTS.end() - *PORTS.start());
    let (before, after) = (PORTS.take(start as usize), PORTS.skip(start as usize));
    after
        .chain(before)
        .find(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::service;

    #[test]
    fn a_seat_is_known_by_its_name() {
        let seat = Seat { region: "us-west".to_owned(), version: "v1.2.3".to_owned(), number: 4 };
        assert_eq!(Seat::parse(&seat.name(), &service()), Some(seat));
        for name in ["us-north.v1.1", "us-west.v1.x", "us-west", ""] {
            assert_eq!(Seat::parse(name, &service()), None, "{name}");
        }
    }

    #[test]
    fn a_seat_is_in_the_region_that_leaves_a_version() {
        let mut service = service();
        service.regions[0].name = "us".parse().unwrap();
        service.regions[1].name = "us.west".parse().unwrap();
        let at = |service: &Service, name: &str| Seat::parse(name, service).unwrap();
        for (region, version) in [("us", "v1"), ("us.west", "v1"), ("us.west", "gone")] {
            let seat = Seat { region: region.to_owned(), version: version.to_owned(), number: 1 };
            assert_eq!(at(&service, &seat.name()), seat);
        }
        let artefact = service.versions["v1"].clone();
        service.versions.insert("west.v3".to_owned(), artefact);
        assert_eq!(at(&service, "us.west.v3.1").version, "west.v3");
    }
}
