//! How many calls to a downstream may be in flight, where nobody says how much it can do.

use std::time::Duration;

use crate::breaker::Outcome;
use crate::time::Timestamp;

mod rules;

pub use rules::{AdaptiveRules, AdaptiveRulesBuilder, AdaptiveRulesError};

/// How long calls are gathered before the limit moves, at least.
const WINDOW: Duration = Duration::from_millis(100);

/// How many calls are gathered before the limit moves, at least: of ten, the mean is off by a third.
const WINDOW_CALLS: u32 = 50;

/// A probe that saw fewer calls than this says nothing.
const PROBE_CALLS_MIN: u32 = 10;

/// The limit goes so far of the way to its new value with each window. Source: Gradient2.
const SMOOTHING: f64 = 0.2;

/// What the limit grows by in a window, at most: what may wait at the downstream. Source: Gradient2.
const ROOM_MAX: f64 = 4.0;

/// What is left of the limit in a window in which a call was lost: the downstream's own way to say so.
const AFTER_LOSS: f64 = 0.9;

/// A probe has seen enough with so many calls.
const PROBE_CALLS: u32 = 200;

/// A probe ends after this time, whatever it has seen.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// The latency of an idle downstream moves by so much of the difference with each probe, which is chance,
const PROBE_WEIGHT: f64 = 0.2;

/// unless the difference is larger than this share of it: then something has happened.
const PROBE_JUMP: f64 = 0.3;

/// A limit has to bring at least this share of the throughput that its calls would if none waited. Below it,
/// more calls only wait longer.
const WORTH: f64 = 0.5;

/// A probe that could lower the calls in flight by less than this share of the limit, because of the least one, says
/// nothing of what more calls bring: chance is as large.
const PROBE_DEPTH_MIN: f64 = 1.0 / 3.0;

/// Leave to make one call. Give it back with [`Adaptive::leave`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a slip that is not given back keeps its place"]
pub struct Slip {
    started: Timestamp,
    /// Which life of the limit it is of.
    life: u32,
}

/// As many calls as may be are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} calls to the downstream are in flight, which is what it bears; retry in {retry_in:?}")]
pub struct Busy {
    /// The limit now.
    pub limit: u32,
    /// When a call should be over.
    pub retry_in: Duration,
}

/// Calls that ended in a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    since: Timestamp,
    ended: u32,
    latency: Duration,
    lost: bool,
    /// Most of them in flight at once.
    in_flight_most: u32,
}

impl Calls {
    const fn since(now: Timestamp, in_flight: u32) -> Self {
        Self { since: now, ended: 0, latency: Duration::ZERO, lost: false, in_flight_most: in_flight }
    }

    fn add(&mut self, latency: Duration) {
        self.ended += 1;
        self.latency += latency;
    }

    fn mean(&self) -> f64 {
        self.latency.as_secs_f64() / f64::from(self.ended.max(1))
    }

    fn per_s(&self, now: Timestamp) -> f64 {
        f64::from(self.ended) / now.since(self.since).as_secs_f64().max(1e-9)
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The limit follows the latency; the calls since the last probe, for comparison.
    Following { calls: Calls },
    /// Calls in flight go down to half of the limit.
    Draining { per_s: f64, since: Timestamp },
    /// They are at half of it: what they take is what the downstream takes, with nobody waiting there.
    Probing { per_s: f64, calls: Calls },
}

/// Finds the number of calls at which a downstream does what it can and hardly any of them waits.
///
/// The limit shrinks when calls take longer than they should, by the ratio of the two, and else grows a
/// little. What a call should take is measured every now and then with half as many in flight, never taken
/// from calls that were made at the limit: those may have waited, and a limit that takes waiting for normal
/// creeps up for ever. The same measurement tells whether the second half of the calls brought throughput; if
/// it did not, the limit does not grow until the next.
#[derive(Debug, Clone)]
#[doc(alias = "heijunka")]
pub struct Adaptive {
    rules: AdaptiveRules,
    limit: f64,
    in_flight: u32,
    /// Seconds a call takes if none waits; unknown until the first window is over.
    unloaded: Option<f64>,
    /// The limit does not grow beyond this, because it brought nothing.
    worth_max: f64,
    window: Calls,
    phase: Phase,
    /// Grows with each new beginning, so that a call of before does not count after it.
    life: u32,
}

impl Adaptive {
    /// A limit that knows nothing of its downstream yet.
    pub fn new(rules: AdaptiveRules, now: Timestamp) -> Self {
        let window = Calls::since(now, 0);
        Self {
            rules,
            limit: f64::from(rules.initial),
            in_flight: 0,
            unloaded: None,
            worth_max: f64::INFINITY,
            window,
            phase: Phase::Following { calls: window },
            life: 0,
        }
    }

