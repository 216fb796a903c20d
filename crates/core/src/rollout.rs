//! Progressive rollouts: a candidate takes more of the traffic, stage by stage, as long as it does no harm.
//!
//! It is compared with the baseline that runs beside it, at every look, so that neither a bad hour of both nor
//! a baseline that fails often counts against it; and it is stopped as soon as chance cannot explain its harm,
//! not when the stage is over.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::name::Name;
use crate::time::Timestamp;

mod evidence;
mod rules;

pub use rules::{RolloutRules, RolloutRulesBuilder, RolloutRulesError, STAGES_MAX, Stage};

use evidence::{Count, FailureTest, LatencyTest, LimitTest, Pair, TailTest, excess_at_least, excess_at_most};

/// The share of successes that may be slower than the limit of latency: a limit is one of the 99th percentile.
const SLOW_SHARE: f64 = 0.01;

/// Which part of the chance of a false alarm the comparison of failures has: it is the one that people wait for. The
/// other tests share what is left.
const ALPHA_OF_FAILURES: f64 = 0.5;

/// From which part of the limit of failures on a candidate is not given more (docs/seeds.md, S2-JID-06 and S2-AND-05:
/// within half of a limit is marginal).
const MARGIN: f64 = 0.5;

/// Which of the two a key goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What runs today.
    Baseline,
    /// What is to take its place.
    Candidate,
}

/// The harm a candidate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// It fails more often than is tolerated.
    Failures,
    /// It is slower than is tolerated.
    Latency,
    /// It fails more often than anything may here, whatever the baseline does.
    FailuresLimit,
    /// More than one in a hundred of its successes is slower than anything may be here.
    LatencyLimit,
}

/// Why a stage whose time is over is not passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Candidate or baseline had too few outcomes.
    NoData,
    /// It is not yet certain that the candidate fails seldom enough.
    Uncertain,
    /// It fails more than half as often as anything may here.
    Marginal,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// The stage runs.
    Running,
    /// Its time is over, and it goes on until more is known or a person decides.
    Held {
        /// What is missing.
        why: Hold,
    },
    /// Someone keeps it at this stage. Harm still ends it.
    Paused,
    /// The candidate takes everything.
    Promoted,
    /// The baseline takes everything again.
    Aborted {
        /// The harm that was found; `None` if a person ended it.
        harm: Option<Harm>,
    },
}

impl State {
    /// Whether it is over.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Promoted | Self::Aborted { .. })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Held { why: Hold::NoData } => "held: too few outcomes to compare",
            Self::Held { why: Hold::Uncertain } => "held: not yet certain that it fails seldom enough",
            Self::Held { why: Hold::Marginal } => "held: it is near the limit of failures",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::Aborted { harm: Some(Harm::Failures) } => "aborted: it fails more often than the baseline",
            Self::Aborted { harm: Some(Harm::Latency) } => "aborted: it is slower than the baseline",
            Self::Aborted { harm: Some(Harm::FailuresLimit) } => {
                "aborted: it fails more often than the limit"
            }
            Self::Aborted { harm: Some(Harm::LatencyLimit) } => "aborted: it is slower than the limit",
            Self::Aborted { harm: None } => "aborted by hand",
        })
    }
}

/// What changed at a look or by hand; for a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[must_use = "traffic follows the share"]
pub struct Moved {
    /// The stage now; the first is 1.
    pub stage: usize,
    /// The share of the candidate from now on.
    pub share: f64,
    /// The state now.
    pub state: State,
}

/// It is over, and takes no more orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rollout is {state}; begin another one")]
pub struct RolloutOver {
    /// How it ended.
    pub state: State,
}

/// One rollout: it assigns, takes note, and says at each look what follows. Plain data: kept on a disk, it goes
/// on after a crash where it was.
///
/// # Examples
///
/// ```
/// use gemba_core::rollout::{Rollout, RolloutRules, Side, State};
/// use gemba_core::time::Timestamp;
///
/// let mut rollout = Rollout::new("gateway-2".parse().unwrap(), RolloutRules::default(), Timestamp::START);
/// for second in 1..=60 {
///     rollout.observe(Side::Baseline, 19, 1_900); // One in a hundred fails,
///     rollout.observe(Side::Candidate, 5, 100); // five in a hundred of the candidate's.
///     let moved = rollout.look(Timestamp::from_secs(second));
///     if moved.is_some() {
///         break;
///     }
/// }
/// assert!(rollout.state().is_final());
/// assert_eq!(rollout.share(), 0.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    name: Name,
    rules: RolloutRules,
    state: State,
    /// Counted from 0.
    stage: usize,
    /// How long the stage has run, and since when it runs on.
    ran: Duration,
    running_since: Timestamp,
    /// Counts of this stage.
    counts: Pair<Count>,
    /// What of them came since the last look.
    new: Pair<Count>,
    failures: FailureTest,
    latency: LatencyTest,
    #[serde(default)]
    tail: TailTest,
    /// Failures, and successes above the limit of latency, of the candidate.
    too_many: LimitTest,
    too_slow: LimitTest,
    /// Successes above that limit since the last look.
    slow: Count,
}

