//! What the demonstration found, as an object and as words, and which promises were broken.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::demo::audit::{Findings, Sums};
use crate::demo::tally::Counts;

/// Everything that was counted. The names are those of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) rate: u32,
    /// From the first arrival until the load was stopped.
    pub(crate) seconds: f64,
    pub(crate) submitted: u64,
    pub(crate) answered: u64,
    pub(crate) succeeded: u64,
    pub(crate) rejected_by_policy: u64,
    pub(crate) declined: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    /// Arrivals that were not sent because too many payments were outstanding.
    pub(crate) not_sent: u64,
    pub(crate) retries: u64,
    pub(crate) workers_killed: u64,
    pub(crate) restarts: u64,
    pub(crate) lost: u64,
    pub(crate) charged_twice: u64,
    /// Charges without a captured payment.
    pub(crate) charged_only: u64,
    /// Captured payments without a charge.
    pub(crate) captured_only: u64,
    /// Payments whose outcome the service did not know when it stopped.
    pub(crate) unresolved_at_end: u64,
    /// Signals in flight after the last answer; absent if the board could not be read.
    pub(crate) in_flight_at_end: Option<u64>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) throughput_per_s: f64,
    /// How the service ended after SIGTERM; 0 is as it should be.
    pub(crate) service_exit: Option<i32>,
    pub(crate) sums: BTreeMap<String, Sums>,
    #[serde(skip)]
    pub(crate) books_agree: bool,
}

/// What stands in a report besides the clients' counts and the auditor's findings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) rate: u32,
    pub(crate) seconds: f64,
    pub(crate) workers_killed: u64,
    pub(crate) restarts: u64,
    pub(crate) in_flight_at_end: Option<u64>,
    pub(crate) service_exit: Option<i32>,
}

impl Report {
    /// Puts the three sources together.
    pub(crate) fn new(run: Run, counts: &Counts, findings: Findings) -> Self {
        Self {
            seed: run.seed,
            rate: run.rate,
            seconds: run.seconds,
            submitted: counts.submitted,
            answered: counts.answered(),
            succeeded: counts.succeeded,
            rejected_by_policy: counts.rejected,
            declined: counts.declined,
            refused: counts.refused,
            failed: counts.failed,
            not_sent: counts.not_sent,
            retries: counts.retries,
            workers_killed: run.workers_killed,
            restarts: run.restarts,
            lost: findings.lost,
            charged_twice: findings.charged_twice,
            charged_only: findings.charged_only,
            captured_only: findings.captured_only,
            unresolved_at_end: findings.unresolved,
            in_flight_at_end: run.in_flight_at_end,
            p50_ms: counts.p50_ms,
            p99_ms: counts.p99_ms,
            throughput_per_s: counts.answered() as f64 / run.seconds.max(f64::MIN_POSITIVE),
            service_exit: run.service_exit,
            books_agree: findings.books_agree(),
            sums: findings.sums,
        }
    }

    /// One sentence for each promise that was not kept.
    pub(crate) fn broken(&self) -> Vec<String> {
        let in_flight = match self.in_flight_at_end {
            Some(count) => format!("{count} signals are still in flight after the last answer"),
            None => "the board did not tell what is in flight after the last answer".to_owned(),
        };
        let exit = match self.service_exit {
            Some(code) => format!("the service exited with {code} after SIGTERM"),
            None => "the service did not exit by itself after SIGTERM".to_owned(),
        };
        let promises = [
            (
                self.answered == self.submitted,
                format!(
                    "{} of {} payments were never answered",
                    self.submitted - self.answered,
                    self.submitted
                ),
            ),
            (self.lost == 0, format!("{} payments answered with success are lost", self.lost)),
            (self.charged_twice == 0, format!("{} payments were charged twice", self.charged_twice)),
            (self.in_flight_at_end == Some(0), in_flight),
            (
                self.books_agree,
                format!(
                    "the books differ: {} charges without a payment, {} payments without a charge; see sums",
                    self.charged_only, self.captured_only
                ),
            ),
            (self.service_exit == Some(0), exit),
        ];
        promises.into_iter().filter(|(kept, _)| !kept).map(|(_, sentence)| sentence).collect()
    }

