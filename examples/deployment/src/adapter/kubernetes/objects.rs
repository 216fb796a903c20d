//! What is written into a cluster, and what is read out of it.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::adapter::kubernetes::{Facts, MANAGER};
use crate::adapter::remote::Order;
use crate::adapter::settings::VERSION;
use crate::adapter::{Shares, Standing};

/// The service, as a label of all that belongs to it.
const SERVICE_LABEL: &str = "gemba.dev/service";

/// The version, as a label: what a Deployment and a Service are for.
const VERSION_LABEL: &str = "gemba.dev/version";

/// The version as it is called, which a label may not be.
const VERSION_NOTE: &str = "gemba.dev/version-name";

/// The delivery that wrote it.
const ROLLOUT_NOTE: &str = "gemba.dev/rollout";

/// The generation it was written in.
const GENERATION_NOTE: &str = "gemba.dev/generation";

/// Where a Service listens; its Gateway alone speaks to it.
const SERVICE_PORT: u16 = 80;

/// The longest part of a name, so that two of them and the suffix of a pod make a label.
const PART_MAX: usize = 24;

/// Reasons for which a container waits and that do not pass by themselves.
const STUCK: [&str; 6] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// Names of what belongs to a service.
#[derive(Debug, Clone)]
pub(super) struct Names {
    service: String,
}

impl Names {
    pub(super) fn new(service: &str) -> Self {
        let service = part(service);
        // The name of a Service begins with a letter.
        let is_letter = service.starts_with(|first: char| first.is_ascii_lowercase());
        Self { service: if is_letter { service } else { format!("s{service}") } }
    }

    /// The HTTPRoute.
    pub(super) fn route(&self) -> &str {
        &self.service
    }

    /// The Deployment and the Service of a version.
    pub(super) fn version(&self, version: &str) -> String {
        format!("{}-{}", self.service, part(version))
    }

    /// The selector of everything.
    pub(super) fn all(&self) -> String {
        format!("{SERVICE_LABEL}={}", self.service)
    }

    /// The selector of a version's pods.
    pub(super) fn pods(&self, version: &str) -> String {
        format!("{},{VERSION_LABEL}={}", self.all(), part(version))
    }

    fn labels(&self, version: &str) -> Value {
        json!({ SERVICE_LABEL: self.service, VERSION_LABEL: part(version) })
    }
}

/// A name as Kubernetes allows it: small letters, digits, hyphens. One that had to be changed ends in a hash of what it
/// was, so that two never become one.
fn part(name: &str) -> String {
    let allowed = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '-',
    };
    let text: String = name.chars().map(allowed).collect();
    let text = text.trim_matches('-');
    if text == name && text.len() <= PART_MAX {
        return text.to_owned();
    }
    let hash = format!("{:08x}", xxh3_64(name.as_bytes()) as u32);
    let kept = text[..text.len().min(PART_MAX - hash.len() - 1)].trim_matches('-');
    if kept.is_empty() { format!("x-{hash}") } else { format!("{kept}-{hash}") }
}

fn notes(delivery: &str, generation: u64) -> Map<String, Value> {
    let mut notes = Map::new();
    notes.insert(ROLLOUT_NOTE.to_owned(), json!(delivery));
    notes.insert(GENERATION_NOTE.to_owned(), json!(generation.to_string()));
    notes
}

fn metadata(facts: &Facts, order: &Order<'_>) -> Value {
    let mut labels = facts.names.labels(order.version);
    labels["app.kubernetes.io/managed-by"] = json!(MANAGER);
    let mut notes = notes(order.delivery, order.generation);
    notes.insert(VERSION_NOTE.to_owned(), json!(order.version));
    json!({ "name": facts.names.version(order.version), "labels": labels, "annotations": notes })
}

/// The Deployment of a version.
pub(super) fn deployment(facts: &Facts, order: &Order<'_>, instances: u32) -> Value {
    let labels = facts.names.labels(order.version);
    let probe = json!({
        "httpGet": { "path": facts.health, "port": facts.settings.port },
        "periodSeconds": 1,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(facts, order),
        "spec": {
            "replicas": instances,
            "progressDeadlineSeconds": facts.ready_within.as_secs().max(1),
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "terminationGracePeriodSeconds": facts.stop_within.as_secs().max(1),
                    "containers": [{
                        "name": "service",
                        "image": facts.settings.image.replace(VERSION, order.version),
                        "ports": [{ "containerPort": facts.settings.port, "protocol": "TCP" }],
                        "readinessProbe": probe,
                    }],
                },
            },
        },
    })
}

