//! Counts what the clients were answered.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::demo::pay::{Acknowledged, Ended, Outcome};

/// Notes that may wait to be counted; clients wait when there are more.
const NOTES_MAX: usize = 8_192;

/// How often the counts are published.
const PUBLISH_PERIOD: Duration = Duration::from_millis(100);

/// The longest latency told apart, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Complaints kept to be shown.
const COMPLAINTS_MAX: usize = 5;

/// Something the tally counts.
#[derive(Debug)]
pub(crate) enum Note {
    /// A payment was sent.
    Submitted,
    /// A payment was due, and too many were outstanding.
    NotSent,
    /// A payment ended.
    Ended(Ended),
}

/// The counts so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) submitted: u64,
    pub(crate) not_sent: u64,
    pub(crate) succeeded: u64,
    pub(crate) rejected: u64,
    pub(crate) declined: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) unanswered: u64,
    pub(crate) retries: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Counts {
    /// Payments whose client was told how they ended.
    pub(crate) const fn answered(&self) -> u64 {
        self.succeeded + self.rejected + self.declined + self.refused + self.failed
    }
}

/// What is left when all has been counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    /// Every payment a client was told had been made.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// What the first failures said.
    pub(crate) complaints: Vec<Box<str>>,
    latencies: Histogram<u64>,
}

/// The ends of a tally that others hold.
#[derive(Debug)]
pub(crate) struct Desks {
    /// Where notes are handed in. The tally ends when all copies are gone.
    pub(crate) notes: mpsc::Sender<Note>,
    /// The counts, ten times a second.
    pub(crate) counts: watch::Receiver<Counts>,
}

impl Tally {
    /// A tally that counts until nobody holds its `notes` any more. Each acknowledged payment is also
    /// offered to `auditor`, who may miss some: the final audit reads all.
    pub(crate) fn start(auditor: mpsc::Sender<Acknowledged>) -> (Desks, impl Future<Output = Self>) {
        let (notes, inbox) = mpsc::channel(NOTES_MAX);
        let (published, counts) = watch::channel(Counts::default());
        (Desks { notes, counts }, Self::new().count(inbox, published, auditor))
    }

    fn new() -> Self {
        let latencies =
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are constants that fit");
        Self { counts: Counts::default(), acknowledged: Vec::new(), complaints: Vec::new(), latencies }
    }

    async fn count(
        mut self,
        mut inbox: mpsc::Receiver<Note>,
        published: watch::Sender<Counts>,
        auditor: mpsc::Sender<Acknowledged>,
    ) -> Self {
        let mut ticks = interval(PUBLISH_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => published.send_replace(self.read()),
                note = inbox.recv() => match note {
                    Some(note) => {
                        if let Some(acknowledged) = self.take(note) {
                            // A full channel costs the live audit one payment, nothing else.
                            let _ = auditor.try_send(acknowledged);
                        }
                        continue;
                    }
                    None => break,
                },
            };
        }
        self.counts = self.read();
        published.send_replace(self.counts.clone());
        self
    }

    fn read(&self) -> Counts {
        let quantile_ms = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        Counts { p50_ms: quantile_ms(0.5), p99_ms: quantile_ms(0.99), ..self.counts.clone() }
    }

    fn take(&mut self, note: Note) -> Option<Acknowledged> {
        let ended = match note {
            Note::Submitted => {
                self.counts.submitted += 1;
                return None;
            }
            Note::NotSent => {
                self.counts.not_sent += 1;
                return None;
            }
            Note::Ended(ended) => ended,
        };
        self.counts.retries += u64::from(ended.retries);
        match ended.outcome {
            Outcome::Refused => self.counts.refused += 1,
            Outcome::Unanswered => self.counts.unanswered += 1,
            Outcome::Failed(why) => {
                self.counts.failed += 1;
                if self.complaints.len() < COMPLAINTS_MAX {
                    self.complaints.push(why);
                }
            }
            Outcome::Rejected => self.timed(ended.latency).rejected += 1,
            Outcome::Declined => self.timed(ended.latency).declined += 1,
            Outcome::Succeeded(acknowledged) => {
                self.timed(ended.latency).succeeded += 1;
                self.acknowledged.push(acknowledged.clone());
                return Some(acknowledged);
            }
        }
        None
    }

    /// Records the latency of an answer; giving up and failing are not answers worth timing.
    fn timed(&mut self, latency: Duration) -> &mut Counts {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros.max(1));
        &mut self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_end_is_counted_once() {
        let (auditor, mut audited) = mpsc::channel(1);
        let (desks, tally) = Tally::start(auditor);
        let tally = tokio::spawn(tally);
        let paid = |payment: &str| {
            Outcome::Succeeded(Acknowledged { payment: payment.into(), amount_minor: 5, currency: "EUR" })
        };
        let outcomes = [
            paid("a"),
            paid("b"),
            Outcome::Rejected,
            Outcome::Declined,
            Outcome::Refused,
            Outcome::Failed("500".into()),
            Outcome::Unanswered,
        ];
        desks.notes.send(Note::NotSent).await.unwrap();
        for outcome in outcomes {
            desks.notes.send(Note::Submitted).await.unwrap();
            let ended = Ended { outcome, latency: Duration::from_millis(4), retries: 1 };
            desks.notes.send(Note::Ended(ended)).await.unwrap();
        }
        drop(desks.notes);
        let tally = tally.await.unwrap();
        let counts = &tally.counts;
        assert_eq!((counts.submitted, counts.not_sent, counts.retries), (7, 1, 7));
        assert_eq!((counts.succeeded, counts.rejected, counts.declined, counts.refused), (2, 1, 1, 1));
        assert_eq!((counts.failed, counts.unanswered, counts.answered()), (1, 1, 6));
        assert!((3.9..4.1).contains(&counts.p50_ms) && (3.9..4.1).contains(&counts.p99_ms));
        assert_eq!(tally.acknowledged.len(), 2);
        assert_eq!(&*tally.complaints, ["500".into()]);
        assert_eq!(&*audited.recv().await.unwrap().payment, "a", "the auditor got what fitted");
    }
}
