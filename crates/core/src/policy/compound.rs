//! How policies combine into one: all, any, first match, weighted score, unless.

use std::fmt;
use std::sync::Arc;

use super::{BoxPolicy, Policy, Verdict, Violation};

type Check<S, F> = dyn Fn(&S, &F) -> bool + Send + Sync;

/// A question about a signal that violates nothing by itself; made by [`when`].
pub struct Condition<S: ?Sized, F: ?Sized>(Box<Check<S, F>>);

/// The condition that holds when `check` says so.
pub fn when<S: ?Sized, F: ?Sized>(check: impl Fn(&S, &F) -> bool + Send + Sync + 'static) -> Condition<S, F> {
    Condition(Box::new(check))
}

impl<S: ?Sized, F: ?Sized> Condition<S, F> {
    fn holds(&self, signal: &S, facts: &F) -> bool {
        (self.0)(signal, facts)
    }
}

impl<S: ?Sized, F: ?Sized> fmt::Debug for Condition<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}

/// Approves what each part approves; made by [`all`].
pub struct All<S: ?Sized, F: ?Sized> {
    name: Arc<str>,
    version: u32,
    parts: Vec<BoxPolicy<S, F>>,
}

/// A policy that asks every part and reports the violations of all of them.
///
/// Without parts it approves.
pub fn all<S: ?Sized, F: ?Sized>(
    name: &str,
    version: u32,
    parts: impl IntoIterator<Item = BoxPolicy<S, F>>,
) -> All<S, F> {
    All { name: name.into(), version, parts: parts.into_iter().collect() }
}

impl<S: ?Sized, F: ?Sized> fmt::Debug for All<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("All").field("name", &self.name).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl<S: ?Sized, F: ?Sized> Policy<S, F> for All<S, F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        let found = self.parts.iter().flat_map(|part| part.evaluate(signal, facts).into_violations());
        Verdict::of(found.collect())
    }
}

/// Approves what one part approves; made by [`any`].
pub struct Any<S: ?Sized, F: ?Sized> {
    name: Arc<str>,
    version: u32,
    parts: Vec<BoxPolicy<S, F>>,
}

/// A policy that asks its parts in order until one approves, else reports the violations of all.
///
/// Without parts it rejects: nobody approves.
pub fn any<S: ?Sized, F: ?Sized>(
    name: &str,
    version: u32,
    parts: impl IntoIterator<Item = BoxPolicy<S, F>>,
) -> Any<S, F> {
    Any { name: name.into(), version, parts: parts.into_iter().collect() }
}

impl<S: ?Sized, F: ?Sized> fmt::Debug for Any<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Any").field("name", &self.name).field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl<S: ?Sized, F: ?Sized> Policy<S, F> for Any<S, F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        let mut found = Vec::new();
        for part in &self.parts {
            match part.evaluate(signal, facts) {
                Verdict::Approve => return Verdict::Approve,
                Verdict::Reject(violations) => found.extend(violations),
            }
        }
        if self.parts.is_empty() {
            found.push(Violation {
                rule: self.name.clone(),
                version: self.version,
                message: "it has no part that could approve".into(),
            });
        }
        Verdict::Reject(found)
    }
}

/// Hands a signal to the first policy whose condition holds; made by [`first_match`].
pub struct FirstMatch<S: ?Sized, F: ?Sized> {
    name: Arc<str>,
    version: u32,
    cases: Vec<(Condition<S, F>, BoxPolicy<S, F>)>,
    fallback: BoxPolicy<S, F>,
}

/// A policy that hands the signal to the first of `cases` whose condition holds, else to `fallback`.
pub fn first_match<S: ?Sized, F: ?Sized>(
    name: &str,
    version: u32,
    cases: impl IntoIterator<Item = (Condition<S, F>, BoxPolicy<S, F>)>,
    fallback: impl Policy<S, F> + 'static,
) -> FirstMatch<S, F> {
    FirstMatch {
        name: name.into(),
        version,
        cases: cases.into_iter().collect(),
        fallback: Box::new(fallback),
    }
}

impl<S: ?Sized, F: ?Sized> fmt::Debug for FirstMatch<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstMatch")
            .field("name", &self.name)
            .field("cases", &self.cases)
            .field("fallback", &self.fallback)
            .finish_non_exhaustive()
    }
}

impl<S: ?Sized, F: ?Sized> Policy<S, F> for FirstMatch<S, F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        let matching = self.cases.iter().find(|(condition, _)| condition.holds(signal, facts));
        matching.map_or(&self.fallback, |(_, policy)| policy).evaluate(signal, facts)
    }
}

/// Adds up the weights of what is violated; made by [`weighted`].
pub struct Weighted<S: ?Sized, F: ?Sized> {
    name: Arc<str>,
    version: u32,
    threshold: u32,
    parts: Vec<(u32, BoxPolicy<S, F>)>,
}

/// A policy that rejects when the weights of the violated parts add up to `threshold` or more.
///
/// The first violation it reports is its own, with the score in the message; those of the parts follow.
///
/// # Panics
///
/// If `threshold` is 0: such a policy would reject a signal nothing is wrong with.
pub fn weighted<S: ?Sized, F: ?Sized>(
    name: &str,
    version: u32,
    threshold: u32,
    parts: impl IntoIterator<Item = (u32, BoxPolicy<S, F>)>,
) -> Weighted<S, F> {
    assert!(0 < threshold, "the threshold of weighted policy '{name}' is 0; it would reject everything");
    Weighted { name: name.into(), version, threshold, parts: parts.into_iter().collect() }
}

