//! The commands, as a part another program can embed.

use std::process::ExitCode;

use gemba::Logs;
use gemba::config::ConfigErrors;

use crate::config::{ConfigOptions, ConfigVerb};
use crate::gateway::{self, GatewayOptions};
use crate::host::{self, HostError};
use crate::serve;

/// What can be run.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Take payments over HTTP.
    Serve(ConfigOptions),
    /// Look at the configuration, and start nothing.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Be the card gateway to try it against.
    Gateway(GatewayOptions),
}

/// Runs a command to its end; an error is one line on stderr, but for a wrong configuration: each mistake of it
/// is a paragraph, and the exit code is 2.
pub async fn run(command: Command) -> ExitCode {
    match execute(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(HostError::Config(errors)) => {
            eprintln!("{errors}, nothing was started");
            ExitCode::from(ConfigErrors::EXIT_CODE)
        }
        Err(error) => {
            eprintln!("error: {}", crate::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<(), HostError> {
    match command {
        Command::Config { verb } => {
            host::say(&verb.execute()?);
            Ok(())
        }
        Command::Serve(options) => {
            let config = options.load()?;
            // Kept to the end: dropping it sends the last spans.
            let _logs = Logs::new("payment").init()?;
            serve::run(options, config.value).await
        }
        Command::Gateway(options) => {
            let _logs = Logs::new("payment-gateway").init()?;
            gateway::run(options).await
        }
    }
}
