//! The desk of a region: what its adapter was told, what came of it, and whether a version has drained.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::remote::Remote;
use crate::adapter::settings::Addresses;
use crate::adapter::{Shares, Standing, Wanted};
use crate::fleet::Region;
use crate::instances::Instances;
use crate::region::{Ledger, Since, Splitter};
use crate::splitter::Counted;
use crate::splitter::table::{Share, Table, WHOLE};
use crate::view::{RegionView, VersionView};

/// How long an instance is kept after it has no share any more, so that requests that were on their way to it arrive.
const LINGER: Duration = Duration::from_secs(1);

/// How long requests to a version without a share may take before its instances are stopped all the same.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// How a region is driven.
#[derive(Debug)]
enum Adapter {
    /// Processes of this machine, which the conductor starts, behind our splitter.
    Process(Splitter),
    /// Given addresses behind our splitter.
    Static(Splitter, Given),
    /// Somebody who takes their time.
    Remote(Remote, Ledger),
}

/// The addresses of each version. Those that are not wanted are not instances of anything.
#[derive(Debug, Default)]
struct Given {
    addresses: BTreeMap<String, Vec<SocketAddr>>,
    wanted: BTreeMap<String, u32>,
}

impl Given {
    fn of(&self, version: &str) -> &[SocketAddr] {
        self.addresses.get(version).map_or(&[], Vec::as_slice)
    }

    /// All of them are ready, as far as anybody here knows.
    fn standing(&self, version: &str) -> Standing {
        let all = self.of(version).len() as u32;
        let wanted = self.wanted.get(version).copied().filter(|wanted| all < *wanted);
        let few = |wanted| (1, format!("the table static gives it {all} of {wanted} addresses"));
        Standing { ready: all, all, failures: wanted.map(few) }
    }
}

/// The adapter of a region, and what it was told and told us last.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) region: Region,
    adapter: Adapter,
    /// When something was wanted first, in milliseconds since 1970.
    began: Option<u64>,
    table: Table,
    pub(crate) told: Option<Table>,
    told_at: Instant,
    pub(crate) counted: Option<Counted>,
    p99_us: BTreeMap<String, VecDeque<u32>>,
    pub(crate) trouble: Option<String>,
}

/// Latencies of a version that a percentile is told of.
const LATENCIES_SHOWN: usize = 1_000;

