//! The limits of a board, checked all together.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::supervision::Backoff;

/// Most cards a board may be told to keep: each is a row on the disk and about 200 bytes of memory.
const CARDS_MAX: RangeInclusive<u64> = 1..=10_000_000;
const WIP_MAX: RangeInclusive<u64> = 1..=1_000_000;
const DELIVERIES_MAX: RangeInclusive<u64> = 1..=1_000;
const LEASE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(12 * 3600);
const PROMOTE_AFTER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
const STALLED_AFTER: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; give {from} to {to}")]
pub struct KanbanRulesError {
    /// The setting.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// The least that is allowed.
    pub from: String,
    /// The most that is allowed.
    pub to: String,
}

/// How many cards there may be, how many in work, for how long, and how often.
///
/// # Units and limits
///
/// | setting | default | allowed | source |
/// | --- | --- | --- | --- |
/// | `cards_max`, dead ones counted | 10 000 | 1 to 10 000 000 | the queue depth at which the seeds warn |
/// | `wip_max` | 100 | 1 to 1 000 000 | a tenth of JetStream's `max_ack_pending`, which is told to be too high |
/// | `lease` | 30 s | 10 ms to 12 h | SQS's visibility time-out |
/// | `deliveries_max` | 5 | 1 to 1000 | the design: dead after five |
/// | `retry` | at once, then 1 s, doubled up to 60 s | | – |
/// | `promote_after` | 60 s | 1 ms to 24 h | – |
/// | `stalled_after` | 60 s | 10 ms to 24 h | two leases |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KanbanRules {
    pub(super) cards_max: u64,
    pub(super) wip_max: u64,
    pub(super) lease: Duration,
    pub(super) deliveries_max: u32,
    pub(super) retry: Backoff,
    pub(super) promote_after: Duration,
    pub(super) stalled_after: Duration,
}

impl Default for KanbanRules {
    fn default() -> Self {
        Self {
            cards_max: 10_000,
            wip_max: 100,
            lease: Duration::from_secs(30),
            deliveries_max: 5,
            retry: Backoff::exponential(Duration::from_secs(1), Duration::from_secs(60)),
            promote_after: Duration::from_secs(60),
            stalled_after: Duration::from_secs(60),
        }
    }
}

impl KanbanRules {
    /// The defaults, to be changed.
    pub fn builder() -> KanbanRulesBuilder {
        KanbanRulesBuilder(Self::default())
    }

    /// Cards the board keeps at most.
    pub const fn cards_max(&self) -> u64 {
        self.cards_max
    }

    /// Cards in work at most.
    pub const fn wip_max(&self) -> u64 {
        self.wip_max
    }

    /// How long a card may be worked on before it goes to somebody else.
    pub const fn lease(&self) -> Duration {
        self.lease
    }

    /// How often a card is delivered at most.
    pub const fn deliveries_max(&self) -> u32 {
        self.deliveries_max
    }
}

/// Rules in the making.
#[derive(Debug, Clone, Copy)]
pub struct KanbanRulesBuilder(KanbanRules);

impl KanbanRulesBuilder {
    /// How many cards the board keeps, those in work and the dead ones counted; the next is refused.
    pub const fn cards_max(mut self, cards: u64) -> Self {
        self.0.cards_max = cards;
        self
    }

    /// How many cards may be in work.
    pub const fn wip_max(mut self, cards: u64) -> Self {
        self.0.wip_max = cards;
        self
    }

    /// How long a card may be worked on before it goes to somebody else.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.0.lease = lease;
        self
    }

    /// How often a card is delivered before it is set aside as dead.
    pub const fn deliveries_max(mut self, deliveries: u32) -> Self {
        self.0.deliveries_max = deliveries;
        self
    }

    /// How long a card that failed rests, where the worker does not say.
    pub const fn retry(mut self, backoff: Backoff) -> Self {
        self.0.retry = backoff;
        self
    }

    /// For how long a tier goes before the next lower one: a card that has waited so much longer is served
    /// first, so that nothing starves.
    pub const fn promote_after(mut self, wait: Duration) -> Self {
        self.0.promote_after = wait;
        self
    }

    /// How long nothing may finish, with the limit reached and cards waiting, before the board is stalled.
    pub const fn stalled_after(mut self, quiet: Duration) -> Self {
        self.0.stalled_after = quiet;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// Every setting that cannot be, with what is allowed.
    pub fn build(self) -> Result<KanbanRules, Vec<KanbanRulesError>> {
        let rules = self.0;
        let errors: Vec<_> = [
            out_of("cards_max", &rules.cards_max, &CARDS_MAX),
            out_of("wip_max", &rules.wip_max, &WIP_MAX),
            out_of("deliveries_max", &u64::from(rules.deliveries_max), &DELIVERIES_MAX),
            out_of("lease", &rules.lease, &LEASE),
            out_of("promote_after", &rules.promote_after, &PROMOTE_AFTER),
            out_of("stalled_after", &rules.stalled_after, &STALLED_AFTER),
        ]
        .into_iter()
        .flatten()
        .collect();
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }
}

fn out_of<T: PartialOrd + fmt::Debug>(
    field: &'static str,
    value: &T,
    allowed: &RangeInclusive<T>,
) -> Option<KanbanRulesError> {
    let text = |value: &T| format!("{value:?}");
    (!allowed.contains(value)).then(|| KanbanRulesError {
        field,
        value: text(value),
        from: text(allowed.start()),
        to: text(allowed.end()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_cannot_be_is_told_at_once() {
        let refused = KanbanRules::builder()
            .cards_max(0)
            .wip_max(0)
            .deliveries_max(0)
            .lease(Duration::ZERO)
            .promote_after(Duration::ZERO)
            .stalled_after(Duration::ZERO)
            .build()
            .unwrap_err();
        let fields: Vec<_> = refused.iter().map(|error| error.field).collect();
        let all = ["cards_max", "wip_max", "deliveries_max", "lease", "promote_after", "stalled_after"];
        assert_eq!(fields, all);
        assert_eq!(refused[1].to_string(), "wip_max is 0; give 1 to 1000000");
        assert_eq!(refused[3].to_string(), "lease is 0ns; give 10ms to 43200s");
        assert!(KanbanRules::builder().build().is_ok());
    }
}
