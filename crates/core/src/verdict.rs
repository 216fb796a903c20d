//! Whether a node is well, and if not why: one answer for whoever has no time for the board.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::band::Band;
use crate::intake::WINDOWS_S;
use crate::pool_health::PoolHealth;
use crate::proportion::{Z_95, wilson};
use crate::view::{LineView, PoolView};

/// From this share of refusals on a node is not well. Source: S1-CHK-01.
const REFUSED_MAX: f64 = 0.01;

/// At this coefficient and below its pools are loaded unevenly. Source: S1-CHK-01.
const BALANCE_MIN: f64 = 0.8;

/// Over which of the windows of a line refusals are counted: the minute.
const WINDOW_S: u32 = WINDOWS_S[1];

/// Whether a node is well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is.
    pub well: bool,
    /// Why not, in words, the worst first; empty if it is.
    pub why: Vec<Arc<str>>,
}

/// Judges a node by its pools, its refusals and its balance.
///
/// A node is well with no critical pool, with less than 1 % of the signals of the last minute refused, and with a
/// coefficient above 0.8. Of refusals the lower end of the 95 % interval counts (Wilson): one of sixty may be chance.
/// The coefficient counts once a pool is used above 80 %: that an idle pool stands beside one that is not harms
/// nobody.
pub fn judge(lines: &[LineView], pools: &[PoolView], balance: f64) -> Verdict {
    let mut why: Vec<Arc<str>> = Vec::new();
    for pool in pools.iter().filter(|pool| pool.health == PoolHealth::Critical) {
        why.push(format!("pool {} is critical: {}", pool.name, pool.health_why).into());
    }
    let (mut refused, mut arrived) = (0, 0);
    for window in lines.iter().flat_map(|line| &line.intake).filter(|window| window.window_s == WINDOW_S) {
        refused += window.refused;
        arrived += window.refused + window.accepted;
    }
    if REFUSED_MAX <= wilson(refused, arrived, Z_95).low {
        why.push(format!("{refused} of {arrived} signals refused in the last minute").into());
    }
    let is_short = pools.iter().any(|pool| Band::Good < pool.band);
    if is_short && balance <= BALANCE_MIN {
        why.push(format!("pools are loaded unevenly: balance {balance:.2}").into());
    }
    Verdict { well: why.is_empty(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{IntakeView, LineState};

    fn line(accepted: u64, refused: u64) -> LineView {
        let window = |window_s, accepted, refused| IntakeView {
            window_s,
            accepted,
            refused,
            accepted_per_s: 0.0,
            refused_per_s: 0.0,
        };
        LineView {
            name: "payment".parse().unwrap(),
            state: LineState::Running,
            cord: None,
            in_flight: 0,
            arrived: 0,
            refused: 0,
            rejected: 0,
            succeeded: 0,
            failed: 0,
            timed_out: 0,
            cancelled: 0,
            // What is over and what has just begun counts for nothing.
            intake: vec![window(10, 0, 900), window(60, accepted, refused), window(300, 0, 900)],
            success_ratio: None,
            throughput_per_s: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            objectives: Vec::new(),
            defects: Vec::new(),
        }
    }

    fn pool(utilization: f64, health: PoolHealth) -> PoolView {
        PoolView {
            name: "work".parse().unwrap(),
            workers: 2,
            busy: 0,
            queued: 0,
            queue_max: 8,
            workers_min: 2,
            workers_max: 2,
            surge: 0,
            stand_ins: 0,
            utilization,
            band: Band::of(utilization),
            routed: 0,
            succeeded: 0,
            failed: 0,
            timed_out: 0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            health,
            health_why: "0 of 2 workers answer".into(),
        }
    }

    #[test]
    fn each_of_three_things_is_enough_for_a_node_not_to_be_well() {
        use PoolHealth::{Critical, Degraded, Healthy};
        for (lines, pools, balance, why) in [
            (vec![], vec![], 1.0, &[][..]),
            (vec![line(100_000, 0)], vec![pool(0.7, Healthy)], 1.0, &[]),
            (vec![line(99_100, 900)], vec![pool(0.7, Degraded)], 1.0, &[]),
            (vec![line(59, 1)], vec![], 1.0, &[]),
            (vec![line(9, 1)], vec![], 1.0, &["1 of 10 signals refused in the last minute"]),
            (
                vec![line(90_000, 0), line(8_800, 1_200)],
                vec![],
                1.0,
                &["1200 of 100000 signals refused in the last minute"],
            ),
            (vec![], vec![pool(0.7, Healthy), pool(0.0, Healthy)], 0.0, &[]),
            (vec![], vec![pool(0.81, Healthy), pool(0.7, Healthy)], 0.81, &[]),
            (
                vec![],
                vec![pool(0.81, Healthy), pool(0.71, Healthy)],
                0.8,
                &["pools are loaded unevenly: balance 0.80"],
            ),
            (
                vec![line(0, 500)],
                vec![pool(0.9, Critical), pool(0.1, Healthy)],
                0.0,
                &[
                    "pool work is critical: 0 of 2 workers answer",
                    "500 of 500 signals refused in the last minute",
                    "pools are loaded unevenly: balance 0.00",
                ],
            ),
        ] {
            let verdict = judge(&lines, &pools, balance);
            let told: Vec<_> = verdict.why.iter().map(|why| &**why).collect();
            assert_eq!(told, why);
            assert_eq!(verdict.well, why.is_empty());
        }
    }
}
