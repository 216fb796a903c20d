//! The regulator: sets the limits of admission, opens and closes the lines.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::admission::{Admission, Limits, Tier, admits};
use gemba_core::control::{Control, ControlError};
use gemba_core::exit::ExitReason;
use gemba_core::jidoka::{Cause, Defect, Jidoka, Moved, Stance};
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::{Event, Seq};
use gemba_core::time::Timestamp;
use gemba_core::view::{CordView, LineState};
use gemba_kernel::{Address, CallError, Context, Reply, Server, Stop, System};

use crate::floor::Floor;
use crate::gate::{Standing, state_of};
use crate::health::HealthMsg;
use crate::permit::Permit;
use crate::rate::RateScope;
use crate::settings::{ApplyError, Settings, SettingsErrors};
use crate::submit::{RETRY_AFTER, Refusal, RefusalReason};

mod apply;

/// How often the regulator looks at the count.
const TICK: Duration = Duration::from_millis(250);

/// How long the soft limit has to be kept before passing it is told again.
const SOFT_QUIET: Duration = Duration::from_secs(10);

/// The tiers whose soft limits are told of: those without the reserve, who are the first to be refused and have one
/// limit, and the critical one.
const WARNED: [Tier; 2] = [Tier::Normal, Tier::Critical];

/// What the regulator understands.
#[derive(Debug)]
pub(crate) enum RegulatorMsg {
    SetLimits {
        limits: Limits,
        why: Arc<str>,
        reply: Reply<Seq>,
    },
    /// Changes settings, all or none.
    Apply {
        settings: Box<Settings>,
        why: Arc<str>,
        reply: Reply<Result<Seq, SettingsErrors>>,
    },
    /// Stops a line, or lets it run again; answers the operator with the receipt.
    Control {
        control: Control,
        reply: Reply<Result<Seq, ControlError>>,
    },
    Tick,
}

/// The actor. Callers never ask it: they read what it has set.
pub(crate) struct Regulator {
    floor: Arc<Floor>,
    system: System,
    /// Who asks the checks of the node.
    monitor: Address<HealthMsg>,
    stances: Vec<Jidoka>,
    /// When the soft limit of each tier of [`WARNED`] was passed last.
    soft_passed_at: [Option<Timestamp>; WARNED.len()],
}

impl Regulator {
    pub(crate) fn new(floor: Arc<Floor>, system: System, monitor: Address<HealthMsg>) -> Self {
        let rules = *floor.jidoka.latest();
        let mut stances = (*floor.stances.latest()).clone();
        stances.resize_with(floor.lines.len(), || Jidoka::new(rules));
        // Those of an earlier life have the rules that were in force when a line moved last.
        for stance in &mut stances {
            stance.set_rules(rules);
        }
        Self { floor, system, monitor, stances, soft_passed_at: [None; WARNED.len()] }
    }

    fn set_limits(&self, limits: Limits, why: Arc<str>, ctx: &Context<RegulatorMsg>) -> Seq {
        let hard_from = self.floor.ceiling.limits().hard(Tier::Critical);
        let hard_to = limits.hard(Tier::Critical);
        self.floor.ceiling.set_limits(limits);
        self.publish(ctx);
        ctx.system().record(None, ctx.path(), Event::LimitsChanged { hard_from, hard_to, why })
    }

    /// Checks, writes the receipt and sets the gate in one step, so that the three never disagree.
    fn control(&mut self, control: Control, ctx: &Context<RegulatorMsg>) -> Result<Seq, ControlError> {
        match control {
            Control::PullCord { line, by, why } => {
                let index = self.line(&line)?;
                let cell = &self.floor.lines[index];
                if let Some(cord) = cell.gate.standing().cord {
                    return Err(ControlError::AlreadyPulled { line, by: cord.by });
                }
                let cord = CordView { by, why, since_unix_ms: ctx.system().unix_ms() };
                let event = Event::CordPulled { line, by: cord.by.clone(), why: cord.why.clone() };
                let receipt = ctx.system().record(None, ctx.path(), event);
                self.set(index, Some(cord));
                Ok(receipt)
            }
            Control::ForceBreaker { breaker, to, by, why } => {
                let mut breakers = self.floor.lines.iter().map(|line| &line.guard);
                match breakers.find(|guard| *guard.name() == breaker) {
                    Some(guard) => Ok(guard.force(to, &by, &why)),
                    // Each line has a breaker of its own name; others are of regions.
                    None => ctx.system().force_breaker(&breaker, to, &by, &why).map_err(|others| {
                        let others = others.iter().map(|name| format!(", {name}"));
                        let known = self.floor.line_names() + &others.collect::<String>();
                        ControlError::UnknownBreaker { breaker, known: known.into() }
                    }),
                }
            }
            Control::ResetCord { line, by } => {
                let index = self.line(&line)?;
                let pulled = self.floor.lines[index].gate.standing().cord.is_some();
                if !pulled && self.stances[index].stance() == Stance::Running {
                    return Err(ControlError::NotPulled { line });
                }
                let receipt = ctx.system().record(None, ctx.path(), Event::CordReset { line, by });
                let defects = self.defects(index);
                let moved = self.stances[index].reset(&defects);
                self.tell(index, moved, Some(receipt), ctx);
                self.set(index, None);
                Ok(receipt)
            }
            // The board, the balancer and kaizen take these.
            Control::Acknowledge { .. }
            | Control::Silence { .. }
            | Control::AcceptBaseline { .. }
            | Control::BindKeys { .. }
            | Control::ClearKeys { .. }
            | Control::Rebalance { .. } => Err(ControlError::Unavailable),
        }
    }

