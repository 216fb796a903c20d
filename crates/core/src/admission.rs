//! Whether one more signal may be in flight.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::view::{AdmissionView, TierView};

/// How much a signal matters when not all can be served. Ordered: what goes first is smaller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[doc(alias = "priority")]
pub enum Tier {
    /// Served to the last: a part of the capacity is kept for it.
    Critical,
    /// The usual.
    #[default]
    Normal,
    /// Whenever there is room.
    Batch,
}

impl Tier {
    /// All tiers, the one served first at the front.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Normal, Self::Batch];

    /// The tier as it stands in labels and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why numbers do not make limits.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// Nothing would ever be admitted.
    #[error("the hard limit is 0; admit at least 1 signal")]
    NothingAdmitted,
    /// The share kept for critical signals is not a share.
    #[error("the reserve ratio is {reserve_ratio}; give a number from 0 up to, but not including, 1")]
    Reserve {
        /// The refused ratio.
        reserve_ratio: f64,
    },
    /// The reserve leaves nothing for the other tiers.
    #[error(
        "a reserve of {reserve} out of {hard} leaves nothing for normal signals; lower the reserve ratio"
    )]
    NothingLeft {
        /// The hard limit.
        hard: u32,
        /// What would be kept for critical signals.
        reserve: u32,
    },
    /// The share at which the line warns is not a share.
    #[error("the soft ratio is {soft_ratio}; give a number above 0 and at most 1")]
    Soft {
        /// The refused ratio.
        soft_ratio: f64,
    },
}

/// How many signals may be in flight, by tier.
///
/// # Units and limits
///
/// Signals. By default 1200 for critical ones and 960 for the others, who leave a reserve of 20 %; the
/// line warns from 1000 and 800 on. Source: FLOW.md, admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    hard: u32,
    hard_others: u32,
    soft: u32,
    soft_others: u32,
}

impl Limits {
    /// Limits of `hard` signals, of which `reserve_ratio` is kept for [`Tier::Critical`].
    ///
    /// The soft limit of a tier is `soft_ratio` of its own hard limit, rounded to two significant digits
    /// (0.83 of 1200 is 1000, of 960 is 800): it only warns, and people compare it by eye.
    ///
    /// # Errors
    ///
    /// [`LimitsError`] says which number is out of range.
    pub fn new(hard: u32, reserve_ratio: f64, soft_ratio: f64) -> Result<Self, LimitsError> {
        if hard == 0 {
            return Err(LimitsError::NothingAdmitted);
        }
        if !(0.0..1.0).contains(&reserve_ratio) {
            return Err(LimitsError::Reserve { reserve_ratio });
        }
        if !(0.0 < soft_ratio && soft_ratio <= 1.0) {
            return Err(LimitsError::Soft { soft_ratio });
        }
        let reserve = (f64::from(hard) * reserve_ratio).round() as u32;
        let hard_others = hard - reserve;
        if hard_others == 0 {
            return Err(LimitsError::NothingLeft { hard, reserve });
        }
        let soft = |hard: u32| two_digits(f64::from(hard) * soft_ratio).clamp(1, hard);
        Ok(Self { hard, hard_others, soft: soft(hard), soft_others: soft(hard_others) })
    }

    /// The number in flight at which a signal of `tier` is refused.
    pub const fn hard(&self, tier: Tier) -> u32 {
        match tier {
            Tier::Critical => self.hard,
            Tier::Normal | Tier::Batch => self.hard_others,
        }
    }

    /// The number in flight at which the line warns when a signal of `tier` comes.
    pub const fn soft(&self, tier: Tier) -> u32 {
        match tier {
            Tier::Critical => self.soft,
            Tier::Normal | Tier::Batch => self.soft_others,
        }
    }

    /// How much of what a tier may have in flight is: above 1 for the others, while critical signals stand in
    /// their reserve.
    #[doc(alias = "load factor")]
    pub fn load_ratio(&self, in_flight: u32, tier: Tier) -> f64 {
        f64::from(in_flight) / f64::from(self.hard(tier))
    }