    /// The rules it goes by.
    pub const fn rules(&self) -> &AdaptiveRules {
        &self.rules
    }

    /// Goes by other rules from now on: the limit is brought into its new bounds, and what it has learnt stays. Calls
    /// in flight beyond it go on, and no other is let through until they are fewer.
    pub fn set_rules(&mut self, rules: AdaptiveRules) {
        self.rules = rules;
        self.limit = self.limit.clamp(f64::from(rules.min), f64::from(rules.max));
        self.unloaded = self.unloaded.map(|known| self.healthy(known));
    }

    /// Begins anew, as one that knows nothing of its downstream: calls that are in flight now do not count. This is
    /// how a limit that was off begins.
    pub fn begin(&mut self, rules: AdaptiveRules, now: Timestamp) {
        *self = Self { life: self.life.wrapping_add(1), ..Self::new(rules, now) };
    }

    /// Asks to make a call.
    ///
    /// # Errors
    ///
    /// [`Busy`], at once.
    pub fn enter(&mut self, now: Timestamp) -> Result<Slip, Busy> {
        let limit = self.limit_now();
        if limit <= self.in_flight {
            let retry_in = Duration::from_secs_f64(self.unloaded.unwrap_or(WINDOW.as_secs_f64()));
            return Err(Busy { limit, retry_in });
        }
        self.in_flight += 1;
        self.window.in_flight_most = self.window.in_flight_most.max(self.in_flight);
        if let Phase::Following { calls } = &mut self.phase {
            calls.in_flight_most = calls.in_flight_most.max(self.in_flight);
        }
        Ok(Slip { started: now, life: self.life })
    }

    /// Takes a slip back. A call that failed or timed out was lost; one that is ignored says nothing.
    #[expect(clippy::needless_pass_by_value, reason = "a slip counts once")]
    pub fn leave(&mut self, slip: Slip, outcome: Outcome, now: Timestamp) {
        if slip.life != self.life {
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Ignored => {}
            Outcome::Failure => self.window.lost = true,
            Outcome::Success => self.add(slip.started, now),
        }
        self.advance(now);
        let gathered = WINDOW_CALLS <= self.window.ended || self.window.lost;
        if gathered && WINDOW <= now.since(self.window.since) {
            self.follow();
            self.window = Calls::since(now, self.in_flight);
        }
    }

    /// Calls that may be in flight, apart from the probes.
    pub const fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Calls in flight.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// What a call takes if none waits.
    pub fn unloaded(&self) -> Option<Duration> {
        self.unloaded.map(Duration::from_secs_f64)
    }

    fn limit_now(&self) -> u32 {
        match self.phase {
            Phase::Following { .. } => self.limit(),
            Phase::Draining { .. } | Phase::Probing { .. } => (self.limit() / 2).max(self.rules.min),
        }
    }

    fn add(&mut self, started: Timestamp, now: Timestamp) {
        let latency = now.since(started);
        match &mut self.phase {
            Phase::Following { calls } => {
                self.window.add(latency);
                calls.add(latency);
            }
            // A call from before may have waited.
            Phase::Probing { calls, .. } if calls.since <= started => calls.add(latency),
            Phase::Draining { .. } | Phase::Probing { .. } => {}
        }
    }

