//! What a configuration that was read again has changed.

use gemba::reload::Reloaded;

use crate::show::text::{Page, clean, wrap};

/// How far values stand in.
const INDENT: &str = "    ";

/// Prints each setting that changed, before and after.
pub(crate) fn reloaded(reloaded: &Reloaded, page: Page) -> String {
    let Reloaded { receipt, changes } = reloaded;
    let mut text = match changes.len() {
        0 => format!("read again, and nothing has changed (receipt {receipt})\n"),
        1 => format!("1 setting changed (receipt {receipt})\n"),
        more => format!("{more} settings changed (receipt {receipt})\n"),
    };
    for change in changes {
        text += &["  ", &clean(&change.setting), "\n"].concat();
        for (arrow, value) in [("  ", &change.from), ("→ ", &change.to)] {
            for (row, part) in wrap(&clean(value), page.width - INDENT.len() - 2).iter().enumerate() {
                let lead = if row == 0 { arrow } else { "  " };
                text += &[INDENT, lead, part, "\n"].concat();
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use gemba::receipt::{Seq, SettingChange};

    use super::*;

    #[test]
    fn each_setting_stands_with_what_it_was_and_what_it_is() {
        let nothing = Reloaded { receipt: Seq(7), changes: Vec::new() };
        assert_eq!(reloaded(&nothing, Page::PLAIN), "read again, and nothing has changed (receipt #7)\n");
        let change = |setting: &str, from: &str, to: &str| SettingChange {
            setting: setting.into(),
            from: from.into(),
            to: to.into(),
        };
        let changes =
            vec![change("fraud.attempts_max", "5", "9\u{1b}[2J"), change("limits", &"x ".repeat(60), "y")];
        let text = reloaded(&Reloaded { receipt: Seq(8), changes }, Page::PLAIN);
        let begins = "2 settings changed (receipt #8)\n  fraud.attempts_max\n      5\n    → 9";
        assert!(text.starts_with(begins) && !text.contains('\u{1b}'), "{text}");
        assert!(text.ends_with("    → y\n") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
