//! A cell: which signals a line takes, and how long one may take. The regulator sets both; callers read them.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use gemba_core::admission::Tier;
use gemba_core::jidoka::Stance;
use gemba_core::view::{CordView, LineState};

/// The state of one line. It outlives the regulator: a pulled cord stays pulled across a restart.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct Gate {
    standing: ArcSwap<Standing>,
    /// In nanoseconds; in the same cache line, which every signal reads and only a change writes.
    deadline: AtomicU64,
}

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
    pub(crate) fn open(deadline: Duration) -> Self {
        let standing = ArcSwap::from_pointee(Standing::default());
        Self { standing, deadline: AtomicU64::new(nanos(deadline)) }
    }

    /// How long a signal may take unless it says so itself.
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_nanos(self.deadline.load(Relaxed))
    }

    pub(crate) fn set_deadline(&self, deadline: Duration) {
        self.deadline.store(nanos(deadline), Relaxed);
    }

    /// `None` if the line takes signals of this tier, otherwise why not.
    pub(crate) fn closed(&self, tier: Tier) -> Option<Standing> {
        let standing = self.standing.load();
        (!standing.takes(tier)).then(|| (**standing).clone())
    }

    pub(crate) fn standing(&self) -> Standing {
        (**self.standing.load()).clone()
    }

    pub(crate) fn set(&self, standing: Standing) {
        self.standing.store(Arc::new(standing));
    }
}

/// Five hundred years at most.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
