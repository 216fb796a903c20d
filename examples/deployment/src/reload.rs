//! Takes the fleet anew on SIGHUP, or when an operator asks for it: all of it, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gemba::receipt::{Event, Seq, SettingChange};
use gemba::reload::{self, ReloadError};
use gemba::{ChildSpec, TaskContext};
use serde_json::Value as Json;
use tokio::sync::watch;

use crate::conductor::Reach;
use crate::config::ConfigOptions;
use crate::fleet::Fleet;
use crate::queue::Queue;

/// What a reload needs.
#[derive(Debug)]
pub struct Parts {
    /// Where the fleet comes from.
    pub options: ConfigOptions,
    /// Where it is published.
    pub fleet: watch::Sender<Arc<Fleet>>,
    /// Each service, for what is in use.
    pub services: BTreeMap<String, Reach>,
    /// Who waits.
    pub queue: watch::Receiver<Queue>,
}

/// Reads the fleet again when it is told to.
pub fn child(parts: Parts) -> ChildSpec {
    let parts = Arc::new(parts);
    reload::reload(move |ctx, why| {
        let parts = parts.clone();
        async move { reload(&parts, &ctx, why) }
    })
}

/// Reads, checks, and publishes; tells the receipt of what changed.
fn reload(parts: &Parts, ctx: &TaskContext, why: Arc<str>) -> Result<Vec<Seq>, ReloadError> {
    let faults = |faults: Vec<String>| ReloadError::Faults(faults.into_iter().map(Arc::from).collect());
    let new = parts.options.load().map_err(|errors| faults(errors.lines().collect()))?.value;
    let old = parts.fleet.borrow().clone();
    let in_use = |service: &str| in_use(parts, service);
    let changes = changes(&old, &new, in_use).map_err(faults)?;
    if !changes.is_empty() {
        parts.fleet.send_replace(Arc::new(new));
    }
    Ok(vec![ctx.system().record(None, ctx.path(), Event::SettingsChanged { changes, why })])
}

/// The versions of a service that run, are delivered, or wait.
fn in_use(parts: &Parts, service: &str) -> BTreeSet<String> {
    let waits = parts.queue.borrow().of_service(service).map(|waiting| waiting.request.version.clone());
    let Some(reach) = parts.services.get(service) else { return waits.into_iter().collect() };
    let view = reach.view.borrow();
    let delivered = view.delivery.iter().flat_map(|delivery| delivery.from.iter().chain([&delivery.to]));
    let versions = view.regions.iter().flat_map(|region| &region.versions);
    let run = versions.filter(|version| 0 < version.instances.1).map(|version| &version.version);
    view.stable.iter().chain(delivered).chain(run).cloned().chain(waits).collect()
}

/// What differs, old and new; or why it cannot be taken while the manager runs, every reason.
fn changes(
    old: &Fleet,
    new: &Fleet,
    in_use: impl Fn(&str) -> BTreeSet<String>,
) -> Result<Vec<SettingChange>, Vec<String>> {
    let json = |fleet: &Fleet| serde_json::to_value(fleet).expect("a fleet is plain data with text keys");
    let mut differences = Vec::new();
    compare(&json(old), &json(new), &mut Vec::new(), &mut differences);
    let is_remote = |service: &str| {
        let regions = old.service(service).map_or(&[][..], |service| &service.regions);
        regions.iter().any(|region| !region.adapter.has_splitter())
    };
    let reasons: BTreeSet<_> = differences.iter().filter_map(|one| one.fixed(&in_use, is_remote)).collect();
    if !reasons.is_empty() {
        return Err(reasons.into_iter().collect());
    }
    Ok(differences.into_iter().map(Difference::into_change).collect())
}

/// A value that is another one, is new, or is gone.
#[derive(Debug)]
struct Difference {
    path: Vec<String>,
    from: Option<Json>,
    to: Option<Json>,
}

/// Goes down where both have a table, and stops at what differs.
fn compare(old: &Json, new: &Json, path: &mut Vec<String>, found: &mut Vec<Difference>) {
    let (Json::Object(before), Json::Object(after)) = (old, new) else {
        if old != new {
            found.push(Difference { path: path.clone(), from: Some(old.clone()), to: Some(new.clone()) });
        }
        return;
    };
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        path.push(key.clone());
        match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) => compare(old, new, path, found),
            (from, to) => {
                found.push(Difference { path: path.clone(), from: from.cloned(), to: to.cloned() });
            }
        }
        path.pop();
    }
}

