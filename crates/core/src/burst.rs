//! Whether more arrives than usual explains, and how many workers that is worth.

use std::time::Duration;

use crate::time::Timestamp;
use crate::view::ArrivalsView;

/// Why settings do not make burst rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BurstRulesError {
    /// The present would be compared with less than itself.
    #[error("a burst factor of {factor} finds bursts in steady traffic; give a number above 1")]
    Factor {
        /// The refused factor.
        factor: f64,
    },
    /// The two averages do not tell present from past.
    #[error(
        "the fast average over {fast:?} must be shorter than the baseline over {baseline:?}, and not zero"
    )]
    Averages {
        /// The time constant of the fast average.
        fast: Duration,
        /// The time constant of the baseline.
        baseline: Duration,
    },
    /// There would be no time to learn what is normal.
    #[error("a warm-up of {warm_up:?} teaches no baseline; give at least {fast:?}")]
    WarmUp {
        /// The refused warm-up.
        warm_up: Duration,
        /// The time constant of the fast average.
        fast: Duration,
    },
    /// The least rate of a burst is not a rate.
    #[error("the least rate of a burst is {min_per_s} per second; give a number above 0")]
    MinRate {
        /// The refused rate.
        min_per_s: f64,
    },
    /// A surge would be over before it has held once.
    #[error("a surge may last {surge_max:?} but holds {hold:?} at least; give more than that")]
    SurgeMax {
        /// The refused limit.
        surge_max: Duration,
        /// How long a surge holds at least.
        hold: Duration,
    },
}

/// When arrivals are a burst, and what follows.
///
/// # Units and limits
///
/// By default a burst is 3 times the baseline and at least 10 arrivals per second. The present is an
/// average over 2 s, the baseline one over 10 min that stands still during a surge; nothing is a burst in
/// the first 60 s. A surge is worth 5 workers per pool for 300 s, withdrawn evenly over 120 s; 30 s pass
/// between surges, and what has lasted 30 min is the new normal. Source: FLOW.md, bursts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstRules {
    fast: Duration,
    baseline: Duration,
    factor: f64,
    warm_up: Duration,
    min_per_s: f64,
    hold: Duration,
    shrink: Duration,
    surge_max: Duration,
    cooldown: Duration,
    extra_workers: u32,
}

impl BurstRules {
    /// The defaults, to be changed.
    pub fn builder() -> BurstRulesBuilder {
        BurstRulesBuilder(Self::default())
    }
}

impl Default for BurstRules {
    fn default() -> Self {
        Self {
            fast: Duration::from_secs(2),
            baseline: Duration::from_secs(600),
            factor: 3.0,
            warm_up: Duration::from_secs(60),
            min_per_s: 10.0,
            hold: Duration::from_secs(300),
            shrink: Duration::from_secs(120),
            surge_max: Duration::from_secs(1800),
            cooldown: Duration::from_secs(30),
            extra_workers: 5,
        }
    }
}

/// Burst rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct BurstRulesBuilder(BurstRules);

impl BurstRulesBuilder {
    /// The time constants of the present and of the baseline.
    pub const fn averages(mut self, fast: Duration, baseline: Duration) -> Self {
        (self.0.fast, self.0.baseline) = (fast, baseline);
        self
    }

    /// How many times the baseline, and at least how many arrivals per second, are a burst.
    pub const fn burst(mut self, factor: f64, min_per_s: f64) -> Self {
        (self.0.factor, self.0.min_per_s) = (factor, min_per_s);
        self
    }

    /// How long the baseline is learned before anything can be a burst.
    pub const fn warm_up(mut self, warm_up: Duration) -> Self {
        self.0.warm_up = warm_up;
        self
    }

    /// How long a surge holds, over how long it is withdrawn, and after how long it is the new normal.
    pub const fn surge(mut self, hold: Duration, shrink: Duration, surge_max: Duration) -> Self {
        (self.0.hold, self.0.shrink, self.0.surge_max) = (hold, shrink, surge_max);
        self
    }

    /// How long after a surge none begins.
    pub const fn cooldown(mut self, cooldown: Duration) -> Self {
        self.0.cooldown = cooldown;
        self
    }

