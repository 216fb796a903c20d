//! How well a pool is: saturated, failing, short of hands, or healthy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::light::Light;
use crate::proportion::{Z_95, wilson};
use crate::time::Timestamp;
use crate::window::{Tally, Window};

mod rules;

pub use rules::{PoolHealthRules, PoolHealthRulesError};

/// Over how long failures are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How well a pool is. Ordered: worse is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolHealth {
    /// By default: used by 80 % at most, 5 % of failures at most, every worker answers.
    #[default]
    Healthy,
    /// Above either, or some worker does not answer.
    Degraded,
    /// By default: above 95 % while jobs wait too long, above 20 % of failures, or no worker answers.
    Critical,
}

impl PoolHealth {
    /// All classes, best first.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Degraded, Self::Critical];

    /// The word for it, as it stands in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }

    /// The light it shows: a critical pool is an andon pull.
    pub const fn light(self) -> Light {
        match self {
            Self::Healthy => Light::Green,
            Self::Degraded => Light::Yellow,
            Self::Critical => Light::Red,
        }
    }
}

impl fmt::Display for PoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What workers said when they were asked whether they are alive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liveness {
    /// Workers that were asked: those the pool should have.
    pub asked: u32,
    /// Those of them that answered, or work on something that is not old.
    pub alive: u32,
}

/// What is known of a pool now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolFacts {
    /// Busy time over worker time of the last minute, 0 to 1.
    pub utilization: f64,
    /// How long a job that comes now would wait.
    pub wait: Duration,
    /// How long it may.
    pub wait_max: Duration,
    /// Failures of what it worked on since the node started.
    pub failures_total: u64,
    /// Outcomes of that.
    pub outcomes_total: u64,
    /// What its workers said; `None` before they were asked.
    pub liveness: Option<Liveness>,
}

/// A pool came to another class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every change leaves a receipt"]
pub struct PoolMoved {
    /// Before.
    pub from: PoolHealth,
    /// Now.
    pub to: PoolHealth,
    /// Why, in words.
    pub why: Arc<str>,
}

/// Watches the class of one pool.
///
/// Saturation, failures and staffing are looked at by themselves, critical first, and the worst is the class. It
/// gets worse at once, and better after half a minute of being better, so that a pool on a threshold does not
/// flicker. Of failures the lower end of the 95 % interval counts (Wilson): one of ten may be chance.
#[derive(Debug, Clone)]
pub struct PoolWatch {
    rules: PoolHealthRules,
    class: PoolHealth,
    why: Arc<str>,
    better_since: Option<Timestamp>,
    window: Window,
    seen: Option<Tally>,
}

impl PoolWatch {
    /// A healthy pool of which nothing has been seen.
    pub fn new(now: Timestamp) -> Self {
        let window = Window::new(WINDOW, 60, now);
        Self {
            rules: PoolHealthRules::default(),
            class: PoolHealth::Healthy,
            why: "as it should be".into(),
            better_since: None,
            window,
            seen: None,
        }
    }

    /// Goes by other rules from now on. What was counted counts; it is put into another class with the next
    /// observation, into a better one after the time for that, which goes on.
    pub const fn set_rules(&mut self, rules: PoolHealthRules) {
        self.rules = rules;
    }

    /// The class it is in.
    pub const fn class(&self) -> PoolHealth {
        self.class
    }

    /// Why, in words.
    pub fn why(&self) -> Arc<str> {
        self.why.clone()
    }

    /// Takes note of what is known now; to be called about every second.
    pub fn observe(&mut self, facts: &PoolFacts, now: Timestamp) -> Option<PoolMoved> {
        let total = Tally { failures: facts.failures_total, outcomes: facts.outcomes_total };
        let seen = self.seen.replace(total).unwrap_or(total);
        let outcomes = total.outcomes.saturating_sub(seen.outcomes);
        let failures = total.failures.saturating_sub(seen.failures).min(outcomes);
        self.window.add(Tally { failures, outcomes }, now);
        let (to, why) = assess(facts, self.window.sum(now), &self.rules);
        if to < self.class {
            let since = *self.better_since.get_or_insert(now);
            if now.since(since) < self.rules.better_after {
                return None;
            }
        }
        self.better_since = None;
        let from = std::mem::replace(&mut self.class, to);
        self.why = why.clone();
        (from != to).then_some(PoolMoved { from, to, why })
    }
}