    /// Where the line stands in the list.
    fn line(&self, line: &Name) -> Result<usize, ControlError> {
        self.floor.lines.iter().position(|cell| cell.name == *line).ok_or_else(|| ControlError::UnknownLine {
            line: line.clone(),
            known: self.floor.line_names().into(),
        })
    }

    /// What is wrong with a line.
    fn defects(&self, index: usize) -> Vec<Defect> {
        let learnt = self.floor.learnt.latest();
        let Some(line) = learnt.get(index) else { return Vec::new() };
        let ladders = [(Cause::Failures, line.failures.light()), (Cause::Latency, line.late.light())];
        let defect = |(cause, light)| Defect { cause, light, why: format!("{cause}: {light}").into() };
        let levels = line.levels.defects();
        ladders
            .into_iter()
            .map(defect)
            .chain(levels)
            .chain(self.floor.node_levels.latest().defects())
            .collect()
    }

    /// The newest step of a ladder that moves the line.
    fn step(&self, index: usize) -> Option<Seq> {
        let (rules, learnt) = (self.floor.jidoka.latest(), self.floor.learnt.latest());
        let learnt = learnt.get(index)?;
        let [failures, late] = learnt.steps;
        let drives = |cause, step: Option<Seq>| step.filter(|_| rules.drives(cause));
        let shares = drives(Cause::Failures, failures).max(drives(Cause::Latency, late));
        shares.max(learnt.levels.step(&rules)).max(self.floor.node_levels.latest().step(&rules))
    }

    /// Lets each line slow down, stop, or run again.
    fn judge(&mut self, ctx: &Context<RegulatorMsg>) {
        let most = self.floor.jidoka.latest().stopped_max(self.stances.len());
        for index in 0..self.stances.len() {
            let stopped = self.stances.iter().filter(|line| Stance::Draining <= line.stance()).count();
            let defects = self.defects(index);
            let in_flight = self.floor.lines[index].meter.counts().in_flight();
            let moved = self.stances[index].observe(&defects, in_flight, stopped < most, ctx.now());
            if moved.is_some() {
                self.tell(index, moved, self.step(index), ctx);
                self.set(index, self.floor.lines[index].gate.standing().cord);
            }
        }
    }

    fn tell(&self, index: usize, moved: Option<Moved>, cause: Option<Seq>, ctx: &Context<RegulatorMsg>) {
        if let Some(Moved { from, to, why }) = moved {
            let line = self.floor.lines[index].name.clone();
            let (from, takes, to) = (state_of(from), to.takes(), state_of(to));
            ctx.system().record(cause, ctx.path(), Event::LineMoved { line, from, to, takes, why });
        }
    }

    /// Sets the gate of a line by its cord and by what it takes.
    fn set(&self, index: usize, cord: Option<CordView>) {
        let stance = &self.stances[index];
        self.floor.lines[index].gate.set(Standing::of(cord, stance.stance(), stance.why()));
        self.floor.stances.publish(self.stances.clone());
    }

    fn tick(&mut self, ctx: &Context<RegulatorMsg>) {
        self.publish(ctx);
        self.judge(ctx);
        self.warn(ctx);
    }

    /// Tells when more is in flight than the soft limit of a tier.
    fn warn(&mut self, ctx: &Context<RegulatorMsg>) {
        let (in_flight, limits) = (self.floor.ceiling.in_flight(), self.floor.ceiling.limits());
        for (tier, passed_at) in WARNED.into_iter().zip(&mut self.soft_passed_at) {
            if admits(in_flight, &limits, tier) == Admission::Admit {
                continue;
            }
            let quiet = passed_at.is_none_or(|at| SOFT_QUIET < ctx.now().since(at));
            *passed_at = Some(ctx.now());
            if quiet {
                let event = Event::SoftLimitPassed { in_flight, soft: limits.soft(tier), tier };
                ctx.system().record(None, ctx.path(), event);
            }
        }
    }

