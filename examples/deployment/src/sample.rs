//! The service that is deployed: it answers, and its dials make it a bad version.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::host::{self, HostError, ListenAddress};

/// The request's own number, by which its outcome is drawn.
pub const REQUEST_HEADER: &str = "x-request-id";

/// The dials of the service. A request's outcome follows from the seed, the version and the request's own number
/// alone: the same run gives the same failures.
#[derive(Debug, Clone, clap::Args)]
pub struct SampleOptions {
    /// Where it listens.
    #[arg(long, value_name = "ADDR")]
    pub listen: ListenAddress,
    /// Which version it is.
    #[arg(long)]
    pub version: String,
    /// The share of requests that fail.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub error_rate: f64,
    /// For how long it does well before its error rate applies.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub well_for_ms: u64,
    /// How long an answer takes.
    #[arg(long, value_name = "MS", default_value_t = 0.5)]
    pub latency_ms: f64,
    /// The share of answers that take longer.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub slow_rate: f64,
    /// How long those take.
    #[arg(long, value_name = "MS", default_value_t = 20.0)]
    pub slow_ms: f64,
    /// How long it takes to be ready.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub start_ms: u64,
    /// What outcomes are drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Never be ready.
    #[arg(long)]
    pub never_ready: bool,
    /// Ignore SIGTERM.
    #[arg(long)]
    pub ignore_sigterm: bool,
    /// Write to the log without end.
    #[arg(long)]
    pub flood: bool,
}

#[derive(Debug)]
struct Sample {
    options: SampleOptions,
    started: Instant,
    seed: u64,
}

/// Answers until SIGTERM.
pub async fn run(options: SampleOptions) -> Result<(), HostError> {
    let listener = host::bind(&options.listen).await?;
    let address: SocketAddr = listener.local_addr()?;
    let mut stop = host::stop_signal()?;
    host::say(&format!("{} listening on http://{address}\n", options.version));
    if options.flood {
        std::thread::spawn(|| {
            loop {
                host::say("a line that nobody will read\n");
            }
        });
    }
    let ignores = options.ignore_sigterm;
    let seed = xxh3_64_with_seed(options.version.as_bytes(), options.seed);
    let sample = Arc::new(Sample { options, started: Instant::now(), seed });
    let router = Router::new().route("/health", get(health)).fallback(answer).with_state(sample);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = stop.wait_for(|stopping| *stopping).await;
            if ignores {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    Ok(())
}

async fn health(State(sample): State<Arc<Sample>>) -> StatusCode {
    let is_ready = Duration::from_millis(sample.options.start_ms) <= sample.started.elapsed();
    if is_ready && !sample.options.never_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn answer(State(sample): State<Arc<Sample>>, headers: HeaderMap) -> Response {
    let request = headers.get(REQUEST_HEADER).map_or(&[][..], |value| value.as_bytes());
    // Drawn apart from failures.
    let is_slow = fails(sample.seed.rotate_left(32), request, sample.options.slow_rate);
    let ms = if is_slow { sample.options.slow_ms } else { sample.options.latency_ms };
    if 0.0 < ms {
        sleep(Duration::from_secs_f64(ms.clamp(0.0, 60_000.0) / 1e3)).await;
    }
    let is_bad = Duration::from_millis(sample.options.well_for_ms) <= sample.started.elapsed();
    if is_bad && fails(sample.seed, request, sample.options.error_rate) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "a defect of this version\n").into_response();
    }
    format!("{}\n", sample.options.version).into_response()
}

/// Whether the request of this number fails.
fn fails(seed: u64, request: &[u8], share: f64) -> bool {
    // 53 bits are what a float tells apart.
    (xxh3_64_with_seed(request, seed) >> 11) as f64 / (1u64 << 53) as f64 <= share && 0.0 < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_follow_from_seed_and_number() {
        let failures = |seed: u64, share: f64| {
            (0..10_000u64).filter(|number| fails(seed, number.to_string().as_bytes(), share)).count()
        };
        assert_eq!(failures(1, 0.0), 0);
        assert_eq!(failures(1, 1.0), 10_000);
        assert_eq!(failures(1, 0.1), failures(1, 0.1));
        // Five standard deviations of a binomial.
        assert!(failures(1, 0.1).abs_diff(1_000) < 150 && failures(2, 0.1).abs_diff(1_000) < 150);
    }
}
