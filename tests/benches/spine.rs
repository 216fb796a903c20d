//! What the spine costs: admission, routing and rebalancing, a signal's way to a worker and back, a refusal, and a
//! worker's way back from a panic.
//!
//! Every figure stands beside something a user could pick instead, measured in the same run: five rounds of
//! each in turn, medians with minimum and maximum, and the ratio of the medians.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gemba::admission::{Limits, Tier};
use gemba::breaker::BreakerRules;
use gemba::{Action, JobContext, Line, LineSpec, Node, Plant, PoolSpec, Signal};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::{Semaphore, mpsc, oneshot};

#[path = "spine/routing.rs"]
mod routing;

const ROUNDS: usize = 5;
const WORKERS: u32 = 10;

fn main() {
    // `cargo bench` hands its own flags on; a word selects one benchmark.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let selected = |name: &str| wanted.as_deref().is_none_or(|wanted| name.contains(wanted));
    println!("five rounds each, in turn; median [min .. max]; ratio of medians\n");
    if selected("admission") {
        admission(1);
        admission(2);
    }
    if selected("routing") {
        for pools in [3, 64] {
            routing::routing(pools);
            routing::rebalancing(pools);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        if selected("signal") {
            for callers in [1, 8, 64] {
                signal(callers).await;
            }
        }
        if selected("refusal") {
            for callers in [1, 64] {
                refusal(callers).await;
            }
        }
        if selected("comeback") {
            comeback().await;
        }
    });
}

/// One figure of one contender over all rounds.
struct Figure {
    name: &'static str,
    values: Vec<f64>,
}

impl Figure {
    fn new(name: &'static str) -> Self {
        Self { name, values: Vec::new() }
    }

    fn median(&self) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

fn print(what: &str, unit: &str, figures: &[Figure]) {
    println!("{what} ({unit})");
    let ours = figures[0].median();
    for figure in figures {
        let min = figure.values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = figure.values.iter().copied().fold(0.0, f64::max);
        let median = figure.median();
        let ratio = ours / median;
        println!(
            "  {:<44} {median:>10.1} [{min:>10.1} .. {max:>10.1}]   gemba/this {ratio:>5.2}",
            figure.name
        );
    }
    println!();
}

/// Nanoseconds to take and give back a permit, each thread.
fn admission(threads: usize) {
    const TIMES: u32 = 1_000_000;
    let node = Node::builder("bench");
    let plant = Plant::builder(node.system()).limits(Limits::new(1200, 0.2, 0.83).expect("in range"));
    let regulator = plant.build().expect("an empty plant is sound").regulator();
    let semaphore = Arc::new(Semaphore::new(1200));
    let timed = |take: &(dyn Fn() + Sync)| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..TIMES).for_each(|_| take()));
            }
        });
        begun.elapsed().as_nanos() as f64 / f64::from(TIMES)
    };
    let mut ours = Figure::new("gemba: tiers, reserve, exact limit");
    let mut theirs = Figure::new("tokio Semaphore::try_acquire");
    for _ in 0..ROUNDS {
        ours.values.push(timed(&|| drop(black_box(regulator.admit(Tier::Normal)))));
        theirs.values.push(timed(&|| drop(black_box(semaphore.try_acquire()))));
    }
    print(&format!("admission and release, {threads} thread(s)"), "ns, less is better", &[ours, theirs]);
}

struct Nothing;

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

impl Action for Nothing {
    type Input = u64;
    type Output = u64;
    type Error = Never;

    async fn run(&self, n: u64, _: &JobContext) -> Result<u64, Never> {
        assert!(n != PANIC, "asked to panic");
        if n == FOREVER {
            std::future::pending::<()>().await;
        }
        Ok(n)
    }
}

/// What the action does not do at once.
const PANIC: u64 = u64::MAX;
const FOREVER: u64 = u64::MAX - 1;

/// A thousand panics on purpose are no reason to stop.
fn never_open() -> BreakerRules {
    let rules = BreakerRules::builder().failures_in_a_row(u32::MAX);
    rules.failure_ratio(1.0, u32::MAX, Duration::from_secs(10)).build().expect("in range")
}

async fn start(workers: u32) -> (Node, Line<Nothing>) {
    let node = Node::builder("bench");
    let pool = PoolSpec::new("work").workers(workers, workers).intensity(u32::MAX, Duration::from_secs(60));
    let mut plant = Plant::builder(node.system()).pool(pool);
    let line = plant.line(LineSpec::new("work", Nothing).breaker(never_open()));
    let plant = plant.build().expect("the plant is sound");
    let node = node.child(plant).start().await.expect("the node starts");
    line.submit(Signal::new(0), &()).await.expect("it answers");
    (node, line)
}

