//! Sets up tracing, OpenTelemetry and Prometheus.

mod logs;
mod parts;
mod prometheus;
mod recorder;
mod sampler;
mod tail;

pub use gemba_core::sampling::{Head, Sampling, SamplingError};
pub use logs::{LogFormat, LogGuard, Logs, LogsError};
pub use prometheus::Prometheus;
pub use tail::sampled;
