//! Experiment E21: 4000 A/A and 4000 A/B tests with a look after every single outcome.
//!
//! `cargo run --release -p gemba-core --example ab_test` prints the figures and fails where they miss their
//! targets. Service times are log-normal with coefficient of variation 1, as in the reference model.

use std::process::ExitCode;
use std::time::Duration;

use gemba_core::ab_test::{AbRules, AbTest, Arm, Verdict};

const TESTS: u64 = 4000;
const MEDIAN_S: f64 = 0.030;

/// Draws from a seed (splitmix64, Box–Muller).
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn latency(&mut self, ratio: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        MEDIAN_S * ratio * (std::f64::consts::LN_2.sqrt() * normal).exp()
    }
}

fn seed(row: u64, test: u64) -> Draws {
    Draws((row << 32 | test).wrapping_mul(0x2545_f491_4f6c_dd1d))
}

#[derive(Default)]
struct Found {
    a: u64,
    b: u64,
    tradeoffs: u64,
    samples: u64,
}

impl Found {
    fn add(mut self, other: &Self) -> Self {
        self.a += other.a;
        self.b += other.b;
        self.tradeoffs += other.tradeoffs;
        self.samples += other.samples;
        self
    }
}

/// Many tests of which B takes `ratio` of A's time and fails in this share of cases, A in that.
fn sequential(row: u64, ratio: f64, failing: [f64; 2]) -> Found {
    let half = |numbers: std::ops::Range<u64>| {
        numbers
            .fold(Found::default(), |found, number| found.add(&one(&mut seed(row, number), ratio, failing)))
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(0..TESTS / 2));
        half(TESTS / 2..TESTS).add(&other.join().expect("it does not panic"))
    })
}

fn one(draws: &mut Draws, ratio: f64, failing: [f64; 2]) -> Found {
    let mut test = AbTest::new("e21".parse().expect("a name"), AbRules::default());
    while !test.verdict().is_final() {
        let (arm, ratio, failing) =
            if draws.uniform() < 0.5 { (Arm::A, 1.0, failing[0]) } else { (Arm::B, ratio, failing[1]) };
        let latency = Duration::from_secs_f64(draws.latency(ratio));
        test.observe(arm, latency, failing <= draws.uniform());
    }
    let verdict = test.verdict();
    let wins = |arm| u64::from(matches!(verdict, Verdict::Winner { arm: winner, .. } if winner == arm));
    Found {
        a: wins(Arm::A),
        b: wins(Arm::B),
        tradeoffs: u64::from(matches!(verdict, Verdict::Tradeoff { .. })),
        samples: test.samples().into_iter().max().unwrap_or_default(),
    }
}

/// The rule to compare with: a difference of the means of 5 % is a winner. Looks at `looks` sample counts.
fn difference_of_means(row: u64, looks: std::ops::RangeInclusive<u32>) -> u64 {
    let declares = |number: &u64| {
        let mut draws = seed(row, *number);
        let mut sums = [0.0, 0.0];
        (1..=*looks.end()).any(|n| {
            sums[0] += draws.latency(1.0);
            sums[1] += draws.latency(1.0);
            looks.contains(&n) && 0.05 < ((sums[0] - sums[1]) / sums[0]).abs()
        })
    };
    (0..TESTS).filter(declares).count() as u64
}

fn main() -> ExitCode {
    let mut is_met = true;
    let mut check = |name: &str, value: f64, target: &str, holds: bool| {
        println!("{name:<58} {value:>8.4}   target {target:<9} {}", if holds { "met" } else { "MISSED" });
        is_met &= holds;
    };
    let share = |count: u64| count as f64 / TESTS as f64;

    for (row, failing) in [(1, 0.001), (2, 0.01), (3, 0.1)] {
        let found = sequential(row, 1.0, [failing; 2]);
        let winners = share(found.a + found.b + found.tradeoffs);
        check(
            &format!("A/A, {} % fail: false winners", failing * 100.0),
            winners,
            "<= 0.05",
            winners <= 0.05,
        );
    }
    for (row, ratio, arm) in [(4, 0.95, "B 5 % faster"), (5, 1.0 / 0.95, "A 5 % faster")] {
        let found = sequential(row, ratio, [0.01; 2]);
        let (right, wrong) = if ratio < 1.0 { (found.b, found.a) } else { (found.a, found.b) };
        check(&format!("{arm}: found"), share(right), ">= 0.80", 0.8 <= share(right));
        check(&format!("{arm}: the wrong arm"), share(wrong), "= 0", wrong == 0);
        let tradeoffs = share(found.tradeoffs);
        check(&format!("{arm}: taken for a trade-off"), tradeoffs, "<= 0.025", tradeoffs <= 0.025);
        let samples = found.samples as f64 / TESTS as f64;
        check(&format!("{arm}: mean samples of an arm"), samples, "<= 12544", samples <= 12_544.0);
    }
    let found = sequential(6, 1.0, [0.03, 0.01]);
    check("B fails 1 % instead of 3 %: found", share(found.b), ">= 0.80", 0.8 <= share(found.b));
    check("B fails 1 % instead of 3 %: the wrong arm", share(found.a), "= 0", found.a == 0);
    // The controls must fail, or the experiment shows nothing.
    let fixed = share(difference_of_means(7, 100..=100));
    check("control, 5 % of the means at n = 100: false winners", fixed, ">= 0.65", 0.65 <= fixed);
    let peeking = share(difference_of_means(8, 10..=1000));
    check("control, the same at every look to n = 1000", peeking, ">= 0.99", 0.99 <= peeking);
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
