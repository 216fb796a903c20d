//! The alarms of a state machine: each takes its turn among the messages when its time is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gemba_core::machine::Alarm;
use tokio::time::Instant;

/// Alarms that are set, and those that ring.
///
/// A message that is there when an alarm is found to ring goes before it, as in Erlang, where both wait in
/// one mailbox: an answer that came in time is not overtaken by the time-out it was to prevent.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    times: BTreeMap<Alarm, Instant>,
    set: BTreeSet<(Instant, Alarm)>,
    /// Those that ring, with the number of the last message that goes before.
    ringing: VecDeque<(u64, Alarm)>,
}

impl Alarms {
    pub(crate) fn arm(&mut self, alarm: Alarm, at: Instant) {
        self.times.insert(alarm, at);
        self.set.insert((at, alarm));
    }

    /// One that rings already falls silent: nobody waits for it, and its turn is not to break the quiet.
    pub(crate) fn disarm(&mut self, alarm: Alarm) {
        if let Some(at) = self.times.remove(&alarm) {
            self.set.remove(&(at, alarm));
        } else {
            self.ringing.retain(|(_, other)| *other != alarm);
        }
    }

    /// When the next one rings.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Lets ring what is over, behind message number `behind`.
    pub(super) fn look(&mut self, now: Instant, behind: u64) {
        while let Some((at, alarm)) = self.set.first().copied()
            && at <= now
        {
            self.set.pop_first();
            self.times.remove(&alarm);
            self.ringing.push_back((behind, alarm));
        }
    }

    /// How many messages go before the next one that rings.
    pub(super) fn first(&self) -> Option<u64> {
        self.ringing.front().map(|(behind, _)| *behind)
    }

    /// The alarm whose turn it is after message number `received`.
    pub(super) fn turn(&mut self, received: u64) -> Option<Alarm> {
        if received < self.first()? {
            return None;
        }
        self.ringing.pop_front().map(|(_, alarm)| alarm)
    }
}
