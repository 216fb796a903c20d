//! Publishing what others merely read: the owner sends a whole new view, readers take the latest.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

/// The latest view of something. Readers never wait, and never hold up the owner.
///
/// Readers that wait for the next view are woken in the order in which they began to wait. (tokio's `watch` wakes
/// them in an order drawn at random, and a simulation of them would not do the same thing twice.)
pub struct Publisher<T>(Arc<Shared<T>>);

struct Shared<T> {
    latest: ArcSwap<T>,
    changed: Notify,
    closed: OnceLock<()>,
}

impl<T> Publisher<T> {
    /// Publishes `first` until there is something newer.
    pub fn new(first: T) -> Self {
        let (latest, changed) = (ArcSwap::from_pointee(first), Notify::new());
        Self(Arc::new(Shared { latest, changed, closed: OnceLock::new() }))
    }

    /// Replaces the view.
    pub fn publish(&self, view: T) {
        self.0.latest.store(Arc::new(view));
        self.0.changed.notify_waiters();
    }

    /// The latest view.
    pub fn latest(&self) -> Arc<T> {
        self.0.latest.load_full()
    }

    /// The latest view, now and whenever it changes. The present one counts as seen.
    pub fn subscribe(&self) -> Reader<T> {
        Reader { shared: self.0.clone(), seen: self.latest() }
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        // It is dropped once.
        let _ = self.0.closed.set(());
        self.0.changed.notify_waiters();
    }
}

impl<T: fmt::Debug> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publisher").field(&self.latest()).finish()
    }
}

/// The publisher is gone, and nothing new comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing more is published; the node is gone")]
pub struct Closed;

/// Follows what is published; from [`Publisher::subscribe`]. Of views that follow each other quickly it may miss
/// all but the last.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    seen: Arc<T>,
}

impl<T> Reader<T> {
    /// Waits until there is a view that was not seen yet, and counts it as seen.
    ///
    /// # Errors
    ///
    /// [`Closed`] when nothing more can come.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: no view is counted as seen unless it returns.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // Before the look: what is published from here on wakes it.
            let changed = self.shared.changed.notified();
            let latest = self.shared.latest.load_full();
            if !Arc::ptr_eq(&latest, &self.seen) {
                self.seen = latest;
                return Ok(());
            }
            if self.shared.closed.get().is_some() {
                return Err(Closed);
            }
            changed.await;
        }
    }

    /// The latest view, which counts as seen.
    pub fn latest(&mut self) -> Arc<T> {
        self.seen = self.shared.latest.load_full();
        self.seen.clone()
    }

    /// Whether there is a view that was not seen yet.
    pub fn has_changed(&self) -> bool {
        !Arc::ptr_eq(&self.shared.latest.load(), &self.seen)
    }

    /// Waits for a view that `wanted` accepts: the latest, or one to come.
    ///
    /// # Errors
    ///
    /// [`Closed`] when there is none and none can come.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<Arc<T>, Closed> {
        loop {
            let latest = self.latest();
            if wanted(&latest) {
                return Ok(latest);
            }
            self.changed().await?;
        }
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), seen: self.seen.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.shared.latest.load()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readers_are_woken_in_the_order_in_which_they_wait() {
        let publisher = Publisher::new(0);
        let (woken, order) = channel();
        for n in 0..20 {
            let (mut reader, woken) = (publisher.subscribe(), woken.clone());
            tokio::spawn(async move {
                while reader.changed().await.is_ok() {
                    woken.send((*reader.latest(), n)).unwrap();
                }
            });
        }
        for view in 1..=3 {
            tokio::task::yield_now().await;
            publisher.publish(view);
        }
        tokio::task::yield_now().await;
        let order: Vec<_> = order.try_iter().collect();
        assert!(order.iter().map(|(view, _)| view).is_sorted());
        let third: Vec<_> = order.iter().filter(|(view, _)| *view == 3).map(|(_, n)| *n).collect();
        assert_eq!(third, (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_is_seen_once_and_the_end_is_told() {
        let publisher = Publisher::new(1);
        let mut reader = publisher.subscribe();
        assert!(!reader.has_changed());
        publisher.publish(2);
        publisher.publish(2);
        assert!(reader.has_changed());
        assert_eq!(reader.changed().await, Ok(()));
        assert!(!reader.has_changed(), "the first of the two was overtaken");
        assert_eq!(reader.wait_for(|view| *view == 2).await.as_deref(), Ok(&2));
        let waiting = tokio::spawn(async move { (reader.wait_for(|view| *view == 9).await, reader) });
        tokio::task::yield_now().await;
        publisher.publish(3);
        drop(publisher);
        let (end, mut reader) = waiting.await.unwrap();
        assert_eq!(end, Err(Closed));
        assert_eq!(*reader.latest(), 3);
    }
}
