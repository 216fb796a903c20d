//! The order in which a state machine sees its events, in OTP's terms: inserted, retried, zero time-outs.
//!
//! The engine holds the state and every event that did not come from the mailbox just now. For each event
//! whoever drives it calls the handler, [`turn`](Engine::turn)s the state, calls `enter` if the turn says
//! so, [`settle`](Engine::settle)s what both asked for, and [`pop`](Engine::pop)s the next event until
//! there is none; only then the mailbox is read again.

#[cfg(test)]
mod model;
mod steps;
mod timeouts;

use std::collections::VecDeque;

use crate::time::Timestamp;

pub use steps::Steps;
use timeouts::Timeouts;
pub use timeouts::{Alarm, Command, Timeout, When};

/// How many postponed events a machine holds unless it says otherwise.
pub const POSTPONED_LIMIT: usize = 1024;

/// How many inserted events may wait inside a machine, beside those that are retried.
pub const INSERTED_LIMIT: usize = 1024;

/// Where a state machine goes after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the machine moves only if its handler returns this"]
pub enum Next<S> {
    /// It keeps its state.
    Keep,
    /// It goes to this state. If it is there already this is [`Keep`](Self::Keep).
    Goto(S),
    /// It keeps its state and enters it once more; postponed events stay postponed.
    Repeat,
}

/// What a turn asks of whoever drives the machine, before it [`settle`](Engine::settle)s.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a state that is entered is told so"]
pub enum Turn<S> {
    /// Nothing: the state is the same.
    Stays,
    /// The state is entered again, from itself.
    Again,
    /// The new state is entered, from this one.
    From(S),
}

/// Why a machine cannot go on: it would hold more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverflowError {
    /// It postponed and postponed, and its state did not change.
    #[error(
        "more than {limit} events are postponed, and no change of state retries them; handle or drop them"
    )]
    Postponed {
        /// How many it may hold.
        limit: usize,
    },
    /// It inserted faster than it handled.
    #[error("more than {limit} inserted and retried events wait; insert fewer")]
    Inserted {
        /// How many may wait.
        limit: usize,
    },
}

/// The state of one machine, and the events that come before the next message.
///
/// # Units and limits
///
/// [`POSTPONED_LIMIT`] postponed events, or as many as it was made for, and [`INSERTED_LIMIT`] more that
/// wait to be handled.
#[derive(Debug)]
#[doc(alias = "gen_statem")]
pub struct Engine<S, E, N> {
    state: S,
    /// What is handled before the mailbox, the next one first.
    queue: VecDeque<E>,
    postponed: VecDeque<E>,
    postponed_max: usize,
    timeouts: Timeouts<E, N>,
}

impl<S: PartialEq, E, N: Clone + Ord> Engine<S, E, N> {
    /// A machine in its first state, which has not been entered yet.
    pub const fn new(state: S, postponed_max: usize) -> Self {
        Self {
            state,
            queue: VecDeque::new(),
            postponed: VecDeque::new(),
            postponed_max,
            timeouts: Timeouts::new(),
        }
    }

    /// The state it is in.
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// Goes where the handler said, and says whether a state has to be entered.
    pub fn turn(&mut self, next: Next<S>) -> Turn<S> {
        match next {
            Next::Goto(state) if state != self.state => Turn::From(std::mem::replace(&mut self.state, state)),
            Next::Goto(_) | Next::Keep => Turn::Stays,
            Next::Repeat => Turn::Again,
        }
    }

    /// Carries out what the handler and then `enter` asked for, and leaves `steps` empty.
    ///
    /// A change of state puts the postponed events before all that wait, and cancels the state time-out.
    /// Inserted events go before those. Any event cancels the event time-out.
    ///
    /// `now` is looked at only if [`Steps::sets_timeouts`].
    ///
    /// # Errors
    ///
    /// [`OverflowError`]: the machine has to end.
    pub fn settle(
        &mut self,
        turn: &Turn<S>,
        steps: &mut Steps<E, N>,
        now: Timestamp,
    ) -> Result<(), OverflowError> {
        self.timeouts.cancel(&Timeout::Event);
        if steps.is_empty() && !matches!(turn, Turn::From(_)) {
            // By far the most events.
            return Ok(());
        }
        self.postponed.extend(steps.postponed.drain(..));
        if matches!(turn, Turn::From(_)) {
            self.timeouts.cancel(&Timeout::State);
            while let Some(event) = self.postponed.pop_back() {
                self.queue.push_front(event);
            }
        }
        for (timeout, change) in steps.timeouts.drain(..) {
            self.timeouts.apply(timeout, change, now);
        }
        while let Some(event) = steps.inserted.pop() {
            self.queue.push_front(event);
        }
        self.check()
    }

