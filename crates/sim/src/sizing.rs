//! Changes the size of a pool while it runs: the scaler and the burst detector of `gemba-core`.

use std::time::Duration;

use gemba_core::burst::{Burst, BurstRules, Grant};
use gemba_core::scaling::{Bounds, Load, Sample, Scale, ScaleRules, Scaler};
use gemba_core::time::Timestamp;

/// How often arrivals are looked at, and every how many looks the size is: as `gemba_flow` does.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
const LOOKS_PER_SIZE: u32 = 4;

/// Looks at what comes to a pool, and says how many workers it should have.
#[derive(Debug)]
pub(crate) struct Sizing {
    rules: ScaleRules,
    scaler: Scaler,
    burst: Burst,
    looks: u32,
    /// Workers before the surge, and at its height.
    calm: u32,
    held: u32,
    noted_at: Timestamp,
    sampled_at: Timestamp,
    sample: Sample,
    arrived: u64,
}

impl Sizing {
    pub(crate) fn new(rules: ScaleRules, workers: u32) -> Self {
        Self {
            rules,
            scaler: Scaler::new(Timestamp::START),
            burst: Burst::new(BurstRules::default(), Timestamp::START),
            looks: 0,
            calm: workers,
            held: workers,
            noted_at: Timestamp::START,
            sampled_at: Timestamp::START,
            sample: Sample::default(),
            arrived: 0,
        }
    }

    /// With other rules for surges.
    pub(crate) fn surges(mut self, rules: BurstRules) -> Self {
        self.burst.set_rules(rules);
        self
    }

    /// One more came.
    pub(crate) const fn arrived(&mut self) {
        self.arrived += 1;
        self.sample.arrived += 1;
    }

    /// One more is done.
    pub(crate) const fn finished(&mut self) {
        self.sample.finished += 1;
    }

    /// Up to now, `running` of `workers` were busy: to be called before either changes.
    pub(crate) fn note(&mut self, running: u32, workers: u32, now: Timestamp) {
        let elapsed = now.since(self.noted_at);
        self.sample.busy += elapsed * running;
        self.sample.offered += elapsed * workers.max(running);
        self.noted_at = now;
    }

    /// How many workers the pool should have from now on; to be called every [`LOOK`].
    pub(crate) fn look(&mut self, load: Load, now: Timestamp) -> u32 {
        self.note(load.running, load.workers, now);
        let short = self.rules.workers_max() < self.scaler.right();
        // Whether a surge began or ended is for receipts; what it grants is asked for below.
        let _ = self.burst.observe(self.arrived, short, now);
        self.looks += 1;
        if !self.looks.is_multiple_of(LOOKS_PER_SIZE) {
            return load.workers;
        }
        let bounds = self.bounds(load.workers, now);
        self.sample.elapsed = now.since(std::mem::replace(&mut self.sampled_at, now));
        let sample = std::mem::take(&mut self.sample);
        let workers = match self.scaler.observe(sample, load, &self.rules, bounds, now) {
            Scale::Hold => return load.workers,
            Scale::Grow(by) => load.workers + by,
            Scale::Shrink(by) => load.workers - by,
        };
        self.scaler.changed(now);
        workers
    }

    fn bounds(&mut self, workers: u32, now: Timestamp) -> Bounds {
        let most = self.rules.workers_max();
        let grant = self.burst.grant(now);
        match grant {
            Grant::None => self.calm = workers,
            Grant::Whole => self.held = workers,
            Grant::Fading { .. } => {}
        }
        let fades = matches!(grant, Grant::Fading { .. });
        let beyond = if fades { self.held.saturating_sub(most) } else { self.burst.rules().extra_workers() };
        Bounds {
            workers_min: self.rules.workers_min(),
            workers_max: most.saturating_add(grant.of(beyond)),
            fading: fades.then(|| self.calm + grant.of(self.held.saturating_sub(self.calm))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends so much work of 100 ms a second to a pool for some seconds, and gives its size after each.
    fn sizes(sizing: &mut Sizing, mut workers: u32, from: u64, seconds: u64, per_s: u32) -> Vec<u32> {
        let mut sizes = Vec::new();
        for look in 1..=seconds * 4 {
            let now = Timestamp::from_secs(from) + LOOK * look as u32;
            let running = (per_s / 10).min(workers);
            (0..per_s / 4).for_each(|_| sizing.arrived());
            (0..running * 10 / 4).for_each(|_| sizing.finished());
            workers = sizing.look(Load { workers, running, queued: 0 }, now);
            sizes.push(workers);
        }
        sizes
    }

    #[test]
    fn a_pool_grows_to_its_load_and_only_a_surge_takes_it_further() {
        let rules = ScaleRules::builder().workers(2, 20).build().unwrap();
        let mut sizing = Sizing::new(rules, 2);
        let grown = *sizes(&mut sizing, 2, 0, 90, 80).last().unwrap();
        assert!((9..=20).contains(&grown), "8 workers' worth of work: {grown}");
        // Five times as much as it has known for a minute is a surge.
        let surged = *sizes(&mut sizing, grown, 90, 10, 400).last().unwrap();
        assert!(20 < surged && surged <= 20 + BurstRules::default().extra_workers(), "{surged}");
    }
}