    /// What the board shows of it.
    pub fn view(&self, in_flight: u32) -> AdmissionView {
        let tier = |tier| TierView {
            tier,
            soft: self.soft(tier),
            hard: self.hard(tier),
            load_ratio: self.load_ratio(in_flight, tier),
        };
        AdmissionView { in_flight, tiers: Tier::ALL.map(tier).into() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(1200, 0.20, 0.83).expect("the defaults are in range")
    }
}

/// `value` rounded to two significant digits, and to a whole number.
fn two_digits(value: f64) -> u32 {
    let unit = 10f64.powf(value.log10().floor() - 1.0).max(1.0);
    ((value / unit).round() * unit) as u32
}

/// What becomes of a signal at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a refused signal must not go on"]
pub enum Admission {
    /// It may go on.
    Admit,
    /// It may go on, and the soft limit is reached: warn.
    AdmitAboveSoft,
    /// There is no room for its tier.
    Refuse {
        /// Signals in flight, this one not counted.
        in_flight: u32,
        /// The hard limit of its tier.
        limit: u32,
    },
}

/// Whether one more fits beside `in_flight` others under a hard limit: all that the gate has to know before
/// it lets a signal pass.
#[inline]
pub const fn has_room(in_flight: u32, limit: u32) -> bool {
    in_flight < limit
}

/// Whether a signal of `tier` may join `in_flight` others.
///
/// Nobody waits here: what is refused is refused at once, so that the caller can still do something else.
#[inline]
#[doc(alias = "heijunka")]
pub const fn admits(in_flight: u32, limits: &Limits, tier: Tier) -> Admission {
    let limit = limits.hard(tier);
    if !has_room(in_flight, limit) {
        Admission::Refuse { in_flight, limit }
    } else if limits.soft(tier) <= in_flight {
        Admission::AdmitAboveSoft
    } else {
        Admission::Admit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let limits = Limits::default();
        for (tier, hard, soft) in
            [(Tier::Critical, 1200, 1000), (Tier::Normal, 960, 800), (Tier::Batch, 960, 800)]
        {
            assert_eq!((limits.hard(tier), limits.soft(tier)), (hard, soft), "{tier}");
        }
    }

    #[test]
    fn each_limit_is_passed_by_the_next_signal_and_not_before() {
        let refused = |in_flight, limit| Admission::Refuse { in_flight, limit };
        for (in_flight, tier, expected) in [
            (0, Tier::Batch, Admission::Admit),
            (799, Tier::Normal, Admission::Admit),
            (800, Tier::Normal, Admission::AdmitAboveSoft),
            (959, Tier::Normal, Admission::AdmitAboveSoft),
            (960, Tier::Normal, refused(960, 960)),
            (960, Tier::Batch, refused(960, 960)),
            (999, Tier::Critical, Admission::Admit),
            (1000, Tier::Critical, Admission::AdmitAboveSoft),
            (1199, Tier::Critical, Admission::AdmitAboveSoft),
            (1200, Tier::Critical, refused(1200, 1200)),
            (u32::MAX, Tier::Critical, refused(u32::MAX, 1200)),
        ] {
            assert_eq!(admits(in_flight, &Limits::default(), tier), expected, "{tier} with {in_flight}");
        }
    }

    #[test]
    fn the_load_of_a_tier_is_held_against_its_own_limit() {
        let limits = Limits::default();
        for (in_flight, critical, others) in
            [(0, 0.0, 0.0), (480, 0.4, 0.5), (960, 0.8, 1.0), (1200, 1.0, 1.25)]
        {
            let tiers = limits.view(in_flight).tiers;
            let ratios: Vec<_> = tiers.iter().map(|tier| (tier.tier, tier.load_ratio)).collect();
            let expected = [(Tier::Critical, critical), (Tier::Normal, others), (Tier::Batch, others)];
            assert_eq!(ratios, expected, "{in_flight} in flight");
        }
    }

    #[test]
    fn numbers_that_make_no_limits_are_refused_by_name() {
        for (hard, reserve, soft, message) in [
            (0, 0.2, 0.8, "the hard limit is 0"),
            (10, 1.0, 0.8, "the reserve ratio is 1"),
            (10, -0.1, 0.8, "the reserve ratio is -0.1"),
            (10, f64::NAN, 0.8, "the reserve ratio is NaN"),
            (1, 0.9, 0.8, "a reserve of 1 out of 1"),
            (10, 0.2, 0.0, "the soft ratio is 0"),
            (10, 0.2, 1.1, "the soft ratio is 1.1"),
        ] {
            let error = Limits::new(hard, reserve, soft).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn small_limits_keep_their_order() {
        for (hard, soft) in [(1, 1), (2, 2), (5, 4), (10, 8), (99, 82)] {
            let limits = Limits::new(hard, 0.0, 0.83).unwrap();
            assert_eq!(limits.soft(Tier::Normal), soft, "of {hard}");
        }
    }

    #[test]
    fn critical_goes_first() {
        assert!(Tier::Critical < Tier::Normal && Tier::Normal < Tier::Batch);
    }

    proptest! {
        #[test]
        fn whoever_comes_no_more_than_the_hard_limit_are_in_flight(
            hard in 1u32..200,
            reserve in 0.0..0.5,
            tiers in proptest::collection::vec(select(&Tier::ALL[..]), 0..400),
        ) {
            let limits = Limits::new(hard, reserve, 0.83).or_else(|_| Limits::new(hard, 0.0, 0.83)).unwrap();
            let mut in_flight = 0;
            for tier in tiers {
                if let Admission::Refuse { limit, .. } = admits(in_flight, &limits, tier) {
                    prop_assert_eq!(limit, limits.hard(tier));
                } else {
                    in_flight += 1;
                    prop_assert!(in_flight <= limits.hard(tier));
                }
                prop_assert!(in_flight <= hard);
            }
        }

        #[test]
        fn a_soft_limit_never_exceeds_its_hard_limit(hard in 1u32.., reserve in 0.0..0.49, soft in 0.001..=1.0) {
            if let Ok(limits) = Limits::new(hard, reserve, soft) {
                for tier in Tier::ALL {
                    prop_assert!(1 <= limits.soft(tier) && limits.soft(tier) <= limits.hard(tier));
                }
                prop_assert!(limits.hard(Tier::Normal) <= limits.hard(Tier::Critical));
            }
        }
    }
}
