//! How many signals will arrive soon, by what arrived at this hour of the week before.

use std::time::Duration;

use crate::time::Timestamp;

/// Slots of a season: hours of a week.
const SLOTS: usize = 168;

/// Why settings do not make forecast rules.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ForecastRulesError {
    /// A part of a season is no time at all.
    #[error("a slot of {slot:?} is too short; give at least 1 s")]
    Slot {
        /// The refused slot.
        slot: Duration,
    },
    /// The forecast would look past the next slot, or not ahead.
    #[error("a lead of {lead:?} is not within a slot of {slot:?}; give more than zero and at most that")]
    Lead {
        /// The refused lead.
        lead: Duration,
        /// The length of a slot.
        slot: Duration,
    },
    /// A share is not a share.
    #[error("{what} is {ratio}; give a number from 0 to 1")]
    Ratio {
        /// Which.
        what: &'static str,
        /// The refused number.
        ratio: f64,
    },
    /// Nothing could be above it.
    #[error("levelling above {above_per_s} per second is no rate; give a number above 0")]
    Level {
        /// The refused rate.
        above_per_s: f64,
    },
}

/// What a forecast is made of.
///
/// # Units and limits
///
/// By default a season is a week of 168 slots of an hour, and the forecast looks 10 min ahead; it adds a
/// buffer of 10 %, and above 1000 arrivals per second counts half of the excess. A new week counts half, all
/// weeks before it together the other half. Source: FLOW.md, bursts; the seeds' demand predictor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForecastRules {
    slot: Duration,
    lead: Duration,
    buffer: f64,
    level_above_per_s: f64,
    level_share: f64,
    newest_weight: f64,
}

impl ForecastRules {
    /// The defaults, to be changed.
    pub fn builder() -> ForecastRulesBuilder {
        ForecastRulesBuilder(Self::default())
    }

    /// What is prepared for, if `per_s` are expected: with the buffer, and levelled.
    pub fn prepared_for(&self, per_s: f64) -> f64 {
        let buffered = per_s * (1.0 + self.buffer);
        let excess = (buffered - self.level_above_per_s).max(0.0);
        buffered - excess * (1.0 - self.level_share)
    }
}

impl Default for ForecastRules {
    fn default() -> Self {
        Self {
            slot: Duration::from_secs(3600),
            lead: Duration::from_secs(600),
            buffer: 0.10,
            level_above_per_s: 1000.0,
            level_share: 0.5,
            newest_weight: 0.5,
        }
    }
}

/// Forecast rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct ForecastRulesBuilder(ForecastRules);

impl ForecastRulesBuilder {
    /// How long each of the 168 slots of a season is, and how far ahead the forecast looks.
    pub const fn season(mut self, slot: Duration, lead: Duration) -> Self {
        (self.0.slot, self.0.lead) = (slot, lead);
        self
    }

    /// The share added to what is expected.
    pub const fn buffer(mut self, ratio: f64) -> Self {
        self.0.buffer = ratio;
        self
    }

    /// Above how many arrivals per second only a share of the excess counts, and which.
    pub const fn level(mut self, above_per_s: f64, share: f64) -> Self {
        (self.0.level_above_per_s, self.0.level_share) = (above_per_s, share);
        self
    }

    /// How much the newest season counts against all before it.
    pub const fn newest_weight(mut self, ratio: f64) -> Self {
        self.0.newest_weight = ratio;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`ForecastRulesError`] says which setting cannot be.
    pub fn build(self) -> Result<ForecastRules, ForecastRulesError> {
        let ForecastRules { slot, lead, buffer, level_above_per_s: above_per_s, .. } = self.0;
        if slot < Duration::from_secs(1) {
            return Err(ForecastRulesError::Slot { slot });
        }
        if lead.is_zero() || slot < lead {
            return Err(ForecastRulesError::Lead { lead, slot });
        }
        for (what, ratio) in [
            ("the buffer", buffer),
            ("the share of the excess", self.0.level_share),
            ("the weight of the newest season", self.0.newest_weight),
        ] {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(ForecastRulesError::Ratio { what, ratio });
            }
        }
        if above_per_s.is_nan() || above_per_s <= 0.0 {
            return Err(ForecastRulesError::Level { above_per_s });
        }
        Ok(self.0)
    }
}

