//! What every contender is measured with: one job in a fresh process, one line of JSON for the figures.
//!
//! The loops stand here so that no contender is timed otherwise than the others.

#![allow(clippy::disallowed_types, reason = "a count of lives that the contenders share is no actor's")]

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How many threads run the contenders' tasks; Erlang has as many schedulers.
pub const WORKERS: usize = 2;

/// How many workers a pool has.
pub const POOL: u32 = 10;

/// How many children a group restarts.
pub const GROUP: u64 = 10;

/// How many restarts a supervisor makes before a fresh one takes its place, where its history is to be short.
pub const FEW: u64 = 100;

/// The window of every supervisor, with no limit on the restarts in it.
pub const WINDOW: Duration = Duration::from_hours(1);

/// How a child ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returns an error; Erlang's `{stop, Reason, State}`.
    Error,
    /// It is killed from outside; Erlang's `exit(Pid, kill)`.
    Kill,
    /// It panics; Erlang's `error(Reason)`.
    Panic,
}

/// Whom a supervisor restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The one child there is.
    OneForOne,
    /// All of [`GROUP`]; the first crashes.
    OneForAll,
    /// The first of [`GROUP`] crashes, so all of them.
    RestForOne,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// One call after the other.
    Call {
        /// From so many callers.
        callers: u64,
    },
    /// One sender, one receiver, mailbox of the default size.
    Cast,
    /// Children of a dynamic supervisor, started one after the other, and stopped together.
    Children {
        /// Plain tasks instead of servers.
        tasks: bool,
    },
    /// A crash until the last child that is restarted for it answers.
    Restart(Strategy, Exit),
    /// The same after `scale` restarts in one window.
    Worn(Exit),
    /// The same among `scale` siblings.
    Crowd(Exit),
    /// One crash after the other.
    Sustained,
    /// Jobs through a pool of [`POOL`].
    Pool {
        /// From so many clients.
        clients: u64,
    },
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// What.
    pub case: Case,
    /// How many calls, casts, children, crashes or jobs.
    pub size: u64,
    /// How many restarts before, or how many siblings.
    pub scale: u64,
}

/// Figures by name.
pub type Figures = Vec<(&'static str, f64)>;

/// A case nobody knows.
#[derive(Debug)]
pub struct Unknown(String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no case is called '{}'", self.0)
    }
}

impl FromStr for Exit {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        match text {
            "error" => Ok(Self::Error),
            "kill" => Ok(Self::Kill),
            "panic" => Ok(Self::Panic),
            _ => Err(Unknown(text.to_owned())),
        }
    }
}

impl FromStr for Case {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let unknown = || Unknown(text.to_owned());
        let words: Vec<_> = text.split('-').collect();
        let number = |word: &str| word.parse().map_err(|_| unknown());
        Ok(match words[..] {
            ["call", callers] => Self::Call { callers: number(callers)? },
            ["cast"] => Self::Cast,
            ["children", "servers"] => Self::Children { tasks: false },
            ["children", "tasks"] => Self::Children { tasks: true },
            ["one_for_one", exit] => Self::Restart(Strategy::OneForOne, exit.parse()?),
            ["one_for_all", exit] => Self::Restart(Strategy::OneForAll, exit.parse()?),
            ["rest_for_one", exit] => Self::Restart(Strategy::RestForOne, exit.parse()?),
            ["worn", exit] => Self::Worn(exit.parse()?),
            ["crowd", exit] => Self::Crowd(exit.parse()?),
            ["sustained"] => Self::Sustained,
            ["pool", clients] => Self::Pool { clients: number(clients)? },
            _ => return Err(unknown()),
        })
    }
}