/// Calls per second and the latency of one. The pool of ten is what the others have; with a worker for each
/// caller every signal takes one hop; with one worker and two signals a caller, every other waits in the queue at
/// least.
async fn signal(callers: u64) {
    const CALLS: u64 = 200_000;
    let (ten, work) = start(WORKERS).await;
    let (many, hop) = start(callers as u32).await;
    let (one, queue) = start(1).await;
    let tokio_pool = TokioPool::start();
    let ractor_pool = RactorPool::start().await;
    let names = [
        "gemba Line::submit, ten workers",
        "gemba, a worker for each caller: one hop",
        "gemba, one worker: through the queue",
        "tokio: mpsc to a dispatcher, mpsc to a worker",
        "ractor: call to a router, cast to a worker",
    ];
    let mut rates = names.map(Figure::new);
    let mut latencies = names.map(Figure::new);
    let submit = |line: &Line<Nothing>| {
        let line = line.clone();
        move |n| {
            let line = line.clone();
            async move { line.submit(Signal::new(n), &()).await.is_ok() }
        }
    };
    for _ in 0..ROUNDS {
        let ours = drive(callers, CALLS, submit(&work)).await;
        let one_hop = drive(callers, CALLS, submit(&hop)).await;
        let queued = drive(2 * callers, CALLS, submit(&queue)).await;
        let tokio = {
            let pool = tokio_pool.clone();
            drive(callers, CALLS, move |n| {
                let pool = pool.clone();
                async move { pool.call(n).await }
            })
            .await
        };
        let ractor = {
            let pool = ractor_pool.clone();
            drive(callers, CALLS, move |n| {
                let pool = pool.clone();
                async move { ractor::call!(pool, RouterMsg::Call, n).is_ok() }
            })
            .await
        };
        for (index, (rate, latency)) in [ours, one_hop, queued, tokio, ractor].into_iter().enumerate() {
            rates[index].values.push(rate / 1e3);
            latencies[index].values.push(latency);
        }
    }
    print(&format!("a signal, {callers} caller(s)"), "thousand calls/s, more is better", &rates);
    print(&format!("a signal, {callers} caller(s), median latency"), "µs, less is better", &latencies);
    for node in [ten, many, one] {
        node.stop("done").await.expect("it stops");
    }
}

/// How long a caller waits for the word that nothing is done: at the wait gate, and at the limit of what may be in
/// flight.
async fn refusal(callers: u64) {
    const CALLS: u64 = 200_000;
    let (gate, waits) = start(1).await;
    // It runs until its time is up.
    let hanging = |line: &Line<Nothing>| {
        let line = line.clone();
        tokio::spawn(async move {
            line.submit(Signal::new(FOREVER).deadline(Duration::from_secs(600)), &()).await.is_err()
        })
    };
    let node = Node::builder("bench");
    let mut plant = Plant::builder(node.system())
        .limits(Limits::new(1, 0.0, 0.83).expect("in range"))
        .pool(PoolSpec::new("work").workers(1, 1));
    let full = plant.line(LineSpec::new("work", Nothing).breaker(never_open()));
    let limit = node.child(plant.build().expect("sound")).start().await.expect("the node starts");
    let running = [hanging(&waits), hanging(&full)];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let names = ["gemba, refused by the wait gate", "gemba, refused by the limit"];
    let (mut p50, mut p99) = (names.map(Figure::new), names.map(Figure::new));
    for _ in 0..ROUNDS {
        for (index, line) in [&waits, &full].into_iter().enumerate() {
            let line = line.clone();
            let refused = move |n| {
                let line = line.clone();
                // No time to wait at all.
                async move {
                    let signal = Signal::new(n).deadline(Duration::ZERO);
                    line.submit(signal, &()).await.is_err()
                }
            };
            let times = times(callers, CALLS, refused).await;
            p50[index].values.push(quantile_us(&times, 0.5));
            p99[index].values.push(quantile_us(&times, 0.99));
        }
    }
    print(&format!("a refusal, {callers} caller(s), median"), "µs, less is better", &p50);
    print(&format!("a refusal, {callers} caller(s), 99 % quantile"), "µs, less is better", &p99);
    for task in running {
        task.abort();
    }
    for node in [gate, limit] {
        node.stop("done").await.expect("it stops");
    }
}

/// Runs `calls` calls from `callers` tasks; the rate, and the median latency in microseconds.
async fn drive<F: Future<Output = bool> + Send>(
    callers: u64,
    calls: u64,
    call: impl Fn(u64) -> F + Clone + Send + 'static,
) -> (f64, f64) {
    let begun = Instant::now();
    let latencies = times(callers, calls, call).await;
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    (rate, quantile_us(&latencies, 0.5))
}

