//! What the policy is to know about a service, gathered from its fleet, its view and the queue.

use crate::fleet::{Fleet, Service};
use crate::freeze::frozen;
use crate::policy::{DeploymentRequest, Facts};
use crate::queue::{Queue, Standing};
use crate::view::ServiceView;

/// What is known now, in milliseconds since 1970; but for the program of the version, which is a file to be read.
pub fn facts(
    fleet: &Fleet,
    service: &Service,
    view: &ServiceView,
    request: &DeploymentRequest,
    unix_ms: u64,
) -> Facts {
    let mut facts = Facts {
        is_known: service.versions.contains_key(&request.version),
        stable: view.stable.clone(),
        recent: view.recent,
        limit_milli: (service.care.failures_limit * 1_000.0) as u64,
        frozen: frozen(fleet.freezes(service), unix_ms),
        ..Facts::default()
    };
    for region in &view.regions {
        let stable = region.versions.iter().find(|version| Some(&version.version) == view.stable.as_ref());
        // What else runs there ends before this one begins.
        let running = stable.filter(|stable| stable.version != request.version);
        let needed = running.map_or(0, |stable| stable.instances.1 as u32) + service.instances;
        if service.capacity < needed {
            facts.full.insert(region.region.clone(), (service.capacity, needed));
        }
        let ready = stable.map_or(0, |version| version.instances.0);
        if view.stable.is_some() && ready < service.instances as usize {
            facts.unhealthy.push(region.region.clone());
        }
    }
    facts
}

/// The same for somebody who asks: with the queue, and with what brings the same version already.
pub fn facts_of_asking(
    fleet: &Fleet,
    service: &Service,
    view: &ServiceView,
    request: &DeploymentRequest,
    queue: &Queue,
    unix_ms: u64,
) -> Facts {
    Facts {
        brings: brings(view, queue, request).map(str::to_owned),
        waiting: (queue.others(service.name.as_str()), fleet.queue.waiting_max as usize),
        ..facts(fleet, service, view, request, unix_ms)
    }
}

/// The delivery that goes on or waits and brings the same version already.
pub fn brings<'a>(view: &'a ServiceView, queue: &'a Queue, request: &DeploymentRequest) -> Option<&'a str> {
    let goes_on = view.delivery.iter().map(|delivery| (&delivery.id, &delivery.to));
    let waits = queue.of_service(&request.service).map(|one| (&one.request.id, &one.request.version));
    let found = goes_on.chain(waits).find(|(_, version)| **version == request.version);
    found.map(|(id, _)| id.as_str())
}

/// How a service stands for a delivery of it that waits, but for the rules.
pub fn standing(view: &ServiceView) -> Standing {
    let running = view.delivery.as_ref().map(|delivery| (delivery.id.clone(), delivery.to.clone()));
    let versions = view.regions.iter().flat_map(|region| &region.versions);
    let leaving =
        versions.filter(|version| 0 < version.instances.1 && Some(&version.version) != view.stable.as_ref());
    let mut leaving: Vec<_> = leaving.map(|version| version.version.clone()).collect();
    leaving.sort_unstable();
    leaving.dedup();
    Standing { running, leaving, violations: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::fleet;
    use crate::freeze::FreezeWindow;
    use crate::policy::Strategy;
    use crate::view::{RegionView, VersionView};

    fn request(version: &str) -> DeploymentRequest {
        DeploymentRequest {
            id: "8".to_owned(),
            service: "api".to_owned(),
            version: version.to_owned(),
            regions: Vec::new(),
            strategy: Strategy::Canary,
        }
    }

    /// A service whose v1 runs, with so many instances of each version.
    fn view(versions: &[(&str, usize, usize)]) -> ServiceView {
        let version = |(name, ready, all): &(&str, usize, usize)| VersionView {
            version: (*name).to_owned(),
            instances: (*ready, *all),
            ..VersionView::default()
        };
        let versions = versions.iter().map(version).collect();
        let region = RegionView { region: "us-west".to_owned(), versions, ..RegionView::default() };
        ServiceView { stable: Some("v1".to_owned()), regions: vec![region], ..ServiceView::default() }
    }

    #[test]
    fn what_ends_takes_no_room_and_is_waited_for() {
        let (fleet, view) = (fleet(), view(&[("v1", 2, 2), ("v2", 1, 2)]));
        let service = fleet.service("api").unwrap();
        let known = facts(&fleet, service, &view, &request("v2"), 0);
        assert!(known.full.is_empty() && known.unhealthy.is_empty() && known.is_known, "{known:?}");
        assert_eq!(standing(&view).leaving, ["v2"]);
        let mut small = fleet.clone();
        small.services.get_mut("api").unwrap().capacity = 3;
        let known = facts(&small, small.service("api").unwrap(), &view, &request("v2"), 0);
        assert_eq!(known.full["us-west"], (3, 4));
    }

    #[test]
    fn windows_of_the_fleet_and_of_the_service_hold() {
        let mut fleet = fleet();
        let window = |why: &str| FreezeWindow {
            why: why.to_owned(),
            days: Vec::new(),
            from: "10:00".to_owned().try_into().unwrap(),
            until: "11:00".to_owned().try_into().unwrap(),
        };
        fleet.freeze.push(window("stocktaking"));
        fleet.services.get_mut("api").unwrap().freeze.push(window("a sale"));
        let service = fleet.service("api").unwrap();
        let known = |minutes: u64| {
            facts(&fleet, service, &view(&[("v1", 2, 2)]), &request("v2"), minutes * 60_000).frozen
        };
        assert_eq!(known(599), None);
        assert_eq!(known(600).unwrap(), "stocktaking, until Thu 11:00 UTC; a sale, until Thu 11:00 UTC");
    }

    #[test]
    fn the_same_version_is_not_brought_twice() {
        let fleet = fleet();
        let service = fleet.service("api").unwrap();
        let mut queue = Queue::default();
        queue.join(request("v2"), false, 0);
        let asked = |version: &str| {
            facts_of_asking(&fleet, service, &view(&[("v1", 2, 2)]), &request(version), &queue, 0).brings
        };
        assert_eq!(asked("v2").as_deref(), Some("8"));
        assert_eq!(asked("v3"), None, "it takes the place of the one that waits");
    }
}
