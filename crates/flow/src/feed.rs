//! Feeds a line from a source: pulls only what the line takes, and tells the source how each signal ended.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use gemba_core::demand::{Demand, DemandRules, DemandRulesError};
use gemba_core::metric;
use gemba_kernel::{Shutdown, Stop, TaskContext, TaskSpec, task};
use tokio::sync::watch;

use crate::action::Action;
use crate::line::Line;
use crate::signal::Signal;
use crate::source::{Pulled, Source};
use crate::submit::SubmitError;

/// What is added to the line's deadline for the end of the last signal to be recorded, when a feed is stopped.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// How a signal of one source is made: what it says, and the facts of the line's policy.
type Make<P, A, F> = dyn Fn(&P) -> (Signal<<A as Action>::Input>, F) + Send + Sync;

/// What a line answered to it.
type Answer<A> = Result<<A as Action>::Output, SubmitError<<A as Action>::Error>>;

/// Feeds `line` from `source`: a child called `name`, to be put into the tree after the plant and the source, so
/// that it stops before them.
///
/// ```text
/// source ──pull──► feed ──submit──► line      pulls while no more than `in_flight_max` are asked for or in work
///        ◄──done────────────answer            the action succeeded
///        ◄──put back────────refusal           nothing was done: the delivery does not count, and pulling pauses
///        ◄──failed──────────failure           the source's rule for deliveries decides
///        ◄──set aside───────rejection         the policy's no stays a no
/// ```
///
/// A refusal (a limit, an open breaker, a line that is stopped or draining) gives the signal back for as long as it
/// names, withdraws what was asked for, and asks again after that time, longer each time and with jitter; half as
/// much as before at first, see [`Demand`].
///
/// A failure after a refusal, before anything has succeeded again, is given back too: it is a breaker's probe of a
/// downstream that is still gone, and no card should die of that. A worker that dies counts always.
///
/// The signal has the tier of what was pulled unless `signal` gives it another. A panic in `signal`, or in the line's
/// policy, is a failure of that signal alone. A feed that is killed gives back what it had: whatever runs in the line then goes on, and comes
/// again (at least once, never lost).
///
/// # Units and limits
///
/// See [`DemandRules`]. It has the deadline that its line has now, and a second, to stop: pulls are withdrawn, and what
/// is in work is answered and recorded. What has longer, by its own deadline or because the line was given a longer one
/// since, comes back.
pub fn feed<S: Source, A: Action>(
    name: &str,
    source: S,
    line: &Line<A>,
    signal: impl Fn(&S::Pulled) -> Signal<A::Input> + Send + Sync + 'static,
) -> FeedSpec<S, A> {
    feed_with(name, source, line, move |pulled| (signal(pulled), ()))
}

/// [`feed`] for a line whose policy decides from facts, which `signal` gives too.
pub fn feed_with<S: Source, A: Action, F: Send + Sync + 'static>(
    name: &str,
    source: S,
    line: &Line<A, F>,
    signal: impl Fn(&S::Pulled) -> (Signal<A::Input>, F) + Send + Sync + 'static,
) -> FeedSpec<S, A, F> {
    let make: Arc<Make<S::Pulled, A, F>> = Arc::new(signal);
    FeedSpec { name: name.to_owned(), source, line: line.clone(), make, rules: DemandRules::default() }
}

/// A feed to be.
#[must_use = "a feed does nothing until it is built and a supervisor has it"]
pub struct FeedSpec<S: Source, A: Action, F = ()> {
    name: String,
    source: S,
    line: Line<A, F>,
    make: Arc<Make<S::Pulled, A, F>>,
    rules: DemandRules,
}

impl<S: Source, A: Action, F: Send + Sync + 'static> FeedSpec<S, A, F> {
    /// How many signals it asks for or has in work at most: 1 to 1000, 100 unless it is said.
    pub fn in_flight_max(mut self, signals: u32) -> Self {
        self.rules.in_flight_max = signals;
        self
    }

    /// The longest pause that is added to what refusals ask for: 100 ms to 1 h, 30 s unless it is said.
    pub fn pause_max(mut self, pause: Duration) -> Self {
        self.rules.pause_max = pause;
        self
    }

    /// The feed as a child.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: settings that cannot be, all at once.
    pub fn build(self) -> Result<TaskSpec, FeedError> {
        let faults = self.rules.check();
        if !faults.is_empty() {
            return Err(FeedError { feed: self.name, faults });
        }
        let Self { name: child, source, line, make, rules } = self;
        let name: Arc<str> = child.as_str().into();
        let stops_within = line.deadline().saturating_add(SETTLES_WITHIN);
        let body = move |ctx| {
            let (name, source) = (name.clone(), source.clone());
            pull_and_submit(ctx, Desk { name, source, line: line.clone(), make: make.clone() }, rules)
        };
        Ok(task(&child, body).shutdown(Shutdown::Within(stops_within)))
    }
}

