//! Whether a signal's wait would leave it time for its work.
//!
//! A pool's dispatcher knows how much waits, how long work takes and how many workers there are; it publishes
//! that as a [`Forecast`], and each caller decides for itself with [`admits`], without asking anybody.

use std::time::Duration;

use crate::admission::Tier;

mod rules;

pub use rules::{WaitRuleError, WaitRules, WaitRulesBuilder, WaitRulesErrors};

/// When a refused signal may try again while an overload lasts: nobody can tell its end, and those who come
/// back after the few milliseconds that are missing would be the overload.
const RETRY_LASTING: Duration = Duration::from_secs(1);

/// Of the time that work of mean length would leave, the part a signal may wait although long work would then
/// be late. Without it, a pool whose work became slow would keep no queue at all, and its workers would idle
/// between two arrivals.
const SLACK_SHARE: f64 = 0.25;

/// What a pool's dispatcher foretells of the next signal: a few numbers, published as one.
///
/// # Units and limits
///
/// Times are in nanoseconds. All-zero, as by default, it admits everything whose deadline is not over.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Forecast {
    /// By tier: how many mean service times pass before the next signal of the tier is started; 0 if an idle
    /// worker would take it at once.
    pub rounds: [f64; Tier::ALL.len()],
    /// The mean service time of all tiers; 0 while none is known.
    pub service: f64,
    /// By tier: the mean service time; 0 while none is known.
    pub mean: [f64; Tier::ALL.len()],
    /// By tier: how much longer than the mean work is to be given.
    pub allowance: [f64; Tier::ALL.len()],
    /// The share of its deadline that a signal may wait.
    pub share: f64,
    /// Whether the queue has not been empty for long.
    pub lasting: bool,
}

/// A signal would wait longer than it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it would wait {wait:?} and may wait {budget:?}; nothing was done, try again in {retry_after:?}")]
pub struct Refused {
    /// How long it would wait.
    pub wait: Duration,
    /// How long it may.
    pub budget: Duration,
    /// When it is worth trying again.
    pub retry_after: Duration,
}

impl Forecast {
    /// How long a signal of `tier` would wait.
    ///
    /// While no service time is known, work is taken to last as long as it may wait: then a queue of one
    /// signal per worker is admitted, which is the bounded queue that needs no estimate (FLOW-EVIDENCE.md, 4.3).
    pub fn wait(&self, tier: Tier, left: Duration) -> Duration {
        let service = if 0.0 < self.service { self.service } else { self.share * nanos(left) };
        duration(self.rounds[tier as usize] * service)
    }

    /// How long a signal of `tier` with `left` until its deadline may wait.
    pub fn budget(&self, tier: Tier, left: Duration) -> Duration {
        let left = nanos(left);
        let slack = left - self.mean[tier as usize];
        let ample = slack - self.allowance[tier as usize];
        duration(ample.max(SLACK_SHARE * slack).min(self.share * left))
    }
}

/// Whether a signal of `tier` that has `left` until its deadline may join those that wait.
///
/// One that an idle worker takes at once is never refused while it has any time: whether work has become
/// shorter than the forecast says is found out by doing it, and only so.
///
/// # Errors
///
/// [`Refused`]: nothing was done. Do something else, or come back after the time it names.
#[doc(alias = "heijunka")]
pub fn admits(forecast: &Forecast, tier: Tier, left: Duration) -> Result<(), Refused> {
    let wait = forecast.wait(tier, left);
    if wait.is_zero() && !left.is_zero() {
        return Ok(());
    }
    let budget = forecast.budget(tier, left);
    if wait <= budget && !left.is_zero() {
        return Ok(());
    }
    let retry_after = if forecast.lasting { RETRY_LASTING } else { wait.min(RETRY_LASTING) };
    Err(Refused { wait, budget, retry_after })
}

