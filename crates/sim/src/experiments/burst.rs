//! E12: how soon a burst among random arrivals is seen, and how often there is none.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::time::Duration;

use gemba_core::burst::{Burst, BurstRules, SurgeChange};
use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Target, by_seed};
use crate::draw::Draw;

/// How often a detector looks.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS_PER_S: usize = 4;

/// So many times as much, reached within so many seconds, and by when it has to be seen.
const CASES: [(f64, f64, f64); 12] = [
    (3.0, 0.0, 2.0),
    (3.0, 5.0, 60.0),
    (3.0, 10.0, 60.0),
    (3.0, 60.0, 120.0),
    (5.0, 0.0, 2.0),
    (5.0, 10.0, 60.0),
    (5.0, 60.0, 60.0),
    (10.0, 0.0, 1.0),
    (10.0, 5.0, 15.0),
    (10.0, 60.0, 15.0),
    (50.0, 0.0, 1.0),
    (50.0, 60.0, 60.0),
];

/// What is usual, in signals per second.
const USUAL: [f64; 4] = [50.0, 100.0, 300.0, 1000.0];

/// How long the usual is seen before, and how long a burst may go unseen after it has risen.
const USUAL_S: f64 = 300.0;
const WATCHED_S: f64 = 60.0;

const SEEDS: &str = "10x a minute's mean";

/// Runs E12.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let mut rows: Vec<Row> = CASES.iter().map(|case| seen(scale, *case)).collect();
    let twice = |which: usize| {
        by_seed(scale, |seed| {
            let seen = (0..u64::from(scale.steps)).map(|number| rise(seed, number, 2.0, 0.0)[which]);
            seen.filter(|seen| seen.is_finite()).count() as f64
        })
    };
    rows.push(Row::new("2x at once", "taken for a burst", Target::AtMost(0.0), twice(0)));
    let alarms = by_seed(scale, |seed| days(seed, scale.days));
    let per_month = |which: usize| {
        alarms.iter().map(|alarms| alarms[which] * 30.0 / f64::from(scale.days.max(1))).collect()
    };
    let row = Row::new("days and nights", "false alarms in 30 days", Target::AtMost(1.0), per_month(0));
    rows.push(row.beside(SEEDS, per_month(1)));
    vec![Experiment::new("E12", "bursts", rows)]
}

/// The latest of a seed's bursts; one that is missed is never seen.
fn seen(scale: &Scale, (factor, ramp, within): (f64, f64, f64)) -> Row {
    let latest = by_seed(scale, |seed| {
        let all = (0..u64::from(scale.steps)).map(|number| rise(seed, number, factor, ramp));
        all.fold([0.0, 0.0], |[a, b], [c, d]| [f64::max(a, c), f64::max(b, d)])
    });
    let of = |which: usize| latest.iter().map(|latest| latest[which]).collect();
    let case = if ramp > 0.0 { format!("{factor}x over {ramp} s") } else { format!("{factor}x at once") };
    Row::new(case, "seconds until seen, most", Target::AtMost(within), of(0)).beside(SEEDS, of(1))
}

/// Seconds until a rise is seen by ours and by the seeds' rule.
fn rise(seed: u64, number: u64, factor: f64, ramp: f64) -> [f64; 2] {
    let usual = USUAL[number as usize % USUAL.len()];
    let mut traffic = Traffic::new(seed, number);
    let looks = |seconds: f64| (seconds / LOOK.as_secs_f64()) as u32;
    for _ in 0..looks(USUAL_S) {
        if traffic.look(usual)[0] {
            // A burst that is none: it would not be seen in time later.
            return [f64::INFINITY; 2];
        }
    }
    let mut after = [f64::INFINITY; 2];
    for look in 1..=looks(ramp + WATCHED_S) {
        let at = f64::from(look) * LOOK.as_secs_f64();
        let risen = if ramp > 0.0 { (at / ramp).min(1.0) } else { 1.0 };
        let found = traffic.look(usual * (1.0 + (factor - 1.0) * risen));
        for (after, _) in after.iter_mut().zip(found).filter(|(_, found)| *found) {
            *after = after.min(at);
        }
    }
    after
}

/// Bursts seen in days from 2 to 200 a second, each minute off by a tenth besides, and chance in each moment.
fn days(seed: u64, days: u32) -> [f64; 2] {
    let mut traffic = Traffic::new(seed, 1 << 32);
    let mut bursts = [0.0, 0.0];
    let mut was = false;
    for minute in 0..days * 24 * 60 {
        let day = TAU * f64::from(minute) / (24.0 * 60.0);
        let usual = 2.0 + 99.0 * (1.0 - libm::cos(day));
        let noisy = usual * libm::exp(0.1 * traffic.draw.normal());
        for _ in 0..60 * LOOKS_PER_S {
            let [ours, seeds] = traffic.look(noisy);
            bursts[0] += f64::from(u8::from(ours));
            bursts[1] += f64::from(u8::from(seeds && !was));
            was = seeds;
        }
    }
    bursts
}

struct Traffic {
    burst: Burst,
    seeds: SeedsRule,
    draw: Draw,
    arrived: u64,
    now: Timestamp,
}

impl Traffic {
    fn new(seed: u64, number: u64) -> Self {
        Self {
            burst: Burst::new(BurstRules::default(), Timestamp::START),
            seeds: SeedsRule::default(),
            draw: Draw::new(seed, number),
            arrived: 0,
            now: Timestamp::START,
        }
    }

    /// Lets a moment pass in which `per_s` come on average; says who sees a burst begin.
    fn look(&mut self, per_s: f64) -> [bool; 2] {
        self.now = self.now + LOOK;
        let came = self.draw.poisson(per_s * LOOK.as_secs_f64());
        self.arrived += came;
        let change = self.burst.observe(self.arrived, false, self.now);
        [matches!(change, Some(SurgeChange::Started { .. })), self.seeds.look(came)]
    }
}

/// More than ten times the mean of a minute, which holds the burst itself; on arrivals, where it can fire.
#[derive(Default)]
struct SeedsRule {
    minute: VecDeque<u64>,
    in_minute: u64,
    in_second: u64,
}

impl SeedsRule {
    fn look(&mut self, came: u64) -> bool {
        self.minute.push_back(came);
        self.in_minute += came;
        self.in_second += came;
        if let Some(ago) = self.minute.len().checked_sub(LOOKS_PER_S + 1) {
            self.in_second -= self.minute[ago];
        }
        if self.minute.len() <= 60 * LOOKS_PER_S {
            return false;
        }
        self.in_minute -= self.minute.pop_front().unwrap_or_default();
        10 * self.in_minute < 60 * self.in_second
    }
}