impl<S: Source, A: Action, F> fmt::Debug for FeedSpec<S, A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedSpec")
            .field("name", &self.name)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Settings of a feed that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feed {feed} cannot be: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct FeedError {
    /// Which feed.
    pub feed: String,
    /// All that is wrong.
    pub faults: Vec<DemandRulesError>,
}

/// What each round of a feed needs.
struct Desk<S: Source, A: Action, F> {
    name: Arc<str>,
    source: S,
    line: Line<A, F>,
    make: Arc<Make<S::Pulled, A, F>>,
}

/// How far a round has come.
enum Step<S: Source, A: Action> {
    /// It was to ask no more.
    Withdrawn(S),
    /// Its source gives nothing out.
    Failed(S::Error),
    /// What was to make a signal of the work, or to decide about it, panicked.
    Panicked(S, S::Pulled, &'static str),
    /// The source took the work away meanwhile.
    Lost(S),
    Answered(S, S::Pulled, Box<Answer<A>>),
    /// The source knows how it ended.
    Settled,
}

/// From the question for work to its end in the source.
type Round<S, A> = BoxFuture<'static, Step<S, A>>;

/// How a signal ends for its source.
enum End {
    Done,
    PutBack(Duration, String),
    /// It failed, and whether that counts depends on how the line has fared.
    MayBeTheLine(String),
    Failed(String),
    SetAside(String),
}

impl End {
    const fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::PutBack(..) => "refused",
            Self::MayBeTheLine(_) | Self::Failed(_) => "failed",
            Self::SetAside(_) => "set_aside",
        }
    }
}

async fn pull_and_submit<S: Source, A: Action, F: Send + Sync + 'static>(
    ctx: TaskContext,
    desk: Desk<S, A, F>,
    rules: DemandRules,
) -> Result<(), Stop> {
    let system = ctx.system();
    let name = &desk.name;
    let window = system.instruments().gauge(&metric::FEED_WINDOW, &[name]);
    let mut demand = Demand::new(rules, ctx.incarnation().0);
    let (is_open, gate) = watch::channel(true);
    let mut idle: Vec<S> = Vec::new();
    let mut rounds: FuturesUnordered<Round<S, A>> = FuturesUnordered::new();
    let mut stopped = pin!(ctx.stopped());
    let stop = loop {
        let now = system.now();
        let paused_until = demand.paused_until(now);
        is_open.send_replace(paused_until.is_none());
        window.set(paused_until.map_or(f64::from(demand.window()), |_| 0.0));
        for _ in 0..demand.wanted(rounds.len() as u32, now) {
            let source = idle.pop().unwrap_or_else(|| desk.source.clone());
            rounds.push(Box::pin(round(source, desk.line.clone(), desk.make.clone(), gate.clone())));
        }
        let pause = paused_until.map_or(Duration::MAX, |until| until.since(now));
        let step = tokio::select! {
            biased;
            () = &mut stopped => break Ok(()),
            Some(step) = rounds.next(), if !rounds.is_empty() => step,
            () = tokio::time::sleep(pause), if paused_until.is_some() => continue,
        };
        if let Step::Failed(error) = step {
            break Err(error.into());
        }
        if let Some((source, settling)) = took(step, &mut demand, &ctx, name) {
            idle.push(source);
            rounds.extend(settling);
        }
    };
    is_open.send_replace(false);
    window.set(0.0);
    while let Some(step) = rounds.next().await {
        if let Some((source, settling)) = took(step, &mut demand, &ctx, name) {
            // A source that goes away takes back what it gave out: it stays until the last end is recorded.
            idle.push(source);
            rounds.extend(settling);
        }
    }
    stop
}

