//! A cell: what has been taken of the rates of a line, by all and by each key.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use gemba_core::rate::{Bucket, Buckets, KEYS_MAX, Rate, RateError};
use gemba_core::time::Timestamp;

/// Parts the keys are spread over, so that callers seldom wait for each other; a power of two.
const PARTS: usize = 16;

/// Which rate is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateScope {
    /// That of the whole line.
    Line,
    /// That of the signal's key.
    Key,
}

impl RateScope {
    pub(crate) const ALL: [Self; 2] = [Self::Line, Self::Key];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Key => "key",
        }
    }
}

/// The rates a line is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub line: Option<Rate>,
    pub key: Option<Rate>,
    pub keys_max: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self { line: None, key: None, keys_max: KEYS_MAX }
    }
}

impl Rates {
    pub(crate) fn check(&self) -> Result<(), RateError> {
        Kept::new(*self).map(drop)
    }
}

/// What is left of the rates of one line. It outlives the actors: a restart gives nobody a second helping.
#[derive(Debug)]
pub(crate) struct RateGate {
    /// Changed as a whole, so that no signal meets one rate of before and one of after.
    kept: ArcSwap<Kept>,
    refused: [AtomicU64; RateScope::ALL.len()],
}

/// The rates, and what has been taken of them. A rate that goes on beside one that changes keeps its buckets.
#[derive(Debug)]
struct Kept {
    rates: Rates,
    line: Option<(Rate, Arc<Mutex<Bucket>>)>,
    keys: Option<Arc<[Mutex<Buckets>]>>,
}

impl Kept {
    fn new(rates: Rates) -> Result<Self, RateError> {
        let line = rates.line.map(|rate| (rate, Arc::default()));
        let keys = rates.key.map(|rate| {
            let parts = PARTS.min(rates.keys_max.max(1));
            let each = rates.keys_max / parts;
            (0..parts).map(|_| Buckets::new(rate, each).map(Mutex::new)).collect::<Result<Arc<_>, _>>()
        });
        Ok(Self { rates, line, keys: keys.transpose()? })
    }
}

impl RateGate {
    pub(crate) fn new(rates: &Rates) -> Result<Self, RateError> {
        Ok(Self { kept: ArcSwap::from_pointee(Kept::new(*rates)?), refused: Default::default() })
    }

    /// The rates in force.
    pub(crate) fn rates(&self) -> Rates {
        self.kept.load().rates
    }

    /// Sets the rates, which have been checked. Those that are in force already go on as they are.
    pub(crate) fn set(&self, rates: Rates) {
        let old = self.kept.load();
        let Some(mut kept) = Kept::new(rates).ok().filter(|_| rates != old.rates) else { return };
        if rates.line == old.rates.line {
            kept.line.clone_from(&old.line);
        }
        if (rates.key, rates.keys_max) == (old.rates.key, old.rates.keys_max) {
            kept.keys.clone_from(&old.keys);
        }
        self.kept.store(Arc::new(kept));
    }

    /// Takes one from each rate, or from none: what one of them refuses is not charged to the other.
    ///
    /// A signal without a key has no rate of its own.
    pub(crate) fn admit(&self, key: Option<u64>, now: Timestamp) -> Result<(), (RateScope, Duration)> {
        let kept = self.kept.load();
        let part = kept.keys.as_ref().zip(key).map(|(parts, key)| (&parts[key as usize % parts.len()], key));
        if let Some((part, key)) = part {
            let taken = part.lock().unwrap_or_else(PoisonError::into_inner).take(key, now);
            taken.map_err(|wait| self.refuse(RateScope::Key, wait))?;
        }
        if let Some((rate, bucket)) = &kept.line {
            let taken = rate.take(&mut bucket.lock().unwrap_or_else(PoisonError::into_inner), now);
            if let Err(wait) = taken {
                if let Some((part, key)) = part {
                    part.lock().unwrap_or_else(PoisonError::into_inner).put_back(key);
                }
                return Err(self.refuse(RateScope::Line, wait));
            }
        }
        Ok(())
    }

