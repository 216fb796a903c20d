//! What the handler of a state machine, and then `enter`, ask for besides a state.

use super::timeouts::{Change, Timeout, When};

/// What is carried out when the state has turned. The same value serves every event, so that an event
/// which asks for nothing allocates nothing.
#[derive(Debug)]
pub struct Steps<E, N> {
    pub(super) inserted: Vec<E>,
    pub(super) postponed: Vec<E>,
    pub(super) timeouts: Vec<(Timeout<N>, Change<E>)>,
}

impl<E, N> Default for Steps<E, N> {
    fn default() -> Self {
        Self { inserted: Vec::new(), postponed: Vec::new(), timeouts: Vec::new() }
    }
}

impl<E, N: PartialEq> Steps<E, N> {
    /// Puts `event` before all that waits, behind those inserted with it.
    pub fn insert(&mut self, event: E) {
        self.inserted.push(event);
    }

    /// Keeps `event` until the state changes.
    pub fn postpone(&mut self, event: E) {
        self.postponed.push(event);
    }

    /// Starts a time-out, or starts it anew.
    pub fn start(&mut self, timeout: Timeout<N>, when: When, content: E) {
        self.change(timeout, Change::Start(when, content));
    }

    /// Cancels a time-out; one that does not run stays that way.
    pub fn cancel(&mut self, timeout: Timeout<N>) {
        self.change(timeout, Change::Cancel);
    }

    /// Gives a running time-out another content; one that does not run is over at once.
    pub fn update(&mut self, timeout: Timeout<N>, content: E) {
        self.change(timeout, Change::Update(content));
    }

    /// Whether a time-out is to be changed, so that the time is needed.
    pub fn sets_timeouts(&self) -> bool {
        !self.timeouts.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.postponed.is_empty() && self.timeouts.is_empty()
    }

    /// Of several changes to one time-out the last one counts, at its place.
    fn change(&mut self, timeout: Timeout<N>, change: Change<E>) {
        self.timeouts.retain(|(other, _)| *other != timeout);
        self.timeouts.push((timeout, change));
    }
}
