//! `deployment demo`: two regions of real processes under load; a good version is rolled out, the manager is killed in
//! the middle of it, and a bad version is taken back.

mod face;
pub(crate) mod load;
mod picture;
mod report;
pub(crate) mod stage;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::client::ClientError;
use crate::demo::load::{Load, Tallied};
use crate::demo::report::{Report, Run};
use crate::demo::stage::{Stage, StageError};
use crate::policy::Strategy;
use crate::view::ServiceView;

/// The service of the demonstration.
pub(crate) const SERVICE: &str = "api";

/// The shortest demonstration: shorter stages would be over before a look.
const SECONDS_MIN: u64 = 40;

/// How often the manager is asked how the service is.
const LOOK: Duration = Duration::from_millis(100);

/// How long a delivery may take beyond its share of the time.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the demonstration is run.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoOptions {
    /// How long it lasts.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(SECONDS_MIN..=3_600))]
    pub seconds: u64,
    /// What the requests' numbers, and with them the failures of the bad version, are drawn from.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Requests a second, of both regions together.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(50..=5_000))]
    pub rate: u32,
    /// Print the report as JSON, and nothing before it.
    #[arg(long)]
    pub json: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Manager(#[from] ClientError),
    #[error("cannot use the terminal, or make a client")]
    System(#[from] std::io::Error),
    #[error("{what} was not over in time; the service: {service}")]
    Late { what: &'static str, service: String },
    #[error("stopped before it was over; nothing was measured")]
    Impatient,
}

/// Runs the demonstration: exit code 0 only if every promise was kept.
pub async fn run(options: DemoOptions) -> ExitCode {
    match demonstrate(&options).await {
        Ok(report) => {
            if options.json {
                let text =
                    serde_json::to_string_pretty(&report).expect("a report is plain data with text keys");
                println!("{text}");
            } else {
                print!("{}", report.words());
            }
            let broken = report.broken();
            for promise in &broken {
                eprintln!("deployment demo: broken promise: {promise}");
            }
            if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("deployment demo: {}", crate::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate(options: &DemoOptions) -> Result<Report, DemoError> {
    let mut stage = Stage::raise(options.seconds, options.seed).await?;
    let result = perform(options, &mut stage).await;
    // Whatever came of it, nothing is left running.
    let struck = stage.strike().await;
    let report = result?;
    struck?;
    Ok(report)
}

async fn perform(options: &DemoOptions, stage: &mut Stage) -> Result<Report, DemoError> {
    stage.client.begin(SERVICE, "v1", Strategy::First, None).await?;
    let (sender, views) = watch::channel(ServiceView::default());
    settled(stage, &sender, "the first version", PATIENCE).await?;
    // From here on there is somebody who must not notice.
    let began = Instant::now();
    let load = Load::start(&stage.regions, options.rate, options.seed);
    let face = if options.json || !std::io::stdout().is_terminal() {
        face::Face::plain(views, options.json)
    } else {
        face::Face::screen(views, load.tallied.clone(), options)?
    };
    let quit = face.quit.clone();
    let played = tokio::select! {
        played = play(options, stage, &sender, began) => played,
        () = quit.notified() => Err(DemoError::Impatient),
        () = stopped() => Err(DemoError::Impatient),
    };
    let (tallied, kills) = (load.stop().await, stage.kills.clone());
    face.close().await;
    played?;
    report(options, stage, tallied, &kills).await
}

/// The story: a good version, the manager killed meanwhile, a bad version, and quiet to the end.
async fn play(
    options: &DemoOptions,
    stage: &mut Stage,
    sender: &watch::Sender<ServiceView>,
    began: Instant,
) -> Result<(), DemoError> {
    let patience = Duration::from_secs(options.seconds) + PATIENCE;
    watched(stage, sender, Duration::from_secs(2)).await?;
    stage.client.begin(SERVICE, "v2", Strategy::Canary, None).await?;
    watched(stage, sender, stage.phase + stage.phase / 2).await?;
    stage.kill_manager().await?;
    settled(stage, sender, "the good version", patience).await?;
    watched(stage, sender, Duration::from_secs(1)).await?;
    stage.client.begin(SERVICE, "v3", Strategy::Canary, None).await?;
    settled(stage, sender, "the bad version", patience).await?;
    let lasts = Duration::from_secs(options.seconds);
    watched(stage, sender, lasts.saturating_sub(began.elapsed()).max(Duration::from_secs(2))).await
}

/// Shows the service for some time.
async fn watched(
    stage: &Stage,
    sender: &watch::Sender<ServiceView>,
    lasts: Duration,
) -> Result<(), DemoError> {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        sender.send_replace(stage.client.service(SERVICE).await?);
        sleep(LOOK).await;
    }
    Ok(())
}

/// Shows the service until nothing is delivered.
async fn settled(
    stage: &Stage,
    sender: &watch::Sender<ServiceView>,
    what: &'static str,
    within: Duration,
) -> Result<(), DemoError> {
    let settling = async {
        loop {
            let view = stage.client.service(SERVICE).await?;
            let is_settled = view.delivery.is_none() && view.waiting.is_none() && view.stable.is_some();
            sender.send_replace(view);
            if is_settled {
                return Ok::<(), ClientError>(());
            }
            sleep(LOOK).await;
        }
    };
    match timeout(within, settling).await {
        Ok(settled) => Ok(settled?),
        Err(_) => Err(DemoError::Late { what, service: crate::client::text(&sender.borrow()) }),
    }
}

async fn report(
    options: &DemoOptions,
    stage: &Stage,
    tallied: Tallied,
    kills: &[(u64, u64)],
) -> Result<Report, DemoError> {
    let history = stage.client.history(SERVICE).await?;
    let view = stage.client.service(SERVICE).await?;
    Ok(Report::new(
        &Run { options: options.clone(), history, stable: view.stable, kills: kills.to_vec() },
        &tallied,
    ))
}

/// Resolves on Ctrl-C, SIGTERM, or when its terminal is closed.
pub(crate) async fn stopped() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
