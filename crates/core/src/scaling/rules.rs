//! When and how far a pool changes its size, as settings.

use std::time::Duration;

/// The longest a pool may remember what it needed: each look at it keeps a number.
const SHRINK_WINDOW_MAX: Duration = Duration::from_secs(3600);

/// Why settings do not make scaling rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleRulesError {
    /// The bounds of the pool's size exclude each other, or allow no worker.
    #[error("a pool of {workers_min} to {workers_max} workers is not one; give 1 <= min <= max")]
    Workers {
        /// Fewest workers.
        workers_min: u32,
        /// Most workers.
        workers_max: u32,
    },
    /// The thresholds are out of order: a pool would grow at its own target.
    #[error("target {target}, grow above {grow_above}: give 0 < target < grow < 1")]
    Thresholds {
        /// What a change of size aims at.
        target: f64,
        /// Above it the pool grows.
        grow_above: f64,
    },
    /// The pool would remember its needs for too long.
    #[error("a shrink window of {shrink_window:?} is too long; give at most {SHRINK_WINDOW_MAX:?}")]
    ShrinkWindow {
        /// The refused window.
        shrink_window: Duration,
    },
    /// A backlog that has to be gone at once needs a worker for each job.
    #[error("waiting jobs cannot be done within {drain_within:?}; give more than zero")]
    DrainWithin {
        /// The refused time.
        drain_within: Duration,
    },
}

/// When and how far a pool changes its size.
///
/// # Units and limits
///
/// By default 2 to 50 workers; aim at a utilization of 0.70, grow above 0.80; 15 s between a change and
/// growing, 60 s between a change and shrinking, and no smaller than what was needed at any time in the last
/// 300 s; a wait above 1 s is too long, and waiting jobs are to be done within 20 s.
/// Source: FLOW.md, pools; at a drain of 10 s the backlog of a tenfold burst made a pool a quarter too large.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleRules {
    pub(super) workers_min: u32,
    pub(super) workers_max: u32,
    pub(super) target: f64,
    pub(super) grow_above: f64,
    pub(super) cooldown_up: Duration,
    pub(super) cooldown_down: Duration,
    pub(super) shrink_window: Duration,
    pub(super) wait_max: Duration,
    pub(super) drain_within: Duration,
}

impl ScaleRules {
    /// The defaults, to be changed.
    pub fn builder() -> ScaleRulesBuilder {
        ScaleRulesBuilder(Self::default())
    }

    /// Fewest workers.
    pub const fn workers_min(&self) -> u32 {
        self.workers_min
    }

    /// How long a job may wait before the pool is too small, whatever it is used by.
    pub const fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Most workers, outside a surge.
    pub const fn workers_max(&self) -> u32 {
        self.workers_max
    }

    /// The utilization a change of size aims at.
    pub const fn target(&self) -> f64 {
        self.target
    }

    /// How many workers keep `demand` (in workers that are busy all the time) at the target.
    pub fn right_for(&self, demand: f64) -> u32 {
        // A demand no pool can have is capped by the cast.
        (demand / self.target).ceil() as u32
    }

    /// How many workers are enough for `demand`: a third of the way from the target to the threshold.
    ///
    /// If a pool shrank to what is right, a demand that wavers around a whole number of workers would keep
    /// it one too large, which in a small pool is far below the target.
    pub(super) fn enough_for(&self, demand: f64) -> u32 {
        (demand / (self.target + (self.grow_above - self.target) / 3.0)).ceil() as u32
    }
}

impl Default for ScaleRules {
    fn default() -> Self {
        Self {
            workers_min: 2,
            workers_max: 50,
            target: 0.70,
            grow_above: 0.80,
            cooldown_up: Duration::from_secs(15),
            cooldown_down: Duration::from_secs(60),
            shrink_window: Duration::from_secs(300),
            wait_max: Duration::from_secs(1),
            drain_within: Duration::from_secs(20),
        }
    }
}

/// Scaling rules in the making.
///
/// # Examples
///
/// ```
/// use gemba_core::scaling::ScaleRules;
///
/// let rules = ScaleRules::builder().workers(10, 30).build()?;
/// assert_eq!(rules.workers_max(), 30);
/// assert!(ScaleRules::builder().thresholds(0.8, 0.7).build().is_err());
/// # Ok::<(), gemba_core::scaling::ScaleRulesError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ScaleRulesBuilder(ScaleRules);

impl ScaleRulesBuilder {
    /// Fewest and most workers.
    pub const fn workers(mut self, workers_min: u32, workers_max: u32) -> Self {
        (self.0.workers_min, self.0.workers_max) = (workers_min, workers_max);
        self
    }

    /// The utilization at which a change of size aims, and the one above which the pool grows.
    pub const fn thresholds(mut self, target: f64, grow_above: f64) -> Self {
        (self.0.target, self.0.grow_above) = (target, grow_above);
        self
    }

    /// How long after a change the pool may grow, and how long after it may shrink.
    pub const fn cooldowns(mut self, up: Duration, down: Duration) -> Self {
        (self.0.cooldown_up, self.0.cooldown_down) = (up, down);
        self
    }

    /// For how long the pool keeps what it needed at some time, before it shrinks below it.
    pub const fn shrink_window(mut self, shrink_window: Duration) -> Self {
        self.0.shrink_window = shrink_window;
        self
    }

    /// How long a job may wait before the pool grows without resting, and within which time the jobs that
    /// wait are to be done.
    pub const fn waiting(mut self, wait_max: Duration, drain_within: Duration) -> Self {
        (self.0.wait_max, self.0.drain_within) = (wait_max, drain_within);
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`ScaleRulesError`] says which settings exclude each other.
    pub fn build(self) -> Result<ScaleRules, ScaleRulesError> {
        let ScaleRules { workers_min, workers_max, target, grow_above, shrink_window, drain_within, .. } =
            self.0;
        if workers_min == 0 || workers_max < workers_min {
            return Err(ScaleRulesError::Workers { workers_min, workers_max });
        }
        if !(0.0 < target && target < grow_above && grow_above < 1.0) {
            return Err(ScaleRulesError::Thresholds { target, grow_above });
        }
        if SHRINK_WINDOW_MAX < shrink_window {
            return Err(ScaleRulesError::ShrinkWindow { shrink_window });
        }
        if drain_within.is_zero() {
            return Err(ScaleRulesError::DrainWithin { drain_within });
        }
        Ok(self.0)
    }
}
