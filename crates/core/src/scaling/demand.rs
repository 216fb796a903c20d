//! How many workers' worth of work comes to a pool: arrivals times service time, by Little's law.

use std::collections::VecDeque;
use std::time::Duration;

/// Over how long demand is taken for lasting. Source: FLOW.md, pools.
const WINDOW: Duration = Duration::from_secs(60);

/// Most samples of a window, however often a pool is looked at.
const SAMPLES_MAX: usize = 240;

/// Over how many samples a step in demand is looked for: two, so that a pool has its new size after two.
const SUDDEN: usize = 2;

/// What a pool saw since it was last looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Jobs that came, those that found no room included.
    pub arrived: u64,
    /// Jobs that were done, well or not.
    pub finished: u64,
    /// Worker time spent on jobs.
    pub busy: Duration,
    /// Worker time there was.
    pub offered: Duration,
    /// How long it is since the look before.
    pub elapsed: Duration,
}

impl Sample {
    fn add(&mut self, other: &Self) {
        self.arrived += other.arrived;
        self.finished += other.finished;
        self.busy += other.busy;
        self.offered += other.offered;
        self.elapsed += other.elapsed;
    }

    fn subtract(&mut self, other: &Self) {
        self.arrived -= other.arrived;
        self.finished -= other.finished;
        self.busy -= other.busy;
        self.offered -= other.offered;
        self.elapsed -= other.elapsed;
    }

    fn seconds(&self) -> f64 {
        self.elapsed.as_secs_f64()
    }
}

/// Demand in workers that would be busy all the time (Erlangs).
///
/// Utilization cannot show it: it is 1 at the capacity as well as at ten times of it.
#[derive(Debug, Clone)]
pub(super) struct Demand {
    window: VecDeque<Sample>,
    sum: Sample,
}

impl Demand {
    pub(super) const fn new() -> Self {
        let none = Duration::ZERO;
        let sum = Sample { arrived: 0, finished: 0, busy: none, offered: none, elapsed: none };
        Self { window: VecDeque::new(), sum }
    }

    pub(super) fn note(&mut self, sample: Sample) {
        self.window.push_back(sample);
        self.sum.add(&sample);
        while let Some(oldest) = self.window.front() {
            if self.sum.elapsed.saturating_sub(oldest.elapsed) < WINDOW && self.window.len() <= SAMPLES_MAX {
                return;
            }
            let oldest = *oldest;
            self.sum.subtract(&oldest);
            self.window.pop_front();
        }
    }

    /// Busy time over worker time, 0 to 1.
    pub(super) fn utilization(&self) -> f64 {
        let offered = self.sum.offered.as_secs_f64();
        if offered > 0.0 { (self.sum.busy.as_secs_f64() / offered).min(1.0) } else { 0.0 }
    }

    /// Seconds of work in a job, while `running` jobs are worked on; 0 as long as none was.
    ///
    /// What runs counts as done: where jobs take longer than the window it is a part of the truth, where
    /// they are short it makes no difference.
    pub(super) fn service(&self, running: u32) -> f64 {
        let jobs = self.sum.finished + u64::from(running);
        if jobs == 0 { 0.0 } else { self.sum.busy.as_secs_f64() / jobs as f64 }
    }

    /// The demand of the whole window.
    pub(super) fn lasting(&self, running: u32) -> f64 {
        let seconds = self.sum.seconds();
        if seconds <= 0.0 {
            return 0.0;
        }
        let came = self.sum.arrived as f64 * self.service(running) / seconds;
        came.max(self.sum.busy.as_secs_f64() / seconds)
    }

    /// The demand of this moment, and how far it may be off by chance: one standard deviation of the number
    /// of arrivals, if they come independently of each other (Poisson).
    pub(super) fn sudden(&self, running: u32) -> (f64, f64) {
        let mut last = Sample::default();
        self.window.iter().rev().take(SUDDEN).for_each(|sample| last.add(sample));
        let seconds = last.seconds();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        let (arrived, service) = (last.arrived as f64, self.service(running));
        (arrived * service / seconds, arrived.sqrt() * service / seconds)
    }
}
