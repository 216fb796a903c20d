//! Sets up tracing, OpenTelemetry and Prometheus.

mod logs;
mod prometheus;

pub use logs::{LogFormat, LogGuard, Logs, LogsError};
pub use prometheus::Prometheus;
