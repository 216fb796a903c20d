//! The table: each target with what was measured, and whether it was met.

use serde::Serialize;

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) target: Option<Target>,
    /// The median of the rounds, with the least and the most; none if it could not be measured.
    pub(crate) figure: Option<[f64; 3]>,
    /// The same of nginx, in the same rounds.
    pub(crate) nginx: Option<[f64; 3]>,
    /// What else is to be known, or why there is no figure.
    pub(crate) note: String,
}

/// The median of these, the least and the most.
pub(crate) fn spread(mut all: Vec<f64>) -> Option<[f64; 3]> {
    all.sort_by(f64::total_cmp);
    Some([all[all.len() / 2], *all.first()?, *all.last()?]).filter(|_| !all.is_empty())
}

impl Row {
    pub(crate) fn new(what: &str, unit: &'static str, target: Option<Target>, figures: Vec<f64>) -> Self {
        let figure = if figures.is_empty() { None } else { spread(figures) };
        Self { what: what.to_owned(), unit, target, figure, nginx: None, note: String::new() }
    }

    pub(crate) fn beside(mut self, nginx: Vec<f64>) -> Self {
        self.nginx = if nginx.is_empty() { None } else { spread(nginx) };
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the target was met, by the median of the rounds.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let [median, ..] = self.figure?;
        self.target.map(|target| match target {
            Target::AtLeast(least) => least <= median,
            Target::AtMost(most) => median <= most,
        })
    }

    fn verdict(&self) -> &'static str {
        match (self.is_met(), self.target, self.figure) {
            (Some(true), ..) => "met",
            (Some(false), ..) => "MISSED",
            (None, Some(_), None) => "no peer",
            (None, ..) => "",
        }
    }
}

/// The rows as text.
pub(crate) fn words(rows: &[Row]) -> String {
    let figures = |row: &[f64; 3]| {
        let [median, least, most] = row.map(number);
        if least == most { median } else { format!("{median} [{least} {most}]") }
    };
    let lines = rows.iter().map(|row| {
        let target = match row.target {
            Some(Target::AtLeast(least)) => format!(">= {}", number(least)),
            Some(Target::AtMost(most)) => format!("<= {}", number(most)),
            None => String::new(),
        };
        let figure = row.figure.as_ref().map_or_else(|| "–".to_owned(), figures);
        let nginx = row.nginx.as_ref().map(figures).unwrap_or_default();
        let line = format!(
            "{:<44} {:<9} {target:>9}   {figure:<24} {nginx:<24} {:<8} {}",
            row.what,
            row.unit,
            row.verdict(),
            row.note
        );
        line.trim_end().to_owned()
    });
    let head = format!(
        "{:<44} {:<9} {:>9}   {:<24} {:<24} {:<8} {}",
        "target", "unit", "", "figure [least most]", "nginx", "verdict", "note"
    );
    std::iter::once(head).chain(lines).fold(String::new(), |text, line| text + &line + "\n")
}

fn number(value: f64) -> String {
    match value.abs() {
        size if 1_000.0 <= size => format!("{value:.0}"),
        size if size.fract() < 1e-9 => format!("{value:.0}"),
        size if 10.0 <= size => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
