//! The `gemba` command: looks at running nodes, operates them, and runs demonstration and simulation.

mod args;
mod demo;
mod exit;
mod remote;
mod review;
mod show;
mod simulate;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::exit::Exit;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gemba: cannot start threads: {error}");
            return Exit::Failed.into();
        }
    };
    runtime.block_on(run(args.command))
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Tree(args) => remote::tree(args).await.into(),
        Command::Board(args) => remote::board(args).await.into(),
        Command::Health(args) => remote::health(args).await.into(),
        Command::Receipts(args) => remote::receipts(args).await.into(),
        Command::Kill(args) => remote::kill(args).await.into(),
        Command::Halt(args) => remote::halt(args).await.into(),
        Command::Resume(args) => remote::resume(args).await.into(),
        Command::Cord(args) => remote::cord(args).await.into(),
        Command::Breaker(args) => remote::breaker(args).await.into(),
        Command::Simulate(args) => simulate::run(&args).into(),
        Command::Alerts(args) => remote::alerts(args).await.into(),
        Command::Rebalance(args) => remote::rebalance(args).await.into(),
        Command::Reload(args) => remote::reload(args).await.into(),
        Command::Affinity(args) => remote::affinity(args).await.into(),
        Command::Baseline(args) => remote::baseline(args).await.into(),
        Command::Why(args) => remote::why(args).await.into(),
        Command::Review(args) => remote::review(args).await.into(),
        Command::Payment { leashed, command } => {
            if leashed {
                demo::leash();
            }
            gemba_payment::cli::run(command).await
        }
    }
}