    /// Workers a surge is worth, per pool; 0 only reports bursts.
    pub const fn extra_workers(mut self, extra_workers: u32) -> Self {
        self.0.extra_workers = extra_workers;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`BurstRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<BurstRules, BurstRulesError> {
        let BurstRules { fast, baseline, factor, warm_up, min_per_s, hold, surge_max, .. } = self.0;
        if !(1.0 < factor && factor.is_finite()) {
            return Err(BurstRulesError::Factor { factor });
        }
        if fast.is_zero() || baseline <= fast {
            return Err(BurstRulesError::Averages { fast, baseline });
        }
        if warm_up < fast {
            return Err(BurstRulesError::WarmUp { warm_up, fast });
        }
        if !(0.0 < min_per_s && min_per_s.is_finite()) {
            return Err(BurstRulesError::MinRate { min_per_s });
        }
        if surge_max <= hold {
            return Err(BurstRulesError::SurgeMax { surge_max, hold });
        }
        Ok(self.0)
    }
}

/// What changed for the pools.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SurgeChange {
    /// More arrives than the baseline explains.
    Started {
        /// Arrivals per second now.
        fast_per_s: f64,
        /// Arrivals per second normally.
        baseline_per_s: f64,
    },
    /// The last extra worker is withdrawn.
    Ended {
        /// How long the surge lasted, withdrawal included.
        lasted: Duration,
    },
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The start, and the arrivals since: there is no baseline yet.
    WarmingUp { arrived: u64, since: Timestamp },
    /// No surge, and none before `until`.
    Calm { until: Timestamp },
    /// All extra workers are granted.
    Holding { started: Timestamp, until: Timestamp },
    /// They are withdrawn evenly.
    Shrinking { started: Timestamp, since: Timestamp },
}

/// Compares the rate of arrivals with its baseline.
///
/// Arrivals are all signals that came, refused ones included: utilization cannot show a burst, because it
/// is 1 at twice the capacity as well as at ten times.
#[derive(Debug, Clone)]
#[doc(alias = "heijunka")]
pub struct Burst {
    rules: BurstRules,
    phase: Phase,
    seen: Option<u64>,
    seen_at: Timestamp,
    fast_per_s: f64,
    baseline_per_s: f64,
}

impl Burst {
    /// A detector that begins to learn its baseline `now`.
    pub const fn new(rules: BurstRules, now: Timestamp) -> Self {
        let phase = Phase::WarmingUp { arrived: 0, since: now };
        Self { rules, phase, seen: None, seen_at: now, fast_per_s: 0.0, baseline_per_s: 0.0 }
    }

    /// Takes note of how many signals have arrived since the node started; to be called about every second.
    ///
    /// Arrivals before the first call do not count, so that a restarted detector takes no history for news.
    pub fn observe(&mut self, arrived_total: u64, now: Timestamp) -> Option<SurgeChange> {
        let Some(seen) = self.seen else {
            (self.seen, self.seen_at) = (Some(arrived_total), now);
            self.phase = Phase::WarmingUp { arrived: 0, since: now };
            return None;
        };
        let elapsed = now.since(self.seen_at);
        if elapsed.is_zero() {
            return None;
        }
        (self.seen, self.seen_at) = (Some(arrived_total), now);
        let arrived = arrived_total.saturating_sub(seen);
        let per_s = arrived as f64 / elapsed.as_secs_f64();
        self.fast_per_s += (per_s - self.fast_per_s) * weight(elapsed, self.rules.fast);
        self.advance(arrived, per_s, elapsed, now)
    }

    /// Workers each pool may have beyond its maximum.
    pub fn extra_workers(&self, now: Timestamp) -> u32 {
        match self.phase {
            Phase::WarmingUp { .. } | Phase::Calm { .. } => 0,
            Phase::Holding { .. } => self.rules.extra_workers,
            Phase::Shrinking { since, .. } => {
                let left = self.rules.shrink.saturating_sub(now.since(since)).as_nanos();
                let granted = (u128::from(self.rules.extra_workers) * left)
                    .div_ceil(self.rules.shrink.as_nanos().max(1));
                u32::try_from(granted).unwrap_or(self.rules.extra_workers)
            }
        }
    }

    /// What the board shows of it.
    pub const fn view(&self) -> ArrivalsView {
        let warming_up = matches!(self.phase, Phase::WarmingUp { .. });
        ArrivalsView {
            fast_per_s: self.fast_per_s,
            baseline_per_s: if warming_up { None } else { Some(self.baseline_per_s) },
            surge: matches!(self.phase, Phase::Holding { .. } | Phase::Shrinking { .. }),
        }
    }

    fn advance(
        &mut self,
        arrived: u64,
        per_s: f64,
        elapsed: Duration,
        now: Timestamp,
    ) -> Option<SurgeChange> {
        match self.phase {
            Phase::WarmingUp { arrived: before, since } => {
                let arrived = before + arrived;
                self.phase = Phase::WarmingUp { arrived, since };
                if self.rules.warm_up <= now.since(since) {
                    // An average over minutes that starts at zero would call the first traffic a burst.
                    self.baseline_per_s = arrived as f64 / now.since(since).as_secs_f64();
                    self.phase = Phase::Calm { until: now };
                }
                None
            }
            Phase::Calm { until } => {
                if until <= now && self.bursts() {
                    self.phase = Phase::Holding { started: now, until: now + self.rules.hold };
                    let (fast_per_s, baseline_per_s) = (self.fast_per_s, self.baseline_per_s);
                    return Some(SurgeChange::Started { fast_per_s, baseline_per_s });
                }
                self.baseline_per_s += (per_s - self.baseline_per_s) * weight(elapsed, self.rules.baseline);
                None
            }
            Phase::Holding { started, until } => {
                if until <= now {
                    self.hold_or_shrink(started, now);
                }
                None
            }
            Phase::Shrinking { started, since } => {
                if self.bursts() {
                    self.hold_or_shrink(started, now);
                    return None;
                }
                if now.since(since) < self.rules.shrink {
                    return None;
                }
                self.phase = Phase::Calm { until: now + self.rules.cooldown };
                Some(SurgeChange::Ended { lasted: now.since(started) })
            }
        }
    }

    /// Whether what arrives now is a burst. At a baseline of zero, the least rate alone decides.
    fn bursts(&self) -> bool {
        self.rules.min_per_s <= self.fast_per_s && self.rules.factor * self.baseline_per_s <= self.fast_per_s
    }

    /// Holds on while the burst does, but not for ever: what has lasted long enough is the new normal.
    fn hold_or_shrink(&mut self, started: Timestamp, now: Timestamp) {
        if self.bursts() && now.since(started) < self.rules.surge_max {
            self.phase = Phase::Holding { started, until: now + self.rules.hold };
            return;
        }
        if self.bursts() {
            self.baseline_per_s = self.fast_per_s;
        }
        self.phase = Phase::Shrinking { started, since: now };
    }
}

/// How much of the way to the present an average with the time constant `over` goes in `elapsed`.
fn weight(elapsed: Duration, over: Duration) -> f64 {
    -(-elapsed.as_secs_f64() / over.as_secs_f64()).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    /// A detector under traffic that arrives evenly.
    struct Traffic {
        burst: Burst,
        arrived: u64,
        now: Timestamp,
    }

    impl Traffic {
        fn new(rules: BurstRules) -> Self {
            let mut burst = Burst::new(rules, Timestamp::START);
            assert_eq!(burst.observe(0, Timestamp::START), None);
            Self { burst, arrived: 0, now: Timestamp::START }
        }

        /// A detector that has seen 100 a second for two minutes.
        fn warm() -> Self {
            let mut traffic = Self::new(BurstRules::default());
            assert_eq!(traffic.run(100, Duration::from_secs(120)), []);
            traffic
        }

        /// Lets `per_s` arrive for `time`, and returns what changed, and how long after the beginning.
        fn run(&mut self, per_s: u64, time: Duration) -> Vec<(Duration, SurgeChange)> {
            let begin = self.now;
            let mut changes = Vec::new();
            while self.now.since(begin) < time {
                self.now = self.now + STEP;
                self.arrived += per_s / 10;
                let change = self.burst.observe(self.arrived, self.now);
                changes.extend(change.map(|change| (self.now.since(begin), change)));
            }
            changes
        }

        fn extra(&self) -> u32 {
            self.burst.extra_workers(self.now)
        }
    }

    fn seconds(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_tenfold_step_is_seen_within_a_second_and_a_fourfold_one_within_three() {
        for (per_s, within) in [(1000, seconds(1)), (400, seconds(3))] {
            let mut traffic = Traffic::warm();
            let changes = traffic.run(per_s, within);
            let [(_, SurgeChange::Started { fast_per_s, baseline_per_s })] = changes[..] else {
                panic!("{per_s} per second: {changes:?}");
            };
            assert!((99.0..102.0).contains(&baseline_per_s), "{baseline_per_s}");
            assert!(3.0 * baseline_per_s <= fast_per_s && fast_per_s < per_s as f64, "{fast_per_s}");
            assert!(traffic.burst.view().surge);
        }
    }

    #[test]
    fn less_than_the_factor_or_than_the_least_rate_is_no_burst() {
        assert_eq!(Traffic::warm().run(290, seconds(30)), []);
        let quiet = |min_per_s: f64| {
            let mut traffic = Traffic::new(BurstRules::builder().burst(3.0, min_per_s).build().unwrap());
            assert_eq!(traffic.run(0, seconds(61)), []);
            traffic.run(50, seconds(20)).len()
        };
        assert_eq!((quiet(51.0), quiet(49.0)), (0, 1));
    }

    #[test]
    fn nothing_is_a_burst_and_nothing_is_a_baseline_before_the_warm_up_is_over() {
        let mut traffic = Traffic::new(BurstRules::default());
        assert_eq!(traffic.run(100, seconds(30)), []);
        assert_eq!(traffic.run(5000, Duration::from_millis(29_900)), []);
        assert_eq!(traffic.burst.view().baseline_per_s, None);
        assert!(2000.0 < traffic.burst.view().fast_per_s);
        assert_eq!(traffic.run(100, STEP), []);
        assert!(traffic.burst.view().baseline_per_s.is_some());
    }

    #[test]
    fn history_before_the_first_observation_is_no_news() {
        let mut burst = Burst::new(BurstRules::default(), Timestamp::START);
        let second = Timestamp::from_secs;
        let changes: Vec<_> = (1..70).filter_map(|s| burst.observe(1_000_000 + 20 * s, second(s))).collect();
        assert_eq!(changes, []);
        assert!((burst.view().baseline_per_s.unwrap() - 20.0).abs() < 1e-6);
    }

    #[test]
    fn a_surge_holds_then_shrinks_evenly_and_ends() {
        let mut traffic = Traffic::warm();
        let begin = traffic.now;
        let over = begin + traffic.run(1000, seconds(10))[0].0 + seconds(300);
        assert_eq!(traffic.run(100, (over - STEP).since(traffic.now)), []);
        assert_eq!(traffic.extra(), 5);
        assert_eq!(traffic.run(100, STEP), []);
        let mut granted = vec![traffic.extra()];
        for _ in 0..4 {
            assert_eq!(traffic.run(100, seconds(24)), []);
            granted.push(traffic.extra());
        }
        assert_eq!(granted, [5, 4, 3, 2, 1]);
        let ended = traffic.run(100, seconds(24));
        assert_eq!(ended, [(seconds(24), SurgeChange::Ended { lasted: seconds(420) })]);
        assert_eq!((traffic.extra(), traffic.burst.view().surge), (0, false));
    }

    #[test]
    fn the_baseline_stands_still_during_a_surge_and_a_burst_that_lasts_holds_it() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(10)).len(), 1);
        let baseline = traffic.burst.view().baseline_per_s;
        assert_eq!(traffic.run(1000, seconds(700)), []);
        assert_eq!((traffic.extra(), traffic.burst.view().baseline_per_s), (5, baseline));
    }

    #[test]
    fn a_new_burst_during_the_shrink_holds_the_surge() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(10)).len(), 1);
        assert_eq!(traffic.run(100, seconds(360)), []);
        assert!((1..5).contains(&traffic.extra()));
        assert_eq!(traffic.run(1000, seconds(5)), []);
        assert_eq!(traffic.extra(), 5);
    }

    #[test]
    fn after_a_surge_none_begins_within_the_cooldown() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(5)).len(), 1);
        while traffic.burst.view().surge {
            traffic.run(100, STEP);
        }
        assert_eq!(traffic.run(1000, Duration::from_millis(29_900)), []);
        assert_eq!(traffic.run(1000, STEP).len(), 1);
    }

    #[test]
    fn what_has_lasted_long_enough_is_the_new_normal() {
        let mut traffic = Traffic::warm();
        let changes = traffic.run(1000, seconds(4000));
        let [(_, SurgeChange::Started { .. }), (at, SurgeChange::Ended { .. })] = changes[..] else {
            panic!("{changes:?}");
        };
        assert!((seconds(1800)..seconds(2300)).contains(&at), "{at:?}");
        assert!((traffic.burst.view().baseline_per_s.unwrap() - 1000.0).abs() < 1.0);
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let second = seconds(1);
        let cases = [
            BurstRules::builder().burst(1.0, 10.0),
            BurstRules::builder().burst(f64::NAN, 10.0),
            BurstRules::builder().burst(3.0, 0.0),
            BurstRules::builder().averages(Duration::ZERO, second),
            BurstRules::builder().averages(second, second),
            BurstRules::builder().warm_up(second),
            BurstRules::builder().surge(seconds(300), second, seconds(300)),
        ];
        for case in cases {
            assert!(case.build().is_err(), "{case:?}");
        }
        assert!(BurstRules::builder().build().is_ok());
    }
}
