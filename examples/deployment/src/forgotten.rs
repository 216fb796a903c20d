//! What runs and is left out of the file: told at the start, before anything is left to itself.

use crate::delivery::Delivery;
use crate::fleet::Fleet;
use crate::instances::Seat;
use crate::store::ServiceRecord;

/// Everything that runs, as the record says, and that the fleet does not name any more, each with what to do.
pub fn forgotten(fleet: &Fleet, records: &[(String, ServiceRecord)]) -> Vec<String> {
    let mut told = Vec::new();
    for (name, record) in records {
        let Some(service) = fleet.service(name) else {
            // Only processes are counted in the record; what scripts, clusters and others run is not.
            let versions = record.stable.iter().chain(record.delivery.iter().map(|delivery| &delivery.to));
            let versions: Vec<_> = versions.map(String::as_str).collect();
            if !versions.is_empty() || !record.instances.is_empty() {
                let (instances, versions) = (record.instances.len(), versions.join(", "));
                let what = if versions.is_empty() {
                    format!("{instances} of its instances run")
                } else {
                    format!("it runs {versions}")
                };
                told.push(format!(
                    "services.{name}: {what}; put it back, and end it with `deployment down` first"
                ));
            }
            continue;
        };
        let delivered_in = record.delivery.iter().flat_map(Delivery::regions);
        let is_gone = |region: &&str| service.regions.iter().all(|known| known.name.as_str() != *region);
        for region in delivered_in.filter(is_gone) {
            told.push(format!(
                "services.{name}.regions: {region} is one of a delivery that goes on; put it back until that is over"
            ));
        }
        let delivered = record.delivery.iter();
        let delivered = delivered.flat_map(|delivery| delivery.from.iter().chain([&delivery.to]));
        let mut versions: Vec<_> = record.stable.iter().chain(delivered).cloned().collect();
        for seat in record.instances.keys() {
            match Seat::parse(seat, service) {
                Some(seat) => versions.push(seat.version),
                None => told
                    .push(format!("services.{name}.regions: {seat} runs in one that is gone; put it back")),
            }
        }
        versions.sort_unstable();
        versions.dedup();
        for version in versions.iter().filter(|version| !service.versions.contains_key(*version)) {
            told.push(format!(
                "services.{name}.versions.{version}: it runs; put it back until another one has its place"
            ));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::care::Care;
    use crate::fleet::tests::fleet;

    #[test]
    fn what_runs_and_is_in_no_file_is_told_and_what_ended_is_not() {
        let record = |stable: Option<&str>, seats: &[&str]| ServiceRecord {
            stable: stable.map(str::to_owned),
            delivery: None,
            instances: seats.iter().map(|seat| ((*seat).to_owned(), 8_000)).collect(),
        };
        let told = |name: &str, record: ServiceRecord| forgotten(&fleet(), &[(name.to_owned(), record)]);
        assert_eq!(told("api", record(Some("v1"), &["us-west.v1.1", "us-east.v2.1"])), Vec::<String>::new());
        assert_eq!(told("web", record(None, &[])), Vec::<String>::new(), "after `down`");
        let web = told("web", record(Some("v1"), &["us-west.v1.1"]));
        assert!(web.len() == 1 && web[0].starts_with("services.web: it runs v1; put it back"), "{web:?}");
        let elsewhere = told("web", record(Some("v1"), &[]));
        assert_eq!(elsewhere, web, "what others run is in no list of instances");
        let ending = told("web", record(None, &["us-west.v1.1"]));
        assert!(
            ending.len() == 1 && ending[0].starts_with("services.web: 1 of its instances run"),
            "{ending:?}"
        );
        let api = told("api", record(Some("v0"), &["us-west.v0.1", "us-north.v1.1", "us-west.v9.1"]));
        let places: Vec<_> = api.iter().map(|one| one.split_once(": ").unwrap().0).collect();
        assert_eq!(places, ["services.api.regions", "services.api.versions.v0", "services.api.versions.v9"]);
    }
    #[test]
    fn a_region_that_a_delivery_still_needs_is_told() {
        let regions = ["us-west", "us-north", "us-east"].map(str::to_owned);
        let rules = Care::default().rules().unwrap();
        let delivery = Delivery::begin("7", "api", (Some("v1"), "v2"), regions, rules, 0);
        let record = ServiceRecord { delivery: Some(delivery), ..ServiceRecord::default() };
        let told = forgotten(&fleet(), &[("api".to_owned(), record)]);
        let says = "services.api.regions: us-north is one of a delivery that goes on";
        assert!(told.len() == 1 && told[0].starts_with(says), "{told:?}");
    }
}
