//! A durable queue: cards that survive the process, pulled within a limit, delivered at least once.
//!
//! The file is the truth and [`Kanban`](gemba_core::kanban::Kanban) decides; the actor between them is in
//! `keeper.rs`. Messages to it are hints: one that is lost is found on the disk a moment later.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gemba_core::admission::Tier;
use gemba_core::kanban::{CardId, Flow, KanbanCounts, KanbanRules, KanbanRulesBuilder};
use gemba_core::light::Light;
use gemba_core::name::Name;
use gemba_kernel::{Address, ChildSpec, Publisher, server};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::{Database, DatabaseError};

mod error;
mod held;
mod keeper;
mod rows;
mod source;
mod subscriber;

pub use error::{AckError, AppendError, OpenError, PullError};
pub use rows::{Appended, DeadCard};
pub use source::QueueSource;
pub use subscriber::{Card, Subscriber};

use keeper::{Keeper, Msg};
use rows::NewRow;

/// The largest card, as JSON: what is larger belongs elsewhere, with its name on the card.
pub const PAYLOAD_MAX: usize = 1 << 20;

/// A queue called `name` in the SQLite file at `path`, which this process alone may use.
///
/// A card is on the disk before [`Queue::append`] returns. It is delivered at least once: again when its
/// subscriber is dropped, its worker fails, its lease ends or the process dies, [`KanbanRules::deliveries_max`]
/// times in all; then it is set aside as dead, with its last error. Within a tier cards go in the order they came.
///
/// # Examples
///
/// ```
/// use gemba_kernel::Node;
/// use gemba_store::queue;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order { id: u64 }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("orders.db");
/// let orders = queue::<Order>("orders", &file).open()?;
/// let queue = orders.handle();
/// let node = Node::builder("shop").child(orders).start().await?;
///
/// queue.append(&Order { id: 7 }).await?; // On the disk.
/// let mut subscriber = queue.subscribe(1).await?;
/// let card = subscriber.pull().await?;
/// assert_eq!(card.item().id, 7);
/// card.done().await?; // Dropping it instead would give it to somebody else.
/// # node.stop("done").await?;
/// # Ok(())
/// # }
/// ```
pub fn queue<T: Serialize + DeserializeOwned + Send + 'static>(
    name: &str,
    path: impl AsRef<Path>,
) -> QueueBuilder<T> {
    QueueBuilder {
        name: name.to_owned(),
        path: path.as_ref().to_owned(),
        rules: KanbanRules::builder(),
        item: PhantomData,
    }
}

/// A queue to be opened.
#[must_use = "a queue does nothing until it is opened and a supervisor has it"]
pub struct QueueBuilder<T> {
    name: String,
    path: PathBuf,
    rules: KanbanRulesBuilder,
    item: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> QueueBuilder<T> {
    /// Its limits.
    pub fn rules(mut self, rules: KanbanRulesBuilder) -> Self {
        self.rules = rules;
        self
    }

    /// Opens the file, or makes it, and reads which cards there are.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: rules that cannot be, all at once, or a file that cannot be used.
    pub fn open(self) -> Result<QueueSpec<T>, OpenError> {
        let rules = self.rules.build().map_err(OpenError::Rules)?;
        let (database, epoch) =
            Database::open(&self.path, rows::SCHEMA, |connection| rows::next_epoch(connection))?;
        let rules = Arc::new(Publisher::new(rules));
        // A name that cannot be one is told by the node, with all its other faults.
        let name = Name::new(&self.name).unwrap_or_else(|_| Name::new("queue").expect("a valid literal"));
        let light = Arc::new(Publisher::new(Light::Green));
        let (for_keeper, shared) = (database.clone(), rules.clone());
        let spec = server(&self.name, move || {
            Keeper::new(for_keeper.clone(), name.clone(), shared.clone(), light.clone(), epoch)
        });
        let inner = Inner { keeper: spec.address(), database, rules };
        Ok(QueueSpec { child: spec.into(), handle: Queue(Arc::new(inner), PhantomData) })
    }
}

impl<T> fmt::Debug for QueueBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A queue as a child of a supervisor.
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct QueueSpec<T> {
    child: ChildSpec,
    handle: Queue<T>,
}

impl<T> QueueSpec<T> {
    /// Where cards are appended and pulled. It outlives restarts.
    pub fn handle(&self) -> Queue<T> {
        self.handle.clone()
    }
}

impl<T> From<QueueSpec<T>> for ChildSpec {
    fn from(spec: QueueSpec<T>) -> Self {
        spec.child
    }
}

impl<T> fmt::Debug for QueueSpec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueSpec").finish_non_exhaustive()
    }
}

/// A queue: where cards are appended and pulled. Clones are handles to the same queue.
pub struct Queue<T>(Arc<Inner>, PhantomData<fn() -> T>);

pub(crate) struct Inner {
    keeper: Address<Msg>,
    database: Database,
    rules: Arc<Publisher<KanbanRules>>,
}

