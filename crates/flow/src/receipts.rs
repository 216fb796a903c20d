//! A cell: which signals of a line leave a receipt, and how many may in a second.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use gemba_core::receipt::SignalOutcome;
use gemba_core::time::Timestamp;

/// Receipts of signals a line may leave in a second, by default.
pub const RECEIPTS_PER_S: u32 = 100;

/// The most it may be told to. The journal remembers 16 384 receipts in all
/// ([`JOURNAL_CAPACITY`](gemba_kernel::JOURNAL_CAPACITY)): at this pace a line alone makes it forget what is older
/// than 16 s, and 8 s when as many fail.
pub const RECEIPTS_PER_S_MAX: u32 = 1_000;

/// A pace of receipts that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{per_s} receipts per second are out of range; give 1 to {RECEIPTS_PER_S_MAX}, or choose `none`")]
pub struct ReceiptsError {
    /// The refused number.
    pub per_s: u32,
}

/// Which signals of a line leave a receipt: by default none, they are counted.
///
/// A receipt names the outcome, the tier, how long the signal took and its trace, and why it did not succeed. It
/// stands in the journal among all others, so the pace is limited: what is over the limit of a second leaves none and
/// is counted (`gemba_line_receipts_skipped_total`). Failures and time-outs have a limit of their own, as high, so
/// that no flood of successes or refusals hides them.
///
/// # Units and limits
///
/// [`RECEIPTS_PER_S`] and as many failures a second, at most [`RECEIPTS_PER_S_MAX`]. Whoever needs every one for good
/// writes it where it is kept, as the payment example does with its trail.
///
/// # Examples
///
/// ```
/// use gemba_flow::Receipts;
///
/// let each = Receipts::each().per_s(500)?;
/// assert!(Receipts::each().per_s(0).is_err());
/// # Ok::<(), gemba_flow::ReceiptsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipts {
    of: Which,
    per_s: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    None,
    Failures,
    Unsuccessful,
    Each,
}

impl Default for Receipts {
    fn default() -> Self {
        Self::none()
    }
}

impl Receipts {
    const fn new(of: Which) -> Self {
        Self { of, per_s: RECEIPTS_PER_S }
    }

    /// No signal leaves one.
    pub const fn none() -> Self {
        Self::new(Which::None)
    }

    /// Each that failed or ran out of time leaves one.
    pub const fn failures() -> Self {
        Self::new(Which::Failures)
    }

    /// Each that did not succeed leaves one, also those that were refused, rejected or given up.
    pub const fn unsuccessful() -> Self {
        Self::new(Which::Unsuccessful)
    }

    /// Each leaves one.
    pub const fn each() -> Self {
        Self::new(Which::Each)
    }

    /// How many a second, and as many failures and time-outs.
    ///
    /// # Errors
    ///
    /// [`ReceiptsError`] unless it is from 1 to [`RECEIPTS_PER_S_MAX`].
    pub const fn per_s(self, per_s: u32) -> Result<Self, ReceiptsError> {
        if per_s == 0 || RECEIPTS_PER_S_MAX < per_s {
            return Err(ReceiptsError { per_s });
        }
        Ok(Self { per_s, ..self })
    }

    /// In one word, for a gate.
    const fn to_bits(self) -> u64 {
        (self.of as u64) << 32 | self.per_s as u64
    }

    const fn of_bits(bits: u64) -> Self {
        let of = match bits >> 32 {
            1 => Which::Failures,
            2 => Which::Unsuccessful,
            3 => Which::Each,
            _ => Which::None,
        };
        Self { of, per_s: bits as u32 }
    }
}

/// What a line asks before it writes a receipt of a signal.
#[derive(Debug)]
pub(crate) struct ReceiptGate {
    /// [`Receipts`] in one word; the regulator changes them.
    rules: AtomicU64,
    failures: Pace,
    others: Pace,
    skipped: AtomicU64,
}

