//! A cell: spans that were not sampled, until the first of their trace ends and what became of it is known.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use gemba_core::sampling::Sampling;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceId};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor, TracerProviderBuilder,
};

use crate::sampler::HeadSampler;

/// Traces that wait for their end at once. The oldest is given up for a newer one.
const TRACES_MAX: usize = 4_096;

/// Spans kept of one trace; of a longer one the first.
const SPANS_MAX: usize = 64;

/// Hands on what was sampled at once, and the rest when its trace turns out to have failed or been slow.
pub(crate) struct Tail<P> {
    sampling: Sampling,
    next: P,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    traces: HashMap<TraceId, Vec<SpanData>>,
    /// Those that wait, oldest first, and some that no longer do.
    order: VecDeque<TraceId>,
}

impl Waiting {
    fn keep_for_later(&mut self, span: SpanData) {
        let trace = span.span_context.trace_id();
        let spans = self.traces.entry(trace).or_insert_with(|| {
            self.order.push_back(trace);
            Vec::new()
        });
        if spans.len() < SPANS_MAX {
            spans.push(span);
        }
        while TRACES_MAX < self.traces.len() {
            let Some(oldest) = self.order.pop_front() else { return };
            self.traces.remove(&oldest);
        }
        if 2 * TRACES_MAX < self.order.len() {
            let traces = &self.traces;
            self.order.retain(|trace| traces.contains_key(trace));
        }
    }
}

/// A provider of tracers that samples by `sampling` and hands spans to `exporter` in batches, whose queue is
/// bounded: what does not fit is dropped and counted by the SDK. [`Logs`](crate::Logs) makes one for OTLP.
pub fn sampled(sampling: Sampling, exporter: impl SpanExporter + 'static) -> TracerProviderBuilder {
    let batches = BatchSpanProcessor::builder(exporter).build();
    SdkTracerProvider::builder()
        .with_sampler(HeadSampler::new(&sampling))
        .with_span_processor(Tail::new(sampling, batches))
}

impl<P: SpanProcessor> Tail<P> {
    pub(crate) fn new(sampling: Sampling, next: P) -> Self {
        Self { sampling, next, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing in it panics")
    }

    /// What can be handed on now that `span` has ended.
    fn released(&self, span: SpanData) -> Vec<SpanData> {
        let trace = span.span_context.trace_id();
        let is_first = span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote;
        let mut waiting = self.waiting();
        if !is_first {
            waiting.keep_for_later(span);
            return Vec::new();
        }
        let failed = |span: &SpanData| matches!(span.status, Status::Error { .. });
        // `tracing` ends a span after those inside it: this is the whole trace.
        let mut spans = waiting.traces.remove(&trace).unwrap_or_default();
        let took = span.end_time.duration_since(span.start_time).unwrap_or_default();
        spans.push(span);
        if self.sampling.keeps(spans.iter().any(failed), took) { spans } else { Vec::new() }
    }
}

impl<P: SpanProcessor> SpanProcessor for Tail<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.next.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            return self.next.on_end(span);
        }
        for mut span in self.released(span) {
            span.span_context = to_export(&span.span_context);
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// The same, to be exported.
fn to_export(context: &SpanContext) -> SpanContext {
    SpanContext::new(
        context.trace_id(),
        context.span_id(),
        context.trace_flags().with_sampled(true),
        context.is_remote(),
        context.trace_state().clone(),
    )
}

impl<P> fmt::Debug for Tail<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("sampling", &self.sampling).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
