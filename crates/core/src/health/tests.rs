//! What a node says of its health, answer by answer.

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;

const PERIOD: Duration = Duration::from_secs(5);

/// Checks with these weights, asked every five seconds.
struct Node {
    health: Health,
    now: Timestamp,
}

impl Node {
    fn new(weights: &[u32]) -> Self {
        let check = |(index, weight): (usize, &u32)| {
            let name = format!("c{index}").parse().unwrap();
            CheckRules { weight: *weight, ..CheckRules::new(name) }
        };
        let checks = weights.iter().enumerate().map(check).collect();
        let now = Timestamp::from_secs(100);
        let rules = HealthRules::builder().build().unwrap();
        Self { health: Health::new(rules, checks, now).unwrap(), now }
    }

    /// One look: what each check finds; `None` is no answer.
    fn hear(&mut self, answers: &[Option<bool>]) -> Vec<String> {
        self.now = self.now + PERIOD;
        for (check, answer) in answers.iter().enumerate() {
            if let Some(passes) = answer {
                let found = if *passes { Ok("fine".into()) } else { Err("broken".into()) };
                self.health.note(check, found, Duration::from_millis(1), self.now);
            }
        }
        let word = |change: &Change| match change {
            Change::Check { check, failing, .. } => {
                format!("{check} {}", if *failing { "fails" } else { "passes" })
            }
            Change::Node { from, to, .. } => format!("{from} → {to}"),
        };
        self.health.look(self.now).iter().map(word).collect()
    }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[test]
fn nothing_is_known_before_every_check_has_answered_and_of_no_check_nothing_ever_is() {
    let mut node = Node::new(&[1, 1]);
    assert!(node.hear(&[YES, None]).is_empty());
    assert_eq!(node.health.state(), HealthState::Unknown);
    assert!(node.hear(&[YES, YES]).is_empty(), "well from the start is no news");
    assert_eq!(node.health.state(), HealthState::Healthy);
    let mut idle = Node::new(&[]);
    assert!(idle.hear(&[]).is_empty());
    assert_eq!(idle.health.state(), HealthState::Unknown);
}

#[test]
fn half_of_the_weight_may_fail_and_more_than_half_degrades() {
    for (weights, failing, degraded) in [
        (&[1, 1][..], 1, false),
        (&[1, 1, 1], 1, false),
        (&[1, 1, 1], 2, true),
        (&[3, 1, 1], 1, true),
        (&[501, 500], 1, true),
        (&[500, 500], 1, false),
    ] {
        let mut node = Node::new(weights);
        let answers: Vec<_> = (0..weights.len()).map(|check| Some(failing <= check)).collect();
        node.hear(&answers);
        assert_eq!(node.health.state() == HealthState::Degraded, degraded, "{failing} of {weights:?}");
    }
}

#[test]
fn a_check_that_must_pass_degrades_alone() {
    let now = Timestamp::from_secs(1);
    let must = CheckRules { must_pass: true, ..CheckRules::new("disk".parse().unwrap()) };
    let other = CheckRules { weight: 1000, ..CheckRules::new("other".parse().unwrap()) };
    let rules = HealthRules::builder().build().unwrap();
    let mut health = Health::new(rules, vec![must, other], now).unwrap();
    health.note(0, Err("full".into()), Duration::ZERO, now);
    health.note(1, Ok("fine".into()), Duration::ZERO, now);
    assert_eq!(health.look(now).len(), 2);
    assert_eq!(health.state(), HealthState::Degraded);
}

#[test]
fn one_answer_changes_nothing_and_a_second_does() {
    let mut node = Node::new(&[1, 1, 1]);
    node.hear(&[YES, YES, YES]);
    assert!(node.hear(&[NO, NO, NO]).is_empty());
    assert!(node.hear(&[YES, YES, YES]).is_empty());
    assert!(node.hear(&[NO, NO, YES]).is_empty());
    assert_eq!(node.hear(&[NO, NO, YES]), ["c0 fails", "c1 fails", "healthy → degraded"]);
    assert!(node.hear(&[YES, NO, YES]).is_empty(), "and not back at once");
    assert_eq!(node.hear(&[YES, NO, YES]), ["c0 passes", "degraded → healthy"]);
}

#[test]
fn a_check_that_no_longer_answers_fails_and_is_still_listened_to_when_degraded() {
    let mut node = Node::new(&[1]);
    node.hear(&[YES]);
    assert!(node.hear(&[None]).is_empty());
    assert!(node.hear(&[None]).is_empty());
    assert!(node.hear(&[None]).is_empty(), "15 s are not more than 15 s");
    assert_eq!(node.hear(&[None]), ["c0 fails", "healthy → degraded"]);
    assert!(node.hear(&[YES]).is_empty());
    assert_eq!(node.hear(&[YES]), ["c0 passes", "degraded → healthy"]);
}

#[test]
fn a_new_life_of_the_monitor_takes_no_silence_for_a_failure() {
    let mut node = Node::new(&[1]);
    node.hear(&[YES]);
    node.now = node.now + Duration::from_secs(600);
    node.health.begin(node.now);
    assert!(node.hear(&[None]).is_empty());
    assert_eq!(node.health.state(), HealthState::Healthy);
}

#[test]
fn rules_that_cannot_be_are_refused_all_at_once() {
    let errors = HealthRules::builder()
        .every(Duration::ZERO, Duration::ZERO)
        .confirm(0)
        .degraded_above_milli(1000)
        .build()
        .unwrap_err();
    assert_eq!(errors.0.len(), 3, "{errors}");
    let rules = HealthRules::builder().build().unwrap();
    let slow = CheckRules { within: 2 * PERIOD, weight: 0, ..CheckRules::new("slow".parse().unwrap()) };
    let errors = rules.admits(&[slow.clone(), slow]).unwrap_err();
    assert_eq!(errors.0.len(), 5, "{errors}");
}

proptest! {
    #[test]
    fn the_node_is_degraded_exactly_when_more_than_half_of_the_weight_fails(
        weights in vec(1u32..=1000, 1..8), looks in vec(vec(any::<bool>(), 8), 1..20),
    ) {
        let mut node = Node::new(&weights);
        for look in looks {
            let answers: Vec<_> = look.into_iter().map(Some).collect();
            node.hear(&answers[..weights.len()]);
            let view = node.health.view(node.now);
            let failing: u32 = view.checks.iter().filter(|check| check.state == CheckState::Failing).map(|check| check.weight).sum();
            let all: u32 = weights.iter().sum();
            prop_assert_eq!(view.state == HealthState::Degraded, all < 2 * failing);
            prop_assert!(view.failing_ratio <= 1.0);
        }
    }
}

#[test]
fn other_rules_are_refused_where_a_check_does_not_fit_and_count_from_the_next_look() {
    let mut node = Node::new(&[1, 1, 1]);
    node.hear(&[YES, YES, YES]);
    let told: Vec<_> = [[NO, YES, YES], [NO, YES, YES]].iter().flat_map(|heard| node.hear(heard)).collect();
    assert_eq!(told, ["c0 fails"], "a third of the weight");
    let short = HealthRules::builder().every(Duration::from_millis(99), PERIOD).build().unwrap();
    let error = node.health.set_rules(short).unwrap_err();
    assert_eq!(error.0.len(), 3, "each check may take 100 ms: {error}");
    assert_eq!(node.health.rules().period(), PERIOD, "the old rules stay");
    let strict = HealthRules::builder().degraded_above_milli(300).confirm(1).build().unwrap();
    node.health.set_rules(strict).unwrap();
    assert_eq!(node.health.state(), HealthState::Healthy);
    assert_eq!(node.hear(&[NO, YES, YES]), ["healthy → degraded"]);
    assert_eq!(node.hear(&[YES, YES, YES]), ["c0 passes", "degraded → healthy"], "one answer is enough now");
}