impl ReceiptGate {
    pub(crate) fn new(rules: Receipts) -> Self {
        let rules = AtomicU64::new(rules.to_bits());
        Self { rules, failures: Pace::default(), others: Pace::default(), skipped: AtomicU64::new(0) }
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Receipts {
        Receipts::of_bits(self.rules.load(Relaxed))
    }

    /// From now on.
    pub(crate) fn set_rules(&self, rules: Receipts) {
        self.rules.store(rules.to_bits(), Relaxed);
    }

    /// Whether a signal that ended so leaves a receipt, if the pace allows it.
    pub(crate) fn wants(&self, ended: SignalOutcome) -> bool {
        match self.rules().of {
            Which::None => false,
            Which::Failures => ended.is_defect(),
            Which::Unsuccessful => !matches!(ended, SignalOutcome::Succeeded),
            Which::Each => true,
        }
    }

    /// Whether the pace allows one more; what it does not is counted.
    pub(crate) fn admits(&self, ended: SignalOutcome, now: Timestamp) -> bool {
        let pace = if ended.is_defect() { &self.failures } else { &self.others };
        let admitted = pace.admits(self.rules().per_s, now);
        if !admitted {
            self.skipped.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// How many left none because of the pace, if any leave one, or did.
    pub(crate) fn skipped(&self) -> Option<u64> {
        let skipped = self.skipped.load(Relaxed);
        (self.rules().of != Which::None || 0 < skipped).then_some(skipped)
    }
}

/// The second of the node's time that was seen last, and how many came in it: 32 bits each.
#[derive(Debug, Default)]
struct Pace(AtomicU64);

impl Pace {
    fn admits(&self, per_s: u32, now: Timestamp) -> bool {
        // It wraps after 136 years.
        let second = u64::from(now.since(Timestamp::START).as_secs() as u32) << 32;
        let next = |seen: u64| {
            let count = if seen & !u64::from(u32::MAX) == second { seen as u32 } else { 0 };
            (count < per_s).then(|| second | u64::from(count + 1))
        };
        self.0.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_successes_leaves_room_for_failures_and_what_is_over_is_counted() {
        let gate = ReceiptGate::new(Receipts::each().per_s(2).unwrap());
        let at = |millis| Timestamp::START + Duration::from_millis(millis);
        let admitted = |ended, millis| (0..5).filter(|_| gate.admits(ended, at(millis))).count();
        assert_eq!(admitted(SignalOutcome::Succeeded, 500), 2);
        assert_eq!(admitted(SignalOutcome::Refused, 999), 0, "it has its limit with the successes");
        assert_eq!(admitted(SignalOutcome::Failed, 999), 2);
        assert_eq!(admitted(SignalOutcome::Succeeded, 1_000), 2, "another second");
        assert_eq!(gate.skipped(), Some(3 + 5 + 3 + 3));
    }

    #[test]
    fn other_rules_hold_from_then_on_and_what_was_counted_is_not_forgotten() {
        let gate = ReceiptGate::new(Receipts::each().per_s(1).unwrap());
        let admitted =
            |times| (0..times).filter(|_| gate.admits(SignalOutcome::Failed, Timestamp::START)).count();
        assert_eq!(admitted(3), 1);
        for rules in [Receipts::failures().per_s(3).unwrap(), Receipts::unsuccessful(), Receipts::each()] {
            gate.set_rules(rules);
            assert_eq!(gate.rules(), rules);
        }
        gate.set_rules(Receipts::none().per_s(3).unwrap());
        assert_eq!(admitted(3), 2, "it is still the same second");
        assert_eq!((gate.wants(SignalOutcome::Failed), gate.skipped()), (false, Some(3)));
    }

    #[test]
    fn what_leaves_a_receipt_is_what_was_asked_for() {
        let wanted = |rules| SignalOutcome::ALL.map(|ended| ReceiptGate::new(rules).wants(ended));
        assert_eq!(wanted(Receipts::default()), [false; 6]);
        assert_eq!(wanted(Receipts::failures()), [false, false, false, true, true, false]);
        assert_eq!(wanted(Receipts::unsuccessful()), [true, true, false, true, true, true]);
        assert_eq!(wanted(Receipts::each()), [true; 6]);
        assert_eq!(ReceiptGate::new(Receipts::none()).skipped(), None);
        for per_s in [0, RECEIPTS_PER_S_MAX + 1] {
            assert_eq!(Receipts::each().per_s(per_s), Err(ReceiptsError { per_s }));
        }
    }
}
