//! What one route has still to deliver, in order, and when the next attempt is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::Notice;
use crate::time::Timestamp;

/// Notices that wait for one route; one more turns out the oldest that is not being delivered.
pub const OUTBOX_MAX: usize = 256;

/// How long a notice is tried before the route gives up on it.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(1800);

/// The first wait after a failure; each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What one route has still to deliver.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    waiting: VecDeque<Entry>,
    next: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    notice: Arc<Notice>,
    since: Timestamp,
    attempts: u32,
    due: Timestamp,
}

/// The notice that is to be delivered next.
#[derive(Debug, Clone)]
pub struct Next {
    /// What [`delivered`](Outbox::delivered) and [`failed`](Outbox::failed) ask for.
    pub id: u64,
    /// The notice.
    pub notice: Arc<Notice>,
    /// From when on it may be tried.
    pub due: Timestamp,
}

impl Outbox {
    /// An outbox with nothing in it.
    pub const fn new() -> Self {
        Self { waiting: VecDeque::new(), next: 0 }
    }

    /// How many notices wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a notice; returns the one that had to give way to it, if any.
    pub fn push(&mut self, notice: Arc<Notice>, now: Timestamp) -> Option<Arc<Notice>> {
        // The first may be on its way this moment; the second is the oldest that is not.
        let surplus = OUTBOX_MAX <= self.waiting.len();
        let turned_out = if surplus { self.waiting.remove(1) } else { None };
        self.next += 1;
        self.waiting.push_back(Entry { id: self.next, notice, since: now, attempts: 0, due: now });
        turned_out.map(|entry| entry.notice)
    }

    /// What is to be delivered next: notices keep their order, and one that fails is tried again before the
    /// others.
    pub fn next(&self) -> Option<Next> {
        self.waiting.front().map(|entry| Next { id: entry.id, notice: entry.notice.clone(), due: entry.due })
    }

    /// Takes note that a notice arrived.
    pub fn delivered(&mut self, id: u64) {
        self.waiting.retain(|entry| entry.id != id);
    }

    /// Takes note that an attempt failed; `wait` is what the receiver asks for. Returns the notice if it is
    /// given up: `is_final` says that another attempt would fail as well.
    pub fn failed(
        &mut self,
        id: u64,
        wait: Option<Duration>,
        is_final: bool,
        now: Timestamp,
    ) -> Option<Arc<Notice>> {
        let entry = self.waiting.iter_mut().find(|entry| entry.id == id)?;
        entry.attempts += 1;
        entry.due = now + backoff(entry.attempts, id).max(wait.unwrap_or_default().min(GIVE_UP_AFTER));
        if is_final || GIVE_UP_AFTER < entry.due.since(entry.since) {
            let notice = entry.notice.clone();
            self.delivered(id);
            return Some(notice);
        }
        None
    }
}

/// Twice as long each time, and between half and all of it, so that routes do not knock in step.
fn backoff(attempts: u32, id: u64) -> Duration {
    let whole = BACKOFF_MIN.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    let draw = xxh3_64(&[id.to_le_bytes(), u64::from(attempts).to_le_bytes()].concat());
    whole / 2 + whole.mul_f64((draw >> 11) as f64 / (1u64 << 53) as f64) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::NoticeKind;
    use crate::light::Light;
    use crate::receipt::Seq;

    fn notice(number: u64) -> Arc<Notice> {
        Arc::new(Notice {
            kind: NoticeKind::Firing,
            node: "n1".parse().unwrap(),
            station: "line:a".parse().unwrap(),
            light: Light::Red,
            why: "why".into(),
            since_unix_ms: 0,
            unix_ms: 0,
            receipt: Seq(number),
            fact_at: Timestamp::START,
        })
    }

    #[test]
    fn what_fails_is_tried_again_first_and_ever_more_rarely() {
        let mut outbox = Outbox::new();
        let mut now = Timestamp::from_secs(100);
        outbox.push(notice(1), now);
        outbox.push(notice(2), now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let next = outbox.next().unwrap();
            assert_eq!(next.notice.receipt, Seq(1));
            assert!(outbox.failed(next.id, None, false, now).is_none());
            let wait = outbox.next().unwrap().due.since(now);
            let whole = Duration::from_secs(seconds);
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
            now = now + wait;
        }
        outbox.delivered(outbox.next().unwrap().id);
        assert_eq!(outbox.next().unwrap().notice.receipt, Seq(2));
    }

    #[test]
    fn it_gives_up_at_once_or_after_half_an_hour() {
        let mut outbox = Outbox::new();
        outbox.push(notice(1), Timestamp::START);
        assert_eq!(outbox.failed(outbox.next().unwrap().id, None, true, Timestamp::START), Some(notice(1)));
        assert!(outbox.is_empty());
        outbox.push(notice(2), Timestamp::START);
        let mut now = Timestamp::START;
        let given_up = (0..200).find_map(|_| {
            let next = outbox.next().expect("it is still tried");
            now = next.due;
            outbox.failed(next.id, None, false, now)
        });
        assert_eq!(given_up, Some(notice(2)));
        let tried = now.since(Timestamp::START);
        assert!(GIVE_UP_AFTER <= tried + BACKOFF_MAX && tried <= GIVE_UP_AFTER, "{tried:?}");
    }

    #[test]
    fn the_receivers_own_wish_counts_if_it_is_longer() {
        let mut outbox = Outbox::new();
        outbox.push(notice(1), Timestamp::START);
        outbox.failed(outbox.next().unwrap().id, Some(Duration::from_secs(90)), false, Timestamp::START);
        assert_eq!(outbox.next().unwrap().due, Timestamp::from_secs(90));
    }

    #[test]
    fn one_too_many_turns_out_the_oldest_that_is_not_on_its_way() {
        let mut outbox = Outbox::new();
        for number in 0..OUTBOX_MAX as u64 {
            assert_eq!(outbox.push(notice(number), Timestamp::START), None);
        }
        assert_eq!(outbox.push(notice(999), Timestamp::START), Some(notice(1)));
        assert_eq!((outbox.len(), outbox.next().unwrap().notice.receipt), (OUTBOX_MAX, Seq(0)));
    }
}
