//! Where a line's signals may come from besides its callers: a queue or a broker that keeps what is not done.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use gemba_core::admission::Tier;

/// A queue or a broker that gives out one piece of work when it is asked, and again when it does not hear that
/// the work is done. A clone asks on its own, as one more of those who pull.
///
/// [`feed`](crate::feed()) asks as many clones at the same time as may be in flight. The durable queue of
/// `gemba-store` is one. A broker with pull consumers and explicit acknowledgement is another: for JetStream `pull`
/// is a fetch of one message, and the four ends are `ack`, `nak` with a delay, `nak` and `term`.
pub trait Source: Clone + Send + Sync + 'static {
    /// What it gives out.
    type Pulled: Pulled;
    /// Why it gives out nothing.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Waits for work, as long as it takes.
    ///
    /// # Errors
    ///
    /// Its own; whoever asked ends with it, and its supervisor starts it again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future must lose nothing, and should not count as a delivery.
    fn pull(&mut self) -> impl Future<Output = Result<Self::Pulled, Self::Error>> + Send;
}

/// A piece of work in hand. Dropping it must give it to somebody else.
pub trait Pulled: Send + Sync + 'static {
    /// Why its end was not recorded. It comes again then.
    type Error: fmt::Display + Send;

    /// How urgent it is, if its source tells urgent work from other.
    fn tier(&self) -> Option<Tier> {
        None
    }

    /// Keeps it in hand for as long as the future is polled, if its source would take it away after a time; ends
    /// when it is lost all the same.
    ///
    /// # Cancel safety
    ///
    /// It is dropped when the work is over.
    fn keep(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// It is done and never comes again.
    ///
    /// # Errors
    ///
    /// Its source's own; so for the others.
    fn done(self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Nobody worked on it: it comes again after `delay`, and the delivery does not count where its source can tell.
    ///
    /// # Errors
    ///
    /// As [`done`](Self::done).
    fn put_back(self, delay: Duration, why: String) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// The work failed: it comes again when its source thinks fit, as often as its source thinks fit.
    ///
    /// # Errors
    ///
    /// As [`done`](Self::done).
    fn failed(self, why: String) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Trying again would change nothing: it never comes again by itself.
    ///
    /// # Errors
    ///
    /// As [`done`](Self::done).
    fn set_aside(self, why: String) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
