//! Instruments of the metric table: handles that are kept, never looked up per call.

use std::fmt;
use std::sync::Arc;

use gemba_core::metric::{ALL, Kind, Metric};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, NoopRecorder, Recorder, Unit};

/// Where a node's metrics go. Each node has its own: nothing here is global.
#[derive(Clone)]
pub struct Instruments(Arc<dyn Recorder + Send + Sync>);

const METADATA: Metadata<'static> = Metadata::new("gemba", Level::INFO, None);

impl Instruments {
    /// Instruments that write to `recorder`, which learns the whole table at once.
    pub fn new(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        let instruments = Self(recorder);
        instruments.describe(ALL);
        instruments
    }

    /// Says what metrics of the program's own are, so that the page explains them as it does those of the table. Once,
    /// before or after the first of them is counted.
    pub fn describe(&self, metrics: &[Metric]) {
        for metric in metrics {
            let unit = metric.name.ends_with("_seconds").then_some(Unit::Seconds);
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                Kind::Counter => self.0.describe_counter(name, unit, help),
                Kind::Gauge => self.0.describe_gauge(name, unit, help),
                Kind::Histogram => self.0.describe_histogram(name, unit, help),
            }
        }
    }

    /// The counter of this metric with these values of its labels, in the order of the table.
    pub fn counter(&self, metric: &Metric, labels: &[&str]) -> Counter {
        self.0.register_counter(&key(metric, labels), &METADATA)
    }

    /// The gauge of this metric.
    pub fn gauge(&self, metric: &Metric, labels: &[&str]) -> Gauge {
        self.0.register_gauge(&key(metric, labels), &METADATA)
    }

    /// The histogram of this metric.
    pub fn histogram(&self, metric: &Metric, labels: &[&str]) -> Histogram {
        self.0.register_histogram(&key(metric, labels), &METADATA)
    }
}

impl Default for Instruments {
    /// Instruments that go nowhere.
    fn default() -> Self {
        Self(Arc::new(NoopRecorder))
    }
}

fn key(metric: &Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels = metric.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

impl fmt::Debug for Instruments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instruments")
    }
}
