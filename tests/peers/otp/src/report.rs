//! What came out: as text, as a Markdown table, and as JSON.

use std::fmt::Write;

use serde_json::json;

use crate::rows::{Figure, Row, Side, Target};

/// One contender's values of one figure, a value a round.
#[derive(Debug)]
pub(crate) struct Values {
    pub side: Side,
    pub values: Vec<f64>,
}

impl Values {
    fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn max(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// All values of one figure of one row.
#[derive(Debug)]
pub(crate) struct Result<'a> {
    pub row: &'a Row,
    pub figure: &'a Figure,
    pub sides: Vec<Values>,
    pub quick: bool,
}

impl Result<'_> {
    fn median(&self, side: Side) -> Option<f64> {
        self.sides.iter().find(|values| values.side == side)?.median()
    }

    /// Ours divided by this contender's.
    fn ratio(&self, side: Side) -> Option<f64> {
        Some(self.median(Side::Gemba)? / self.median(side)?)
    }

    /// Whether ours is what is asked of it; `None` where nothing is asked.
    fn meets(&self) -> Option<bool> {
        if self.figure.targets.is_empty() {
            return None;
        }
        let Some(ours) = self.median(Side::Gemba) else { return Some(false) };
        Some(self.figure.targets.iter().all(|target| match *target {
            Target::AtMost(limit) => ours <= limit,
            Target::AtLeast(limit) => limit <= ours,
            Target::TimesAtMost(times, side) => {
                self.median(side).is_some_and(|theirs| ours <= times * theirs)
            }
            Target::TimesAtLeast(times, side) => {
                self.median(side).is_some_and(|theirs| times * theirs <= ours)
            }
        }))
    }

    fn verdict(&self) -> &'static str {
        match self.meets() {
            None => "–",
            Some(true) => "meets",
            Some(false) => "misses",
        }
    }

    fn targets(&self) -> String {
        let told = self.figure.targets.iter().map(|target| match *target {
            Target::AtMost(limit) => format!("≤ {} {}", number(limit), self.figure.unit),
            Target::AtLeast(limit) => format!("≥ {} {}", number(limit), self.figure.unit),
            Target::TimesAtMost(times, side) => format!("≤ {times:.2} × {}", side.name()),
            Target::TimesAtLeast(times, side) => format!("≥ {times:.2} × {}", side.name()),
        });
        let told: Vec<_> = told.collect();
        if told.is_empty() { "–".to_owned() } else { told.join(", ") }
    }

    fn title(&self) -> String {
        let (size, scale) = self.row.sizes(self.quick);
        let count = if scale > 0 { scale } else { size };
        self.row.title.replace('#', &number(count as f64))
    }

    fn name(&self) -> String {
        let key = match self.figure.key {
            "p50_us" => "p50",
            "p99_us" => "p99",
            "start_ms" => "start",
            "stop_ms" => "stop",
            "bytes" => "memory",
            _ => "rate",
        };
        format!("{}: {key}", self.title())
    }
}

/// Three figures that matter, and thousands set apart.
fn number(value: f64) -> String {
    if value < 100.0 {
        let places = if value < 10.0 { 2 } else { 1 };
        return format!("{value:.places$}");
    }
    let digits = format!("{value:.0}");
    let mut told = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            told.push(' ');
        }
        told.push(digit);
    }
    told
}

/// One block a figure.
pub(crate) fn text(results: &[Result<'_>]) -> String {
    let mut page = String::new();
    for result in results {
        let better = if result.figure.more_is_better { "more" } else { "less" };
        let _ = writeln!(page, "{} ({}, {better} is better)", result.name(), result.figure.unit);
        for values in &result.sides {
            let name = values.side.name();
            let Some(median) = values.median() else {
                let _ = writeln!(page, "  {name:<18} no figure");
                continue;
            };
            let range = format!("[{} .. {}]", number(values.min()), number(values.max()));
            let _ = write!(page, "  {name:<18} {:>12} {range:<26}", number(median));
            let _ = match result.ratio(values.side) {
                Some(ratio) if values.side != Side::Gemba => writeln!(page, " gemba/this {ratio:>7.3}"),
                _ => writeln!(page),
            };
        }
        if !result.figure.targets.is_empty() {
            let _ = writeln!(page, "  target {}: {}", result.targets(), result.verdict());
        }
        page.push('\n');
    }
    page
}

const COLUMNS: [Side; 6] =
    [Side::Gemba, Side::Erlang, Side::Kameo, Side::Ractor, Side::RactorTimed, Side::RactorSupervisor];

/// One line a figure: medians with minimum and maximum, the ratio to Erlang's, the verdict.
pub(crate) fn markdown(results: &[Result<'_>]) -> String {
    let mut page = String::from("| | unit |");
    for side in COLUMNS {
        let _ = write!(page, " {} |", side.name());
    }
    page.push_str(" gemba/erlang | target | verdict |\n| --- | --- |");
    page.push_str(&" ---: |".repeat(COLUMNS.len() + 1));
    page.push_str(" --- | --- |\n");
    for result in results {
        let _ = write!(page, "| {} | {} |", result.name(), result.figure.unit);
        for side in COLUMNS {
            let values = result.sides.iter().find(|values| values.side == side);
            let _ = match values.and_then(|values| Some((values, values.median()?))) {
                Some((values, median)) => write!(
                    page,
                    " {} ({} to {}) |",
                    number(median),
                    number(values.min()),
                    number(values.max())
                ),
                None if values.is_some() => write!(page, " failed |"),
                None => write!(page, " – |"),
            };
        }
        let ratio = result.ratio(Side::Erlang).map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
        let _ = writeln!(page, " {ratio} | {} | {} |", result.targets(), result.verdict());
    }
    page
}

/// Everything, each round's value included.
pub(crate) fn json(results: &[Result<'_>], rounds: usize, quick: bool, load: &str) -> String {
    let rows: Vec<_> = results
        .iter()
        .map(|result| {
            let sides: serde_json::Map<_, _> = result
                .sides
                .iter()
                .map(|values| {
                    let told = json!({
                        "median": values.median(),
                        "min": values.median().map(|_| values.min()),
                        "max": values.median().map(|_| values.max()),
                        "rounds": values.values,
                        "ratio": result.ratio(values.side),
                    });
                    (values.side.name().to_owned(), told)
                })
                .collect();
            json!({
                "row": result.title(),
                "case": result.row.case,
                "figure": result.figure.key,
                "unit": result.figure.unit,
                "more_is_better": result.figure.more_is_better,
                "sides": sides,
                "target": result.targets(),
                "meets": result.meets(),
            })
        })
        .collect();
    let page = json!({ "rounds": rounds, "quick": quick, "load_before": load, "rows": rows });
    format!("{page:#}")
}
