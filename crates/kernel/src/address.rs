//! Typed addresses of servers: they survive restarts, and every mailbox behind them has a bound.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use gemba_core::exit::ExitReason;
use gemba_core::name::ActorPath;
use gemba_core::view::MailboxView;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::server::later;
use crate::slot::Mailbox;
use crate::vitals::{StopOrder, Vitals};

mod again;
mod error;
mod pinned;
mod request;

pub use error::{CallError, CastError, FindError, Place, StopError};
pub use pinned::Pinned;
use request::lost;
pub use request::{Reply, Request};

/// How many messages a mailbox takes unless its spec says otherwise.
pub const MAILBOX_CAPACITY: usize = 1024;

/// How long [`Address::call`] waits for the answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a killed server has to be gone.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// A cell: the mailbox of a place. Each life opens it anew; what an earlier life left unread is dropped.
pub(crate) struct Lane<M> {
    current: ArcSwapOption<Opened<M>>,
    /// [`MAILBOX_CAPACITY`] unless the spec has said otherwise.
    capacity: ArcSwapOption<usize>,
    /// Told when a life has opened its mailbox.
    opened: Notify,
    path: OnceLock<ActorPath>,
}

/// The mailbox of one life.
struct Opened<M> {
    sender: mpsc::Sender<M>,
    vitals: Arc<Vitals>,
}

impl<M: Send + 'static> Lane<M> {
    pub(crate) fn new() -> Arc<Self> {
        let (current, capacity) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        Arc::new(Self { current, capacity, opened: Notify::new(), path: OnceLock::new() })
    }

    /// How many messages each life's mailbox takes that is opened from now on.
    pub(crate) fn resize(&self, capacity: usize) {
        self.capacity.store(Some(Arc::new(capacity)));
    }

    pub(crate) fn open(&self, vitals: &Arc<Vitals>) -> (mpsc::Sender<M>, mpsc::Receiver<M>) {
        // A place keeps its path; the first life has said it.
        let _ = self.path.set(vitals.path.clone());
        let (sender, receiver) = mpsc::channel(self.capacity());
        let opened = Opened { sender: sender.clone(), vitals: vitals.clone() };
        self.current.store(Some(Arc::new(opened)));
        self.opened.notify_waiters();
        (sender, receiver)
    }
}

impl<M> Lane<M> {
    fn capacity(&self) -> usize {
        self.capacity.load().as_ref().map_or(MAILBOX_CAPACITY, |capacity| **capacity)
    }

    fn place(&self) -> Place {
        Place(self.path.get().cloned())
    }
}

