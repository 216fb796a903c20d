//! Rules over a signal and the facts about it, and the verdict they lead to.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod compound;

pub use compound::{
    All, Any, Condition, FirstMatch, Unless, Weighted, all, any, first_match, unless, weighted, when,
};

/// One rule that does not hold, as it stands in receipt and answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The name of the rule.
    pub rule: Arc<str>,
    /// Its version, so that an old verdict can be read by the rule of its day.
    pub version: u32,
    /// What is wrong, in words.
    pub message: Arc<str>,
}

/// What a policy says about a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "violations", rename_all = "snake_case")]
#[must_use = "a verdict nobody reads approves everything"]
pub enum Verdict {
    /// Go on.
    Approve,
    /// Do not act; every rule that was found violated is listed.
    Reject(Vec<Violation>),
}

impl Verdict {
    /// Whether the signal may go on.
    pub const fn is_approved(&self) -> bool {
        matches!(self, Self::Approve)
    }

    /// What was found violated; empty when approved.
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Approve => &[],
            Self::Reject(violations) => violations,
        }
    }

    /// Approves if `violations` is empty.
    fn of(violations: Vec<Violation>) -> Self {
        if violations.is_empty() { Self::Approve } else { Self::Reject(violations) }
    }

    fn into_violations(self) -> Vec<Violation> {
        match self {
            Self::Approve => Vec::new(),
            Self::Reject(violations) => violations,
        }
    }
}

/// A verdict of no, with the policy that gave it, as it stands in answer and trail: with the same signal and
/// facts the policy of this name and version gives it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The name of the policy.
    pub policy: Arc<str>,
    /// Its version.
    pub version: u32,
    /// Every rule that was found violated; at least one.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected by policy {} v{}", self.policy, self.version)?;
        for (index, violation) in self.violations.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            f.write_str(&violation.message)?;
        }
        Ok(())
    }
}

/// Decides about a signal `S` from facts `F` that were gathered before.
///
/// A policy keeps nothing and looks nothing up: the same signal and facts give the same verdict for ever.
///
/// # Examples
///
/// ```
/// use gemba_core::policy::{Policy, all, rule, unless, when};
///
/// struct Facts { attempts: u32, trusted: bool }
///
/// let amount = rule("amount", 1, |minor: &u64, _: &Facts| {
///     (500_000 < *minor).then(|| format!("{minor} is above 500000"))
/// });
/// let velocity = rule("velocity", 2, |_: &u64, facts: &Facts| {
///     (5 < facts.attempts).then(|| format!("{} attempts in a minute", facts.attempts))
/// });
/// let fraud = all("fraud", 1, [
///     amount.boxed(),
///     unless(when(|_: &u64, facts: &Facts| facts.trusted), velocity).boxed(),
/// ]);
///
/// let verdict = fraud.evaluate(&600_000, &Facts { attempts: 6, trusted: false });
/// assert_eq!(verdict.violations().len(), 2);
/// assert!(fraud.evaluate(&100, &Facts { attempts: 6, trusted: true }).is_approved());
/// ```
#[doc(alias = "jidoka")]
pub trait Policy<S: ?Sized, F: ?Sized>: Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// Which version of it this is; a changed rule has a new one.
    fn version(&self) -> u32;

    /// What it says about `signal`, given `facts`.
    fn evaluate(&self, signal: &S, facts: &F) -> Verdict;

    /// The same for those who act on it: nothing, or the rejection under the policy's own name and version.
    ///
    /// # Errors
    ///
    /// [`Rejection`], when the policy says no. Asking again changes nothing.
    fn decide(&self, signal: &S, facts: &F) -> Result<(), Rejection> {
        match self.evaluate(signal, facts) {
            Verdict::Approve => Ok(()),
            Verdict::Reject(violations) => {
                Err(Rejection { policy: self.name().into(), version: self.version(), violations })
            }
        }
    }

    /// This policy as a part that stands beside parts of other types.
    fn boxed(self) -> BoxPolicy<S, F>
    where
        Self: Sized + 'static,
    {
        Box::new(self)
    }
}

/// A policy of any type.
pub type BoxPolicy<S, F> = Box<dyn Policy<S, F>>;

