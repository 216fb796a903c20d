//! What both processes have in common: bind, say where, serve, and on a signal finish what is in flight.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::gateway_client::GatewayUrlError;
use crate::patience::Patient;
use gemba::DatabaseError;
use gemba::config::ConfigErrors;

/// How long what is in flight may take after the signal to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long the service may take to stop in all: what is in flight, then the actors behind it.
pub const STOP_MAX: Duration = Duration::from_secs(25);

/// Connections open at once: below the 1024 file descriptors a process may usually have, with room for those
/// to the gateway.
const CONNECTIONS: usize = 768;

/// How long a connection may take to send the head of its next request.
const HEADERS_MAX: Duration = Duration::from_secs(10);

/// How long to wait when a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long of it connections may take: enough for a request to arrive and be answered, but a connection
/// that never sends one must not use up all of it.
const CONNECTIONS_MAX: Duration = Duration::from_secs(8);

/// An address to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", example = "127.0.0.1:8080")]
pub struct ListenAddress(pub SocketAddr);

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.0.to_string()
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        found.map(Self).ok_or_else(|| "give a host and a port, such as 127.0.0.1:8080".to_owned())
    }
}

/// Why a process did not start or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The configuration is wrong, and all that is wrong with it.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Somebody else listens there, or it is not an address of this machine.
    #[error("cannot listen at {address}; choose another --listen, or port 0 for a free one")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be used.
    #[error("cannot use --database {}", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: DatabaseError,
    },
    /// The gateway's address is none.
    #[error("cannot use --gateway")]
    Gateway(#[from] GatewayUrlError),
    /// The database could not be synced any more.
    #[error("the database could not be synced; see its disk, then start again")]
    GivenUp,
    /// The node did not start, or did not stop in order.
    #[error(transparent)]
    Node(#[from] gemba::NodeError),
    /// The plant cannot be built.
    #[error(transparent)]
    Plant(#[from] gemba::PlantErrors),
    /// Logging cannot be set up.
    #[error("cannot write logs")]
    Logs(#[from] gemba::LogsError),
    /// The token is no token.
    #[error("GEMBA_TOKEN")]
    Token(#[from] gemba::TokenError),
    /// The operating system refused something a server needs.
    #[error("cannot serve")]
    System(#[from] std::io::Error),
}

/// Takes the address.
pub(crate) async fn bind(address: &ListenAddress) -> Result<TcpListener, HostError> {
    let address = address.0;
    TcpListener::bind(address).await.map_err(|source| HostError::Bind { address, source })
}

/// Tells whoever started the process where it is, in one write. Nobody may be listening; the process serves
/// all the same.
pub(crate) fn say(lines: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}

/// Serves until SIGTERM, Ctrl-C, or until `given_up` resolves; then sends `stop` and finishes the requests in
/// flight, for [`DRAIN_MAX`].
pub(crate) async fn serve_until_signal(
    listener: TcpListener,
    router: Router,
    stop: watch::Sender<bool>,
    given_up: impl Future<Output = ()>,
) -> Result<(), HostError> {
    // Before the address is printed, so that a signal sent by whoever reads it is not missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    say(&format!("listening on http://{}\n", listener.local_addr()?));
    let mut stopping = stop.subscribe();
    let stopped = async move {
        // An error means that the sender is gone, which is a stop too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let mut server = tokio::spawn(serve(listener, router, stopped));
    let given_up = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = given_up => true,
        ended = &mut server => return Ok(ended.map_err(std::io::Error::from)??),
    };
    stop.send_replace(true);
    // A connection that breaks while the server stops is no reason to fail the process.
    let _ = tokio::time::timeout(DRAIN_MAX, server).await;
    if given_up { Err(HostError::GivenUp) } else { Ok(()) }
}

/// Serves until `stop` resolves, then finishes the requests in flight, for [`CONNECTIONS_MAX`].
///
/// A connection that is silent for [`HEADERS_MAX`], before its first request or between two, is closed, and so is
/// one that does not take its answer, for [`UNTAKEN_MAX`](crate::patience::UNTAKEN_MAX). No more than [`CONNECTIONS`]
/// are open at once: neither half-open ones nor those must keep customers out.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let served = graceful.watch(connection(stream, router.clone()));
        tokio::spawn(async move {
            // A client that breaks off has its reasons; what it asked for goes on in a task of its own.
            let _ = served.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(CONNECTIONS_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!(limit_s = CONNECTIONS_MAX.as_secs(), "connections cut off in the middle of a request");
    }
    Ok(())
}

/// Serves what is asked on a connection, and gives it up when its peer is silent or takes nothing.
fn connection<S>(
    stream: S,
    router: Router,
) -> http1::Connection<TokioIo<Patient<S>>, TowerToHyperService<Router>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_MAX);
    http.serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(router))
}

/// The next connection, when there is a place for it.
///
/// # Cancel safety
///
/// A connection that was accepted is returned.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let place = places.clone().acquire_owned().await.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                // A payment is one small packet each way: waiting to fill a larger one only costs time.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) => {
                // The process is out of file descriptors, or the client is gone again.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, sound) in
            [("127.0.0.1:0", true), ("[::1]:80", true), ("127.0.0.1", false), ("8080", false), ("", false)]
        {
            assert_eq!(text.parse::<ListenAddress>().is_ok(), sound, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_asks_is_closed() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopping) = watch::channel(false);
        let server = tokio::spawn(serve(listener, Router::new(), async move {
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }));
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
        let mut rest = Vec::new();
        half.read_to_end(&mut rest).await.unwrap();
        assert!(!String::from_utf8_lossy(&rest).contains("200"), "{rest:?}");
        stop.send_replace(true);
        server.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_answer_is_not_taken_is_closed() {
        use tokio::io::AsyncWriteExt;

        use crate::patience::UNTAKEN_MAX;
        let large = || async { vec![b'x'; 8 * 1024 * 1024] };
        let router = Router::new().route("/", axum::routing::get(large));
        let (ours, mut peer) = tokio::io::duplex(1024);
        let served = tokio::spawn(connection(ours, router));
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let ended = tokio::time::timeout(2 * UNTAKEN_MAX, served).await.expect("it gives its place back");
        assert!(ended.unwrap().is_err(), "nobody took the answer");
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = bind(&ListenAddress(taken.local_addr().unwrap())).await.unwrap_err();
        assert!(error.to_string().contains("choose another --listen"), "{error}");
    }
}
