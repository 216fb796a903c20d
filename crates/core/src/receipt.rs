//! Receipts: what happened, in order, each naming its cause.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admission::Tier;
use crate::alert::NoticeKind;
use crate::exit::{ExitReason, Incarnation};
use crate::health::HealthState;
use crate::jidoka::Cause;
use crate::ladder::Measure;
use crate::light::Light;
use crate::name::{ActorPath, Name};
use crate::pool_health::PoolHealth;
use crate::time::Timestamp;
use crate::trace::TraceId;
use crate::view::LineState;

mod breaker_state;
mod kind;
mod outcome;
mod settings;
mod text;

pub use breaker_state::BreakerState;
pub use outcome::SignalOutcome;
pub use settings::{FAULT_CHARS_MAX, FAULTS_MAX, SettingChange};

/// The number of a receipt. The first is 1; numbers have no gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// What happened, to whom, when, and because of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Its number.
    pub seq: Seq,
    /// When, in the node's own time.
    #[serde(rename = "at_ns")]
    pub at: Timestamp,
    /// When, in milliseconds since 1970, for people; decisions never read it.
    pub unix_ms: u64,
    /// The receipt that led to this one; `None` for a first cause.
    pub cause: Option<Seq>,
    /// The actor it is about.
    pub path: ActorPath,
    /// What happened.
    pub event: Event,
}

