//! What the adapter and a cluster say to each other in all the cases there are: the same on a real cluster, where it is
//! recorded, and on the one of the tests, which is compared with that.

use std::path::Path;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use gemba_deployment::adapter::kubernetes::{Cluster, MANAGER};
use gemba_deployment::adapter::remote::{Hands, Order};
use gemba_deployment::adapter::{Shares, Standing};
use gemba_deployment::fleet::{Fleet, Service};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::core::WatchEvent;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::recorder::Recorder;

/// Where everything happens.
pub(crate) const NAMESPACE: &str = "gemba-record";

/// A user who may do nothing.
pub(crate) const STRANGER: &str = "stranger";

/// What happened, for whoever reads: each case, and what the adapter said of it.
pub(crate) type Told = Vec<(&'static str, String)>;

/// What of the Gateway API the adapter writes; the real one has more in it.
pub(crate) fn definition() -> Value {
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let list = json!({ "type": "array", "items": any, "x-kubernetes-list-type": "atomic" });
    let hosts = json!({ "type": "array", "items": { "type": "string" }, "x-kubernetes-list-type": "atomic" });
    let spec = json!({
        "type": "object",
        "properties": { "parentRefs": list, "hostnames": hosts, "rules": list },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "httproutes.gateway.networking.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "unapproved, for a recording" },
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "names": { "kind": "HTTPRoute", "listKind": "HTTPRouteList", "plural": "httproutes", "singular": "httproute" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "spec": spec, "status": any },
                } },
            }],
        },
    })
}

/// The service of the scenario, in the cluster of this kubeconfig.
pub(crate) fn service(kubeconfig: &Path, take_over: bool) -> Service {
    let fleet = json!({ "services": { "api": {
        "instances": 2, "capacity": 4, "versions": { "v1": {}, "v2": {} },
        "regions": [{
            "name": "us-west", "adapter": "kubernetes",
            "kubernetes": {
                "kubeconfig": kubeconfig, "namespace": NAMESPACE, "image": "registry.example/api:{version}",
                "gateway": "public", "take_over": take_over, "counts": "http://127.0.0.1:9/counts",
            },
        }],
    } } });
    let text = gemba::config::to_toml(&fleet).unwrap();
    let fleet =
        gemba::config::Sources::new("SCENARIO").text("fleet.toml", &text).load::<Fleet>().unwrap().value;
    fleet.service("api").unwrap().clone()
}

/// The adapter of that service.
pub(crate) fn cluster(service: &Service) -> Cluster {
    Cluster::new(service, service.regions[0].kubernetes.as_ref().unwrap())
}

fn shares(generation: u64, versions: &[(&str, u32)]) -> Shares {
    let versions = versions.iter().map(|(version, share)| ((*version).to_owned(), *share)).collect();
    Shares { generation, versions }
}

const fn order(version: &str, generation: u64) -> Order<'_> {
    Order { delivery: "seven", generation, version }
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

