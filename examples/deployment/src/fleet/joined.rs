//! Names that are put together: what belongs to a region is called `service.region`, an instance
//! `service.region.version.1`. So are children and their homes on the disk, and each part may have dots in it.

use std::collections::BTreeMap;

use gemba::config::Faults;

use crate::adapter::settings::AdapterKind;
use crate::fleet::{Fleet, Region, Service};

/// Where a name comes from.
struct Place<'a> {
    service: &'a str,
    of: &'a Service,
    region: &'a Region,
}

/// Reports what comes to the same name as something else.
pub(super) fn check(fleet: &Fleet, faults: &mut Faults<'_>) {
    let mut services = faults.at("services");
    let mut known: BTreeMap<String, Place<'_>> = BTreeMap::new();
    for (service, of) in &fleet.services {
        let service = service.as_str();
        for (index, region) in of.regions.iter().enumerate() {
            let joined = format!("{service}.{}", region.name);
            // Twice in one service is told there.
            if let Some(other) = known.get(&joined).filter(|other| other.service != service) {
                let other = format!("region {} of {}", other.region.name, other.service);
                services.at(service).at("regions").item(index).at("name").add(format!(
                    "is {}; with its service that makes {joined}, as {other} does; give another name",
                    region.name
                ));
            }
            known.entry(joined).or_insert(Place { service, of, region });
        }
    }
    let is_process = |place: &Place<'_>| place.region.adapter == AdapterKind::Process;
    for (short, place) in known.iter().filter(|(_, place)| is_process(place)) {
        let prefix = format!("{short}.");
        let longer = known.range(prefix.clone()..).take_while(|(long, _)| long.starts_with(&prefix));
        for (long, other) in longer.filter(|(_, other)| is_process(other)) {
            for version in other.of.versions.keys() {
                let same = format!("{}.{version}", &long[prefix.len()..]);
                if place.of.versions.contains_key(&same) {
                    services.at(place.service).at("versions").at(&same).add(format!(
                        "makes {prefix}{same} in region {}, as {version} does in region {} of {}; give another name",
                        place.region.name, other.region.name, other.service
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::fleet;

    /// What is said of a fleet, but for what its addresses are.
    fn told(change: impl FnOnce(&mut Fleet)) -> Vec<String> {
        let mut fleet = fleet();
        change(&mut fleet);
        let text = gemba::config::to_toml(&fleet).unwrap();
        let loaded = gemba::config::Sources::new("TEST").text("fleet.toml", &text).load::<Fleet>();
        let said = loaded.err().map(|errors| errors.to_string()).unwrap_or_default();
        said.lines().filter(|line| line.contains("give another name")).map(str::to_owned).collect()
    }

    #[test]
    fn two_that_come_to_one_name_are_told() {
        assert_eq!(told(|_| ()), Vec::<String>::new());
        let regions = |fleet: &mut Fleet, names: [&str; 2]| {
            let service = fleet.services.get_mut("api").unwrap();
            for (region, name) in service.regions.iter_mut().zip(names) {
                region.name = name.parse().unwrap();
            }
        };
        assert_eq!(
            told(|fleet| regions(fleet, ["us", "us.west"])),
            Vec::<String>::new(),
            "no version is one"
        );
        let versions = told(|fleet| {
            regions(fleet, ["us", "us.west"]);
            let service = fleet.services.get_mut("api").unwrap();
            let artefact = service.versions["v1"].clone();
            service.versions.insert("west.v1".to_owned(), artefact);
        });
        let says = "api.us.west.v1 in region us, as v1 does in region us.west of api";
        assert!(versions.len() == 1 && versions[0].contains(says), "{versions:?}");
        let services = told(|fleet| {
            let mut other = fleet.services["api"].clone();
            regions(fleet, ["us.west", "us.east"]);
            other.name = "api.us".parse().unwrap();
            other.regions.truncate(1);
            other.regions[0].name = "west".parse().unwrap();
            fleet.services.insert(other.name.clone(), other);
        });
        let says = "is west; with its service that makes api.us.west, as region us.west of api does";
        assert!(services.len() == 1 && services[0].contains(says), "{services:?}");
    }
}
