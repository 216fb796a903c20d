//! The user's own scripts: one for each verb, for terraform, kubectl, a load balancer, DNS.
//!
//! | verb | is told, as arguments | says on stdout |
//! | --- | --- | --- |
//! | `start` | service, region, version, instances | nothing |
//! | `ready` | service, region | `{"v1": {"ready": 2, "all": 2}, "v2": {"ready": 0, "all": 2, "failures": 1, "why": "no licence"}}` |
//! | `shares` | service, region, generation, then `v2=500 v1=9500`, in ten thousandths | nothing |
//! | `counts` | service, region | `{"life": "a", "versions": [{"version": "v1", "requests": 9, "failures": 0, "latencies": 9, "latencies_us": [740]}]}` |
//! | `end` | service, region, version | nothing |
//!
//! Each may be called again at any time and then does what is still to be done. The same is in the environment:
//! `GEMBA_SERVICE`, `GEMBA_REGION`, `GEMBA_VERB`, and where there is one `GEMBA_DELIVERY`, `GEMBA_VERSION`,
//! `GEMBA_INSTANCES`, `GEMBA_GENERATION`. A script that ends with 0 did it; with 75 (`EX_TEMPFAIL`) it is asked again
//! in a second; with anything else it refuses, and its last line on stderr is the reason. One that takes longer than
//! its time is killed with its process group. `shares` gets a greater generation each time, and should refuse one
//! that is smaller than what it has put in force: the late word of a manager that was replaced.
//!
//! `ready` names every version that is there. `counts` are sums since `life` began: what sums up anew has another
//! life; latencies are those of successes, in microseconds, the last few thousand of `latencies` that there were.

mod run;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gemba::config::{Check, Faults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adapter::remote::{Hands, Order};
use crate::adapter::{Shares, Standing, Trouble};
use crate::splitter::Counted;
use crate::splitter::tally::{LATENCIES_KEPT, VersionCounts};

/// The scripts of a region, each a program and its first arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSettings {
    /// Makes instances of a version run.
    pub start: Vec<String>,
    /// Tells how each version stands.
    pub ready: Vec<String>,
    /// Gives each version its share.
    pub shares: Vec<String>,
    /// Tells what came of the requests.
    pub counts: Vec<String>,
    /// Ends the instances of a version.
    pub end: Vec<String>,
    /// How long `start` and `end` may take.
    #[serde(default = "change_within_ms")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub change_within_ms: u64,
    /// How long `ready`, `shares` and `counts` may take.
    #[serde(default = "answer_within_ms")]
    #[schemars(range(min = 10, max = 3_600_000))]
    pub answer_within_ms: u64,
}

/// What a plan of terraform takes, with room.
fn change_within_ms() -> u64 {
    300_000
}

/// A call or two of a cloud's API.
fn answer_within_ms() -> u64 {
    10_000
}

impl CommandSettings {
    fn verbs(&self) -> [(&'static str, &[String]); 5] {
        [
            ("start", &self.start),
            ("ready", &self.ready),
            ("shares", &self.shares),
            ("counts", &self.counts),
            ("end", &self.end),
        ]
    }
}

impl Check for CommandSettings {
    fn check(&self, faults: &mut Faults<'_>) {
        for (verb, command) in self.verbs() {
            if command.first().is_none_or(String::is_empty) {
                faults.at(verb).add("names no program; give one, such as [\"./scripts/start\"]");
            } else if command.iter().any(|part| part.contains('\0')) {
                faults.at(verb).add("has a zero byte in it, which no program can be given");
            }
        }
    }
}

/// The scripts of one region.
#[derive(Debug, Clone)]
pub struct Scripts {
    service: Arc<str>,
    region: Arc<str>,
    settings: Arc<CommandSettings>,
}

/// How a version stands, as `ready` tells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    ready: u32,
    #[serde(default)]
    all: Option<u32>,
    #[serde(default)]
    failures: u64,
    #[serde(default)]
    why: Option<String>,
}

/// What was counted, as `counts` tells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToldCounts {
    life: String,
    versions: Vec<ToldVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToldVersion {
    version: String,
    requests: u64,
    failures: u64,
    #[serde(default)]
    in_flight: u64,
    #[serde(default)]
    latencies: u64,
    #[serde(default)]
    latencies_us: Vec<u32>,
}

impl Scripts {
    /// The scripts of a region of a service.
    pub fn new(service: &str, region: &str, settings: CommandSettings) -> Self {
        Self { service: service.into(), region: region.into(), settings: Arc::new(settings) }
    }

    fn call(&self, verb: &'static str) -> run::Call {
        let (command, within_ms) = match verb {
            "start" => (&self.settings.start, self.settings.change_within_ms),
            "end" => (&self.settings.end, self.settings.change_within_ms),
            "ready" => (&self.settings.ready, self.settings.answer_within_ms),
            "shares" => (&self.settings.shares, self.settings.answer_within_ms),
            _ => (&self.settings.counts, self.settings.answer_within_ms),
        };
        run::Call::new(verb, command, Duration::from_millis(within_ms))
            .word("GEMBA_SERVICE", &self.service)
            .word("GEMBA_REGION", &self.region)
    }
}

impl Hands for Scripts {
    /// They run when something changes: what they do may cost somebody something.
    const TOLD_AGAIN: Option<Duration> = None;

    async fn look(&mut self) -> Result<BTreeMap<String, Standing>, Trouble> {
        let told: BTreeMap<String, Told> = self.call("ready").json().await?;
        let standing = |told: Told| {
            let why = told.why.unwrap_or_else(|| "its script gave no reason".to_owned());
            Standing {
                ready: told.ready,
                all: told.all.unwrap_or(told.ready).max(told.ready),
                failures: (0 < told.failures).then_some((told.failures, why)),
            }
        };
        Ok(told.into_iter().map(|(version, told)| (version, standing(told))).collect())
    }

    async fn start(&mut self, order: &Order<'_>, instances: u32) -> Result<(), Trouble> {
        let call = self.call("start").word("GEMBA_VERSION", order.version);
        let call = call.word("GEMBA_INSTANCES", &instances.to_string());
        call.environment("GEMBA_DELIVERY", order.delivery).run().await.map(drop)
    }

    async fn share(&mut self, delivery: &str, shares: &Shares) -> Result<(), Trouble> {
        let mut call = self.call("shares").word("GEMBA_GENERATION", &shares.generation.to_string());
        for (version, weight) in &shares.versions {
            call = call.argument(&format!("{version}={weight}"));
        }
        call.environment("GEMBA_DELIVERY", delivery).run().await.map(drop)
    }

    async fn counts(&mut self, _: &[String]) -> Result<Counted, Trouble> {
        let told: ToldCounts = self.call("counts").json().await?;
        let counts = |mut told: ToldVersion| {
            let more = told.latencies_us.len().saturating_sub(LATENCIES_KEPT);
            told.latencies_us.drain(..more);
            VersionCounts {
                version: told.version,
                requests: told.requests,
                failures: told.failures,
                in_flight: told.in_flight,
                latencies: told.latencies,
                latencies_us: told.latencies_us,
            }
        };
        let versions = told.versions.into_iter().map(counts).collect();
        Ok(Counted { generation: 0, life: told.life, versions })
    }

    async fn end(&mut self, order: &Order<'_>) -> Result<(), Trouble> {
        let call = self.call("end").word("GEMBA_VERSION", order.version);
        call.environment("GEMBA_DELIVERY", order.delivery).run().await.map(drop)
    }
}

#[cfg(test)]
mod tests;
