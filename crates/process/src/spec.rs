//! What is run, and how it is known to be well.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::logs::LogRules;
use crate::probe::Probe;

/// How long a start or a stop may be given at most: longer is a wait for nothing.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// The shortest time between two probes, and for a start or a stop.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// What is wrong with a spec. All faults are told together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessSpecError {
    /// There is nothing to run.
    #[error("the command is empty; give the path of a program")]
    NoCommand,
    /// A time is out of range.
    #[error("{setting} is {value:?}; give {WAIT_MIN:?} to {WAIT_MAX:?}")]
    Wait {
        /// The setting.
        setting: &'static str,
        /// The refused value.
        value: Duration,
    },
    /// A path that the probe asks for does not begin with a slash, or cannot stand in a request.
    #[error("the probe's path is '{path}'; begin it with / and leave out spaces")]
    ProbePath {
        /// The refused path.
        path: Box<str>,
    },
    /// A text has a byte of zero in it, which the system takes for its end.
    #[error("{setting} has a byte of zero in it")]
    Zero {
        /// The setting.
        setting: &'static str,
    },
    /// A limit of the log is zero.
    #[error("log.{setting} is 0; give at least 1")]
    Log {
        /// The setting.
        setting: &'static str,
    },
}

/// A process to be: what is run, how it is known to be ready, how it is stopped.
///
/// # Units and limits
///
/// Defaults: no probe; asked every 100 ms, ready within 30 s; 10 s to stop before it is killed; [`LogRules`] as they
/// are; it dies with its supervisor. Its standard input is empty. It gets a process group of its own, so that a
/// Ctrl-C in the terminal does not reach it and all it starts is stopped with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    pub(crate) command: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) probe: Probe,
    pub(crate) probe_every: Duration,
    pub(crate) ready_within: Duration,
    pub(crate) stop_within: Duration,
    pub(crate) log: LogRules,
    pub(crate) home: Option<PathBuf>,
    pub(crate) hands_over: bool,
}

impl ProcessSpec {
    /// A spec of `command`: a path, or a name that is looked up in `PATH`.
    pub fn builder(command: impl Into<PathBuf>) -> ProcessSpecBuilder {
        ProcessSpecBuilder(Self {
            command: command.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            probe: Probe::None,
            probe_every: Duration::from_millis(100),
            ready_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(10),
            log: LogRules::default(),
            home: None,
            hands_over: false,
        })
    }

    /// What tells this process from one that was started by another spec: a process of the latter is not adopted.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = Xxh3::new();
        let mut add = |text: &std::ffi::OsStr| {
            hasher.update(text.as_encoded_bytes());
            hasher.update(&[0]);
        };
        add(self.command.as_os_str());
        self.args.iter().for_each(|arg| add(arg));
        for (name, value) in &self.env {
            add(name);
            add(value);
        }
        add(self.directory.as_deref().unwrap_or(Path::new("")).as_os_str());
        hasher.digest()
    }
}

/// A spec in the making.
#[derive(Debug, Clone)]
#[must_use = "a spec does nothing until it is built"]
pub struct ProcessSpecBuilder(ProcessSpec);

impl ProcessSpecBuilder {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.0.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.0.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, beside those it inherits.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.0.env.push((name.into(), value.into()));
        self
    }

    /// The directory it runs in; else the one of this program.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.0.directory = Some(directory.into());
        self
    }

    /// How it is asked whether it is ready. The address must be free before it starts.
    pub fn probe(mut self, probe: Probe) -> Self {
        self.0.probe = probe;
        self
    }

    /// How often it is asked.
    pub fn probe_every(mut self, every: Duration) -> Self {
        self.0.probe_every = every;
        self
    }

    /// How long it may take to be ready; a slower one is killed.
    pub fn ready_within(mut self, within: Duration) -> Self {
        self.0.ready_within = within;
        self
    }

    /// How long it has after SIGTERM; what is left of its group then is killed.
    pub fn stop_within(mut self, within: Duration) -> Self {
        self.0.stop_within = within;
        self
    }

    /// How much of its output is looked at.
    pub fn log(mut self, rules: LogRules) -> Self {
        self.0.log = rules;
        self
    }

    /// Lets it go on when its supervisor stops or dies, and be adopted by the next life with the same spec. Only
    /// [`ProcessHandle::end`](crate::ProcessHandle::end) ends it. `home` is a directory of its own, made if there is
    /// none, for its pid file and its log.
    pub fn survives(mut self, home: impl Into<PathBuf>) -> Self {
        self.0.home = Some(home.into());
        self
    }

    /// Says that it takes over from one that an earlier life left running from another spec: that one is stopped when
    /// this one is ready, not before it is started, and goes on if this one never is. The probe must tell the two
    /// apart, and both may listen at its address.
    pub fn hands_over(mut self) -> Self {
        self.0.hands_over = true;
        self
    }

    /// Checks the spec.
    ///
    /// # Errors
    ///
    /// All [`ProcessSpecError`]s at once.
    pub fn build(self) -> Result<ProcessSpec, Vec<ProcessSpecError>> {
        let spec = self.0;
        let mut errors = Vec::new();
        if spec.command.as_os_str().is_empty() {
            errors.push(ProcessSpecError::NoCommand);
        }
        for (setting, value) in [
            ("probe_every", spec.probe_every),
            ("ready_within", spec.ready_within),
            ("stop_within", spec.stop_within),
        ] {
            if !(WAIT_MIN..=WAIT_MAX).contains(&value) {
                errors.push(ProcessSpecError::Wait { setting, value });
            }
        }
        if let Probe::Http(_, path) = &spec.probe
            && (!path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            errors.push(ProcessSpecError::ProbePath { path: (&**path).into() });
        }
        let has_zero = |text: &std::ffi::OsStr| text.as_encoded_bytes().contains(&0);
        for (setting, wrong) in [
            ("the command", has_zero(spec.command.as_os_str())),
            ("an argument", spec.args.iter().any(|arg| has_zero(arg))),
            ("the environment", spec.env.iter().any(|(name, value)| has_zero(name) || has_zero(value))),
        ] {
            if wrong {
                errors.push(ProcessSpecError::Zero { setting });
            }
        }
        for (setting, is_zero) in [
            ("line_bytes_max", spec.log.line_bytes_max == 0),
            ("file_bytes_max", spec.log.file_bytes_max == 0),
        ] {
            if is_zero {
                errors.push(ProcessSpecError::Log { setting });
            }
        }
        if errors.is_empty() { Ok(spec) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_at_once() {
        let errors = ProcessSpec::builder("")
            .arg("a\0b")
            .probe(Probe::Http(([127, 0, 0, 1], 80).into(), "health".into()))
            .probe_every(Duration::ZERO)
            .ready_within(Duration::from_secs(3_601))
            .stop_within(Duration::from_millis(9))
            .log(LogRules { line_bytes_max: 0, ..LogRules::default() })
            .build()
            .unwrap_err();
        assert_eq!(errors.len(), 7, "{errors:?}");
        let edge = ProcessSpec::builder("x").probe_every(WAIT_MIN).ready_within(WAIT_MAX).build();
        assert!(edge.is_ok());
    }

    #[test]
    fn another_argument_is_another_process() {
        let spec = |args: &[&str]| ProcessSpec::builder("x").args(args).build().unwrap().fingerprint();
        assert_eq!(spec(&["a", "b"]), spec(&["a", "b"]));
        assert_ne!(spec(&["a", "b"]), spec(&["ab"]));
    }
}
