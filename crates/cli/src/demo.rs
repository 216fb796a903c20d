//! `gemba demo`: the payment system under load, with workers killed, and the books compared at the end.

mod audit;
mod face;
mod killer;
mod load;
mod overseer;
mod pay;
mod process;
mod report;
mod screen;
mod seed;
mod stage;
mod tally;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::args::DemoArgs;
use crate::demo::audit::{AuditError, Auditor};
use crate::demo::face::{Face, Ports};
use crate::demo::pay::Acknowledged;
use crate::demo::process::ProcessError;
use crate::demo::report::{Report, Run};
use crate::demo::seed::Dice;
use crate::demo::stage::Stage;
use crate::demo::tally::{Desks, Tally};
use crate::demo::watch::{Seen, Watcher};
use crate::exit::{Exit, sentence};

pub(crate) use process::leash;

/// Acknowledged payments that may wait for the live audit.
const AUDIT_WAITING_MAX: usize = 65_536;

/// Requests to stop that may wait; the second one stops at once.
const STOPS_MAX: usize = 4;

/// Which of the numbers made from the seed choose the victims: not those of an order.
const VICTIMS: u64 = u64::MAX / 2;

/// How long the last signal may take to leave the board after its client was answered.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// How often the board is asked meanwhile.
const SETTLE_PERIOD: Duration = Duration::from_millis(100);

/// How far the demonstration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Payments arrive, workers are killed.
    Running,
    /// Nothing new arrives; the last answers are waited for.
    Stopping,
    /// Everything was answered.
    Over,
}

