//! E18: what it costs to count, to measure, to trace what is not sampled, and to be scraped.

use std::time::Instant;

use gemba::{Instruments, metric};
use gemba_observe::Prometheus;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

use crate::closed::{millis, nanos};
use crate::finding::{Finding, Report};
use crate::pace::Pace;
use crate::scale::Scale;

/// Series on the page that is rendered.
const SERIES: u32 = 1_000;

pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note = "ns of one call, each thread; handles are kept, never looked up";
    let mut report = Report { number: "E18", title: "cost of observing", note, ..Report::default() };
    let mut pace = Pace::default();
    for threads in [1, 2] {
        let (mut counters, mut histograms, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            pace.look();
            let instruments = Instruments::new(Prometheus::new().recorder());
            let counter = instruments.counter(&metric::SIGNALS, &["line", "succeeded"]);
            counters.push(nanos(threads, scale.calls, &|| counter.increment(1)));
            let histogram = instruments.histogram(&metric::LATENCY, &["line"]);
            histograms.push(nanos(threads, scale.calls, &|| histogram.record(0.004)));
            spans.push(unsampled(threads, scale.calls));
        }
        let (case, slower) = (format!("{threads} thread(s)"), pace.slower());
        report.findings.push(Finding::new(&case, "counter, ns", counters).at_most(12.0 * slower));
        report.findings.push(Finding::new(&case, "histogram, ns", histograms).at_most(8.0 * slower));
        report.findings.push(Finding::new(&case, "unsampled span, ns", spans).at_most(30.0 * slower));
    }
    let scrapes = (0..scale.rounds).map(|_| scrape()).collect();
    report
        .findings
        .push(Finding::new(format!("{SERIES} series"), "scrape, ms", scrapes).at_most(5.0 * pace.slower()));
    let lost = sampled();
    report.findings.push(Finding::new("2 threads, one scraper", "samples lost", vec![lost]).at_most(0.0));
    report.slower = Some(pace.slower());
    vec![report]
}

/// A span below the level that is listened to, as a signal's is while nobody traces.
fn unsampled(threads: usize, calls: u32) -> f64 {
    let listening = tracing_subscriber::registry().with(LevelFilter::INFO);
    let listening = tracing::Dispatch::new(listening);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _listening = tracing::dispatcher::set_default(&listening);
                for _ in 0..calls {
                    let span = tracing::debug_span!(target: "gemba::signal", "process_signal", line = "work");
                    span.in_scope(|| std::hint::black_box(()));
                }
            });
        }
    });
    begun.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn scrape() -> f64 {
    let prometheus = Prometheus::new();
    let instruments = Instruments::new(prometheus.recorder());
    for number in 0..SERIES {
        instruments.counter(&metric::SIGNALS, &[&format!("line-{number}"), "succeeded"]).increment(7);
    }
    let begun = Instant::now();
    let page = prometheus.render();
    let took = millis(begun.elapsed());
    assert!(SERIES as usize <= page.lines().count(), "every series is on the page");
    took
}

/// Counts that are missing from the page when two threads have counted while it was rendered.
fn sampled() -> f64 {
    const EACH: u64 = 200_000;
    let prometheus = Prometheus::new();
    let instruments = Instruments::new(prometheus.recorder());
    let counter = instruments.counter(&metric::SIGNALS, &["work", "succeeded"]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..EACH).for_each(|_| counter.increment(1)));
        }
        scope.spawn(|| (0..50).for_each(|_| drop(prometheus.render())));
    });
    let page = prometheus.render();
    let line = page.lines().find(|line| line.starts_with(metric::SIGNALS.name)).expect("it is on the page");
    let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number");
    (2 * EACH) as f64 - value
}
