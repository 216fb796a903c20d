//! How a supervisor heeds its latch: it looks before it begins, and whenever it is told to.

use gemba_core::supervision::Command;

use super::Shell;
use crate::halt::Latch;

impl Shell {
    fn latch(&self) -> Option<Latch> {
        self.lifeline.as_ref().and_then(|lifeline| lifeline.slot.latch())
    }

    pub(super) fn begin(&mut self) -> Vec<Command> {
        match self.latch() {
            Some(Latch::Halted(_)) => self.core.start_halted(),
            Some(Latch::Released(_)) | None => self.core.start(),
        }
    }

    pub(super) fn heed_latch(&mut self) -> Vec<Command> {
        match self.latch() {
            Some(Latch::Halted(receipt)) => self.core.halt(receipt),
            Some(Latch::Released(receipt)) => self.core.run_again(receipt),
            None => Vec::new(),
        }
    }
}
