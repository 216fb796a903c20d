//! A/B tests: which of two ways to do the same work is better, said only when chance cannot explain it.
//!
//! One may look at any time and as often as one likes: the intervals hold at every look together (a mixture
//! sequential probability ratio test, mSPRT), which a difference of means or a t-test does not.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::name::Name;

mod rules;

pub use rules::{AbRules, AbRulesBuilder, AbRulesError};

/// The least variance that is reckoned with: a millionth, squared, is below every effect that counts.
const VARIANCE_MIN: f64 = 1e-12;

/// One of the two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What is done today.
    A,
    /// What might be better.
    B,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// How long a success takes.
    Latency,
    /// How many succeed.
    Success,
}

/// How far B is from A, with the interval that holds the truth at every look together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Latency: the ratio of the typical latencies (geometric means) less 1, −0.05 is 5 % faster. Success: the
    /// difference of the shares, 0.01 is one more success in a hundred.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// What can be said so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[must_use = "a verdict changes nothing by itself"]
pub enum Verdict {
    /// Nothing yet.
    Open {
        /// Samples the smaller arm still needs before anything is looked at; 0 when it is being looked at.
        missing: u64,
    },
    /// One arm is better in one measure, and in the other certain not to be worse by as much as counts; when
    /// the samples are used up, it is enough that it is not certain to be worse.
    Winner {
        /// The better arm.
        arm: Arm,
        /// In what it is better.
        by: Measure,
        /// By how much.
        effect: Effect,
    },
    /// One arm is faster, the other succeeds more often: a person decides.
    Tradeoff {
        /// The arm that is faster.
        faster: Arm,
    },
    /// Neither differs by as much as the rules call an effect.
    NoDifference,
    /// Both arms had their samples, and nothing is certain: the effect, if any, is small.
    Inconclusive,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        match self {
            Self::Open { missing } => write!(f, "open, {missing} samples missing"),
            Self::Winner { arm, by, effect } => {
                let (arm, by) = match (arm, by) {
                    (Arm::A, Measure::Latency) => ("A", "latency"),
                    (Arm::B, Measure::Latency) => ("B", "latency"),
                    (Arm::A, Measure::Success) => ("A", "success"),
                    (Arm::B, Measure::Success) => ("B", "success"),
                };
                let Effect { estimate, low, high } = *effect;
                let (estimate, low, high) = (percent(estimate), percent(low), percent(high));
                write!(f, "{arm} wins by {by}: B against A {estimate:+.1} % ({low:+.1} to {high:+.1})")
            }
            Self::Tradeoff { faster: Arm::A } => f.write_str("A is faster, B succeeds more often"),
            Self::Tradeoff { faster: Arm::B } => f.write_str("B is faster, A succeeds more often"),
            Self::NoDifference => f.write_str("no difference that counts"),
            Self::Inconclusive => f.write_str("nothing certain; the effect, if any, is small"),
        }
    }
}

impl Verdict {
    /// Whether the test is over.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Open { .. })
    }
}

/// What one arm has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observed {
    outcomes: u64,
    pub(crate) successes: u64,
    /// Mean of the logarithms of the latencies of successes.
    pub(crate) mean_log: f64,
    /// Sum of their squared distances from it (Welford).
    squares: f64,
}

impl Observed {
    pub(crate) fn add(&mut self, latency: Duration, succeeded: bool) {
        self.outcomes += 1;
        if !succeeded {
            return;
        }
        self.successes += 1;
        // A latency of zero has no logarithm; a clock that tells nanoseconds apart has no shorter one.
        let log = (latency.as_nanos().max(1) as f64).ln();
        let away = log - self.mean_log;
        self.mean_log += away / self.successes as f64;
        self.squares += away * (log - self.mean_log);
    }

    /// The variance of the mean of the logarithms.
    pub(crate) fn latency_variance(&self) -> f64 {
        let n = self.successes as f64;
        self.squares / (n - 1.0) / n
    }

    fn success_share(&self) -> f64 {
        self.successes as f64 / self.outcomes as f64
    }

    /// The variance of the share of successes, with half a success and half a failure added: without them an
    /// arm that never failed would look certain never to fail.
    fn success_variance(&self) -> f64 {
        let n = self.outcomes as f64 + 1.0;
        let share = (self.successes as f64 + 0.5) / n;
        share * (1.0 - share) / n
    }
}

