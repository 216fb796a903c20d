//! Whether a pool should have more workers, or fewer.

use std::time::Duration;

use crate::time::Timestamp;

/// A pool may grow by this many workers at a time, however small it is.
const GROW_FLOOR: u32 = 4;

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
    /// The thresholds are out of order: a pool would grow and shrink in turn.
    #[error(
        "shrink below {shrink_below}, target {target}, grow above {grow_above}: \
         give 0 < shrink < target < grow < 1"
    )]
    Thresholds {
        /// Below it the pool shrinks.
        shrink_below: f64,
        /// What a change of size aims at.
        target: f64,
        /// Above it the pool grows.
        grow_above: f64,
    },
}

/// When and how far a pool changes its size.
///
/// # Units and limits
///
/// By default 2 to 50 workers; grow above a utilization of 0.80, shrink below 0.50, aim at 0.70; 15 s
/// between a change and growing, 60 s between a change and shrinking. Source: FLOW.md, pools.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScaleRules {
    workers_min: u32,
    workers_max: u32,
    shrink_below: f64,
    target: f64,
    grow_above: f64,
    cooldown_up: Duration,
    cooldown_down: Duration,
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

    /// Most workers, outside a surge.
    pub const fn workers_max(&self) -> u32 {
        self.workers_max
    }
}

impl Default for ScaleRules {
    fn default() -> Self {
        Self {
            workers_min: 2,
            workers_max: 50,
            shrink_below: 0.50,
            target: 0.70,
            grow_above: 0.80,
            cooldown_up: Duration::from_secs(15),
            cooldown_down: Duration::from_secs(60),
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
/// assert!(ScaleRules::builder().thresholds(0.8, 0.7, 0.5).build().is_err());
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

    /// The utilizations below which the pool shrinks, at which a change aims, and above which it grows.
    pub const fn thresholds(mut self, shrink_below: f64, target: f64, grow_above: f64) -> Self {
        (self.0.shrink_below, self.0.target, self.0.grow_above) = (shrink_below, target, grow_above);
        self
    }

    /// How long after a change the pool may grow, and how long after it may shrink.
    pub const fn cooldowns(mut self, up: Duration, down: Duration) -> Self {
        (self.0.cooldown_up, self.0.cooldown_down) = (up, down);
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`ScaleRulesError`] says which settings exclude each other.
    pub fn build(self) -> Result<ScaleRules, ScaleRulesError> {
        let ScaleRules { workers_min, workers_max, shrink_below, target, grow_above, .. } = self.0;
        if workers_min == 0 || workers_max < workers_min {
            return Err(ScaleRulesError::Workers { workers_min, workers_max });
        }
        if !(0.0 < shrink_below && shrink_below < target && target < grow_above && grow_above < 1.0) {
            return Err(ScaleRulesError::Thresholds { shrink_below, target, grow_above });
        }
        Ok(self.0)
    }
}

/// How much a pool has to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Busy time over worker time in the last window, 0 to 1.
    pub utilization: f64,
    /// Workers it has now.
    pub workers: u32,
    /// Jobs waiting now.
    pub queued: u32,
}

impl Load {
    /// Workers that would be busy all the time, if each waiting job had one.
    fn demand(&self) -> f64 {
        self.utilization.clamp(0.0, 1.0) * f64::from(self.workers) + f64::from(self.queued)
    }
}

/// How a pool's size should change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Not at all.
    Hold,
    /// Add this many workers.
    Grow(u32),
    /// Let this many workers finish what they have and go.
    Shrink(u32),
}

/// Decides how the size of a pool should change; `surge` workers are allowed beyond the usual maximum.
///
/// A size outside the bounds is put right at once. Within them the pool grows in proportion to its need,
/// though at most to double its size or by 4, because what is needed is known only roughly while all are
/// busy; it does not wait for the cooldown when more jobs wait than it has workers. It shrinks one by one,
/// and only if those who stay would be less busy than the target. The gap between the thresholds is what
/// keeps a pool near either of them from growing and shrinking in turn.
#[doc(alias = "heijunka")]
pub fn scale(load: Load, rules: &ScaleRules, surge: u32, changed_at: Timestamp, now: Timestamp) -> Scale {
    let ceiling = rules.workers_max.saturating_add(surge);
    if load.workers < rules.workers_min {
        return Scale::Grow(rules.workers_min - load.workers);
    }
    if ceiling < load.workers {
        return Scale::Shrink(load.workers - ceiling);
    }
    let rested = now.since(changed_at);
    let overrun = load.workers < load.queued;
    if overrun || (rules.grow_above < load.utilization && rules.cooldown_up <= rested) {
        return grow(load, rules, ceiling);
    }
    if load.utilization < rules.shrink_below && rules.cooldown_down <= rested {
        return shrink(load, rules);
    }
    Scale::Hold
}

fn grow(load: Load, rules: &ScaleRules, ceiling: u32) -> Scale {
    let needed = (load.demand() / rules.target).ceil() as u32;
    let step_max = load.workers.max(GROW_FLOOR);
    // Above the threshold the need exceeds the size; one worker is the least a growing pool can add.
    let step = needed.saturating_sub(load.workers).clamp(1, step_max).min(ceiling - load.workers);
    if step == 0 { Scale::Hold } else { Scale::Grow(step) }
}