impl<M: Send + 'static> Mailbox for Lane<M> {
    fn view(&self) -> MailboxView {
        let depth = match &*self.current.load() {
            Some(life) if !life.sender.is_closed() => life.sender.max_capacity() - life.sender.capacity(),
            _ => 0,
        };
        MailboxView { depth: depth as u64, capacity: self.capacity() as u64 }
    }

    fn message_type(&self) -> &'static str {
        type_name::<M>()
    }

    fn life(&self) -> Option<Arc<Vitals>> {
        self.current.load().as_ref().map(|life| life.vitals.clone())
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Where a server takes messages, whichever life of it is there. Clones lead to the same place.
///
/// From [`ServerSpec::address`](crate::ServerSpec::address) before the node starts,
/// [`Context::address`](crate::Context::address) inside, or [`System::address`](crate::System::address) by path.
///
/// # Units and limits
///
/// A mailbox is bounded, by [`MAILBOX_CAPACITY`] unless its spec says otherwise. What a life has not read when it
/// ends is dropped: a cast is lost, a call is told.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gemba_kernel::{Address, CallError, CastError, Context, Node, Reply, Server, Stop, server};
///
/// struct Echo;
/// enum Msg { Say(String, Reply<String>), Hush }
///
/// impl Server for Echo {
///     type Msg = Msg;
///     async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
///         match msg {
///             Msg::Say(text, reply) => reply.send(text),
///             Msg::Hush => return Err(Stop::normal()),
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = server("echo", || Echo).temporary();
/// let echo = spec.address();
/// let node = Node::builder("example").child(spec).start().await?;
/// assert_eq!(echo.call(|reply| Msg::Say("hello".into(), reply)).await?, "hello");
/// let answer = echo.call_within(Duration::from_millis(50), |reply| Msg::Say("soon".into(), reply)).await;
/// match answer {
///     Ok(text) => assert_eq!(text, "soon"),
///     Err(CallError::Timeout { .. }) => println!("too slow"),
///     Err(error) => return Err(error.into()),
/// }
/// // One life of it, as a pid: it does not lead to a successor.
/// let pinned = echo.pin().expect("it runs");
/// echo.stop(Duration::from_secs(1)).await?;
/// assert!(pinned.is_over());
/// assert!(matches!(echo.cast(Msg::Hush), Err(CastError::NotRunning { .. })), "it was temporary");
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
pub struct Address<M>(Arc<Lane<M>>);

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Send + 'static> Address<M> {
    pub(crate) fn from_lane(lane: Arc<Lane<M>>) -> Self {
        Self(lane)
    }

    /// Sends `message` and does not wait. `Ok` means that it is in the mailbox, not that it is handled:
    /// a server that dies drops what it has not read.
    ///
    /// # Errors
    ///
    /// [`CastError::Full`]: shed the message, or wait with [`cast_within`](Self::cast_within).
    /// [`CastError::NotRunning`]: a restart may be under way. Both give the message back.
    pub fn cast(&self, message: M) -> Result<(), CastError<M>> {
        match &*self.0.current.load() {
            Some(life) => self.send(life, message),
            None => Err(CastError::NotRunning { message, path: self.0.place() }),
        }
    }

    /// Sends `message`, and waits while the mailbox is full, for `within` at most.
    ///
    /// # Errors
    ///
    /// [`CastError::Full`] when the time is over, at once for a server that sends to itself: nobody else
    /// would make room. [`CastError::NotRunning`] at once. Both give the message back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the message; it is not sent.
    pub async fn cast_within(&self, within: Duration, message: M) -> Result<(), CastError<M>> {
        let (message, sender) = match &*self.0.current.load() {
            Some(life) => match self.send(life, message) {
                Err(CastError::Full { message, .. }) if !life.vitals.is_asking() => {
                    (message, life.sender.clone())
                }
                sent => return sent,
            },
            None => return Err(CastError::NotRunning { message, path: self.0.place() }),
        };
        match sender.send_timeout(message, within).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(message)) => Err(self.full(message)),
            Err(mpsc::error::SendTimeoutError::Closed(message)) => {
                Err(CastError::NotRunning { message, path: self.0.place() })
            }
        }
    }

    /// Sends the message made with a reply and waits for the answer, for [`CALL_TIMEOUT`] at most.
    ///
    /// # Errors
    ///
    /// [`CallError`]; it says whether the request may have been carried out. All but
    /// [`CallError::Timeout`] come as soon as they are known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; the server sees it in
    /// [`Reply::is_closed`](crate::Reply::is_closed).
    pub async fn call<T>(&self, message: impl FnOnce(Reply<T>) -> M) -> Result<T, CallError> {
        self.call_within(CALL_TIMEOUT, message).await
    }

    /// [`call`](Self::call) that waits for `within` at most.
    ///
    /// # Errors
    ///
    /// [`CallError`], as [`call`](Self::call); [`CallError::Timeout`] after `within`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; the server sees it in
    /// [`Reply::is_closed`](crate::Reply::is_closed).
    pub async fn call_within<T>(
        &self,
        within: Duration,
        message: impl FnOnce(Reply<T>) -> M,
    ) -> Result<T, CallError> {
        let (answer, life) = self.ask(message, true)?;
        let deadline = later(within);
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(lost(&life.vitals, self.0.place(), deadline, within).await),
            Err(_) => Err(CallError::Timeout { path: self.0.place(), within }),
        }
    }

    /// Sends the message made with a reply, and gives a future of the answer: for many requests at once.
    /// It is over after [`CALL_TIMEOUT`] at the latest. The request is sent here, not when the future is first
    /// awaited.
    ///
    /// # Examples
    ///
    /// Answers in the order they come, with one deadline for all:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use gemba_kernel::{Address, Reply};
    /// # use tokio::time::Instant;
    /// use futures_util::stream::{FuturesUnordered, StreamExt};
    ///
    /// # enum Msg { Price(Reply<u64>) }
    /// async fn cheapest(shops: &[Address<Msg>]) -> Option<u64> {
    ///     let deadline = Instant::now() + Duration::from_millis(200);
    ///     let asked = shops.iter().map(|shop| shop.request_until(deadline, Msg::Price));
    ///     let mut answers: FuturesUnordered<_> = asked.collect();
    ///     let mut best = None;
    ///     while let Some(answer) = answers.next().await {
    ///         // A shop that is closed, or too slow, has no price.
    ///         best = best.into_iter().chain(answer.ok()).min();
    ///     }
    ///     best
    /// }
    /// ```
    #[doc(alias = "send_request")]
    pub fn request<T: Send + 'static>(&self, message: impl FnOnce(Reply<T>) -> M) -> Request<T> {
        self.request_until(Instant::now() + CALL_TIMEOUT, message)
    }

    /// [`request`](Self::request) with a deadline that many can share. The request is sent here, not when the
    /// future is first awaited; what is wrong is in the answer.
    pub fn request_until<T: Send + 'static>(
        &self,
        deadline: Instant,
        message: impl FnOnce(Reply<T>) -> M,
    ) -> Request<T> {
        match self.ask(message, false) {
            Ok((answer, life)) => Request::new(answer, life.vitals.clone(), self.0.place(), deadline),
            Err(error) => Request::refused(error),
        }
    }

    fn ask<T>(
        &self,
        message: impl FnOnce(Reply<T>) -> M,
        waits: bool,
    ) -> Result<(oneshot::Receiver<T>, Arc<Opened<M>>), CallError> {
        // This very life will be asked what became of the request, should it get lost.
        let life =
            self.0.current.load_full().ok_or_else(|| CallError::NotRunning { path: self.0.place() })?;
        if waits && life.vitals.is_asking() {
            return Err(CallError::CallingSelf { path: self.0.place() });
        }
        self.ask_life(&life, message).map(|answer| (answer, life))
    }

    #[inline]
    fn ask_life<T>(
        &self,
        life: &Opened<M>,
        message: impl FnOnce(Reply<T>) -> M,
    ) -> Result<oneshot::Receiver<T>, CallError> {
        let (reply, answer) = oneshot::channel();
        match self.send(life, message(Reply::new(reply))) {
            Ok(()) => Ok(answer),
            Err(CastError::Full { path, capacity, full_for, .. }) => {
                Err(CallError::Full { path, capacity, full_for })
            }
            Err(CastError::NotRunning { path, .. }) => Err(CallError::NotRunning { path }),
        }
    }

    /// Asks the server to stop with reason `normal`, lets `terminate` run, and waits for its end.
    ///
    /// The request does not wait in the mailbox: it is seen when the present handler is done. To the
    /// supervisor it is an exit like any other: a permanent child is started again.
    ///
    /// # Errors
    ///
    /// [`StopError::NotRunning`] and [`StopError::CallingSelf`] at once. [`StopError::Timeout`] when the time is
    /// over: the server is not killed, and ends when its present handler is done.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn stop(&self, within: Duration) -> Result<ExitReason, StopError> {
        self.stop_with(ExitReason::Normal, within).await
    }

    /// [`stop`](Self::stop) with another reason. Returns the reason the server ended with, which is another
    /// one if something else ended it first.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn stop_with(&self, reason: ExitReason, within: Duration) -> Result<ExitReason, StopError> {
        let vitals = self.stoppable()?;
        vitals.stop(StopOrder { reason, limit: Some(crate::server::TERMINATE_LIMIT) });
        tokio::time::timeout(within, vitals.ended())
            .await
            .map_err(|_| StopError::Timeout { path: self.0.place(), within })
    }

    /// [`stop`](Self::stop), and a kill when the time is over, also of a server that is still in `init`: its start
    /// has failed then.
    ///
    /// # Errors
    ///
    /// [`StopError::NotRunning`] and [`StopError::CallingSelf`] at once. [`StopError::Unkillable`] if it does not
    /// even end within a second after the kill: its handler blocks its thread, and nobody can end that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request, but no kill follows then; `terminate` still has no more
    /// than `within`.
    pub async fn stop_or_kill(&self, within: Duration) -> Result<ExitReason, StopError> {
        let vitals = self.stoppable()?;
        vitals.stop(StopOrder { reason: ExitReason::Normal, limit: Some(within) });
        if let Ok(reason) = tokio::time::timeout(within, vitals.ended()).await {
            return Ok(reason);
        }
        vitals.kill();
        tokio::time::timeout(KILL_GRACE, vitals.ended())
            .await
            .map_err(|_| StopError::Unkillable { path: self.0.place() })
    }

    fn stoppable(&self) -> Result<Arc<Vitals>, StopError> {
        let path = self.0.place();
        match self.0.life() {
            Some(vitals) if vitals.is_asking() => Err(StopError::CallingSelf { path }),
            Some(vitals) if vitals.reason().is_none() => Ok(vitals),
            _ => Err(StopError::NotRunning { path }),
        }
    }

    /// Where the server stands; `None` before its first start.
    pub fn path(&self) -> Option<ActorPath> {
        self.0.path.get().cloned()
    }

    /// The address of the life that is there now, and of no other.
    pub fn pin(&self) -> Option<Pinned<M>> {
        let life = self.0.current.load_full()?;
        let is_over = life.sender.is_closed();
        (!is_over)
            .then(|| Pinned::new(life.sender.clone(), life.vitals.path.clone(), life.vitals.incarnation))
    }

    #[inline]
    fn send(&self, life: &Opened<M>, message: M) -> Result<(), CastError<M>> {
        life.sender.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(message) => self.full(message),
            mpsc::error::TrySendError::Closed(message) => {
                CastError::NotRunning { message, path: self.0.place() }
            }
        })
    }

    #[cold]
    fn full(&self, message: M) -> CastError<M> {
        let full_for = self.0.life().map_or(Duration::ZERO, |vitals| vitals.full_for());
        CastError::Full { message, path: self.0.place(), capacity: self.0.capacity(), full_for }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("path", &self.0.path.get()).finish_non_exhaustive()
    }
}
