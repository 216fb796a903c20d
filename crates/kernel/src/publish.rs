//! Publishing what others merely read: the owner sends a whole new view, readers take the latest.

use std::sync::Arc;

use tokio::sync::watch;

/// The latest view of something. Readers never wait, and never hold up the owner.
#[derive(Debug)]
pub struct Publisher<T>(watch::Sender<Arc<T>>);

impl<T> Publisher<T> {
    /// Publishes `first` until there is something newer.
    pub fn new(first: T) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    /// Replaces the view.
    pub fn publish(&self, view: T) {
        self.0.send_replace(Arc::new(view));
    }

    /// The latest view.
    pub fn latest(&self) -> Arc<T> {
        self.0.borrow().clone()
    }

    /// The latest view, now and whenever it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.0.subscribe()
    }
}
