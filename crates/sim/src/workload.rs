//! What arrives, drawn before anything runs: every contender gets the same arrivals and the same work.

use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;

use crate::draw::Draw;

/// What a pool has to do, and with what.
///
/// # Units and limits
///
/// By default the reference model of FLOW-EVIDENCE.md, 4.1: 23 workers, work of 42.5 ms on average, lognormal
/// with a coefficient of variation of 1, a deadline of 500 ms; 10 % critical, 60 % normal, 30 % batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// Workers of the pool.
    pub workers: u32,
    /// Mean service time.
    pub service: Duration,
    /// Standard deviation of service times, over their mean.
    pub cv: f64,
    /// How long a signal may take, from its arrival to its answer.
    pub deadline: Duration,
    /// The tiers' shares of the arrivals.
    pub mix: [f64; Tier::ALL.len()],
}

impl Default for Model {
    fn default() -> Self {
        Self {
            workers: 23,
            service: Duration::from_micros(42_500),
            cv: 1.0,
            deadline: Duration::from_millis(500),
            mix: [0.1, 0.6, 0.3],
        }
    }
}

impl Model {
    /// Signals per second that the workers can do, busy all the time.
    pub fn capacity_per_s(&self) -> f64 {
        f64::from(self.workers) / self.service.as_secs_f64()
    }

    /// A phase in which `times` the capacity arrives, in the shares of the mix.
    pub fn phase(&self, lasts: Duration, times: f64) -> Phase {
        Phase { lasts, load: self.mix.map(|share| share * times) }
    }
}

/// A time of steady load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// How long it lasts.
    pub lasts: Duration,
    /// What arrives by tier, in times of the capacity.
    pub load: [f64; Tier::ALL.len()],
}

impl Phase {
    /// Signals it brings on average.
    pub fn signals(&self, model: &Model) -> f64 {
        self.load.iter().sum::<f64>() * model.capacity_per_s() * self.lasts.as_secs_f64()
    }
}

/// A time in which the downstream is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trouble {
    /// When it begins.
    pub from: Timestamp,
    /// When it is over.
    pub to: Timestamp,
    /// By which factor work started in it takes longer.
    pub slower: f64,
}

/// One signal to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When it arrives.
    pub at: Timestamp,
    /// Its tier.
    pub tier: Tier,
    /// How long its work takes if nothing slows it down.
    pub service: Duration,
}

/// Everything that arrives, in order, and what is wrong meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// What arrives, in order.
    pub arrivals: Vec<Arrival>,
    /// When work is slow.
    pub troubles: Vec<Trouble>,
    /// When arrivals end.
    pub end: Timestamp,
    /// What the work of a retry is drawn from; without it, it takes as long as the first time.
    again: Option<Again>,
}

#[derive(Debug, Clone, Copy)]
struct Again {
    seed: u64,
    service: Duration,
    cv: f64,
}

/// Streams of a seed below this number are for arrivals and callers.
const STREAM_AGAIN: u64 = 1 << 32;

impl Workload {
    /// Poisson arrivals through `phases`, from `seed`.
    pub fn poisson(model: &Model, phases: &[Phase], seed: u64) -> Self {
        let (mut gaps, mut tiers, mut work) = (Draw::new(seed, 0), Draw::new(seed, 1), Draw::new(seed, 2));
        let (mut arrivals, mut began) = (Vec::new(), 0.0);
        for phase in phases {
            let ends = began + phase.lasts.as_secs_f64();
            let total: f64 = phase.load.iter().sum();
            let per_s = total * model.capacity_per_s();
            let mut at = began;
            loop {
                // Without load the pause has no end.
                at += gaps.exponential() / per_s;
                if ends <= at {
                    break;
                }
                let tier = pick(&phase.load, tiers.uniform() * total);
                let service = model.service.mul_f64(work.lognormal(model.cv));
                arrivals.push(Arrival { at: Timestamp::from_nanos((at * 1e9) as u64), tier, service });
            }
            began = ends;
        }
        let again = Some(Again { seed, service: model.service, cv: model.cv });
        Self { arrivals, troubles: Vec::new(), end: Timestamp::from_nanos((began * 1e9) as u64), again }
    }

    /// Arrivals that were recorded, in order.
    pub fn recorded(arrivals: Vec<Arrival>, end: Timestamp) -> Self {
        Self { arrivals, troubles: Vec::new(), end, again: None }
    }

    /// How long the work of an attempt takes that is started `now`.
    ///
    /// A retry's is drawn anew, but the same for whoever controls the pool: what makes work long is seldom in
    /// the signal alone, and the few that are always too long would be retried by everybody in vain.
    pub fn service(&self, arrival: u32, number: u8, now: Timestamp) -> Duration {
        let first = self.arrivals[arrival as usize].service;
        let service = match self.again {
            Some(Again { seed, service, cv }) if 0 < number => {
                let stream = STREAM_AGAIN + (u64::from(arrival) << 8) + u64::from(number);
                service.mul_f64(Draw::new(seed, stream).lognormal(cv))
            }
            Some(_) | None => first,
        };
        service.mul_f64(self.slower(now))
    }

    /// The same with one more time of trouble.
    pub fn with(mut self, trouble: Trouble) -> Self {
        self.troubles.push(trouble);
        self
    }

    /// By which factor work started `now` takes longer.
    pub fn slower(&self, now: Timestamp) -> f64 {
        let is_on = |trouble: &&Trouble| trouble.from <= now && now < trouble.to;
        self.troubles.iter().filter(is_on).map(|trouble| trouble.slower).product()
    }
}

fn pick(load: &[f64; Tier::ALL.len()], mut point: f64) -> Tier {
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
    fn a_phase_brings_what_it_says_in_order() {
        let model = Model::default();
        let second = Duration::from_secs(1);
        let phases =
            [model.phase(10 * second, 1.0), model.phase(10 * second, 0.0), model.phase(10 * second, 3.0)];
        let workload = Workload::poisson(&model, &phases, 1);
        let between = |from, to| {
            let inside = |arrival: &&Arrival| (from..to).contains(&(arrival.at.as_nanos() / 1_000_000_000));
            workload.arrivals.iter().filter(inside).count() as f64 / 10.0 / model.capacity_per_s()
        };
        assert!((between(0, 10) - 1.0).abs() < 0.05, "{}", between(0, 10));
        assert!(between(10, 20) < 1e-9);
        assert!((between(20, 30) - 3.0).abs() < 0.1, "{}", between(20, 30));
        assert!(workload.arrivals.is_sorted_by_key(|arrival| arrival.at));
        let critical = workload.arrivals.iter().filter(|arrival| arrival.tier == Tier::Critical).count();
        let share = critical as f64 / workload.arrivals.len() as f64;
        assert!((share - 0.1).abs() < 0.01, "{share}");
        assert_eq!(workload.end, Timestamp::from_secs(30));
    }

    #[test]
    fn trouble_slows_what_starts_in_it() {
        let trouble = |from, to, slower| Trouble {
            from: Timestamp::from_secs(from),
            to: Timestamp::from_secs(to),
            slower,
        };
        let workload = Workload::default().with(trouble(1, 3, 4.0)).with(trouble(2, 5, 2.0));
        let found = [0, 1, 2, 3, 5].map(|second| workload.slower(Timestamp::from_secs(second)));
        assert_eq!(found.map(|factor| factor as u32), [1, 4, 8, 2, 1]);
    }
}
