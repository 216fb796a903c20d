//! A connection that is given up when its peer does not take what is written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a write may wait for its peer to take anything, as at the inspector's door.
pub(crate) const UNTAKEN_MAX: Duration = Duration::from_secs(30);

/// A connection whose writes fail with [`io::ErrorKind::TimedOut`] when nothing of them was taken for [`UNTAKEN_MAX`].
///
/// Without that a peer that does not read its answer would hold a place for ever. Reads have no limit here: while an
/// answer is worked on, and the gateway may take its time for that, a peer has nothing to say.
pub(crate) struct Patient<S> {
    stream: S,
    /// Runs only while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, timer: None }
    }

    /// What came of a write, or that it has waited too long.
    fn wrote(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(UNTAKEN_MAX)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        // The peer's end takes 64 bytes before somebody reads them.
        let (ours, mut peer) = duplex(64);
        let mut connection = Patient::new(ours);
        let answer = [b'x'; 640];
        let slow = tokio::spawn(async move {
            for _ in 0..10 {
                sleep(UNTAKEN_MAX.mul_f64(0.9)).await;
                peer.read_exact(&mut [0; 64]).await.unwrap();
            }
            peer
        });
        connection.write_all(&answer).await.unwrap();
        let _peer = slow.await.unwrap();
        assert_eq!(connection.write_all(&answer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
