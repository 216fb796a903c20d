//! How high something was over the last minute, from readings every few seconds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// Over how long: what lasts as long as the window of the ladder is no moment. Source: FLOW.md, jidoka.
const SPAN: Duration = Duration::from_secs(60);

/// The fewest readings that say something about a minute: half of what the default period gives.
const READINGS_MIN: usize = 6;

/// The most readings it holds.
const READINGS_MAX: usize = 600;

/// The mean of the readings of the last minute, or of as long as the fewest readings take.
#[derive(Debug, Clone)]
pub struct Minute {
    readings: VecDeque<(Timestamp, f64)>,
    since: Option<Timestamp>,
    span: Duration,
}

impl Minute {
    /// A minute without readings, of which one comes each `period`.
    pub fn new(period: Duration) -> Self {
        let mut minute = Self { readings: VecDeque::new(), since: None, span: SPAN };
        minute.set_period(period);
        minute
    }

    /// Readings come each `period` from now on; those there are stay.
    pub fn set_period(&mut self, period: Duration) {
        self.span = SPAN.max(period.saturating_mul(READINGS_MIN as u32));
    }

    /// Takes note of a reading.
    pub fn add(&mut self, reading: f64, now: Timestamp) {
        self.since.get_or_insert(now);
        self.readings.push_back((now, reading));
        while READINGS_MAX < self.readings.len()
            || self.readings.front().is_some_and(|(at, _)| self.span < now.since(*at))
        {
            self.readings.pop_front();
        }
    }

    /// Their mean; `None` until readings have been taken for a minute, and while there are too few.
    pub fn mean(&self, now: Timestamp) -> Option<f64> {
        let recent = self.readings.iter().filter(|(at, _)| now.since(*at) <= self.span);
        let (readings, sum) = recent.fold((0, 0.0), |(count, sum), (_, reading)| (count + 1, sum + reading));
        let whole = self.since.is_some_and(|since| self.span <= now.since(since));
        (whole && READINGS_MIN <= readings).then(|| sum / readings as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_no_minute_and_what_is_older_does_not_count() {
        let mut minute = Minute::new(Duration::from_secs(5));
        for second in (0..60).step_by(5) {
            minute.add(1.0, Timestamp::from_secs(second));
            assert_eq!(minute.mean(Timestamp::from_secs(second)), None, "{second}");
        }
        minute.add(1.0, Timestamp::from_secs(60));
        assert_eq!(minute.mean(Timestamp::from_secs(60)), Some(1.0));
        for second in (65..=125).step_by(5) {
            minute.add(0.0, Timestamp::from_secs(second));
        }
        assert_eq!(minute.mean(Timestamp::from_secs(125)), Some(0.0));
        assert_eq!(minute.mean(Timestamp::from_secs(160)), Some(0.0), "six readings are left");
        assert_eq!(minute.mean(Timestamp::from_secs(161)), None, "five are too few");
    }

    #[test]
    fn readings_that_come_less_often_are_held_longer_and_those_there_are_stay() {
        let mut minute = Minute::new(Duration::from_secs(5));
        (0..=60).step_by(10).for_each(|second| minute.add(1.0, Timestamp::from_secs(second)));
        let at = Timestamp::from_secs;
        assert_eq!((minute.mean(at(60)), minute.mean(at(120))), (Some(1.0), None));
        minute.set_period(Duration::from_secs(20));
        assert_eq!(
            (minute.mean(at(60)), minute.mean(at(120))),
            (None, Some(1.0)),
            "two minutes make one now"
        );
    }
}
