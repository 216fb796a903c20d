//! One request, from its arrival to its answer: read [`Line::submit`] from top to bottom.
//!
//! Everything up to the pool happens in the caller's task, without a mailbox: admission, policy, routing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::adaptive::AdaptiveRules;
use gemba_core::admission::Tier;
use gemba_core::breaker::BreakerRules;
use gemba_core::burn_rate::Objective;
use gemba_core::name::Name;
use gemba_core::objective::TierObjectives;
use gemba_core::policy::{BoxPolicy, Policy, Rejection, approve_all};
use gemba_core::queue::Tenant;
use gemba_core::rate::Rate;
use gemba_core::routing::RouteError;
use gemba_core::time::Timestamp;
use gemba_core::trace::TraceContext;
use gemba_core::view::LineView;
use gemba_kernel::{Publisher, System};
use tracing::Instrument;

use crate::action::Action;
use crate::balancer::Routes;
use crate::follow_up::FollowUps;
use crate::gate::{Gate, Standing};
use crate::guard::Guard;
use crate::job::{Answer, Because, Job, Station, Trace};
use crate::meter::Ended;
use crate::meters::Meters;
use crate::permit::{Ceiling, Permit};
use crate::phases::{Lap, Phase, Phases};
use crate::rate::{RateGate, Rates};
use crate::receipts::Receipts;
use crate::seat::Ticket;
use crate::signal::Signal;
use crate::submit::{RETRY_AFTER, RefusalReason, SubmitError, closed, reason, refused};
use crate::tally::{Account, Tally};
use crate::trace::join_trace;

mod rules;

pub(crate) use rules::LineRules;

/// How long a signal may take unless its line or the signal itself says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How often a job that came back unstarted is sent out again; the pause doubles from 1 ms, so a restart of
/// the whole plant has 63 ms before callers notice it.
const ROUTES_MAX: u32 = 7;

/// The most time that what follows a success may have: a worker is busy meanwhile.
pub const FOLLOW_UP_MAX: Duration = Duration::from_secs(60);

/// A line to be: what it does, for whom, and within which limits.
///
/// # Units and limits
///
/// Defaults: tier normal, deadline [`DEADLINE`], no policy, breaker rules of the design (5 failures in a row,
/// or half of 20 in 10 s; open for 30 s at first).
pub struct LineSpec<A: Action, F = ()> {
    pub(crate) name: String,
    pub(crate) action: A,
    pub(crate) policy: BoxPolicy<A::Input, F>,
    pub(crate) pools: Vec<String>,
    pub(crate) tier: Tier,
    pub(crate) rules: LineRules,
    /// The rules and rates before a configuration set others.
    pub(crate) built: Option<(LineRules, Rates)>,
    pub(crate) rates: Rates,
}

impl<A: Action, F: 'static> LineSpec<A, F> {
    /// A line called `name` that runs `action`, in the pool of the same name unless told otherwise.
    pub fn new(name: &str, action: A) -> Self {
        Self {
            name: name.to_owned(),
            action,
            policy: Box::new(approve_all()),
            pools: Vec::new(),
            tier: Tier::default(),
            rules: LineRules::default(),
            built: None,
            rates: Rates::default(),
        }
    }

    /// Which signals it approves, given the facts handed to [`Line::submit`].
    pub fn policy(mut self, policy: impl Policy<A::Input, F> + 'static) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// Adds a pool that can do its work.
    pub fn pool(mut self, pool: &str) -> Self {
        self.pools.push(pool.to_owned());
        self
    }

    /// The tier of its signals.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = tier;
        self
    }

    /// How long a signal may take, waiting included.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.rules.deadline = deadline;
        self
    }

    /// How many signals it takes in a time. What is over is refused at once, and told when to come again.
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rates.line = Some(rate);
        self
    }

    /// How many signals of one key it takes in a time; up to `keys_max` keys are told apart at once, and the
    /// others share one rate ([`KEYS_MAX`](gemba_core::rate::KEYS_MAX) is a good number).
    ///
    /// Keys are known by their hash: of a million, two share a rate with a chance of 1 in 10 million.
    pub fn rate_per_key(mut self, rate: Rate, keys_max: usize) -> Self {
        (self.rates.key, self.rates.keys_max) = (Some(rate), keys_max);
        self
    }

    /// Limits the calls to a downstream that nobody here owns to what it bears, which is found out from how
    /// long they take. More are refused at once. Without it, the pools' workers are the limit.
    pub fn adaptive(mut self, rules: AdaptiveRules) -> Self {
        self.rules.adaptive = Some(rules);
        self
    }

    /// How long what follows a success may take ([`Action::follow_up`]), more than zero and at most
    /// [`FOLLOW_UP_MAX`]; by default [`FOLLOW_UP_WITHIN`](crate::FOLLOW_UP_WITHIN). A worker is busy meanwhile.
    pub fn follow_up_within(mut self, within: Duration) -> Self {
        self.rules.follow_up_within = within;
        self
    }

    /// Which signals leave a receipt, and how many in a second; by default none.
    pub fn receipts(mut self, receipts: Receipts) -> Self {
        self.rules.receipts = receipts;
        self
    }

    /// Within what time 99 % of the signals of each tier are to be answered; it is measured, and nothing refused.
    pub fn objectives(mut self, objectives: TierObjectives) -> Self {
        self.rules.objectives = objectives;
        self
    }

    /// When its breaker opens and closes.
    pub fn breaker(mut self, rules: BreakerRules) -> Self {
        self.rules.breaker = rules;
        self
    }

    /// What share of its work has to succeed: its error budget is what this leaves, by default one in a thousand.
    pub fn objective(mut self, objective: Objective) -> Self {
        self.rules.objective = objective;
        self
    }
}

