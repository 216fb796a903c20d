//! The plant of the service: three pools, and the lines that charge and confirm.

use std::sync::Arc;
use std::time::Duration;

use gemba::admission::Tier;
use gemba::breaker::Outcome;
use gemba::policy::BoxPolicy;
use gemba::{Action, JobContext, Line, LineSpec, Plant, PlantErrors, PoolSpec, System};

use crate::charge::{CHARGE_WAIT_MAX, Order};
use crate::confirm::{Confirmation, deliver};
use crate::facts::Facts;
use crate::gateway_client::{GatewayAnswer, GatewayClient, GatewayError};
use crate::store::Store;
use gemba::DatabaseError;

/// How long a payment may take in the line: the gateway's time, and as much again of waiting for a worker.
pub const PAYMENT_DEADLINE: Duration = CHARGE_WAIT_MAX.saturating_mul(2);

/// How long a confirmation may take.
pub const CONFIRMATION_DEADLINE: Duration = Duration::from_secs(10);

/// Within which time a pool's worker crashes are counted.
const CRASH_PERIOD: Duration = Duration::from_secs(60);

/// How long a worker may finish its job when the plant restarts. Short: what it leaves open is found out by
/// the reconciler, and the outbox sends again, while everybody else waits for the restart.
const STOP_WITHIN: Duration = Duration::from_millis(50);

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
        self.gateway.charge(&order, CHARGE_WAIT_MAX.min(job.remaining())).await
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

/// Puts the plant together. `crashes_max` workers of a pool may crash within a minute before the pool is
/// started anew.
///
/// # Errors
///
/// None in practice: the names and sizes below are sound.
pub fn plant(
    system: &System,
    policy: BoxPolicy<Order, Facts>,
    gateway: GatewayClient,
    store: &Store,
    crashes_max: u32,
) -> Result<(Plant, Lines), PlantErrors> {
    let pool = |name, min, max| {
        PoolSpec::new(name).workers(min, max).intensity(crashes_max, CRASH_PERIOD).stop_within(STOP_WITHIN)
    };
    let mut plant = Plant::builder(system)
        .pool(pool("payment", 10, 30))
        .pool(pool("delivery", 8, 25))
        .pool(pool("notification", 5, 20));
    let confirm = |name| {
        LineSpec::new(name, Confirm { store: store.clone() })
            .tier(Tier::Batch)
            .deadline(CONFIRMATION_DEADLINE)
    };
    let lines = Lines {
        payment: plant.line(
            LineSpec::new("payment", Charge { gateway })
                .policy(policy)
                .tier(Tier::Critical)
                .deadline(PAYMENT_DEADLINE),
        ),
        delivery: plant.line(confirm("delivery")),
        notification: plant.line(confirm("notification")),
    };
    Ok((plant.build()?, lines))
}
