//! The Deployments of a service, kept up to date by a watch: listed once, then told of each change.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Error;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::Status;
use tokio::time::Instant;

use crate::adapter::Trouble;
use crate::adapter::kubernetes::trouble::{Doing, explain, within};

/// How long the cluster keeps a watch open.
const WATCH_LASTS: Duration = Duration::from_secs(30);

/// How much later than that a watch that has not ended is taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);

type Events = Pin<Box<dyn Stream<Item = Result<WatchEvent<Deployment>, Error>> + Send>>;

/// What is known, and how one hears of changes.
#[derive(Default)]
pub(super) struct Watched {
    found: BTreeMap<String, Deployment>,
    /// Where the cluster stood when all of it was true; nothing before it was listed.
    version: Option<String>,
    events: Option<(Events, Instant)>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = (self.found.keys().collect::<Vec<_>>(), &self.version);
        f.debug_tuple("Watched").field(&known).finish()
    }
}

impl Watched {
    /// The Deployments as they are.
    pub(super) async fn look(
        &mut self,
        deployments: &Api<Deployment>,
        selector: &str,
        namespace: &str,
    ) -> Result<impl Iterator<Item = &Deployment>, Trouble> {
        let listing = Doing { what: "list", kind: "deployments", namespace };
        let watching = Doing { what: "watch", ..listing };
        // Twice at most: what was forgotten is listed anew at once.
        for _ in 0..2 {
            let version = if let Some(version) = self.version.clone() {
                version
            } else {
                let params = ListParams::default().labels(selector);
                let list = within(&listing, deployments.list(&params)).await?;
                let version = list.metadata.resource_version.unwrap_or_default();
                self.found = list.items.into_iter().filter_map(named).collect();
                self.version = Some(version.clone());
                version
            };
            if self.events.is_none() {
                let params = WatchParams::default().labels(selector).timeout(WATCH_LASTS.as_secs() as u32);
                match within(&watching, deployments.watch(&params, &version)).await {
                    Ok(events) => self.events = Some((Box::pin(events), Instant::now())),
                    Err(answer) if answer.is_gone => {
                        self.forget();
                        continue;
                    }
                    Err(answer) => return Err(answer.into()),
                }
            }
            if self.hear(&watching)? {
                break;
            }
        }
        Ok(self.found.values())
    }

    /// Takes every change there is by now; tells whether what is known is still good.
    fn hear(&mut self, watching: &Doing<'_>) -> Result<bool, Trouble> {
        while let Some((events, opened)) = &mut self.events {
            match events.next().now_or_never() {
                None if WATCH_LASTS + DEAD_AFTER <= opened.elapsed() => {
                    // It should have ended long ago: nobody is at the other end.
                    self.forget();
                    return Ok(false);
                }
                None => break,
                // It has lasted its time; the next one goes on where it was.
                Some(None) => self.events = None,
                Some(Some(Ok(event))) => {
                    if let Some(status) = self.take(event) {
                        self.forget();
                        let answer = explain(watching, &Error::Api(status));
                        return if answer.is_gone { Ok(false) } else { Err(answer.into()) };
                    }
                }
                Some(Some(Err(error))) => {
                    self.forget();
                    return Err(explain(watching, &error).into());
                }
            }
        }
        Ok(true)
    }

    fn take(&mut self, event: WatchEvent<Deployment>) -> Option<Box<Status>> {
        match event {
            WatchEvent::Added(deployment) | WatchEvent::Modified(deployment) => {
                self.version.clone_from(&deployment.metadata.resource_version);
                self.found.extend(named(deployment));
            }
            WatchEvent::Deleted(deployment) => {
                self.version.clone_from(&deployment.metadata.resource_version);
                self.found.remove(deployment.metadata.name.as_deref().unwrap_or_default());
            }
            WatchEvent::Bookmark(bookmark) => self.version = Some(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => return Some(status),
        }
        None
    }

    fn forget(&mut self) {
        (self.version, self.events) = (None, None);
    }
}

fn named(deployment: Deployment) -> Option<(String, Deployment)> {
    Some((deployment.metadata.name.clone()?, deployment))
}
