//! What runs and is left out of the file: told at the start, before anything is left to itself.

use crate::fleet::Fleet;
use crate::instances::Seat;
use crate::store::ServiceRecord;

/// Everything that runs, as the record says, and that the fleet does not name any more, each with what to do.
pub fn forgotten(fleet: &Fleet, records: &[(String, ServiceRecord)]) -> Vec<String> {
    let mut told = Vec::new();
    for (name, record) in records {
        let Some(service) = fleet.service(name) else {
            let instances = record.instances.len();
            if 0 < instances {
                told.push(format!("services.{name}: {instances} of its instances run; put it back, and end them with `deployment down` first"));
            }
            continue;
        };
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
        assert!(web.len() == 1 && web[0].starts_with("services.web: 1 of its instances run"), "{web:?}");
        let api = told("api", record(Some("v0"), &["us-west.v0.1", "us-north.v1.1", "us-west.v9.1"]));
        let places: Vec<_> = api.iter().map(|one| one.split_once(": ").unwrap().0).collect();
        assert_eq!(places, ["services.api.regions", "services.api.versions.v0", "services.api.versions.v9"]);
    }
}