/// What happened. Past tense; values, not prose.
///
/// Not `#[non_exhaustive]`: a new event must meet every reader of receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The node's first receipt.
    NodeStarted {
        /// The name of the node.
        node: Name,
    },
    /// The node begins to stop.
    NodeStopping {
        /// What made it stop: a signal's name, or the caller.
        why: Arc<str>,
    },
    /// A child runs for the first time.
    ChildStarted {
        /// The new life.
        incarnation: Incarnation,
    },
    /// A child ended.
    ChildExited {
        /// The life that ended.
        incarnation: Incarnation,
        /// Why it ended.
        reason: ExitReason,
    },
    /// A child runs again.
    ChildRestarted {
        /// The new life.
        incarnation: Incarnation,
        /// How often this place has been filled again since the node started.
        restarts: u64,
    },
    /// A child did not come to run.
    ChildStartFailed {
        /// Why not.
        reason: ExitReason,
    },
    /// A child ignored its shutdown and its kill: it is in code that never yields.
    ChildUnkillable {
        /// The life that does not end.
        incarnation: Incarnation,
    },
    /// A handler runs longer than its limit, and blocks its actor meanwhile. Nothing can end it from outside
    /// as long as it does not yield.
    HandlerStuck {
        /// The life it blocks.
        incarnation: Incarnation,
        /// What is handled: `init`, `terminate`, or the type of the messages.
        handles: Arc<str>,
        /// How long it has run at least, in milliseconds.
        for_ms: u64,
        /// How long it may run, in milliseconds.
        limit_ms: u64,
    },
    /// A handler that was stuck went on.
    HandlerRecovered {
        /// The life it blocked.
        incarnation: Incarnation,
        /// How long it took at most, in milliseconds.
        for_ms: u64,
    },
    /// A supervisor reached its restart intensity and ended.
    SupervisorGaveUp {
        /// [`ExitReason::GaveUp`].
        reason: ExitReason,
    },
    /// An operator halted a supervisor: its children stop, and none starts until it runs again.
    SupervisorHalted {
        /// Who.
        by: Arc<str>,
        /// Why, in words.
        why: Arc<str>,
    },
    /// An operator let a halted supervisor run again.
    SupervisorResumed {
        /// Who.
        by: Arc<str>,
    },
    /// An operator asked for an actor's death.
    KillRequested {
        /// Who asked.
        by: Arc<str>,
    },
    /// A breaker changed its state.
    BreakerMoved {
        /// Its name.
        breaker: Name,
        /// The state it left.
        from: BreakerState,
        /// The state it is in.
        to: BreakerState,
        /// What tipped it, in words.
        why: Arc<str>,
    },
    /// A pool was given another size.
    PoolResized {
        /// Its name.
        pool: Name,
        /// Workers before.
        from: u32,
        /// Workers after.
        to: u32,
        /// What for, in words.
        why: Arc<str>,
    },
    /// A pool lent one worker's worth of its capacity to a busier one.
    CapacityMoved {
        /// The pool that may have one worker fewer.
        from: Name,
        /// The pool that may have one more.
        to: Name,
        /// How evenly the pools were loaded, in thousandths.
        balance_milli: u32,
        /// Who asked for it, if somebody did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
    },
    /// Keys belong to a pool from now on.
    AffinityBound {
        /// Their group.
        group: Name,
        /// The pool.
        pool: Name,
        /// How many keys.
        keys: u32,
        /// Who asked for it.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// The keys of a group belong to no pool any more.
    AffinityEnded {
        /// The group.
        group: Name,
        /// The pool they belonged to.
        pool: Name,
        /// Why: who cleared it, or that its time was over.
        why: Arc<str>,
    },
    /// More arrives than the baseline explains.
    SurgeStarted {
        /// Arrivals per second now, times 1000.
        fast_milli: u64,
        /// Arrivals per second normally, times 1000.
        baseline_milli: u64,
    },
    /// Arrivals are back to normal.
    SurgeEnded {
        /// How long it lasted, in milliseconds.
        lasted_ms: u64,
        /// What workers beyond the maxima cost meanwhile, in millionths.
        #[serde(default)]
        cost_micro: u64,
    },
    /// Someone stopped a line.
    CordPulled {
        /// The line.
        line: Name,
        /// Who pulled.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// Someone let a line run again.
    CordReset {
        /// The line.
        line: Name,
        /// Who reset it.
        by: Arc<str>,
    },
    /// A line changed what it takes, because of what is wrong with it.
    LineMoved {
        /// The line.
        line: Name,
        /// Its state before.
        from: LineState,
        /// Its state now.
        to: LineState,
        /// The least urgent tier it takes; `None` if it takes nothing.
        takes: Option<Tier>,
        /// Why, in words.
        why: Arc<str>,
    },
    /// Settings of the running plant were changed, all at once.
    SettingsChanged {
        /// Each setting, before and after.
        changes: Vec<SettingChange>,
        /// What for, in words.
        why: Arc<str>,
    },
    /// Settings were to be changed, and none was, because of what is wrong with them.
    SettingsRefused {
        /// What is wrong, in words: the first [`FAULTS_MAX`].
        faults: Vec<Arc<str>>,
        /// How many faults there are.
        faults_total: u32,
        /// What for, in words.
        why: Arc<str>,
    },
    /// The line admits under new limits.
    LimitsChanged {
        /// Before: the number in flight at which everyone is refused.
        hard_from: u32,
        /// After.
        hard_to: u32,
        /// What for, in words.
        why: Arc<str>,
    },
    /// More is in flight than the soft limit; nothing is refused yet.
    SoftLimitPassed {
        /// Signals in flight.
        in_flight: u32,
        /// The soft limit.
        soft: u32,
        /// The tier whose limit it is; the normal one speaks for batch signals, whose limit is the same.
        #[serde(default)]
        tier: Tier,
    },
    /// A line's share of failures, or of signals that ran out of time, moved to another step of its ladder.
    LadderMoved {
        /// The line.
        line: Name,
        /// Failures, or latency for those that ran out of time.
        defect: Cause,
        /// The light before.
        from: Light,
        /// The light now.
        to: Light,
        /// How many failed or ran out of time in the window.
        failures: u64,
        /// Outcomes in the window.
        outcomes: u64,
    },
    /// A figure of a line, or of the node, passed a threshold, or is below it again.
    LevelMoved {
        /// The line; none for a figure of the node.
        line: Option<Name>,
        /// Which figure, and so the unit of the next two.
        measure: Measure,
        /// The light before.
        from: Light,
        /// The light now.
        to: Light,
        /// How high it stands.
        value: u64,
        /// The threshold.
        limit: u64,
    },
    /// A line's error budget burns at another pace.
    BurnMoved {
        /// The line.
        line: Name,
        /// The light before: yellow is a ticket, red a page.
        from: Light,
        /// The light now.
        to: Light,
        /// How many times faster than sustainable it burns, times 1000; in the shorter window.
        burn_milli: u64,
    },
    /// An operation is slower than its baseline.
    RegressionFound {
        /// The line.
        line: Name,
        /// 95th percentile of the baseline, in microseconds.
        p95_us_then: u64,
        /// 95th percentile now.
        p95_us_now: u64,
        /// How likely chance explains it, in millionths.
        chance_millionths: u64,
    },
    /// An operation is as fast as its baseline again, or got a new one.
    RegressionOver {
        /// The line.
        line: Name,
    },
    /// An operation got a baseline to be compared with.
    BaselineSet {
        /// The line.
        line: Name,
        /// Its 95th percentile, in microseconds.
        p95_us: u64,
        /// The outcomes it was taken from.
        outcomes: u64,
        /// What for, in words.
        why: Arc<str>,
    },
    /// An A/B test came to its verdict.
    TestDecided {
        /// The test.
        test: Name,
        /// The verdict, in words.
        verdict: Arc<str>,
    },
    /// Someone was told of a station.
    Alerted {
        /// The station.
        station: Name,
        /// The worst light that was told.
        light: Light,
        /// What for.
        notice: NoticeKind,
        /// The routes it goes to.
        routes: Vec<Name>,
    },
    /// A route could not deliver a notice, and gave up.
    DeliveryFailed {
        /// The route.
        route: Name,
        /// The station it was about.
        station: Name,
        /// What went wrong the last time.
        why: Arc<str>,
    },
    /// Someone takes care of what a station shows.
    AlertAcknowledged {
        /// The station.
        station: Name,
        /// Who.
        by: Arc<str>,
    },
    /// Nobody wants to hear of some stations for a while.
    AlertsSilenced {
        /// A station's name, or the beginning of names with a `*` behind it.
        stations: Arc<str>,
        /// For how long, in milliseconds; zero ends a silence.
        for_ms: u64,
        /// Who.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// What was to follow successes of a line failed, within the last second.
    FollowUpsFailed {
        /// The line.
        line: Name,
        /// How many.
        failed: u64,
        /// What went wrong with the last of them.
        why: Arc<str>,
    },
    /// A signal ended, of a line that tells of it.
    SignalEnded {
        /// The line.
        line: Name,
        /// How urgent it was.
        tier: Tier,
        /// How it ended.
        outcome: SignalOutcome,
        /// How long it took from its arrival, in microseconds.
        took_us: u64,
        /// Why it did not succeed: the refusal, the rules that did not hold, or the class of the failure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Arc<str>>,
        /// The trace it belongs to, if anybody gave it one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceId>,
    },
    /// A card of a durable queue was delivered as often as it may be, and is set aside until a person redrives or
    /// discards it.
    CardDied {
        /// The queue.
        queue: Name,
        /// The card's number.
        card: u64,
        /// How often it was delivered.
        deliveries: u32,
        /// What went wrong the last time.
        why: Arc<str>,
    },
    /// A durable queue shows another light: yellow while cards are dead, red while its work stands still.
    QueueMoved {
        /// The queue.
        queue: Name,
        /// The light before.
        from: Light,
        /// The light now.
        to: Light,
        /// Cards that are dead.
        dead: u64,
        /// Cards that wait.
        waiting: u64,
        /// Cards in work.
        working: u64,
    },
    /// A rollout took a step.
    RolloutMoved {
        /// What is rolled out.
        service: Name,
        /// The rollout.
        rollout: Arc<str>,
        /// Green as it goes on, yellow while it is held, red when it was taken back.
        light: Light,
        /// What it did and why, in words.
        why: Arc<str>,
    },
    /// A check of the node's health began to fail, or passes again.
    CheckMoved {
        /// The check.
        check: Name,
        /// Whether it fails now.
        failing: bool,
        /// Whether the node is degraded without it.
        must_pass: bool,
        /// What it found, in words.
        why: Arc<str>,
    },
    /// Too much of what is checked fails, or little enough again.
    HealthMoved {
        /// Before.
        from: HealthState,
        /// Now.
        to: HealthState,
        /// The share of the checks' weight that fails, in thousandths.
        failing_milli: u32,
        /// Which checks fail, in words.
        why: Arc<str>,
    },
    /// A pool came to another class of health.
    PoolHealthMoved {
        /// The pool.
        pool: Name,
        /// Before.
        from: PoolHealth,
        /// Now.
        to: PoolHealth,
        /// Why, in words.
        why: Arc<str>,
    },
    /// A station's light changed.
    LightChanged {
        /// The station: a line, its budget, a pool, breaker, supervisor, or the node.
        station: Name,
        /// The light before.
        from: Light,
        /// The light now.
        to: Light,
        /// Why, in words.
        why: Arc<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_in_json_is_the_kind_in_code() {
        let event = Event::ChildExited { incarnation: Incarnation(3), reason: ExitReason::Killed };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["kind"], event.kind());
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }
}
