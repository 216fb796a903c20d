//! The payment service and the card gateway to try it against, in one binary.

use std::process::ExitCode;

use clap::Parser;
use gemba_payment::cli::{self, Command};

/// Takes payments, never twice.
#[derive(Debug, Parser)]
#[command(name = "payment", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Arguments::parse().command).await
}
