//! The ladders of lines and of figures as parts of a configuration.

use gemba_config::{Check, Faults};
use gemba_core::ladder::{LadderRules, LadderRulesBuilder, LevelRules, Measure, Thresholds, ThresholdsError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{below, rest};
use super::secs;

/// Which share of failures lights which light. Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LadderSection {
    /// From which share of failures on it is yellow.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub yellow_ratio: f64,
    /// Above which it is red.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub red_ratio: f64,
    /// Above which it is purple.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub purple_ratio: f64,
    /// Over which time failures are counted.
    pub window_s: u32,
    /// How many outcomes say something.
    pub outcomes_min: u32,
    /// Below which share of its trigger a light clears.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub clear_ratio: f64,
    /// After how long.
    pub clear_after_s: u32,
}

impl Default for LadderSection {
    fn default() -> Self {
        Self {
            yellow_ratio: 0.0005,
            red_ratio: 0.005,
            purple_ratio: 0.01,
            window_s: 60,
            outcomes_min: 500,
            clear_ratio: 0.8,
            clear_after_s: 60,
        }
    }
}

impl LadderSection {
    pub(super) fn rules(&self) -> LadderRulesBuilder {
        LadderRules::builder()
            .thresholds(self.yellow_ratio, self.red_ratio, self.purple_ratio)
            .window(secs(self.window_s), self.outcomes_min.into())
            .clearing(self.clear_ratio, secs(self.clear_after_s))
    }
}

impl Check for LadderSection {
    fn check(&self, faults: &mut Faults<'_>) {
        let red = ("red_ratio", self.red_ratio);
        let sound = [
            below(faults, ("yellow_ratio", self.yellow_ratio), red, false),
            below(faults, red, ("purple_ratio", self.purple_ratio), false),
        ];
        if sound.iter().all(|sound| *sound) {
            rest(faults, self.rules().build());
        }
    }
}

/// From where on a figure is yellow, and above what red and purple. Without any it is not watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ThresholdsSection {
    /// From where on it is yellow.
    #[schemars(range(min = 1))]
    pub yellow: Option<u32>,
    /// Above which it is red.
    #[schemars(range(min = 1))]
    pub red: Option<u32>,
    /// Above which it is purple, where it may slow lines down and stop them; red otherwise.
    #[schemars(range(min = 1))]
    pub purple: Option<u32>,
}

impl ThresholdsSection {
    fn thresholds(self, unit: u64) -> Result<Thresholds, ThresholdsError> {
        let scaled = |given: Option<u32>| given.map(|given| u64::from(given) * unit);
        Thresholds::new(scaled(self.yellow), scaled(self.red), scaled(self.purple))
    }
}

/// Which percentiles, queues and resources light which light; none by default. A light clears as the ladder's do.
/// Can be changed while the plant runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LevelsSection {
    /// The 95th percentile of a line's latency, in milliseconds.
    pub p95_ms: ThresholdsSection,
    /// The 99th percentile of a line's latency, in milliseconds.
    pub p99_ms: ThresholdsSection,
    /// Signals that wait for the workers of a line.
    pub queued: ThresholdsSection,
    /// The processors of the machine, over the last minute, in percent of all of them.
    pub processor_percent: ThresholdsSection,
    /// The memory of the process, in megabytes.
    pub memory_mb: ThresholdsSection,
    /// Established TCP connections of the process.
    pub connections: ThresholdsSection,
}

impl LevelsSection {
    /// Each figure with its key, its thresholds and how many of its units one of theirs is.
    const fn figures(&self) -> [(&'static str, Measure, ThresholdsSection, u64); 6] {
        [
            ("p95_ms", Measure::P95, self.p95_ms, 1_000),
            ("p99_ms", Measure::P99, self.p99_ms, 1_000),
            ("queued", Measure::Queued, self.queued, 1),
            ("processor_percent", Measure::Processor, self.processor_percent, 10),
            ("memory_mb", Measure::Memory, self.memory_mb, 1_000_000),
            ("connections", Measure::Connections, self.connections, 1),
        ]
    }

    pub(super) fn rules(&self) -> LevelRules {
        let watched = self.figures().into_iter().filter(|figure| figure.2 != ThresholdsSection::default());
        // What is faulty was told by `Check`, and is not watched.
        let sound =
            watched.filter_map(|(_, measure, given, unit)| Some((measure, given.thresholds(unit).ok()?)));
        sound.fold(LevelRules::default(), |rules, (measure, thresholds)| rules.with(measure, thresholds))
    }
}

impl Check for LevelsSection {
    fn check(&self, faults: &mut Faults<'_>) {
        for (key, _, given, _) in self.figures() {
            rest(&mut faults.at(key), given.thresholds(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_the_rules_have_it() {
        assert_eq!(LadderSection::default().rules().build(), Ok(LadderRules::default()));
        assert_eq!(LevelsSection::default().rules(), LevelRules::default());
    }
}
