//! What a pool's workers did since it was last looked at, counted exactly.

use gemba_core::scaling::Sample;
use gemba_core::time::Timestamp;

/// Jobs that came and went, and worker time, since the last [`sample`](Usage::sample).
#[derive(Debug, Default)]
pub(crate) struct Usage {
    sample: Sample,
    arrived_total: u64,
    sampled_at: Timestamp,
    noted_at: Timestamp,
    busy: u32,
    present: u32,
}

impl Usage {
    /// Counts from `now` on.
    pub(crate) fn since(now: Timestamp) -> Self {
        Self { sampled_at: now, noted_at: now, ..Self::default() }
    }

    /// A job came, whether there is room for it or not.
    pub(crate) const fn arrived(&mut self) {
        self.sample.arrived += 1;
        self.arrived_total += 1;
    }

    /// Jobs that came since this life of the dispatcher began.
    pub(crate) const fn arrived_total(&self) -> u64 {
        self.arrived_total
    }

    /// A worker is done with a job.
    pub(crate) const fn finished(&mut self) {
        self.sample.finished += 1;
    }

    /// Notes that from now on `busy` of `present` workers work.
    pub(crate) fn note(&mut self, busy: usize, present: usize, now: Timestamp) {
        let elapsed = now.since(self.noted_at);
        self.sample.busy += elapsed * self.busy;
        self.sample.offered += elapsed * self.present;
        (self.busy, self.present, self.noted_at) = (busy as u32, present as u32, now);
    }

    /// Ends a look at the pool, and begins the next.
    pub(crate) fn sample(&mut self, busy: usize, present: usize, now: Timestamp) -> Sample {
        self.note(busy, present, now);
        let elapsed = now.since(self.sampled_at);
        self.sampled_at = now;
        Sample { elapsed, ..std::mem::take(&mut self.sample) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn worker_time_is_counted_to_the_nanosecond_and_begins_anew_with_each_look() {
        let at = |millis| Timestamp::START + Duration::from_millis(millis);
        let mut usage = Usage::since(at(5000));
        usage.note(0, 2, at(5000));
        usage.arrived();
        usage.note(1, 2, at(5200));
        usage.finished();
        let seen = usage.sample(0, 2, at(5700));
        let millis = Duration::from_millis;
        let expected = Sample {
            arrived: 1,
            finished: 1,
            busy: millis(500),
            offered: millis(1400),
            elapsed: millis(700),
        };
        assert_eq!(seen, expected);
        let idle = usage.sample(0, 2, at(6000));
        assert_eq!(idle, Sample { offered: millis(600), elapsed: millis(300), ..Sample::default() });
    }
}
