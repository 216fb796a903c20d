//! The breakers of a downstream that stands in several regions: one for each, and one above them all.

use std::sync::Arc;
use std::time::Duration;

use super::{Breaker, BreakerRules, Moved, Outcome, Refused, Ticket};
use crate::name::Name;
use crate::receipt::BreakerState;
use crate::time::Timestamp;

/// Regions of one downstream, at most.
pub const REGIONS_MAX: usize = 64;

/// Why regions get no breakers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionsError {
    /// There are none, or too many.
    #[error("{given} regions; give 1 to {REGIONS_MAX}")]
    Number {
        /// How many were given.
        given: usize,
    },
    /// A region is there twice.
    #[error("region '{region}' is there twice; name each once")]
    Twice {
        /// The region.
        region: Name,
    },
    /// The share of regions that opens all of them is not a share.
    #[error("all regions cannot be closed off when {share} of them are; give a number from 0 to 1")]
    Share {
        /// The refused share.
        share: f64,
    },
}

/// Why a call to a region must not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionRefused {
    /// Nobody knows the region.
    #[error("there is no region '{region}'; there are: {known}")]
    Unknown {
        /// The region asked for.
        region: Arc<str>,
        /// Those there are.
        known: Arc<str>,
    },
    /// The region fails; another one may not.
    #[error("the breaker of region '{region}' is open; take another region, or retry in {retry_in:?}")]
    Region {
        /// The region.
        region: Name,
        /// When it is worth asking again.
        retry_in: Duration,
    },
    /// So many regions fail that the fault is taken for one they share.
    #[error("the breaker of all regions is open; retry in {retry_in:?}")]
    All {
        /// When it is worth asking again.
        retry_in: Duration,
    },
}

/// Leave to make one call in a region. Give it back with [`Regions::record`], whatever became of the call.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not given back keeps its probe slots"]
pub struct RegionTicket {
    place: usize,
    region: Ticket,
    all: Ticket,
}

/// A breaker changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "every change of a breaker leaves a receipt"]
pub struct RegionMoved {
    /// Whose breaker; that of all regions if it is none of them.
    pub region: Option<Name>,
    /// What changed.
    pub moved: Moved,
}

/// Keeps callers from the regions of a downstream that fail, and from all of them when most do.
///
/// A call needs the leave of both breakers, and takes a probe's slot of both or of none. Outcomes count in the
/// region. The breaker of all regions opens when the breakers of more than `share` of them are not closed, and only
/// at the moment when another one fails anew: regions that stay down do not close off the others again and again.
/// Then it waits and probes as every breaker does, in whatever region the next callers want.
///
/// # Examples
///
/// ```
/// use gemba_core::breaker::{BreakerRules, Outcome, RegionRefused, Regions};
/// use gemba_core::time::Timestamp;
///
/// let rules = BreakerRules::builder().failures_in_a_row(1).build()?;
/// let mut regions = Regions::new(rules, ["eu", "us", "ap"].map(|name| name.parse().unwrap()), 0.5)?;
/// let now = Timestamp::from_secs(1);
/// let (ticket, _) = regions.enter("eu", now)?;
/// let moved = regions.record(ticket, Outcome::Failure, now);
/// assert_eq!(moved.len(), 1, "one region of three fails");
/// assert!(matches!(regions.enter("eu", now), Err(RegionRefused::Region { .. })));
/// let (ticket, _) = regions.enter("us", now)?;
/// let moved = regions.record(ticket, Outcome::Failure, now);
/// assert_eq!(&*moved[1].moved.why, "2 of 3 regions fail");
/// assert!(matches!(regions.enter("ap", now), Err(RegionRefused::All { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Regions {
    each: Vec<(Name, Breaker)>,
    all: Breaker,
    share: f64,
}

