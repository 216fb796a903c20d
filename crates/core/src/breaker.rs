//! When calls to a downstream stop, and how they begin again.

use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::receipt::BreakerState;
use crate::time::Timestamp;
use crate::window::{Tally, Window};

mod regions;
mod rules;

pub use regions::{REGIONS_MAX, RegionMoved, RegionRefused, RegionTicket, Regions, RegionsError};
pub use rules::{BreakerRules, BreakerRulesBuilder, BreakerRulesError};

/// How long a caller is told to wait while the probes are out: their answer is not known yet.
const PROBE_RETRY: Duration = Duration::from_secs(1);

/// Parts of the window in which the share of failures is counted.
const WINDOW_PARTS: u32 = 10;

/// How a call ended, as far as the downstream is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The downstream did what it was asked to.
    Success,
    /// It did not, or not in time.
    Failure,
    /// It says nothing about the downstream: a policy's rejection, a decline, a caller that went away.
    Ignored,
}

impl Outcome {
    /// The outcome as it stands on spans.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Ignored => "ignored",
        }
    }
}

/// Leave to make one call. Give it back with [`Breaker::record`], whatever became of the call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not given back keeps its probe slot"]
pub struct Ticket {
    generation: u64,
    number: u64,
    started: Timestamp,
}

/// Leave for every call, until the breaker changes: what [`Breaker::closed`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed(u64);

impl Closed {
    /// As a number that is never 0, to be kept where every caller can read it.
    pub const fn to_bits(self) -> u64 {
        self.0 + 1
    }

    /// What [`to_bits`](Self::to_bits) gave; `None` for 0.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match bits.checked_sub(1) {
            Some(generation) => Some(Self(generation)),
            None => None,
        }
    }

    /// A ticket without asking the breaker. If that has changed meanwhile, the call does not count, as one that
    /// began before the change.
    pub const fn ticket(self, now: Timestamp) -> Ticket {
        Ticket { generation: self.0, number: 0, started: now }
    }
}

/// A call may be made.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// To be given back with the outcome.
    pub ticket: Ticket,
    /// The breaker became half-open: its time was over, and this call is the first probe.
    pub moved: Option<Moved>,
}

/// The call must not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open; retry in {retry_in:?}")]
pub struct Refused {
    /// When it is worth asking again.
    pub retry_in: Duration,
}

/// A change of state, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every change of a breaker leaves a receipt"]
pub struct Moved {
    /// The state it left.
    pub from: BreakerState,
    /// The state it is in.
    pub to: BreakerState,
    /// What tipped it, in words.
    pub why: Arc<str>,
}

#[derive(Debug, Clone)]
enum Phase {
    Closed,
    /// Without an end if an operator opened it.
    Open {
        until: Option<Timestamp>,
    },
    HalfOpen {
        successes: u32,
        /// Number and start of each probe that is out; at most as many as the rules allow.
        probes: Vec<(u64, Timestamp)>,
    },
}

/// Keeps callers from a downstream that fails, and lets it recover.
///
/// A breaker never waits and holds nothing of its caller's: one asks, calls, and records.
///
/// # Examples
///
/// ```
/// use gemba_core::breaker::{Breaker, BreakerRules, Outcome};
/// use gemba_core::time::Timestamp;
///
/// let rules = BreakerRules::builder().failures_in_a_row(1).build()?;
/// let mut breaker = Breaker::new(rules);
/// let now = Timestamp::from_secs(1);
/// let entry = breaker.enter(now)?;
/// let moved = breaker.record(entry.ticket, Outcome::Failure, now).expect("one failure opens it");
/// assert_eq!(&*moved.why, "1 failure in a row");
/// assert!(breaker.enter(now).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[doc(alias = "jidoka")]
pub struct Breaker {
    rules: BreakerRules,
    phase: Phase,
    since: Timestamp,
    /// Grows with each change, so that a call that began before it does not count after it.
    generation: u64,
    tickets: u64,
    failures_in_a_row: u32,
    /// Openings since it was closed; each doubles the time it stays open.
    openings: u32,
    window: Window,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(rules: BreakerRules) -> Self {
        let window = Window::new(rules.window, WINDOW_PARTS, Timestamp::START);
        Self {
            rules,
            phase: Phase::Closed,
            since: Timestamp::START,
            generation: 0,
            tickets: 0,
            failures_in_a_row: 0,
            openings: 0,
            window,
        }
    }

