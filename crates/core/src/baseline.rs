//! Baselines: how fast an operation was when it was good, and whether it is slower now than chance explains.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::sample::Sample;
use crate::view::BaselineView;

/// The version of the file of baselines; a file of another version is not read.
pub const FORMAT: u32 = 1;

/// When a window is a regression.
///
/// # Units and limits
///
/// By default a p95 more than 10 % above the baseline's and a tendency upwards that chance explains in less
/// than 1 of 100 cases (Mann–Whitney), and at least 500 outcomes on both sides. Source: FLOW.md, kaizen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BaselineRules {
    worse_ratio: f64,
    chance: f64,
    outcomes_min: u64,
}

impl Default for BaselineRules {
    fn default() -> Self {
        Self { worse_ratio: 0.10, chance: 0.01, outcomes_min: 500 }
    }
}

/// Why settings do not make rules for baselines.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "worse by {worse_ratio}, chance {chance}, {outcomes_min} outcomes: give a ratio above 0 up to 10, a chance above 0 up to 0.2, and at least 50 outcomes"
)]
pub struct BaselineRulesError {
    /// By which share of the baseline the p95 may be above it.
    pub worse_ratio: f64,
    /// How likely chance may explain a regression.
    pub chance: f64,
    /// Outcomes a window needs.
    pub outcomes_min: u64,
}

impl BaselineRules {
    /// Outcomes a window needs.
    pub const fn outcomes_min(&self) -> u64 {
        self.outcomes_min
    }

    /// Rules of one's own: by which share of the baseline the p95 may be above it, how likely chance may
    /// explain what is called a regression, and how many outcomes a window needs.
    ///
    /// # Errors
    ///
    /// [`BaselineRulesError`] with the values and their ranges.
    pub fn new(worse_ratio: f64, chance: f64, outcomes_min: u64) -> Result<Self, BaselineRulesError> {
        let fits =
            0.0 < worse_ratio && worse_ratio <= 10.0 && 0.0 < chance && chance <= 0.2 && 50 <= outcomes_min;
        if fits {
            Ok(Self { worse_ratio, chance, outcomes_min })
        } else {
            Err(BaselineRulesError { worse_ratio, chance, outcomes_min })
        }
    }
}

/// One window of an operation: its latencies, and how long it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// The latencies of what was worked on.
    pub latencies: Sample,
    /// How long was measured, in milliseconds.
    pub lasted_ms: u64,
}

impl Measured {
    /// Outcomes per second.
    pub fn rate_per_s(&self) -> f64 {
        self.latencies.count() as f64 * 1e3 / self.lasted_ms.max(1) as f64
    }
}

/// How an operation was, with where and when that was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The build that was measured.
    pub build: Arc<str>,
    /// Outcomes per second.
    pub rate_per_s: f64,
    /// Median latency in microseconds.
    pub p50_us: u64,
    /// 95th percentile.
    pub p95_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The latencies themselves, to be compared with.
    pub latencies: Sample,
}

impl Baseline {
    /// A baseline from a window.
    pub fn new(measured: Measured, build: Arc<str>, unix_ms: u64) -> Self {
        let quantile = |share| measured.latencies.quantile_us(share);
        Self {
            unix_ms,
            build,
            rate_per_s: measured.rate_per_s(),
            p50_us: quantile(0.50),
            p95_us: quantile(0.95),
            p99_us: quantile(0.99),
            latencies: measured.latencies,
        }
    }
}

impl From<&Baseline> for BaselineView {
    fn from(baseline: &Baseline) -> Self {
        let milli = |micros: u64| micros as f64 / 1e3;
        Self {
            unix_ms: baseline.unix_ms,
            build: baseline.build.clone(),
            rate_per_s: baseline.rate_per_s,
            p50_ms: milli(baseline.p50_us),
            p95_ms: milli(baseline.p95_us),
            p99_ms: milli(baseline.p99_us),
        }
    }
}

/// How a window stands against the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "comparison", rename_all = "snake_case")]
#[must_use = "a comparison changes nothing by itself"]
pub enum Comparison {
    /// There are too few outcomes to say anything.
    TooFew {
        /// Outcomes there are.
        outcomes: u64,
        /// Outcomes it takes.
        needed: u64,
    },
    /// It is as good as the baseline, or better, or chance may explain the difference.
    Sound {
        /// The p95 over the baseline's.
        p95_ratio: f64,
    },
    /// It is slower.
    Regression {
        /// The p95 over the baseline's.
        p95_ratio: f64,
        /// How likely chance explains it.
        chance: f64,
    },
}

