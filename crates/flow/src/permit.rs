//! A cell: the count of signals in flight, and the permits that return to it on drop.
//!
//! A count that all threads share costs ten times as much on two threads. So permits are drawn from one count, and
//! those that come back stay with the shard they were given from, to be given again without touching that count.
//! Every permit is counted in exactly one place, so what is in flight never exceeds what was drawn; and what is
//! drawn never exceeds the limit. Near the limit nothing is kept back, so that nobody is refused for permits that
//! nobody has, but for one that another thread is deciding about at that moment.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use arc_swap::ArcSwap;
use gemba_core::admission::{Limits, Tier, has_room};

use crate::meter::{STRIPES, stripe};
use crate::sync::{AtomicBool, AtomicU32, Mutex};

/// How many shards there are: one for each stripe, and two in a model, of which each thread has one.
const SHARDS: usize = if cfg!(feature = "loom") { 2 } else { STRIPES };

/// How many permits a shard draws at a time; in a model as few as make a difference.
const BATCH: u32 = if cfg!(feature = "loom") { 2 } else { 16 };

/// How many it keeps.
const KEPT_MAX: u32 = 2 * BATCH;

/// This near to the lowest limit of a tier, nothing is kept.
const MARGIN: u32 = BATCH * SHARDS as u32;

/// The count and the limits it is held against. The regulator sets the limits; callers count themselves.
#[derive(Debug)]
pub(crate) struct Ceiling {
    shards: [Arc<Shard>; SHARDS],
    limits: ArcSwap<Limits>,
}

/// Permits that are kept for the next ones to ask. Padded to two cache lines, which processors fetch together.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    kept: AtomicU32,
    count: Arc<Count>,
}

#[derive(Debug)]
struct Count {
    /// Permits in flight or kept. Raised under the lock only.
    drawn: AtomicU32,
    /// Nothing is kept from here on.
    exact_from: AtomicU32,
    /// No shard keeps any: a refusal need not look at them. Set before all of them are emptied, unset after one
    /// got some, so that it is never wrong for longer than somebody is about to unset it.
    swept: AtomicBool,
    /// The hard limit of each tier, which every signal reads: kept flat beside the whole.
    hard: [AtomicU32; Tier::ALL.len()],
    drawing: Mutex<()>,
}

impl Ceiling {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let count = Arc::new(Count {
            drawn: AtomicU32::new(0),
            exact_from: AtomicU32::new(exact_from(limits)),
            swept: AtomicBool::new(false),
            hard: Tier::ALL.map(|tier| AtomicU32::new(limits.hard(tier))),
            drawing: Mutex::new(()),
        });
        let shard = |_| Arc::new(Shard { kept: AtomicU32::new(0), count: count.clone() });
        Arc::new(Self { shards: std::array::from_fn(shard), limits: ArcSwap::from_pointee(limits) })
    }

    /// Takes a permit, or says how full it is. Exact: the count never passes the hard limit.
    pub(crate) fn admit(&self, tier: Tier) -> Result<Permit, (u32, u32)> {
        self.admit_at(stripe() % SHARDS, tier)
    }

    pub(crate) fn admit_at(&self, place: usize, tier: Tier) -> Result<Permit, (u32, u32)> {
        let shard = &self.shards[place];
        let limit = shard.count.hard[tier as usize].load(Relaxed);
        if shard.take() {
            // With this one, what is in flight is at most what is drawn.
            if shard.count.drawn.load(SeqCst) <= limit {
                return Ok(Permit(shard.clone()));
            }
            shard.keep(1);
        }
        let Count { drawn, swept, .. } = &*shard.count;
        if swept.load(SeqCst) {
            let in_flight = drawn.load(SeqCst);
            if !has_room(in_flight, limit) {
                return Err((in_flight, limit));
            }
        }
        self.draw(shard, limit).map(|()| Permit(shard.clone()))
    }

    #[cold]
    fn draw(&self, shard: &Shard, limit: u32) -> Result<(), (u32, u32)> {
        let Count { drawn, exact_from, swept, drawing, .. } = &*shard.count;
        let _drawing = drawing.lock().expect("nothing panics while it draws");
        let batch = drawn.load(SeqCst).saturating_add(BATCH);
        if batch <= exact_from.load(Relaxed) && batch <= limit {
            drawn.fetch_add(BATCH, SeqCst);
            shard.keep(BATCH - 1);
            return Ok(());
        }
        swept.store(true, SeqCst);
        for shard in &self.shards {
            let kept = if shard.kept.load(SeqCst) == 0 { 0 } else { shard.kept.swap(0, SeqCst) };
            drawn.fetch_sub(kept, SeqCst);
        }
        let in_flight = drawn.load(SeqCst);
        if !has_room(in_flight, limit) {
            return Err((in_flight, limit));
        }
        drawn.fetch_add(1, SeqCst);
        Ok(())
    }

    pub(crate) fn in_flight(&self) -> u32 {
        // What is drawn first: permits that come back meanwhile are not counted twice.
        let drawn = self.shards[0].count.drawn.load(SeqCst);
        drawn.saturating_sub(self.shards.iter().map(|shard| shard.kept.load(SeqCst)).sum())
    }

    pub(crate) fn limits(&self) -> Limits {
        **self.limits.load()
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        let count = &self.shards[0].count;
        for tier in Tier::ALL {
            count.hard[tier as usize].store(limits.hard(tier), Relaxed);
        }
        count.exact_from.store(exact_from(limits), Relaxed);
        self.limits.store(Arc::new(limits));
    }
}

