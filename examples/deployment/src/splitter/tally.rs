//! A cell: what came of the requests to each version, counted where they pass, and which way the next one goes.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::table::Point;

/// Latencies kept of each version: at 2000 requests a second, of the last two seconds.
pub const LATENCIES_KEPT: usize = 4_096;

/// Counts of one version, since the splitter started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounts {
    /// The version.
    pub version: String,
    /// Requests that were answered, or not.
    pub requests: u64,
    /// Of them, those that failed: a status of 500 or more, no answer, or one that broke off.
    pub failures: u64,
    /// Requests on their way.
    pub in_flight: u64,
    /// How many latencies of successes there have been; those asked for begin somewhere before.
    pub latencies: u64,
    /// The latencies behind those the asker knows, in microseconds; the oldest may have been forgotten.
    pub latencies_us: Vec<u32>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: u64,
    failures: u64,
    in_flight: u64,
    latencies: u64,
    kept: VecDeque<u32>,
}

/// Counts of one version. Clones share them.
#[derive(Debug, Clone)]
pub struct Tally(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    version: Arc<str>,
    header: HeaderValue,
    counts: Mutex<Counts>,
}

impl Tally {
    /// All zero.
    pub fn new(version: &str) -> Self {
        // Versions are names, which are plain text; another one would go without.
        let header = HeaderValue::from_str(version).unwrap_or(HeaderValue::from_static("unnamed"));
        Self(Arc::new(Kept { version: version.into(), header, counts: Mutex::default() }))
    }

    /// Whose it is.
    pub fn version(&self) -> &Arc<str> {
        &self.0.version
    }

    /// The same, as a header says it.
    pub fn header(&self) -> &HeaderValue {
        &self.0.header
    }

    /// A request goes to this version; it is over when the ticket is gone.
    pub fn begin(&self) -> Ticket {
        self.with(|counts| counts.in_flight += 1);
        Ticket { tally: self.clone(), outcome: None, is_failure: true }
    }

    /// The counts, with the latencies behind the first `known`.
    pub fn counts(&self, known: u64) -> VersionCounts {
        self.with(|counts| {
            let new = counts.latencies.saturating_sub(known).min(counts.kept.len() as u64) as usize;
            VersionCounts {
                version: self.0.version.to_string(),
                requests: counts.requests,
                failures: counts.failures,
                in_flight: counts.in_flight,
                latencies: counts.latencies,
                latencies_us: counts.kept.iter().skip(counts.kept.len() - new).copied().collect(),
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request on its way. Dropping it unsettled counts as a failure: a caller who went away before there was an
/// answer waited too long for it.
#[derive(Debug)]
pub struct Ticket {
    tally: Tally,
    outcome: Option<Duration>,
    is_failure: bool,
}

impl Ticket {
    /// The head of its answer is there, after this time.
    pub fn answered(&mut self, is_failure: bool, latency: Duration) {
        (self.is_failure, self.outcome) = (is_failure, Some(latency));
    }

    /// It had no answer, for which the version is not to blame.
    pub fn callers_fault(&mut self) {
        (self.is_failure, self.outcome) = (false, None);
    }

    /// The answer broke off.
    pub fn broke_off(&mut self) {
        self.is_failure = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (is_failure, latency) = (self.is_failure, self.outcome);
        self.tally.with(|counts| {
            counts.in_flight -= 1;
            counts.requests += 1;
            if is_failure {
                counts.failures += 1;
            } else if let Some(latency) = latency {
                if counts.kept.len() == LATENCIES_KEPT {
                    counts.kept.pop_front();
                }
                counts.latencies += 1;
                counts.kept.push_back(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
            }
        });
    }
}

/// The way of the next request that nothing keeps with a version.
///
/// Not by chance: a sequence that covers every stretch of it evenly gives a version its share of each thousand requests
/// to within one or two, where chance would be out by seven (of 5 %).
/// Source: Roberts 2018, "The unreasonable effectiveness of quasirandom sequences": the sequence R2, so that version
/// and instance are covered evenly together.
#[derive(Debug, Clone)]
pub struct Draw(Arc<AtomicU64>);

impl Draw {
    /// The inverse of the plastic number, and its square, of 2^64.
    const STEPS: (u64, u64) = (0xC13F_A9A9_02A6_328F, 0x91E1_0DA5_C79E_7B1D);

    /// From a place of chance on.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(RandomState::new().hash_one(()))))
    }

    /// The next one.
    pub fn next(&self) -> Point {
        let number = self.0.fetch_add(1, Relaxed);
        let (version, instance) = Self::STEPS;
        Point { version: number.wrapping_mul(version), instance: number.wrapping_mul(instance) }
    }
}

impl Default for Draw {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_of_requests_has_its_share_of_versions_and_of_instances() {
        use crate::splitter::table::{Share, Sticky, Table};
        let share = |version: &str, weight| Share {
            version: version.to_owned(),
            weight,
            instances: vec![([127, 0, 0, 1], 1).into(); 3],
        };
        for weight in [1, 500, 2_500, 5_000, 9_999] {
            let versions = vec![share("v2", weight), share("v1", 10_000 - weight)];
            let table = Table { generation: 1, versions, ..Table::default() };
            assert_eq!(table.sticky, Sticky::Random);
            let draw = Draw::new();
            for stretch in 0..10 {
                let mut counts = [[0u32; 3]; 2];
                for _ in 0..10_000 {
                    let point = draw.next();
                    counts[table.pick(point).unwrap()][point.place(3)] += 1;
                }
                let new: u32 = counts[0].iter().sum();
                assert!(new.abs_diff(weight) <= 10, "{new} of 10000 at {weight} in stretch {stretch}");
                for instance in counts[0] {
                    // A tenth of a percent of all, as the share itself.
                    assert!((f64::from(instance) - f64::from(new) / 3.0).abs() <= 10.0, "{counts:?}");
                }
            }
        }
    }

    #[test]
    fn each_request_is_counted_once_however_it_ends() {
        let tally = Tally::new("v1");
        let mut well = tally.begin();
        well.answered(false, Duration::from_micros(7));
        let mut failed = tally.begin();
        failed.answered(true, Duration::from_micros(9));
        let mut broken = tally.begin();
        broken.answered(false, Duration::from_micros(9));
        broken.broke_off();
        let lost = tally.begin();
        assert_eq!(tally.counts(0).in_flight, 4);
        drop((well, failed, broken, lost));
        let counts = tally.counts(0);
        assert_eq!((counts.requests, counts.failures, counts.in_flight), (4, 3, 0));
        assert_eq!((counts.latencies, counts.latencies_us), (1, vec![7]), "of successes alone");
    }

    #[test]
    fn an_asker_gets_each_latency_once_and_misses_the_oldest_only() {
        let tally = Tally::new("v1");
        let answer = |us: u64| tally.begin().answered(false, Duration::from_micros(us));
        (0..3).for_each(answer);
        assert_eq!(tally.counts(2).latencies_us, [2]);
        (3..3 + LATENCIES_KEPT as u64).for_each(answer);
        let counts = tally.counts(3);
        assert_eq!((counts.latencies_us.len(), counts.latencies_us[0]), (LATENCIES_KEPT, 3));
        assert_eq!(tally.counts(0).latencies_us.len(), LATENCIES_KEPT, "the first three are forgotten");
        assert!(tally.counts(counts.latencies).latencies_us.is_empty());
        assert!(tally.counts(u64::MAX).latencies_us.is_empty(), "one who knew another splitter");
    }
}
