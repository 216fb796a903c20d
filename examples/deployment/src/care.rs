//! How careful a rollout is: its stages, and what takes a version back.

use std::time::Duration;

use gemba::config::Faults;
use gemba::rollout::{RolloutRules, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often the health of a new version is looked at.
pub const LOOK: Duration = Duration::from_secs(1);

/// One stage of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// The share of the requests, 0 to 1; more than in the stage before.
    #[schemars(range(min = 0.001, max = 0.9))]
    pub share: f64,
    /// How long it lasts at least.
    #[schemars(range(min = 1_000))]
    pub lasts_ms: u64,
}

/// How careful a rollout is. A delivery keeps what was in force when it began.
///
/// Source of the defaults: docs/seeds.md, S2-HEI-05 and S2-JID-06.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Care {
    /// The stages before a version has everything.
    #[schemars(length(min = 1, max = 20))]
    pub stages: Vec<StageSpec>,
    /// How long it has everything in a region before the next region follows; 0 does not wait.
    pub bake_ms: u64,
    /// The share of failures above which it is taken back, whatever else fails.
    #[schemars(range(min = 0.0001, max = 0.9))]
    pub failures_limit: f64,
    /// The 99th percentile above which it is taken back.
    #[schemars(range(min = 1, max = 60_000))]
    pub latency_limit_ms: u64,
    /// Outcomes of each side before a stage is passed.
    #[schemars(range(min = 100))]
    pub outcomes_min: u64,
    /// How far the share of failures may, with 95 % certainty, be above that of what runs today when a stage is passed.
    #[schemars(range(min = 0.0001, max = 0.5))]
    pub excess_max: f64,
}

impl Default for Care {
    fn default() -> Self {
        let stage = |share, lasts_ms| StageSpec { share, lasts_ms };
        Self {
            stages: vec![stage(0.05, 300_000), stage(0.25, 600_000)],
            bake_ms: 300_000,
            failures_limit: 0.05,
            latency_limit_ms: 1_000,
            outcomes_min: 200,
            excess_max: 0.01,
        }
    }
}

impl Care {
    /// As rules of a rollout.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them, in words.
    pub fn rules(&self) -> Result<RolloutRules, Vec<String>> {
        let stage =
            |spec: &StageSpec| Stage { share: spec.share, lasts: Duration::from_millis(spec.lasts_ms) };
        let rules = RolloutRules::builder()
            .stages(self.stages.iter().map(stage))
            .every(LOOK)
            .outcomes_min(self.outcomes_min)
            .excess_max(self.excess_max)
            .limits(self.failures_limit, Duration::from_millis(self.latency_limit_ms))
            .bake(Duration::from_millis(self.bake_ms));
        rules.build().map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    /// Reports what no single value shows.
    pub(crate) fn check(&self, faults: &mut Faults<'_>) {
        let mut is_sound = true;
        for (index, pair) in self.stages.windows(2).enumerate() {
            let (before, share) = (pair[0].share, pair[1].share);
            if share <= before {
                is_sound = false;
                let mut stages = faults.at("stages");
                let mut stage = stages.item(index + 1);
                stage.at("share").add(format!("is {share}; give more than {before}, the share before it"));
            }
        }
        let look = LOOK.as_millis() as u64;
        if (1..look).contains(&self.bake_ms) {
            is_sound = false;
            let bake = self.bake_ms;
            faults.at("bake_ms").add(format!("is {bake}; give 0, or at least {look}, which is one look"));
        }
        // Ranges are told with the values themselves; this is what else the rules may ask for.
        if is_sound && let Err(errors) = self.rules() {
            faults.add(errors.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use gemba::rollout::STAGES_MAX;

    use super::*;

    #[test]
    fn what_the_file_allows_is_what_a_rollout_takes() {
        assert_eq!(STAGES_MAX, 20, "the length of `stages` says the same");
        let stages =
            vec![StageSpec { share: 0.001, lasts_ms: 1_000 }, StageSpec { share: 0.9, lasts_ms: 1_000 }];
        for (failures_limit, latency_limit_ms, excess_max) in [(0.0001, 1, 0.0001), (0.9, 60_000, 0.5)] {
            let outcomes_min = 100;
            let stages = stages.clone();
            let edge =
                Care { stages, bake_ms: 0, failures_limit, latency_limit_ms, outcomes_min, excess_max };
            edge.rules().unwrap();
        }
    }
}
