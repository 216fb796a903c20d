//! Ways to call as fast as answers come: for what things cost, not for how they bear load.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::finding::quantile;

/// Nanoseconds of one `call`, made `times` times by each of `threads` at once.
pub(crate) fn nanos(threads: usize, times: u32, call: &(dyn Fn() + Sync)) -> f64 {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..times).for_each(|_| call()));
        }
    });
    begun.elapsed().as_nanos() as f64 / f64::from(times)
}

/// A runtime of two threads.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime of two threads")
}

/// Calls a second from `callers` tasks, `calls` in all, and the sorted times of single calls in µs.
pub(crate) async fn drive<F: Future<Output = bool> + Send>(
    callers: u64,
    calls: u64,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> (f64, Vec<f64>) {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let mut times = Vec::with_capacity((calls / callers) as usize);
                for _ in 0..calls / callers {
                    let begun = Instant::now();
                    assert!(call().await, "every call is answered");
                    times.push(micros(begun.elapsed()));
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a caller does not panic"));
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    (rate, times)
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value below which `share` of the figures lie.
pub(crate) fn at(mut figures: Vec<f64>, share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    quantile(&figures, share)
}
