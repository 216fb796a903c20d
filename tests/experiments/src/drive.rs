//! The open-loop generator: sends what a trace says when it says so, whatever becomes of what was sent.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gemba::admission::Tier;
use gemba::sim::client::Client;
use gemba::sim::draw::Draw;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::contenders::{Contender, End, Job, Kind};
use crate::finding::quantile;
use crate::trace::{Arrival, Trace};
use crate::work::Work;

/// A run whose generator was later than this at the 99th percentile is void (FLOW-EVIDENCE.md, 4.1).
const LAG_MAX: Duration = Duration::from_millis(2);

/// How long answers are waited for beyond the last deadline.
const DRAIN: Duration = Duration::from_millis(200);

/// Tenths of a retry that the clients' budget holds at the beginning, and at most.
/// A success pays for one.
const BUDGET_FIRST: usize = 100;
const BUDGET_MAX: usize = 1_000;

/// A retry costs this many tenths.
const TENTHS: u32 = 10;

/// What became of one arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub at: Duration,
    pub tier: Tier,
    pub tenant: u8,
    /// Answered correctly, before the deadline of its attempt.
    pub good: bool,
    /// The last attempt was refused, with nothing done.
    pub refused: bool,
    /// From the intended arrival to the last answer.
    pub latency: Duration,
    pub attempts: u8,
    /// How long the last attempt's work was to take, and how long it took, if it was done.
    pub drawn: Duration,
    pub took: Option<Duration>,
}

/// What became of a trace.
#[derive(Debug)]
pub(crate) struct Run {
    /// By arrival.
    pub samples: Vec<Sample>,
    /// The 99th percentile of how late the generator was.
    pub lag: Duration,
    pub trace: Arc<Trace>,
    /// Workers per mean of what the work took: what could be done in a second at most.
    pub capacity_per_s: f64,
}

impl Run {
    pub(crate) fn is_void(&self) -> bool {
        LAG_MAX < self.lag
    }

    /// Those that should have arrived in this time.
    pub(crate) fn within(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| from <= sample.at && sample.at < to)
    }

    /// Good answers per second that came in this time, over what could be done.
    pub(crate) fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let came = |sample: &&Sample| sample.good && (from..to).contains(&(sample.at + sample.latency));
        let good = self.samples.iter().filter(came).count() as f64;
        good / to.saturating_sub(from).as_secs_f64() / self.capacity_per_s
    }

    /// Latencies of good answers to what arrived in this time, sorted, in ms.
    pub(crate) fn latencies_ms(&self, from: Duration, to: Duration) -> Vec<f64> {
        let good = self.within(from, to).filter(|sample| sample.good);
        let mut latencies: Vec<f64> = good.map(|sample| sample.latency.as_secs_f64() * 1e3).collect();
        latencies.sort_by(f64::total_cmp);
        latencies
    }
}

/// What the callers of one run share.
struct Callers {
    contender: Box<dyn Contender>,
    trace: Arc<Trace>,
    begin: Instant,
    client: Client,
    /// Tenths of retries that may be made.
    budget: Semaphore,
    samples: Vec<OnceLock<Sample>>,
    spins: bool,
}

