//! A cell: an A/B test of two actions, which each signal of a line asks for its arm and tells its outcome.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use gemba_core::ab_test::{AbRules, AbTest, Arm, Verdict};
use gemba_core::breaker::Outcome;
use gemba_core::name::{ActorPath, Name, NameError};
use gemba_core::receipt::Event;
use gemba_core::time::Timestamp;
use gemba_kernel::System;

use crate::action::{Action, JobContext};
use crate::follow_up::FollowUp;

/// Two ways to do the work of a line, tried side by side until one is known to be better.
///
/// A signal's key says which of them does it, the same one each time. When the verdict is there, it is a
/// receipt, and all signals go the winner's way; without a winner they go the way they went before, A's.
///
/// # Examples
///
/// ```
/// # use gemba_flow::{Action, JobContext};
/// # struct Old; struct New;
/// # impl Action for Old { type Input = u64; type Output = (); type Error = std::fmt::Error;
/// #   async fn run(&self, _: u64, _: &JobContext) -> Result<(), Self::Error> { Ok(()) } }
/// # impl Action for New { type Input = u64; type Output = (); type Error = std::fmt::Error;
/// #   async fn run(&self, _: u64, _: &JobContext) -> Result<(), Self::Error> { Ok(()) } }
/// use gemba_core::ab_test::AbRules;
/// use gemba_flow::{LineSpec, Trial};
///
/// let trial = Trial::new("new-gateway", AbRules::default(), Old, New, |customer: &u64| *customer)?;
/// let watch = trial.watch();
/// let line: LineSpec<_> = LineSpec::new("payment", trial);
/// # drop((line, watch));
/// # Ok::<(), gemba_core::name::NameError>(())
/// ```
#[doc(alias = "kaizen")]
pub struct Trial<A, B, K> {
    a: A,
    b: B,
    key: K,
    test: Arc<Mutex<AbTest>>,
}

impl<A, B, K> Trial<A, B, K>
where
    A: Action,
    B: Action<Input = A::Input, Output = A::Output, Error = A::Error>,
    K: Fn(&A::Input) -> u64,
{
    /// A trial called `name`; `key` gives the number whose signals stay on one arm: a customer's, or the hash
    /// of a name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if `name` cannot be one.
    pub fn new(name: &str, rules: AbRules, a: A, b: B, key: K) -> Result<Self, NameError> {
        let test = Arc::new(Mutex::new(AbTest::new(Name::new(name)?, rules)));
        Ok(Self { a, b, key, test })
    }

    /// A handle to look at it, while the line has it.
    pub fn watch(&self) -> TrialWatch {
        TrialWatch(self.test.clone())
    }
}

/// A handle to look at a [`Trial`].
#[derive(Debug, Clone)]
pub struct TrialWatch(Arc<Mutex<AbTest>>);

impl TrialWatch {
    /// What can be said so far.
    pub fn verdict(&self) -> Verdict {
        lock(&self.0).verdict()
    }

    /// The test as it is, to be kept elsewhere.
    pub fn snapshot(&self) -> AbTest {
        lock(&self.0).clone()
    }
}

impl<A, B, K> Action for Trial<A, B, K>
where
    A: Action,
    B: Action<Input = A::Input, Output = A::Output, Error = A::Error>,
    K: Fn(&A::Input) -> u64 + Send + Sync + 'static,
{
    type Input = A::Input;
    type Output = A::Output;
    type Error = A::Error;

    async fn run(&self, input: A::Input, job: &JobContext) -> Result<A::Output, A::Error> {
        let key = (self.key)(&input).to_le_bytes();
        let arm = lock(&self.test).arm(&key);
        let mut attempt =
            Attempt { test: &self.test, system: job.system(), arm, begun: job.system().now(), outcome: None };
        let (result, outcome) = match arm {
            Arm::A => {
                let result = self.a.run(input, job).await;
                let outcome = self.a.judge(&result);
                (result, outcome)
            }
            Arm::B => {
                let result = self.b.run(input, job).await;
                let outcome = self.b.judge(&result);
                (result, outcome)
            }
        };
        attempt.outcome = Some(outcome);
        result
    }

    fn follow_up(&self, output: &A::Output, job: &JobContext) -> Option<FollowUp> {
        self.a.follow_up(output, job)
    }

    fn class(&self, error: &A::Error) -> &'static str {
        self.a.class(error)
    }

    fn judge(&self, result: &Result<A::Output, A::Error>) -> Outcome {
        self.a.judge(result)
    }
}

/// One run of one arm. Dropping it tells the test, also after a panic and when the deadline passes.
struct Attempt<'a> {
    test: &'a Mutex<AbTest>,
    system: &'a System,
    arm: Arm,
    begun: Timestamp,
    outcome: Option<Outcome>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let succeeded = match self.outcome {
            Some(Outcome::Success) => true,
            // What says nothing about the downstream says nothing about the way to it.
            Some(Outcome::Ignored) => return,
            Some(Outcome::Failure) | None => false,
        };
        let took = self.system.now().since(self.begun);
        let mut test = lock(self.test);
        let was_final = test.verdict().is_final();
        test.observe(self.arm, took, succeeded);
        let verdict = test.verdict();
        if verdict.is_final() && !was_final {
            let event = Event::TestDecided { test: test.name().clone(), verdict: verdict.to_string().into() };
            drop(test);
            self.system.record(None, &ActorPath::root(), event);
        }
    }
}

fn lock(test: &Mutex<AbTest>) -> MutexGuard<'_, AbTest> {
    test.lock().expect("nothing panics while it holds a test")
}

impl<A, B, K> fmt::Debug for Trial<A, B, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trial").field(&lock(&self.test)).finish()
    }
}
