//! Server-side apply: who owns which field, and who may not set it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::cluster::Cluster;
use super::place::{Place, details, failure};
use super::{Question, Reply};

impl Cluster {
    pub(super) fn apply(&mut self, place: &Place, question: &Question) -> Reply {
        let (key, manager) = (place.key(), question.query.get("fieldManager").cloned().unwrap_or_default());
        let mut wanted = question.body.clone();
        let expected =
            wanted["metadata"].as_object_mut().and_then(|metadata| metadata.remove("resourceVersion"));
        let known = self.objects.get(&key).cloned();
        if let (Some(expected), Some(known)) = (expected, &known)
            && expected != known["metadata"]["resourceVersion"]
        {
            let name = place.name.as_deref().unwrap_or_default();
            let message = format!(
                "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your \
                 changes to the latest version and try again",
                place.called()
            );
            return failure(409, "Conflict", &message, Some(details(place)));
        }
        let mut fields = BTreeMap::new();
        leaves(&wanted, String::new(), &mut fields);
        let owners = self.owned.entry(key.clone()).or_default();
        let is_forced = question.query.get("force").is_some_and(|force| force == "true");
        let mut causes = Vec::new();
        for (other, theirs) in owners.iter_mut().filter(|(other, _)| **other != manager) {
            let contested: Vec<String> = fields
                .iter()
                .filter(|(path, value)| theirs.get(*path).is_some_and(|is| is != *value))
                .map(|(path, _)| path.clone())
                .collect();
            for path in contested {
                if is_forced {
                    theirs.remove(&path);
                } else {
                    let message = format!("conflict with \"{other}\"");
                    causes
                        .push(json!({ "reason": "FieldManagerConflict", "message": message, "field": path }));
                }
            }
        }
        if !causes.is_empty() {
            let message = format!(
                "Apply failed with {} conflict: conflict with {}: {}",
                causes.len(),
                causes[0]["message"].as_str().unwrap_or_default().trim_start_matches("conflict with "),
                causes[0]["field"].as_str().unwrap_or_default(),
            );
            return failure(409, "Conflict", &message, Some(json!({ "causes": causes })));
        }
        owners.insert(manager, fields);
        let Some(known) = known else {
            let object = Self::born(place, wanted);
            let object = self.stamp("ADDED", &key, object);
            let object = self.control(place, object);
            return Reply::Answer(201, object);
        };
        let mut object = known.clone();
        merge(&mut object, &wanted);
        if object == known {
            return Reply::Answer(200, known);
        }
        if object["spec"] != known["spec"]
            && let Some(generation) = known["metadata"]["generation"].as_i64()
        {
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let object = self.stamp("MODIFIED", &key, object);
        Reply::Answer(200, self.control(place, object))
    }
}

/// Each field that an apply sets; a list is one field.
pub(super) fn leaves(value: &Value, path: String, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let at = format!("{path}.{key}");
                if ![".apiVersion", ".kind", ".metadata.name"].contains(&at.as_str()) {
                    leaves(value, at, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            found.insert(path, value.clone());
        }
    }
}

pub(super) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert_with(|| Value::Object(Map::new())), value);
            }
        }
        (into, from) => into.clone_from(from),
    }
}
