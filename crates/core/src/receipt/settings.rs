//! Settings that were changed or refused, as they stand in receipts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Event;

/// How many faults stand in a receipt at most: one of a file that is no configuration at all has thousands.
pub const FAULTS_MAX: usize = 20;

/// How many characters of a fault stand in a receipt at most.
pub const FAULT_CHARS_MAX: usize = 300;

/// One setting, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Which.
    pub setting: Arc<str>,
    /// Its value before.
    pub from: Arc<str>,
    /// Its value now.
    pub to: Arc<str>,
}

impl Event {
    /// That settings were refused: the first [`FAULTS_MAX`] faults, each on one line of at most
    /// [`FAULT_CHARS_MAX`] characters, and how many there were in all.
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba_core::receipt::Event;
    ///
    /// let refused = Event::settings_refused(["limits: the hard limit is 0"], "the configuration was read again");
    /// assert_eq!(
    ///     refused.to_string(),
    ///     "1 fault in the settings, nothing was changed: the configuration was read again: limits: the hard limit is 0"
    /// );
    /// ```
    pub fn settings_refused<T: AsRef<str>>(
        faults: impl IntoIterator<Item = T>,
        why: impl Into<Arc<str>>,
    ) -> Self {
        let mut shown: Vec<Arc<str>> = Vec::new();
        let mut faults_total = 0;
        for fault in faults {
            faults_total += 1;
            if shown.len() < FAULTS_MAX {
                shown.push(on_one_line(fault.as_ref()).into());
            }
        }
        Self::SettingsRefused { faults: shown, faults_total, why: why.into() }
    }
}

/// Receipts are shown in terminals: what a configuration brings cannot move a cursor.
fn on_one_line(fault: &str) -> String {
    let mut line: String =
        fault.chars().take(FAULT_CHARS_MAX).map(|one| if one.is_control() { ' ' } else { one }).collect();
    if FAULT_CHARS_MAX < fault.chars().count() {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_how_many_faults_there_were_and_the_first_of_them_on_a_line_each() {
        let faults: Vec<_> = (0..25).map(|n| format!("fault {n}\n\u{1b}[2J{}", "x".repeat(500))).collect();
        let refused = Event::settings_refused(&faults, "reload");
        let Event::SettingsRefused { faults, faults_total, .. } = &refused else { panic!("{refused}") };
        assert_eq!((faults.len(), *faults_total), (FAULTS_MAX, 25));
        assert!(faults.iter().all(|fault| fault.chars().count() == FAULT_CHARS_MAX && fault.ends_with('…')));
        let text = refused.to_string();
        assert!(
            text.starts_with("25 faults in the settings, nothing was changed: reload: fault 0  [2Jx"),
            "{text}"
        );
        assert!(text.ends_with("…; and 5 more") && !text.contains(char::is_control), "{text}");
    }
}
