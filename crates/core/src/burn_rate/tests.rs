//! Tests of burn rates; months with planted incidents are experiment E20 in `gemba-sim`.

use super::*;

/// A line observed each half minute.
struct Line {
    burn: BurnRate,
    total: Tally,
    now: Timestamp,
}

impl Line {
    fn new() -> Self {
        let now = Timestamp::from_secs(60);
        let mut burn = BurnRate::new(Objective::default(), now);
        assert_eq!(burn.observe(0, 0, now), None);
        Self { burn, total: Tally::default(), now }
    }

    fn half_minute(&mut self, failures: u64, outcomes: u64) -> Light {
        self.now = self.now + Duration::from_secs(30);
        self.total.add(Tally { failures, outcomes });
        let _ = self.burn.observe(self.total.failures, self.total.outcomes, self.now);
        self.burn.light()
    }

    /// Seconds until it is red at this share of failures, after a clean day.
    fn seconds_until_red(&mut self, share: f64) -> u64 {
        for _ in 0..2880 {
            assert_eq!(self.half_minute(0, 30_000), Light::Green);
        }
        let limit = 24 * 120;
        let halves = (1..=limit).find(|_| self.half_minute((30_000.0 * share) as u64, 30_000) == Light::Red);
        halves.map_or(u64::MAX, |halves| 30 * halves)
    }
}

#[test]
fn the_worse_it_is_the_sooner_it_is_told() {
    // Steady shares after a clean day; the long window of an hour has to reach 1.44 %.
    for (share, at_most) in [(1.0, 60), (0.3, 210), (0.173, 330), (0.05, 1_080), (0.02, 2_640)] {
        let seconds = Line::new().seconds_until_red(share);
        assert!(seconds <= at_most, "{share}: {seconds} s");
    }
}

#[test]
fn what_is_sustainable_is_never_told_and_what_is_not_gets_a_ticket() {
    let mut line = Line::new();
    for _ in 0..4 * 2880 {
        assert_eq!(line.half_minute(27, 30_000), Light::Green);
    }
    let mut line = Line::new();
    let lights: Vec<_> = (0..4 * 2880).map(|_| line.half_minute(45, 30_000)).collect();
    assert!(lights.contains(&Light::Yellow) && !lights.contains(&Light::Red));
}

#[test]
fn a_rate_that_is_just_reached_is_told_and_one_below_it_is_not() {
    // Of 10 000 a half minute: 144 are 14.4 times a budget of 0.1 %, 60 are 6 times, 10 are once.
    for (failures, light) in
        [(144, Light::Red), (60, Light::Red), (59, Light::Yellow), (10, Light::Yellow), (9, Light::Green)]
    {
        let mut line = Line::new();
        let lights: Vec<_> = (0..4 * 2880).map(|_| line.half_minute(failures, 10_000)).collect();
        assert_eq!(*lights.last().unwrap(), light, "{failures} of 10000");
        let reached = |share: u64| failures >= share;
        assert_eq!(lights.contains(&Light::Red), reached(60), "{failures} of 10000");
    }
}

#[test]
fn it_is_over_when_the_short_window_is_clean() {
    let mut line = Line::new();
    line.seconds_until_red(0.5);
    let halves = (1..1000).find(|_| line.half_minute(0, 30_000) == Light::Green).unwrap();
    // The pair of an hour forgets within six minutes, the one of six hours keeps it for half an hour.
    assert!(halves <= 64, "{halves}");
}

#[test]
fn one_failure_in_the_night_wakes_nobody() {
    let mut line = Line::new();
    for half in 0..2880 {
        let failures = u64::from(half % 300 == 0);
        assert_ne!(line.half_minute(failures, 1), Light::Red, "half minute {half}");
    }
}

#[test]
fn an_objective_leaves_a_budget() {
    for share in [0.89, 0.999_999_9, 1.0, f64::NAN] {
        assert!(Objective::new(share).is_err(), "{share}");
    }
    assert_eq!(Objective::new(0.999), Ok(Objective::default()));
}

#[test]
fn another_objective_is_held_against_what_was_counted() {
    let mut line = Line::new();
    // It burns four times too fast: a ticket.
    for _ in 0..120 {
        assert_ne!(line.half_minute(120, 30_000), Light::Red);
    }
    assert_eq!(line.burn.light(), Light::Yellow);
    line.burn.set_rules(Objective::new(0.9995).unwrap(), BurnRules::default());
    assert_eq!(line.half_minute(120, 30_000), Light::Red, "eight times too fast");
    line.burn.set_rules(Objective::new(0.9).unwrap(), BurnRules::default());
    assert_eq!(line.half_minute(120, 30_000), Light::Green, "a twenty-fifth of what may be");
    line.burn.set_rules(Objective::new(0.9).unwrap(), BurnRules::new(0.01, 0.01, 0.01, 1).unwrap());
    assert_eq!(line.half_minute(120, 30_000), Light::Red);
}
