//! Log lines for people and machines, and spans for OpenTelemetry.

use std::str::FromStr;

use gemba_core::sampling::Sampling;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::tail::sampled;

/// What the spans of a signal are filed under.
const SIGNAL_TARGET: &str = "gemba::signal";

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line a fact, for people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// The text is neither `text` nor `json`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log format '{0}' is unknown; write `text` or `json`")]
pub struct UnknownFormat(String);

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// `RUST_LOG` cannot be read.
    #[error("RUST_LOG cannot be read; write for example `info,gemba=debug`")]
    Filter(#[from] tracing_subscriber::filter::FromEnvError),
    /// The exporter of spans cannot be made.
    #[error(
        "the endpoint for spans cannot be used; set OTEL_EXPORTER_OTLP_ENDPOINT to something like `http://127.0.0.1:4318`, or unset it"
    )]
    Exporter(#[from] ExporterBuildError),
    /// The program has set up logging already.
    #[error("logging is set up already; do it once, first thing in `main`")]
    Taken(#[from] TryInitError),
}

/// Log lines on standard error, filtered by `RUST_LOG` (default `info`), and, when
/// `OTEL_EXPORTER_OTLP_ENDPOINT` is set, spans over OTLP (http, protobuf).
///
/// Spans cost nothing while nobody asks for them. The queue to the exporter is bounded, and a slow or dead
/// collector delays no signal: what does not fit is dropped and counted by the SDK.
#[derive(Debug, Clone)]
pub struct Logs {
    service: String,
    format: LogFormat,
    sampling: Option<Sampling>,
}

impl Logs {
    /// Logs of the service called `service`; `OTEL_SERVICE_NAME` overrides it in spans.
    pub fn new(service: &str) -> Self {
        Self { service: service.to_owned(), format: LogFormat::Text, sampling: None }
    }

    /// How lines are written.
    pub fn format(mut self, format: LogFormat) -> Self {
        self.format = format;
        self
    }

    /// Which traces are exported. Without it `OTEL_TRACES_SAMPLER` says so, at their begin only.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// Sets logging up for the whole process. Keep the guard until the end of `main`: it sends the last spans.
    ///
    /// # Errors
    ///
    /// [`LogsError`]; nothing was set up.
    pub fn init(self) -> Result<LogGuard, LogsError> {
        let filter = EnvFilter::builder()
            .with_default_directive(tracing::Level::INFO.into())
            .from_env()?
            // Every actor lives in a span of ractor's: exported at its death, entered at every poll.
            .add_directive("ractor=warn".parse().expect("a valid literal"));
        let lines: Box<dyn Layer<Registry> + Send + Sync> = match self.format {
            LogFormat::Text => {
                fmt::layer().with_writer(std::io::stderr).with_target(false).with_filter(filter).boxed()
            }
            LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).with_filter(filter).boxed(),
        };
        let provider = self.provider()?;
        let spans = provider.as_ref().map(|provider| {
            let filter =
                tracing_subscriber::filter::Targets::new().with_target(SIGNAL_TARGET, tracing::Level::DEBUG);
            tracing_opentelemetry::layer().with_tracer(provider.tracer("gemba")).with_filter(filter)
        });
        tracing_subscriber::registry().with(lines).with(spans).try_init()?;
        Ok(LogGuard(provider))
    }

    fn provider(&self) -> Result<Option<SdkTracerProvider>, LogsError> {
        let wanted = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        if wanted.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(None);
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(self.service.clone());
        }
        let provider = match self.sampling {
            None => SdkTracerProvider::builder().with_batch_exporter(exporter),
            Some(sampling) => sampled(sampling, exporter),
        };
        let provider = provider.with_resource(resource.build());
        Ok(Some(provider.build()))
    }
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
#[must_use = "the last spans are sent when the guard is dropped at the end of `main`"]
pub struct LogGuard(Option<SdkTracerProvider>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_has_one_of_two_names() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "log format 'xml' is unknown; write `text` or `json`");
    }
}
