//! The configuration in force, written as the file it could have come from.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value as Json;

use crate::path::{KeyPath, Segment, quoted, shown_key};
use crate::sources::Loaded;

/// Where the comments with the origins begin, if the line is not longer.
const COMMENT_COLUMN: usize = 44;

impl<T: Serialize> Loaded<T> {
    /// The configuration as TOML, defaults included; with `origins`, a comment behind each value says where it
    /// comes from. Keys that have no value are left out, and secrets, those with `writeOnly` in the schema, are
    /// not shown.
    pub fn print(&self, origins: bool) -> String {
        let mut out = String::new();
        match serde_json::to_value(&self.value) {
            Ok(json) => {
                Printer { loaded: Some(self), origins }.table(&json, &KeyPath::default(), &mut out);
            }
            Err(error) => drop(writeln!(out, "# cannot be written: {error}")),
        }
        out
    }
}

/// A value as TOML: the file that a program writes for another one. Keys that have no value are left out.
///
/// # Errors
///
/// If the value cannot be written at all, as a map whose keys are not texts.
///
/// # Examples
///
/// ```
/// let fleet = serde_json::json!({ "services": { "api": { "capacity": 4 } } });
/// assert_eq!(gemba_config::to_toml(&fleet)?, "\n[services.api]\ncapacity = 4\n");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn to_toml<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let (json, mut out) = (serde_json::to_value(value)?, String::new());
    Printer::<T> { loaded: None, origins: false }.table(&json, &KeyPath::default(), &mut out);
    Ok(out)
}

struct Printer<'a, T> {
    loaded: Option<&'a Loaded<T>>,
    origins: bool,
}

impl<T> Printer<'_, T> {
    /// Plain values first: what stands behind a header belongs to it.
    fn table(&self, json: &Json, at: &KeyPath, out: &mut String) {
        let Some(fields) = json.as_object() else { return };
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null() && !is_table(value)) {
            self.line(key, value, &at.key(key), out);
        }
        for (key, value) in fields.iter().filter(|(_, value)| is_table(value)) {
            let path = at.key(key);
            if let Json::Array(items) = value {
                for (index, item) in items.iter().enumerate() {
                    let _ = writeln!(out, "\n[[{}]]", header(&path));
                    self.table(item, &path.with(Segment::Index(index)), out);
                }
            } else {
                let is_needed = |fields: &serde_json::Map<String, Json>| {
                    fields.is_empty() || fields.values().any(|value| !is_table(value))
                };
                if value.as_object().is_some_and(is_needed) {
                    let _ = writeln!(out, "\n[{}]", header(&path));
                }
                self.table(value, &path, out);
            }
        }
    }

    fn line(&self, key: &str, value: &Json, path: &KeyPath, out: &mut String) {
        let is_secret = self.loaded.is_some_and(|loaded| loaded.schema.is_secret(path));
        let value = if is_secret { "\"(secret)\"".to_owned() } else { inline(value) };
        let mut line = format!("{} = {value}", shown_key(key));
        if COMMENT_COLUMN <= line.chars().count() && self.origins {
            line.push(' ');
        }
        let _ = match self.loaded.filter(|_| self.origins) {
            Some(loaded) => writeln!(out, "{line:<COMMENT_COLUMN$}# {}", loaded.origin(&path.to_string())),
            None => writeln!(out, "{line}"),
        };
    }
}

/// Headers do not count: the lists of tables in them are the last ones.
fn header(path: &KeyPath) -> String {
    let keys = path.0.iter().filter_map(|segment| match segment {
        Segment::Key(key) => Some(shown_key(key)),
        Segment::Index(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

/// Whether it is written under a header of its own.
fn is_table(value: &Json) -> bool {
    match value {
        Json::Object(_) => true,
        Json::Array(items) => !items.is_empty() && items.iter().all(Json::is_object),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => false,
    }
}

pub(crate) fn inline(value: &Json) -> String {
    match value {
        Json::Null => "\"\"".to_owned(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::String(text) => quoted(text),
        Json::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Json::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<_> =
                fields.map(|(key, value)| format!("{} = {}", shown_key(key), inline(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}
