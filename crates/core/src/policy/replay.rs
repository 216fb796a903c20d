//! Tests: a policy of any composition gives the verdict of its definition, the same one for ever.

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_assert_eq, prop_oneof, proptest};

use super::*;

/// A policy as a value: what the builders are told, and what its verdict is by definition.
#[derive(Debug, Clone)]
enum Plan {
    Approve,
    /// Violated by a signal of at least this.
    Below(u32),
    All(Vec<Plan>),
    Any(Vec<Plan>),
    /// The first whose limit is above the signal, else the last.
    First(Vec<(u32, Plan)>, Box<Plan>),
    Weighted(u32, Vec<(u32, Plan)>),
    /// Not asked when the facts are above.
    Unless(u32, Box<Plan>),
}

impl Plan {
    fn build(&self) -> BoxPolicy<u32, u32> {
        let parts = |plans: &[Self]| plans.iter().map(Self::build).collect::<Vec<_>>();
        match self {
            Self::Approve => approve_all().boxed(),
            Self::Below(limit) => {
                let limit = *limit;
                rule("below", limit, move |signal: &u32, facts: &u32| {
                    (limit <= *signal).then(|| format!("{signal}, not below {limit}, and {facts}"))
                })
                .boxed()
            }
            Self::All(plans) => all("all", 1, parts(plans)).boxed(),
            Self::Any(plans) => any("any", 2, parts(plans)).boxed(),
            Self::First(cases, fallback) => {
                let cases = cases.iter().map(|(limit, plan)| {
                    let limit = *limit;
                    (when(move |signal: &u32, _: &u32| *signal < limit), plan.build())
                });
                first_match("first", 3, cases.collect::<Vec<_>>(), fallback.build()).boxed()
            }
            Self::Weighted(threshold, parts) => {
                let parts = parts.iter().map(|(weight, plan)| (*weight, plan.build()));
                weighted("weighted", 4, *threshold, parts.collect::<Vec<_>>()).boxed()
            }
            Self::Unless(above, plan) => {
                let above = *above;
                unless(when(move |_: &u32, facts: &u32| above < *facts), plan.build()).boxed()
            }
        }
    }

    /// Whether it approves, by definition.
    fn approves(&self, signal: u32, facts: u32) -> bool {
        match self {
            Self::Approve => true,
            Self::Below(limit) => signal < *limit,
            Self::All(plans) => plans.iter().all(|plan| plan.approves(signal, facts)),
            Self::Any(plans) => plans.iter().any(|plan| plan.approves(signal, facts)),
            Self::First(cases, fallback) => cases
                .iter()
                .find(|(limit, _)| signal < *limit)
                .map_or(&**fallback, |(_, plan)| plan)
                .approves(signal, facts),
            Self::Weighted(threshold, parts) => {
                let violated = parts.iter().filter(|(_, plan)| !plan.approves(signal, facts));
                violated.map(|(weight, _)| weight).sum::<u32>() < *threshold
            }
            Self::Unless(above, plan) => *above < facts || plan.approves(signal, facts),
        }
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let leaf = prop_oneof![Just(Plan::Approve), (0u32..10).prop_map(Plan::Below)];
    leaf.prop_recursive(4, 32, 4, |plan| {
        prop_oneof![
            vec(plan.clone(), 0..4).prop_map(Plan::All),
            vec(plan.clone(), 0..4).prop_map(Plan::Any),
            (vec((0u32..10, plan.clone()), 0..4), plan.clone())
                .prop_map(|(cases, fallback)| Plan::First(cases, Box::new(fallback))),
            (1u32..20, vec((0u32..10, plan.clone()), 0..4))
                .prop_map(|(threshold, parts)| Plan::Weighted(threshold, parts)),
            (0u32..10, plan).prop_map(|(above, plan)| Plan::Unless(above, Box::new(plan))),
        ]
    })
}

proptest! {
    #[test]
    fn the_same_signal_and_facts_give_the_same_verdict_for_ever(
        plan in plans(),
        asked in vec((0u32..12, 0u32..12), 1..12),
    ) {
        let (policy, built_again) = (plan.build(), plan.build());
        let kept = |policy: &dyn Policy<u32, u32>| -> Vec<String> {
            let verdicts = asked.iter().map(|(signal, facts)| policy.evaluate(signal, facts));
            verdicts.map(|verdict| serde_json::to_string(&verdict).unwrap()).collect()
        };
        let first = kept(&policy);
        // Whatever was asked between, and by whatever build of the same rules: byte for byte.
        prop_assert_eq!(&kept(&policy), &first);
        prop_assert_eq!(&kept(&built_again), &first);
        let backwards: Vec<_> = asked.iter().rev().map(|(s, f)| policy.evaluate(s, f)).collect();
        for (((signal, facts), verdict), kept) in asked.iter().zip(backwards.iter().rev()).zip(&first) {
            prop_assert_eq!(&serde_json::from_str::<Verdict>(kept).unwrap(), verdict);
            prop_assert_eq!(verdict.is_approved(), plan.approves(*signal, *facts));
            prop_assert_eq!(verdict.is_approved(), verdict.violations().is_empty());
            prop_assert_eq!(policy.decide(signal, facts).map_err(|no| no.violations).err().unwrap_or_default(), verdict.violations());
        }
    }
}
