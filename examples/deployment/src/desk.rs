//! The desk of a region: what its splitter was told, what it counted, and whether a version has drained.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::fleet::Region;
use crate::instances::Instances;
use crate::region::{Since, Splitter};
use crate::splitter::Counted;
use crate::splitter::table::{Table, WHOLE};
use crate::view::{RegionView, VersionView};

/// How long an instance is kept after it has no share any more, so that requests that were on their way to it arrive.
const LINGER: Duration = Duration::from_secs(1);

/// How long requests to a version without a share may take before its instances are stopped all the same.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// The splitter of a region, and what it was told and told us last.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) region: Region,
    pub(crate) splitter: Splitter,
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
    /// The desk of a region whose splitter was told nothing yet.
    pub(crate) fn new(client: reqwest::Client, region: &Region) -> Self {
        Self {
            region: region.clone(),
            splitter: Splitter::new(client, region),
            table: Table::default(),
            told: None,
            told_at: Instant::now(),
            counted: None,
            p99_us: BTreeMap::new(),
            trouble: None,
        }
    }

    pub(crate) async fn tell(&mut self, mut table: Table, unix_ms: u64) {
        // Greater than any before, also one of an earlier manager.
        table.generation = unix_ms.max(self.table.generation + 1);
        self.table.generation = table.generation;
        match self.splitter.set(&table).await {
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
        for (seat, instance) in instances.running.iter().filter(|(seat, _)| seat.region == region) {
            let is_ready = instance.handle.view().is_ready();
            of(&seat.version, &|view| {
                view.instances = (view.instances.0 + usize::from(is_ready), view.instances.1 + 1);
            });
        }
        RegionView {
            region: region.to_owned(),
            address: self.region.listen.to_string(),
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
