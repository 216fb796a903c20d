//! Random numbers from a seed: the same on every machine.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A stream of draws.
///
/// Logarithms and the like come from `libm`, because those of the platform differ in the last bit.
#[derive(Debug, Clone)]
pub struct Draw(Pcg64);

impl Draw {
    /// The stream `number` of `seed`: streams of one seed have nothing to do with each other.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut state = [0; 32];
        for (place, value) in [seed, number, !seed, number.rotate_left(32)].into_iter().enumerate() {
            state[place * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let mut generator = Pcg64::from_seed(state);
        // Seeds that differ in one bit begin alike.
        for _ in 0..8 {
            generator.next_u64();
        }
        Self(generator)
    }

    /// Evenly between 0 and 1, neither of them included.
    pub fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Exponential with mean 1: the pause between two arrivals of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.uniform())
    }

    /// Normal with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        let (radius, turn) = (self.exponential(), self.uniform());
        libm::sqrt(2.0 * radius) * libm::cos(std::f64::consts::TAU * turn)
    }

    /// A whole number below `sides`.
    pub fn below(&mut self, sides: u64) -> u64 {
        ((self.uniform() * sides as f64) as u64).min(sides - 1)
    }

    /// How many come where `mean` are to be expected: Poisson; above 30 the normal distribution, rounded.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if 30.0 < mean {
            return libm::round(mean + libm::sqrt(mean) * self.normal()).max(0.0) as u64;
        }
        let (limit, mut product, mut count) = (libm::exp(-mean), self.uniform(), 0);
        while limit < product {
            product *= self.uniform();
            count += 1;
        }
        count
    }

    /// How many of `n` are hit, each with this chance: binomial; above 30 the normal distribution, rounded.
    pub fn hits(&mut self, n: u64, chance: f64) -> u64 {
        let mean = n as f64 * chance;
        if 30.0 < mean {
            let hits = mean + libm::sqrt(mean * (1.0 - chance)) * self.normal();
            return (libm::round(hits).max(0.0) as u64).min(n);
        }
        let (mut left, odds) = (self.uniform(), chance / (1.0 - chance));
        let mut exactly = libm::pow(1.0 - chance, n as f64);
        let mut hits = 0;
        while exactly <= left && hits < n {
            left -= exactly;
            hits += 1;
            exactly *= odds * (n - hits + 1) as f64 / hits as f64;
        }
        hits
    }

    /// Lognormal with mean 1 and the coefficient of variation `cv`.
    pub fn lognormal(&mut self, cv: f64) -> f64 {
        let variance = libm::log1p(cv * cv);
        libm::exp(libm::sqrt(variance) * self.normal() - variance / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..100_000).map(|_| draw()).sum::<f64>() / 100_000.0
    }

    #[test]
    fn draws_have_the_means_and_spreads_they_should() {
        let mut draw = Draw::new(7, 0);
        let within =
            |value: f64, expected: f64| assert!((value - expected).abs() < 0.03, "{value} for {expected}");
        within(mean(|| draw.uniform()), 0.5);
        within(mean(|| draw.exponential()), 1.0);
        within(mean(|| draw.normal()), 0.0);
        within(mean(|| draw.normal().powi(2)), 1.0);
        within(mean(|| draw.lognormal(1.0)), 1.0);
        within(mean(|| (draw.lognormal(0.5) - 1.0).powi(2)), 0.25);
        within(mean(|| draw.lognormal(0.0)), 1.0);
        within(mean(|| draw.below(3) as f64), 1.0);
        for expected in [0.1, 3.0, 50.0] {
            within(mean(|| draw.poisson(expected) as f64 / expected), 1.0);
            within(mean(|| (draw.poisson(expected) as f64 - expected).powi(2) / expected), 1.0);
            within(mean(|| draw.hits(500, expected / 500.0) as f64 / expected), 1.0);
        }
    }

    #[test]
    fn a_stream_is_given_by_its_seed_and_number() {
        let first = |seed, number| Draw::new(seed, number).uniform().to_bits();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(2, 1));
        assert_ne!(first(1, 2), first(1, 3));
    }
}