impl Rollout {
    /// A rollout at its first stage.
    pub fn new(name: Name, rules: RolloutRules, now: Timestamp) -> Self {
        Self {
            name,
            rules,
            state: State::Running,
            stage: 0,
            ran: Duration::ZERO,
            running_since: now,
            counts: Pair::default(),
            new: Pair::default(),
            failures: FailureTest::default(),
            latency: LatencyTest::default(),
            tail: TailTest::default(),
            too_many: LimitTest::default(),
            too_slow: LimitTest::default(),
            slow: Count::default(),
        }
    }

    /// Its name.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Where it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Its rules.
    pub const fn rules(&self) -> &RolloutRules {
        &self.rules
    }

    /// The stage it is at; the first is 1. One more than there are is the time to bake, when it takes everything and
    /// can still be taken back.
    pub const fn stage(&self) -> usize {
        self.stage + 1
    }

    /// The share of the candidate.
    pub fn share(&self) -> f64 {
        match self.state {
            State::Promoted => 1.0,
            State::Aborted { .. } => 0.0,
            State::Running | State::Held { .. } | State::Paused => {
                self.rules.stages().get(self.stage).map_or(1.0, |stage| stage.share)
            }
        }
    }

    /// Outcomes of this stage, of the candidate and of the baseline.
    pub const fn outcomes(&self) -> [u64; 2] {
        [self.counts.candidate.outcomes, self.counts.baseline.outcomes]
    }

    /// Where `key` goes: always the same at the same share, on every node, and with a greater share no key goes
    /// back to the baseline.
    pub fn assign(&self, key: &[u8]) -> Side {
        let point = xxh3_64_with_seed(key, xxh3_64(self.name.as_str().as_bytes()));
        // 53 bits are what a float tells apart.
        let point = (point >> 11) as f64 / (1u64 << 53) as f64;
        if point < self.share() { Side::Candidate } else { Side::Baseline }
    }

    /// Takes note of outcomes since the last time.
    pub fn observe(&mut self, side: Side, failures: u64, outcomes: u64) {
        if self.state.is_final() {
            return;
        }
        let pairs = [&mut self.counts, &mut self.new];
        for pair in pairs {
            match side {
                Side::Candidate => pair.candidate.add(failures, outcomes),
                Side::Baseline => pair.baseline.add(failures, outcomes),
            }
        }
    }

    /// Takes note of how long a success took; of failures nothing, or failing fast would look better.
    pub fn observe_latency(&mut self, side: Side, latency: Duration) {
        if self.state.is_final() {
            return;
        }
        self.latency.add(side == Side::Candidate, latency);
        self.tail.add(side == Side::Candidate, latency);
        if side == Side::Candidate {
            let is_slow = self.rules.latency_limit().is_some_and(|limit| limit < latency);
            self.slow.add(u64::from(is_slow), 1);
        }
    }

    /// Looks at what has come, and says what changed, if anything did. Every [`RolloutRules::every`]; more
    /// often does no harm.
    pub fn look(&mut self, now: Timestamp) -> Option<Moved> {
        if self.state.is_final() {
            return None;
        }
        let new = std::mem::take(&mut self.new);
        self.failures.weigh(new, self.rules.failures_ratio());
        self.tail.weigh(self.rules.failures_ratio(), self.rules.latency_ratio());
        if let Some(limit) = self.rules.failures_limit() {
            self.too_many.weigh(new.candidate, limit);
        }
        self.too_slow.weigh(std::mem::take(&mut self.slow), SLOW_SHARE);
        let before = self.state;
        if let Some(harm) = self.harm() {
            self.state = State::Aborted { harm: Some(harm) };
            return Some(self.moved());
        }
        if self.state == State::Paused {
            return None;
        }
        if self.stage_ran(now) < self.stage_lasts() {
            return None;
        }
        match self.missing() {
            None => Some(self.pass(now)),
            Some(why) => {
                self.state = State::Held { why };
                (self.state != before).then(|| self.moved())
            }
        }
    }

