//! What came of the requests to each version of a cluster: from an address that counts as a splitter does, or from
//! Prometheus.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::join3;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::adapter::Trouble;
use crate::adapter::kubernetes::Facts;
use crate::adapter::settings::{PrometheusSettings, VERSION};
use crate::splitter::Counted;
use crate::splitter::tally::{LATENCIES_KEPT, VersionCounts};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Asks for counts, and keeps what is needed to tell what is new.
#[derive(Debug, Default)]
pub(super) struct Meter {
    client: reqwest::Client,
    known: BTreeMap<String, Histogram>,
}

/// A query's answer, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    data: Data,
    #[serde(default)]
    error: String,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    #[serde(default)]
    result: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Sample {
    fn number(&self) -> f64 {
        self.value.1.parse().ok().filter(|value: &f64| value.is_finite()).unwrap_or(0.0)
    }
}

impl Meter {
    pub(super) async fn counts(&mut self, facts: &Facts, versions: &[String]) -> Result<Counted, Trouble> {
        match (&facts.settings.counts, &facts.settings.prometheus) {
            (Some(url), _) => answer(url, self.client.get(url)).await,
            (None, Some(prometheus)) => self.queried(facts, prometheus, versions).await,
            (None, None) => Err(Trouble::lasting("nobody counts; give counts or a table prometheus")),
        }
    }

    async fn queried(
        &mut self,
        facts: &Facts,
        prometheus: &PrometheusSettings,
        versions: &[String],
    ) -> Result<Counted, Trouble> {
        self.known.retain(|version, _| versions.contains(version));
        let mut counts = Vec::new();
        for version in versions {
            let name = facts.names.version(version);
            let ask = |query: &str| {
                let query = query.replace(VERSION, version).replace("{service}", &name);
                self::query(self.client.clone(), prometheus, query)
            };
            let asked = (ask(&prometheus.requests), ask(&prometheus.failures), ask(&prometheus.latencies));
            let (requests, failures, buckets) = join3(asked.0, asked.1, asked.2).await;
            let sum = |samples: Vec<Sample>| samples.iter().map(Sample::number).sum::<f64>() as u64;
            let requests = sum(requests?);
            let bucket = |sample: &Sample| {
                let bound = sample.metric.get("le")?.parse().ok()?;
                Some((bound, sample.number() as u64))
            };
            let buckets = buckets?.iter().filter_map(bucket).collect();
            let histogram = self.known.entry(version.clone()).or_default();
            histogram.take(buckets);
            counts.push(VersionCounts {
                version: version.clone(),
                requests,
                failures: sum(failures?).min(requests),
                in_flight: 0,
                latencies: histogram.told,
                latencies_us: histogram.kept.iter().copied().collect(),
            });
        }
        // Its counters go on when we start again.
        Ok(Counted { generation: 0, life: "prometheus".to_owned(), versions: counts })
    }
}

async fn query(
    client: reqwest::Client,
    prometheus: &PrometheusSettings,
    query: String,
) -> Result<Vec<Sample>, Trouble> {
    let url = format!("{}/api/v1/query", prometheus.url.trim_end_matches('/'));
    let asked = format!("{url} for {query}");
    let found: Answer = answer(&asked, client.get(&url).query(&[("query", &query)])).await?;
    if !found.error.is_empty() {
        return Err(Trouble::lasting(format!("Prometheus does not take {query}: {}", found.error)));
    }
    Ok(found.data.result)
}

async fn answer<T: DeserializeOwned>(asked: &str, request: RequestBuilder) -> Result<T, Trouble> {
    let silent =
        |error: reqwest::Error| Trouble::passing(format!("nobody counts: {asked}: {}", crate::chain(&error)));
    let answer = request.timeout(ANSWER_MAX).send().await.map_err(silent)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(silent)?;
    // Prometheus says in JSON what is wrong with a query, with a status of 400.
    serde_json::from_slice(&body).map_err(|error| {
        let what = format!("nobody counts: {asked} answers with {status} what cannot be read: {error}");
        if status.is_server_error() { Trouble::passing(what) } else { Trouble::lasting(what) }
    })
}

/// Latencies out of buckets: each new one counts as the bound of its bucket, of both versions alike, and one above all
/// bounds as twice the greatest.
#[derive(Debug, Default)]
struct Histogram {
    /// How many there were in each bucket, by its bound in microseconds; none before the first look.
    buckets: Option<BTreeMap<u32, u64>>,
    told: u64,
    kept: VecDeque<u32>,
}

impl Histogram {
    /// Takes cumulated buckets, each with its bound in seconds.
    fn take(&mut self, cumulated: Vec<(f64, u64)>) {
        let buckets = single(cumulated);
        if let Some(known) = &self.buckets {
            let new = |(bound, count): (&u32, &u64)| {
                // A counter that fell began anew.
                let was = known.get(bound).copied().filter(|was| was <= count).unwrap_or(0);
                (*bound, count - was)
            };
            let new: Vec<(u32, u64)> = buckets.iter().map(new).collect();
            let (all, most) = (new.iter().map(|(_, count)| count).sum::<u64>(), LATENCIES_KEPT as u64);
            for (bound, count) in new {
                // More than are kept are thinned out evenly.
                let count = if most < all { (count * most).div_ceil(all) } else { count };
                self.told += count;
                self.kept.extend(std::iter::repeat_n(bound, count as usize));
            }
            let more = self.kept.len().saturating_sub(LATENCIES_KEPT);
            self.kept.drain(..more);
        }
        self.buckets = Some(buckets);
    }
}

/// How many are in each bucket by itself, by its bound in microseconds.
fn single(mut cumulated: Vec<(f64, u64)>) -> BTreeMap<u32, u64> {
    cumulated.retain(|(bound, _)| 0.0 < *bound);
    cumulated.sort_by(|one, other| one.0.total_cmp(&other.0));
    let finite = cumulated.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
    let greatest = finite.fold(0.0, f64::max);
    let (mut buckets, mut before) = (BTreeMap::new(), 0);
    for (bound, count) in cumulated {
        let bound = if bound.is_finite() { bound } else { greatest * 2.0 };
        *buckets.entry((bound * 1e6) as u32).or_default() += count.saturating_sub(before);
        before = before.max(count);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_come_out_of_buckets_once_each_and_not_of_the_past() {
        let mut histogram = Histogram::default();
        let above = f64::INFINITY;
        histogram.take(vec![(0.1, 5), (above, 9), (0.5, 8)]);
        assert_eq!(histogram.told, 0, "nobody asked for the past");
        histogram.take(vec![(0.1, 7), (0.5, 11), (above, 13)]);
        assert_eq!(histogram.kept, [100_000, 100_000, 500_000, 1_000_000]);
        histogram.take(vec![(0.1, 1), (0.5, 1), (above, 1)]);
        assert_eq!((histogram.told, histogram.kept[4]), (5, 100_000), "a pod that counts anew");
        histogram.take(vec![(0.1, 1), (0.5, 90_001), (above, 100_001)]);
        assert_eq!(histogram.kept.len(), LATENCIES_KEPT);
        let slow = histogram.kept.iter().filter(|us| **us == 500_000).count();
        assert!(slow.abs_diff(LATENCIES_KEPT * 9 / 10) < 5, "{slow}");
    }
}