impl Regions {
    /// Closed breakers for these regions, all by the same rules. `share` is the share of them above which the fault
    /// is taken for one they share: 0.5 is more than half.
    ///
    /// # Errors
    ///
    /// [`RegionsError`].
    pub fn new(
        rules: BreakerRules,
        names: impl IntoIterator<Item = Name>,
        share: f64,
    ) -> Result<Self, RegionsError> {
        let mut regions: Vec<(Name, Breaker)> = Vec::new();
        for name in names {
            if regions.iter().any(|(known, _)| *known == name) {
                return Err(RegionsError::Twice { region: name });
            }
            // Breakers that open together do not ask again together.
            let seed = rules.seed.wrapping_add(regions.len() as u64 + 1);
            regions.push((name, Breaker::new(BreakerRules { seed, ..rules })));
        }
        if regions.is_empty() || REGIONS_MAX < regions.len() {
            return Err(RegionsError::Number { given: regions.len() });
        }
        if !(0.0..=1.0).contains(&share) {
            return Err(RegionsError::Share { share });
        }
        Ok(Self { each: regions, all: Breaker::new(rules), share })
    }

    /// Asks to make a call in a region.
    ///
    /// # Errors
    ///
    /// [`RegionRefused`]; no slot of a probe is taken.
    pub fn enter(
        &mut self,
        region: &str,
        now: Timestamp,
    ) -> Result<(RegionTicket, Vec<RegionMoved>), RegionRefused> {
        let Some(place) = self.each.iter().position(|(name, _)| name.as_str() == region) else {
            let known: Vec<_> = self.each.iter().map(|(name, _)| name.as_str()).collect();
            return Err(RegionRefused::Unknown { region: region.into(), known: known.join(", ").into() });
        };
        let (name, breaker) = &mut self.each[place];
        // Who may not call anywhere is told so, and not to take another region; and both are asked before one gives
        // anything away.
        let of_all = |refused: Refused| RegionRefused::All { retry_in: refused.retry_in };
        let of_region =
            |refused: Refused| RegionRefused::Region { region: name.clone(), retry_in: refused.retry_in };
        self.all.refuses(now).map(of_all).map_or(Ok(()), Err)?;
        let in_region = breaker.enter(now).map_err(of_region)?;
        let in_all = self.all.enter(now).map_err(of_all)?;
        let of_region = in_region.moved.map(|moved| RegionMoved { region: Some(name.clone()), moved });
        let of_all = in_all.moved.map(|moved| RegionMoved { region: None, moved });
        let ticket = RegionTicket { place, region: in_region.ticket, all: in_all.ticket };
        Ok((ticket, of_region.into_iter().chain(of_all).collect()))
    }

    /// Takes a ticket back with the outcome of its call.
    pub fn record(&mut self, ticket: RegionTicket, outcome: Outcome, now: Timestamp) -> Vec<RegionMoved> {
        let RegionTicket { place, region, all } = ticket;
        let (name, breaker) = &mut self.each[place];
        let in_region = breaker.record(region, outcome, now);
        let fails_anew = in_region
            .as_ref()
            .is_some_and(|moved| moved.from == BreakerState::Closed && moved.to == BreakerState::Open);
        let name = name.clone();
        let in_all = match self.all.state() {
            // Calls of one region say nothing about the others.
            BreakerState::Closed if fails_anew => self.judge(now),
            BreakerState::Closed => None,
            BreakerState::Open | BreakerState::HalfOpen => self.all.record(all, outcome, now),
        };
        let of_region = in_region.map(|moved| RegionMoved { region: Some(name), moved });
        let of_all = in_all.map(|moved| RegionMoved { region: None, moved });
        of_region.into_iter().chain(of_all).collect()
    }

