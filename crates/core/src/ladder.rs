//! How far a line's share of failures has climbed, and when it is down again.

use std::time::Duration;

use crate::light::Light;
use crate::proportion::{Z_95, wilson};
use crate::time::Timestamp;
use crate::window::{Tally, Window};

mod level;

pub use level::{Level, LevelRules, LevelStep, Measure, Thresholds, ThresholdsError};

/// The shortest window: less is noise.
const WINDOW_MIN: Duration = Duration::from_secs(60);

/// The longest window: a day of buckets of one second.
const WINDOW_MAX: Duration = Duration::from_secs(86_400);

/// Why settings do not make a ladder.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LadderRulesError {
    /// The thresholds are out of order: the higher ones could not be reached.
    #[error("yellow {yellow}, red {red}, purple {purple}: give 0 < yellow < red < purple < 1")]
    Thresholds {
        /// From here on it is yellow.
        yellow: f64,
        /// Above it is red.
        red: f64,
        /// Above it is purple.
        purple: f64,
    },
    /// The window is too short to say anything, or too long to keep.
    #[error("a window of {window:?} is out of range; give {WINDOW_MIN:?} to {WINDOW_MAX:?}")]
    Window {
        /// The refused window.
        window: Duration,
    },
    /// The share of a threshold below which it clears is not a share.
    #[error("a light cannot clear at {clear_ratio} of its trigger; give a number above 0 and at most 1")]
    ClearRatio {
        /// The refused ratio.
        clear_ratio: f64,
    },
}

/// Which share of failures lights which light.
///
/// # Units and limits
///
/// By default yellow from 0.05 %, red above 0.5 %, purple above 1.0 %; over 60 s, in buckets of one
/// second, and from 500 outcomes on; a light clears after 60 s below 80 % of its trigger.
/// Source: FLOW.md, jidoka.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LadderRules {
    yellow: f64,
    red: f64,
    purple: f64,
    window: Duration,
    outcomes_min: u64,
    clear_ratio: f64,
    clear_after: Duration,
    worst: Light,
}

impl LadderRules {
    /// The same, but that no light is worse than `worst`: for what is shown and stops nothing, since a purple light
    /// says that the node is not ready.
    pub const fn at_worst(mut self, worst: Light) -> Self {
        self.worst = worst;
        self
    }

    /// The defaults, to be changed.
    pub fn builder() -> LadderRulesBuilder {
        LadderRulesBuilder(Self::default())
    }
}

impl Default for LadderRules {
    fn default() -> Self {
        Self {
            yellow: 0.0005,
            red: 0.005,
            purple: 0.01,
            window: WINDOW_MIN,
            outcomes_min: 500,
            clear_ratio: 0.8,
            clear_after: Duration::from_secs(60),
            worst: Light::Purple,
        }
    }
}

/// Ladder rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct LadderRulesBuilder(LadderRules);

impl LadderRulesBuilder {
    /// The shares of failures from which on it is yellow, and above which it is red and purple.
    pub const fn thresholds(mut self, yellow: f64, red: f64, purple: f64) -> Self {
        (self.0.yellow, self.0.red, self.0.purple) = (yellow, red, purple);
        self
    }

    /// Over which time failures are counted, and how many outcomes say something.
    pub const fn window(mut self, window: Duration, outcomes_min: u64) -> Self {
        (self.0.window, self.0.outcomes_min) = (window, outcomes_min);
        self
    }

