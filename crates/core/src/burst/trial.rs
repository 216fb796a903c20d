//! Bursts among random arrivals in virtual time: how soon each is seen, and how often there is none (E12).

use std::f64::consts::TAU;
use std::time::Duration;

use super::*;

/// How often a detector looks.
const LOOK: Duration = Duration::from_millis(250);

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.next()).ln()).sqrt() * (TAU * self.next()).cos()
    }

    /// How many come if `mean` are to be expected (Poisson; above 30 the normal distribution, rounded).
    fn arrivals(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.next(), 0);
        while limit < product {
            product *= self.next();
            count += 1;
        }
        count
    }
}

struct Traffic {
    burst: Burst,
    dice: Dice,
    arrived: u64,
    now: Timestamp,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        let burst = Burst::new(BurstRules::default(), Timestamp::START);
        Self { burst, dice: Dice(seed), arrived: 0, now: Timestamp::START }
    }

    /// Lets a moment pass in which `per_s` come on average; says whether a surge began.
    fn look(&mut self, per_s: f64) -> bool {
        self.now = self.now + LOOK;
        self.arrived += self.dice.arrivals(per_s * LOOK.as_secs_f64());
        let change = self.burst.observe(self.arrived, false, self.now);
        matches!(change, Some(SurgeChange::Started { .. }))
    }

    /// Seconds until a rise to `factor` times `usual` within `ramp` seconds is seen, if it is within 60 s
    /// after it.
    fn seen_after(&mut self, usual: f64, factor: f64, ramp: f64) -> Option<f64> {
        for _ in 0..1200 {
            assert!(!self.look(usual), "a burst among {usual} a second");
        }
        let looks = ((ramp + 60.0) / LOOK.as_secs_f64()) as u32;
        let begin = self.now;
        (0..looks).find_map(|_| {
            let at = (self.now.since(begin) + LOOK).as_secs_f64();
            let risen = if ramp > 0.0 { (at / ramp).min(1.0) } else { 1.0 };
            self.look(usual * (1.0 + (factor - 1.0) * risen)).then_some(at)
        })
    }
}

#[test]
fn every_burst_of_three_times_and_more_is_seen_in_time() {
    for (factor, ramp, within) in [
        (3.0, 0.0, 2.0),
        (10.0, 0.0, 1.0),
        (10.0, 60.0, 15.0),
        (3.0, 5.0, 60.0),
        (3.0, 10.0, 60.0),
        (3.0, 60.0, 120.0),
        (5.0, 10.0, 60.0),
        (50.0, 60.0, 60.0),
    ] {
        for (seed, usual) in (1..=60).zip([50.0, 100.0, 300.0, 1000.0].into_iter().cycle()) {
            let seen = Traffic::new(seed).seen_after(usual, factor, ramp);
            assert!(
                seen.is_some_and(|seen| seen <= within),
                "{factor} times {usual} over {ramp} s, seed {seed}: {seen:?}"
            );
        }
    }
}

#[test]
fn twice_the_usual_is_no_burst() {
    for seed in 1..=20 {
        assert_eq!(Traffic::new(seed).seen_after(200.0, 2.0, 0.0), None, "seed {seed}");
    }
}

#[test]
fn a_month_of_days_and_nights_has_no_burst() {
    // A day between 2 and 200 a second, each minute off by a tenth besides, and chance in each moment.
    let mut traffic = Traffic::new(1);
    let mut bursts = 0;
    for minute in 0..30 * 24 * 60 {
        let day = TAU * f64::from(minute) / (24.0 * 60.0);
        let usual = 2.0 + 99.0 * (1.0 - day.cos());
        let noisy = usual * (0.1 * traffic.dice.normal()).exp();
        bursts += (0..240).filter(|_| traffic.look(noisy)).count();
    }
    assert!(bursts <= 1, "{bursts} bursts");
}
