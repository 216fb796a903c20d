//! The journal's actor: logs and counts each receipt, in one place, so that log, counters and receipts agree.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::light::Light;
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::{BreakerState, Event, Receipt, Seq};
use tokio::sync::watch;

use crate::exit::Stop;
use crate::instruments::Instruments;
use crate::task::TaskContext;

/// How many receipts are read at one go.
const PAGE: usize = 1024;

/// How long it rests between two readings: a storm wakes it a hundred times a second, not for each receipt.
const REST: Duration = Duration::from_millis(10);

/// How many of them are written as lines; of a storm beyond that the log tells the count.
const LINES_MAX: usize = 256;

/// Follows the ring until it is asked to stop. `position` outlives this life: what an earlier one has
/// written is not written again.
pub(crate) async fn scribe(ctx: TaskContext, position: Arc<watch::Sender<Seq>>) -> Result<(), Stop> {
    let journal = ctx.system().journal();
    let instruments = ctx.system().instruments().clone();
    let mut newest = journal.subscribe();
    let mut stopping = false;
    loop {
        let begun = ctx.system().now();
        let page = journal.after(*position.borrow(), None, PAGE);
        for (line, receipt) in page.receipts.iter().enumerate() {
            count(&instruments, receipt);
            if line < LINES_MAX {
                log(receipt);
            }
        }
        let unlogged = page.receipts.len().saturating_sub(LINES_MAX) as u64 + page.forgotten;
        if 0 < unlogged {
            tracing::warn!(receipts = unlogged, "receipts not logged");
        }
        position.send_replace(page.next);
        ctx.count(page.receipts.len() as u64, ctx.system().now().since(begun));
        if page.next < journal.newest() {
            continue;
        }
        if stopping {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = ctx.stopped() => stopping = true,
            changed = newest.changed() => changed?,
        }
        if !stopping {
            // What is written meanwhile is read with the rest; a stop is not kept waiting.
            let _ = tokio::time::timeout(REST, ctx.stopped()).await;
        }
    }
}

fn count(to: &Instruments, receipt: &Receipt) {
    to.counter(&metric::RECEIPTS, &[]).increment(1);
    match &receipt.event {
        Event::ChildExited { reason, .. } => to.counter(&metric::EXITS, &[word(reason)]).increment(1),
        Event::ChildRestarted { .. } => to.counter(&metric::RESTARTS, &[]).increment(1),
        Event::HandlerStuck { .. } => to.counter(&metric::STUCK, &[]).increment(1),
        Event::SupervisorGaveUp { .. } => to.counter(&metric::GAVE_UP, &[]).increment(1),
        Event::BreakerMoved { breaker, to: state, .. } => {
            let state = match state {
                BreakerState::Closed => "closed",
                BreakerState::Open => "open",
                BreakerState::HalfOpen => "half_open",
            };
            to.counter(&metric::BREAKER_MOVES, &[breaker.as_str(), state]).increment(1);
        }
        Event::PoolResized { pool, from, to: size, .. } => {
            let direction = if from < size { "up" } else { "down" };
            to.counter(&metric::POOL_RESIZES, &[pool.as_str(), direction]).increment(1);
        }
        Event::CapacityMoved { from, to: pool, .. } => {
            to.counter(&metric::MOVES, &[from.as_str(), pool.as_str()]).increment(1);
        }
        Event::SurgeStarted { .. } => to.counter(&metric::SURGES, &[]).increment(1),
        Event::SoftLimitPassed { tier, .. } => {
            to.counter(&metric::SOFT_PASSED, &[tier.word()]).increment(1);
        }
        Event::LadderMoved { line, defect, to: light, .. } => {
            to.counter(&metric::LADDER_STEPS, &[line.as_str(), defect.word(), light.colour()]).increment(1);
        }
        Event::LevelMoved { line, measure, to: light, .. } => {
            let of = line.as_ref().map_or("node", Name::as_str);
            to.counter(&metric::LADDER_STEPS, &[of, measure.word(), light.colour()]).increment(1);
        }
        Event::CordPulled { line, .. } => to.counter(&metric::CORDS, &[line.as_str()]).increment(1),
        Event::Alerted { light, notice, .. } => {
            to.counter(&metric::ALERTS, &[light.colour(), notice.word()]).increment(1);
        }
        Event::DeliveryFailed { route, .. } => {
            to.counter(&metric::ALERTS_UNDELIVERED, &[route.as_str()]).increment(1);
        }
        Event::CardDied { queue, .. } => to.counter(&metric::CARDS_DEAD, &[queue.as_str()]).increment(1),
        Event::RolloutMoved { service, light, .. } => {
            to.counter(&metric::ROLLOUT_STEPS, &[service.as_str(), light.colour()]).increment(1);
        }
        Event::NodeStarted { .. }
        | Event::NodeStopping { .. }
        | Event::CheckMoved { .. }
        | Event::PoolHealthMoved { .. }
        | Event::HealthMoved { .. }
        | Event::QueueMoved { .. }
        | Event::SignalEnded { .. }
        | Event::FollowUpsFailed { .. }
        | Event::ChildStarted { .. }
        | Event::ChildStartFailed { .. }
        | Event::ChildUnkillable { .. }
        | Event::HandlerRecovered { .. }
        | Event::SupervisorHalted { .. }
        | Event::SupervisorResumed { .. }
        | Event::KillRequested { .. }
        | Event::SurgeEnded { .. }
        | Event::CordReset { .. }
        | Event::LimitsChanged { .. }
        | Event::SettingsChanged { .. }
        | Event::SettingsRefused { .. }
        | Event::BurnMoved { .. }
        | Event::RegressionFound { .. }
        | Event::RegressionOver { .. }
        | Event::BaselineSet { .. }
        | Event::TestDecided { .. }
        | Event::AlertAcknowledged { .. }
        | Event::AlertsSilenced { .. }
        | Event::LineMoved { .. }
        | Event::AffinityBound { .. }
        | Event::AffinityEnded { .. }
        | Event::LightChanged { .. } => {}
    }
}

