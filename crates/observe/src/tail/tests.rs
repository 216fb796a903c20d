//! Tests of sampling, through `tracing` as a line uses it.

use gemba_core::sampling::Head;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};
use tracing::Span;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::sampler::HeadSampler;

/// What is exported while `work` runs, by name.
fn exported(sampling: Sampling, work: impl FnOnce()) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(HeadSampler::new(&sampling))
        .with_span_processor(Tail::new(sampling, SimpleSpanProcessor::new(exporter.clone())))
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, work);
    provider.force_flush().unwrap();
    exporter.get_finished_spans().unwrap()
}

/// A signal as a line traces it: a span with one inside, and a word at its end when it failed.
fn signal(fails: bool) {
    let signal = tracing::info_span!("process_signal", otel.status_code = tracing::field::Empty);
    let action = tracing::info_span!(parent: &signal, "execute_action");
    action.in_scope(|| ());
    drop(action);
    if fails {
        signal.record("otel.status_code", "ERROR");
    }
    signal.in_scope(|| ());
}

fn never() -> Sampling {
    Sampling::new(Head::Never).unwrap()
}

#[test]
fn what_fails_is_exported_whole_although_nothing_is_sampled() {
    let spans = exported(never(), || (0..20).for_each(|n| signal(n == 7)));
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["execute_action", "process_signal"]);
    assert!(spans.iter().all(|span| span.span_context.is_sampled()));
    assert_eq!(spans[0].parent_span_id, spans[1].span_context.span_id());
    assert!(exported(never().head_only(), || signal(true)).is_empty());
}

#[test]
fn what_is_slow_is_exported_although_nothing_is_sampled() {
    let sampling = never().slower_than(Duration::from_millis(1)).unwrap();
    let spans = exported(sampling, || {
        let signal = tracing::info_span!("process_signal");
        signal.in_scope(|| std::thread::sleep(Duration::from_millis(2)));
    });
    assert_eq!(spans.len(), 1);
}

#[test]
fn a_sampled_trace_is_exported_whole_and_one_in_so_many_is_chosen() {
    let half = Sampling::new(Head::Ratio(0.5)).unwrap();
    let spans = exported(half, || (0..1_000).for_each(|_| signal(false)));
    let of = |name| spans.iter().filter(|span| span.name == name).count();
    assert_eq!(of("process_signal"), of("execute_action"), "a child goes with its parent");
    assert!((400..600).contains(&of("process_signal")), "{}", of("process_signal"));
}

#[test]
fn a_long_trace_is_kept_whole_however_many_come_and_go_meanwhile() {
    let spans = exported(never(), || {
        let long = tracing::info_span!("process_signal", otel.status_code = tracing::field::Empty);
        tracing::info_span!(parent: &long, "execute_action").in_scope(|| ());
        (0..3 * TRACES_MAX).for_each(|_| signal(false));
        long.record("otel.status_code", "ERROR");
    });
    assert_eq!(spans.len(), 2);
}

#[test]
fn traces_that_never_end_are_given_up_oldest_first() {
    let spans = exported(never(), || {
        let mut open: Vec<Span> = Vec::new();
        for _ in 0..=TRACES_MAX {
            let signal = tracing::info_span!("process_signal", otel.status_code = tracing::field::Empty);
            tracing::info_span!(parent: &signal, "execute_action").in_scope(|| ());
            signal.record("otel.status_code", "ERROR");
            open.push(signal);
        }
        open.truncate(1);
    });
    // The first lost its child to the newest; the others were whole.
    let of = |name| spans.iter().filter(|span| span.name == name).count();
    assert_eq!((of("process_signal"), of("execute_action")), (TRACES_MAX + 1, TRACES_MAX));
}
