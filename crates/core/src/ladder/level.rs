//! How high a figure of a line or of the node stands: its percentiles, its queue, its processors and memory.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LadderRules, Rung};
use crate::jidoka::Cause;
use crate::light::Light;
use crate::time::Timestamp;

/// What is held against thresholds, and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The 95th percentile of a line's latency, in microseconds.
    P95,
    /// The 99th percentile of a line's latency, in microseconds.
    P99,
    /// Signals that wait for the workers of a line.
    Queued,
    /// The processors of the machine, in thousandths of all of them.
    Processor,
    /// The memory of the process, in bytes.
    Memory,
    /// Established TCP connections of the process.
    Connections,
}

impl Measure {
    /// Those of a line.
    pub const OF_LINE: [Self; 3] = [Self::P95, Self::P99, Self::Queued];

    /// Those of the node, which all its lines share.
    pub const OF_NODE: [Self; 3] = [Self::Processor, Self::Memory, Self::Connections];

    /// The word for it, as it stands in receipts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Queued => "queued",
            Self::Processor => "processor",
            Self::Memory => "memory",
            Self::Connections => "connections",
        }
    }

    /// What is wrong with a line where it stands too high.
    pub const fn cause(self) -> Cause {
        match self {
            Self::P95 | Self::P99 => Cause::Latency,
            Self::Queued => Cause::Queue,
            Self::Processor | Self::Memory | Self::Connections => Cause::Resources,
        }
    }

    /// A value of it for people.
    pub fn say(self, value: u64) -> String {
        match self {
            Self::P95 | Self::P99 => format!("{:?}", Duration::from_micros(value)),
            Self::Queued => format!("{value} signals"),
            Self::Processor => format!("{} %", value as f64 / 10.0),
            Self::Memory => format!("{} MB", value / 1_000_000),
            Self::Connections => value.to_string(),
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Why numbers are no thresholds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the thresholds {given:?} of yellow, red and purple do not rise; give each above the one before, from 1 up"
)]
pub struct ThresholdsError {
    given: Vec<u64>,
}

/// From where on a figure is yellow, and above what red and purple, each if at all; in the unit of its [`Measure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds([Option<u64>; 3]);

impl Thresholds {
    /// From where on it is yellow, above what red, above what purple. Without any, nothing is watched.
    ///
    /// # Errors
    ///
    /// [`ThresholdsError`] if they do not rise.
    pub fn new(yellow: Option<u64>, red: Option<u64>, purple: Option<u64>) -> Result<Self, ThresholdsError> {
        let given: Vec<_> = [Some(0), yellow, red, purple].into_iter().flatten().collect();
        if given.is_sorted_by(|low, high| low < high) {
            Ok(Self([yellow, red, purple]))
        } else {
            Err(ThresholdsError { given: given[1..].to_vec() })
        }
    }
}

/// Which figures are held against which thresholds. None by default: what is slow for one service is fast for
/// another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LevelRules(Vec<(Measure, Thresholds)>);

impl LevelRules {
    /// Holds a figure against thresholds, instead of those it had.
    #[must_use]
    pub fn with(mut self, measure: Measure, thresholds: Thresholds) -> Self {
        self.0.retain(|(known, _)| *known != measure);
        self.0.push((measure, thresholds));
        self
    }

    /// The thresholds of a figure, if it is held against any.
    pub fn of(&self, measure: Measure) -> Option<Thresholds> {
        self.0.iter().find(|(known, _)| *known == measure).map(|(_, thresholds)| *thresholds)
    }
}

/// A figure passed a threshold, or is below it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "every step leaves a receipt"]
pub struct LevelStep {
    /// Which figure.
    pub measure: Measure,
    /// The light before.
    pub from: Light,
    /// The light now.
    pub to: Light,
    /// How high it stands.
    pub value: u64,
    /// The threshold it passed, or is below again.
    pub limit: u64,
}