/// The slot that is being measured.
#[derive(Debug, Clone, Copy)]
struct Current {
    slot: usize,
    arrived: u64,
    since: Timestamp,
}

/// Learns the arrivals of each slot of a season, and says which rise the next slot brings.
///
/// It only ever raises the least size of a pool: what was not foreseen is served by growing, and nothing is
/// refused because of a forecast.
#[derive(Debug, Clone)]
#[doc(alias = "heijunka")]
pub struct Forecast {
    rules: ForecastRules,
    per_s: Vec<Option<f64>>,
    current: Option<Current>,
}

impl Forecast {
    /// A forecast that has learnt nothing.
    pub fn new(rules: ForecastRules) -> Self {
        Self { rules, per_s: vec![None; SLOTS], current: None }
    }

    /// The rules it goes by.
    pub const fn rules(&self) -> &ForecastRules {
        &self.rules
    }

    /// Goes by other rules from now on. What it has learnt stays, unless slots have another length: then it begins
    /// anew, because what came in an hour of the week says nothing about other parts of it.
    pub fn set_rules(&mut self, rules: ForecastRules) {
        if rules.slot != self.rules.slot {
            *self = Self::new(rules);
        }
        self.rules = rules;
    }

    /// Takes note of how many signals have arrived since the node started; `unix_ms` says which slot it is.
    pub fn observe(&mut self, arrived_total: u64, unix_ms: u64, now: Timestamp) {
        let slot = self.slot(unix_ms);
        let Some(current) = self.current else {
            self.current = Some(Current { slot, arrived: arrived_total, since: now });
            return;
        };
        if current.slot == slot {
            return;
        }
        let measured = now.since(current.since);
        // Less than half of a slot says little about it.
        if self.rules.slot / 2 <= measured {
            let arrived = arrived_total.saturating_sub(current.arrived);
            let per_s = arrived as f64 / measured.as_secs_f64();
            let before = self.per_s[current.slot].unwrap_or(per_s);
            self.per_s[current.slot] = Some(before + self.rules.newest_weight * (per_s - before));
        }
        self.current = Some(Current { slot, arrived: arrived_total, since: now });
    }

    /// What arrived per second at this slot of the season before, if it was measured.
    pub fn usual(&self, unix_ms: u64) -> Option<f64> {
        self.per_s[self.slot(unix_ms)]
    }

    /// Arrivals per second to prepare for, if the slot that begins within the lead brings a rise.
    ///
    /// A rise within the buffer is none: a pool has more room than that anyway.
    pub fn rise(&self, unix_ms: u64) -> Option<f64> {
        let ahead = unix_ms.saturating_add(self.rules.lead.as_millis() as u64);
        let (usual, soon) = (self.usual(unix_ms)?, self.usual(ahead)?);
        let rises = usual * (1.0 + self.rules.buffer) < soon;
        // In the first part of a slot the rise it brought is still held, until the pool has measured it.
        let behind = self.usual(unix_ms.saturating_sub(self.rules.lead.as_millis() as u64));
        let has_risen = behind.is_some_and(|behind| behind * (1.0 + self.rules.buffer) < usual);
        if rises {
            Some(self.rules.prepared_for(soon))
        } else if has_risen {
            Some(self.rules.prepared_for(usual))
        } else {
            None
        }
    }

