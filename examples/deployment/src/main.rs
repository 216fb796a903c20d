//! The deployment system in one binary: the manager, the splitter, the sample service, the demonstration.

use std::process::ExitCode;

use clap::Parser;
use gemba_deployment::cli::{self, Command};

/// Delivers new versions step by step, and takes bad ones back.
#[derive(Debug, Parser)]
#[command(name = "deployment", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Arguments::parse().command).await
}