/// One test: it assigns, takes note, and says what can be said.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_core::ab_test::{AbRules, AbTest, Verdict};
///
/// let mut test = AbTest::new("new-gateway".parse().unwrap(), AbRules::default());
/// let arm = test.assign(b"customer-17");
/// assert_eq!(arm, test.assign(b"customer-17"), "a key stays on its arm");
/// test.observe(arm, Duration::from_millis(40), true);
/// assert!(matches!(test.verdict(), Verdict::Open { .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[doc(alias = "kaizen")]
pub struct AbTest {
    name: Name,
    rules: AbRules,
    a: Observed,
    b: Observed,
    /// The latest verdict; once it is final, what comes after cannot take it back.
    verdict: Verdict,
}

impl AbTest {
    /// A test that has seen nothing.
    pub fn new(name: Name, rules: AbRules) -> Self {
        let verdict = Verdict::Open { missing: rules.samples_min() };
        Self { name, rules, a: Observed::default(), b: Observed::default(), verdict }
    }

    /// Its name.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// How many outcomes each arm has shown, A first.
    pub const fn samples(&self) -> [u64; 2] {
        [self.a.outcomes, self.b.outcomes]
    }

    /// The arm of `key`: always the same for the same test and key, on every node. Two tests split the same
    /// keys independently of each other.
    pub fn assign(&self, key: &[u8]) -> Arm {
        let point = xxh3_64_with_seed(key, xxh3_64(self.name.as_str().as_bytes()));
        // 53 bits are what a float tells apart.
        let share = (point >> 11) as f64 / (1u64 << 53) as f64;
        if share < self.rules.share_b() { Arm::B } else { Arm::A }
    }

    /// The arm that `key` is to take now: its own while the test is open, then the winner, and A if there is
    /// none.
    pub fn arm(&self, key: &[u8]) -> Arm {
        match self.verdict {
            Verdict::Open { .. } => self.assign(key),
            Verdict::Winner { arm, .. } => arm,
            Verdict::Tradeoff { .. } | Verdict::NoDifference | Verdict::Inconclusive => Arm::A,
        }
    }

    /// Takes note of one outcome; of the latency only if it succeeded, or failing fast would look better.
    ///
    /// After a final verdict nothing is noted any more.
    pub fn observe(&mut self, arm: Arm, latency: Duration, succeeded: bool) {
        if self.verdict.is_final() {
            return;
        }
        match arm {
            Arm::A => self.a.add(latency, succeeded),
            Arm::B => self.b.add(latency, succeeded),
        }
        self.verdict = self.judge();
    }

    /// What can be said; may be asked as often as one likes.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How far B is from A in `measure`; `None` before both arms have their least number of samples.
    pub fn effect(&self, measure: Measure) -> Option<Effect> {
        let smaller = self.a.successes.min(self.b.successes);
        let interval = (self.rules.samples_min() <= smaller).then(|| self.interval(measure))?;
        Some(match measure {
            Measure::Success => interval,
            // From logarithms to ratios.
            Measure::Latency => Effect {
                estimate: interval.estimate.exp_m1(),
                low: interval.low.exp_m1(),
                high: interval.high.exp_m1(),
            },
        })
    }

    /// The interval in the unit that is judged: logarithms for latency, shares for success.
    fn interval(&self, measure: Measure) -> Effect {
        let (estimate, variance) = match measure {
            Measure::Latency => {
                (self.b.mean_log - self.a.mean_log, self.a.latency_variance() + self.b.latency_variance())
            }
            Measure::Success => (
                self.b.success_share() - self.a.success_share(),
                self.a.success_variance() + self.b.success_variance(),
            ),
        };
        let half = half_width(variance, self.margin(measure), self.rules.alpha() / 2.0);
        Effect { estimate, low: estimate - half, high: estimate + half }
    }

