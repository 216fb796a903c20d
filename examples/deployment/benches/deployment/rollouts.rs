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

/// How long the first stage of these deliveries lasts, within which harm is to be found, and each other one.
const CANARY: Duration = Duration::from_secs(12);
const STAGE: Duration = Duration::from_secs(4);

/// How many requests more than its share a version may have: one or two of each thread of the splitter.
const MORE_MAX: f64 = 4.0;

/// Connections of the load.
const LANES: u32 = 64;

/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Requests a second under which a good version arrives, a failing one is found, and one with a longer tail: of that,
/// two in a hundred requests tell.
const BUSY_RATE: f64 = 2_000.0;
const CALM_RATE: f64 = 200.0;
const TAIL_RATE: f64 = 1_000.0;

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
        let stage =
            |share: f64, lasts: Duration| json!({ "share": share, "lasts_ms": lasts.as_millis() as u64 });
        let fleet = json!({
            "state": directory.join("state"),
            "database": directory.join("deployment.db"),
            "listen": manager,
            "inspect": "127.0.0.1:0",
            "services": { SERVICE: {
                "instances": 2, "capacity": 4, "stop_within_ms": 3_000,
                "regions": [{ "name": "here", "listen": region, "admin": admin }],
                "care": {
                    "stages": [stage(0.05, CANARY), stage(0.25, STAGE)], "bake_ms": STAGE.as_millis() as u64,
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
        rows.extend(self.bad(scale, CALM_RATE, "failing", "fails 10 %")?);
        let mut slow = self.bad(scale, TAIL_RATE, "slow", "3 x slower at the 99th")?;
        // How soon is a promise for failures alone.
        slow.iter_mut().skip(1).for_each(|row| row.target = None);
        rows.extend(slow);
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

    fn bad(&self, scale: &Scale, rate: f64, version: &str, what: &str) -> Result<Vec<Row>, Failure> {
        let (mut found, mut saw, mut strangers, mut back) = (Vec::new(), Vec::new(), 0, 0);
        let mut reason = String::new();
        for _ in 0..scale.rollouts {
            let (over, load) = self.load(rate);
            thread::sleep(Duration::from_secs(1));
            let past = self.deliver(version, Strategy::Canary);
            // What comes to it after that would come within a second.
            thread::sleep(Duration::from_secs(1));
            let _ = over.set(());
            let came = load.join().map_err(|_| "the load panicked")?;
            let Past { succeeded: Some(false), why: Some(why), .. } = past? else {
                self.deliver("v2", Strategy::Canary)?;
                continue;
            };
            (back, reason) = (back + 1, why);
            let is_new = |version_of: &Option<String>| version_of.as_deref() == Some(version);
            let new = came.notes.iter().filter(|note| is_new(&note.version)).map(|note| note.due);
            let new: Vec<_> = new.collect();
            let (Some(first), Some(last)) = (new.iter().min(), new.iter().max()) else { continue };
            let meanwhile = came.notes.iter().filter(|note| (*first..=*last).contains(&note.due)).count();
            found.push(last.saturating_sub(*first).as_secs_f64());
            saw.push(new.len() as f64 - meanwhile as f64 * 0.05);
            strangers += came.notes.iter().filter(|note| !note.is_well && !is_new(&note.version)).count();
        }
        let all = scale.rollouts as f64;
        let taken = Row::new(
            &format!("{what}: taken back"),
            "times",
            Some(Target::AtLeast(all)),
            vec![f64::from(back)],
        );
        let seconds =
            Row::new(&format!("{what}: first to last request"), "s", Some(Target::AtMost(10.0)), found);
        let more = format!("{what}: requests above 5 % of those then");
        let share = Row::new(&more, "requests", Some(Target::AtMost(MORE_MAX)), saw);
        Ok(vec![
            taken.note(format!("of {all}, at {rate} requests/s; {strangers} requests of others failed")),
            seconds.note(reason.split(" (").next().unwrap_or_default()),
            share,
        ])
    }
}