    fn slot(&self, unix_ms: u64) -> usize {
        (u128::from(unix_ms) / self.rules.slot.as_millis() % SLOTS as u128) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// A forecast that has seen `weeks` weeks in which `per_hour` arrived in each hour of the week.
    fn learnt(weeks: u64, per_hour: impl Fn(u64, u64) -> u64) -> Forecast {
        let mut forecast = Forecast::new(ForecastRules::default());
        let mut arrived = 5;
        for hour in 0..=weeks * SLOTS as u64 {
            let now = Timestamp::from_secs(hour * 3600);
            forecast.observe(arrived, hour * HOUR_MS, now);
            arrived += per_hour(hour / SLOTS as u64, hour % SLOTS as u64);
        }
        forecast
    }

    #[test]
    fn a_rise_is_prepared_for_ten_minutes_ahead_and_held_for_as_long() {
        // A hundred a second from the 9th to the 17th hour of each day, ten otherwise.
        let busy = |hour: u64| (9..17).contains(&(hour % 24));
        let forecast = learnt(1, |_, hour| if busy(hour) { 360_000 } else { 36_000 });
        let at = |hour: u64, minute: u64| forecast.rise((SLOTS as u64 + hour) * HOUR_MS + minute * 60_000);
        assert_eq!(at(8, 49), None);
        for (hour, minute) in [(8, 50), (8, 59), (9, 0), (9, 9)] {
            let per_s = at(hour, minute).unwrap();
            assert!((per_s - 110.0).abs() < 1e-9, "{per_s} at {hour}:{minute}");
        }
        for (hour, minute) in [(9, 10), (12, 0), (16, 55), (17, 5), (3, 55)] {
            assert_eq!(at(hour, minute), None, "{hour}:{minute}");
        }
    }

    #[test]
    fn without_history_there_is_no_forecast() {
        assert_eq!(Forecast::new(ForecastRules::default()).rise(HOUR_MS), None);
        let day = learnt(0, |_, _| 0);
        assert_eq!(day.rise(HOUR_MS), None);
    }

    #[test]
    fn the_newest_week_counts_half() {
        let forecast = learnt(2, |week, _| if week == 0 { 3600 } else { 7200 });
        assert_eq!(forecast.usual(7 * HOUR_MS), Some(1.5));
    }

    #[test]
    fn half_of_what_is_above_a_thousand_counts() {
        let rules = ForecastRules::default();
        for (expected, prepared) in [(0.0, 0.0), (500.0, 550.0), (1000.0, 1050.0), (2000.0, 1600.0)] {
            let seen = rules.prepared_for(expected);
            assert!((seen - prepared).abs() < 1e-9, "{expected}: {seen}");
        }
    }

    #[test]
    fn other_rules_keep_what_was_learnt_of_slots_that_are_as_long() {
        let mut forecast = learnt(1, |_, hour| if hour == 9 { 36_000 } else { 3600 });
        let half = Duration::from_secs(1800);
        forecast.set_rules(ForecastRules::builder().season(2 * half, half).buffer(0.5).build().unwrap());
        let rise =
            |forecast: &Forecast, minute: u64| forecast.rise((SLOTS as u64 + 8) * HOUR_MS + minute * 60_000);
        assert!(rise(&forecast, 29).is_none());
        assert!((rise(&forecast, 31).unwrap() - 15.0).abs() < 1e-9);
        forecast.set_rules(ForecastRules::builder().season(half, half).build().unwrap());
        assert_eq!(rise(&forecast, 31), None);
    }

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let hour = Duration::from_secs(3600);
        for builder in [
            ForecastRules::builder().season(Duration::from_millis(999), Duration::from_millis(1)),
            ForecastRules::builder().season(hour, Duration::ZERO),
            ForecastRules::builder().season(hour, hour + Duration::from_nanos(1)),
            ForecastRules::builder().buffer(1.1),
            ForecastRules::builder().level(0.0, 0.5),
            ForecastRules::builder().level(1000.0, f64::NAN),
            ForecastRules::builder().newest_weight(-0.1),
        ] {
            assert!(builder.build().is_err(), "{builder:?}");
        }
        assert_eq!(ForecastRules::builder().build(), Ok(ForecastRules::default()));
    }
}