/// Does the job that `arguments` name (`<case> <size> <scale>`) on two workers and prints its figures.
///
/// The job runs as a task, so that it has no thread besides the two.
///
/// # Panics
///
/// If the arguments name no job, or the job panics.
pub fn run<F>(mut arguments: impl Iterator<Item = String>, measure: impl FnOnce(Job) -> F)
where
    F: Future<Output = Figures> + Send + 'static,
{
    let mut next = || arguments.next().expect("arguments: <case> <size> <scale>");
    let case = next().parse().unwrap_or_else(|unknown| panic!("{unknown}"));
    let size = next().parse().expect("a size is a number");
    let scale = next().parse().expect("a scale is a number");
    // Our kernel brings its own; the others' panics on purpose would print a thousand times.
    std::panic::set_hook(Box::new(|info| {
        if info.payload_as_str().is_none_or(|text| text != ON_PURPOSE) {
            eprintln!("{info}");
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .expect("a runtime");
    let figures = runtime.block_on(async {
        tokio::spawn(measure(Job { case, size, scale })).await.expect("the job does not panic")
    });
    let object: serde_json::Map<_, _> =
        figures.into_iter().map(|(name, value)| (name.to_owned(), serde_json::Value::from(value))).collect();
    println!("{}", serde_json::Value::Object(object));
    // What is still running is not worth a shutdown.
    std::process::exit(0);
}

/// The text of every panic on purpose.
pub const ON_PURPOSE: &str = "asked to";

static LIVES: AtomicU64 = AtomicU64::new(1);
static GONE: AtomicU64 = AtomicU64::new(0);

/// One life of a child; knows its number, and is counted when it is gone.
#[derive(Debug)]
pub struct Life(u64);

impl Life {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        Self(LIVES.fetch_add(1, Relaxed))
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.0
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        GONE.fetch_add(1, Relaxed);
    }
}

/// How many lives have begun.
pub fn born() -> u64 {
    LIVES.load(Relaxed) - 1
}

/// How many lives are over.
pub fn gone() -> u64 {
    GONE.load(Relaxed)
}

/// Gives way to others until `done`.
pub async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

/// What this process holds of the machine's memory, in bytes.
///
/// # Panics
///
/// If the system is not Linux.
pub fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells what a process holds");
    let pages: f64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4096.0
}

/// Runs `calls` calls from `callers` tasks, after a tenth of them to warm up.
///
/// Each caller waits for its answer before it asks again, and each call is timed, so no stall is left
/// out of the percentiles.
pub async fn calls<F>(callers: u64, calls: u64, call: impl Fn(u64) -> F + Clone + Send + 'static) -> Figures
where
    F: Future<Output = bool> + Send,
{
    round(callers, calls / 10, call.clone()).await;
    let begun = Instant::now();
    let mut times = round(callers, calls, call).await;
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    let mut figures = percentiles(&mut times);
    figures.push(("per_s", rate));
    figures
}

async fn round<F>(callers: u64, calls: u64, call: impl Fn(u64) -> F + Clone + Send + 'static) -> Vec<Duration>
where
    F: Future<Output = bool> + Send,
{
    let each = calls / callers;
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(each as usize);
                for n in 0..each {
                    let begun = Instant::now();
                    assert!(call(n).await, "every call is answered");
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a caller does not panic"));
    }
    times
}

/// Messages per second until the receiver has handled `size` of them, after a tenth to warm up.
pub async fn casts<F>(size: u64, send: impl Fn(u64) -> F) -> Figures
where
    F: Future<Output = ()> + Send,
{
    send(size / 10).await;
    let begun = Instant::now();
    send(size).await;
    vec![("per_s", size as f64 / begun.elapsed().as_secs_f64())]
}

/// Which child of a group is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that crashes.
    First,
    /// The one that OTP restarts last.
    Last,
}

/// A supervisor and the children a crash of the first of which restarts.
pub trait Tree: Sized + Send + Sync + 'static {
    /// Starts one, with `siblings` more children under the same supervisor.
    fn start(strategy: Strategy, siblings: u64) -> impl Future<Output = Self> + Send;

    /// Makes the first child end and does not wait.
    fn crash(&self, how: Exit) -> impl Future<Output = ()> + Send;

    /// The number of the first or the last child's life, if it answers.
    fn life(&self, which: Which) -> impl Future<Output = Option<u64>> + Send;

    /// Lets it go.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// The figures of a case of restarts.
///
/// # Panics
///
/// If `case` is another one.
pub async fn restarts<T: Tree>(job: Job) -> Figures {
    match job.case {
        Case::Restart(strategy, exit) => {
            let mut times = Vec::new();
            for _ in 0..job.size.div_ceil(FEW) {
                let tree = T::start(strategy, 0).await;
                crashes(&tree, exit, FEW / 10).await;
                times.extend(crashes(&tree, exit, FEW).await);
                tree.stop().await;
            }
            percentiles(&mut times)
        }
        Case::Worn(exit) => {
            let tree = T::start(Strategy::OneForOne, 0).await;
            crashes(&tree, Exit::Error, job.scale).await;
            percentiles(&mut crashes(&tree, exit, job.size).await)
        }
        Case::Crowd(exit) => {
            let tree = T::start(Strategy::OneForOne, job.scale).await;
            crashes(&tree, exit, job.size / 10).await;
            percentiles(&mut crashes(&tree, exit, job.size).await)
        }
        Case::Sustained => {
            let tree = T::start(Strategy::OneForOne, 0).await;
            let begun = Instant::now();
            crashes(&tree, Exit::Error, job.size).await;
            vec![("per_s", job.size as f64 / begun.elapsed().as_secs_f64())]
        }
        Case::Call { .. } | Case::Cast | Case::Children { .. } | Case::Pool { .. } => {
            panic!("{:?} restarts nothing", job.case)
        }
    }
}

/// From the sending of what makes the first child end until the last one answers as a new life.
///
/// Who asks gives way between two questions, and never sleeps. The next crash waits, untimed, until the first
/// child runs again too: not everybody restarts a group in order.
async fn crashes<T: Tree>(tree: &T, how: Exit, times: u64) -> Vec<Duration> {
    let mut taken = Vec::with_capacity(times as usize);
    let mut first = life(tree, Which::First, 0).await;
    let mut last = life(tree, Which::Last, 0).await;
    for _ in 0..times {
        let begun = Instant::now();
        tree.crash(how).await;
        last = life(tree, Which::Last, last).await;
        taken.push(begun.elapsed());
        first = life(tree, Which::First, first).await;
    }
    taken
}

async fn life<T: Tree>(tree: &T, which: Which, before: u64) -> u64 {
    loop {
        match tree.life(which).await {
            Some(life) if life != before => return life,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// The figures of starting and stopping `size` children: until all run, bytes of each, until all are gone.
pub async fn children<T, S: Future<Output = T>, E: Future<Output = ()>>(
    size: u64,
    start: impl FnOnce() -> S,
    stop: impl FnOnce(T) -> E,
) -> Figures {
    let (born_before, gone_before) = (born(), gone());
    let memory = resident();
    let begun = Instant::now();
    let tree = start().await;
    until(|| born() - born_before == size).await;
    let started = begun.elapsed();
    let bytes = (resident() - memory) / size as f64;
    let begun = Instant::now();
    stop(tree).await;
    until(|| gone() - gone_before == size).await;
    let stopped = begun.elapsed();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    vec![("start_ms", ms(started)), ("bytes", bytes), ("stop_ms", ms(stopped))]
}

fn percentiles(times: &mut [Duration]) -> Figures {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1;
        times[index].as_nanos() as f64 / 1e3
    };
    vec![("p50_us", at(0.50)), ("p99_us", at(0.99))]
}
