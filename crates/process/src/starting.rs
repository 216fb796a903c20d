//! That a process is being started: kept in a file until its number is written down, so that a later life finds one
//! whose number never was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::identity::{Identity, writers_of};
use crate::output::log_file;

#[derive(Serialize, Deserialize)]
struct Starting {
    /// What it is started from.
    spec: u64,
    /// Those that write into the log already: what earlier ones started, and left there.
    bystanders: Vec<u32>,
}

fn file(home: &Path) -> PathBuf {
    home.join("starting")
}

/// Writes down that one is about to be started. Half a file is none: whoever dies over it has started nothing.
pub(crate) fn begin(home: &Path, spec: u64) -> io::Result<()> {
    let starting = Starting { spec, bystanders: writers_of(&log_file(home)) };
    fs::write(file(home), serde_json::to_vec(&starting)?)
}

/// It stands in a file of its own, or was never started.
pub(crate) fn done(home: &Path) {
    let _ = fs::remove_file(file(home));
}

/// The one that was started and not written down, if there is one: of those that are not known, the first that came
/// to write into the log. What it has started itself since is younger.
pub(crate) fn newcomer(home: &Path, known: &[u32]) -> Option<Identity> {
    let starting: Starting = serde_json::from_slice(&fs::read(file(home)).ok()?).ok()?;
    let writers = writers_of(&log_file(home)).into_iter();
    let strangers = writers.filter(|pid| !known.contains(pid) && !starting.bystanders.contains(pid));
    let newcomers = strangers.filter_map(|pid| Identity::of(pid, starting.spec).ok());
    newcomers.min_by_key(|one| (one.started_ticks, one.pid))
}