pub(crate) const fn nanos(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Rounded up, so that a wait of less than a nanosecond is still one; negative times are none.
fn duration(nanos: f64) -> Duration {
    Duration::from_nanos(nanos.max(0.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// 40 ms of work, give or take 40, and a quarter of the deadline for waiting.
    fn forecast(rounds: f64) -> Forecast {
        Forecast {
            rounds: [rounds; 3],
            service: 40e6,
            mean: [40e6; 3],
            allowance: [80e6; 3],
            share: 0.25,
            lasting: false,
        }
    }

    #[test]
    fn a_signal_waits_a_quarter_of_its_deadline_at_most_and_leaves_time_for_long_work() {
        for (left, budget) in
            [(1000, 250), (500, 125), (160, 40), (150, 30), (120, 20), (60, 5), (40, 0), (10, 0)]
        {
            assert_eq!(forecast(1.0).budget(Tier::Normal, ms(left)), ms(budget), "with {left} ms left");
        }
    }

    #[test]
    fn the_last_admitted_and_the_first_refused() {
        for (rounds, left, admitted) in [
            (3.125, 500, true),
            (3.126, 500, false),
            (0.75, 150, true),
            (0.76, 150, false),
            (0.001, 40, false),
            (0.0, 40, true),
            (0.0, 1, true),
            (0.0, 0, false),
        ] {
            let result = admits(&forecast(rounds), Tier::Batch, ms(left));
            assert_eq!(result.is_ok(), admitted, "{rounds} rounds with {left} ms left: {result:?}");
        }
    }

    #[test]
    fn a_refusal_says_how_long_and_when_to_come_back() {
        let refused = admits(&forecast(5.0), Tier::Normal, ms(500)).unwrap_err();
        assert_eq!(refused, Refused { wait: ms(200), budget: ms(125), retry_after: ms(200) });
        let lasting = Forecast { lasting: true, ..forecast(5.0) };
        assert_eq!(admits(&lasting, Tier::Normal, ms(500)).unwrap_err().retry_after, RETRY_LASTING);
    }

    #[test]
    fn without_an_estimate_one_signal_per_worker_may_wait() {
        let unknown =
            |ahead: f64| Forecast { rounds: [(ahead + 1.0) / 8.0; 3], share: 0.25, ..Forecast::default() };
        assert!(admits(&unknown(7.0), Tier::Normal, ms(500)).is_ok());
        assert!(admits(&unknown(8.0), Tier::Normal, ms(500)).is_err());
        assert!(admits(&Forecast::default(), Tier::Normal, ms(1)).is_ok());
    }

    fn forecasts() -> impl Strategy<Value = Forecast> {
        (0.0..20.0, 0.0..1e9, 0.0..1e9, 0.01..=1.0, any::<bool>()).prop_map(
            |(rounds, mean, allowance, share, lasting)| Forecast {
                rounds: [rounds, rounds * 2.0, rounds * 3.0],
                service: mean,
                mean: [mean; 3],
                allowance: [allowance; 3],
                share,
                lasting,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_admitted_has_time_left_after_its_wait(forecast in forecasts(), left in 1u64..5_000, tier in select(&Tier::ALL[..])) {
            let left = ms(left);
            match admits(&forecast, tier, left) {
                Ok(()) => {
                    let wait = forecast.wait(tier, left);
                    prop_assert!(wait.is_zero() || wait <= forecast.budget(tier, left));
                    prop_assert!(wait <= left);
                    let work = Duration::from_nanos(forecast.mean[tier as usize] as u64);
                    prop_assert!(wait.is_zero() || wait + work <= left + Duration::from_nanos(2));
                }
                Err(Refused { wait, budget, retry_after }) => {
                    prop_assert!(budget < wait);
                    prop_assert!(!retry_after.is_zero() && retry_after <= RETRY_LASTING);
                }
            }
        }

        #[test]
        fn more_time_or_a_higher_tier_never_turns_a_yes_into_a_no(forecast in forecasts(), left in 1u64..5_000, more in 0u64..5_000) {
            if admits(&forecast, Tier::Batch, ms(left)).is_ok() {
                prop_assert_eq!(admits(&forecast, Tier::Critical, ms(left)), Ok(()));
                if 0.0 < forecast.service {
                    prop_assert_eq!(admits(&forecast, Tier::Batch, ms(left + more)), Ok(()));
                }
            }
        }
    }
}
