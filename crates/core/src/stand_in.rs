//! How many workers stand in for those that hang, and for how long.

use std::time::Duration;

use crate::time::Timestamp;

/// Work that takes this many times the mean is an outlier. Of work whose times spread as those of random arrivals do
/// (exponentially), one in 3000 does; thrice the mean takes one in 20.
pub const OUTLIER_TIMES: u32 = 8;

/// Work is no outlier before this, however short the mean: two sweeps of the pool's dispatcher.
pub const OUTLIER_MIN: Duration = Duration::from_millis(100);

/// Over how long the time is counted that outliers have cost.
pub const LOST_WITHIN: Duration = Duration::from_secs(4);

/// Below these hundredths of the workers' time, outliers cost what work of uneven length costs anyway: 0.3 % if its
/// times spread exponentially, 1.9 % if they do so lognormally with a deviation as large as the mean.
pub const LOST_PERCENT: f64 = 5.0;

/// The most stand-ins, in hundredths of the pool's workers, rounded up. Source: Envoy's `max_ejection_percent`.
pub const STAND_INS_PERCENT: u32 = 10;

/// When these hundredths of the workers that have work are at an outlier, it is none: what they all need is
/// slow, and more of them would press it more. Source: Envoy's panic threshold.
pub const PANIC_PERCENT: u32 = 50;

/// How long stand-ins stay when nothing hangs any more, times how often they had to come lately.
/// Source: Envoy's `base_ejection_time`.
pub const STAY: Duration = Duration::from_secs(30);

/// How long they stay at most, and after how long without any it is forgotten how often they came.
/// Source: Envoy's `max_ejection_time`.
pub const STAY_MAX: Duration = Duration::from_secs(300);

/// The most stand-ins that a pool of `workers` may have.
pub const fn most(workers: u32) -> u32 {
    (workers as u64 * STAND_INS_PERCENT as u64).div_ceil(100) as u32
}

/// After how long work is an outlier, given how long it takes as a rule.
pub fn outlier_after(mean: Duration) -> Duration {
    mean.saturating_mul(OUTLIER_TIMES).max(OUTLIER_MIN)
}

/// How many of `workers` are lost when so many workers' time has gone into outliers: none below half of one, and none
/// below [`LOST_PERCENT`] of all.
pub fn missing(lost: f64, workers: u32) -> u32 {
    let least = f64::max(0.5, f64::from(workers) * LOST_PERCENT / 100.0);
    if lost < least { 0 } else { lost.round() as u32 }
}

/// Whether so many of the `busy` workers are at work that takes long that it is not they who hang.
pub const fn is_panic(outliers: u32, busy: u32) -> bool {
    0 < outliers && busy as u64 * (PANIC_PERCENT as u64) <= outliers as u64 * 100
}

/// Workers that stand in for others.
///
/// A worker that hangs is not ended: nobody knows what its work has begun. It gets no other work, because it has
/// some, and a stand-in does what would have been its share. What hangs now will hang again as a rule, so that the
/// stand-in stays for a while, longer each time.
///
/// # Examples
///
/// ```
/// use gemba_core::stand_in::{STAY, StandIns};
/// use gemba_core::time::Timestamp;
///
/// let mut stand_ins = StandIns::default();
/// let now = Timestamp::from_secs(1);
/// assert_eq!(stand_ins.observe(1, 10, now), 1);
/// assert_eq!(stand_ins.observe(0, 10, now + STAY / 2), 1, "it stays for a while");
/// assert_eq!(stand_ins.observe(0, 10, now + STAY), 0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandIns {
    present: u32,
    until: Timestamp,
    /// How often some had to come lately.
    times: u32,
}

impl StandIns {
    /// How many there are.
    pub const fn present(&self) -> u32 {
        self.present
    }

    /// How many there should be from now on, where `lost` of `workers` workers are at work that is an outlier.
    pub fn observe(&mut self, lost: u32, workers: u32, now: Timestamp) -> u32 {
        if self.present == 0 && self.until + STAY_MAX <= now {
            self.times = 0;
        }
        let wanted = lost.min(most(workers));
        if self.present < wanted {
            self.present = wanted;
            self.times = self.times.saturating_add(1);
        }
        if 0 < wanted {
            self.until = now + STAY.saturating_mul(self.times).min(STAY_MAX);
        } else if self.until <= now {
            self.present = 0;
        }
        self.present = self.present.min(most(workers));
        self.present
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn one_in_ten_may_be_stood_in_for_and_one_of_fewer() {
        for (workers, expected) in
            [(0, 0), (1, 1), (9, 1), (10, 1), (11, 2), (50, 5), (u32::MAX, 429_496_730)]
        {
            assert_eq!(most(workers), expected, "{workers}");
        }
    }

    #[test]
    fn what_uneven_work_costs_anyway_is_no_loss() {
        for (lost, workers, expected) in [
            (0.49, 1, 0),
            (0.5, 10, 1),
            (1.49, 10, 1),
            (1.5, 10, 2),
            // A hundred workers whose times spread exponentially lose a third of one to outliers, and more by chance.
            (4.99, 100, 0),
            (5.0, 100, 5),
            (1.0, 23, 0),
            (1.15, 23, 1),
        ] {
            assert_eq!(missing(lost, workers), expected, "{lost} of {workers}");
        }
    }

    #[test]
    fn each_time_they_stay_longer_and_a_calm_time_forgets_it() {
        let (mut stand_ins, mut now) = (StandIns::default(), NOW);
        for stays in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
            assert_eq!(stand_ins.observe(1, 10, now), 1);
            now = now + Duration::from_secs(stays);
            assert_eq!(stand_ins.observe(0, 10, now - Duration::from_nanos(1)), 1, "{stays} s are not over");
            assert_eq!(stand_ins.observe(0, 10, now), 0, "{stays} s are over");
        }
        now = now + STAY_MAX;
        assert_eq!((stand_ins.observe(1, 10, now), stand_ins.observe(0, 10, now + STAY)), (1, 0));
    }

    #[test]
    fn while_something_hangs_they_stay_and_do_not_come_anew() {
        let mut stand_ins = StandIns::default();
        for second in 0..1_000 {
            assert_eq!(stand_ins.observe(2, 20, NOW + Duration::from_secs(second)), 2);
        }
        let last = NOW + Duration::from_secs(999);
        assert_eq!(stand_ins.observe(1, 20, last), 2, "one more may hang again");
        assert_eq!((stand_ins.observe(0, 20, last), stand_ins.observe(0, 20, last + STAY)), (2, 0));
    }

    #[test]
    fn what_most_workers_are_at_is_no_outlier() {
        for (outliers, busy, expected) in
            [(0, 0, false), (1, 1, true), (1, 2, true), (1, 3, false), (5, 10, true), (5, 11, false)]
        {
            assert_eq!(is_panic(outliers, busy), expected, "{outliers} of {busy}");
        }
    }

    #[test]
    fn short_work_is_an_outlier_after_two_sweeps_at_the_earliest() {
        assert_eq!(outlier_after(Duration::from_micros(10)), OUTLIER_MIN);
        assert_eq!(outlier_after(Duration::from_millis(40)), Duration::from_millis(320));
        assert_eq!(outlier_after(Duration::MAX), Duration::MAX);
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_their_share(steps in vec((0u32..60, 0u32..100, 0u64..400), 1..60)) {
            let (mut stand_ins, mut now) = (StandIns::default(), NOW);
            for (lost, workers, later) in steps {
                now = now + Duration::from_secs(later);
                let present = stand_ins.observe(lost, workers, now);
                prop_assert!(present <= most(workers) && present == stand_ins.present());
            }
        }
    }
}