    /// The rules it goes by.
    pub const fn rules(&self) -> &BreakerRules {
        &self.rules
    }

    /// Goes by other rules from now on.
    ///
    /// It stays in its state: one that is open waits as long as it was told to, and the time of the next opening is
    /// doubled as before. Failures in a row, calls in the window as far as it still reaches, probes that are out and
    /// those that succeeded go on counting; the next outcome is judged by the new rules.
    pub fn set_rules(&mut self, rules: BreakerRules, now: Timestamp) {
        if rules.window != self.rules.window {
            self.window.resize(rules.window, WINDOW_PARTS, now);
        }
        self.rules = rules;
    }

    /// Asks to make a call; the first to ask when an open breaker's time is over becomes a probe.
    ///
    /// # Errors
    ///
    /// [`Refused`] while it is open, and while as many probes are out as may be.
    pub fn enter(&mut self, now: Timestamp) -> Result<Entry, Refused> {
        if let Some(refused) = self.refuses(now) {
            return Err(refused);
        }
        let mut moved = None;
        if self.state() == BreakerState::Open {
            let why = format!("open for {:.1} s", now.since(self.since).as_secs_f64());
            moved = Some(self.change(Phase::HalfOpen { successes: 0, probes: Vec::new() }, &why, now));
        }
        let number = self.tickets + 1;
        if let Phase::HalfOpen { probes, .. } = &mut self.phase {
            probes.retain(|(_, started)| now.since(*started) < self.rules.probe_max);
            probes.push((number, now));
        }
        self.tickets = number;
        Ok(Entry { ticket: Ticket { generation: self.generation, number, started: now }, moved })
    }

    /// Why [`enter`](Self::enter) would refuse a call now, if it would.
    fn refuses(&self, now: Timestamp) -> Option<Refused> {
        let retry_in = match &self.phase {
            Phase::Closed => return None,
            Phase::Open { .. } => self.retry_in(now).filter(|left| self.is_forced() || !left.is_zero()),
            Phase::HalfOpen { probes, .. } => {
                let is_out = |(_, started): &&(u64, Timestamp)| now.since(*started) < self.rules.probe_max;
                let out = probes.iter().filter(is_out).count();
                (self.rules.probes as usize <= out).then_some(PROBE_RETRY)
            }
        };
        retry_in.map(|retry_in| Refused { retry_in })
    }

    /// Takes a ticket back with the outcome of its call.
    ///
    /// What began before the last change of state, and a probe that was taken for lost, do not count.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket counts once")]
    pub fn record(&mut self, ticket: Ticket, outcome: Outcome, now: Timestamp) -> Option<Moved> {
        if ticket.generation != self.generation {
            return None;
        }
        let slow = self.rules.slow.is_some_and(|limit| limit <= now.since(ticket.started));
        let failed = match outcome {
            Outcome::Success => Some(slow),
            Outcome::Failure => Some(true),
            Outcome::Ignored => None,
        };
        match &mut self.phase {
            Phase::Closed => self.count(failed?, now),
            Phase::Open { .. } => None,
            Phase::HalfOpen { probes, .. } => {
                let place = probes.iter().position(|(probe, _)| *probe == ticket.number)?;
                probes.swap_remove(place);
                self.judge_probe(failed?, now)
            }
        }
    }

    /// Refuses every call until it is forced to another state; the timer does not end it.
    pub fn force_open(&mut self, now: Timestamp) -> Option<Moved> {
        self.force(Phase::Open { until: None }, now)
    }

    /// Lets every call pass, and forgets all failures.
    pub fn force_close(&mut self, now: Timestamp) -> Option<Moved> {
        self.force(Phase::Closed, now)
    }

    /// Lets probes pass.
    pub fn force_half_open(&mut self, now: Timestamp) -> Option<Moved> {
        self.force(Phase::HalfOpen { successes: 0, probes: Vec::new() }, now)
    }

