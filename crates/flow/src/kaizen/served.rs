//! What each pool did for its lines: totals since the node started, and how long it took lately.

use std::collections::VecDeque;
use std::sync::Arc;

use gemba_core::metric;
use gemba_kernel::Instruments;
use hdrhistogram::Histogram;

use super::record::WINDOW;
use crate::floor::Floor;
use crate::meter::{Counts, Ended, histogram};
use crate::pool::{PoolCell, Served};

/// What pools did, tick by tick.
#[derive(Debug)]
pub(crate) struct Pools(Vec<Ticks>);

/// The latencies of one pool in the last [`WINDOW`] ticks, and in the one that is being measured.
#[derive(Debug)]
struct Ticks {
    pool: u64,
    past: VecDeque<Histogram<u64>>,
    present: Histogram<u64>,
}

impl Pools {
    pub(crate) fn new(pools: &[Arc<PoolCell>]) -> Self {
        let ticks =
            |pool: &Arc<PoolCell>| Ticks { pool: pool.hash, past: VecDeque::new(), present: histogram() };
        Self(pools.iter().map(ticks).collect())
    }

    /// Adds what a pool did for one line in this tick.
    pub(crate) fn note(&mut self, pool: u64, latencies: &Histogram<u64>) {
        if let Some(ticks) = self.0.iter_mut().find(|ticks| ticks.pool == pool) {
            ticks.present.add(latencies).expect("both have the same bounds");
        }
    }

    /// Ends the tick, and publishes what has become of each pool.
    pub(crate) fn publish(&mut self, floor: &Floor, to: &Instruments) {
        for (ticks, pool) in self.0.iter_mut().zip(&floor.pools) {
            let name = pool.name.as_str();
            let tick = std::mem::replace(&mut ticks.present, histogram());
            let into = to.histogram(&metric::POOL_LATENCY, &[name]);
            for bucket in tick.iter_recorded() {
                let seconds = bucket.value_iterated_to() as f64 / 1e6;
                into.record_many(seconds, bucket.count_at_value() as usize);
            }
            ticks.past.push_back(tick);
            if WINDOW < ticks.past.len() {
                ticks.past.pop_front();
            }
            let counts = floor.done_in(pool);
            for ended in [Ended::Succeeded, Ended::Failed, Ended::TimedOut] {
                to.counter(&metric::POOL_SIGNALS, &[name, ended.word()]).absolute(counts.of(ended));
            }
            pool.served.publish(ticks.served(&counts));
        }
    }
}

impl Ticks {
    fn served(&self, counts: &Counts) -> Served {
        let mut lately = histogram();
        for tick in self.past.iter().filter(|tick| !tick.is_empty()) {
            lately.add(tick).expect("both have the same bounds");
        }
        let milli = |quantile| lately.value_at_quantile(quantile) as f64 / 1e3;
        Served {
            succeeded: counts.of(Ended::Succeeded),
            failed: counts.of(Ended::Failed),
            timed_out: counts.of(Ended::TimedOut),
            p50_ms: milli(0.50),
            p99_ms: milli(0.99),
        }
    }
}
