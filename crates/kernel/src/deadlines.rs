//! What a supervisor has to do later: one alarm for all of it, however many children wait.

use std::collections::BTreeMap;

use gemba_core::exit::Incarnation;
use gemba_core::supervision::ChildKey;
use gemba_core::time::Timestamp;
use ractor::ActorRef;
use tokio::task::AbortHandle;

use crate::shell::Message;

/// One thing to do at its time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Due {
    /// A child has had its time to stop.
    StopOverdue {
        key: ChildKey,
        incarnation: Incarnation,
        /// Whether it has been killed already.
        killed: bool,
    },
    /// A child's restart was put off until now.
    Retry { key: ChildKey, generation: u32 },
    /// A group's restart was.
    Resume,
}

/// Tells an entry from all others, so that it can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(Timestamp, u64);

#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    due: BTreeMap<Ticket, Due>,
    next: u64,
    alarm: Option<(Timestamp, AbortHandle)>,
}

impl Deadlines {
    pub(crate) fn add(&mut self, me: &ActorRef<Message>, due: Due, at: Timestamp, now: Timestamp) -> Ticket {
        let ticket = Ticket(at, self.next);
        self.next += 1;
        self.due.insert(ticket, due);
        self.wake(me, now);
        ticket
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) {
        self.due.remove(&ticket);
        if self.due.is_empty() {
            self.silence();
        }
    }

    /// Takes the first entry whose time has come; once there is none, sets the alarm for the next.
    pub(crate) fn pop(&mut self, me: &ActorRef<Message>, now: Timestamp) -> Option<Due> {
        if self.due.first_key_value().is_some_and(|(ticket, _)| ticket.0 <= now) {
            return self.due.pop_first().map(|(_, due)| due);
        }
        self.silence();
        self.wake(me, now);
        None
    }

    /// Sees to it that the supervisor hears of the first entry in time.
    fn wake(&mut self, me: &ActorRef<Message>, now: Timestamp) {
        let Some((&Ticket(at, _), _)) = self.due.first_key_value() else { return };
        if self.alarm.as_ref().is_some_and(|(set, _)| *set <= at) {
            return;
        }
        self.silence();
        let me = me.clone();
        let alarm = tokio::spawn(async move {
            tokio::time::sleep(at.since(now)).await;
            // A supervisor that is gone waits for nobody.
            let _ = me.cast(Message::Alarm);
        });
        self.alarm = Some((at, alarm.abort_handle()));
    }

    fn silence(&mut self) {
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.silence();
    }
}
