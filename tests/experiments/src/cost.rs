//! E17 and "all controls together": what admission and the whole way cost, beside what has no controls.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gemba::admission::{Limits, Tier};
use gemba::breaker::BreakerRules;
use gemba::{Action, JobContext, Line, LineSpec, Node, Plant, PoolSpec, RegulatorHandle, Signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{Service, service_fn};

use crate::closed::{drive, nanos, runtime};
use crate::finding::{Finding, Ratio, Report, quantile};
use crate::pace::Pace;
use crate::scale::Scale;
use crate::work::{rounds_per_s, spin};

/// In flight at most.
const LIMIT: u32 = 1_200;
const WORKERS: u32 = 10;

/// Callers that keep two threads busy.
const CALLERS: u64 = 64;

/// Work of a signal in the comparison with all controls: what a small request costs a processor.
const WORK: Duration = Duration::from_micros(100);

/// E17.
pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note = "ns of one call, each thread";
    let mut report = Report { number: "E17", title: "cost of admission", note, ..Report::default() };
    let mut pace = Pace::default();
    for (threads, most) in [(1, 40.0), (2, 60.0)] {
        let mut of = [const { Vec::new() }; 3];
        let mut refused = [const { Vec::new() }; 3];
        for _ in 0..scale.rounds {
            pace.look();
            let regulator = regulator();
            of[0].push(nanos(threads, scale.calls, &|| drop(black_box(regulator.admit(Tier::Normal)))));
            let semaphore = Semaphore::new(LIMIT as usize);
            of[1].push(nanos(threads, scale.calls, &|| drop(black_box(semaphore.try_acquire()))));
            of[2].push(tower(threads, scale.calls, LIMIT));

            let hard = regulator.limits().hard(Tier::Normal);
            let held: Vec<_> = (0..hard).map(|_| regulator.admit(Tier::Normal)).collect();
            assert!(regulator.admit(Tier::Normal).is_err(), "it is full");
            refused[0].push(nanos(threads, scale.calls, &|| drop(black_box(regulator.admit(Tier::Normal)))));
            drop(held);
            let semaphore = Semaphore::new(0);
            refused[1].push(nanos(threads, scale.calls, &|| drop(black_box(semaphore.try_acquire()))));
            refused[2].push(tower_full(threads, scale.calls));
        }
        let case = |what: &str| format!("{what}, {threads} thread(s)");
        for (name, of, most) in [("admit and release", of, most), ("refuse", refused, 15.0)] {
            let [ours, semaphore, tower] = of;
            let pairs: Vec<_> = ours.iter().copied().zip(tower.iter().copied()).collect();
            let finding = Finding::new(case(name), "ns", ours).at_most(most * pace.slower());
            let mut finding = finding.beside("Semaphore", semaphore).beside("tower", tower);
            finding.ratio = Ratio::of("tower", &pairs);
            report.findings.push(finding);
        }
    }
    report.slower = Some(pace.slower());
    vec![report]
}

fn regulator() -> RegulatorHandle {
    let node = Node::builder("experiment");
    let limits = Limits::new(LIMIT, 0.2, 0.83).expect("in range");
    Plant::builder(node.system()).limits(limits).build().expect("an empty plant is sound").regulator()
}

/// Polls a future that is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

fn tower(threads: usize, calls: u32, limit: u32) -> f64 {
    let work = service_fn(|()| std::future::ready(Ok::<(), Infallible>(())));
    let service = LoadShed::new(ConcurrencyLimit::new(work, limit as usize));
    tower_loop(threads, calls, &service)
}

/// The same with no place left.
fn tower_full(threads: usize, calls: u32) -> f64 {
    let work = service_fn(|()| std::future::pending::<Result<(), Infallible>>());
    let mut service = LoadShed::new(ConcurrencyLimit::new(work, 1));
    let _ = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    let held = service.call(());
    let nanos = tower_loop(threads, calls, &service);
    drop(held);
    nanos
}

fn tower_loop<S: Service<()> + Clone + Send + Sync>(threads: usize, calls: u32, service: &S) -> f64 {
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let mut service = service.clone();
            scope.spawn(move || {
                for _ in 0..calls {
                    let _ = service.poll_ready(&mut Context::from_waker(Waker::noop()));
                    drop(black_box(now(service.call(()))));
                }
            });
        }
    });
    begun.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// Keeps its thread busy for a number of rounds.
