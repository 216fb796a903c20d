//! How full each pool was, looked at ten times a second, and where most of the time went.

use gemba_core::bottleneck::{Finding, Observed, find};

use crate::floor::Floor;

/// What was seen of each pool in the present window.
#[derive(Debug, Default)]
pub(crate) struct Stations {
    looks: u32,
    pools: Vec<Seen>,
}

/// Sums over the looks at one pool.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    busy: f64,
    queued: f64,
    workers: f64,
}

/// What went through one line in the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Through {
    pub outcomes: u64,
    pub latency_s: f64,
}

impl Stations {
    /// Looks at each pool once.
    pub(crate) fn look(&mut self, floor: &Floor) {
        self.pools.resize(floor.pools.len(), Seen::default());
        self.looks += 1;
        for (seen, pool) in self.pools.iter_mut().zip(&floor.pools) {
            let load = pool.load.read();
            seen.busy += f64::from(load.busy);
            seen.queued += f64::from(load.queued);
            seen.workers += f64::from(load.workers);
        }
    }

    /// Where most of the time went, and a new window.
    ///
    /// Times follow from what was seen, by the operational laws: what waits on average, over what goes through
    /// in a second, is how long one waits. Nothing is measured at each signal for it, so downstream calls are
    /// part of the service.
    pub(crate) fn conclude(&mut self, floor: &Floor, through: &[Through], window_s: f64) -> Vec<Finding> {
        let Self { looks, pools } = std::mem::take(self);
        if looks == 0 || window_s <= 0.0 {
            return Vec::new();
        }
        let mean = |sum: f64| sum / f64::from(looks);
        let stations: Vec<_> = floor
            .pools
            .iter()
            .zip(&pools)
            .enumerate()
            .map(|(index, (pool, seen))| {
                let (mut outcomes, mut latency_s) = (0.0, 0.0);
                for (serves, through) in floor.serves.iter().zip(through) {
                    // A line with several pools is shared out as their workers were busy for it.
                    let all: f64 = serves.iter().map(|pool| pools[*pool].busy).sum();
                    let share = match serves.contains(&index) {
                        true if serves.len() == 1 => 1.0,
                        true if 0.0 < all => seen.busy / all,
                        _ => 0.0,
                    };
                    outcomes += share * through.outcomes as f64;
                    latency_s += share * through.latency_s;
                }
                let one = |sum: f64| if 0.0 < outcomes { mean(sum) * window_s / outcomes } else { 0.0 };
                Observed {
                    station: pool.name.clone(),
                    completions: outcomes as u64,
                    window_s,
                    utilization: if 0.0 < seen.workers { seen.busy / seen.workers } else { 0.0 },
                    in_system: mean(seen.busy + seen.queued),
                    queue_s: one(seen.queued),
                    service_s: one(seen.busy),
                    downstream_s: None,
                    total_s: if 0.0 < outcomes { latency_s / outcomes } else { 0.0 },
                }
            })
            .collect();
        find(&stations)
    }
}
