//! A listener that holds only so many connections open, and none that is silent; the next wait in the backlog.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::serve::{HttpLimits, LIMIT_MAX};

/// A TCP listener with a place for each connection it may hold.
pub(crate) struct LimitedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    silence: Duration,
}

impl LimitedListener {
    pub(crate) fn new(listener: TcpListener, limits: HttpLimits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self { listener, places, silence: limits.silence }
    }

    /// The next connection, when there is a place for it.
    ///
    /// # Cancel safety
    ///
    /// A connection that was accepted is returned.
    pub(crate) async fn accept(&mut self) -> (Placed<TcpStream>, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the places are never closed");
        // axum's own accept waits and tries again when the process is out of file descriptors.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // An answer is a packet or a few: waiting to fill a larger one only costs time.
        let _ = stream.set_nodelay(true);
        (Placed::new(stream, Some(place), self.silence), peer)
    }
}

/// A wait that must not last longer than so.
struct Wait {
    max: Duration,
    since: Option<Instant>,
    /// Set anew only when it fires: that is cheaper than with each byte.
    timer: Pin<Box<Sleep>>,
}

impl Wait {
    fn new(max: Duration) -> Self {
        let max = max.min(LIMIT_MAX);
        Self { max, since: None, timer: Box::pin(sleep(max)) }
    }

    fn over(&mut self) {
        self.since = None;
    }

    /// What was waited for has not come, but the peer lives: the time begins anew.
    fn again(&mut self) {
        self.since = self.since.map(|_| Instant::now());
    }

    /// The wait goes on; ready when it has lasted too long.
    fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let end = *self.since.get_or_insert_with(Instant::now) + self.max;
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if end <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// A connection that gives its place back when it is dropped, and fails with [`io::ErrorKind::TimedOut`] when nothing
/// has come or gone for [`HttpLimits::silence`], or a write has waited as long.
///
/// Without that a peer that says nothing, or does not take its answer, would hold a place for ever.
pub(crate) struct Placed<S> {
    stream: S,
    read: Wait,
    write: Wait,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Placed<S> {
    pub(crate) fn new(stream: S, place: Option<OwnedSemaphorePermit>, silence: Duration) -> Self {
        Self { stream, read: Wait::new(silence), write: Wait::new(silence), _place: place }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            return self.write.poll(cx);
        }
        self.write.over();
        self.read.again();
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.read.poll(cx);
        }
        self.read.over();
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_pending() { self.write.poll(cx) } else { flushed }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        if shut.is_pending() { self.write.poll(cx) } else { shut }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
    use tokio::time::timeout;

    use super::*;

    const SILENCE_MAX: Duration = Duration::from_secs(30);

    /// A connection, and the peer's end of it, which takes 64 bytes before somebody reads them.
    fn connected() -> (Placed<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(64);
        (Placed::new(ours, None, SILENCE_MAX), theirs)
    }

    #[tokio::test]
    async fn a_full_house_accepts_again_when_somebody_leaves() {
        let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = inner.local_addr().unwrap();
        let mut listener =
            LimitedListener::new(inner, HttpLimits { connections: 1, ..HttpLimits::default() });
        let _clients =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let (first, _) = listener.accept().await;
        assert!(timeout(Duration::from_millis(20), listener.accept()).await.is_err(), "one place, one guest");
        drop(first);
        timeout(Duration::from_secs(5), listener.accept()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_given_up_when_its_time_is_over() {
        let (mut connection, mut peer) = connected();
        peer.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
        let begun = Instant::now();
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), SILENCE_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_without_an_end_is_one_of_a_day() {
        let (ours, _theirs) = duplex(64);
        let mut connection = Placed::new(ours, None, Duration::MAX);
        let begun = Instant::now();
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), LIMIT_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_only_listens_goes_on_as_long_as_it_is_written_to() {
        let (connection, mut peer) = connected();
        let (mut read, mut write) = split(connection);
        let reading = tokio::spawn(async move { read.read_u8().await });
        for _ in 0..40 {
            sleep(SILENCE_MAX / 2).await;
            write.write_all(b":\n\n").await.unwrap();
            peer.read_exact(&mut [0; 3]).await.unwrap();
        }
        assert!(!reading.is_finished(), "ten minutes of listening");
        let ended = reading.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut, "nobody writes any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (mut connection, mut peer) = connected();
        let answer = [b'x'; 640];
        let slow = tokio::spawn(async move {
            for _ in 0..10 {
                sleep(SILENCE_MAX.mul_f64(0.9)).await;
                peer.read_exact(&mut [0; 64]).await.unwrap();
            }
            peer
        });
        connection.write_all(&answer).await.unwrap();
        let mut peer = slow.await.unwrap();

        let begun = Instant::now();
        // What it says meanwhile does not make room for what it is to take.
        let noise = tokio::spawn(async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                let _ = timeout(Duration::from_secs(1), peer.write_all(b"x")).await;
            }
        });
        assert_eq!(connection.write_all(&answer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), SILENCE_MAX.as_secs());
        noise.abort();
    }
}
