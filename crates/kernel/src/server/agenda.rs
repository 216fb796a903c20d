//! What a life has planned for itself: continuations, timers, and the wait for quiet.
//!
//! Nothing here is shared. The timers are kept by the life and not by tasks of their own, so they end with
//! it, and a timer that was cancelled or replaced cannot arrive late.

#![allow(clippy::disallowed_types, reason = "a lock that is never taken; see `Exclusive`")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Makes what is merely `Send` fit into a context that handlers share across an `await`: only an exclusive
/// borrow reaches it, so the lock inside is never taken.
pub(super) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Due times in order; the number tells equals apart, the earlier started first.
type Key = (Instant, u64);

pub(super) struct Agenda<M> {
    continuations: VecDeque<M>,
    timers: BTreeMap<Key, Timer<M>>,
    names: HashMap<Cow<'static, str>, Key>,
    started: u64,
    quiet: Option<Quiet<M>>,
}

struct Timer<M> {
    name: Option<Cow<'static, str>>,
    then: Then<M>,
}

enum Then<M> {
    Once(M),
    Every(Duration, Box<dyn Fn() -> M + Send>),
}

struct Quiet<M> {
    at: Instant,
    message: M,
}

impl<M> Agenda<M> {
    pub(super) fn new() -> Self {
        Self {
            continuations: VecDeque::new(),
            timers: BTreeMap::new(),
            names: HashMap::new(),
            started: 0,
            quiet: None,
        }
    }

    pub(super) fn continue_with(&mut self, message: M) {
        self.continuations.push_back(message);
    }

    pub(super) fn has_continuation(&self) -> bool {
        !self.continuations.is_empty()
    }

    pub(super) fn awaits_quiet(&self) -> bool {
        self.quiet.is_some()
    }

    pub(super) fn continuation(&mut self) -> Option<M> {
        self.continuations.pop_front()
    }

    pub(super) fn start(&mut self, at: Instant, message: M) {
        self.insert(at, None, Then::Once(message));
    }

    pub(super) fn start_named(&mut self, name: Cow<'static, str>, at: Instant, message: M) {
        self.cancel(&name, at);
        self.insert(at, Some(name), Then::Once(message));
    }

    pub(super) fn every(&mut self, first: Instant, period: Duration, make: Box<dyn Fn() -> M + Send>) {
        self.insert(first, None, Then::Every(period, make));
    }

    fn insert(&mut self, at: Instant, name: Option<Cow<'static, str>>, then: Then<M>) {
        self.started += 1;
        let key = (at, self.started);
        if let Some(name) = &name {
            self.names.insert(name.clone(), key);
        }
        self.timers.insert(key, Timer { name, then });
    }

    /// Takes a timer away; tells how long it had still to go.
    pub(super) fn cancel(&mut self, name: &str, now: Instant) -> Option<Duration> {
        let key = self.names.remove(name)?;
        self.timers.remove(&key);
        Some(key.0.saturating_duration_since(now))
    }

    pub(super) fn read(&self, name: &str, now: Instant) -> Option<Duration> {
        self.names.get(name).map(|(at, _)| at.saturating_duration_since(now))
    }

    pub(super) fn await_quiet(&mut self, at: Instant, message: M) {
        self.quiet = Some(Quiet { at, message });
    }

    /// A message is handled: it is not quiet.
    pub(super) fn disturb(&mut self) {
        self.quiet = None;
    }

    /// The message for which it was quiet long enough.
    pub(super) fn quiet(&mut self, now: Instant) -> Option<M> {
        self.quiet.take_if(|quiet| quiet.at <= now).map(|quiet| quiet.message)
    }

    /// The number of the timer started last, if any is due.
    pub(super) fn newest_if_due(&self, now: Instant) -> Option<u64> {
        let ((at, _), _) = self.timers.first_key_value()?;
        (*at <= now).then_some(self.started)
    }

    /// The next message of a timer that is due and not newer than `newest`: one that a handler starts again
    /// without delay lets others go before it.
    pub(super) fn due(&mut self, now: Instant, newest: Option<u64>) -> Option<M> {
        let first = self.timers.first_entry()?;
        let (at, number) = *first.key();
        if now < at || newest.is_some_and(|newest| newest < number) {
            return None;
        }
        let Timer { name, then } = first.remove();
        if let Some(name) = name {
            self.names.remove(&name);
        }
        match then {
            Then::Once(message) => Some(message),
            Then::Every(period, make) => {
                let message = make();
                // Ticks that were missed are left out; those to come keep their rhythm.
                let missed = now.duration_since(at).as_nanos() / period.as_nanos();
                let next = at + period.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX));
                self.insert(next, None, Then::Every(period, make));
                Some(message)
            }
        }
    }

    /// When there is something to do, if nothing else comes.
    pub(super) fn next(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        let quiet = self.quiet.as_ref().map(|quiet| quiet.at);
        timer.into_iter().chain(quiet).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(agenda: &mut Agenda<u32>, now: Instant) -> Vec<u32> {
        let newest = agenda.newest_if_due(now);
        std::iter::from_fn(|| agenda.due(now, newest)).collect()
    }

    #[test]
    fn timers_come_in_the_order_of_their_times_and_equals_as_they_were_started() {
        let (mut agenda, now) = (Agenda::new(), Instant::now());
        let second = Duration::from_secs(1);
        for (delay, message) in [(2, 20), (1, 10), (2, 21), (0, 0)] {
            agenda.start(now + second * delay, message);
        }
        assert_eq!(drain(&mut agenda, now + second), [0, 10]);
        assert_eq!(agenda.next(), Some(now + second * 2));
        assert_eq!(drain(&mut agenda, now + second * 2), [20, 21]);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn a_name_is_one_timer() {
        let (mut agenda, now) = (Agenda::new(), Instant::now());
        let second = Duration::from_secs(1);
        agenda.start_named("t".into(), now + second, 1);
        agenda.start_named("t".into(), now + second * 3, 2);
        assert_eq!(agenda.read("t", now), Some(second * 3));
        assert_eq!(drain(&mut agenda, now + second * 2), []);
        assert_eq!(agenda.cancel("t", now + second), Some(second * 2));
        assert_eq!(agenda.cancel("t", now), None);
        assert_eq!(drain(&mut agenda, now + second * 9), []);
    }

    #[test]
    fn ticks_that_were_missed_are_left_out_and_the_rhythm_stays() {
        let (mut agenda, now) = (Agenda::new(), Instant::now());
        let second = Duration::from_secs(1);
        agenda.every(now + second, second, Box::new(|| 1));
        assert_eq!(drain(&mut agenda, now + second * 3 + second / 2), [1]);
        assert_eq!(agenda.next(), Some(now + second * 4));
    }

    #[test]
    fn a_timer_started_again_without_delay_waits_for_its_turn() {
        let (mut agenda, now) = (Agenda::new(), Instant::now());
        agenda.start(now, 1);
        let newest = agenda.newest_if_due(now);
        assert_eq!(agenda.due(now, newest), Some(1));
        agenda.start(now, 2);
        assert_eq!(agenda.due(now, newest), None);
        assert_eq!(drain(&mut agenda, now), [2]);
    }
}