impl<A: Action, F> fmt::Debug for LineSpec<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineSpec")
            .field("name", &self.name)
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}

/// What all actors of the plant know of a line, whatever its types.
#[derive(Debug)]
pub(crate) struct LineCell {
    pub name: Name,
    pub gate: Gate,
    pub meter: Meters,
    pub guard: Arc<Guard>,
    pub phases: Phases,
    pub follow_ups: FollowUps,
    pub rate: RateGate,
    pub account: Account,
    /// What share of its work has to succeed; the regulator changes it.
    pub objective: Publisher<Objective>,
    /// The rules and rates it has unless somebody sets others.
    pub built: (LineRules, Rates),
}

impl LineCell {
    /// The line as it is now; rates and quantiles are for kaizen to fill in.
    pub(crate) fn view(&self) -> LineView {
        let Standing { state, cord, .. } = self.gate.standing();
        let counts = self.meter.counts();
        LineView {
            name: self.name.clone(),
            state,
            cord,
            in_flight: counts.in_flight(),
            arrived: counts.arrived,
            refused: counts.of(Ended::Refused),
            rejected: counts.of(Ended::Rejected),
            succeeded: counts.of(Ended::Succeeded),
            failed: counts.of(Ended::Failed),
            timed_out: counts.of(Ended::TimedOut),
            cancelled: counts.of(Ended::Cancelled),
            intake: Vec::new(),
            success_ratio: None,
            throughput_per_s: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            objectives: self.account.standings(&self.meter),
            defects: self.account.defects.view(),
        }
    }
}

/// A line: where signals enter. Clones are handles to the same line, and survive restarts of the plant.
pub struct Line<A: Action, F = ()>(Arc<Inner<A, F>>);

struct Inner<A: Action, F> {
    cell: Arc<LineCell>,
    station: Arc<Station<A>>,
    policy: BoxPolicy<A::Input, F>,
    tier: Tier,
    ceiling: Arc<Ceiling>,
    routes: Arc<Routes>,
    /// Where the line stands in the table of routes.
    index: usize,
}

