//! Those who pull cards, and the card in hand.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use gemba_core::admission::Tier;
use gemba_core::kanban::{CardId, KanbanError, PullerId};
use gemba_kernel::{CallError, Stop, TaskContext, TaskSpec, task};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::held::Held;
use super::keeper::Msg;
use super::{AckError, PullError, Queue, rows};

/// How long one question for a card stands; then it is asked again.
const PULL_STANDS: Duration = Duration::from_secs(60);

/// How long a subscriber looks for a queue whose actor is being started again.
const LOOKS_FOR: Duration = Duration::from_secs(10);

/// The pause before it looks again.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// One who pulls cards. Dropping it returns the cards it still has.
pub struct Subscriber<T> {
    queue: Queue<T>,
    id: PullerId,
    weight: u32,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Subscriber<T> {
    pub(super) async fn join(queue: Queue<T>, weight: u32) -> Result<Self, PullError> {
        let id = queue.0.keeper.call(|reply| Msg::Join { weight, reply }).await?.puller();
        Ok(Self { queue, id, weight })
    }

    /// Waits for a card, as long as it takes.
    ///
    /// # Errors
    ///
    /// [`PullError::Keeper`] if the queue's actor has not run for ten seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives a card that was on its way to somebody else, at once, and that delivery does
    /// not count.
    pub async fn pull(&mut self) -> Result<Card<T>, PullError> {
        let mut gone_since = None;
        loop {
            let stands = Instant::now() + PULL_STANDS;
            let puller = self.id;
            let asked = self.queue.0.keeper.request_until(stands, |reply| Msg::Pull { puller, reply });
            let error = match asked.await {
                Ok(Ok(held)) => match Card::read(self.queue.clone(), held) {
                    Some(card) => return Ok(card),
                    None => continue,
                },
                Ok(Err(_)) => {
                    // A new life of the queue does not know us.
                    let weight = self.weight;
                    match self.queue.0.keeper.call(|reply| Msg::Join { weight, reply }).await {
                        Ok(joined) => {
                            self.id = joined.puller();
                            gone_since = None;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                Err(CallError::Timeout { .. }) => {
                    gone_since = None;
                    continue;
                }
                Err(error) => error,
            };
            let since = *gone_since.get_or_insert_with(Instant::now);
            if LOOKS_FOR < since.elapsed() {
                return Err(error.into());
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        // If it does not get through, its pulls are sifted out, and its leases end by themselves.
        let _ = self.queue.0.keeper.cast(Msg::Leave(self.id));
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("id", &self.id)
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// A card in hand, for as long as its lease holds. Dropping it gives it to somebody else.
#[must_use = "a card that is dropped is delivered again"]
pub struct Card<T> {
    queue: Queue<T>,
    held: Held,
    item: T,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Card<T> {
    /// A card that is no `T` goes back, and ends among the dead.
    fn read(queue: Queue<T>, mut held: Held) -> Option<Self> {
        held.is_in_hand();
        match serde_json::from_slice(&held.payload) {
            Ok(item) => Some(Self { queue, held, item }),
            Err(error) => {
                held.is_over();
                let error = format!("not of this queue's type: {error}");
                let back = Msg::GiveBack { lease: held.lease, delay: None, error, reply: None };
                let _ = queue.0.keeper.cast(back);
                None
            }
        }
    }

    /// Its number, the same at each delivery: what makes a second delivery of the same work harmless.
    pub fn id(&self) -> CardId {
        self.held.card
    }

    /// What stands on it.
    pub fn item(&self) -> &T {
        &self.item
    }

    /// How urgent it is, as said when it was appended.
    pub fn tier(&self) -> Tier {
        self.held.tier
    }

    /// How often it has been delivered, from 1: more than once if somebody may have worked on it before.
    pub fn deliveries(&self) -> u32 {
        self.held.deliveries
    }

    /// The work is done: the card is off the queue, on the disk, when this returns.
    ///
    /// # Errors
    ///
    /// [`AckError::Kanban`] with [`KanbanError::LeaseOver`] if it came too late: the card may be with somebody
    /// else, or be done by it. [`AckError::Database`] if it cannot be written.
    ///
    /// # Cancel safety
    ///
    /// Once polled it may be done though nobody hears of it.
    pub async fn done(mut self) -> Result<(), AckError> {
        let (card, lease) = (self.held.card, self.held.lease);
        let was_held =
            self.queue.0.database.write(move |connection| rows::finish(connection, card, lease)).await?;
        self.held.is_over();
        if !was_held {
            return Err(KanbanError::LeaseOver.into());
        }
        // If it does not get through, the keeper finds out when the card is to be delivered again.
        let _ = self.queue.0.keeper.cast(Msg::Finished { card, lease });
        Ok(())
    }

    /// The work failed; the card goes to somebody after `delay`, or after the pause its queue's rules give.
    ///
    /// # Errors
    ///
    /// As [`done`](Self::done), and [`AckError::Keeper`].
    ///
    /// # Cancel safety
    ///
    /// Once polled it may be done though nobody hears of it.
    pub async fn give_back(
        mut self,
        delay: Option<Duration>,
        error: impl Into<String>,
    ) -> Result<(), AckError> {
        self.held.is_over();
        let (lease, error) = (self.held.lease, error.into());
        let back = |reply| Msg::GiveBack { lease, delay, error, reply: Some(reply) };
        Ok(self.queue.0.keeper.call(back).await??)
    }

    /// Nobody worked on it, and this delivery does not count; it goes to somebody after `delay`, in its old turn.
    ///
    /// # Errors
    ///
    /// As [`give_back`](Self::give_back).
    ///
    /// # Cancel safety
    ///
    /// Once polled it may be put back though nobody hears of it.
    pub async fn put_back(mut self, delay: Duration, why: impl Into<String>) -> Result<(), AckError> {
        self.held.is_over();
        let (lease, why) = (self.held.lease, why.into());
        let back = |reply| Msg::PutBack { lease, delay, why, reply: Some(reply) };
        Ok(self.queue.0.keeper.call(back).await??)
    }

    /// Another delivery would change nothing: the card is among the dead when this returns, however often it
    /// might still be delivered.
    ///
    /// # Errors
    ///
    /// As [`give_back`](Self::give_back).
    ///
    /// # Cancel safety
    ///
    /// Once polled it may be set aside though nobody hears of it.
    pub async fn set_aside(mut self, error: impl Into<String>) -> Result<(), AckError> {
        self.held.is_over();
        let (lease, error) = (self.held.lease, error.into());
        Ok(self.queue.0.keeper.call(|reply| Msg::SetAside { lease, error, reply }).await??)
    }

    /// Extends the lease for as long as it is polled; ends when the lease is lost.
    ///
    /// # Cancel safety
    ///
    /// It is to be dropped when the work is over; the lease then lasts as long as it was last extended.
    pub async fn keep(&self) {
        loop {
            match self.extend().await {
                Ok(lasts) => tokio::time::sleep(lasts / 2).await,
                Err(AckError::Kanban(_)) => return,
                // The queue is being started again; its card rests meanwhile.
                Err(AckError::Keeper(_) | AckError::Database(_)) => tokio::time::sleep(LOOKS_EVERY).await,
            }
        }
    }

    /// The work takes longer: the lease begins anew. Tells how long it lasts.
    ///
    /// # Errors
    ///
    /// As [`give_back`](Self::give_back).
    ///
    /// # Cancel safety
    ///
    /// It may be done though nobody hears of it.
    pub async fn extend(&self) -> Result<Duration, AckError> {
        let lease = self.held.lease;
        Ok(self.queue.0.keeper.call(|reply| Msg::Extend { lease, reply }).await??)
    }
}

impl<T: fmt::Debug> fmt::Debug for Card<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("id", &self.held.card)
            .field("deliveries", &self.held.deliveries)
            .field("item", &self.item)
            .finish_non_exhaustive()
    }
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Queue<T> {
    /// A worker as a child of a supervisor: pulls a card, runs `work` on it, pulls the next.
    ///
    /// While it runs the lease is extended. An error, or a panic, gives the card back; neither ends the worker,
    /// so that a card that always fails wears out its own deliveries and not the supervisor. `work` hears how
    /// often the card has been delivered: more than once if it may have been worked on before.
    pub fn worker<F, E>(
        &self,
        name: &str,
        work: impl Fn(CardId, &T, u32) -> F + Clone + Send + Sync + 'static,
    ) -> TaskSpec
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let queue = self.clone();
        task(name, move |ctx| pull_and_work(ctx, queue.clone(), work.clone()))
    }
}

async fn pull_and_work<T, F, E>(
    ctx: TaskContext,
    queue: Queue<T>,
    work: impl Fn(CardId, &T, u32) -> F,
) -> Result<(), Stop>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send,
    E: fmt::Display + Send,
{
    let mut subscriber = queue.subscribe(1).await?;
    loop {
        let card = tokio::select! {
            biased;
            () = ctx.stopped() => return Ok(()),
            card = subscriber.pull() => card?,
        };
        let begun = ctx.system().now();
        let working = work(card.id(), card.item(), card.deliveries());
        let ended = match held_while(&card, AssertUnwindSafe(working).catch_unwind()).await {
            None => Err(AckError::from(KanbanError::LeaseOver)),
            Some(Ok(Ok(()))) => card.done().await,
            Some(Ok(Err(error))) => card.give_back(None, error.to_string()).await,
            Some(Err(panic)) => card.give_back(None, said(&*panic)).await,
        };
        ctx.count(1, ctx.system().now().since(begun));
        if let Err(error) = ended {
            tracing::warn!(%error, "the end of a card was not recorded");
        }
    }
}

/// Extends the lease until the work is over; `None` if it is lost meanwhile.
async fn held_while<T, R>(card: &Card<T>, work: impl Future<Output = R>) -> Option<R>
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    tokio::select! {
        biased;
        result = work => Some(result),
        () = card.keep() => None,
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "no text".into()))
}
