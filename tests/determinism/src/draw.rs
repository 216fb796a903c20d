//! What a scenario draws from its seed: each part of it from a stream of its own.

use std::time::Duration;

use gemba::sim::draw;

/// Who draws; no two of them share a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    Scenario,
    Chaos,
    Client(u64),
    /// One life of an actor, by its incarnation.
    Life(u64),
}

impl Who {
    const fn stream(self) -> u64 {
        match self {
            Self::Scenario => 0,
            Self::Chaos => 1,
            Self::Client(n) => 1_000 + n,
            Self::Life(n) => 1_000_000 + n,
        }
    }
}

/// A stream of draws.
#[derive(Debug, Clone)]
pub(crate) struct Draw(draw::Draw);

impl Draw {
    pub(crate) fn new(seed: u64, who: Who) -> Self {
        Self(draw::Draw::new(seed, who.stream()))
    }

    /// From 0 to `n - 1`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.0.uniform() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below((to - from + 1) as usize) as u64
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// One of these, as often as its weight says.
    pub(crate) fn weighted<T: Copy>(&mut self, all: &[(u64, T)]) -> T {
        let mut at = self.below(all.iter().map(|(weight, _)| *weight as usize).sum()) as u64;
        for (weight, choice) in all {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        all[all.len() - 1].1
    }

    /// The pause before the next of what comes once in `mean`, on average.
    pub(crate) fn pause(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(self.0.exponential())
    }
}
