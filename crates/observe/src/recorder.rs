//! A cell: where instruments write to. Gauges are the exporter's; counters and histograms are parted among threads.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};

use crate::parts::{Buckets, Count, Totals};

/// All series there are, by key: whoever asks for the same one gets the same one.
pub(crate) struct Parted {
    exporter: PrometheusRecorder,
    bounds: fn(name: &str) -> &'static [f64],
    counters: Mutex<BTreeMap<Key, (Arc<Count>, Counter)>>,
    histograms: Mutex<Histograms>,
}

#[derive(Default)]
struct Histograms {
    series: BTreeMap<Key, Arc<Buckets>>,
    help: BTreeMap<String, SharedString>,
}

impl Parted {
    /// `bounds` are the upper ones of a histogram's buckets, by its name.
    pub(crate) fn new(exporter: PrometheusRecorder, bounds: fn(&str) -> &'static [f64]) -> Self {
        let (counters, histograms) = (Mutex::default(), Mutex::default());
        Self { exporter, bounds, counters, histograms }
    }

    fn counters(&self) -> MutexGuard<'_, BTreeMap<Key, (Arc<Count>, Counter)>> {
        self.counters.lock().expect("nothing panics while it holds the counters")
    }

    fn histograms(&self) -> MutexGuard<'_, Histograms> {
        self.histograms.lock().expect("nothing panics while it holds the histograms")
    }

    /// Tells the exporter how far the counters are.
    pub(crate) fn fold(&self) {
        for (count, shown) in self.counters().values() {
            shown.absolute(count.total());
        }
    }

    /// Writes the histograms in the text format.
    pub(crate) fn write_histograms(&self, page: &mut String) {
        let Histograms { series, help } = &*self.histograms();
        let mut last = "";
        for (key, buckets) in series {
            let name = key.name();
            if name != last {
                if let Some(help) = help.get(name) {
                    write_help_line(page, name, None, None, help);
                }
                write_type_line(page, name, None, None, "histogram");
                last = name;
            }
            write_series(page, key, buckets);
        }
    }
}

fn write_series(page: &mut String, key: &Key, buckets: &Buckets) {
    let name = key.name();
    let labels =
        key.labels().map(|label| format!("{}=\"{}\"", label.key(), sanitize_label_value(label.value())));
    let labels = labels.collect::<Vec<_>>().join(",");
    let comma = if labels.is_empty() { "" } else { "," };
    let Totals { counts, sum } = buckets.totals();
    let mut so_far = 0;
    // Writing to a string cannot fail.
    for (bound, count) in buckets.bounds().iter().zip(&counts) {
        so_far += count;
        let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {so_far}");
    }
    let all = counts.iter().sum::<u64>();
    let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {all}");
    let _ = writeln!(page, "{name}_sum{{{labels}}} {sum}");
    let _ = writeln!(page, "{name}_count{{{labels}}} {all}");
}

impl Recorder for Parted {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.histograms().help.insert(name.as_str().to_owned(), help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let mut counters = self.counters();
        if let Some((count, _)) = counters.get(key) {
            return Counter::from_arc(count.clone());
        }
        let count = Arc::new(Count::default());
        let shown = self.exporter.register_counter(key, metadata);
        counters.insert(key.clone(), (count.clone(), shown));
        Counter::from_arc(count)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut histograms = self.histograms();
        if let Some(buckets) = histograms.series.get(key) {
            return Histogram::from_arc(buckets.clone());
        }
        let buckets = Arc::new(Buckets::new((self.bounds)(key.name())));
        histograms.series.insert(key.clone(), buckets.clone());
        Histogram::from_arc(buckets)
    }
}
