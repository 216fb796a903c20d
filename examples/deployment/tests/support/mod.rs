//! What the tests from outside have in common: the program itself, and ports for it.

#![allow(clippy::unwrap_used, reason = "the whole file is for tests")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long anything here may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_deployment");

/// A port nobody listens at, below those the system gives away.
pub(crate) fn port() -> u16 {
    let start = std::process::id() as u16 % 5_000 + 12_000;
    let mut ports = (start..20_000).filter(|port| {
        // One of each: a test of this file may have got the same one, and its program is about to bind it.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("port-{}-{port}", std::process::id()));
        std::fs::File::create_new(file).is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    });
    ports.next().unwrap()
}

pub(crate) fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The program with these arguments, once it has said where it listens.
pub(crate) async fn run(args: &[&str]) -> Child {
    run_from(PROGRAM.as_ref(), args, &[], Stdio::null()).await
}

/// The sample service as this version, and where it listens.
pub(crate) async fn sample(version: &str, more: &[&str]) -> (Child, SocketAddr) {
    let address = at(port());
    let listen = address.to_string();
    let args = [&["sample-service", "--listen", &listen, "--version", version], more].concat();
    (run(&args).await, address)
}

/// The program, or a copy of it, with these arguments and variables, once it has said where it listens.
pub(crate) async fn run_from(program: &Path, args: &[&str], env: &[(&str, &str)], log: Stdio) -> Child {
    let mut child = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("listening on") {
                return true;
            }
        }
        false
    };
    assert!(timeout(SOON, listening).await.unwrap(), "{args:?} did not start");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}
