//! Whether a pool should have more workers, or fewer.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

mod demand;
mod rules;

use demand::Demand;

pub use demand::Sample;
pub use rules::{ScaleRules, ScaleRulesBuilder, ScaleRulesError};

/// A pool may grow by this many workers at a time, however small it is.
const GROW_FLOOR: u32 = 4;

/// How many standard deviations above what the pool can do the arrivals have to be, so that it grows
/// without resting. At four, chance alone does it once in 30 000 looks: once in eight hours at most.
const CERTAIN: f64 = 4.0;

/// What a pool has in hand now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Workers it has, those that are to go not counted.
    pub workers: u32,
    /// Jobs that are worked on.
    pub running: u32,
    /// Jobs that wait.
    pub queued: u32,
}

/// Within which size a pool has to stay just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest workers: those of the rules, or more, if more are needed soon.
    pub workers_min: u32,
    /// Most workers: those of the rules, or more, while there is a surge.
    pub workers_max: u32,
    /// While a surge fades: what is left of the pool's size at its end. More go, unless they are needed.
    pub fading: Option<u32>,
}

impl Bounds {
    /// The bounds of the rules.
    pub const fn of(rules: &ScaleRules) -> Self {
        Self { workers_min: rules.workers_min, workers_max: rules.workers_max, fading: None }
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

/// Keeps the size of one pool fit for the work that comes to it.
///
/// What decides is demand: arrivals times service time, and the jobs that wait. The pool grows to what keeps
/// demand at the target utilization, at most to double its size or by 4 at a time: after a rest if the demand
/// of the last minute asks for it, at once if jobs wait too long or if so many arrive that chance does not
/// explain it. It shrinks one by one, and never below what it needed at any time within the shrink window.
/// The gap between the target and the threshold, and that memory, are what keeps it from growing and
/// shrinking in turn.
#[derive(Debug, Clone)]
#[doc(alias = "heijunka")]
pub struct Scaler {
    demand: Demand,
    needed: Needed,
    changed_at: Timestamp,
    /// What the last look found right, whatever the bounds.
    right: u32,
    /// It has just grown without resting.
    follows: bool,
}

impl Scaler {
    /// A scaler that knows nothing yet, of a pool that came to its size `now`.
    pub const fn new(now: Timestamp) -> Self {
        let demand = Demand::new();
        Self {
            demand,
            needed: Needed { since: now, maxima: VecDeque::new() },
            changed_at: now,
            right: 0,
            follows: false,
        }
    }

    /// Takes note of what came since the last look, and decides how the size should change; to be called
    /// about every second.
    ///
    /// A size outside the bounds is put right at once.
    pub fn observe(
        &mut self,
        sample: Sample,
        load: Load,
        rules: &ScaleRules,
        bounds: Bounds,
        now: Timestamp,
    ) -> Scale {
        self.demand.note(sample);
        let need = self.need(load, rules);
        self.follows = need.at_once;
        self.needed.note(need.enough, rules.shrink_window, now);
        self.right = need.right;
        let Bounds { workers_min, workers_max, fading } = bounds;
        if load.workers < workers_min {
            return Scale::Grow(workers_min - load.workers);
        }
        if workers_max < load.workers {
            return Scale::Shrink(load.workers - workers_max);
        }
        if let Some(left) = fading {
            let keep = left.max(need.enough).max(workers_min);
            if keep < load.workers {
                return Scale::Shrink(load.workers - keep);
            }
        }
        let rested = now.since(self.changed_at);
        if need.at_once || (need.lasts && rules.cooldown_up <= rested) {
            return grow(need.right, load.workers, workers_max);
        }
        let remembers = rules.shrink_window <= now.since(self.needed.since);
        if remembers && rules.cooldown_down <= rested {
            return shrink(self.needed.most(), load.workers, workers_min);
        }
        Scale::Hold
    }

    /// Takes note that the size was changed, by this scaler's advice or not.
    pub const fn changed(&mut self, now: Timestamp) {
        self.changed_at = now;
    }

    /// Busy time over worker time in the last minute, 0 to 1.
    pub fn utilization(&self) -> f64 {
        self.demand.utilization()
    }

    /// Workers the pool needed at most within the shrink window.
    pub fn needed(&self) -> u32 {
        self.needed.most()
    }

    /// Workers that would be right now, whatever the bounds.
    pub const fn right(&self) -> u32 {
        self.right
    }

    /// How long a job of the last minute was worked on, while `running` are; zero as long as there was none.
    pub fn service(&self, running: u32) -> Duration {
        Duration::from_secs_f64(self.demand.service(running))
    }

    fn need(&self, load: Load, rules: &ScaleRules) -> Need {
        let service = self.demand.service(load.running);
        let queued = f64::from(load.queued);
        // Hands that do the waiting jobs in time; one each, if a job takes longer than that.
        let backlog = queued.min(queued * service / rules.drain_within.as_secs_f64());
        let bearable = rules.grow_above * f64::from(load.workers);
        let lasting = self.demand.lasting(load.running) + backlog;
        let (sudden, chance) = self.demand.sudden(load.running);
        // A wait no longer than the job itself is nothing to be alarmed at.
        let wait_max = rules.wait_max.as_secs_f64().max(service);
        let waits = wait_max * f64::from(load.workers) < queued * service;
        // A step that was certain is followed to its end: half of it was before the look that found it.
        let certain = if self.follows { 0.0 } else { CERTAIN * chance };
        let at_once = waits || bearable < sudden + backlog - certain;
        let demand = if at_once { lasting.max(sudden + backlog) } else { lasting };
        let (right, enough) = (rules.right_for(demand), rules.enough_for(demand));
        Need { right, enough, lasts: bearable < lasting, at_once }
    }
}

/// What a pool needs now.
struct Need {
    /// Workers a growing pool aims at.
    right: u32,
    /// Workers a shrinking pool has to keep.
    enough: u32,
    /// The demand of the last minute is above the threshold.
    lasts: bool,
    /// It is, beyond chance, or jobs wait too long.
    at_once: bool,
}

/// The highest need of a window of time: a queue in which each is higher than those after it.
#[derive(Debug, Clone)]
struct Needed {
    since: Timestamp,
    maxima: VecDeque<(Timestamp, u32)>,
}

impl Needed {
    fn note(&mut self, need: u32, window: Duration, now: Timestamp) {
        while self.maxima.back().is_some_and(|(_, earlier)| *earlier <= need) {
            self.maxima.pop_back();
        }
        self.maxima.push_back((now, need));
        while self.maxima.front().is_some_and(|(at, _)| window < now.since(*at)) {
            self.maxima.pop_front();
        }
    }

    fn most(&self) -> u32 {
        self.maxima.front().map_or(0, |(_, need)| *need)
    }
}

fn grow(need: u32, workers: u32, workers_max: u32) -> Scale {
    // The need is known only roughly while all are busy.
    let step_max = workers.max(GROW_FLOOR);
    let step = need.saturating_sub(workers).clamp(1, step_max).min(workers_max - workers);
    if step == 0 { Scale::Hold } else { Scale::Grow(step) }
}

const fn shrink(needed: u32, workers: u32, workers_min: u32) -> Scale {
    if needed < workers && workers_min < workers { Scale::Shrink(1) } else { Scale::Hold }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A pool under even work of a tenth of a second a job, which changes its size as it is told.
    struct Pool {
        scaler: Scaler,
        rules: ScaleRules,
        workers: u32,
        surge: u32,
        fading: Option<u32>,
        now: Timestamp,
    }

    impl Pool {
        fn new(rules: ScaleRulesBuilder, workers: u32) -> Self {
            let now = Timestamp::from_secs(1000);
            Self {
                scaler: Scaler::new(now),
                rules: rules.build().unwrap(),
                workers,
                surge: 0,
                fading: None,
                now,
            }
        }

        /// Lets a second pass in which work for `demand` workers comes; what the workers cannot do waits.
        fn second(&mut self, demand: u32, queued: u32) -> Scale {
            self.now = self.now + SECOND;
            let running = demand.min(self.workers);
            let sample = Sample {
                arrived: u64::from(10 * demand),
                finished: u64::from(10 * running),
                busy: running * SECOND,
                offered: self.workers * SECOND,
                elapsed: SECOND,
            };
            let load = Load { workers: self.workers, running, queued };
            let workers_max = self.rules.workers_max + self.surge;
            let bounds = Bounds { workers_max, fading: self.fading, ..Bounds::of(&self.rules) };
            let scale = self.scaler.observe(sample, load, &self.rules, bounds, self.now);
            match scale {
                Scale::Hold => return scale,
                Scale::Grow(by) => self.workers += by,
                Scale::Shrink(by) => self.workers -= by,
            }
            self.scaler.changed(self.now);
            scale
        }

        fn run(&mut self, demand: u32, seconds: u32) -> Vec<(u32, Scale)> {
            let all = (1..=seconds).map(|second| (second, self.second(demand, 0)));
            all.filter(|(_, scale)| *scale != Scale::Hold).collect()
        }
    }

    #[test]
    fn a_pool_between_its_target_and_its_threshold_keeps_its_size() {
        for (demand, workers, after) in [(7, 10, 10), (8, 10, 10), (9, 10, 13), (4, 10, 6), (1, 10, 2)] {
            let mut pool = Pool::new(ScaleRules::builder(), workers);
            pool.run(demand, 3600);
            assert_eq!(pool.workers, after, "{demand} of {workers} busy");
        }
    }

    #[test]
    fn it_grows_to_the_target_but_at_most_to_double_or_by_four() {
        for (workers, demand, expected) in [(2, 3, 3), (2, 9, 4), (10, 9, 3), (10, 30, 10)] {
            let mut pool = Pool::new(ScaleRules::builder(), workers);
            let changes = pool.run(demand, 16);
            assert_eq!(changes[0].1, Scale::Grow(expected), "{demand} for {workers}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_and_a_surge_raises_the_upper_one() {
        let mut pool = Pool::new(ScaleRules::builder().workers(3, 30), 2);
        assert_eq!(pool.second(0, 0), Scale::Grow(1), "too small");
        pool.run(100, 300);
        assert_eq!(pool.workers, 30);
        pool.surge = 5;
        pool.run(100, 300);
        assert_eq!(pool.workers, 35);
        pool.surge = 3;
        assert_eq!(pool.second(100, 0), Scale::Shrink(2), "too large");
        pool.surge = 0;
        pool.run(0, 7200);
        assert_eq!(pool.workers, 3);
    }

    #[test]
    fn it_rests_after_a_change_unless_jobs_wait_too_long_or_too_many_come() {
        let rested = |demand, queued| {
            let mut pool = Pool::new(ScaleRules::builder(), 10);
            (1..=100).find(|_| pool.second(demand, queued) != Scale::Hold)
        };
        assert_eq!(rested(9, 0), Some(15), "a little too much");
        assert_eq!(rested(9, 100), Some(15), "the wait is just short enough");
        assert_eq!(rested(9, 115), Some(1), "it is too long");
        assert_eq!(rested(20, 0), Some(1), "far too much");
        assert_eq!(rested(12, 0), Some(2), "too much, if it was not chance");
        assert_eq!(rested(7, 0), None);
    }

    #[test]
    fn it_shrinks_once_a_minute_and_not_below_what_it_needed_in_the_last_five() {
        let mut pool = Pool::new(ScaleRules::builder(), 10);
        let shrinks: Vec<_> = pool.run(4, 1000);
        let expected: Vec<_> = [300, 360, 420, 480].map(|second| (second, Scale::Shrink(1))).into();
        assert_eq!((shrinks, pool.workers), (expected, 6));
        // One busy minute, and what it needed is kept for five.
        pool.run(7, 60);
        assert!((9..=10).contains(&pool.workers), "{} workers", pool.workers);
        let shrinks = pool.run(4, 1000);
        let first = shrinks.first().map(|(second, _)| *second).unwrap();
        assert!((300..=360).contains(&first) && pool.workers == 6, "{shrinks:?}");
    }

    #[test]
    fn while_a_surge_fades_a_pool_gives_back_what_it_does_not_need() {
        let mut pool = Pool::new(ScaleRules::builder().workers(2, 50), 40);
        pool.run(7, 60);
        pool.fading = Some(30);
        assert_eq!((pool.second(7, 0), pool.workers), (Scale::Shrink(10), 30), "without a rest or a memory");
        pool.fading = Some(5);
        assert_eq!((pool.second(7, 0), pool.workers), (Scale::Shrink(20), 10), "but it keeps what it needs");
    }

    #[test]
    fn long_jobs_that_wait_get_a_worker_each_and_short_ones_share() {
        let need = |service: Duration, queued| {
            let mut scaler = Scaler::new(Timestamp::START);
            let sample =
                Sample { arrived: 0, finished: 10, busy: 10 * service, offered: SECOND, elapsed: SECOND };
            let load = Load { workers: 10, running: 0, queued };
            let rules = ScaleRules::builder().thresholds(0.7, 0.7001).build().unwrap();
            scaler.observe(sample, load, &rules, Bounds::of(&rules), Timestamp::from_secs(1));
            scaler.needed()
        };
        let millis = Duration::from_millis;
        assert_eq!(need(millis(1), 1000), 1, "1 s of work to be done in 20 s");
        assert_eq!(need(millis(1), 100_000), 8, "5 workers for 20 s, at the target");
        assert_eq!(need(20 * SECOND, 7) - need(20 * SECOND, 0), 10, "7 jobs longer than that");
    }

    #[test]
    fn rules_that_exclude_each_other_are_refused() {
        for (workers_min, workers_max) in [(0, 5), (6, 5)] {
            let error = ScaleRules::builder().workers(workers_min, workers_max).build().unwrap_err();
            assert_eq!(error, ScaleRulesError::Workers { workers_min, workers_max });
        }
        for (target, grow) in [(0.0, 0.8), (0.8, 0.8), (0.7, 1.0), (f64::NAN, 0.8)] {
            assert!(ScaleRules::builder().thresholds(target, grow).build().is_err(), "{target} {grow}");
        }
        assert!(ScaleRules::builder().shrink_window(3601 * SECOND).build().is_err());
        assert!(ScaleRules::builder().waiting(SECOND, Duration::ZERO).build().is_err());
        assert!(ScaleRules::builder().workers(5, 5).shrink_window(3600 * SECOND).build().is_ok());
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds_and_comes_to_rest(demand in 0u32..60, queued in 0u32..100, workers in 1u32..200) {
            let mut pool = Pool::new(ScaleRules::builder().workers(2, 50), workers);
            pool.second(demand, queued);
            for _ in 0..4000 {
                pool.second(demand, 0);
                prop_assert!((2..=50).contains(&pool.workers), "{} workers", pool.workers);
            }
            let size = pool.workers;
            prop_assert!(pool.run(demand, 600).is_empty(), "still changing at {size} workers");
        }
    }
}
