//! How long signals may wait, as settings.

use std::fmt;
use std::time::Duration;

/// The longest interval after which an overload may be called lasting.
const LASTING_MAX: Duration = Duration::from_secs(3600);

/// The most starts of others that a lower tier may be made to stand by.
const TURN_SHARE_MIN: f64 = 0.001;

/// From so many workers on the shares are as they are set: what they do together is as even as that.
const EVEN_WORKERS: u32 = 4;

/// The longest memory of service times, in signals.
const MEMORY_MAX: u32 = 100_000;

/// What is wrong with one setting.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitRuleError {
    /// The shares of the deadline are no shares, or the wrong way round.
    #[error(
        "signals may wait {lasting} of their deadline in a lasting overload and {calm} else; \
         give 0 < lasting <= calm <= 1"
    )]
    Shares {
        /// The share while the queue empties now and then.
        calm: f64,
        /// The share in an overload that lasts.
        lasting: f64,
    },
    /// Every wait would be a lasting overload, or none.
    #[error("an overload lasts from {after:?} on; give more than zero and at most {LASTING_MAX:?}")]
    LastingAfter {
        /// The refused time.
        after: Duration,
    },
    /// The share of the lower tiers is not one.
    #[error("the lower tiers get {share} of the starts; give 0 for none, or from {TURN_SHARE_MIN} to 0.5")]
    LowerShare {
        /// The refused share.
        share: f64,
    },
    /// The allowance for long work is not one.
    #[error("work is given {deviations} deviations more than its mean; give a number from 0 to 10")]
    Deviations {
        /// The refused number.
        deviations: f64,
    },
    /// Service times would not be averaged, or never change.
    #[error("service times are averaged over {memory} signals; give 2 to {MEMORY_MAX}")]
    Memory {
        /// The refused number.
        memory: u32,
    },
    /// The rates of the tiers would be taken over no time.
    #[error("rates are taken over {window:?}; give 100 ms to 60 s")]
    RateWindow {
        /// The refused time.
        window: Duration,
    },
}

/// Everything wrong with wait rules.
#[derive(Debug, Clone, PartialEq)]
pub struct WaitRulesErrors(pub Vec<WaitRuleError>);

impl fmt::Display for WaitRulesErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "{}", faults.join("; "))
    }
}

impl std::error::Error for WaitRulesErrors {}

/// How long signals may wait, and for whom.
///
/// # Units and limits
///
/// Shares are of a signal's own deadline, counted from when it is queued: by default 25 % while the queue
/// empties now and then, 12 % once it has not done so for 500 ms. In a pool of three workers they are 1.15 times
/// as large, of two 1.41 times, of one twice, because what few do is less even: a queue of K places leaves a
/// single worker idle for 1 / (K + 1) of the time at its capacity (M/M/1/K). One start in 20 goes to a lower tier. Work
/// is given 2 deviations more than its mean, both averaged over 64 signals; the tiers' rates are taken over
/// 1 s. Source: FLOW-EVIDENCE.md, findings 7 and E3, and `just experiments`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitRules {
    pub(crate) calm: f64,
    pub(crate) lasting: f64,
    pub(crate) lasting_after: Duration,
    pub(crate) lower_share: f64,
    pub(crate) deviations: f64,
    pub(crate) memory: u32,
    pub(crate) rate_window: Duration,
}

impl WaitRules {
    /// The defaults, to be changed.
    pub fn builder() -> WaitRulesBuilder {
        WaitRulesBuilder(Self::default())
    }

    /// The shares of a pool of that many workers: usually, and in an overload that lasts.
    pub(crate) fn shares(&self, workers: u32) -> (f64, f64) {
        let few = (f64::from(EVEN_WORKERS) / f64::from(workers.max(1))).sqrt().max(1.0);
        ((self.calm * few).min(1.0), (self.lasting * few).min(1.0))
    }
}

impl Default for WaitRules {
    fn default() -> Self {
        Self {
            calm: 0.25,
            lasting: 0.12,
            lasting_after: Duration::from_millis(500),
            lower_share: 0.05,
            deviations: 2.0,
            memory: 64,
            rate_window: Duration::from_secs(1),
        }
    }
}

/// Wait rules in the making.
///
/// # Examples
///
/// ```
/// use gemba_core::wait::WaitRules;
///
/// assert!(WaitRules::builder().shares(0.5, 0.2).build().is_ok());
/// let faults = WaitRules::builder().shares(0.1, 0.2).memory(0).build().unwrap_err();
/// assert_eq!(faults.0.len(), 2);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WaitRulesBuilder(WaitRules);

