//! One call of a script: within its time, in a process group of its own, with a limit to what it may say.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::adapter::Trouble;

/// What a script may say on stdout: the counts of eight versions with all latencies take a third of it.
const STDOUT_MAX: u64 = 1 << 20;

/// What of stderr is kept for a reason.
const STDERR_MAX: u64 = 64 << 10;

/// The longest reason that is told.
const REASON_MAX: usize = 400;

/// Try again: `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;

/// A call that was not made yet.
#[derive(Debug)]
pub(super) struct Call {
    verb: &'static str,
    program: String,
    command: Command,
    within: Duration,
}

/// Ends everything a script started, unless it ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Call {
    pub(super) fn new(verb: &'static str, command: &[String], within: Duration) -> Self {
        let program = command.first().cloned().unwrap_or_default();
        let mut process = Command::new(&program);
        process
            .args(command.iter().skip(1))
            .env("GEMBA_VERB", verb)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Self { verb, program, command: process, within }
    }

    /// An argument that is also in the environment.
    pub(super) fn word(self, name: &str, value: &str) -> Self {
        self.argument(value).environment(name, value)
    }

    pub(super) fn argument(mut self, value: &str) -> Self {
        self.command.arg(value);
        self
    }

    pub(super) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Makes the call, and reads what it said as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Trouble> {
        let (verb, program) = (self.verb, self.program.clone());
        let said = self.run().await?;
        serde_json::from_slice(&said).map_err(|error| {
            Trouble::lasting(format!("{verb}: {program} did not say what it should: {error}"))
        })
    }

    /// Makes the call; tells what it said.
    pub(super) async fn run(mut self) -> Result<Vec<u8>, Trouble> {
        let (verb, program) = (self.verb, &self.program);
        let mut child = self.command.spawn().map_err(|error| {
            Trouble::lasting(format!(
                "{verb}: {program} cannot be run: {error}; is it there, and executable?"
            ))
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut group = Group(group);
        let Ok(ended) = timeout(self.within, end(&mut child)).await else {
            group.kill();
            // It was killed, and its parent is told at once.
            let _ = child.wait().await;
            let ms = self.within.as_millis();
            return Err(Trouble::passing(format!(
                "{verb}: {program} took longer than its {ms} ms and was killed"
            )));
        };
        let (status, said, complaint) = ended
            .map_err(|error| Trouble::passing(format!("{verb}: {program} cannot be listened to: {error}")))?;
        if STDOUT_MAX < said.len() as u64 {
            return Err(Trouble::lasting(format!("{verb}: {program} said more than {STDOUT_MAX} bytes")));
        }
        if status.success() {
            // What it left running in the background is its own affair.
            group.0 = None;
            return Ok(said);
        }
        let reason = last_line(&complaint);
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let what = format!("{verb}: {program} ended with {status}{reason}");
        Err(if status.code() == Some(TRY_AGAIN) { Trouble::passing(what) } else { Trouble::lasting(what) })
    }
}

async fn end(child: &mut Child) -> std::io::Result<(std::process::ExitStatus, Vec<u8>, Vec<u8>)> {
    let (out, complaints) = (child.stdout.take(), child.stderr.take());
    let (said, complaint, status) =
        tokio::try_join!(read(out, STDOUT_MAX + 1), read(complaints, STDERR_MAX), child.wait())?;
    Ok((status, said, complaint))
}

/// Reads so much, and lets the rest go by, so that a script that says too much still ends.
async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut said = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(most).read_to_end(&mut said).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(said)
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(REASON_MAX).collect()
}
