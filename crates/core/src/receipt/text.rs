//! What happened, as a sentence for people.

use std::fmt;

use super::{Event, Seq};
use crate::admission::Tier;
use crate::jidoka::Cause;
use crate::light::Light;

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Event {
    #[allow(clippy::too_many_lines, reason = "one sentence for each event")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeStarted { node } => write!(f, "node {node} started"),
            Self::NodeStopping { why } => write!(f, "node stops: {why}"),
            Self::ChildStarted { incarnation } => write!(f, "started as {incarnation}"),
            Self::ChildExited { incarnation, reason } => write!(f, "{incarnation} exited: {reason}"),
            Self::ChildRestarted { incarnation, restarts } => {
                write!(f, "restarted as {incarnation} (restart {restarts})")
            }
            Self::ChildStartFailed { reason } => write!(f, "failed to start: {reason}"),
            Self::ChildUnkillable { incarnation } => {
                write!(f, "{incarnation} ignores its kill: it runs code that never yields")
            }
            Self::HandlerStuck { incarnation, handles, for_ms, limit_ms } => {
                write!(f, "{incarnation} is stuck: it handles {handles} for {for_ms} ms (limit {limit_ms})")
            }
            Self::HandlerRecovered { incarnation, for_ms } => {
                write!(f, "{incarnation} goes on after {for_ms} ms")
            }
            Self::SupervisorGaveUp { reason } => write!(f, "{reason}"),
            Self::SupervisorHalted { by, why } => write!(f, "halted by {by}: {why}"),
            Self::SupervisorResumed { by } => write!(f, "runs again, by {by}"),
            Self::KillRequested { by } => write!(f, "kill asked for by {by}"),
            Self::BreakerMoved { breaker, from, to, why } => {
                write!(f, "breaker {breaker} {from} → {to}: {why}")
            }
            Self::PoolResized { pool, from, to, why } => {
                write!(f, "pool {pool} {from} → {to} workers: {why}")
            }
            Self::CapacityMoved { from, to, balance_milli, by } => {
                let balance = f64::from(*balance_milli) / 1e3;
                write!(f, "pool {from} lends a worker to pool {to}: balance {balance:.2}")?;
                by.as_ref().map_or(Ok(()), |by| write!(f, ", asked for by {by}"))
            }
            Self::AffinityBound { group, pool, keys, by, why } => {
                write!(f, "{keys} keys of group {group} belong to pool {pool}, by {by}: {why}")
            }
            Self::AffinityEnded { group, pool, why } => {
                write!(f, "group {group} belongs to pool {pool} no more: {why}")
            }
            Self::SurgeStarted { fast_milli, baseline_milli } => write!(
                f,
                "surge: {:.1}/s against a baseline of {:.1}/s",
                *fast_milli as f64 / 1e3,
                *baseline_milli as f64 / 1e3
            ),
            Self::SurgeEnded { lasted_ms, cost_micro } => write!(
                f,
                "surge over after {:.1} s at a cost of {:.2}",
                *lasted_ms as f64 / 1e3,
                *cost_micro as f64 / 1e6
            ),
            Self::CordPulled { line, by, why } => write!(f, "cord of line {line} pulled by {by}: {why}"),
            Self::CordReset { line, by } => write!(f, "cord of line {line} reset by {by}"),
            Self::LineMoved { line, from, to, takes, why } => match takes {
                None | Some(Tier::Batch) => write!(f, "line {line} {from} → {to}: {why}"),
                Some(Tier::Normal) => write!(f, "line {line} {from} → {to}, sheds batch signals: {why}"),
                Some(Tier::Critical) => {
                    write!(f, "line {line} {from} → {to}, takes critical signals only: {why}")
                }
            },
            Self::SettingsChanged { changes, why } => {
                let names: Vec<_> = changes.iter().map(|change| &*change.setting).collect();
                write!(f, "settings changed: {}: {why}", names.join(", "))
            }
            Self::SettingsRefused { faults, faults_total, why } => {
                let s = if *faults_total == 1 { "" } else { "s" };
                write!(f, "{faults_total} fault{s} in the settings, nothing was changed: {why}: ")?;
                f.write_str(&faults.join("; "))?;
                match (*faults_total as usize).saturating_sub(faults.len()) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            Self::LimitsChanged { hard_from, hard_to, why } => {
                write!(f, "hard limit {hard_from} → {hard_to}: {why}")
            }
            Self::SoftLimitPassed { in_flight, soft, tier } => {
                write!(f, "{in_flight} in flight, soft limit {soft} of {tier} signals")
            }
            Self::LadderMoved { line, defect, from, to, failures, outcomes } => {
                let how = if *defect == Cause::Latency { "ran out of time" } else { "failed" };
                write!(f, "line {line} {from} → {to}: {failures} of {outcomes} {how}")
            }
            Self::LevelMoved { line, measure, from, to, value, limit } => {
                match line {
                    Some(line) => write!(f, "line {line} {from} → {to}: {measure}")?,
                    None => write!(f, "node {from} → {to}: {measure}")?,
                }
                write!(f, " is {}, threshold {}", measure.say(*value), measure.say(*limit))
            }
            Self::BurnMoved { line, from, to, burn_milli } => write!(
                f,
                "error budget of line {line} {from} → {to}: it burns {:.1} times too fast",
                *burn_milli as f64 / 1e3
            ),
            Self::RegressionFound { line, p95_us_then, p95_us_now, chance_millionths } => write!(
                f,
                "line {line} is slower than its baseline: p95 {:.1} → {:.1} ms (by chance: {:.4} %)",
                *p95_us_then as f64 / 1e3,
                *p95_us_now as f64 / 1e3,
                *chance_millionths as f64 / 1e4
            ),
            Self::RegressionOver { line } => write!(f, "line {line} is as fast as its baseline again"),
            Self::BaselineSet { line, p95_us, outcomes, why } => write!(
                f,
                "line {line} has a baseline of {outcomes} outcomes, p95 {:.1} ms: {why}",
                *p95_us as f64 / 1e3
            ),
            Self::TestDecided { test, verdict } => write!(f, "test {test} is over: {verdict}"),
            Self::Alerted { station, light, notice, routes } => {
                write!(f, "alert for {station} ({light}) {} to", notice.word())?;
                routes.iter().try_for_each(|route| write!(f, " {route}"))
            }
            Self::DeliveryFailed { route, station, why } => {
                write!(f, "route {route} could not tell of {station}: {why}")
            }
            Self::AlertAcknowledged { station, by } => write!(f, "alert for {station} acknowledged by {by}"),
            Self::AlertsSilenced { stations, for_ms: 0, by, .. } => {
                write!(f, "silence of {stations} ended by {by}")
            }
            Self::AlertsSilenced { stations, for_ms, by, why } => {
                write!(f, "alerts for {stations} silenced for {} s by {by}: {why}", for_ms / 1000)
            }
            Self::FollowUpsFailed { line, failed, why } => {
                write!(f, "{failed} follow-ups of line {line} failed: {why}")
            }
            Self::SignalEnded { line, tier, outcome, took_us, why, trace } => {
                let took_ms = *took_us as f64 / 1e3;
                write!(f, "{tier} signal of line {line} {outcome} after {took_ms:.1} ms")?;
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))?;
                trace.map_or(Ok(()), |trace| write!(f, " (trace {trace})"))
            }
            Self::CardDied { queue, card, deliveries, why } => {
                write!(f, "card {card} of queue {queue} died after {deliveries} deliveries: {why}")
            }
            Self::QueueMoved { queue, from, to, dead, waiting, working } => write!(
                f,
                "queue {queue} {from} → {to}: {dead} dead, {waiting} waiting, {working} in work{}",
                if *to == Light::Red { " and none of them ends" } else { "" }
            ),
            Self::RolloutMoved { service, why, .. } => write!(f, "rollout of {service}: {why}"),
            Self::CheckMoved { check, failing: true, why, .. } => write!(f, "check {check} fails: {why}"),
            Self::CheckMoved { check, why, .. } => write!(f, "check {check} passes: {why}"),
            Self::HealthMoved { from, to, failing_milli, why } => {
                let failing = f64::from(*failing_milli) / 10.0;
                write!(f, "health {from} → {to}, {failing:.0} % of the checks fail: {why}")
            }
            Self::PoolHealthMoved { pool, from, to, why } => write!(f, "pool {pool} {from} → {to}: {why}"),
            Self::LightChanged { station, from, to, why } => write!(f, "{station} {from} → {to}: {why}"),
        }
    }
}