/// Takes the trace through a contender, on a runtime of its own that ends with it.
pub(crate) fn run(kind: Kind, trace: &Arc<Trace>, client: Client) -> Run {
    let spins = trace.model.workers == 1;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // One processor is for the work that spins.
        .worker_threads(if spins { 1 } else { 2 })
        .enable_all()
        .build()
        .expect("a runtime of one or two threads");
    let run = runtime.block_on(async {
        let contender = kind.start(&trace.model).await;
        let callers = Callers {
            contender,
            trace: trace.clone(),
            // What is started with the contender is over by then.
            begin: earlier(Instant::now() + Duration::from_millis(50), trace.begins),
            client,
            budget: Semaphore::new(BUDGET_FIRST),
            samples: trace.arrivals.iter().map(|_| OnceLock::new()).collect(),
            spins,
        };
        drive(Arc::new(callers)).await
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    run
}

/// What a clock that began with this machine can tell: traces are shorter than that.
fn earlier(at: Instant, by: Duration) -> Instant {
    at.checked_sub(by).expect("the machine runs longer than a trace lasts")
}

async fn drive(callers: Arc<Callers>) -> Run {
    let runtime = tokio::runtime::Handle::current();
    let trace = callers.trace.clone();
    let generator = callers.clone();
    // A thread of its own: tokio's timers tick in milliseconds.
    let thread = std::thread::spawn(move || {
        let (mut tasks, mut lags) = (JoinSet::new(), Vec::new());
        for index in 0..generator.trace.arrivals.len() {
            let intended = generator.begin + generator.trace.arrivals[index].at;
            let wait = intended.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            lags.push(intended.elapsed().as_secs_f64());
            tasks.spawn_on(generator.clone().call(index), &runtime);
        }
        (tasks, lags)
    });
    let (_tasks, mut lags) = tokio::task::spawn_blocking(move || thread.join())
        .await
        .expect("the join does not panic")
        .expect("the generator does not panic");
    let attempts = u32::from(callers.client.retries) + 1;
    let drain = (trace.model.deadline + DRAIN) * attempts;
    let until = callers.begin + trace.lasts + drain;
    while Instant::now() < until && callers.samples.iter().any(|sample| sample.get().is_none()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lags.sort_by(f64::total_cmp);
    let samples: Vec<Sample> = callers
        .samples
        .iter()
        .zip(&trace.arrivals)
        .map(|(sample, arrival)| {
            sample.get().copied().unwrap_or(Sample {
                at: arrival.at,
                tier: arrival.tier,
                tenant: arrival.tenant,
                good: false,
                refused: false,
                latency: drain,
                attempts: 1,
                drawn: arrival.work,
                took: None,
            })
        })
        .collect();
    let capacity_per_s = capacity(&trace, &samples);
    let lag = Duration::from_secs_f64(quantile(&lags, 0.99));
    Run { samples, lag, trace, capacity_per_s }
}

/// What the workers can do in a second, given how much longer work took than was drawn: a timer ends late, and
/// a processor is shared.
fn capacity(trace: &Trace, samples: &[Sample]) -> f64 {
    let served: Vec<(Duration, Duration)> =
        samples.iter().filter_map(|sample| Some((sample.took?, sample.drawn))).collect();
    let sum = |pick: fn(&(Duration, Duration)) -> Duration| served.iter().map(pick).sum::<Duration>();
    let (took, drawn) = (sum(|pair| pair.0).as_secs_f64(), sum(|pair| pair.1).as_secs_f64());
    if drawn == 0.0 {
        return trace.model.capacity_per_s();
    }
    let mean = trace.model.service.as_secs_f64();
    let stretched = if trace.model.workers == 1 {
        mean * took / drawn
    } else {
        mean + (took - drawn) / served.len() as f64
    };
    f64::from(trace.model.workers) / stretched
}

impl Callers {
    async fn call(self: Arc<Self>, index: usize) {
        let arrival = self.trace.arrivals[index];
        let intended = self.begin + arrival.at;
        let mut pauses = Draw::new(index as u64, 4);
        let (mut attempt, mut due) = (0, intended + self.trace.model.deadline);
        let (mut took, mut refused, mut good, mut drawn);
        loop {
            let work = self.trace.work(index, attempt);
            (took, good, drawn) = (None, false, work);
            let doing = self.doing(work);
            let Arrival { tier, tenant, .. } = arrival;
            let job = Job { number: index as u32, attempt, tier, tenant, due, work: doing };
            let call = self.contender.call(job);
            let end = if self.client.retries == 0 {
                call.await
            } else {
                // Who tries again gives up on the attempt before.
                let limit = tokio::time::Instant::from_std(due);
                tokio::time::timeout_at(limit, call).await.unwrap_or(End::Late)
            };
            refused = matches!(end, End::Refused { .. });
            if let End::Served { took: time } = end {
                took = Some(time);
                good = Instant::now() <= due;
            }
            if good {
                self.reward();
                break;
            }
            let retry_after =
                if let End::Refused { retry_after } = end { retry_after } else { Duration::ZERO };
            let Some(pause) = self.retry(attempt, retry_after, &mut pauses) else { break };
            tokio::time::sleep(pause).await;
            attempt += 1;
            due = Instant::now() + self.trace.model.deadline;
        }
        let sample = Sample {
            at: arrival.at,
            tier: arrival.tier,
            tenant: arrival.tenant,
            good,
            refused,
            latency: intended.elapsed(),
            attempts: attempt + 1,
            drawn,
            took,
        };
        self.samples[index].set(sample).expect("an arrival ends once");
    }

    fn doing(&self, time: Duration) -> Work {
        match self.trace.slow {
            Some((from, to, slower)) => {
                Work::SleepIn { time, from: self.begin + from, to: self.begin + to, slower }
            }
            None if self.spins => Work::Spin(time),
            None => Work::Sleep(time),
        }
    }

    fn reward(&self) {
        if self.client.budget.is_some() && self.budget.available_permits() < BUDGET_MAX {
            self.budget.add_permits(1);
        }
    }

    /// When to try again, if at all.
    fn retry(&self, attempt: u8, retry_after: Duration, pauses: &mut Draw) -> Option<Duration> {
        if self.client.retries <= attempt {
            return None;
        }
        if self.client.budget.is_some() {
            self.budget.try_acquire_many(TENTHS).ok()?.forget();
        }
        let pause = self.client.pause * 2u32.pow(u32::from(attempt));
        let pause = if self.client.jitter { pause.mul_f64(pauses.uniform()) } else { pause };
        Some(if self.client.heeds { pause + retry_after } else { pause })
    }
}
