//! Tests of one that hands over to the next, and of what is left where that is cut short.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use gemba_kernel::Node;
use tokio::time::{sleep, timeout};

use super::{
    LISTEN, SOON, failed, free, is_gone, left_behind, listener, once, ready, runs, shell, unwritten,
};
use crate::{Probe, ProcessError, ProcessHandle, ProcessSpecBuilder};

#[tokio::test]
async fn one_that_is_to_follow_takes_over_when_it_is_ready_and_not_before() {
    let home = tempfile::tempdir().unwrap();
    let home = || home.path().join("it");
    let stopped = async |node: Node| timeout(SOON, node.stop("done")).await.unwrap().unwrap();
    let old = || shell("exec sleep 60").survives(home()).hands_over();
    let (node, handle) = once(old()).await;
    let first = ready(&handle).await.unwrap();
    stopped(node).await;

    let late = listener(free()).env(LISTEN, "nowhere").ready_within(Duration::from_millis(300));
    let (node, handle) = once(late.survives(home()).hands_over()).await;
    let error = failed(&handle).await;
    assert!(
        matches!(error, ProcessError::ExitedBeforeReady { .. } | ProcessError::NotReady { .. }),
        "{error}"
    );
    assert!(runs(first), "whoever serves goes on");
    stopped(node).await;

    let (node, handle) = once(old()).await;
    assert_eq!(ready(&handle).await.unwrap(), first, "and is found again");
    stopped(node).await;

    let (node, handle) = once(listener(free()).survives(home()).hands_over()).await;
    let second = ready(&handle).await.unwrap();
    assert_ne!(second, first);
    let gone = async {
        while runs(first) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    assert!(runs(second));
    handle.end().await.unwrap();
    stopped(node).await;
}

/// One that is to follow, and is ready when somebody listens there: the probe is somebody else's.
fn successor(home: &Path, address: SocketAddr) -> ProcessSpecBuilder {
    let probe = Probe::Tcp(address);
    shell("exec sleep 61").probe(probe).probe_every(Duration::from_millis(10)).survives(home).hands_over()
}

async fn begun(handle: &ProcessHandle) -> u32 {
    let mut views = handle.subscribe();
    let begun = views.wait_for(|view| view.pid.is_some());
    timeout(SOON, begun).await.expect("begun in time").unwrap().pid.unwrap()
}

/// A takeover that the stop of its node interrupted: who serves, and who is to follow. Both run on.
async fn interrupted(home: &Path, address: SocketAddr) -> (u32, u32) {
    let first = left_behind(home, serving()).await;
    let second = followed(home, address).await;
    assert!(runs(first) && runs(second));
    (first, second)
}

fn serving() -> ProcessSpecBuilder {
    shell("exec sleep 60").hands_over()
}

/// Begins a takeover, and stops the node before the successor is ready.
async fn followed(home: &Path, address: SocketAddr) -> u32 {
    let (node, handle) = once(successor(home, address)).await;
    let number = begun(&handle).await;
    node.stop("an update").await.unwrap();
    number
}

#[tokio::test]
async fn a_takeover_that_was_interrupted_goes_on_in_the_next_life() {
    let home = tempfile::tempdir().unwrap();
    let address = free();
    let (first, second) = interrupted(home.path(), address).await;
    // The same successor is found, and the one that serves with it.
    let (node, handle) = once(successor(home.path(), address)).await;
    assert_eq!(begun(&handle).await, second);
    assert!(handle.view().is_adopted && runs(first));
    let _listener = TcpListener::bind(address).unwrap();
    assert_eq!(ready(&handle).await.unwrap(), second);
    is_gone(first).await;
    handle.end().await.unwrap();
    is_gone(second).await;
    node.stop("done").await.unwrap();
    let left: Vec<_> =
        std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["log"], "nothing is remembered of those that are gone");
}

#[tokio::test]
async fn a_takeover_that_was_interrupted_and_fails_leaves_the_one_that_serves() {
    let home = tempfile::tempdir().unwrap();
    let address = free();
    let (first, second) = interrupted(home.path(), address).await;
    // It is never ready: it goes, and the one that serves stays.
    let late = successor(home.path(), address).ready_within(Duration::from_millis(100));
    let (node, handle) = once(late).await;
    assert!(matches!(failed(&handle).await, ProcessError::NotReady { .. }));
    is_gone(second).await;
    node.stop("done").await.unwrap();

    // Interrupted again, and back to the old spec: the newcomer goes.
    let third = followed(home.path(), address).await;
    let (node, handle) = once(serving().survives(home.path())).await;
    assert_eq!(ready(&handle).await.unwrap(), first);
    is_gone(third).await;
    node.stop("done").await.unwrap();

    // Whoever ends it in the middle of it means both.
    let (node, handle) = once(successor(home.path(), address)).await;
    let fourth = begun(&handle).await;
    handle.end().await.unwrap();
    is_gone(first).await;
    is_gone(fourth).await;
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_newcomer_that_nobody_wrote_down_does_not_take_the_place_of_the_one_that_serves() {
    let home = tempfile::tempdir().unwrap();
    let (first, second) = interrupted(home.path(), free()).await;
    // As if the life had died right after it started the newcomer.
    std::fs::copy(home.path().join("before"), crate::identity::pid_file(home.path())).unwrap();
    unwritten(home.path(), shell("exec sleep 61"), &[first]);
    let (node, handle) = once(serving().survives(home.path())).await;
    assert_eq!(ready(&handle).await.unwrap(), first);
    is_gone(second).await;
    handle.end().await.unwrap();
    is_gone(first).await;
    node.stop("done").await.unwrap();
}
