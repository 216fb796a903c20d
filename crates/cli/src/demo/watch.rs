//! Follows the service through its inspector: tree, board, receipts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use gemba::receipt::{Event, Receipt, Seq};
use gemba::view::{BoardView, TreeView};
use gemba::{Client, ClientError};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::demo::{Phase, until};
use crate::exit::sentence;

/// How often the inspector is asked.
const PERIOD: Duration = Duration::from_millis(250);

/// Receipts kept to be shown.
const RECENT_MAX: usize = 64;

/// What was seen last. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) tree: Option<Arc<TreeView>>,
    pub(crate) board: Option<Arc<BoardView>>,
    /// The newest receipts, the newest last.
    pub(crate) receipts: VecDeque<Arc<Receipt>>,
    /// Children started again, counted from the receipts.
    pub(crate) restarts: u64,
    /// Receipts that were forgotten before they were read; restarts among them are not counted.
    pub(crate) forgotten: u64,
    /// Why the inspector could not be asked, if it could not.
    pub(crate) trouble: Option<Arc<str>>,
}

/// A reader of one node's inspector.
#[derive(Debug)]
pub(crate) struct Watcher {
    client: Client,
    seen: watch::Sender<Seen>,
    next: Seq,
}

impl Watcher {
    /// A watcher that has seen nothing yet.
    pub(crate) fn new(client: Client) -> (Self, watch::Receiver<Seen>) {
        let (seen, receiver) = watch::channel(Seen::default());
        (Self { client, seen, next: Seq(0) }, receiver)
    }

    /// Looks again and again until the demonstration is over, and once more then.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = until(&mut phase, Phase::Over) => break,
                _ = ticks.tick() => self.look().await,
            }
        }
        self.look().await;
    }

    async fn look(&mut self) {
        let trouble = match self.try_look().await {
            Ok(()) => None,
            Err(error) => Some(sentence(&error).into()),
        };
        self.seen.send_modify(|seen| seen.trouble = trouble);
    }

    async fn try_look(&mut self) -> Result<(), ClientError> {
        loop {
            let page = self.client.receipts(Some(self.next), None, Client::RECEIPTS_MAX).await?;
            let is_last = page.receipts.len() < Client::RECEIPTS_MAX;
            self.next = page.next;
            self.seen.send_modify(|seen| {
                seen.forgotten += page.forgotten;
                for receipt in page.receipts {
                    seen.take(receipt);
                }
            });
            if is_last {
                break;
            }
        }
        let tree = Arc::new(self.client.tree().await?);
        let board = Arc::new(self.client.board().await?);
        self.seen.send_modify(|seen| {
            seen.tree = Some(tree);
            seen.board = Some(board);
        });
        Ok(())
    }
}

impl Seen {
    fn take(&mut self, receipt: Arc<Receipt>) {
        if matches!(receipt.event, Event::ChildRestarted { .. }) {
            self.restarts += 1;
        }
        if self.receipts.len() == RECENT_MAX {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::receipts_sample;

    #[test]
    fn restarts_are_counted_and_only_the_newest_receipts_kept() {
        let mut seen = Seen::default();
        for _ in 0..RECENT_MAX {
            for receipt in receipts_sample() {
                seen.take(Arc::new(receipt));
            }
        }
        assert_eq!(seen.restarts, RECENT_MAX as u64);
        assert_eq!(seen.receipts.len(), RECENT_MAX);
        assert!(matches!(seen.receipts.back().unwrap().event, Event::ChildRestarted { .. }));
    }
}