impl Difference {
    /// Why it cannot be taken while the manager runs. What is not named here cannot.
    fn fixed(
        &self,
        in_use: impl Fn(&str) -> BTreeSet<String>,
        is_remote: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let at = path.join(".");
        match path.as_slice() {
            ["services", service, "health" | "ready_within_ms" | "stop_within_ms"] if is_remote(service) => {
                Some(format!("{at} was handed to its scripts or cluster at the start; restart the manager"))
            }
            ["queue" | "freeze", ..]
            | [
                "services",
                _,
                "capacity" | "care" | "chosen_by" | "freeze" | "health" | "ready_within_ms" | "slow_after_ms"
                | "sticky" | "stop_within_ms",
                ..,
            ] => None,
            ["services", service, "versions", version, ..] => {
                let what = if self.to.is_none() && path.len() == 4 {
                    "it stays until nothing of it runs or waits"
                } else {
                    "it stays what it is; add another version"
                };
                let place = path[..4].join(".");
                in_use(service).contains(*version).then(|| format!("{place} is in use: {what}"))
            }
            ["services", _] => Some(format!(
                "{at} is {}: splitters start and end with the manager; restart it, what runs stays",
                if self.from.is_none() { "new" } else { "gone" }
            )),
            _ => Some(format!("{at} can be set at the start only; restart the manager, what runs stays")),
        }
    }

    fn into_change(self) -> SettingChange {
        let words =
            |value: Option<Json>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
        SettingChange {
            setting: self.path.join(".").into(),
            from: words(self.from).into(),
            to: words(self.to).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::settings::AdapterKind;
    use crate::fleet::Artefact;
    use crate::fleet::tests::fleet;

    fn changed(change: impl FnOnce(&mut Fleet)) -> Result<Vec<String>, Vec<String>> {
        let (old, mut new) = (fleet(), fleet());
        change(&mut new);
        let changes = changes(&old, &new, |_| ["v1".to_owned()].into())?;
        Ok(changes.iter().map(|one| format!("{}: {} → {}", one.setting, one.from, one.to)).collect())
    }

    fn artefact(command: &str) -> Artefact {
        Artefact { command: vec![command.to_owned(), "{port}".to_owned()], sha256: None }
    }

    #[test]
    fn what_may_change_while_it_runs_is_told_old_and_new() {
        assert_eq!(changed(|_| ()), Ok(Vec::new()));
        let told = changed(|fleet| {
            fleet.queue.running_max = 1;
            let service = fleet.services.get_mut("api").unwrap();
            service.capacity = 8;
            service.care.stages.pop();
            service.versions.insert("v3".to_owned(), artefact("new"));
            service.versions.get_mut("v2").unwrap().command[0] = "other".to_owned();
        });
        let told = told.unwrap();
        let expected = [
            "queue.running_max: 4 → 1",
            "services.api.capacity: 4 → 8",
            "services.api.care.stages: [{\"lasts_ms\":300000,\"share\":0.05},{\"lasts_ms\":600000,\"share\":0.25}] → [{\"lasts_ms\":300000,\"share\":0.05}]",
            "services.api.versions.v2.command: [\"sample\",\"{port}\"] → [\"other\",\"{port}\"]",
            "services.api.versions.v3: nothing → {\"command\":[\"new\",\"{port}\"],\"sha256\":null}",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_scripts_and_clusters_were_handed_at_the_start_stays() {
        let (mut old, in_use) = (fleet(), |_: &str| BTreeSet::new());
        old.services.get_mut("api").unwrap().regions[0].adapter = AdapterKind::Command;
        let mut new = old.clone();
        new.services.get_mut("api").unwrap().ready_within_ms += 1;
        let reason = "services.api.ready_within_ms was handed to its scripts or cluster at the start; restart the manager";
        assert_eq!(changes(&old, &new, in_use).unwrap_err(), [reason]);
    }

    #[test]
    fn everything_that_cannot_change_is_told_with_its_reason() {
        let told = changed(|fleet| {
            let mut other = fleet.services["api"].clone();
            other.name = "web".parse().unwrap();
            fleet.services.insert(other.name.clone(), other);
            fleet.state = "elsewhere".into();
            fleet.queue.running_max = 1;
            let service = fleet.services.get_mut("api").unwrap();
            service.instances = 1;
            service.regions.swap(0, 1);
            *service.versions.get_mut("v1").unwrap() =
                Artefact { sha256: Some("0".repeat(64)), ..artefact("other") };
        });
        let expected = [
            "services.api.instances can be set at the start only; restart the manager, what runs stays",
            "services.api.regions can be set at the start only; restart the manager, what runs stays",
            "services.api.versions.v1 is in use: it stays what it is; add another version",
            "services.web is new: splitters start and end with the manager; restart it, what runs stays",
            "state can be set at the start only; restart the manager, what runs stays",
        ];
        assert_eq!(told.unwrap_err(), expected);
        let gone = changed(|fleet| fleet.services.get_mut("api").unwrap().versions.clear());
        let reason = "services.api.versions.v1 is in use: it stays until nothing of it runs or waits";
        assert_eq!(gone.unwrap_err(), [reason], "v2 may go");
    }
}
