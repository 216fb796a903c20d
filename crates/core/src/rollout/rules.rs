//! The stages of a rollout and how sure it has to be, as settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most stages: more are a slope, and each one takes its share of the chance of a false alarm.
pub const STAGES_MAX: usize = 20;

/// Outcomes of each side below which a stage is not passed: a share among fewer is a guess.
const OUTCOMES_FLOOR: u64 = 100;

/// One step of a rollout: how much the candidate takes, and for how long at least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The share of the keys that go to the candidate.
    pub share: f64,
    /// How long the stage runs at least; pauses do not count.
    pub lasts: Duration,
}

/// Why settings do not make a rollout.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutRulesError {
    /// There are no stages, or too many.
    #[error("{stages} stages; give 1 to {STAGES_MAX}")]
    Stages {
        /// How many were given.
        stages: usize,
    },
    /// A stage does not take more than the one before, or leaves nothing to compare with.
    #[error(
        "the share of stage {stage} is {share}; give at least 0.001, at most 0.9, and more than the stage before"
    )]
    Share {
        /// Its number; the first is 1.
        stage: usize,
        /// The refused share.
        share: f64,
    },
    /// A stage ends before it was looked at.
    #[error("stage {stage} lasts {lasts:?} and is looked at every {every:?}; give it at least one look")]
    Lasts {
        /// Its number; the first is 1.
        stage: usize,
        /// The refused time.
        lasts: Duration,
        /// How often it is looked at.
        every: Duration,
    },
    /// It is looked at too often or too seldom.
    #[error("a look every {every:?} is out of range; give 1 s to 1 min")]
    Every {
        /// The refused time.
        every: Duration,
    },
    /// Too few outcomes say nothing.
    #[error("{outcomes} outcomes of each side a stage are too few; give at least {OUTCOMES_FLOOR}")]
    Outcomes {
        /// The refused number.
        outcomes: u64,
    },
    /// The chance of a false alarm is no chance.
    #[error("a chance of {alpha} for a false alarm is out of range; give more than 0 and at most 0.2")]
    Alpha {
        /// The refused chance.
        alpha: f64,
    },
    /// What is tolerated cannot be.
    #[error("{what} tolerated at {value} is out of range; give {least} to {most}")]
    Tolerated {
        /// The setting.
        what: &'static str,
        /// The refused value.
        value: f64,
        /// The least it may be.
        least: f64,
        /// The most it may be.
        most: f64,
    },
}

/// The stages of a rollout, and how sure it has to be.
///
/// # Units and limits
///
/// By default 5 %, 25 % and 50 % for five minutes each, looked at every 5 s; a candidate that is no worse is
/// stopped in at most 1 % of rollouts; failures may be 1.2 times those of the baseline and latencies 1.1 times
/// before it is stopped; a stage is passed when, with 95 % certainty, at most one in a hundred more fails.
/// Source: FLOW-EVIDENCE, E22 and X37–X39; 5 % for 5 min is the first stage of docs/seeds.md.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRules {
    stages: Vec<Stage>,
    every: Duration,
    outcomes_min: u64,
    alpha: f64,
    failures_ratio: f64,
    latency_ratio: f64,
    excess_max: f64,
    failures_limit: Option<f64>,
    latency_limit: Option<Duration>,
    bake: Duration,
}

impl Default for RolloutRules {
    fn default() -> Self {
        let stage = |share| Stage { share, lasts: Duration::from_secs(300) };
        Self {
            stages: vec![stage(0.05), stage(0.25), stage(0.5)],
            every: Duration::from_secs(5),
            outcomes_min: 500,
            alpha: 0.01,
            failures_ratio: 1.2,
            latency_ratio: 1.1,
            excess_max: 0.01,
            failures_limit: None,
            latency_limit: None,
            bake: Duration::ZERO,
        }
    }
}

impl RolloutRules {
    /// The defaults, to be changed.
    pub fn builder() -> RolloutRulesBuilder {
        RolloutRulesBuilder(Self::default())
    }

    /// The stages, in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// How often [`Rollout::look`](super::Rollout::look) is to be called.
    pub const fn every(&self) -> Duration {
        self.every
    }

    pub(super) const fn outcomes_min(&self) -> u64 {
        self.outcomes_min
    }

    pub(super) const fn alpha(&self) -> f64 {
        self.alpha
    }

    pub(super) const fn failures_ratio(&self) -> f64 {
        self.failures_ratio
    }

    pub(super) const fn latency_ratio(&self) -> f64 {
        self.latency_ratio
    }

    pub(super) const fn excess_max(&self) -> f64 {
        self.excess_max
    }

    pub(super) const fn failures_limit(&self) -> Option<f64> {
        self.failures_limit
    }

    pub(super) const fn latency_limit(&self) -> Option<Duration> {
        self.latency_limit
    }

    /// How long the candidate keeps everything before that is final.
    pub const fn bake(&self) -> Duration {
        self.bake
    }
}

/// Rules in the making.
#[derive(Debug, Clone)]
pub struct RolloutRulesBuilder(RolloutRules);

