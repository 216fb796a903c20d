//! How others reach a conductor, and see its service no older than it is written down.

use gemba::{Address, CallError, DatabaseError};
use tokio::sync::watch;

use super::Msg;
use crate::store::Store;
use crate::view::ServiceView;

/// How a service is reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Its conductor.
    pub conductor: Address<Msg>,
    /// What it publishes.
    pub view: watch::Receiver<ServiceView>,
}

/// Why it is not known how a service stands.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The record cannot be read.
    #[error("the record is out of reach")]
    Record(#[from] DatabaseError),
    /// Its conductor is in the middle of something, or starts again.
    #[error("nobody says how the service stands")]
    Conductor(#[from] CallError),
}

impl Reach {
    /// How the service stands, no older than the record is now: who has read there that a delivery is over may ask
    /// for the next one at once.
    ///
    /// A step is on the disk while its tick still tells the regions. The conductor is asked only then, and answers
    /// when that tick has shown everything, with the regions as it left them.
    ///
    /// # Errors
    ///
    /// [`ViewError`]; ask again.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: nothing is changed.
    pub async fn current(&self, service: &str, store: &Store) -> Result<ServiceView, ViewError> {
        let record = store.load(service).await?;
        let is_shown = self.view.borrow().shows(&record);
        if !is_shown {
            self.conductor.call(Msg::Shown).await?;
        }
        Ok(self.view.borrow().clone())
    }
}
