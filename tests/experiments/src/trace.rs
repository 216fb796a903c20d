//! What arrives, when, and how long its work takes: drawn from a seed before anything runs.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::sim::draw::Draw;

/// The least a piece of work takes by the clock: tokio's timers end up to 1.1 ms late, which is much of less.
const WORK_MIN: Duration = Duration::from_millis(20);

/// What a pool has to do, and with what.
///
/// The reference model of FLOW-EVIDENCE.md, 4.1, but that no work takes less than [`WORK_MIN`]: the mean and
/// the deviation are the model's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Model {
    pub workers: u32,
    /// Mean of the work.
    pub service: Duration,
    /// Part of the work that all of it takes.
    pub service_min: Duration,
    /// Standard deviation of the work.
    pub deviation: Duration,
    /// From the intended arrival.
    pub deadline: Duration,
    pub mix: [f64; 3],
}

impl Model {
    pub(crate) const SLEEPS: Self = Self {
        workers: 23,
        service: Duration::from_micros(42_500),
        service_min: WORK_MIN,
        deviation: Duration::from_micros(42_500),
        deadline: Duration::from_millis(500),
        mix: [0.1, 0.6, 0.3],
    };

    /// One worker that keeps a processor busy; everything is in the same proportions.
    pub(crate) const SPINS: Self = Self {
        workers: 1,
        service: Duration::from_millis(5),
        service_min: Duration::ZERO,
        deviation: Duration::from_millis(5),
        deadline: Duration::from_millis(60),
        mix: Self::SLEEPS.mix,
    };

    /// Signals per second that the workers can do, if work takes as long as was drawn.
    pub(crate) fn capacity_per_s(&self) -> f64 {
        f64::from(self.workers) / self.service.as_secs_f64()
    }

    pub(crate) fn phase(&self, lasts: Duration, times: f64) -> Phase {
        Phase { lasts, load: self.mix.map(|share| share * times) }
    }
}

/// A time of steady load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Phase {
    pub lasts: Duration,
    /// What arrives by tier, in times of the capacity.
    pub load: [f64; 3],
}

/// One signal to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrival {
    /// When, from the start.
    pub at: Duration,
    pub tier: Tier,
    /// Whose it is; 0 if nobody says.
    pub tenant: u8,
    pub work: Duration,
}

/// Who sends how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sender {
    /// In times of the capacity, for work of the model's length.
    pub load: f64,
    /// How many times as long its work takes.
    pub cost: f64,
}

/// Everything that arrives, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trace {
    pub model: Model,
    pub arrivals: Vec<Arrival>,
    pub lasts: Duration,
    /// When work that begins takes longer, and by which factor.
    pub slow: Option<(Duration, Duration, f64)>,
    /// Nothing arrives before.
    pub begins: Duration,
    seed: u64,
}

/// Streams of a seed from this number on are for the work of retries.
const STREAM_AGAIN: u64 = 1 << 32;

impl Trace {
    /// Poisson arrivals through `phases`.
    pub(crate) fn poisson(model: Model, phases: &[Phase], seed: u64) -> Self {
        let (mut gaps, mut tiers, mut work) = (Draw::new(seed, 0), Draw::new(seed, 1), Draw::new(seed, 2));
        let (mut arrivals, mut began) = (Vec::new(), 0.0);
        for phase in phases {
            let ends = began + phase.lasts.as_secs_f64();
            let total: f64 = phase.load.iter().sum();
            let mut at = began;
            loop {
                at += gaps.exponential() / (total * model.capacity_per_s());
                if ends <= at {
                    break;
                }
                let tier = pick(&phase.load, tiers.uniform() * total);
                let (at, work) = (Duration::from_secs_f64(at), draw(&model, &mut work));
                arrivals.push(Arrival { at, tier, tenant: 0, work });
            }
            began = ends;
        }
        Self {
            model,
            arrivals,
            lasts: Duration::from_secs_f64(began),
            slow: None,
            begins: Duration::ZERO,
            seed,
        }
    }

    /// Poisson arrivals of one tier from each of `senders`.
    pub(crate) fn tenants(model: Model, senders: &[Sender], lasts: Duration, seed: u64) -> Self {
        let mut arrivals = Vec::new();
        for (tenant, sender) in (1..).zip(senders) {
            let stream = 2 * u64::from(tenant);
            let (mut gaps, mut work) = (Draw::new(seed, stream), Draw::new(seed, stream + 1));
            let mut at = 0.0;
            loop {
                at += gaps.exponential() / (sender.load * model.capacity_per_s());
                if lasts.as_secs_f64() <= at {
                    break;
                }
                let (at, tier) = (Duration::from_secs_f64(at), Tier::Normal);
                let work = draw(&model, &mut work).mul_f64(sender.cost);
                arrivals.push(Arrival { at, tier, tenant, work });
            }
        }
        arrivals.sort_by_key(|arrival| arrival.at);
        Self { model, arrivals, lasts, slow: None, begins: Duration::ZERO, seed }
    }

    /// The same without what arrives before `begins`, for callers who do not try again.
    pub(crate) fn from(&self, begins: Duration) -> Self {
        let arrivals = self.arrivals.iter().filter(|arrival| begins <= arrival.at).copied().collect();
        Self { arrivals, begins, ..self.clone() }
    }

    /// How long the work of an attempt takes if nothing slows it down. A retry's is drawn anew, but is the same
    /// for every contender.
    pub(crate) fn work(&self, arrival: usize, attempt: u8) -> Duration {
        if attempt == 0 {
            self.arrivals[arrival].work
        } else {
            let stream = STREAM_AGAIN + ((arrival as u64) << 8) + u64::from(attempt);
            draw(&self.model, &mut Draw::new(self.seed, stream))
        }
    }
}

fn draw(model: &Model, draw: &mut Draw) -> Duration {
    let rest = model.service.saturating_sub(model.service_min);
    let cv = model.deviation.as_secs_f64() / rest.as_secs_f64();
    model.service_min + rest.mul_f64(draw.lognormal(cv))
}

fn pick(load: &[f64; 3], mut point: f64) -> Tier {
    for tier in Tier::ALL {
        if point < load[tier as usize] {
            return tier;
        }
        point -= load[tier as usize];
    }
    Tier::Batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_the_rate_and_the_work_of_its_model() {
        let model = Model::SLEEPS;
        let phases = [model.phase(Duration::from_secs(100), 1.0)];
        let trace = Trace::poisson(model, &phases, 3);
        let rate = trace.arrivals.len() as f64 / 100.0 / model.capacity_per_s();
        assert!((rate - 1.0).abs() < 0.02, "{rate}");
        let mean = trace.arrivals.iter().map(|arrival| arrival.work.as_secs_f64()).sum::<f64>()
            / trace.arrivals.len() as f64;
        assert!((mean / model.service.as_secs_f64() - 1.0).abs() < 0.03, "{mean}");
        assert!(trace.arrivals.iter().all(|arrival| WORK_MIN <= arrival.work));
        assert_eq!(trace, Trace::poisson(model, &phases, 3));
        assert_eq!(trace.work(5, 1), trace.work(5, 1));
        assert_ne!(trace.work(5, 1), trace.work(5, 2));
    }
}