impl RolloutRulesBuilder {
    /// The stages, in order. After the last one the candidate takes everything.
    pub fn stages(mut self, stages: impl IntoIterator<Item = Stage>) -> Self {
        self.0.stages = stages.into_iter().collect();
        self
    }

    /// How often it is looked at.
    pub fn every(mut self, every: Duration) -> Self {
        self.0.every = every;
        self
    }

    /// Outcomes of each side, in one stage, before it is passed.
    pub fn outcomes_min(mut self, outcomes: u64) -> Self {
        self.0.outcomes_min = outcomes;
        self
    }

    /// How likely a candidate that does no harm may be stopped, over the whole rollout.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.0.alpha = alpha;
        self
    }

    /// How many times the failures, and the latency, of the baseline are no harm yet.
    pub fn tolerated(mut self, failures_ratio: f64, latency_ratio: f64) -> Self {
        (self.0.failures_ratio, self.0.latency_ratio) = (failures_ratio, latency_ratio);
        self
    }

    /// How far the share of failures may be above that of the baseline when a stage is passed: 0.01 is one more
    /// in a hundred.
    pub fn excess_max(mut self, excess: f64) -> Self {
        self.0.excess_max = excess;
        self
    }

    /// The share of failures, and the 99th percentile of latency, above which a candidate is stopped, however the
    /// baseline does; from half of the former on it is held. By default there are none.
    pub fn limits(mut self, failures: f64, latency: Duration) -> Self {
        (self.0.failures_limit, self.0.latency_limit) = (Some(failures), Some(latency));
        self
    }

    /// How long the candidate keeps everything, and can still be stopped by the [limits](Self::limits), before it is
    /// promoted. By default no time.
    pub fn bake(mut self, bake: Duration) -> Self {
        self.0.bake = bake;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// All [`RolloutRulesError`]s at once.
    pub fn build(self) -> Result<RolloutRules, Vec<RolloutRulesError>> {
        let rules = self.0;
        let mut errors = Vec::new();
        if rules.stages.is_empty() || STAGES_MAX < rules.stages.len() {
            errors.push(RolloutRulesError::Stages { stages: rules.stages.len() });
        }
        let mut before = 0.0;
        for (stage, &Stage { share, lasts }) in (1..).zip(&rules.stages) {
            if !(0.001..=0.9).contains(&share) || share <= before {
                errors.push(RolloutRulesError::Share { stage, share });
            }
            if lasts < rules.every {
                errors.push(RolloutRulesError::Lasts { stage, lasts, every: rules.every });
            }
            before = share;
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&rules.every) {
            errors.push(RolloutRulesError::Every { every: rules.every });
        }
        if rules.outcomes_min < OUTCOMES_FLOOR {
            errors.push(RolloutRulesError::Outcomes { outcomes: rules.outcomes_min });
        }
        if !(0.0 < rules.alpha && rules.alpha <= 0.2) {
            errors.push(RolloutRulesError::Alpha { alpha: rules.alpha });
        }
        for (what, value, least, most) in [
            ("a ratio of failures", rules.failures_ratio, 1.0, 10.0),
            ("a ratio of latencies", rules.latency_ratio, 1.01, 10.0),
            ("an excess of failures", rules.excess_max, 0.0001, 0.5),
        ] {
            if !(least..=most).contains(&value) {
                errors.push(RolloutRulesError::Tolerated { what, value, least, most });
            }
        }
        if !rules.bake.is_zero() && rules.bake < rules.every {
            let stage = rules.stages.len() + 1;
            errors.push(RolloutRulesError::Lasts { stage, lasts: rules.bake, every: rules.every });
        }
        let latency_limit = rules.latency_limit.map(|limit| limit.as_secs_f64());
        for (what, value, least, most) in [
            ("a limit of failures", rules.failures_limit, 0.0001, 0.9),
            ("a limit of latency in seconds", latency_limit, 0.001, 60.0),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                errors.push(RolloutRulesError::Tolerated { what, value, least, most });
            }
        }
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_at_once_and_limits_belong_to_the_range() {
        let stage = |share, secs| Stage { share, lasts: Duration::from_secs(secs) };
        let errors = RolloutRules::builder()
            .stages([stage(0.5, 300), stage(0.5, 1), stage(0.95, 300)])
            .outcomes_min(99)
            .alpha(0.0)
            .tolerated(0.9, f64::NAN)
            .excess_max(0.0)
            .limits(0.0, Duration::from_secs(61))
            .bake(Duration::from_millis(1))
            .build()
            .unwrap_err();
        assert_eq!(errors.len(), 11, "{errors:?}");
        let every = RolloutRules::builder().every(Duration::from_millis(999)).build().unwrap_err();
        assert_eq!(every.len(), 1, "{every:?}");
        assert!(RolloutRules::builder().stages([]).build().is_err());
        let edge = RolloutRules::builder()
            .stages([stage(0.001, 5), stage(0.9, 5)])
            .outcomes_min(100)
            .alpha(0.2)
            .tolerated(1.0, 1.01)
            .excess_max(0.5);
        assert!(edge.build().is_ok());
    }
}
