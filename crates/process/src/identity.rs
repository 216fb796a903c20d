//! Which process it was: kept in a file, so that whoever comes later finds it, and takes no other one for it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A process, told apart from every other one that ever had its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub pid: u32,
    /// When it started, in ticks since the boot: a number is not given twice within one tick.
    pub started_ticks: u64,
    boot: String,
    /// The spec it was started from.
    pub spec: u64,
}

impl Identity {
    /// The process that has the number now.
    pub(crate) fn of(pid: u32, spec: u64) -> io::Result<Self> {
        Ok(Self { pid, started_ticks: started_ticks(pid)?, boot: boot()?, spec })
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
            && started_ticks(self.pid).is_ok_and(|ticks| ticks == self.started_ticks)
    }

    /// Writes it down in a file of this directory, as a whole or not at all.
    pub(crate) fn write(&self, home: &Path, file: &Path) -> io::Result<()> {
        let new = home.join("pid.new");
        // Not synced: what a power cut takes from the disk, it has taken from the table of processes too.
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, file)
    }

    /// What was written down last in this file.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// One that never ran.
    #[cfg(test)]
    pub(crate) fn for_test(pid: u32, spec: u64) -> Self {
        Self { pid, started_ticks: 0, boot: String::new(), spec }
    }
}

/// Forgets who ran there.
pub(crate) fn forget(home: &Path) {
    let _ = fs::remove_file(pid_file(home));
}

pub(crate) fn pid_file(home: &Path) -> PathBuf {
    home.join("pid")
}

/// The processes that write into this log and lead a group.
pub(crate) fn writers_of(log: &Path) -> Vec<u32> {
    let (Ok(log), Ok(processes)) = (fs::metadata(log), fs::read_dir("/proc")) else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let writes = |pid: &u32| {
        let writes = fs::metadata(format!("/proc/{pid}/fd/1"))
            .is_ok_and(|file| (file.dev(), file.ino()) == (log.dev(), log.ino()));
        writes
            && stat(*pid).is_ok_and(|fields| fields.get(GROUP).is_some_and(|group| *group == pid.to_string()))
    };
    pids.filter(writes).collect()
}

/// Places in `/proc/PID/stat`, counted from the state, which comes after the name (proc(5): fields 3, 5 and 22).
const STATE: usize = 0;
const GROUP: usize = 2;
const STARTED: usize = 19;

fn stat(pid: u32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may have spaces and parentheses in it; nothing behind it has.
    let behind = text.rfind(')').map_or("", |end| &text[end + 1..]);
    Ok(behind.split_whitespace().map(str::to_owned).collect())
}

fn started_ticks(pid: u32) -> io::Result<u64> {
    let fields = stat(pid)?;
    let is_over = fields.get(STATE).is_none_or(|state| state == "Z" || state == "X");
    let ticks = fields.get(STARTED).and_then(|ticks| ticks.parse().ok());
    ticks.filter(|_| !is_over).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_given_again_is_another_process() {
        let home = tempfile::tempdir().unwrap();
        let own = Identity::of(std::process::id(), 7).unwrap();
        assert!(own.is_alive());
        let file = pid_file(home.path());
        own.write(home.path(), &file).unwrap();
        assert_eq!(Identity::read(&file), Some(own.clone()));
        let earlier = Identity { started_ticks: own.started_ticks - 1, ..own.clone() };
        assert!(!earlier.is_alive());
        let before_the_boot = Identity { boot: "another".to_owned(), ..own };
        assert!(!before_the_boot.is_alive());
        forget(home.path());
        assert_eq!(Identity::read(&file), None);
    }

    #[test]
    fn half_a_file_is_nobody() {
        let home = tempfile::tempdir().unwrap();
        fs::write(pid_file(home.path()), br#"{"pid": 1, "#).unwrap();
        assert_eq!(Identity::read(&pid_file(home.path())), None);
    }
}
