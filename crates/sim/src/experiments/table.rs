//! Experiments as a table to be read, by whoever makes them.

use std::fmt::Write;

use super::{Experiment, Row, Spread, Target};

const WRITES: &str = "writing to a string cannot fail";

/// All rows, with the verdicts, and how many targets are met.
pub fn print(experiments: &[Experiment]) -> String {
    let mut text = String::new();
    for experiment in experiments {
        write!(text, "\n{} {}\n", experiment.number, experiment.title).expect(WRITES);
        for row in &experiment.rows {
            let is = verdict(row.is_met(), row.known);
            text.push_str(&line(&row.case, row.figure, Some(row.target), row.ours, is));
            text.push_str(&others(&row.others));
            if let Some(why) = row.known.filter(|_| !row.is_met()) {
                writeln!(text, "      known: {why}").expect(WRITES);
            }
        }
    }
    let rows = experiments.iter().flat_map(|experiment| &experiment.rows);
    let (met, all) = (rows.clone().filter(|row| Row::is_met(row)).count(), rows.count());
    writeln!(text, "\n{met} of {all} targets met. Figures: median [least most] of the seeds.").expect(WRITES);
    text
}

/// One figure: under which circumstances, what it is, what it should be and what it is.
pub fn line(case: &str, figure: &str, target: Option<Target>, ours: Spread, verdict: &str) -> String {
    let (target, ours) = (target.map_or_else(String::new, |target| target.to_string()), ours.to_string());
    format!("  {case:<34} {figure:<36} {target:<10} {ours:<28} {verdict}\n")
}

/// The same figure of others, in a line of its own; nothing where there are none.
pub fn others(others: &[(&str, Spread)]) -> String {
    if others.is_empty() {
        return String::new();
    }
    let others = others.iter().map(|(name, spread)| format!("{name} {spread}"));
    format!("      {}\n", others.collect::<Vec<_>>().join(" | "))
}

/// What is to be said of a target.
pub const fn verdict(is_met: bool, known: Option<&str>) -> &'static str {
    match (is_met, known) {
        (true, _) => "met",
        (false, Some(_)) => "missed, known",
        (false, None) => "MISSED",
    }
}

/// A figure as it is read: as many digits as say something, and "never" for what is infinite.
pub fn number(value: f64) -> String {
    if value.is_infinite() {
        "never".to_owned()
    } else if 1_000.0 <= value.abs() || value.fract() == 0.0 {
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
        let row = |target| {
            Row::new("2x", "goodput", target, vec![0.98, 0.97, f64::INFINITY]).beside("other", vec![0.5])
        };
        let rows = vec![
            row(Target::AtLeast(0.97)),
            row(Target::AtMost(0.97)),
            row(Target::AtMost(0.9)).known("a reason"),
        ];
        let text = print(&[Experiment::new("E0", "test", rows)]);
        assert!(text.contains("0.980 [0.970 never]") && text.contains("other 0.500"), "{text}");
        assert_eq!(text.matches("MISSED").count(), 1, "{text}");
        assert!(text.contains("missed, known\n") && text.contains("known: a reason"), "{text}");
        assert!(text.contains("1 of 3 targets met"), "{text}");
    }
}
