//! The way into a cluster: a client, made when it is first needed.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::adapter::Trouble;
use crate::adapter::settings::KubernetesSettings;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// A client once there is one.
#[derive(Default)]
pub(super) struct Access(Option<Client>);

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Access").field(&self.0.is_some()).finish()
    }
}

impl Access {
    pub(super) async fn client(&mut self, settings: &KubernetesSettings) -> Result<Client, Trouble> {
        if let Some(client) = &self.0 {
            return Ok(client.clone());
        }
        let mut config = config(settings).await?;
        config.connect_timeout = Some(CONNECT_MAX);
        // Lanes try again by themselves, and a rollback does not wait behind somebody else's patience.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| {
            Trouble::lasting(format!("the kubeconfig cannot be used: {}", crate::chain(&error)))
        })?;
        self.0 = Some(client.clone());
        Ok(client)
    }
}

async fn config(settings: &KubernetesSettings) -> Result<Config, Trouble> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &settings.kubeconfig {
        let wrong = |error: KubeconfigError| {
            let (file, error) = (file.display(), crate::chain(&error));
            Trouble::lasting(format!("the kubeconfig {file} cannot be used: {error}"))
        };
        let read = Kubeconfig::read_from(file).map_err(wrong)?;
        return Config::from_custom_kubeconfig(read, &options).await.map_err(wrong);
    }
    let found = match &settings.context {
        Some(_) => Config::from_kubeconfig(&options).await.map_err(|error| crate::chain(&error)),
        None => Config::infer().await.map_err(|error| crate::chain(&error)),
    };
    found.map_err(|error| {
        Trouble::lasting(format!(
            "no cluster is known: {error}; name a kubeconfig with the setting kubeconfig"
        ))
    })
}
