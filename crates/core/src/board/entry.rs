//! What is wrong at one station of the board, and what it shows because of that.

use std::sync::Arc;

use crate::jidoka;
use crate::ladder::Measure;
use crate::light::Light;
use crate::name::ActorPath;
use crate::receipt::Seq;
use crate::time::Timestamp;

/// What may be wrong at a station. Each kind is there once and has a light of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    Restarts,
    GaveUp,
    Halted,
    Unkillable(ActorPath),
    Stuck(ActorPath),
    Breaker,
    Cord,
    Ladder(jidoka::Cause),
    Level(Measure),
    Burn,
    Regression,
    Moved,
    Queue,
    Rollout,
    Check,
    Health,
    PoolHealth,
    FollowUps,
    Surge,
    SoftLimit,
    Stopping,
}

#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) trouble: Trouble,
    pub(super) light: Light,
    pub(super) why: Arc<str>,
    pub(super) seq: Seq,
    /// When it clears by itself; `None` if a receipt has to clear it.
    pub(super) until: Option<Timestamp>,
}

/// The causes at one station, and what it shows because of them.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) causes: Vec<Cause>,
    pub(super) light: Light,
    pub(super) why: Arc<str>,
    pub(super) since_unix_ms: u64,
    pub(super) receipt: Option<Seq>,
    /// Whether it stays on the board when there is no room; supervisors known only by trouble do not.
    pub(super) stays: bool,
}

impl Entry {
    pub(super) fn new(stays: bool, unix_ms: u64) -> Self {
        let light = Light::Green;
        Self {
            causes: Vec::new(),
            light,
            why: light.word().into(),
            since_unix_ms: unix_ms,
            receipt: None,
            stays,
        }
    }

    pub(super) fn raise(&mut self, cause: Cause) {
        self.clear(&cause.trouble);
        self.causes.push(cause);
    }

    pub(super) fn clear(&mut self, trouble: &Trouble) {
        self.causes.retain(|cause| cause.trouble != *trouble);
    }

    pub(super) fn end(&mut self, trouble: &Trouble, at: Timestamp) {
        let matching = self.causes.iter_mut().filter(|cause| cause.trouble == *trouble);
        matching.for_each(|cause| cause.until = Some(at));
    }

    /// Removes what has cleared by itself, and returns the worst of it.
    pub(super) fn expire(&mut self, now: Timestamp) -> Option<Cause> {
        let is_over = |cause: &mut Cause| cause.until.is_some_and(|until| until <= now);
        self.causes.extract_if(.., is_over).max_by_key(|cause| (cause.light, cause.seq))
    }

    /// Shows the worst cause, the newest of equals, or green with `cleared` for a reason.
    pub(super) fn refresh(&mut self, cleared: &Arc<str>, cause: Seq, unix_ms: u64) -> Option<(Light, Light)> {
        let worst = self.causes.iter().max_by_key(|cause| (cause.light, cause.seq));
        let (light, why, receipt) = match worst {
            Some(worst) => (worst.light, worst.why.clone(), worst.seq),
            None if self.light == Light::Green => return None,
            None => (Light::Green, cleared.clone(), cause),
        };
        let from = std::mem::replace(&mut self.light, light);
        (self.why, self.receipt) = (why, Some(receipt));
        if from == light {
            return None;
        }
        self.since_unix_ms = unix_ms;
        Some((from, light))
    }
}
