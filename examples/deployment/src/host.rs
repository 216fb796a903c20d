//! What every process of the system has in common: bind, say where, and stop on a signal.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use gemba::config::ConfigErrors;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long what is in flight may take after the signal to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

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
    /// Somebody else listens there, or it is not an address of this machine.
    #[error("cannot listen at {address}; choose another address, or port 0 for a free one")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be used.
    #[error("cannot use {}", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: gemba::DatabaseError,
    },
    /// The configuration is wrong, and all that is wrong with it.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The file leaves out what runs.
    #[error("the configuration leaves out what runs, and nothing was started:\n  {}", .0.join("\n  "))]
    Forgotten(Vec<String>),
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

/// A client that asks straight, whatever proxy the environment names: what it asks is on this machine or beside it.
///
/// # Panics
///
/// If the system has no source of randomness, as every client of HTTP.
pub(crate) fn client(answer_max: Option<Duration>) -> reqwest::Client {
    let mut client = reqwest::Client::builder().no_proxy();
    if let Some(limit) = answer_max {
        client = client.timeout(limit);
    }
    client.build().expect("nothing in it can be wrong")
}

/// Takes the address.
pub(crate) async fn bind(address: &ListenAddress) -> Result<TcpListener, HostError> {
    let address = address.0;
    TcpListener::bind(address).await.map_err(|source| HostError::Bind { address, source })
}

/// Tells whoever started the process where it is. Nobody may be listening; it serves all the same.
pub(crate) fn say(lines: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(lines.as_bytes()).and_then(|()| out.flush());
}

/// Becomes true on SIGTERM or Ctrl-C.
pub(crate) fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sender.send_replace(true);
        // Held: a receiver whose sender is gone would not know that it was a stop.
        sender.closed().await;
    });
    Ok(receiver)
}
