//! What the demonstration plays on: a directory, the two processes, and clients of both.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gemba::{Client, Token};
use tempfile::TempDir;

use crate::demo::DemoError;
use crate::demo::pay::Desk;
use crate::demo::process::{Process, ProcessError, free_or_any};
use crate::demo::seed::BLACKLISTED;

/// How long the service may take to stop: its own limit is 10 s.
const SERVICE_STOP_MAX: Duration = Duration::from_secs(15);

/// How long the gateway may take to stop.
const GATEWAY_STOP_MAX: Duration = Duration::from_secs(15);

/// Workers of a pool that may crash within a minute before the pool is started anew: as good as any number.
/// Those killed on purpose are no reason to escalate, however often they are.
const CRASHES_MAX: &str = "100000";

/// Where the two records are.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    pub(crate) service: PathBuf,
    pub(crate) gateway: PathBuf,
}

/// Gateway and service, running, and how to talk to them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) desk: Desk,
    pub(crate) inspector: Client,
    pub(crate) books: Books,
    service: Process,
    gateway: Process,
    directory: TempDir,
}

impl Stage {
    /// Starts both processes on free ports, the inspector at `inspect` if that is free.
    pub(crate) async fn raise(inspect: SocketAddr) -> Result<Self, DemoError> {
        let directory = TempDir::with_prefix("gemba-demo-")?;
        let books = Books {
            service: directory.path().join("payment.db"),
            gateway: directory.path().join("gateway.db"),
        };
        let (gateway_file, service_file) = (text(&books.gateway)?, text(&books.service)?);
        let gateway_args = ["gateway", "--listen", "127.0.0.1:0", "--database", gateway_file];
        let (gateway, [gateway_url]) =
            Process::start("gateway", &gateway_args, directory.path(), ["listening on "]).await?;

        let inspect_at = free_or_any(inspect);
        if inspect_at != inspect {
            eprintln!("gemba demo: {inspect} is taken; the inspector listens on another port");
        }
        let inspect_at = inspect_at.to_string();
        let service_args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--inspect",
            &inspect_at,
            "--gateway",
            &gateway_url,
            "--database",
            service_file,
            "--blacklist",
            BLACKLISTED,
            "--crashes-max",
            CRASHES_MAX,
        ];
        let wanted = ["listening on ", "inspector on ", "token "];
        let (service, [service_url, inspector_url, token]) =
            Process::start("service", &service_args, directory.path(), wanted).await?;
        Ok(Self {
            desk: Desk::new(&service_url)?,
            inspector: Client::new(&inspector_url, Some(Token::new(&token)?))?,
            books,
            service,
            gateway,
            directory,
        })
    }

    /// Waits until one of the processes ends by itself, which neither should.
    pub(crate) async fn died(&mut self) -> ProcessError {
        tokio::select! {
            error = self.service.ended() => error,
            error = self.gateway.ended() => error,
        }
    }

    /// Keeps the directory with the logs and the records, because of `error`.
    pub(crate) fn keep(self, error: DemoError) -> DemoError {
        eprintln!("gemba demo: logs and databases are kept in {}", self.directory.keep().display());
        error
    }

    /// Stops the service, then the gateway, as an orchestrator would; the records stay until the
    /// returned [`Struck`] is dropped.
    pub(crate) async fn strike(self) -> Result<Struck, ProcessError> {
        let service_exit = match self.service.stop(SERVICE_STOP_MAX).await {
            Ok(status) => status.code(),
            Err(ProcessError::Stubborn { .. }) => None,
            Err(error) => return Err(error),
        };
        self.gateway.stop(GATEWAY_STOP_MAX).await?;
        Ok(Struck { service_exit, books: self.books, directory: self.directory })
    }
}

/// What is left when both processes have stopped.
#[derive(Debug)]
pub(crate) struct Struck {
    /// The exit code of the service, if it stopped by itself.
    pub(crate) service_exit: Option<i32>,
    pub(crate) books: Books,
    directory: TempDir,
}

impl Struck {
    /// Keeps the directory and tells where it is.
    pub(crate) fn keep(self) -> PathBuf {
        self.directory.keep()
    }
}

fn text(path: &std::path::Path) -> io::Result<&str> {
    path.to_str()
        .ok_or_else(|| io::Error::other("the temporary directory has a name that is not UTF-8; set TMPDIR"))
}
