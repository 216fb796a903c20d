//! To addresses that are there anyway.

use super::super::{sample, traffic};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_addresses_take_a_good_version_and_give_a_bad_one_back() {
    let mut running = Vec::new();
    let mut addresses = serde_json::Map::new();
    for (version, more) in [("v1", &[][..]), ("v2", &[]), ("bad", &["--error-rate", "0.3"])] {
        let (first, one) = sample(version, more).await;
        let (second, two) = sample(version, more).await;
        running.extend([first, second]);
        addresses.insert(version.to_owned(), json!([one, two]));
    }
    let (listen, admin) = (at(port()), at(port()));
    let regions = json!([{
        "name": "us-west", "adapter": "static", "listen": listen, "admin": admin,
        "static": { "addresses": addresses },
    }]);
    let versions = json!({ "v1": {}, "v2": {}, "bad": {}, "elsewhere": {} });
    let manager = Manager::new(tempfile::tempdir().unwrap(), &regions, &versions).await;
    assert_eq!(manager.deliver("v1", Strategy::First).await.succeeded, Some(true));
    let (stop, traffic) = traffic(vec![listen, listen]);
    let good = manager.deliver("v2", Strategy::Canary).await;
    assert_eq!(good.succeeded, Some(true), "{good:?}");
    let bad = manager.deliver("bad", Strategy::Canary).await;
    assert!(bad.why.as_ref().unwrap().contains("fails more often"), "{bad:?}");
    let elsewhere = manager.deliver("elsewhere", Strategy::Canary).await;
    assert!(elsewhere.why.as_ref().unwrap().contains("gives it 0 of 2 addresses"), "{elsewhere:?}");
    manager.stands(0, "v2", 1.0, (2, 2)).await;
    let _ = stop.send(());
    let failures = traffic.await.unwrap();
    assert!(failures.iter().all(|version| version == "bad"), "{failures:?}");
    manager.client.down().await.unwrap();
}
