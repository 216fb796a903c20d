//! `gemba simulate`: flow control in virtual time, as figures, JSON, values over time, or a plot.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::path::{Path, PathBuf};

use gemba::sim::contenders::Contender;
use gemba::sim::outcome::BIN;
use gemba::sim::scenario::{Report, Scenario, SettingErrors, Settings, Summary};
use gemba::sim::trace::{self, TraceErrors};
use gemba::sim::workload::Model;
use serde::Serialize;

use crate::args::{FormArgs, SimulateArgs, SimulateScenario};
use crate::exit::{Exit, sentence};
use crate::show;

/// Who ours is compared with unless all are asked for: what fits on 80 columns.
const COMPARED: [Contender; 5] =
    [Contender::Ours, Contender::NoControl, Contender::Seeds, Contender::BoundedOne, Contender::Gradient2];

/// The largest trace that is read, in bytes.
const TRACE_MAX: u64 = 512 * 1024 * 1024;

const WRITES: &str = "writing to a string cannot fail";

/// Why there is no simulation.
#[derive(Debug, thiserror::Error)]
enum SimulateError {
    #[error("more than one form is asked for; give one of --json, --csv and --svg")]
    Forms,
    #[error("cannot simulate that: {0}")]
    Settings(#[from] SettingErrors),
    #[error("cannot read {}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} has more than {most} bytes; cut the trace", file.display())]
    TooLarge { file: PathBuf, most: u64 },
    #[error("{}: {errors}", file.display())]
    Trace { file: PathBuf, errors: TraceErrors },
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// `gemba simulate`.
pub(crate) fn run(args: &SimulateArgs) -> Exit {
    match simulate(args).and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => Exit::Fine,
        // Whoever reads has read enough.
        Err(SimulateError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            // What stands in a trace is in it, and that comes from anywhere.
            eprintln!("gemba: {}", show::clean_lines(&sentence(&error)));
            match error {
                SimulateError::Forms | SimulateError::Settings(_) => Exit::Usage,
                SimulateError::Read { .. }
                | SimulateError::TooLarge { .. }
                | SimulateError::Trace { .. }
                | SimulateError::Output(_) => Exit::Failed,
            }
        }
    }
}

fn simulate(args: &SimulateArgs) -> Result<String, SimulateError> {
    // clap would see a conflict on one side of the scenario alone.
    let FormArgs { json: is_json, csv: is_csv, svg: is_svg } = args.form;
    if 1 < u8::from(is_json) + u8::from(is_csv) + u8::from(is_svg) {
        return Err(SimulateError::Forms);
    }
    let model = Model {
        workers: args.workers,
        service: args.service_ms,
        cv: args.cv,
        deadline: args.deadline_ms,
        ..Model::default()
    };
    let settings = Settings { model, workers_max: args.workers_max, seed: args.seed };
    let contenders: &[Contender] = if args.all { &Contender::ALL } else { &COMPARED };
    let report = scenario(&args.scenario)?.run(settings, contenders)?;
    for summary in report.summaries.iter().filter(|summary| summary.broken_off) {
        eprintln!("gemba: {} was broken off: nothing after that is in its figures", summary.controller);
    }
    Ok(if is_json {
        json(&report)
    } else if is_csv {
        csv(&report)
    } else if is_svg {
        report.svg()
    } else {
        text(&report)
    })
}

fn scenario(scenario: &SimulateScenario) -> Result<Scenario, SimulateError> {
    Ok(match scenario {
        SimulateScenario::Overload { times, seconds } => {
            Scenario::Overload { times: *times, lasts: *seconds }
        }
        SimulateScenario::Spike { times, seconds } => Scenario::Spike { times: *times, lasts: *seconds },
        SimulateScenario::RetryStorm { slower, seconds, client } => {
            Scenario::RetryStorm { slower: *slower, lasts: *seconds, client: (*client).into() }
        }
        SimulateScenario::BrownOut { slower, seconds } => {
            Scenario::BrownOut { slower: *slower, lasts: *seconds }
        }
        SimulateScenario::Trace { file } => {
            let text = read(file, TRACE_MAX)?;
            let faulty = |errors| SimulateError::Trace { file: file.clone(), errors };
            Scenario::Trace { arrivals: trace::parse(&text).map_err(faulty)? }
        }
    })
}

fn read(file: &Path, most: u64) -> Result<String, SimulateError> {
    let unreadable = |source| SimulateError::Read { file: file.to_owned(), source };
    let mut text = Vec::new();
    // Counted while it is read: a pipe does not know how long it is.
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(most + 1).read_to_end(&mut text).map_err(unreadable)?;
    if most < text.len() as u64 {
        return Err(SimulateError::TooLarge { file: file.to_owned(), most });
    }
    String::from_utf8(text).map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// The name of a figure, and how it is written.
type Figure = (&'static str, fn(&Summary) -> String);

/// A figure to a line, ours first; the names are those of the JSON.
fn text(report: &Report) -> String {
    let Model { workers, service, deadline, .. } = report.model;
    let mut text = format!(
        "{}, seed {}\n{workers} workers, {} ms of work, deadline {} ms: {} signals a second at most\n\n{:<22}",
        report.title,
        report.seed,
        rounded(service.as_secs_f64() * 1e3, 1),
        rounded(deadline.as_secs_f64() * 1e3, 0),
        rounded(report.model.capacity_per_s(), 0),
        ""
    );
    for summary in &report.summaries {
        write!(text, " {:>10}", summary.controller).expect(WRITES);
    }
    let figures: [Figure; 11] = [
        ("goodput_ratio", |of| format!("{:.3}", of.goodput_ratio)),
        ("critical_served_ratio", |of| format!("{:.4}", of.critical_served_ratio)),
        ("normal_served_ratio", |of| format!("{:.4}", of.normal_served_ratio)),
        ("batch_served_ratio", |of| format!("{:.4}", of.batch_served_ratio)),
        ("p50_ms", |of| rounded(of.p50_ms, 1)),
        ("p99_ms", |of| rounded(of.p99_ms, 1)),
        ("late", |of| of.late.to_string()),
        ("shed_ratio", |of| format!("{:.4}", of.shed_ratio)),
        ("attempts_ratio", |of| format!("{:.3}", of.attempts_ratio)),
        ("workers_most", |of| of.workers_most.to_string()),
        ("recovery_s", |of| of.recovery_s.map_or_else(|| "never".to_owned(), |after| format!("{after:.1}"))),
    ];
    // Without a trouble there is nothing to recover from.
    let shown = if report.has_trouble { figures.len() } else { figures.len() - 1 };
    for (name, figure) in &figures[..shown] {
        write!(text, "\n{name:<22}").expect(WRITES);
        for summary in &report.summaries {
            write!(text, " {:>10}", figure(summary)).expect(WRITES);
        }
    }
    text.push('\n');
    text
}

/// With at least so many places, and more where fewer than two digits would be left of a small value.
fn rounded(value: f64, least: i32) -> String {
    let shows_two = |places: &i32| 9.95 <= value * 10f64.powi(*places);
    let places = (least..9).find(shows_two).unwrap_or(least) as usize;
    format!("{value:.places$}")
}

/// Ours at the top, so that a script need not look for it.
#[derive(Serialize)]
struct Page<'a> {
    scenario: &'a str,
    seed: u64,
    workers: u32,
    service_ms: f64,
    deadline_ms: f64,
    capacity_per_s: f64,
    #[serde(flatten)]
    ours: &'a Summary,
    others: &'a [Summary],
}

fn json(report: &Report) -> String {
    let (ours, others) = report.summaries.split_first().expect("ours always runs");
    let page = Page {
        scenario: &report.title,
        seed: report.seed,
        workers: report.model.workers,
        service_ms: report.model.service.as_secs_f64() * 1e3,
        deadline_ms: report.model.deadline.as_secs_f64() * 1e3,
        capacity_per_s: report.model.capacity_per_s(),
        ours,
        others,
    };
    serde_json::to_string_pretty(&page).expect("figures are JSON") + "\n"
}

/// A line for each controller and tenth of a second.
fn csv(report: &Report) -> String {
    let mut text = "controller,at_s,offered,good,answered,late,waiting,workers\n".to_owned();
    for (controller, bins) in &report.histories {
        for (at, bin) in iter::zip(0u32.., bins) {
            let seconds = BIN.as_secs_f64() * f64::from(at);
            writeln!(
                text,
                "{controller},{seconds:.1},{},{},{},{},{},{}",
                bin.offered, bin.good, bin.answered, bin.late, bin.waiting, bin.workers
            )
            .expect(WRITES);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn run_line(line: &str) -> Result<String, SimulateError> {
        let args = Args::try_parse_from(line.split(' ')).expect("a correct line");
        let Command::Simulate(args) = args.command else { panic!("not a simulation: {line}") };
        simulate(&args)
    }

    #[test]
    fn an_overload_prints_ours_first_and_the_same_again() {
        let line = "gemba simulate overload --times 3 --seconds 3 --workers 8 --seed 5";
        let text = run_line(line).unwrap();
        assert_eq!(text, run_line(line).unwrap());
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(name)).expect(name);
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        assert!(0.9 < value("goodput_ratio"), "{text}");
        assert!(0.95 < value("critical_served_ratio"), "{text}");
        assert!(100.0 < value("p99_ms") && value("late") < 5.0, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains("recovery_s"), "{text}");
    }

    #[test]
    fn json_has_ours_at_the_top_and_the_others_in_it() {
        let text = run_line("gemba simulate brown-out --slower 3 --seconds 2 --workers 40 --service-ms 200 --deadline-ms 2000 --json").unwrap();
        let page: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(page["controller"], "ours");
        assert!(page["recovery_s"].as_f64().unwrap() < 1.0);
        assert_eq!(page["others"].as_array().unwrap().len(), 4);
        assert_eq!(page["decisions"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn values_and_plots_are_of_everybody() {
        let line = "gemba simulate spike --times 3 --seconds 1 --workers 2 --all";
        let values = run_line(&format!("{line} --csv")).unwrap();
        assert!(
            values.starts_with("controller,at_s,offered,good,answered,late,waiting,workers\nours,0.0,"),
            "{values}"
        );
        let plot = run_line(&format!("{line} --svg")).unwrap();
        for contender in Contender::ALL {
            assert!(values.contains(&format!("\n{},20.0,", contender.word())), "{}", contender.word());
            assert!(plot.contains(&format!(">{}</text>", contender.word())), "{}", contender.word());
        }
    }

    #[test]
    fn a_trace_is_read_and_its_bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.csv");
        let line = format!("gemba simulate trace {}", file.display());
        assert!(matches!(run_line(&line), Err(SimulateError::Read { .. })));
        fs::write(&file, "at_ms,service_ms,tier\n1,40,critical\n2,41,batch\n").unwrap();
        assert!(run_line(&line).unwrap().starts_with("a trace of 2 signals, seed 7\n23 workers, 40.5 ms"));
        fs::write(&file, "at_ms,service_ms,tier\n1,40,vip\n").unwrap();
        let told = run_line(&line).unwrap_err().to_string();
        assert!(told.contains("line 2: tier is 'vip'; give critical, normal or batch"), "{told}");
    }

    #[test]
    fn a_file_that_does_not_know_its_length_has_a_limit() {
        let told = read(Path::new("/dev/zero"), 16).unwrap_err().to_string();
        assert_eq!(told, "/dev/zero has more than 16 bytes; cut the trace");
    }

    #[test]
    fn one_form_is_printed_wherever_it_is_asked_for() {
        for line in ["--csv overload --svg", "overload --json --svg", "--json --csv overload"] {
            let told = run_line(&format!("gemba simulate {line}"));
            assert!(matches!(told, Err(SimulateError::Forms)), "{line}: {told:?}");
        }
        let line = "gemba simulate --csv overload --seconds 1 --workers 1";
        assert!(run_line(line).unwrap().starts_with("controller,at_s,"));
    }

    #[test]
    fn little_does_not_look_like_nothing() {
        for (value, least, text) in [
            (42.5, 1, "42.5"),
            (541.2, 0, "541"),
            (500.0, 0, "500"),
            (50.0, 0, "50"),
            (0.02, 1, "0.020"),
            (0.303, 0, "0.30"),
            (0.0, 1, "0.0"),
        ] {
            assert_eq!(rounded(value, least), text);
        }
        let text = run_line("gemba simulate overload --workers 1 --service-ms 3300 --seconds 1").unwrap();
        assert!(text.contains("3300.0 ms of work, deadline 500 ms: 0.30 signals a second"), "{text}");
    }

    #[test]
    fn the_picture_of_the_page_is_what_the_command_prints() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/simulate-spike.svg");
        let plot = run_line("gemba simulate spike --svg").unwrap();
        if std::env::var_os("BLESS").is_some() {
            fs::write(&page, &plot).unwrap();
        }
        let expected = fs::read_to_string(&page).unwrap_or_default();
        assert!(expected == plot, "docs/simulate-spike.svg is another; `just docs` writes it anew");
    }

    #[test]
    fn settings_out_of_range_are_told_together() {
        let told = run_line("gemba simulate overload --workers 0 --times 0").unwrap_err().to_string();
        assert!(told.contains("0 workers; give 1 to") && told.contains("the load is 0"), "{told}");
    }
}
