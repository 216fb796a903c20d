//! The bottleneck: the station whose relief would help most, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// How many stations are named.
pub const NAMED_MAX: usize = 3;

/// Fewer completions than this in the window say nothing about a station.
pub const COMPLETIONS_MIN: u64 = 100;

/// By how much L and λW may differ before the figures are doubted. Source: FLOW-EVIDENCE, E15.
pub const LITTLE_TOLERANCE: f64 = 0.05;

/// What was measured of one station in a window. Times are means for one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The station.
    pub station: Name,
    /// Signals that went through.
    pub completions: u64,
    /// How long was measured, in seconds.
    pub window_s: f64,
    /// Busy time over worker time, 0 to 1.
    pub utilization: f64,
    /// Signals in it on average, waiting or worked on: sampled, not computed.
    pub in_system: f64,
    /// Time in the queue, in seconds.
    pub queue_s: f64,
    /// Time with a worker, that of downstream calls not included, in seconds.
    pub service_s: f64,
    /// Time in downstream calls, in seconds; `None` where nothing measures it, and it is part of the service.
    pub downstream_s: Option<f64>,
    /// Time from arrival to answer, measured from end to end, in seconds.
    pub total_s: f64,
}

impl Observed {
    fn rate_per_s(&self) -> f64 {
        self.completions as f64 / self.window_s
    }

    /// What takes longest, and how long.
    fn worst(&self) -> (Reason, f64) {
        let parts = [
            (Reason::Queueing, self.queue_s),
            (Reason::Service, self.service_s),
            (Reason::Downstream, self.downstream_s.unwrap_or(0.0)),
        ];
        parts.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("there are three")
    }
}

/// What makes a station slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Signals wait for a worker: more workers help.
    Queueing,
    /// The work itself takes long: faster work helps, more workers do not.
    Service,
    /// Others take long to answer: what helps is with them, or not asking them.
    Downstream,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queueing => "signals wait for a worker",
            Self::Service => "the work itself takes long",
            Self::Downstream => "others take long to answer",
        })
    }
}

/// Little's law at a station: what is in it must be what comes times how long it stays. Where it does not
/// hold, the figures do not fit together and nothing should be concluded from them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Little {
    /// L: signals in it, sampled.
    pub in_system: f64,
    /// λW: signals per second times seconds from arrival to answer, both counted.
    pub rate_times_time: f64,
}

impl Little {
    /// Whether both agree within [`LITTLE_TOLERANCE`], or within a tenth of a signal, which sampling cannot
    /// tell apart.
    pub fn holds(self) -> bool {
        let difference = (self.in_system - self.rate_times_time).abs();
        difference <= LITTLE_TOLERANCE * self.in_system.max(self.rate_times_time) || difference <= 0.1
    }
}

/// One of the stations that take most of the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The station.
    pub station: Name,
    /// What takes longest there.
    pub reason: Reason,
    /// Which share of the time of all signals at all stations that takes, 0 to 1.
    pub share: f64,
    /// Busy time over worker time.
    pub utilization: f64,
    /// Time in the queue, in milliseconds for one signal.
    pub queue_ms: f64,
    /// Time with a worker, downstream calls not included where they are measured.
    pub service_ms: f64,
    /// Time in downstream calls, where it is measured.
    pub downstream_ms: Option<f64>,
    /// Whether the figures fit together.
    pub little: Little,
}

/// The stations that take most of the time, worst first, at most [`NAMED_MAX`].
///
/// Stations are compared by all the time their signals spend in what takes longest there: relief is worth
/// what it saves one signal, times the signals. Stations with fewer than [`COMPLETIONS_MIN`] completions are
/// passed over.
pub fn find(stations: &[Observed]) -> Vec<Finding> {
    let known: Vec<_> = stations
        .iter()
        .filter(|station| COMPLETIONS_MIN <= station.completions && 0.0 < station.window_s)
        .collect();
    let spent = |station: &Observed, time: f64| station.rate_per_s() * time;
    let parts =
        |station: &Observed| station.queue_s + station.service_s + station.downstream_s.unwrap_or(0.0);
    let all: f64 = known.iter().map(|station| spent(station, parts(station))).sum();
    let mut findings: Vec<_> = known
        .iter()
        .map(|station| {
            let (reason, time) = station.worst();
            Finding {
                station: station.station.clone(),
                reason,
                share: if 0.0 < all { spent(station, time) / all } else { 0.0 },
                utilization: station.utilization,
                queue_ms: station.queue_s * 1e3,
                service_ms: station.service_s * 1e3,
                downstream_ms: station.downstream_s.map(|time| time * 1e3),
                little: Little {
                    in_system: station.in_system,
                    rate_times_time: spent(station, station.total_s),
                },
            }
        })
        .collect();
    findings.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.station.cmp(&b.station)));
    findings.truncate(NAMED_MAX);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A station with 10 signals a second over 60 s, and its times in milliseconds.
    fn station(name: &str, queue: f64, service: f64, downstream: Option<f64>) -> Observed {
        let total_s = (queue + service + downstream.unwrap_or(0.0)) / 1e3;
        Observed {
            station: name.parse().unwrap(),
            completions: 600,
            window_s: 60.0,
            utilization: 0.5,
            in_system: 10.0 * total_s,
            queue_s: queue / 1e3,
            service_s: service / 1e3,
            downstream_s: downstream.map(|time| time / 1e3),
            total_s,
        }
    }

    #[test]
    fn the_first_is_where_relief_saves_most_and_it_is_said_why() {
        for (stations, first, reason) in [
            (vec![station("a", 400.0, 20.0, None), station("b", 0.0, 300.0, None)], "a", Reason::Queueing),
            (vec![station("a", 100.0, 20.0, None), station("b", 0.0, 300.0, None)], "b", Reason::Service),
            (
                vec![station("a", 100.0, 20.0, Some(500.0)), station("b", 0.0, 300.0, None)],
                "a",
                Reason::Downstream,
            ),
        ] {
            let findings = find(&stations);
            assert_eq!((findings[0].station.as_str(), findings[0].reason), (first, reason));
            assert!(findings.iter().all(|finding| finding.little.holds()));
        }
    }

    #[test]
    fn rare_slow_work_is_not_the_bottleneck_of_frequent_work() {
        let slow = Observed { completions: 120, ..station("slow", 0.0, 900.0, None) };
        let frequent = Observed { completions: 60_000, ..station("frequent", 0.0, 10.0, None) };
        let findings = find(&[slow, frequent]);
        assert_eq!(findings[0].station.as_str(), "frequent");
        assert!((findings[0].share - 10.0 / 11.8).abs() < 1e-9, "{}", findings[0].share);
    }

    #[test]
    fn at_most_three_are_named_and_none_from_too_few() {
        let mut stations: Vec<_> =
            (1..=5).map(|i| station(&format!("s{i}"), f64::from(i), 0.5, None)).collect();
        stations[4].completions = COMPLETIONS_MIN - 1;
        let names: Vec<_> = find(&stations).into_iter().map(|finding| finding.station.to_string()).collect();
        assert_eq!(names, ["s4", "s3", "s2"]);
        assert_eq!(find(&[]), []);
    }

    #[test]
    fn figures_that_do_not_fit_together_are_shown_as_such() {
        for (in_system, rate_times_time, holds) in
            [(4.2, 4.2, true), (4.2, 4.0, true), (4.2, 3.9, false), (0.0, 0.09, true), (100.0, 94.0, false)]
        {
            assert_eq!(Little { in_system, rate_times_time }.holds(), holds, "{in_system} {rate_times_time}");
        }
    }
}
