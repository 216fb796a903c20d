//! Permits: what is in flight never passes the limit, none is lost, and who is refused met a full count.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use gemba_core::admission::{Limits, Tier};
use loom::sync::atomic::AtomicU32;
use loom::thread;

use super::{ceiling, check};
use crate::permit::{Ceiling, Permit};

/// A ceiling, and how many permits are out as those see it who have them.
struct Counted {
    ceiling: Arc<Ceiling>,
    out: AtomicU32,
    limit: u32,
}

impl Counted {
    fn new(limit: u32, held: usize) -> (Arc<Self>, Vec<Permit>) {
        let counted = Arc::new(Self { ceiling: ceiling(limit), out: AtomicU32::new(0), limit });
        let held = (0..held).map(|n| counted.admit(n % 2).expect("nobody else asks")).collect();
        (counted, held)
    }

    fn admit(&self, place: usize) -> Option<Permit> {
        let permit = self.ceiling.admit_at(place, Tier::Normal).ok()?;
        let before = self.out.fetch_add(1, SeqCst);
        assert!(before < self.limit, "{before} were in flight already");
        Some(permit)
    }

    fn release(&self, permit: Permit) {
        self.out.fetch_sub(1, SeqCst);
        drop(permit);
    }

    /// All that may be there can be had, from any place, and not one more.
    fn nothing_was_lost(&self) {
        assert_eq!(self.ceiling.in_flight(), self.out.load(SeqCst));
        let free = self.limit - self.out.load(SeqCst);
        let all: Vec<_> = (0..free).map(|n| self.admit(n as usize % 2).expect("there is room")).collect();
        for place in 0..2 {
            let (limit, refused) = (self.limit, self.ceiling.admit_at(place, Tier::Normal).err());
            assert_eq!(refused, Some((limit, limit)));
        }
        all.into_iter().for_each(|permit| self.release(permit));
        assert_eq!(self.ceiling.in_flight(), self.out.load(SeqCst));
    }
}

/// Two threads at places of their own take and give back permits, each twice.
fn contend(limit: u32, held: usize, preemptions: usize) {
    check(preemptions, move || {
        let (counted, mut held) = Counted::new(limit, held);
        let mine = held.pop();
        let other = counted.clone();
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                if let Some(permit) = other.admit(1) {
                    other.release(permit);
                }
            }
        });
        // It goes back to whichever place it came from, while the other asks there.
        mine.into_iter().for_each(|permit| counted.release(permit));
        let first = counted.admit(0);
        let second = counted.admit(0);
        first.into_iter().chain(second).for_each(|permit| counted.release(permit));
        thread.join().unwrap();
        held.into_iter().for_each(|permit| counted.release(permit));
        counted.nothing_was_lost();
    });
}

#[test]
fn far_below_the_limit_permits_are_kept_and_none_is_lost() {
    contend(12, 0, 3);
}

#[test]
fn where_keeping_ends_none_is_lost() {
    contend(7, 2, 3);
    contend(7, 3, 3);
}

#[test]
fn at_the_limit_it_is_never_passed() {
    contend(5, 4, 3);
    contend(2, 1, 3);
    contend(2, 2, 3);
}

#[test]
fn one_of_three_is_refused_at_most_while_another_decides() {
    // With room for all that ask, nobody is refused.
    check(3, || {
        let (counted, held) = Counted::new(7, 3);
        let threads: Vec<_> = [0, 1]
            .map(|place| {
                let counted = counted.clone();
                thread::spawn(move || {
                    let permit = counted.admit(place).expect("there is room for both");
                    counted.release(permit);
                    let permit = counted.admit(place).expect("there is room for both");
                    counted.release(permit);
                })
            })
            .into();
        for thread in threads {
            thread.join().unwrap();
        }
        held.into_iter().for_each(|permit| counted.release(permit));
        counted.nothing_was_lost();
    });
}

#[test]
fn under_a_lower_limit_what_is_kept_is_not_in_flight() {
    check(3, || {
        // Nine went past where keeping ends, and eight come back, of which some are kept.
        let (counted, mut held) = Counted::new(12, 9);
        let last = held.pop().unwrap();
        held.into_iter().for_each(|permit| counted.release(permit));
        let other = counted.clone();
        let thread = thread::spawn(move || other.release(last));
        let ceiling = counted.ceiling.clone();
        ceiling.set_limits(Limits::new(3, 0.0, 0.83).unwrap());
        thread.join().unwrap();
        Counted { ceiling, out: AtomicU32::new(0), limit: 3 }.nothing_was_lost();
    });
}
