//! How many signals arrive per second, over the last moments.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// Into how many parts the present is cut: a count is kept for the end of each.
const PARTS: u32 = 16;

/// Counts of arrivals at points in time, the newest last: a rate is the difference of two.
///
/// An average that fades would only approach a new rate; this has it after its span, exactly.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    span: Duration,
    longer: u32,
    points: VecDeque<(Timestamp, u64)>,
    newest: Option<(Timestamp, u64)>,
}

impl Rate {
    /// Rates over `span`, and over `longer` times of it.
    pub(super) const fn new(span: Duration, longer: u32) -> Self {
        Self { span, longer, points: VecDeque::new(), newest: None }
    }

    /// Whether it has been told one count, or none.
    pub(super) fn is_new(&self) -> bool {
        self.points.len() <= 1
    }

    /// Takes note of the count now, and returns how many came since the last note, and how long that was.
    pub(super) fn note(&mut self, total: u64, now: Timestamp) -> Option<(u64, Duration)> {
        let before = self.newest.replace((now, total));
        if self.points.back().is_none_or(|(at, _)| self.span / PARTS <= now.since(*at)) {
            self.points.push_back((now, total));
        }
        let longest = self.span * self.longer;
        while self.points.get(1).is_some_and(|(at, _)| longest <= now.since(*at)) {
            self.points.pop_front();
        }
        let (at, seen) = before?;
        let elapsed = now.since(at);
        (!elapsed.is_zero()).then(|| (total.saturating_sub(seen), elapsed))
    }

    /// Arrivals per second over the span.
    pub(super) fn per_s(&self, now: Timestamp) -> f64 {
        let (arrived, seconds) = self.over(self.span, now);
        if seconds > 0.0 { arrived / seconds } else { 0.0 }
    }

    /// Arrivals and seconds over the span, and over the longer one.
    pub(super) fn spans(&self, now: Timestamp) -> [(f64, f64); 2] {
        [self.over(self.span, now), self.over(self.span * self.longer, now)]
    }

    fn over(&self, span: Duration, now: Timestamp) -> (f64, f64) {
        let old_enough = self.points.partition_point(|(at, _)| span <= now.since(*at));
        let first = self.points.get(old_enough.saturating_sub(1));
        let (Some((at, seen)), Some((_, total))) = (first, self.newest) else {
            return (0.0, 0.0);
        };
        (total.saturating_sub(*seen) as f64, now.since(*at).as_secs_f64())
    }
}
