//! What a child and a caller can observe, in one form for both sides.

use std::collections::BTreeMap;
use std::fmt;

/// What a child reports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A start began; the n-th of this id.
    Init(String, u32),
    /// It runs.
    Started(String, u32),
    /// It ended, and why: `normal`, `shutdown`, `shutdown_with`, `error`, `panic`, `killed`.
    Terminated(String, u32, String),
}

impl Event {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Init(id, _) | Self::Started(id, _) | Self::Terminated(id, ..) => id,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init(id, n) => write!(f, "{id} start {n}"),
            Self::Started(id, n) => write!(f, "{id} runs ({n})"),
            Self::Terminated(id, 0, reason) => write!(f, "{id} terminated: {reason}"),
            Self::Terminated(id, n, reason) => write!(f, "{id} ({n}) terminated: {reason}"),
        }
    }
}

/// Which step a section of a trace belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The start of the supervisor.
    Start,
    /// A step of the scenario.
    Step(usize),
    /// The end that every scenario is given: releases, and a shutdown by the parent.
    End,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It made no sense at this moment.
    Skipped,
    Done,
    /// A request about a child whose start hung just then.
    Hot,
    /// This child was released.
    Released(String),
}

/// One step and all that followed until nothing moved any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub at: At,
    pub verdict: Verdict,
    pub events: Vec<Event>,
    /// By the number of the step that asked.
    pub answers: BTreeMap<String, String>,
    /// What each supervisor answers to `which_children` and `count_children` when nothing moves.
    pub snapshot: BTreeMap<String, String>,
    /// Whether something hangs.
    pub busy: bool,
}

impl Section {
    pub(crate) fn new(at: At, verdict: Verdict) -> Self {
        Self {
            at,
            verdict,
            events: Vec::new(),
            answers: BTreeMap::new(),
            snapshot: BTreeMap::new(),
            busy: false,
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.events.iter().map(ToString::to_string).collect();
        lines.extend(self.answers.iter().map(|(asked, answer)| format!("answer to {asked}: {answer}")));
        lines.extend(self.snapshot.iter().map(|(sup, told)| format!("{sup}: {told}")));
        lines
    }

    fn title(&self) -> String {
        let at = match self.at {
            At::Start => "start".to_owned(),
            At::Step(index) => format!("step {index}"),
            At::End => "end".to_owned(),
        };
        match &self.verdict {
            Verdict::Skipped => format!("{at} (left out)"),
            Verdict::Done | Verdict::Hot => at,
            Verdict::Released(id) => format!("{at}: {id} released"),
        }
    }
}

/// All sections of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace(pub Vec<Section>);

/// Why a text is no trace: the driver broke.
#[derive(Debug, thiserror::Error)]
#[error("the driver in Erlang said: {0}")]
pub(crate) struct NoTrace(String);

impl Trace {
    /// Reads what the driver in Erlang wrote.
    pub(crate) fn parse(text: &str) -> Result<Self, NoTrace> {
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            if let ["S", at, verdict @ ..] = &words[..] {
                sections.push(head(at, verdict).ok_or_else(|| NoTrace(text.to_owned()))?);
                continue;
            }
            let section = sections.last_mut().ok_or_else(|| NoTrace(text.to_owned()))?;
            match &words[..] {
                ["E", busy] => section.busy = *busy == "busy",
                ["a", asked, answer @ ..] => {
                    section.answers.insert((*asked).to_owned(), answer.join(" "));
                }
                ["w", sup, told @ ..] => {
                    section.snapshot.insert((*sup).to_owned(), told.join(" "));
                }
                _ => section.events.push(event(&words).ok_or_else(|| NoTrace(text.to_owned()))?),
            }
        }
        Ok(Self(sections))
    }
}

fn head(at: &str, verdict: &[&str]) -> Option<Section> {
    let at = match at {
        "start" => At::Start,
        "end" => At::End,
        index => At::Step(index.parse().ok()?),
    };
    let verdict = match verdict {
        ["skip"] => Verdict::Skipped,
        ["do"] => Verdict::Done,
        ["hot"] => Verdict::Hot,
        ["rel", id] => Verdict::Released((*id).to_owned()),
        _ => return None,
    };
    Some(Section::new(at, verdict))
}

fn event(words: &[&str]) -> Option<Event> {
    Some(match words {
        ["i", id, n] => Event::Init((*id).to_owned(), n.parse().ok()?),
        ["s", id, n] => Event::Started((*id).to_owned(), n.parse().ok()?),
        ["t", id, n, reason @ ..] => Event::Terminated((*id).to_owned(), n.parse().ok()?, reason.join(" ")),
        _ => return None,
    })
}

/// Both traces in two columns, a mark where lines differ.
pub(crate) fn side_by_side(otp: &Trace, ours: &Trace) -> String {
    let mut rows = vec![format!("  {:<58} | {}", "Erlang/OTP", "gemba")];
    for index in 0..otp.0.len().max(ours.0.len()) {
        let (left, right) = (otp.0.get(index), ours.0.get(index));
        let title = left.or(right).map(Section::title).unwrap_or_default();
        let busy = if left.is_some_and(|section| section.busy) { ", something hangs" } else { "" };
        rows.push(format!("-- {title}{busy}"));
        let (left, right) =
            (left.map(Section::lines).unwrap_or_default(), right.map(Section::lines).unwrap_or_default());
        for row in 0..left.len().max(right.len()) {
            let (one, two) =
                (left.get(row).map_or("", String::as_str), right.get(row).map_or("", String::as_str));
            let mark = if one == two { ' ' } else { '*' };
            rows.push(format!("{mark} {one:<58} | {two}"));
        }
    }
    rows.join("\n")
}