/// The class of a pool, and why: the worst of its dimensions.
fn assess(facts: &PoolFacts, lately: Tally, rules: &PoolHealthRules) -> (PoolHealth, Arc<str>) {
    let dimensions = [staffing(facts), errors(lately, rules.failed), saturation(facts, rules.used)];
    // The first of equals: what nobody works on is worse than what is worked on badly.
    let worst =
        dimensions.into_iter().flatten().reduce(|worst, next| if worst.0 < next.0 { next } else { worst });
    worst.map_or((PoolHealth::Healthy, "as it should be".into()), |(class, why)| (class, why.into()))
}

fn saturation(facts: &PoolFacts, [degraded, critical]: [f64; 2]) -> Option<(PoolHealth, String)> {
    let used = format!("{:.0} % used", facts.utilization * 100.0);
    if critical < facts.utilization && facts.wait_max < facts.wait {
        let wait = format!("a wait of {:?}, {:?} is the most", facts.wait, facts.wait_max);
        return Some((PoolHealth::Critical, format!("{used}, {wait}")));
    }
    (degraded < facts.utilization).then_some((PoolHealth::Degraded, used))
}

fn errors(
    Tally { failures, outcomes }: Tally,
    [degraded, critical]: [f64; 2],
) -> Option<(PoolHealth, String)> {
    let share = wilson(failures, outcomes, Z_95).low;
    let class = if critical < share {
        PoolHealth::Critical
    } else if degraded < share {
        PoolHealth::Degraded
    } else {
        return None;
    };
    Some((class, format!("{failures} of {outcomes} failed in the last minute")))
}