impl<S: ?Sized, F: ?Sized> fmt::Debug for Weighted<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighted")
            .field("name", &self.name)
            .field("threshold", &self.threshold)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl<S: ?Sized, F: ?Sized> Policy<S, F> for Weighted<S, F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        let mut score = 0u32;
        let mut found = Vec::new();
        for (weight, part) in &self.parts {
            if let Verdict::Reject(violations) = part.evaluate(signal, facts) {
                score = score.saturating_add(*weight);
                found.extend(violations);
            }
        }
        if score < self.threshold {
            return Verdict::Approve;
        }
        let message = format!("score {score} reaches the threshold of {}", self.threshold).into();
        found.insert(0, Violation { rule: self.name.clone(), version: self.version, message });
        Verdict::Reject(found)
    }
}

/// Spares those for whom a condition holds; made by [`unless`].
#[derive(Debug)]
pub struct Unless<S: ?Sized, F: ?Sized, P> {
    condition: Condition<S, F>,
    policy: P,
}

/// `policy` under its own name, except that it approves unasked when `condition` holds.
pub fn unless<S: ?Sized, F: ?Sized, P: Policy<S, F>>(
    condition: Condition<S, F>,
    policy: P,
) -> Unless<S, F, P> {
    Unless { condition, policy }
}

impl<S: ?Sized, F: ?Sized, P: Policy<S, F>> Policy<S, F> for Unless<S, F, P> {
    fn name(&self) -> &str {
        self.policy.name()
    }

    fn version(&self) -> u32 {
        self.policy.version()
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        if self.condition.holds(signal, facts) {
            Verdict::Approve
        } else {
            self.policy.evaluate(signal, facts)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::Index;

    use super::*;
    use crate::policy::rule;

    /// Violated while the signal is at least `limit`.
    fn below(limit: u32) -> BoxPolicy<u32, ()> {
        rule("below", limit, move |signal: &u32, (): &()| {
            (limit <= *signal).then(|| format!("{signal} is not below {limit}"))
        })
        .boxed()
    }

    fn versions(verdict: &Verdict) -> Vec<u32> {
        verdict.violations().iter().map(|violation| violation.version).collect()
    }

    #[test]
    fn all_reports_every_violation_and_any_needs_one_approval() {
        let every = all("every", 1, [below(5), below(7), below(9)]);
        let one = any("one", 1, [below(5), below(7), below(9)]);
        for (signal, by_all, by_any) in [
            (4, vec![], vec![]),
            (5, vec![5], vec![]),
            (8, vec![5, 7], vec![]),
            (9, vec![5, 7, 9], vec![5, 7, 9]),
        ] {
            assert_eq!(versions(&every.evaluate(&signal, &())), by_all, "all of {signal}");
            assert_eq!(versions(&one.evaluate(&signal, &())), by_any, "any of {signal}");
        }
    }

    #[test]
    fn without_parts_all_approves_and_any_rejects_with_a_reason() {
        assert!(all::<u32, ()>("every", 1, []).evaluate(&1, &()).is_approved());
        let verdict = any::<u32, ()>("one", 3, []).evaluate(&1, &());
        assert_eq!(versions(&verdict), [3]);
    }

    #[test]
    fn the_first_matching_case_decides_even_if_it_approves() {
        let policy = first_match(
            "by size",
            1,
            [
                (when(|signal: &u32, (): &()| *signal < 10), below(5)),
                (when(|_: &u32, (): &()| true), below(50)),
            ],
            below(0),
        );
        for (signal, violated) in [(4, vec![]), (5, vec![5]), (10, vec![]), (50, vec![50])] {
            assert_eq!(versions(&policy.evaluate(&signal, &())), violated, "{signal}");
        }
        let fallback = first_match("none", 1, [(when(|_: &u32, (): &()| false), below(1))], below(2));
        assert_eq!(versions(&fallback.evaluate(&9, &())), [2]);
    }

    #[test]
    fn a_score_at_the_threshold_rejects_and_one_below_it_approves() {
        let policy = weighted("score", 7, 50, [(30, below(5)), (20, below(6)), (10, below(7))]);
        assert!(policy.evaluate(&5, &()).is_approved());
        let verdict = policy.evaluate(&6, &());
        assert_eq!(versions(&verdict), [7, 5, 6]);
        assert_eq!(&*verdict.violations()[0].message, "score 50 reaches the threshold of 50");
    }

    #[test]
    #[should_panic(expected = "threshold of weighted policy 'score' is 0")]
    fn a_threshold_of_zero_is_a_programming_error() {
        let _ = weighted::<u32, ()>("score", 1, 0, []);
    }

    #[test]
    fn unless_spares_only_those_for_whom_the_condition_holds() {
        let policy = unless(when(|signal: &u32, (): &()| *signal == 9), below(5));
        assert_eq!((policy.name(), policy.version()), ("below", 5));
        assert!(policy.evaluate(&9, &()).is_approved());
        assert_eq!(versions(&policy.evaluate(&8, &())), [5]);
    }

    proptest! {
        #[test]
        fn one_more_violated_part_never_turns_a_rejection_into_approval(
            weights in prop::collection::vec((0..=u32::MAX, prop::bool::ANY), 0..8),
            flip in proptest::prelude::any::<Index>(),
            threshold in 1..=u32::MAX,
        ) {
            let judge = |parts: &[(u32, bool)]| {
                let parts = parts.iter().map(|&(weight, violated)| (weight, below(u32::from(!violated))));
                weighted("score", 1, threshold, parts).evaluate(&0, &())
            };
            let before = judge(&weights);
            let mut more = weights.clone();
            if !more.is_empty() {
                more[flip.index(weights.len())].1 = true;
            }
            prop_assert!(before.is_approved() || !judge(&more).is_approved());
            let score: u64 = weights.iter().filter(|part| part.1).map(|part| u64::from(part.0)).sum();
            prop_assert_eq!(before.is_approved(), score < u64::from(threshold));
        }
    }
}
