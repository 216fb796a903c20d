//! What a line does about what is wrong with it: it slows down, drains and stops, and runs again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admission::Tier;
use crate::light::Light;
use crate::time::Timestamp;

/// What can be wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Too many of its signals fail: the action says so, or its worker dies.
    Failures,
    /// They take too long: too many run out of time.
    Latency,
    /// Too many wait.
    Queue,
    /// The node runs out of something.
    Resources,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 4] = [Self::Failures, Self::Latency, Self::Queue, Self::Resources];

    /// The word for it, as it stands in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Latency => "latency",
            Self::Queue => "queue",
            Self::Resources => "resources",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Who lets a line run again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reset {
    /// The line itself, when its light says so.
    #[default]
    Automatic,
    /// A person, who has looked at it.
    ByHand,
}

/// Why settings do not make rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JidokaRulesError {
    /// The share of the lines that may stop by themselves is not a share.
    #[error("stopped_max is {ratio}; give a number from 0 to 1")]
    StoppedMax {
        /// The refused ratio.
        ratio: f64,
    },
}

/// How lines stop and run again.
///
/// # Units and limits
///
/// By default only failures slow a line down or stop it, every cause resets by itself, a line that was stopped
/// takes only critical signals for 60 s before it runs as usual, and at most half of the lines stop by
/// themselves, rounded down: a line alone never does. Source: FLOW.md, jidoka; FLOW-EVIDENCE.md, blast radius.
///
/// Signals that run out of time, a long queue and a busy node are shown, but slow nothing down: the wait gate
/// turns out what would be late, the breaker opens where most calls are, and a line that shed on top of them
/// would go on shedding for a minute after a slow moment that they survive within a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JidokaRules {
    drives: [bool; Cause::ALL.len()],
    resets: [Reset; Cause::ALL.len()],
    probation: Duration,
    stopped_max: f64,
}

impl Default for JidokaRules {
    fn default() -> Self {
        Self {
            drives: Cause::ALL.map(|cause| matches!(cause, Cause::Failures)),
            resets: [Reset::Automatic; Cause::ALL.len()],
            probation: Duration::from_secs(60),
            stopped_max: 0.5,
        }
    }
}

impl JidokaRules {
    /// The defaults, to be changed.
    pub fn builder() -> JidokaRulesBuilder {
        JidokaRulesBuilder(Self::default())
    }

    /// Whether `cause` slows a line down and stops it, or only shows.
    pub const fn drives(&self, cause: Cause) -> bool {
        self.drives[cause as usize]
    }

    /// How many of `lines` may be stopped at once without a person asking for it.
    pub fn stopped_max(&self, lines: usize) -> usize {
        (lines as f64 * self.stopped_max).floor() as usize
    }
}

/// Rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct JidokaRulesBuilder(JidokaRules);

impl JidokaRulesBuilder {
    /// Whether `cause` slows a line down and stops it, or only shows.
    pub const fn drives(mut self, cause: Cause, drives: bool) -> Self {
        self.0.drives[cause as usize] = drives;
        self
    }

    /// Who lets a line run again that slowed down or stopped because of `cause`.
    pub const fn reset(mut self, cause: Cause, reset: Reset) -> Self {
        self.0.resets[cause as usize] = reset;
        self
    }

    /// For how long a line that was stopped takes only critical signals.
    pub const fn probation(mut self, probation: Duration) -> Self {
        self.0.probation = probation;
        self
    }

