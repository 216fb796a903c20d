//! What the server keeps: objects, their versions, and what happened to them.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::apply::merge;
use super::place::{Place, details, failure, gone, missing, selects};
use super::{Fault, Play, Question, Reply};

/// Changes that a watch may begin from; older ones are forgotten.
const LOG_MAX: usize = 1_000;

/// All that the server keeps.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) play: Play,
    pub(super) version: u64,
    pub(super) versions: watch::Sender<u64>,
    /// By namespace, plural and name.
    pub(super) objects: BTreeMap<String, Value>,
    /// Who owns which field of which object, and what it was set to.
    pub(super) owned: BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>>,
    /// Version, kind of change, key, object.
    pub(super) log: Vec<(u64, &'static str, String, Value)>,
    pub(super) faults: Vec<Fault>,
    pub(super) has_routes: bool,
    /// Requests and failures by Service.
    pub(super) counted: BTreeMap<String, (u64, u64)>,
}

impl Cluster {
    pub(super) fn new(play: Play) -> Self {
        Self {
            play,
            // A real one has had a life before.
            version: 200,
            versions: watch::Sender::new(200),
            objects: BTreeMap::new(),
            owned: BTreeMap::new(),
            log: Vec::new(),
            faults: Vec::new(),
            has_routes: play.routes,
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn fault(&mut self, fits: impl Fn(Fault) -> bool) -> bool {
        let is_next = self.faults.last().is_some_and(|fault| fits(*fault));
        if is_next {
            self.faults.pop();
        }
        is_next
    }

    pub(super) fn answer(&mut self, question: &Question) -> Reply {
        match question.path.as_str() {
            "/counts" => return Reply::Answer(200, self.counts()),
            "/api/v1/query" => return Reply::Answer(200, self.prometheus(&question.query["query"])),
            _ => {}
        }
        let Some(place) = Place::of(&question.path) else { return Reply::Text(404, "404 page not found\n") };
        let is_watch = question.query.contains_key("watch");
        let verb = match (&question.method, &place.name) {
            (&Method::GET, None) if is_watch => "watch",
            (&Method::GET, None) => "list",
            (&Method::GET, Some(_)) => "get",
            (&Method::PATCH, _) => "patch",
            (&Method::POST, _) => "create",
            _ => "delete",
        };
        // What nobody may do is not told to be missing.
        if let Some(user) = &question.user {
            let (group, namespace) = (place.group(), &place.namespace);
            let name = place.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
            let message = format!(
                "{}{name} is forbidden: User \"{user}\" cannot {verb} resource \"{}\" in API group \"{group}\" in the \
                 namespace \"{namespace}\"",
                place.called(),
                place.plural,
            );
            return failure(403, "Forbidden", &message, Some(details(&place)));
        }
        if place.plural == "httproutes" && !self.has_routes {
            return Reply::Text(404, "404 page not found\n");
        }
        if self.fault(|fault| fault == Fault::Busy) {
            let details = json!({ "retryAfterSeconds": 1 });
            return failure(
                429,
                "TooManyRequests",
                "too many requests, please try again later",
                Some(details),
            );
        }
        if self.fault(|fault| fault == Fault::Broken) {
            return Reply::Broken;
        }
        match verb {
            "watch" => self.watch(question),
            "list" => self.list(&place, question),
            "get" => self
                .objects
                .get(&place.key())
                .map_or_else(|| missing(&place), |found| Reply::Answer(200, found.clone())),
            "patch" if place.is_status => self.status(&place, &question.body),
            "patch" => {
                if place.plural == "httproutes" && self.fault(|fault| fault == Fault::Race) {
                    self.touch(&place.key());
                }
                self.apply(&place, question)
            }
            "create" => self.create(&place, question),
            _ => self.delete(&place),
        }
    }

    pub(super) fn stamp(&mut self, kind: &'static str, key: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if kind == "DELETED" {
            self.objects.remove(key);
        } else {
            self.objects.insert(key.to_owned(), object.clone());
        }
        self.log.push((self.version, kind, key.to_owned(), object.clone()));
        let more = self.log.len().saturating_sub(LOG_MAX);
        self.log.drain(..more);
        self.versions.send_replace(self.version);
        object
    }

    pub(super) fn touch(&mut self, key: &str) {
        if let Some(mut object) = self.objects.get(key).cloned() {
            object["metadata"]["annotations"]["touched"] = json!(self.version.to_string());
            self.stamp("MODIFIED", key, object);
        }
    }

    /// A new object as the server fills it in.
    pub(super) fn born(place: &Place, mut object: Value) -> Value {
        object["apiVersion"] = json!(place.api);
        object["kind"] = json!(place.kind);
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uuid::Uuid::new_v4().to_string());
        metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if !place.namespace.is_empty() {
            metadata["namespace"] = json!(place.namespace);
        }
        match place.plural.as_str() {
            "deployments" => {
                metadata["generation"] = json!(1);
                object["status"] = json!({});
            }
            "httproutes" => metadata["generation"] = json!(1),
            "services" => object["status"] = json!({ "loadBalancer": {} }),
            _ => {}
        }
        object
    }

