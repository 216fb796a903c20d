//! The end of a signal: counted, and told where a line wants that, also when its caller goes away before.

use std::sync::Arc;

use gemba_core::admission::Tier;
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::objective::{Answers, TierObjectives};
use gemba_core::receipt::{Event, SignalOutcome};
use gemba_core::time::Timestamp;
use gemba_core::trace::{TraceContext, TraceId};
use gemba_core::view::{DefectView, ObjectiveView};
use gemba_kernel::{Instruments, System};
use tracing::Span;

use crate::action::Action;
use crate::defects::{Defects, TIMED_OUT, WORKER_DIED};
use crate::line::LineCell;
use crate::meter::Ended;
use crate::meters::Meters;
use crate::objectives::Objectives;
use crate::receipts::{ReceiptGate, Receipts};
use crate::submit::SubmitError;
use crate::trace::trace_of;

/// What a line keeps account of beside its counts: who leaves a receipt, what went wrong, and how fast it is to be.
#[derive(Debug)]
pub(crate) struct Account {
    pub receipts: ReceiptGate,
    pub defects: Defects,
    pub objectives: Objectives,
}

impl Account {
    pub(crate) fn new(receipts: Receipts, objectives: TierObjectives) -> Self {
        let (receipts, objectives) = (ReceiptGate::new(receipts), Objectives::new(objectives));
        Self { receipts, defects: Defects::default(), objectives }
    }

    /// How the tiers that have an objective, and had signals, stand to it.
    pub(crate) fn standings(&self, meter: &Meters) -> Vec<ObjectiveView> {
        let of = |tier| {
            let within = self.objectives.of(tier)?;
            let answers @ Answers { in_time, slow } = meter.answers(tier);
            let p99_ms_max = within.as_millis() as u64;
            let standing = ObjectiveView { tier, p99_ms_max, in_time, slow, met: answers.meet_it() };
            (0 < in_time + slow).then_some(standing)
        };
        Tier::ALL.into_iter().filter_map(of).collect()
    }

    /// Shows on the page of metrics what went wrong, how fast it was, and how much was not told.
    pub(crate) fn publish(&self, line: &Name, meter: &Meters, to: &Instruments) {
        for DefectView { class, count } in self.defects.view() {
            to.counter(&metric::DEFECTS, &[line.as_str(), &class]).absolute(count);
        }
        for ObjectiveView { tier, in_time, slow, .. } in self.standings(meter) {
            for (answer, count) in [("in_time", in_time), ("slow", slow)] {
                to.counter(&metric::OBJECTIVE, &[line.as_str(), tier.word(), answer]).absolute(count);
            }
        }
        if let Some(skipped) = self.receipts.skipped() {
            to.counter(&metric::RECEIPTS_SKIPPED, &[line.as_str()]).absolute(skipped);
        }
    }
}

#[cfg(test)]
impl Default for Account {
    fn default() -> Self {
        Self::new(Receipts::default(), TierObjectives::default())
    }
}

/// A signal that has arrived. Dropping it is its end.
pub(crate) struct Tally<'a> {
    pub cell: &'a LineCell,
    pub system: &'a System,
    pub arrived: Timestamp,
    pub tier: Tier,
    pub span: &'a Span,
    pub trace: Option<&'a TraceContext>,
    /// Where the signal was sent last.
    pub pool: Option<u64>,
    ended: Ended,
    /// Why it did not succeed, where a receipt is to tell it.
    why: Option<Arc<str>>,
}

impl<'a> Tally<'a> {
    pub(crate) fn begin(
        cell: &'a LineCell,
        system: &'a System,
        (arrived, tier): (Timestamp, Tier),
        span: &'a Span,
        trace: Option<&'a TraceContext>,
    ) -> Self {
        cell.meter.arrived();
        Self { cell, system, arrived, tier, span, trace, pool: None, ended: Ended::Cancelled, why: None }
    }

    /// Says how it ended, to be counted when it is dropped.
    pub(crate) fn end<A: Action>(&mut self, action: &A, result: &Result<A::Output, SubmitError<A::Error>>) {
        let (ended, class) = match result {
            Ok(_) => (Ended::Succeeded, None),
            Err(SubmitError::Refused(_)) => (Ended::Refused, None),
            Err(SubmitError::Rejected(_)) => (Ended::Rejected, None),
            Err(SubmitError::TimedOut) => (Ended::TimedOut, Some(TIMED_OUT)),
            Err(SubmitError::WorkerDied) => (Ended::Failed, Some(WORKER_DIED)),
            Err(SubmitError::Failed(error)) => (Ended::Failed, Some(action.class(error))),
        };
        self.ended = ended;
        if let Some(class) = class {
            self.cell.account.defects.count(class);
        }
        if self.cell.account.receipts.wants(ended) {
            self.why = result.as_ref().err().map(|error| why(error, class));
        }
        if !self.span.is_disabled() {
            self.span.record("outcome", ended.word());
            if ended.is_defect() {
                // What a sampler keeps although it was not chosen.
                self.span.record("otel.status_code", "ERROR");
            }
        }
    }

    /// The trace it belongs to: its caller's, or the one it is exported in.
    fn trace_id(&self) -> Option<TraceId> {
        let exported = || trace_of(self.span).map(|context| context.trace_id);
        self.trace.map(|context| context.trace_id).or_else(exported)
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        let Self { cell, system, arrived, tier, ended, .. } = *self;
        let account = &cell.account;
        let now = system.now();
        let took = now.since(arrived);
        cell.meter.ended(self.pool, ended, took, (tier, account.objectives.of(tier)));
        if account.receipts.wants(ended) && account.receipts.admits(ended, now) {
            let event = Event::SignalEnded {
                line: cell.name.clone(),
                tier,
                outcome: ended,
                took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                why: self.why.take(),
                trace: self.trace_id(),
            };
            system.record(None, cell.guard.path(), event);
        }
    }
}

/// Why a signal did not succeed: of an action's own error its class and no more, for what else it says may be secret.
fn why<E: std::error::Error>(error: &SubmitError<E>, class: Option<&'static str>) -> Arc<str> {
    match (error, class) {
        (_, Some(class)) => class.into(),
        (SubmitError::Refused(refusal), None) => refusal.reason.to_string().into(),
        (SubmitError::Rejected(rejection), None) => {
            let rules = rejection.violations.iter().map(|found| format!("{} v{}", found.rule, found.version));
            rules.collect::<Vec<_>>().join(", ").into()
        }
        (SubmitError::Failed(_) | SubmitError::WorkerDied | SubmitError::TimedOut, None) => {
            SignalOutcome::Failed.word().into()
        }
    }
}
