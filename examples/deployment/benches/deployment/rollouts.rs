//! Whole deliveries by a manager with real processes, under load: what their callers notice.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gemba_deployment::client::Client;
use gemba_deployment::policy::Strategy;
use gemba_deployment::store::Past;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::Scale;
use crate::processes::{Ports, Running, own_cpu_s};
use crate::table::{Row, Target};
use crate::wire::{Came, open_loop};

const SERVICE: &str = "api";

/// How long a stage of these deliveries lasts.
const STAGE: Duration = Duration::from_secs(4);

/// Connections of the load.
const LANES: u32 = 64;

/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Requests a second under which a good version arrives, and under which a bad one is found.
const BUSY_RATE: f64 = 2_000.0;
const CALM_RATE: f64 = 200.0;

type Failure = Box<dyn Error>;

/// A manager of one service in one region, and whoever asks it.
#[derive(Debug)]
struct Stage {
    runtime: Runtime,
    client: Client,
    region: SocketAddr,
    _manager: Running,
}

pub(crate) fn rows(scale: &Scale, ports: &mut Ports, directory: &Path) -> Result<Vec<Row>, Failure> {
    if !scale.wants("rollout") {
        return Ok(Vec::new());
    }
    let stage = Stage::raise(ports, directory)?;
    let rows = stage.deliveries(scale);
    // Whatever came of it, nothing is left running.
    let down = stage.runtime.block_on(stage.client.down());
    let rows = rows?;
    down?;
    Ok(rows)
}

impl Stage {
    fn raise(ports: &mut Ports, directory: &Path) -> Result<Self, Failure> {
        let (region, admin, manager) = (ports.take(), ports.take(), ports.take());
        let program = env!("CARGO_BIN_EXE_deployment");
        let version = |version: &str, more: &[&str]| {
            let first = [program, "sample-service", "--listen", "127.0.0.1:{port}", "--version", version];
            let tail = ["--latency-ms", "5", "--slow-rate", "0.02"];
            let command = [&first[..], &tail[..], more].concat();
            json!({ "command": command })
        };
        let stage = |share: f64| json!({ "share": share, "lasts_ms": STAGE.as_millis() as u64 });
        let fleet = json!({
            "state": directory.join("state"),
            "database": directory.join("deployment.db"),
            "listen": manager,
            "inspect": "127.0.0.1:0",
            "services": { SERVICE: {
                "instances": 2, "capacity": 4, "stop_within_ms": 3_000,
                "regions": [{ "name": "here", "listen": region, "admin": admin }],
                "care": {
                    "stages": [stage(0.05), stage(0.25)], "bake_ms": STAGE.as_millis() as u64,
                    "outcomes_min": 100,
                    // In so little time a version cannot be known as well as in five minutes.
                    "excess_max": 0.05,
                },
                "versions": {
                    "v1": version("v1", &[]),
                    "v2": version("v2", &[]),
                    "failing": version("failing", &["--error-rate", "0.1"]),
                    "slow": version("slow", &["--slow-ms", "60"]),
                },
            } },
        });
        let file = directory.join("fleet.toml");
        std::fs::write(&file, gemba::config::to_toml(&fleet)?)?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(&file);
        let running = Running::start(&mut command, manager)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(&format!("http://{manager}"));
        Ok(Self { runtime, client, region, _manager: running })
    }

    fn deliveries(&self, scale: &Scale) -> Result<Vec<Row>, Failure> {
        self.deliver("v1", Strategy::First)?;
        let mut rows = self.good(scale)?;
        rows.extend(self.bad(scale, "failing", "fails 10 %")?);
        rows.extend(self.bad(scale, "slow", "3 x slower at the 99th")?);
        Ok(rows)
    }

