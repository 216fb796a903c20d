//! What both processes have in common: bind, say where, serve, and on a signal finish what is in flight.

use std::future::Future;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::gateway_client::GatewayUrlError;
use gemba::DatabaseError;
use gemba::config::ConfigErrors;
use gemba::http::HttpLimits;

/// How long what is in flight may take after the signal to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long the service may take to stop in all: what is in flight, then the actors behind it.
pub const STOP_MAX: Duration = Duration::from_secs(25);

/// Half-open connections, and those that do not take their answers, must not keep customers out.
pub(crate) const HTTP: HttpLimits = HttpLimits {
    // Below the 1024 file descriptors a process may usually have, with room for those to the gateway.
    connections: 768,
    head: Duration::from_secs(10),
    // Longer than any answer takes to begin, the one of a gateway that was told to be slow among them.
    silence: Duration::from_secs(90),
    // Enough for a request to arrive and be answered; one that never comes must not use up all of [`DRAIN_MAX`].
    drain: Duration::from_secs(8),
};

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
    let mut server = tokio::spawn(gemba::http::serve(listener, router, HTTP, stopped));
    let given_up = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = given_up => true,
        ended = &mut server => return Ok(ended.map_err(std::io::Error::from)?),
    };
    stop.send_replace(true);
    // A connection that breaks while the server stops is no reason to fail the process.
    let _ = tokio::time::timeout(DRAIN_MAX, server).await;
    if given_up { Err(HostError::GivenUp) } else { Ok(()) }
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

    #[tokio::test]
    async fn an_address_in_use_is_an_error_that_names_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = bind(&ListenAddress(taken.local_addr().unwrap())).await.unwrap_err();
        assert!(error.to_string().contains("choose another --listen"), "{error}");
    }
}
