//! Whether more arrives than usual explains, and for how long pools may have more workers because of it.

use std::time::Duration;

use crate::time::Timestamp;
use crate::view::ArrivalsView;

mod rate;
mod rules;

use rate::Rate;

pub use rules::{BurstRules, BurstRulesBuilder, BurstRulesError};

/// How many standard deviations above the baseline arrivals have to be, if they come independently of each
/// other: where few come, several times the baseline are nothing special. Chosen so that a month of looks
/// finds none by chance (experiment E12); at seven there were four.
const BEYOND_CHANCE: f64 = 8.0;

/// Arrivals are looked at over this many times the present, too: where few come, two seconds say nothing.
const LONGER: u32 = 5;

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

/// What pools may have beyond their maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Nothing.
    None,
    /// All that the rules allow, if they need it.
    Whole,
    /// This part of what they had when the surge began to fade.
    Fading {
        /// How long until nothing is left.
        left: Duration,
        /// How long the fading takes.
        of: Duration,
    },
}

impl Grant {
    /// How many of `workers` are granted.
    pub fn of(self, workers: u32) -> u32 {
        match self {
            Self::None => 0,
            Self::Whole => workers,
            Self::Fading { left, of } => {
                let granted = (u128::from(workers) * left.as_nanos()).div_ceil(of.as_nanos().max(1));
                u32::try_from(granted).unwrap_or(workers).min(workers)
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The start, and the arrivals until then: there is no baseline yet.
    WarmingUp { arrived: u64, since: Timestamp },
    /// No surge, and none before `until`.
    Calm { until: Timestamp },
    /// Pools may have what they need, for the least time at least.
    Holding { started: Timestamp, since: Timestamp },
    /// It is withdrawn evenly.
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
    rate: Rate,
    baseline_per_s: f64,
    surges: u32,
    /// How long all surges have lasted.
    surged: Duration,
}

impl Burst {
    /// A detector that begins to learn its baseline `now`.
    pub const fn new(rules: BurstRules, now: Timestamp) -> Self {
        let phase = Phase::WarmingUp { arrived: 0, since: now };
        let rate = Rate::new(rules.fast, LONGER);
        Self { rules, phase, rate, baseline_per_s: 0.0, surges: 0, surged: Duration::ZERO }
    }

    /// Goes on under other rules with what it has learnt. A surge that is on ends by the new rules.
    pub fn set_rules(&mut self, rules: BurstRules) {
        if rules.fast != self.rules.fast {
            self.rate = Rate::new(rules.fast, LONGER);
        }
        self.rules = rules;
    }

    /// The rules it goes by.
    pub const fn rules(&self) -> &BurstRules {
        &self.rules
    }

    /// Takes note of how many signals have arrived since the node started, and of whether a pool is `short`
    /// of workers without what a surge grants; to be called about four times a second.
    ///
    /// Arrivals before the first call do not count, so that a restarted detector takes no history for news.
    pub fn observe(&mut self, arrived_total: u64, short: bool, now: Timestamp) -> Option<SurgeChange> {
        let Some((arrived, elapsed)) = self.rate.note(arrived_total, now) else {
            if self.rate.is_new() && matches!(self.phase, Phase::WarmingUp { .. }) {
                self.phase = Phase::WarmingUp { arrived: arrived_total, since: now };
            }
            return None;
        };
        if matches!(self.phase, Phase::Holding { .. } | Phase::Shrinking { .. }) {
            self.surged += elapsed;
        }
        self.advance(arrived_total, arrived as f64 / elapsed.as_secs_f64(), short, elapsed, now)
    }

    /// What pools may have beyond their maximum.
    pub const fn grant(&self, now: Timestamp) -> Grant {
        match self.phase {
            Phase::WarmingUp { .. } | Phase::Calm { .. } => Grant::None,
            Phase::Holding { .. } => Grant::Whole,
            Phase::Shrinking { since, .. } => {
                let left = self.rules.shrink.saturating_sub(now.since(since));
                Grant::Fading { left, of: self.rules.shrink }
            }
        }
    }

    /// What the board shows of it.
    pub fn view(&self, now: Timestamp) -> ArrivalsView {
        let warming_up = matches!(self.phase, Phase::WarmingUp { .. });
        let baseline_per_s = if warming_up { None } else { Some(self.baseline_per_s) };
        let left = match self.phase {
            Phase::WarmingUp { .. } | Phase::Calm { .. } => None,
            Phase::Holding { since, .. } => {
                Some(self.rules.hold.saturating_sub(now.since(since)) + self.rules.shrink)
            }
            Phase::Shrinking { since, .. } => Some(self.rules.shrink.saturating_sub(now.since(since))),
        };
        ArrivalsView {
            fast_per_s: self.rate.per_s(now),
            baseline_per_s,
            threshold_per_s: baseline_per_s.map(|baseline| self.threshold(baseline)),
            surge: left.is_some(),
            surge_left_ms: left.map(|left| left.as_millis() as u64),
            surges: self.surges,
            surged_ms: self.surged.as_millis() as u64,
            enabled: self.rules.enabled,
        }
    }

    fn advance(
        &mut self,
        arrived_total: u64,
        per_s: f64,
        short: bool,
        elapsed: Duration,
        now: Timestamp,
    ) -> Option<SurgeChange> {
        match self.phase {
            Phase::WarmingUp { arrived, since } => {
                if self.rules.warm_up <= now.since(since) {
                    // An average over minutes that starts at zero would call the first traffic a burst.
                    let came = arrived_total.saturating_sub(arrived);
                    self.baseline_per_s = came as f64 / now.since(since).as_secs_f64();
                    self.phase = Phase::Calm { until: now };
                }
                None
            }
            Phase::Calm { until } => {
                if until <= now && self.bursts(now) {
                    self.phase = Phase::Holding { started: now, since: now };
                    self.surges = self.surges.saturating_add(1);
                    let (fast_per_s, baseline_per_s) = (self.rate.per_s(now), self.baseline_per_s);
                    return Some(SurgeChange::Started { fast_per_s, baseline_per_s });
                }
                self.baseline_per_s += (per_s - self.baseline_per_s) * weight(elapsed, self.rules.baseline);
                None
            }
            Phase::Holding { started, since } => {
                let has_held =
                    self.rules.hold <= now.since(since) || self.rules.surge_max <= now.since(started);
                if has_held || !self.rules.enabled {
                    self.hold_or_shrink(started, short, now);
                }
                None
            }
            Phase::Shrinking { started, since } => {
                if self.bursts(now) && now.since(started) < self.rules.surge_max {
                    self.phase = Phase::Holding { started, since: now };
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

    /// The rate from which on arrivals are a burst. At a baseline of zero, the least rate alone decides.
    fn threshold(&self, baseline_per_s: f64) -> f64 {
        self.rules.min_per_s.max(self.rules.factor * baseline_per_s)
    }

    /// Whether what arrives now is a burst.
    fn bursts(&self, now: Timestamp) -> bool {
        let threshold = self.threshold(self.baseline_per_s);
        self.rules.enabled
            && self.rate.spans(now).into_iter().any(|(arrived, seconds)| {
                let usual = self.baseline_per_s * seconds;
                0.0 < seconds
                    && threshold * seconds <= arrived
                    && BEYOND_CHANCE * usual.sqrt() <= arrived - usual
            })
    }

    /// Holds on while the burst does or a pool needs it, but not for ever: what has lasted long enough is
    /// the new normal.
    fn hold_or_shrink(&mut self, started: Timestamp, short: bool, now: Timestamp) {
        let bursts = self.bursts(now);
        let too_long = self.rules.surge_max <= now.since(started);
        if (bursts || short) && !too_long && self.rules.enabled {
            return;
        }
        if bursts {
            self.baseline_per_s = self.rate.per_s(now);
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
        short: bool,
        now: Timestamp,
    }

    impl Traffic {
        fn new(rules: BurstRules) -> Self {
            let mut burst = Burst::new(rules, Timestamp::START);
            assert_eq!(burst.observe(0, false, Timestamp::START), None);
            Self { burst, arrived: 0, short: false, now: Timestamp::START }
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
                let change = self.burst.observe(self.arrived, self.short, self.now);
                changes.extend(change.map(|change| (self.now.since(begin), change)));
            }
            changes
        }

        fn extra(&self) -> u32 {
            self.burst.grant(self.now).of(5)
        }

        fn view(&self) -> ArrivalsView {
            self.burst.view(self.now)
        }
    }

    fn seconds(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_tenfold_step_is_seen_within_a_second_and_a_threefold_one_within_two() {
        for (per_s, within) in [(1000, seconds(1)), (300, seconds(2))] {
            let mut traffic = Traffic::warm();
            let changes = traffic.run(per_s, within);
            let [(_, SurgeChange::Started { fast_per_s, baseline_per_s })] = changes[..] else {
                panic!("{per_s} per second: {changes:?}");
            };
            assert!((99.0..102.0).contains(&baseline_per_s), "{baseline_per_s}");
            assert!(2.5 * baseline_per_s <= fast_per_s && fast_per_s < per_s as f64, "{fast_per_s}");
            assert!(traffic.view().surge);
        }
    }

    #[test]
    fn the_time_in_surges_is_the_sum_of_what_they_lasted() {
        let mut traffic = Traffic::warm();
        let mut lasted = Duration::ZERO;
        for _ in 0..2 {
            let changes = [traffic.run(1000, seconds(60)), traffic.run(100, seconds(3600))].concat();
            lasted += changes.iter().fold(Duration::ZERO, |sum, (_, change)| match change {
                SurgeChange::Started { .. } => sum,
                SurgeChange::Ended { lasted } => sum + *lasted,
            });
        }
        let view = traffic.view();
        assert_eq!((view.surges, u128::from(view.surged_ms)), (2, lasted.as_millis()));
    }

    #[test]
    fn less_than_the_factor_or_than_the_least_rate_is_no_burst() {
        assert_eq!(Traffic::warm().run(240, seconds(30)), []);
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
        assert_eq!(traffic.view().baseline_per_s, None);
        assert!(2000.0 < traffic.view().fast_per_s);
        assert_eq!(traffic.run(100, STEP), []);
        assert!(traffic.view().baseline_per_s.is_some());
    }

    #[test]
    fn history_before_the_first_observation_is_no_news() {
        let mut burst = Burst::new(BurstRules::default(), Timestamp::START);
        let second = Timestamp::from_secs;
        let changes: Vec<_> =
            (1..70).filter_map(|s| burst.observe(1_000_000 + 20 * s, false, second(s))).collect();
        assert_eq!(changes, []);
        assert!((burst.view(second(70)).baseline_per_s.unwrap() - 20.0).abs() < 1e-6);
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
        assert_eq!((traffic.extra(), traffic.view().surge), (0, false));
    }

    #[test]
    fn the_baseline_stands_still_during_a_surge_and_a_burst_that_lasts_holds_it() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(10)).len(), 1);
        let baseline = traffic.view().baseline_per_s;
        assert_eq!(traffic.run(1000, seconds(700)), []);
        assert_eq!((traffic.extra(), traffic.view().baseline_per_s), (5, baseline));
    }

    #[test]
    fn a_pool_that_is_short_of_workers_holds_it_and_the_end_of_both_ends_it() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(10)).len(), 1);
        traffic.short = true;
        assert_eq!(traffic.run(100, seconds(700)), []);
        assert_eq!(traffic.extra(), 5);
        traffic.short = false;
        assert_eq!(traffic.run(100, STEP), [], "it has held long enough");
        assert_eq!(traffic.burst.grant(traffic.now), Grant::Fading { left: seconds(120), of: seconds(120) });
    }

    #[test]
    fn a_detector_that_is_switched_off_ends_its_surge_and_sees_no_other() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(10)).len(), 1);
        traffic.burst.set_rules(BurstRules::builder().disabled().build().unwrap());
        let ended = traffic.run(1000, seconds(150));
        assert!(matches!(ended[..], [(_, SurgeChange::Ended { .. })]), "{ended:?}");
        assert_eq!(traffic.run(5000, seconds(60)), []);
        assert!(!traffic.view().enabled);
    }

    #[test]
    fn a_surge_that_is_on_ends_by_the_new_rules() {
        let mut traffic = Traffic::warm();
        assert_eq!(traffic.run(1000, seconds(10)).len(), 1);
        let shorter = BurstRules::builder().surge(seconds(10), seconds(120), seconds(1800));
        traffic.burst.set_rules(shorter.build().unwrap());
        assert_eq!(traffic.run(100, seconds(60)), []);
        assert!(matches!(traffic.burst.grant(traffic.now), Grant::Fading { .. }));
    }

    #[test]
    fn where_few_come_a_handful_more_is_no_burst() {
        let mut traffic = Traffic::new(BurstRules::default());
        assert_eq!(traffic.run(10, seconds(61)), []);
        assert_eq!(traffic.run(30, seconds(1)), [], "10 or 30 in a second may be chance");
        assert_eq!(traffic.run(30, seconds(20)).len(), 1, "200 or 600 in twenty are not");
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
        while traffic.view().surge {
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
        assert!((traffic.view().baseline_per_s.unwrap() - 1000.0).abs() < 1.0);
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