/// Watches one figure. Each threshold has its own hysteresis: it clears as a light of [`LadderRules`] does.
#[derive(Debug, Clone)]
pub struct Level {
    measure: Measure,
    rungs: Vec<Rung>,
    rules: LadderRules,
    worst: Light,
    /// What was told last: a light goes out with its threshold, and that is told too.
    told: Light,
    /// The threshold that was told last.
    limit: u64,
}

impl Level {
    /// A figure that has shown nothing yet.
    pub fn new(measure: Measure, thresholds: Thresholds, rules: LadderRules) -> Self {
        let rungs = rungs(thresholds);
        Self { measure, rungs, rules, worst: Light::Red, told: Light::Green, limit: 0 }
    }

    /// Is held against other thresholds from now on, or none at all.
    ///
    /// A light that is lit and has a threshold still stays lit until the figure is below what clears it now; one
    /// without a threshold goes out with the next observation, which tells so.
    pub fn set_rules(&mut self, thresholds: Option<Thresholds>, rules: LadderRules) {
        let mut next = thresholds.map_or_else(Vec::new, rungs);
        for rung in &mut next {
            if let Some(known) = self.rungs.iter().find(|known| known.light == rung.light) {
                (rung.lit, rung.below_since) = (known.lit, known.below_since);
            }
        }
        (self.rungs, self.rules) = (next, rules);
    }

    /// Whether there is nothing left to hold it against, and nothing to tell of it.
    pub fn is_over(&self) -> bool {
        self.rungs.is_empty() && self.told == Light::Green
    }

    /// Whether it is held against any threshold.
    pub const fn is_watched(&self) -> bool {
        !self.rungs.is_empty()
    }

    /// Which figure it is.
    pub const fn measure(&self) -> Measure {
        self.measure
    }

    /// Takes note of how high it stands; to be called about every second.
    ///
    /// It shows no light worse than `worst`: a purple one says that the node is not ready, and what stops nothing
    /// should not say so.
    pub fn observe(&mut self, value: u64, worst: Light, now: Timestamp) -> Option<LevelStep> {
        let from = self.told;
        self.worst = worst;
        self.rungs.iter_mut().for_each(|rung| rung.observe(value as f64, &self.rules, now));
        let to = self.light();
        if from == to {
            return None;
        }
        // The worst it shows or showed; a light that is not as bad as its threshold says has none of its own.
        let mut passed = self.rungs.iter().rev().filter(|rung| rung.light <= from.max(to));
        let passed = passed.next().or(self.rungs.first());
        // Without a threshold it goes out with the one it passed last.
        self.limit = passed.map_or(self.limit, |rung| rung.trigger as u64);
        self.told = to;
        Some(LevelStep { measure: self.measure, from, to, value, limit: self.limit })
    }

    /// The light it shows.
    pub fn light(&self) -> Light {
        let lit = self.rungs.iter().filter(|rung| rung.lit).map(|rung| rung.light).max();
        lit.unwrap_or_default().min(self.worst)
    }
}

fn rungs(thresholds: Thresholds) -> Vec<Rung> {
    let lights = [Light::Yellow, Light::Red, Light::Purple];
    let rung = |(light, threshold): (Light, Option<u64>)| Some(Rung::new(light, threshold? as f64));
    lights.into_iter().zip(thresholds.0).filter_map(rung).collect()
}

#[cfg(test)]
mod tests {
    use super::Light::{Green, Purple, Red, Yellow};
    use super::*;

    fn level(measure: Measure, yellow: u64, red: u64, purple: Option<u64>) -> Level {
        let thresholds = Thresholds::new(Some(yellow), Some(red), purple).unwrap();
        Level::new(measure, thresholds, LadderRules::default())
    }

