//! Requests at a steady rate, sent whether or not earlier ones were answered, and what came of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::demo::stage::unix_ms;
use crate::host;
use crate::sample::REQUEST_HEADER;
use crate::splitter::proxy::VERSION_HEADER;

/// How often requests are sent: as many as are due.
const TICK: Duration = Duration::from_millis(5);

/// How long an answer may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Requests without an answer at once; more are held back until one is free, and sent then.
const IN_FLIGHT_MAX: usize = 400;

/// Answers that may wait to be counted.
const NOTES_MAX: usize = 65_536;

/// What came of one request.
#[derive(Debug, Clone)]
struct Note {
    /// Who answered; nobody if it did not come back.
    version: Option<String>,
    is_failure: bool,
    sent_unix_ms: u64,
    latency: Duration,
}

/// What came of the requests to one version.
#[derive(Debug, Clone, Default)]
pub(crate) struct OfVersion {
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// When the first failure was sent, and the last request of all, in milliseconds since 1970.
    pub(crate) first_failure_unix_ms: Option<u64>,
    pub(crate) last_unix_ms: u64,
}

/// What came of all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallied {
    pub(crate) versions: BTreeMap<String, OfVersion>,
    /// Requests that nobody answered.
    pub(crate) lost: OfVersion,
    /// When each failure was sent, and whose it was.
    pub(crate) failures: Vec<(u64, Option<String>)>,
    /// The last second's rate, and the 99th percentile.
    pub(crate) per_second: u64,
    pub(crate) p99_ms: f64,
}

impl Tallied {
    /// All requests.
    pub(crate) fn requests(&self) -> u64 {
        self.versions.values().map(|version| version.requests).sum::<u64>() + self.lost.requests
    }

    fn note(&mut self, note: &Note) {
        let version = note.version.clone();
        let of =
            version.as_ref().map_or(&mut self.lost, |name| self.versions.entry(name.clone()).or_default());
        of.requests += 1;
        of.last_unix_ms = of.last_unix_ms.max(note.sent_unix_ms);
        if note.is_failure {
            of.failures += 1;
            let first = of.first_failure_unix_ms.get_or_insert(note.sent_unix_ms);
            *first = (*first).min(note.sent_unix_ms);
            self.failures.push((note.sent_unix_ms, version));
        }
    }
}

/// Requests on their way.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) tallied: watch::Receiver<Tallied>,
    stop: watch::Sender<bool>,
    counting: JoinHandle<Tallied>,
}

impl Load {
    /// Sends `rate` requests a second, to each region in turn.
    pub(crate) fn start(regions: &[SocketAddr], rate: u32, seed: u64) -> Self {
        let client = host::client(Some(ANSWER_MAX));
        let urls: Arc<[String]> = regions.iter().map(|region| format!("http://{region}/")).collect();
        let (sending, noted) = mpsc::channel(NOTES_MAX);
        let (stop, stopping) = watch::channel(false);
        let (sender, tallied) = watch::channel(Tallied::default());
        tokio::spawn(send(client, urls, rate, seed, sending, stopping));
        let counting = tokio::spawn(count(noted, sender));
        Self { tallied, stop, counting }
    }

    /// Sends no more, waits for the last answers, and tells what came of all.
    pub(crate) async fn stop(self) -> Tallied {
        self.stop.send_replace(true);
        self.counting.await.unwrap_or_default()
    }
}

async fn send(
    client: reqwest::Client,
    urls: Arc<[String]>,
    rate: u32,
    seed: u64,
    notes: mpsc::Sender<Note>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut sent = 0u64;
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = ticks.tick() => {}
        }
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while sent < due {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let (client, url, notes) =
                (client.clone(), urls[sent as usize % urls.len()].clone(), notes.clone());
            let number = format!("{seed}-{sent}");
            tokio::spawn(async move {
                // A full channel makes the next request wait for its place, and loses nothing.
                let _ = notes.send(ask(&client, &url, &number).await).await;
                drop(place);
            });
            sent += 1;
        }
    }
}

async fn ask(client: &reqwest::Client, url: &str, number: &str) -> Note {
    let (sent_unix_ms, began) = (unix_ms(), Instant::now());
    let answer = client.get(url).header(REQUEST_HEADER, number).send().await;
    let (version, is_failure) = match answer {
        Ok(answer) => {
            let version = answer.headers().get(VERSION_HEADER).and_then(|version| version.to_str().ok());
            let version = version.unwrap_or("nobody").to_owned();
            let is_failure = !answer.status().is_success();
            // Read to its end, or the connection is not used again.
            let is_whole = answer.bytes().await.is_ok();
            (Some(version), is_failure || !is_whole)
        }
        Err(error) => {
            tracing::warn!(error = %crate::chain(&error), "request not answered");
            (None, true)
        }
    };
    Note { version, is_failure, sent_unix_ms, latency: began.elapsed() }
}

async fn count(mut noted: mpsc::Receiver<Note>, sender: watch::Sender<Tallied>) -> Tallied {
    let mut tallied = Tallied::default();
    let (mut second, mut latencies) = (Instant::now(), Vec::new());
    while let Some(note) = noted.recv().await {
        tallied.note(&note);
        latencies.push(note.latency);
        if Duration::from_secs(1) <= second.elapsed() {
            latencies.sort_unstable();
            tallied.per_second = latencies.len() as u64;
            tallied.p99_ms = latencies[(latencies.len() * 99).div_ceil(100) - 1].as_secs_f64() * 1e3;
            latencies.clear();
            second = Instant::now();
            sender.send_replace(tallied.clone());
        }
    }
    tallied
}