    fn publish(&self, ctx: &Context<RegulatorMsg>) {
        let instruments = ctx.system().instruments();
        let limits = self.floor.ceiling.limits();
        for (word, value) in [
            ("soft", limits.soft(Tier::Critical)),
            ("soft_others", limits.soft(Tier::Normal)),
            ("hard", limits.hard(Tier::Critical)),
            ("hard_others", limits.hard(Tier::Normal)),
        ] {
            instruments.gauge(&metric::LIMIT, &[word]).set(f64::from(value));
        }
        let in_flight = self.floor.ceiling.in_flight();
        instruments.gauge(&metric::ADMITTED_IN_FLIGHT, &[]).set(f64::from(in_flight));
        for tier in Tier::ALL {
            let load = limits.load_ratio(in_flight, tier);
            instruments.gauge(&metric::LOAD, &[tier.word()]).set(load);
        }
        for line in &self.floor.lines {
            let name = line.name.as_str();
            for scope in RateScope::ALL {
                let refused = instruments.counter(&metric::RATE_LIMITED, &[name, scope.word()]);
                refused.absolute(line.rate.refused(scope));
            }
            if let Some((limit, in_flight)) = line.guard.calls() {
                instruments.gauge(&metric::DOWNSTREAM, &[name, "limit"]).set(f64::from(limit));
                instruments.gauge(&metric::DOWNSTREAM, &[name, "in_flight"]).set(f64::from(in_flight));
            }
            if let Some(keys) = line.rate.keys() {
                instruments.gauge(&metric::RATE_KEYS, &[name]).set(keys as f64);
            }
        }
    }
}

impl Server for Regulator {
    type Msg = RegulatorMsg;

    async fn init(&mut self, ctx: &mut Context<RegulatorMsg>) -> Result<(), Stop> {
        for index in 0..self.stances.len() {
            // A cord that was pulled before a restart stays pulled.
            self.set(index, self.floor.lines[index].gate.standing().cord);
        }
        self.publish(ctx);
        ctx.every(TICK, || RegulatorMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: RegulatorMsg, ctx: &mut Context<RegulatorMsg>) -> Result<(), Stop> {
        match msg {
            RegulatorMsg::SetLimits { limits, why, reply } => reply.send(self.set_limits(limits, why, ctx)),
            RegulatorMsg::Control { control, reply } => reply.send(self.control(control, ctx)),
            RegulatorMsg::Apply { settings, why, reply } => reply.send(self.apply(&settings, why, ctx)),
            RegulatorMsg::Tick => self.tick(ctx),
        }
        Ok(())
    }

    /// Refuses what still comes when the node goes down. A restart of the plant is too short to refuse for.
    async fn terminate(&mut self, _: &ExitReason) {
        if self.system.is_stopping() {
            for line in &self.floor.lines {
                let cord = line.gate.standing().cord;
                line.gate.set(Standing { state: LineState::Draining, cord, takes: None, why: None });
            }
        }
    }
}

/// The regulator, for those who operate it.
#[derive(Debug, Clone)]
pub struct RegulatorHandle {
    pub(crate) address: Address<RegulatorMsg>,
    pub(crate) floor: Arc<Floor>,
}

impl RegulatorHandle {
    /// Signals in flight now.
    pub fn in_flight(&self) -> u32 {
        self.floor.ceiling.in_flight()
    }

    /// The limits now.
    pub fn limits(&self) -> Limits {
        self.floor.ceiling.limits()
    }

    /// Takes a permit for work that does not go through a line, but counts against the same limits.
    ///
    /// # Errors
    ///
    /// [`RefusalReason::Overloaded`], at once.
    pub fn admit(&self, tier: Tier) -> Result<Permit, Refusal> {
        self.floor.ceiling.admit(tier).map_err(|(in_flight, limit)| Refusal {
            reason: RefusalReason::Overloaded { in_flight, limit },
            retry_after: RETRY_AFTER,
        })
    }

    /// Changes settings of the running plant, as [`Plant::apply`](crate::Plant::apply) does.
    ///
    /// # Errors
    ///
    /// [`ApplyError`]; the old settings stay in force.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn apply(&self, settings: Settings, why: impl Into<Arc<str>>) -> Result<Seq, ApplyError> {
        let (settings, why) = (Box::new(settings), why.into());
        Ok(self.address.call(|reply| RegulatorMsg::Apply { settings, why, reply }).await??)
    }

    /// Sets other limits, for every signal from now on. Signals in flight stay in flight.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the regulator is restarting; the limits that were set stay.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn set_limits(&self, limits: Limits, why: impl Into<Arc<str>>) -> Result<Seq, CallError> {
        let why = why.into();
        self.address.call(|reply| RegulatorMsg::SetLimits { limits, why, reply }).await
    }
}
