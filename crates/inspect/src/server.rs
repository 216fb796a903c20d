//! The inspector's HTTP server: its routes, its limits, its end.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use gemba_http::HttpLimits;
use gemba_kernel::System;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::events::KEEP_ALIVE;
use crate::host::HostName;
use crate::problem::{Kind, Problem};
use crate::token::Token;
use crate::{actions, events, gate, reads};

/// How long [`Inspector::serve`] waits for open requests after the end was asked for.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Event streams are among the connections, and are never as silent as one may be.
const LIMITS: HttpLimits = HttpLimits {
    connections: 256,
    head: Duration::from_secs(10),
    silence: KEEP_ALIVE.saturating_mul(2),
    drain: DRAIN_MAX,
};

/// What an inspector needs besides the node.
#[derive(Clone)]
pub struct InspectConfig {
    /// The token every change asks for, and every request from another machine.
    pub token: Token,
    /// Prints the metrics in the text format of Prometheus.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Names under which the node may be asked, besides IP addresses and `localhost`.
    pub hosts: Vec<HostName>,
}

impl InspectConfig {
    /// An inspector that answers for IP addresses and `localhost`.
    pub fn new(token: Token, metrics: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        Self { token, metrics, hosts: Vec::new() }
    }
}

impl fmt::Debug for InspectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InspectConfig")
            .field("token", &self.token)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) system: System,
    pub(crate) config: InspectConfig,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) closing: watch::Sender<bool>,
}

/// Shows a node over HTTP, and lets whoever holds the token operate it.
///
/// Reads are open to this machine; changes, and everything from another machine but `/livez` and
/// `/readyz`, need the bearer token.
pub struct Inspector {
    shared: Arc<Shared>,
}

impl Inspector {
    /// An inspector of `system`.
    pub fn new(system: System, config: InspectConfig) -> Self {
        let streams = Arc::new(Semaphore::new(events::STREAMS_MAX));
        let (closing, _) = watch::channel(false);
        Self { shared: Arc::new(Shared { system, config, streams, closing }) }
    }

    /// The routes, for a server of one's own.
    ///
    /// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: a request whose sender is not
    /// known counts as one from another machine and needs the token. How long connections may be silent is then the
    /// business of that server.
    pub fn router(&self) -> Router {
        let state = Arc::clone(&self.shared);
        let with_token = from_fn_with_state(Arc::clone(&state), gate::token);
        let affinity = post(actions::bind_keys).delete(actions::clear_keys);
        let cord = post(actions::pull_cord).delete(actions::reset_cord);
        Router::new()
            .route("/livez", get(reads::livez))
            .route("/readyz", get(reads::readyz))
            .route("/metrics", get(reads::metrics))
            .route("/api/v1/tree", get(reads::tree))
            .route("/api/v1/board", get(reads::board))
            .route("/api/v1/health", get(reads::health))
            .route("/api/v1/receipts", get(reads::receipts))
            .route("/api/v1/events", get(events::events))
            .route("/api/v1/actors/{*rest}", post(actions::actor).route_layer(with_token.clone()))
            .route("/api/v1/lines/{line}/cord", cord.route_layer(with_token.clone()))
            .route("/api/v1/pools/balance", post(actions::rebalance).route_layer(with_token.clone()))
            .route(
                "/api/v1/lines/{line}/baseline",
                post(actions::accept_baseline).route_layer(with_token.clone()),
            )
            .route(
                "/api/v1/alerts/{station}/acknowledgement",
                post(actions::acknowledge).route_layer(with_token.clone()),
            )
            .route(
                "/api/v1/alerts/{stations}/silence",
                post(actions::silence).route_layer(with_token.clone()),
            )
            .route("/api/v1/reload", post(actions::reload).route_layer(with_token.clone()))
            .route("/api/v1/affinity/{group}", affinity.route_layer(with_token.clone()))
            .route("/api/v1/breakers/{breaker}/{state}", post(actions::force_breaker).route_layer(with_token))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(from_fn_with_state(Arc::clone(&state), gate::gate))
            .with_state(state)
    }

    /// Serves on `listener` until `shutdown` is ready and open requests have ended.
    ///
    /// Event streams end at once; other requests have [`DRAIN_MAX`]. A listener that cannot accept, as when the
    /// process is out of file descriptors, is tried again.
    ///
    /// # Units and limits
    ///
    /// 256 connections at once; the next ones wait. A connection is closed when the head of its next request has not
    /// arrived within 10 s, and when it was silent in both directions, or has taken nothing of its answer, for 30 s:
    /// those who do not speak must not keep a probe out. An event stream is never silent for so long.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener; requests already accepted run on to their end.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) {
        let router = self.router();
        let end = async move {
            shutdown.await;
            self.shared.closing.send_replace(true);
        };
        gemba_http::serve(listener, router, LIMITS, end).await;
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

async fn not_found() -> Problem {
    Problem::new(
        Kind::NotFound,
        "this node shows /livez, /readyz, /metrics and /api/v1/{tree,board,health,receipts,events}; changes are under \
         /api/v1/{actors,affinity,alerts,breakers,lines,pools,reload}",
    )
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        Kind::MethodNotAllowed,
        "this path exists, but not with this method; the Allow header lists what it takes",
    )
}

#[cfg(test)]
mod tests {
    use gemba_kernel::{Node, task};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    async fn inspected() -> (Node, Inspector) {
        let idle = task("idle", |ctx| async move {
            ctx.stopped().await;
            Ok(())
        });
        let node = Node::builder("test").child(idle).start().await.unwrap();
        let config = InspectConfig::new(Token::new("correct-horse-battery").unwrap(), Arc::new(String::new));
        let inspector = Inspector::new(node.system().clone(), config);
        (node, inspector)
    }

    /// The peer's end of a connection that is served.
    fn served(inspector: &Inspector) -> DuplexStream {
        let (ours, theirs) = duplex(1024);
        let peer = "127.0.0.1:1".parse().unwrap();
        tokio::spawn(gemba_http::serve_connection(ours, peer, inspector.router(), LIMITS));
        theirs
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_stream_goes_on_however_little_happens() {
        let (node, inspector) = inspected().await;
        let mut peer = served(&inspector);
        peer.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        let mut told = Vec::new();
        while begun.elapsed() < Duration::from_secs(600) {
            let read = timeout(Duration::from_secs(60), peer.read_buf(&mut told)).await.unwrap().unwrap();
            assert_ne!(read, 0, "it was closed after {:?}", begun.elapsed());
        }
        node.stop("test").await.unwrap();
    }
}
