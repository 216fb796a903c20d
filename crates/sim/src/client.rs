//! What callers do when they are refused or get no answer in time.

use std::time::Duration;

use crate::draw::Draw;

/// How callers try again.
///
/// # Units and limits
///
/// Pauses double from `pause`. A budget is a share of the successes, saved up to 100 attempts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Client {
    /// What it is called in tables.
    pub name: &'static str,
    /// How often it tries again.
    pub retries: u8,
    /// The first pause before it does.
    pub pause: Duration,
    /// Whether the pause is drawn from zero to its length.
    pub jitter: bool,
    /// Attempts it may make for each success, besides the first ones; `None` for as many as it likes.
    pub budget: Option<f64>,
    /// Whether it waits as long as a refusal asks.
    pub heeds: bool,
}

/// Attempts a budget holds at most, and the part of it that is there at the beginning.
const BUDGET_MAX: f64 = 100.0;
const BUDGET_FIRST: f64 = 10.0;

impl Client {
    /// It takes what it gets.
    pub const ONCE: Self = Self {
        name: "no retries",
        retries: 0,
        pause: Duration::from_millis(100),
        jitter: false,
        budget: None,
        heeds: false,
    };

    /// Three retries, in step with all others.
    pub const IN_STEP: Self = Self { name: "3 retries", retries: 3, ..Self::ONCE };

    /// Three retries, spread.
    pub const SPREAD: Self = Self { name: "3 retries, jitter", jitter: true, ..Self::IN_STEP };

    /// Three retries, in step, as far as a tenth of the successes allows.
    pub const THRIFTY: Self = Self { name: "3 retries, budget", budget: Some(0.1), ..Self::IN_STEP };

    /// As our own client does: spread, thrifty, and it comes back when it is asked to.
    pub const OURS: Self = Self { name: "our client", jitter: true, heeds: true, ..Self::THRIFTY };

    /// All of them.
    pub const ALL: [Self; 5] = [Self::ONCE, Self::IN_STEP, Self::SPREAD, Self::THRIFTY, Self::OURS];
}

/// The callers of a run, together: they share one budget.
#[derive(Debug)]
pub(crate) struct Clients {
    mode: Client,
    tokens: f64,
    draw: Draw,
}

impl Clients {
    pub(crate) fn new(mode: Client, seed: u64) -> Self {
        Self { mode, tokens: BUDGET_FIRST, draw: Draw::new(seed, 3) }
    }

    pub(crate) const fn gives_up_at_deadline(&self) -> bool {
        0 < self.mode.retries
    }

    pub(crate) fn succeeded(&mut self) {
        self.tokens = (self.tokens + self.mode.budget.unwrap_or_default()).min(BUDGET_MAX);
    }

    /// When to try again after the attempt `number`, the first being 0, if at all.
    pub(crate) fn retry(&mut self, number: u8, retry_after: Duration) -> Option<Duration> {
        if self.mode.retries <= number {
            return None;
        }
        if self.mode.budget.is_some() {
            if self.tokens < 1.0 {
                return None;
            }
            self.tokens -= 1.0;
        }
        let pause = self.mode.pause * 2u32.pow(u32::from(number));
        let pause = if self.mode.jitter { pause.mul_f64(self.draw.uniform()) } else { pause };
        Some(if self.mode.heeds { pause + retry_after } else { pause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_and_end() {
        let mut clients = Clients::new(Client::IN_STEP, 1);
        let pauses: Vec<_> = (0..4).map(|number| clients.retry(number, ASKED)).collect();
        let ms = |millis| Some(Duration::from_millis(millis));
        assert_eq!(pauses, [ms(100), ms(200), ms(400), None]);
        assert_eq!(Clients::new(Client::ONCE, 1).retry(0, ASKED), None);
    }

    #[test]
    fn a_budget_is_spent_and_earned() {
        let mut clients = Clients::new(Client::THRIFTY, 1);
        assert_eq!((0..20).filter(|_| clients.retry(0, ASKED).is_some()).count(), 10);
        (0..11).for_each(|_| clients.succeeded());
        assert!(clients.retry(0, ASKED).is_some());
        assert!(clients.retry(0, ASKED).is_none());
    }

    #[test]
    fn jitter_spreads_and_our_client_waits_as_it_is_asked_to() {
        let mut clients = Clients::new(Client::SPREAD, 1);
        let pauses: Vec<_> = (0..100).map(|_| clients.retry(0, ASKED).unwrap()).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(100)));
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(20)));
        let asked = Clients::new(Client::OURS, 1).retry(0, ASKED).unwrap();
        assert!((ASKED..=ASKED + Duration::from_millis(100)).contains(&asked));
    }
}
