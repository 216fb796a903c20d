//! A cell: the breakers of a downstream's regions, for actions that choose the region they call.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use gemba_core::breaker::{
    BreakerRules, Outcome, RegionMoved, RegionRefused, RegionTicket, Regions, RegionsError,
};
use gemba_core::metric;
use gemba_core::name::{ActorPath, Name, NameError};
use gemba_core::receipt::{BreakerState, Event, Seq};
use gemba_kernel::{Breakers, System};

/// Why a downstream gets no breakers for its regions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegionGuardError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The regions are wrong.
    #[error(transparent)]
    Regions(#[from] RegionsError),
}

/// Breakers for each region of a downstream, and one above them all.
///
/// It belongs into the action that chooses the region, behind the breaker of its line. Each breaker is a station of
/// the board, called `DOWNSTREAM.REGION`, the one above them `DOWNSTREAM`; their changes are receipts. A region
/// that refuses is a reason to take another one. An operator can force each of them by its name, as the breaker of a
/// line.
///
/// # Examples
///
/// ```
/// use gemba_core::breaker::{BreakerRules, RegionRefused};
/// use gemba_flow::RegionGuard;
/// use gemba_kernel::Node;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("example").start().await?;
/// let rules = BreakerRules::builder().failures_in_a_row(1).build()?;
/// let bank = RegionGuard::new(node.system(), "bank", &["eu", "us", "ap"], rules, 0.5)?;
///
/// drop(bank.enter("eu")?); // A call that is not told to have succeeded has failed.
/// assert!(matches!(bank.enter("eu"), Err(RegionRefused::Region { .. })));
/// bank.enter("us")?.succeeded();
/// # node.stop("done").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[doc(alias = "circuit breaker")]
pub struct RegionGuard(Arc<Inner>);

struct Inner {
    system: System,
    name: Name,
    state: Mutex<State>,
}

struct State {
    regions: Regions,
    /// The receipt of each breaker's last change: an open one is why it is half-open later, and closed again.
    told: BTreeMap<Name, Seq>,
}

/// Permission to make one call in a region. Dropped unspent, as by a panic or a time-out, it is a failure.
#[must_use = "an unspent pass counts as a failure"]
pub struct RegionPass<'a> {
    guard: &'a Inner,
    ticket: Option<RegionTicket>,
}

impl RegionGuard {
    /// Closed breakers for these regions of a downstream. When more than `share` of them fail, all calls wait: see
    /// [`Regions`].
    ///
    /// # Errors
    ///
    /// [`RegionGuardError`]: of a name, of the number of regions
    /// ([`REGIONS_MAX`](gemba_core::breaker::REGIONS_MAX)), or of the share.
    pub fn new(
        system: &System,
        downstream: &str,
        regions: &[&str],
        rules: BreakerRules,
        share: f64,
    ) -> Result<Self, RegionGuardError> {
        let name = Name::new(downstream)?;
        let names = regions.iter().map(|region| {
            // The name its breaker goes by must be one too.
            Name::new(&format!("{name}.{region}"))?;
            Name::new(region)
        });
        let names = names.collect::<Result<Vec<_>, _>>()?;
        let state = State { regions: Regions::new(rules, names, share)?, told: BTreeMap::new() };
        let inner = Inner { system: system.clone(), name, state: Mutex::new(state) };
        let inner = Arc::new(inner);
        let offered: Weak<Inner> = Arc::downgrade(&inner);
        let offered: Weak<dyn Breakers> = offered;
        system.offer_breakers(&offered);
        Ok(Self(inner))
    }

    /// Lets a call pass, or says why not and when to come again.
    ///
    /// # Errors
    ///
    /// [`RegionRefused`].
    pub fn enter(&self, region: &str) -> Result<RegionPass<'_>, RegionRefused> {
        let mut state = self.0.state();
        let (ticket, moved) = state.regions.enter(region, self.0.system.now())?;
        self.0.tell(&mut state, moved);
        Ok(RegionPass { guard: &self.0, ticket: Some(ticket) })
    }
}

impl RegionPass<'_> {
    /// The region did what it was asked to, also if that was to say no.
    pub fn succeeded(self) {
        self.spend(Outcome::Success);
    }

    /// Says how the call went, as far as the region is concerned.
    pub fn spend(mut self, outcome: Outcome) {
        self.give_back(outcome);
    }

    fn give_back(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            let mut state = self.guard.state();
            let moved = state.regions.record(ticket, outcome, self.guard.system.now());
            self.guard.tell(&mut state, moved);
        }
    }
}

impl Drop for RegionPass<'_> {
    fn drop(&mut self) {
        self.give_back(Outcome::Failure);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("breakers do not panic")
    }

    fn breaker_of(&self, region: Option<&Name>) -> Name {
        let Some(region) = region else { return self.name.clone() };
        Name::new(&format!("{}.{region}", self.name)).expect("it was checked when the guard was made")
    }

    /// Tells of changes in their order, before anybody else can make another one.
    fn tell(&self, state: &mut State, moved: Vec<RegionMoved>) {
        if moved.is_empty() {
            return;
        }
        for RegionMoved { region, moved } in moved {
            let breaker = self.breaker_of(region.as_ref());
            let cause = state.told.get(&breaker).copied().filter(|_| moved.from != BreakerState::Closed);
            let event = Event::BreakerMoved {
                breaker: breaker.clone(),
                from: moved.from,
                to: moved.to,
                why: moved.why,
            };
            let receipt = self.system.record(cause, &ActorPath::root(), event);
            state.told.insert(breaker, receipt);
        }
        self.show(state);
    }

    fn show(&self, state: &State) {
        // Before the node starts there is nowhere to show it, and asking would settle that there never is.
        if !self.system.has_instruments() {
            return;
        }
        let all = std::iter::once((None, state.regions.state()));
        for (region, is) in state.regions.states().map(|(name, is)| (Some(name), is)).chain(all) {
            let breaker = self.breaker_of(region);
            for (state, word) in [
                (BreakerState::Closed, "closed"),
                (BreakerState::Open, "open"),
                (BreakerState::HalfOpen, "half_open"),
            ] {
                let on = f64::from(u8::from(is == state));
                self.system.instruments().gauge(&metric::BREAKER, &[breaker.as_str(), word]).set(on);
            }
        }
    }
}

impl Breakers for Inner {
    fn names(&self) -> Vec<Name> {
        let state = self.state();
        let regions = state.regions.states().map(|(region, _)| self.breaker_of(Some(region)));
        std::iter::once(self.name.clone()).chain(regions).collect()
    }

    fn force(&self, breaker: &Name, to: BreakerState, by: &str, why: &str) -> Option<Seq> {
        let mut state = self.state();
        let region = breaker.as_str().strip_prefix(self.name.as_str())?;
        let region = if region.is_empty() { None } else { Some(region.strip_prefix('.')?) };
        let from = state.regions.force(region, to, self.system.now())?;
        let why = format!("forced by {by}: {why}").into();
        let event = Event::BreakerMoved { breaker: breaker.clone(), from, to, why };
        let receipt = self.system.record(None, &ActorPath::root(), event);
        state.told.insert(breaker.clone(), receipt);
        self.show(&state);
        Some(receipt)
    }
}

impl fmt::Debug for RegionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegionGuard").field(&self.0.name).finish()
    }
}

impl fmt::Debug for RegionPass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegionPass").field(&self.guard.name).finish()
    }
}
