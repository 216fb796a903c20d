//! How the demonstration went: figures, and the promises they are held against.

use std::fmt::Write;

use serde::Serialize;

use crate::demo::DemoOptions;
use crate::demo::load::{OfVersion, Tallied};
use crate::store::Past;

/// The version that must not stay.
const BAD: &str = "v3";

/// What of a run is not in its tally.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) options: DemoOptions,
    pub(crate) history: Vec<Past>,
    pub(crate) stable: Option<String>,
    pub(crate) kills: Vec<(u64, u64)>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    seed: u64,
    seconds: u64,
    rate: u32,
    requests: u64,
    /// Of all versions and of nobody.
    failed_requests: u64,
    /// Of them, those that were not the bad version's own.
    failed_requests_of_good_versions: u64,
    /// 0 to 1.
    bad_version_share_of_requests: f64,
    /// From the first failure that a caller saw.
    detected_after_ms: Option<u64>,
    /// From that moment to the last request the bad version got.
    back_to_zero_after_ms: Option<u64>,
    /// What was done with the good version, step by step.
    stages: Vec<String>,
    rollbacks: u64,
    rollback_reason: Option<String>,
    manager_kills: usize,
    /// Requests that failed between a kill of the manager and a second after the next one listened.
    lost_requests_on_restart: u64,
    stable_version: Option<String>,
}

/// How long after a manager listens again a failure still counts as one of its restart.
const AFTERMATH_MS: u64 = 1_000;

impl Report {
    pub(crate) fn new(run: &Run, tallied: &Tallied) -> Self {
        let requests = tallied.requests();
        let failed: u64 = tallied.failures.len() as u64;
        let none = OfVersion::default();
        let bad = tallied.versions.get(BAD).unwrap_or(&none);
        let of_bad = run.history.iter().find(|past| past.to == BAD);
        let detected_unix_ms =
            of_bad.filter(|past| past.succeeded == Some(false)).and_then(|past| past.ended_unix_ms);
        let in_restart =
            |at: u64| run.kills.iter().any(|(killed, up)| (*killed..=up + AFTERMATH_MS).contains(&at));
        let good = run.history.iter().find(|past| past.to == "v2");
        Self {
            seed: run.options.seed,
            seconds: run.options.seconds,
            rate: run.options.rate,
            requests,
            failed_requests: failed,
            failed_requests_of_good_versions: failed - bad.failures,
            bad_version_share_of_requests: if requests == 0 {
                0.0
            } else {
                bad.requests as f64 / requests as f64
            },
            detected_after_ms: detected_unix_ms
                .zip(bad.first_failure_unix_ms)
                .map(|(detected, first)| detected.saturating_sub(first)),
            back_to_zero_after_ms: detected_unix_ms.map(|detected| bad.last_unix_ms.saturating_sub(detected)),
            stages: good
                .map(|past| past.steps.iter().map(|(_, what)| what.clone()).collect())
                .unwrap_or_default(),
            rollbacks: run.history.iter().filter(|past| past.succeeded == Some(false)).count() as u64,
            rollback_reason: of_bad.and_then(|past| past.why.clone()),
            manager_kills: run.kills.len(),
            lost_requests_on_restart: tallied.failures.iter().filter(|(at, _)| in_restart(*at)).count()
                as u64,
            stable_version: run.stable.clone(),
        }
    }