    fn refuse(&self, scope: RateScope, wait: Duration) -> (RateScope, Duration) {
        self.refused[scope as usize].fetch_add(1, Relaxed);
        (scope, wait)
    }

    /// Signals refused because of this rate since the node started.
    pub(crate) fn refused(&self, scope: RateScope) -> u64 {
        self.refused[scope as usize].load(Relaxed)
    }

    /// Keys that are remembered; `None` if no rate is kept by key.
    pub(crate) fn keys(&self) -> Option<usize> {
        let kept = self.kept.load();
        let parts = kept.keys.as_ref()?;
        Some(parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rate_begins_anew_and_the_same_one_goes_on() {
        let rates = |count| {
            let line = Some(Rate::new(count, Duration::from_secs(60)).unwrap());
            Rates { line, ..Rates::default() }
        };
        let now = Timestamp::from_secs(1);
        let gate = RateGate::new(&rates(1)).unwrap();
        assert!(gate.admit(None, now).is_ok());
        gate.set(rates(1));
        assert!(gate.admit(None, now).is_err());
        gate.set(rates(2));
        let admitted = (0..5).filter(|_| gate.admit(None, now).is_ok()).count();
        assert_eq!((admitted, gate.refused(RateScope::Line)), (2, 4));
        gate.set(Rates::default());
        assert!(gate.admit(None, now).is_ok());
    }

    #[test]
    fn a_rate_goes_on_when_the_other_one_changes() {
        let gate = gate(1, 1, 100);
        assert!(gate.admit(Some(1), NOW).is_ok());
        let Rates { line, key, .. } = gate.rates();
        gate.set(Rates { line, key: None, keys_max: 100 });
        assert_eq!(gate.admit(Some(1), NOW).unwrap_err().0, RateScope::Line);
        gate.set(Rates { line: None, key, keys_max: 100 });
        assert!(gate.admit(Some(1), NOW).is_ok(), "it was lifted in between");
        gate.set(Rates { line, key, keys_max: 100 });
        assert_eq!(gate.admit(Some(1), NOW).unwrap_err().0, RateScope::Key);
    }

    const NOW: Timestamp = Timestamp::from_secs(100);

    fn gate(line: u32, key: u32, keys_max: usize) -> RateGate {
        let rate = |count| Some(Rate::new(count, Duration::from_secs(1)).unwrap());
        RateGate::new(&Rates { line: rate(line), key: rate(key), keys_max }).unwrap()
    }

    #[test]
    fn what_the_line_refuses_is_not_charged_to_the_key() {
        let gate = gate(3, 2, 100);
        assert_eq!(gate.admit(Some(1), NOW), Ok(()));
        assert_eq!(gate.admit(Some(1), NOW), Ok(()));
        assert_eq!(gate.admit(Some(1), NOW).unwrap_err().0, RateScope::Key);
        assert_eq!(gate.admit(Some(2), NOW), Ok(()));
        for _ in 0..10 {
            assert_eq!(gate.admit(Some(2), NOW).unwrap_err().0, RateScope::Line);
        }
        assert_eq!(gate.admit(None, NOW).unwrap_err().0, RateScope::Line);
        let later = NOW + Duration::from_millis(334);
        assert_eq!(gate.admit(Some(2), later), Ok(()), "its second of two");
        assert_eq!((gate.refused(RateScope::Line), gate.refused(RateScope::Key)), (11, 1));
    }

    #[test]
    fn the_parts_together_remember_no_more_keys_than_allowed() {
        for keys_max in [1, 5, 16, 100] {
            let gate = gate(u32::MAX, 1, keys_max);
            for key in 0..10_000u64 {
                let _ = gate.admit(Some(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)), NOW);
            }
            let keys = gate.keys().unwrap();
            assert!(0 < keys && keys <= keys_max, "{keys} of {keys_max}");
        }
    }

    #[test]
    fn threads_together_get_the_rate_and_no_more() {
        let gate = gate(1000, 100, 100);
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..5000).filter(|n| gate.admit(Some(n % 50), NOW).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000);
    }
}
