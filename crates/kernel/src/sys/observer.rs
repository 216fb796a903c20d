//! Who counts or traces the messages of one life, within limits that hold at any load.

#![allow(
    clippy::disallowed_types,
    reason = "the count of what a trace left out; a cell of docs/architecture.md"
)]

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gemba_core::sys::{LongestView, StatisticsView, TracedView};
use gemba_core::view::MailboxView;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How many messages one trace shows at most.
pub const TRACE_MESSAGES_MAX: u32 = 10_000;

/// How many messages a trace shows in one second at most.
pub const TRACE_PER_SECOND_MAX: u32 = 1_000;

/// How many bytes of a message's text a trace shows.
pub const TRACE_TEXT_MAX: usize = 256;

/// When a trace ends, even if it has not shown all it may.
pub const TRACE_LASTS: Duration = Duration::from_secs(600);

/// How many messages wait for a reader of a trace who is slow.
const TRACE_BUFFER: usize = 256;

/// How much a trace may show.
///
/// # Units and limits
///
/// By default 100 messages, and 100 a second; [`TRACE_MESSAGES_MAX`] and [`TRACE_PER_SECOND_MAX`] at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLimits {
    messages: u32,
    per_second: u32,
}

impl TraceLimits {
    /// A trace that ends after so many messages.
    pub const fn messages(messages: u32) -> Self {
        let messages = if messages < TRACE_MESSAGES_MAX { messages } else { TRACE_MESSAGES_MAX };
        Self { messages, per_second: 100 }
    }

    /// And leaves out what comes faster than this.
    pub const fn per_second(self, per_second: u32) -> Self {
        let per_second = if per_second < TRACE_PER_SECOND_MAX { per_second } else { TRACE_PER_SECOND_MAX };
        Self { per_second, ..self }
    }
}

impl Default for TraceLimits {
    fn default() -> Self {
        Self::messages(100)
    }
}

/// The messages of one life as they are handled, until the limit or [`TRACE_LASTS`] is reached, the life ends or this is
/// dropped.
#[must_use = "dropping a trace ends it"]
pub struct Trace {
    shown: mpsc::Receiver<TracedView>,
    left_out: Arc<AtomicU64>,
    until: Instant,
}

impl Trace {
    /// The next message: `None` when the trace is over, at the latest [`TRACE_LASTS`] after it began, and when all that
    /// was shown until then has been read.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; nothing is lost.
    pub async fn next(&mut self) -> Option<TracedView> {
        let next = timeout_at(self.until, self.shown.recv()).await;
        next.unwrap_or_else(|_| self.shown.try_recv().ok())
    }

    /// How many messages were not shown: they came too fast, or the reader was too slow.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("left_out", &self.left_out()).finish_non_exhaustive()
    }
}

/// Who observes one life.
#[derive(Default)]
pub(crate) struct Observer {
    pub counting: Option<Counting>,
    tracing: Option<Tracing>,
}

/// Statistics that are on.
pub(crate) struct Counting {
    since: Instant,
    handled: u64,
    busy: Duration,
    longest: Option<(Duration, Cow<'static, str>)>,
}

struct Tracing {
    shown: mpsc::Sender<TracedView>,
    left_out: Arc<AtomicU64>,
    limits: TraceLimits,
    left: u32,
    until: Instant,
    window: Instant,
    in_window: u32,
}

impl Observer {
    /// Whether anybody still looks.
    pub(crate) fn is_idle(&self) -> bool {
        self.counting.is_none() && self.tracing.is_none()
    }

    /// Begins a trace, unless there is one.
    pub(crate) fn trace(&mut self, limits: TraceLimits, now: Instant) -> Option<Trace> {
        if self.tracing.as_ref().is_some_and(|tracing| !tracing.shown.is_closed() && now < tracing.until) {
            return None;
        }
        let (sender, shown) = mpsc::channel(TRACE_BUFFER.min(limits.messages.max(1) as usize));
        let left_out = Arc::new(AtomicU64::new(0));
        let until = now + TRACE_LASTS;
        let trace = Trace { shown, left_out: left_out.clone(), until };
        let left = limits.messages;
        let tracing = Tracing { shown: sender, left_out, limits, left, until, window: now, in_window: 0 };
        self.tracing = (0 < left).then_some(tracing);
        Some(trace)
    }

    /// Who wants the message that comes now; decided before its text is made.
    pub(crate) fn wants(&mut self, now: Instant) -> Wants {
        if self.tracing.as_ref().is_some_and(|tracing| tracing.shown.is_closed() || tracing.until <= now) {
            self.tracing = None;
        }
        let traced = self.tracing.as_mut().is_some_and(|tracing| tracing.admits(now));
        Wants { traced, counted: self.counting.is_some() }
    }