    /// Below which share of its trigger a light clears, and after how long.
    pub const fn clearing(mut self, ratio: f64, after: Duration) -> Self {
        (self.0.clear_ratio, self.0.clear_after) = (ratio, after);
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`LadderRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<LadderRules, LadderRulesError> {
        let LadderRules { yellow, red, purple, window, clear_ratio, .. } = self.0;
        if !(0.0 < yellow && yellow < red && red < purple && purple < 1.0) {
            return Err(LadderRulesError::Thresholds { yellow, red, purple });
        }
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&window) {
            return Err(LadderRulesError::Window { window });
        }
        if !(0.0 < clear_ratio && clear_ratio <= 1.0) {
            return Err(LadderRulesError::ClearRatio { clear_ratio });
        }
        Ok(self.0)
    }
}

/// The line moved on its ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "every step leaves a receipt"]
pub struct Step {
    /// The light before.
    pub from: Light,
    /// The light now.
    pub to: Light,
    /// Failures in the window.
    pub failures: u64,
    /// Outcomes in the window.
    pub outcomes: u64,
}

/// One light of the ladder, with its own hysteresis.
#[derive(Debug, Clone, Copy)]
struct Rung {
    light: Light,
    trigger: f64,
    lit: bool,
    /// Since when the value is below what clears it.
    below_since: Option<Timestamp>,
}

impl Rung {
    const fn new(light: Light, trigger: f64) -> Self {
        Self { light, trigger, lit: false, below_since: None }
    }

    fn observe(&mut self, value: f64, rules: &LadderRules, now: Timestamp) {
        let reached = if self.light == Light::Yellow { self.trigger <= value } else { self.trigger < value };
        if value < rules.clear_ratio * self.trigger {
            let below_since = *self.below_since.get_or_insert(now);
            self.lit &= now.since(below_since) < rules.clear_after;
        } else {
            self.below_since = None;
            self.lit |= reached;
        }
    }
}

/// Watches the share of failures of one line.
///
/// What counts is the lower end of the 95 % interval of the share (Wilson): 1 failure of 100 may be chance,
/// 100 of 10 000 are not. Refusals are no outcomes, or shedding load would look like failing.
#[derive(Debug, Clone)]
#[doc(alias = "andon")]
pub struct Ladder {
    rules: LadderRules,
    rungs: [Rung; 3],
    window: Window,
    seen: Option<Tally>,
}

impl Ladder {
    /// A ladder that is green and has seen nothing.
    pub fn new(rules: LadderRules, now: Timestamp) -> Self {
        Self {
            rules,
            rungs: [
                Rung::new(Light::Yellow, rules.yellow),
                Rung::new(Light::Red, rules.red),
                Rung::new(Light::Purple, rules.purple),
            ],
            window: Window::new(rules.window, rules.window.as_secs() as u32, now),
            seen: None,
        }
    }

    /// The rules it goes by.
    pub const fn rules(&self) -> &LadderRules {
        &self.rules
    }

    /// Goes by other rules from now on, but that its worst light stays what it is.
    ///
    /// What it counted counts as far as the window still reaches. A light that is lit stays so until the share is
    /// below what clears it now, for as long as that takes now: other rules are no proof that a line is well.
    pub fn set_rules(&mut self, rules: LadderRules, now: Timestamp) {
        if rules.window != self.rules.window {
            self.window.resize(rules.window, rules.window.as_secs() as u32, now);
        }
        for (rung, trigger) in self.rungs.iter_mut().zip([rules.yellow, rules.red, rules.purple]) {
            rung.trigger = trigger;
        }
        self.rules = rules.at_worst(self.rules.worst);
    }

    /// Takes note of the failures and outcomes since the node started; to be called about every second.
    ///
    /// What was before the first call does not count, so that a restarted ladder takes no history for news.
    /// A window with too few outcomes accuses nobody: a line without traffic turns green in time.
    /// Read the failures before the outcomes; a failure without its outcome is not counted.
    pub fn observe(&mut self, failures_total: u64, outcomes_total: u64, now: Timestamp) -> Option<Step> {
        let total = Tally { failures: failures_total, outcomes: outcomes_total };
        let seen = self.seen.replace(total).unwrap_or(total);
        let outcomes = total.outcomes.saturating_sub(seen.outcomes);
        let failures = total.failures.saturating_sub(seen.failures).min(outcomes);
        self.window.add(Tally { failures, outcomes }, now);

        let from = self.light();
        let sum = self.window.sum(now);
        let share = if sum.outcomes < self.rules.outcomes_min { 0.0 } else { lower_bound(sum) };
        for rung in &mut self.rungs {
            rung.observe(share, &self.rules, now);
        }
        let to = self.light();
        (from != to).then_some(Step { from, to, failures: sum.failures, outcomes: sum.outcomes })
    }

    /// The light it shows.
    pub fn light(&self) -> Light {
        let lit = self.rungs.iter().filter(|rung| rung.lit).map(|rung| rung.light).max();
        lit.unwrap_or_default().min(self.rules.worst)
    }
}

/// The least share of failures that explains `tally`, with a confidence of 95 % (Wilson's interval).
fn lower_bound(tally: Tally) -> f64 {
    wilson(tally.failures, tally.outcomes, Z_95).low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    /// A line under steady traffic, observed each second.
    struct Line {
        ladder: Ladder,
        total: Tally,
        now: Timestamp,
    }

    impl Line {
        fn new(rules: LadderRules) -> Self {
            let now = Timestamp::from_secs(1000);
            let mut ladder = Ladder::new(rules, now);
            assert_eq!(ladder.observe(0, 0, now), None);
            Self { ladder, total: Tally::default(), now }
        }

        fn run(&mut self, failures: u64, outcomes: u64, seconds: u32) -> Vec<Step> {
            let second = |_| {
                self.now = self.now + Duration::from_secs(1);
                self.total.add(Tally { failures, outcomes });
                self.ladder.observe(self.total.failures, self.total.outcomes, self.now)
            };
            (0..seconds).filter_map(second).collect()
        }
    }

    /// The light after one second with these outcomes.
    fn light(failures: u64, outcomes: u64) -> Light {
        let mut line = Line::new(LadderRules::default());
        let steps = line.run(failures, outcomes, 1);
        assert_eq!(steps.last().map_or(Light::Green, |step| step.to), line.ladder.light());
        line.ladder.light()
    }

    #[test]
    fn each_share_has_its_light_once_it_is_beyond_chance() {
        for (failures, outcomes, expected) in [
            (0, 1_000_000, Light::Green),
            (400, 1_000_000, Light::Green),
            (600, 1_000_000, Light::Yellow),
            (4_800, 1_000_000, Light::Yellow),
            (5_300, 1_000_000, Light::Red),
            (9_800, 1_000_000, Light::Red),
            (10_300, 1_000_000, Light::Purple),
            (1, 600, Light::Green),
            (100, 499, Light::Green),
            (100, 500, Light::Purple),
        ] {
            assert_eq!(light(failures, outcomes), expected, "{failures} of {outcomes}");
        }
    }

    #[test]
    fn what_only_shows_has_a_worst_light_of_its_own() {
        let mut line = Line::new(LadderRules::default().at_worst(Light::Red));
        assert_eq!(line.run(50, 100, 20).last().map(|step| step.to), Some(Light::Red));
    }

    #[test]
    fn yellow_begins_at_its_threshold_and_red_above_it() {
        let share = lower_bound(Tally { failures: 20, outcomes: 1000 });
        let tenth = 0.1 * share;
        for (rules, expected) in [
            (LadderRules::builder().thresholds(share, 0.5, 0.6), Light::Yellow),
            (LadderRules::builder().thresholds(share * 1.000_001, 0.5, 0.6), Light::Green),
            (LadderRules::builder().thresholds(tenth, share, 0.6), Light::Yellow),
            (LadderRules::builder().thresholds(tenth, share * 0.999_999, 0.6), Light::Red),
            (LadderRules::builder().thresholds(tenth, 2.0 * tenth, share), Light::Red),
            (LadderRules::builder().thresholds(tenth, 2.0 * tenth, share * 0.999_999), Light::Purple),
        ] {
            let mut line = Line::new(rules.build().unwrap());
            let _ = line.run(20, 1000, 1);
            assert_eq!(line.ladder.light(), expected, "{rules:?}");
        }
    }

    #[test]
    fn a_light_clears_only_after_a_minute_below_its_clearing_share() {
        let mut line = Line::new(LadderRules::default());
        let [up] = line.run(50, 1000, 1)[..] else { panic!("one step up") };
        assert_eq!(up, Step { from: Light::Green, to: Light::Purple, failures: 50, outcomes: 1000 });
        // The failures leave the window with the 61st second, and the minute begins.
        let steps = line.run(0, 1000, 120);
        assert!(steps.iter().all(|step| step.to != Light::Green), "{steps:?}");
        let down = line.run(0, 1000, 1);
        assert_eq!(down, [Step { from: Light::Yellow, to: Light::Green, failures: 0, outcomes: 61_000 }]);
    }

    #[test]
    fn a_relapse_starts_the_minute_anew() {
        let mut line = Line::new(LadderRules::default());
        let _ = line.run(50, 1000, 1);
        let _ = line.run(0, 1000, 100);
        let _ = line.run(50, 1000, 1);
        assert!(line.run(0, 1000, 120).iter().all(|step| step.to != Light::Green));
        assert_eq!(line.run(0, 1000, 1).last().map(|step| step.to), Some(Light::Green));
    }

    #[test]
    fn a_share_between_clearing_and_trigger_keeps_the_light_as_it_is() {
        // The lower bound of 480 of 100 000 is 0.44 %, between 80 % of red and red.
        let mut line = Line::new(LadderRules::default());
        assert_eq!(line.run(480, 100_000, 1)[0].to, Light::Yellow);
        let mut line = Line::new(LadderRules::default());
        assert_eq!(line.run(700, 100_000, 61)[0].to, Light::Red);
        assert_eq!(line.run(480, 100_000, 300), []);
        assert_eq!(line.ladder.light(), Light::Red);
    }

    #[test]
    fn a_line_without_traffic_turns_green_in_time() {
        let mut line = Line::new(LadderRules::default());
        let _ = line.run(50, 1000, 1);
        let steps = line.run(0, 0, 125);
        assert_eq!(steps.last().map(|step| (step.to, step.outcomes)), Some((Light::Green, 0)));
    }

    #[test]
    fn other_thresholds_are_held_against_what_was_counted() {
        let mut line = Line::new(LadderRules::default());
        assert_eq!(line.run(20, 10_000, 20).last().map(|step| step.to), Some(Light::Yellow));
        let strict = LadderRules::builder().thresholds(0.0001, 0.0005, 0.001).build().unwrap();
        line.ladder.set_rules(strict, line.now);
        assert_eq!(line.ladder.light(), Light::Yellow, "nothing was observed since");
        assert_eq!(line.run(20, 10_000, 1)[0].to, Light::Purple);
        // Under the old rules again it takes their minute to clear what is lit.
        line.ladder.set_rules(LadderRules::default(), line.now);
        assert_eq!(line.run(20, 10_000, 60), []);
        assert_eq!(line.run(20, 10_000, 1).last().map(|step| step.to), Some(Light::Yellow));
    }

    #[test]
    fn a_window_that_grows_keeps_what_it_counted_and_the_worst_light_stays() {
        let mut line = Line::new(LadderRules::default().at_worst(Light::Red));
        let _ = line.run(5, 10, 30);
        assert_eq!(line.ladder.light(), Light::Green, "300 outcomes say nothing");
        let wide = LadderRules::builder().window(Duration::from_secs(120), 500).build().unwrap();
        line.ladder.set_rules(wide, line.now);
        let steps = line.run(5, 10, 90);
        assert_eq!(steps, [Step { from: Light::Green, to: Light::Red, failures: 250, outcomes: 500 }]);
    }

    #[test]
    fn history_before_the_first_observation_is_no_news() {
        let now = Timestamp::from_secs(5);
        let mut ladder = Ladder::new(LadderRules::default(), now);
        assert_eq!(ladder.observe(1_000, 1_000, now), None);
        assert_eq!(ladder.observe(1_000, 2_000, now + Duration::from_secs(1)), None);
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for builder in [
            LadderRules::builder().thresholds(0.005, 0.005, 0.01),
            LadderRules::builder().thresholds(0.01, 0.005, 0.001),
            LadderRules::builder().thresholds(0.0, 0.005, 0.01),
            LadderRules::builder().thresholds(0.001, f64::NAN, 0.01),
            LadderRules::builder().window(Duration::from_secs(59), 500),
            LadderRules::builder().window(WINDOW_MAX + Duration::from_secs(1), 500),
            LadderRules::builder().clearing(0.0, WINDOW_MIN),
            LadderRules::builder().clearing(1.1, WINDOW_MIN),
        ] {
            assert!(builder.build().is_err(), "{builder:?}");
        }
        assert_eq!(LadderRules::builder().build(), Ok(LadderRules::default()));
    }

    proptest! {
        #[test]
        fn more_failures_never_show_a_better_light(outcomes in 500u64..100_000, a in 0.0..0.05, b in 0.0..0.05) {
            let failures = |share: f64| (share * outcomes as f64) as u64;
            prop_assert!(light(failures(f64::min(a, b)), outcomes) <= light(failures(f64::max(a, b)), outcomes));
        }

        #[test]
        fn the_lower_bound_is_below_the_share(failures in 0u64..1000, more in 0u64..100_000) {
            let tally = Tally { failures, outcomes: failures + more };
            let bound = lower_bound(tally);
            prop_assert!(0.0 <= bound && bound <= failures as f64 / tally.outcomes.max(1) as f64 + 1e-12);
        }
    }
}
