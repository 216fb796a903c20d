//! A supervisor that is killed: its own is told at once, and waits for those below it, but not for ever.

use gemba_core::exit::Incarnation;
use gemba_core::supervision::{ChildKey, Command};

use super::{KILL_GRACE, Shell};

impl Shell {
    /// A supervisor below was killed. If somebody below it cannot be killed, it is unkillable as well.
    pub(super) fn fell(&mut self, key: ChildKey, incarnation: Incarnation) -> Vec<Command> {
        let place = self.places.get(&key).filter(|place| place.incarnation == incarnation);
        if place.is_some_and(|place| place.handle.is_some()) {
            self.arm(key, KILL_GRACE, true);
        }
        Vec::new()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // One that ends in order has let go of it.
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.fell();
            // What runs below ends before it lets go, the last to start first.
            while self.places.pop_last().is_some() {}
        }
    }
}