    /// Delivers and waits for the end.
    fn deliver(&self, version: &str, strategy: Strategy) -> Result<Past, Failure> {
        self.runtime.block_on(async {
            let id = self.client.begin(SERVICE, version, strategy, None).await?;
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until {
                let history = self.client.history(SERVICE).await?;
                let past = history.into_iter().find(|past| past.id == id && past.succeeded.is_some());
                if let Some(past) = past {
                    return Ok(past);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(format!("{version} was not delivered within {PATIENCE:?}").into())
        })
    }

    fn load(&self, rate: f64) -> (Arc<OnceLock<()>>, JoinHandle<Came>) {
        let over = Arc::new(OnceLock::new());
        let (to, until) = (self.region, over.clone());
        (over, thread::spawn(move || open_loop(to, rate, LANES, 2 * PATIENCE, &until)))
    }

    fn good(&self, scale: &Scale) -> Result<Vec<Row>, Failure> {
        let (mut failed, mut all, mut rates, mut generator) = (0, 0, Vec::new(), 0.0);
        let versions = ["v2", "v1"].into_iter().cycle().take(scale.rollouts);
        for version in versions {
            let (over, load) = self.load(BUSY_RATE);
            let before = own_cpu_s();
            let past = self.deliver(version, Strategy::Canary);
            let _ = over.set(());
            let came = load.join().map_err(|_| "the load panicked")?;
            let past = past?;
            if past.succeeded != Some(true) {
                return Err(format!("{version} was taken back: {:?}", past.why).into());
            }
            generator = (own_cpu_s() - before) / came.took.as_secs_f64() * 100.0;
            (failed, all) = (failed + came.failed, all + came.answered);
            rates.push(came.per_second());
        }
        let failed = Row::new(
            "failed while a good version arrives",
            "requests",
            Some(Target::AtMost(0.0)),
            vec![failed as f64],
        );
        let note = format!("of {all} in {} deliveries", scale.rollouts);
        let rate =
            Row::new("requests carried meanwhile", "1/s", Some(Target::AtLeast(BUSY_RATE * 0.99)), rates);
        Ok(vec![failed.note(note), rate.note(format!("the generator takes {generator:.0} % of a processor"))])
    }

    fn bad(&self, scale: &Scale, version: &str, what: &str) -> Result<Vec<Row>, Failure> {
        let (mut found, mut saw, mut strangers, mut why) = (Vec::new(), Vec::new(), 0, String::new());
        for _ in 0..scale.rollouts {
            let (over, load) = self.load(CALM_RATE);
            thread::sleep(Duration::from_secs(1));
            let past = self.deliver(version, Strategy::Canary);
            // What comes to it after that would come within a second.
            thread::sleep(Duration::from_secs(1));
            let _ = over.set(());
            let came = load.join().map_err(|_| "the load panicked")?;
            why = match past? {
                Past { succeeded: Some(false), why: Some(why), .. } => why,
                past => return Err(format!("{version} was delivered: {past:?}").into()),
            };
            let is_new = |version_of: &Option<String>| version_of.as_deref() == Some(version);
            let new: Vec<_> =
                came.notes.iter().filter(|note| is_new(&note.version)).map(|note| note.due).collect();
            let (Some(first), Some(last)) = (new.iter().min(), new.iter().max()) else {
                return Err(format!("{version} had no request").into());
            };
            let meanwhile = came.notes.iter().filter(|note| (*first..=*last).contains(&note.due)).count();
            found.push(last.saturating_sub(*first).as_secs_f64());
            saw.push(new.len() as f64 / meanwhile as f64 * 100.0);
            strangers += came.notes.iter().filter(|note| !note.is_well && !is_new(&note.version)).count();
        }
        let note = format!("{} times; {strangers} requests of others failed", scale.rollouts);
        let seconds =
            Row::new(&format!("{what}: first to last request"), "s", Some(Target::AtMost(10.0)), found);
        // A share is kept to within a request of each version.
        let share =
            Row::new(&format!("{what}: saw of the requests then"), "%", Some(Target::AtMost(5.5)), saw);
        Ok(vec![seconds.note(note), share.note(why.split(" (").next().unwrap_or_default())])
    }
}
