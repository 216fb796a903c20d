//! The plant: one line, where requests for deliveries are admitted, judged, and handed to the service's conductor.

use std::collections::BTreeMap;
use std::time::Duration;

use gemba::breaker::Outcome;
use gemba::{Action, Address, JobContext, Line, LineSpec, Plant, PlantErrors, PoolSpec, System};

use crate::conductor::Msg;
use crate::policy::{DeploymentRequest, Facts, policy};

/// How long a request may take to be begun: a write to the disk, and a turn of the conductor before it.
const DEADLINE: Duration = Duration::from_secs(5);

/// The line of deliveries.
pub type DeploymentLine = Line<Begin, Facts>;

/// Begins a delivery.
#[derive(Debug)]
pub struct Begin {
    conductors: BTreeMap<String, Address<Msg>>,
}

/// Why a delivery that the policy approved was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Something else was begun meanwhile.
    #[error("{0}")]
    Refused(String),
    /// The conductor did not answer. The delivery may have begun; the same id finds it.
    #[error("the service's conductor does not answer")]
    Silent(#[from] gemba::CallError),
}

impl Action for Begin {
    type Input = DeploymentRequest;
    type Output = String;
    type Error = BeginError;

    async fn run(&self, request: DeploymentRequest, job: &JobContext) -> Result<String, BeginError> {
        let unknown = || BeginError::Refused(format!("there is no service {}", request.service));
        let conductor = self.conductors.get(&request.service).ok_or_else(unknown)?;
        let begun =
            conductor.call_within(job.remaining(), |reply| Msg::Begin(request.clone(), reply)).await?;
        begun.map_err(BeginError::Refused)
    }

    fn judge(&self, result: &Result<String, BeginError>) -> Outcome {
        match result {
            // One that says no is in good health.
            Ok(_) | Err(BeginError::Refused(_)) => Outcome::Success,
            Err(BeginError::Silent(_)) => Outcome::Failure,
        }
    }
}

/// Puts the plant together.
///
/// # Errors
///
/// None in practice: the names and sizes below are sound.
pub fn plant(
    system: &System,
    conductors: BTreeMap<String, Address<Msg>>,
) -> Result<(Plant, DeploymentLine), PlantErrors> {
    let mut plant = Plant::builder(system).pool(PoolSpec::new("deployment").workers(1, 4));
    let line =
        plant.line(LineSpec::new("deployment", Begin { conductors }).policy(policy()).deadline(DEADLINE));
    Ok((plant.build()?, line))
}