impl<A: Action, F: Sync + 'static> Line<A, F> {
    pub(crate) fn new(
        spec: LineSpec<A, F>,
        cell: Arc<LineCell>,
        ceiling: Arc<Ceiling>,
        routes: Arc<Routes>,
        index: usize,
        system: System,
    ) -> Self {
        let LineSpec { action, policy, tier, .. } = spec;
        let station = Arc::new(Station { action, cell: cell.clone(), system });
        Self(Arc::new(Inner { cell, station, policy, tier, ceiling, routes, index }))
    }

    /// The line's name.
    pub fn name(&self) -> &Name {
        &self.0.cell.name
    }

    /// How long a signal may take that does not say it.
    pub(crate) fn deadline(&self) -> Duration {
        self.0.cell.gate.deadline()
    }

    /// Takes a signal through the line and gives its one answer.
    ///
    /// `facts` is what the line's policy decides from, gathered before: the same signal and facts give the
    /// same verdict for ever.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Refused`] and [`SubmitError::Rejected`]: nothing was done.
    /// [`SubmitError::Failed`]: the action's own error.
    /// [`SubmitError::WorkerDied`] and [`SubmitError::TimedOut`]: what the action had begun may have happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws a signal whose action has not started, and releases its permit; an
    /// action that runs is not interrupted.
    pub async fn submit(
        &self,
        signal: Signal<A::Input>,
        facts: &F,
    ) -> Result<A::Output, SubmitError<A::Error>> {
        let line = &*self.0;
        let span = tracing::debug_span!(target: "gemba::signal", "process_signal",
            line = %line.cell.name,
            trace_id = tracing::field::Empty,
            outcome = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
        );
        if span.is_disabled() {
            return line.process(signal, facts, &span).await;
        }
        if let Some(context) = &signal.trace {
            join_trace(&span, context);
            span.record("trace_id", tracing::field::display(context.trace_id));
        }
        // Apart, so that nobody has room for it while nobody traces.
        Box::pin(line.process(signal, facts, &span).instrument(span.clone())).await
    }
}

impl<A: Action, F> Inner<A, F> {
    /// Counts the arrival now and the end when it comes, also when the caller goes away before.
    async fn process(
        &self,
        signal: Signal<A::Input>,
        facts: &F,
        span: &tracing::Span,
    ) -> Result<A::Output, SubmitError<A::Error>> {
        let system = &self.station.system;
        let now = system.now();
        let Signal { input, key, tenant, tier, deadline, trace } = signal;
        let (tier, trace) = (tier.unwrap_or(self.tier), trace.as_deref());
        let deadline = now + deadline.unwrap_or_else(|| self.cell.gate.deadline());
        let mut tally = Tally::begin(&self.cell, system, (now, tier), span, trace);

        let mut lap = self.cell.phases.begin(|| now);
        let result = match self.prepare(&input, facts, (tier, key), now, &mut lap) {
            Ok(permit) => {
                let route = Route { key, tenant, tier, deadline, span, trace, sent: lap.since() };
                self.perform(input, permit, route, &mut tally.pool, now).await
            }
            Err(error) => Err(error),
        };
        tally.end(&self.station.action, &result);
        result
    }

    /// Whether the line takes the signal, and its policy approves it.
    fn prepare(
        &self,
        input: &A::Input,
        facts: &F,
        (tier, key): (Tier, Option<u64>),
        now: Timestamp,
        lap: &mut Lap<'_>,
    ) -> Result<Permit, SubmitError<A::Error>> {
        let clock = || self.station.system.now();
        let received = tracing::debug_span!(target: "gemba::signal", "receive_signal");
        let permit = received.in_scope(|| self.admit(tier, key, now))?;
        drop(received);
        lap.over(Phase::Receive, clock);
        self.evaluate(input, facts).map_err(SubmitError::Rejected)?;
        lap.over(Phase::Evaluate, clock);
        Ok(permit)
    }

    /// Refuses at once, or gives the right to be in flight.
    fn admit(&self, tier: Tier, key: Option<u64>, now: Timestamp) -> Result<Permit, SubmitError<A::Error>> {
        if let Some(standing) = self.cell.gate.closed(tier) {
            return Err(closed(standing, tier));
        }
        let permit = self.ceiling.admit(tier).map_err(|(in_flight, limit)| {
            refused(RefusalReason::Overloaded { in_flight, limit }, RETRY_AFTER)
        })?;
        // Last, so that what is refused for another reason is not charged to its rate.
        self.cell
            .rate
            .admit(key, now)
            .map_err(|(scope, wait)| refused(RefusalReason::RateLimited { scope }, wait))?;
        Ok(permit)
    }

    fn evaluate(&self, input: &A::Input, facts: &F) -> Result<(), Rejection> {
        let span = tracing::debug_span!(
            target: "gemba::signal",
            "evaluate_policy",
            policy = self.policy.name(),
            version = self.policy.version(),
            violated = tracing::field::Empty,
        );
        let verdict = span.in_scope(|| self.policy.decide(input, facts));
        if let Err(rejection) = &verdict
            && !span.is_disabled()
        {
            let rules = rejection.violations.iter().map(|found| format!("{} v{}", found.rule, found.version));
            span.record("violated", rules.collect::<Vec<_>>().join(", "));
        }
        verdict
    }