    /// Puts the breaker of a region, or of all of them, into a state by hand, and tells which it was in; `None` if
    /// there is no such region. An open one stays open until it is forced again, and what was counted is forgotten.
    pub fn force(&mut self, region: Option<&str>, to: BreakerState, now: Timestamp) -> Option<BreakerState> {
        let breaker = match region {
            None => &mut self.all,
            Some(region) => &mut self.each.iter_mut().find(|(name, _)| name.as_str() == region)?.1,
        };
        let from = breaker.state();
        // Also one that is in that state already is changed: a timer no longer ends it, or its counts begin anew.
        let _ = match to {
            BreakerState::Open => breaker.force_open(now),
            BreakerState::HalfOpen => breaker.force_half_open(now),
            BreakerState::Closed => breaker.force_close(now),
        };
        Some(from)
    }

    /// Each region with its state, in the order in which they were given.
    pub fn states(&self) -> impl Iterator<Item = (&Name, BreakerState)> {
        self.each.iter().map(|(name, breaker)| (name, breaker.state()))
    }

    /// The state of the breaker of all regions.
    pub const fn state(&self) -> BreakerState {
        self.all.state()
    }

    fn judge(&mut self, now: Timestamp) -> Option<Moved> {
        let all = self.each.len();
        let failing = self.states().filter(|(_, state)| *state != BreakerState::Closed).count();
        let too_many = failing as f64 > self.share * all as f64;
        too_many.then(|| self.all.open(&format!("{failing} of {all} regions fail"), now))
    }
}

