//! Who serves until its successor is ready, and who was told to stop then: kept in files, so that a later life finds
//! them whenever this one ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::identity::Identity;
use crate::running::Running;

/// A process that goes on until its successor is ready.
#[derive(Debug)]
pub(crate) struct Before {
    pub running: Running,
    pub identity: Identity,
}

impl Before {
    /// Writes down, before its successor is started, that it is the one that serves.
    pub(crate) fn stays(&self, home: &Path) -> io::Result<()> {
        self.identity.write(home, &file(home))
    }

    /// Its successor will never be ready: it is the one that is found again.
    pub(crate) fn returns(&self, home: &Path) -> io::Result<()> {
        self.identity.write(home, &crate::identity::pid_file(home))?;
        forget(home);
        Ok(())
    }

    /// Its successor is ready. It takes as long to stop as it has, and nobody waits for it.
    pub(crate) fn leaves(self, home: &Path, within: Duration) {
        let leaving = home.join(format!("{LEAVING}{}", self.identity.pid));
        // If it cannot be written down, a later life takes it for one that serves, and its successor for one that is
        // not ready, which it is at once.
        let _ = fs::rename(file(home), &leaving);
        see_off(self.running, leaving, within);
    }
}

/// What the files of those that were told to stop begin with.
const LEAVING: &str = "leaving.";

fn file(home: &Path) -> PathBuf {
    home.join("before")
}

/// The process that serves until the one that is written down is ready, if there is one and it runs.
pub(crate) fn read(home: &Path) -> Option<Identity> {
    Identity::read(&file(home)).filter(Identity::is_alive)
}

/// Forgets that anybody serves for another one.
pub(crate) fn forget(home: &Path) {
    let _ = fs::remove_file(file(home));
}

/// Goes on stopping those that an earlier life told to stop; tells their numbers.
pub(crate) fn see_all_off(home: &Path, within: Duration) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(LEAVING) {
            continue;
        }
        match Identity::read(&entry.path()).map(|identity| Running::adopt(&identity)).transpose()?.flatten() {
            Some(running) => {
                pids.push(running.id());
                see_off(running, entry.path(), within);
            }
            None => fs::remove_file(entry.path())?,
        }
    }
    Ok(pids)
}

/// Stops it, and forgets it when it has.
fn see_off(mut running: Running, leaving: PathBuf, within: Duration) {
    // If this ends before it has, the next life goes on with it.
    running.release();
    tokio::spawn(async move {
        if running.stop(within).await.is_ok() {
            let _ = fs::remove_file(leaving);
        }
    });
}
