//! The two commands, as a part another program can embed.

use std::process::ExitCode;

use gemba::Logs;

use crate::gateway::{self, GatewayOptions};
use crate::host::HostError;
use crate::serve::{self, ServeOptions};

/// What can be run.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Take payments over HTTP.
    Serve(ServeOptions),
    /// Be the card gateway to try it against.
    Gateway(GatewayOptions),
}

/// Runs a command to its end; an error is one line on stderr.
pub async fn run(command: Command) -> ExitCode {
    match execute(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", crate::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<(), HostError> {
    let name = match &command {
        Command::Serve(_) => "payment",
        Command::Gateway(_) => "payment-gateway",
    };
    // Kept to the end: dropping it sends the last spans.
    let _logs = Logs::new(name).init()?;
    match command {
        Command::Serve(options) => serve::run(options).await,
        Command::Gateway(options) => gateway::run(options).await,
    }
}
