//! A card processor to try the service against: idempotent by reference, with a record of its own and faults on dials.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::host::{self, HostError, ListenAddress};

mod dials;
mod http;
mod record;
pub mod wire;

pub use dials::{Dials, LATENCY_MS_MAX};

/// What the gateway is started with.
#[derive(Debug, Clone, clap::Args)]
pub struct GatewayOptions {
    /// Where it listens; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    pub listen: ListenAddress,
    /// The file of its record; made if there is none.
    #[arg(long, value_name = "FILE", default_value = "gateway.db")]
    pub database: PathBuf,
    /// How it behaves; `PUT /dials` changes it while it runs.
    #[command(flatten)]
    pub dials: Dials,
}

/// Runs the gateway until the process is asked to stop.
///
/// # Errors
///
/// [`HostError`] if its address or its file cannot be used.
pub async fn run(options: GatewayOptions) -> Result<(), HostError> {
    let record = record::Record::open(&options.database)
        .map_err(|source| HostError::Database { file: options.database.clone(), source })?;
    let (stop, stopping) = watch::channel(false);
    let router = http::router(http::Desk::new(record.clone(), options.dials, stopping));
    let listener = host::bind(&options.listen).await?;
    host::serve_until_signal(listener, router, stop, record.stopped()).await
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::net::TcpListener;

    use super::record::Record;
    use super::wire::Summary;
    use super::{Dials, http, watch};
    use crate::gateway_client::GatewayClient;

    /// The real gateway, in this process.
    pub(crate) struct TestGateway {
        pub(crate) client: GatewayClient,
        record: Record,
        _directory: tempfile::TempDir,
        _stop: watch::Sender<bool>,
    }

    impl TestGateway {
        pub(crate) async fn start(dials: Dials) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let record = Record::open(&directory.path().join("gateway.db")).unwrap();
            let (stop, stopping) = watch::channel(false);
            let router = http::router(http::Desk::new(record.clone(), dials, stopping));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = GatewayClient::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
            tokio::spawn(async move { axum::serve(listener, router).await });
            Self { client, record, _directory: directory, _stop: stop }
        }

        pub(crate) async fn summary(&self) -> Summary {
            self.record.summary().await.unwrap()
        }
    }
}
