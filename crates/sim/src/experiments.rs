//! The experiments of FLOW-EVIDENCE.md, 4.2, that virtual time can decide: figure, target, verdict.
//!
//! Each is a function from a [`Scale`] to an [`Experiment`], listed in [`ALL`]. What costs real time (refusals,
//! contention, work that keeps a processor busy) is no question for this crate; whoever measures it over the
//! real actors prints it with the same [`table`].

use std::fmt;
use std::time::Duration;

use crate::contenders::Contender;

pub mod ab_test;
mod automaton;
pub mod breaker;
pub mod burn_rate;
pub mod burst;
pub mod canary;
pub mod determinism;
pub mod drift;
pub mod goodput;
pub mod priority;
pub mod rate;
pub mod scaling;
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
    /// How long a pool of changing size has constant work.
    pub steady: Duration,
    /// How many steps of load, and bursts of each kind, each seed has.
    pub steps: u32,
    /// How many days are lived through without a burst, and with planted incidents.
    pub days: u32,
    /// How many random actions and calls a breaker and a rate take.
    pub calls: u32,
    /// How many A/B tests there are of each kind, all seeds together.
    pub ab_tests: u64,
    /// How many rollouts of each kind each seed has.
    pub rollouts: u64,
}

impl Scale {
    /// As the targets were set: five seeds, a minute a load, 150 s of watching, four hours of constant work,
    /// thirty days, a million steps, 4000 tests.
    pub const FULL: Self = Self {
        seeds: 5,
        measured: Duration::from_secs(60),
        warm_up: Duration::from_secs(15),
        watched: Duration::from_secs(150),
        idle_signals: 2_000_000,
        steady: Duration::from_secs(4 * 3600),
        steps: 8,
        days: 30,
        calls: 1_000_000,
        ab_tests: 4_000,
        rollouts: 200,
    };

    /// Enough to see that nothing is broken.
    pub const QUICK: Self = Self {
        seeds: 3,
        measured: Duration::from_secs(40),
        warm_up: Duration::from_secs(10),
        watched: Duration::from_secs(50),
        idle_signals: 200_000,
        steady: Duration::from_secs(3600),
        steps: 4,
        days: 10,
        calls: 200_000,
        ab_tests: 600,
        rollouts: 100,
    };
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

impl fmt::Display for Spread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = *self;
        write!(out, "{} [{} {}]", table::number(median), table::number(least), table::number(most))
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

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AtLeast(least) => write!(out, ">= {}", table::number(least)),
            Self::AtMost(most) => write!(out, "<= {}", table::number(most)),
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
    /// Why the target is missed, if that is known.
    pub known: Option<&'static str>,
}

impl Row {
    /// A row from ours of each seed, or of all of them together.
    pub fn new(case: impl Into<String>, figure: &'static str, target: Target, ours: Vec<f64>) -> Self {
        Self { case: case.into(), figure, target, ours: Spread::of(ours), others: Vec::new(), known: None }
    }

    /// With another's figure beside it.
    pub fn beside(mut self, name: &'static str, figures: Vec<f64>) -> Self {
        self.others.push((name, Spread::of(figures)));
        self
    }

    /// With the reason why it is missed.
    pub const fn known(mut self, why: &'static str) -> Self {
        self.known = Some(why);
        self
    }

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
    /// Its figures.
    pub rows: Vec<Row>,
    /// Plots, by the name of their files.
    pub plots: Vec<(&'static str, String)>,
}

impl Experiment {
    pub(crate) const fn new(number: &'static str, title: &'static str, rows: Vec<Row>) -> Self {
        Self { number, title, rows, plots: Vec::new() }
    }

    /// Whether ours is as it should be in all of it, or is known not to be.
    pub fn is_as_known(&self) -> bool {
        self.rows.iter().all(|row| row.is_met() || row.known.is_some())
    }
}

/// All of them.
pub const ALL: &[fn(&Scale) -> Vec<Experiment>] = &[
    goodput::run,
    priority::run,
    spike::run,
    storm::run,
    scaling::run,
    burst::run,
    breaker::run,
    rate::run,
    burn_rate::run,
    ab_test::run,
    canary::run,
    drift::run,
    determinism::run,
];

/// What each seed gives, a thread each.
pub(crate) fn by_seed<T: Send>(scale: &Scale, run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let run = &run;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=scale.seeds).map(|seed| scope.spawn(move || run(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an experiment does not panic")).collect()
    })
}

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
    Row { case: case.to_owned(), figure, target, ours: figures[0], others: others.collect(), known: None }
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
