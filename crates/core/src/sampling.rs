//! Which traces are kept: decided when they begin, by a rule, and again when they end, by what became of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rate::{Bucket, Rate};
use crate::time::Timestamp;

/// How often the adaptive share follows the traffic.
const ADAPT_EVERY: Duration = Duration::from_secs(1);

/// The part of the newest second in the mean of the traffic: half of it is forgotten in 2.4 s, so that a burst
/// costs little more than its first seconds.
const NEWEST: f64 = 0.25;

/// Why a rule cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// A share is one.
    #[error("a share of {share} of the traces is out of range; give 0 to 1")]
    Share {
        /// The refused share.
        share: f64,
    },
    /// Nothing would be kept.
    #[error("0 traces per second keep none; give at least 1, or choose never")]
    PerSecond,
    /// Every trace would be slow.
    #[error("traces are slow from {slower_than:?} on; give at least 1 ms")]
    Slow {
        /// The refused limit.
        slower_than: Duration,
    },
}

/// Which traces are kept, decided when they begin.
///
/// Where the caller has decided already, his decision is followed: a trace with a hole in it is worth little.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// All.
    Always,
    /// None.
    Never,
    /// This share of them, chosen by their id: every node chooses the same ones.
    Ratio(f64),
    /// The first so many of each second, and no more.
    RateLimited {
        /// Traces per second.
        per_s: u32,
    },
    /// About so many a second, spread evenly over all that come: the share follows the traffic.
    Adaptive {
        /// Traces per second.
        per_s: u32,
    },
}

/// Which traces are kept, at their begin and at their end.
///
/// # Units and limits
///
/// By default all of them at their begin, and at their end those that failed or took longer than 1 s. Keeping by
/// the end needs every trace to be recorded. Of a signal with two spans that took 5.2 µs, 3.7 µs where only the
/// begin decides, 6.9 µs where it is exported, and 6 ns where nobody traces (measured on two shared cores by
/// `crates/observe/examples/span_cost.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    head: Head,
    keeps_failures: bool,
    slower_than: Option<Duration>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { head: Head::Always, keeps_failures: true, slower_than: Some(Duration::from_secs(1)) }
    }
}

impl Sampling {
    /// Keeps by this rule, and what failed or was slow.
    ///
    /// # Errors
    ///
    /// [`SamplingError`] says which number is out of range.
    pub fn new(head: Head) -> Result<Self, SamplingError> {
        match head {
            Head::Ratio(share) if !(0.0..=1.0).contains(&share) => Err(SamplingError::Share { share }),
            Head::RateLimited { per_s: 0 } | Head::Adaptive { per_s: 0 } => Err(SamplingError::PerSecond),
            Head::Always
            | Head::Never
            | Head::Ratio(_)
            | Head::RateLimited { .. }
            | Head::Adaptive { .. } => Ok(Self { head, ..Self::default() }),
        }
    }

    /// From when on a trace is slow, and kept.
    ///
    /// # Errors
    ///
    /// [`SamplingError::Slow`] below 1 ms.
    pub fn slower_than(mut self, slower_than: Duration) -> Result<Self, SamplingError> {
        if slower_than < Duration::from_millis(1) {
            return Err(SamplingError::Slow { slower_than });
        }
        self.slower_than = Some(slower_than);
        Ok(self)
    }

    /// Keeps nothing by its end, and so records nothing that was not chosen at its begin.
    pub fn head_only(mut self) -> Self {
        (self.keeps_failures, self.slower_than) = (false, None);
        self
    }

    /// Whether what was not chosen at its begin may be kept at its end.
    pub const fn looks_at_the_end(&self) -> bool {
        self.keeps_failures || self.slower_than.is_some()
    }

    /// Whether a trace is kept that ended like this.
    pub fn keeps(&self, failed: bool, took: Duration) -> bool {
        (failed && self.keeps_failures) || self.slower_than.is_some_and(|limit| limit <= took)
    }
}

/// A rule at work.
#[derive(Debug, Clone)]
pub struct Sampler {
    head: Head,
    bucket: Bucket,
    /// Traces since `since`, and their mean per second before.
    seen: u64,
    since: Timestamp,
    per_s: Option<f64>,
}

impl Sampler {
    /// A sampler that has seen nothing.
    pub fn new(sampling: &Sampling, now: Timestamp) -> Self {
        Self { head: sampling.head, bucket: Bucket::default(), seen: 0, since: now, per_s: None }
    }

    /// Whether the trace with this id is kept, whatever becomes of it.
    pub fn chooses(&mut self, trace_id: u128, now: Timestamp) -> bool {
        match self.head {
            Head::Always => true,
            Head::Never => false,
            Head::Ratio(share) => is_within(trace_id, share),
            Head::RateLimited { per_s } => Rate::new(per_s, Duration::from_secs(1))
                .is_ok_and(|rate| rate.take(&mut self.bucket, now).is_ok()),
            Head::Adaptive { per_s } => {
                self.adapt(now);
                self.seen += 1;
                match self.per_s {
                    // In the first second nobody knows: no more than the number.
                    None => self.seen <= u64::from(per_s),
                    Some(mean) => {
                        // What this second has already is known better than the mean of those before.
                        let traffic = mean.max(self.seen as f64);
                        is_within(trace_id, f64::from(per_s) / traffic.max(1.0))
                    }
                }
            }
        }
    }

