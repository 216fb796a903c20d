//! Metrics in the text format of Prometheus, one recorder a node: nothing is global.

use std::fmt;
use std::sync::Arc;

use gemba_core::metric;
use metrics::Recorder;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::recorder::Parted;

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

/// The upper bounds of a histogram's buckets.
fn bounds(name: &str) -> &'static [f64] {
    if name == metric::QUEUE_LEAD.name {
        LEAD_BUCKETS
    } else if name == metric::PHASE.name {
        PHASE_BUCKETS
    } else {
        BUCKETS
    }
}

/// A recorder for a node's metrics, and the page it renders.
///
/// # Units and limits
///
/// Each thread counts for itself: an increment or a sample costs about the same on any number of threads, and
/// nothing is kept of a sample but its bucket, so that a node nobody scrapes does not grow. A series stays until
/// the node ends.
#[derive(Clone)]
pub struct Prometheus {
    recorder: Arc<Parted>,
    page: PrometheusHandle,
}

impl Prometheus {
    /// A recorder that knows the buckets of the metric table; other histograms have those of latencies.
    pub fn new() -> Self {
        let exporter = PrometheusBuilder::new().build_recorder();
        let page = exporter.handle();
        Self { recorder: Arc::new(Parted::new(exporter, bounds)), page }
    }

    /// Where metrics are written to.
    pub fn recorder(&self) -> Arc<dyn Recorder + Send + Sync> {
        self.recorder.clone()
    }

    /// The page as it is now.
    pub fn render(&self) -> String {
        self.recorder.fold();
        let mut page = self.page.render();
        self.recorder.write_histograms(&mut page);
        page
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

#[cfg(test)]
mod tests {
    use metrics::{Key, Label, Level, Metadata};

    use super::*;

    const METADATA: Metadata<'static> = Metadata::new("test", Level::INFO, None);

    #[test]
    fn a_page_has_each_series_once_with_cumulated_buckets() {
        let prometheus = Prometheus::new();
        let recorder = prometheus.recorder();
        recorder.describe_histogram("gemba_wait_seconds".into(), None, "How long.".into());
        let key =
            |line: &str| Key::from_parts("gemba_wait_seconds", vec![Label::new("line", line.to_owned())]);
        for value in [0.000_05, 0.004, 0.004, 60.0] {
            // The same series, however often it is asked for.
            recorder.register_histogram(&key("a\"b"), &METADATA).record(value);
        }
        let counter = || recorder.register_counter(&Key::from_name("gemba_done_total"), &METADATA);
        counter().increment(2);
        counter().increment(3);
        let page = prometheus.render();
        for line in [
            "# HELP gemba_wait_seconds How long.",
            "# TYPE gemba_wait_seconds histogram",
            "gemba_wait_seconds_bucket{line=\"a\\\"b\",le=\"0.0001\"} 1",
            "gemba_wait_seconds_bucket{line=\"a\\\"b\",le=\"0.005\"} 3",
            "gemba_wait_seconds_bucket{line=\"a\\\"b\",le=\"10\"} 3",
            "gemba_wait_seconds_bucket{line=\"a\\\"b\",le=\"+Inf\"} 4",
            "gemba_wait_seconds_sum{line=\"a\\\"b\"} 60.00805",
            "gemba_wait_seconds_count{line=\"a\\\"b\"} 4",
            "gemba_done_total 5",
        ] {
            assert_eq!(page.lines().filter(|found| *found == line).count(), 1, "{line} in\n{page}");
        }
        assert!(prometheus.render().contains("gemba_done_total 5\n"), "folded again, counted once");
    }
}
