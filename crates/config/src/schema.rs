//! What the JSON Schema of a type says about a value: what is allowed, what it is by default.

use schemars::JsonSchema;
use serde_json::Value as Json;

use crate::node::{Node, Value};
use crate::path::{KeyPath, Segment, quoted};

/// The schema of a configuration.
#[derive(Debug, Clone)]
pub(crate) struct Schema(pub(crate) Json);

impl Schema {
    pub(crate) fn of<T: JsonSchema>() -> Self {
        Self(schemars::schema_for!(T).into())
    }

    /// What is said about the value at `path`, references followed.
    pub(crate) fn at(&self, path: &KeyPath) -> Option<&Json> {
        path.0.iter().try_fold(self.resolved(&self.0), |schema, segment| {
            let inner = match segment {
                Segment::Key(key) => Self::field(schema, key),
                Segment::Index(_) => schema.get("items"),
            };
            inner.map(|inner| self.resolved(inner))
        })
    }

    /// What is said about one key of a table, where it is said.
    pub(crate) fn field<'a>(schema: &'a Json, key: &str) -> Option<&'a Json> {
        let own = |schema: &'a Json| schema.get("properties").and_then(|fields| fields.get(key));
        let of_a_choice = || branches(schema, "oneOf").iter().find_map(own);
        let of_any = || schema.get("additionalProperties").filter(|any| any.is_object());
        own(schema).or_else(of_a_choice).or_else(of_any)
    }

    /// Follows references, and takes the one thing that an optional value may be.
    pub(crate) fn resolved<'a>(&'a self, schema: &'a Json) -> &'a Json {
        let mut schema = schema;
        // A type may refer to itself; the steps to the first thing said about it are few.
        for _ in 0..8 {
            let reference = schema.get("$ref").and_then(Json::as_str);
            let something = |branch: &&Json| branch.get("type").is_none_or(|of| of != "null");
            let mut some = branches(schema, "anyOf").iter().filter(something);
            schema = match (reference, some.next(), some.next()) {
                (Some(reference), _, _) => match self.0.pointer(reference.trim_start_matches('#')) {
                    Some(definition) => definition,
                    None => return schema,
                },
                (None, Some(only), None) => only,
                _ => return schema,
            };
        }
        schema
    }

    /// Something that the value at `path` may be, if the schema knows: its default, its example, its first choice.
    pub(crate) fn sample(&self, path: &KeyPath) -> Option<Node> {
        let parent = self.at(&path.parent()?)?;
        let said = match path.0.last()? {
            Segment::Key(key) => Self::field(parent, key)?,
            Segment::Index(_) => parent.get("items")?,
        };
        let resolved = self.resolved(said);
        let example = |schema: &Json| schema.get("examples").and_then(|all| all.get(0)).cloned();
        let default = |schema: &Json| schema.get("default").filter(|value| !value.is_null()).cloned();
        let found = default(said).or_else(|| default(resolved)).or_else(|| example(said));
        found.or_else(|| example(resolved)).and_then(|value| of_json(&value))
    }
}

/// The schemas under a name that has several.
pub(crate) fn branches<'a>(schema: &'a Json, name: &str) -> &'a [Json] {
    schema.get(name).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn of_json(json: &Json) -> Option<Node> {
    let value = match json {
        Json::Null => return None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i128() {
            Some(number) => Value::Integer(number),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().filter_map(of_json).collect()),
        Json::Object(fields) => Value::Table(
            fields
                .iter()
                .filter_map(|(key, value)| {
                    Some(crate::node::Entry { key: key.clone(), span: None, node: of_json(value)? })
                })
                .collect(),
        ),
    };
    Some(Node::made_up(value))
}

/// Whether a schema asks for this type, perhaps among others.
pub(crate) fn has_type(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(of)) => of == name,
        Some(Json::Array(all)) => all.iter().any(|of| of == name),
        _ => false,
    }
}

/// Whether a table may stand there: it is one, or a choice that has something with it.
pub(crate) fn takes_table(schema: &Json) -> bool {
    let has_fields = |branch: &Json| branch.get("properties").is_some();
    has_type(schema, "object") || branches(schema, "oneOf").iter().any(has_fields)
}

/// Whether a list stands there, and no text may.
pub(crate) fn is_list(schema: &Json) -> bool {
    has_type(schema, "array") && !has_type(schema, "string")
}

/// The names a value may have, if it is one of several.
pub(crate) fn choices(schema: &Json) -> Vec<&str> {
    let listed = branches(schema, "enum").iter();
    let told = branches(schema, "oneOf").iter().filter_map(|branch| branch.get("const"));
    let told_together = branches(schema, "oneOf").iter().flat_map(|branch| branches(branch, "enum"));
    let names = listed.chain(told).chain(told_together).filter_map(Json::as_str);
    // A choice that has something with it is a table whose only key is its name.
    let tables = branches(schema, "oneOf").iter().filter_map(|branch| branch.get("properties")?.as_object());
    let tables = tables.filter(|fields| fields.len() == 1).flat_map(serde_json::Map::keys);
    names.chain(tables.map(String::as_str)).collect()
}

