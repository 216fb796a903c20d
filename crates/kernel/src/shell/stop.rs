//! How a child is stopped: it is asked to, killed when its time is over, and left behind if that is in vain.

use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::receipt::Event;
use gemba_core::supervision::{ChildKey, Command};
use gemba_core::view::ActorState;

use super::{KILL_GRACE, Shell};
use crate::child::Shutdown;
use crate::deadlines::Due;
use crate::handle::ChildError;
use crate::start::NoStart;

impl Shell {
    pub(super) fn stop(&mut self, key: ChildKey) {
        let cause = if self.core.is_ending() { self.end_cause } else { self.core.cause(key) };
        let place = self.places.get_mut(&key).expect("core stops only children that were added");
        place.slot.set_state(place.incarnation, ActorState::Stopping);
        let mut killed = false;
        let limit = match (&mut place.handle, place.shutdown) {
            (Some(handle), Shutdown::Brutal) => {
                handle.killer.kill();
                killed = true;
                KILL_GRACE
            }
            (Some(handle), Shutdown::Within(limit)) => {
                handle.stop(cause);
                limit
            }
            (Some(handle), Shutdown::Infinity) => return handle.stop(cause),
            // It is still starting: its start has its own limit, and is told to stop as soon as it runs.
            (None, Shutdown::Brutal) => Duration::ZERO,
            (None, Shutdown::Within(limit)) => {
                place.stop_start(cause);
                limit
            }
            (None, Shutdown::Infinity) => return place.stop_start(cause),
        };
        self.arm(key, limit, killed);
    }

    /// Looks after a child that was asked to stop, or killed, when its time is over.
    pub(super) fn arm(&mut self, key: ChildKey, limit: Duration, killed: bool) {
        let now = self.system.now();
        let Some(place) = self.places.get_mut(&key) else { return };
        let due = Due::StopOverdue { key, incarnation: place.incarnation, killed };
        if let Some(earlier) = place.deadline.replace(self.deadlines.add(&self.me, due, now + limit, now)) {
            self.deadlines.remove(earlier);
        }
    }

    pub(super) fn stop_overdue(
        &mut self,
        key: ChildKey,
        incarnation: Incarnation,
        killed: bool,
    ) -> Vec<Command> {
        let Some(place) = self.places.get_mut(&key).filter(|place| place.incarnation == incarnation) else {
            return Vec::new();
        };
        match &place.handle {
            // The exit, or the report of the start, has been handled meanwhile.
            None if place.starting.is_none() => Vec::new(),
            Some(handle) if !killed => {
                handle.killer.kill();
                self.arm(key, KILL_GRACE, true);
                Vec::new()
            }
            Some(handle) => {
                let Some(lifeline) = handle.lifeline.upgrade() else { return Vec::new() };
                lifeline.detach();
                place.slot.set_state(incarnation, ActorState::Unkillable);
                let cause = if self.core.is_ending() { self.end_cause } else { self.core.cause(key) };
                self.system.record(cause, &place.slot.path, Event::ChildUnkillable { incarnation });
                place.answer_stops(&Err(ChildError::Unkillable { name: place.name() }));
                self.core.stop_failed(key)
            }
            None => {
                if let Some(starting) = place.starting.take() {
                    starting.abort();
                }
                let message = "it was to stop before it had started".into();
                let commands =
                    self.started(key, incarnation, Err(NoStart::Failed(ExitReason::Error { message })));
                // A report of the start that is under way belongs to nobody now.
                if let Some(place) = self.places.get_mut(&key) {
                    place.incarnation = Incarnation(0);
                }
                commands
            }
        }
    }
}
