//! Defects per million, what they prove, and when a version is to be recalled.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::normal::quantile;
use crate::proportion::{Interval, Z_95, Z_95_ONE_SIDED, wilson};

/// The aim of six sigma: defects per million opportunities.
pub const TARGET_DPMO: f64 = 3.4;

/// By how many standard deviations a process is assumed to drift in the long run. It is part of every
/// published sigma level: 3.4 defects per million are six sigma with it, and 4.5 without.
pub const SHIFT: f64 = 1.5;

/// Above which share of failures a version is recalled. Source: the assessment's first recall criterion.
pub const RECALL_FAILURES: f64 = 0.001;

/// Defects among opportunities. An opportunity is a signal that was worked on; refusals, rejections and what
/// the caller gave up are none, or shedding load would count as failing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "dpmo")]
pub struct Quality {
    /// Opportunities that failed.
    pub defects: u64,
    /// All of them.
    pub opportunities: u64,
}

impl Quality {
    /// Defects per million opportunities; `None` without an opportunity.
    pub fn dpmo(self) -> Option<f64> {
        (0 < self.opportunities).then(|| self.share() * 1e6)
    }

    /// The defects per million that explain the count, with a confidence of 95 % (Wilson's interval).
    pub fn interval(self) -> Interval {
        let Interval { low, high } = wilson(self.defects, self.opportunities, Z_95);
        Interval { low: low * 1e6, high: high * 1e6 }
    }

    /// The sigma level in the long run, the shift of [`SHIFT`] added as usual; `None` without an
    /// opportunity. Without a defect it is the level that is proven.
    pub fn sigma(self) -> Option<f64> {
        (0 < self.opportunities).then(|| {
            let share = if self.defects == 0 { self.proven_dpmo() / 1e6 } else { self.share() };
            (quantile(1.0 - share.min(1.0)) + SHIFT).max(0.0)
        })
    }

    /// The least number of defects per million that this many opportunities prove it to stay below, with a
    /// confidence of 95 % (one-sided; without a defect the rule of three).
    pub fn proven_dpmo(self) -> f64 {
        if self.opportunities == 0 {
            return 1e6;
        }
        let of_three = 3.0 / self.opportunities as f64;
        let high = wilson(self.defects, self.opportunities, Z_95_ONE_SIDED).high;
        high.max(of_three).min(1.0) * 1e6
    }

    /// Whether it is proven to stay at or below `dpmo`: a claim that fewer opportunities cannot carry is not
    /// made. For 3.4 it takes 882 353 opportunities without a single defect.
    pub fn proves(self, dpmo: f64) -> bool {
        self.proven_dpmo() <= dpmo
    }

    fn share(self) -> f64 {
        self.defects.min(self.opportunities) as f64 / self.opportunities as f64
    }
}

/// What a node knows that may make a version be recalled. `None` where nothing measures it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecallFacts {
    /// How the work ended.
    pub quality: Quality,
    /// Accepted signals of which the answer was lost.
    pub lost: Option<u64>,
    /// Confirmed breaches of security.
    pub breaches: Option<u64>,
    /// Failures of services above that ours have caused.
    pub upstream: Option<u64>,
}

/// A reason to recall a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recall {
    /// More than [`RECALL_FAILURES`] fail, beyond chance.
    Failures,
    /// Something accepted was lost.
    Loss,
    /// Security was breached.
    Breach,
    /// Failures passed the own boundary.
    Upstream,
}

/// Whether a criterion is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// It is: recall.
    Met,
    /// It is not.
    NotMet,
    /// Nothing here measures it: a person has to answer.
    NotMeasured,
}

impl Recall {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Failures, Self::Loss, Self::Breach, Self::Upstream];

    /// Whether these facts meet it.
    pub fn judge(self, facts: &RecallFacts) -> Criterion {
        let counted = |count: Option<u64>| match count {
            None => Criterion::NotMeasured,
            Some(0) => Criterion::NotMet,
            Some(_) => Criterion::Met,
        };
        match self {
            Self::Failures if facts.quality.opportunities == 0 => Criterion::NotMeasured,
            Self::Failures if RECALL_FAILURES * 1e6 < facts.quality.interval().low => Criterion::Met,
            Self::Failures => Criterion::NotMet,
            Self::Loss => counted(facts.lost),
            Self::Breach => counted(facts.breaches),
            Self::Upstream => counted(facts.upstream),
        }
    }

    /// What follows.
    pub const fn response(self) -> &'static str {
        match self {
            Self::Failures => "roll this version back everywhere, or repair it at once",
            Self::Loss => "tell those concerned, restore what can be restored, repair this deployment",
            Self::Breach => "repair every version concerned, and disclose",
            Self::Upstream => "roll back; failures must end at the own boundary",
        }
    }
}

impl fmt::Display for Recall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failures => "more than 0.1 % of the work fails",
            Self::Loss => "something accepted was lost",
            Self::Breach => "security was breached",
            Self::Upstream => "services above failed because of ours",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn quality(defects: u64, opportunities: u64) -> Quality {
        Quality { defects, opportunities }
    }

    #[test]
    fn sigma_levels_are_those_of_the_published_table() {
        // The usual conversion table with the shift of 1.5.
        for (dpmo, sigma) in [(3.4, 6.0), (233.0, 5.0), (6_210.0, 4.0), (66_807.0, 3.0), (308_538.0, 2.0)] {
            let level = quality((dpmo * 1e3) as u64, 1_000_000_000).sigma().unwrap();
            assert!((level - sigma).abs() < 0.005, "{dpmo}: {level}");
        }
        assert_eq!(quality(0, 0).sigma(), None);
        assert_eq!(quality(10, 10).sigma(), Some(0.0));
    }

    #[test]
    fn six_sigma_is_not_claimed_from_too_few() {
        assert!(!quality(0, 750_000).proves(TARGET_DPMO));
        assert!(!quality(0, 882_352).proves(TARGET_DPMO));
        assert!(quality(0, 882_353).proves(TARGET_DPMO));
        assert!(!quality(3, 1_000_000).proves(TARGET_DPMO), "3 per million seen are not 3.4 proven");
        assert!(quality(3, 10_000_000).proves(TARGET_DPMO));
        assert!(!quality(0, 0).proves(999_999.0));
    }

    #[test]
    fn defects_per_million_come_with_their_interval() {
        let quality = quality(300, 1_000_000);
        assert_eq!(quality.dpmo(), Some(300.0));
        let Interval { low, high } = quality.interval();
        assert!(267.0 < low && low < 268.5 && 335.0 < high && high < 337.0, "{low} {high}");
    }

    #[test]
    fn a_version_is_recalled_for_what_is_beyond_chance_and_nobody_guesses() {
        let facts = |defects, opportunities| RecallFacts {
            quality: quality(defects, opportunities),
            ..RecallFacts::default()
        };
        for (defects, opportunities, expected) in [
            (0, 0, Criterion::NotMeasured),
            (1, 500, Criterion::NotMet),
            (100, 100_000, Criterion::NotMet),
            (130, 100_000, Criterion::Met),
        ] {
            assert_eq!(Recall::Failures.judge(&facts(defects, opportunities)), expected, "{defects}");
        }
        for (lost, expected) in
            [(None, Criterion::NotMeasured), (Some(0), Criterion::NotMet), (Some(1), Criterion::Met)]
        {
            assert_eq!(Recall::Loss.judge(&RecallFacts { lost, ..RecallFacts::default() }), expected);
        }
        assert_eq!(Recall::Breach.judge(&facts(0, 1)), Criterion::NotMeasured);
    }
}