/// Compares a window with a baseline. Both conditions must hold: a small difference is certain in a large
/// sample, and a large one may be chance in a small sample.
pub fn compare(baseline: &Baseline, now: &Measured, rules: &BaselineRules) -> Comparison {
    let outcomes = now.latencies.count().min(baseline.latencies.count());
    if outcomes < rules.outcomes_min {
        return Comparison::TooFew { outcomes, needed: rules.outcomes_min };
    }
    let p95_ratio = now.latencies.quantile_us(0.95) as f64 / baseline.p95_us.max(1) as f64;
    if p95_ratio <= 1.0 + rules.worse_ratio {
        return Comparison::Sound { p95_ratio };
    }
    let chance = now.latencies.tends_above(&baseline.latencies);
    if chance < rules.chance {
        Comparison::Regression { p95_ratio, chance }
    } else {
        Comparison::Sound { p95_ratio }
    }
}

/// The baselines of a node, as they stand in their file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    format: u32,
    operations: BTreeMap<Name, Baseline>,
}

/// Why a file of baselines was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file of baselines has format {found}, this version reads {FORMAT}; move it away to begin anew")]
pub struct FormatError {
    /// The format of the file.
    pub found: u32,
}

impl Baselines {
    /// No baselines.
    pub const fn new() -> Self {
        Self { format: FORMAT, operations: BTreeMap::new() }
    }

    /// Refuses what another version wrote.
    ///
    /// # Errors
    ///
    /// [`FormatError`] names the version.
    pub fn check(self) -> Result<Self, FormatError> {
        if self.format == FORMAT { Ok(self) } else { Err(FormatError { found: self.format }) }
    }

    /// The baseline of an operation.
    pub fn get(&self, operation: &Name) -> Option<&Baseline> {
        self.operations.get(operation)
    }

    /// Sets the baseline of an operation.
    pub fn set(&mut self, operation: Name, baseline: Baseline) {
        self.operations.insert(operation, baseline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 000 latencies around a median in microseconds, spread evenly over a factor of four.
    fn around(median: u64) -> Measured {
        let latencies = (0..2_000u64).map(|i| (median / 2 + median * 3 / 2 * i / 2_000, 1)).collect();
        Measured { latencies, lasted_ms: 10_000 }
    }

    fn baseline(median: u64) -> Baseline {
        Baseline::new(around(median), "0.1.0".into(), 7)
    }

    #[test]
    fn a_window_is_worse_only_if_it_is_much_and_certainly_worse() {
        let rules = BaselineRules::default();
        let then = baseline(10_000);
        assert_eq!((then.rate_per_s, then.p95_us), (200.0, then.latencies.quantile_us(0.95)));
        for (median, is_worse) in
            [(10_000, false), (5_000, false), (10_900, false), (11_200, true), (30_000, true)]
        {
            let comparison = compare(&then, &around(median), &rules);
            assert_eq!(
                matches!(comparison, Comparison::Regression { .. }),
                is_worse,
                "{median}: {comparison:?}"
            );
        }
    }

    #[test]
    fn a_longer_tail_of_what_is_faster_otherwise_is_another_shape_and_no_regression() {
        let mut now = around(6_000);
        now.latencies.add(100_000, 110);
        let comparison = compare(&baseline(10_000), &now, &BaselineRules::default());
        assert!(matches!(comparison, Comparison::Sound { p95_ratio } if 1.1 < p95_ratio), "{comparison:?}");
    }

    #[test]
    fn too_few_outcomes_accuse_nobody() {
        let few = Measured { latencies: [(1_000_000, 499)].into_iter().collect(), lasted_ms: 1 };
        let expected = Comparison::TooFew { outcomes: 499, needed: 500 };
        assert_eq!(compare(&baseline(10_000), &few, &BaselineRules::default()), expected);
    }

    #[test]
    fn baselines_outlive_the_process_and_another_format_is_refused() {
        let mut baselines = Baselines::new();
        baselines.set("payment".parse().unwrap(), baseline(10_000));
        let text = serde_json::to_string(&baselines).unwrap();
        let read: Baselines = serde_json::from_str(&text).unwrap();
        assert_eq!(read.check().unwrap(), baselines);
        let other: Baselines = serde_json::from_str(&text.replace("\"format\":1", "\"format\":2")).unwrap();
        assert_eq!(other.check(), Err(FormatError { found: 2 }));
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for (ratio, chance, outcomes) in
            [(0.0, 0.01, 500), (f64::NAN, 0.01, 500), (0.1, 0.0, 500), (0.1, 0.3, 500), (0.1, 0.01, 49)]
        {
            assert!(BaselineRules::new(ratio, chance, outcomes).is_err());
        }
        assert_eq!(BaselineRules::new(0.1, 0.01, 500).unwrap(), BaselineRules::default());
    }
}
