//! Audits while payments are made, so that a loss is seen when it happens and not at the end.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::demo::audit::Auditor;
use crate::demo::pay::Acknowledged;
use crate::demo::stage::Books;
use crate::demo::{Phase, until};

/// How often the books are looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Payments looked up at once.
const BATCH_MAX: usize = 65_536;

/// What was found so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) lost: u64,
    pub(crate) charged_twice: u64,
}

/// Looks at the books again and again until the demonstration is over.
///
/// It ends early, and says nothing more, if they cannot be read: the audit at the end tells why.
pub(crate) async fn oversee(
    books: Books,
    mut acknowledged: mpsc::Receiver<Acknowledged>,
    found: watch::Sender<Option<Loss>>,
    mut phase: watch::Receiver<Phase>,
) {
    let mut auditor = None;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = 0;
    loop {
        tokio::select! {
            biased;
            () = until(&mut phase, Phase::Over) => return,
            _ = ticks.tick() => {}
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Ok(payment) = acknowledged.try_recv()
        {
            batch.push(payment);
        }
        let (known, books) = (auditor.take(), books.clone());
        let glancing = tokio::task::spawn_blocking(move || {
            let mut auditor = match known {
                Some(auditor) => auditor,
                None => Auditor::open(&books.service, &books.gateway)?,
            };
            auditor.glance(&batch).map(|seen| (auditor, seen))
        });
        let Ok(Ok((known, (newly_lost, charged_twice)))) = glancing.await else {
            found.send_replace(None);
            return;
        };
        auditor = Some(known);
        lost += newly_lost;
        found.send_replace(Some(Loss { lost, charged_twice }));
    }
}
