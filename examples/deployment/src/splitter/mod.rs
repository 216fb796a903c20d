//! The splitter: a process in front of a region's instances that gives each version its share of the requests.

mod handover;
mod headers;
mod limits;
mod pool;
pub mod proxy;
mod pulse;
pub mod table;
pub mod tally;
mod tunnel;
mod worker;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::join_all;
use gemba::http::HttpLimits;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use self::handover::{Heritage, Legacy, TELL_EVERY};
pub use self::limits::Limits;
use self::proxy::Routes;
use self::table::Table;
use self::tally::{Tally, VersionCounts};
use self::worker::{Going, Worker};
use crate::host::{self, HostError, ListenAddress};
use crate::problem::{FieldError, Kind, Problem};

/// How long to wait when a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// What a splitter is told when it starts.
#[derive(Debug, Clone, clap::Args)]
pub struct SplitterOptions {
    /// Where requests come in.
    #[arg(long, value_name = "ADDR")]
    pub listen: ListenAddress,
    /// Where it is told the shares and asked for its counts.
    #[arg(long, value_name = "ADDR")]
    pub admin: ListenAddress,
    /// Where the splitter that follows asks for the sockets. One that is there already hands over, finishes what it
    /// has, and ends.
    #[arg(long, value_name = "FILE")]
    pub handover: Option<PathBuf>,
    /// What it was built from: whoever asks for the health of another build is told that this is not it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub build: String,
    /// What it allows.
    #[command(flatten)]
    pub limits: Limits,
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
    build: Arc<str>,
    before: Arc<Before>,
}

/// What the splitters before this one counted.
#[derive(Debug)]
struct Before {
    /// When they handed over.
    then: Vec<VersionCounts>,
    /// What they have counted by now: the last one finishes what it had.
    now: watch::Sender<Vec<VersionCounts>>,
}

impl Before {
    fn new(then: Vec<VersionCounts>) -> Self {
        Self { now: watch::Sender::new(then.clone()), then }
    }

    /// Adds what they counted.
    fn add_to(&self, own: &mut Vec<VersionCounts>) {
        for theirs in self.now.borrow().iter() {
            match own.iter_mut().find(|own| own.version == theirs.version) {
                Some(own) => {
                    own.requests += theirs.requests;
                    own.failures += theirs.failures;
                    own.in_flight += theirs.in_flight;
                }
                None => own.push(VersionCounts { latencies: 0, latencies_us: Vec::new(), ..theirs.clone() }),
            }
        }
    }

    /// How many latencies of a version they had; what they had afterwards is not told.
    fn latencies(&self, version: &str) -> u64 {
        self.then.iter().find(|theirs| theirs.version == version).map_or(0, |theirs| theirs.latencies)
    }
}

impl Desk {
    fn counted(&self, known: &HashMap<String, u64>) -> Counted {
        let routes = self.routes.load_full();
        let of = |tally: &Tally| {
            let before = self.before.latencies(tally.version());
            let known = known.get(&**tally.version()).copied().unwrap_or(0);
            let mut counts = tally.counts(known.saturating_sub(before));
            counts.latencies += before;
            counts
        };
        let mut versions = routes.tallies.iter().map(of).collect();
        self.before.add_to(&mut versions);
        Counted { generation: routes.table.generation, life: self.life.to_string(), versions }
    }
}

/// Splits until SIGTERM, or until another one takes over; then finishes what is in flight.
pub async fn run(options: SplitterOptions) -> Result<(), HostError> {
    let mut stop = host::stop_signal()?;
    let path = options.handover.clone();
    let heritage = match path.clone() {
        Some(path) => spawn_blocking(move || handover::ask(&path)).await.map_err(io::Error::other)??,
        None => None,
    };
    let (listener, admin, legacy, will) = open(&options, heritage).await?;
    let routes = Routes { table: Table::default(), tallies: Vec::new() };
    let routes = legacy.as_ref().map_or(routes, |legacy| next(&Routes::default(), legacy.table.clone()));
    let desk = Desk {
        routes: Arc::new(ArcSwap::from_pointee(routes)),
        life: legacy
            .as_ref()
            .map_or_else(|| uuid::Uuid::new_v4().to_string(), |legacy| legacy.counted.life.clone())
            .into(),
        build: options.build.as_str().into(),
        before: Arc::new(Before::new(legacy.map(|legacy| legacy.counted.versions).unwrap_or_default())),
    };
    let (going, goes) = watch::channel(Going::On);
    let limits = Arc::new(options.limits);
    let workers = (0..limits.threads()).map(|number| Worker::start(number, &desk.routes, &limits, &goes));
    let workers = workers.collect::<io::Result<Vec<_>>>()?;
    let sockets = [own(&listener)?, own(&admin)?];
    // Connections wait at the socket until somebody takes them: both may, and one of them does.
    let will = match will {
        Some(heritage) => Some(spawn_blocking(move || heritage.take()).await.map_err(io::Error::other)??.1),
        None => None,
    };
    host::say(&format!("listening on http://{}\n", listener.local_addr()?));
    if let Some(mut will) = will {
        let before = desk.before.clone();
        std::thread::spawn(move || {
            while let Some(counted) = will.next() {
                before.now.send_replace(counted.versions);
            }
            // Whatever it still had is over with it.
            before.now.send_modify(|versions| versions.iter_mut().for_each(|counts| counts.in_flight = 0));
        });
    }
    let going = Arc::new(going);
    let signalled = going.clone();
    tokio::spawn(async move {
        let _ = stop.wait_for(|stopping| *stopping).await;
        // One that has handed over ends by itself, and sooner would be too soon.
        signalled.send_if_modified(|going| {
            let is_on = *going == Going::On;
            if is_on {
                *going = Going::Out;
            }
            is_on
        });
    });
    let (over, is_over) = watch::channel(false);
    let giving = match &path {
        Some(path) => {
            Some(tokio::spawn(hand_over(handover::expect(path)?, sockets, desk.clone(), going, is_over)))
        }
        None => None,
    };
    let mut leaving = goes.clone();
    let desks = gemba::http::serve(admin, router(desk), HttpLimits::default(), async move {
        let _ = leaving.wait_for(|going| *going != Going::On).await;
    });
    tokio::join!(desks, accept(listener, workers, limits, goes));
    over.send_replace(true);
    if let Some(giving) = giving {
        let _ = giving.await;
    }
    Ok(())
}