fn shrink(load: Load, rules: &ScaleRules) -> Scale {
    let fewer = load.workers - 1;
    let stays_below = load.demand() < rules.target * f64::from(fewer);
    if rules.workers_min <= fewer && stays_below { Scale::Shrink(1) } else { Scale::Hold }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1000);
    const LONG_AGO: Timestamp = Timestamp::START;

    fn load(utilization: f64, workers: u32, queued: u32) -> Load {
        Load { utilization, workers, queued }
    }

    fn at_rest(load: Load) -> Scale {
        scale(load, &ScaleRules::default(), 0, LONG_AGO, NOW)
    }

    #[test]
    fn a_pool_between_its_thresholds_keeps_its_size() {
        for (utilization, expected) in [
            (0.49, Scale::Shrink(1)),
            (0.50, Scale::Hold),
            (0.70, Scale::Hold),
            (0.80, Scale::Hold),
            (0.81, Scale::Grow(2)),
            (1.0, Scale::Grow(5)),
        ] {
            assert_eq!(at_rest(load(utilization, 10, 0)), expected, "{utilization}");
        }
    }

    #[test]
    fn it_grows_to_the_target_but_at_most_to_double_or_by_four() {
        for (workers, queued, expected) in
            [(2, 2, 4), (2, 1, 3), (2, 100, 4), (4, 100, 4), (5, 100, 5), (10, 3, 9), (30, 200, 20)]
        {
            assert_eq!(at_rest(load(1.0, workers, queued)), Scale::Grow(expected), "{workers} and {queued}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_and_a_surge_raises_the_upper_one() {
        let rules = ScaleRules::builder().workers(3, 30).build().unwrap();
        for (workers, utilization, surge, expected) in [
            (2, 0.0, 0, Scale::Grow(1)),
            (3, 0.0, 0, Scale::Hold),
            (4, 0.0, 0, Scale::Shrink(1)),
            (30, 1.0, 0, Scale::Hold),
            (30, 1.0, 5, Scale::Grow(5)),
            (35, 1.0, 5, Scale::Hold),
            (35, 1.0, 3, Scale::Shrink(2)),
            (31, 1.0, u32::MAX, Scale::Grow(14)),
        ] {
            let load = load(utilization, workers, 0);
            assert_eq!(scale(load, &rules, surge, LONG_AGO, NOW), expected, "{workers} with {surge}");
        }
    }

    #[test]
    fn it_rests_after_a_change_unless_it_is_overrun() {
        let second = Duration::from_secs(1);
        for (load, rested, expected) in [
            (load(1.0, 10, 0), 14 * second, Scale::Hold),
            (load(1.0, 10, 0), 15 * second, Scale::Grow(5)),
            (load(1.0, 10, 10), Duration::ZERO, Scale::Hold),
            (load(1.0, 10, 11), Duration::ZERO, Scale::Grow(10)),
            (load(0.1, 10, 0), 59 * second, Scale::Hold),
            (load(0.1, 10, 0), 60 * second, Scale::Shrink(1)),
        ] {
            assert_eq!(
                scale(load, &ScaleRules::default(), 0, NOW - rested, NOW),
                expected,
                "{load:?} {rested:?}"
            );
        }
    }

    #[test]
    fn it_shrinks_only_if_those_who_stay_would_be_below_the_target() {
        for (load, expected) in [
            (load(0.45, 3, 0), Scale::Shrink(1)),
            (load(0.47, 3, 0), Scale::Hold),
            (load(0.40, 10, 2), Scale::Shrink(1)),
            (load(0.40, 10, 3), Scale::Hold),
        ] {
            assert_eq!(at_rest(load), expected, "{load:?}");
        }
    }

    #[test]
    fn rules_that_exclude_each_other_are_refused() {
        for (workers_min, workers_max) in [(0, 5), (6, 5)] {
            let error = ScaleRules::builder().workers(workers_min, workers_max).build().unwrap_err();
            assert_eq!(error, ScaleRulesError::Workers { workers_min, workers_max });
        }
        for (shrink, target, grow) in
            [(0.0, 0.7, 0.8), (0.7, 0.7, 0.8), (0.5, 0.8, 0.8), (0.5, 0.7, 1.0), (0.5, f64::NAN, 0.8)]
        {
            assert!(
                ScaleRules::builder().thresholds(shrink, target, grow).build().is_err(),
                "{shrink} {target} {grow}"
            );
        }
        assert!(ScaleRules::builder().workers(5, 5).build().is_ok());
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds_and_comes_to_rest(utilization in 0.0..=1.0, queued in 0u32..100, workers in 0u32..200) {
            let rules = ScaleRules::builder().workers(2, 50).build().unwrap();
            // The work stays the same while the pool changes: what a larger pool does not need, it idles.
            let work = utilization * f64::from(workers.min(50));
            let mut size = workers;
            for step in 0u32.. {
                let utilization: f64 = work / f64::from(size.max(1));
                let load = load(utilization.min(1.0), size, if step == 0 { queued } else { 0 });
                match scale(load, &rules, 0, LONG_AGO, NOW) {
                    Scale::Hold => break,
                    Scale::Grow(more) => size += more,
                    Scale::Shrink(fewer) => size -= fewer,
                }
                prop_assert!((2..=50).contains(&size), "{size} workers");
                prop_assert!(step < 100, "still changing at {size} workers");
            }
        }
    }
}