    /// Keeps it at this stage until it is resumed.
    ///
    /// # Errors
    ///
    /// [`RolloutOver`].
    pub fn pause(&mut self, now: Timestamp) -> Result<Moved, RolloutOver> {
        self.check()?;
        self.ran = self.stage_ran(now);
        self.state = State::Paused;
        Ok(self.moved())
    }

    /// Lets a paused one go on; the stage has run as long as before the pause.
    ///
    /// # Errors
    ///
    /// [`RolloutOver`].
    pub fn resume(&mut self, now: Timestamp) -> Result<Moved, RolloutOver> {
        self.check()?;
        if self.state == State::Paused {
            self.running_since = now;
            self.state = State::Running;
        }
        Ok(self.moved())
    }

    /// Takes the next stage at once, on a person's word, whatever is known.
    ///
    /// # Errors
    ///
    /// [`RolloutOver`].
    pub fn promote(&mut self, now: Timestamp) -> Result<Moved, RolloutOver> {
        self.check()?;
        Ok(self.pass(now))
    }

    /// Gives everything back to the baseline.
    ///
    /// # Errors
    ///
    /// [`RolloutOver`].
    pub fn abort(&mut self) -> Result<Moved, RolloutOver> {
        self.check()?;
        self.state = State::Aborted { harm: None };
        Ok(self.moved())
    }

    fn check(&self) -> Result<(), RolloutOver> {
        if self.state.is_final() { Err(RolloutOver { state: self.state }) } else { Ok(()) }
    }

    fn stage_ran(&self, now: Timestamp) -> Duration {
        match self.state {
            State::Paused => self.ran,
            State::Running | State::Held { .. } | State::Promoted | State::Aborted { .. } => {
                self.ran + now.since(self.running_since)
            }
        }
    }

    /// How long the stage lasts at least.
    pub fn stage_lasts(&self) -> Duration {
        self.rules.stages().get(self.stage).map_or(self.rules.bake(), |stage| stage.lasts)
    }

    fn harm(&self) -> Option<Harm> {
        let limits = [self.rules.failures_limit().is_some(), self.rules.latency_limit().is_some()];
        let others = 2 + limits.into_iter().filter(|is_set| *is_set).count();
        // Latencies begin anew with every stage.
        let of_failures = self.rules.alpha() * ALPHA_OF_FAILURES;
        let alpha = (self.rules.alpha() - of_failures) / others as f64;
        let alpha_stage = alpha / self.rules.stages().len() as f64;
        if self.failures.is_certain(of_failures) {
            Some(Harm::Failures)
        } else if self.latency.is_certain(self.rules.latency_ratio(), alpha_stage)
            || self.tail.is_certain(alpha)
        {
            Some(Harm::Latency)
        } else if self.too_many.is_certain(alpha) {
            Some(Harm::FailuresLimit)
        } else if self.too_slow.is_certain(alpha) {
            Some(Harm::LatencyLimit)
        } else {
            None
        }
    }

    /// What keeps the stage from being passed.
    fn missing(&self) -> Option<Hold> {
        let Pair { candidate, baseline } = self.counts;
        let bakes = self.stage == self.rules.stages().len();
        // While it bakes it has everything, and there is nothing beside it.
        let outcomes = if bakes { candidate.outcomes } else { candidate.outcomes.min(baseline.outcomes) };
        if outcomes < self.rules.outcomes_min() {
            Some(Hold::NoData)
        } else if self.rules.failures_limit().is_some_and(|limit| limit * MARGIN < candidate.share()) {
            Some(Hold::Marginal)
        } else if !bakes && self.rules.excess_max() < excess_at_most(self.counts) {
            Some(Hold::Uncertain)
        } else {
            None
        }
    }

    fn pass(&mut self, now: Timestamp) -> Moved {
        let last = self.rules.stages().len() - usize::from(self.rules.bake().is_zero());
        if last <= self.stage {
            self.state = State::Promoted;
        } else {
            self.stage += 1;
            self.state = State::Running;
            (self.ran, self.running_since) = (Duration::ZERO, now);
            (self.counts, self.latency) = (Pair::default(), LatencyTest::default());
        }
        self.moved()
    }

    fn moved(&self) -> Moved {
        Moved { stage: self.stage(), share: self.share(), state: self.state }
    }

    /// How long the stage has run, pauses left out.
    pub fn ran(&self, now: Timestamp) -> Duration {
        self.stage_ran(now)
    }

    /// How much more the candidate fails than the baseline in this stage, as shares: the least and the most at
    /// 95 %, for those who look at one that is held.
    pub fn excess(&self) -> (f64, f64) {
        (excess_at_least(self.counts), excess_at_most(self.counts))
    }
}

#[cfg(test)]
mod tests;
