//! Where an object is, and what is said when it is not there.

use serde_json::{Value, json};

use super::{Question, Reply};

/// The kinds there are: plural, group and version, kind.
const KINDS: [(&str, &str, &str); 5] = [
    ("deployments", "apps/v1", "Deployment"),
    ("services", "v1", "Service"),
    ("pods", "v1", "Pod"),
    ("httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("customresourcedefinitions", "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
];

/// A path, taken apart.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) plural: String,
    pub(super) api: String,
    pub(super) kind: &'static str,
    pub(super) name: Option<String>,
    pub(super) is_status: bool,
}

impl Place {
    pub(super) fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (api, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let plural = *rest.first()?;
        let (_, _, kind) = KINDS.iter().find(|(known, version, _)| *known == plural && *version == api)?;
        Some(Self {
            namespace: namespace.to_owned(),
            plural: plural.to_owned(),
            api,
            kind,
            name: rest.get(1).map(|name| (*name).to_owned()),
            is_status: rest.get(2) == Some(&"status"),
        })
    }

    pub(super) fn group(&self) -> &str {
        self.api.split_once('/').map_or("", |(group, _)| group)
    }

    pub(super) fn folder(&self) -> String {
        format!("{}/{}/", self.namespace, self.plural)
    }

    pub(super) fn key(&self) -> String {
        format!("{}{}", self.folder(), self.name.as_deref().unwrap_or_default())
    }

    /// What messages call it: `httproutes.gateway.networking.k8s.io`.
    pub(super) fn called(&self) -> String {
        if self.group().is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group())
        }
    }
}

pub(super) fn failure(code: u16, reason: &str, message: &str, details: Option<Value>) -> Reply {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    });
    if let Some(details) = details {
        status["details"] = details;
    }
    Reply::Answer(code, status)
}

pub(super) fn details(place: &Place) -> Value {
    let mut details = json!({ "kind": place.plural });
    if let Some(name) = &place.name {
        details["name"] = json!(name);
    }
    if !place.group().is_empty() {
        details["group"] = json!(place.group());
    }
    details
}

pub(super) fn gone(since: u64, now: u64) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("too old resource version: {since} ({now})"), "reason": "Expired", "code": 410,
    })
}

pub(super) fn missing(place: &Place) -> Reply {
    let name = place.name.as_deref().unwrap_or_default();
    failure(404, "NotFound", &format!("{} \"{name}\" not found", place.called()), Some(details(place)))
}

pub(super) fn selects(question: &Question, object: &Value) -> bool {
    let selector = question.query.get("labelSelector").map_or("", String::as_str);
    selector.split(',').filter(|pair| !pair.is_empty()).all(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or_default();
        object["metadata"]["labels"][key] == *value
    })
}
