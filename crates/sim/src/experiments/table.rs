//! Experiments as a table to be read.

use std::fmt::Write;

use super::{Clock, Experiment, Row, Spread, Target};

/// All rows, with the verdicts, and what was missed at the end.
pub fn print(experiments: &[Experiment]) -> String {
    let mut text = String::new();
    for experiment in experiments {
        let clock = match experiment.clock {
            Clock::Virtual => "virtual time",
            Clock::Wall => "wall clock",
        };
        write!(text, "\n{} {} ({clock})\n", experiment.number, experiment.title).expect(WRITES);
        for row in &experiment.rows {
            print_row(&mut text, row);
        }
    }
    let rows = experiments.iter().flat_map(|experiment| &experiment.rows);
    let (met, all) = (rows.clone().filter(|row| row.is_met()).count(), rows.count());
    writeln!(text, "\n{met} of {all} targets met. Figures: median [least most] of the seeds.").expect(WRITES);
    text
}

const WRITES: &str = "writing to a string cannot fail";

fn print_row(text: &mut String, row: &Row) {
    let target = match row.target {
        Target::AtLeast(least) => format!(">= {}", number(least)),
        Target::AtMost(most) => format!("<= {}", number(most)),
    };
    let Spread { median, least, most } = row.ours;
    let ours = format!("{} [{} {}]", number(median), number(least), number(most));
    let verdict = if row.is_met() { "met" } else { "MISSED" };
    writeln!(text, "  {:<24} {:<38} {target:<9} ours {ours:<24} {verdict}", row.case, row.figure)
        .expect(WRITES);
    if !row.others.is_empty() {
        let others = row.others.iter().map(|(name, spread)| format!("{name} {}", number(spread.median)));
        writeln!(text, "      {}", others.collect::<Vec<_>>().join(" | ")).expect(WRITES);
    }
}

fn number(value: f64) -> String {
    if value.is_infinite() {
        "never".to_owned()
    } else if 10_000.0 <= value.abs() || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() < 0.001 {
        format!("{value:.5}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_stands_out_and_is_counted() {
        let row = |target| Row {
            case: "2x".to_owned(),
            figure: "goodput",
            target,
            ours: Spread { median: 0.98, least: 0.97, most: f64::INFINITY },
            others: vec![("other", Spread { median: 0.5, least: 0.5, most: 0.5 })],
        };
        let rows = vec![row(Target::AtLeast(0.97)), row(Target::AtMost(0.97))];
        let experiment =
            Experiment { number: "E0", title: "test", clock: Clock::Virtual, rows, plots: Vec::new() };
        let text = print(&[experiment]);
        assert!(text.contains("ours 0.980 [0.970 never]") && text.contains("other 0.500"), "{text}");
        assert!(text.contains("MISSED") && text.contains("1 of 2 targets met"), "{text}");
    }
}
