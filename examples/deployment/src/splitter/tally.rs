//! A cell: what came of the requests to each version, counted where they pass.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
pub struct Tally {
    version: Arc<str>,
    counts: Arc<Mutex<Counts>>,
}

impl Tally {
    /// All zero.
    pub fn new(version: &str) -> Self {
        Self { version: version.into(), counts: Arc::default() }
    }

    /// Whose it is.
    pub fn version(&self) -> &Arc<str> {
        &self.version
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
                version: self.version.to_string(),
                requests: counts.requests,
                failures: counts.failures,
                in_flight: counts.in_flight,
                latencies: counts.latencies,
                latencies_us: counts.kept.iter().skip(counts.kept.len() - new).copied().collect(),
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
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

#[cfg(test)]
mod tests {
    use super::*;

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
