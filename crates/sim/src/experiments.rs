//! The experiments of FLOW-EVIDENCE.md, 4.2, that virtual time can decide: figure, target, verdict.
//!
//! Each is a function from a [`Scale`] to an [`Experiment`], listed in [`ALL`]. What costs real time (refusals,
//! contention, work that keeps a processor busy) is no question for this crate; whoever measures it over the
//! real actors makes the same [`Experiment`]s, with [`Clock::Wall`], and prints them with the same
//! [`table`].

use std::time::Duration;

use crate::contenders::Contender;

pub mod determinism;
pub mod goodput;
pub mod priority;
pub mod spike;
pub mod storm;
pub mod table;

/// How much of it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// How often, each time from another seed.
    pub seeds: u64,
    /// How long one load is measured.
    pub measured: Duration,
    /// How long one load lasts before that.
    pub warm_up: Duration,
    /// How long recoveries are watched.
    pub watched: Duration,
    /// Signals of the test that an idle pool refuses nobody.
    pub idle_signals: u32,
}

impl Scale {
    /// As the targets were set: five seeds, a minute a load, 150 s of watching.
    pub const FULL: Self = Self {
        seeds: 5,
        measured: Duration::from_secs(60),
        warm_up: Duration::from_secs(15),
        watched: Duration::from_secs(150),
        idle_signals: 2_000_000,
    };
}

/// What time its figures were taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The simulation's.
    Virtual,
    /// A real one.
    Wall,
}

/// The median of some repetitions, and the range they lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of some figures, one at least. Infinite ones stand for "never".
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let median = figures[figures.len() / 2];
        Self { median, least: figures[0], most: figures[figures.len() - 1] }
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// That much or more.
    AtLeast(f64),
    /// That much or less.
    AtMost(f64),
}

impl Target {
    /// Whether the median meets it.
    pub fn is_met(self, spread: Spread) -> bool {
        match self {
            Self::AtLeast(least) => least <= spread.median,
            Self::AtMost(most) => spread.median <= most,
        }
    }
}

/// One figure of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Under which circumstances.
    pub case: String,
    /// What the figure is.
    pub figure: &'static str,
    /// What ours should be.
    pub target: Target,
    /// What ours is.
    pub ours: Spread,
    /// What the others' is.
    pub others: Vec<(&'static str, Spread)>,
}

impl Row {
    /// Whether ours is as it should be.
    pub fn is_met(&self) -> bool {
        self.target.is_met(self.ours)
    }
}

/// One experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its number in FLOW-EVIDENCE.md.
    pub number: &'static str,
    /// What it asks.
    pub title: &'static str,
    /// What its figures were taken in.
    pub clock: Clock,
    /// Its figures.
    pub rows: Vec<Row>,
    /// Plots, by the name of their files.
    pub plots: Vec<(&'static str, String)>,
}

impl Experiment {
    /// Whether ours is as it should be in all of it.
    pub fn is_met(&self) -> bool {
        self.rows.iter().all(Row::is_met)
    }
}

/// All of them.
pub const ALL: [fn(&Scale) -> Vec<Experiment>; 5] =
    [goodput::run, priority::run, spike::run, storm::run, determinism::run];

/// A figure of every contender, each from the same repetitions: `figure` is given the contender and the seed.
pub(crate) fn compare(
    contenders: &[Contender],
    seeds: u64,
    mut figure: impl FnMut(Contender, u64) -> f64,
) -> Vec<Spread> {
    let figures = |contender| Spread::of((1..=seeds).map(|seed| figure(contender, seed)).collect());
    contenders.iter().copied().map(figures).collect()
}

/// A row from the figures of [`compare`], whose first contender is ours.
pub(crate) fn row(
    case: &str,
    figure: &'static str,
    target: Target,
    contenders: &[Contender],
    figures: &[Spread],
) -> Row {
    let others = contenders.iter().map(|contender| contender.word()).zip(figures.iter().copied()).skip(1);
    Row { case: case.to_owned(), figure, target, ours: figures[0], others: others.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides_and_never_is_the_most() {
        let spread = Spread::of(vec![3.0, f64::INFINITY, 1.0]);
        assert_eq!(spread, Spread { median: 3.0, least: 1.0, most: f64::INFINITY });
        assert!(Target::AtLeast(3.0).is_met(spread) && !Target::AtLeast(3.1).is_met(spread));
        assert!(Target::AtMost(3.0).is_met(spread) && !Target::AtMost(2.9).is_met(spread));
    }
}
