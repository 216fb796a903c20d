//! Records what the adapter for Kubernetes and a real API server say to each other, for the tests.
//!
//! `KUBECONFIG=… cargo run -p gemba-deployment --features kubernetes --example kubernetes-record`
//!
//! The cluster has no CRDs of the Gateway API, no controllers and nothing that anybody needs: etcd and kube-apiserver
//! alone, as `docs/testing.md` says. It plays the controllers itself.

#![allow(clippy::unwrap_used, reason = "whoever records sees where it stops")]

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;

#[path = "../tests/adapter/kubernetes/recorder.rs"]
mod recorder;
#[path = "../tests/adapter/kubernetes/scenario.rs"]
mod scenario;

#[tokio::main]
async fn main() {
    let admin = Client::try_default().await.unwrap();
    let version = admin.apiserver_version().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let namespace = json!({ "metadata": { "name": scenario::NAMESPACE } });
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    let mut recorder = recorder::Recorder::new(admin.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let told = scenario::play(&admin, &recorder, folder.path()).await;
    for (case, said) in &told {
        println!("{case}: {said}");
    }
    let server = json!({ "gitVersion": version.git_version, "platform": version.platform });
    let recording = json!({ "server": server, "told": told, "exchanges": recorder.exchanges() });
    let name = format!("recorded-{}.json", version.git_version);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/adapter/kubernetes").join(name);
    std::fs::write(&file, serde_json::to_string_pretty(&recording).unwrap() + "\n").unwrap();
    println!("written to {}", file.display());
}