/// The sockets: those of the splitter before, where they are at the addresses asked for, else new ones.
async fn open(
    options: &SplitterOptions,
    heritage: Option<Heritage>,
) -> Result<(TcpListener, TcpListener, Option<Legacy>, Option<Heritage>), HostError> {
    let Some(heritage) = heritage else {
        return Ok((listen(options.listen.0)?, host::bind(&options.admin).await?, None, None));
    };
    let inherited = |socket: &std::net::TcpListener, address: SocketAddr| {
        if socket.local_addr().is_ok_and(|local| local == address) {
            socket.set_nonblocking(true)?;
            return Ok::<_, io::Error>(Some(TcpListener::from_std(socket.try_clone()?)?));
        }
        Ok(None)
    };
    let listener = match inherited(&heritage.listener, options.listen.0)? {
        Some(listener) => listener,
        None => listen(options.listen.0)?,
    };
    let admin = match inherited(&heritage.admin, options.admin.0)? {
        Some(admin) => admin,
        None => host::bind(&options.admin).await?,
    };
    Ok((listener, admin, Some(heritage.legacy.clone()), Some(heritage)))
}

fn own(listener: &TcpListener) -> io::Result<OwnedFd> {
    listener.as_fd().try_clone_to_owned()
}

fn listen(address: SocketAddr) -> Result<TcpListener, HostError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| HostError::Bind { address, source })
}

/// Waits for a splitter that is to follow, and hands over to it.
async fn hand_over(
    expected: UnixListener,
    sockets: [OwnedFd; 2],
    desk: Desk,
    going: Arc<watch::Sender<Going>>,
    mut is_over: watch::Receiver<bool>,
) {
    let mut sockets = Some(sockets);
    while let Some(mine) = sockets.take() {
        let stream = tokio::select! {
            _ = is_over.wait_for(|over| *over) => return,
            accepted = expected.accept() => accepted.and_then(|(stream, _)| stream.into_std()),
        };
        let legacy =
            Legacy { table: desk.routes.load().table.clone(), counted: desk.counted(&HashMap::new()) };
        let given = spawn_blocking(move || {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => return (mine, Err(error)),
            };
            let given = handover::give(&stream, [&mine[0], &mine[1]], &legacy);
            (mine, given.map(|()| stream))
        });
        let stream = match given.await {
            Ok((_, Ok(stream))) => stream,
            Ok((mine, Err(error))) => {
                tracing::warn!(%error, "not handed over; this one goes on");
                sockets = Some(mine);
                continue;
            }
            Err(_) => return,
        };
        going.send_replace(Going::Over);
        // As long as something is in flight here, the instances it is at are needed.
        let mut told = true;
        while told && !*is_over.borrow() {
            let counted = desk.counted(&HashMap::new());
            told = handover::tell(&stream, &without_latencies(counted)).is_ok();
            let _ = tokio::time::timeout(TELL_EVERY, is_over.wait_for(|over| *over)).await;
        }
        let _ = handover::tell(&stream, &without_latencies(desk.counted(&HashMap::new())));
    }
}

fn without_latencies(mut counted: Counted) -> Counted {
    counted.versions.iter_mut().for_each(|counts| counts.latencies_us.clear());
    counted
}

/// Takes connections as long as it goes on, then waits until the last one is over.
async fn accept(
    listener: TcpListener,
    workers: Vec<Worker>,
    limits: Arc<Limits>,
    mut goes: watch::Receiver<Going>,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max as usize));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let (stream, caller) = listener.accept().await?;
            Ok::<_, io::Error>((stream.into_std()?, caller, place))
        };
        let accepted = tokio::select! {
            biased;
            _ = goes.wait_for(|going| *going != Going::On) => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(accepted) => {
                if let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) {
                    worker.serve(accepted);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    join_all(workers.into_iter().map(Worker::finish)).await;
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/table", get(table).put(set_table))
        .route("/counts", get(counts))
        .with_state(desk)
}

/// Ready, if it is the splitter that was asked for: one that takes over listens at the address of the one before.
async fn health(State(desk): State<Desk>, Query(asked): Query<HashMap<String, String>>) -> Response {
    if asked.get("build").is_none_or(|build| **build == *desk.build) {
        return "ready".into_response();
    }
    let detail = format!("this is build '{}'", desk.build);
    Problem::new(Kind::Conflict, detail).into_response()
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
    Json(desk.counted(&known))
}
