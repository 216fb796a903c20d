//! A cell: connections to instances that one thread keeps, so that a request finds one open.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};

use super::limits::{CONNECT_MAX, KEEP_MAX, KEPT_MAX};
use super::proxy::Outgoing;

/// Why there is no connection to an instance. Nothing was sent to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("it refuses connections")]
    Refused(#[from] io::Error),
    #[error("it took no connection within {CONNECT_MAX:?}")]
    Late,
    #[error("it speaks no HTTP")]
    Handshake(#[from] hyper::Error),
}

/// A connection to an instance.
pub(crate) type Sender = SendRequest<Outgoing>;

#[derive(Debug)]
struct Kept {
    sender: Sender,
    since: Instant,
}

/// The connections that nobody uses. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<HashMap<SocketAddr, Vec<Kept>>>>);

impl Pool {
    /// A kept connection to the instance, if there is one that was not closed.
    pub(crate) fn take(&self, instance: SocketAddr) -> Option<Sender> {
        self.with(|kept| {
            let kept = kept.get_mut(&instance)?;
            // The last one that was used: the others may grow old and be closed.
            kept.retain(|kept| !kept.sender.is_closed());
            let place = kept.iter().rposition(|kept| kept.sender.is_ready())?;
            Some(kept.remove(place).sender)
        })
    }

    /// Keeps a connection whose answer is over.
    pub(crate) fn keep(&self, instance: SocketAddr, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        self.with(|kept| {
            let kept = kept.entry(instance).or_default();
            if kept.len() < KEPT_MAX {
                kept.push(Kept { sender, since: Instant::now() });
            }
        });
    }

    /// Opens a connection to the instance.
    pub(crate) async fn connect(&self, instance: SocketAddr) -> Result<Sender, ConnectError> {
        let stream = timeout(CONNECT_MAX, TcpStream::connect(instance)).await;
        let stream = stream.map_err(|_| ConnectError::Late)??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender, or with the instance.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Closes what nobody has used for long, for ever.
    pub(crate) async fn tend(&self) {
        let mut looks = interval(KEEP_MAX / 4);
        loop {
            looks.tick().await;
            self.with(|instances| {
                instances.retain(|_, kept| {
                    kept.retain(|kept| kept.since.elapsed() < KEEP_MAX && !kept.sender.is_closed());
                    !kept.is_empty()
                });
            });
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<SocketAddr, Vec<Kept>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
