//! The plant: one line, where requests for deliveries are admitted, judged, and handed to the queue.

use std::time::Duration;

use gemba::breaker::Outcome;
use gemba::{Action, Address, JobContext, Line, LineSpec, Plant, PlantErrors, PoolSpec, System};

use crate::policy::{DeploymentRequest, Facts, policy};
use crate::scheduler::{JoinError, Msg};

/// How long a request may take to be in the queue, or begun: writes to the disk, and turns of the queue and of the
/// conductor before them.
const DEADLINE: Duration = Duration::from_secs(5);

/// The line of deliveries.
pub type DeploymentLine = Line<Begin, Facts>;

/// Lets a delivery join the queue, which begins it if it is its turn.
#[derive(Debug)]
pub struct Begin {
    scheduler: Address<Msg>,
}

/// Why a delivery that the policy approved is not in the queue.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The queue does not take it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The queue did not answer. The delivery may be in it; the same id finds it.
    #[error("the queue does not answer")]
    Silent(#[from] gemba::CallError),
}

impl Action for Begin {
    type Input = DeploymentRequest;
    type Output = String;
    type Error = BeginError;

    async fn run(&self, request: DeploymentRequest, job: &JobContext) -> Result<String, BeginError> {
        let joined = self.scheduler.call_within(job.remaining(), |reply| Msg::Join(request, reply)).await?;
        Ok(joined?)
    }

    fn judge(&self, result: &Result<String, BeginError>) -> Outcome {
        match result {
            // One that says no is in good health.
            Ok(_) | Err(BeginError::Join(JoinError::Refused(_))) => Outcome::Success,
            Err(BeginError::Join(JoinError::Unavailable(_)) | BeginError::Silent(_)) => Outcome::Failure,
        }
    }
}

/// Puts the plant together.
///
/// # Errors
///
/// None in practice: the names and sizes below are sound.
pub fn plant(system: &System, scheduler: Address<Msg>) -> Result<(Plant, DeploymentLine), PlantErrors> {
    let mut plant = Plant::builder(system).pool(PoolSpec::new("deployment").workers(1, 4));
    let line =
        plant.line(LineSpec::new("deployment", Begin { scheduler }).policy(policy()).deadline(DEADLINE));
    Ok((plant.build()?, line))
}
