//! What an experiment found: figures with their spread, targets, and ratios with an interval.

use gemba::sim::draw::Draw;
use gemba::sim::experiments::{Spread, Target};

/// One figure of an experiment.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    /// Under which circumstances.
    pub case: String,
    /// What the figure is, with its unit.
    pub figure: &'static str,
    /// What ours should be; without one the figure is there to be known.
    pub target: Option<Target>,
    pub ours: Spread,
    pub others: Vec<(&'static str, Spread)>,
    /// Ours over an anchor's, pair by pair.
    pub ratio: Option<Ratio>,
    /// Why the target is missed, where the experiment itself says so.
    pub known: Option<&'static str>,
}

/// Ours over an anchor's, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub anchor: &'static str,
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Finding {
    pub(crate) fn new(case: impl Into<String>, figure: &'static str, ours: Vec<f64>) -> Self {
        let (case, ours) = (case.into(), Spread::of(ours));
        Self { case, figure, target: None, ours, others: Vec::new(), ratio: None, known: None }
    }

    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.target = Some(Target::AtLeast(least));
        self
    }

    pub(crate) fn at_most(mut self, most: f64) -> Self {
        self.target = Some(Target::AtMost(most));
        self
    }

    pub(crate) fn beside(mut self, name: &'static str, figures: Vec<f64>) -> Self {
        if !figures.is_empty() {
            self.others.push((name, Spread::of(figures)));
        }
        self
    }

    pub(crate) fn is_met(&self) -> bool {
        self.target.is_none_or(|target| target.is_met(self.ours))
    }
}

impl Ratio {
    /// Of pairs from the same repetition, one at least; `None` where the anchor has nothing to divide by.
    pub(crate) fn of(anchor: &'static str, pairs: &[(f64, f64)]) -> Option<Self> {
        let ratios: Vec<f64> =
            pairs.iter().filter(|(_, theirs)| 0.0 < *theirs).map(|(ours, theirs)| ours / theirs).collect();
        if ratios.is_empty() {
            return None;
        }
        let mut draw = Draw::new(1, 0);
        let mut medians: Vec<f64> = (0..RESAMPLES).map(|_| median(resample(&ratios, &mut draw))).collect();
        medians.sort_by(f64::total_cmp);
        let at = |share: f64| medians[(share * (RESAMPLES - 1) as f64).round() as usize];
        Some(Self { anchor, median: median(ratios), low: at(0.025), high: at(0.975) })
    }
}

/// Resamples of a bootstrap: enough for the ends of a 95 % interval.
const RESAMPLES: usize = 2_000;

fn resample(ratios: &[f64], draw: &mut Draw) -> Vec<f64> {
    let pick = |_| ratios[(draw.uniform() * ratios.len() as f64) as usize];
    (0..ratios.len()).map(pick).collect()
}

pub(crate) fn median(figures: Vec<f64>) -> f64 {
    Spread::of(figures).median
}

/// The value below which `share` of the sorted figures lie; 0 without figures.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// One experiment.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub number: &'static str,
    pub title: &'static str,
    pub findings: Vec<Finding>,
    /// Files and what is in them.
    pub plots: Vec<(&'static str, String)>,
    /// Runs, and those of them that were void.
    pub runs: usize,
    pub voids: usize,
    /// Void runs that count all the same, because making them again did not help.
    pub kept: usize,
    /// The 99th percentiles of the generator's lag, of runs that count, in ms.
    pub lags_ms: Vec<f64>,
    /// How many times as long as on the machine of its targets everything takes on this one, where that counts.
    pub slower: Option<f64>,
    /// What the reader has to know of how it was done.
    pub note: &'static str,
}

impl Report {
    /// Whether more than half of the runs that count are void: what they say, they say of the machine.
    pub(crate) fn is_void(&self) -> bool {
        self.lags_ms.len() < 2 * self.kept
    }

    /// What was measured in the runs of another one.
    pub(crate) fn measured_with(mut self, other: &Self) -> Self {
        (self.kept, self.lags_ms) = (other.kept, other.lags_ms.clone());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_ratio_holds_its_median_and_narrows_with_agreement() {
        let loose = Ratio::of("x", &[(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (5.0, 1.0)]).unwrap();
        assert!(loose.low <= loose.median && loose.median <= loose.high && 1.0 < loose.high - loose.low);
        let tight = Ratio::of("x", &[(2.0, 1.0); 5]).unwrap();
        assert_eq!((tight.low.to_bits(), tight.high.to_bits()), (2f64.to_bits(), 2f64.to_bits()));
        assert_eq!(Ratio::of("x", &[(1.0, 0.0)]), None);
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| quantile(&sorted, share) as u32), [50, 99, 100]);
        assert_eq!(quantile(&[], 0.5) as u32, 0);
    }
}