struct Busy;

impl Action for Busy {
    type Input = u64;
    type Output = ();
    type Error = Infallible;

    async fn run(&self, rounds: u64, _: &JobContext) -> Result<(), Infallible> {
        spin(rounds);
        Ok(())
    }
}

async fn start() -> (Node, Line<Busy>) {
    let node = Node::builder("experiment");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(WORKERS, WORKERS));
    let line = plant.line(LineSpec::new("work", Busy).breaker(BreakerRules::default()));
    let node = node.child(plant.build().expect("the plant is sound")).start().await.expect("the node starts");
    line.submit(Signal::new(0), &()).await.expect("it answers");
    (node, line)
}

type HandJob = (u64, oneshot::Sender<()>);

/// What one writes by hand, without any control: a channel to a dispatcher, channels to its workers.
fn by_hand() -> mpsc::Sender<HandJob> {
    let (sender, mut jobs) = mpsc::channel::<HandJob>(1024);
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (sender, mut jobs) = mpsc::channel::<HandJob>(64);
            tokio::spawn(async move {
                while let Some((rounds, answer)) = jobs.recv().await {
                    spin(rounds);
                    let _ = answer.send(());
                }
            });
            sender
        })
        .collect();
    tokio::spawn(async move {
        let mut next = 0;
        while let Some(job) = jobs.recv().await {
            let _ = workers[next].send(job).await;
            next = (next + 1) % workers.len();
        }
    });
    sender
}

/// The whole way: with nothing to do, and with work.
pub(crate) fn run_all(scale: &Scale) -> Vec<Report> {
    let how = "closed loop, two threads, 10 workers; by hand: two channels, no controls";
    let mut report =
        Report { number: "all", title: "cost of all controls together", note: how, ..Report::default() };
    let calls = u64::from(scale.calls) / 5;
    let rounds = (WORK.as_secs_f64() * rounds_per_s()) as u64;
    let runtime = runtime();
    let mut pace = Pace::default();
    let cases = [
        ("nothing to do", 0, 1, calls),
        ("nothing to do", 0, CALLERS, calls),
        ("100 µs of work", rounds, CALLERS, calls / 10),
    ];
    for (what, rounds, callers, calls) in cases {
        let mut of = [const { (Vec::new(), Vec::new()) }; 2];
        for round in 0..scale.rounds {
            pace.look();
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for place in order {
                let (rate, times) = runtime.block_on(async {
                    if place == 0 {
                        let (node, line) = start().await;
                        let driven = drive(callers, calls, move || {
                            let line = line.clone();
                            async move { line.submit(Signal::new(rounds), &()).await.is_ok() }
                        })
                        .await;
                        node.stop("measured").await.expect("it stops");
                        driven
                    } else {
                        let pool = by_hand();
                        drive(callers, calls, move || {
                            let pool = pool.clone();
                            async move {
                                let (answer, answered) = oneshot::channel();
                                pool.send((rounds, answer)).await.is_ok() && answered.await.is_ok()
                            }
                        })
                        .await
                    }
                });
                of[place].0.push(rate / 1e3);
                of[place].1.push(quantile(&times, 0.5));
            }
        }
        let [(ours, ours_p50), (theirs, theirs_p50)] = of;
        let pairs: Vec<_> = ours.iter().copied().zip(theirs.iter().copied()).collect();
        let ratios = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        let case = format!("{what}, {callers} caller(s)");
        let mut finding = Finding::new(&case, "thousand signals/s", ours).beside("by hand", theirs);
        finding.ratio = Ratio::of("by hand", &pairs);
        if rounds == 0 && callers == CALLERS {
            finding = finding.at_least(760.0 / pace.slower());
        }
        report.findings.push(finding);
        if callers == 1 {
            let p50 = Finding::new(&case, "p50, µs", ours_p50).at_most(4.0 * pace.slower());
            report.findings.push(p50.beside("by hand", theirs_p50));
        }
        if 0 < rounds {
            report.findings.push(Finding::new(&case, "rate / without controls", ratios).at_least(0.9));
        }
    }
    runtime.shutdown_timeout(Duration::from_millis(100));
    report.slower = Some(pace.slower());
    vec![report]
}
