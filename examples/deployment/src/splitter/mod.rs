//! The splitter: a process in front of a region's instances that gives each version its share of the requests.

pub mod proxy;
pub mod table;
pub mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;

use crate::host::{self, HostError, ListenAddress};
use crate::problem::{FieldError, Kind, Problem};
use crate::splitter::proxy::{Proxy, Routes};
use crate::splitter::table::Table;
use crate::splitter::tally::{Tally, VersionCounts};

/// Connections at once: below the 1024 descriptors a process may usually have, with room for those to instances.
const CONNECTIONS: usize = 512;

/// How long a connection may take to send the head of its next request.
const HEADERS_MAX: Duration = Duration::from_secs(30);

/// How long to wait when a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// What a splitter is told when it starts.
#[derive(Debug, Clone, clap::Args)]
pub struct SplitterOptions {
    /// Where requests come in. Several splitters may share it, so that a new one takes over from an old one.
    #[arg(long, value_name = "ADDR")]
    pub listen: ListenAddress,
    /// Where it is told the shares and asked for its counts.
    #[arg(long, value_name = "ADDR")]
    pub admin: ListenAddress,
    /// How long an instance may take for the head of its answer.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub answer_max_ms: u64,
}

/// What a splitter counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counted {
    /// The number of the table in force.
    pub generation: u64,
    /// Which splitter it is: another one has other counts.
    pub life: String,
    /// Every version that ever had a share.
    pub versions: Vec<VersionCounts>,
}

#[derive(Debug, Clone)]
struct Desk {
    routes: Arc<ArcSwap<Routes>>,
    life: Arc<str>,
}

/// Splits until SIGTERM, then finishes what is in flight.
pub async fn run(options: SplitterOptions) -> Result<(), HostError> {
    let routes: Arc<ArcSwap<Routes>> = Arc::default();
    let listener = listen(options.listen.0)?;
    let admin = host::bind(&options.admin).await?;
    let stop = host::stop_signal()?;
    host::say(&format!("listening on http://{}\n", listener.local_addr()?));
    let desk = Desk { routes: routes.clone(), life: uuid::Uuid::new_v4().to_string().into() };
    let mut admin_stop = stop.clone();
    let desks = axum::serve(admin, router(desk)).with_graceful_shutdown(async move {
        let _ = admin_stop.wait_for(|stopping| *stopping).await;
    });
    let proxy = Proxy::new(routes, Duration::from_millis(options.answer_max_ms));
    let (desks, ()) = tokio::join!(desks, split(listener, proxy, stop));
    Ok(desks?)
}

/// A listener that another one may stand beside.
fn listen(address: SocketAddr) -> Result<TcpListener, HostError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| HostError::Bind { address, source })
}

/// Takes connections until it is to stop, then finishes the requests in flight.
pub async fn split(listener: TcpListener, proxy: Proxy, mut stop: tokio::sync::watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_MAX);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("nobody closes it");
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopping| *stopping) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, caller) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let proxy = proxy.clone();
        let service = service_fn(move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.pass(request, caller.ip()).await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // Callers break off for reasons of their own.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(host::DRAIN_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests cut off: they took longer than a stop may");
    }
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/health", get(async || "ready"))
        .route("/table", get(table).put(set_table))
        .route("/counts", get(counts))
        .with_state(desk)
}

async fn table(State(desk): State<Desk>) -> Json<Table> {
    Json(desk.routes.load().table.clone())
}

async fn set_table(State(desk): State<Desk>, Json(table): Json<Table>) -> Response {
    let faults = table.faults();
    if !faults.is_empty() {
        let fields: Vec<_> =
            faults.into_iter().map(|(field, detail)| FieldError::new(field, detail)).collect();
        return Problem::fields(&fields).into_response();
    }
    let mut refused = None;
    let asked = table.generation;
    desk.routes.rcu(|routes| {
        let is_older = table.generation < routes.table.generation
            || (table.generation == routes.table.generation && table != routes.table);
        if is_older {
            refused = Some(routes.table.generation);
            return routes.clone();
        }
        refused = None;
        Arc::new(next(routes, table.clone()))
    });
    match refused {
        Some(generation) => {
            let detail =
                format!("table {asked} comes after {generation}; ask for the table and begin from there");
            Problem::new(Kind::Conflict, detail).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// The routes under another table. A version keeps its counts as long as it is in a table, and while requests to it
/// are on their way.
fn next(routes: &Routes, table: Table) -> Routes {
    let tally = |version: &str| {
        let known = routes.tallies.iter().find(|tally| &**tally.version() == version);
        known.cloned().unwrap_or_else(|| Tally::new(version))
    };
    let mut tallies: Vec<_> = table.versions.iter().map(|share| tally(&share.version)).collect();
    for left in &routes.tallies {
        let is_new = tallies.iter().all(|tally| tally.version() != left.version());
        if is_new && tallies.len() < 2 * table::VERSIONS_MAX {
            tallies.push(left.clone());
        }
    }
    Routes { table, tallies }
}

/// The counts; `?v1=700` leaves out the first 700 latencies of v1, which the asker has.
async fn counts(State(desk): State<Desk>, Query(known): Query<HashMap<String, u64>>) -> Json<Counted> {
    let routes = desk.routes.load_full();
    let counts = |tally: &Tally| tally.counts(known.get(&**tally.version()).copied().unwrap_or(0));
    Json(Counted {
        generation: routes.table.generation,
        life: desk.life.to_string(),
        versions: routes.tallies.iter().map(counts).collect(),
    })
}
