//! What is known of a candidate and its baseline, and what can be said from it at any look.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ab_test::{Observed, half_width};
use crate::proportion::{Z_95_ONE_SIDED, wilson};

/// How many times more failures than are tolerated the test for failures looks for. The evidence for each is
/// kept apart and averaged, so a small harm is found late and a large one at once.
const HARMS: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0];

/// Successes of each side before latencies are compared: the mean of fewer logarithms is not yet normal.
const LATENCIES_MIN: u64 = 100;

/// Failures among outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub failures: u64,
    pub outcomes: u64,
}

impl Count {
    pub(super) fn add(&mut self, failures: u64, outcomes: u64) {
        self.outcomes += outcomes;
        self.failures += failures.min(outcomes);
    }

    fn share(self) -> f64 {
        if self.outcomes == 0 { 0.0 } else { self.failures as f64 / self.outcomes as f64 }
    }
}

/// Candidate and baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair<T> {
    pub candidate: T,
    pub baseline: T,
}

/// Evidence that the candidate fails more often than is tolerated: a test that may be looked at any time.
///
/// If the candidate fails as often as the baseline, each failure is one of the candidate's with the probability
/// that is the candidate's share of the traffic. What the counts say against that, for each of [`HARMS`], is a
/// likelihood ratio; their mean stays below `1 / alpha` for ever with probability `1 − alpha` (Ville 1939),
/// whatever the rate of failures, however few they are, and however it drifts, because each look compares only
/// what came at the same time. The normal approximation of [`crate::ab_test`] does not hold for the
/// three failures a canary has shown when it should be stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FailureTest {
    /// Logarithms of the likelihood ratios.
    logs: [f64; HARMS.len()],
}

impl FailureTest {
    /// Weighs what came since the last look.
    pub(super) fn weigh(&mut self, new: Pair<Count>, tolerated: f64) {
        let Pair { candidate, baseline } = new;
        if candidate.outcomes == 0 || baseline.outcomes == 0 {
            return;
        }
        let odds = candidate.outcomes as f64 / baseline.outcomes as f64;
        let share = |ratio: f64| ratio * odds / (1.0 + ratio * odds);
        let expected = share(tolerated);
        for (log, harm) in self.logs.iter_mut().zip(HARMS) {
            let harmed = share(tolerated * harm);
            *log += candidate.failures as f64 * (harmed / expected).ln()
                + baseline.failures as f64 * ((1.0 - harmed) / (1.0 - expected)).ln();
        }
    }

    /// Whether chance explains it with less than `alpha`.
    pub(super) fn is_certain(&self, alpha: f64) -> bool {
        // As a sum of exponentials around the greatest, which cannot overflow.
        let greatest = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.logs.iter().map(|log| (log - greatest).exp()).sum();
        -alpha.ln() < greatest + (sum / HARMS.len() as f64).ln()
    }
}

/// Latencies of successes, in one stage: in another one the hour is another, and with it the baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LatencyTest(Pair<Observed>);

impl LatencyTest {
    pub(super) fn add(&mut self, is_candidate: bool, latency: Duration) {
        let side = if is_candidate { &mut self.0.candidate } else { &mut self.0.baseline };
        side.add(latency, true);
    }

    /// Whether the candidate is slower by more than `tolerated` and chance explains it with less than `alpha`,
    /// at all looks together.
    pub(super) fn is_certain(&self, tolerated: f64, alpha: f64) -> bool {
        let Pair { candidate, baseline } = &self.0;
        if candidate.successes.min(baseline.successes) < LATENCIES_MIN {
            return false;
        }
        let slower = candidate.mean_log - baseline.mean_log;
        let variance = candidate.latency_variance() + baseline.latency_variance();
        let least = tolerated.ln();
        least < slower - half_width(variance, least, alpha)
    }
}

/// The most by which the candidate's share of failures is above the baseline's, at 95 %.
///
/// Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
pub(super) fn excess_at_most(counts: Pair<Count>) -> f64 {
    let Pair { candidate, baseline } = counts;
    let most = wilson(candidate.failures, candidate.outcomes, Z_95_ONE_SIDED).high;
    let least = wilson(baseline.failures, baseline.outcomes, Z_95_ONE_SIDED).low;
    let (here, there) = (candidate.share(), baseline.share());
    here - there + (most - here).hypot(there - least)
}

/// The least by which it is above, at 95 %.
pub(super) fn excess_at_least(counts: Pair<Count>) -> f64 {
    let Pair { candidate, baseline } = counts;
    -excess_at_most(Pair { candidate: baseline, baseline: candidate })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(candidate: (u64, u64), baseline: (u64, u64)) -> Pair<Count> {
        let count = |(failures, outcomes)| Count { failures, outcomes };
        Pair { candidate: count(candidate), baseline: count(baseline) }
    }

    #[test]
    fn the_difference_of_shares_is_that_of_the_published_table() {
        // Newcombe 1998, table II, 56/70 − 48/80, method 10 at 95 % two-sided: 0.0524 to 0.3339. At the
        // one-sided quantile the interval is narrower, and inside.
        let counts = pair((56, 70), (48, 80));
        let (low, high) = (excess_at_least(counts), excess_at_most(counts));
        assert!(0.0524 < low && low < 0.2 && 0.2 < high && high < 0.3339, "{low} to {high}");
    }

    #[test]
    fn one_side_without_traffic_is_no_evidence() {
        for counts in [pair((50, 50), (0, 0)), pair((0, 0), (50, 50)), pair((0, 0), (0, 0))] {
            let mut test = FailureTest::default();
            test.weigh(counts, 1.0);
            assert_eq!(test, FailureTest::default());
        }
    }

    #[test]
    fn few_failures_are_enough_when_all_are_the_candidates() {
        for (failures, certain) in [(1, false), (2, false), (3, true)] {
            let mut test = FailureTest::default();
            test.weigh(pair((failures, 100), (0, 1_900)), 1.2);
            assert_eq!(test.is_certain(0.005), certain, "{failures} of 100, against 0 of 1900");
        }
        // A thousand failures of each are harmless.
        let mut test = FailureTest::default();
        test.weigh(pair((1_000, 10_000), (1_000, 10_000)), 1.2);
        assert!(!test.is_certain(0.5));
    }
}