    /// Moves on in the order of the phases.
    fn advance(&mut self, now: Timestamp) {
        match self.phase {
            Phase::Following { calls } if self.rules.probe_every <= now.since(calls.since) => {
                if self.is_used(&calls) {
                    self.phase = Phase::Draining { per_s: calls.per_s(now), since: now };
                } else {
                    // Nobody waits at a limit that was not reached: what calls take is what they should.
                    self.learn(calls.mean());
                    self.phase = Phase::Following { calls: Calls::since(now, self.in_flight) };
                }
            }
            Phase::Draining { per_s, since } => {
                if self.in_flight <= self.limit_now() || PROBE_MAX <= now.since(since) {
                    self.phase = Phase::Probing { per_s, calls: Calls::since(now, self.in_flight) };
                }
            }
            Phase::Probing { per_s, calls }
                if PROBE_CALLS <= calls.ended || PROBE_MAX <= now.since(calls.since) =>
            {
                if PROBE_CALLS_MIN <= calls.ended {
                    self.learn(calls.mean());
                    self.worth_max = self.worth(per_s, calls.per_s(now));
                }
                self.window = Calls::since(now, self.in_flight);
                self.phase = Phase::Following { calls: self.window };
            }
            Phase::Following { .. } | Phase::Probing { .. } => {}
        }
    }

    /// How far the limit may grow after a probe that saw `probed` calls a second, where there were `per_s` at the
    /// whole limit.
    fn worth(&self, per_s: f64, probed: f64) -> f64 {
        let depth = 1.0 - f64::from(self.limit_now()) / f64::from(self.limit().max(1));
        if depth < PROBE_DEPTH_MIN {
            return f64::INFINITY;
        }
        let gained = (per_s - probed) / (depth * per_s).max(1e-9);
        if WORTH <= gained {
            return f64::INFINITY;
        }
        // The first such limit stays the bound: a later one may be lower by chance.
        if self.worth_max.is_finite() { self.worth_max } else { self.limit }
    }

    /// Takes note of what a call took while none waited.
    fn learn(&mut self, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        let known = self.unloaded.unwrap_or(seconds);
        let jumped = PROBE_JUMP * known < (seconds - known).abs();
        let weight = if jumped { 1.0 } else { PROBE_WEIGHT };
        self.unloaded = Some(self.healthy(known + weight * (seconds - known)));
    }

    /// These seconds, as far as a call that takes them is healthy.
    fn healthy(&self, seconds: f64) -> f64 {
        self.rules.healthy_max.map_or(seconds, |most| seconds.min(most.as_secs_f64()))
    }

    /// Whether at least half of the limit was in use at once.
    const fn is_used(&self, calls: &Calls) -> bool {
        self.limit() <= 2 * calls.in_flight_most
    }