/// The Service of a version.
pub(super) fn service(facts: &Facts, order: &Order<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(facts, order),
        "spec": {
            "selector": facts.names.labels(order.version),
            "ports": [{ "port": SERVICE_PORT, "protocol": "TCP", "targetPort": facts.settings.port }],
        },
    })
}

pub(super) fn route_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"))
}

/// The HTTPRoute with these shares. With a `version`, it is refused if somebody wrote it since.
pub(super) fn route(facts: &Facts, delivery: &str, shares: &Shares, version: Option<String>) -> Value {
    let backend = |(version, weight): &(String, u32)| json!({ "name": facts.names.version(version), "port": SERVICE_PORT, "weight": weight });
    let backends: Vec<Value> = shares.versions.iter().map(backend).collect();
    let mut parent = json!({ "name": facts.settings.gateway });
    if let Some(namespace) = &facts.settings.gateway_namespace {
        parent["namespace"] = json!(namespace);
    }
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": facts.names.route(),
            "labels": { "app.kubernetes.io/managed-by": MANAGER, SERVICE_LABEL: facts.names.route() },
            "annotations": notes(delivery, shares.generation),
        },
        "spec": { "parentRefs": [parent], "rules": [{ "backendRefs": backends }] },
    });
    if !facts.settings.hostnames.is_empty() {
        route["spec"]["hostnames"] = json!(facts.settings.hostnames);
    }
    if let Some(version) = version {
        route["metadata"]["resourceVersion"] = json!(version);
    }
    route
}

/// The generation an HTTPRoute was written in; none if not by us.
pub(super) fn generation(route: &DynamicObject) -> Option<u64> {
    route.metadata.annotations.as_ref()?.get(GENERATION_NOTE)?.parse().ok()
}

/// Why a Gateway does not take an HTTPRoute as it is now, if it said so.
pub(super) fn refusal(route: &DynamicObject) -> Option<String> {
    let parents = route.data["status"]["parents"].as_array()?;
    let conditions = parents.iter().filter_map(|parent| parent["conditions"].as_array()).flatten();
    let refused = conditions.into_iter().find(|condition| {
        condition["status"] == "False"
            && (condition["type"] == "Accepted" || condition["type"] == "ResolvedRefs")
            && condition["observedGeneration"].as_i64() == route.metadata.generation
    })?;
    let text = |key: &str| refused[key].as_str().unwrap_or_default();
    Some(format!("the Gateway does not take the HTTPRoute: {}: {}", text("reason"), text("message")))
}

/// Which version a Deployment is for, and how it stands.
pub(super) fn standing(deployment: &Deployment) -> Option<(String, Standing)> {
    let version = deployment.metadata.annotations.as_ref()?.get(VERSION_NOTE)?.clone();
    let all = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).unsigned_abs();
    let status = deployment.status.clone().unwrap_or_default();
    // What its controller has not looked at yet says nothing of what is wanted now.
    if status.observed_generation < deployment.metadata.generation {
        return Some((version, Standing { ready: 0, all, failures: None }));
    }
    let count = |count: Option<i32>| count.unwrap_or(0).unsigned_abs();
    let ready = count(status.ready_replicas).min(count(status.updated_replicas)).min(all);
    let failed = status.conditions.iter().flatten().find(|condition| {
        (condition.type_ == "Progressing" && condition.status == "False")
            || (condition.type_ == "ReplicaFailure" && condition.status == "True")
    });
    let failures = failed.map(|condition| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (1, format!("{}: {}", text(&condition.reason), text(&condition.message)))
    });
    Some((version, Standing { ready, all, failures }))
}

/// How often containers of these pods ended or could not begin, and why at last.
pub(super) fn failures(pods: &[Pod]) -> Option<(u64, String)> {
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref());
    let containers = statuses.flat_map(|status| status.container_statuses.iter().flatten());
    containers.filter_map(failure).reduce(|one, other| (one.0 + other.0, other.1))
}

