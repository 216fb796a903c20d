//! A server from its first connection to its end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::limited::{LimitedListener, Placed};

/// The longest of the times below; a longer one is this.
pub(crate) const LIMIT_MAX: Duration = Duration::from_secs(86_400);

/// How much of a server its callers may hold, and for how long: a day at most, each of the times.
///
/// The body of a request has no time but the silence: a handler bounds how long and how much it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at once; the next ones wait in the listener's backlog. A process may usually have 1024 descriptors.
    pub connections: usize,
    /// How long the head of a request may take to arrive, counted from when the connection was made or the answer
    /// before was given.
    pub head: Duration,
    /// How long a connection may be silent in both directions, and how long its peer may take nothing of an answer. An
    /// answer has to begin within it, and a stream of events has to say more often that it lives.
    pub silence: Duration,
    /// How long requests that are open have left after the end was asked for.
    pub drain: Duration,
}

impl Default for HttpLimits {
    /// 256 connections, 10 s for a head, 30 s of silence, 10 s at the end.
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves on `listener` until `stop` is ready, and then what is open, for [`HttpLimits::drain`].
///
/// Handlers find the address of the peer as `ConnectInfo<SocketAddr>`. A listener that cannot accept, as when the
/// process is out of file descriptors, is tried again.
///
/// # Cancel safety
///
/// Dropping the future closes the listener; connections already accepted go on to their end.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use gemba_http::{HttpLimits, serve};
/// use tokio::net::TcpListener;
/// use tokio::sync::oneshot;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let router = Router::new().route("/livez", get(|| async { "ok" }));
/// let (stop, stopping) = oneshot::channel::<()>();
/// let limits = HttpLimits { connections: 768, ..HttpLimits::default() };
/// let server = tokio::spawn(serve(listener, router, limits, async { drop(stopping.await) }));
/// drop(stop);
/// server.await?;
/// # Ok(())
/// # }
/// ```
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    stop: impl Future<Output = ()> + Send,
) {
    let mut listener = LimitedListener::new(listener, limits);
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let served = graceful.watch(connection(stream, peer, router.clone(), limits));
        tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::debug!(%error, %peer, "a connection broke");
            }
        });
    }
    drop(listener);
    if timeout(limits.drain.min(LIMIT_MAX), graceful.shutdown()).await.is_err() {
        tracing::warn!(limit_s = limits.drain.as_secs(), "connections are left in the middle of a request");
    }
}

/// Serves what `peer` asks on one connection, whatever carries it, and gives it up when it takes too long.
pub fn serve_connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
) -> impl GracefulConnection<Error = hyper::Error> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connection(Placed::new(stream, None, limits.silence), peer, router, limits)
}

fn connection<S>(
    stream: Placed<S>,
    peer: SocketAddr,
    router: Router,
    limits: HttpLimits,
) -> impl GracefulConnection<Error = hyper::Error> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head.min(LIMIT_MAX));
    http.serve_connection(TokioIo::new(stream), service)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMITS: HttpLimits = HttpLimits {
        connections: 1,
        head: Duration::from_secs(10),
        silence: Duration::from_secs(30),
        drain: Duration::from_secs(2),
    };

    fn router() -> Router {
        let slow = || async {
            sleep(Duration::from_secs(3600)).await;
            "at last"
        };
        let large = || async { vec![b'x'; 8_000_000] };
        Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(slow))
            .route("/large", get(large))
    }

    /// The peer's end of a connection that is served.
    fn served() -> DuplexStream {
        let (ours, theirs) = duplex(1024);
        tokio::spawn(serve_connection(ours, "127.0.0.1:1".parse().unwrap(), router(), LIMITS));
        theirs
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_get_on_is_given_up() {
        let mut peer = served();
        let begun = Instant::now();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        // Each of these bytes would end the silence, and none ends the head.
        while peer.write_all(b"1").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
            assert!(begun.elapsed() <= LIMITS.head + Duration::from_secs(2), "it goes on for ever");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_its_answer_and_asks_nothing_more_is_closed() {
        let mut peer = served();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        let mut answer = String::new();
        timeout(2 * LIMITS.head, peer.read_to_string(&mut answer)).await.expect("it is closed").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        assert_eq!(begun.elapsed().as_secs(), LIMITS.head.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_of_its_answer_or_gets_none_is_given_up() {
        for path in ["/large", "/slow"] {
            let mut peer = served();
            peer.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
                .await
                .unwrap();
            sleep(LIMITS.silence + Duration::from_secs(1)).await;
            let mut taken = Vec::new();
            let end = timeout(Duration::from_secs(1), peer.read_to_end(&mut taken)).await;
            assert!(end.is_ok(), "{path}: it is not closed");
            assert!(taken.len() <= 1024, "{path}");
        }
    }

    #[tokio::test]
    async fn those_who_say_nothing_do_not_keep_others_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = oneshot::channel::<()>();
        let limits = HttpLimits { head: Duration::from_millis(50), ..LIMITS };
        let serving = tokio::spawn(serve(listener, router(), limits, async { drop(stopping.await) }));
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(60), probe.read_to_string(&mut answer)).await;
        read.expect("there is a place").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(stop);
        serving.await.unwrap();
    }
}
