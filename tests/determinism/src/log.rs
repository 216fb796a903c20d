//! The log of a run: one line for each thing that happened, and what the checks need to know of it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use gemba::receipt::Receipt;
use tokio::time::Instant;

/// How a signal came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Refused,
    Rejected,
    Failed,
    /// Its worker died: what it had begun may have happened.
    Died,
    /// Its time was up: what it had begun may have happened.
    TimedOut,
}

/// What the checks look at.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// Only for the log.
    Plain,
    /// A signal, by its number, on this line.
    Submitted(u64, &'static str, Duration),
    Begun(u64),
    Ended(u64),
    Answered(u64, Answer),
    /// Its caller went away.
    Withdrawn(u64),
    /// A life at this place begins.
    Born(String, u64),
    /// Its state is gone.
    Dead(String, u64),
    Receipt(Arc<Receipt>),
}

/// One thing that happened.
#[derive(Debug)]
pub(crate) struct Entry {
    pub at: Duration,
    pub fact: Fact,
    pub text: String,
}

/// Writes the log. Clones write the same one.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    begun: Instant,
    entries: Sender<Entry>,
}

impl Log {
    pub(crate) fn new() -> (Self, Receiver<Entry>) {
        let (entries, written) = mpsc::channel();
        (Self { begun: Instant::now(), entries }, written)
    }

    /// The time of the run.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn write(&self, text: impl Display) {
        self.fact(Fact::Plain, text);
    }

    pub(crate) fn fact(&self, fact: Fact, text: impl Display) {
        // After the end of a run nobody reads.
        let _ = self.entries.send(Entry { at: self.now(), fact, text: text.to_string() });
    }
}
