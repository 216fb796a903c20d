//! What a process writes, as lines: cut at a length, thinned at a rate, the last ones kept.

use std::collections::VecDeque;
use std::time::Duration;

use gemba_core::time::Timestamp;

use crate::error::LastLines;

/// The period of the rate.
const PERIOD: Duration = Duration::from_secs(1);

/// How much of a process's output is looked at.
///
/// # Units and limits
///
/// Defaults: lines are cut at 4096 bytes, 100 lines a second are logged, the last 50 lines are kept, and a log file
/// is emptied when it has 16 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRules {
    /// Bytes of a line; the rest of it is left out.
    pub line_bytes_max: usize,
    /// Lines that are logged in a second; the rest is counted.
    pub lines_per_second_max: u32,
    /// The last lines, logged or not, that are kept for errors and for those who look.
    pub kept: usize,
    /// Bytes of the log file of a process that survives; a longer one is emptied.
    pub file_bytes_max: u64,
}

impl Default for LogRules {
    fn default() -> Self {
        Self { line_bytes_max: 4096, lines_per_second_max: 100, kept: 50, file_bytes_max: 16 << 20 }
    }
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(crate) struct Unfinished(Vec<u8>);

/// Lines of all streams of a process.
#[derive(Debug)]
pub(crate) struct Intake {
    rules: LogRules,
    last: VecDeque<String>,
    since: Timestamp,
    logged: u32,
    suppressed: u64,
    /// Of all time.
    pub(crate) suppressed_total: u64,
}

impl Intake {
    pub(crate) fn new(rules: LogRules) -> Self {
        Self {
            rules,
            last: VecDeque::with_capacity(rules.kept),
            since: Timestamp::START,
            logged: 0,
            suppressed: 0,
            suppressed_total: 0,
        }
    }

    /// Takes what a stream had, and hands each line that is to be logged to `log`.
    pub(crate) fn feed(
        &mut self,
        unfinished: &mut Unfinished,
        bytes: &[u8],
        now: Timestamp,
        mut log: impl FnMut(&str),
    ) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = self.rules.line_bytes_max.saturating_sub(unfinished.0.len());
            unfinished.0.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.line(&unfinished.0, now, &mut log);
                unfinished.0.clear();
            }
        }
    }

    /// Takes the line that was never finished.
    pub(crate) fn finish(&mut self, unfinished: &mut Unfinished, now: Timestamp, mut log: impl FnMut(&str)) {
        if !unfinished.0.is_empty() {
            self.line(&unfinished.0, now, &mut log);
            unfinished.0.clear();
        }
    }

    /// How many lines were left out since the last time, once a second.
    pub(crate) fn suppressed(&mut self, now: Timestamp) -> Option<u64> {
        if now.since(self.since) < PERIOD || self.suppressed == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.suppressed))
    }

    pub(crate) fn last(&self) -> LastLines {
        LastLines(self.last.iter().cloned().collect())
    }

    fn line(&mut self, bytes: &[u8], now: Timestamp, log: &mut impl FnMut(&str)) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        if PERIOD <= now.since(self.since) {
            (self.since, self.logged) = (now, 0);
        }
        if self.logged < self.rules.lines_per_second_max {
            self.logged += 1;
            log(&text);
        } else {
            self.suppressed += 1;
            self.suppressed_total += 1;
        }
        if self.rules.kept == 0 {
            return;
        }
        // The text of the oldest is used again: a flood of lines must not be one of allocations.
        let mut kept = if self.last.len() < self.rules.kept {
            String::new()
        } else {
            self.last.pop_front().unwrap_or_default()
        };
        kept.clear();
        kept.push_str(&text);
        self.last.push_back(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(rules: LogRules, chunks: &[&str]) -> (Vec<String>, Intake) {
        let (mut intake, mut unfinished, mut logged) =
            (Intake::new(rules), Unfinished::default(), Vec::new());
        for chunk in chunks {
            intake.feed(&mut unfinished, chunk.as_bytes(), Timestamp::START, |line| {
                logged.push(line.to_owned());
            });
        }
        intake.finish(&mut unfinished, Timestamp::START, |line| logged.push(line.to_owned()));
        (logged, intake)
    }

    #[test]
    fn lines_are_put_together_and_cut() {
        let rules = LogRules { line_bytes_max: 5, ..LogRules::default() };
        let (logged, _) = fed(rules, &["on", "e\ntw", "o\r\n\nlonger than five\nlast"]);
        assert_eq!(logged, ["one", "two", "", "longe", "last"]);
    }

    #[test]
    fn a_flood_is_counted_and_its_end_is_kept() {
        let rules = LogRules { lines_per_second_max: 3, kept: 2, ..LogRules::default() };
        let (logged, mut intake) = fed(rules, &["1\n2\n3\n4\n5\n"]);
        assert_eq!(logged, ["1", "2", "3"]);
        assert_eq!(*intake.last().0, ["4", "5"]);
        assert_eq!(intake.suppressed(Timestamp::START), None, "told once a second");
        assert_eq!(intake.suppressed(Timestamp::from_secs(1)), Some(2));
        assert_eq!(intake.suppressed(Timestamp::from_secs(2)), None);
        let mut again = Vec::new();
        intake.feed(&mut Unfinished::default(), b"6\n", Timestamp::from_secs(1), |line| {
            again.push(line.to_owned());
        });
        assert_eq!(again, ["6"], "the next second has lines of its own");
    }
}
