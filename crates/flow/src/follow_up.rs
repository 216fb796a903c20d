//! A cell: what follows a success while its caller goes on, and how it came out.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::metric;
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::Event;
use gemba_kernel::System;

/// How long what follows may take, unless the line says otherwise.
pub const FOLLOW_UP_WITHIN: Duration = Duration::from_secs(1);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Work that follows a success: what the caller need not wait for and nobody repeats, as a notice or a refresh.
///
/// The worker runs it when the caller has its answer and before it takes the next job, so what follows is bounded
/// by the workers, and slows the line instead of piling up. It has [`LineSpec::follow_up_within`] of time. What
/// fails, runs out of time, panics or is killed is counted and told in a receipt; it is not tried again. What has
/// to happen in any case belongs into a durable queue, or into the action itself.
///
/// [`LineSpec::follow_up_within`]: crate::LineSpec::follow_up_within
pub struct FollowUp(BoxFuture<'static, Outcome>);

impl FollowUp {
    /// This future.
    pub fn new<E: Into<Box<dyn Error + Send + Sync>>>(
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(async move { work.await.map_err(Into::into) }))
    }
}

impl fmt::Debug for FollowUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FollowUp")
    }
}

/// What has followed on a line.
#[derive(Debug)]
pub(crate) struct FollowUps {
    /// In nanoseconds.
    within: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug, Default, Clone)]
struct Told {
    succeeded: u64,
    failed: u64,
    /// Of the failures, how many are in no receipt yet, and what the last one was.
    untold: u64,
    why: Option<Arc<str>>,
}

impl FollowUps {
    pub(crate) fn new(within: Duration) -> Self {
        let follow_ups = Self { within: AtomicU64::new(0), told: Mutex::default() };
        follow_ups.set_within(within);
        follow_ups
    }

    /// How long what follows may take.
    pub(crate) fn within(&self) -> Duration {
        Duration::from_nanos(self.within.load(Relaxed))
    }

    /// What follows already keeps the time it has.
    pub(crate) fn set_within(&self, within: Duration) {
        self.within.store(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Runs it to its end or its limit.
    pub(crate) async fn run(&self, FollowUp(work): FollowUp) {
        // Counted when it is dropped: a panic and a kill are failures too.
        let mut ending = Ending { of: self, outcome: Err("its worker ended".into()) };
        let within = self.within();
        ending.outcome = match tokio::time::timeout(within, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string().into()),
            Err(_) => Err(format!("it took longer than {within:?}").into()),
        };
    }

    fn count(&self, outcome: Result<(), Arc<str>>) {
        let mut told = self.told.lock().expect("counting cannot panic");
        match outcome {
            Ok(()) => told.succeeded += 1,
            Err(why) => {
                told.failed += 1;
                told.untold += 1;
                told.why = Some(why);
            }
        }
    }

    /// Tells what has failed since the last time, in one receipt, and publishes the counts. Each second.
    pub(crate) fn tell(&self, line: &Name, system: &System, path: &ActorPath) {
        let told = {
            let mut told = self.told.lock().expect("counting cannot panic");
            let now = told.clone();
            told.untold = 0;
            now
        };
        for (outcome, count) in [("succeeded", told.succeeded), ("failed", told.failed)] {
            system.instruments().counter(&metric::FOLLOW_UPS, &[line.as_str(), outcome]).absolute(count);
        }
        if let (1.., Some(why)) = (told.untold, told.why) {
            let event = Event::FollowUpsFailed { line: line.clone(), failed: told.untold, why };
            system.record(None, path, event);
        }
    }
}

struct Ending<'a> {
    of: &'a FollowUps,
    outcome: Result<(), Arc<str>>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.of.count(std::mem::replace(&mut self.outcome, Ok(())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &FollowUps) -> (u64, u64, String) {
        let told = of.told.lock().unwrap().clone();
        (told.succeeded, told.failed, told.why.map_or_else(String::new, |why| why.to_string()))
    }

    fn panics() -> Result<(), String> {
        panic!("asked to panic")
    }

    #[tokio::test(start_paused = true)]
    async fn every_end_is_counted_a_kill_and_a_panic_too() {
        let of = Arc::new(FollowUps::new(Duration::from_millis(10)));
        of.run(FollowUp::new(async { Ok::<_, fmt::Error>(()) })).await;
        assert_eq!(counts(&of), (1, 0, String::new()));
        of.run(FollowUp::new(async { Err("no paper") })).await;
        assert_eq!(counts(&of), (1, 1, "no paper".into()));
        of.run(FollowUp::new(std::future::pending::<Result<(), fmt::Error>>())).await;
        assert_eq!(counts(&of), (1, 2, "it took longer than 10ms".into()));
        let (killed, panicked) = (of.clone(), of.clone());
        let task = tokio::spawn(async move {
            killed.run(FollowUp::new(std::future::pending::<Result<(), fmt::Error>>())).await;
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(counts(&of), (1, 3, "its worker ended".into()));
        let task = tokio::spawn(async move {
            panicked.run(FollowUp::new(async { panics() })).await;
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(counts(&of), (1, 4, "its worker ended".into()));
    }
}
