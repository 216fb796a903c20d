//! Whether a node is well: what its checks found, weighed against each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::Name;
use crate::receipt::Seq;
use crate::time::Timestamp;

mod minute;
mod rules;

pub use minute::Minute;
pub use rules::{
    CHECKS_MAX, CheckRules, HealthError, HealthErrors, HealthRules, HealthRulesBuilder, PERIOD_MAX,
    WEIGHT_MAX,
};

/// How one check stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// It has not answered yet.
    #[default]
    Unknown,
    /// What it looks at is as it should be.
    Passing,
    /// It is not, or the check does not answer.
    Failing,
}

impl fmt::Display for CheckState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Passing => "passing",
            Self::Failing => "failing",
        })
    }
}

/// How the node stands, by its checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Not every check has answered yet, or there is none: nothing is known, which is not well.
    #[default]
    Unknown,
    /// Little enough fails.
    Healthy,
    /// Too much of the weight fails, or a check that must pass.
    Degraded,
}

impl HealthState {
    /// The word for it, as it stands in labels.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a check found: what it saw, or what is wrong, in words.
pub type Found = Result<Arc<str>, Arc<str>>;

/// Something changed, to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every change leaves a receipt"]
pub enum Change {
    /// A check began to fail, or passes again.
    Check {
        /// Which.
        check: Name,
        /// Whether it fails now.
        failing: bool,
        /// Whether the node is not well without it.
        must_pass: bool,
        /// What it found, in words.
        why: Arc<str>,
    },
    /// The node is degraded, or well again.
    Node {
        /// Before.
        from: HealthState,
        /// Now.
        to: HealthState,
        /// The share of the weight that fails, in thousandths.
        failing_milli: u32,
        /// Which checks fail, in words.
        why: Arc<str>,
    },
}

/// One check and what is known of it.
#[derive(Debug, Clone)]
struct Kept {
    rules: CheckRules,
    state: CheckState,
    /// Answers in a row that say otherwise than the state.
    otherwise: u32,
    says: Arc<str>,
    told_at: Option<Timestamp>,
    took: Duration,
    /// What was told of it last.
    told: CheckState,
}

/// Folds what checks find into the health of the node.
///
/// A check changes its state after a few answers in a row that say so, the first answer counts at once. One that
/// has not answered for a while fails: nobody knows that it passes. The node is degraded as soon as more than half
/// of the weight fails, or any check that must pass, and is looked at no less then.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_core::health::{CheckRules, Health, HealthRules, HealthState};
/// use gemba_core::time::Timestamp;
///
/// let checks = ["disk", "gateway"].map(|name| CheckRules::new(name.parse().unwrap()));
/// let mut health = Health::new(HealthRules::builder().build()?, checks.into(), Timestamp::START)?;
/// let now = Timestamp::from_secs(1);
/// health.note(0, Ok("12 GB free".into()), Duration::ZERO, now);
/// health.note(1, Ok("connected".into()), Duration::ZERO, now);
/// assert!(health.look(now).is_empty(), "what is well from the start is no news");
/// assert_eq!(health.state(), HealthState::Healthy);
/// # Ok::<(), gemba_core::health::HealthErrors>(())
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "jidoka")]
pub struct Health {
    rules: HealthRules,
    checks: Vec<Kept>,
    state: HealthState,
    begun: Timestamp,
}

impl Health {
    /// A node of which nothing is known yet.
    ///
    /// # Errors
    ///
    /// [`HealthErrors`] names every check that cannot be.
    pub fn new(rules: HealthRules, checks: Vec<CheckRules>, now: Timestamp) -> Result<Self, HealthErrors> {
        rules.admits(&checks)?;
        let kept = |rules| Kept {
            rules,
            state: CheckState::Unknown,
            otherwise: 0,
            says: "it has not answered yet".into(),
            told_at: None,
            took: Duration::ZERO,
            told: CheckState::Unknown,
        };
        Ok(Self {
            rules,
            checks: checks.into_iter().map(kept).collect(),
            state: HealthState::Unknown,
            begun: now,
        })
    }

    /// The rules it goes by.
    pub const fn rules(&self) -> &HealthRules {
        &self.rules
    }

    /// Goes by other rules from now on. States and answers stay; what is to be said of them comes with the next look.
    ///
    /// # Errors
    ///
    /// [`HealthErrors`] names every check that may take longer than the new period; the old rules stay.
    pub fn set_rules(&mut self, rules: HealthRules) -> Result<(), HealthErrors> {
        let checks: Vec<_> = self.checks.iter().map(|kept| kept.rules.clone()).collect();
        rules.admits(&checks)?;
        self.rules = rules;
        Ok(())
    }

    /// What a check is called.
    pub fn name(&self, check: usize) -> Option<&Name> {
        self.checks.get(check).map(|kept| &kept.rules.name)
    }

    /// How long a check may take; no time at all for one that is not there.
    pub fn within(&self, check: usize) -> Duration {
        self.checks.get(check).map_or(Duration::ZERO, |kept| kept.rules.within)
    }

    /// How the node stands.
    pub const fn state(&self) -> HealthState {
        self.state
    }

    /// A life of whoever checks begins: nothing is stale because nobody was there to check.
    pub fn begin(&mut self, now: Timestamp) {
        self.begun = now;
    }

