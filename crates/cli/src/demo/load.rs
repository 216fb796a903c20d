//! An open loop of payments: arrivals come from the clock, never from answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::demo::pay::Desk;
use crate::demo::seed::{Crowd, Dice};
use crate::demo::tally::Note;
use crate::demo::{Phase, until};

/// The most payments outstanding; what is due beyond that is counted and not sent.
pub(crate) const OUTSTANDING_MAX: usize = 2_000;

/// The most payments of one run: each acknowledged one is kept for the audit.
pub(crate) const PAYMENTS_MAX: u64 = 1_000_000;

/// Sends `rate` payments a second while the demonstration runs, then waits for the last answer.
///
/// Each payment bounds itself, so the wait is bounded too.
pub(crate) async fn generate(
    desk: Desk,
    seed: u64,
    rate: u32,
    notes: mpsc::Sender<Note>,
    mut phase: watch::Receiver<Phase>,
) {
    let crowd = Crowd::new(seed, rate);
    let places = Arc::new(Semaphore::new(OUTSTANDING_MAX));
    let mut outstanding = JoinSet::new();
    let start = Instant::now();
    for index in 0..PAYMENTS_MAX {
        let planned = start + due(index, rate);
        tokio::select! {
            biased;
            () = until(&mut phase, Phase::Stopping) => break,
            () = sleep_until(planned) => {}
        }
        while outstanding.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let _ = notes.send(Note::NotSent).await;
            continue;
        };
        // The tally outlives the load: a closed channel means that the demonstration was torn down.
        if notes.send(Note::Submitted).await.is_err() {
            return;
        }
        let (desk, notes) = (desk.clone(), notes.clone());
        outstanding.spawn(async move {
            let ended = desk.pay(&crowd.order(index), planned, Dice::new(!seed, index)).await;
            drop(place);
            let _ = notes.send(Note::Ended(ended)).await;
        });
    }
    while outstanding.join_next().await.is_some() {}
}

/// When the `index`th payment is due.
fn due(index: u64, rate: u32) -> Duration {
    let rate = u64::from(rate);
    Duration::from_secs(index / rate) + Duration::from_nanos(index % rate * 1_000_000_000 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_to_the_clock_without_drift() {
        assert_eq!(due(0, 3), Duration::ZERO);
        assert_eq!(due(1, 3), Duration::from_nanos(333_333_333));
        assert_eq!(due(3, 3), Duration::from_secs(1));
        assert_eq!(due(PAYMENTS_MAX * 1_000, 3), Duration::from_secs(PAYMENTS_MAX * 1_000 / 3) + due(1, 3));
    }
}
