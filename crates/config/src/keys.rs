//! Every key of a configuration, as its documentation lists them: unit, default, what is allowed.

use schemars::JsonSchema;
use serde_json::Value as Json;

use crate::print::inline;
use crate::schema::{Schema, allowed, has_type};
use crate::sources::variable;

/// Tables within tables that are listed; a type that contains itself has no end.
const DEPTH_MAX: usize = 12;

/// What there is to know about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key, such as `pools.<name>.workers_min` or `routes[].url`.
    pub path: String,
    /// The variable of the environment that sets it.
    pub variable: String,
    /// What may stand there.
    pub allowed: String,
    /// The unit, by the end of its name: `s`, `ms`, `bytes`, `1/s` or none.
    pub unit: &'static str,
    /// What it is if nobody says; empty if it must be given, or is off.
    pub default: String,
    /// Whether it must be given.
    pub required: bool,
    /// What it is, in the words of the type.
    pub description: String,
}

/// The JSON Schema of a configuration, for editors and for whoever writes one by program.
pub fn schema<T: JsonSchema>() -> String {
    format!("{:#}", Schema::of::<T>().0)
}

/// Every key of a configuration whose variables begin with `prefix`.
pub fn keys<T: JsonSchema>(prefix: &str) -> Vec<KeyInfo> {
    let schema = Schema::of::<T>();
    let mut lister = Lister { schema: &schema, prefix, keys: Vec::new() };
    lister.table(&schema.0, "", None, 0);
    lister.keys
}

/// The same as a table in Markdown.
pub fn keys_table<T: JsonSchema>(prefix: &str) -> String {
    let mut table =
        String::from("| key | what it is | unit | default | allowed |\n| --- | --- | --- | --- | --- |\n");
    for key in keys::<T>(prefix) {
        let default = match (key.required, key.default.as_str()) {
            (true, _) => "must be given".to_owned(),
            (false, "") => "off".to_owned(),
            (false, default) => format!("`{default}`"),
        };
        let cells = [format!("`{}`", key.path), key.description, key.unit.to_owned(), default, key.allowed];
        table.extend(["| ", &cells.map(|cell| cell.replace('|', "\\|")).join(" | "), " |\n"]);
    }
    table
}

struct Lister<'a> {
    schema: &'a Schema,
    prefix: &'a str,
    keys: Vec<KeyInfo>,
}

impl Lister<'_> {
    fn table(&mut self, said: &Json, path: &str, default: Option<&Json>, depth: usize) {
        let schema = self.schema.resolved(said);
        let required = |key: &str| {
            let all = schema.get("required").and_then(Json::as_array);
            all.is_some_and(|all| all.iter().any(|name| name == key))
        };
        if depth == DEPTH_MAX {
            return;
        }
        let branches = schema.get("oneOf").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        for branch in branches.iter().filter(|branch| branch.get("properties").is_some()) {
            self.table(&described(branch), path, None, depth + 1);
        }
        for (key, said) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let default = default.and_then(|table| table.get(key)).or_else(|| said.get("default"));
            self.key(said, &path, default, required(key), depth);
        }
        if let Some(said) = schema.get("additionalProperties").filter(|any| any.is_object()) {
            self.key(said, &format!("{path}.<name>"), None, false, depth);
        }
    }

    fn key(&mut self, said: &Json, path: &str, default: Option<&Json>, required: bool, depth: usize) {
        let schema = self.schema.resolved(said);
        let has_fields = |schema: &Json| {
            let own = schema.get("properties").is_some();
            let any = schema.get("additionalProperties").is_some_and(Json::is_object);
            let branches = schema.get("oneOf").and_then(Json::as_array);
            own || any || branches.is_some_and(|all| all.iter().any(|one| one.get("properties").is_some()))
        };
        if has_fields(schema) {
            return self.table(schema, path, default.filter(|value| !value.is_null()), depth + 1);
        }
        if has_type(schema, "array")
            && schema.get("items").is_some_and(|of| has_fields(self.schema.resolved(of)))
        {
            return self.table(&schema["items"], &format!("{path}[]"), None, depth + 1);
        }
        let words = |schema: &Json| schema.get("description").and_then(Json::as_str).map(str::to_owned);
        let default = default.or_else(|| schema.get("default")).filter(|value| !value.is_null());
        self.keys.push(KeyInfo {
            path: path.to_owned(),
            variable: variable(self.prefix, path).to_string(),
            allowed: allowed(schema).unwrap_or_default(),
            unit: unit(path),
            default: default.map(inline).unwrap_or_default(),
            required,
            description: words(said).or_else(|| words(schema)).unwrap_or_default().replace('\n', " "),
        });
    }
}

/// A choice that has something with it: what is said about the choice is what its key is.
fn described(branch: &Json) -> Json {
    let mut branch = branch.clone();
    let words = branch.get("description").cloned();
    let fields = branch.get_mut("properties").and_then(Json::as_object_mut);
    for field in fields.into_iter().flat_map(serde_json::Map::values_mut).filter_map(Json::as_object_mut) {
        if let Some(words) = &words {
            field.entry("description").or_insert_with(|| words.clone());
        }
    }
    branch
}

/// The unit a name says.
fn unit(path: &str) -> &'static str {
    // The longer endings first: `per_s` ends in `_s` too.
    let endings = [
        ("_per_s", "1/s"),
        ("_per_h", "1/h"),
        ("_ms", "ms"),
        ("_s", "s"),
        ("_bytes", "bytes"),
        ("_ratio", "of 1"),
    ];
    endings.iter().find(|(ending, _)| path.ends_with(ending)).map_or("", |(_, unit)| unit)
}
