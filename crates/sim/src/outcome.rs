//! What a run came to: counts, latencies, and what happened when.

use std::fmt;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::controller::{Attempt, Decision};
use crate::engine::Run;
use crate::workload::Model;

/// How long one bin of the history is.
pub const BIN: Duration = Duration::from_millis(100);

/// What must be answered in time for a time to count as recovered, and how long that time is.
const RECOVERED: f64 = 0.95;
const RECOVERY_WINDOW: Duration = Duration::from_secs(3);

/// What happened in one bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Signals that arrived.
    pub offered: u32,
    /// Of those, the ones answered in time, whenever that was.
    pub good: u32,
    /// Answers in time that came now.
    pub answered: u32,
    /// Answers that came now, too late.
    pub late: u32,
    /// The longest queue.
    pub waiting: u32,
    /// Workers the pool had, at most.
    pub workers: u32,
    /// The longest time that one which started now had waited, in microseconds; an hour and 11 minutes at most.
    pub waited_us: u32,
}

/// What became of the signals of a tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TierCounts {
    /// Signals that arrived while it was measured.
    pub offered: u64,
    /// Those answered in time.
    pub good: u64,
    /// Attempts that were refused or turned out.
    pub shed: u64,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The controller.
    pub controller: &'static str,
    /// The pool.
    pub model: Model,
    /// How long it was measured.
    pub measured: Duration,
    /// By tier.
    pub tiers: [TierCounts; Tier::ALL.len()],
    /// Attempts that came while it was measured, first ones included.
    pub attempts: u64,
    /// Answers in time that came while it was measured.
    pub answered: u64,
    /// Answers that came too late: work for nothing.
    pub late: u64,
    /// Time from a signal's attempt to its answer, sorted, in microseconds; late ones included.
    pub latencies_us: Vec<u64>,
    /// The same of the critical tier alone.
    pub critical_us: Vec<u64>,
    /// From the start on, measured or not.
    pub history: Vec<Bin>,
    /// A digest of every decision in its order: two runs are the same if it is.
    pub decisions: u64,
    /// Whether it was broken off after 200 000 000 events: what would have come later is in no figure.
    pub broken_off: bool,
}

impl Outcome {
    /// Answers in time per second, as a share of the capacity.
    pub fn goodput(&self) -> f64 {
        self.answered as f64 / self.measured.as_secs_f64() / self.model.capacity_per_s()
    }

    /// The share of a tier's signals that were answered in time; 1 if none came.
    pub fn served(&self, tier: Tier) -> f64 {
        let TierCounts { offered, good, .. } = self.tiers[tier as usize];
        if offered == 0 { 1.0 } else { good as f64 / offered as f64 }
    }

    /// The share of all signals that were refused or turned out.
    pub fn shed(&self) -> f64 {
        let sum = |count: fn(&TierCounts) -> u64| self.tiers.iter().map(count).sum::<u64>();
        sum(|tier| tier.shed) as f64 / sum(|tier| tier.offered).max(1) as f64
    }

    /// The quantile of the latencies, in milliseconds; 0 if nothing was answered.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latencies_us, quantile)
    }

    /// Sums a count of the history from `from` to `to`.
    pub fn between(&self, from: Duration, to: Duration, count: impl Fn(&Bin) -> u32) -> u64 {
        let place = |at: Duration| ((at.as_nanos() / BIN.as_nanos()) as usize).min(self.history.len());
        self.history[place(from)..place(to)].iter().map(|bin| u64::from(count(bin))).sum()
    }

    /// How long after `from` it is until at least 95 % of what arrives is answered in time, in that window of
    /// 3 s and in all later ones; `None` if never. A window in which nothing arrives is well.
    pub fn recovery(&self, from: Duration) -> Option<Duration> {
        let window = (RECOVERY_WINDOW.as_nanos() / BIN.as_nanos()) as usize;
        let first = (from.as_nanos() / BIN.as_nanos()) as usize;
        let is_well = |bins: &[Bin]| {
            let sum = |count: fn(&Bin) -> u32| bins.iter().map(count).map(f64::from).sum::<f64>();
            RECOVERED * sum(|bin| bin.offered) <= sum(|bin| bin.good)
        };
        // The last bin is empty: it begins when arrivals end.
        let bins = self.history.get(first..self.history.len() - 1)?;
        let windows = (bins.len() + 1).checked_sub(window)?;
        let ill = bins.windows(window).rposition(|bins| !is_well(bins)).map_or(0, |last| last + 1);
        (ill < windows).then(|| BIN * ill as u32)
    }

    /// Answers that came too late, as a share of all.
    pub fn wasted(&self) -> f64 {
        self.late as f64 / (self.late + self.answered).max(1) as f64
    }
}

