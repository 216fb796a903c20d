//! A cell: when something moved on a connection and what it is at, so that one that has gone silent is closed.
//!
//! A timer for each request would cost more than the request. A connection has one, which looks at this when it fires.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many times within the time for a head it is looked at.
const LOOKS: u32 = 4;

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is well; look again then.
    Alive(Instant),
    /// Nobody has used it for long: close it in order.
    Idle,
    /// A head or a body does not go on: drop it.
    Stuck,
}

/// What happened on a connection. Times are milliseconds since it began.
#[derive(Debug)]
pub(crate) struct Pulse {
    began: Instant,
    moved_ms: AtomicU64,
    /// When the first bytes of a head came, plus one; 0 if none have.
    head_ms: AtomicU64,
    in_flight: AtomicU32,
    is_framed: AtomicBool,
    is_leaving: AtomicBool,
}

impl Pulse {
    /// A connection that has just begun: the head of its first request is due.
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            moved_ms: AtomicU64::new(0),
            head_ms: AtomicU64::new(1),
            in_flight: AtomicU32::new(0),
            is_framed: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
        }
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// The head of a request is there. The request is over when what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>, is_framed: bool) -> Beat {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_ms.store(0, Relaxed);
        if is_framed {
            self.is_framed.store(true, Relaxed);
        }
        Beat(self.clone())
    }

    /// From now on each answer is the last of its connection.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Relaxed);
    }

    /// Whether it is HTTP/2.
    pub(crate) fn is_framed(&self) -> bool {
        self.is_framed.load(Relaxed)
    }

    /// Whether the answer is the last.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Relaxed)
    }

    fn read(&self) {
        let now = self.now_ms();
        self.moved_ms.store(now, Relaxed);
        // HTTP/2 has frames between requests, which are not the beginning of one.
        let begins = self.in_flight.load(Relaxed) == 0 && !self.is_framed.load(Relaxed);
        if begins && self.head_ms.load(Relaxed) == 0 {
            self.head_ms.store(now + 1, Relaxed);
        }
    }

    fn wrote(&self) {
        self.moved_ms.store(self.now_ms(), Relaxed);
    }

    /// What is to become of it: a head within `head`, something that moves within `idle`, and within a request within
    /// `answer` more.
    pub(crate) fn verdict(&self, head: Duration, idle: Duration, answer: Duration) -> Verdict {
        let now = Instant::now();
        let at = |ms: u64| self.began + Duration::from_millis(ms);
        let (moved, head_ms) = (at(self.moved_ms.load(Relaxed)), self.head_ms.load(Relaxed));
        let (due, late) = if 0 < self.in_flight.load(Relaxed) {
            (moved + idle + answer, Verdict::Stuck)
        } else if 0 < head_ms {
            (at(head_ms - 1) + head, Verdict::Stuck)
        } else {
            (moved + idle, Verdict::Idle)
        };
        // A head may begin at any time.
        if due <= now { late } else { Verdict::Alive(due.min(now + head / LOOKS)) }
    }
}

/// A request that is on its way.
#[derive(Debug)]
pub(crate) struct Beat(Arc<Pulse>);

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.moved_ms.store(self.0.now_ms(), Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A stream that tells when it moves.
#[derive(Debug)]
pub(crate) struct Pulsed<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Pulsed<S> {
    pub(crate) const fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pulsed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if before < buffer.filled().len() {
            self.pulse.read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pulsed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.pulse.wrote();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        if polled.is_ready() {
            self.pulse.wrote();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How far the body of a request has come, on its way from the caller to the instance.
#[derive(Debug)]
pub(crate) struct Upload {
    began: Instant,
    moved_ms: AtomicU64,
    is_callers_turn: AtomicBool,
    is_broken: AtomicBool,
}

impl Upload {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            moved_ms: AtomicU64::new(0),
            is_callers_turn: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        }
    }

    /// A part of it moved, or its end.
    pub(crate) fn moved(&self) {
        self.moved_ms.store(self.began.elapsed().as_millis() as u64, Relaxed);
        self.is_callers_turn.store(false, Relaxed);
    }

    /// The instance would take more.
    pub(crate) fn waits(&self) {
        self.is_callers_turn.store(true, Relaxed);
    }

    /// The caller broke off, or what came was no body.
    pub(crate) fn broke(&self) {
        self.is_broken.store(true, Relaxed);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Relaxed)
    }

    /// Whether it is the caller who keeps the instance waiting.
    pub(crate) fn is_callers_turn(&self) -> bool {
        self.is_callers_turn.load(Relaxed)
    }

    pub(crate) fn moved_at(&self) -> Instant {
        self.began + Duration::from_millis(self.moved_ms.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);
    const ANSWER: Duration = Duration::from_secs(30);

    /// How long it is until the verdict, asked whenever it wants to be, and which.
    async fn ends(pulse: &Pulse) -> (Duration, Verdict) {
        let began = Instant::now();
        loop {
            match pulse.verdict(HEAD, IDLE, ANSWER) {
                Verdict::Alive(again) => tokio::time::sleep_until(again).await,
                verdict @ (Verdict::Idle | Verdict::Stuck) => return (began.elapsed(), verdict),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_from_its_first_byte_and_the_first_one_from_the_beginning() {
        let pulse = Arc::new(Pulse::new());
        assert_eq!(ends(&pulse).await, (HEAD, Verdict::Stuck), "nothing ever came");
        drop(pulse.begin(false));
        tokio::time::sleep(Duration::from_secs(20)).await;
        pulse.read();
        tokio::time::sleep(Duration::from_secs(9)).await;
        pulse.read();
        assert_eq!(ends(&pulse).await, (Duration::from_secs(1), Verdict::Stuck), "byte by byte");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_and_a_request_has_the_time_of_its_instance_more() {
        let pulse = Arc::new(Pulse::new());
        let beat = pulse.begin(false);
        assert_eq!(ends(&pulse).await, (IDLE + ANSWER, Verdict::Stuck));
        drop(beat);
        assert_eq!(ends(&pulse).await, (IDLE, Verdict::Idle));
        pulse.wrote();
        assert_eq!(ends(&pulse).await, (IDLE, Verdict::Idle), "what moves keeps it");
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_are_no_heads() {
        let pulse = Arc::new(Pulse::new());
        drop(pulse.begin(true));
        pulse.read();
        assert_eq!(ends(&pulse).await, (IDLE, Verdict::Idle));
    }
}
