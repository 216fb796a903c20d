//! How often something may happen: GCRA, which lets the whole of a rate through and no more, at any call rate.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Keys whose rate is remembered, unless told otherwise: some 6 MB.
pub const KEYS_MAX: usize = 100_000;

/// The longest period of a rate, and the time after which its bucket is surely full again is a multiple of it.
const PERIOD_MAX: Duration = Duration::from_secs(31 * 86_400);

/// How often idle keys are looked for: a look goes through all of them.
const SWEEP: Duration = Duration::from_secs(1);

/// Why numbers do not make a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateError {
    /// Nothing would ever pass.
    #[error("a rate of 0 lets nothing through; give at least 1")]
    Count,
    /// Everything would pass, or nobody could wait for it.
    #[error("a rate over {period:?} is out of range; give more than zero and at most {PERIOD_MAX:?}")]
    Period {
        /// The refused period.
        period: Duration,
    },
    /// Not even one would pass.
    #[error("a burst of 0 lets nothing through; give at least 1")]
    Burst,
    /// No key could be remembered.
    #[error("remembering 0 keys limits none of them; give at least 1")]
    Keys,
}

/// So many in a period, and so many at once.
///
/// # Units and limits
///
/// 1 to 4 billion in more than zero and at most 31 days. Calculated in whole numbers, so that nothing is
/// lost or won by rounding: in any time `t` at most `burst + count · t / period` pass.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_core::rate::Rate;
///
/// // Five a minute, all at once if they like.
/// let velocity = Rate::new(5, Duration::from_secs(60))?;
/// // 100 a second, evenly.
/// let level = Rate::new(100, Duration::from_secs(1))?.burst(2)?;
/// # assert_ne!(velocity, level);
/// # Ok::<(), gemba_core::rate::RateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Told")]
pub struct Rate {
    count: u32,
    period: Duration,
    burst: u32,
}

/// A rate as somebody wrote it down.
#[derive(Deserialize)]
struct Told {
    count: u32,
    period: Duration,
    burst: u32,
}

impl TryFrom<Told> for Rate {
    type Error = RateError;

    fn try_from(told: Told) -> Result<Self, RateError> {
        Self::new(told.count, told.period)?.burst(told.burst)
    }
}

impl Rate {
    /// `count` in each `period`, of which all may come at once after a rest.
    ///
    /// # Errors
    ///
    /// [`RateError`] says which number is out of range.
    pub const fn new(count: u32, period: Duration) -> Result<Self, RateError> {
        if count == 0 {
            return Err(RateError::Count);
        }
        if period.is_zero() || PERIOD_MAX.as_nanos() < period.as_nanos() {
            return Err(RateError::Period { period });
        }
        Ok(Self { count, period, burst: count })
    }

    /// How many may come at once after a rest. With 1, whoever calls a little too often is refused every
    /// second time: the calls are never further apart than the rate asks for, and nothing is saved up.
    ///
    /// # Errors
    ///
    /// [`RateError::Burst`] if it is 0.
    pub const fn burst(mut self, burst: u32) -> Result<Self, RateError> {
        if burst == 0 {
            return Err(RateError::Burst);
        }
        self.burst = burst;
        Ok(self)
    }

    /// Takes one from `bucket`, or says how long until there is one.
    ///
    /// # Errors
    ///
    /// The time until the next passes, if nobody else takes it.
    #[doc(alias = "heijunka")]
    pub fn take(&self, bucket: &mut Bucket, now: Timestamp) -> Result<(), Duration> {
        let now = self.ticks(now);
        let due = bucket.due.max(now) + self.cost();
        let room = now + self.cost() * u128::from(self.burst);
        if room < due {
            let wait = (due - room).div_ceil(u128::from(self.count));
            return Err(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)));
        }
        bucket.due = due;
        Ok(())
    }

    /// Puts one back that was taken and not used.
    pub const fn put_back(&self, bucket: &mut Bucket) {
        bucket.due = bucket.due.saturating_sub(self.cost());
    }

    /// Whether the bucket is full, and so like one that was never taken from.
    fn is_idle(&self, bucket: &Bucket, now: Timestamp) -> bool {
        bucket.due <= self.ticks(now)
    }

    /// Time in parts of a nanosecond of which one taken costs a whole number.
    fn ticks(&self, now: Timestamp) -> u128 {
        u128::from(now.as_nanos()) * u128::from(self.count)
    }

    const fn cost(&self) -> u128 {
        self.period.as_nanos()
    }
}

/// What has been taken of a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it will be full again, in ticks of its rate.
    due: u128,
}

/// A bucket for each key, up to a number of keys.
///
/// A key whose bucket is full again is forgotten, which changes nothing for it. Keys that find no room share
/// one bucket: who invents keys wins nothing by it, and costs no memory.
#[derive(Debug, Clone)]
pub struct Buckets {
    rate: Rate,
    keys_max: usize,
    known: HashMap<u64, Bucket>,
    crowd: Bucket,
    swept_at: Timestamp,
}

impl Buckets {
    /// Buckets for up to `keys_max` keys at once.
    ///
    /// # Errors
    ///
    /// [`RateError::Keys`] if it is 0.
    pub fn new(rate: Rate, keys_max: usize) -> Result<Self, RateError> {
        if keys_max == 0 {
            return Err(RateError::Keys);
        }
        let (known, crowd) = (HashMap::new(), Bucket::default());
        Ok(Self { rate, keys_max, known, crowd, swept_at: Timestamp::START })
    }

