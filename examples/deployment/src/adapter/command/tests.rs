//! Scripts as real processes: what they are told, what they say, and that they end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tokio::time::sleep;

use super::*;

/// Scripts that all are this one.
fn scripts(directory: &TempDir, text: &str, within_ms: u64) -> Scripts {
    let path = directory.path().join("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    of(&path.display().to_string(), within_ms)
}

fn of(program: &str, within_ms: u64) -> Scripts {
    let verb = || vec![program.to_owned(), "first".to_owned()];
    let settings = CommandSettings {
        start: verb(),
        ready: verb(),
        shares: verb(),
        counts: verb(),
        end: verb(),
        change_within_ms: within_ms,
        answer_within_ms: within_ms,
    };
    Scripts::new("api", "us-west", settings)
}

const ORDER: Order<'_> = Order { delivery: "7", generation: 3, version: "v2" };

/// Long enough on any machine.
const LONG_MS: u64 = 60_000;

#[tokio::test]
async fn each_verb_is_told_what_it_is_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "echo \"$*|$(env | grep ^GEMBA_ | sort | tr '\\n' ' ')\" >>{}/told",
        directory.path().display()
    );
    let mut scripts = scripts(&directory, &text, LONG_MS);
    scripts.start(&ORDER, 2).await.unwrap();
    let shares = Shares { generation: 9, versions: vec![("v2".to_owned(), 500), ("v1".to_owned(), 9_500)] };
    scripts.share("7", &shares).await.unwrap();
    scripts.end(&ORDER).await.unwrap();
    let told = fs::read_to_string(directory.path().join("told")).unwrap();
    let expected = [
        "first api us-west v2 2|GEMBA_DELIVERY=7 GEMBA_INSTANCES=2 GEMBA_REGION=us-west GEMBA_SERVICE=api GEMBA_VERB=start GEMBA_VERSION=v2 ",
        "first api us-west 9 v2=500 v1=9500|GEMBA_DELIVERY=7 GEMBA_GENERATION=9 GEMBA_REGION=us-west GEMBA_SERVICE=api GEMBA_VERB=shares ",
        "first api us-west v2|GEMBA_DELIVERY=7 GEMBA_REGION=us-west GEMBA_SERVICE=api GEMBA_VERB=end GEMBA_VERSION=v2 ",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn what_is_said_is_taken_as_it_is_and_what_is_wrong_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let said =
        r#"echo '{"v1": {"ready": 2}, "v2": {"ready": 1, "all": 2, "failures": 3, "why": "no licence"}}'"#;
    let standings = scripts(&directory, said, LONG_MS).look().await.unwrap();
    assert_eq!(standings["v1"], Standing { ready: 2, all: 2, failures: None });
    assert_eq!(standings["v2"], Standing { ready: 1, all: 2, failures: Some((3, "no licence".to_owned())) });
    let said = r#"echo '{"life": "a", "versions": [{"version": "v1", "requests": 9, "failures": 1, "latencies": 8, "latencies_us": [7]}]}'"#;
    let counted = scripts(&directory, said, LONG_MS).counts(&[]).await.unwrap();
    assert_eq!(
        (counted.life.as_str(), counted.versions[0].requests, counted.versions[0].latencies),
        ("a", 9, 8)
    );
    for (text, is_passing, words) in [
        ("echo first >&2; echo 'quota is used up' >&2; exit 75", true, "exit status: 75: quota is used up"),
        ("echo 'no such image' >&2; exit 1", false, "exit status: 1: no such image"),
        ("exit 1", false, "ended with exit status: 1"),
        ("kill -9 $$", false, "signal: 9"),
        ("echo '{'", false, "did not say what it should: EOF"),
        (r#"echo '{"v1": {"redy": 2}}'"#, false, "unknown field `redy`"),
        ("head -c 2000000 /dev/zero", false, "said more than 1048576 bytes"),
    ] {
        let trouble = scripts(&directory, text, LONG_MS).look().await.unwrap_err();
        assert!(trouble.is_passing == is_passing && trouble.what.contains(words), "{text}: {trouble:?}");
        assert!(trouble.what.starts_with("ready: "), "{trouble}");
    }
    let trouble = of("/no/such/program", LONG_MS).look().await.unwrap_err();
    assert!(trouble.what.contains("cannot be run: No such file") && !trouble.is_passing, "{trouble}");
}

#[tokio::test]
async fn one_that_takes_too_long_is_killed_with_all_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let text = format!("sleep 1000 & echo $! $$ >{}; wait", pids.display());
    // As late as it takes until it has written its pids.
    let mut within_ms = 200;
    let pids = loop {
        let trouble = scripts(&directory, &text, within_ms).end(&ORDER).await.unwrap_err();
        let words = format!("took longer than its {within_ms} ms and was killed");
        assert!(trouble.is_passing && trouble.what.contains(&words), "{trouble}");
        match fs::read_to_string(&pids) {
            Ok(pids) if pids.ends_with('\n') => break pids,
            Ok(_) | Err(_) => within_ms *= 2,
        }
    };
    for pid in pids.split_whitespace() {
        while runs(pid) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_is_killed_too() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let text = format!("sleep 1000 & echo $! $$ >{}; wait", pids.display());
    let mut scripts = scripts(&directory, &text, LONG_MS);
    let task = tokio::spawn(async move { scripts.end(&ORDER).await });
    let pids = loop {
        match fs::read_to_string(&pids) {
            Ok(pids) if pids.ends_with('\n') => break pids,
            Ok(_) | Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    task.abort();
    for pid in pids.split_whitespace() {
        while runs(pid) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Whether a process runs; one that nobody waits for is over too.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