    #[test]
    fn each_threshold_has_its_own_light_and_clears_a_minute_below_four_fifths_of_it() {
        let mut p95 = level(Measure::P95, 150_000, 280_000, None);
        let mut steps = Vec::new();
        // Below, at yellow, above red, below what clears red, below what clears yellow.
        let course = [(149_999, 5), (150_000, 5), (281_000, 5), (223_000, 70), (119_000, 70)];
        let mut second = 0;
        for (value, seconds) in course {
            for _ in 0..seconds {
                second += 1;
                if let Some(step) = p95.observe(value, Red, Timestamp::from_secs(second)) {
                    steps.push((second, step.from, step.to, step.value, step.limit));
                }
            }
        }
        let expected = [
            (6, Green, Yellow, 150_000, 150_000),
            (11, Yellow, Red, 281_000, 280_000),
            (76, Red, Yellow, 223_000, 280_000),
            (146, Yellow, Green, 119_000, 150_000),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn what_stops_nothing_is_never_purple() {
        let mut processor = level(Measure::Processor, 500, 700, Some(850));
        let step = processor.observe(990, Red, Timestamp::from_secs(1)).unwrap();
        assert_eq!((step.to, step.limit), (Red, 700));
        let step = processor.observe(990, Purple, Timestamp::from_secs(2)).unwrap();
        assert_eq!((step.from, step.to, step.limit), (Red, Purple, 850));
    }

    #[test]
    fn a_threshold_may_be_missing_but_those_that_are_there_rise() {
        for (yellow, red, purple) in
            [(Some(0), None, None), (Some(5), Some(5), None), (Some(9), None, Some(5))]
        {
            let error = Thresholds::new(yellow, red, purple).unwrap_err();
            assert!(error.to_string().contains("do not rise"), "{error}");
        }
        let mut p99 = Level::new(
            Measure::P99,
            Thresholds::new(None, None, Some(1_000_000)).unwrap(),
            LadderRules::default(),
        );
        let step = p99.observe(1_000_001, Red, Timestamp::from_secs(1)).unwrap();
        assert_eq!((step.from, step.to, step.limit), (Green, Red, 1_000_000));
        let mut unwatched =
            Level::new(Measure::P99, Thresholds::new(None, None, None).unwrap(), LadderRules::default());
        assert_eq!(unwatched.observe(u64::MAX, Purple, Timestamp::from_secs(1)), None);
    }

    #[test]
    fn other_thresholds_keep_what_is_lit_and_what_has_none_goes_out_and_says_so() {
        let at = Timestamp::from_secs;
        let mut p95 = level(Measure::P95, 150_000, 280_000, None);
        let _ = p95.observe(300_000, Red, at(1));
        let higher = Thresholds::new(Some(150_000), Some(400_000), None).ok();
        p95.set_rules(higher, LadderRules::default());
        assert_eq!((p95.observe(300_000, Red, at(2)), p95.light()), (None, Red), "its minute begins");
        let step = p95.observe(300_000, Red, at(62)).unwrap();
        assert_eq!((step.from, step.to, step.limit), (Red, Yellow, 400_000));

        p95.set_rules(Thresholds::new(None, Some(500_000), None).ok(), LadderRules::default());
        let step = p95.observe(300_000, Red, at(63)).unwrap();
        assert_eq!((step.from, step.to), (Yellow, Green), "nothing is yellow any more");

        let _ = p95.observe(600_000, Red, at(64));
        p95.set_rules(None, LadderRules::default());
        assert!(!p95.is_watched() && !p95.is_over());
        let step = p95.observe(600_000, Red, at(65)).unwrap();
        assert_eq!((step.from, step.to, step.limit), (Red, Green, 500_000));
        assert!(p95.is_over());
    }

    #[test]
    fn values_are_said_in_their_unit() {
        let said = [
            (Measure::P95, 281_500, "281.5ms"),
            (Measure::Queued, 10_000, "10000 signals"),
            (Measure::Processor, 855, "85.5 %"),
            (Measure::Memory, 450_000_000, "450 MB"),
            (Measure::Connections, 250, "250"),
        ];
        for (measure, value, text) in said {
            assert_eq!(measure.say(value), text);
        }
    }
}
