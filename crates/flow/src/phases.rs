//! A cell: how long the signals of a line spend in each phase, of as many of them as it takes to know.
//!
//! A signal that is timed costs six readings of the clock and five records, 0.5 to 0.7 µs (measured in release on
//! two shared cores); so of a busy line only one in so many is timed, about [`TIMED_PER_S`] a second, and the
//! others pay a count of their thread. That is 52 ns a signal at 1 000 a second, 5 ns at 10 000, 2 ns at 100 000.
//! Kaizen sets the share each second by the traffic of the last one: up to that rate every signal is timed. In the
//! second in which a calm line becomes a busy one, the first [`TIMED_MAX`] are.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::cell::Cell;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use gemba_core::time::Timestamp;
use hdrhistogram::Histogram;

/// How many signals of a line are timed in a second: the 99th percentile of a minute then stands on 60 of them.
pub(crate) const TIMED_PER_S: u64 = 100;

/// How many are timed before kaizen looks again, however many more come than in the second before.
const TIMED_MAX: u32 = 4 * TIMED_PER_S as u32;

/// The longest time told apart, in nanoseconds; longer ones count as this.
const LONGEST_NS: u64 = 600_000_000_000;

/// What a signal goes through, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From its arrival until it is admitted.
    Receive,
    /// Its policy.
    Evaluate,
    /// From the verdict until a worker has it.
    Queue,
    /// Its action.
    Execute,
    /// From the end of the action until the caller has the answer.
    Respond,
    /// What follows a success, while the caller goes on.
    FollowUp,
}

impl Phase {
    pub(crate) const ALL: [Self; 6] =
        [Self::Receive, Self::Evaluate, Self::Queue, Self::Execute, Self::Respond, Self::FollowUp];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Evaluate => "evaluate",
            Self::Queue => "queue",
            Self::Execute => "execute",
            Self::Respond => "respond",
            Self::FollowUp => "follow_up",
        }
    }
}

type Histograms = [Histogram<u64>; Phase::ALL.len()];

fn histograms() -> Histograms {
    std::array::from_fn(|_| Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("the bounds are in range"))
}

pub(crate) struct Phases {
    /// The share of signals that are timed, of [`u32::MAX`].
    share: AtomicU32,
    /// How many may be timed yet. Threads that take the last ones together may take a few more.
    left: AtomicU32,
    nanos: Mutex<Histograms>,
}

thread_local! {
    /// Grows with each signal of this thread by [`STEP`] and wraps: as evenly spread as numbers can be, whichever of
    /// them a line sees. A count would not do: with another line's signals in between it says nothing of this one's.
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

/// The golden section of all numbers.
const STEP: u32 = 0x9E37_79B9;

impl Phases {
    pub(crate) fn new() -> Self {
        Self {
            share: AtomicU32::new(u32::MAX),
            left: AtomicU32::new(TIMED_MAX),
            nanos: Mutex::new(histograms()),
        }
    }

    /// Begins with a signal; most of a busy line's are not timed, and never ask for the time.
    pub(crate) fn begin(&self, now: impl FnOnce() -> Timestamp) -> Lap<'_> {
        let seen = SEEN.get().wrapping_add(STEP);
        SEEN.set(seen);
        let left = self.left.load(Relaxed);
        let is_timed = 0 < left && seen <= self.share.load(Relaxed);
        if is_timed {
            self.left.store(left - 1, Relaxed);
        }
        Lap { phases: self, since: is_timed.then(now) }
    }

    pub(crate) fn record(&self, phase: Phase, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.nanos.lock().expect("recording cannot panic")[phase as usize].saturating_record(nanos);
    }

    /// Times so many of a second's signals that about [`TIMED_PER_S`] are, and never more than [`TIMED_MAX`].
    pub(crate) fn follow(&self, arrived: u64) {
        let one_in = u32::try_from(arrived / TIMED_PER_S).unwrap_or(u32::MAX).max(1);
        self.share.store(u32::MAX / one_in, Relaxed);
        self.left.store(TIMED_MAX, Relaxed);
    }

    /// Shows the times in nanoseconds since the last call, by phase, and lets them begin anew.
    pub(crate) fn take(&self, mut show: impl FnMut(Phase, &Histogram<u64>)) {
        let mut nanos = self.nanos.lock().expect("recording cannot panic");
        for (phase, histogram) in Phase::ALL.into_iter().zip(&mut *nanos) {
            if !histogram.is_empty() {
                show(phase, histogram);
                histogram.reset();
            }
        }
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phases").field("share", &self.share.load(Relaxed)).finish_non_exhaustive()
    }
}

/// One signal on its way through the phases of its caller.
#[derive(Debug)]
pub(crate) struct Lap<'a> {
    phases: &'a Phases,
    since: Option<Timestamp>,
}

impl Lap<'_> {
    /// A phase is over, and the next begins.
    pub(crate) fn over(&mut self, phase: Phase, now: impl FnOnce() -> Timestamp) {
        if let Some(since) = self.since {
            let now = now();
            self.phases.record(phase, now.since(since));
            self.since = Some(now);
        }
    }

    /// When the present phase began, of a signal that is timed.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_busy_line_one_in_so_many_is_timed_and_of_a_calm_one_every_signal() {
        for (arrived, expected) in [(0, 400), (199, 400), (300, 334), (5_000, 19)] {
            let phases = Phases::new();
            SEEN.set(0);
            phases.follow(arrived);
            let timed = (0..1_000)
                .filter(|_| {
                    let mut lap = phases.begin(|| Timestamp::from_secs(1));
                    lap.over(Phase::Receive, || Timestamp::from_secs(1) + Duration::from_micros(5));
                    lap.since().is_some()
                })
                .count();
            assert_eq!(timed, expected, "{arrived} a second, of 1 000 that came");
            let mut taken = Vec::new();
            phases.take(|phase, times| taken.push((phase, times.len(), times.max() / 100)));
            assert_eq!(taken, [(Phase::Receive, timed as u64, 50)]);
            phases.take(|phase, _| panic!("{phase:?} was not taken"));
        }
    }

    #[test]
    fn a_busy_line_is_timed_beside_calm_ones() {
        let (busy, calm) = (Phases::new(), Phases::new());
        SEEN.set(0);
        busy.follow(10_000);
        calm.follow(100);
        let is_timed = |phases: &Phases| phases.begin(|| Timestamp::from_secs(1)).since().is_some();
        let mut timed = 0;
        for _ in 0..390 {
            timed += (0..10).filter(|_| is_timed(&busy)).count();
            assert!(is_timed(&calm));
        }
        assert!((30..=50).contains(&timed), "{timed} of 3 900");
    }

    #[test]
    fn what_is_not_timed_does_not_ask_for_the_time() {
        let phases = Phases::new();
        phases.follow(u64::MAX);
        SEEN.set(0);
        let mut lap = phases.begin(|| panic!("no clock"));
        lap.over(Phase::Receive, || panic!("no clock"));
        assert_eq!(lap.since(), None);
    }
}
