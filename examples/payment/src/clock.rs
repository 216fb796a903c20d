//! The two clocks of the service: its own time for decisions, wall time for records.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gemba::time::Timestamp;

/// Reads both clocks; made once, when the process starts.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix_ms: i64,
}

impl Clock {
    /// A clock that starts now, well in, so that whatever is on record has a time of its own too.
    pub fn start() -> Self {
        Self { started: Instant::now(), started_unix_ms: unix_ms_now() }
    }

    /// Time that never goes back; every decision is made by it.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
            + HEAD_START
    }

    /// The moment in the service's own time at which a record of `unix_ms` was made.
    ///
    /// It is the same whenever it is asked for: both clocks were read once, at the start. Records from the future, left
    /// by a clock that was set back, count as made now.
    pub fn moment_of(&self, unix_ms: i64) -> Timestamp {
        let start = Timestamp::START + HEAD_START;
        let after_ms = unix_ms.saturating_sub(self.started_unix_ms);
        let distance = Duration::from_millis(after_ms.unsigned_abs());
        let moment = if after_ms < 0 { start - distance } else { start + distance };
        moment.min(self.now())
    }
}

/// How far the service's own time is ahead of zero at its start: 136 years, longer than any record is old. A
/// shorter one would put all that is older at the same moment.
const HEAD_START: Duration = Duration::from_secs(u32::MAX as u64);

/// Milliseconds since 1970, for records; decisions never read it.
pub fn unix_ms_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_age_in_service_time_that_it_has_on_the_wall() {
        let clock = Clock::start();
        let age = clock.now().since(clock.moment_of(unix_ms_now() - 60_000));
        assert!((Duration::from_secs(59)..Duration::from_secs(61)).contains(&age), "{age:?}");
    }

    #[test]
    fn a_record_was_made_at_one_moment() {
        let clock = Clock::start();
        let record = unix_ms_now() - 5;
        let moment = clock.moment_of(record);
        assert!((0..1_000).all(|_| clock.moment_of(record) == moment));
    }

    #[test]
    fn a_record_from_the_future_was_made_now() {
        let clock = Clock::start();
        assert!(clock.moment_of(unix_ms_now() + 3_600_000) <= clock.now());
    }
}
