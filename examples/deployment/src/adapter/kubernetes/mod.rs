//! A cluster: a Deployment and a Service for each version, and the weights of an HTTPRoute of the Gateway API.
//!
//! ```text
//! Gateway ──► HTTPRoute api ─┬─ weight 500 ──► Service api-v2 ──► Deployment api-v2
//!                            └─ weight 9500 ─► Service api-v1 ──► Deployment api-v1
//! ```
//!
//! Everything is written by server-side apply under the field manager [`MANAGER`]. The HTTPRoute carries the
//! generation of its shares: whoever finds a greater one there than its own is not the manager any more, and neither
//! shares, nor starts, nor ends anything. Whether instances are ready is what their Deployment says.

mod access;
mod counts;
mod objects;
mod trouble;
mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service as ClusterService};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};

use crate::adapter::kubernetes::access::Access;
use crate::adapter::kubernetes::counts::Meter;
use crate::adapter::kubernetes::objects::Names;
use crate::adapter::kubernetes::trouble::{Doing, within};
use crate::adapter::kubernetes::watched::Watched;
use crate::adapter::remote::{Hands, Order};
use crate::adapter::settings::KubernetesSettings;
use crate::adapter::{Shares, Standing, Trouble};
use crate::fleet::Service;
use crate::splitter::Counted;

/// Under which name fields are owned.
pub const MANAGER: &str = "gemba";

/// How often a share is written anew when somebody wrote the HTTPRoute between our look and our word.
const RACES_MAX: u32 = 3;

/// What a cluster is told of a service.
#[derive(Debug)]
struct Facts {
    names: Names,
    health: String,
    ready_within: Duration,
    stop_within: Duration,
    settings: KubernetesSettings,
}

/// One region of a service in a cluster.
#[derive(Debug)]
pub struct Cluster {
    facts: Arc<Facts>,
    access: Access,
    watched: Watched,
    meter: Meter,
}

impl Cluster {
    /// The region of `service` that `settings` describe. Nothing is asked of the cluster yet.
    pub fn new(service: &Service, settings: &KubernetesSettings) -> Self {
        let facts = Arc::new(Facts {
            names: Names::new(service.name.as_str()),
            health: service.health.clone(),
            ready_within: Duration::from_millis(service.ready_within_ms),
            stop_within: Duration::from_millis(service.stop_within_ms),
            settings: settings.clone(),
        });
        Self { facts, access: Access::default(), watched: Watched::default(), meter: Meter::default() }
    }

    async fn services(&mut self) -> Result<Api<ClusterService>, Trouble> {
        let client = self.access.client(&self.facts.settings).await?;
        Ok(Api::namespaced(client, &self.facts.settings.namespace))
    }

    async fn deployments(&mut self) -> Result<Api<Deployment>, Trouble> {
        let client = self.access.client(&self.facts.settings).await?;
        Ok(Api::namespaced(client, &self.facts.settings.namespace))
    }

    async fn routes(&mut self) -> Result<Api<DynamicObject>, Trouble> {
        let client = self.access.client(&self.facts.settings).await?;
        Ok(Api::namespaced_with(client, &self.facts.settings.namespace, &objects::route_resource()))
    }