fn exact_from(limits: Limits) -> u32 {
    let lowest = Tier::ALL.into_iter().map(|tier| limits.hard(tier)).min();
    lowest.unwrap_or_default().saturating_sub(MARGIN)
}

impl Shard {
    /// Takes one of the kept ones.
    fn take(&self) -> bool {
        let mut kept = self.kept.load(Relaxed);
        while 0 < kept {
            match self.kept.compare_exchange_weak(kept, kept - 1, SeqCst, Relaxed) {
                Ok(_) => return true,
                Err(present) => kept = present,
            }
        }
        false
    }

    fn keep(&self, permits: u32) {
        self.kept.fetch_add(permits, SeqCst);
        if self.count.swept.load(SeqCst) {
            self.count.swept.store(false, SeqCst);
        }
    }

    fn release(&self) {
        let Count { drawn, exact_from, .. } = &*self.count;
        let keeps = || drawn.load(SeqCst) <= exact_from.load(Relaxed);
        if keeps() && self.kept.load(Relaxed) < KEPT_MAX {
            self.keep(1);
            // Whoever came near the limit meanwhile may have looked here before.
            if keeps() || !self.take() {
                return;
            }
        }
        drawn.fetch_sub(1, SeqCst);
    }
}

/// The right to be in flight. It returns when it is dropped, wherever that happens.
#[must_use = "a permit that is dropped at once admits nobody"]
pub struct Permit(Arc<Shard>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        /// One after the other, on whatever shards: the same answers as from one plain count.
        #[test]
        fn shards_together_count_as_one(
            hard in 1u32..400,
            steps in vec((0..SHARDS, 0usize..3, any::<bool>(), 1usize..40), 0..200),
        ) {
            let limits = Limits::new(hard, 0.2, 0.83).or_else(|_| Limits::new(hard, 0.0, 0.83)).unwrap();
            let ceiling = Ceiling::new(limits);
            let mut held = Vec::new();
            for (place, tier, comes, times) in steps {
                let tier = Tier::ALL[tier];
                for _ in 0..times {
                    let in_flight = held.len() as u32;
                    if !comes {
                        // Not always the newest: they come back to the shards of others, too.
                        let _ = (!held.is_empty()).then(|| held.swap_remove(place % held.len()));
                    } else if in_flight < limits.hard(tier) {
                        held.push(ceiling.admit_at(place, tier).expect("there is room"));
                    } else {
                        prop_assert_eq!(ceiling.admit_at(place, tier).err(), Some((in_flight, limits.hard(tier))));
                    }
                }
                prop_assert_eq!(ceiling.in_flight(), held.len() as u32);
            }
            drop(held);
            prop_assert_eq!(ceiling.in_flight(), 0);
        }
    }

    #[test]
    fn threads_that_pass_permits_on_never_pass_a_limit_and_lose_none() {
        let limits = Limits::new(300, 0.2, 0.83).unwrap();
        let ceiling = Ceiling::new(limits);
        let out = AtomicU32::new(0);
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Permit>(1000);
        std::thread::scope(|scope| {
            for tier in [Tier::Critical, Tier::Normal, Tier::Batch] {
                let (sender, ceiling, out) = (sender.clone(), &ceiling, &out);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if let Ok(permit) = ceiling.admit(tier) {
                            assert!(out.fetch_add(1, SeqCst) < limits.hard(Tier::Critical));
                            sender.send(permit).unwrap();
                        }
                    }
                });
            }
            drop(sender);
            let out = &out;
            scope.spawn(move || {
                for permit in receiver {
                    out.fetch_sub(1, SeqCst);
                    drop(permit);
                }
            });
        });
        assert_eq!(ceiling.in_flight(), 0);
        let all: Vec<_> = (0..300).map(|_| ceiling.admit(Tier::Critical).expect("none was lost")).collect();
        assert_eq!(ceiling.admit(Tier::Critical).unwrap_err(), (300, 300));
        drop(all);
    }

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