/// The quantile of sorted microseconds, in milliseconds.
pub fn quantile_ms(sorted_us: &[u64], quantile: f64) -> f64 {
    let rank = (quantile * sorted_us.len() as f64).ceil() as usize;
    sorted_us.get(rank.saturating_sub(1)).map_or(0.0, |us| *us as f64 / 1e3)
}

/// Notes what happens while a run goes on.
pub(crate) struct Recorder {
    outcome: Outcome,
    from: Timestamp,
    end: Timestamp,
    /// By arrival: when it came, and whether it has its answer.
    arrivals: Vec<(Timestamp, bool)>,
    /// By arrival: the attempt that is under way, if any.
    under_way: Vec<Option<u8>>,
    digest: Xxh3,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl Recorder {
    pub(crate) fn new(run: &Run<'_>, controller: &'static str) -> Self {
        let arrivals: Vec<_> = run.workload.arrivals.iter().map(|arrival| (arrival.at, false)).collect();
        let bins = run.workload.end.as_nanos() / BIN.as_nanos() as u64 + 1;
        let outcome = Outcome {
            controller,
            model: run.model,
            measured: run.workload.end.since(run.measured_from),
            tiers: [TierCounts::default(); Tier::ALL.len()],
            attempts: 0,
            answered: 0,
            late: 0,
            latencies_us: Vec::new(),
            critical_us: Vec::new(),
            history: vec![Bin::default(); bins as usize],
            decisions: 0,
            broken_off: false,
        };
        let under_way = vec![None; arrivals.len()];
        let (from, end) = (run.measured_from, run.workload.end);
        Self { outcome, from, end, arrivals, under_way, digest: Xxh3::new() }
    }

    pub(crate) fn offered(&mut self, tier: Tier, at: Timestamp) {
        if let Some(bin) = self.bin(at) {
            bin.offered += 1;
        }
        if self.from <= at {
            self.outcome.tiers[tier as usize].offered += 1;
        }
    }

    pub(crate) fn attempted(&mut self, attempt: &Attempt) {
        self.under_way[attempt.arrival as usize] = Some(attempt.number);
        if self.from <= attempt.came && attempt.came < self.end {
            self.outcome.attempts += 1;
        }
    }

    pub(crate) fn decided(&mut self, attempt: &Attempt, decision: Decision, now: Timestamp) {
        let code = match decision {
            Decision::Start => 1,
            Decision::Wait => 2,
            Decision::Refuse(retry_after) => 16 + retry_after.as_nanos() as u64,
        };
        self.log(attempt, code, now);
    }

    pub(crate) fn started(&mut self, attempt: &Attempt, now: Timestamp) {
        self.log(attempt, 3, now);
        let waited = u32::try_from(now.since(attempt.came).as_micros()).unwrap_or(u32::MAX);
        if let Some(bin) = self.bin(now) {
            bin.waited_us = bin.waited_us.max(waited);
        }
    }

    /// Refused at once.
    pub(crate) fn turned_away(&mut self, attempt: &Attempt) {
        self.ends(attempt);
        if self.from <= attempt.came {
            self.outcome.tiers[attempt.tier as usize].shed += 1;
        }
    }

    /// Turned out after it had waited.
    pub(crate) fn turned_out(&mut self, attempt: &Attempt, now: Timestamp) {
        self.turned_away(attempt);
        self.log(attempt, 4, now);
    }

    /// An answer came; whether it is the signal's first, and in time.
    pub(crate) fn answered(&mut self, attempt: &Attempt, _started: Timestamp, now: Timestamp) -> bool {
        self.log(attempt, 5, now);
        let in_time = now <= attempt.deadline;
        let counts = self.from <= now && now < self.end;
        let (came, known) = self.arrivals[attempt.arrival as usize];
        let is_good = in_time && !known;
        if let Some(bin) = self.bin(now) {
            *(if is_good { &mut bin.answered } else { &mut bin.late }) += 1;
        }
        if is_good {
            self.arrivals[attempt.arrival as usize].1 = true;
            if let Some(bin) = self.bin(came) {
                bin.good += 1;
            }
            if self.from <= came {
                self.outcome.tiers[attempt.tier as usize].good += 1;
            }
        }
        if counts {
            *(if is_good { &mut self.outcome.answered } else { &mut self.outcome.late }) += 1;
            let took = now.since(attempt.came).as_micros() as u64;
            self.outcome.latencies_us.push(took);
            if attempt.tier == Tier::Critical {
                self.outcome.critical_us.push(took);
            }
        }
        self.ends(attempt);
        is_good
    }

    /// Whether the attempt was still under way: its caller does not wait for it any more.
    pub(crate) fn gives_up(&mut self, attempt: &Attempt) -> bool {
        let was = self.under_way[attempt.arrival as usize] == Some(attempt.number);
        self.ends(attempt);
        was
    }

    pub(crate) fn is_answered(&self, attempt: &Attempt) -> bool {
        self.arrivals[attempt.arrival as usize].1
    }

    pub(crate) fn waiting(&mut self, waiting: usize, workers: u32, now: Timestamp) {
        if let Some(bin) = self.bin(now) {
            bin.workers = bin.workers.max(workers);
            bin.waiting = bin.waiting.max(waiting as u32);
        }
    }

    pub(crate) fn finish(mut self, broken_off: bool) -> Outcome {
        self.outcome.broken_off = broken_off;
        self.outcome.latencies_us.sort_unstable();
        self.outcome.critical_us.sort_unstable();
        self.outcome.decisions = self.digest.digest();
        self.outcome
    }

    fn ends(&mut self, attempt: &Attempt) {
        let under_way = &mut self.under_way[attempt.arrival as usize];
        if *under_way == Some(attempt.number) {
            *under_way = None;
        }
    }

    fn log(&mut self, attempt: &Attempt, code: u64, now: Timestamp) {
        let mut entry = [0; 24];
        entry[..8].copy_from_slice(&now.as_nanos().to_le_bytes());
        let who = u64::from(attempt.arrival) << 8 | u64::from(attempt.number);
        entry[8..16].copy_from_slice(&who.to_le_bytes());
        entry[16..].copy_from_slice(&code.to_le_bytes());
        self.digest.update(&entry);
    }

    fn bin(&mut self, at: Timestamp) -> Option<&mut Bin> {
        self.outcome.history.get_mut((at.as_nanos() / BIN.as_nanos() as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of bins for each pair of arrivals and those answered in time.
    fn outcome(seconds: &[(u32, u32)]) -> Outcome {
        let mut history: Vec<_> = seconds
            .iter()
            .flat_map(|(offered, good)| [Bin { offered: *offered, good: *good, ..Bin::default() }; 10])
            .collect();
        history.push(Bin::default());
        Outcome {
            controller: "none",
            model: Model::default(),
            measured: Duration::from_secs(1),
            tiers: [TierCounts::default(); Tier::ALL.len()],
            attempts: 0,
            answered: 0,
            late: 0,
            latencies_us: Vec::new(),
            critical_us: Vec::new(),
            history,
            decisions: 0,
            broken_off: false,
        }
    }

    #[test]
    fn recovery_is_when_all_is_well_for_good() {
        let secs = Duration::from_secs;
        let (well, ill) = ((10, 10), (10, 0));
        for (seconds, from, recovery) in [
            (vec![well; 8], 2, Some(Duration::ZERO)),
            (vec![well, well, ill, well, well, well, well], 2, Some(Duration::from_millis(900))),
            (vec![well, well, ill, well, well, ill, well, well, well], 2, Some(Duration::from_millis(3900))),
            (vec![well, well, ill, ill, ill, ill], 2, None),
            (vec![well, well, well, well, ill], 0, None),
            (vec![well; 2], 0, None),
            (vec![(0, 0); 8], 2, Some(Duration::ZERO)),
        ] {
            assert_eq!(outcome(&seconds).recovery(secs(from)), recovery, "{seconds:?}");
        }
    }

    #[test]
    fn a_sum_of_the_history_ends_before_its_end() {
        let outcome = outcome(&[(1, 1), (2, 2), (3, 3)]);
        let offered =
            |from, to| outcome.between(Duration::from_secs(from), Duration::from_secs(to), |bin| bin.offered);
        assert_eq!((offered(0, 3), offered(1, 2), offered(2, 90), offered(5, 9)), (60, 20, 30, 0));
    }

    #[test]
    fn a_quantile_is_the_least_that_so_many_do_not_exceed() {
        let latencies: Vec<u64> = (1..=100).map(|ms| ms * 1000).collect();
        assert!((quantile_ms(&latencies, 0.99) - 99.0).abs() < 1e-9);
        assert!((quantile_ms(&latencies, 1.0) - 100.0).abs() < 1e-9);
        assert!((quantile_ms(&latencies, 0.001) - 1.0).abs() < 1e-9);
        assert!(quantile_ms(&[], 0.5) < 1e-9);
    }
}
