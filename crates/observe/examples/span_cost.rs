//! What tracing costs a signal: `cargo run --release -p gemba-observe --example span_cost`.
//!
//! Each figure is the median of nine rounds of a signal's two spans (`process_signal` with `execute_action` in it).
//! Exported spans go to an exporter that throws them away.

use std::time::{Duration, Instant};

use gemba_core::sampling::{Head, Sampling};
use gemba_observe::sampled;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;

const SIGNALS: u32 = 20_000;
const ROUNDS: usize = 9;

/// Exports into nothing.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

fn signal() {
    let signal = tracing::debug_span!(target: "gemba::signal", "process_signal", otel.status_code = tracing::field::Empty);
    let action = tracing::debug_span!(target: "gemba::signal", parent: &signal, "execute_action");
    action.in_scope(|| std::hint::black_box(()));
}

fn median() -> Duration {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..SIGNALS).for_each(|_| signal());
            begun.elapsed() / SIGNALS
        })
        .collect();
    rounds.sort();
    rounds[ROUNDS / 2]
}

fn main() -> Result<(), gemba_core::sampling::SamplingError> {
    println!("nobody traces                  {:>6} ns", median().as_nanos());
    let never = Sampling::new(Head::Never)?;
    for (what, sampling) in [
        ("never, head only", never.head_only()),
        ("1 %, head only", Sampling::new(Head::Ratio(0.01))?.head_only()),
        ("never, failed and slow kept", never),
        ("1 %, failed and slow kept", Sampling::new(Head::Ratio(0.01))?),
        ("always", Sampling::new(Head::Always)?),
    ] {
        let provider = sampled(sampling, Nowhere).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("cost"));
        let subscriber = tracing_subscriber::registry().with(layer);
        let taken = tracing::subscriber::with_default(subscriber, median);
        println!("{what:<30} {:>6} ns", taken.as_nanos());
    }
    Ok(())
}
