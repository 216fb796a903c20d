//! What becomes of the place of a child that stays down: it is kept empty, or forgotten.

use gemba_core::supervision::ChildKey;
use gemba_core::view::ActorKind;

use super::Shell;

impl Shell {
    /// Notes at the place of a child that it stays down, so that nobody waits for it.
    pub(super) fn note_rest(&self, key: ChildKey) {
        if let Some(place) = self.places.get(&key)
            && self.core.rests(key)
        {
            place.slot.rest();
        }
    }

    pub(super) fn forget(&mut self, key: ChildKey) {
        if let Some(place) = self.places.remove(&key)
            && place.slot.give_up()
        {
            let below = place.slot.kind() == ActorKind::Supervisor;
            self.system.registry().forget(&place.slot.path, below);
        }
    }
}