    /// The report for people.
    pub(crate) fn words(&self) -> String {
        let in_flight = self.in_flight_at_end.map_or("?".to_owned(), |count| count.to_string());
        let rows = [
            (
                "payments",
                format!("{} submitted, {} answered in {:.1} s", self.submitted, self.answered, self.seconds),
            ),
            (
                "answers",
                format!(
                    "{} succeeded, {} rejected by policy, {} declined, {} refused, {} failed",
                    self.succeeded, self.rejected_by_policy, self.declined, self.refused, self.failed
                ),
            ),
            ("clients", format!("{} retries, {} arrivals not sent", self.retries, self.not_sent)),
            (
                "latency",
                format!(
                    "p50 {:.1} ms, p99 {:.1} ms, {:.1} answers/s",
                    self.p50_ms, self.p99_ms, self.throughput_per_s
                ),
            ),
            ("faults", format!("{} workers killed, {} restarts", self.workers_killed, self.restarts)),
            (
                "books",
                format!(
                    "{} lost, {} charged twice, {} unresolved, {in_flight} in flight",
                    self.lost, self.charged_twice, self.unresolved_at_end
                ),
            ),
        ];
        let mut text = String::new();
        for (name, row) in rows {
            writeln!(text, "{name:<10}{row}").expect("writing to a string cannot fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Run = Run {
        seed: 7,
        rate: 200,
        seconds: 2.0,
        workers_killed: 3,
        restarts: 4,
        in_flight_at_end: Some(0),
        service_exit: Some(0),
    };

    fn counts() -> Counts {
        Counts {
            submitted: 10,
            succeeded: 6,
            rejected: 1,
            declined: 1,
            refused: 1,
            failed: 1,
            ..Counts::default()
        }
    }

    #[test]
    fn a_run_that_kept_its_promises_has_nothing_broken() {
        let report = Report::new(RUN, &counts(), Findings::default());
        assert_eq!(report.broken(), Vec::<String>::new());
        assert_eq!((report.answered, report.submitted), (10, 10));
        assert!((report.throughput_per_s - 5.0).abs() < 1e-9);
        assert!(report.words().lines().all(|line| line.len() <= 80), "{}", report.words());
    }

    #[test]
    fn each_broken_promise_is_a_sentence() {
        let unanswered = Counts { submitted: 12, ..counts() };
        let lost = Findings { lost: 1, ..Findings::default() };
        let twice = Findings { charged_twice: 2, ..Findings::default() };
        let stray = Findings { charged_only: 3, ..Findings::default() };
        for (run, counts, findings, sentence) in [
            (RUN, unanswered, Findings::default(), "2 of 12 payments were never answered"),
            (RUN, counts(), lost, "1 payments answered with success are lost"),
            (RUN, counts(), twice, "2 payments were charged twice"),
            (
                RUN,
                counts(),
                stray,
                "the books differ: 3 charges without a payment, 0 payments without a charge; see sums",
            ),
            (
                Run { in_flight_at_end: Some(4), ..RUN },
                counts(),
                Findings::default(),
                "4 signals are still in flight after the last answer",
            ),
            (
                Run { in_flight_at_end: None, ..RUN },
                counts(),
                Findings::default(),
                "the board did not tell what is in flight after the last answer",
            ),
            (
                Run { service_exit: None, ..RUN },
                counts(),
                Findings::default(),
                "the service did not exit by itself after SIGTERM",
            ),
        ] {
            assert_eq!(Report::new(run, &counts, findings).broken(), [sentence]);
        }
    }

    #[test]
    fn the_object_has_the_names_that_scripts_rely_on() {
        let json = serde_json::to_value(Report::new(RUN, &counts(), Findings::default())).unwrap();
        for name in [
            "submitted",
            "answered",
            "succeeded",
            "rejected_by_policy",
            "declined",
            "refused",
            "failed",
            "workers_killed",
            "restarts",
            "lost",
            "charged_twice",
            "in_flight_at_end",
            "p50_ms",
            "p99_ms",
            "throughput_per_s",
        ] {
            assert!(json[name].is_number(), "{name}");
        }
    }
}