    /// Takes one from the bucket of `key`, the hash of whatever is limited.
    ///
    /// # Errors
    ///
    /// The time until the next passes, if nobody else takes it.
    pub fn take(&mut self, key: u64, now: Timestamp) -> Result<(), Duration> {
        if SWEEP <= now.since(self.swept_at) {
            self.swept_at = now;
            let rate = self.rate;
            self.known.retain(|_, bucket| !rate.is_idle(bucket, now));
        }
        let has_room = self.known.len() < self.keys_max;
        let bucket = match self.known.get_mut(&key) {
            Some(bucket) => bucket,
            None if has_room => self.known.entry(key).or_default(),
            None => &mut self.crowd,
        };
        self.rate.take(bucket, now)
    }

    /// Puts one back that was taken from the bucket of `key` and not used.
    pub fn put_back(&mut self, key: u64) {
        self.rate.put_back(self.known.get_mut(&key).unwrap_or(&mut self.crowd));
    }

    /// Keys that are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_secs(1000) + Duration::from_nanos(nanos)
    }

    #[test]
    fn a_rate_that_was_written_down_is_checked_as_any_other() {
        let sound = Rate::new(5, Duration::from_secs(1)).unwrap().burst(2).unwrap();
        let text = serde_json::to_string(&sound).unwrap();
        assert_eq!(serde_json::from_str::<Rate>(&text).unwrap(), sound);
        for (part, wrong) in
            [("\"count\":5", "\"count\":0"), ("\"burst\":2", "\"burst\":0"), ("\"secs\":1", "\"secs\":0")]
        {
            assert!(text.contains(part), "{text}");
            assert!(serde_json::from_str::<Rate>(&text.replace(part, wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refused_caller_is_told_when_to_come_again_to_the_nanosecond() {
        let rate = Rate::new(3, SECOND).unwrap();
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(rate.take(&mut bucket, at(0)), Ok(()));
        }
        let wait = Duration::from_nanos(333_333_334);
        assert_eq!(rate.take(&mut bucket, at(0)), Err(wait));
        assert_eq!(rate.take(&mut bucket, at(333_333_333)), Err(Duration::from_nanos(1)));
        assert_eq!(rate.take(&mut bucket, at(333_333_334)), Ok(()));
        assert!(rate.take(&mut bucket, at(333_333_334)).is_err());
        rate.put_back(&mut bucket);
        assert_eq!(rate.take(&mut bucket, at(333_333_334)), Ok(()));
    }

    #[test]
    fn keys_do_not_disturb_each_other_and_idle_ones_are_forgotten() {
        let mut keys = Buckets::new(Rate::new(1, SECOND).unwrap(), 10).unwrap();
        for key in 0..5 {
            assert_eq!(keys.take(key, at(0)), Ok(()));
            assert!(keys.take(key, at(0)).is_err());
        }
        assert_eq!(keys.len(), 5);
        assert_eq!(keys.take(99, at(1_000_000_000)), Ok(()));
        assert_eq!(keys.len(), 1, "the five are full again");
        keys.put_back(99);
        assert_eq!(keys.take(99, at(1_000_000_000)), Ok(()));
    }

    #[test]
    fn invented_keys_cost_no_memory_and_win_nothing() {
        let mut keys = Buckets::new(Rate::new(5, 60 * SECOND).unwrap(), 1000).unwrap();
        assert_eq!(keys.take(7, at(0)), Ok(()));
        let passed = (1000..101_000).filter(|key| keys.take(*key, at(1)).is_ok()).count();
        assert_eq!((keys.len(), passed), (1000, 999 + 5));
        assert_eq!((0..9).filter(|_| keys.take(7, at(1)).is_ok()).count(), 4, "a known key keeps its own");
        assert_eq!(keys.take(1, at(120_000_000_000)), Ok(()));
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn rates_that_let_nothing_through_are_refused() {
        assert_eq!(Rate::new(0, SECOND), Err(RateError::Count));
        assert_eq!(Rate::new(1, Duration::ZERO), Err(RateError::Period { period: Duration::ZERO }));
        assert!(Rate::new(1, PERIOD_MAX + SECOND).is_err());
        assert_eq!(Rate::new(1, SECOND).unwrap().burst(0), Err(RateError::Burst));
        assert_eq!(Buckets::new(Rate::new(1, SECOND).unwrap(), 0).err(), Some(RateError::Keys));
    }

    proptest! {
        #[test]
        fn in_no_span_of_time_does_more_than_the_burst_and_the_rate_pass(
            count in 1u32..1000,
            period_ns in 1u64..10_000_000_000,
            burst in 1u32..50,
            pauses in vec(0u64..100_000_000, 1..200),
        ) {
            let rate = Rate::new(count, Duration::from_nanos(period_ns)).unwrap().burst(burst).unwrap();
            let (mut bucket, mut now, mut times) = (Bucket::default(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                match rate.take(&mut bucket, at(now)) {
                    Ok(()) => times.push(now),
                    Err(wait) => {
                        let mut early = bucket;
                        prop_assert!(rate.take(&mut early, at(now) + wait).is_ok());
                    }
                }
            }
            for (first, begin) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let quota = u128::from(end - begin) * u128::from(count) / u128::from(period_ns);
                    prop_assert!((last - first) as u128 <= u128::from(burst) + quota);
                }
            }
        }
    }
}
