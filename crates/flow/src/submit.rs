//! What a caller gets when a signal does not succeed, and what can be done about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::leveller::TurnedOut;
use gemba_core::policy::Rejection;
use gemba_core::view::LineState;
use gemba_core::wait::Refused;

use crate::gate::Standing;
use crate::rate::RateScope;

/// When a refused signal may try again, where nothing better is known.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// When a signal may try again that a stopped or slowed line refused: it stays so for a while.
const STOPPED_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a signal has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError<E> {
    /// Nothing was done. Try again after the time it names, or somewhere else.
    #[error("{0}")]
    Refused(Refusal),
    /// The line's policy says no, under its name and version and for every reason it found. Nothing was done;
    /// trying again changes nothing.
    #[error("{0}")]
    Rejected(Rejection),
    /// The action failed.
    #[error("the action failed")]
    Failed(#[source] E),
    /// The worker died while it ran the action. What it had begun may have happened.
    #[error("the worker died in the action; what it had begun may have happened")]
    WorkerDied,
    /// The deadline passed while the action ran. What it had begun may have happened.
    #[error("the deadline passed in the action; what it had begun may have happened")]
    TimedOut,
}

/// A refusal: nothing was done, and when it is worth trying again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// When to try again, at the earliest.
    pub retry_after: Duration,
}

/// Why a signal was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalReason {
    /// As many signals of its tier as may be are in flight.
    Overloaded {
        /// Signals in flight.
        in_flight: u32,
        /// The limit of its tier.
        limit: u32,
    },
    /// As many signals as may come in a time have come, of all or of this one's key.
    RateLimited {
        /// Which rate is used up.
        scope: RateScope,
    },
    /// The queue of every pool that could do the work is full.
    QueueFull,
    /// No worker would be free in time: the wait would leave too little of the deadline for the work.
    WaitTooLong {
        /// How long it would have waited.
        wait: Duration,
        /// How long it might have.
        budget: Duration,
    },
    /// It waited as long as it may, and no worker was free.
    WaitedTooLong,
    /// It waited, and made room for a higher tier.
    Displaced,
    /// Someone pulled the cord, or the line stopped itself.
    Stopped {
        /// Who.
        by: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// Something is wrong with the line, and it takes only what is more urgent.
    Shed {
        /// The tier of the signal.
        tier: Tier,
        /// What is wrong.
        why: Arc<str>,
    },
    /// The node is going down.
    Draining,
    /// The downstream fails, and its breaker is open.
    BreakerOpen,
    /// As many calls to the downstream are in flight as it bears.
    DownstreamBusy,
    /// When a worker was free, what was left until the deadline was not enough for the work.
    Expired,
    /// The pool is between two lives.
    Restarting,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded { in_flight, limit } => {
                write!(f, "line is full: {in_flight} of {limit} in flight")
            }
            Self::RateLimited { scope: RateScope::Line } => f.write_str("the line's rate is used up"),
            Self::RateLimited { scope: RateScope::Key } => f.write_str("the rate of this key is used up"),
            Self::QueueFull => f.write_str("queue is full"),
            Self::WaitTooLong { wait, budget } => write!(
                f,
                "it would wait {wait:.1?} for a worker and may wait {budget:.1?}; \
                 send less, give it a longer deadline, or add workers"
            ),
            Self::WaitedTooLong => f.write_str(
                "no worker was free within the share of the deadline that a signal may wait; send less, or add workers",
            ),
            Self::Displaced => {
                f.write_str("it made room for a higher tier; send less, or give it a higher tier")
            }
            Self::Stopped { by, why } => write!(f, "line was stopped by {by}: {why}"),
            Self::Shed { tier, why } => write!(f, "line sheds {tier} signals: {why}"),
            Self::Draining => f.write_str("line is draining"),
            Self::BreakerOpen => f.write_str("breaker is open"),
            Self::DownstreamBusy => f.write_str("the downstream has all the calls it bears"),
            Self::Expired => f.write_str("deadline was too near when a worker was free"),
            Self::Restarting => f.write_str("pool is restarting"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; nothing was done, try again in {:?}", self.reason, self.retry_after)
    }
}

pub(crate) fn refused<E>(reason: RefusalReason, retry_after: Duration) -> SubmitError<E> {
    SubmitError::Refused(Refusal { reason, retry_after })
}

pub(crate) fn reason(why: TurnedOut) -> RefusalReason {
    match why {
        TurnedOut::Refused(Refused { wait, budget, .. }) => RefusalReason::WaitTooLong { wait, budget },
        TurnedOut::Full => RefusalReason::QueueFull,
        TurnedOut::Displaced => RefusalReason::Displaced,
        TurnedOut::WaitedTooLong => RefusalReason::WaitedTooLong,
        // Nobody is told that nobody waits.
        TurnedOut::TooLate | TurnedOut::Abandoned => RefusalReason::Expired,
    }
}

pub(crate) fn closed<E>(standing: Standing, tier: Tier) -> SubmitError<E> {
    let (reason, retry_after) = match standing {
        Standing { state: LineState::Stopped, cord: Some(cord), .. } => {
            (RefusalReason::Stopped { by: cord.by, why: cord.why }, STOPPED_RETRY_AFTER)
        }
        Standing { state: LineState::Slowed, why: Some(why), .. } => {
            (RefusalReason::Shed { tier, why }, STOPPED_RETRY_AFTER)
        }
        Standing { why: Some(why), .. } => {
            (RefusalReason::Stopped { by: "the line itself".into(), why }, STOPPED_RETRY_AFTER)
        }
        Standing { .. } => (RefusalReason::Draining, RETRY_AFTER),
    };
    refused(reason, retry_after)
}