/// Does what the controllers of Deployments and the kubelets do, where there are none.
pub(crate) async fn set_ready(admin: &Client, name: &str, ready: i32) {
    let deployments: Api<Deployment> = Api::namespaced(admin.clone(), NAMESPACE);
    let deployment = deployments.get(name).await.unwrap();
    let status = json!({ "status": {
        "observedGeneration": deployment.metadata.generation, "replicas": 2, "updatedReplicas": 2,
        "readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": 2 - ready,
    } });
    deployments.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// A pod of a version whose image cannot be had.
pub(crate) async fn stuck_pod(admin: &Client, version: &str) {
    let pods: Api<Pod> = Api::namespaced(admin.clone(), NAMESPACE);
    let labels = json!({ "gemba.dev/service": "api", "gemba.dev/version": version });
    let pod = json!({
        "metadata": { "name": format!("api-{version}-0"), "labels": labels },
        "spec": { "containers": [{ "name": "service", "image": "registry.example/none" }] },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let waiting = json!({ "reason": "ImagePullBackOff", "message": "Back-off pulling image" });
    let container = json!({
        "name": "service", "image": "registry.example/none", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": waiting },
    });
    let status = json!({ "status": { "phase": "Pending", "containerStatuses": [container] } });
    pods.patch_status(&format!("api-{version}-0"), &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
}

async fn look(cluster: &mut Cluster, version: &str, ready: u32) -> Standing {
    // An event may be on its way.
    loop {
        let found = cluster.look().await.unwrap().remove(version).unwrap_or_default();
        if found.ready == ready {
            return found;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Plays everything. `admin` may do all; `recorder` stands before the same cluster; `folder` is for kubeconfigs.
pub(crate) async fn play(admin: &Client, recorder: &Recorder, folder: &Path) -> Told {
    let mut told = Told::new();
    let (ours, strange) = (folder.join("ours"), folder.join("strange"));
    recorder.kubeconfig(&ours, None);
    recorder.kubeconfig(&strange, Some(STRANGER));
    let mut first = cluster(&service(&ours, false));
    told.push(("no HTTPRoute is known", said(first.share("seven", &shares(10, &[("v1", 10_000)])).await)));
    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    let definition = serde_json::from_value(definition()).unwrap();
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let resource =
        ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
    let routes: Api<DynamicObject> = Api::namespaced_with(admin.clone(), NAMESPACE, &resource);
    while routes.list(&ListParams::default()).await.is_err() {
        sleep(Duration::from_millis(200)).await;
    }

    told.push(("start v1", said(first.start(&order("v1", 9), 2).await)));
    assert_eq!(look(&mut first, "v1", 0).await, Standing { ready: 0, all: 2, failures: None });
    set_ready(admin, "api-v1", 2).await;
    assert_eq!(look(&mut first, "v1", 2).await, Standing { ready: 2, all: 2, failures: None });
    told.push(("everything to v1", said(first.share("seven", &shares(10, &[("v1", 10_000)])).await)));
    told.push(("start v2", said(first.start(&order("v2", 10), 2).await)));
    stuck_pod(admin, "v2").await;
    let stuck = look(&mut first, "v2", 0).await;
    told.push(("v2 is stuck", stuck.failures.map_or_else(String::new, |(_, why)| why)));
    set_ready(admin, "api-v2", 2).await;
    look(&mut first, "v2", 2).await;
    told.push((
        "a twentieth to v2",
        said(first.share("seven", &shares(11, &[("v2", 500), ("v1", 9_500)])).await),
    ));

    let mut older = cluster(&service(&ours, false));
    told.push(("an older manager shares", said(older.share("six", &shares(9, &[("v1", 10_000)])).await)));
    told.push(("an older manager ends", said(older.end(&order("v2", 9)).await)));
    let mut stranger = cluster(&service(&strange, false));
    told.push(("a stranger looks", said(stranger.look().await)));
    told.push(("a stranger shares", said(stranger.share("seven", &shares(12, &[("v1", 10_000)])).await)));

    // As the adapter would, had somebody been faster.
    let ours_client = client(&ours).await;
    let stale: Api<DynamicObject> = Api::namespaced_with(ours_client.clone(), NAMESPACE, &resource);
    let late = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "api", "resourceVersion": "1" },
        "spec": { "parentRefs": [{ "name": "public" }] },
    });
    let late = stale.patch("api", &PatchParams::apply(MANAGER), &Patch::Apply(&late)).await;
    told.push(("too late", said(late.map_err(message))));
    let mine = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": { "name": "api" },
        "spec": { "rules": [{ "backendRefs": [{ "name": "mine", "port": 80, "weight": 1 }] }] },
    });
    routes.patch("api", &PatchParams::apply("somebody").force(), &Patch::Apply(&mine)).await.unwrap();
    told.push(("somebody else's rules", said(first.share("seven", &shares(12, &[("v2", 10_000)])).await)));
    let mut greedy = cluster(&service(&ours, true));
    told.push(("taken over", said(greedy.share("seven", &shares(12, &[("v2", 10_000)])).await)));

    told.push(("end v1", said(first.end(&order("v1", 12)).await)));
    told.push(("end v1 again", said(first.end(&order("v1", 12)).await)));
    while first.look().await.unwrap().contains_key("v1") {
        sleep(Duration::from_millis(50)).await;
    }
    let deployments: Api<Deployment> = Api::namespaced(ours_client, NAMESPACE);
    let old = deployments.watch(&WatchParams::default().timeout(1), "1").await;
    told.push(("a watch from long ago", said(first_event(old).await)));
    told
}

/// What a cluster says.
fn message(error: kube::Error) -> String {
    if let kube::Error::Api(status) = error { status.message } else { error.to_string() }
}

/// The first event of a watch, which is an error if it is one.
async fn first_event(
    opened: kube::Result<impl Stream<Item = kube::Result<WatchEvent<Deployment>>>>,
) -> Result<(), String> {
    let mut events = Box::pin(opened.map_err(message)?);
    match events.next().await {
        Some(Ok(WatchEvent::Error(status))) => Err(status.message),
        Some(Err(error)) => Err(message(error)),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// A client of this kubeconfig.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}
