//! A request for a payment: whose trace it belongs to, and since when it waits for its answer.

use std::time::Instant;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use gemba::trace::{TraceContext, TraceId};
use gemba::{join_trace, trace_of};
use tracing::Span;
use uuid::Uuid;

use crate::problem::Problem;

/// What a caller says of its trace, and what the gateway is told of ours (W3C Trace Context).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What the caller is told of ours: the draft that follows the standard has a header of its own for answers.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// A request that was taken. Its trace has an id also when nobody exports spans.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    trace: TraceContext,
    at: Instant,
}

impl Asked {
    /// Takes a request that goes on with the trace its headers name, or begins one. `span` is the one the request is
    /// worked on in.
    pub fn begin(headers: &HeaderMap, span: &Span) -> Self {
        let at = Instant::now();
        let caller = caller(headers);
        if let Some(caller) = &caller {
            join_trace(span, caller);
        }
        let random = || Uuid::new_v4().as_u128();
        let own =
            || caller.map_or_else(|| TraceContext::begin(random()), |caller| caller.child(random() as u64));
        let trace = trace_of(span).unwrap_or_else(own);
        span.record("trace_id", tracing::field::display(trace.trace_id));
        Self { trace, at }
    }

    /// Where it stands in its trace.
    pub const fn trace(&self) -> TraceContext {
        self.trace
    }

    /// The trace it belongs to.
    pub const fn trace_id(&self) -> TraceId {
        self.trace.trace_id
    }

    /// How long it has waited, in whole milliseconds.
    pub fn took_ms(&self) -> u64 {
        u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The header that tells the caller.
    pub fn response_header(&self) -> HeaderValue {
        HeaderValue::try_from(self.trace.to_string()).expect("it has only visible letters")
    }

    /// Says on a refusal whose it is, and how long it took.
    pub fn on(&self, problem: Problem) -> Problem {
        problem.with("trace_id", self.trace_id().to_string()).with("took_ms", self.took_ms())
    }
}

/// What cannot be read, or is said twice, says nothing: a trace begins here, as the standard asks.
fn caller(headers: &HeaderMap) -> Option<TraceContext> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (first, None) = (given.next()?, given.next()) else { return None };
    first.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn asked(values: &[&str]) -> Asked {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        Asked::begin(&headers, &Span::none())
    }

    #[test]
    fn a_request_goes_on_with_its_callers_trace_in_a_span_of_its_own() {
        let given: TraceContext = GIVEN.parse().unwrap();
        let ours = asked(&[GIVEN]).trace();
        assert_eq!((ours.trace_id, ours.sampled), (given.trace_id, true));
        assert_ne!(ours.span_id, given.span_id);
    }

    #[test]
    fn a_trace_that_cannot_be_read_or_is_said_twice_is_begun_anew_each_time() {
        let given: TraceContext = GIVEN.parse().unwrap();
        let mut seen = vec![given.trace_id];
        for values in [&[][..], &["00-no-trace-01"], &["\u{fc}"], &[GIVEN, GIVEN]] {
            let begun = asked(values).trace_id();
            assert!(!seen.contains(&begun), "{values:?}");
            seen.push(begun);
        }
    }
}
