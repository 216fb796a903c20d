//! Tests of A/B tests; the 4000 simulated ones of experiment E21 are in `examples/ab_test.rs`.

use super::*;

/// Draws from a seed (splitmix64, Box–Muller).
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-normal with coefficient of variation 1 and this median in milliseconds.
    fn latency(&mut self, median_ms: f64) -> Duration {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        Duration::from_secs_f64(median_ms / 1e3 * (std::f64::consts::LN_2.sqrt() * normal).exp())
    }
}

fn test(rules: AbRules) -> AbTest {
    AbTest::new("test".parse().unwrap(), rules)
}

/// Runs a test to its end; each arm has its median in milliseconds and its share of failures.
fn run(seed: u64, rules: AbRules, a: (f64, f64), b: (f64, f64)) -> (Verdict, u64) {
    let mut test = test(rules);
    let mut draws = Draws(seed);
    while !test.verdict().is_final() {
        for (arm, (median_ms, failing)) in [(Arm::A, a), (Arm::B, b)] {
            let latency = draws.latency(median_ms);
            test.observe(arm, latency, failing <= draws.uniform());
        }
    }
    (test.verdict(), test.samples()[0])
}

#[test]
fn a_key_stays_on_its_arm_and_tests_split_keys_independently() {
    let one = AbTest::new("one".parse().unwrap(), AbRules::default());
    let two = AbTest::new("two".parse().unwrap(), AbRules::default());
    let quarter = AbTest::new("one".parse().unwrap(), AbRules::builder().share_b(0.25).build().unwrap());
    let keys: Vec<_> = (0..10_000u32).map(u32::to_le_bytes).collect();
    let count = |arm: &dyn Fn(&[u8]) -> bool| keys.iter().filter(|key| arm(&key[..])).count();
    let halves = count(&|key| one.assign(key) == Arm::B);
    let both = count(&|key| one.assign(key) == Arm::B && two.assign(key) == Arm::B);
    let quarters = count(&|key| quarter.assign(key) == Arm::B);
    for (found, expected) in [(halves, 5_000), (both, 2_500), (quarters, 2_500)] {
        assert!(found.abs_diff(expected) < 200, "{found} of 10000, about {expected} were due");
    }
    assert!(keys.iter().all(|key| quarter.assign(key) == Arm::A || one.assign(key) == Arm::B));
}

#[test]
fn nothing_is_said_before_the_least_number_of_samples() {
    let mut test = test(AbRules::default());
    for n in 0..1_000 {
        assert_eq!(test.verdict(), Verdict::Open { missing: 1_000 - n });
        assert_eq!(test.effect(Measure::Latency), None);
        // B is ten times as fast without any scatter: still too few to say so.
        test.observe(Arm::A, Duration::from_millis(100), true);
        test.observe(Arm::B, Duration::from_millis(10), true);
    }
    assert!(matches!(test.verdict(), Verdict::Winner { arm: Arm::B, by: Measure::Latency, .. }));
    let effect = test.effect(Measure::Latency).unwrap();
    assert!((effect.estimate + 0.9).abs() < 1e-9, "{effect:?}");
}

#[test]
fn equal_arms_have_no_winner_and_a_planted_difference_is_found_in_its_direction() {
    let rules = AbRules::default();
    let runs = 60;
    let (mut false_winners, mut found) = (0, 0);
    for seed in 0..runs {
        if let (Verdict::Winner { .. } | Verdict::Tradeoff { .. }, _) =
            run(seed, rules, (35.0, 0.01), (35.0, 0.01))
        {
            false_winners += 1;
        }
        // The faster arm in turns: a rule that always says B would be found out.
        let faster = if seed % 2 == 0 { Arm::A } else { Arm::B };
        let median = |arm| if arm == faster { 35.0 } else { 35.0 * 1.05 };
        if let (Verdict::Winner { arm, .. }, samples) =
            run(runs + seed, rules, (median(Arm::A), 0.01), (median(Arm::B), 0.01))
        {
            assert_eq!(arm, faster, "seed {seed}");
            assert!(samples <= rules.samples_max());
            found += 1;
        }
    }
    // 5 % of 60 are 3, and 4 in 60 are not yet a contradiction; 80 % are 48.
    assert!(false_winners <= 4, "{false_winners} false winners in {runs}");
    assert!(48 <= found, "{found} of {runs} found");
}

