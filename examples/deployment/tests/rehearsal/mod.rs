//! Deliveries in virtual time, with the rules that a fleet has when it says nothing of them: how often one that does no
//! harm is taken back, and how soon one that does.

use std::time::Duration;

use gemba::rollout::Side;
use gemba::sim::draw::Draw;
use gemba::time::Timestamp;
use gemba_deployment::care::{Care, LOOK};
use gemba_deployment::delivery::{Delivery, Outcome};

/// Requests a second, of both versions together: a canary of 5 % has ten.
pub(crate) const RATE: u64 = 200;

/// What a version does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    /// The share of its requests that fail.
    pub(crate) failing: f64,
    /// The share of its successes that take 20 ms, while the others take 5 ms, and how many times as long they take.
    pub(crate) slow: f64,
    pub(crate) slower: f64,
}

/// What runs today: one request in a thousand fails, and two in a hundred are slow.
pub(crate) const TODAY: Version = Version { failing: 0.001, slow: 0.02, slower: 1.0 };

/// One in a hundred fails already: against that, ten failures of a hundred say less.
pub(crate) const AILING: Version = Version { failing: 0.01, ..TODAY };

impl Version {
    fn latency(self, draw: &mut Draw) -> Duration {
        let ms = if draw.uniform() < self.slow { 20.0 * self.slower } else { 5.0 };
        // Each takes a little more or less: a coefficient of variation of a fifth.
        Duration::from_secs_f64(ms * draw.lognormal(0.2) / 1e3)
    }
}

/// How a delivery in one region ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Why it was taken back, if it was.
    pub(crate) back: Option<String>,
    /// How many seconds after the first request of the canary.
    pub(crate) after_s: u64,
    /// Requests that it got until then, of all there were.
    pub(crate) saw: f64,
}

/// Delivers `next` where `today` runs. The same seed and number give the same delivery.
pub(crate) fn deliver(today: Version, next: Version, seed: u64, number: u64) -> Ended {
    let mut draw = Draw::new(seed, number);
    let rules = Care::default().rules().expect("the defaults are sound");
    let at = |second: u64| Timestamp::from_secs(second * LOOK.as_secs());
    let mut delivery = Delivery::begin("1", "api", (Some("v1"), "v2"), ["one".to_owned()], rules, 0);
    let _begun = delivery.started(at(0));
    let (mut got, mut all) = (0, 0);
    // Its stages and its time to bake take twenty minutes; held, it may take longer.
    for second in 1..=3_600 {
        let Some(share) = delivery.rollout().map(gemba::rollout::Rollout::share) else { break };
        let new = draw.hits(RATE, share);
        (got, all) = (got + new, all + RATE);
        for (side, version, requests) in [(Side::Candidate, next, new), (Side::Baseline, today, RATE - new)] {
            let failures = draw.hits(requests, version.failing);
            let latencies: Vec<_> = (failures..requests).map(|_| version.latency(&mut draw)).collect();
            delivery.observe(side, failures, requests, latencies.into_iter());
        }
        let _step = delivery.look(at(second));
        if delivery.outcome.is_over() {
            let back = match &delivery.outcome {
                Outcome::RolledBack { why } => Some(why.clone()),
                Outcome::Running | Outcome::Succeeded => None,
            };
            return Ended { back, after_s: second, saw: got as f64 / all as f64 };
        }
    }
    Ended { back: Some("it was never over".to_owned()), after_s: 3_600, saw: got as f64 / all as f64 }
}
