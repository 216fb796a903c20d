//! `deployment torture`: the manager is killed again and again in the middle of deliveries under load, and nothing of
//! what it promises may break.

mod fence;
mod moments;
mod plan;
mod play;
mod report;
mod stage;
mod verdict;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::demo::load::{Load, Tallied};
use crate::demo::stage::StageError;
use crate::torture::fence::{Fence, Generations};
use crate::torture::plan::Dice;
use crate::torture::play::{Player, Stuck};
use crate::torture::report::{Report, Run};
use crate::torture::stage::Stage;
use crate::torture::witness::Blind;

/// How the manager is tortured.
#[derive(Debug, Clone, clap::Args)]
pub struct TortureOptions {
    /// How often the manager is killed.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub kills: u32,
    /// What moments, versions, orders and victims are drawn from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Requests a second, of both regions together.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(200..=2_000))]
    pub rate: u32,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum TortureError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Blind(#[from] Blind),
    #[error("cannot make a client")]
    System(#[from] std::io::Error),
    #[error("stopped before it was over; nothing was found")]
    Impatient,
}

/// Runs the crash test: exit code 0 only if every promise was kept.
pub async fn run(options: TortureOptions) -> ExitCode {
    match torture(&options).await {
        Ok((report, kept)) => {
            if options.json {
                let text =
                    serde_json::to_string_pretty(&report).expect("a report is plain data with text keys");
                println!("{text}");
            } else {
                print!("{}", report.words());
            }
            for complaint in report.complaints() {
                eprintln!("deployment torture: broken promise: {complaint}");
            }
            if let Some(directory) = kept {
                eprintln!("deployment torture: logs and record are in {}", directory.display());
            }
            if report.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("deployment torture: {}", crate::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The report, and the directory if something is wrong.
async fn torture(options: &TortureOptions) -> Result<(Report, Option<PathBuf>), TortureError> {
    let began = Instant::now();
    let mut dice = Dice::new(options.seed);
    let plan = plan::plan(options.kills as usize, &mut dice);
    let mut player = Player::new(Stage::raise(options.seed).await?, options.seed, dice)?;
    let watched = tokio::select! {
        watched = play(options, &plan, &mut player) => Some(watched),
        () = crate::demo::stopped() => None,
    };
    let history = player.witness.history();
    // Whatever came of it, nothing is left running.
    player.stage.stop().await?;
    for process in player.witness.processes() {
        if let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let (tallied, generations) = watched.ok_or(TortureError::Impatient)??;
    let (account, history) = (&player.account, history?);
    let verdict = verdict::judge(&history, &account.asked, &account.ordered);
    let run = Run {
        options,
        took: began.elapsed(),
        account,
        verdict,
        history: &history,
        generations,
        tallied: &tallied,
    };
    let report = Report::new(run);
    let kept = (!report.broken().is_empty()).then(|| player.stage.keep());
    Ok((report, kept))
}

/// Plays to the end, or until nothing goes on, which is told in the account; and tells what others saw meanwhile.
async fn play(
    options: &TortureOptions,
    plan: &[plan::Fault],
    player: &mut Player,
) -> Result<(Tallied, Generations), TortureError> {
    let mut stuck = player.open().await;
    // From here on there is somebody who must not notice.
    let listens: Vec<_> = player.stage.grounds.iter().map(|ground| ground.listen).collect();
    let load = Load::start(&listens, options.rate, options.seed);
    let fence = Fence::watch(player.stage.grounds.clone());
    for fault in plan {
        if stuck.is_ok() {
            stuck = player.strike(*fault).await;
            tell(options, player);
        }
    }
    if stuck.is_ok() {
        stuck = player.close().await;
    }
    let (tallied, generations) = (load.stop().await, fence.stop().await);
    if stuck.is_ok() {
        stuck = finish(player).await;
    }
    if let Err(why) = stuck {
        player.account.wrong.push(crate::chain(&why));
    }
    Ok((tallied, generations))
}

async fn finish(player: &mut Player) -> Result<(), Stuck> {
    player.ask_again().await?;
    player.down().await
}

/// One line for each death.
fn tell(options: &TortureOptions, player: &Player) {
    if let Some(death) = player.account.deaths.last()
        && !options.json
    {
        let number = player.account.deaths.len();
        let recovery = death.recovery.as_millis();
        eprintln!("{number:>4}/{} {:<26} back after {recovery} ms", options.kills, death.moment.name());
    }
}