/// How long each of `calls` calls from `callers` tasks took, the shortest first.
async fn times<F: Future<Output = bool> + Send>(
    callers: u64,
    calls: u64,
    call: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Vec<Duration> {
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity((calls / callers) as usize);
                for n in 0..calls / callers {
                    let begun = Instant::now();
                    assert!(call(n).await, "every call is answered");
                    latencies.push(begun.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a caller does not panic"));
    }
    latencies.sort_unstable();
    latencies
}

/// Of times in order, the one that this share of them does not exceed.
fn quantile_us(times: &[Duration], share: f64) -> f64 {
    times[((times.len() - 1) as f64 * share) as usize].as_nanos() as f64 / 1e3
}

type TokioJob = (u64, oneshot::Sender<u64>);

/// What one writes by hand: bounded channels, no limits by tier, no breaker, no supervision.
#[derive(Clone)]
struct TokioPool(mpsc::Sender<TokioJob>);

impl TokioPool {
    fn start() -> Self {
        let (sender, mut receiver) = mpsc::channel::<TokioJob>(1024);
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (sender, mut receiver) = mpsc::channel::<TokioJob>(64);
                tokio::spawn(async move {
                    while let Some((n, reply)) = receiver.recv().await {
                        let _ = reply.send(n);
                    }
                });
                sender
            })
            .collect();
        tokio::spawn(async move {
            let mut next = 0;
            while let Some(job) = receiver.recv().await {
                let _ = workers[next].send(job).await;
                next = (next + 1) % workers.len();
            }
        });
        Self(sender)
    }

    async fn call(&self, n: u64) -> bool {
        let (reply, answer) = oneshot::channel();
        self.0.send((n, reply)).await.is_ok() && answer.await.is_ok()
    }
}

struct RactorPool;

enum RouterMsg {
    Call(u64, RpcReplyPort<u64>),
}

impl RactorPool {
    async fn start() -> ActorRef<RouterMsg> {
        Actor::spawn(None, Self, ()).await.expect("it starts").0
    }
}

impl Actor for RactorPool {
    type Msg = RouterMsg;
    type State = (Vec<ActorRef<RouterMsg>>, usize);
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<RouterMsg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(Actor::spawn_linked(None, RactorWorker, (), myself.get_cell()).await?.0);
        }
        Ok((workers, 0))
    }

    async fn handle(
        &self,
        _: ActorRef<RouterMsg>,
        message: RouterMsg,
        (workers, next): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        workers[*next].cast(message)?;
        *next = (*next + 1) % workers.len();
        Ok(())
    }
}

struct RactorWorker;

impl Actor for RactorWorker {
    type Msg = RouterMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RouterMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<RouterMsg>,
        RouterMsg::Call(n, reply): RouterMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        assert!(n != PANIC, "asked to panic");
        Ok(reply.send(n)?)
    }
}

/// A ractor supervisor as one writes it by hand: starts the worker again and forgets why.
struct ByHand;

impl Actor for ByHand {
    type Msg = RouterMsg;
    type State = ActorRef<RouterMsg>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<RouterMsg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Actor::spawn_linked(None, RactorWorker, (), myself.get_cell()).await?.0)
    }

    async fn handle(
        &self,
        _: ActorRef<RouterMsg>,
        message: RouterMsg,
        worker: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A worker that is down drops the call, and the caller asks again.
        let _ = worker.cast(message);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RouterMsg>,
        event: SupervisionEvent,
        worker: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            *worker = Actor::spawn_linked(None, RactorWorker, (), myself.get_cell()).await?.0;
        }
        Ok(())
    }
}

/// From the caller's news that the worker panicked until the same pool of one answers again.
async fn comeback() {
    const TIMES: usize = 1000;
    let node = Node::builder("bench");
    let pool = PoolSpec::new("work").workers(1, 1).intensity(u32::MAX, Duration::from_secs(60));
    let mut plant = Plant::builder(node.system()).pool(pool);
    let line = plant.line(LineSpec::new("work", Nothing).breaker(never_open()));
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    let by_hand = Actor::spawn(None, ByHand, ()).await.expect("it starts").0;
    // The hook that prints a panic costs more than the restart; silence it for the one who has no other.
    std::panic::set_hook(Box::new(|_| {}));
    let mut ours = Figure::new("gemba: receipt, restart, pull, answer");
    let mut theirs = Figure::new("ractor: restart written by hand");
    for _ in 0..ROUNDS {
        let mut times = Vec::with_capacity(TIMES);
        for n in 0..TIMES as u64 {
            assert!(line.submit(Signal::new(PANIC), &()).await.is_err());
            let begun = Instant::now();
            line.submit(Signal::new(n), &()).await.expect("the replacement answers");
            times.push(begun.elapsed());
        }
        ours.values.push(median_us(times));
        let mut times = Vec::with_capacity(TIMES);
        for n in 0..TIMES as u64 {
            assert!(ractor::call!(by_hand, RouterMsg::Call, PANIC).is_err());
            let begun = Instant::now();
            while ractor::call!(by_hand, RouterMsg::Call, n).is_err() {
                tokio::task::yield_now().await;
            }
            times.push(begun.elapsed());
        }
        theirs.values.push(median_us(times));
    }
    print(
        "panic of the only worker until its replacement answers, median",
        "µs, less is better",
        &[ours, theirs],
    );
    node.stop("done").await.expect("it stops");
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    quantile_us(&times, 0.5)
}
