//! A cell: the sampler that all threads ask when a trace begins.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gemba_core::sampling::{Sampler, Sampling};
use gemba_core::time::Timestamp;
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// Decides at the begin of a span: as its parent did, or by the rule if it has none.
#[derive(Clone)]
pub(crate) struct HeadSampler {
    /// What is not sampled is recorded all the same, for the decision at its end.
    otherwise: SamplingDecision,
    started: Instant,
    sampler: Arc<Mutex<Sampler>>,
}

impl HeadSampler {
    pub(crate) fn new(sampling: &Sampling) -> Self {
        let otherwise =
            if sampling.looks_at_the_end() { SamplingDecision::RecordOnly } else { SamplingDecision::Drop };
        let sampler = Arc::new(Mutex::new(Sampler::new(sampling, Timestamp::START)));
        Self { otherwise, started: Instant::now(), sampler }
    }

    fn chooses(&self, trace_id: TraceId) -> bool {
        let now = Timestamp::START + self.started.elapsed();
        let id = u128::from_be_bytes(trace_id.to_bytes());
        self.sampler.lock().expect("choosing cannot panic").chooses(id, now)
    }
}

impl ShouldSample for HeadSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone());
        let parent = parent.filter(opentelemetry::trace::SpanContext::is_valid);
        let is_chosen = match &parent {
            Some(parent) => parent.is_sampled(),
            None => self.chooses(trace_id),
        };
        let decision = if is_chosen { SamplingDecision::RecordAndSample } else { self.otherwise.clone() };
        let trace_state = parent.map_or(TraceState::NONE, |parent| parent.trace_state().clone());
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

impl fmt::Debug for HeadSampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadSampler").field("otherwise", &self.otherwise).finish_non_exhaustive()
    }
}