    /// Which share of the lines may be stopped at once without a person asking for it.
    pub const fn stopped_max(mut self, ratio: f64) -> Self {
        self.0.stopped_max = ratio;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`JidokaRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<JidokaRules, JidokaRulesError> {
        if !(0.0..=1.0).contains(&self.0.stopped_max) {
            return Err(JidokaRulesError::StoppedMax { ratio: self.0.stopped_max });
        }
        Ok(self.0)
    }
}

/// Something wrong with a line, by its light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect {
    /// What kind of thing.
    pub cause: Cause,
    /// How bad it is.
    pub light: Light,
    /// In words.
    pub why: Arc<str>,
}

/// What a line takes. Ordered: what takes less is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stance {
    /// Everything.
    #[default]
    Running,
    /// All but batch signals.
    ShedsBatch,
    /// Critical signals only.
    CriticalOnly,
    /// Nothing; it finishes what is in flight.
    Draining,
    /// Nothing.
    Stopped,
}

impl Stance {
    /// The least urgent tier it takes; `None` if it takes nothing.
    pub const fn takes(self) -> Option<Tier> {
        match self {
            Self::Running => Some(Tier::Batch),
            Self::ShedsBatch => Some(Tier::Normal),
            Self::CriticalOnly => Some(Tier::Critical),
            Self::Draining | Self::Stopped => None,
        }
    }
}

/// A line changed what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every change leaves a receipt"]
pub struct Moved {
    /// Before.
    pub from: Stance,
    /// Now.
    pub to: Stance,
    /// Why, in words.
    pub why: Arc<str>,
}

/// Decides what one line takes, from what is wrong with it.
///
/// Yellow sheds batch signals, red all but critical ones, purple drains the line and stops it. It gets worse
/// at once; it gets better when the light does, which has its own hysteresis, or when a person says so.
#[derive(Debug, Clone)]
#[doc(alias = "andon")]
pub struct Jidoka {
    rules: JidokaRules,
    stance: Stance,
    why: Arc<str>,
    /// A person has to let it run again.
    latched: bool,
    /// What a person knew of when letting it run again; only worse counts until it was better.
    excused: Light,
    /// Until then it takes critical signals only, after it was stopped.
    probation: Option<Timestamp>,
}

impl Jidoka {
    /// A line that runs.
    pub fn new(rules: JidokaRules) -> Self {
        let (stance, excused) = (Stance::Running, Light::Green);
        Self { rules, stance, why: "".into(), latched: false, excused, probation: None }
    }

    /// What the line takes.
    pub const fn stance(&self) -> Stance {
        self.stance
    }

    /// Why it does not take everything, in words.
    pub fn why(&self) -> Arc<str> {
        self.why.clone()
    }

    /// Whether a person has to let it run again.
    pub const fn is_latched(&self) -> bool {
        self.latched
    }

    /// Goes on under other rules.
    pub const fn set_rules(&mut self, rules: JidokaRules) {
        self.rules = rules;
    }

    /// Takes note of what is wrong, and of how many signals are in flight; to be called a few times a second.
    ///
    /// `may_stop` is whether one more line may stop by itself; if not, it takes critical signals only.
    pub fn observe(
        &mut self,
        defects: &[Defect],
        in_flight: u64,
        may_stop: bool,
        now: Timestamp,
    ) -> Option<Moved> {
        let worst = self.worst(defects);
        let light = worst.map_or(Light::Green, |defect| defect.light);
        self.excused = self.excused.min(light);
        let wanted = self.wanted(light, may_stop);
        if self.stance < wanted {
            let defect = worst?;
            self.latched |= self.rules.resets[defect.cause as usize] == Reset::ByHand;
            return self.go(wanted, defect.why.clone());
        }
        if self.stance == Stance::Draining && in_flight == 0 && wanted == Stance::Draining {
            let why = self.why.clone();
            return self.go(Stance::Stopped, why);
        }
        let still = self.stance == Stance::Stopped && wanted == Stance::Draining;
        if wanted == self.stance || still || self.latched {
            return None;
        }
        if matches!(self.stance, Stance::Draining | Stance::Stopped) {
            self.probation = Some(now + self.rules.probation);
            return self.go(Stance::CriticalOnly, "on probation after a stop".into());
        }
        if self.probation.is_some_and(|until| now < until) {
            return None;
        }
        self.probation = None;
        let why =
            worst.filter(|_| wanted != Stance::Running).map_or("as it should be".into(), |d| d.why.clone());
        self.go(wanted, why)
    }

    /// Lets the line run, whatever is wrong with it now; only worse than that counts from here on. `None` if it
    /// runs already.
    pub fn reset(&mut self, defects: &[Defect]) -> Option<Moved> {
        self.latched = false;
        self.probation = None;
        self.excused = self.worst(defects).map_or(Light::Green, |defect| defect.light);
        self.go(Stance::Running, "reset by hand".into())
    }

    /// The worst of what slows a line down.
    fn worst<'a>(&self, defects: &'a [Defect]) -> Option<&'a Defect> {
        let drives = |defect: &&Defect| self.rules.drives(defect.cause);
        defects.iter().filter(drives).max_by_key(|defect| defect.light)
    }

    fn wanted(&self, light: Light, may_stop: bool) -> Stance {
        if light <= self.excused {
            return Stance::Running;
        }
        match light {
            Light::Green => Stance::Running,
            Light::Yellow => Stance::ShedsBatch,
            // Who has begun to drain goes on with it.
            Light::Purple if may_stop || Stance::Draining <= self.stance => Stance::Draining,
            Light::Red | Light::Purple => Stance::CriticalOnly,
        }
    }

    fn go(&mut self, to: Stance, why: Arc<str>) -> Option<Moved> {
        let from = std::mem::replace(&mut self.stance, to);
        self.why = why.clone();
        (from != to).then_some(Moved { from, to, why })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::*;
    use Stance::{CriticalOnly, Draining, Running, ShedsBatch, Stopped};

    const SECOND: Duration = Duration::from_secs(1);

    struct Line {
        jidoka: Jidoka,
        in_flight: u64,
        may_stop: bool,
        now: Timestamp,
    }

    impl Line {
        fn new(rules: JidokaRulesBuilder) -> Self {
            let jidoka = Jidoka::new(rules.build().unwrap());
            Self { jidoka, in_flight: 3, may_stop: true, now: Timestamp::from_secs(1) }
        }

        fn see(&mut self, cause: Cause, light: Light) -> Stance {
            self.now = self.now + SECOND;
            let defect = Defect { cause, light, why: "why".into() };
            let _ = self.jidoka.observe(&[defect], self.in_flight, self.may_stop, self.now);
            self.jidoka.stance()
        }

        fn fails(&mut self, light: Light) -> Stance {
            self.see(Cause::Failures, light)
        }
    }

    #[test]
    fn each_light_has_its_stance_and_each_stance_its_tiers() {
        for (light, stance, takes) in [
            (Light::Green, Running, Some(Tier::Batch)),
            (Light::Yellow, ShedsBatch, Some(Tier::Normal)),
            (Light::Red, CriticalOnly, Some(Tier::Critical)),
            (Light::Purple, Draining, None),
        ] {
            assert_eq!(Line::new(JidokaRules::builder()).fails(light), stance);
            assert_eq!(stance.takes(), takes);
        }
    }

    #[test]
    fn a_line_drains_before_it_is_stopped_and_is_on_probation_before_it_runs() {
        let mut line = Line::new(JidokaRules::builder());
        assert_eq!(line.fails(Light::Purple), Draining);
        assert_eq!(line.fails(Light::Purple), Draining, "three are in flight");
        line.in_flight = 0;
        assert_eq!(line.fails(Light::Purple), Stopped);
        assert_eq!(line.fails(Light::Purple), Stopped);
        assert_eq!(line.fails(Light::Green), CriticalOnly);
        for _ in 0..59 {
            assert_eq!(line.fails(Light::Green), CriticalOnly);
        }
        assert_eq!(line.fails(Light::Green), Running);
    }

    #[test]
    fn what_gets_better_by_itself_does_and_the_rest_waits_for_a_person() {
        let rules = JidokaRules::builder().drives(Cause::Latency, true).reset(Cause::Failures, Reset::ByHand);
        let mut line = Line::new(rules);
        assert_eq!(line.see(Cause::Latency, Light::Red), CriticalOnly);
        assert_eq!(line.see(Cause::Latency, Light::Yellow), ShedsBatch);
        assert_eq!(line.see(Cause::Latency, Light::Green), Running);
        assert_eq!(line.fails(Light::Red), CriticalOnly);
        assert_eq!(line.fails(Light::Green), CriticalOnly);
        assert!(line.jidoka.is_latched());
        let moved = line.jidoka.reset(&[]).unwrap();
        assert_eq!((moved.from, moved.to), (CriticalOnly, Running));
        assert_eq!(line.jidoka.reset(&[]), None);
    }

    #[test]
    fn after_a_reset_only_what_is_worse_counts_until_it_was_better() {
        let mut line = Line::new(JidokaRules::builder());
        line.fails(Light::Red);
        let red = [Defect { cause: Cause::Failures, light: Light::Red, why: "why".into() }];
        let _ = line.jidoka.reset(&red);
        assert_eq!(line.fails(Light::Red), Running);
        assert_eq!(line.fails(Light::Yellow), Running);
        assert_eq!(line.fails(Light::Red), CriticalOnly, "it was better, and is worse again");
        let _ = line.jidoka.reset(&red);
        assert_eq!(line.fails(Light::Purple), Draining);
    }

    #[test]
    fn what_does_not_drive_a_line_leaves_it_alone_and_excuses_nothing() {
        let mut line = Line::new(JidokaRules::builder());
        for cause in [Cause::Latency, Cause::Queue, Cause::Resources] {
            assert_eq!(line.see(cause, Light::Purple), Running, "{cause}");
        }
        let late = [Defect { cause: Cause::Latency, light: Light::Purple, why: "why".into() }];
        assert_eq!(line.jidoka.reset(&late), None);
        assert_eq!(line.fails(Light::Yellow), ShedsBatch);
    }

    #[test]
    fn where_enough_lines_are_stopped_critical_signals_still_pass() {
        let mut line = Line::new(JidokaRules::builder());
        line.may_stop = false;
        assert_eq!(line.fails(Light::Purple), CriticalOnly);
        line.may_stop = true;
        assert_eq!(line.fails(Light::Purple), Draining);
        for (lines, ratio, most) in [(1, 0.5, 0), (2, 0.5, 1), (5, 0.5, 2), (1, 1.0, 1), (9, 0.0, 0)] {
            let rules = JidokaRules::builder().stopped_max(ratio).build().unwrap();
            assert_eq!(rules.stopped_max(lines), most, "{ratio} of {lines}");
        }
        assert!(JidokaRules::builder().stopped_max(1.1).build().is_err());
    }

    fn lights() -> impl Strategy<Value = Vec<(Light, bool, u64)>> {
        vec((select(&Light::ALL[..]), proptest::bool::ANY, 0u64..2), 1..60)
    }

    proptest! {
        #[test]
        fn it_never_takes_more_than_its_light_allows_and_runs_again_when_all_is_well(lights in lights()) {
            let mut line = Line::new(JidokaRules::builder());
            for (light, may_stop, in_flight) in lights {
                (line.may_stop, line.in_flight) = (may_stop, in_flight);
                let before = line.jidoka.stance();
                let stance = line.fails(light);
                let least = match light {
                    Light::Green => Running,
                    Light::Yellow => ShedsBatch,
                    Light::Red | Light::Purple => CriticalOnly,
                };
                prop_assert!(least <= stance, "{stance:?} under {light}");
                // Nothing in flight is cut off: a line is stopped only after it drained.
                prop_assert!(stance != Stopped || before == Stopped || (before == Draining && in_flight == 0));
            }
            for _ in 0..62 {
                line.fails(Light::Green);
            }
            prop_assert_eq!(line.jidoka.stance(), Running);
        }
    }
}
