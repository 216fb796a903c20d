//! The experiments that virtual time can decide, in the same table.

use gemba::sim::experiments::{ALL, Scale as Simulated};

use crate::finding::{Finding, Report};
use crate::scale::Scale;

/// All of them: a minute of load takes less than a second.
pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let simulated = Simulated { seeds: scale.rounds, ..scale.simulated };
    ALL.iter()
        .flat_map(|experiment| experiment(&simulated))
        .map(|experiment| {
            let findings = experiment.rows.into_iter().map(|row| Finding {
                case: row.case,
                figure: row.figure,
                target: Some(row.target),
                ours: row.ours,
                others: row.others,
                ratio: None,
                known: row.known,
            });
            Report {
                number: experiment.number,
                title: experiment.title,
                findings: findings.collect(),
                plots: experiment.plots,
                note: "virtual time",
                ..Report::default()
            }
        })
        .collect()
}
