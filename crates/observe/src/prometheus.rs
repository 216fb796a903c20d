//! Metrics in the text format of Prometheus, one recorder a node: nothing is global.

use std::fmt;
use std::sync::Arc;

use gemba_core::metric::{self, Kind};
use metrics::Recorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Upper bounds of the buckets of phases, in seconds: a policy takes a microsecond.
const PHASE_BUCKETS: &[f64] = &[
    0.000_000_5,
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.001,
    0.005,
    0.025,
    0.1,
    0.5,
    1.0,
    5.0,
];

/// Upper bounds of the buckets of lead times, in seconds: a card may rest for hours.
const LEAD_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0,
    86_400.0,
];

/// A recorder for a node's metrics, and the page it renders.
#[derive(Clone)]
pub struct Prometheus {
    recorder: Arc<PrometheusRecorder>,
    page: PrometheusHandle,
}

impl Prometheus {
    /// A recorder that knows the buckets of the metric table.
    pub fn new() -> Self {
        let durations = metric::ALL.iter().filter(|metric| metric.kind == Kind::Histogram);
        let builder = durations.fold(PrometheusBuilder::new(), |builder, metric| {
            let buckets = match *metric {
                metric::QUEUE_LEAD => LEAD_BUCKETS,
                metric::PHASE => PHASE_BUCKETS,
                _ => BUCKETS,
            };
            builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                .expect("the list of buckets is not empty")
        });
        let recorder = builder.build_recorder();
        let page = recorder.handle();
        Self { recorder: Arc::new(recorder), page }
    }

    /// Where metrics are written to.
    pub fn recorder(&self) -> Arc<dyn Recorder + Send + Sync> {
        self.recorder.clone()
    }

    /// The page as it is now.
    pub fn render(&self) -> String {
        // Folds the samples since the last scrape into the buckets, which bounds what is kept between two.
        self.page.run_upkeep();
        self.page.render()
    }

    /// Folds what has been sampled into the buckets. For a node that nobody scrapes.
    pub fn upkeep(&self) {
        self.page.run_upkeep();
    }
}

impl Default for Prometheus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prometheus")
    }
}
