//! How much a line's source is asked for: no more than the line takes, and nothing while it refuses.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::supervision::Backoff;
use crate::time::Timestamp;

/// What may be asked for at once, at most and by default: the cards in work that a durable queue allows.
pub const IN_FLIGHT: u32 = 100;

const IN_FLIGHT_MAX: RangeInclusive<u32> = 1..=1_000;
const PAUSE_MAX: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// The pause that is added to what a second refusal in a row asks for; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// So many refusals and failures in a row are taken for a line in trouble; from then on failures count again, so
/// that one signal that always fails, and has the line to itself, does not come for ever. With pauses of
/// `pause_max` this is about an hour.
const ROW_MAX: u32 = 100;

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; give {from} to {to}")]
pub struct DemandRulesError {
    /// The setting.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// The least that is allowed.
    pub from: String,
    /// The most that is allowed.
    pub to: String,
}

/// How much may be asked for, and how long at most nothing is.
///
/// # Units and limits
///
/// | setting | default | allowed | source |
/// | --- | --- | --- | --- |
/// | `in_flight_max` | 100 | 1 to 1000 | the default limit of a durable queue's cards in work |
/// | `pause_max` | 30 s | 100 ms to 1 h | as long as a breaker is open at first |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemandRules {
    /// What may be asked for or in work at the same time.
    pub in_flight_max: u32,
    /// The longest pause that is added to what a refusal asks for.
    pub pause_max: Duration,
}

impl Default for DemandRules {
    fn default() -> Self {
        Self { in_flight_max: IN_FLIGHT, pause_max: Duration::from_secs(30) }
    }
}

impl DemandRules {
    /// Everything that is wrong with these rules.
    pub fn check(&self) -> Vec<DemandRulesError> {
        let mut errors = Vec::new();
        if !IN_FLIGHT_MAX.contains(&self.in_flight_max) {
            errors.push(DemandRulesError {
                field: "in_flight_max",
                value: self.in_flight_max.to_string(),
                from: IN_FLIGHT_MAX.start().to_string(),
                to: IN_FLIGHT_MAX.end().to_string(),
            });
        }
        if !PAUSE_MAX.contains(&self.pause_max) {
            errors.push(DemandRulesError {
                field: "pause_max",
                value: format!("{:?}", self.pause_max),
                from: format!("{:?}", PAUSE_MAX.start()),
                to: format!("{:?}", PAUSE_MAX.end()),
            });
        }
        errors
    }
}

/// How much may be asked for now.
///
/// It grows by one with each signal the line took, and halves when the line refuses, as TCP does with what is
/// on its way. A refusal is followed by a pause of the time it names, and of a back-off with jitter when it is
/// not the first in a row. Refusals during a pause answer what was asked before it, and change nothing else.
#[derive(Debug, Clone)]
pub struct Demand {
    rules: DemandRules,
    window: u32,
    refusals_in_a_row: u32,
    paused_until: Option<Timestamp>,
    seed: u64,
}

impl Demand {
    /// Asks for as much as it may. `seed` makes the jitter: two with different ones do not come back together.
    pub const fn new(rules: DemandRules, seed: u64) -> Self {
        Self { rules, window: rules.in_flight_max, refusals_in_a_row: 0, paused_until: None, seed }
    }

    /// How many more may be asked for, of whom so many are asked for or in work.
    pub fn wanted(&self, asked: u32, now: Timestamp) -> u32 {
        if self.paused_until.is_some_and(|until| now < until) { 0 } else { self.window.saturating_sub(asked) }
    }

