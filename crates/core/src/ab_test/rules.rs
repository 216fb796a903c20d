//! How sure an A/B test has to be, for how small an effect, and when it stops, as settings.

use serde::{Deserialize, Serialize};

/// The fewest samples an arm needs: below, a variance is a guess.
const SAMPLES_FLOOR: u64 = 100;

/// Why settings do not make a test.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AbRulesError {
    /// The numbers of samples contradict each other.
    #[error("samples {min} to {max} an arm: give at least {SAMPLES_FLOOR}, and a greatest above the least")]
    Samples {
        /// Before anything is said.
        min: u64,
        /// When the test stops.
        max: u64,
    },
    /// The chance of a false winner is no chance.
    #[error("a chance of {alpha} for a false winner is out of range; give more than 0 and at most 0.2")]
    Alpha {
        /// The refused chance.
        alpha: f64,
    },
    /// The least effect cannot be one.
    #[error("effects of {latency} on latency and {success} on success: give more than 0 and less than 1")]
    Effects {
        /// On latency.
        latency: f64,
        /// On success.
        success: f64,
    },
    /// The share of B leaves one arm empty.
    #[error("a share of {share_b} for B is out of range; give 0.01 to 0.99")]
    Share {
        /// The refused share.
        share_b: f64,
    },
}

/// How sure a test has to be, for how small an effect, and when it stops.
///
/// # Units and limits
///
/// By default a false winner in at most 5 % of tests, between 1 000 and 12 544 samples an arm, effects of 5 %
/// on latency and of one success in a hundred, half of the keys on each arm. 12 544 is twice what a test with
/// a fixed number of samples needs to see 5 % in four of five cases when latencies scatter as much as their
/// mean (6 272). Source: FLOW-EVIDENCE, E21.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AbRules {
    samples_min: u64,
    samples_max: u64,
    alpha: f64,
    latency_effect: f64,
    success_effect: f64,
    share_b: f64,
}

impl Default for AbRules {
    fn default() -> Self {
        Self {
            samples_min: 1_000,
            samples_max: 12_544,
            alpha: 0.05,
            latency_effect: 0.05,
            success_effect: 0.01,
            share_b: 0.5,
        }
    }
}

impl AbRules {
    /// The defaults, to be changed.
    pub fn builder() -> AbRulesBuilder {
        AbRulesBuilder(Self::default())
    }

    /// Samples an arm needs before anything is said.
    pub const fn samples_min(&self) -> u64 {
        self.samples_min
    }

    /// Samples of an arm after which the test stops.
    pub const fn samples_max(&self) -> u64 {
        self.samples_max
    }

    pub(super) const fn alpha(&self) -> f64 {
        self.alpha
    }

    pub(super) const fn latency_effect(&self) -> f64 {
        self.latency_effect
    }

    pub(super) const fn success_effect(&self) -> f64 {
        self.success_effect
    }

    pub(super) const fn share_b(&self) -> f64 {
        self.share_b
    }
}

/// Rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct AbRulesBuilder(AbRules);

impl AbRulesBuilder {
    /// Samples of each arm before anything is said, and after which the test stops.
    pub const fn samples(mut self, min: u64, max: u64) -> Self {
        (self.0.samples_min, self.0.samples_max) = (min, max);
        self
    }

    /// How likely a winner among equals may be, whenever and however often one looks.
    pub const fn alpha(mut self, alpha: f64) -> Self {
        self.0.alpha = alpha;
        self
    }

    /// The least effects that count: a share of the latency, and a difference of the shares of successes.
    pub const fn effects(mut self, latency: f64, success: f64) -> Self {
        (self.0.latency_effect, self.0.success_effect) = (latency, success);
        self
    }

    /// Which share of the keys goes to B.
    pub const fn share_b(mut self, share: f64) -> Self {
        self.0.share_b = share;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`AbRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<AbRules, AbRulesError> {
        let AbRules { samples_min, samples_max, alpha, latency_effect, success_effect, share_b } = self.0;
        if samples_min < SAMPLES_FLOOR || samples_max <= samples_min {
            return Err(AbRulesError::Samples { min: samples_min, max: samples_max });
        }
        if !(0.0 < alpha && alpha <= 0.2) {
            return Err(AbRulesError::Alpha { alpha });
        }
        let is_effect = |effect: f64| 0.0 < effect && effect < 1.0;
        if !is_effect(latency_effect) || !is_effect(success_effect) {
            return Err(AbRulesError::Effects { latency: latency_effect, success: success_effect });
        }
        if !(0.01..=0.99).contains(&share_b) {
            return Err(AbRulesError::Share { share_b });
        }
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for builder in [
            AbRules::builder().samples(99, 1000),
            AbRules::builder().samples(1000, 1000),
            AbRules::builder().alpha(0.0),
            AbRules::builder().alpha(0.21),
            AbRules::builder().alpha(f64::NAN),
            AbRules::builder().effects(0.0, 0.01),
            AbRules::builder().effects(0.05, 1.0),
            AbRules::builder().share_b(0.0),
            AbRules::builder().share_b(1.0),
        ] {
            assert!(builder.build().is_err(), "{builder:?}");
        }
        assert_eq!(
            AbRules::builder().samples(100, 101).alpha(0.2).build().map(|rules| rules.samples_min()),
            Ok(100)
        );
    }
}
