//! The inspector's HTTP server: its routes, its limits, its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use gemba_kernel::System;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::limited::{LimitedListener, Peer};
use crate::problem::{Kind, Problem};
use crate::token::Token;
use crate::{actions, events, gate, reads};

/// How long [`Inspector::serve`] waits for open requests after the end was asked for.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What an inspector needs besides the node.
#[derive(Clone)]
pub struct InspectConfig {
    /// The token every change asks for, and every request from another machine.
    pub token: Token,
    /// Prints the metrics in the text format of Prometheus.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Names under which the node may be asked, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
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
    /// known counts as one from another machine and needs the token.
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
    /// Event streams end at once; other requests have [`DRAIN_MAX`].
    ///
    /// # Errors
    ///
    /// What the listener says when it can no longer accept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener; requests already accepted run on to their end.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut closing = shared.closing.subscribe();
        let service = self.router().into_make_service_with_connect_info::<Peer>();
        let server =
            axum::serve(LimitedListener::new(listener), service).with_graceful_shutdown(async move {
                shutdown.await;
                shared.closing.send_replace(true);
            });
        let drained = async move {
            // An error means the server is gone with its sender: then it has ended by itself.
            if closing.wait_for(|closing| *closing).await.is_ok() {
                tokio::time::sleep(DRAIN_MAX).await;
            }
        };
        tokio::select! {
            biased;
            ended = server.into_future() => ended,
            () = drained => Ok(()),
        }
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
