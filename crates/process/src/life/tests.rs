//! Tests of lives with real processes.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gemba_core::receipt::{Event, Seq};
use gemba_kernel::{Node, Supervisor};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::{sleep, timeout};

use crate::{
    Ended, LogRules, Probe, ProcessError, ProcessHandle, ProcessSpec, ProcessSpecBuilder, ProcessState,
    process,
};

mod takeover;

/// How long anything here may take; each test is over in a moment.
const SOON: Duration = Duration::from_secs(20);

/// Tells the test below that it is to be a process that listens.
const LISTEN: &str = "GEMBA_PROCESS_TEST_LISTEN";

/// This program as a process that listens, when it is asked to; a test without a claim otherwise.
#[test]
fn this_program_as_a_listener() {
    if let Ok(address) = std::env::var(LISTEN) {
        let listener = TcpListener::bind(address).unwrap();
        // On a line of its own, wherever the test harness has stopped writing.
        println!("\nlistening");
        while listener.accept().is_ok() {}
    }
}

fn listener(address: SocketAddr) -> ProcessSpecBuilder {
    ProcessSpec::builder(std::env::current_exe().unwrap())
        .args(["--exact", "life::tests::this_program_as_a_listener", "--nocapture"])
        .env(LISTEN, address.to_string())
        .probe(Probe::Tcp(address))
        .probe_every(Duration::from_millis(10))
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn shell(script: &str) -> ProcessSpecBuilder {
    ProcessSpec::builder("sh").args(["-c", script])
}

/// A node with this process under a supervisor that never starts it again.
async fn once(spec: ProcessSpecBuilder) -> (Node, ProcessHandle) {
    start(spec, true).await
}

async fn start(spec: ProcessSpecBuilder, is_temporary: bool) -> (Node, ProcessHandle) {
    let child = process("it", spec.build().unwrap());
    let child = if is_temporary { child.temporary() } else { child };
    let handle = child.handle();
    let workers = Supervisor::one_for_one("workers").intensity(2, Duration::from_secs(60)).child(child);
    (Node::builder("test").child(workers).start().await.unwrap(), handle)
}

async fn ready(handle: &ProcessHandle) -> Result<u32, ProcessError> {
    timeout(SOON, handle.ready()).await.expect("ready or failed in time")
}

async fn failed(handle: &ProcessHandle) -> ProcessError {
    let mut views = handle.subscribe();
    let failed = views.wait_for(|view| matches!(view.state, ProcessState::Failed(_)));
    let view = timeout(SOON, failed).await.expect("failed in time").unwrap().clone();
    let ProcessState::Failed(error) = view.state else { panic!("{view:?}") };
    error
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Whether a process of this number runs; one that nobody waited for yet has ended.
fn runs(number: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    test_kill_process(pid(number)).is_ok() && !stat.contains(") Z ")
}

async fn is_gone(number: u32) {
    let waiting = async {
        while runs(number) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, waiting).await.expect("it is gone in time");
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let here = tempfile::tempdir().unwrap();
    let text = here.path().join("text");
    std::fs::write(&text, "no program").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (spec, says) in [
        (ProcessSpec::builder("/no/such/command"), "there is no command '/no/such/command'"),
        (ProcessSpec::builder(&text), "may not be run"),
        (shell("true").directory("/no/such/directory"), "there is no directory '/no/such/directory'"),
        (listener(address), "somebody else listens at"),
        (shell("true").survives(text.join("home")), "cannot use"),
    ] {
        let (node, handle) = once(spec).await;
        let error = ready(&handle).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        let view = handle.view();
        assert_eq!((view.pid, view.failures), (None, 1));
        node.stop("done").await.unwrap();
    }
}

#[tokio::test]
async fn one_that_exits_at_once_is_told_with_its_code_and_last_lines() {
    let (_node, handle) =
        once(shell("echo one; echo 'no config' >&2; exit 3").probe(Probe::Tcp(free()))).await;
    let error = ready(&handle).await.unwrap_err();
    let ProcessError::ExitedBeforeReady { how: Ended::Code(3), last } = &error else { panic!("{error:?}") };
    let mut lines = last.0.to_vec();
    lines.sort();
    assert_eq!(lines, ["no config", "one"]);
    assert!(error.to_string().contains("exit code 3"), "{error}");

    // A log keeps what was written before anybody could follow it.
    let home = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let spec = shell("echo again; exit 3").probe(Probe::Tcp(free())).survives(home.path());
        let (_node, handle) = once(spec).await;
        let error = ready(&handle).await.unwrap_err();
        let ProcessError::ExitedBeforeReady { last, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*last.0, ["again"]);
    }

    let (_node, handle) = once(shell("kill -9 $$").probe(Probe::Tcp(free()))).await;
    let error = ready(&handle).await.unwrap_err();
    assert!(matches!(error, ProcessError::ExitedBeforeReady { how: Ended::Signal(9), .. }), "{error}");
}

#[tokio::test]
async fn one_that_never_is_ready_is_killed_with_all_it_started() {
    let spec = shell("sleep 60 & echo $!; wait").probe(Probe::Tcp(free()));
    let (_node, handle) = once(spec.ready_within(Duration::from_secs(3))).await;
    let error = ready(&handle).await.unwrap_err();
    let ProcessError::NotReady { last, why, .. } = &error else { panic!("{error:?}") };
    assert!(why.contains("refused"), "{why}");
    is_gone(last.0[0].parse().unwrap()).await;
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_and_one_that_obeys_is_not() {
    let stubborn = "trap '' TERM; sleep 60 & echo $!; while :; do wait; done";
    let (node, handle) = once(shell(stubborn).stop_within(Duration::from_millis(100))).await;
    ready(&handle).await.unwrap();
    let child = said(&handle).await;
    let view = handle.end().await.unwrap();
    assert!(matches!(view.state, ProcessState::Ended { killed: true, how: Ended::Signal(9) }), "{view:?}");
    is_gone(child.parse().unwrap()).await;
    node.stop("done").await.unwrap();

    let (node, handle) = once(shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done")).await;
    ready(&handle).await.unwrap();
    said(&handle).await;
    node.stop("done").await.unwrap();
    let view = handle.view();
    assert!(matches!(view.state, ProcessState::Ended { killed: false, how: Ended::Code(7) }), "{view:?}");
}

/// The first line it wrote, when there is one.
async fn said(handle: &ProcessHandle) -> String {
    let saying = async {
        loop {
            if let Some(line) = handle.last_lines().0.first() {
                return line.clone();
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, saying).await.expect("it wrote in time")
}

#[tokio::test]
async fn one_that_floods_its_log_runs_on_and_little_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let log = LogRules { kept: 3, lines_per_second_max: 5, file_bytes_max: 100_000, ..LogRules::default() };
    for spec in [shell("yes flood").log(log), shell("yes flood").log(log).survives(home.path())] {
        let (node, handle) = once(spec).await;
        ready(&handle).await.unwrap();
        let flooding = async {
            while handle.last_lines().0.len() < 3 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, flooding).await.expect("its last lines are kept");
        assert_eq!(*handle.last_lines().0, ["flood", "flood", "flood"]);
        assert!(handle.view().is_ready(), "{:?}", handle.view());
        handle.end().await.unwrap();
        node.stop("done").await.unwrap();
    }
}

#[tokio::test]
async fn a_crash_loop_ends_when_the_supervisor_gives_up() {
    let (mut node, handle) = start(shell("exit 1"), false).await;
    timeout(SOON, node.ended()).await.expect("the supervisor gives up, and then the root");
    let gave_up = node.system().journal().after(Seq(0), None, 1_000);
    assert!(gave_up.receipts.iter().any(|receipt| matches!(receipt.event, Event::SupervisorGaveUp { .. })));
    assert!(matches!(failed(&handle).await, ProcessError::Exited { how: Ended::Code(1), .. }));
}

#[tokio::test]
async fn one_that_crashes_is_started_again_until_it_is_to_end() {
    let (node, handle) = start(shell("echo up; while :; do sleep 0.01; done"), false).await;
    let first = ready(&handle).await.unwrap();
    kill_process(pid(first), Signal::KILL).unwrap();
    let mut views = handle.subscribe();
    let again = views.wait_for(|view| view.starts == 2 && view.is_ready());
    let second = timeout(SOON, again).await.expect("again in time").unwrap().pid.unwrap();
    assert_ne!(first, second);
    handle.end().await.unwrap();
    is_gone(second).await;
    assert_eq!(handle.view().starts, 2, "and not again");
    node.stop("done").await.unwrap();
}

/// A process with a home whose node was stopped, and which runs on.
async fn left_behind(home: &Path, spec: ProcessSpecBuilder) -> u32 {
    let (node, handle) = once(spec.survives(home)).await;
    let number = ready(&handle).await.unwrap();
    node.stop("an update").await.unwrap();
    assert!(matches!(handle.view().state, ProcessState::Released), "{:?}", handle.view());
    assert!(runs(number));
    number
}

#[tokio::test]
async fn one_that_survives_is_adopted_and_ended_by_the_next_node() {
    let home = tempfile::tempdir().unwrap();
    let address = free();
    let number = left_behind(home.path(), listener(address)).await;
    let said = async {
        while !std::fs::read_to_string(home.path().join("log")).unwrap().contains("listening") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, said).await.expect("it says so when it listens");
    let (node, handle) = once(listener(address).survives(home.path())).await;
    assert_eq!(ready(&handle).await.unwrap(), number);
    let view = handle.view();
    assert!(view.is_adopted, "{view:?}");
    let recalled = async {
        while !handle.last_lines().0.iter().any(|line| line == "listening") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, recalled).await.expect("what it wrote before is recalled");
    let view = handle.end().await.unwrap();
    assert!(matches!(view.state, ProcessState::Ended { how: Ended::Untold, killed: false }), "{view:?}");
    is_gone(number).await;
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn one_that_survives_its_actor_is_adopted_by_the_next_life() {
    let home = tempfile::tempdir().unwrap();
    let (node, handle) = start(shell("while :; do sleep 0.01; done").survives(home.path()), false).await;
    let number = ready(&handle).await.unwrap();
    // A kill drops what the life held; that must not take the process along.
    node.system().kill(&"/workers/it".parse().unwrap(), "test").unwrap();
    let mut views = handle.subscribe();
    let again = views.wait_for(|view| view.starts == 2 && view.is_ready());
    let again = timeout(SOON, again).await.expect("adopted in time").unwrap().clone();
    assert_eq!((again.pid, again.is_adopted), (Some(number), true));
    handle.end().await.unwrap();
    is_gone(number).await;
    node.stop("done").await.unwrap();
}

/// As if a life had ended right after it started one from this spec.
fn unwritten(home: &Path, spec: ProcessSpecBuilder, bystanders: &[u32]) {
    let spec = spec.build().unwrap().fingerprint();
    let starting = serde_json::json!({ "spec": spec, "bystanders": bystanders });
    std::fs::write(home.join("starting"), starting.to_string()).unwrap();
}

#[tokio::test]
async fn one_whose_number_was_not_written_down_is_found_by_its_log() {
    let home = tempfile::tempdir().unwrap();
    let script = "while :; do sleep 0.01; done";
    let number = left_behind(home.path(), shell(script)).await;
    crate::identity::forget(home.path());
    unwritten(home.path(), shell(script), &[]);
    let (node, handle) = once(shell(script).survives(home.path())).await;
    assert_eq!(ready(&handle).await.unwrap(), number);
    handle.end().await.unwrap();
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn what_one_left_behind_is_not_taken_for_it() {
    let home = tempfile::tempdir().unwrap();
    let up = home.path().join("up");
    let helper = format!("touch {}; exec sleep 20", up.display());
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", up.display());
    let script = format!("setsid sh -c '{helper}' & echo $!; {wait}; exit 3");
    let mut helpers = Vec::new();
    for life in 1..=2 {
        let _ = std::fs::remove_file(&up);
        let (node, handle) = once(shell(&script).survives(home.path())).await;
        let error = failed(&handle).await;
        assert!(matches!(error, ProcessError::Exited { how: Ended::Code(3), .. }), "life {life}: {error}");
        assert!(!handle.view().is_adopted, "life {life}");
        helpers.push(handle.last_lines().0.last().unwrap().parse().unwrap());
        node.stop("done").await.unwrap();
    }
    for helper in helpers {
        assert!(runs(helper), "it has a group of its own, and is nobody's");
        kill_process(pid(helper), Signal::KILL).unwrap();
    }
}

#[tokio::test]
async fn one_of_another_spec_is_stopped_and_its_place_taken() {
    let home = tempfile::tempdir().unwrap();
    let number = left_behind(home.path(), shell("while :; do sleep 0.01; done")).await;
    let (node, handle) = once(shell("while :; do sleep 0.02; done").survives(home.path())).await;
    let other = ready(&handle).await.unwrap();
    assert_ne!(number, other);
    assert!(!handle.view().is_adopted);
    is_gone(number).await;
    handle.end().await.unwrap();
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn a_stranger_with_the_number_of_the_dead_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    // Some ticks of the system's clock: no number is given twice within one.
    sleep(Duration::from_millis(50)).await;
    let script = "while :; do sleep 0.01; done";
    let number = left_behind(home.path(), shell(script)).await;
    kill_process(pid(number), Signal::KILL).unwrap();
    is_gone(number).await;
    // The number, given again.
    let file: PathBuf = crate::identity::pid_file(home.path());
    let text = std::fs::read_to_string(&file).unwrap();
    let number = format!("\"pid\":{number},");
    assert!(text.contains(&number), "{text}");
    std::fs::write(&file, text.replace(&number, &format!("\"pid\":{},", stranger.id()))).unwrap();
    let (node, handle) = once(shell(script).survives(home.path())).await;
    let other = ready(&handle).await.unwrap();
    assert_ne!(other, stranger.id());
    assert!(!handle.view().is_adopted);
    handle.end().await.unwrap();
    node.stop("done").await.unwrap();
    assert_eq!(stranger.try_wait().unwrap(), None, "it runs on");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn one_that_survived_is_not_killed_because_its_log_cannot_be_read() {
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("log");
    let number = left_behind(home.path(), shell("exec sleep 60")).await;
    std::fs::rename(&log, home.path().join("away")).unwrap();
    std::fs::create_dir(&log).unwrap();
    let (node, handle) = once(shell("exec sleep 60").survives(home.path())).await;
    assert!(matches!(failed(&handle).await, ProcessError::File { .. }));
    assert!(runs(number));
    node.stop("done").await.unwrap();
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(home.path().join("away"), &log).unwrap();
    let (node, handle) = once(shell("exec sleep 60").survives(home.path())).await;
    assert_eq!(ready(&handle).await.unwrap(), number);
    handle.end().await.unwrap();
    assert!(matches!(ready(&handle).await, Err(ProcessError::Over)), "it is not started again");
    node.stop("done").await.unwrap();
}

#[tokio::test]
async fn the_end_of_one_is_told_though_what_it_left_behind_writes_on() {
    let script = "setsid sh -c 'while :; do echo still here; sleep 0.02; done' & sleep 0.1; exit 3";
    let (node, handle) = once(shell(script)).await;
    let error = failed(&handle).await;
    assert!(matches!(error, ProcessError::Exited { how: Ended::Code(3), .. }), "{error}");
    node.stop("done").await.unwrap();
}
