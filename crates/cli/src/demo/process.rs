//! The demonstration's other processes: started, listened to, stopped, and never left behind.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a process may take until it listens.
const START_MAX: Duration = Duration::from_secs(10);

/// How long a killed process may take to be gone.
const KILL_MAX: Duration = Duration::from_secs(5);

/// Lines of a process's log that are shown when it fails.
const LOG_LINES: usize = 20;

/// Why a process of the demonstration is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("cannot start the {name}")]
    Start { name: &'static str, source: io::Error },
    #[error("the {name} did not say '{wanted}' within {} s; its log ends: {log}", START_MAX.as_secs())]
    Silent { name: &'static str, wanted: &'static str, log: String },
    #[error("the {name} ended by itself ({status}); its log ends: {log}")]
    Ended { name: &'static str, status: ExitStatus, log: String },
    #[error("cannot signal the {name}")]
    Signal { name: &'static str, source: io::Error },
    #[error("the {name} did not stop within {} s after SIGTERM and was killed", limit.as_secs())]
    Stubborn { name: &'static str, limit: Duration },
}

/// A process that dies with this value, however that comes about: killed on drop, and leashed by its
/// standard input in case the demonstration itself is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Held here because waiting for a child closes the input it still has.
    _leash: Option<ChildStdin>,
}

impl Process {
    /// Starts this program as `gemba payment --leashed ARGS` and waits until it has printed a line for
    /// each of `wanted`; returns what followed those words.
    pub(crate) async fn start<const N: usize>(
        name: &'static str,
        args: &[&str],
        directory: &Path,
        wanted: [&'static str; N],
    ) -> Result<(Self, [String; N]), ProcessError> {
        let failed = |source| ProcessError::Start { name, source };
        let log = directory.join(format!("{name}.log"));
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["payment", "--leashed"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).map_err(failed)?)
            // Ctrl-C in the terminal is for the demonstration alone; it stops the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let leash = child.stdin.take();
        let mut process = Self { name, child, log, _leash: leash };
        let mut found = [const { None }; N];
        let listening = listen(&mut lines, wanted, &mut found);
        if timeout(START_MAX, listening).await.is_err() || found.contains(&None) {
            return Err(process.silence(wanted, &found).await);
        }
        // Whatever it prints later is read, so that it never waits for a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok((process, found.map(|line| line.expect("all were found"))))
    }

    /// The number of the process, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the process ends by itself, which it should not.
    pub(crate) async fn ended(&mut self) -> ProcessError {
        match self.child.wait().await {
            Ok(status) => ProcessError::Ended { name: self.name, status, log: self.log_end() },
            Err(source) => ProcessError::Signal { name: self.name, source },
        }
    }

    /// Asks the process to stop, waits up to `limit`, and tells how it exited.
    pub(crate) async fn stop(mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let name = self.name;
        let pid = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)
                .map_err(|source| ProcessError::Signal { name, source: source.into() })?;
        }
        if let Ok(ended) = timeout(limit, self.child.wait()).await {
            return ended.map_err(|source| ProcessError::Signal { name, source });
        }
        let _ = timeout(KILL_MAX, self.child.kill()).await;
        Err(ProcessError::Stubborn { name, limit })
    }

    /// Why `wanted` was not said: the process has ended, or it hangs.
    async fn silence<const N: usize>(
        &mut self,
        wanted: [&'static str; N],
        found: &[Option<String>; N],
    ) -> ProcessError {
        if let Ok(Ok(status)) = timeout(Duration::from_millis(500), self.child.wait()).await {
            return ProcessError::Ended { name: self.name, status, log: self.log_end() };
        }
        let missing = wanted.iter().zip(found).find(|(_, line)| line.is_none());
        let wanted = missing.map_or("", |(wanted, _)| *wanted);
        ProcessError::Silent { name: self.name, wanted, log: self.log_end() }
    }

    fn log_end(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        if lines.is_empty() {
            return "(it is empty)".to_owned();
        }
        format!("\n  {}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  "))
    }
}

async fn listen<const N: usize>(
    lines: &mut Lines<BufReader<ChildStdout>>,
    wanted: [&'static str; N],
    found: &mut [Option<String>; N],
) {
    while found.contains(&None) {
        let Ok(Some(line)) = lines.next_line().await else {
            return;
        };
        for (wanted, found) in wanted.iter().zip(found.iter_mut()) {
            if let Some(rest) = line.strip_prefix(wanted) {
                *found = Some(rest.trim().to_owned());
            }
        }
    }
}

/// `address` if nobody listens there, otherwise any free port of the same host.
pub(crate) fn free_or_any(address: SocketAddr) -> SocketAddr {
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::new(address.ip(), 0),
    }
}

/// Ends this process when its standard input does: when whoever started it is gone.
pub(crate) fn leash() {
    std::thread::spawn(|| {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 64];
        while matches!(stdin.read(&mut buffer), Ok(1..)) {}
        std::process::exit(1);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_given_up_for_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(free_or_any(address).port(), 0);
        drop(taken);
        assert_eq!(free_or_any(address), address);
    }
}
