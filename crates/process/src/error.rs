//! Why a process does not run.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ended::Ended;

/// The last lines a process wrote, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastLines(pub Arc<[String]>);

/// Lines of them that an error shows: a receipt is no log.
const SHOWN: usize = 5;

impl fmt::Display for LastLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("it wrote nothing");
        }
        f.write_str("its last lines: ")?;
        for (index, line) in self.0[self.0.len().saturating_sub(SHOWN)..].iter().enumerate() {
            if index != 0 {
                f.write_str(" | ")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

/// Why a process does not run.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// There is no such command. Install it, or correct the spec.
    #[error("there is no command '{}'; install it, or correct its path", command.display())]
    CommandMissing {
        /// The command.
        command: PathBuf,
    },
    /// The command may not be run.
    #[error("'{}' may not be run; see that it is a program and its permissions allow it", command.display())]
    NotExecutable {
        /// The command.
        command: PathBuf,
    },
    /// The directory it should run in is not there.
    #[error("there is no directory '{}' to run it in", directory.display())]
    DirectoryMissing {
        /// The directory.
        directory: PathBuf,
    },
    /// The system did not start it: too many processes, no memory.
    #[error("the system did not start '{}'", command.display())]
    Spawn {
        /// The command.
        command: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Somebody else listens where the process should: the probe would take the one for the other.
    #[error("somebody else listens at {address}; stop that one, or give this process another port")]
    PortTaken {
        /// The address of the probe.
        address: SocketAddr,
    },
    /// It was ended for good, before it was ready or after.
    #[error("it was ended, and is not started again; add another child in its place")]
    Over,
    /// It ended before its probe succeeded.
    #[error("it ended before it was ready ({how}); {last}")]
    ExitedBeforeReady {
        /// How.
        how: Ended,
        /// What it wrote.
        last: LastLines,
    },
    /// Its probe did not succeed in time; it was killed.
    #[error("it was not ready within {within:?} ({why}); {last}")]
    NotReady {
        /// How long it had.
        within: Duration,
        /// What the last probe said.
        why: Arc<str>,
        /// What it wrote.
        last: LastLines,
    },
    /// It was ready, and ended without being asked to.
    #[error("it ended by itself ({how}); {last}")]
    Exited {
        /// How.
        how: Ended,
        /// What it wrote.
        last: LastLines,
    },
    /// Its pid file or its log cannot be used.
    #[error("cannot use '{}'", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The system does not let it be watched or signalled.
    #[error("process {pid} can neither be watched nor signalled")]
    OutOfReach {
        /// Its number.
        pid: u32,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
}

impl ProcessError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn out_of_reach(pid: u32, source: io::Error) -> Self {
        Self::OutOfReach { pid, source: Arc::new(source) }
    }
}
