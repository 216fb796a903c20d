//! The counts of a line, apart for each pool that does its work: what a line did is the sum, and costs no more.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::objective::Answers;
use gemba_core::routing::key_hash;
use hdrhistogram::Histogram;

use crate::meter::{Counts, Ended, Meter, histogram};

/// Counts what came to a line, and how and where it ended.
///
/// A signal is counted once: with the pool that worked on it, or apart if none did. The line's counts are the sum.
#[derive(Debug)]
pub(crate) struct Meters {
    apart: Meter,
    /// By the hash of the pool's name, as the routes know it. A line has few of them.
    pools: Box<[(u64, Meter)]>,
}

impl Meters {
    pub(crate) fn new<'a>(pools: impl IntoIterator<Item = &'a str>) -> Self {
        let meter = |pool: &str| (key_hash(pool.as_bytes()), Meter::new());
        Self { apart: Meter::new(), pools: pools.into_iter().map(meter).collect() }
    }

    fn pool(&self, pool: u64) -> Option<&Meter> {
        self.pools.iter().find(|(hash, _)| *hash == pool).map(|(_, meter)| meter)
    }

    pub(crate) fn arrived(&self) {
        self.apart.arrived();
    }

    /// Counts an end, with the pool the signal was sent to last if that worked on it to its end; and then against
    /// the objective of its tier, if it has one.
    pub(crate) fn ended(
        &self,
        pool: Option<u64>,
        ended: Ended,
        latency: Duration,
        (tier, within): (Tier, Option<Duration>),
    ) {
        let worked_on = ended.was_worked_on();
        let pool = pool.filter(|_| worked_on).and_then(|pool| self.pool(pool));
        let meter = pool.unwrap_or(&self.apart);
        meter.ended(ended, latency);
        if let Some(within) = within.filter(|_| worked_on) {
            // In the same cache lines as the end.
            meter.answered(tier, within < latency);
        }
    }

    /// The answers of a tier that has an objective.
    pub(crate) fn answers(&self, tier: Tier) -> Answers {
        let mut answers = self.apart.answers(tier);
        for (_, meter) in &self.pools {
            let of_pool = meter.answers(tier);
            answers.in_time += of_pool.in_time;
            answers.slow += of_pool.slow;
        }
        answers
    }

    pub(crate) fn counts(&self) -> Counts {
        // Ends before arrivals, which are counted apart: see `Meter::counts`.
        let mut counts = Counts::default();
        for (_, meter) in &self.pools {
            counts.add(&meter.counts());
        }
        counts.add(&self.apart.counts());
        counts
    }

    /// What a pool has done for the line.
    pub(crate) fn of_pool(&self, pool: u64) -> Counts {
        self.pool(pool).map_or_else(Counts::default, Meter::counts)
    }

    /// The latencies in microseconds since the last call, which begin anew; and those of each pool apart.
    pub(crate) fn take_latencies(&self, mut each: impl FnMut(u64, &Histogram<u64>)) -> Histogram<u64> {
        let mut all = histogram();
        all.add(self.apart.take_latencies()).expect("both have the same bounds");
        for (pool, meter) in &self.pools {
            let latencies = meter.take_latencies();
            each(*pool, &latencies);
            all.add(&latencies).expect("both have the same bounds");
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_sum_of_its_pools_and_of_what_came_to_none() {
        let meters = Meters::new(["near", "far"]);
        let [near, far] = ["near", "far"].map(|pool| Some(key_hash(pool.as_bytes())));
        for (pool, ended, millis) in [
            (near, Ended::Succeeded, 2),
            (near, Ended::Failed, 4),
            (far, Ended::TimedOut, 800),
            // Turned away, or given up by its caller: the pool did not answer it.
            (far, Ended::Refused, 1),
            (far, Ended::Cancelled, 1),
            (None, Ended::Rejected, 1),
            (None, Ended::Failed, 1),
        ] {
            meters.arrived();
            meters.ended(
                pool,
                ended,
                Duration::from_millis(millis),
                (Tier::Normal, Some(Duration::from_millis(4))),
            );
        }
        let of = |pool: Option<u64>| {
            let counts = meters.of_pool(pool.unwrap());
            [Ended::Succeeded, Ended::Failed, Ended::TimedOut, Ended::Refused].map(|ended| counts.of(ended))
        };
        assert_eq!((of(near), of(far)), ([1, 1, 0, 0], [0, 0, 1, 0]));
        let all = meters.counts();
        assert_eq!((all.arrived, all.in_flight(), all.of(Ended::Failed)), (7, 0, 2));
        let mut apart = Vec::new();
        let latencies = meters.take_latencies(|pool, latencies| apart.push((Some(pool), latencies.len())));
        assert_eq!((latencies.len(), apart), (4, vec![(near, 2), (far, 1)]));
        assert_eq!(meters.of_pool(7), Counts::default(), "a pool of others");
        // What was refused, rejected or given up is no answer; the objective itself is in time.
        assert_eq!(meters.answers(Tier::Normal), Answers { in_time: 3, slow: 1 });
        assert_eq!(meters.answers(Tier::Critical), Answers::default());
    }
}
