//! One region of a service as its manager sees it: the splitter that is told the shares, and what came of them.

use std::collections::HashMap;
use std::time::Duration;

use crate::fleet::Region;
use crate::splitter::Counted;
use crate::splitter::table::Table;
use crate::splitter::tally::VersionCounts;

/// How long a splitter may take to answer: it is near, and a rollback waits for it.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Why a splitter did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum SplitterError {
    /// It does not answer; its supervisor starts it again if it has died.
    #[error("the splitter does not answer")]
    Silent(#[from] reqwest::Error),
    /// It refuses.
    #[error("the splitter refuses: {0}")]
    Refused(String),
}

/// What came of the requests to one version since the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    /// Requests.
    pub requests: u64,
    /// Of them, failures.
    pub failures: u64,
    /// Latencies of successes.
    pub latencies: Vec<Duration>,
}

/// Sums of the counts of one splitter, so that only what is new is told.
#[derive(Debug, Default)]
pub struct Ledger {
    life: String,
    known: HashMap<String, (u64, u64, u64)>,
}

impl Ledger {
    /// What is new in `counted`, by version.
    pub fn since(&mut self, counted: &Counted) -> HashMap<String, Since> {
        if self.life != counted.life {
            // Another splitter, or ours for the first time: what it counted before nobody asked for.
            let is_first = self.life.is_empty();
            self.life.clone_from(&counted.life);
            self.known.clear();
            if is_first {
                self.known
                    .extend(counted.versions.iter().map(|counts| (counts.version.clone(), sums(counts))));
            }
        }
        let mut since = HashMap::new();
        for counts in &counted.versions {
            let known = self.known.entry(counts.version.clone()).or_default();
            let new = Since {
                requests: counts.requests - known.0.min(counts.requests),
                failures: counts.failures - known.1.min(counts.failures),
                latencies: newest(counts, known.2),
            };
            *known = sums(counts);
            since.insert(counts.version.clone(), new);
        }
        since
    }

    /// How many latencies of each version are known.
    fn query(&self) -> Vec<(String, String)> {
        self.known.iter().map(|(version, known)| (version.clone(), known.2.to_string())).collect()
    }
}

const fn sums(counts: &VersionCounts) -> (u64, u64, u64) {
    (counts.requests, counts.failures, counts.latencies)
}

fn newest(counts: &VersionCounts, known: u64) -> Vec<Duration> {
    let new = counts.latencies.saturating_sub(known).min(counts.latencies_us.len() as u64) as usize;
    let told = &counts.latencies_us[counts.latencies_us.len() - new..];
    told.iter().map(|us| Duration::from_micros(u64::from(*us))).collect()
}

/// Talks to the splitter of a region.
#[derive(Debug)]
pub struct Splitter {
    client: reqwest::Client,
    admin: String,
    ledger: Ledger,
}

impl Splitter {
    /// A client of the splitter of `region`, which has one.
    pub fn new(client: reqwest::Client, region: &Region) -> Self {
        let admin = region.splitter().map(|(_, admin)| format!("http://{admin}")).unwrap_or_default();
        Self { client, admin, ledger: Ledger::default() }
    }

    /// Tells it the shares.
    pub async fn set(&self, table: &Table) -> Result<(), SplitterError> {
        let answer =
            self.client.put(format!("{}/table", self.admin)).timeout(ANSWER_MAX).json(table).send().await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(SplitterError::Refused(answer.text().await.unwrap_or_default()))
    }

    /// Its counts, and what is new in them.
    pub async fn counts(&mut self) -> Result<(Counted, HashMap<String, Since>), SplitterError> {
        let request = self.client.get(format!("{}/counts", self.admin)).timeout(ANSWER_MAX);
        let answer = request.query(&self.ledger.query()).send().await?.error_for_status()?;
        let counted: Counted = answer.json().await?;
        let since = self.ledger.since(&counted);
        Ok((counted, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(life: &str, requests: u64, latencies_us: &[u32]) -> Counted {
        let counts = VersionCounts {
            version: "v1".to_owned(),
            requests,
            failures: requests / 10,
            in_flight: 0,
            latencies: latencies_us.len() as u64,
            latencies_us: latencies_us.to_vec(),
        };
        Counted { generation: 1, life: life.to_owned(), versions: vec![counts] }
    }

    #[test]
    fn each_outcome_is_told_once_also_after_a_restart_of_either() {
        let mut ledger = Ledger::default();
        let told = |since: HashMap<String, Since>| {
            let since = &since["v1"];
            (since.requests, since.failures, since.latencies.len())
        };
        assert_eq!(told(ledger.since(&counted("a", 100, &[1, 2]))), (0, 0, 0), "nobody asked for the past");
        assert_eq!(told(ledger.since(&counted("a", 130, &[1, 2, 3]))), (30, 3, 1));
        assert_eq!(told(ledger.since(&counted("a", 130, &[1, 2, 3]))), (0, 0, 0));
        assert_eq!(
            told(ledger.since(&counted("b", 20, &[1]))),
            (20, 2, 1),
            "a new splitter begins at nothing"
        );
    }
}