    /// Shows a message that was wanted.
    pub(crate) fn show(&mut self, number: u64, unix_ms: u64, text: &str) {
        let Some(tracing) = &mut self.tracing else { return };
        let message = cut(text, TRACE_TEXT_MAX).into();
        if tracing.shown.try_send(TracedView { number, unix_ms, message }).is_err() {
            tracing.left_out.fetch_add(1, Relaxed);
            return;
        }
        tracing.left -= 1;
        if tracing.left == 0 {
            self.tracing = None;
        }
    }

    /// Counts a message that was wanted.
    pub(crate) fn count(&mut self, text: Cow<'static, str>, took: Duration) {
        if let Some(counting) = &mut self.counting {
            counting.handled += 1;
            counting.busy += took;
            if counting.longest.as_ref().is_none_or(|(longest, _)| *longest < took) {
                counting.longest = Some((took, text));
            }
        }
    }
}

/// Who wants a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wants {
    pub traced: bool,
    pub counted: bool,
}

impl Wants {
    pub(crate) const fn any(self) -> bool {
        self.traced || self.counted
    }
}

impl Tracing {
    /// Whether this message fits into its second.
    fn admits(&mut self, now: Instant) -> bool {
        if now.duration_since(self.window) >= Duration::from_secs(1) {
            (self.window, self.in_window) = (now, 0);
        }
        if self.in_window < self.limits.per_second {
            self.in_window += 1;
            return true;
        }
        self.left_out.fetch_add(1, Relaxed);
        false
    }
}

impl Counting {
    pub(crate) const fn new(since: Instant) -> Self {
        Self { since, handled: 0, busy: Duration::ZERO, longest: None }
    }

    pub(crate) fn view(&self, mailbox: MailboxView, now: Instant) -> StatisticsView {
        let mut view = StatisticsView::new(mailbox);
        view.for_ms = now.duration_since(self.since).as_millis() as u64;
        view.handled = self.handled;
        view.busy_us = self.busy.as_micros() as u64;
        view.longest = self.longest.as_ref().map(|(took, message)| LongestView {
            message: cut(message, TRACE_TEXT_MAX).into(),
            took_us: took.as_micros() as u64,
        });
        view
    }
}

/// The beginning of a text, at most so many bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_trace_keeps_its_rate_and_ends_at_its_limit() {
        let mut observer = Observer::default();
        let begun = Instant::now();
        let limits = TraceLimits::messages(3).per_second(2);
        let mut trace = observer.trace(limits, begun).unwrap();
        for number in 1..=5 {
            if observer.wants(begun).traced {
                observer.show(number, 0, "m");
            }
        }
        assert_eq!(trace.left_out(), 3);
        assert!(observer.trace(limits, begun).is_none(), "one at a time");
        let later = begun + Duration::from_secs(1);
        assert!(observer.wants(later).traced);
        observer.show(6, 0, "m");
        assert!(observer.is_idle(), "the third was the last");
        let mut shown = Vec::new();
        while let Some(traced) = trace.next().await {
            shown.push(traced.number);
        }
        assert_eq!(shown, [1, 2, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_that_nobody_reads_ends() {
        let mut observer = Observer::default();
        let begun = Instant::now();
        drop(observer.trace(TraceLimits::default(), begun));
        assert!(!observer.wants(begun).traced);
        let _kept = observer.trace(TraceLimits::default(), begun).unwrap();
        assert!(observer.wants(begun).traced);
        assert!(!observer.wants(begun + TRACE_LASTS).traced);
        assert!(observer.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_of_a_server_that_does_nothing_ends_when_its_time_is_over() {
        let mut observer = Observer::default();
        let begun = Instant::now();
        let mut trace = observer.trace(TraceLimits::default(), begun).unwrap();
        assert!(observer.wants(begun).traced);
        observer.show(1, 0, "m");
        assert_eq!(trace.next().await.unwrap().number, 1);
        let end = tokio::time::timeout(2 * TRACE_LASTS, trace.next()).await.expect("it has an end");
        assert!(end.is_none());
        assert_eq!(begun.elapsed().as_secs(), TRACE_LASTS.as_secs());
        assert!(trace.next().await.is_none(), "it stays over");

        let mut trace = observer.trace(TraceLimits::default(), Instant::now()).unwrap();
        assert!(observer.wants(Instant::now()).traced);
        observer.show(2, 0, "m");
        tokio::time::sleep(2 * TRACE_LASTS).await;
        assert_eq!(trace.next().await.unwrap().number, 2, "a slow reader loses nothing");
        assert!(trace.next().await.is_none());
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, max, expected) in [("abc", 5, "abc"), ("abc", 2, "ab"), ("aé", 2, "a"), ("é", 1, "")] {
            assert_eq!(cut(text, max), expected, "{text} {max}");
        }
    }
}
