//! Getting an order charged: through the line, which judges it and sends it to the gateway, once.

use std::sync::Arc;
use std::time::Duration;

use gemba::policy::Rejection;
use gemba::trace::TraceContext;
use gemba::{Signal, SubmitError};

use crate::country::Country;
use crate::facts::Facts;
use crate::gateway_client::{GatewayAnswer, GatewayError};
use crate::money::Money;
use crate::payment::{Payment, PaymentId, Token};
use crate::plant::ChargeLine;

/// How long a customer waits for the gateway before the answer is 'processing'.
pub const CHARGE_WAIT_MAX: Duration = Duration::from_secs(2);

/// When to come back after the gateway could not be reached.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(1);

/// What is to be charged.
#[derive(Debug, Clone)]
pub struct Order {
    /// The payment it belongs to.
    pub payment: PaymentId,
    /// What the gateway knows it by, on every attempt.
    pub reference: Arc<str>,
    /// Who pays.
    pub customer: Arc<str>,
    /// Where the customer is, if it is known.
    pub country: Option<Country>,
    /// How much.
    pub money: Money,
    /// With which card.
    pub token: Token,
}

impl Order {
    /// The order of a recorded payment.
    pub fn of(payment: &Payment) -> Self {
        Self {
            payment: payment.id,
            reference: payment.reference.clone(),
            customer: payment.customer.clone(),
            country: payment.country,
            money: payment.money,
            token: payment.token.clone(),
        }
    }
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The gateway charged.
    Captured {
        /// The gateway's number of the charge.
        charge: i64,
    },
    /// The gateway declined; nothing was charged.
    Declined {
        /// Its reason.
        code: Arc<str>,
    },
    /// A policy rejected; nothing was sent.
    Rejected(Rejection),
    /// It is certain that nothing was sent.
    Refused {
        /// Why, in words for the customer.
        why: Arc<str>,
        /// When to come back.
        retry_after: Duration,
    },
    /// The gateway may have charged or not.
    Unknown {
        /// What kept it from being known.
        why: Arc<str>,
    },
}

/// Charges orders: the front of the payment line.
#[derive(Debug, Clone)]
pub struct Charges(ChargeLine);

impl Charges {
    /// Charges through `line`.
    pub fn new(line: ChargeLine) -> Self {
        Self(line)
    }

    /// Judges the order and charges it, for a request of this trace.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the gateway charged: the payment is to be called unknown.
    pub async fn submit(&self, order: Order, facts: Facts, trace: TraceContext) -> ChargeOutcome {
        // A customer's payments keep to one pool while it has room.
        let customer = order.customer.clone();
        let signal = Signal::new(order).key(customer.as_bytes()).trace(trace);
        self.0.submit(signal, &facts).await.into()
    }
}

impl From<Result<GatewayAnswer, SubmitError<GatewayError>>> for ChargeOutcome {
    fn from(result: Result<GatewayAnswer, SubmitError<GatewayError>>) -> Self {
        match result {
            Ok(GatewayAnswer::Charged { charge }) => Self::Captured { charge },
            Ok(GatewayAnswer::Declined { code }) => Self::Declined { code },
            Err(SubmitError::Rejected(rejection)) => Self::Rejected(rejection),
            Err(SubmitError::Refused(refusal)) => {
                Self::Refused { why: refusal.reason.to_string().into(), retry_after: refusal.retry_after }
            }
            Err(SubmitError::Failed(GatewayError::NotSent { .. })) => Self::Refused {
                why: "the card gateway cannot be reached".into(),
                retry_after: UNREACHABLE_RETRY,
            },
            Err(SubmitError::Failed(GatewayError::Unknown { why })) => Self::Unknown { why },
            // The worker died or ran out of time with the order in hand.
            Err(error) => Self::Unknown { why: error.to_string().into() },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use gemba::Node;

    use super::*;
    use crate::currency::Currency;
    use crate::fraud::FraudLimits;
    use crate::gateway_client::GatewayClient;
    use crate::store::Store;
    use crate::store::tests::open;

    /// A node whose line charges at `gateway`.
    pub(crate) async fn charging(gateway: GatewayClient, store: &Store) -> (Node, Charges) {
        let node = Node::builder("test");
        let (plant, lines) = crate::plant::tests::plant(node.system(), gateway, store);
        (node.child(plant).start().await.unwrap(), Charges::new(lines.payment))
    }

    pub(crate) fn money(minor: i64, code: &str) -> Money {
        Money::new(minor, Currency::from_code(code).unwrap()).unwrap()
    }

    pub(crate) fn order(customer: &str, minor: i64, code: &str) -> Order {
        let payment = PaymentId::generate();
        Order {
            payment,
            reference: payment.to_string().into(),
            customer: customer.into(),
            country: None,
            money: money(minor, code),
            token: Token::new("tok_ok"),
        }
    }

    #[tokio::test]
    async fn what_a_policy_rejects_is_not_sent() {
        // Nothing listens there: sending would be refused, not rejected.
        let gateway = GatewayClient::new("http://127.0.0.1:9").unwrap();
        let (_directory, store) = open();
        let (_node, charges) = charging(gateway, &store).await;
        let facts = Facts {
            attempts: 1,
            currencies: 1,
            countries: 0,
            median_minor: None,
            blacklisted: true,
            trusted: false,
            limits: FraudLimits::default(),
        };
        let rejected = charges.submit(order("c", 1, "EUR"), facts.clone(), TraceContext::begin(7)).await;
        assert!(matches!(rejected, ChargeOutcome::Rejected(no) if &*no.violations[0].rule == "blacklist"));
        let facts = Facts { blacklisted: false, ..facts };
        let refused = charges.submit(order("c", 1, "EUR"), facts, TraceContext::begin(8)).await;
        assert!(matches!(refused, ChargeOutcome::Refused { .. }), "{refused:?}");
    }
}