    pub(super) fn create(&mut self, place: &Place, question: &Question) -> Reply {
        if place.plural == "customresourcedefinitions" {
            self.has_routes = true;
        }
        let name = question.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = format!("{}{name}", place.folder());
        let object = Self::born(place, question.body.clone());
        Reply::Answer(201, self.stamp("ADDED", &key, object))
    }
    /// What the controllers would do.
    pub(super) fn control(&mut self, place: &Place, object: Value) -> Value {
        if !self.play.controllers || place.plural != "deployments" {
            return object;
        }
        let (mut changed, replicas) = (object.clone(), object["spec"]["replicas"].clone());
        if object["metadata"]["annotations"]["gemba.dev/version-name"] == "unknown" {
            let labels = object["spec"]["template"]["metadata"]["labels"].clone();
            let waiting = json!({ "reason": "ImagePullBackOff", "message": "Back-off pulling image" });
            let container = json!({
                "name": "service", "image": "none", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": waiting },
            });
            let pod = json!({
                "metadata": { "name": "unknown-0", "labels": labels },
                "status": { "containerStatuses": [container] },
            });
            self.stamp("ADDED", &format!("{}/pods/unknown-0", place.namespace), pod);
            changed["status"] =
                json!({ "observedGeneration": object["metadata"]["generation"], "replicas": replicas });
        } else {
            changed["status"] = json!({
                "observedGeneration": object["metadata"]["generation"], "replicas": replicas,
                "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
            });
        }
        self.stamp("MODIFIED", &place.key(), changed)
    }

    pub(super) fn status(&mut self, place: &Place, body: &Value) -> Reply {
        let Some(mut object) = self.objects.get(&place.key()).cloned() else { return missing(place) };
        if object["status"].is_null() {
            object["status"] = json!({});
        }
        merge(&mut object["status"], &body["status"]);
        // What is zero is left out, as Go does.
        object["status"].as_object_mut().unwrap().retain(|_, value| *value != 0);
        Reply::Answer(200, self.stamp("MODIFIED", &place.key(), object))
    }

    pub(super) fn delete(&mut self, place: &Place) -> Reply {
        let key = place.key();
        let Some(object) = self.objects.get(&key).cloned() else { return missing(place) };
        let uid = object["metadata"]["uid"].clone();
        self.stamp("DELETED", &key, object);
        self.owned.remove(&key);
        let mut details = details(place);
        details["uid"] = uid;
        let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
        Reply::Answer(200, done)
    }

    pub(super) fn list(&self, place: &Place, question: &Question) -> Reply {
        let items: Vec<Value> = self
            .objects
            .range(place.folder()..)
            .take_while(|(key, _)| key.starts_with(&place.folder()))
            .filter(|(_, object)| selects(question, object))
            .map(|(_, object)| {
                let mut item = object.clone();
                let fields = item.as_object_mut().unwrap();
                // The items of what is built in do not say what they are.
                if place.plural != "httproutes" {
                    fields.remove("apiVersion");
                    fields.remove("kind");
                }
                item
            })
            .collect();
        let list = json!({
            "apiVersion": place.api, "kind": format!("{}List", place.kind),
            "metadata": { "resourceVersion": self.version.to_string() }, "items": items,
        });
        Reply::Answer(200, list)
    }

    pub(super) fn watch(&mut self, question: &Question) -> Reply {
        let since = question.query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        if self.fault(|fault| fault == Fault::Gone) {
            return Reply::Answer(410, gone(since, self.version));
        }
        Reply::Watch(since, self.versions.subscribe())
    }

    /// What happened since.
    pub(super) fn events(&self, since: u64, question: &Question) -> Vec<Value> {
        let Some(place) = Place::of(&question.path) else { return Vec::new() };
        let oldest = self.log.first().map_or(self.version, |(version, ..)| version - 1).min(200);
        if since < oldest {
            return vec![json!({ "type": "ERROR", "object": gone(since, self.version) })];
        }
        let new = self.log.iter().filter(|(version, _, key, object)| {
            since < *version && key.starts_with(&place.folder()) && selects(question, object)
        });
        new.map(|(_, kind, _, object)| json!({ "type": kind, "object": object })).collect()
    }
}
