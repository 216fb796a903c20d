//! The commands.

use std::process::ExitCode;

use gemba::Logs;
use gemba::config::ConfigErrors;

use crate::client::{self, Client, ClientError, Manager};
use crate::config::{ConfigOptions, ConfigVerb};
use crate::demo::{self, DemoOptions};
use crate::host::{self, HostError};
use crate::policy::Strategy;
use crate::sample::{self, SampleOptions};
use crate::serve;
use crate::splitter::{self, SplitterOptions};
use crate::torture::{self, TortureOptions};

/// What can be run.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Manage a fleet: supervisor, splitters, API and inspector.
    Serve(ConfigOptions),
    /// Look at the configuration, and start nothing.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Bring up the first version of a service in all its regions.
    Up(Delivered),
    /// Roll a version out: region after region, stage after stage, compared with what runs today.
    Rollout(Delivered),
    /// Show how a service is.
    Status {
        /// The service.
        service: String,
        /// Show it again and again until nothing is delivered.
        #[arg(long)]
        watch: bool,
        /// Where the manager is.
        #[command(flatten)]
        manager: Manager,
    },
    /// Keep a delivery where it is. Harm still ends it.
    Pause(Named),
    /// Let a paused delivery go on.
    Resume(Named),
    /// Take the next stage at once.
    Promote(Named),
    /// Take a delivery out of the queue, or back.
    Abort(Named),
    /// Show the deliveries that wait for their turn.
    Queue {
        /// Where the manager is.
        #[command(flatten)]
        manager: Manager,
    },
    /// Show every delivery with its steps and reasons.
    History(Named),
    /// End every instance and every splitter.
    Down {
        /// Where the manager is.
        #[command(flatten)]
        manager: Manager,
    },
    /// See it: two regions under load, a good version and a bad one, the manager killed meanwhile.
    Demo(DemoOptions),
    /// Kill the manager again and again in the middle of deliveries, and see that it keeps its promises.
    Torture(TortureOptions),
    /// Split a region's traffic between versions.
    Splitter(SplitterOptions),
    /// Be the service that is deployed, with dials for trouble.
    SampleService(SampleOptions),
}

/// A version for a service.
#[derive(Debug, Clone, clap::Args)]
pub struct Delivered {
    /// The service.
    pub service: String,
    /// The version.
    pub version: String,
    /// The id of the delivery: the same id is the same delivery.
    #[arg(long)]
    pub id: Option<String>,
    #[command(flatten)]
    manager: Manager,
}

/// A service.
#[derive(Debug, Clone, clap::Args)]
pub struct Named {
    /// The service.
    pub service: String,
    #[command(flatten)]
    manager: Manager,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Runs a command to its end; an error is one line on stderr, but for a wrong configuration: each mistake of it
/// is a paragraph, and the exit code is 2.
pub async fn run(command: Command) -> ExitCode {
    if let Command::Demo(options) = command {
        return demo::run(options).await;
    }
    if let Command::Torture(options) = command {
        return torture::run(options).await;
    }
    match execute(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(CommandError::Host(HostError::Config(errors))) => {
            eprintln!("{errors}, nothing was started");
            ExitCode::from(ConfigErrors::EXIT_CODE)
        }
        Err(error) => {
            eprintln!("error: {}", crate::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<(), CommandError> {
    match command {
        // They have exit codes of their own.
        Command::Demo(_) | Command::Torture(_) => Ok(()),
        Command::Config { verb } => {
            host::say(&verb.execute().map_err(HostError::from)?);
            Ok(())
        }
        Command::Serve(options) => {
            let fleet = options.load().map_err(HostError::from)?.value;
            let _logs = Logs::new("deployment").init().map_err(HostError::from)?;
            Ok(serve::run(options, fleet).await?)
        }
        Command::Splitter(options) => {
            let _logs = Logs::new("deployment-splitter").init().map_err(HostError::from)?;
            Ok(splitter::run(options).await?)
        }
        Command::SampleService(options) => Ok(sample::run(options).await?),
        Command::Up(wanted) => deliver(wanted, Strategy::First).await,
        Command::Rollout(wanted) => deliver(wanted, Strategy::Canary).await,
        Command::Status { service, watch, manager } => {
            Ok(client::status(&Client::new(&manager.manager), &service, watch).await?)
        }
        Command::Pause(named) => order(named, "pause").await,
        Command::Resume(named) => order(named, "resume").await,
        Command::Promote(named) => order(named, "promote").await,
        Command::Abort(named) => order(named, "abort").await,
        Command::Queue { manager } => Ok(client::queue(&Client::new(&manager.manager)).await?),
        Command::History(named) => {
            Ok(client::history(&Client::new(&named.manager.manager), &named.service).await?)
        }
        Command::Down { manager } => {
            Client::new(&manager.manager).down().await?;
            println!("everything ended");
            Ok(())
        }
    }
}

async fn deliver(wanted: Delivered, strategy: Strategy) -> Result<(), CommandError> {
    let client = Client::new(&wanted.manager.manager);
    let id = client.begin(&wanted.service, &wanted.version, strategy, wanted.id.as_deref()).await?;
    println!("delivery {id}");
    Ok(client::waits(&client, &id).await?)
}

async fn order(named: Named, order: &str) -> Result<(), CommandError> {
    println!("{}", Client::new(&named.manager.manager).order(&named.service, order).await?);
    Ok(())
}
