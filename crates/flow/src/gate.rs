//! A cell: whether a line takes signals. The regulator opens and closes it; callers read it.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use arc_swap::ArcSwap;
use gemba_core::view::{CordView, LineState};

/// The state of one line. It outlives the regulator: a pulled cord stays pulled across a restart.
#[derive(Debug)]
pub(crate) struct Gate(ArcSwap<Standing>);

/// Whether a line takes signals, and who stopped it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub state: LineState,
    pub cord: Option<CordView>,
}

impl Gate {
    pub(crate) fn open() -> Self {
        Self(ArcSwap::from_pointee(Standing::default()))
    }

    /// `None` if the line takes signals, otherwise why not.
    pub(crate) fn closed(&self) -> Option<Standing> {
        let standing = self.0.load();
        (standing.state != LineState::Running).then(|| (**standing).clone())
    }

    pub(crate) fn standing(&self) -> Standing {
        (**self.0.load()).clone()
    }

    pub(crate) fn set(&self, standing: Standing) {
        self.0.store(std::sync::Arc::new(standing));
    }
}