fn failure(container: &ContainerStatus) -> Option<(u64, String)> {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let stuck = waiting.filter(|waiting| waiting.reason.as_deref().is_some_and(|why| STUCK.contains(&why)));
    let restarts = u64::from(container.restart_count.unsigned_abs());
    let mut why = Vec::new();
    if let Some(stuck) = stuck {
        let (reason, message) = (stuck.reason.as_deref(), stuck.message.as_deref());
        why.push(format!("{}: {}", reason.unwrap_or_default(), message.unwrap_or("without a message")));
    }
    if let Some(ended) = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()) {
        let reason = ended.reason.as_deref().unwrap_or("it ended");
        why.push(format!("{reason}, exit code {}", ended.exit_code));
    }
    (0 < restarts || stuck.is_some()).then(|| (restarts.max(1), why.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_allows_and_two_never_become_one() {
        let names = Names::new("api");
        assert_eq!((names.route(), names.version("v2").as_str()), ("api", "api-v2"));
        let long = "a".repeat(60);
        let odd = ["v1.2", "v1-2", "V1-2", "v1_2", "v1:2", ":", "-", &long, &long[1..]];
        let mut made: Vec<String> = odd.iter().map(|version| Names::new("7:Api").version(version)).collect();
        for name in &made {
            let is_fit =
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            assert!(is_fit && name.len() <= 52 && name.starts_with('s') && !name.ends_with('-'), "{name}");
        }
        made.sort();
        made.dedup();
        assert_eq!(made.len(), odd.len(), "{made:?}");
    }

    #[test]
    fn a_deployment_is_ready_when_its_controller_has_seen_it_and_all_are_new() {
        let ready = |generation: i64, updated: i32, conditions: Value| {
            let deployment = json!({
                "metadata": { "generation": 2, "annotations": { VERSION_NOTE: "v1.2" } },
                "spec": { "replicas": 2, "selector": {}, "template": {} },
                "status": {
                    "observedGeneration": generation, "readyReplicas": 2, "updatedReplicas": updated,
                    "conditions": conditions,
                },
            });
            let (version, standing) = standing(&serde_json::from_value(deployment).unwrap()).unwrap();
            assert_eq!((version.as_str(), standing.all), ("v1.2", 2));
            (standing.ready, standing.failures)
        };
        assert_eq!(ready(2, 2, json!([])), (2, None));
        assert_eq!(ready(1, 2, json!([])), (0, None), "what it says is of an older one");
        assert_eq!(ready(2, 1, json!([])), (1, None), "one is still the old one");
        let late = json!([{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late",
        }]);
        assert_eq!(ready(2, 0, late), (0, Some((1, "ProgressDeadlineExceeded: too late".to_owned()))));
    }

    #[test]
    fn pods_say_why_they_are_not_ready() {
        let pod = |restarts: u32, state: Value, last: Value| {
            let container = json!({
                "name": "service", "image": "i", "imageID": "", "ready": false, "restartCount": restarts,
                "state": state, "lastState": last,
            });
            serde_json::from_value::<Pod>(json!({ "status": { "containerStatuses": [container] } })).unwrap()
        };
        let waits = |reason: &str| json!({ "waiting": { "reason": reason, "message": "not found" } });
        let ended = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        assert_eq!(failures(&[pod(0, waits("ContainerCreating"), json!({}))]), None);
        let unpulled = failures(&[pod(0, waits("ImagePullBackOff"), json!({}))]);
        assert_eq!(unpulled, Some((1, "ImagePullBackOff: not found".to_owned())));
        let both = [pod(2, json!({}), ended.clone()), pod(3, waits("CrashLoopBackOff"), ended)];
        let why = "CrashLoopBackOff: not found; OOMKilled, exit code 137".to_owned();
        assert_eq!(failures(&both), Some((5, why)));
    }

    #[test]
    fn a_gateway_that_refuses_is_believed_once_it_has_seen_the_last_word() {
        let route = |observed: i64| {
            let condition = json!({
                "type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "no api-v2",
                "observedGeneration": observed,
            });
            let route = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": { "generation": 3, "annotations": { GENERATION_NOTE: "17" } },
                "status": { "parents": [{ "conditions": [condition] }] },
            });
            serde_json::from_value::<DynamicObject>(route).unwrap()
        };
        assert_eq!(generation(&route(3)), Some(17));
        assert_eq!(refusal(&route(2)), None);
        assert!(refusal(&route(3)).unwrap().ends_with("BackendNotFound: no api-v2"));
    }
}
