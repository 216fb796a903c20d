//! What the crash test plays on: a fleet whose deliveries take seconds, and a manager that dies and is started again.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::timeout;

use crate::client::Client;
use crate::demo::stage::{self, StageError, unix_ms};
use crate::fleet::PORT;
use crate::instances::free_port;

/// The service.
pub(crate) const SERVICE: &str = "api";

/// Its regions, in order.
pub(crate) const REGIONS: [&str; 2] = ["us-west", "us-east"];

/// Versions that do well.
pub(crate) const GOOD: [&str; 3] = ["v1", "v2", "v3"];

/// A version that fails three requests in ten.
pub(crate) const BAD: &str = "bad";

/// A version that does not start.
pub(crate) const BROKEN: &str = "broken";

/// Instances of a version in each region.
pub(crate) const INSTANCES: u32 = 2;

/// The shares of a delivery, in hundredths, before it has everything.
pub(crate) const STAGES: [u32; 2] = [40, 60];

/// How long each lasts: one look.
const STAGE_MS: u64 = 1_000;

/// How long the manager may take to stop.
const STOP_MAX: Duration = Duration::from_secs(20);

/// One region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    pub(crate) name: &'static str,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) grounds: Vec<Ground>,
    address: SocketAddr,
    manager: Option<Child>,
    directory: TempDir,
}

impl Stage {
    /// Writes the fleet and starts its manager.
    pub(crate) async fn raise(seed: u64) -> Result<Self, StageError> {
        let directory = tempfile::Builder::new().prefix("deployment-torture-").tempdir()?;
        let mut taken = Vec::new();
        for _ in 0..=2 * REGIONS.len() {
            taken.push(free_port(&taken).ok_or(StageError::Ports)?);
        }
        let mut addresses = taken.into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut next = || addresses.next().ok_or(StageError::Ports);
        let address = next()?;
        let mut grounds = Vec::new();
        for name in REGIONS {
            grounds.push(Ground { name, listen: next()?, admin: next()? });
        }
        let mut stage = Self {
            client: Client::new(&format!("http://{address}")),
            grounds,
            address,
            manager: None,
            directory,
        };
        stage.write_fleet(seed)?;
        stage.start().await?;
        Ok(stage)
    }

    fn write_fleet(&self, seed: u64) -> io::Result<()> {
        let program = std::env::current_exe()?.display().to_string();
        let listen = format!("{}:{PORT}", Ipv4Addr::LOCALHOST);
        let sample = |version: &str, more: &[&str]| {
            let seed = seed.to_string();
            let parts = ["sample-service", "--listen", &listen, "--version", version, "--seed", &seed];
            let parts = std::iter::once(program.as_str()).chain(parts).chain(more.iter().copied());
            json!({ "command": parts.collect::<Vec<_>>() })
        };
        let mut versions: BTreeMap<_, _> = GOOD.map(|version| (version, sample(version, &[]))).into();
        versions.insert(BAD, sample(BAD, &["--error-rate", "0.3"]));
        versions
            .insert(BROKEN, json!({ "command": ["sh", "-c", format!("echo no licence; exit 3 # {PORT}")] }));
        let regions = self
            .grounds
            .iter()
            .map(|ground| json!({ "name": ground.name, "listen": ground.listen, "admin": ground.admin }));
        let fleet = json!({
            "state": self.state(),
            "services": { SERVICE: {
                "instances": INSTANCES,
                "capacity": 2 * INSTANCES,
                "stop_within_ms": 3_000,
                "regions": regions.collect::<Vec<_>>(),
                "care": {
                    "stages": STAGES.map(|share| json!({ "share": f64::from(share) / 100.0, "lasts_ms": STAGE_MS })),
                    "bake_ms": STAGE_MS,
                    // In so little time a version cannot be known as well as in five minutes.
                    "outcomes_min": 100,
                    "excess_max": 0.2,
                },
                "versions": versions,
            } },
        });
        let fleet = gemba::config::to_toml(&fleet).map_err(io::Error::from)?;
        std::fs::write(self.directory.path().join("fleet.toml"), fleet)
    }

    /// Where processes have their homes.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The file of the manager's record.
    pub(crate) fn database(&self) -> PathBuf {
        self.directory.path().join("deployment.db")
    }

    /// Kills the manager as a fault would, and tells when.
    pub(crate) async fn kill(&mut self) -> io::Result<u64> {
        let killed = unix_ms();
        if let Some(mut manager) = self.manager.take() {
            manager.kill().await?;
        }
        Ok(killed)
    }

    /// Starts a manager, whether or not it comes to listen.
    pub(crate) fn spawn(&mut self) -> io::Result<()> {
        self.manager = Some(stage::spawn(&self.directory, self.address)?);
        Ok(())
    }

    /// Starts a manager, and waits until it listens.
    pub(crate) async fn start(&mut self) -> Result<(), StageError> {
        let mut manager = stage::spawn(&self.directory, self.address)?;
        let listening = stage::listening(&mut manager, &self.directory).await;
        self.manager = Some(manager);
        listening
    }

    /// Asks the manager to stop, which leaves what it started.
    pub(crate) async fn stop(&mut self) -> io::Result<()> {
        let Some(mut manager) = self.manager.take() else { return Ok(()) };
        if let Some(pid) = manager.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(STOP_MAX, manager.wait()).await {
            Ok(ended) => ended.map(drop),
            Err(_) => manager.kill().await,
        }
    }

    /// Leaves the directory, for whoever looks for what went wrong.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }
}
