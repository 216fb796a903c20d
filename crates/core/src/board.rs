//! The andon board: what every station shows, as a fold over the receipts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::health::HealthState;
use crate::jidoka;
use crate::ladder::Measure;
use crate::light::Light;
use crate::name::{ActorPath, NAME_BYTES_MAX, Name};
use crate::pool_health::PoolHealth;
use crate::receipt::{BreakerState, Event, Receipt, Seq};
use crate::time::Timestamp;
use crate::view::{LineState, StationView};

mod entry;

use entry::{Cause, Entry, Trouble};

/// Stations a board holds before it forgets supervisors that were in trouble once.
pub const STATIONS_MAX: usize = 4096;

/// How long a light that no receipt turns off stays on.
///
/// # Units and limits
///
/// By default 10 s after the last restart, 60 s after a supervisor that gave up runs again, and 10 s after
/// the soft limit was passed or follow-ups failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoardRules {
    /// After the last restart of a supervisor's child.
    pub restart_warning: Duration,
    /// After a supervisor that gave up runs again.
    pub gave_up: Duration,
    /// After the soft limit was passed.
    pub soft_limit: Duration,
    /// After follow-ups of a line failed.
    pub follow_ups: Duration,
}

impl Default for BoardRules {
    fn default() -> Self {
        Self {
            restart_warning: Duration::from_secs(10),
            gave_up: Duration::from_secs(60),
            soft_limit: Duration::from_secs(10),
            follow_ups: Duration::from_secs(10),
        }
    }
}

