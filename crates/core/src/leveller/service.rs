//! How long work takes: mean and deviation of service times, the recent ones weighing most.

use std::time::Duration;

use crate::wait::nanos;

/// Exponentially weighted mean and variance, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Service {
    seen: u32,
    mean: f64,
    variance: f64,
}

impl Service {
    /// Takes in one service time; after `memory` of them the weight of each is one part in `memory`, before
    /// that all weigh the same.
    pub(super) fn add(&mut self, took: Duration, memory: u32) {
        self.seen = self.seen.saturating_add(1).min(memory);
        let weight = 1.0 / f64::from(self.seen);
        let difference = nanos(took) - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }

    /// The mean, or `None` before the first.
    pub(super) fn mean(&self) -> Option<f64> {
        (0 < self.seen).then_some(self.mean)
    }

    pub(super) fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0)
    }

    #[test]
    fn a_new_level_is_learnt_within_some_memories() {
        let mut service = Service::default();
        (0..1000).for_each(|_| service.add(Duration::from_millis(40), 64));
        assert!(close(service.mean().unwrap(), 40e6) && close(service.deviation(), 0.0));
        (0..192).for_each(|_| service.add(Duration::from_millis(160), 64));
        let learnt = (service.mean().unwrap() - 40e6) / 120e6;
        assert!((0.95..1.0).contains(&learnt), "{learnt}");
    }

    proptest! {
        #[test]
        fn until_the_memory_is_full_it_is_the_plain_mean_and_deviation(times in vec(0u64..1_000_000_000, 1..64)) {
            let mut service = Service::default();
            for time in &times {
                service.add(Duration::from_nanos(*time), 64);
            }
            let count = times.len() as f64;
            let mean = times.iter().map(|time| *time as f64).sum::<f64>() / count;
            let variance = times.iter().map(|time| (*time as f64 - mean).powi(2)).sum::<f64>() / count;
            prop_assert!(close(service.mean().unwrap(), mean));
            prop_assert!(close(service.deviation(), variance.sqrt()) || variance < 1.0);
        }
    }
}