impl WaitRulesBuilder {
    /// Which share of its deadline a signal may wait: usually, and in an overload that lasts; more in a pool of
    /// fewer than four workers, see [`WaitRules`].
    pub const fn shares(mut self, calm: f64, lasting: f64) -> Self {
        (self.0.calm, self.0.lasting) = (calm, lasting);
        self
    }

    /// How long the queue must not have been empty for an overload to be a lasting one.
    pub const fn lasting_after(mut self, after: Duration) -> Self {
        self.0.lasting_after = after;
        self
    }

    /// Which share of the starts goes to tiers below the highest that waits; 0 lets them starve.
    pub const fn lower_share(mut self, share: f64) -> Self {
        self.0.lower_share = share;
        self
    }

    /// How many standard deviations of its service time work is given besides the mean.
    pub const fn deviations(mut self, deviations: f64) -> Self {
        self.0.deviations = deviations;
        self
    }

    /// Over how many signals service times are averaged.
    pub const fn memory(mut self, signals: u32) -> Self {
        self.0.memory = signals;
        self
    }

    /// Over which time the rates of the tiers are taken.
    pub const fn rate_window(mut self, window: Duration) -> Self {
        self.0.rate_window = window;
        self
    }

    /// Checks the rules.
    ///
    /// # Errors
    ///
    /// [`WaitRulesErrors`] names every setting that is out of range.
    pub fn build(self) -> Result<WaitRules, WaitRulesErrors> {
        let WaitRules { calm, lasting, lasting_after, lower_share, deviations, memory, rate_window } = self.0;
        let checks = [
            (0.0 < lasting && lasting <= calm && calm <= 1.0, WaitRuleError::Shares { calm, lasting }),
            (
                Duration::ZERO < lasting_after && lasting_after <= LASTING_MAX,
                WaitRuleError::LastingAfter { after: lasting_after },
            ),
            (
                lower_share.abs() < f64::EPSILON || (TURN_SHARE_MIN..=0.5).contains(&lower_share),
                WaitRuleError::LowerShare { share: lower_share },
            ),
            ((0.0..=10.0).contains(&deviations), WaitRuleError::Deviations { deviations }),
            ((2..=MEMORY_MAX).contains(&memory), WaitRuleError::Memory { memory }),
            (
                (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&rate_window),
                WaitRuleError::RateWindow { window: rate_window },
            ),
        ];
        let faults: Vec<_> = checks.into_iter().filter(|(fine, _)| !fine).map(|(_, fault)| fault).collect();
        if faults.is_empty() { Ok(self.0) } else { Err(WaitRulesErrors(faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_workers_have_a_longer_queue_each() {
        let percent = |workers, calm| {
            let rules = WaitRules { calm, ..WaitRules::default() };
            let (calm, lasting) = rules.shares(workers);
            ((calm * 100.0).round() as u32, (lasting * 100.0).round() as u32)
        };
        assert_eq!(
            [0, 1, 2, 3].map(|workers| percent(workers, 0.25)),
            [(50, 24), (50, 24), (35, 17), (29, 14)]
        );
        assert_eq!([4, 5, 1_000].map(|workers| percent(workers, 0.25)), [(25, 12); 3]);
        assert_eq!(percent(1, 0.8), (100, 24), "no more than all of it");
    }

    #[test]
    fn settings_out_of_range_are_all_named() {
        let ms = Duration::from_millis;
        let rules = WaitRules::builder;
        for (builder, message) in [
            (rules().shares(0.1, 0.2), "signals may wait 0.2"),
            (rules().shares(1.1, 0.2), "signals may wait 0.2"),
            (rules().shares(0.1, 0.0), "signals may wait 0 "),
            (rules().shares(f64::NAN, 0.1), "signals may wait 0.1"),
            (rules().lasting_after(Duration::ZERO), "an overload lasts from 0ns"),
            (rules().lower_share(0.51), "the lower tiers get 0.51"),
            (rules().lower_share(-0.1), "the lower tiers get -0.1"),
            (rules().deviations(-1.0), "work is given -1"),
            (rules().memory(1), "service times are averaged over 1 "),
            (rules().rate_window(ms(99)), "rates are taken over 99ms"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.0.len(), 1, "{error}");
            assert!(error.to_string().starts_with(message), "{error}");
        }
        let all = rules().shares(0.0, 0.0).lasting_after(Duration::ZERO).memory(0).build().unwrap_err();
        assert_eq!(all.0.len(), 3, "{all}");
        assert!(rules().shares(1.0, 1.0).lower_share(0.0).deviations(0.0).memory(2).build().is_ok());
        assert!(rules().build().is_ok(), "the defaults are in range");
    }
}