/// What has a light of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Station<'a> {
    /// The node as a whole.
    Node,
    /// A line.
    Line(&'a Name),
    /// A line's error budget: what it has spent stays spent when the line works again.
    Budget(&'a Name),
    /// A pool.
    Pool(&'a Name),
    /// A breaker.
    Breaker(&'a Name),
    /// A durable queue.
    Queue(&'a Name),
    /// The rollouts of a service.
    Rollout(&'a Name),
    /// A check of the node's health.
    Check(&'a Name),
    /// The supervisor at this place.
    Supervisor(&'a ActorPath),
}

impl Station<'_> {
    /// The station's name on the board: `node`, `line:payment`, `supervisor:plant.pools`.
    ///
    /// What would be too long for a name loses its beginning, which tells least.
    pub fn name(self) -> Name {
        let (kind, text) = match self {
            Self::Node => ("node", None),
            Self::Line(line) => ("line:", Some(line.as_str().to_owned())),
            Self::Budget(line) => ("budget:", Some(line.as_str().to_owned())),
            Self::Pool(pool) => ("pool:", Some(pool.as_str().to_owned())),
            Self::Breaker(breaker) => ("breaker:", Some(breaker.as_str().to_owned())),
            Self::Queue(queue) => ("queue:", Some(queue.as_str().to_owned())),
            Self::Rollout(service) => ("rollout:", Some(service.as_str().to_owned())),
            Self::Check(check) => ("check:", Some(check.as_str().to_owned())),
            Self::Supervisor(path) if path.is_root() => ("supervisor:", Some(".".to_owned())),
            Self::Supervisor(path) => ("supervisor:", Some(path.as_str()[1..].replace('/', "."))),
        };
        let text = text.unwrap_or_default();
        let cut = (kind.len() + text.len()).saturating_sub(NAME_BYTES_MAX);
        Name::new(&format!("{kind}{}", &text[cut..]))
            .expect("its parts are names, joined by what a name may contain")
    }
}

/// A station's light changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every change of a light leaves a receipt"]
pub struct LightChange {
    /// The station.
    pub station: Name,
    /// The light before.
    pub from: Light,
    /// The light now.
    pub to: Light,
    /// Why, in words.
    pub why: Arc<str>,
    /// The receipt that led to it.
    pub cause: Seq,
}

/// Folds receipts into the lights of stations.
///
/// A station may be in several troubles at once: it shows the worst, and the next when that one clears.
#[derive(Debug, Clone)]
#[doc(alias = "andon")]
pub struct Board {
    rules: BoardRules,
    stations: BTreeMap<Name, Entry>,
}

impl Board {
    /// A board without stations.
    pub const fn new(rules: BoardRules) -> Self {
        Self { rules, stations: BTreeMap::new() }
    }

    /// Puts a station on the board that is green until something happens to it.
    ///
    /// Others appear with their first receipt. A supervisor that was not added may be forgotten once the
    /// board holds [`STATIONS_MAX`] stations.
    pub fn add(&mut self, station: Station<'_>, unix_ms: u64) {
        self.stations.entry(station.name()).or_insert_with(|| Entry::new(true, unix_ms)).stays = true;
    }

    /// Takes note of a receipt, and returns the lights it changed.
    ///
    /// [`Event::LightChanged`] changes none: it is what became of an earlier answer.
    #[allow(clippy::too_many_lines, reason = "one arm for each event")]
    pub fn apply(&mut self, receipt: &Receipt) -> Vec<LightChange> {
        let mut fold = Fold { board: self, receipt, touched: Vec::new(), changes: Vec::new() };
        let itself = Station::Supervisor(&receipt.path);
        match &receipt.event {
            Event::NodeStarted { .. } => fold.board.add(Station::Node, receipt.unix_ms),
            Event::NodeStopping { .. } => fold.raise(Station::Node, Trouble::Stopping, Light::Purple, None),
            Event::ChildStarted { .. } => fold.child_runs(),
            Event::ChildRestarted { .. } => {
                fold.child_runs();
                fold.end_restarts();
            }
            Event::ChildExited { reason, .. } => fold.child_exited(reason.is_clean()),
            Event::ChildStartFailed { .. } => fold.child_failed(),
            Event::ChildUnkillable { .. } => {
                let trouble = Trouble::Unkillable(receipt.path.clone());
                fold.raise(Station::Supervisor(&supervisor_of(&receipt.path)), trouble, Light::Red, None);
            }
            Event::HandlerStuck { .. } => fold.handler_stuck(),
            Event::HandlerRecovered { .. } => fold.clear_child(Trouble::Stuck),
            Event::SupervisorGaveUp { .. } => fold.raise(itself, Trouble::GaveUp, Light::Red, None),
            Event::SupervisorHalted { .. } => fold.raise(itself, Trouble::Halted, Light::Red, None),
            Event::SupervisorResumed { .. } => fold.clear(itself, &Trouble::Halted),
            Event::BreakerMoved { breaker, to, .. } => fold.breaker_moved(breaker, *to),
            Event::PoolResized { pool, .. } => fold.board.add(Station::Pool(pool), receipt.unix_ms),
            Event::SurgeStarted { .. } => fold.raise(Station::Node, Trouble::Surge, Light::Yellow, None),
            Event::SurgeEnded { .. } => fold.clear(Station::Node, &Trouble::Surge),
            Event::CordPulled { line, by, why } => {
                let why = format!("stopped by {by}: {why}");
                fold.raise_why(Station::Line(line), Trouble::Cord, Light::Red, None, why.into());
            }
            Event::CordReset { line, .. } => fold.clear(Station::Line(line), &Trouble::Cord),
            Event::SoftLimitPassed { .. } => {
                let until = receipt.at + fold.board.rules.soft_limit;
                fold.raise(Station::Node, Trouble::SoftLimit, Light::Yellow, Some(until));
            }
            Event::LadderMoved { line, defect, to, .. } => fold.ladder_moved(line, *defect, *to),
            Event::LevelMoved { line, measure, to, .. } => fold.level_moved(line.as_ref(), *measure, *to),
            Event::LineMoved { line, to, .. } => fold.line_moved(line, *to),
            Event::BurnMoved { line, to: Light::Green, .. } => {
                fold.clear(Station::Budget(line), &Trouble::Burn);
            }
            Event::BurnMoved { line, to, .. } => fold.raise(Station::Budget(line), Trouble::Burn, *to, None),
            Event::RegressionFound { line, .. } => {
                fold.raise(Station::Line(line), Trouble::Regression, Light::Yellow, None);
            }
            Event::RegressionOver { line } => fold.clear(Station::Line(line), &Trouble::Regression),
            Event::FollowUpsFailed { line, .. } => {
                let until = receipt.at + fold.board.rules.follow_ups;
                fold.raise(Station::Line(line), Trouble::FollowUps, Light::Yellow, Some(until));
            }
            Event::QueueMoved { queue, to: Light::Green, .. } => {
                fold.board.add(Station::Queue(queue), receipt.unix_ms);
                fold.clear(Station::Queue(queue), &Trouble::Queue);
            }
            Event::QueueMoved { queue, to, .. } => {
                fold.raise(Station::Queue(queue), Trouble::Queue, *to, None);
            }
            Event::RolloutMoved { service, light: Light::Green, .. } => {
                fold.board.add(Station::Rollout(service), receipt.unix_ms);
                fold.clear(Station::Rollout(service), &Trouble::Rollout);
            }
            Event::RolloutMoved { service, light, .. } => {
                fold.raise(Station::Rollout(service), Trouble::Rollout, *light, None);
            }
            Event::CheckMoved { check, failing: true, must_pass, .. } => {
                let light = if *must_pass { Light::Red } else { Light::Yellow };
                fold.raise(Station::Check(check), Trouble::Check, light, None);
            }
            Event::CheckMoved { check, .. } => fold.clear(Station::Check(check), &Trouble::Check),
            Event::HealthMoved { to: HealthState::Degraded, .. } => {
                fold.raise(Station::Node, Trouble::Health, Light::Red, None);
            }
            Event::HealthMoved { to: HealthState::Healthy | HealthState::Unknown, .. } => {
                fold.clear(Station::Node, &Trouble::Health);
            }
            Event::PoolHealthMoved { pool, to: PoolHealth::Healthy, .. } => {
                fold.clear(Station::Pool(pool), &Trouble::PoolHealth);
            }
            Event::PoolHealthMoved { pool, to, .. } => {
                fold.raise(Station::Pool(pool), Trouble::PoolHealth, to.light(), None);
            }
            Event::KillRequested { .. }
            | Event::CardDied { .. }
            | Event::SignalEnded { .. }
            | Event::SettingsChanged { .. }
            | Event::SettingsRefused { .. }
            | Event::LimitsChanged { .. }
            | Event::BaselineSet { .. }
            | Event::TestDecided { .. }
            | Event::Alerted { .. }
            | Event::DeliveryFailed { .. }
            | Event::AlertAcknowledged { .. }
            | Event::AlertsSilenced { .. }
            | Event::CapacityMoved { .. }
            | Event::AffinityBound { .. }
            | Event::AffinityEnded { .. }
            | Event::LightChanged { .. } => {}
        }
        fold.finish()
    }

    /// Turns off what clears by itself, and returns the lights that changed; to be called every second.
    pub fn tick(&mut self, now: Timestamp, unix_ms: u64) -> Vec<LightChange> {
        let mut changes = Vec::new();
        for (station, entry) in &mut self.stations {
            let Some(over) = entry.expire(now) else { continue };
            let cleared: Arc<str> = format!("over: {}", over.why).into();
            let change = entry.refresh(&cleared, over.seq, unix_ms);
            changes.extend(change.map(|(from, to)| LightChange {
                station: station.clone(),
                from,
                to,
                why: entry.why.clone(),
                cause: over.seq,
            }));
        }
        changes
    }

    /// The worst light of all stations.
    pub fn overall(&self) -> Light {
        self.stations.values().map(|entry| entry.light).max().unwrap_or_default()
    }

    /// Every station, the worst first, equals by name.
    pub fn stations(&self) -> Vec<StationView> {
        let view = |(name, entry): (&Name, &Entry)| StationView {
            name: name.clone(),
            light: entry.light,
            why: entry.why.clone(),
            since_unix_ms: entry.since_unix_ms,
            receipt: entry.receipt,
        };
        let mut stations: Vec<_> = self.stations.iter().map(view).collect();
        stations.sort_by_key(|station| Reverse(station.light));
        stations
    }
}

/// One receipt on its way into the board.
struct Fold<'a> {
    board: &'a mut Board,
    receipt: &'a Receipt,
    /// Stations whose causes changed; each is looked at once, when all of them have.
    touched: Vec<Name>,
    changes: Vec<LightChange>,
}

impl Fold<'_> {
    fn child_exited(&mut self, is_clean: bool) {
        self.clear_child(Trouble::Unkillable);
        self.clear_child(Trouble::Stuck);
        if !is_clean {
            self.child_failed();
        }
    }

    /// A stuck handler stops its own actor and, if it blocks its thread, a part of all others.
    fn handler_stuck(&mut self) {
        let why = format!("{} {}", self.receipt.path.name(), self.receipt.event).into();
        let trouble = Trouble::Stuck(self.receipt.path.clone());
        let supervisor = supervisor_of(&self.receipt.path);
        self.raise_why(Station::Supervisor(&supervisor), trouble, Light::Yellow, None, why);
    }

    /// Ends a trouble of the child the receipt is about.
    fn clear_child(&mut self, trouble: impl FnOnce(ActorPath) -> Trouble) {
        let supervisor = supervisor_of(&self.receipt.path);
        self.clear(Station::Supervisor(&supervisor), &trouble(self.receipt.path.clone()));
    }

    fn child_failed(&mut self) {
        let until = self.receipt.at + self.board.rules.restart_warning;
        let child = self.receipt.path.name();
        let why = if let Event::ChildExited { incarnation, reason } = &self.receipt.event {
            format!("{child} ({incarnation}) exited: {reason}")
        } else {
            format!("{child} {}", self.receipt.event)
        };
        let why = why.into();
        let supervisor = supervisor_of(&self.receipt.path);
        self.raise_why(Station::Supervisor(&supervisor), Trouble::Restarts, Light::Yellow, Some(until), why);
    }

    /// A restart prolongs the warning of the exit that led to it; one after a clean exit warns of nothing.
    fn end_restarts(&mut self) {
        let until = self.receipt.at + self.board.rules.restart_warning;
        self.end(Station::Supervisor(&supervisor_of(&self.receipt.path)), &Trouble::Restarts, until);
    }

    fn child_runs(&mut self) {
        let until = self.receipt.at + self.board.rules.gave_up;
        self.end(Station::Supervisor(&self.receipt.path), &Trouble::GaveUp, until);
    }

    fn breaker_moved(&mut self, breaker: &Name, to: BreakerState) {
        let station = Station::Breaker(breaker);
        match to {
            BreakerState::Open => self.raise(station, Trouble::Breaker, Light::Red, None),
            BreakerState::HalfOpen => self.raise(station, Trouble::Breaker, Light::Yellow, None),
            BreakerState::Closed => self.clear(station, &Trouble::Breaker),
        }
    }

    fn ladder_moved(&mut self, line: &Name, defect: jidoka::Cause, to: Light) {
        if to == Light::Green {
            self.clear(Station::Line(line), &Trouble::Ladder(defect));
        } else {
            self.raise(Station::Line(line), Trouble::Ladder(defect), to, None);
        }
    }

    fn level_moved(&mut self, line: Option<&Name>, measure: Measure, to: Light) {
        let station = line.map_or(Station::Node, Station::Line);
        if to == Light::Green {
            self.clear(station, &Trouble::Level(measure));
        } else {
            self.raise(station, Trouble::Level(measure), to, None);
        }
    }

    fn line_moved(&mut self, line: &Name, to: LineState) {
        let station = Station::Line(line);
        match to {
            LineState::Running => self.clear(station, &Trouble::Moved),
            LineState::Slowed => self.raise(station, Trouble::Moved, Light::Yellow, None),
            LineState::Stopped => self.raise(station, Trouble::Moved, Light::Red, None),
            LineState::Draining => self.raise(station, Trouble::Moved, Light::Purple, None),
        }
    }

    fn raise(&mut self, station: Station<'_>, trouble: Trouble, light: Light, until: Option<Timestamp>) {
        self.raise_why(station, trouble, light, until, self.receipt.event.to_string().into());
    }

    fn raise_why(
        &mut self,
        station: Station<'_>,
        trouble: Trouble,
        light: Light,
        until: Option<Timestamp>,
        why: Arc<str>,
    ) {
        let name = station.name();
        if !self.board.stations.contains_key(&name) {
            self.make_room();
            let stays = !matches!(station, Station::Supervisor(_));
            self.board.stations.insert(name.clone(), Entry::new(stays, self.receipt.unix_ms));
        }
        let cause = Cause { trouble, light, why, seq: self.receipt.seq, until };
        self.change(name, |entry| entry.raise(cause));
    }

    fn clear(&mut self, station: Station<'_>, trouble: &Trouble) {
        self.change(station.name(), |entry| entry.clear(trouble));
    }

    fn end(&mut self, station: Station<'_>, trouble: &Trouble, at: Timestamp) {
        self.change(station.name(), |entry| entry.end(trouble, at));
    }

    fn change(&mut self, station: Name, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.board.stations.get_mut(&station) else { return };
        change(entry);
        if !self.touched.contains(&station) {
            self.touched.push(station);
        }
    }

    fn finish(mut self) -> Vec<LightChange> {
        let cause = self.receipt.seq;
        for station in self.touched {
            let Some(entry) = self.board.stations.get_mut(&station) else { continue };
            let cleared = self.receipt.event.to_string().into();
            if let Some((from, to)) = entry.refresh(&cleared, cause, self.receipt.unix_ms) {
                self.changes.push(LightChange { station, from, to, why: entry.why.clone(), cause });
            }
        }
        self.changes
    }

    /// Forgets the best and oldest of the supervisors known only by trouble, if the board is full.
    fn make_room(&mut self) {
        if self.board.stations.len() < STATIONS_MAX {
            return;
        }
        let forgettable = self.board.stations.iter().filter(|(_, entry)| !entry.stays);
        let Some((station, _)) = forgettable.min_by_key(|(_, entry)| (entry.light, entry.receipt)) else {
            return;
        };
        let station = station.clone();
        let from = self.board.stations.remove(&station).map_or(Light::Green, |entry| entry.light);
        if from != Light::Green {
            let why = format!("forgotten: the board holds {STATIONS_MAX} stations").into();
            self.changes.push(LightChange { station, from, to: Light::Green, why, cause: self.receipt.seq });
        }
    }
}

/// Who starts the actor at `path`; the root answers for itself.
fn supervisor_of(path: &ActorPath) -> ActorPath {
    path.parent().unwrap_or_else(ActorPath::root)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::admission::Tier;
    use crate::exit::{ExitReason, Incarnation};
    use Light::{Green, Purple, Red, Yellow};

    /// A board with its own time and numbers.
    struct Floor {
        board: Board,
        now: Timestamp,
        seq: u64,
    }

    impl Floor {
        fn new() -> Self {
            Self { board: Board::new(BoardRules::default()), now: Timestamp::from_secs(1), seq: 0 }
        }

        fn at(&mut self, path: &str, event: Event) -> Vec<(String, Light, Light)> {
            self.seq += 1;
            let (seq, unix_ms) = (Seq(self.seq), self.now.as_millis());
            let path = ActorPath::new(path).unwrap();
            let changes = self.board.apply(&Receipt { seq, at: self.now, unix_ms, cause: None, path, event });
            assert!(changes.iter().all(|change| change.cause == seq));
            changes.into_iter().map(|change| (change.station.to_string(), change.from, change.to)).collect()
        }

        /// Lets time pass, in one piece, and returns which lights changed by it.
        fn wait(&mut self, seconds: u64) -> Vec<(String, Light, Light)> {
            self.now = self.now + Duration::from_secs(seconds);
            let changes = self.board.tick(self.now, self.now.as_millis());
            changes.into_iter().map(|change| (change.station.to_string(), change.from, change.to)).collect()
        }

        fn station(&self, name: &str) -> StationView {
            self.board.stations().into_iter().find(|station| station.name.as_str() == name).unwrap()
        }
    }

    fn moved(station: &str, from: Light, to: Light) -> Vec<(String, Light, Light)> {
        vec![(station.to_owned(), from, to)]
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn exited(reason: ExitReason) -> Event {
        Event::ChildExited { incarnation: Incarnation(7), reason }
    }

    fn restarted() -> Event {
        Event::ChildRestarted { incarnation: Incarnation(8), restarts: 1 }
    }

    fn unkillable() -> Event {
        Event::ChildUnkillable { incarnation: Incarnation(7) }
    }

    fn stuck() -> Event {
        let (for_ms, limit_ms) = (5100, 5000);
        Event::HandlerStuck { incarnation: Incarnation(7), handles: "Msg".into(), for_ms, limit_ms }
    }

    fn breaker(from: BreakerState, to: BreakerState) -> Event {
        Event::BreakerMoved { breaker: name("gateway"), from, to, why: "a test".into() }
    }

    fn ladder(from: Light, to: Light) -> Event {
        let defect = jidoka::Cause::Failures;
        Event::LadderMoved { line: name("payment"), defect, from, to, failures: 1, outcomes: 2 }
    }

    const POOLS: &str = "supervisor:plant.pools";

    #[test]
    fn a_regression_is_trouble_of_its_line_and_a_budget_has_a_light_of_its_own() {
        let mut floor = Floor::new();
        let line = || "payment".parse().unwrap();
        let burn = |from, to| Event::BurnMoved { line: line(), from, to, burn_milli: 15_000 };
        let slow =
            Event::RegressionFound { line: line(), p95_us_then: 1, p95_us_now: 2, chance_millionths: 3 };
        assert_eq!(floor.at("/plant/kaizen", slow), [("line:payment".to_owned(), Green, Yellow)]);
        assert_eq!(floor.at("/plant/kaizen", burn(Green, Red)), [("budget:payment".to_owned(), Green, Red)]);
        assert_eq!(floor.at("/plant/kaizen", burn(Red, Green)), [("budget:payment".to_owned(), Red, Green)]);
        let over = Event::RegressionOver { line: line() };
        assert_eq!(floor.at("/plant/kaizen", over), [("line:payment".to_owned(), Yellow, Green)]);
    }

    #[test]
    fn a_halted_supervisor_is_red_until_it_runs_again() {
        let mut floor = Floor::new();
        let halted = Event::SupervisorHalted { by: "ann".into(), why: "wrong answers".into() };
        assert_eq!(floor.at("/plant/pools", halted), moved(POOLS, Green, Red));
        assert_eq!(floor.station(POOLS).why, "halted by ann: wrong answers".into());
        let resumed = Event::SupervisorResumed { by: "ann".into() };
        assert_eq!(floor.at("/plant/pools", resumed), moved(POOLS, Red, Green));
    }

    #[test]
    fn a_rollout_is_red_from_its_end_by_force_until_the_next_step() {
        let mut floor = Floor::new();
        let step = |light| Event::RolloutMoved {
            service: name("api"),
            rollout: "7".into(),
            light,
            why: "v2 back to 0 %".into(),
        };
        assert_eq!(floor.at("/api", step(Green)), []);
        assert_eq!(floor.at("/api", step(Yellow)), moved("rollout:api", Green, Yellow));
        assert_eq!(floor.at("/api", step(Red)), moved("rollout:api", Yellow, Red));
        assert_eq!(floor.station("rollout:api").why, "rollout of api: v2 back to 0 %".into());
        assert_eq!(floor.at("/api", step(Green)), moved("rollout:api", Red, Green));
    }

    #[test]
    fn a_queue_is_yellow_while_cards_are_dead_and_red_while_its_work_stands_still() {
        let mut floor = Floor::new();
        let queue = || name("orders");
        let queue_moved =
            |from, to| Event::QueueMoved { queue: queue(), from, to, dead: 1, waiting: 7, working: 3 };
        let died = Event::CardDied { queue: queue(), card: 5, deliveries: 5, why: "bad address".into() };
        assert_eq!(
            floor.at("/orders", died),
            [],
            "the light follows from what lies there, not from one death"
        );
        assert_eq!(floor.at("/orders", queue_moved(Green, Yellow)), moved("queue:orders", Green, Yellow));
        assert_eq!(floor.at("/orders", queue_moved(Yellow, Red)), moved("queue:orders", Yellow, Red));
        assert!(floor.station("queue:orders").why.ends_with("3 in work and none of them ends"));
        assert_eq!(floor.wait(3600), []);
        assert_eq!(floor.at("/orders", queue_moved(Red, Green)), moved("queue:orders", Red, Green));
    }

    #[test]
    fn follow_ups_that_fail_warn_for_ten_seconds() {
        let mut floor = Floor::new();
        let failed = Event::FollowUpsFailed { line: name("payment"), failed: 3, why: "no paper".into() };
        assert_eq!(floor.at("/plant/kaizen", failed), moved("line:payment", Green, Yellow));
        assert_eq!(&*floor.station("line:payment").why, "3 follow-ups of line payment failed: no paper");
        assert_eq!(floor.wait(9), []);
        assert_eq!(floor.wait(1), moved("line:payment", Yellow, Green));
    }

    #[test]
    fn an_abnormal_exit_warns_until_ten_seconds_after_the_last_restart() {
        let mut floor = Floor::new();
        assert_eq!(floor.at("/plant/pools/a", exited(ExitReason::Killed)), moved(POOLS, Green, Yellow));
        assert_eq!(&*floor.station(POOLS).why, "a (life 7) exited: killed");
        assert_eq!(floor.wait(4), []);
        assert_eq!(floor.at("/plant/pools/a", restarted()), []);
        assert_eq!(floor.wait(9), []);
        assert_eq!(floor.wait(1), moved(POOLS, Yellow, Green));
        assert_eq!(&*floor.station(POOLS).why, "over: a (life 7) exited: killed");
        assert_eq!(floor.station(POOLS).since_unix_ms, 15_000);
    }

    #[test]
    fn a_clean_exit_and_its_restart_change_no_light() {
        let mut floor = Floor::new();
        for reason in [ExitReason::Normal, ExitReason::Shutdown] {
            assert_eq!(floor.at("/plant/pools/a", exited(reason)), []);
            assert_eq!(floor.at("/plant/pools/a", restarted()), []);
        }
        assert_eq!(floor.board.stations(), []);
    }

    #[test]
    fn a_failed_start_warns() {
        let mut floor = Floor::new();
        let failed = Event::ChildStartFailed { reason: ExitReason::Killed };
        assert_eq!(floor.at("/db", failed), moved("supervisor:.", Green, Yellow));
    }

    #[test]
    fn a_supervisor_that_gave_up_is_red_until_a_minute_after_it_runs_again() {
        let started = Event::ChildStarted { incarnation: Incarnation(9) };
        for runs_again in [restarted(), started] {
            let mut floor = Floor::new();
            let gave_up = Event::SupervisorGaveUp { reason: ExitReason::Killed };
            assert_eq!(floor.at("/plant/pools", gave_up), moved(POOLS, Green, Red));
            assert_eq!(floor.wait(3600), []);
            assert_eq!(floor.at("/plant/pools", runs_again), []);
            assert_eq!(floor.wait(59), []);
            assert_eq!(floor.wait(1), moved(POOLS, Red, Green));
        }
    }

    #[test]
    fn an_unkillable_child_is_red_until_that_child_exits() {
        let mut floor = Floor::new();
        assert_eq!(floor.at("/plant/pools/a", unkillable()), moved(POOLS, Green, Red));
        assert_eq!(floor.at("/plant/pools/b", exited(ExitReason::Killed)), []);
        assert_eq!(floor.wait(3600), []);
        assert_eq!(floor.at("/plant/pools/a", exited(ExitReason::Killed)), moved(POOLS, Red, Yellow));
        assert_eq!(floor.wait(10), moved(POOLS, Yellow, Green));
    }

    #[test]
    fn a_stuck_handler_is_yellow_until_it_goes_on_or_its_actor_ends() {
        let over = Event::HandlerRecovered { incarnation: Incarnation(7), for_ms: 6000 };
        for (end, after) in [(over, Green), (exited(ExitReason::Shutdown), Green)] {
            let mut floor = Floor::new();
            assert_eq!(floor.at("/plant/pools/a", stuck()), moved(POOLS, Green, Yellow));
            let why = "a life 7 is stuck: it handles Msg for 5100 ms (limit 5000)";
            assert_eq!(&*floor.station(POOLS).why, why);
            assert_eq!(floor.wait(3600), []);
            assert_eq!(floor.at("/plant/pools/a", end), moved(POOLS, Yellow, after));
        }
    }

    #[test]
    fn a_breaker_shows_its_state() {
        use BreakerState::{Closed, HalfOpen, Open};
        let mut floor = Floor::new();
        for (from, to, before, after) in [
            (Closed, Open, Green, Red),
            (Open, HalfOpen, Red, Yellow),
            (HalfOpen, Open, Yellow, Red),
            (Open, HalfOpen, Red, Yellow),
            (HalfOpen, Closed, Yellow, Green),
        ] {
            assert_eq!(floor.at("/guard", breaker(from, to)), moved("breaker:gateway", before, after));
        }
        assert_eq!(&*floor.station("breaker:gateway").why, "breaker gateway half-open → closed: a test");
    }

    #[test]
    fn a_reset_cord_leaves_the_light_of_the_ladder() {
        let mut floor = Floor::new();
        let pulled = Event::CordPulled { line: name("payment"), by: "ada".into(), why: "smoke".into() };
        let reset = Event::CordReset { line: name("payment"), by: "ada".into() };
        assert_eq!(floor.at("/board", ladder(Green, Yellow)), moved("line:payment", Green, Yellow));
        assert_eq!(floor.at("/board", pulled.clone()), moved("line:payment", Yellow, Red));
        assert_eq!(&*floor.station("line:payment").why, "stopped by ada: smoke");
        assert_eq!(floor.at("/board", ladder(Yellow, Purple)), moved("line:payment", Red, Purple));
        assert_eq!(floor.at("/board", ladder(Purple, Green)), moved("line:payment", Purple, Red));
        assert_eq!(floor.at("/board", reset.clone()), moved("line:payment", Red, Green));
        assert_eq!(&*floor.station("line:payment").why, "cord of line payment reset by ada");
        let _ = floor.at("/board", ladder(Green, Yellow));
        let _ = floor.at("/board", pulled);
        assert_eq!(floor.at("/board", reset), moved("line:payment", Red, Yellow));
    }

    #[test]
    fn the_node_shows_surges_the_soft_limit_and_its_end() {
        let mut floor = Floor::new();
        let surge = Event::SurgeStarted { fast_milli: 9000, baseline_milli: 1000 };
        let soft = Event::SoftLimitPassed { in_flight: 800, soft: 800, tier: Tier::Normal };
        assert_eq!(floor.at("/", Event::NodeStarted { node: name("plant-1") }), []);
        assert_eq!(floor.station("node").light, Green);
        assert_eq!(floor.at("/burst", surge), moved("node", Green, Yellow));
        assert_eq!(floor.at("/regulator", soft.clone()), []);
        assert_eq!(floor.at("/burst", Event::SurgeEnded { lasted_ms: 1, cost_micro: 1 }), []);
        assert_eq!(&*floor.station("node").why, "800 in flight, soft limit 800 of normal signals");
        assert_eq!(floor.wait(9), []);
        assert_eq!(floor.at("/regulator", soft), []);
        assert_eq!(floor.wait(9), []);
        assert_eq!(floor.wait(1), moved("node", Yellow, Green));
        assert_eq!(
            floor.at("/", Event::NodeStopping { why: "SIGTERM".into() }),
            moved("node", Green, Purple)
        );
        assert_eq!(floor.wait(3600), []);
        assert_eq!(floor.board.overall(), Purple);
    }

    #[test]
    fn stations_stand_worst_first_and_equals_by_name() {
        let mut floor = Floor::new();
        floor.board.add(Station::Line(&name("refund")), 5);
        floor.board.add(Station::Line(&name("delivery")), 5);
        let _ = floor.at("/guard", breaker(BreakerState::Closed, BreakerState::Open));
        let _ = floor.at("/board", ladder(Green, Yellow));
        let names: Vec<_> =
            floor.board.stations().into_iter().map(|station| station.name.to_string()).collect();
        assert_eq!(names, ["breaker:gateway", "line:payment", "line:delivery", "line:refund"]);
        assert_eq!(floor.board.overall(), Red);
        assert_eq!(&*floor.station("line:refund").why, "normal");
    }

    #[test]
    fn the_boards_own_receipts_change_nothing() {
        let mut floor = Floor::new();
        let _ = floor.at("/guard", breaker(BreakerState::Closed, BreakerState::Open));
        let own =
            Event::LightChanged { station: name("breaker:gateway"), from: Green, to: Red, why: "x".into() };
        assert_eq!(floor.at("/board", own), []);
    }

    #[test]
    fn a_station_name_that_is_too_long_loses_its_beginning() {
        let segment = "x".repeat(30);
        let path = ActorPath::new(&format!("/first/{segment}/{segment}/last")).unwrap();
        let station = Station::Supervisor(&path).name();
        assert_eq!(station.as_str().len(), NAME_BYTES_MAX);
        assert!(station.as_str().starts_with("supervisor:x") && station.as_str().ends_with("x.last"));
        let line = name(&"y".repeat(NAME_BYTES_MAX));
        assert!(Station::Line(&line).name().as_str().starts_with("line:y"));
    }

    #[test]
    fn a_full_board_forgets_the_best_and_oldest_supervisor_it_was_not_told_of() {
        let mut floor = Floor::new();
        floor.board.add(Station::Supervisor(&ActorPath::new("/s0").unwrap()), 0);
        for number in 1..STATIONS_MAX {
            let _ = floor.at(&format!("/s{number}/child"), exited(ExitReason::Killed));
        }
        assert_eq!(floor.board.stations().len(), STATIONS_MAX);
        let changes = floor.at("/one/more", unkillable());
        let mut expected = moved("supervisor:s1", Yellow, Green);
        expected.extend(moved("supervisor:one", Green, Red));
        assert_eq!(changes, expected);
        assert_eq!(floor.board.stations().len(), STATIONS_MAX);
        assert_eq!(floor.station("supervisor:s0").light, Green);
    }

    fn events() -> impl Strategy<Value = Vec<(&'static str, Event, u64)>> {
        let paths = proptest::sample::select(vec!["/a", "/a/b", "/a/c", "/a/b/d"]);
        let states = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];
        let mut events = vec![
            exited(ExitReason::Killed),
            exited(ExitReason::Normal),
            restarted(),
            unkillable(),
            Event::ChildStarted { incarnation: Incarnation(9) },
            Event::SupervisorGaveUp { reason: ExitReason::Killed },
            Event::CordPulled { line: name("payment"), by: "a".into(), why: "b".into() },
            Event::CordReset { line: name("payment"), by: "a".into() },
            Event::SoftLimitPassed { in_flight: 1, soft: 1, tier: Tier::Normal },
            Event::SurgeStarted { fast_milli: 1, baseline_milli: 1 },
            Event::SurgeEnded { lasted_ms: 1, cost_micro: 1 },
        ];
        events.extend(states.map(|to| breaker(BreakerState::Closed, to)));
        events.extend(Light::ALL.map(|to| ladder(Green, to)));
        vec((paths, proptest::sample::select(events), 0u64..30), 0..60)
    }

    proptest! {
        #[test]
        fn whoever_folds_the_changes_sees_the_board(events in events()) {
            let mut floor = Floor::new();
            let mut seen = BTreeMap::new();
            for (path, event, seconds) in events {
                let mut changes = floor.at(path, event);
                changes.extend(floor.wait(seconds));
                for (station, from, to) in changes {
                    prop_assert!(from != to);
                    prop_assert_eq!(seen.insert(station, to).unwrap_or(Green), from);
                }
                let stations = floor.board.stations();
                for station in &stations {
                    let light = seen.get(station.name.as_str()).copied().unwrap_or(Green);
                    prop_assert_eq!(light, station.light);
                }
                prop_assert_eq!(stations.first().map_or(Green, |first| first.light), floor.board.overall());
            }
        }
    }
}
