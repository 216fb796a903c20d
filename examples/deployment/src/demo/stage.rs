//! What the demonstration plays on: a directory, a fleet, and a manager that can be killed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::Client;
use crate::demo::SERVICE;
use crate::fleet::PORT;
use crate::instances::free_port;

/// How long the manager may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// How long the manager may take to stop.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A part of the time: a good version takes six phases, with a second each for starts.
const PHASES: u32 = 15;

/// Why there is no stage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("cannot prepare")]
    Prepare(#[from] io::Error),
    #[error("no port is free")]
    Ports,
    #[error("the manager did not start; its log ends: {log}")]
    Manager { log: String },
    #[error("what was started could not be ended; see {}", directory.display())]
    Strike { directory: PathBuf, source: crate::client::ClientError },
}

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) client: Client,
    /// Where requests of each region go.
    pub(crate) regions: Vec<SocketAddr>,
    /// How long each stage of a rollout lasts.
    pub(crate) phase: Duration,
    /// When the manager was killed and when the next one listened, in milliseconds since 1970.
    pub(crate) kills: Vec<(u64, u64)>,
    address: SocketAddr,
    manager: Child,
    directory: TempDir,
}

impl Stage {
    /// Writes the fleet and starts its manager.
    pub(crate) async fn raise(seconds: u64, seed: u64) -> Result<Self, StageError> {
        let directory = tempfile::Builder::new().prefix("deployment-demo-").tempdir()?;
        let mut taken = Vec::new();
        for _ in 0..5 {
            taken.push(free_port(&taken).ok_or(StageError::Ports)?);
        }
        let at = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, taken[index]));
        let phase = Duration::from_secs(seconds) / PHASES;
        let program = std::env::current_exe()?.display().to_string();
        let command = |version: &str, more: &[String]| {
            let listen = format!("{}:{PORT}", Ipv4Addr::LOCALHOST);
            let seed = seed.to_string();
            let parts = [
                program.as_str(),
                "sample-service",
                "--listen",
                &listen,
                "--version",
                version,
                "--seed",
                &seed,
            ];
            let parts = parts.into_iter().map(str::to_owned).chain(more.iter().cloned());
            json!({ "command": parts.collect::<Vec<_>>() })
        };
        // The first stage stands for five minutes: bad from the second one on.
        let well_for_ms = (phase / 5).as_millis().to_string();
        let bad = ["--error-rate", "0.1", "--well-for-ms", &well_for_ms].map(str::to_owned);
        let stage = |share: f64| json!({ "share": share, "lasts_ms": phase.as_millis() as u64 });
        let fleet = json!({
            "state": directory.path().join("state"),
            "services": { SERVICE: {
                "instances": 2,
                "capacity": 4,
                "stop_within_ms": 3_000,
                "regions": [
                    { "name": "us-west", "listen": at(0), "admin": at(1) },
                    { "name": "us-east", "listen": at(2), "admin": at(3) },
                ],
                "care": {
                    "stages": [stage(0.05), stage(0.25)],
                    "bake_ms": phase.as_millis() as u64,
                    "outcomes_min": 100,
                    // In so little time a version cannot be known as well as in five minutes.
                    "excess_max": 0.05,
                },
                "versions": { "v1": command("v1", &[]), "v2": command("v2", &[]), "v3": command("v3", &bad) },
            } },
        });
        let fleet = gemba::config::to_toml(&fleet).map_err(io::Error::from)?;
        std::fs::write(directory.path().join("fleet.toml"), fleet)?;
        let address = at(4);
        let manager = start(&directory, address).await?;
        let client = Client::new(&format!("http://{address}"));
        Ok(Self {
            client,
            regions: vec![at(0), at(2)],
            phase,
            kills: Vec::new(),
            address,
            manager,
            directory,
        })
    }

    /// Kills the manager as a fault would, and starts another.
    pub(crate) async fn kill_manager(&mut self) -> Result<(), StageError> {
        let killed = unix_ms();
        self.manager.kill().await?;
        self.manager = start(&self.directory, self.address).await?;
        self.kills.push((killed, unix_ms()));
        Ok(())
    }

    /// Ends everything that was started.
    pub(crate) async fn strike(mut self) -> Result<(), StageError> {
        let down = self.client.down().await;
        if let Some(pid) =
            self.manager.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(STOP_MAX, self.manager.wait()).await.is_err() {
            self.manager.kill().await?;
        }
        let directory = self.directory.path().to_owned();
        down.map_err(|source| {
            self.directory.disable_cleanup(true);
            StageError::Strike { directory, source }
        })
    }
}

async fn start(directory: &TempDir, address: SocketAddr) -> Result<Child, StageError> {
    let mut child = spawn(directory, address)?;
    listening(&mut child, directory).await?;
    Ok(child)
}

fn log(directory: &TempDir) -> PathBuf {
    directory.path().join("manager.log")
}

/// Starts a manager of the fleet in this directory.
pub(crate) fn spawn(directory: &TempDir, address: SocketAddr) -> io::Result<Child> {
    let file = std::fs::File::options().create(true).append(true).open(log(directory))?;
    Command::new(std::env::current_exe()?)
        .args(["serve", "--inspect", "127.0.0.1:0", "--listen", &address.to_string(), "--config"])
        .arg(directory.path().join("fleet.toml"))
        .arg("--database")
        .arg(directory.path().join("deployment.db"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        // Ctrl-C in the terminal is for the demonstration alone; it stops the others in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits until a manager listens that was just started.
pub(crate) async fn listening(child: &mut Child, directory: &TempDir) -> Result<(), StageError> {
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let listening = async {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("listening on") {
                return true;
            }
        }
        false
    };
    if !timeout(START_MAX, listening).await.unwrap_or(false) {
        let text = std::fs::read_to_string(log(directory)).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(10).collect();
        return Err(StageError::Manager { log: last.into_iter().rev().collect::<Vec<_>>().join("\n") });
    }
    // Whatever it prints later is read, so that it never waits for a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(())
}

/// Milliseconds since 1970: what the manager's record is compared with.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
