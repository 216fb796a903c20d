//! Through scripts of one's own.

use std::fs;

use super::*;

/// The scripts' folder of a region.
fn region(world: &std::path::Path, name: &str, verbs_within_ms: u64) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/adapter/world.sh");
    let verb = json!([script, world]);
    json!({
        "name": name, "adapter": "command",
        "command": {
            "start": verb, "ready": verb, "shares": verb, "counts": verb, "end": verb,
            "answer_within_ms": verbs_within_ms,
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_bring_a_good_version_everywhere_and_a_bad_one_back() {
    let directory = tempfile::tempdir().unwrap();
    let world = directory.path().join("world");
    let regions = json!([region(&world, "us-west", 20_000), region(&world, "us-east", 20_000)]);
    let versions = json!({ "v1": {}, "v2": {}, "bad": {}, "unknown": {} });
    let mut manager = Manager::new(directory, &regions, &versions).await;
    assert_eq!(manager.deliver("v1", Strategy::First).await.succeeded, Some(true));
    let id = manager.client.begin("api", "v2", Strategy::Canary, Some("seven")).await.unwrap();
    manager.stands(0, "v2", 0.5, (2, 2)).await;
    manager.kill().await;
    manager.start().await;
    let good = manager.ending(&id).await;
    assert_eq!(good.succeeded, Some(true), "{good:?}");
    let bad = manager.deliver("bad", Strategy::Canary).await;
    assert!(bad.why.as_ref().unwrap().contains("fails more often"), "{bad:?}");
    let unknown = manager.deliver("unknown", Strategy::Canary).await;
    let why = unknown.why.unwrap();
    assert!(why.contains("did not start in us-west") && why.contains("no such image: unknown"), "{why}");

    for name in ["us-west", "us-east"] {
        let here = world.join(name);
        let shares = async {
            loop {
                let shares = fs::read_to_string(here.join("shares")).unwrap();
                let up: Vec<_> =
                    fs::read_dir(here.join("up")).unwrap().map(|file| file.unwrap().file_name()).collect();
                if shares == "v2=10000\n" && up == ["v2"] {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, shares).await.unwrap_or_else(|_| panic!("{name} is not as it was"));
    }
    let history = fs::read_to_string(world.join("us-west/history")).unwrap();
    let mut steps: Vec<&str> = history.lines().filter(|line| line.starts_with("seven ")).collect();
    // A manager that was started again tells once more what is so anyway.
    steps.dedup();
    assert_eq!(steps, ["seven v2=5000 v1=5000", "seven v2=10000"]);
    manager.client.down().await.unwrap();
    manager.stands(0, "v2", 0.0, (0, 0)).await;
    assert_eq!(fs::read_to_string(world.join("us-east/shares")).unwrap(), "\n");
}
