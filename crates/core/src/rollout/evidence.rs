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

    pub(super) fn share(self) -> f64 {
        if self.outcomes == 0 { 0.0 } else { self.failures as f64 / self.outcomes as f64 }
    }
}

/// Candidate and baseline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pair<T> {
    pub candidate: T,
    pub baseline: T,
}

/// How likely harm, if there is any, is there from the first look on.
const AT_ONCE: f64 = 0.9;

/// What the looks say, for each of some harms, against there being none: a test that may be looked at any time.
///
/// The likelihood ratio of a harm that was there from some look on, averaged over all looks at which it may have
/// begun, with weights that sum to one, stays below `1 / alpha` for ever with probability `1 − alpha` if there is no
/// harm (Ville 1939), and so does the mean over the harms. Nine tenths of the weight lie on the first look: harm
/// comes with the version. The rest falls with the square of the number of the look: what began later is found too,
/// and the good hours before it do not have to be made up for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Evidence {
    looks: u64,
    /// Logarithms of the averaged ratios.
    logs: [f64; HARMS.len()],
}

impl Evidence {
    /// Takes one look: the logarithm of its likelihood ratio for each of [`HARMS`].
    fn look(&mut self, ratios: [f64; HARMS.len()]) {
        self.looks += 1;
        let looks = self.looks as f64;
        let weight = if self.looks == 1 { AT_ONCE } else { (1.0 - AT_ONCE) / (looks * (looks - 1.0)) };
        for (log, ratio) in self.logs.iter_mut().zip(ratios) {
            let before = if self.looks == 1 { f64::NEG_INFINITY } else { *log };
            *log = log_of_sum(&[before, weight.ln()]) + ratio;
        }
    }

    /// Whether chance explains it with less than `alpha`.
    fn is_certain(&self, alpha: f64) -> bool {
        // What is yet to begin has a ratio of one.
        let rest = if self.looks == 0 { 1.0 } else { (1.0 - AT_ONCE) / self.looks as f64 };
        let mean = log_of_sum(&self.logs) - (HARMS.len() as f64).ln();
        let all = if self.looks == 0 { 0.0 } else { log_of_sum(&[mean, rest.ln()]) };
        -alpha.ln() < all
    }
}

/// The logarithm of a sum of exponentials, around the greatest, which cannot overflow.
fn log_of_sum(logs: &[f64]) -> f64 {
    let greatest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    greatest + logs.iter().map(|log| (log - greatest).exp()).sum::<f64>().ln()
}

/// Evidence that the candidate fails more often than is tolerated, compared with the baseline.
///
/// If the candidate fails as often as the baseline, each failure is one of the candidate's with the probability
/// that is the candidate's share of the traffic: whatever the rate of failures, however few they are, and however it
/// drifts, because each look compares only what came at the same time. The normal approximation of
/// [`crate::ab_test`] does not hold for the three failures a canary has shown when it should be stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FailureTest(Evidence);

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
        self.0.look(HARMS.map(|harm| {
            let harmed = share(tolerated * harm);
            candidate.failures as f64 * (harmed / expected).ln()
                + baseline.failures as f64 * ((1.0 - harmed) / (1.0 - expected)).ln()
        }));
    }

    /// Whether chance explains it with less than `alpha`.
    pub(super) fn is_certain(&self, alpha: f64) -> bool {
        self.0.is_certain(alpha)
    }
}

/// Evidence that a share is above a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LimitTest(Evidence);

/// The greatest share the test looks for: one of 1 would be refuted by a single success.
const SHARE_MAX: f64 = 0.99;

impl LimitTest {
    /// Weighs what came since the last look.
    pub(super) fn weigh(&mut self, new: Count, limit: f64) {
        if new.outcomes == 0 {
            return;
        }
        let (failures, others) = (new.failures as f64, (new.outcomes - new.failures) as f64);
        self.0.look(HARMS.map(|harm| {
            let share = (limit * harm).min(SHARE_MAX);
            failures * (share / limit).ln() + others * ((1.0 - share) / (1.0 - limit)).ln()
        }));
    }

