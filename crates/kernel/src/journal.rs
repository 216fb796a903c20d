//! A cell: the ring of receipts, each with its number and its cause.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Receipt, Seq};
use gemba_core::time::Timestamp;
use gemba_core::view::ReceiptsView;

use crate::publish::{Publisher, Reader};

/// How many receipts the ring remembers; older ones are forgotten, and readers are told how many.
pub const JOURNAL_CAPACITY: usize = 16_384;

/// What happened on this node, in order.
///
/// Receipts are for what is rare and matters: exits, restarts, breakers, sizes, surges, lights, cords. A
/// signal that succeeds leaves none; it is counted.
///
/// # Units and limits
///
/// The newest [`JOURNAL_CAPACITY`] receipts; a reader that comes too late is told how many it has missed.
///
/// # Examples
///
/// ```
/// use gemba_core::receipt::Seq;
/// use gemba_kernel::{Node, Stop, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let unlucky = task("unlucky", |_| async { Err(Stop::error("no luck")) }).temporary();
/// let node = Node::builder("example").child(unlucky).start().await?;
/// let journal = node.system().journal();
/// let (mut newest, mut seen) = (journal.subscribe(), Seq(0));
/// 'read: loop {
///     let page = journal.after(seen, None, 100);
///     for receipt in &page.receipts {
///         println!("{}: {}", receipt.path, receipt.event);
///         if receipt.event.kind() == "child_exited" { break 'read; }
///     }
///     seen = page.next;
///     if seen == journal.newest() { newest.changed().await?; }
/// }
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Journal {
    ring: Mutex<Ring>,
    newest: Publisher<Seq>,
}

#[derive(Debug)]
struct Ring {
    receipts: VecDeque<Arc<Receipt>>,
    next: u64,
    /// Whether nobody has read since the readers were woken: then they need no second call.
    called: bool,
}

impl Journal {
    pub(crate) fn new() -> Self {
        let ring = Ring { receipts: VecDeque::new(), next: 1, called: false };
        Self { ring: Mutex::new(ring), newest: Publisher::new(Seq(0)) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("nothing panics while it holds the ring")
    }

    /// Writes a receipt and gives it its number.
    pub(crate) fn record(
        &self,
        cause: Option<Seq>,
        path: &ActorPath,
        event: Event,
        at: Timestamp,
        unix_ms: u64,
    ) -> Seq {
        let mut ring = self.ring();
        let seq = Seq(ring.next);
        ring.next += 1;
        if ring.receipts.len() == JOURNAL_CAPACITY {
            ring.receipts.pop_front();
        }
        ring.receipts.push_back(Arc::new(Receipt { seq, at, unix_ms, cause, path: path.clone(), event }));
        if !ring.called {
            ring.called = true;
            // Inside the lock, so that the newest number never goes back.
            self.newest.publish(seq);
        }
        seq
    }

    /// The receipts after number `after`, oldest first, at most `limit`; with `within`, only those about
    /// that actor and the ones below it.
    pub fn after(&self, after: Seq, within: Option<&ActorPath>, limit: usize) -> ReceiptsView {
        let mut ring = self.ring();
        ring.called = false;
        let oldest = ring.next - ring.receipts.len() as u64;
        let skip = after.0.saturating_add(1).saturating_sub(oldest) as usize;
        let mut view = ReceiptsView {
            receipts: Vec::new(),
            next: Seq(after.0.min(ring.next - 1)),
            forgotten: oldest.saturating_sub(after.0.saturating_add(1)),
        };
        for receipt in ring.receipts.iter().skip(skip) {
            if view.receipts.len() == limit {
                return view;
            }
            view.next = receipt.seq;
            if within.is_none_or(|within| receipt.path.is_within(within)) {
                view.receipts.push(receipt.clone());
            }
        }
        view
    }

    /// Changes when there is something new to read; whoever was woken reads, with [`after`](Self::after),
    /// before it waits again. One call wakes the readers for all that is written until they read.
    pub fn subscribe(&self) -> Reader<Seq> {
        let mut ring = self.ring();
        ring.called = false;
        self.newest.subscribe()
    }

    /// The number of the newest receipt.
    pub fn newest(&self) -> Seq {
        Seq(self.ring().next - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(journal: &Journal, path: &str) -> Seq {
        let event = Event::NodeStopping { why: "test".into() };
        journal.record(None, &path.parse().unwrap(), event, Timestamp::START, 0)
    }

    #[test]
    fn numbers_have_no_gaps_and_pages_join() {
        let journal = Journal::new();
        for _ in 0..5 {
            record(&journal, "/a");
        }
        let first = journal.after(Seq(0), None, 2);
        let second = journal.after(first.next, None, 10);
        let numbers: Vec<_> = first.receipts.iter().chain(&second.receipts).map(|r| r.seq.0).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert_eq!(journal.after(second.next, None, 10).receipts.len(), 0);
        assert_eq!(journal.newest(), Seq(5));
    }

    #[test]
    fn a_storm_wakes_each_reader_once_until_it_reads() {
        let journal = Journal::new();
        let mut news = journal.subscribe();
        for storm in 0..2 {
            record(&journal, "/a");
            assert!(news.has_changed(), "storm {storm}");
            news.latest();
            record(&journal, "/a");
            assert!(!news.has_changed(), "it has not read yet");
            let mut late = journal.subscribe();
            record(&journal, "/a");
            assert!(late.has_changed(), "who comes late is called as well");
            late.latest();
            news.latest();
            journal.after(Seq(0), None, 10);
        }
    }

    #[test]
    fn a_reader_who_comes_late_is_told_what_was_forgotten() {
        let journal = Journal::new();
        for _ in 0..JOURNAL_CAPACITY + 3 {
            record(&journal, "/a");
        }
        let page = journal.after(Seq(0), None, 1);
        assert_eq!((page.forgotten, page.receipts[0].seq), (3, Seq(4)));
    }

    #[test]
    fn a_path_selects_the_actor_and_those_below_it() {
        let journal = Journal::new();
        for path in ["/a", "/a/b", "/ab"] {
            record(&journal, path);
        }
        let page = journal.after(Seq(0), Some(&"/a".parse().unwrap()), 10);
        assert_eq!(page.receipts.len(), 2);
        assert_eq!(page.next, Seq(3), "what was passed over is not asked for again");
    }
}