    fn follow(&mut self) {
        let (min, max) = (f64::from(self.rules.min), f64::from(self.rules.max));
        if self.window.lost {
            self.limit = (self.limit * AFTER_LOSS).clamp(min, max);
            return;
        }
        if !matches!(self.phase, Phase::Following { .. }) {
            return;
        }
        let mean = self.window.mean();
        let unloaded = match self.unloaded {
            // A downstream that has become faster says so at once.
            Some(known) if mean < known * (1.0 - PROBE_JUMP) => mean,
            Some(known) => known,
            None => self.healthy(mean),
        };
        self.unloaded = Some(unloaded);
        let gradient = (self.rules.tolerance * unloaded / mean.max(1e-9)).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt().min(ROOM_MAX);
        let next = self.limit + SMOOTHING * (wanted - self.limit);
        if next <= self.limit || self.is_used(&self.window) {
            let most = if next <= self.limit { max } else { max.min(self.worth_max.max(self.limit)) };
            self.limit = next.clamp(min, most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Failure, Ignored, Success};

    const NOW: Timestamp = Timestamp::from_secs(100);

    fn adaptive(initial: u32) -> Adaptive {
        Adaptive::new(AdaptiveRules::builder().limits(1, initial, 1000).build().unwrap(), NOW)
    }

    #[test]
    fn the_last_call_within_the_limit_passes_and_the_next_is_told_when_to_come() {
        let mut adaptive = adaptive(3);
        let slips: Vec<_> = (0..3).map(|_| adaptive.enter(NOW).unwrap()).collect();
        assert_eq!(adaptive.enter(NOW), Err(Busy { limit: 3, retry_in: WINDOW }));
        for slip in slips {
            adaptive.leave(slip, Ignored, NOW);
        }
        assert_eq!(adaptive.in_flight(), 0);
        assert!(adaptive.enter(NOW).is_ok());
    }

    #[test]
    fn a_limit_that_nobody_reaches_does_not_grow() {
        let mut adaptive = adaptive(20);
        for n in 0..10_000u64 {
            let now = NOW + Duration::from_millis(10 * n);
            let slip = adaptive.enter(now).unwrap();
            adaptive.leave(slip, Success, now + Duration::from_millis(9));
        }
        assert_eq!(adaptive.limit(), 20);
        let unloaded = adaptive.unloaded().unwrap().as_secs_f64();
        assert!((unloaded - 0.009).abs() < 1e-6, "{unloaded}");
    }

    #[test]
    fn lost_calls_lower_it_once_a_window_and_never_below_the_least() {
        let mut adaptive = adaptive(100);
        for n in 1..=10u64 {
            let now = NOW + Duration::from_millis(n);
            let slip = adaptive.enter(now).unwrap();
            adaptive.leave(slip, Failure, now);
        }
        assert_eq!(adaptive.limit(), 100);
        for n in 1..=100u32 {
            let now = NOW + n * WINDOW;
            let slip = adaptive.enter(now).unwrap();
            adaptive.leave(slip, Failure, now);
            assert!(n != 1 || adaptive.limit() == 90);
        }
        assert_eq!(adaptive.limit(), 1);
    }

    #[test]
    fn other_bounds_move_the_limit_and_calls_beyond_it_are_waited_for() {
        let mut adaptive = adaptive(20);
        let mut slips: Vec<_> = (0..20).map(|_| adaptive.enter(NOW).unwrap()).collect();
        let bounds = |min, max| AdaptiveRules::builder().limits(min, min, max).build().unwrap();
        adaptive.set_rules(bounds(1, 5));
        assert_eq!((adaptive.limit(), adaptive.in_flight()), (5, 20));
        while let Some(slip) = slips.pop() {
            let room = adaptive.in_flight() < 5;
            assert_eq!(adaptive.enter(NOW).map(|slip| adaptive.leave(slip, Ignored, NOW)).is_ok(), room);
            adaptive.leave(slip, Ignored, NOW);
        }
        adaptive.set_rules(bounds(50, 100));
        assert_eq!(adaptive.limit(), 50);
        // The least limit holds also where more was found to bring nothing.
        for n in 1..=50u32 {
            let slip = adaptive.enter(NOW + n * WINDOW).unwrap();
            adaptive.leave(slip, Failure, NOW + n * WINDOW);
        }
        assert_eq!(adaptive.limit(), 50);
    }

    #[test]
    fn a_latency_that_is_healthy_no_more_is_not_borne() {
        let mut adaptive = adaptive(20);
        for n in 0..200u64 {
            let now = NOW + Duration::from_millis(10 * n);
            let slip = adaptive.enter(now).unwrap();
            adaptive.leave(slip, Success, now + Duration::from_millis(9));
        }
        let millis = Duration::from_millis;
        adaptive.set_rules(AdaptiveRules::builder().healthy_max(millis(4)).build().unwrap());
        assert_eq!(adaptive.unloaded(), Some(millis(4)));
    }

    #[test]
    fn one_that_begins_anew_takes_back_no_slip_of_before() {
        let mut adaptive = adaptive(2);
        let early = adaptive.enter(NOW).unwrap();
        adaptive.begin(*adaptive.rules(), NOW);
        let slip = adaptive.enter(NOW).unwrap();
        adaptive.leave(early, Success, NOW);
        assert_eq!(adaptive.in_flight(), 1);
        adaptive.leave(slip, Success, NOW);
        assert_eq!(adaptive.in_flight(), 0);
    }

    /// As many calls as may be for so long, each of which takes as long as `takes` says at its start.
    fn run(
        adaptive: &mut Adaptive,
        from: Timestamp,
        secs: u64,
        takes: impl Fn(u32) -> Duration,
    ) -> Timestamp {
        let (mut now, until) = (from, from + Duration::from_secs(secs));
        let mut running = std::collections::BTreeMap::new();
        let mut number = 0u64;
        while now < until {
            while let Ok(slip) = adaptive.enter(now) {
                number += 1;
                running.insert((now + takes(adaptive.in_flight()), number), slip);
            }
            let ((ends, _), slip) = running.pop_first().expect("one is let through where none is in flight");
            now = ends;
            adaptive.leave(slip, Success, now);
        }
        for ((ends, _), slip) in running {
            now = ends;
            adaptive.leave(slip, Success, now);
        }
        now
    }

    #[test]
    fn a_limit_at_its_least_grows_again_where_nothing_waits() {
        let mut lowest = adaptive(1);
        run(&mut lowest, NOW, 600, |_| Duration::from_millis(100));
        assert!(20 <= lowest.limit(), "{}", lowest.limit());

        let rules = AdaptiveRules::builder().limits(20, 20, 1000).build().unwrap();
        let mut slow = Adaptive::new(rules, NOW);
        run(&mut slow, NOW, 600, |_| Duration::from_millis(500));
        assert!(40 < slow.limit(), "{}", slow.limit());
    }

    #[test]
    fn a_slow_downstream_is_not_taken_for_a_healthy_one_from_the_first_call_on() {
        let millis = Duration::from_millis;
        let rules = AdaptiveRules::builder().limits(1, 20, 1000).healthy_max(millis(60)).build().unwrap();
        let mut adaptive = Adaptive::new(rules, NOW);
        run(&mut adaptive, NOW, 3, |_| millis(200));
        assert_eq!(adaptive.unloaded(), Some(millis(60)));
        assert!(adaptive.limit() < 20, "{}", adaptive.limit());
    }

    #[test]
    fn calls_at_the_limit_are_not_taken_for_those_of_an_idle_downstream() {
        let millis = Duration::from_millis;
        let mut adaptive = adaptive(20);
        // An idle second teaches what a call takes; then the limit is reached, and each one takes longer.
        let mut now = NOW;
        while now < NOW + Duration::from_secs(1) {
            let slip = adaptive.enter(now).unwrap();
            now = now + millis(20);
            adaptive.leave(slip, Success, now);
        }
        now = run(&mut adaptive, now, 8, |_| millis(28));
        // Idle again when the time of the next probe comes.
        while now < NOW + Duration::from_secs(13) {
            let slip = adaptive.enter(now).unwrap();
            now = now + millis(20);
            adaptive.leave(slip, Success, now);
        }
        let unloaded = adaptive.unloaded().unwrap();
        assert!(unloaded < millis(22), "{unloaded:?}");
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for builder in [
            AdaptiveRules::builder().limits(0, 1, 2),
            AdaptiveRules::builder().limits(2, 1, 3),
            AdaptiveRules::builder().limits(1, 3, 2),
            AdaptiveRules::builder().tolerance(0.99),
            AdaptiveRules::builder().tolerance(2.0),
            AdaptiveRules::builder().tolerance(f64::NAN),
            AdaptiveRules::builder().probe_every(Duration::from_secs(4)),
            AdaptiveRules::builder().healthy_max(Duration::ZERO),
        ] {
            assert!(builder.build().is_err(), "{builder:?}");
        }
        assert_eq!(AdaptiveRules::builder().build(), Ok(AdaptiveRules::default()));
    }
}
