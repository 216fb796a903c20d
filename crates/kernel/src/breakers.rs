//! Breakers beside those of lines: who has some offers them to the node, so that an operator can force them.

use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use gemba_core::name::Name;
use gemba_core::receipt::{BreakerState, Seq};

/// Breakers that can be put into a state by hand.
pub trait Breakers: Send + Sync {
    /// What they are called.
    fn names(&self) -> Vec<Name>;

    /// Puts the one of this name into a state, and answers with the receipt; `None` if it is not of these.
    fn force(&self, breaker: &Name, to: BreakerState, by: &str, why: &str) -> Option<Seq>;
}

/// All that were offered and still are there.
#[derive(Default)]
pub(crate) struct Offered(ArcSwap<Vec<Weak<dyn Breakers>>>);

impl Offered {
    pub(crate) fn add(&self, breakers: &Weak<dyn Breakers>) {
        self.0.rcu(|known| {
            let alive = known.iter().filter(|breakers| 0 < breakers.strong_count());
            alive.chain([breakers]).cloned().collect::<Vec<_>>()
        });
    }

    fn alive(&self) -> Vec<Arc<dyn Breakers>> {
        self.0.load().iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        self.alive().iter().flat_map(|breakers| breakers.names()).collect()
    }

    pub(crate) fn force(&self, breaker: &Name, to: BreakerState, by: &str, why: &str) -> Option<Seq> {
        self.alive().iter().find_map(|breakers| breakers.force(breaker, to, by, why))
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