    fn doing(&self, what: &'static str, kind: &'static str) -> Doing<'_> {
        Doing { what, kind, namespace: &self.facts.settings.namespace }
    }

    /// The HTTPRoute as it is, unless a newer manager has written it.
    async fn route(&mut self, generation: u64) -> Result<Option<DynamicObject>, Trouble> {
        let routes = self.routes().await?;
        let name = self.facts.names.route();
        let route = match within(&self.doing("get", "httproutes"), routes.get(name)).await {
            Ok(route) => route,
            Err(answer) if answer.is_missing => return Ok(None),
            Err(answer) => return Err(answer.into()),
        };
        match objects::generation(&route) {
            Some(known) if generation < known => Err(Trouble::lasting(format!(
                "the HTTPRoute {name} has generation {known}, which is newer than {generation}: another manager \
                 drives this region; stop one of the two"
            ))),
            Some(_) | None => Ok(Some(route)),
        }
    }

    fn patch(&self) -> PatchParams {
        let params = PatchParams::apply(MANAGER);
        if self.facts.settings.take_over { params.force() } else { params }
    }

    /// Why instances of a version are not ready, as their pods tell it.
    async fn pods(&mut self, version: &str) -> Result<Option<(u64, String)>, Trouble> {
        let client = self.access.client(&self.facts.settings).await?;
        let pods: Api<Pod> = Api::namespaced(client, &self.facts.settings.namespace);
        let params = ListParams::default().labels(&self.facts.names.pods(version));
        let list = within(&self.doing("list", "pods"), pods.list(&params)).await?;
        Ok(objects::failures(&list.items))
    }
}

impl Hands for Cluster {
    /// Somebody may have changed them; what is as it should be is not written anew by the cluster.
    const TOLD_AGAIN: Option<Duration> = Some(Duration::from_secs(10));

    async fn look(&mut self) -> Result<BTreeMap<String, Standing>, Trouble> {
        let deployments = self.deployments().await?;
        let facts = self.facts.clone();
        let selector = facts.names.all();
        let found = self.watched.look(&deployments, &selector, &facts.settings.namespace).await?;
        let mut standings: BTreeMap<String, Standing> = found.filter_map(objects::standing).collect();
        for (version, standing) in &mut standings {
            if standing.ready < standing.all && standing.failures.is_none() {
                standing.failures = self.pods(version).await?;
            }
        }
        Ok(standings)
    }

    async fn start(&mut self, order: &Order<'_>, instances: u32) -> Result<(), Trouble> {
        self.route(order.generation).await?;
        let (facts, params) = (self.facts.clone(), self.patch());
        let name = facts.names.version(order.version);
        let service = Patch::Apply(objects::service(&facts, order));
        let services = self.services().await?;
        within(&self.doing("patch", "services"), services.patch(&name, &params, &service)).await?;
        let deployment = Patch::Apply(objects::deployment(&facts, order, instances));
        let deployments = self.deployments().await?;
        within(&self.doing("patch", "deployments"), deployments.patch(&name, &params, &deployment)).await?;
        Ok(())
    }

    async fn share(&mut self, delivery: &str, shares: &Shares) -> Result<(), Trouble> {
        let mut races = 0;
        loop {
            let known = self.route(shares.generation).await?;
            let version = known.and_then(|route| route.metadata.resource_version);
            let route = Patch::Apply(objects::route(&self.facts, delivery, shares, version));
            let (routes, params) = (self.routes().await?, self.patch());
            let applied = routes.patch(self.facts.names.route(), &params, &route);
            match within(&self.doing("patch", "httproutes"), applied).await {
                Ok(route) => {
                    return objects::refusal(&route).map_or(Ok(()), |why| Err(Trouble::lasting(why)));
                }
                // Somebody wrote it since we looked: look whose word is the last.
                Err(answer) if answer.is_race && races < RACES_MAX => races += 1,
                Err(answer) => return Err(answer.into()),
            }
        }
    }

    async fn counts(&mut self, versions: &[String]) -> Result<Counted, Trouble> {
        let facts = self.facts.clone();
        self.meter.counts(&facts, versions).await
    }

    async fn end(&mut self, order: &Order<'_>) -> Result<(), Trouble> {
        self.route(order.generation).await?;
        let params = DeleteParams::background();
        let name = self.facts.names.version(order.version);
        let deployments = self.deployments().await?;
        let ended = within(&self.doing("delete", "deployments"), deployments.delete(&name, &params)).await;
        trouble::gone_is_as_good(ended)?;
        let services = self.services().await?;
        let ended = within(&self.doing("delete", "services"), services.delete(&name, &params)).await;
        trouble::gone_is_as_good(ended)
    }
}
