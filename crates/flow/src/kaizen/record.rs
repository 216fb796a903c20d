//! What is kept of one line: its seconds, its ladder, its budget, its window against the baseline.

use std::collections::VecDeque;
use std::time::Duration;

use gemba_core::baseline::{Baseline, BaselineRules, Comparison, Measured, compare};
use gemba_core::burn_rate::BurnStep;
use gemba_core::jidoka::Cause;
use gemba_core::ladder::Step;
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::six_sigma::Quality;
use gemba_core::time::Timestamp;
use gemba_core::view::{BaselineView, IntakeView, LineView, StudyView};
use gemba_kernel::Instruments;
use hdrhistogram::Histogram;

use super::stations::Through;
use super::{Measuring, TICK};
use crate::floor::Learnt;
use crate::line::LineCell;
use crate::meter::{Counts, Ended};

/// Over how many ticks rates and quantiles are taken.
pub(crate) const WINDOW: usize = 10;

/// Fewer outcomes within [`WINDOW`] hold no percentile against a threshold: the 99th would stand on one of them.
const LEVEL_OUTCOMES_MIN: u64 = 200;

/// How long a window is that is compared with a baseline, or becomes one. One with too few outcomes goes on.
pub(crate) const STUDY_WINDOW: Duration = Duration::from_secs(300);

/// When a window that never gets its outcomes begins anew: what is older says nothing about today.
const STUDY_WINDOW_MAX: Duration = Duration::from_secs(3600);

/// What is kept of one line.
pub(crate) struct Record {
    pub(crate) learnt: Learnt,
    counts: Counts,
    seconds: VecDeque<Second>,
    /// The window that is compared with the baseline when it is full.
    study: Measured,
    study_since: Timestamp,
    /// What went through since it was asked last.
    through: Through,
}

/// One tick of a line.
struct Second {
    outcomes: u64,
    /// Successes, and what was worked on.
    succeeded: u64,
    worked_on: u64,
    lasted: Duration,
    latency_us: Histogram<u64>,
    at: Timestamp,
}

/// What the last [`WINDOW`] ticks say together.
pub(crate) struct Recent {
    latency: Histogram<u64>,
    outcomes: u64,
    succeeded: u64,
    worked_on: u64,
    seconds: f64,
}

impl Recent {
    /// A percentile of the latency, in microseconds; 0 of a line that had next to nothing to do, so that its light
    /// goes out in time.
    pub(crate) fn level_us(&self, quantile: f64) -> u64 {
        if self.latency.len() < LEVEL_OUTCOMES_MIN { 0 } else { self.latency.value_at_quantile(quantile) }
    }

    /// Successes among what was worked on.
    pub(crate) fn success_ratio(&self) -> Option<f64> {
        (0 < self.worked_on).then(|| self.succeeded as f64 / self.worked_on as f64)
    }

    pub(crate) fn view(&self, line: &LineCell, intake: Vec<IntakeView>) -> LineView {
        let milli = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let success_ratio = self.success_ratio();
        let throughput_per_s = if self.seconds > 0.0 { self.outcomes as f64 / self.seconds } else { 0.0 };
        LineView {
            throughput_per_s,
            p50_ms: milli(0.50),
            p99_ms: milli(0.99),
            intake,
            success_ratio,
            ..line.view()
        }
    }
}

/// What a full window means.
pub(crate) enum Studied {
    /// The line had no baseline: this is its first.
    First(Measured),
    /// How it stands against the baseline.
    Compared(Comparison, u64),
}

impl Record {
    pub(crate) fn new(learnt: Option<Learnt>, rules: &Measuring, line: &LineCell, now: Timestamp) -> Self {
        let mut learnt = learnt.unwrap_or_else(|| Learnt::new(rules, *line.objective.latest(), now));
        // They may have changed since an earlier life learnt it.
        learnt.set_rules(rules, now);
        Self {
            learnt,
            counts: line.meter.counts(),
            seconds: VecDeque::new(),
            study: Measured::default(),
            study_since: now,
            through: Through::default(),
        }
    }

    /// How long the phases took, and how many signals are timed next.
    pub(crate) fn time(&self, line: &LineCell, to: &Instruments) {
        line.phases.follow(self.seconds.back().map_or(0, |second| second.outcomes));
        line.phases.take(|phase, times| {
            let histogram = to.histogram(&metric::PHASE, &[line.name.as_str(), phase.word()]);
            for bucket in times.iter_recorded() {
                let seconds = bucket.value_iterated_to() as f64 / 1e9;
                histogram.record_many(seconds, bucket.count_at_value() as usize);
            }
        });
    }

