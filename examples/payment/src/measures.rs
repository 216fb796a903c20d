//! What payments are measured by: how they end, what they bring in, and what they are rejected for.

use gemba::System;
use gemba::metric::{Kind, Metric};
use gemba::policy::Rejection;

use crate::money::Money;
use crate::payment::State;

/// Payments by the state they came to. One that was `unknown` is counted again when its outcome is found; the share of
/// `rejected_by_policy` among the outcomes is the rate of fraud.
pub const PAYMENTS: Metric = Metric {
    name: "payment_payments_total",
    kind: Kind::Counter,
    labels: &["state"],
    help: "Payments that came to a state and are recorded in it: captured, declined, rejected_by_policy, failed, unknown.",
};

/// What was captured.
pub const CAPTURED: Metric = Metric {
    name: "payment_captured_minor_units_total",
    kind: Kind::Counter,
    labels: &["currency"],
    help: "What was captured, in minor units of its currency.",
};

/// What payments were rejected for; a sudden rise of one rule is an unusual pattern.
pub const VIOLATIONS: Metric = Metric {
    name: "payment_violations_total",
    kind: Kind::Counter,
    labels: &["rule"],
    help: "Rules that did not hold, of the payments that were rejected.",
};

/// The states that are counted: those a payment is moved to.
const STATES: [State; 5] =
    [State::Captured, State::Declined, State::RejectedByPolicy, State::Failed, State::Unknown];

/// Where payments are counted: nowhere, unless there is a node.
#[derive(Debug, Clone, Default)]
pub struct Measures(Option<System>);

impl Measures {
    /// Counts in the metrics of this node.
    pub fn of(system: &System) -> Self {
        Self(Some(system.clone()))
    }

    /// Explains the metrics, and puts every state on the page, so that the first payment that comes to one is an
    /// increase. To be called once the node starts.
    pub fn begin(&self) {
        if let Some(system) = &self.0 {
            system.instruments().describe(&[PAYMENTS, CAPTURED, VIOLATIONS]);
            for state in STATES {
                system.instruments().counter(&PAYMENTS, &[state.word()]).increment(0);
            }
        }
    }

    /// A payment is recorded in a state.
    pub(crate) fn moved(&self, state: State, money: Money, rejection: Option<&Rejection>) {
        let Some(system) = &self.0 else { return };
        let instruments = system.instruments();
        instruments.counter(&PAYMENTS, &[state.word()]).increment(1);
        if state == State::Captured {
            let minor = u64::try_from(money.minor()).expect("an amount is positive");
            instruments.counter(&CAPTURED, &[money.currency().code()]).increment(minor);
        }
        for violation in rejection.iter().flat_map(|rejection| &rejection.violations) {
            instruments.counter(&VIOLATIONS, &[&violation.rule]).increment(1);
        }
    }
}
