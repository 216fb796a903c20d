//! Experiment E20: thirty synthetic days with planted incidents, replayed.

use super::*;

/// Draws from a seed (splitmix64).
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Roughly how many of `n` fail: the binomial's mean and deviation.
    fn failures(&mut self, n: f64, share: f64) -> u64 {
        let spread = (n * share * (1.0 - share)).sqrt() * 3f64.sqrt() * (2.0 * self.uniform() - 1.0);
        (n * share + spread + self.uniform()).clamp(0.0, n) as u64
    }
}

/// Something that goes wrong on a synthetic day.
#[derive(Debug, Clone, Copy)]
struct Planted {
    from_min: u64,
    minutes: u64,
    share: f64,
    /// Whether someone has to be paged: it burns more than 2 % of the budget within an hour.
    pages: bool,
}

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
fn thirty_days_are_judged_with_precision_and_recall_of_at_least_95_percent() {
    let (mut planted_pages, mut found, mut pages, mut right) = (0, 0, 0, 0);
    for seed in 0..4 {
        let mut draws = Draws(seed);
        let month = plan(&mut draws);
        let mut line = Line::new();
        let mut was_red = false;
        let mut heard = vec![false; month.len()];
        for half in 0..30 * 2880 {
            let minute = half / 2;
            // A day has its tide: from 20 to 100 signals a second.
            let tide = 60.0 - 40.0 * (std::f64::consts::TAU * minute as f64 / 1440.0).cos();
            let wrong = month.iter().find(|p| (p.from_min..p.from_min + p.minutes).contains(&minute));
            let failures = draws.failures(30.0 * tide, wrong.map_or(0.0002, |p| p.share));
            let is_red = line.half_minute(failures, (30.0 * tide) as u64) == Light::Red;
            if is_red && !was_red {
                pages += 1;
                // A page belongs to an incident until the short window has forgotten it.
                let of =
                    month.iter().position(|p| (p.from_min..p.from_min + p.minutes + 6).contains(&minute));
                if let Some(of) = of.filter(|of| month[*of].pages) {
                    right += 1;
                    heard[of] = true;
                }
            }
            was_red = is_red;
        }
        planted_pages += month.iter().filter(|p| p.pages).count();
        found += heard.iter().zip(&month).filter(|(heard, p)| p.pages && **heard).count();
    }
    let (precision, recall) = (f64::from(right) / f64::from(pages), found as f64 / planted_pages as f64);
    assert!(0.95 <= precision && 0.95 <= recall, "precision {precision}, recall {recall}");
    assert!(40 <= planted_pages, "{planted_pages} planted incidents show nothing");
}

/// A month with incidents that must page, and blips and weak spells that must not, six hours apart.
fn plan(draws: &mut Draws) -> Vec<Planted> {
    (0..60)
        .map(|slot| {
            let from_min = 720 * slot + draws.between(0.0, 300.0) as u64;
            let (minutes, share, pages) = match (4.0 * draws.uniform()) as u32 {
                // At least 4 % of failures for 40 minutes, to a full outage for six.
                0 => {
                    let share = draws.between(0.04, 1.0);
                    let minutes = (60.0 * 0.0144 * draws.between(1.8, 4.0) / share).clamp(6.0, 60.0);
                    (minutes as u64 + 1, share, true)
                }
                // A blip of a minute that uses less than 0.1 % of the month's budget.
                1 => (1, draws.between(0.005, 0.04), false),
                // Half an hour at three times what is sustainable.
                2 => (30, 0.003, false),
                _ => (0, 0.0, false),
            };
            Planted { from_min, minutes, share, pages }
        })
        .collect()
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
