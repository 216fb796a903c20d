//! The rules of a line that can be changed while it runs, its rates apart.

use std::time::Duration;

use gemba_core::adaptive::AdaptiveRules;
use gemba_core::breaker::BreakerRules;
use gemba_core::burn_rate::Objective;
use gemba_core::objective::TierObjectives;

use super::{DEADLINE, LineCell};
use crate::follow_up::FOLLOW_UP_WITHIN;
use crate::receipts::Receipts;

/// What a line goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LineRules {
    pub breaker: BreakerRules,
    pub adaptive: Option<AdaptiveRules>,
    pub deadline: Duration,
    pub follow_up_within: Duration,
    pub objective: Objective,
    pub receipts: Receipts,
    pub objectives: TierObjectives,
}

impl Default for LineRules {
    fn default() -> Self {
        Self {
            breaker: BreakerRules::default(),
            adaptive: None,
            deadline: DEADLINE,
            follow_up_within: FOLLOW_UP_WITHIN,
            objective: Objective::default(),
            receipts: Receipts::none(),
            objectives: TierObjectives::default(),
        }
    }
}

impl LineRules {
    /// How long a worker may be at one signal.
    pub(crate) const fn patience(&self) -> Duration {
        self.deadline.saturating_add(self.follow_up_within)
    }
}

impl LineCell {
    /// The rules in force.
    pub(crate) fn rules(&self) -> LineRules {
        let (breaker, adaptive) = self.guard.rules();
        LineRules {
            breaker,
            adaptive,
            deadline: self.gate.deadline(),
            follow_up_within: self.follow_ups.within(),
            objective: *self.objective.latest(),
            receipts: self.account.receipts.rules(),
            objectives: self.account.objectives.latest(),
        }
    }

    /// Sets the rules, which have been checked. Signals that are on their way keep the deadline they came with.
    pub(crate) fn set_rules(&self, rules: &LineRules) {
        self.guard.set_rules(rules.breaker, rules.adaptive);
        self.gate.set_deadline(rules.deadline);
        self.follow_ups.set_within(rules.follow_up_within);
        self.objective.publish(rules.objective);
        self.account.receipts.set_rules(rules.receipts);
        self.account.objectives.set(rules.objectives);
    }
}