    /// Whether chance explains it with less than `alpha`.
    pub(super) fn is_certain(&self, alpha: f64) -> bool {
        self.0.is_certain(alpha)
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

/// Successes of the baseline before its 99th percentile is known: ten above it.
const TAIL_MIN: u64 = 1_000;

/// The width of a class of latencies, as a ratio, and the longest that has one.
const CLASS: f64 = 1.1;
const CLASSED_MAX: Duration = Duration::from_secs(3_600);

/// Evidence that more of the candidate's successes are very slow: those that take longer than the 99th percentile of
/// the baseline, by more than is tolerated. A mean does not show them: three times the time for two in a hundred is
/// two percent more of its logarithm.
///
/// The bound is what was known before a look, and what comes until the next one is compared with it: so, whatever the
/// latencies are, each success above it is the candidate's with the probability that is its share, as in
/// [`FailureTest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TailTest {
    /// How many latencies of the baseline are in each class.
    classes: Vec<u64>,
    bound: Option<Duration>,
    new: Pair<Count>,
    evidence: FailureTest,
}

impl TailTest {
    pub(super) fn add(&mut self, is_candidate: bool, latency: Duration) {
        if !is_candidate {
            // A microsecond is the first, an hour the 231st.
            let class =
                ((latency.as_micros().clamp(1, CLASSED_MAX.as_micros()) as f64).ln() / CLASS.ln()) as usize;
            if self.classes.len() <= class {
                self.classes.resize(class + 1, 0);
            }
            self.classes[class] += 1;
        }
        let Some(bound) = self.bound else { return };
        let side = if is_candidate { &mut self.new.candidate } else { &mut self.new.baseline };
        side.add(u64::from(bound < latency), 1);
    }

    /// Weighs what came since the last look; `tolerated` times as many as the baseline's may be above `slower` times
    /// its 99th percentile.
    pub(super) fn weigh(&mut self, tolerated: f64, slower: f64) {
        self.evidence.weigh(std::mem::take(&mut self.new), tolerated);
        let all: u64 = self.classes.iter().sum();
        if all < TAIL_MIN {
            return;
        }
        let mut below = all - all / 100;
        let last = self.classes.iter().position(|count| {
            below = below.saturating_sub(*count);
            below == 0
        });
        // Its upper end.
        let end_us = |class: usize| ((class + 1) as f64 * CLASS.ln()).exp();
        self.bound = last.map(|class| Duration::from_secs_f64(end_us(class) * slower / 1e6));
    }

    /// Whether chance explains it with less than `alpha`.
    pub(super) fn is_certain(&self, alpha: f64) -> bool {
        self.evidence.is_certain(alpha)
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

    #[test]
    fn an_hour_without_harm_does_not_hide_what_begins_then() {
        let mut test = FailureTest::default();
        for _ in 0..3_600 {
            test.weigh(pair((1, 100), (19, 1_900)), 1.2);
        }
        let looks = (1..100).find(|_| {
            test.weigh(pair((10, 100), (19, 1_900)), 1.2);
            test.is_certain(0.005)
        });
        assert!(looks.is_some_and(|looks| looks <= 3), "{looks:?} looks");
    }

    #[test]
    fn a_share_at_its_limit_is_no_harm_and_one_of_twice_the_limit_is() {
        let mut at_the_limit = LimitTest::default();
        for _ in 0..10_000 {
            at_the_limit.weigh(Count { failures: 5, outcomes: 100 }, 0.05);
            assert!(!at_the_limit.is_certain(0.005));
        }
        let mut above = LimitTest::default();
        let looks = (1..100).find(|_| {
            above.weigh(Count { failures: 10, outcomes: 100 }, 0.05);
            above.is_certain(0.005)
        });
        assert!(looks.is_some_and(|looks| looks < 10), "{looks:?} looks of 100 requests");
        let mut all = LimitTest::default();
        all.weigh(Count { failures: 4, outcomes: 4 }, 0.05);
        assert!(all.is_certain(0.005), "four of four");
    }
}