    /// Where it stands. An open breaker whose time is over stays open until someone asks.
    pub const fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Leave for every call while it is closed.
    pub const fn closed(&self) -> Option<Closed> {
        match self.phase {
            Phase::Closed => Some(Closed(self.generation)),
            Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Failures without a success between.
    pub const fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// How long until it lets a probe through, while it is open.
    ///
    /// A breaker that was forced open names the longest time the rules know: nobody can tell.
    pub const fn retry_in(&self, now: Timestamp) -> Option<Duration> {
        match self.phase {
            Phase::Closed | Phase::HalfOpen { .. } => None,
            Phase::Open { until: Some(until) } => Some(until.since(now)),
            Phase::Open { until: None } => Some(self.rules.open_max),
        }
    }

    /// Whether an operator opened it, so that no timer ends it.
    pub const fn is_forced(&self) -> bool {
        matches!(self.phase, Phase::Open { until: None })
    }

    fn count(&mut self, failed: bool, now: Timestamp) -> Option<Moved> {
        self.failures_in_a_row = if failed { self.failures_in_a_row.saturating_add(1) } else { 0 };
        self.window.add(Tally { failures: u64::from(failed), outcomes: 1 }, now);
        if self.rules.failures_in_a_row <= self.failures_in_a_row {
            let row = self.failures_in_a_row;
            return Some(
                self.open(&format!("{row} failure{} in a row", if row == 1 { "" } else { "s" }), now),
            );
        }
        let Tally { failures, outcomes } = self.window.sum(now);
        let enough = u64::from(self.rules.calls_min) <= outcomes;
        if !enough || (failures as f64) < self.rules.failure_ratio * outcomes as f64 {
            return None;
        }
        let seconds = self.rules.window.as_secs_f64();
        Some(self.open(&format!("{failures} of {outcomes} calls failed in {seconds} s"), now))
    }

    fn judge_probe(&mut self, failed: bool, now: Timestamp) -> Option<Moved> {
        if failed {
            self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            return Some(self.open("a probe failed", now));
        }
        self.failures_in_a_row = 0;
        let Phase::HalfOpen { successes, .. } = &mut self.phase else { return None };
        *successes += 1;
        let enough = self.rules.successes <= *successes;
        enough
            .then(|| self.change(Phase::Closed, &format!("{} successful probes", self.rules.successes), now))
    }

    fn open(&mut self, why: &str, now: Timestamp) -> Moved {
        let doubled = self.rules.open_min.saturating_mul(2u32.saturating_pow(self.openings));
        let length = doubled.min(self.rules.open_max).mul_f64(1.0 + self.rules.jitter * self.spread());
        self.openings += 1;
        self.change(Phase::Open { until: Some(now + length) }, why, now)
    }

    /// Between -1 and 1, another one for each generation.
    fn spread(&self) -> f64 {
        let random = xxh3_64_with_seed(&self.generation.to_le_bytes(), self.rules.seed);
        2.0 * (random as f64 / u64::MAX as f64) - 1.0
    }

    fn force(&mut self, phase: Phase, now: Timestamp) -> Option<Moved> {
        let moved = self.change(phase, "forced", now);
        (moved.from != moved.to).then_some(moved)
    }

    fn change(&mut self, phase: Phase, why: &str, now: Timestamp) -> Moved {
        let from = self.state();
        self.phase = phase;
        self.since = now;
        self.generation += 1;
        self.window.clear();
        if matches!(self.phase, Phase::Closed) {
            (self.failures_in_a_row, self.openings) = (0, 0);
        }
        Moved { from, to: self.state(), why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};
    use Outcome::{Failure, Ignored, Success};

    const NOW: Timestamp = Timestamp::from_secs(100);
    const OPEN_FOR: Duration = Duration::from_secs(30);

    /// Opens for 30 s exactly.
    fn steady() -> BreakerRulesBuilder {
        BreakerRules::builder().jitter(0.0, 0)
    }

    fn breaker() -> Breaker {
        Breaker::new(steady().build().unwrap())
    }

    fn call(breaker: &mut Breaker, outcome: Outcome, now: Timestamp) -> Option<Moved> {
        let ticket = breaker.enter(now).expect("calls pass").ticket;
        breaker.record(ticket, outcome, now)
    }

    fn opened(now: Timestamp) -> Breaker {
        let mut breaker = breaker();
        for _ in 0..5 {
            let _ = call(&mut breaker, Failure, now);
        }
        assert_eq!(breaker.state(), Open);
        breaker
    }

    fn half_open(now: Timestamp) -> Breaker {
        let mut breaker = breaker();
        let moved = breaker.force_half_open(now).unwrap();
        assert_eq!((moved.from, moved.to, &*moved.why), (Closed, HalfOpen, "forced"));
        breaker
    }

    #[test]
    fn the_fifth_failure_in_a_row_opens_it_and_a_success_between_does_not_count_as_one() {
        let mut breaker = breaker();
        for outcome in
            [Failure, Failure, Failure, Failure, Success, Failure, Failure, Ignored, Failure, Failure]
        {
            assert_eq!(call(&mut breaker, outcome, NOW), None);
        }
        assert_eq!(breaker.failures_in_a_row(), 4);
        let moved = call(&mut breaker, Failure, NOW).unwrap();
        assert_eq!((moved.from, moved.to, &*moved.why), (Closed, Open, "5 failures in a row"));
        assert_eq!(breaker.enter(NOW), Err(Refused { retry_in: OPEN_FOR }));
    }

    #[test]
    fn who_passed_while_it_was_closed_counts_until_it_changes() {
        let mut breaker = breaker();
        let closed = super::Closed::from_bits(breaker.closed().unwrap().to_bits()).unwrap();
        for _ in 0..4 {
            assert_eq!(breaker.record(closed.ticket(NOW), Failure, NOW), None);
        }
        assert!(breaker.record(closed.ticket(NOW), Failure, NOW).is_some(), "the fifth opens it");
        assert_eq!((breaker.closed(), super::Closed::from_bits(0)), (None, None));
        let _ = breaker.force_half_open(NOW);
        assert_eq!(breaker.record(closed.ticket(NOW), Success, NOW), None, "it was no probe");
        let _ = breaker.force_close(NOW);
        assert_eq!(breaker.record(closed.ticket(NOW), Failure, NOW), None);
        assert_eq!(breaker.failures_in_a_row(), 0);
    }

    #[test]
    fn half_of_twenty_calls_within_ten_seconds_open_it() {
        let run = |outcomes: &[Outcome], pause: Duration| {
            let (mut breaker, mut now) = (breaker(), NOW);
            outcomes.iter().find_map(|outcome| {
                now = now + pause;
                call(&mut breaker, *outcome, now)
            })
        };
        let alternating = |calls: usize| [Failure, Success].repeat(calls / 2);
        let no_pause = Duration::ZERO;
        assert_eq!(run(&alternating(18), no_pause), None);
        let moved = run(&alternating(20), no_pause).unwrap();
        assert_eq!(&*moved.why, "10 of 20 calls failed in 10 s");
        let nine = [&[Success, Success][..], &alternating(18)].concat();
        assert_eq!(run(&nine, no_pause), None, "9 of 20");
        assert_eq!(run(&alternating(40), Duration::from_secs(1)), None, "11 calls in each window");
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_when_its_time_is_over() {
        let mut breaker = opened(NOW);
        let almost = NOW + OPEN_FOR - Duration::from_nanos(1);
        assert_eq!(breaker.enter(almost), Err(Refused { retry_in: Duration::from_nanos(1) }));
        let entry = breaker.enter(NOW + OPEN_FOR).unwrap();
        let moved = entry.moved.expect("the probe makes it half-open");
        assert_eq!((moved.from, moved.to, &*moved.why), (Open, HalfOpen, "open for 30.0 s"));
        assert_eq!(breaker.enter(NOW + OPEN_FOR), Err(Refused { retry_in: PROBE_RETRY }));
    }

    #[test]
    fn three_successful_probes_close_it_and_one_failure_opens_it() {
        let mut breaker = half_open(NOW);
        assert_eq!(call(&mut breaker, Success, NOW), None);
        assert_eq!(call(&mut breaker, Success, NOW), None);
        let moved = call(&mut breaker, Success, NOW).unwrap();
        assert_eq!((moved.from, moved.to, &*moved.why), (HalfOpen, Closed, "3 successful probes"));

        let mut breaker = half_open(NOW);
        assert_eq!(call(&mut breaker, Success, NOW), None);
        let moved = call(&mut breaker, Failure, NOW).unwrap();
        assert_eq!((moved.from, moved.to, &*moved.why), (HalfOpen, Open, "a probe failed"));
    }

    #[test]
    fn an_ignored_probe_frees_its_slot_and_proves_nothing() {
        let mut breaker = half_open(NOW);
        for _ in 0..10 {
            assert_eq!(call(&mut breaker, Ignored, NOW), None);
        }
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[test]
    fn a_probe_without_an_answer_is_lost_after_its_time_and_does_not_count_then() {
        let mut breaker = half_open(NOW);
        let lost = breaker.enter(NOW).unwrap().ticket;
        let in_time = NOW + Duration::from_secs(59);
        assert!(breaker.enter(in_time).is_err());
        let too_late = NOW + Duration::from_secs(60);
        assert!(breaker.enter(too_late).is_ok());
        assert_eq!(breaker.record(lost, Failure, too_late), None);
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[test]
    fn calls_that_began_before_a_change_do_not_count_after_it() {
        let mut breaker = breaker();
        let early: Vec<_> = (0..4).map(|_| breaker.enter(NOW).unwrap().ticket).collect();
        let _ = breaker.force_open(NOW);
        let _ = breaker.force_half_open(NOW);
        for (ticket, outcome) in early.into_iter().zip([Success, Success, Success, Failure]) {
            assert_eq!(breaker.record(ticket, outcome, NOW), None);
        }
        assert_eq!(breaker.state(), HalfOpen);
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_up_to_the_limit_until_it_was_closed() {
        let (mut breaker, mut now) = (opened(NOW), NOW);
        for seconds in [30, 60, 120, 240, 300, 300] {
            assert_eq!(breaker.retry_in(now), Some(Duration::from_secs(seconds)));
            now = now + Duration::from_secs(seconds);
            let _ = call(&mut breaker, Failure, now);
        }
        now = now + Duration::from_secs(300);
        for _ in 0..3 {
            let _ = call(&mut breaker, Success, now);
        }
        assert_eq!((breaker.state(), breaker.failures_in_a_row()), (Closed, 0));
        for _ in 0..5 {
            let _ = call(&mut breaker, Failure, now);
        }
        assert_eq!(breaker.retry_in(now), Some(OPEN_FOR));
    }

    #[test]
    fn a_success_at_the_slow_limit_is_a_failure() {
        let limit = Duration::from_millis(200);
        for (took, failures) in [(Duration::from_nanos(199_999_999), 0), (limit, 1)] {
            let mut breaker = Breaker::new(steady().slow(limit).build().unwrap());
            let ticket = breaker.enter(NOW).unwrap().ticket;
            assert_eq!(breaker.record(ticket, Success, NOW + took), None);
            assert_eq!(breaker.failures_in_a_row(), failures, "{took:?}");
        }
    }

    #[test]
    fn what_an_operator_opened_no_timer_ends() {
        let mut breaker = breaker();
        assert_eq!(breaker.force_open(NOW).unwrap().to, Open);
        assert_eq!(breaker.force_open(NOW), None);
        let later = NOW + Duration::from_secs(100_000);
        assert_eq!(breaker.enter(later), Err(Refused { retry_in: Duration::from_secs(300) }));
        assert_eq!(breaker.force_close(later).unwrap().to, Closed);
        assert!(breaker.enter(later).is_ok());
    }

    #[test]
    fn an_open_breaker_stays_open_for_its_time_and_the_next_one_goes_by_the_new_rules() {
        let mut breaker = opened(NOW);
        let open =
            |min: u64| steady().open(Duration::from_secs(min), Duration::from_secs(600)).build().unwrap();
        breaker.set_rules(open(5), NOW);
        assert_eq!((breaker.state(), breaker.retry_in(NOW)), (Open, Some(OPEN_FOR)));
        let now = NOW + OPEN_FOR;
        let _ = call(&mut breaker, Failure, now);
        assert_eq!(breaker.retry_in(now), Some(Duration::from_secs(10)), "its second time of five");
        breaker.set_rules(open(30), now);
        let _ = breaker.force_open(now);
        breaker.set_rules(steady().build().unwrap(), now);
        assert!(breaker.is_forced(), "what an operator opened no setting ends");
    }

    #[test]
    fn what_was_counted_goes_on_counting_under_other_rules() {
        let mut breaker = breaker();
        let before = breaker.closed();
        for _ in 0..4 {
            assert_eq!(call(&mut breaker, Failure, NOW), None);
        }
        let early = breaker.enter(NOW).unwrap().ticket;
        breaker.set_rules(steady().failures_in_a_row(9).build().unwrap(), NOW);
        assert_eq!((breaker.closed(), breaker.failures_in_a_row()), (before, 4));
        assert_eq!(breaker.record(early, Failure, NOW), None, "the fifth of nine");
        breaker.set_rules(steady().failures_in_a_row(3).build().unwrap(), NOW);
        assert_eq!(breaker.state(), Closed, "nothing failed since");
        assert_eq!(&*call(&mut breaker, Failure, NOW).unwrap().why, "6 failures in a row");
    }

    #[test]
    fn another_window_keeps_the_calls_it_reaches() {
        for (window, opens) in [(10, true), (20, true), (4, false)] {
            let ratio =
                |window| steady().failures_in_a_row(100).failure_ratio(0.5, 20, Duration::from_secs(window));
            let mut breaker = Breaker::new(ratio(10).build().unwrap());
            for _ in 0..19 {
                assert_eq!(call(&mut breaker, Failure, NOW), None);
            }
            let now = NOW + Duration::from_secs(6);
            breaker.set_rules(ratio(window).build().unwrap(), now);
            assert_eq!(call(&mut breaker, Failure, now).is_some(), opens, "{window} s");
        }
    }

    #[test]
    fn probes_that_are_out_stay_out_and_count_towards_the_new_number() {
        let mut breaker = half_open(NOW);
        let out = breaker.enter(NOW).unwrap().ticket;
        breaker.set_rules(steady().probes(2, Duration::from_secs(60), 1).build().unwrap(), NOW);
        let second = breaker.enter(NOW).unwrap().ticket;
        assert!(breaker.enter(NOW).is_err(), "two are out");
        assert_eq!(breaker.record(second, Ignored, NOW), None);
        assert_eq!(breaker.record(out, Success, NOW).unwrap().to, Closed);
    }

    proptest! {
        #[test]
        fn no_more_probes_are_out_than_may_be(probes in 1u32..4, steps in vec((0u8..6, 0usize..8, 0u64..20), 0..300)) {
            let rules = steady().probes(probes, Duration::from_secs(100_000), 3).build().unwrap();
            let (mut breaker, mut now, mut out) = (Breaker::new(rules), NOW, Vec::new());
            for (action, which, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                if action < 3 {
                    if let Ok(entry) = breaker.enter(now) {
                        let became = entry.moved.map(|moved| moved.to);
                        prop_assert!(became.is_none() || became == Some(HalfOpen));
                        out.push(entry.ticket);
                    }
                } else if which < out.len() {
                    let outcome = [Success, Failure, Ignored][usize::from(action) - 3];
                    let state = breaker.state();
                    let moved = breaker.record(out.swap_remove(which), outcome, now);
                    prop_assert_eq!(moved.as_ref().map_or(state, |moved| moved.from), state);
                    prop_assert_eq!(moved.map_or(state, |moved| moved.to), breaker.state());
                }
                if breaker.state() == HalfOpen {
                    let counting = out.iter().filter(|ticket| ticket.generation == breaker.generation).count();
                    prop_assert!(counting <= probes as usize);
                }
            }
        }

        #[test]
        fn the_jitter_stays_within_its_share_and_comes_from_the_seed(seed in 0..=u64::MAX) {
            let rules = BreakerRules::builder().failures_in_a_row(1).jitter(0.2, seed).build().unwrap();
            let open_for = || {
                let mut breaker = Breaker::new(rules);
                let _ = call(&mut breaker, Failure, NOW);
                breaker.retry_in(NOW).unwrap().as_secs_f64()
            };
            prop_assert!((24.0..=36.0).contains(&open_for()));
            prop_assert!((open_for() - open_for()).abs() < 1e-9);
        }
    }
}
