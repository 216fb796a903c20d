//! A cell: the count of signals in flight, and the permits that return to it on drop.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use gemba_core::admission::{Limits, Tier, has_room};

/// The count and the limits it is held against. The regulator sets the limits; callers count themselves.
#[derive(Debug)]
pub(crate) struct Ceiling {
    in_flight: AtomicU32,
    /// The hard limit of each tier, which every signal reads: kept flat beside the whole.
    hard: [AtomicU32; Tier::ALL.len()],
    limits: ArcSwap<Limits>,
}

impl Ceiling {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicU32::new(0),
            hard: Tier::ALL.map(|tier| AtomicU32::new(limits.hard(tier))),
            limits: ArcSwap::from_pointee(limits),
        })
    }

    /// Takes a permit, or says how full it is. Exact: the count never passes the hard limit.
    pub(crate) fn admit(self: &Arc<Self>, tier: Tier) -> Result<Permit, (u32, u32)> {
        let limit = self.hard[tier as usize].load(Ordering::Relaxed);
        let mut in_flight = self.in_flight.load(Ordering::Relaxed);
        loop {
            if !has_room(in_flight, limit) {
                return Err((in_flight, limit));
            }
            let next = in_flight + 1;
            match self.in_flight.compare_exchange_weak(in_flight, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Ok(Permit(self.clone())),
                Err(present) => in_flight = present,
            }
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn limits(&self) -> Limits {
        **self.limits.load()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        for tier in Tier::ALL {
            self.hard[tier as usize].store(limits.hard(tier), Ordering::Relaxed);
        }
        self.limits.store(Arc::new(limits));
    }
}

/// The right to be in flight. It returns when it is dropped, wherever that happens.
#[must_use = "a permit that is dropped at once admits nobody"]
pub struct Permit(Arc<Ceiling>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_permit_is_given_and_the_next_refused() {
        let ceiling = Ceiling::new(Limits::new(10, 0.2, 0.83).unwrap());
        let mut others: Vec<_> = (0..8).map(|_| ceiling.admit(Tier::Normal).unwrap()).collect();
        assert_eq!(ceiling.admit(Tier::Batch).unwrap_err(), (8, 8));
        let critical: Vec<_> = (0..2).map(|_| ceiling.admit(Tier::Critical).unwrap()).collect();
        assert_eq!(ceiling.admit(Tier::Critical).unwrap_err(), (10, 10));
        drop(critical);
        assert!(ceiling.admit(Tier::Normal).is_err(), "the reserve is not for it");
        others.pop();
        assert!(ceiling.admit(Tier::Normal).is_ok());
        drop(others);
        assert_eq!(ceiling.in_flight(), 0);
    }

    #[test]
    fn threads_together_never_pass_the_limit() {
        let ceiling = Ceiling::new(Limits::new(100, 0.2, 0.83).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let held: Vec<_> =
                            (0..60).filter_map(|_| ceiling.admit(Tier::Critical).ok()).collect();
                        assert!(ceiling.in_flight() <= 100);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(ceiling.in_flight(), 0);
    }
}
