//! What becomes of a connection whose protocol was changed (WebSocket): bytes both ways, until both ends are closed or
//! nothing moves.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::sleep_until;

use super::pulse::{Pulse, Pulsed, Verdict};
use super::tally::Ticket;

/// The place of a connection among those that may be open; it is free when the last who holds it is gone.
#[derive(Debug)]
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    /// A thread that is to end waits until nobody has one of these.
    _alive: mpsc::Sender<()>,
}

impl Place {
    pub(crate) const fn new(place: OwnedSemaphorePermit, alive: mpsc::Sender<()>) -> Self {
        Self { _place: place, _alive: alive }
    }
}

/// Joins both ends as soon as both have changed. The request is on its way as long as the tunnel is.
pub(crate) fn dig(
    callers: OnUpgrade,
    instances: OnUpgrade,
    idle: Duration,
    mut ticket: Ticket,
    place: Arc<Place>,
) {
    tokio::spawn(async move {
        let _place = place;
        match tokio::try_join!(callers, instances) {
            Ok((caller, instance)) => join(caller, instance, idle).await,
            Err(error) => {
                tracing::debug!(%error, "tunnel not dug");
                ticket.broke_off();
            }
        }
    });
}

async fn join(caller: Upgraded, instance: Upgraded, idle: Duration) {
    let pulse = Arc::new(Pulse::new());
    let beat = pulse.begin(true);
    drop(beat);
    let mut caller = Pulsed::new(TokioIo::new(caller), pulse.clone());
    let mut instance = TokioIo::new(instance);
    // What goes to the caller or comes from it moves; nothing else can.
    let mut joined = std::pin::pin!(copy_bidirectional(&mut caller, &mut instance));
    loop {
        let again = match pulse.verdict(idle, idle, Duration::ZERO) {
            Verdict::Alive(again) => again,
            Verdict::Idle | Verdict::Stuck => return,
        };
        tokio::select! {
            _ = &mut joined => return,
            () = sleep_until(again) => {}
        }
    }
}