impl Desk {
    /// The desk of a region that was told nothing yet; with `remote` if it is driven in lanes.
    pub(crate) fn new(client: reqwest::Client, region: &Region, remote: Option<Remote>) -> Self {
        let adapter = match (remote, &region.given) {
            (Some(remote), _) => Adapter::Remote(remote, Ledger::default()),
            (None, None) => Adapter::Process(Splitter::new(client, region)),
            (None, Some(given)) => {
                let addresses = |(version, addresses): (&String, &Addresses)| {
                    (version.clone(), addresses.0.iter().map(|address| address.0).collect())
                };
                let addresses = given.addresses.iter().map(addresses).collect();
                Adapter::Static(Splitter::new(client, region), Given { addresses, ..Given::default() })
            }
        };
        Self {
            region: region.clone(),
            adapter,
            began: None,
            table: Table::default(),
            told: None,
            told_at: Instant::now(),
            counted: None,
            p99_us: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Whether its instances are processes that the conductor starts and ends.
    pub(crate) const fn has_processes(&self) -> bool {
        matches!(self.adapter, Adapter::Process(_))
    }

    /// How a version stands here, in a delivery.
    pub(crate) fn standing(&self, instances: &Instances, delivery: &str, version: &str) -> Standing {
        match &self.adapter {
            Adapter::Process(_) => instances.standing(self.region.name.as_str(), version),
            Adapter::Static(_, given) => given.standing(version),
            Adapter::Remote(remote, _) => remote.standing(delivery, version),
        }
    }

    /// A version with its share, and the addresses that a splitter sends it to; none if nothing of it is ready.
    pub(crate) fn share(&self, instances: &Instances, version: &str, weight: u32) -> Option<Share> {
        let addresses = match &self.adapter {
            Adapter::Process(_) => instances.ready(self.region.name.as_str(), version),
            Adapter::Static(_, given) => given.of(version).to_vec(),
            Adapter::Remote(remote, _) => {
                let is_ready = remote.standings().get(version).is_some_and(|standing| 0 < standing.ready);
                return is_ready.then(|| Share {
                    version: version.to_owned(),
                    weight,
                    instances: Vec::new(),
                });
            }
        };
        (!addresses.is_empty()).then(|| Share { version: version.to_owned(), weight, instances: addresses })
    }

    /// Says which versions are to run here, to whoever starts and ends them.
    pub(crate) fn want(&mut self, delivery: &str, instances: BTreeMap<String, u32>, unix_ms: u64) {
        let shares = |table: &Table| Shares {
            generation: table.generation,
            versions: table.versions.iter().map(|share| (share.version.clone(), share.weight)).collect(),
        };
        match &mut self.adapter {
            // The conductor does it.
            Adapter::Process(_) => {}
            Adapter::Static(_, given) => given.wanted = instances,
            Adapter::Remote(remote, _) => {
                // Greater than any of an earlier manager, also before the first shares.
                let began = *self.began.get_or_insert(unix_ms);
                let (generation, shares) = (began.max(self.table.generation), self.told.as_ref().map(shares));
                remote.want(Wanted { delivery: delivery.to_owned(), generation, instances, shares });
            }
        }
    }

    /// Asks what came of the requests; tells what is new of it, by version.
    pub(crate) async fn count(&mut self) -> HashMap<String, Since> {
        let counts = match &mut self.adapter {
            Adapter::Process(splitter) | Adapter::Static(splitter, _) => splitter.counts().await,
            Adapter::Remote(remote, ledger) => {
                self.trouble = remote.trouble();
                let counts = remote.counts(ledger);
                let (counted, since) =
                    counts.map_or((None, HashMap::new()), |(counted, since)| (Some(counted), since));
                self.counted = counted;
                return since;
            }
        };
        match counts {
            Ok((counted, since)) => {
                (self.counted, self.trouble) = (Some(counted), None);
                since
            }
            Err(error) => {
                self.trouble = Some(crate::chain(&error));
                HashMap::new()
            }
        }
    }

    /// Whether it was told these shares, and has not forgotten them.
    pub(crate) fn knows(&self, table: &Table) -> bool {
        let known = self.counted.as_ref().map(|counted| counted.generation);
        // Lanes tell again by themselves until the shares are in force.
        let is_remote = matches!(self.adapter, Adapter::Remote(..));
        self.told.as_ref().is_some_and(|told| {
            let same = Table { generation: told.generation, ..table.clone() };
            (is_remote || Some(told.generation) == known) && *told == same
        })
    }

    pub(crate) async fn tell(&mut self, mut table: Table, unix_ms: u64) {
        table.generation = self.generation(unix_ms);
        self.table.generation = table.generation;
        let told = match &self.adapter {
            Adapter::Process(splitter) | Adapter::Static(splitter, _) => splitter.set(&table).await,
            Adapter::Remote(..) => Ok(()),
        };
        match told {
            Ok(()) => {
                if self.told.as_ref().is_none_or(|told| told.versions != table.versions) {
                    self.told_at = Instant::now();
                }
                if let Some(counted) = &mut self.counted {
                    counted.generation = table.generation;
                }
                self.told = Some(table);
            }
            Err(error) => self.trouble = Some(crate::chain(&error)),
        }
    }

    /// Whether its splitter was told to send requests to a version.
    pub(crate) fn sends_to(&self, version: &str) -> bool {
        self.told.as_ref().is_some_and(|told| told.versions.iter().any(|share| share.version == version))
    }

    /// Greater than any before, also one of an earlier manager whose clock was ahead of ours.
    fn generation(&self, unix_ms: u64) -> u64 {
        let theirs = self.counted.as_ref().map_or(0, |counted| counted.generation);
        unix_ms.max(self.table.generation + 1).max(theirs + 1)
    }

    /// Whether no request is on its way to a version without a share.
    pub(crate) fn has_drained(&self, version: &str) -> bool {
        let Some(told) = &self.told else { return false };
        if told.versions.iter().any(|share| share.version == version) || self.told_at.elapsed() < LINGER {
            return false;
        }
        let counts = self.counted.iter().flat_map(|counted| &counted.versions);
        let in_flight: u64 =
            counts.filter(|counts| counts.version == version).map(|counts| counts.in_flight).sum();
        (in_flight == 0 && self.trouble.is_none()) || DRAIN_MAX <= self.told_at.elapsed()
    }

    pub(crate) fn note(&mut self, version: &str, since: &Since) {
        let kept = self.p99_us.entry(version.to_owned()).or_default();
        kept.extend(
            since.latencies.iter().map(|latency| u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)),
        );
        let more = kept.len().saturating_sub(LATENCIES_SHOWN);
        kept.drain(..more);
    }

    /// Where requests come in, or who knows.
    fn address(&self) -> String {
        match (&self.region.listen, &self.region.kubernetes) {
            (Some(listen), _) => listen.0.to_string(),
            (None, Some(cluster)) => {
                format!("Gateway {} in namespace {}", cluster.gateway, cluster.namespace)
            }
            (None, None) => "what its scripts say".to_owned(),
        }
    }

    pub(crate) fn view(&self, instances: &Instances) -> RegionView {
        let region = self.region.name.as_str();
        let mut versions: BTreeMap<String, VersionView> = BTreeMap::new();
        let mut of = |version: &str, change: &dyn Fn(&mut VersionView)| {
            let view = versions.entry(version.to_owned()).or_default();
            version.clone_into(&mut view.version);
            change(view);
        };
        for share in self.told.iter().flat_map(|told| &told.versions) {
            of(&share.version, &|view| view.share = f64::from(share.weight) / f64::from(WHOLE));
        }
        for counts in self.counted.iter().flat_map(|counted| &counted.versions) {
            let p99_ms = p99_ms(self.p99_us.get(&counts.version));
            of(&counts.version, &|view| {
                (view.requests, view.failures, view.in_flight) =
                    (counts.requests, counts.failures, counts.in_flight);
                view.p99_ms = p99_ms;
            });
        }
        let standings = match &self.adapter {
            Adapter::Process(_) => instances.standings(region),
            Adapter::Static(_, given) => {
                given.wanted.keys().map(|version| (version.clone(), given.standing(version))).collect()
            }
            Adapter::Remote(remote, _) => remote.standings(),
        };
        for (version, standing) in standings {
            of(&version, &|view| view.instances = (standing.ready as usize, standing.all as usize));
        }
        RegionView {
            region: region.to_owned(),
            address: self.address(),
            trouble: self.trouble.clone(),
            versions: versions.into_values().collect(),
        }
    }
}

fn p99_ms(latencies: Option<&VecDeque<u32>>) -> f64 {
    let mut sorted: Vec<u32> = latencies.into_iter().flatten().copied().collect();
    sorted.sort_unstable();
    let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(0.0, |us| f64::from(*us) / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::service;

    #[test]
    fn a_clock_that_went_back_stops_no_table() {
        let mut desk = Desk::new(reqwest::Client::new(), &service().regions[0], None);
        assert_eq!(desk.generation(1_000), 1_000);
        desk.table.generation = 1_000;
        assert_eq!((desk.generation(1_000), desk.generation(2_000)), (1_001, 2_000));
        desk.counted = Some(Counted { generation: 5_000, ..Counted::default() });
        assert_eq!(desk.generation(2_000), 5_001, "an earlier manager's");
    }
}
