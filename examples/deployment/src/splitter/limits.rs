//! What a splitter allows: each limit with its name, its unit and its range.

use std::time::Duration;

/// Requests at once on one connection of HTTP/2.
pub(crate) const STREAMS_MAX: u32 = 128;

/// Header fields of one request.
pub(crate) const FIELDS_MAX: usize = 100;

/// Instances that are asked before a request is given up.
pub(crate) const ATTEMPTS_MAX: usize = 3;

/// How long a connection to an instance may take; they are near.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a connection to an instance is kept that nobody uses. Shorter than what servers usually keep one open (Node
/// 5 s apart: 60 s and more), so that it is closed on this side, where no request can be on its way.
pub(crate) const KEEP_MAX: Duration = Duration::from_secs(30);

/// Connections kept to each instance by each thread.
pub(crate) const KEPT_MAX: usize = 256;

/// How long an idle connection is kept open by a splitter that handed over: its caller's next request is answered,
/// and told to come to the new one. Closed at once, a connection might have a request on its way.
pub(crate) const LINGER: Duration = Duration::from_secs(3);

/// The limits of a splitter.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// How long an instance may take for the head of its answer, counted from the end of the request or from the last
    /// part of it that moved.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub answer_max_ms: u64,
    /// How long a caller may take to send the head of a request.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub head_max_ms: u64,
    /// How long a connection is kept on which nothing moves: between requests, within one beyond the time its instance
    /// has, and in a tunnel.
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub idle_max_ms: u64,
    /// The size of the head of a request.
    #[arg(long, value_name = "BYTES", default_value_t = 32_768, value_parser = clap::value_parser!(u32).range(8_192..=1_048_576))]
    pub head_bytes_max: u32,
    /// Connections at once; more wait to be accepted. By default below the 1024 descriptors that a process usually has,
    /// with room for those to instances.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub connections_max: u32,
    /// Threads; each has its connections and those to instances for itself. By default one for each processor.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    /// Believe what callers say about those before them (`X-Forwarded-*`, `Forwarded`), and add to it; for a splitter
    /// behind a proxy. Else it is replaced.
    #[arg(long)]
    pub trust_forwarded: bool,
}

impl Limits {
    pub(crate) const fn answer_max(&self) -> Duration {
        Duration::from_millis(self.answer_max_ms)
    }

    pub(crate) const fn head_max(&self) -> Duration {
        Duration::from_millis(self.head_max_ms)
    }

    pub(crate) const fn idle_max(&self) -> Duration {
        Duration::from_millis(self.idle_max_ms)
    }

    pub(crate) fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(64);
        self.threads.map_or_else(processors, usize::from)
    }
}
