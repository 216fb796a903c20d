//! A cell: which signals a line takes. The regulator opens and closes it; callers read it.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::Arc;

use arc_swap::ArcSwap;
use gemba_core::admission::Tier;
use gemba_core::jidoka::Stance;
use gemba_core::view::{CordView, LineState};

/// The state of one line. It outlives the regulator: a pulled cord stays pulled across a restart.
#[derive(Debug)]
pub(crate) struct Gate(ArcSwap<Standing>);

/// Which signals a line takes, and why not all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub state: LineState,
    pub cord: Option<CordView>,
    /// The least urgent tier it takes while it is slowed.
    pub takes: Option<Tier>,
    /// What is wrong with it, in words.
    pub why: Option<Arc<str>>,
}

impl Standing {
    /// A line as its cord and what is wrong with it leave it.
    pub(crate) fn of(cord: Option<CordView>, stance: Stance, why: Arc<str>) -> Self {
        let state = if cord.is_some() { LineState::Stopped } else { state_of(stance) };
        let why = (stance != Stance::Running).then_some(why);
        Self { state, cord, takes: stance.takes(), why }
    }

    fn takes(&self, tier: Tier) -> bool {
        match self.state {
            LineState::Running => true,
            LineState::Slowed => self.takes.is_some_and(|least| tier <= least),
            LineState::Stopped | LineState::Draining => false,
        }
    }
}

/// The word for what a line takes.
pub(crate) const fn state_of(stance: Stance) -> LineState {
    match stance {
        Stance::Running => LineState::Running,
        Stance::ShedsBatch | Stance::CriticalOnly => LineState::Slowed,
        Stance::Draining => LineState::Draining,
        Stance::Stopped => LineState::Stopped,
    }
}

impl Gate {
    pub(crate) fn open() -> Self {
        Self(ArcSwap::from_pointee(Standing::default()))
    }

    /// `None` if the line takes signals of this tier, otherwise why not.
    pub(crate) fn closed(&self, tier: Tier) -> Option<Standing> {
        let standing = self.0.load();
        (!standing.takes(tier)).then(|| (**standing).clone())
    }

    pub(crate) fn standing(&self) -> Standing {
        (**self.0.load()).clone()
    }

    pub(crate) fn set(&self, standing: Standing) {
        self.0.store(Arc::new(standing));
    }
}
