//! One incident at a station: what was told of it, and what is to be told next.

use std::sync::Arc;
use std::time::Duration;

use super::{AlertRules, NoticeKind, Routes, in_order};
use crate::light::Light;
use crate::name::Name;
use crate::receipt::{Receipt, Seq};
use crate::time::Timestamp;

/// What an incident follows from, and when that was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) receipt: Seq,
    pub(super) at: Timestamp,
    pub(super) unix_ms: u64,
}

impl From<&Receipt> for Fact {
    fn from(receipt: &Receipt) -> Self {
        Self { receipt: receipt.seq, at: receipt.at, unix_ms: receipt.unix_ms }
    }
}

/// What is told, and to whom.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) routes: Vec<Name>,
    pub(super) light: Light,
    pub(super) why: Arc<str>,
    pub(super) since_unix_ms: u64,
    pub(super) receipt: Seq,
    pub(super) fact_at: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct Incident {
    light: Light,
    why: Arc<str>,
    since_unix_ms: u64,
    receipt: Seq,
    fact_at: Timestamp,
    /// Since when it is green, while it is.
    green_since: Option<Timestamp>,
    /// When it last left green, and when the time before.
    lit: (Timestamp, Option<Timestamp>),
    /// The worst light that was told; green if none was.
    told: Light,
    /// When that was told, and when anything was.
    told_at: Timestamp,
    spoke_at: Timestamp,
    escalations: u32,
    acknowledged: Option<Arc<str>>,
    /// Who was told, and so is told of the end.
    audience: Vec<Name>,
}

impl Incident {
    pub(super) fn new(light: Light, why: &Arc<str>, fact: Fact) -> Self {
        Self {
            light,
            why: why.clone(),
            since_unix_ms: fact.unix_ms,
            receipt: fact.receipt,
            fact_at: fact.at,
            green_since: None,
            lit: (fact.at, None),
            told: Light::Green,
            told_at: fact.at,
            spoke_at: fact.at,
            escalations: 0,
            acknowledged: None,
            audience: Vec::new(),
        }
    }

    pub(super) const fn light(&self) -> Light {
        self.light
    }

    pub(super) const fn light_told(&self) -> Light {
        self.told
    }

    pub(super) const fn acknowledged_by(&self) -> Option<&Arc<str>> {
        self.acknowledged.as_ref()
    }

    /// Takes note of a new light.
    pub(super) fn changed(&mut self, to: Light, why: &Arc<str>, fact: Fact) {
        if to == Light::Green {
            self.green_since = Some(fact.at);
        } else if self.green_since.take().is_some() {
            self.lit = (fact.at, Some(self.lit.0));
            if self.told == Light::Green {
                self.since_unix_ms = fact.unix_ms;
            }
        }
        self.light = to;
        (self.why, self.receipt, self.fact_at) = (why.clone(), fact.receipt, fact.at);
    }

    pub(super) fn acknowledge(&mut self, by: &Arc<str>) {
        if self.light != Light::Green {
            self.acknowledged = Some(by.clone());
        }
    }

    /// What is to be told now, if anything. What is muted is told when it no longer is, if it still holds;
    /// its end is told to whoever heard of it before.
    pub(super) fn due(&self, is_muted: bool, rules: &AlertRules, now: Timestamp) -> Option<NoticeKind> {
        if self.light == Light::Green {
            let is_told = self.told != Light::Green;
            return (is_told && self.is_quiet(rules, now)).then_some(NoticeKind::Resolved);
        }
        if is_muted {
            None
        } else if self.told < self.light {
            Some(NoticeKind::Firing)
        } else if self.acknowledged.is_some() {
            None
        } else if self.escalates(rules, now) {
            Some(NoticeKind::Escalated)
        } else {
            (rules.repeat() <= now.since(self.spoke_at)).then_some(NoticeKind::Repeated)
        }
    }

    /// A yellow light wakes nobody; from red on it must not go unheard.
    fn escalates(&self, rules: &AlertRules, now: Timestamp) -> bool {
        let wait = rules.escalate_after() * (self.escalations + 1);
        Light::Red <= self.told
            && self.escalations < rules.escalations_max()
            && wait <= now.since(self.told_at)
    }

    /// Takes note that it is told, and says what and to whom.
    pub(super) fn tell(&mut self, kind: NoticeKind, routes: &Routes, now: Timestamp) -> Told {
        self.spoke_at = now;
        match kind {
            NoticeKind::Firing => {
                (self.told, self.told_at) = (self.light, now);
                (self.escalations, self.acknowledged) = (0, None);
            }
            NoticeKind::Escalated => self.escalations += 1,
            NoticeKind::Repeated | NoticeKind::Resolved => {}
        }
        let light = self.told;
        let routes = match kind {
            NoticeKind::Firing | NoticeKind::Repeated => routes.of(light),
            NoticeKind::Escalated => routes.of(Light::Purple),
            NoticeKind::Resolved => {
                (self.told, self.escalations, self.acknowledged) = (Light::Green, 0, None);
                std::mem::take(&mut self.audience)
            }
        };
        if kind != NoticeKind::Resolved {
            self.audience = in_order(self.audience.drain(..).chain(routes.iter().cloned()));
        }
        let (why, receipt) = (self.why.clone(), self.receipt);
        Told { routes, light, why, since_unix_ms: self.since_unix_ms, receipt, fact_at: self.fact_at }
    }

    /// Whether it has been green long enough to be called over.
    fn is_quiet(&self, rules: &AlertRules, now: Timestamp) -> bool {
        let wait =
            if self.flaps(rules.flap_window(), now) { rules.flap_window() } else { rules.resolve_after() };
        self.green_since.is_some_and(|since| wait <= now.since(since))
    }

    /// Whether it left green twice in this time: then its end is believed later, and it is not told again.
    fn flaps(&self, window: Duration, now: Timestamp) -> bool {
        self.lit.1.is_some_and(|before| now.since(before) < window || self.lit.0.since(before) < window)
    }

    /// Whether it can be forgotten: its end was told, and another would not be flapping.
    pub(super) fn is_over(&self, rules: &AlertRules, now: Timestamp) -> bool {
        let is_green = self.light == Light::Green && self.told == Light::Green;
        is_green && rules.flap_window() <= now.since(self.lit.0)
    }
}
