//! One request and its answer: where it goes, how it is awaited, and what became of one that got lost.

use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{CallError, Place};
use crate::vitals::Vitals;

/// Where one answer goes. Dropping it tells the caller that there will be none.
///
/// It may be kept and answered later, from another message or another task.
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    pub(crate) fn new(sender: oneshot::Sender<T>) -> Self {
        Self(sender)
    }

    /// A reply, and where its answer arrives: for one who asks without
    /// [`Address::call`](crate::Address::call).
    pub fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, answer) = oneshot::channel();
        (Self(sender), answer)
    }

    /// Answers. A caller that has given up does not notice.
    pub fn send(self, answer: T) {
        // The caller's deadline has passed; it has been told so.
        let _ = self.0.send(answer);
    }

    /// Whether the caller has given up, as when its deadline has passed: a request that waited too long need
    /// not be carried out.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("closed", &self.is_closed()).finish()
    }
}

/// An answer to come, from [`Address::request`](crate::Address::request).
///
/// # Cancel safety
///
/// Dropping it does not withdraw the request; its answer is dropped when it comes.
#[must_use = "the answer comes to whoever awaits it"]
pub struct Request<T>(BoxFuture<'static, Result<T, CallError>>);

impl<T: Send + 'static> Request<T> {
    pub(super) fn new(
        answer: oneshot::Receiver<T>,
        vitals: Arc<Vitals>,
        path: Place,
        deadline: Instant,
    ) -> Self {
        let within = deadline.saturating_duration_since(Instant::now());
        Self(Box::pin(async move {
            let mut answer = pin!(tokio::time::timeout_at(deadline, answer));
            let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
                // Waiting for oneself, one would never get to answer.
                Poll::Pending if vitals.is_asking() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
            });
            match answered.await {
                Some(Ok(Ok(answer))) => Ok(answer),
                Some(Ok(Err(_))) => Err(lost(&vitals, path, deadline, within).await),
                Some(Err(_)) => Err(CallError::Timeout { path, within }),
                None => Err(CallError::CallingSelf { path }),
            }
        }))
    }

    pub(super) fn refused(error: CallError) -> Self {
        Self(Box::pin(ready(Err(error))))
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

/// What became of a request whose reply was dropped: the server died of it, or it goes on.
///
/// A reply is dropped before its handler has failed, so the server is asked whether it got past that
/// handler; if it did not, its end says why.
#[cold]
pub(super) async fn lost(vitals: &Vitals, path: Place, deadline: Instant, within: Duration) -> CallError {
    if vitals.is_asking() {
        // It lives, or it would not ask; and it cannot get past the handler that waits here.
        return CallError::NoReply { path };
    }
    match tokio::time::timeout_at(deadline, vitals.probe()).await {
        Ok(Some(reason)) => CallError::Died { path, reason },
        Ok(None) => CallError::NoReply { path },
        Err(_) => CallError::Timeout { path, within },
    }
}
