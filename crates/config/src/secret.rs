//! What must not be shown: secrets, and lines of the file that may have one in them.
//!
//! Another mistake can hide what is a secret: a key that is misspelt is in no schema, and whose value stands in a
//! line that could not be read nobody knows. Such a line is left out; its number has to do.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value as Json;

use crate::check::did_you_mean;
use crate::node::{Node, Value};
use crate::path::{KeyPath, Segment};
use crate::schema::{Schema, branches};

impl Schema {
    /// Whether the value at `path` is a secret, or part of one.
    pub(crate) fn is_secret(&self, path: &KeyPath) -> bool {
        if self.at(path).is_some_and(is_marked) {
            return true;
        }
        let (Some(parent), Some(last)) = (path.parent(), path.0.last()) else { return false };
        let said = self.at(&parent).and_then(|outer| match last {
            Segment::Key(key) => Self::field(outer, key),
            Segment::Index(_) => outer.get("items"),
        });
        said.is_some_and(is_marked) || self.is_secret(&parent)
    }

    /// Whether the value at `path` is a secret, or has one in it.
    pub(crate) fn holds_secret(&self, path: &KeyPath) -> bool {
        self.is_secret(path) || self.at(path).is_some_and(|said| self.holds(said))
    }

    /// Whether the value at `path` must not be written out: a text where a table should be may be the secret that
    /// belongs into the table.
    pub(crate) fn hides(&self, path: &KeyPath, node: &Node) -> bool {
        let is_text = matches!(node.value, Value::Text(_) | Value::Untyped(_));
        self.is_secret(path) || (is_text && self.holds_secret(path))
    }

    /// The value as its author wrote it, if it may be shown.
    pub(crate) fn shown(&self, path: &KeyPath, node: &Node) -> String {
        if self.hides(path, node) { "a secret".to_owned() } else { node.shown() }
    }

    /// Whether a key that `table` does not have may be a secret under a wrong name: of what was probably meant, or,
    /// if that is unknown, of all that may stand there.
    pub(crate) fn may_mean_secret(&self, table: &KeyPath, key: &str) -> bool {
        let fields = self.at(table).and_then(|said| said.get("properties")?.as_object());
        let known = fields.into_iter().flat_map(serde_json::Map::keys).map(String::as_str);
        match did_you_mean(key, known) {
            Some(meant) => self.holds_secret(&table.key(meant)),
            None => self.holds_secret(table),
        }
    }

    fn holds(&self, said: &Json) -> bool {
        let mut found = false;
        self.visit(("", said, false), &mut HashSet::new(), &mut |_, _, secret| found |= secret);
        found
    }

    /// Visits what is said and all within it, each with its key and whether it is a secret.
    fn visit<'a>(
        &'a self,
        (key, said, secret): (&'a str, &'a Json, bool),
        seen: &mut HashSet<(*const Json, bool)>,
        each: &mut dyn FnMut(&'a str, &'a Json, bool),
    ) {
        let schema = self.resolved(said);
        let secret = secret || is_marked(said) || is_marked(schema);
        each(key, said, secret);
        // A type may contain itself.
        if !seen.insert((std::ptr::from_ref(schema), secret)) {
            return;
        }
        for (name, inner) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            self.visit((name.as_str(), inner, secret), seen, each);
        }
        let entries = ["items", "additionalProperties"].into_iter().filter_map(|of| schema.get(of));
        let choices =
            ["oneOf", "anyOf", "allOf", "prefixItems"].into_iter().flat_map(|of| branches(schema, of));
        for inner in entries.chain(choices) {
            self.visit((key, inner, secret), seen, each);
        }
    }
}

fn is_marked(said: &Json) -> bool {
    said.get("writeOnly") == Some(&Json::Bool(true))
}

