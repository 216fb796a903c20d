//! How much of the experiments is run.

use std::time::Duration;

use gemba::sim::client::Client;
use gemba::sim::experiments::Scale as Simulated;

use crate::contenders::Kind;

/// Lengths and numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub rounds: u64,
    /// Which loads, in times of the capacity.
    pub loads: &'static [f64],
    /// How many take part in each comparison, ours first.
    pub kinds: usize,
    /// How callers try again.
    pub clients: &'static [Client],
    /// How long one load lasts before it is measured.
    pub warm_up: Duration,
    /// How long one load is measured.
    pub measured: Duration,
    /// How long the spike, or the slow time, of a recovery lasts, and how long it is watched after that.
    pub trouble: Duration,
    pub watched: Duration,
    /// Signals of the test that an idle system refuses nobody.
    pub idle_signals: u64,
    /// Callers dropped in the test of the accounts.
    pub drops: u64,
    /// Cards of the test of the durable queue.
    pub cards: u64,
    /// Calls, per thread and repetition, where nanoseconds are measured.
    pub calls: u32,
    /// What is run in virtual time.
    pub simulated: Simulated,
}

impl Scale {
    /// As the targets were set, but that a load is measured for 10 s instead of a minute. Gradient2 needs the
    /// warm-up: it looks at windows of a second, and starts below what the workers can do.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        loads: &[0.7, 1.0, 1.2, 2.0, 5.0, 10.0],
        kinds: usize::MAX,
        clients: &Client::ALL,
        warm_up: Duration::from_secs(15),
        measured: Duration::from_secs(10),
        trouble: Duration::from_secs(10),
        watched: Duration::from_secs(15),
        idle_signals: 10_000_000,
        drops: 1_000_000,
        cards: 5_000,
        calls: 1_000_000,
        simulated: Simulated::FULL,
    };

    /// Those of the list that take part.
    pub(crate) fn of<'a>(&self, kinds: &'a [Kind]) -> &'a [Kind] {
        &kinds[..kinds.len().min(self.kinds)]
    }

    /// Enough to see that nothing is broken, and most of the picture: four of each comparison, a few seconds each.
    pub(crate) const QUICK: Self = Self {
        rounds: 5,
        loads: &[0.7, 1.0, 1.2, 2.0, 10.0],
        kinds: 4,
        clients: &[Client::IN_STEP, Client::OURS],
        warm_up: Duration::from_secs(1),
        measured: Duration::from_millis(1_500),
        trouble: Duration::from_secs(3),
        watched: Duration::from_secs(3),
        idle_signals: 1_000_000,
        drops: 100_000,
        cards: 1_000,
        calls: 300_000,
        simulated: Simulated::QUICK,
    };
}