/// What a queue looks like now.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct QueueView {
    /// How many cards are where.
    pub counts: KanbanCounts,
    /// How long the oldest card that is not done has been there.
    pub oldest: std::time::Duration,
    /// What flowed in the last full minute, or since the start.
    pub flow: Flow,
    /// Whether the limit is reached, cards wait, and nothing finishes.
    pub stalled: bool,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Queue<T> {
    /// Puts a card on the queue; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the card is not kept then, except that after [`DatabaseError::Stopped`] only a restart tells.
    ///
    /// # Cancel safety
    ///
    /// The card may be kept though nobody hears of it; with a key the next try finds it.
    pub async fn append(&self, item: &T) -> Result<Appended, AppendError> {
        self.insert(item, None, Tier::Normal, 1).await
    }

    /// [`append`](Self::append) that keeps one card for each key: for who tries again because it does not
    /// know what became of the first try. A key is remembered for a day after its card is done.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    ///
    /// As [`append`](Self::append).
    pub async fn append_once(&self, key: &str, item: &T) -> Result<Appended, AppendError> {
        self.insert(item, Some(key.to_owned()), Tier::Normal, 1).await
    }

    /// [`append`](Self::append) with all that can be said of a card: a key if it has one, how urgent it is,
    /// and how much of a subscriber's share it uses up.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    ///
    /// As [`append`](Self::append).
    pub async fn append_with(
        &self,
        item: &T,
        key: Option<&str>,
        tier: Tier,
        cost: u32,
    ) -> Result<Appended, AppendError> {
        self.insert(item, key.map(str::to_owned), tier, cost.max(1)).await
    }

    async fn insert(
        &self,
        item: &T,
        key: Option<String>,
        tier: Tier,
        cost: u32,
    ) -> Result<Appended, AppendError> {
        let payload = serde_json::to_vec(item).map_err(AppendError::Item)?;
        if PAYLOAD_MAX < payload.len() {
            return Err(AppendError::TooLarge { bytes: payload.len() });
        }
        let cards_max = self.0.rules.latest().cards_max();
        let row = NewRow { payload, key, tier, cost };
        let appended =
            self.0.database.write(move |connection| rows::insert(connection, &row, cards_max)).await?;
        let appended = appended.map_err(AppendError::Kanban)?;
        // The keeper reads what is new; one that is down or busy does so later.
        let _ = self.0.keeper.cast(Msg::Appended);
        Ok(appended)
    }

    /// Joins those who pull. Of those who ask at the same time, each gets cards in proportion to its weight.
    ///
    /// # Errors
    ///
    /// [`PullError::Keeper`] if the queue's actor does not run.
    ///
    /// # Cancel safety
    ///
    /// A subscriber nobody hears of pulls nothing.
    pub async fn subscribe(&self, weight: u32) -> Result<Subscriber<T>, PullError> {
        Subscriber::join(self.clone(), weight).await
    }

    /// What the queue looks like now.
    ///
    /// # Errors
    ///
    /// [`PullError::Keeper`] if the queue's actor does not run.
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn view(&self) -> Result<QueueView, PullError> {
        Ok(self.0.keeper.call(Msg::View).await?)
    }

    /// The dead cards after a card, in their order, at most `limit`: those that were delivered as often as
    /// they may be.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn dead(&self, after: CardId, limit: usize) -> Result<Vec<DeadCard>, DatabaseError> {
        self.0.database.read(move |connection| rows::dead(connection, after, limit)).await
    }

    /// Gives a dead card all its deliveries again.
    ///
    /// # Errors
    ///
    /// [`AckError::Kanban`] if it is not dead; the others as told there.
    ///
    /// # Cancel safety
    ///
    /// It may be done though nobody hears of it.
    pub async fn redrive(&self, card: CardId) -> Result<(), AckError> {
        self.0.keeper.call(|reply| Msg::Redrive { card, reply }).await??;
        Ok(())
    }

    /// Takes a dead card off the queue for good.
    ///
    /// # Errors
    ///
    /// As [`redrive`](Self::redrive).
    ///
    /// # Cancel safety
    ///
    /// It may be done though nobody hears of it.
    pub async fn discard(&self, card: CardId) -> Result<(), AckError> {
        self.0.keeper.call(|reply| Msg::Discard { card, reply }).await??;
        Ok(())
    }

    /// Sets other limits while it runs; cards in work beyond a lower limit are finished first. They hold until
    /// the process ends.
    ///
    /// # Errors
    ///
    /// [`PullError::Keeper`] if the queue's actor does not run.
    ///
    /// # Cancel safety
    ///
    /// It may be done though nobody hears of it.
    pub async fn set_rules(&self, rules: KanbanRules) -> Result<(), PullError> {
        Ok(self.0.keeper.call(|reply| Msg::SetRules { rules, reply }).await?)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
