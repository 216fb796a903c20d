//! How fast a line burns its error budget, over several windows at once.
//!
//! A budget is what an objective leaves: of 99.9 % success, one failure in a thousand, spread over 30 days. A
//! burn rate of 1 uses it up just in time. Two windows have to agree: the long one says that it matters, the
//! short one that it still happens. Source: The Site Reliability Workbook, chapter 5.

use std::time::Duration;

use crate::light::Light;
use crate::time::Timestamp;
use crate::window::{Tally, Window};

mod rules;

pub use rules::{BurnRules, BurnRulesError, Objective, ObjectiveError};

/// Failures the long window must hold: at little traffic a single one would be a burn rate of hundreds.
const FAILURES_MIN: u64 = 10;

/// A pair of windows that tells, with its light: page (red) or ticket (yellow).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    light: Light,
    long: Duration,
    short: Duration,
}

/// How far below a rate another counts as the same: a share and a budget are binary fractions of decimal numbers.
const ROUNDING: f64 = 1e-9;

/// Whether a budget that burns so fast is one to tell of: the rate itself uses up the share of its pair.
fn reaches(told: f64, rate: f64) -> bool {
    told * (1.0 - ROUNDING) <= rate
}

const HOUR: Duration = Duration::from_secs(3600);

/// By the default rates, 2 % of the budget in an hour, 5 % in six hours, 10 % in three days.
/// Source: FLOW-EVIDENCE, 1.5.
const PAIRS: [Pair; 3] = [
    Pair { light: Light::Red, long: HOUR, short: Duration::from_secs(300) },
    Pair { light: Light::Red, long: Duration::from_secs(6 * 3600), short: Duration::from_secs(1800) },
    Pair { light: Light::Yellow, long: Duration::from_secs(72 * 3600), short: Duration::from_secs(6 * 3600) },
];

/// Buckets of each window: a 60th of its span is told apart.
const PARTS: u32 = 60;

/// The light of a burn rate changed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use = "every change leaves a receipt"]
pub struct BurnStep {
    /// The light before.
    pub from: Light,
    /// The light now.
    pub to: Light,
    /// Times faster than sustainable, in the short window of the pair that tells; of the first pair if none does.
    pub rate: f64,
}

/// Watches the error budget of one line.
#[derive(Debug, Clone)]
pub struct BurnRate {
    objective: Objective,
    rules: BurnRules,
    windows: [(Window, Window); PAIRS.len()],
    seen: Option<Tally>,
    light: Light,
}

impl BurnRate {
    /// A budget of which nothing is known to have been used.
    pub fn new(objective: Objective, now: Timestamp) -> Self {
        let window = |span| Window::new(span, PARTS, now);
        let windows = PAIRS.map(|pair| (window(pair.long), window(pair.short)));
        Self { objective, rules: BurnRules::default(), windows, seen: None, light: Light::Green }
    }

    /// Goes by another objective and other rules from now on. What was counted in its windows counts, so that the next
    /// observation tells how fast the new budget burns.
    pub const fn set_rules(&mut self, objective: Objective, rules: BurnRules) {
        (self.objective, self.rules) = (objective, rules);
    }

    /// Takes note of the failures and outcomes since the node started; to be called every second or so.
    ///
    /// What was before the first call does not count. Refusals, rejections and what callers gave up are no
    /// outcomes.
    pub fn observe(&mut self, failures_total: u64, outcomes_total: u64, now: Timestamp) -> Option<BurnStep> {
        let total = Tally { failures: failures_total, outcomes: outcomes_total };
        let seen = self.seen.replace(total).unwrap_or(total);
        let outcomes = total.outcomes.saturating_sub(seen.outcomes);
        let failures = total.failures.saturating_sub(seen.failures).min(outcomes);
        for (long, short) in &mut self.windows {
            long.add(Tally { failures, outcomes }, now);
            short.add(Tally { failures, outcomes }, now);
        }
        let from = self.light;
        let rates = self.rates(now);
        let BurnRules { rates: told, failures_min } = self.rules;
        let telling = PAIRS.iter().zip(told).zip(rates).filter(|((_, told), rates)| {
            reaches(*told, rates.long) && reaches(*told, rates.short) && failures_min <= rates.failures
        });
        let worst = telling.max_by_key(|((pair, _), _)| pair.light);
        self.light = worst.map_or(Light::Green, |((pair, _), _)| pair.light);
        let rate = worst.map_or(rates[0].short, |(_, rates)| rates.short);
        (from != self.light).then_some(BurnStep { from, to: self.light, rate })
    }

    /// The light it shows.
    pub const fn light(&self) -> Light {
        self.light
    }

    /// The burn rates with the word for each window, for those who look.
    pub fn by_window(&mut self, now: Timestamp) -> [(&'static str, f64); 2 * PAIRS.len()] {
        let [fast, slow, ticket] = self.rates(now);
        [
            ("5m", fast.short),
            ("1h", fast.long),
            ("30m", slow.short),
            ("6h", slow.long),
            ("6h_ticket", ticket.short),
            ("3d", ticket.long),
        ]
    }

    fn rates(&mut self, now: Timestamp) -> [Rates; PAIRS.len()] {
        let budget = self.objective.budget();
        let rate = |sum: Tally| sum.failures as f64 / sum.outcomes.max(1) as f64 / budget;
        self.windows.each_mut().map(|(long, short)| {
            let (long, short) = (long.sum(now), short.sum(now));
            Rates { long: rate(long), short: rate(short), failures: long.failures }
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Rates {
    long: f64,
    short: f64,
    failures: u64,
}

#[cfg(test)]
mod tests;
