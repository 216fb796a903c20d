//! E16: how exactly a rate is let through at any rate of calls, and what invented keys cost.

use std::time::Duration;

use gemba_core::rate::{Bucket, Buckets, Rate};
use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Target};

const SECOND: Duration = Duration::from_secs(1);

/// Signals per second that may pass, and at once; 600 000 and 7 do not divide a second into whole nanoseconds.
const RATES: [(u32, u32); 4] = [(100, 2), (100, 100), (7, 2), (600_000, 10)];

/// Calls per second.
const CALLS: [u64; 8] = [10, 99, 101, 150, 1_000, 65_537, 100_000, 1_000_000];

const KEYS_MAX: usize = 1_000;

const SEEDS: &str = "seeds' bucket";

/// Runs E16. Nothing in it is random.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let mut rows: Vec<Row> =
        RATES.iter().map(|(per_s, burst)| off(*per_s, *burst, u64::from(scale.calls))).collect();
    rows.push(at_150(u64::from(scale.calls)));
    rows.push(keys(scale));
    vec![Experiment::new("E16", "rates", rows)]
}

fn at(call: u64, calls_per_s: u64) -> Timestamp {
    let nanos = u128::from(call) * SECOND.as_nanos() / u128::from(calls_per_s);
    Timestamp::from_secs(1_000) + Duration::from_nanos(nanos as u64)
}

/// How many of evenly spread calls pass.
fn passed(rate: Rate, calls_per_s: u64, calls: u64) -> f64 {
    let mut bucket = Bucket::default();
    (0..calls).filter(|call| rate.take(&mut bucket, at(*call, calls_per_s)).is_ok()).count() as f64
}

/// As the seeds have it: whole tokens of the milliseconds since the last call, whether they were any or not.
fn seeds_passed(per_s: u32, burst: u32, calls_per_s: u64, calls: u64) -> f64 {
    let (mut tokens, mut last) = (u64::from(burst), at(0, calls_per_s));
    let pass = |call: &u64| {
        let now = at(*call, calls_per_s);
        let refill = now.since(last).as_millis() as u64 * u64::from(per_s) / 1_000;
        (tokens, last) = ((tokens + refill).min(u64::from(burst)), now);
        let passes = 0 < tokens;
        tokens -= u64::from(passes);
        passes
    };
    (0..calls).filter(pass).count() as f64
}

/// At most 20 s, and how many calls that are.
fn calls_of(calls_per_s: u64, most: u64) -> u64 {
    (20 * calls_per_s).min(most)
}

/// The worst of all rates of calls.
fn off(per_s: u32, burst: u32, most: u64) -> Row {
    let rate = Rate::new(per_s, SECOND).and_then(|rate| rate.burst(burst)).expect("a rate within the bounds");
    let worst = |passed: &dyn Fn(u64, u64) -> f64| {
        let off = CALLS.map(|calls_per_s| {
            let calls = calls_of(calls_per_s, most);
            let quota = (f64::from(per_s) * calls as f64 / calls_per_s as f64).min(calls as f64);
            (passed(calls_per_s, calls) - quota).abs()
        });
        vec![off.into_iter().fold(0.0, f64::max)]
    };
    Row::new(
        format!("{per_s}/s, {burst} at once"),
        "|passed - quota|, most",
        Target::AtMost(f64::from(burst) + 1.0),
        worst(&|calls_per_s, calls| passed(rate, calls_per_s, calls)),
    )
    .beside(SEEDS, worst(&|calls_per_s, calls| seeds_passed(per_s, burst, calls_per_s, calls)))
}

/// What is left of a rate of 100/s where it is called 150 times a second.
fn at_150(most: u64) -> Row {
    let rate = Rate::new(100, SECOND).expect("a rate within the bounds");
    let calls = (2_000 * 150).min(most);
    let quota = 100.0 * calls as f64 / 150.0;
    let share = |passed: f64| vec![passed / quota];
    Row::new("100/s, 150 calls/s", "passed / quota", Target::AtLeast(1.0), share(passed(rate, 150, calls)))
        .beside(SEEDS, share(seeds_passed(100, 100, 150, calls)))
}

fn keys(scale: &Scale) -> Row {
    let rate = Rate::new(5, 60 * SECOND).expect("a rate within the bounds");
    let mut keys = Buckets::new(rate, KEYS_MAX).expect("room for a key");
    for key in 0..u64::from(scale.calls) {
        // Whether it passes is another question; here it is what is remembered of it.
        let _ = keys.take(key, at(key, 1_000_000));
    }
    let case = format!("{} invented keys", scale.calls);
    Row::new(case, "keys remembered", Target::AtMost(KEYS_MAX as f64), vec![keys.len() as f64])
}