impl<S: ?Sized, F: ?Sized> fmt::Debug for dyn Policy<S, F> + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name(), self.version())
    }
}

impl<S: ?Sized, F: ?Sized, P: Policy<S, F> + ?Sized> Policy<S, F> for Box<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn version(&self) -> u32 {
        (**self).version()
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        (**self).evaluate(signal, facts)
    }
}

impl<S: ?Sized, F: ?Sized, P: Policy<S, F> + ?Sized> Policy<S, F> for Arc<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn version(&self) -> u32 {
        (**self).version()
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        (**self).evaluate(signal, facts)
    }
}

/// A single rule; made by [`rule`].
pub struct Rule<S: ?Sized, F: ?Sized, C> {
    name: Arc<str>,
    version: u32,
    check: C,
    decides: PhantomData<fn(&S, &F)>,
}

/// A rule that is violated when `check` returns a message.
pub fn rule<S: ?Sized, F: ?Sized, C>(name: &str, version: u32, check: C) -> Rule<S, F, C>
where
    C: Fn(&S, &F) -> Option<String> + Send + Sync,
{
    Rule { name: name.into(), version, check, decides: PhantomData }
}

impl<S: ?Sized, F: ?Sized, C> fmt::Debug for Rule<S, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rule({} v{})", self.name, self.version)
    }
}

impl<S: ?Sized, F: ?Sized, C> Policy<S, F> for Rule<S, F, C>
where
    C: Fn(&S, &F) -> Option<String> + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn evaluate(&self, signal: &S, facts: &F) -> Verdict {
        match (self.check)(signal, facts) {
            None => Verdict::Approve,
            Some(message) => Verdict::Reject(vec![Violation {
                rule: self.name.clone(),
                version: self.version,
                message: message.into(),
            }]),
        }
    }
}

/// A policy without rules; made by [`approve_all`].
#[derive(Debug, Clone, Copy)]
pub struct ApproveAll;

/// The policy of a line that has none.
pub const fn approve_all() -> ApproveAll {
    ApproveAll
}

impl<S: ?Sized, F: ?Sized> Policy<S, F> for ApproveAll {
    fn name(&self) -> &'static str {
        "approve_all"
    }

    fn version(&self) -> u32 {
        1
    }

    fn evaluate(&self, _: &S, _: &F) -> Verdict {
        Verdict::Approve
    }
}

#[cfg(test)]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    /// Violated while the signal is at least `limit`.
    fn below(limit: u32) -> BoxPolicy<u32, ()> {
        rule("below", limit, move |signal: &u32, (): &()| {
            (limit <= *signal).then(|| format!("{signal} is not below {limit}"))
        })
        .boxed()
    }

    #[test]
    fn a_rule_names_itself_and_says_what_is_wrong() {
        assert_eq!(below(5).evaluate(&4, &()), Verdict::Approve);
        let verdict = below(5).evaluate(&5, &());
        let violation = Violation { rule: "below".into(), version: 5, message: "5 is not below 5".into() };
        assert_eq!(verdict, Verdict::Reject(vec![violation]));
    }

    #[test]
    fn a_rejection_carries_the_name_and_version_of_the_policy_that_gave_it() {
        let policy = all("both", 4, [below(5), below(7)]);
        assert_eq!(policy.decide(&4, &()), Ok(()));
        let no = policy.decide(&8, &()).unwrap_err();
        assert_eq!((&*no.policy, no.version, no.violations.len()), ("both", 4, 2));
        assert_eq!(no.to_string(), "rejected by policy both v4: 8 is not below 5; 8 is not below 7");
        let kept = serde_json::to_string(&no).unwrap();
        assert!(kept.starts_with(r#"{"policy":"both","version":4,"violations":[{"rule":"below""#), "{kept}");
        assert_eq!(serde_json::from_str::<Rejection>(&kept).unwrap(), no);
    }

    #[test]
    fn a_shared_policy_is_the_policy() {
        let shared: Arc<dyn Policy<u32, ()>> = Arc::new(below(5));
        assert_eq!(shared.evaluate(&5, &()), below(5).evaluate(&5, &()));
        assert_eq!(Policy::<u32, ()>::version(&shared), 5);
        assert!(approve_all().evaluate(&5, &()).is_approved());
    }
}
