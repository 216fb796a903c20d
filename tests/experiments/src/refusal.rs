//! E4: how long a refusal takes while all are busy; and of E2, whether anybody is refused while all are idle.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use gemba::Signal;
use gemba::SubmitError;
use gemba::admission::Tier;
use tokio::sync::Semaphore;
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{Service, ServiceExt, service_fn};

use crate::closed::{micros, runtime};
use crate::contenders::{Contender, End, Job, Kind, ours};
use crate::finding::{Finding, Report, quantile};
use crate::pace::Pace;
use crate::scale::Scale;
use crate::trace::Model;
use crate::work::Work;

/// Signals that keep the line full, and how long each takes.
const FLOOD: usize = 2_000;
const LONG: Duration = Duration::from_millis(300);

/// Calls between two pauses in which the others may run.
const BATCH: u32 = 100;

/// Calls of one repetition.
const CALLS: u32 = 20_000;

/// E4.
pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note = "2000 callers keep the line full meanwhile, in the same runtime";
    let mut report = Report { number: "E4", title: "how long a refusal takes", note, ..Report::default() };
    let (mut ours, mut factory, mut tower) = (Vec::new(), Vec::new(), Vec::new());
    let mut pace = Pace::default();
    for _ in 0..scale.rounds {
        pace.look();
        ours.push(flooded(Kind::Ours));
        tower.push(flooded(Kind::Tower));
        factory.push(flooded(Kind::Factory));
    }
    let pick = |of: &[Vec<f64>], share| of.iter().map(|times| quantile(times, share)).collect::<Vec<_>>();
    for (figure, share, most) in [("p50, µs", 0.5, pace.slower()), ("p99, µs", 0.99, 50.0)] {
        let finding = Finding::new("refused at once", figure, pick(&ours, share)).at_most(most);
        let finding = finding.beside("tower", pick(&tower, share));
        report.findings.push(finding.beside("ractor factory", pick(&factory, share)));
    }
    report.slower = Some(pace.slower());
    vec![report]
}

/// Times of refusals in µs, sorted, while more callers than the line takes are at it.
fn flooded(kind: Kind) -> Vec<f64> {
    let runtime = runtime();
    let times = runtime.block_on(async move {
        let model = Model { deadline: Duration::from_secs(5), ..Model::SLEEPS };
        let contender: Arc<dyn Contender> = kind.start(&model).await.into();
        let job = move |work| Job {
            tenant: 0,
            number: 0,
            attempt: 0,
            tier: Tier::Normal,
            due: Instant::now() + model.deadline,
            work: Work::Sleep(work),
        };
        for _ in 0..FLOOD {
            let contender = contender.clone();
            tokio::spawn(async move {
                loop {
                    if let End::Refused { .. } = contender.call(job(LONG)).await {
                        tokio::time::sleep(LONG).await;
                    }
                }
            });
        }
        tokio::time::sleep(2 * LONG).await;
        tokio::spawn(async move {
            let mut times = Vec::new();
            for _ in 0..CALLS / BATCH {
                for _ in 0..BATCH {
                    let begun = Instant::now();
                    // A call that is let through would wait for its work: it is no refusal, and goes away.
                    let call = tokio::time::timeout(LONG / 10, contender.call(job(LONG)));
                    if let Ok(End::Refused { .. }) = call.await {
                        times.push(micros(begun.elapsed()));
                    }
                }
                tokio::task::yield_now().await;
            }
            times
        })
        .await
        .expect("the caller does not panic")
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    let mut times = times;
    times.sort_by(f64::total_cmp);
    times
}

/// E2's other half.
pub(crate) fn run_idle(scale: &Scale) -> Vec<Report> {
    let note = "two callers, 23 workers; the control is a permit that is asked for once, which tokio's cooperative budget refuses now and then";
    let mut report =
        Report { number: "E2i", title: "no refusal on an idle system", note, ..Report::default() };
    let runtime = runtime();
    let (through, admitted, tower, control) = runtime.block_on(async {
        let ours = ours::start(&Model { deadline: Duration::from_secs(5), ..Model::SLEEPS }).await;
        let half = scale.idle_signals / 2;
        let line = ours.line.clone();
        let through = twice(move || {
            let line = line.clone();
            async move {
                let mut refused = 0u64;
                for _ in 0..half {
                    // No time to sleep at all: the work is the way there and back.
                    match line.submit(Signal::new(Work::None), &()).await {
                        Ok(_) => {}
                        Err(SubmitError::Refused(_)) => refused += 1,
                        Err(error) => panic!("an idle line answers: {error}"),
                    }
                }
                refused
            }
        })
        .await;
        let regulator = ours.regulator.clone();
        let admitted = twice(move || {
            let regulator = regulator.clone();
            async move { (0..half).filter(|_| regulator.admit(Tier::Normal).is_err()).count() as u64 }
        })
        .await;
        let service = service_fn(|()| std::future::ready(Ok::<(), std::convert::Infallible>(())));
        let service = LoadShed::new(ConcurrencyLimit::new(service, Model::SLEEPS.workers as usize));
        let tower = twice(move || {
            let mut service = service.clone();
            async move {
                let mut refused = 0u64;
                for _ in 0..half / 10 {
                    let Ok(ready) = service.ready().await else { continue };
                    refused += u64::from(ready.call(()).await.is_err());
                }
                refused
            }
        })
        .await;
        let semaphore = Arc::new(Semaphore::new(Model::SLEEPS.workers as usize));
        let control =
            twice(move || {
                let semaphore = semaphore.clone();
                async move {
                    (0..half / 10).filter(|_| semaphore.acquire().now_or_never().is_none()).count() as u64
                }
            })
            .await;
        (through, admitted, tower, control)
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    let signals = scale.idle_signals;
    let finding = Finding::new(format!("{signals} through the line"), "refused", vec![through]).at_most(0.0);
    report.findings.push(finding);
    let finding =
        Finding::new(format!("{signals} permits, no pause"), "refused", vec![admitted]).at_most(0.0);
    report.findings.push(finding);
    let case = format!("{} of acquire() asked once, control", signals / 10);
    let control = Finding::new(case, "refused", vec![control]).at_least(1.0);
    report.findings.push(control.beside("tower", vec![tower]));
    vec![report]
}

/// Two at once; what both found together.
async fn twice<F: Future<Output = u64> + Send + 'static>(task: impl Fn() -> F) -> f64 {
    let (one, two) = (tokio::spawn(task()), tokio::spawn(task()));
    let count = one.await.expect("it does not panic") + two.await.expect("it does not panic");
    count as f64
}