    fn adapt(&mut self, now: Timestamp) {
        let passed = now.since(self.since);
        if passed < ADAPT_EVERY {
            return;
        }
        let newest = self.seen as f64 / passed.as_secs_f64();
        // A long pause counts as the seconds it is.
        let kept = (1.0 - NEWEST).powf(passed.as_secs_f64());
        self.per_s = Some(self.per_s.map_or(newest, |mean| mean * kept + newest * (1.0 - kept)));
        (self.seen, self.since) = (0, now);
    }
}

/// Whether an id is among this share of all ids.
fn is_within(trace_id: u128, share: f64) -> bool {
    // 53 bits are what a float tells apart; the low half of an id is the random one.
    let point = (trace_id as u64 >> 11) as f64 / (1u64 << 53) as f64;
    point < share
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids as the SDK draws them.
    fn id(number: u64) -> u128 {
        u128::from(xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()))
    }

    /// How many of so many a second, evenly spread, are chosen in each second.
    fn seconds(sampler: &mut Sampler, from: u64, per_s: &[u64]) -> Vec<u64> {
        let mut chosen = Vec::new();
        for (second, &count) in (from..).zip(per_s) {
            let at = |n: u64| Timestamp::from_nanos(second * 1_000_000_000 + n * (1_000_000_000 / count));
            chosen.push((0..count).filter(|n| sampler.chooses(id(second << 32 | n), at(*n))).count() as u64);
        }
        chosen
    }

    fn sampler(head: Head) -> Sampler {
        Sampler::new(&Sampling::new(head).unwrap(), Timestamp::START)
    }

    #[test]
    fn always_never_and_a_share_of_the_ids() {
        for (head, least, most) in [
            (Head::Always, 10_000, 10_000),
            (Head::Never, 0, 0),
            (Head::Ratio(0.1), 900, 1_100),
            (Head::Ratio(0.0), 0, 0),
            (Head::Ratio(1.0), 10_000, 10_000),
        ] {
            let chosen = seconds(&mut sampler(head), 0, &[10_000])[0];
            assert!((least..=most).contains(&chosen), "{head:?}: {chosen}");
        }
        // Every node chooses the same ones, and with a greater share those and more.
        let chosen = |share, number| sampler(Head::Ratio(share)).chooses(id(number), Timestamp::START);
        assert!((0..1_000).all(|number| !chosen(0.1, number) || chosen(0.3, number)));
    }

    #[test]
    fn a_limited_rate_is_not_passed_at_any_traffic() {
        let mut sampler = sampler(Head::RateLimited { per_s: 10 });
        // The bucket is full at first: once its whole, then what the second brings.
        let chosen = seconds(&mut sampler, 0, &[5, 10, 1_000, 20_000, 10]);
        assert_eq!(chosen[0], 5);
        assert!(chosen[2..4].iter().all(|chosen| (10..=20).contains(chosen)), "{chosen:?}");
        assert!(chosen.iter().sum::<u64>() <= 10 + 5 * 10);
    }

    #[test]
    fn an_adaptive_share_follows_the_traffic() {
        let mut sampler = sampler(Head::Adaptive { per_s: 100 });
        let calm = seconds(&mut sampler, 0, &[50; 5]);
        assert_eq!(calm, [50; 5], "less than the number is kept whole");
        let busy = seconds(&mut sampler, 5, &[10_000; 20]);
        // In the second of the rise the share falls as the second fills: 100 · ln(10 000 / 100) more.
        assert!(busy[0] < 700, "{busy:?}");
        assert!(busy[10..].iter().all(|chosen| (60..=140).contains(chosen)), "{busy:?}");
        // And back: after the rush the share grows again within some seconds.
        let after = seconds(&mut sampler, 25, &[200; 30]);
        assert!((60..=140).contains(&after[29]), "{after:?}");
    }

    #[test]
    fn what_failed_or_was_slow_is_kept_at_its_end() {
        let (second, rest) = (Duration::from_secs(1), Duration::from_millis(999));
        let sampling = Sampling::new(Head::Never).unwrap();
        for (failed, took, kept) in [(true, rest, true), (false, second, true), (false, rest, false)] {
            assert_eq!(sampling.keeps(failed, took), kept, "{failed} {took:?}");
            assert!(!sampling.head_only().keeps(failed, took));
        }
        assert!(sampling.looks_at_the_end() && !sampling.head_only().looks_at_the_end());
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        for head in [
            Head::Ratio(-0.1),
            Head::Ratio(1.1),
            Head::Ratio(f64::NAN),
            Head::RateLimited { per_s: 0 },
            Head::Adaptive { per_s: 0 },
        ] {
            assert!(Sampling::new(head).is_err(), "{head:?}");
        }
        assert!(Sampling::default().slower_than(Duration::from_micros(999)).is_err());
    }
}
