//! What an HTTPRoute would have let through, as a splitter and as Prometheus tell it.

use serde_json::{Value, json};

use super::cluster::Cluster;

impl Cluster {
    /// A thousand requests pass at each look, by the weights in force; three in ten of those of `bad` fail.
    pub(super) fn flow(&mut self) {
        let routes: Vec<Value> = self
            .objects
            .iter()
            .filter(|(key, _)| key.contains("/httproutes/"))
            .map(|(_, object)| object.clone())
            .collect();
        for route in routes {
            for backend in route["spec"]["rules"][0]["backendRefs"].as_array().into_iter().flatten() {
                let requests = backend["weight"].as_u64().unwrap_or(0).div_ceil(10);
                let name = backend["name"].as_str().unwrap_or_default();
                let failures = if name.ends_with("-bad") { requests * 3 / 10 } else { 0 };
                let sum = self.counted.entry(name.to_owned()).or_default();
                *sum = (sum.0 + requests, sum.1 + failures);
            }
        }
    }

    /// As a splitter tells it; the Services of the tests are called `api-` and their version.
    pub(super) fn counts(&mut self) -> Value {
        self.flow();
        let version = |(name, (requests, failures)): (&String, &(u64, u64))| {
            json!({
                "version": name.trim_start_matches("api-"), "requests": requests, "failures": failures,
                "in_flight": 0, "latencies": requests - failures, "latencies_us": [900, 1_000, 1_100],
            })
        };
        let versions: Vec<Value> = self.counted.iter().map(version).collect();
        json!({ "generation": 0, "life": "fake", "versions": versions })
    }

    /// As Prometheus tells it, of `requests{service="api-v1"}`, `failures{…}` and `seconds_bucket{…}`.
    pub(super) fn prometheus(&mut self, query: &str) -> Value {
        let name = query.split('"').nth(1).unwrap_or_default();
        let (requests, failures) = self.counted.get(name).copied().unwrap_or_default();
        let sample =
            |metric: Value, value: u64| json!({ "metric": metric, "value": [1.5, value.to_string()] });
        let result = if query.starts_with("requests") {
            self.flow();
            vec![sample(json!({}), requests)]
        } else if query.starts_with("failures") {
            vec![sample(json!({}), failures)]
        } else {
            let all = requests - failures;
            vec![
                sample(json!({ "le": "0.001" }), all / 2),
                sample(json!({ "le": "+Inf" }), all),
                sample(json!({ "le": "0.01" }), all),
            ]
        };
        json!({ "status": "success", "data": { "resultType": "vector", "result": result } })
    }
}
