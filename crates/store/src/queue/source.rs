//! The durable queue as a source of a line.

use std::fmt;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_flow::{Pulled, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{AckError, Card, PullError, Queue, Subscriber};

/// A queue as the source of a feed; made by [`Queue::source`]. Each clone subscribes on its own.
pub struct QueueSource<T> {
    queue: Queue<T>,
    subscriber: Option<Subscriber<T>>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Queue<T> {
    /// The queue as the source of a line's signals, for [`feed`](gemba_flow::feed()).
    ///
    /// What fails comes again as the queue's rules say, and is dead after its last delivery; what the line refuses
    /// comes again without being counted; what its policy rejects is dead at once. [`Card::id`] stays the same
    /// from delivery to delivery: give it to the action, so that doing the work twice does no harm.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    ///
    /// use gemba_flow::{Action, JobContext, LineSpec, Plant, PoolSpec, Signal, feed};
    /// use gemba_kernel::Node;
    /// use gemba_store::{Card, queue};
    ///
    /// struct Ship;
    ///
    /// impl Action for Ship {
    ///     type Input = (u64, String);
    ///     type Output = ();
    ///     type Error = Infallible;
    ///     async fn run(&self, (card, order): (u64, String), _: &JobContext) -> Result<(), Infallible> {
    ///         println!("{card}: {order} is on its way");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let file = directory.path().join("orders.db");
    /// let orders = queue::<String>("orders", &file).open()?;
    /// let queue = orders.handle();
    /// let node = Node::builder("shop");
    /// let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("ship"));
    /// let ship = plant.line(LineSpec::new("ship", Ship));
    /// let signal = |card: &Card<String>| Signal::new((card.id().0, card.item().clone()));
    /// let feed = feed("feed", queue.source(), &ship, signal).in_flight_max(20).build()?;
    /// // After what it stands between, so that it stops before them.
    /// let node = node.child(orders).child(plant.build()?).child(feed).start().await?;
    ///
    /// queue.append(&"a bicycle".to_owned()).await?; // From here on it will be shipped, whatever crashes.
    /// while queue.view().await?.counts.done < 1 {
    ///     tokio::time::sleep(Duration::from_millis(5)).await;
    /// }
    /// node.stop("done").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn source(&self) -> QueueSource<T> {
        QueueSource { queue: self.clone(), subscriber: None }
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Source for QueueSource<T> {
    type Pulled = Card<T>;
    type Error = PullError;

    async fn pull(&mut self) -> Result<Card<T>, PullError> {
        if self.subscriber.is_none() {
            self.subscriber = Some(self.queue.subscribe(1).await?);
        }
        self.subscriber.as_mut().expect("it has just subscribed").pull().await
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Pulled for Card<T> {
    type Error = AckError;

    fn tier(&self) -> Option<Tier> {
        Some(Self::tier(self))
    }

    async fn keep(&self) {
        Self::keep(self).await;
    }

    async fn done(self) -> Result<(), AckError> {
        Self::done(self).await
    }

    async fn put_back(self, delay: Duration, why: String) -> Result<(), AckError> {
        Self::put_back(self, delay, why).await
    }

    async fn failed(self, why: String) -> Result<(), AckError> {
        self.give_back(None, why).await
    }

    async fn set_aside(self, why: String) -> Result<(), AckError> {
        Self::set_aside(self, why).await
    }
}

impl<T> Clone for QueueSource<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), subscriber: None }
    }
}

impl<T> fmt::Debug for QueueSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSource").field("subscriber", &self.subscriber).finish_non_exhaustive()
    }
}
