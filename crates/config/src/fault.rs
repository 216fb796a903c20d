//! One mistake in a configuration, and all of them: where, what, and what would be right.

use std::fmt;
use std::ops::Range;

use crate::node::Origin;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) origin: Origin,
    pub(crate) excerpt: Option<Excerpt>,
    pub(crate) notes: Vec<String>,
    pub(crate) helps: Vec<String>,
    /// Where it stands among the others: those of the file first, in its order.
    pub(crate) place: (u8, usize),
}

/// A line of the file, and which characters of it are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) text: String,
    pub(crate) marked: Range<usize>,
}

/// Characters of a line that are shown.
const LINE_CHARS_MAX: usize = 120;

impl Fault {
    /// The key it is about, such as `pools.payment.workers_min`; empty if it is about the whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, on one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where the value comes from; [`Origin::Default`] if nobody gave one.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What may help, if something does.
    pub fn help(&self) -> Option<&str> {
        self.helps.first().map(String::as_str)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        match &self.origin {
            Origin::File { name, line, column } => {
                writeln!(f, "  --> {name}:{line}:{column}")?;
                if let Some(Excerpt { text, marked }) = &self.excerpt {
                    let shown: String = text.chars().take(LINE_CHARS_MAX).collect();
                    let number = line.to_string();
                    let before: String =
                        text.chars().take(marked.start).map(|c| if c == '\t' { c } else { ' ' }).collect();
                    writeln!(f, "{number:>4} | {shown}")?;
                    if marked.start < LINE_CHARS_MAX {
                        let end = marked.end.min(LINE_CHARS_MAX).max(marked.start + 1);
                        writeln!(f, "     | {before}{}", "^".repeat(end - marked.start))?;
                    }
                }
            }
            Origin::Environment { variable } => writeln!(f, "  --> {variable} in the environment")?,
            Origin::Flag { flag } => writeln!(f, "  --> {flag} on the command line")?,
            Origin::Default => {}
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for help in &self.helps {
            writeln!(f, "  help: {help}")?;
        }
        Ok(())
    }
}

/// Everything wrong with a configuration, never empty.
///
/// Written out it is one paragraph for each mistake, and their number. A program that cannot start because of
/// it ends with [`EXIT_CODE`](Self::EXIT_CODE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(crate) Vec<Fault>);

impl ConfigErrors {
    /// The exit code of a program whose configuration is wrong, so that whoever started it does not try again.
    pub const EXIT_CODE: u8 = 2;

    /// Each mistake: those of the file in its order, then those of the environment and the flags.
    pub fn faults(&self) -> &[Fault] {
        &self.0
    }

    /// The mistakes, one line each: for a log, where there is no room for the lines of the file.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|fault| match &fault.origin {
            Origin::Default => fault.message.clone(),
            Origin::File { .. } | Origin::Environment { .. } | Origin::Flag { .. } => {
                format!("{} ({})", fault.message, fault.origin)
            }
        })
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            write!(f, "{fault}")?;
        }
        let problems = if self.0.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {problems} in the configuration", self.0.len())
    }
}

impl std::error::Error for ConfigErrors {}
