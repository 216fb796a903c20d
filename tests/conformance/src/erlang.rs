//! Erlang's own supervisor, driven over a pipe.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use crate::etf;
use crate::model::Scenario;
use crate::trace::{NoTrace, Trace};

/// How long one scenario may take in Erlang; the longest waits a few seconds for a period to pass.
const LIMIT: Duration = Duration::from_secs(90);

/// How many scenarios Erlang plays at a time.
pub(crate) const AT_ONCE: usize = 96;

/// Why Erlang could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ErlangError {
    /// It is not installed.
    #[error("'escript' was not found; install Erlang first: apt-get install erlang-base")]
    Missing,
    /// The pipe broke.
    #[error("the pipe to Erlang: {0}")]
    Pipe(#[from] io::Error),
    /// It did not answer.
    #[error("Erlang did not finish a scenario within {LIMIT:?}")]
    Overdue,
    /// It ended.
    #[error("Erlang ended before it had answered")]
    Ended,
    /// The driver broke.
    #[error(transparent)]
    Driver(#[from] NoTrace),
}

/// The running driver.
pub(crate) struct Erlang {
    process: Child,
    input: ChildStdin,
    answers: Receiver<(u32, String)>,
    early: HashMap<u32, String>,
    next: u32,
    /// The release, as `25`.
    pub release: String,
    _script: tempfile::TempPath,
}

impl Erlang {
    /// Starts Erlang with our script.
    pub(crate) fn start() -> Result<Self, ErlangError> {
        let mut script = tempfile::Builder::new().prefix("conformance").suffix(".escript").tempfile()?;
        script.write_all(include_bytes!("driver.escript"))?;
        let script = script.into_temp_path();
        let spawned =
            Command::new("escript").arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ErlangError::Missing,
            _ => ErlangError::Pipe(error),
        })?;
        let input = process.stdin.take().expect("it was asked for");
        let output = process.stdout.take().expect("it was asked for");
        let (sender, answers) = sync_channel(4 * AT_ONCE);
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            // Either end may go first; then there is nobody to read for, or nothing to read.
            while let Ok(answer) = read(&mut output) {
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        let mut erlang = Self {
            process,
            input,
            answers,
            early: HashMap::new(),
            next: 1,
            release: String::new(),
            _script: script,
        };
        let (_, hello) = erlang.receive()?;
        hello.trim_start_matches("hello ").clone_into(&mut erlang.release);
        Ok(erlang)
    }

    /// Hands a scenario over and returns the number of its answer.
    pub(crate) fn send(&mut self, scenario: &Scenario) -> Result<u32, ErlangError> {
        let number = self.next;
        self.next += 1;
        let packet = etf::packet(number, scenario);
        let length = u32::try_from(packet.len()).expect("a scenario is small");
        self.input.write_all(&length.to_be_bytes())?;
        self.input.write_all(&packet)?;
        self.input.flush()?;
        Ok(number)
    }

    /// The next trace that is ready.
    pub(crate) fn any(&mut self) -> Result<(u32, Trace), ErlangError> {
        let early = self.early.keys().next().copied().and_then(|number| self.early.remove_entry(&number));
        let (number, text) = match early {
            Some(early) => early,
            None => self.receive()?,
        };
        Ok((number, Trace::parse(&text)?))
    }

    /// Plays one scenario and waits for its trace.
    pub(crate) fn play(&mut self, scenario: &Scenario) -> Result<Trace, ErlangError> {
        let number = self.send(scenario)?;
        loop {
            if let Some(text) = self.early.remove(&number) {
                return Ok(Trace::parse(&text)?);
            }
            let (other, text) = self.receive()?;
            self.early.insert(other, text);
        }
    }

    fn receive(&mut self) -> Result<(u32, String), ErlangError> {
        self.answers.recv_timeout(LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => ErlangError::Overdue,
            RecvTimeoutError::Disconnected => ErlangError::Ended,
        })
    }
}

impl Drop for Erlang {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One packet: the number, a space or a new line, the text.
fn read(output: &mut impl Read) -> io::Result<(u32, String)> {
    let mut length = [0; 4];
    output.read_exact(&mut length)?;
    let mut packet = vec![0; u32::from_be_bytes(length) as usize];
    output.read_exact(&mut packet)?;
    let text = String::from_utf8(packet).map_err(|error| io::Error::other(error.to_string()))?;
    let (number, text) =
        text.split_once([' ', '\n']).ok_or_else(|| io::Error::other("a packet without a number"))?;
    Ok((number.parse().map_err(io::Error::other)?, text.to_owned()))
}