    /// The promises that were not kept.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut promise = |is_kept: bool, what: String| {
            if !is_kept {
                broken.push(what);
            }
        };
        promise(0 < self.requests, "nobody asked anything".to_owned());
        let failed = self.failed_requests_of_good_versions;
        promise(failed == 0, format!("{failed} requests failed that a good version should have answered"));
        promise(
            self.rollbacks == 1,
            format!("{} deliveries were taken back, not the bad one alone", self.rollbacks),
        );
        let stable = self.stable_version.as_deref().unwrap_or("nothing");
        promise(stable == "v2", format!("{stable} runs at the end, not v2"));
        promise(self.detected_after_ms.is_some(), "the bad version was not found".to_owned());
        let back = self.back_to_zero_after_ms.unwrap_or(0);
        promise(back <= 1_000, format!("the bad version had requests for {back} ms after it was found"));
        let lost = self.lost_requests_on_restart;
        promise(lost == 0, format!("{lost} requests failed while the manager was killed and started again"));
        broken
    }

    /// The report in words.
    pub(crate) fn words(&self) -> String {
        let mut text = String::new();
        let told = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{ms} ms"));
        let _ = writeln!(text, "{} requests at {}/s, seed {}", self.requests, self.rate, self.seed);
        for stage in &self.stages {
            let _ = writeln!(text, "  {stage}");
        }
        let _ = writeln!(text, "taken back         {}", self.rollback_reason.as_deref().unwrap_or("nothing"));
        for (name, value) in [
            (
                "failed requests",
                format!(
                    "{}, of good versions {}",
                    self.failed_requests, self.failed_requests_of_good_versions
                ),
            ),
            (
                "bad version saw",
                format!("{:.2} % of the requests", self.bad_version_share_of_requests * 100.0),
            ),
            ("detected after", told(self.detected_after_ms)),
            ("back to zero after", told(self.back_to_zero_after_ms)),
            (
                "manager killed",
                format!("{} times, {} requests lost", self.manager_kills, self.lost_requests_on_restart),
            ),
            ("runs now", self.stable_version.clone().unwrap_or_else(|| "nothing".to_owned())),
        ] {
            let _ = writeln!(text, "{name:<18} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(to: &str, succeeded: bool) -> Past {
        Past {
            id: to.to_owned(),
            from: Some("v1".to_owned()),
            to: to.to_owned(),
            begun_unix_ms: 0,
            ended_unix_ms: Some(9_000),
            is_begun: true,
            succeeded: Some(succeeded),
            why: (!succeeded).then(|| "it fails".to_owned()),
            steps: vec![(1, "a step".to_owned())],
        }
    }

    fn run() -> Run {
        let options = DemoOptions { seconds: 60, seed: 1, rate: 400, json: true };
        let history = vec![past("v3", false), past("v2", true)];
        Run { options, history, stable: Some("v2".to_owned()), kills: vec![(5_000, 6_000)] }
    }

    fn tallied() -> Tallied {
        let good = OfVersion { requests: 990, ..OfVersion::default() };
        let bad =
            OfVersion { requests: 10, failures: 2, first_failure_unix_ms: Some(8_000), last_unix_ms: 9_200 };
        let failures = vec![(8_000, Some("v3".to_owned())), (8_500, Some("v3".to_owned()))];
        let versions = [("v2".to_owned(), good), ("v3".to_owned(), bad)].into();
        Tallied { versions, failures, ..Tallied::default() }
    }

    #[test]
    fn the_figures_are_those_of_callers_and_record() {
        let report = Report::new(&run(), &tallied());
        assert_eq!((report.failed_requests, report.failed_requests_of_good_versions), (2, 0));
        assert_eq!((report.detected_after_ms, report.back_to_zero_after_ms), (Some(1_000), Some(200)));
        assert!((report.bad_version_share_of_requests - 0.01).abs() < 1e-9);
        assert_eq!((report.lost_requests_on_restart, report.broken()), (0, vec![]));
    }

    #[test]
    fn each_promise_can_be_broken() {
        let mut lost = tallied();
        lost.lost = OfVersion { requests: 1, failures: 1, ..OfVersion::default() };
        lost.failures.push((6_999, None));
        let report = Report::new(&run(), &lost);
        assert_eq!((report.lost_requests_on_restart, report.broken().len()), (1, 2));
        let mut late = tallied();
        late.versions.get_mut("v3").unwrap().last_unix_ms = 10_001;
        assert_eq!(Report::new(&run(), &late).broken().len(), 1);
        let unfound = Run { history: vec![past("v2", true)], stable: Some("v3".to_owned()), ..run() };
        assert_eq!(Report::new(&unfound, &tallied()).broken().len(), 3);
        assert_eq!(Report::new(&run(), &Tallied::default()).broken().len(), 2);
    }
}