/// Which lines of the file may be shown, by the words in them.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    /// The keys of secrets.
    secrets: BTreeSet<&'a str>,
    /// Every key, and whether its value holds a secret.
    keys: BTreeMap<&'a str, bool>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(schema: &'a Schema) -> Self {
        let (mut secrets, mut keys) = (BTreeSet::new(), BTreeMap::<&'a str, bool>::new());
        schema.visit(("", &schema.0, false), &mut HashSet::new(), &mut |key, said, secret| {
            if secret {
                secrets.insert(key);
            }
            *keys.entry(key).or_default() |= secret || schema.holds(said);
        });
        Self { secrets, keys }
    }

    /// Whether the key of a secret stands in the line, as it is or misspelt.
    pub(crate) fn names_secret(&self, line: &str) -> bool {
        let is_near = |word: &str| did_you_mean(word, self.secrets.iter().copied()).is_some();
        self.secrets.iter().any(|key| line.contains(*key)) || words(line).any(is_near)
    }

    /// Whether a line that could not be read is known to have no secret: it begins with keys whose values hold none.
    pub(crate) fn is_harmless(&self, line: &str) -> bool {
        let mut beginning = words(line.split('=').next().unwrap_or_default()).peekable();
        let is_open = |word: &str| self.keys.get(word) == Some(&false);
        self.secrets.is_empty() || (beginning.peek().is_some() && beginning.all(is_open))
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema(json!({
            "type": "object",
            "properties": {
                "listen": { "type": "string" },
                "token": { "type": ["string", "null"], "writeOnly": true },
                "login": { "$ref": "#/$defs/Login", "writeOnly": true },
                "alerts": { "type": "object", "properties": {
                    "slack_url": { "anyOf": [{ "$ref": "#/$defs/Address" }, { "type": "null" }] },
                } },
                "peers": { "type": "array", "items": { "$ref": "#/$defs/Peer" } },
            },
            "$defs": {
                "Login": { "type": "object", "properties": { "password": { "type": "string" } } },
                "Address": { "type": "string", "writeOnly": true },
                "Peer": { "type": "object", "properties": { "behind": { "$ref": "#/$defs/Peer" } } },
            },
        }))
    }

    #[test]
    fn what_belongs_to_a_secret_is_one_and_what_has_one_in_it_is_known() {
        let (schema, top) = (schema(), KeyPath::default());
        for (path, is_secret, holds_secret) in [
            (top.clone(), false, true),
            (top.key("token"), true, true),
            (top.key("login").key("password"), true, true),
            (top.key("alerts"), false, true),
            (top.key("alerts").key("slack_url"), true, true),
            (top.key("peers").with(Segment::Index(0)), false, false),
            (top.key("nobody's"), false, false),
        ] {
            let told = (schema.is_secret(&path), schema.holds_secret(&path));
            assert_eq!(told, (is_secret, holds_secret), "{path}");
        }
        for (table, key, expected) in [
            (top.clone(), "lisen", false),
            (top.clone(), "tokn", true),
            (top.clone(), "colour", true),
            (top.key("alerts"), "slack", true),
            (top.key("peers").with(Segment::Index(0)), "colour", false),
        ] {
            assert_eq!(schema.may_mean_secret(&table, key), expected, "{key}");
        }
    }

    #[test]
    fn a_line_is_left_out_if_a_secret_may_be_in_it() {
        let schema = schema();
        let lines = Lines::of(&schema);
        for (line, names_secret, is_harmless) in [
            ("listen == 1", false, true),
            ("listen = \"x\", token = \"x", true, true),
            ("tokn = \"x", true, false),
            ("slack = \"x", false, false),
            ("alerts = { x = \"x", false, false),
            ("password = \"x", true, false),
            ("the rest of a text\"\"\"", false, false),
            ("]", false, false),
        ] {
            let told = (lines.names_secret(line), lines.is_harmless(line));
            assert_eq!(told, (names_secret, is_harmless), "{line}");
        }
        let nothing_secret = Schema(json!({ "type": "object", "properties": {} }));
        assert!(Lines::of(&nothing_secret).is_harmless("colour = \"x"));
    }
}