/// Waits until the demonstration has come to `phase`, or is torn down.
pub(crate) async fn until(phases: &mut channel::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| phase <= *now).await;
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot prepare")]
    Prepare(#[from] std::io::Error),
    #[error("cannot make a client")]
    Desk(#[from] reqwest::Error),
    #[error(transparent)]
    Inspector(#[from] gemba::ClientError),
    #[error("the service printed a token that is none")]
    Token(#[from] gemba::TokenError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("stopped before the last answers came; nothing was compared")]
    Impatient,
    #[error("a part of the demonstration crashed")]
    Crashed(#[from] JoinError),
}

/// Runs the demonstration and tells how it went: exit code 0 only if every promise was kept.
pub(crate) async fn run(args: DemoArgs) -> ExitCode {
    let (report, complaints) = match demonstrate(&args).await {
        Ok(result) => result,
        Err(error) => {
            eprintln!("gemba demo: {}", sentence(&error));
            return Exit::Failed.into();
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is plain data with text keys"));
    } else {
        print!("{}", report.words());
    }
    for complaint in complaints {
        eprintln!("gemba demo: a payment failed: {complaint}");
    }
    let broken = report.broken();
    for promise in &broken {
        eprintln!("gemba demo: broken promise: {promise}");
    }
    if broken.is_empty() { Exit::Fine.into() } else { Exit::Failed.into() }
}

async fn demonstrate(args: &DemoArgs) -> Result<(Report, Vec<Box<str>>), DemoError> {
    let mut stage = Stage::raise(args.inspect).await?;
    let (stops, mut stop) = mpsc::channel(STOPS_MAX);
    tokio::spawn(listen(stops.clone()));
    let mut show = Show::begin(args, &stage, stops)?;
    let performed = show.perform(args.seconds, &mut stage, &mut stop).await;
    // Whatever came of it, the terminal is given back before anything is said.
    show.phase.send_replace(Phase::Over);
    let closed = show.close().await;
    let (tally, run) = match performed {
        Ok((tally, seconds, in_flight_at_end)) => (tally, show.run(args, seconds, in_flight_at_end)),
        Err(error) => return Err(stage.keep(error)),
    };
    closed?;
    tokio::select! {
        biased;
        compared = compare(stage, tally, run) => compared,
        _ = stop.recv() => Err(DemoError::Impatient),
    }
}

/// Stops both processes and compares what they recorded with what the clients were told.
async fn compare(stage: Stage, tally: Tally, run: Run) -> Result<(Report, Vec<Box<str>>), DemoError> {
    let struck = stage.strike().await?;
    let books = struck.books.clone();
    let auditing = tokio::task::spawn_blocking(move || {
        let findings = Auditor::open(&books.service, &books.gateway)?.compare(&tally.acknowledged)?;
        Ok::<_, AuditError>((findings, tally))
    });
    let (findings, tally) = auditing.await??;
    let report = Report::new(Run { service_exit: struck.service_exit, ..run }, &tally.counts, findings);
    if !report.broken().is_empty() {
        eprintln!("gemba demo: logs and databases are kept in {}", struck.keep().display());
    }
    Ok((report, tally.complaints))
}

/// Everything that runs while payments are made.
struct Show {
    started: Instant,
    phase: channel::Sender<Phase>,
    seen: channel::Receiver<Seen>,
    killed: channel::Receiver<u64>,
    load: JoinHandle<()>,
    tally: JoinHandle<Tally>,
    /// Those that end when the demonstration is over: watcher, killer, face.
    others: JoinSet<()>,
}

impl Show {
    fn begin(args: &DemoArgs, stage: &Stage, stops: mpsc::Sender<()>) -> Result<Self, DemoError> {
        let (phase, phases) = channel::channel(Phase::Running);
        let (killed_sender, killed) = channel::channel(0);
        let (audited, auditing) = mpsc::channel::<Acknowledged>(AUDIT_WAITING_MAX);
        let (Desks { notes, counts }, tally) = Tally::start(audited);
        let (watcher, seen) = Watcher::new(stage.inspector.clone());
        let ports = Ports {
            counts,
            seen: seen.clone(),
            killed: killed_sender.clone(),
            phase: phases.clone(),
            inspector: stage.inspector.clone(),
            stops,
            acknowledged: auditing,
            books: stage.books.clone(),
            rate: args.rate,
        };
        let mut others = JoinSet::new();
        Face::choose(args.json).start(ports, &mut others)?;
        others.spawn(watcher.run(phases.clone()));
        if 0 < args.kill_every {
            let (inspector, period) = (stage.inspector.clone(), Duration::from_millis(args.kill_every));
            let dice = Dice::new(args.seed, VICTIMS);
            others.spawn(killer::hunt(inspector, period, dice, seen.clone(), killed_sender, phases.clone()));
        }
        let load = tokio::spawn(load::generate(stage.desk.clone(), args.seed, args.rate, notes, phases));
        let tally = tokio::spawn(tally);
        Ok(Self { started: Instant::now(), phase, seen, killed, load, tally, others })
    }

    /// Lets payments arrive until it is time to stop, then waits for the last answer; tells for how
    /// long they arrived, and how much was in flight at the end.
    async fn perform(
        &mut self,
        seconds: u64,
        stage: &mut Stage,
        stop: &mut mpsc::Receiver<()>,
    ) -> Result<(Tally, f64, Option<u64>), DemoError> {
        tokio::select! {
            _ = stop.recv() => {}
            () = lasting(seconds) => {}
            error = stage.died() => return Err(error.into()),
            Some(Err(crash)) = self.others.join_next() => return Err(crash.into()),
            // The tally ends with the load, which ends by itself at its limit.
            tally = &mut self.tally => {
                (&mut self.load).await?;
                return Ok((tally?, self.started.elapsed().as_secs_f64(), in_flight(stage).await));
            }
        }
        let arriving = self.started.elapsed().as_secs_f64();
        self.phase.send_replace(Phase::Stopping);
        tokio::select! {
            biased;
            tally = &mut self.tally => {
                (&mut self.load).await?;
                Ok((tally?, arriving, in_flight(stage).await))
            }
            error = stage.died() => Err(error.into()),
            _ = stop.recv() => Err(DemoError::Impatient),
        }
    }

    /// Waits for those that end when the demonstration is over.
    async fn close(&mut self) -> Result<(), JoinError> {
        self.load.abort();
        let mut result = Ok(());
        while let Some(ended) = self.others.join_next().await {
            result = result.and(ended);
        }
        result
    }

    fn run(&self, args: &DemoArgs, seconds: f64, in_flight_at_end: Option<u64>) -> Run {
        Run {
            seed: args.seed,
            rate: args.rate,
            seconds,
            workers_killed: *self.killed.borrow(),
            restarts: self.seen.borrow().restarts,
            in_flight_at_end,
            service_exit: None,
        }
    }
}

/// Passes on what an operator says to the whole process: Ctrl-C, SIGTERM, a closed terminal.
async fn listen(stops: mpsc::Sender<()>) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        if stops.send(()).await.is_err() {
            return;
        }
    }
}

/// Ends after `seconds`; never if it is 0.
async fn lasting(seconds: u64) {
    match seconds {
        0 => std::future::pending().await,
        seconds => sleep(Duration::from_secs(seconds)).await,
    }
}

/// The signals in flight when nobody waits for an answer any more: 0, once the board has noticed.
async fn in_flight(stage: &Stage) -> Option<u64> {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        // A board without a line has not measured anything.
        let board = stage.inspector.board().await.ok().filter(|board| !board.lines.is_empty());
        let in_flight = board.map(|board| board.lines.iter().map(|line| line.in_flight).sum());
        if in_flight == Some(0) || deadline <= Instant::now() {
            return in_flight;
        }
        sleep(SETTLE_PERIOD).await;
    }
}
