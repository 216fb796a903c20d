//! Log lines for people and machines; spans of signals and changes of lights for OpenTelemetry.

use std::str::FromStr;

use gemba_core::sampling::Sampling;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::tail::sampled;

/// What the spans of a signal are filed under.
const SIGNAL_TARGET: &str = "gemba::signal";

/// What the changes of lights are filed under: the events that OpenTelemetry gets.
const ANDON_TARGET: &str = "gemba::andon";

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
    /// An exporter of spans or events cannot be made.
    #[error(
        "the endpoint for spans and events cannot be used; set OTEL_EXPORTER_OTLP_ENDPOINT to something like `http://127.0.0.1:4318`, or unset it"
    )]
    Exporter(#[from] ExporterBuildError),
    /// The program has set up logging already.
    #[error("logging is set up already; do it once, first thing in `main`")]
    Taken(#[from] TryInitError),
}

/// Log lines on standard error, filtered by `RUST_LOG` (default `info`), and, when
/// `OTEL_EXPORTER_OTLP_ENDPOINT` is set, spans of signals and changes of lights over OTLP (http, protobuf).
///
/// A change of a light is a log record named `gemba.andon.light`, with the station, the light before and now, the
/// receipt and its cause; its severity is that of the light.
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
            let filter = Targets::new().with_target(SIGNAL_TARGET, tracing::Level::DEBUG);
            tracing_opentelemetry::layer().with_tracer(provider.tracer("gemba")).with_filter(filter)
        });
        let logger = self.logger()?;
        let lights = logger.as_ref().map(lights);
        tracing_subscriber::registry().with(lines).with(spans).with(lights).try_init()?;
        Ok(LogGuard { spans: provider, lights: logger })
    }

    fn provider(&self) -> Result<Option<SdkTracerProvider>, LogsError> {
        if !is_wanted("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            return Ok(None);
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
        let provider = match self.sampling {
            None => SdkTracerProvider::builder().with_batch_exporter(exporter),
            Some(sampling) => sampled(sampling, exporter),
        };
        Ok(Some(provider.with_resource(self.resource()).build()))
    }

    fn logger(&self) -> Result<Option<SdkLoggerProvider>, LogsError> {
        if !is_wanted("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") {
            return Ok(None);
        }
        let exporter = opentelemetry_otlp::LogExporter::builder().with_http().build()?;
        let provider = SdkLoggerProvider::builder().with_batch_exporter(exporter);
        Ok(Some(provider.with_resource(self.resource()).build()))
    }

    fn resource(&self) -> Resource {
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(self.service.clone());
        }
        resource.build()
    }
}

/// Whether somebody said where to send, everything or this kind of data.
fn is_wanted(endpoint: &str) -> bool {
    ["OTEL_EXPORTER_OTLP_ENDPOINT", endpoint].iter().any(|name| std::env::var_os(name).is_some())
}

/// Hands the changes of lights, and nothing else, to a provider.
fn lights<S: Subscriber + for<'span> LookupSpan<'span>>(
    provider: &SdkLoggerProvider,
) -> impl Layer<S> + use<S> {
    let filter = Targets::new().with_target(ANDON_TARGET, tracing::Level::INFO);
    OpenTelemetryTracingBridge::new(provider).with_filter(filter)
}

/// Sends what is left when it is dropped.
#[derive(Debug)]
#[must_use = "the last spans and events are sent when the guard is dropped at the end of `main`"]
pub struct LogGuard {
    spans: Option<SdkTracerProvider>,
    lights: Option<SdkLoggerProvider>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(provider) = self.spans.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
        if let Some(provider) = self.lights.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last events were not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::logs::{AnyValue, Severity};
    use opentelemetry_sdk::logs::InMemoryLogExporter;

    use super::*;

    #[test]
    fn a_change_of_a_light_is_an_event_with_its_severity_and_what_else_is_logged_is_none() {
        let exporter = InMemoryLogExporter::default();
        let provider = SdkLoggerProvider::builder().with_simple_exporter(exporter.clone()).build();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lights(&provider)), || {
            tracing::error!(target: "gemba_kernel::scribe", "a worker died");
            tracing::error!(
                name: "gemba.andon.light", target: "gemba::andon", station = "line:payment", light = "red",
                seq = 7, "line:payment is red"
            );
        });
        let sent = exporter.get_emitted_logs().unwrap();
        let [event] = &sent[..] else { panic!("{sent:?}") };
        let record = &event.record;
        assert_eq!(
            (record.event_name(), record.severity_number()),
            (Some("gemba.andon.light"), Some(Severity::Error))
        );
        let of = |key: &str| {
            let found = record.attributes_iter().find(|(name, _)| name.as_str() == key);
            found.map(|(_, value)| value.clone())
        };
        assert_eq!(of("station"), Some(AnyValue::from("line:payment")));
        assert_eq!((of("light"), of("seq")), (Some(AnyValue::from("red")), Some(AnyValue::Int(7))));
    }

    #[test]
    fn a_format_has_one_of_two_names() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        let error = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "log format 'xml' is unknown; write `text` or `json`");
    }
}
