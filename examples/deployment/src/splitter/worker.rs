//! A thread of the splitter: its connections, those to instances, and nothing that another thread has.
//!
//! What a request needs is on one processor, and nobody is woken on another one. Together with connections to instances
//! of its own, a request costs 18 µs of processor time instead of 25 with a shared runtime and a shared client
//! (`just bench-deployment`, 64 connections).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::headers::Caller;
use super::limits::{FIELDS_MAX, LINGER, Limits, STREAMS_MAX};
use super::pool::Pool;
use super::proxy::{Line, Proxy, Routes};
use super::pulse::{Pulse, Pulsed, Verdict};
use super::tunnel::Place;
use crate::host;

/// How a splitter is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going {
    /// It takes connections.
    On,
    /// Another one has taken over: each connection ends with its next answer.
    Over,
    /// It is to stop: each connection ends as soon as nothing is in flight on it.
    Out,
}

/// A connection that was accepted.
pub(crate) type Accepted = (std::net::TcpStream, SocketAddr, OwnedSemaphorePermit);

/// A thread that serves connections.
#[derive(Debug)]
pub(crate) struct Worker {
    connections: mpsc::Sender<Accepted>,
    /// Counted by its clones, each of which a connection has.
    alive: Arc<()>,
    thread: JoinHandle<()>,
}

impl Worker {
    pub(crate) fn start(
        number: usize,
        routes: &Arc<ArcSwap<Routes>>,
        limits: &Arc<Limits>,
        going: &watch::Receiver<Going>,
    ) -> io::Result<Self> {
        let (connections, accepted) = mpsc::channel(limits.connections_max as usize);
        let pool = Pool::default();
        let proxy = Proxy::new(routes.clone(), pool.clone(), limits.clone());
        let (limits, going, alive) = (limits.clone(), going.clone(), Arc::new(()));
        let open = alive.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("split-{number}")).spawn(move || {
            runtime.block_on(work(accepted, proxy, pool, limits, going, open));
        })?;
        Ok(Self { connections, alive, thread })
    }

    /// How many connections it has.
    pub(crate) fn load(&self) -> usize {
        Arc::strong_count(&self.alive)
    }

    /// Gives it a connection. It always has room: there are no more places for connections than it has.
    pub(crate) fn serve(&self, accepted: Accepted) {
        let _ = self.connections.try_send(accepted);
    }

    /// Takes no more, and waits until it is done.
    pub(crate) async fn finish(self) {
        drop(self.connections);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

async fn work(
    mut accepted: mpsc::Receiver<Accepted>,
    proxy: Proxy,
    pool: Pool,
    limits: Arc<Limits>,
    going: watch::Receiver<Going>,
    open: Arc<()>,
) {
    let tending = tokio::spawn(async move { pool.tend().await });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // A timer for each head would cost more than the head; `Pulse` sees to it.
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes_max as usize)
        .max_headers(FIELDS_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(limits.head_bytes_max);
    let http = Arc::new(http);
    let (alive, mut dead) = mpsc::channel(1);
    while let Some((stream, caller, place)) = accepted.recv().await {
        let line = Line {
            caller: Arc::new(Caller::new(caller.ip())),
            pulse: Arc::new(Pulse::new()),
            place: Arc::new(Place::new(place, alive.clone())),
        };
        let serving = serve(stream, line, http.clone(), proxy.clone(), limits.clone(), going.clone());
        let open = open.clone();
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, %caller, "connection not served");
            }
            drop(open);
        });
    }
    drop(alive);
    if timeout(host::DRAIN_MAX, dead.recv()).await.is_err() {
        tracing::warn!("requests cut off: they took longer than a stop may");
    }
    tending.abort();
}

/// Serves one connection to its end.
async fn serve(
    stream: std::net::TcpStream,
    line: Line,
    http: Arc<auto::Builder<TokioExecutor>>,
    proxy: Proxy,
    limits: Arc<Limits>,
    mut going: watch::Receiver<Going>,
) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let pulse = line.pulse.clone();
    let io = TokioIo::new(Pulsed::new(TcpStream::from_std(stream)?, pulse.clone()));
    let service = service_fn(move |request| {
        let (proxy, line) = (proxy.clone(), line.clone());
        async move { Ok::<_, Infallible>(proxy.pass(request, &line).await) }
    });
    let mut connection = pin!(http.serve_connection_with_upgrades(io, service));
    let mut look = pin!(sleep_until(Instant::now() + limits.head_max()));
    // When it is closed in order, once that is known.
    let mut closes = None;
    let mut seen = Going::On;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                // Callers break off for reasons of their own.
                if let Err(error) = ended {
                    tracing::trace!(%error, "connection broke off");
                }
                return Ok(());
            }
            () = look.as_mut() => {}
            changed = changed(&mut going, seen), if seen != Going::Out => {
                seen = changed;
                pulse.leave();
                let lingers = seen == Going::Over && !pulse.is_framed();
                closes = Some(Instant::now() + if lingers { LINGER } else { Duration::ZERO });
            }
        }
        let now = Instant::now();
        let mut again = match pulse.verdict(limits.head_max(), limits.idle_max(), limits.answer_max()) {
            Verdict::Alive(again) => again,
            Verdict::Stuck => return Ok(()),
            Verdict::Idle => {
                closes = closes.or(Some(now));
                now + limits.head_max()
            }
        };
        if let Some(at) = closes {
            if at <= now {
                connection.as_mut().graceful_shutdown();
            } else {
                again = again.min(at);
            }
        }
        look.as_mut().reset(again);
    }
}

/// Waits until the splitter goes on in another way than `seen`.
async fn changed(going: &mut watch::Receiver<Going>, seen: Going) -> Going {
    match going.wait_for(|going| *going != seen).await {
        Ok(going) => *going,
        Err(_) => Going::Out,
    }
}
