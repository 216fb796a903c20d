//! The plant of the service: three pools, and the lines that charge and confirm.

use std::sync::Arc;
use std::time::Duration;

use gemba::admission::Tier;
use gemba::breaker::Outcome;
use gemba::policy::BoxPolicy;
use gemba::{
    Action, JobContext, Line, LineSpec, Plant, PlantErrors, PlantSection, PoolSpec, Receipts, System,
};
use tracing::Instrument;

use crate::charge::{CHARGE_WAIT_MAX, Order};
use crate::confirm::{Confirmation, deliver};
use crate::facts::Facts;
use crate::gateway_client::{GatewayAnswer, GatewayClient, GatewayError};
use crate::store::Store;
use gemba::DatabaseError;

/// How long a payment may take in the line: the gateway's time, and as much again of waiting for a worker.
pub const PAYMENT_DEADLINE: Duration = CHARGE_WAIT_MAX.saturating_mul(2);

/// The longest deadline a payment may be given, in milliseconds: it has ended, its records included, when the
/// reconciler takes it for left behind.
pub const PAYMENT_DEADLINE_MS_MAX: u32 = 20_000;

/// How long a confirmation may take.
pub const CONFIRMATION_DEADLINE: Duration = Duration::from_secs(10);

/// Sends an order to the gateway.
#[derive(Debug)]
pub struct Charge {
    gateway: GatewayClient,
}

impl Action for Charge {
    type Input = Order;
    type Output = GatewayAnswer;
    type Error = GatewayError;

    async fn run(&self, order: Order, job: &JobContext) -> Result<GatewayAnswer, GatewayError> {
        let span = tracing::debug_span!(target: "gemba::signal", "call_gateway", otel.kind = "client");
        let call = async {
            let timeout = CHARGE_WAIT_MAX.min(job.remaining());
            // Of this span, so that what the gateway does for it comes below it.
            self.gateway.charge(&order, timeout, job.trace()).await
        };
        call.instrument(span).await
    }

    fn class(&self, error: &GatewayError) -> &'static str {
        match error {
            GatewayError::NotSent { .. } => "not_sent",
            GatewayError::Unknown { .. } => "no_answer",
        }
    }

    fn judge(&self, result: &Result<GatewayAnswer, GatewayError>) -> Outcome {
        match result {
            // A gateway that declines is in good health.
            Ok(GatewayAnswer::Charged { .. } | GatewayAnswer::Declined { .. }) => Outcome::Success,
            Err(GatewayError::NotSent { .. } | GatewayError::Unknown { .. }) => Outcome::Failure,
        }
    }
}

/// Delivers a confirmation.
#[derive(Debug)]
pub struct Confirm {
    store: Store,
}

impl Action for Confirm {
    type Input = Arc<Confirmation>;
    type Output = ();
    type Error = DatabaseError;

    async fn run(&self, confirmation: Arc<Confirmation>, _: &JobContext) -> Result<(), DatabaseError> {
        deliver(&self.store, &confirmation).await
    }
}

/// The line that charges.
pub type ChargeLine = Line<Charge, Facts>;

/// A line that confirms.
pub type ConfirmLine = Line<Confirm>;

/// The lines of the service, where signals enter.
#[derive(Debug, Clone)]
pub struct Lines {
    /// Charges payments.
    pub payment: ChargeLine,
    /// Tells merchants of money they got.
    pub delivery: ConfirmLine,
    /// Tells customers of everything else.
    pub notification: ConfirmLine,
}

/// The names of the pools, each of the line it does the work of.
pub const NAMES: [&str; 3] = ["payment", "delivery", "notification"];

/// Puts the plant together, set as `section` says.
///
/// # Errors
///
/// None in practice: the names are sound, and the settings were checked.
pub fn plant(
    system: &System,
    policy: BoxPolicy<Order, Facts>,
    gateway: GatewayClient,
    store: &Store,
    section: &PlantSection,
) -> Result<(Plant, Lines), PlantErrors> {
    let pool = |name| PoolSpec::new(name).section(&section.pools.get(name).cloned().unwrap_or_default());
    let line = |name| section.lines.get(name).cloned().unwrap_or_default();
    let mut plant = Plant::builder(system).section(section);
    for name in NAMES {
        plant = plant.pool(pool(name));
    }
    let [payment, delivery, notification] = NAMES;
    let confirm = |name| {
        LineSpec::new(name, Confirm { store: store.clone() })
            .tier(Tier::Batch)
            .deadline(CONFIRMATION_DEADLINE)
            .section(&line(name))
    };
    let lines = Lines {
        payment: plant.line(
            LineSpec::new(payment, Charge { gateway })
                .policy(policy)
                .tier(Tier::Critical)
                // What a policy rejects stands in the trail; what fails is told with its trace.
                .receipts(Receipts::failures())
                .deadline(PAYMENT_DEADLINE)
                .section(&line(payment)),
        ),
        delivery: plant.line(confirm(delivery)),
        notification: plant.line(confirm(notification)),
    };
    Ok((plant.build()?, lines))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::PaymentConfig;

    /// The plant as it is if nobody says otherwise.
    pub(crate) fn plant(system: &System, gateway: GatewayClient, store: &Store) -> (Plant, Lines) {
        let config = PaymentConfig::sources().load::<PaymentConfig>().unwrap().value;
        super::plant(system, crate::fraud::policy(), gateway, store, &config.plant).unwrap()
    }
}
