//! How badly the gateway behaves: shares of failures and a distribution of delays, drawn from a seed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest delay that can be dialled.
pub const LATENCY_MS_MAX: u64 = 60_000;

/// What the dials stand at. The same dials, reference and attempt always behave the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Dials {
    /// Share of calls answered 500 without a charge, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub error_rate: f64,
    /// Share of charges declined, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub decline_rate: f64,
    /// Share of charges made but never answered, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub timeout_after_charge_rate: f64,
    /// Median delay before a charge, in milliseconds.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=LATENCY_MS_MAX))]
    pub latency_ms_p50: u64,
    /// 99th percentile of the delay, in milliseconds; at least the median.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=LATENCY_MS_MAX))]
    pub latency_ms_p99: u64,
    /// What the draws begin with.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Default for Dials {
    fn default() -> Self {
        Self {
            error_rate: 0.0,
            decline_rate: 0.0,
            timeout_after_charge_rate: 0.0,
            latency_ms_p50: 0,
            latency_ms_p99: 0,
            seed: 0,
        }
    }
}

/// What happens to a call that is not on record yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered 500; nothing is charged.
    Error,
    /// Declined, with this code.
    Decline(&'static str),
    /// Charged and answered.
    Charge,
    /// Charged and not answered.
    ChargeThenSilence,
}

impl Dials {
    /// Which dial is set to what it cannot be.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let shares = [self.error_rate, self.decline_rate, self.timeout_after_charge_rate];
        if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            Some("a rate is not a share from 0 to 1")
        } else if LATENCY_MS_MAX < self.latency_ms_p50.max(self.latency_ms_p99) {
            Some("a latency is above 60000 ms")
        } else {
            None
        }
    }

    /// What happens to this attempt.
    pub(crate) fn fate(&self, reference: &str, attempt: i64, token: &str) -> Fate {
        if self.draw("error", reference, attempt) < self.error_rate {
            return Fate::Error;
        }
        match token {
            "tok_declined" => Fate::Decline("card_declined"),
            "tok_timeout_after_charge" => Fate::ChargeThenSilence,
            // Whether a card is good for a charge does not change with the attempt.
            "tok_ok" | "tok_slow" if self.draw("decline", reference, 0) < self.decline_rate => {
                Fate::Decline("do_not_honor")
            }
            "tok_ok" | "tok_slow"
                if self.draw("silence", reference, attempt) < self.timeout_after_charge_rate =>
            {
                Fate::ChargeThenSilence
            }
            "tok_ok" | "tok_slow" => Fate::Charge,
            _ => Fate::Decline("invalid_token"),
        }
    }

    /// How long a new reference is worked on before it is decided.
    pub(crate) fn latency(&self, reference: &str) -> Duration {
        /// The 99th percentile of the standard normal distribution.
        const Z99: f64 = 2.326;
        if self.latency_ms_p50 == 0 {
            return Duration::ZERO;
        }
        let (median, p99) = (self.latency_ms_p50 as f64, self.latency_ms_p99.max(self.latency_ms_p50) as f64);
        let spread = (p99 / median).ln() / Z99;
        let turn = self.draw("turn", reference, 0) * std::f64::consts::TAU;
        // One minus a share below one is above zero, so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.draw("radius", reference, 0)).ln()).sqrt();
        let millis = median * (spread * radius * turn.cos()).exp();
        Duration::from_secs_f64(millis.min(LATENCY_MS_MAX as f64) / 1e3)
    }

    /// A share from 0 to below 1.
    fn draw(&self, what: &str, reference: &str, attempt: i64) -> f64 {
        let mut digest = Sha256::new();
        digest.update(self.seed.to_be_bytes());
        digest.update(attempt.to_be_bytes());
        digest.update(what.as_bytes());
        digest.update(reference.as_bytes());
        let bytes: [u8; 32] = digest.finalize().into();
        let number = u64::from_be_bytes(bytes[..8].try_into().expect("a digest has 32 bytes"));
        // 53 bits are what a float holds without rounding up to 1.
        (number >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "give a share from 0 to 1, such as 0.05".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: u32 = 4_000;

    fn share_of(dials: &Dials, wanted: Fate) -> f64 {
        let hits = (0..CALLS).filter(|n| dials.fate(&format!("r{n}"), 1, "tok_ok") == wanted).count();
        hits as f64 / f64::from(CALLS)
    }

    #[test]
    fn each_rate_is_kept_and_a_seed_repeats_itself() {
        let dials =
            Dials { error_rate: 0.1, decline_rate: 0.2, timeout_after_charge_rate: 0.3, ..Dials::default() };
        assert!((share_of(&dials, Fate::Error) - 0.1).abs() < 0.02);
        assert!((share_of(&dials, Fate::Decline("do_not_honor")) - 0.9 * 0.2).abs() < 0.02);
        assert!((share_of(&dials, Fate::ChargeThenSilence) - 0.9 * 0.8 * 0.3).abs() < 0.02);
        let other = Dials { seed: 1, ..dials.clone() };
        let fates =
            |dials: &Dials| (0..200).map(|n| dials.fate(&n.to_string(), 1, "tok_ok")).collect::<Vec<_>>();
        assert_eq!(fates(&dials), fates(&dials.clone()));
        assert_ne!(fates(&dials), fates(&other));
    }

    #[test]
    fn the_test_tokens_do_what_they_say() {
        let dials = Dials::default();
        for (token, fate) in [
            ("tok_ok", Fate::Charge),
            ("tok_slow", Fate::Charge),
            ("tok_declined", Fate::Decline("card_declined")),
            ("tok_timeout_after_charge", Fate::ChargeThenSilence),
            ("tok_of_nobody", Fate::Decline("invalid_token")),
        ] {
            assert_eq!(dials.fate("r", 1, token), fate, "{token}");
        }
    }

    #[test]
    fn delays_have_the_dialled_percentiles() {
        let dials = Dials { latency_ms_p50: 20, latency_ms_p99: 80, ..Dials::default() };
        let mut millis: Vec<f64> =
            (0..CALLS).map(|n| dials.latency(&format!("r{n}")).as_secs_f64() * 1e3).collect();
        millis.sort_unstable_by(f64::total_cmp);
        let (p50, p99) = (millis[CALLS as usize / 2], millis[CALLS as usize * 99 / 100]);
        assert!((18.0..22.0).contains(&p50), "{p50}");
        assert!((68.0..95.0).contains(&p99), "{p99}");
        assert_eq!(Dials::default().latency("r"), Duration::ZERO);
    }

    #[test]
    fn a_dial_outside_its_range_is_a_mistake() {
        assert_eq!(Dials::default().mistake(), None);
        assert!(Dials { error_rate: 1.1, ..Dials::default() }.mistake().is_some());
        assert!(Dials { decline_rate: f64::NAN, ..Dials::default() }.mistake().is_some());
        assert!(Dials { latency_ms_p99: LATENCY_MS_MAX + 1, ..Dials::default() }.mistake().is_some());
        for (text, sound) in [("0", true), ("1", true), ("1.01", false), ("-0.1", false), ("NaN", false)] {
            assert_eq!(share(text).is_ok(), sound, "{text}");
        }
    }
}
