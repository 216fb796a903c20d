//! Reports as a table to be read, as JSON, and their plots as files.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use gemba::sim::experiments::Spread;
use gemba::sim::experiments::table::{self, number};
use serde_json::{Value, json};

use crate::finding::{Finding, Report, median};
use crate::known;

const WRITES: &str = "writing to a string cannot fail";

/// One experiment: its figures with median and range, the target, the verdict, and the others below.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("\n{} {}", report.number, report.title);
    if 0 < report.runs {
        let lag = number(median(report.lags_ms.clone()));
        write!(text, " ({} runs, {} void", report.runs, report.voids).expect(WRITES);
        if 0 < report.kept {
            write!(text, ", {} of them counted all the same", report.kept).expect(WRITES);
        }
        write!(text, "; generator's lag p99 {lag} ms)").expect(WRITES);
    }
    if !report.note.is_empty() {
        write!(text, "\n  ({})", report.note).expect(WRITES);
    }
    if let Some(slower) = report.slower {
        let slower = number(slower);
        write!(text, "\n  (this machine takes {slower} times as long as that of the targets, and so may we)")
            .expect(WRITES);
    }
    text.push('\n');
    for finding in &report.findings {
        line(&mut text, report, finding);
    }
    text
}

fn line(text: &mut String, report: &Report, finding: &Finding) {
    let is = verdict(report, finding);
    text.push_str(&table::line(&finding.case, finding.figure, finding.target, finding.ours, is));
    text.push_str(&table::others(&finding.others));
    if let Some(ratio) = finding.ratio {
        let [median, low, high] = [ratio.median, ratio.low, ratio.high].map(number);
        writeln!(text, "      ours / {}: {median}, 95 % in {low} to {high}", ratio.anchor).expect(WRITES);
    }
    if let Some(why) = known::of(report.number, finding).filter(|_| !finding.is_met()) {
        writeln!(text, "      known: {why}").expect(WRITES);
    }
}

fn verdict(report: &Report, finding: &Finding) -> &'static str {
    match finding.target {
        None => "",
        Some(_) if report.is_void() => "void",
        Some(_) => table::verdict(finding.is_met(), known::of(report.number, finding)),
    }
}

/// How many targets there are, how many are met, and what is missed.
pub(crate) fn summary(reports: &[Report]) -> String {
    let all =
        || reports.iter().flat_map(|report| report.findings.iter().map(move |finding| (report, finding)));
    let any = || all().filter(|(_, finding)| finding.target.is_some());
    let targets = || any().filter(|(report, _)| !report.is_void());
    let met = targets().filter(|(_, finding)| finding.is_met()).count();
    let voids: usize = reports.iter().map(|report| report.voids).sum();
    let runs: usize = reports.iter().map(|report| report.runs).sum();
    let mut text = format!(
        "\n{met} of {} targets met; {voids} of {runs} runs void. Figures: median [least most] of the repetitions.\n",
        targets().count()
    );
    let void: Vec<_> = reports.iter().filter(|report| report.is_void()).map(|report| report.number).collect();
    if !void.is_empty() {
        writeln!(
            text,
            "  without a verdict: {}: the generator was late in more than half of the runs, as others had the \
             processors; run again when they have not",
            void.join(" ")
        )
        .expect(WRITES);
    }
    for (report, finding) in targets().filter(|(_, finding)| !finding.is_met()) {
        let why = known::of(report.number, finding).unwrap_or("NOT KNOWN");
        writeln!(text, "  missed: {} {}, {}: {why}", report.number, finding.case, finding.figure)
            .expect(WRITES);
    }
    text
}

/// Everything, for programs.
pub(crate) fn json(reports: &[Report]) -> Value {
    let reports = reports.iter().map(|report| {
        json!({
            "number": report.number,
            "title": report.title,
            "note": report.note,
            "slower_than_the_targets_machine": report.slower,
            "runs": report.runs,
            "voids": report.voids,
            "voids_counted": report.kept,
            "generator_lag_p99_ms": report.lags_ms,
            "findings": report.findings.iter().map(|finding| entry(report, finding)).collect::<Vec<_>>(),
        })
    });
    json!({ "experiments": reports.collect::<Vec<_>>() })
}

fn entry(report: &Report, finding: &Finding) -> Value {
    let of = |spread: Spread| json!({ "median": spread.median, "least": spread.least, "most": spread.most });
    json!({
        "case": finding.case,
        "figure": finding.figure,
        "target": finding.target.map(|target| target.to_string()),
        "ours": of(finding.ours),
        "others": finding.others.iter().map(|(name, spread)| ((*name).to_owned(), of(*spread))).collect::<serde_json::Map<_, _>>(),
        "ratio": finding.ratio.map(|ratio| json!({
            "anchor": ratio.anchor, "median": ratio.median, "low": ratio.low, "high": ratio.high,
        })),
        "verdict": verdict(report, finding),
    })
}

pub(crate) fn write_plots(folder: &Path, reports: &[Report]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut plots = reports.iter().flat_map(|report| &report.plots);
    plots.try_for_each(|(name, svg)| fs::write(folder.join(name), svg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_are_void_say_nothing_of_a_target() {
        let finding = Finding::new("2x", "goodput", vec![0.5]).at_least(0.97);
        let of = |kept| Report {
            number: "E0",
            findings: vec![finding.clone()],
            runs: 8,
            voids: 4,
            kept,
            lags_ms: vec![1.0; 4],
            ..Report::default()
        };
        assert!(text(&of(2)).contains("MISSED") && text(&of(3)).contains("void"));
        let summary = summary(&[of(3)]);
        assert!(
            summary.contains("0 of 0 targets met") && summary.contains("without a verdict: E0"),
            "{summary}"
        );
        assert!(!known::is_as_known(&of(3)));
    }

    #[test]
    fn what_is_missed_stands_out_and_is_counted() {
        let finding = Finding::new("2x", "goodput", vec![0.98, f64::INFINITY, 0.97]);
        let report = Report {
            number: "E0",
            title: "test",
            findings: vec![finding.clone().at_least(0.97), finding.at_most(0.97)],
            ..Report::default()
        };
        let text = text(&report) + &summary(&[report]);
        assert!(text.contains("0.980 [0.970 never]") && text.contains("MISSED"), "{text}");
        assert!(
            text.contains("1 of 2 targets met") && text.contains("missed: E0 2x, goodput: NOT KNOWN"),
            "{text}"
        );
    }
}