    /// Until when nothing is asked for, if it is not over.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| now < *until)
    }

    /// How many may be asked for or in work, pauses apart.
    pub const fn window(&self) -> u32 {
        self.window
    }

    /// The work of one failed. Tells after how long it may be tried again if the failure is rather its line's than
    /// its own, and does not count: nothing has succeeded since the line refused, as while a breaker tries a
    /// downstream that is still gone. Others go first then, so that one that always fails holds up nobody.
    pub fn failed(&mut self, now: Timestamp) -> Option<Duration> {
        if !(1..=ROW_MAX).contains(&self.refusals_in_a_row) {
            return None;
        }
        self.refused(Duration::ZERO, now);
        let pause = self.paused_until(now).map_or(Duration::ZERO, |until| until.since(now));
        Some(2 * pause.max(PAUSE_FIRST))
    }

    /// The line took one, and did it or rejected it.
    pub fn taken(&mut self, now: Timestamp) {
        if self.paused_until(now).is_none() {
            self.refusals_in_a_row = 0;
            self.window = self.rules.in_flight_max.min(self.window + 1);
        }
    }

    /// The line refused one, and takes more in `retry_after` at the earliest.
    pub fn refused(&mut self, retry_after: Duration, now: Timestamp) {
        if let Some(until) = self.paused_until(now) {
            self.paused_until = Some(until.max(now + retry_after));
            return;
        }
        self.window = (self.window / 2).max(1);
        self.refusals_in_a_row = self.refusals_in_a_row.saturating_add(1);
        self.seed = self.seed.wrapping_add(1);
        let backoff = Backoff::exponential(PAUSE_FIRST.min(self.rules.pause_max), self.rules.pause_max);
        let more = backoff.delay(self.refusals_in_a_row, self.seed);
        self.paused_until = Some(now + retry_after + more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn demand(in_flight_max: u32) -> Demand {
        Demand::new(DemandRules { in_flight_max, ..DemandRules::default() }, 7)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn it_asks_for_as_much_as_may_be_in_flight() {
        let demand = demand(8);
        assert_eq!((demand.wanted(0, at(0)), demand.wanted(8, at(0)), demand.wanted(9, at(0))), (8, 0, 0));
    }

    #[test]
    fn a_refusal_pauses_for_the_time_it_names_and_halves_what_is_asked_for() {
        let mut demand = demand(8);
        demand.refused(5 * SECOND, at(0));
        assert_eq!((demand.wanted(0, at(4)), demand.wanted(0, at(5))), (0, 4));
        assert_eq!((demand.paused_until(at(4)), demand.paused_until(at(5))), (Some(at(5)), None));
    }

    #[test]
    fn refusals_of_one_moment_count_once_and_the_longest_pause_holds() {
        let mut demand = demand(8);
        for retry_after in [SECOND, 3 * SECOND, 2 * SECOND] {
            demand.refused(retry_after, at(0));
        }
        assert_eq!((demand.window(), demand.paused_until(at(0))), (4, Some(at(3))));
    }

    #[test]
    fn refusals_in_a_row_pause_longer_and_one_that_is_taken_ends_the_row() {
        let mut demand = demand(8);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            demand.refused(SECOND, now);
            let until = demand.paused_until(now).unwrap();
            pauses.push(until.since(now));
            now = until;
        }
        assert_eq!((pauses[0], demand.window()), (SECOND, 1));
        let longest = DemandRules::default().pause_max;
        let last = pauses[19].saturating_sub(SECOND);
        assert!(longest / 2 <= last && last <= longest, "{last:?}");
        demand.taken(now);
        demand.refused(SECOND, now);
        assert_eq!(demand.paused_until(now), Some(now + SECOND));
    }

    #[test]
    fn a_failure_counts_unless_the_line_has_refused_and_nothing_has_succeeded_since() {
        let mut demand = demand(8);
        assert_eq!(demand.failed(at(0)), None);
        demand.refused(SECOND, at(0));
        let later = demand.failed(at(1)).unwrap();
        let pause = demand.paused_until(at(1)).unwrap().since(at(1));
        assert_eq!(later, 2 * PAUSE_FIRST, "longer than {pause:?}, so that others go first");
        demand.taken(at(2));
        assert_eq!(demand.failed(at(2)), None);

        let mut now = at(2);
        let mut free = 0;
        demand.refused(SECOND, now);
        loop {
            now = demand.paused_until(now).unwrap_or(now);
            if demand.failed(now).is_none() {
                break;
            }
            free += 1;
        }
        assert_eq!(free, ROW_MAX, "one that always fails comes to an end");
    }

    #[test]
    fn what_is_taken_gives_back_one_each_and_never_more_than_may_be() {
        let mut demand = demand(4);
        demand.refused(SECOND, at(0));
        demand.taken(at(0));
        assert_eq!(demand.window(), 2, "it had been asked for before the pause");
        for _ in 0..9 {
            demand.taken(at(1));
        }
        assert_eq!(demand.window(), 4);
    }

    #[test]
    fn rules_that_cannot_be_are_told_together() {
        let rules = DemandRules { in_flight_max: 0, pause_max: Duration::ZERO };
        let told: Vec<_> = rules.check().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["in_flight_max is 0; give 1 to 1000", "pause_max is 0ns; give 100ms to 3600s"]);
        assert!(DemandRules::default().check().is_empty());
    }

    proptest! {
        #[test]
        fn it_asks_for_one_at_least_once_the_pause_is_over(events in vec((any::<bool>(), 0u64..5), 0..200)) {
            let mut demand = demand(16);
            let mut now = at(0);
            for (is_taken, secs) in events {
                if is_taken { demand.taken(now) } else { demand.refused(Duration::from_secs(secs), now) }
                prop_assert!((1..=16).contains(&demand.window()));
                let later = demand.paused_until(now).unwrap_or(now);
                prop_assert!(later.since(now) <= Duration::from_secs(35));
                prop_assert!(1 <= demand.wanted(0, later));
                now = now + Duration::from_secs(secs);
            }
        }
    }
}
