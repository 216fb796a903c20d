//! Runs one measurement of one contender in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rows::Side;

/// How long one measurement may take.
const LIMIT: Duration = Duration::from_mins(2);

/// Above so many processes Erlang's table of them is too short.
const ERLANG_PROCESSES: u64 = 200_000;

/// What the measurements need.
#[derive(Debug)]
pub(crate) struct Bench {
    ours: PathBuf,
    ractor_supervisor: PathBuf,
    /// Holds Erlang's compiled module until the end.
    module: tempfile::TempDir,
}

/// Why there is nothing to measure, or no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("Erlang or poolboy is missing ({0}); run `apt-get install erlang-base erlang-poolboy`")]
    NoErlang(String),
    #[error("'{}' is missing; `just bench-otp` builds it", .0.display())]
    NoBinary(PathBuf),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it did not end within {LIMIT:?}")]
    Overdue,
    #[error("it ended with {status} and said: {said}")]
    Failed { status: std::process::ExitStatus, said: String },
    #[error("it did not answer with figures: {0}")]
    NoFigures(String),
}

impl Bench {
    /// Finds the binaries and compiles Erlang's module.
    pub(crate) fn prepare() -> Result<Self, RunError> {
        let ours = std::env::current_exe()?;
        let ractor_supervisor = ours.with_file_name("bench-ractor-supervisor");
        if !ractor_supervisor.exists() {
            return Err(RunError::NoBinary(ractor_supervisor));
        }
        let missing = |error: &dyn std::fmt::Display| RunError::NoErlang(error.to_string());
        let module = tempfile::tempdir()?;
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("otp.erl");
        let compiled = Command::new("erlc").arg("-o").arg(module.path()).arg(source).output();
        let compiled = compiled.map_err(|error| missing(&format!("erlc: {error}")))?;
        if !compiled.status.success() {
            let said = String::from_utf8_lossy(&compiled.stdout).into_owned();
            return Err(RunError::Failed { status: compiled.status, said });
        }
        let asks = "halt(case code:ensure_loaded(poolboy) of {module, _} -> 0; _ -> 1 end).";
        let found = Command::new("erl").args(["-noinput", "-eval", asks]).status();
        match found {
            Ok(status) if status.success() => {}
            Ok(_) => return Err(missing(&"poolboy is not in its library path")),
            Err(error) => return Err(missing(&format!("erl: {error}"))),
        }
        Ok(Self { ours, ractor_supervisor, module })
    }

    /// The figures of one contender's measurement, by name.
    pub(crate) fn measure(
        &self,
        side: Side,
        case: &str,
        count: u64,
        scale: u64,
    ) -> Result<BTreeMap<String, f64>, RunError> {
        let mut command = match side {
            Side::Erlang => self.erlang(count),
            Side::RactorSupervisor => {
                let mut command = Command::new(&self.ractor_supervisor);
                command.arg("measure");
                command
            }
            Side::Gemba | Side::Kameo | Side::Ractor | Side::RactorTimed => {
                let mut command = Command::new(&self.ours);
                command.args(["measure", side.name()]);
                command
            }
        };
        command.args([case, &count.to_string(), &scale.to_string()]);
        // A backtrace would be captured with each panic.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                return Err(RunError::Overdue);
            }
            // One line of answer fits the pipe, so nobody waits for us to read it.
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = said + &String::from_utf8_lossy(&output.stderr);
            return Err(RunError::Failed { status: output.status, said });
        }
        serde_json::from_str(&said).map_err(|_| RunError::NoFigures(said))
    }

    fn erlang(&self, processes: u64) -> Command {
        let mut command = Command::new("erl");
        command.args(["+S", "2:2"]);
        if processes > ERLANG_PROCESSES {
            command.args(["+P", &(4 * processes).to_string()]);
        }
        command.args(["-noinput", "-pa"]).arg(self.module.path()).args(["-run", "otp", "main"]);
        command
    }
}