    /// Takes note of what a check found, and how long it took. A check that is not there is ignored.
    pub fn note(&mut self, check: usize, found: Found, took: Duration, now: Timestamp) {
        let confirm = self.rules.confirm();
        let Some(kept) = self.checks.get_mut(check) else { return };
        (kept.told_at, kept.took) = (Some(now), took);
        let (state, says) = match found {
            Ok(says) => (CheckState::Passing, says),
            Err(why) => (CheckState::Failing, why),
        };
        kept.says = says;
        if state == kept.state {
            kept.otherwise = 0;
            return;
        }
        kept.otherwise += 1;
        if kept.state == CheckState::Unknown || confirm <= kept.otherwise {
            (kept.state, kept.otherwise) = (state, 0);
        }
    }

    /// Finds out what changed; to be called after each answer, and each period.
    pub fn look(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for kept in &mut self.checks {
            let silent = now.since(kept.told_at.map_or(self.begun, |at| at.max(self.begun)));
            if self.rules.stale_after() < silent {
                (kept.state, kept.otherwise) = (CheckState::Failing, 0);
                kept.says = format!("no answer for {} s", silent.as_secs()).into();
            }
            let news = kept.told != kept.state
                && !(kept.told == CheckState::Unknown && kept.state == CheckState::Passing);
            kept.told = kept.state;
            if news {
                changes.push(Change::Check {
                    check: kept.rules.name.clone(),
                    failing: kept.state == CheckState::Failing,
                    must_pass: kept.rules.must_pass,
                    why: kept.says.clone(),
                });
            }
        }
        let (from, to) = (self.state, self.judged());
        self.state = to;
        // Who is well from the start is no news, and who is unknown again was restarted.
        if from != to && (from, to) != (HealthState::Unknown, HealthState::Healthy) {
            changes.push(Change::Node { from, to, failing_milli: self.failing_milli(), why: self.why() });
        }
        changes
    }

    fn judged(&self) -> HealthState {
        let failing = |kept: &&Kept| kept.state == CheckState::Failing;
        if self.checks.iter().filter(failing).any(|kept| kept.rules.must_pass) {
            return HealthState::Degraded;
        }
        if self.rules.degraded_above_milli() < self.failing_milli() {
            return HealthState::Degraded;
        }
        let all_known = self.checks.iter().all(|kept| kept.state != CheckState::Unknown);
        if self.checks.is_empty() || !all_known { HealthState::Unknown } else { HealthState::Healthy }
    }

    /// The share of the weight that fails, in thousandths, rounded up: whatever is above half is above 500.
    pub fn failing_milli(&self) -> u32 {
        let weight = |kept: &Kept| u64::from(kept.rules.weight);
        let all: u64 = self.checks.iter().map(weight).sum();
        let failing = self.checks.iter().filter(|kept| kept.state == CheckState::Failing);
        let failing: u64 = failing.map(weight).sum();
        if all == 0 { 0 } else { (failing * 1000).div_ceil(all) as u32 }
    }

    fn why(&self) -> Arc<str> {
        let failing = self.checks.iter().filter(|kept| kept.state == CheckState::Failing);
        let names: Vec<_> = failing.map(|kept| format!("{} ({})", kept.rules.name, kept.says)).collect();
        if names.is_empty() { "every check passes".into() } else { names.join(", ").into() }
    }

    /// What it shows.
    pub fn view(&self, now: Timestamp) -> HealthView {
        let check = |kept: &Kept| CheckView {
            name: kept.rules.name.clone(),
            state: kept.state,
            weight: kept.rules.weight,
            must_pass: kept.rules.must_pass,
            says: kept.says.clone(),
            took_us: kept.took.as_micros() as u64,
            within_ms: kept.rules.within.as_millis() as u64,
            age_ms: kept.told_at.map(|at| now.since(at).as_millis() as u64),
        };
        HealthView {
            state: self.state,
            failing_ratio: f64::from(self.failing_milli()) / 1e3,
            degraded_above: f64::from(self.rules.degraded_above_milli()) / 1e3,
            checks: self.checks.iter().map(check).collect(),
            machine: MachineView::default(),
            receipt: None,
        }
    }
}

/// The health of a node, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthView {
    /// How the node stands.
    pub state: HealthState,
    /// The share of the weight that fails, 0 to 1.
    pub failing_ratio: f64,
    /// The share above which the node is degraded.
    pub degraded_above: f64,
    /// Every check.
    pub checks: Vec<CheckView>,
    /// What was read of the machine.
    pub machine: MachineView,
    /// The receipt that changed the state last.
    pub receipt: Option<Seq>,
}

/// One check, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// Its name.
    pub name: Name,
    /// How it stands.
    pub state: CheckState,
    /// How much it counts.
    pub weight: u32,
    /// Whether the node is degraded without it, whatever its weight.
    pub must_pass: bool,
    /// What it found last, in words.
    pub says: Arc<str>,
    /// How long that took, in microseconds.
    pub took_us: u64,
    /// How long it may take, in milliseconds.
    pub within_ms: u64,
    /// How long ago it answered, in milliseconds; `None` if it never has.
    pub age_ms: Option<u64>,
}

/// What the node uses of its machine. `None` is what this system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineView {
    /// The share of all processors in use over the last minute, 0 to 1; `None` in the first minute.
    pub processor_ratio: Option<f64>,
    /// The same over the last period.
    pub processor_now_ratio: Option<f64>,
    /// Memory of this process, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that the machine can still give, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// Memory of the machine, in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Established TCP connections of this process.
    pub connections: Option<u32>,
}

#[cfg(test)]
mod tests;
