//! When an alert is repeated, escalated and called over, as settings.

use std::time::Duration;

/// Why settings do not make rules for alerts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AlertRulesError {
    /// A duration is out of range.
    #[error("'{setting}' is {value:?}; give {min:?} to {max:?}")]
    Duration {
        /// The setting.
        setting: &'static str,
        /// The refused value.
        value: Duration,
        /// The least.
        min: Duration,
        /// The greatest.
        max: Duration,
    },
    /// The limit of notices would let nothing through.
    #[error("'notices_per_minute' is 0; give at least 1")]
    NoNotices,
}

/// When an alert is repeated, escalated and called over.
///
/// # Units and limits
///
/// By default repeated after 4 h without an acknowledgement (Alertmanager's), escalated after 5 min and at
/// most three times, over after 30 s of green, or after 10 min if the station turned from green twice within
/// 10 min, and at most 60 notices a minute. Source: FLOW.md, andon; FLOW-EVIDENCE, E19.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertRules {
    repeat: Duration,
    escalate_after: Duration,
    escalations_max: u32,
    resolve_after: Duration,
    flap_window: Duration,
    notices_per_minute: u32,
}

impl Default for AlertRules {
    fn default() -> Self {
        Self {
            repeat: Duration::from_secs(4 * 3600),
            escalate_after: Duration::from_secs(300),
            escalations_max: 3,
            resolve_after: Duration::from_secs(30),
            flap_window: Duration::from_secs(600),
            notices_per_minute: 60,
        }
    }
}

impl AlertRules {
    /// The defaults, to be changed.
    pub fn builder() -> AlertRulesBuilder {
        AlertRulesBuilder(Self::default())
    }

    pub(super) const fn repeat(&self) -> Duration {
        self.repeat
    }

    pub(super) const fn escalate_after(&self) -> Duration {
        self.escalate_after
    }

    pub(super) const fn escalations_max(&self) -> u32 {
        self.escalations_max
    }

    pub(super) const fn resolve_after(&self) -> Duration {
        self.resolve_after
    }

    pub(super) const fn flap_window(&self) -> Duration {
        self.flap_window
    }

    pub(super) const fn notices_per_minute(&self) -> u32 {
        self.notices_per_minute
    }
}

/// Rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct AlertRulesBuilder(AlertRules);

impl AlertRulesBuilder {
    /// After how long without an acknowledgement an alert is told again.
    pub const fn repeat(mut self, after: Duration) -> Self {
        self.0.repeat = after;
        self
    }

    /// After how long without an acknowledgement others are told, and how often at most.
    pub const fn escalate(mut self, after: Duration, times_max: u32) -> Self {
        (self.0.escalate_after, self.0.escalations_max) = (after, times_max);
        self
    }

    /// How long a station has to be green before its alert is over.
    pub const fn resolve_after(mut self, green: Duration) -> Self {
        self.0.resolve_after = green;
        self
    }

    /// Within which time a second incident makes it flapping, and how long it then has to be green.
    pub const fn flap_window(mut self, window: Duration) -> Self {
        self.0.flap_window = window;
        self
    }

    /// How many notices a minute brings at most.
    pub const fn notices_per_minute(mut self, max: u32) -> Self {
        self.0.notices_per_minute = max;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`AlertRulesError`] names the setting, the value and the range.
    pub fn build(self) -> Result<AlertRules, AlertRulesError> {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let AlertRules { repeat, escalate_after, resolve_after, flap_window, .. } = self.0;
        for (setting, value, min, max) in [
            ("repeat", repeat, 60 * second, 7 * 24 * hour),
            ("escalate_after", escalate_after, second, 24 * hour),
            ("resolve_after", resolve_after, second, hour),
            ("flap_window", flap_window, resolve_after, 24 * hour),
        ] {
            if !(min..=max).contains(&value) {
                return Err(AlertRulesError::Duration { setting, value, min, max });
            }
        }
        if self.0.notices_per_minute == 0 {
            return Err(AlertRulesError::NoNotices);
        }
        Ok(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_cannot_be_are_refused() {
        let second = Duration::from_secs(1);
        for builder in [
            AlertRules::builder().repeat(second),
            AlertRules::builder().escalate(Duration::ZERO, 1),
            AlertRules::builder().resolve_after(Duration::ZERO),
            AlertRules::builder().resolve_after(601 * second),
            AlertRules::builder().flap_window(29 * second),
            AlertRules::builder().notices_per_minute(0),
        ] {
            assert!(builder.build().is_err(), "{builder:?}");
        }
        assert_eq!(AlertRules::builder().build(), Ok(AlertRules::default()));
    }
}
