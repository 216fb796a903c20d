//! Columns, colours, durations and times of day.

use std::io::IsTerminal;

use gemba::light::Light;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The narrowest page, and the width when the output is not a terminal.
const WIDTH_MIN: usize = 80;

/// What stands between the parts of a line.
const DOT: &str = " · ";

/// How wide the page is, and whether it has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) width: usize,
    pub(crate) colour: bool,
}

impl Page {
    /// A page of 80 columns without colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { width: WIDTH_MIN, colour: false };

    /// The page that stdout is.
    pub(crate) fn of_stdout() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self { width: WIDTH_MIN, colour: false };
        }
        let columns = ratatui::crossterm::terminal::size().map_or(0, |(columns, _)| usize::from(columns));
        Self { width: columns.max(WIDTH_MIN), colour: colours_are_wanted() }
    }

    /// `text` in the colour of `light`.
    pub(crate) fn light(self, light: Light, text: &str) -> String {
        let code = match light {
            Light::Green => 32,
            Light::Yellow => 33,
            Light::Red => 31,
            Light::Purple => 35,
        };
        self.paint(code, text)
    }

    /// A heading.
    pub(crate) fn heading(self, text: &str) -> String {
        self.paint(1, text)
    }

    /// `text` that may be overlooked.
    pub(crate) fn faint(self, text: &str) -> String {
        self.paint(2, text)
    }

    fn paint(self, code: u8, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether the operator wants colours on a terminal: see <https://no-color.org>.
pub(crate) fn colours_are_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// `text` without anything that moves a cursor: panic messages and reasons come from anywhere.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same for what has several lines, as the faults of a configuration.
pub(crate) fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// `text` shortened to at most `width` columns, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if width <= used {
            break;
        }
        kept.push(character);
    }
    if 0 < width {
        kept.push('…');
    }
    kept
}

/// `text` shortened to at most `width` columns, its end kept: that is where long paths differ.
pub(crate) fn cut_front(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let reversed = cut(&text.chars().rev().collect::<String>(), width);
    reversed.chars().rev().collect()
}

/// `text` in exactly `width` columns, at the left.
pub(crate) fn left(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let padding = width.saturating_sub(text.width());
    text + &" ".repeat(padding)
}

/// `text` in exactly `width` columns, at the right.
pub(crate) fn right(text: &str, width: usize) -> String {
    let text = cut(text, width);
    " ".repeat(width.saturating_sub(text.width())) + &text
}

/// `parts` with dots between them, in lines of at most `width` columns, broken between parts alone: a number stays
/// beside what it counts.
pub(crate) fn dotted(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        let part = cut(part, width);
        match lines.last_mut() {
            Some(line) if line.width() + DOT.width() + part.width() <= width => {
                line.push_str(DOT);
                line.push_str(&part);
            }
            Some(_) | None => lines.push(part),
        }
    }
    lines
}

/// `text` in lines of at most `width` columns, broken between words where possible.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        loop {
            let line = lines.last_mut().expect("there is always a line");
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + word.width() <= width {
                line.push_str(if gap == 1 { " " } else { "" });
                line.push_str(&word);
                break;
            }
            if line.is_empty() {
                word = split(line, &word, width);
            }
            lines.push(String::new());
        }
    }
    lines
}

/// Moves as much of `word` into the empty `line` as fits, at least one character, and returns the rest.
fn split(line: &mut String, word: &str, width: usize) -> String {
    for (at, character) in word.char_indices() {
        if !line.is_empty() && width < line.width() + character.width().unwrap_or(0) {
            return word[at..].to_owned();
        }
        line.push(character);
    }
    String::new()
}

/// A duration in at most five columns: `830ms`, `41s`, `12m`, `3h05`, `4d02h`, `123d`.
pub(crate) fn span(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{seconds}s"),
        60_000..3_600_000 => format!("{minutes}m"),
        3_600_000..86_400_000 => format!("{hours}h{:02}", minutes % 60),
        86_400_000..864_000_000 => format!("{days}d{:02}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// A time of day in UTC: `14:02:11.123`.
pub(crate) fn clock(unix_ms: u64) -> String {
    let ms = unix_ms % 86_400_000;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_keeps_its_two_largest_units_within_five_columns() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_599_999, "59m"),
            (3_600_000, "1h00"),
            (86_399_999, "23h59"),
            (86_400_000, "1d00h"),
            (863_999_999, "9d23h"),
            (864_000_000, "10d"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn a_clock_shows_utc() {
        assert_eq!(clock(0), "00:00:00.000");
        assert_eq!(clock(86_400_000 + 50_531_123), "14:02:11.123");
    }

    #[test]
    fn columns_count_what_is_seen() {
        assert_eq!(left("ab", 4), "ab  ");
        assert_eq!(right("ab", 4), "  ab");
        assert_eq!(left("abcdef", 4), "abc…");
        assert_eq!(left("漢字漢字", 5), "漢字…");
        assert_eq!(left("漢字漢字", 4), "漢… ");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut_front("abcdef", 4), "…def");
        assert_eq!(cut_front("漢字漢字", 4), "…字");
        assert_eq!(cut_front("abcd", 4), "abcd");
        assert_eq!(clean("a\u{1b}[2Jb"), "a [2Jb");
        assert_eq!(clean_lines("a\u{1b}[2J\n  b\r"), "a [2J\n  b ");
    }

    #[test]
    fn dots_break_between_parts_alone() {
        let parts = ["1 a b", "2 c", "3 d", "4 much too long"].map(str::to_owned);
        assert_eq!(dotted(&parts, 11), ["1 a b · 2 c", "3 d", "4 much too…"]);
        assert!(dotted(&[], 11).is_empty());
    }

    #[test]
    fn wrapping_loses_nothing() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one_very_long_word x", 8), ["one_very", "_long_wo", "rd x"]);
        assert_eq!(wrap("a longest", 7), ["a", "longest"]);
        assert_eq!(wrap("", 7), [""]);
    }
}