#[cfg(test)]
mod tests {
    use super::BreakerState::{Closed, HalfOpen, Open};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn regions(names: &[&str], share: f64) -> Result<Regions, RegionsError> {
        let rules = BreakerRules::builder().failures_in_a_row(2).build().unwrap();
        Regions::new(rules, names.iter().map(|name| name.parse().unwrap()), share)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// One call, and whose breaker moved where.
    fn call(regions: &mut Regions, region: &str, outcome: Outcome, now: Timestamp) -> Vec<String> {
        let (ticket, mut moved) = regions.enter(region, now).unwrap();
        moved.extend(regions.record(ticket, outcome, now));
        let told = |moved: &RegionMoved| {
            let whose = moved.region.as_ref().map_or("all", Name::as_str);
            format!("{whose} {:?}", moved.moved.to)
        };
        moved.iter().map(told).collect()
    }

    #[test]
    fn a_region_that_fails_leaves_the_others_alone() {
        let mut regions = regions(&["eu", "us", "ap"], 0.5).unwrap();
        assert_eq!(call(&mut regions, "eu", Outcome::Failure, at(1)), [""; 0]);
        assert_eq!(call(&mut regions, "eu", Outcome::Failure, at(1)), ["eu Open"]);
        for _ in 0..100 {
            assert_eq!(call(&mut regions, "us", Outcome::Success, at(1)), [""; 0]);
        }
        let refused = regions.enter("eu", at(1)).unwrap_err();
        assert!(refused.to_string().contains("take another region"), "{refused}");
        assert_eq!(regions.state(), Closed);
    }

    #[test]
    fn when_more_than_half_fail_all_wait_and_one_probe_at_a_time_tries_again() {
        let mut regions = regions(&["eu", "us", "ap"], 0.5).unwrap();
        for _ in 0..2 {
            call(&mut regions, "eu", Outcome::Failure, at(1));
        }
        call(&mut regions, "us", Outcome::Failure, at(2));
        assert_eq!(call(&mut regions, "us", Outcome::Failure, at(2)), ["us Open", "all Open"]);
        assert!(matches!(regions.enter("ap", at(3)), Err(RegionRefused::All { .. })));
        assert!(matches!(regions.enter("eu", at(3)), Err(RegionRefused::All { .. })), "it tells more");

        // After 30 s, a fifth more or less, the first caller is the probe of both.
        let (probe, moved) = regions.enter("eu", at(60)).unwrap();
        assert_eq!(moved.len(), 2, "{moved:?}");
        assert!(matches!(regions.enter("ap", at(60)), Err(RegionRefused::All { .. })), "one at a time");
        assert_eq!(regions.record(probe, Outcome::Success, at(60)), []);
        assert_eq!(call(&mut regions, "ap", Outcome::Success, at(60)), [""; 0]);
        assert_eq!(call(&mut regions, "ap", Outcome::Success, at(60)), ["all Closed"]);
        let states: Vec<_> = regions.states().map(|(_, state)| state).collect();
        assert_eq!(states, [HalfOpen, Open, Closed], "each region finds its own way back");
    }

    #[test]
    fn regions_that_stay_down_do_not_close_off_the_others_again() {
        let mut regions = regions(&["eu", "us", "ap"], 0.5).unwrap();
        for region in ["eu", "us"] {
            for _ in 0..2 {
                call(&mut regions, region, Outcome::Failure, at(1));
            }
        }
        for _ in 0..3 {
            call(&mut regions, "ap", Outcome::Success, at(60));
        }
        assert_eq!(regions.state(), Closed);
        // Their probes go on failing for an hour.
        for minute in 2..60 {
            for region in ["eu", "us"] {
                if let Ok((probe, _)) = regions.enter(region, at(60 * minute)) {
                    let _ = regions.record(probe, Outcome::Failure, at(60 * minute));
                }
            }
            assert_eq!(call(&mut regions, "ap", Outcome::Success, at(60 * minute)), [""; 0]);
        }
    }

    #[test]
    fn who_is_refused_has_taken_no_slot() {
        let mut regions = regions(&["eu", "us"], 0.5).unwrap();
        for region in ["eu", "us"] {
            for _ in 0..2 {
                call(&mut regions, region, Outcome::Failure, at(1));
            }
        }
        assert_eq!(regions.state(), Open);
        let (probe, _) = regions.enter("us", at(60)).unwrap();
        // The slot of all regions is taken, that of this region is not.
        for _ in 0..10 {
            assert!(matches!(regions.enter("eu", at(60)), Err(RegionRefused::All { .. })));
        }
        let ignored = regions.record(probe, Outcome::Ignored, at(60));
        assert_eq!(ignored, [], "a call that says nothing gives its slots back");
        assert!(regions.enter("eu", at(61)).is_ok());
        assert_eq!(regions.states().map(|(_, state)| state).collect::<Vec<_>>(), [HalfOpen, HalfOpen]);
    }

    #[test]
    fn a_region_and_all_of_them_are_forced_by_hand() {
        let mut regions = regions(&["eu", "us", "ap"], 0.5).unwrap();
        assert_eq!(regions.force(Some("eu"), Open, at(1)), Some(Closed));
        assert!(
            matches!(regions.enter("eu", at(10_000)), Err(RegionRefused::Region { .. })),
            "no timer ends it"
        );
        assert_eq!(call(&mut regions, "us", Outcome::Success, at(10_000)), [""; 0]);
        assert_eq!((regions.force(None, Open, at(1)), regions.state()), (Some(Closed), Open));
        assert!(matches!(regions.enter("us", at(10_000)), Err(RegionRefused::All { .. })));
        assert_eq!(regions.force(None, Closed, at(2)), Some(Open));
        assert_eq!(regions.force(Some("eu"), HalfOpen, at(2)), Some(Open));
        assert_eq!(call(&mut regions, "eu", Outcome::Failure, at(3)), ["eu Open"], "its probe failed");
        assert_eq!(regions.force(Some("mars"), Open, at(4)), None);
    }

    #[test]
    fn what_makes_no_regions_is_refused() {
        assert_eq!(regions(&[], 0.5).unwrap_err(), RegionsError::Number { given: 0 });
        assert_eq!(
            regions(&["a", "a"], 0.5).unwrap_err().to_string(),
            "region 'a' is there twice; name each once"
        );
        assert_eq!(regions(&["a"], 1.5).unwrap_err(), RegionsError::Share { share: 1.5 });
        let mut one = regions(&["eu", "us"], 1.0).unwrap();
        let refused = one.enter("mars", at(0) + SECOND).unwrap_err();
        assert_eq!(refused.to_string(), "there is no region 'mars'; there are: eu, us");
    }
}