fn staffing(facts: &PoolFacts) -> Option<(PoolHealth, String)> {
    let Liveness { asked, alive } = facts.liveness?;
    if alive >= asked {
        return None;
    }
    let class = if alive == 0 { PoolHealth::Critical } else { PoolHealth::Degraded };
    Some((class, format!("{alive} of {asked} workers answer")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    const WELL: PoolFacts = PoolFacts {
        utilization: 0.5,
        wait: Duration::ZERO,
        wait_max: Duration::from_secs(1),
        failures_total: 0,
        outcomes_total: 0,
        liveness: None,
    };

    fn classed(facts: PoolFacts, failures: u64, outcomes: u64) -> PoolHealth {
        assess(&facts, Tally { failures, outcomes }, &PoolHealthRules::default()).0
    }

    #[test]
    fn each_dimension_has_its_thresholds_and_the_worst_counts() {
        use PoolHealth::{Critical, Degraded, Healthy};
        let late = Duration::from_millis(1001);
        let alive = |asked, alive| Some(Liveness { asked, alive });
        for (facts, failures, outcomes, class) in [
            (WELL, 0, 1000, Healthy),
            (PoolFacts { utilization: 0.0, ..WELL }, 0, 0, Healthy),
            (PoolFacts { utilization: 0.80, ..WELL }, 0, 0, Healthy),
            (PoolFacts { utilization: 0.81, ..WELL }, 0, 0, Degraded),
            (PoolFacts { utilization: 0.97, ..WELL }, 0, 0, Degraded),
            (PoolFacts { utilization: 0.97, wait: late, ..WELL }, 0, 0, Critical),
            (PoolFacts { utilization: 0.95, wait: late, ..WELL }, 0, 0, Degraded),
            (WELL, 1, 10, Healthy),
            (WELL, 80, 1000, Degraded),
            (WELL, 300, 1000, Critical),
            (PoolFacts { liveness: alive(4, 4), ..WELL }, 0, 0, Healthy),
            (PoolFacts { liveness: alive(4, 3), ..WELL }, 0, 0, Degraded),
            (PoolFacts { liveness: alive(4, 0), ..WELL }, 0, 0, Critical),
            (PoolFacts { liveness: alive(0, 0), ..WELL }, 0, 0, Healthy),
            (PoolFacts { utilization: 0.85, ..WELL }, 300, 1000, Critical),
        ] {
            assert_eq!(classed(facts, failures, outcomes), class, "{facts:?} {failures} of {outcomes}");
        }
    }

    #[test]
    fn it_is_worse_at_once_and_better_after_half_a_minute() {
        let mut watch = PoolWatch::new(Timestamp::START);
        let full = PoolFacts { utilization: 0.9, ..WELL };
        let moved = watch.observe(&full, Timestamp::from_secs(1)).unwrap();
        assert_eq!(
            (moved.from, moved.to, &*moved.why),
            (PoolHealth::Healthy, PoolHealth::Degraded, "90 % used")
        );
        assert_eq!(watch.observe(&WELL, Timestamp::from_secs(2)), None);
        assert_eq!(watch.observe(&full, Timestamp::from_secs(20)), None, "it begins anew");
        assert_eq!(watch.observe(&WELL, Timestamp::from_secs(21)), None);
        assert_eq!(watch.observe(&WELL, Timestamp::from_secs(50)), None);
        assert!(watch.observe(&WELL, Timestamp::from_secs(51)).is_some());
        assert_eq!(watch.class(), PoolHealth::Healthy);
    }

    #[test]
    fn other_rules_count_from_the_next_look_and_the_time_for_the_better_goes_on() {
        let mut watch = PoolWatch::new(Timestamp::START);
        let full = PoolFacts { utilization: 0.9, ..WELL };
        let _ = watch.observe(&full, Timestamp::from_secs(1));
        let lax =
            |after| PoolHealthRules::new([0.92, 0.95], [0.05, 0.2], Duration::from_secs(after)).unwrap();
        watch.set_rules(lax(30));
        assert_eq!(watch.observe(&full, Timestamp::from_secs(2)), None);
        watch.set_rules(lax(5));
        assert_eq!(watch.observe(&full, Timestamp::from_secs(6)), None);
        let moved = watch.observe(&full, Timestamp::from_secs(7)).unwrap();
        assert_eq!((moved.from, moved.to), (PoolHealth::Degraded, PoolHealth::Healthy));
        watch.set_rules(PoolHealthRules::default());
        assert_eq!(watch.observe(&full, Timestamp::from_secs(8)).unwrap().to, PoolHealth::Degraded);
    }

    #[test]
    fn what_was_before_the_first_look_is_no_news_and_what_is_old_no_longer_counts() {
        let mut watch = PoolWatch::new(Timestamp::START);
        let facts = |failures_total, outcomes_total| PoolFacts { failures_total, outcomes_total, ..WELL };
        assert_eq!(watch.observe(&facts(900, 1000), Timestamp::from_secs(1)), None);
        assert!(watch.observe(&facts(1000, 1100), Timestamp::from_secs(2)).is_some());
        assert_eq!(watch.class(), PoolHealth::Critical);
        for second in 3..=94 {
            let _ = watch.observe(&facts(1000, 1100), Timestamp::from_secs(second));
        }
        assert_eq!(watch.class(), PoolHealth::Healthy);
    }

    proptest! {
        #[test]
        fn more_of_anything_bad_is_never_better(
            utilization in 0.0f64..1.0, more in 0.0f64..1.0, late in any::<bool>(), failures in 0u64..500, worse in 0u64..500,
        ) {
            let wait = if late { Duration::from_secs(2) } else { Duration::ZERO };
            let facts = PoolFacts { utilization, wait, ..WELL };
            let fuller = PoolFacts { utilization: (utilization + more).min(1.0), ..facts };
            prop_assert!(classed(facts, failures, 1000) <= classed(fuller, failures + worse, 1000));
        }
    }
}