    /// The least difference that counts, in the unit that is judged.
    fn margin(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Latency => self.rules.latency_effect().ln_1p(),
            Measure::Success => self.rules.success_effect(),
        }
    }

    fn judge(&self) -> Verdict {
        // Latency is known of successes only: they are what must be many.
        let smaller = self.a.successes.min(self.b.successes);
        let outcomes = self.a.outcomes.min(self.b.outcomes);
        let missing = self.rules.samples_min().saturating_sub(smaller);
        if 0 < missing {
            // An arm of which nearly everything fails would never get its successes.
            let is_over = self.rules.samples_max() <= outcomes;
            return if is_over { self.judge_success() } else { Verdict::Open { missing } };
        }
        let latency =
            Evidence::new(self.interval(Measure::Latency), self.margin(Measure::Latency)).reversed();
        let success = Evidence::new(self.interval(Measure::Success), self.margin(Measure::Success));
        let by = |measure, arm| match self.effect(measure) {
            Some(effect) => Verdict::Winner { arm, by: measure, effect },
            None => Verdict::Open { missing },
        };
        let is_over = self.rules.samples_max() <= outcomes;
        match (latency.better, success.better) {
            (Some(faster), Some(safer)) if faster != safer => return Verdict::Tradeoff { faster },
            // At the end it is enough that the other measure does not lean the other way.
            (Some(arm), _) if success.spares(arm) || is_over && !success.leans_from(arm) => {
                return by(Measure::Latency, arm);
            }
            (_, Some(arm)) if latency.spares(arm) || is_over && !latency.leans_from(arm) => {
                return by(Measure::Success, arm);
            }
            _ => {}
        }
        if latency.is_none && success.is_none {
            Verdict::NoDifference
        } else if is_over {
            Verdict::Inconclusive
        } else {
            Verdict::Open { missing: 0 }
        }
    }

    /// What the successes alone say, when an arm has too few of them for its latency to be compared.
    fn judge_success(&self) -> Verdict {
        let effect = self.interval(Measure::Success);
        match Evidence::new(effect, self.margin(Measure::Success)).better {
            Some(arm) => Verdict::Winner { arm, by: Measure::Success, effect },
            None => Verdict::Inconclusive,
        }
    }
}

/// What an interval says, when more is better.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    better: Option<Arm>,
    /// Whether the difference is certain to be less than what counts.
    is_none: bool,
    /// The most that A, and B, can be behind the other.
    a_loses: f64,
    b_loses: f64,
    /// How far B is ahead, as far as one can tell.
    b_leads: f64,
    margin: f64,
}

impl Evidence {
    fn new(Effect { estimate, low, high }: Effect, margin: f64) -> Self {
        let better = if 0.0 < low {
            Some(Arm::B)
        } else if high < 0.0 {
            Some(Arm::A)
        } else {
            None
        };
        Self {
            better,
            is_none: -margin < low && high < margin,
            a_loses: high,
            b_loses: -low,
            b_leads: estimate,
            margin,
        }
    }

    /// The same when less is better.
    fn reversed(self) -> Self {
        let better = self.better.map(|arm| match arm {
            Arm::A => Arm::B,
            Arm::B => Arm::A,
        });
        // Where B has up to `high` more than A, it is behind by as much.
        Self { better, a_loses: self.b_loses, b_loses: self.a_loses, b_leads: -self.b_leads, ..self }
    }

    /// Whether `arm` is certain not to lose as much as counts.
    fn spares(&self, arm: Arm) -> bool {
        match arm {
            Arm::A => self.a_loses < self.margin,
            Arm::B => self.b_loses < self.margin,
        }
    }

    /// Whether the other arm seems ahead by at least half of what counts: `arm` is then no clear winner, whatever
    /// another measure says of it.
    fn leans_from(&self, arm: Arm) -> bool {
        let leads = match arm {
            Arm::A => -self.b_leads,
            Arm::B => self.b_leads,
        };
        leads <= -0.5 * self.margin
    }
}

/// Half the interval around an estimate of this variance that holds the truth at all looks together with
/// probability `1 − alpha`.
///
/// The likelihood ratio is mixed over effects normally distributed with the deviation `typical`, where the
/// test is to be sharpest. Source: Robbins 1970; Johari, Koomen, Pekelis, Walsh 2017, "Peeking at A/B tests".
pub(crate) fn half_width(variance: f64, typical: f64, alpha: f64) -> f64 {
    // Samples that are all the same have none; the formula needs some.
    let variance = variance.max(VARIANCE_MIN);
    let mixture = typical * typical;
    let both = variance + mixture;
    (2.0 * variance * both / mixture * (0.5 * (both / variance).ln() - alpha.ln())).sqrt()
}

#[cfg(test)]
mod tests;
