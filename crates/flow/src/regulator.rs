//! The regulator: sets the limits of admission, opens and closes the lines.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::admission::{Admission, Limits, Tier, admits};
use gemba_core::control::{Control, ControlError};
use gemba_core::exit::ExitReason;
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::{Event, Seq};
use gemba_core::time::Timestamp;
use gemba_core::view::{CordView, LineState};
use gemba_kernel::{Address, CallError, Context, Reply, Server, Stop, System};

use crate::floor::Floor;
use crate::gate::Standing;
use crate::line::LineCell;
use crate::permit::Permit;
use crate::submit::{RETRY_AFTER, Refusal, RefusalReason};

/// How often the regulator looks at the count.
const TICK: Duration = Duration::from_millis(250);

/// How long the soft limit has to be kept before passing it is told again.
const SOFT_QUIET: Duration = Duration::from_secs(10);

/// What the regulator understands.
#[derive(Debug)]
pub(crate) enum RegulatorMsg {
    SetLimits {
        limits: Limits,
        why: Arc<str>,
        reply: Reply<Seq>,
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
    soft_passed_at: Option<Timestamp>,
}

impl Regulator {
    pub(crate) fn new(floor: Arc<Floor>, system: System) -> Self {
        Self { floor, system, soft_passed_at: None }
    }

    fn set_limits(&self, limits: Limits, why: Arc<str>, ctx: &Context<RegulatorMsg>) -> Seq {
        let hard_from = self.floor.ceiling.limits().hard(Tier::Critical);
        let hard_to = limits.hard(Tier::Critical);
        self.floor.ceiling.set_limits(limits);
        self.publish(ctx);
        ctx.system().record(None, ctx.path(), Event::LimitsChanged { hard_from, hard_to, why })
    }

    /// Checks, writes the receipt and sets the gate in one step, so that the three never disagree.
    fn control(&self, control: Control, ctx: &Context<RegulatorMsg>) -> Result<Seq, ControlError> {
        match control {
            Control::PullCord { line, by, why } => {
                let cell = self.line(&line)?;
                if let Some(cord) = cell.gate.standing().cord {
                    return Err(ControlError::AlreadyPulled { line, by: cord.by });
                }
                let cord = CordView { by, why, since_unix_ms: ctx.system().unix_ms() };
                let event = Event::CordPulled { line, by: cord.by.clone(), why: cord.why.clone() };
                let receipt = ctx.system().record(None, ctx.path(), event);
                set_cord(cell, Some(cord));
                Ok(receipt)
            }
            Control::ResetCord { line, by } => {
                let cell = self.line(&line)?;
                if cell.gate.standing().cord.is_none() {
                    return Err(ControlError::NotPulled { line });
                }
                let receipt = ctx.system().record(None, ctx.path(), Event::CordReset { line, by });
                set_cord(cell, None);
                Ok(receipt)
            }
            // The board and kaizen take these.
            Control::Acknowledge { .. } | Control::Silence { .. } | Control::AcceptBaseline { .. } => {
                Err(ControlError::Unavailable)
            }
        }
    }

    fn line(&self, line: &Name) -> Result<&LineCell, ControlError> {
        self.floor.line(line).map(AsRef::as_ref).ok_or_else(|| ControlError::UnknownLine {
            line: line.clone(),
            known: self.floor.line_names().into(),
        })
    }

    fn tick(&mut self, ctx: &Context<RegulatorMsg>) {
        self.publish(ctx);
        let in_flight = self.floor.ceiling.in_flight();
        // As a tier without the reserve would find it: those are the first to be refused.
        let limits = self.floor.ceiling.limits();
        if admits(in_flight, &limits, Tier::Normal) == Admission::Admit {
            return;
        }
        let soft = limits.soft(Tier::Normal);
        let quiet = self.soft_passed_at.is_none_or(|at| SOFT_QUIET < ctx.now().since(at));
        self.soft_passed_at = Some(ctx.now());
        if quiet {
            ctx.system().record(None, ctx.path(), Event::SoftLimitPassed { in_flight, soft });
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
        let in_flight = f64::from(self.floor.ceiling.in_flight());
        instruments.gauge(&metric::ADMITTED_IN_FLIGHT, &[]).set(in_flight);
    }
}

fn set_cord(line: &LineCell, cord: Option<CordView>) {
    let state = if cord.is_some() { LineState::Stopped } else { LineState::Running };
    line.gate.set(Standing { state, cord });
}

impl Server for Regulator {
    type Msg = RegulatorMsg;

    async fn init(&mut self, ctx: &mut Context<RegulatorMsg>) -> Result<(), Stop> {
        for line in &self.floor.lines {
            // A cord that was pulled before a restart stays pulled.
            set_cord(line, line.gate.standing().cord);
        }
        self.publish(ctx);
        ctx.every(TICK, || RegulatorMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: RegulatorMsg, ctx: &mut Context<RegulatorMsg>) -> Result<(), Stop> {
        match msg {
            RegulatorMsg::SetLimits { limits, why, reply } => reply.send(self.set_limits(limits, why, ctx)),
            RegulatorMsg::Control { control, reply } => reply.send(self.control(control, ctx)),
            RegulatorMsg::Tick => self.tick(ctx),
        }
        Ok(())
    }

    /// Refuses what still comes when the node goes down. A restart of the plant is too short to refuse for.
    async fn terminate(&mut self, _: &ExitReason) {
        if self.system.is_stopping() {
            for line in &self.floor.lines {
                line.gate.set(Standing { state: LineState::Draining, cord: line.gate.standing().cord });
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