    /// The event to be handled before the next message, if there is one.
    pub fn pop(&mut self) -> Option<E> {
        self.queue.pop_front().or_else(|| self.timeouts.pop_zero())
    }

    /// The event of the time-out that rings, unless it was cancelled or started anew.
    pub fn ring(&mut self, alarm: Alarm) -> Option<E> {
        self.timeouts.ring(alarm)
    }

    /// The alarms to be set and to be given up since the last time, in this order.
    pub fn commands(&mut self) -> impl Iterator<Item = Command> {
        self.timeouts.commands()
    }

    fn check(&self) -> Result<(), OverflowError> {
        if self.postponed.len() > self.postponed_max {
            return Err(OverflowError::Postponed { limit: self.postponed_max });
        }
        let limit = self.postponed_max.saturating_add(INSERTED_LIMIT);
        if self.queue.len() > limit {
            return Err(OverflowError::Inserted { limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Toy = Engine<u8, u8, &'static str>;

    const NOW: Timestamp = Timestamp::from_secs(1);

    fn engine() -> (Toy, Steps<u8, &'static str>) {
        (Engine::new(0, POSTPONED_LIMIT), Steps::default())
    }

    fn settled(engine: &mut Toy, next: Next<u8>, steps: &mut Steps<u8, &'static str>) -> Turn<u8> {
        let turn = engine.turn(next);
        engine.settle(&turn, steps, NOW).unwrap();
        turn
    }

    fn rest(engine: &mut Toy) -> Vec<u8> {
        std::iter::from_fn(|| engine.pop()).collect()
    }

    #[test]
    fn only_another_state_is_a_change() {
        for (next, expected) in [
            (Next::Keep, Turn::Stays),
            (Next::Goto(0), Turn::Stays),
            (Next::Goto(1), Turn::From(0)),
            (Next::Repeat, Turn::Again),
        ] {
            assert_eq!(engine().0.turn(next), expected, "{next:?}");
        }
    }

    #[test]
    fn inserted_events_come_first_then_retried_ones_then_zero_timeouts() {
        let (mut engine, mut steps) = engine();
        steps.postpone(1);
        steps.insert(8);
        let _ = settled(&mut engine, Next::Keep, &mut steps);
        steps.postpone(2);
        steps.start(Timeout::State, When::After(Duration::ZERO), 9);
        steps.insert(3);
        steps.insert(4);
        let _ = settled(&mut engine, Next::Goto(1), &mut steps);
        assert_eq!(rest(&mut engine), [3, 4, 1, 2, 8, 9]);
    }

    #[test]
    fn a_zero_timeout_started_anew_with_a_time_waits_for_it() {
        // Erlang/OTP 25 loses it: the timer's own message comes as an event of type `info`.
        let (mut engine, mut steps) = engine();
        steps.start(Timeout::Named("a"), When::After(Duration::ZERO), 1);
        let _ = settled(&mut engine, Next::Keep, &mut steps);
        steps.start(Timeout::Named("a"), When::After(Duration::from_secs(1)), 2);
        let _ = settled(&mut engine, Next::Keep, &mut steps);
        assert_eq!(engine.pop(), None);
        let commands: Vec<_> = engine.commands().collect();
        let [Command::Arm { alarm, at }] = commands[..] else { panic!("{commands:?}") };
        assert_eq!(at, NOW + Duration::from_secs(1));
        assert_eq!((engine.ring(alarm), engine.ring(alarm)), (Some(2), None));
    }

    #[test]
    fn the_last_postponed_event_that_fits_and_the_first_that_does_not() {
        let (mut engine, mut steps) = (Toy::new(0, 2), Steps::default());
        steps.postpone(1);
        steps.postpone(2);
        let turn = engine.turn(Next::Keep);
        assert_eq!(engine.settle(&turn, &mut steps, NOW), Ok(()));
        steps.postpone(3);
        assert_eq!(engine.settle(&turn, &mut steps, NOW), Err(OverflowError::Postponed { limit: 2 }));
    }

    #[test]
    fn the_last_inserted_event_that_fits_and_the_first_that_does_not() {
        let (mut engine, mut steps) = (Toy::new(0, 0), Steps::default());
        for _ in 0..INSERTED_LIMIT {
            steps.insert(1);
        }
        let turn = engine.turn(Next::Keep);
        assert_eq!(engine.settle(&turn, &mut steps, NOW), Ok(()));
        steps.insert(1);
        assert_eq!(
            engine.settle(&turn, &mut steps, NOW),
            Err(OverflowError::Inserted { limit: INSERTED_LIMIT })
        );
    }
}
