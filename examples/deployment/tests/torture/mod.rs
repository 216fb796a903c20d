//! The crash test of the manager, a short one: it is killed at its worst moments, and keeps what it promises.

use std::process::Stdio;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_killed_at_its_worst_moments_keeps_its_promises() {
    let torture = Command::new(PROGRAM)
        .args(["torture", "--kills", "3", "--seed", "8", "--rate", "200", "--json"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(5 * SOON, torture).await.unwrap().unwrap();
    let (report, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{report}\n{said}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(3 <= report["kills"].as_u64().unwrap() && 0 < report["requests"].as_u64().unwrap(), "{report}");
    for count in ["failed", "lost", "doubled", "orphans"] {
        assert_eq!(report[count], 0, "{report}");
    }
    assert!(report["violations"].as_array().unwrap().is_empty(), "{report}");
}