/// Asks for work, and takes it through the line.
async fn round<S: Source, A: Action, F: Send + Sync + 'static>(
    mut source: S,
    line: Line<A, F>,
    make: Arc<Make<S::Pulled, A, F>>,
    mut gate: watch::Receiver<bool>,
) -> Step<S, A> {
    let pulled = tokio::select! {
        biased;
        _ = gate.wait_for(|is_open| !is_open) => None,
        pulled = source.pull() => Some(pulled),
    };
    let pulled = match pulled {
        None => return Step::Withdrawn(source),
        Some(Err(error)) => return Step::Failed(error),
        Some(Ok(pulled)) => pulled,
    };
    let Ok((mut signal, facts)) = catch_unwind(AssertUnwindSafe(|| make(&pulled))) else {
        return Step::Panicked(source, pulled, "no signal could be made of it: panic");
    };
    signal.tier = signal.tier.or_else(|| pulled.tier());
    // The policy decides here, and may panic: the others in work are not to suffer for it.
    let answer = tokio::select! {
        biased;
        answer = AssertUnwindSafe(line.submit(signal, &facts)).catch_unwind() => Some(answer),
        () = pulled.keep() => None,
    };
    match answer {
        Some(Ok(answer)) => Step::Answered(source, pulled, Box::new(answer)),
        Some(Err(_)) => Step::Panicked(source, pulled, "its line's policy panicked"),
        None => Step::Lost(source),
    }
}

/// Learns from a step how much to ask for; gives back who asked, and what is left to do.
fn took<S: Source, A: Action>(
    step: Step<S, A>,
    demand: &mut Demand,
    ctx: &TaskContext,
    name: &Arc<str>,
) -> Option<(S, Option<Round<S, A>>)> {
    let now = ctx.system().now();
    let (source, pulled, end) = match step {
        // Of pulls that fail, the first is told: the others say the same while the feed ends.
        Step::Settled | Step::Failed(_) => return None,
        Step::Withdrawn(source) => return Some((source, None)),
        Step::Lost(source) => {
            tracing::warn!(feed = %name, "its source took a signal away while it was in work; it comes again");
            return Some((source, None));
        }
        Step::Panicked(source, pulled, why) => (source, pulled, End::Failed(why.to_owned())),
        Step::Answered(source, pulled, answer) => (source, pulled, end_of(*answer)),
    };
    let end = match end {
        End::PutBack(retry_after, _) => {
            demand.refused(retry_after, now);
            end
        }
        End::MayBeTheLine(why) => match demand.failed(now) {
            Some(delay) => End::PutBack(delay, why),
            None => End::Failed(why),
        },
        End::Done | End::SetAside(_) => {
            demand.taken(now);
            end
        }
        End::Failed(_) => end,
    };
    ctx.count(1, Duration::ZERO);
    ctx.system().instruments().counter(&metric::FEED_SIGNALS, &[name, end.word()]).increment(1);
    let name = name.clone();
    let settling = Box::pin(async move {
        if let Err(error) = settle(pulled, end).await {
            tracing::warn!(feed = %name, %error, "the end of a signal was not recorded; it may come again");
        }
        Step::Settled
    });
    Some((source, Some(settling)))
}

fn end_of<T, E: Error>(answer: Result<T, SubmitError<E>>) -> End {
    match answer {
        Ok(_) => End::Done,
        Err(SubmitError::Refused(refusal)) => End::PutBack(refusal.retry_after, refusal.to_string()),
        Err(SubmitError::Rejected(rejection)) => End::SetAside(rejection.to_string()),
        Err(SubmitError::Failed(error)) => End::MayBeTheLine(format!("the action failed: {error}")),
        Err(error @ SubmitError::TimedOut) => End::MayBeTheLine(error.to_string()),
        // What kills workers must not come for ever.
        Err(error @ SubmitError::WorkerDied) => End::Failed(error.to_string()),
    }
}

async fn settle<P: Pulled>(pulled: P, end: End) -> Result<(), P::Error> {
    match end {
        End::Done => pulled.done().await,
        End::PutBack(delay, why) => pulled.put_back(delay, why).await,
        End::MayBeTheLine(why) | End::Failed(why) => pulled.failed(why).await,
        End::SetAside(why) => pulled.set_aside(why).await,
    }
}
