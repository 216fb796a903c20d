//! Latencies as a histogram gives them: values in microseconds, each with how often it occurred.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rank_test::{Counted, tends_above};

/// A sample of latencies in microseconds.
///
/// # Units and limits
///
/// As many different values as the histogram it comes from tells apart; one with two digits from 1 µs to
/// 600 s has at most 3 500, 55 kB as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sample(BTreeMap<u64, u64>);

impl Sample {
    /// Adds `count` values of this many microseconds.
    pub fn add(&mut self, micros: u64, count: u64) {
        if 0 < count {
            *self.0.entry(micros).or_insert(0) += count;
        }
    }

    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The value that this share of the values does not exceed, in microseconds; 0 without values.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |(_, count): &(&u64, &u64)| {
            seen += **count;
            rank <= seen
        };
        self.0.iter().find(reaches).map_or(0, |(micros, _)| *micros)
    }

    /// The mean in microseconds; `None` without values.
    pub fn mean_us(&self) -> Option<f64> {
        let count = self.count();
        let sum: f64 = self.0.iter().map(|(micros, count)| *micros as f64 * *count as f64).sum();
        (0 < count).then(|| sum / count as f64)
    }

    /// How likely these values tend this much above `then` by chance (Mann–Whitney, one-sided).
    pub fn tends_above(&self, then: &Self) -> f64 {
        let counted = |sample: &Self| -> Vec<Counted> { sample.0.iter().map(|(v, n)| (*v, *n)).collect() };
        tends_above(&counted(self), &counted(then))
    }
}

impl FromIterator<Counted> for Sample {
    fn from_iter<T: IntoIterator<Item = Counted>>(values: T) -> Self {
        let mut sample = Self::default();
        for (micros, count) in values {
            sample.add(micros, count);
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_occurred() {
        let sample: Sample = (1..=100).map(|value| (value * 10, 1)).collect();
        for (share, value) in [(0.0, 10), (0.5, 500), (0.501, 510), (0.95, 950), (0.99, 990), (1.0, 1000)] {
            assert_eq!(sample.quantile_us(share), value, "{share}");
        }
        assert_eq!((Sample::default().quantile_us(0.5), Sample::default().mean_us()), (0, None));
        assert_eq!(sample.mean_us(), Some(505.0));
        assert_eq!(serde_json::from_str::<Sample>(&serde_json::to_string(&sample).unwrap()).unwrap(), sample);
    }
}
