//! Which adapter drives a region, and what it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gemba::config::{Check, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::adapter::command::CommandSettings;
use crate::host::ListenAddress;

/// Stands in an image for the version, and in a query for what it stands beside.
pub const VERSION: &str = "{version}";

/// What drives a region.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// Processes of this machine behind our own splitter.
    #[default]
    Process,
    /// A cluster: a Deployment and a Service for each version, and the weights of an HTTPRoute.
    Kubernetes,
    /// Scripts of one's own.
    Command,
    /// Addresses that are there anyway, behind our own splitter.
    Static,
}

impl AdapterKind {
    /// Whether our own splitter stands before the instances.
    pub const fn has_splitter(self) -> bool {
        matches!(self, Self::Process | Self::Static)
    }

    /// The table of its settings; `process` has none.
    pub const fn table(self) -> Option<&'static str> {
        match self {
            Self::Process => None,
            Self::Kubernetes => Some("kubernetes"),
            Self::Command => Some("command"),
            Self::Static => Some("static"),
        }
    }
}

/// Where the instances of each version are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    /// The addresses of each version; all of them count as ready.
    pub addresses: BTreeMap<String, Addresses>,
}

/// Where the instances of the version are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Addresses(pub Vec<ListenAddress>);

impl Check for StaticSettings {
    fn check(&self, faults: &mut Faults<'_>) {
        let mut faults = faults.at("addresses");
        for (version, addresses) in &self.addresses {
            if addresses.0.is_empty() {
                faults
                    .at(version)
                    .add("is an empty list; give at least one address, or leave the version out");
            }
        }
    }
}

/// A cluster, and what a service is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSettings {
    /// The kubeconfig. Without it: `$KUBECONFIG`, `~/.kube/config`, or the service account of the pod this runs in.
    #[serde(default)]
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; the current one without.
    #[serde(default)]
    pub context: Option<String>,
    /// The namespace, which must be there.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The image of a version, in which `{version}` stands for it.
    #[schemars(example = "registry.example/api:{version}")]
    pub image: String,
    /// The port that a container listens at.
    #[serde(default = "port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The Gateway that the HTTPRoute belongs to.
    #[schemars(example = &"public")]
    pub gateway: String,
    /// The namespace of the Gateway, if it is another one.
    #[serde(default)]
    pub gateway_namespace: Option<String>,
    /// The hosts the HTTPRoute is for; none: all of the Gateway.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Take over rules of the HTTPRoute that somebody else owns, instead of saying so and leaving them.
    #[serde(default)]
    pub take_over: bool,
    /// How long instances without a share are kept, so that the Gateway has heard of it.
    #[serde(default = "drain_ms")]
    #[schemars(range(min = 100, max = 3_600_000))]
    pub drain_ms: u64,
    /// Where counts come from, if from one address: what a splitter answers at `/counts`, for each version.
    #[serde(default)]
    #[schemars(example = "http://counts.shop:9090/counts")]
    pub counts: Option<String>,
    /// Where counts come from, if from Prometheus.
    #[serde(default)]
    pub prometheus: Option<PrometheusSettings>,
}

/// Counts as Prometheus has them. In each query `{version}` stands for the version, `{service}` for the name of its
/// Service and Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusSettings {
    /// Its address.
    #[schemars(example = "http://prometheus.monitoring:9090")]
    pub url: String,
    /// The sum of all requests to a version, as a counter.
    #[schemars(example = "sum(http_requests_total{service=\"{service}\"})")]
    pub requests: String,
    /// The sum of those that failed.
    #[schemars(example = "sum(http_requests_total{service=\"{service}\",code=~\"5..\"})")]
    pub failures: String,
    /// The buckets of their latencies in seconds, by `le`.
    #[schemars(example = "sum by (le) (http_request_duration_seconds_bucket{service=\"{service}\"})")]
    pub latencies: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn port() -> u16 {
    8080
}

/// What the controllers of Gateways take to hear of a change, with room.
fn drain_ms() -> u64 {
    10_000
}

impl Check for KubernetesSettings {
    fn check(&self, faults: &mut Faults<'_>) {
        if cfg!(not(feature = "kubernetes")) {
            faults.add("needs a program built with it; build this one with --features kubernetes");
        }
        if !self.image.contains(VERSION) {
            let image = &self.image;
            faults.at("image").add(format!("is \"{image}\"; put {VERSION} where its version stands"));
        }
        let named = [("namespace", Some(&self.namespace)), ("gateway", Some(&self.gateway))];
        let optional = [("gateway_namespace", self.gateway_namespace.as_ref())];
        for (key, name) in named.into_iter().chain(optional) {
            if let Some(name) = name.filter(|name| !is_label(name)) {
                faults
                    .at(key)
                    .add(format!("is \"{name}\"; give small letters, digits and hyphens, 63 at most"));
            }
        }
        match (&self.counts, &self.prometheus) {
            (None, None) => {
                faults.add(
                    "does not say where counts come from; give counts = \"http://…\" or a table prometheus",
                );
            }
            (Some(_), Some(_)) => {
                faults
                    .at("counts")
                    .add("stands beside prometheus; leave one of them out")
                    .beside("prometheus");
            }
            (Some(url), None) => check_url(url, &mut faults.at("counts")),
            (None, Some(prometheus)) => prometheus.check(&mut faults.at("prometheus")),
        }
    }
}

impl Check for PrometheusSettings {
    fn check(&self, faults: &mut Faults<'_>) {
        check_url(&self.url, &mut faults.at("url"));
        let queries =
            [("requests", &self.requests), ("failures", &self.failures), ("latencies", &self.latencies)];
        for (key, query) in queries {
            if !query.contains(VERSION) && !query.contains("{service}") {
                let message = "is the same for every version; put {version} or {service} into it";
                faults.at(key).add(message);
            }
        }
    }
}

fn check_url(url: &str, faults: &mut Faults<'_>) {
    let is_http = reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "http");
    if !is_http {
        faults.add(format!("is \"{url}\"; give an address that begins with http://"));
    }
}

/// A label of RFC 1123, as Kubernetes asks of names.
fn is_label(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(is_inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