/// What a value may be, in words; nothing if the schema does not say.
pub(crate) fn allowed(schema: &Json) -> Option<String> {
    let choices = choices(schema);
    if !choices.is_empty() {
        return Some(format!("one of {}", choices.join(", ")));
    }
    let (least, most) = (limit(schema, "minimum"), limit(schema, "maximum"));
    let (above, below) = (limit(schema, "exclusiveMinimum"), limit(schema, "exclusiveMaximum"));
    if has_type(schema, "integer") || has_type(schema, "number") {
        let what = if has_type(schema, "integer") { "a whole number" } else { "a number" };
        let lower = least.map(|n| format!("at least {n}")).or(above.map(|n| format!("above {n}")));
        let upper = most.map(|n| format!("at most {n}")).or(below.map(|n| format!("below {n}")));
        return Some(match (least.zip(most), lower, upper) {
            (Some((least, most)), _, _) => format!("{what} from {least} to {most}"),
            (None, Some(lower), Some(upper)) => format!("{what} {lower} and {upper}"),
            (None, Some(only), None) | (None, None, Some(only)) => {
                let of = if only.starts_with("at") { "of " } else { "" };
                format!("{what} {of}{only}")
            }
            (None, None, None) => what.to_owned(),
        });
    }
    let (what, least, most) = if has_type(schema, "string") {
        (("a text in quotes", "characters"), limit(schema, "minLength"), limit(schema, "maxLength"))
    } else if has_type(schema, "array") {
        (("a list in brackets", "entries"), limit(schema, "minItems"), limit(schema, "maxItems"))
    } else if has_type(schema, "boolean") {
        return Some("true or false".to_owned());
    } else {
        return None;
    };
    Some(match (least, most) {
        (Some(least), Some(most)) => format!("{} with {least} to {most} {}", what.0, what.1),
        (Some(least), None) => format!("{} with {least} or more {}", what.0, what.1),
        (None, Some(most)) => format!("{} with at most {most} {}", what.0, what.1),
        (None, None) => match schema.get("examples").and_then(|all| all.get(0)).and_then(Json::as_str) {
            Some(example) if has_type(schema, "string") => format!("{}, such as {}", what.0, quoted(example)),
            Some(_) | None => what.0.to_owned(),
        },
    })
}

/// Whether a value of the right type is outside what the schema allows.
pub(crate) fn is_outside(schema: &Json, node: &Node) -> bool {
    let outside = |value: f64, bounds: [&str; 4]| {
        let [least, most, above, below] = bounds.map(|name| limit(schema, name));
        // What is not a number is outside of every bound.
        let beyond = |bound: Option<f64>, is_beyond: &dyn Fn(f64) -> bool| {
            bound.is_some_and(|bound| value.is_nan() || is_beyond(bound))
        };
        beyond(least, &|least| value < least)
            || beyond(most, &|most| most < value)
            || beyond(above, &|above| value <= above)
            || beyond(below, &|below| below <= value)
    };
    let numbers = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
    let lengths = |text: &str| {
        let length = text.chars().count() as f64;
        has_type(schema, "string") && outside(length, ["minLength", "maxLength", "", ""])
    };
    match &node.value {
        Value::Integer(number) => outside(*number as f64, numbers),
        Value::Float(number) => outside(*number, numbers),
        Value::Text(text) => lengths(text),
        Value::Untyped(text) => {
            let number = has_type(schema, "integer") || has_type(schema, "number");
            let value = text.trim().replace('_', "").parse::<f64>().ok().filter(|_| number);
            value.map_or_else(|| lengths(text), |value| outside(value, numbers))
        }
        Value::List(items) => outside(items.len() as f64, ["minItems", "maxItems", "", ""]),
        Value::Table(entries) => outside(entries.len() as f64, ["minProperties", "maxProperties", "", ""]),
        Value::Bool(_) | Value::Anything | Value::Gone => false,
    }
}

fn limit(schema: &Json, name: &str) -> Option<f64> {
    schema.get(name).and_then(Json::as_f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_allowed_is_said_in_words() {
        for (schema, words) in [
            (json!({"type": "integer", "minimum": 1, "maximum": 10}), "a whole number from 1 to 10"),
            (json!({"type": ["integer", "null"], "minimum": 1}), "a whole number of at least 1"),
            (
                json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
                "a number above 0 and at most 1",
            ),
            (json!({"enum": ["a", "b"]}), "one of a, b"),
            (json!({"oneOf": [{"const": "a"}, {"const": "b"}]}), "one of a, b"),
            (json!({"type": "string", "minLength": 1}), "a text in quotes with 1 or more characters"),
            (json!({"type": "string", "examples": ["a:1"]}), "a text in quotes, such as \"a:1\""),
        ] {
            assert_eq!(allowed(&schema).as_deref(), Some(words));
        }
        assert_eq!(allowed(&json!({"type": "object"})), None);
    }

    #[test]
    fn what_is_not_a_number_is_within_no_bounds() {
        let schema = json!({"type": "number", "minimum": 0, "exclusiveMaximum": 1});
        for (number, outside) in [(0.0, false), (0.99, false), (1.0, true), (-0.1, true), (f64::NAN, true)] {
            let node = Node::made_up(Value::Float(number));
            assert_eq!(is_outside(&schema, &node), outside, "{number}");
        }
    }
}