const fn word(reason: &ExitReason) -> &'static str {
    match reason {
        ExitReason::Normal => "normal",
        ExitReason::Shutdown | ExitReason::ShutdownWith { .. } => "shutdown",
        ExitReason::Error { .. } => "error",
        ExitReason::Panic { .. } => "panic",
        ExitReason::Killed => "killed",
        ExitReason::NoProc => "noproc",
        ExitReason::GaveUp { .. } => "gave_up",
    }
}

fn log(receipt: &Receipt) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                seq = receipt.seq.0,
                cause = receipt.cause.map(|cause| cause.0),
                actor = %receipt.path,
                event = receipt.event.kind(),
                "{}",
                receipt.event
            )
        };
    }
    // The names and fields of lights are read by machines: OpenTelemetry has them as events.
    macro_rules! light {
        ($level:ident, $station:ident, $from:ident, $to:ident) => {
            tracing::$level!(
                name: "gemba.andon.light",
                target: "gemba::andon",
                seq = receipt.seq.0,
                cause = receipt.cause.map(|cause| cause.0),
                actor = %receipt.path,
                event = receipt.event.kind(),
                station = $station.as_str(),
                from = $from.colour(),
                light = $to.colour(),
                "{}",
                receipt.event
            )
        };
    }
    match &receipt.event {
        Event::LightChanged { station, from, to, .. } => match to {
            Light::Green => light!(info, station, from, to),
            Light::Yellow => light!(warn, station, from, to),
            Light::Red | Light::Purple => light!(error, station, from, to),
        },
        Event::SupervisorGaveUp { .. }
        | Event::SupervisorHalted { .. }
        | Event::ChildUnkillable { .. }
        | Event::DeliveryFailed { .. }
        | Event::CardDied { .. } => {
            line!(error);
        }
        Event::ChildExited { reason, .. } if reason.is_clean() => line!(debug),
        Event::RolloutMoved { light: Light::Green, .. } => line!(info),
        Event::ChildStarted { .. } => line!(debug),
        Event::SignalEnded { outcome, .. } if !outcome.is_defect() => line!(debug),
        Event::ChildExited { .. }
        | Event::ChildStartFailed { .. }
        | Event::ChildRestarted { .. }
        | Event::HandlerStuck { .. }
        | Event::BreakerMoved { .. }
        | Event::CordPulled { .. }
        | Event::SurgeStarted { .. }
        | Event::SoftLimitPassed { .. }
        | Event::BurnMoved { .. }
        | Event::RegressionFound { .. }
        | Event::QueueMoved { .. }
        | Event::RolloutMoved { .. }
        | Event::FollowUpsFailed { .. }
        | Event::SignalEnded { .. }
        | Event::LadderMoved { .. }
        | Event::LevelMoved { .. }
        | Event::LineMoved { .. }
        | Event::CheckMoved { .. }
        | Event::PoolHealthMoved { .. }
        | Event::SettingsRefused { .. }
        | Event::HealthMoved { .. } => line!(warn),
        Event::NodeStarted { .. }
        | Event::NodeStopping { .. }
        | Event::HandlerRecovered { .. }
        | Event::SupervisorResumed { .. }
        | Event::KillRequested { .. }
        | Event::PoolResized { .. }
        | Event::CapacityMoved { .. }
        | Event::AffinityBound { .. }
        | Event::AffinityEnded { .. }
        | Event::SurgeEnded { .. }
        | Event::CordReset { .. }
        | Event::LimitsChanged { .. }
        | Event::RegressionOver { .. }
        | Event::BaselineSet { .. }
        | Event::TestDecided { .. }
        | Event::Alerted { .. }
        | Event::AlertAcknowledged { .. }
        | Event::AlertsSilenced { .. }
        | Event::SettingsChanged { .. } => line!(info),
    }
}
