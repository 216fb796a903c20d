//! A review as Markdown.

use std::fmt::Write;

use gemba::baseline::Comparison;
use gemba::six_sigma::{Criterion, TARGET_DPMO};

use crate::review::{Answer, Review};
use crate::show::defects::{write_defects, write_objectives};
use crate::show::text::{clean, clock};

/// Prints a review.
pub(crate) fn review(review: &Review) -> String {
    let mut page = String::new();
    write(&mut page, review).expect("writing to a string cannot fail");
    page
}

fn write(to: &mut String, review: &Review) -> std::fmt::Result {
    let hours = review.to_unix_ms.saturating_sub(review.from_unix_ms) as f64 / 3.6e6;
    writeln!(to, "# Review of {}\n", review.node.as_deref().unwrap_or("the node"))?;
    writeln!(to, "{hours:.1} hours up to {} UTC.", clock(review.to_unix_ms))?;
    if 0 < review.forgotten {
        writeln!(to, "{} older receipts are forgotten: what they showed is not in here.", review.forgotten)?;
    }
    write_quality(to, review)?;
    write_objectives(to, &review.lines)?;
    write_defects(to, &review.lines)?;
    write_baselines(to, review)?;
    write_events(to, review)?;
    writeln!(to, "\n## Recall\n\n| criterion | answer | response |\n| --- | --- | --- |")?;
    for (recall, criterion) in &review.recalls {
        let (word, response) = match criterion {
            Criterion::Met => ("**met**", recall.response()),
            Criterion::NotMet => ("not met", "–"),
            Criterion::NotMeasured => ("no fact: a person answers", recall.response()),
        };
        writeln!(to, "| {recall} | {word} | {response} |")?;
    }
    writeln!(to, "\n## Checklist")?;
    let mut part = "";
    for question in &review.checklist {
        if part != question.part {
            part = question.part;
            writeln!(to, "\n### {part}\n")?;
        }
        let (mark, word) = match question.answer {
            Answer::Yes => ('x', "yes"),
            Answer::No => ('x', "no"),
            Answer::NoFact => (' ', "no fact"),
        };
        writeln!(to, "- [{mark}] {} **{word}**: {}", question.asks, clean(&question.fact))?;
    }
    Ok(())
}

fn write_quality(to: &mut String, review: &Review) -> std::fmt::Result {
    writeln!(to, "\n## Availability and quality\n")?;
    match review.lights.availability() {
        None => writeln!(to, "No time has passed.")?,
        Some(share) => writeln!(to, "No station was red or worse for {:.3} % of the time.", share * 100.0)?,
    }
    writeln!(
        to,
        "\n| line | worked on | failed | per million (95 %) | proven below | sigma | {TARGET_DPMO} proven |"
    )?;
    writeln!(to, "| --- | ---: | ---: | ---: | ---: | ---: | --- |")?;
    for study in &review.studies {
        let quality = study.quality;
        let dpmo = study.dpmo.map_or_else(|| "–".to_owned(), |dpmo| format!("{dpmo:.1}"));
        let sigma = study.sigma.map_or_else(|| "–".to_owned(), |sigma| format!("{sigma:.2}"));
        writeln!(
            to,
            "| {} | {} | {} | {dpmo} ({:.1} to {:.1}) | {:.1} | {sigma} | {} |",
            study.line,
            quality.opportunities,
            quality.defects,
            study.dpmo_interval.low,
            study.dpmo_interval.high,
            study.proven_dpmo,
            if quality.proves(TARGET_DPMO) { "yes" } else { "no" },
        )?;
    }
    writeln!(
        to,
        "\nSigma levels include the usual shift of 1.5; refused and rejected signals are no opportunities."
    )
}

fn write_baselines(to: &mut String, review: &Review) -> std::fmt::Result {
    writeln!(to, "\n## Baselines and bottlenecks\n")?;
    writeln!(
        to,
        "| line | baseline p50, p95, p99 | build | per second | now |\n| --- | --- | --- | ---: | --- |"
    )?;
    for study in &review.studies {
        let now = match study.comparison {
            None => "not compared yet".to_owned(),
            Some(Comparison::TooFew { outcomes, needed }) => format!("{outcomes} of {needed} outcomes"),
            Some(Comparison::Sound { p95_ratio }) => format!("p95 at {p95_ratio:.2} times: as good"),
            Some(Comparison::Regression { p95_ratio, chance }) => {
                format!("**p95 at {p95_ratio:.2} times, by chance: {:.4} %**", chance * 100.0)
            }
        };
        match &study.baseline {
            None => writeln!(to, "| {} | none yet | – | – | {now} |", study.line)?,
            Some(baseline) => writeln!(
                to,
                "| {} | {:.1}, {:.1}, {:.1} ms | {} | {:.1} | {now} |",
                study.line,
                baseline.p50_ms,
                baseline.p95_ms,
                baseline.p99_ms,
                clean(&baseline.build),
                baseline.rate_per_s
            )?,
        }
    }
    writeln!(to)?;
    for (rank, found) in review.bottlenecks.iter().enumerate() {
        let little = if found.little.holds() { "fits" } else { "does not fit: doubt these figures" };
        writeln!(
            to,
            "{}. Pool {}: {}, {:.0} % of all time; queue {:.1} ms, service {:.1} ms, {:.0} % busy; \
             L = {:.2}, λW = {:.2}: {little}.",
            rank + 1,
            found.station,
            found.reason,
            found.share * 100.0,
            found.queue_ms,
            found.service_ms,
            found.utilization * 100.0,
            found.little.in_system,
            found.little.rate_times_time,
        )?;
    }
    if review.bottlenecks.is_empty() {
        writeln!(to, "Too little went through in the last minute to name a bottleneck.")?;
    }
    Ok(())
}

fn write_events(to: &mut String, review: &Review) -> std::fmt::Result {
    let counts = &review.counts;
    writeln!(to, "\n## What happened\n\n| what | how often |\n| --- | ---: |")?;
    for (what, often) in [
        ("restarts", counts.restarts),
        ("supervisors that gave up", counts.gave_up),
        ("cords pulled", counts.cords),
        ("surges", counts.surges),
        ("pools resized", counts.resizes),
        ("regressions", counts.regressions),
        ("alerts", counts.alerts),
        ("escalations", counts.escalations),
        ("alerts not delivered", counts.undelivered),
    ] {
        writeln!(to, "| {what} | {often} |")?;
    }
    for (reason, often) in &counts.exits {
        writeln!(to, "| exits: {} | {often} |", clean(reason))?;
    }
    for (breaker, often) in &counts.breaker_trips {
        writeln!(to, "| breaker {breaker} opened | {often} |")?;
    }
    Ok(())
}