    pub(crate) fn measure(
        &mut self,
        line: &LineCell,
        counts: Counts,
        latency_us: Histogram<u64>,
        now: Timestamp,
        to: &Instruments,
    ) {
        let name = line.name.as_str();
        let histogram = to.histogram(&metric::LATENCY, &[name]);
        for bucket in latency_us.iter_recorded() {
            let (micros, count) = (bucket.value_iterated_to(), bucket.count_at_value());
            histogram.record_many(micros as f64 / 1e6, count as usize);
            self.study.latencies.add(micros, count);
            self.through.outcomes += count;
            self.through.latency_s += micros as f64 / 1e6 * count as f64;
        }
        let mut outcomes = 0;
        for ended in Ended::ALL {
            let new = counts.of(ended) - self.counts.of(ended);
            outcomes += new;
            to.counter(&metric::SIGNALS, &[name, ended.word()]).absolute(counts.of(ended));
        }
        to.gauge(&metric::IN_FLIGHT, &[name]).set(counts.in_flight() as f64);
        if let Some(dpmo) = quality(counts).dpmo() {
            to.gauge(&metric::DPMO, &[name]).set(dpmo);
        }
        for (window, rate) in self.learnt.burn.by_window(now) {
            to.gauge(&metric::BURN, &[name, window]).set(rate);
        }
        let last = self.seconds.back().map_or(now - TICK, |second| second.at);
        let (before, after) = (quality(self.counts), quality(counts));
        let worked_on = after.opportunities - before.opportunities;
        let succeeded = counts.of(Ended::Succeeded) - self.counts.of(Ended::Succeeded);
        self.seconds.push_back(Second {
            outcomes,
            succeeded,
            worked_on,
            lasted: now.since(last),
            latency_us,
            at: now,
        });
        if WINDOW < self.seconds.len() {
            self.seconds.pop_front();
        }
        self.learnt.intake.observe(counts.of(Ended::Refused), counts.arrived, now);
        self.counts = counts;
    }

    /// Defects are those of the work: what was refused or rejected did no harm.
    pub(crate) fn climb(&mut self, now: Timestamp) -> ([(Cause, Option<Step>); 2], Option<BurnStep>) {
        let Quality { defects, opportunities } = quality(self.counts);
        let Learnt { failures, late, burn, .. } = &mut self.learnt;
        let failed = failures.observe(self.counts.of(Ended::Failed), opportunities, now);
        let late = late.observe(self.counts.of(Ended::TimedOut), opportunities, now);
        let steps = [(Cause::Failures, failed), (Cause::Latency, late)];
        (steps, burn.observe(defects, opportunities, now))
    }

    /// Closes the window if it is full, and says what it means.
    pub(crate) fn study(
        &mut self,
        baseline: Option<&Baseline>,
        rules: &BaselineRules,
        now: Timestamp,
    ) -> Option<Studied> {
        let lasted = now.since(self.study_since);
        if lasted < STUDY_WINDOW {
            return None;
        }
        if self.study.latencies.count() < rules.outcomes_min() {
            if STUDY_WINDOW_MAX <= lasted {
                self.take_study(now);
            }
            return None;
        }
        let measured = self.take_study(now);
        let Some(baseline) = baseline else { return Some(Studied::First(measured)) };
        let comparison = compare(baseline, &measured, rules);
        self.learnt.comparison = Some(comparison);
        Some(Studied::Compared(comparison, measured.latencies.quantile_us(0.95)))
    }

    /// The window so far, which begins anew.
    pub(crate) fn take_study(&mut self, now: Timestamp) -> Measured {
        let lasted_ms = now.since(self.study_since).as_millis() as u64;
        self.study_since = now;
        Measured { lasted_ms, ..std::mem::take(&mut self.study) }
    }

    /// How many outcomes the window has so far.
    pub(crate) fn study_outcomes(&self) -> u64 {
        self.study.latencies.count()
    }

    /// What went through since it was asked last.
    pub(crate) fn take_through(&mut self) -> Through {
        std::mem::take(&mut self.through)
    }

    /// What the last ticks say together.
    pub(crate) fn recent(&self) -> Recent {
        let mut latency = Histogram::<u64>::new(2).expect("two digits are in range");
        let (mut outcomes, mut succeeded, mut worked_on, mut seconds) = (0, 0, 0, 0.0);
        for second in &self.seconds {
            latency.add(&second.latency_us).expect("it grows as needed");
            outcomes += second.outcomes;
            succeeded += second.succeeded;
            worked_on += second.worked_on;
            seconds += second.lasted.as_secs_f64();
        }
        Recent { latency, outcomes, succeeded, worked_on, seconds }
    }

    pub(crate) fn study_view(
        &mut self,
        line: &Name,
        baseline: Option<&Baseline>,
        now: Timestamp,
    ) -> StudyView {
        let quality = quality(self.counts);
        let burn_rates = self.learnt.burn.by_window(now);
        StudyView {
            line: line.clone(),
            quality,
            dpmo: quality.dpmo(),
            dpmo_interval: quality.interval(),
            proven_dpmo: quality.proven_dpmo(),
            sigma: quality.sigma(),
            burn_rates: burn_rates.into_iter().map(|(window, rate)| (window.into(), rate)).collect(),
            baseline: baseline.map(BaselineView::from),
            comparison: self.learnt.comparison,
        }
    }
}

fn quality(counts: Counts) -> Quality {
    let defects = counts.of(Ended::Failed) + counts.of(Ended::TimedOut);
    Quality { defects, opportunities: defects + counts.of(Ended::Succeeded) }
}
