//! Models of the cells: loom runs them in every order in which threads may run, `just models`.
//!
//! The code that is checked is the product's own; only its locks and atomics are loom's.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::admission::{Limits, Tier};
use gemba_core::breaker::BreakerRules;
use gemba_core::burn_rate::Objective;
use gemba_core::name::{ActorPath, Name};
use gemba_core::queue::NOBODY;
use gemba_core::time::Timestamp;
use gemba_kernel::{Node, Publisher, System};
use loom::model::Builder;

use crate::action::{Action, JobContext};
use crate::follow_up::{FOLLOW_UP_WITHIN, FollowUps};
use crate::gate::Gate;
use crate::guard::Guard;
use crate::job::{Job, Station, Trace};
use crate::line::{DEADLINE, LineCell};
use crate::meters::Meters;
use crate::permit::Ceiling;
use crate::phases::Phases;
use crate::rate::{RateGate, Rates};
use crate::seat::Ticket;
use crate::tally::Account;

mod breaker;
mod ceiling;
mod exchange;

/// Runs a model in every order with at most so many switches at places where the thread could have gone on. Bugs
/// take few of them; each more multiplies the orders.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What all models take for now.
const NOW: Timestamp = Timestamp::from_secs(1);

/// Gives its number back, and counts how often it was asked to.
struct Echo;

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl Action for Echo {
    type Input = u32;
    type Output = u32;
    type Error = Never;

    async fn run(&self, n: u32, _: &JobContext) -> Result<u32, Never> {
        Ok(n)
    }
}

fn guard(rules: BreakerRules) -> (Arc<Guard>, System) {
    let system = Node::builder("model").system().clone();
    let (name, path) = (Name::new("echo").unwrap(), ActorPath::new("/plant").unwrap());
    (Guard::new(name, path, rules, None, system.clone()), system)
}

fn ceiling(hard: u32) -> Arc<Ceiling> {
    Ceiling::new(Limits::new(hard, 0.0, 0.83).unwrap())
}

fn station() -> Arc<Station<Echo>> {
    let (guard, system) = guard(BreakerRules::default());
    let cell = Arc::new(LineCell {
        name: Name::new("echo").unwrap(),
        gate: Gate::open(DEADLINE),
        meter: Meters::new(["echo"]),
        guard,
        phases: Phases::new(),
        follow_ups: FollowUps::new(FOLLOW_UP_WITHIN),
        rate: RateGate::new(&Rates::default()).unwrap(),
        account: Account::default(),
        objective: Publisher::new(Objective::default()),
        built: Default::default(),
    });
    Arc::new(Station { action: Echo, cell, system })
}

/// A signal that has all the time in the world.
fn signal(station: &Arc<Station<Echo>>, ceiling: &Ceiling, n: u32) -> (Job, Ticket<Echo>) {
    let permit = ceiling.admit_at(0, Tier::Normal).expect("there is room");
    let deadline = NOW + Duration::from_secs(1_000_000);
    let trace = Trace { span: tracing::Span::none(), context: None, sent: None };
    Job::new(station.clone(), n, permit, (Tier::Normal, NOBODY), deadline, trace)
}