    /// Sends the job to a pool and waits for its answer; a job that comes back unstarted because its holder
    /// died is sent again.
    async fn perform(
        &self,
        input: A::Input,
        permit: Permit,
        route: Route<'_>,
        pool: &mut Option<u64>,
        mut now: Timestamp,
    ) -> Result<A::Output, SubmitError<A::Error>> {
        let mut held = Some((input, permit));
        let mut last = Because::HolderDied;
        for attempt in 0..ROUTES_MAX {
            match self.send(&mut held, &route, pool, now) {
                Ok(ticket) => match ticket.await {
                    Answer::Done { result, respond } => {
                        if let (Some(respond), Some(_)) = (respond, route.sent) {
                            let took = self.station.system.now().since(respond.ended);
                            self.cell.phases.record(Phase::Respond, took);
                        }
                        return result.map_err(SubmitError::Failed);
                    }
                    Answer::TimedOut => return Err(SubmitError::TimedOut),
                    Answer::WorkerDied => return Err(SubmitError::WorkerDied),
                    Answer::Returned { input, permit, because } => {
                        (held, last) = (Some((input, permit)), because);
                    }
                },
                Err(RouteError::Full) => last = Because::QueueFull,
                Err(_) => last = Because::HolderDied,
            }
            if last != Because::HolderDied {
                break;
            }
            now = self.station.system.now();
            let left = route.deadline.since(now);
            if left.is_zero() {
                last = Because::Expired;
                break;
            }
            if attempt + 1 < ROUTES_MAX {
                tokio::time::sleep(Duration::from_millis(1 << attempt).min(left)).await;
                now = self.station.system.now();
            }
        }
        Err(self.turned_back(last, route.tier))
    }

    /// Hands what is held to the pool that is to do it, if there is one.
    fn send(
        &self,
        held: &mut Option<(A::Input, Permit)>,
        route: &Route<'_>,
        sent_to: &mut Option<u64>,
        now: Timestamp,
    ) -> Result<Ticket<A>, RouteError> {
        self.routes.choose(self.index, route.key, |pool| {
            *sent_to = Some(pool.hash);
            let (input, permit) = held.take().expect("it is held until it is sent");
            let context = route.trace.copied().map(Box::new);
            let trace = Trace { span: route.span.clone(), context, sent: route.sent };
            let Route { tier, tenant, deadline, .. } = *route;
            let (job, ticket) =
                Job::new(self.station.clone(), input, permit, (tier, tenant), deadline, trace);
            if !pool.exchange.offer(job, now) {
                ticket.leave_alone();
            }
            ticket
        })
    }

    fn turned_back(&self, because: Because, tier: Tier) -> SubmitError<A::Error> {
        match because {
            Because::QueueFull => refused(RefusalReason::QueueFull, RETRY_AFTER),
            Because::TurnedOut { why, retry_after } => refused(reason(why), retry_after),
            Because::Expired => refused(RefusalReason::Expired, RETRY_AFTER),
            Because::BreakerOpen { retry_in } => refused(RefusalReason::BreakerOpen, retry_in),
            Because::Busy { retry_in } => refused(RefusalReason::DownstreamBusy, retry_in),
            Because::HolderDied => match self.cell.gate.closed(tier) {
                Some(standing) => closed(standing, tier),
                // The pools stop before the gates close.
                None if self.station.system.is_stopping() => refused(RefusalReason::Draining, RETRY_AFTER),
                None => refused(RefusalReason::Restarting, Duration::from_millis(100)),
            },
        }
    }
}

/// Where a signal is to go.
struct Route<'a> {
    key: Option<u64>,
    tenant: Tenant,
    tier: Tier,
    deadline: Timestamp,
    span: &'a tracing::Span,
    trace: Option<&'a TraceContext>,
    /// When its last phase was over, if it is timed.
    sent: Option<Timestamp>,
}

impl<A: Action, F> Clone for Line<A, F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Action, F> fmt::Debug for Line<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("name", &self.0.cell.name).finish_non_exhaustive()
    }
}
