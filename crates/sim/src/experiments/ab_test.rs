//! E21: A/A and A/B tests with a look after every single outcome: false winners, power, direction.

use std::time::Duration;

use gemba_core::ab_test::{AbRules, AbTest, Arm, Verdict};

use super::{Experiment, Row, Scale, Target, by_seed};
use crate::draw::Draw;

/// Mean service time in seconds; its deviation is as large, as in the reference model.
const MEAN_S: f64 = 0.0425;

/// Samples of an arm of a test of fixed length that finds 5 % in 80 of 100 cases, at a deviation as large as the
/// mean. Source: FLOW-EVIDENCE.md, E21.
const FIXED: f64 = 6_272.0;

/// Looks of a test of means that is stopped when it seems to show something.
const LOOKS: u32 = 1_000;

/// Runs E21.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let rules = |looks: std::ops::RangeInclusive<u32>, rule: fn(&[Sum; 2]) -> bool, row: u64| {
        share(scale, &move |seed, tests| declared(seed, row, tests, looks.clone(), rule))
    };
    let mut rows = Vec::new();
    for (number, failing) in [(1, 0.001), (2, 0.01), (3, 0.1)] {
        let found = found(scale, number, 1.0, [failing; 2]);
        let case = format!("A/A, {} % fail", failing * 100.0);
        let winners = found.part(found.wins[0] + found.wins[1] + found.tradeoffs);
        let mut row = Row::new(case, "false winners, share", Target::AtMost(0.05), vec![winners]);
        if number == 1 {
            row = row
                .beside("5 % of the means, n = 100", rules(100..=100, differ, 7))
                .beside("the same, at every look", rules(10..=LOOKS, differ, 8))
                .beside("Welch, n = 1000", rules(LOOKS..=LOOKS, welch, 9))
                .beside("Welch, at every look", rules(10..=LOOKS, welch, 10));
        }
        rows.push(row);
    }
    for (number, ratio, case) in [(4, 0.95, "B 5 % faster"), (5, 1.0 / 0.95, "A 5 % faster")] {
        let found = found(scale, number, ratio, [0.01; 2]);
        let (right, wrong) = if ratio < 1.0 { (1, 0) } else { (0, 1) };
        let power = found.part(found.wins[right]);
        rows.push(Row::new(case, "found, share", Target::AtLeast(0.8), vec![power]));
        let wrong = found.part(found.wins[wrong]);
        rows.push(Row::new(case, "the wrong arm, share", Target::AtMost(0.0), vec![wrong]));
        let tradeoffs = found.part(found.tradeoffs);
        rows.push(Row::new(case, "taken for a trade-off, share", Target::AtMost(0.025), vec![tradeoffs]));
        let samples = found.part(found.samples);
        rows.push(Row::new(case, "mean samples of an arm", Target::AtMost(2.0 * FIXED), vec![samples]));
    }
    let found = found(scale, 6, 1.0, [0.03, 0.01]);
    let case = "B fails 1 % instead of 3 %";
    rows.push(Row::new(case, "found, share", Target::AtLeast(0.8), vec![found.part(found.wins[1])]));
    rows.push(Row::new(case, "the wrong arm, share", Target::AtMost(0.0), vec![found.part(found.wins[0])]));
    vec![Experiment::new("E21", "A/B tests", rows)]
}

/// How many tests a seed has.
fn tests(scale: &Scale) -> u64 {
    scale.ab_tests.div_ceil(scale.seeds)
}

#[derive(Debug, Default)]
struct Found {
    tests: u64,
    wins: [u64; 2],
    tradeoffs: u64,
    samples: u64,
}

impl Found {
    fn part(&self, count: u64) -> f64 {
        count as f64 / self.tests as f64
    }

    fn and(self, other: &Self) -> Self {
        Self {
            tests: self.tests + other.tests,
            wins: [self.wins[0] + other.wins[0], self.wins[1] + other.wins[1]],
            tradeoffs: self.tradeoffs + other.tradeoffs,
            samples: self.samples + other.samples,
        }
    }
}

/// Many tests of which B takes `ratio` of A's time and A and B fail in these shares of cases.
fn found(scale: &Scale, row: u64, ratio: f64, failing: [f64; 2]) -> Found {
    let of_seed = |seed| {
        let all =
            (0..tests(scale)).map(|number| one(&mut Draw::new(seed, row << 32 | number), ratio, failing));
        all.fold(Found::default(), |found, other| found.and(&other))
    };
    by_seed(scale, of_seed).iter().fold(Found::default(), Found::and)
}

fn one(draw: &mut Draw, ratio: f64, failing: [f64; 2]) -> Found {
    let mut test = AbTest::new("e21".parse().expect("a name"), AbRules::default());
    while !test.verdict().is_final() {
        let (arm, ratio, failing) =
            if draw.uniform() < 0.5 { (Arm::A, 1.0, failing[0]) } else { (Arm::B, ratio, failing[1]) };
        let latency = Duration::from_secs_f64(MEAN_S * ratio * draw.lognormal(1.0));
        test.observe(arm, latency, failing <= draw.uniform());
    }
    let verdict = test.verdict();
    let wins = |arm| u64::from(matches!(verdict, Verdict::Winner { arm: winner, .. } if winner == arm));
    Found {
        tests: 1,
        wins: [wins(Arm::A), wins(Arm::B)],
        tradeoffs: u64::from(matches!(verdict, Verdict::Tradeoff { .. })),
        samples: test.samples().into_iter().max().unwrap_or_default(),
    }
}

/// Samples of an arm: how many, their sum and the sum of their squares.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: f64,
    total: f64,
    squares: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.total += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        self.total / self.count
    }

    /// The variance of the mean.
    fn error(&self) -> f64 {
        (self.squares / self.count - self.mean().powi(2)) / (self.count - 1.0)
    }
}

/// The seeds' rule: a difference of the means of 5 % is a winner.
fn differ([a, b]: &[Sum; 2]) -> bool {
    0.05 < ((a.mean() - b.mean()) / a.mean()).abs()
}

/// Welch's test at 5 %, by the normal distribution: there are enough samples.
fn welch([a, b]: &[Sum; 2]) -> bool {
    1.96 < (a.mean() - b.mean()).abs() / (a.error() + b.error()).sqrt()
}

/// How many tests of equal arms a rule ends with a winner at one of its looks.
fn declared(
    seed: u64,
    row: u64,
    tests: u64,
    looks: std::ops::RangeInclusive<u32>,
    rule: fn(&[Sum; 2]) -> bool,
) -> u64 {
    let declares = |number: &u64| {
        let mut draw = Draw::new(seed, row << 32 | number);
        let mut arms = [Sum::default(); 2];
        (1..=*looks.end()).any(|n| {
            for arm in &mut arms {
                arm.add(draw.lognormal(1.0));
            }
            looks.contains(&n) && rule(&arms)
        })
    };
    (0..tests).filter(declares).count() as u64
}

fn share(scale: &Scale, declared: &(dyn Fn(u64, u64) -> u64 + Sync)) -> Vec<f64> {
    let tests = tests(scale);
    by_seed(scale, |seed| declared(seed, tests) as f64 / tests as f64)
}
