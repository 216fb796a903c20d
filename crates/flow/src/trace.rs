//! The trace a signal belongs to, where spans are exported: what a caller began goes on here, and is told to others.

use std::num::NonZeroU64;

use gemba_core::trace::{TraceContext, TraceId};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Makes `span` a part of the trace a caller has begun, if it is exported, and has not begun itself. A span that is
/// made inside another one of this trace stays where it is.
///
/// The line does so with the span of a signal that has a [trace](crate::Signal::trace); whoever makes a span around
/// it, such as one for a request over HTTP, does it with that.
pub fn join_trace(span: &Span, context: &TraceContext) {
    if trace_of(&Span::current()).is_some_and(|here| here.trace_id == context.trace_id) {
        return;
    }
    let caller = SpanContext::new(
        opentelemetry::trace::TraceId::from(context.trace_id.get()),
        SpanId::from(context.span_id.get()),
        TraceFlags::default().with_sampled(context.sampled),
        true,
        TraceState::NONE,
    );
    // A span that nobody exports has no place in a trace, and one that has begun keeps the one it has.
    let _ = span.set_parent(Context::new().with_remote_span_context(caller));
}

/// Where `span` stands in the trace it is exported in: what a call that it makes says in its `traceparent`. `None` of
/// a span that is not exported.
pub fn trace_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let here = span.span_context();
    Some(TraceContext {
        trace_id: TraceId::new(u128::from_be_bytes(here.trace_id().to_bytes()))?,
        span_id: NonZeroU64::new(u64::from_be_bytes(here.span_id().to_bytes()))?,
        sampled: here.is_sampled(),
    })
}