#[test]
fn an_arm_that_succeeds_more_often_wins_and_one_that_is_faster_but_fails_is_a_tradeoff() {
    let rules = AbRules::default();
    let (verdict, _) = run(1, rules, (35.0, 0.10), (35.0, 0.02));
    assert!(matches!(verdict, Verdict::Winner { arm: Arm::B, by: Measure::Success, .. }), "{verdict:?}");
    let (verdict, _) = run(2, rules, (35.0, 0.01), (10.0, 0.30));
    assert_eq!(verdict, Verdict::Tradeoff { faster: Arm::B });
}

#[test]
fn failing_fast_is_not_faster() {
    // Half of B fails at once, what succeeds takes as long as with A: B loses by its failures.
    let mut test = test(AbRules::default());
    let mut draws = Draws(3);
    while !test.verdict().is_final() {
        let latency = draws.latency(35.0);
        test.observe(Arm::A, latency, true);
        let fails = draws.uniform() < 0.5;
        let latency = if fails { Duration::from_micros(10) } else { draws.latency(35.0) };
        test.observe(Arm::B, latency, !fails);
    }
    let verdict = test.verdict();
    assert!(matches!(verdict, Verdict::Winner { arm: Arm::A, by: Measure::Success, .. }), "{verdict:?}");
}

#[test]
fn an_arm_that_never_succeeds_loses_at_the_end() {
    let rules = AbRules::builder().samples(100, 500).build().unwrap();
    let (verdict, samples) = run(4, rules, (35.0, 0.0), (35.0, 1.0));
    assert!(matches!(verdict, Verdict::Winner { arm: Arm::A, by: Measure::Success, .. }), "{verdict:?}");
    assert_eq!(samples, 500);
}

#[test]
fn arms_without_scatter_and_without_difference_differ_in_nothing() {
    let mut test = test(AbRules::default());
    while !test.verdict().is_final() {
        test.observe(Arm::A, Duration::from_millis(10), true);
        test.observe(Arm::B, Duration::from_millis(10), true);
    }
    assert_eq!(test.verdict(), Verdict::NoDifference);
}

#[test]
fn a_final_verdict_stays() {
    let mut test = test(AbRules::builder().samples(100, 10_000).build().unwrap());
    while !test.verdict().is_final() {
        test.observe(Arm::A, Duration::from_millis(10), true);
        test.observe(Arm::B, Duration::from_millis(20), true);
    }
    let (verdict, samples) = (test.verdict(), test.samples());
    assert!(verdict.to_string().starts_with("A wins by latency: B against A +100.0 %"), "{verdict}");
    assert!((0..100u8).all(|key| test.arm(&[key]) == Arm::A), "the winner takes all");
    assert!(matches!(verdict, Verdict::Winner { arm: Arm::A, .. }), "{verdict:?}");
    for _ in 0..10_000 {
        test.observe(Arm::A, Duration::from_secs(10), false);
    }
    assert_eq!((test.verdict(), test.samples()), (verdict, samples));
    let mut restored: AbTest = serde_json::from_str(&serde_json::to_string(&test).unwrap()).unwrap();
    restored.observe(Arm::B, Duration::from_millis(1), true);
    assert!(matches!(restored.verdict(), Verdict::Winner { arm: Arm::A, .. }), "it outlives a restart");
    assert_eq!(restored.samples(), samples);
}

#[test]
fn the_interval_is_the_one_of_the_formula() {
    // By hand: variance 0.01, typical 0.1, so both are equal: sqrt(2 · 0.02 · (0.5 · ln 2 − ln 0.05)).
    assert!((half_width(0.01, 0.1, 0.05) - 0.365_62).abs() < 1e-4);
}

#[test]
fn at_the_end_an_arm_does_not_win_by_one_measure_while_the_other_leans_away_from_it() {
    let rules = AbRules::default();
    let effect = |estimate, half| Effect { estimate, low: estimate - half, high: estimate + half };
    let margin = rules.latency_effect().ln_1p();
    // B takes 4 % less time, as far as one can tell; that is not certain.
    let latency = Evidence::new(effect(-0.04, 0.06), margin).reversed();
    assert_eq!(latency.better, None);
    assert!(latency.leans_from(Arm::A) && !latency.leans_from(Arm::B));
    let even = Evidence::new(effect(-0.01, 0.06), margin).reversed();
    assert!(!even.leans_from(Arm::A) && !even.leans_from(Arm::B));
}
