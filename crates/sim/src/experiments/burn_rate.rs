//! E20: thirty synthetic days with planted incidents, and how soon a burning budget is told of.

use std::time::Duration;

use gemba_core::burn_rate::{BurnRate, Objective};
use gemba_core::light::Light;
use gemba_core::time::Timestamp;

use super::{Experiment, Row, Scale, Target, by_seed};
use crate::draw::Draw;

/// A line is looked at each half minute.
const HALF: Duration = Duration::from_secs(30);
const HALVES_PER_DAY: u64 = 2880;

/// What fails on a good day.
const USUAL: f64 = 0.0002;

/// Why a steady 14.4x takes an hour.
const FILLS: &str = "both windows have to agree, and only an hour at 14.4x fills the long one; 5 minutes alone would \
                     page for blips";

/// Runs E20.
pub fn run(scale: &Scale) -> Vec<Experiment> {
    let all = by_seed(scale, |seed| Month::replay(seed, u64::from(scale.days)));
    let sum = |of: fn(&Month) -> u32| f64::from(all.iter().map(of).sum::<u32>());
    let case = format!("{} days, {} seeds together", scale.days, scale.seeds);
    let minutes = |share: f64| vec![Line::new().seconds_until_red(share) / 60.0];
    let rows = vec![
        Row::new(&*case, "incidents planted", Target::AtLeast(1.0), vec![sum(|of| of.planted)]),
        Row::new(&*case, "precision", Target::AtLeast(0.95), vec![sum(|of| of.right) / sum(|of| of.pages)]),
        Row::new(&*case, "recall", Target::AtLeast(0.95), vec![sum(|of| of.heard) / sum(|of| of.planted)]),
        Row::new(&*case, "pages for blips of a minute", Target::AtMost(0.0), vec![sum(|of| of.for_blips)]),
        // A little more, because 14.4 as a fraction is a little less.
        Row::new("14.5x, steady", "minutes until red", Target::AtMost(5.0), minutes(0.0145)).known(FILLS),
        Row::new("175x, 2 % of a month's in 5 min", "minutes until red", Target::AtMost(5.0), minutes(0.175)),
        Row::new("everything fails", "minutes until red", Target::AtMost(1.0), minutes(1.0)),
    ];
    vec![Experiment::new("E20", "burn rate", rows)]
}

/// Something that goes wrong on a synthetic day.
#[derive(Debug, Clone, Copy)]
struct Planted {
    from_min: u64,
    minutes: u64,
    share: f64,
    /// Whether someone has to be paged: it burns more than 2 % of the budget within an hour.
    pages: bool,
}

impl Planted {
    /// A page belongs to an incident until the short window has forgotten it.
    const FORGOTTEN_MIN: u64 = 6;

    fn lasts(&self, minute: u64, after: u64) -> bool {
        (self.from_min..self.from_min + self.minutes + after).contains(&minute)
    }
}

/// Incidents that must page, and blips and weak spells that must not, one in each half day.
fn plan(draw: &mut Draw, days: u64) -> Vec<Planted> {
    let between = |low: f64, high: f64, part: f64| low + (high - low) * part;
    (0..2 * days)
        .map(|slot| {
            let from_min = 720 * slot + draw.below(300);
            let (minutes, share, pages) = match draw.below(4) {
                // At least 4 % of failures for 40 minutes, to a full outage for six.
                0 => {
                    let share = between(0.04, 1.0, draw.uniform());
                    let burns = between(1.8, 4.0, draw.uniform());
                    let minutes = (60.0 * 0.0144 * burns / share).clamp(6.0, 60.0);
                    (minutes as u64 + 1, share, true)
                }
                // A blip of a minute that uses less than 0.1 % of the month's budget.
                1 => (1, between(0.005, 0.04, draw.uniform()), false),
                // Half an hour at three times what is sustainable.
                2 => (30, 0.003, false),
                _ => (0, 0.0, false),
            };
            Planted { from_min, minutes, share, pages }
        })
        .collect()
}

#[derive(Debug, Default)]
struct Month {
    planted: u32,
    heard: u32,
    pages: u32,
    right: u32,
    for_blips: u32,
}

impl Month {
    fn replay(seed: u64, days: u64) -> Self {
        let mut draw = Draw::new(seed, 0);
        let month = plan(&mut draw, days);
        let mut found = Self::default();
        let mut heard = vec![false; month.len()];
        let (mut line, mut was_red) = (Line::new(), false);
        for half in 0..days * HALVES_PER_DAY {
            let minute = half / 2;
            // A day has its tide: from 20 to 100 signals a second.
            let tide = 60.0 - 40.0 * libm::cos(std::f64::consts::TAU * minute as f64 / 1440.0);
            let outcomes = (30.0 * tide) as u64;
            let wrong = month.iter().find(|planted| planted.lasts(minute, 0));
            let share = wrong.map_or(USUAL, |planted| planted.share);
            let failures = if share < 1.0 { draw.hits(outcomes, share) } else { outcomes };
            let is_red = line.half_minute(failures, outcomes) == Light::Red;
            if is_red && !was_red {
                found.pages += 1;
                let of = month.iter().position(|of| of.lasts(minute, Planted::FORGOTTEN_MIN));
                if let Some(of) = of {
                    found.right += u32::from(month[of].pages);
                    found.for_blips += u32::from(month[of].minutes == 1);
                    heard[of] = true;
                }
            }
            was_red = is_red;
        }
        let paging = || month.iter().zip(heard).filter(|(planted, _)| planted.pages);
        found.planted = month.iter().filter(|planted| planted.pages).count() as u32;
        found.heard = paging().filter(|(_, heard)| *heard).count() as u32;
        found
    }
}

/// A line and its budget.
struct Line {
    burn: BurnRate,
    failures: u64,
    outcomes: u64,
    now: Timestamp,
}

impl Line {
    fn new() -> Self {
        let now = Timestamp::from_secs(60);
        let mut burn = BurnRate::new(Objective::default(), now);
        let _ = burn.observe(0, 0, now);
        Self { burn, failures: 0, outcomes: 0, now }
    }

    fn half_minute(&mut self, failures: u64, outcomes: u64) -> Light {
        self.now = self.now + HALF;
        self.failures += failures;
        self.outcomes += outcomes;
        let _ = self.burn.observe(self.failures, self.outcomes, self.now);
        self.burn.light()
    }

    /// Seconds until it is red at this share of failures, after a clean day.
    fn seconds_until_red(&mut self, share: f64) -> f64 {
        let outcomes = 30_000;
        for _ in 0..HALVES_PER_DAY {
            if self.half_minute(0, outcomes) != Light::Green {
                return f64::INFINITY;
            }
        }
        let failures = (outcomes as f64 * share) as u64;
        let halves = (1..=HALVES_PER_DAY).find(|_| self.half_minute(failures, outcomes) == Light::Red);
        halves.map_or(f64::INFINITY, |halves| HALF.as_secs_f64() * halves as f64)
    }
}
