//! Whether a handler is stuck: told from looks at an actor, taken now and then.

use std::time::Duration;

use crate::time::Timestamp;

/// What an actor has in hand at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// Which message, by a number that no other message of this life has.
    pub message: u64,
    /// When the actor began to work without a pause.
    pub since: Timestamp,
    /// Whether it began with this very message.
    pub is_first: bool,
}

/// What a look shows that is worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The handler has run longer than its limit: for so long at least.
    Stuck(Duration),
    /// The handler that was stuck went on: it took so long at most.
    Recovered(Duration),
}

/// What earlier looks at one life found.
///
/// An actor tells the number of the message in hand and nothing else while it works, so that looking costs
/// it nothing. What a look does not show is taken in the actor's favour: a handler is told to be stuck late
/// by one look at most, and never without having run for its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watch {
    seen: Option<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    message: u64,
    since: Timestamp,
    is_told: bool,
}

impl Watch {
    /// Takes another look.
    pub fn look(&mut self, busy: Option<Busy>, limit: Duration, now: Timestamp) -> Option<Finding> {
        let before = self.seen.take();
        self.seen = busy.map(|busy| match before {
            Some(seen) if seen.message == busy.message => seen,
            // In the middle of a batch it may have begun just now.
            _ if !busy.is_first => Seen { message: busy.message, since: now, is_told: false },
            _ => Seen { message: busy.message, since: busy.since, is_told: false },
        });
        if let Some(over) = before
            && over.is_told
            && self.seen.is_none_or(|seen| seen.message != over.message)
        {
            return Some(Finding::Recovered(now.since(over.since)));
        }
        let seen = self.seen.as_mut().filter(|seen| !seen.is_told)?;
        let ran = now.since(seen.since);
        seen.is_told = limit <= ran;
        seen.is_told.then_some(Finding::Stuck(ran))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    /// One look: when, and which message was in hand since when, and whether it was the first of its batch.
    type Look = (u64, Option<(u64, u64, bool)>);

    fn looks(looks: &[Look]) -> Vec<Option<Finding>> {
        let mut watch = Watch::default();
        let mut look = |(now, busy): &Look| {
            let busy = busy.map(|(message, since, is_first)| {
                let since = Timestamp::from_secs(since);
                Busy { message, since, is_first }
            });
            watch.look(busy, LIMIT, Timestamp::from_secs(*now))
        };
        looks.iter().map(&mut look).collect()
    }

    #[test]
    fn a_handler_is_stuck_at_its_limit_and_not_before() {
        let found = looks(&[(1, Some((7, 1, true))), (5, Some((7, 1, true))), (6, Some((7, 1, true)))]);
        assert_eq!(found, [None, None, Some(Finding::Stuck(LIMIT))]);
    }

    #[test]
    fn it_is_told_once_and_its_end_once() {
        let at = |now| (now, Some((7, 0, true)));
        let found = looks(&[at(0), at(6), at(7), (9, Some((8, 0, false))), (10, None)]);
        let stuck = Some(Finding::Stuck(Duration::from_secs(6)));
        assert_eq!(found, [None, stuck, None, Some(Finding::Recovered(Duration::from_secs(9))), None]);
    }

    #[test]
    fn many_short_handlers_without_a_pause_are_not_stuck() {
        let found =
            looks(&[(0, Some((1, 0, true))), (6, Some((900, 0, false))), (12, Some((1800, 0, false)))]);
        assert_eq!(found, [None, None, None]);
    }

    #[test]
    fn a_handler_in_the_middle_of_a_batch_counts_from_the_first_look_at_it() {
        let found = looks(&[(10, Some((3, 0, false))), (14, Some((3, 0, false))), (15, Some((3, 0, false)))]);
        assert_eq!(found, [None, None, Some(Finding::Stuck(LIMIT))]);
    }

    #[test]
    fn one_look_is_enough_for_a_handler_that_began_its_batch() {
        assert_eq!(looks(&[(9, Some((3, 2, true)))]), [Some(Finding::Stuck(Duration::from_secs(7)))]);
    }

    #[test]
    fn the_next_handler_may_be_stuck_as_well() {
        let found = looks(&[
            (0, Some((1, 0, true))),
            (5, Some((1, 0, true))),
            (6, Some((2, 6, true))),
            (11, Some((2, 6, true))),
        ]);
        let told: Vec<_> = found.into_iter().flatten().collect();
        let six = Duration::from_secs(6);
        assert_eq!(told, [Finding::Stuck(LIMIT), Finding::Recovered(six), Finding::Stuck(LIMIT)]);
    }
}
