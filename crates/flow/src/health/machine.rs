//! What the machine tells of itself: processors, memory, the disk, connections.

use std::path::Path;
use std::time::Instant;

use gemba_core::health::MachineView;
use sysinfo::{
    DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
    get_current_pid,
};

/// Reads the machine. It remembers its last reading: how busy processors are is told between two.
pub(super) struct Sampler {
    system: System,
    own: Option<Pid>,
    /// When processors were read last, by the machine's clock: a test's may run faster.
    processors_at: Option<Instant>,
}

impl Sampler {
    pub(super) fn new() -> Self {
        Self { system: System::new(), own: get_current_pid().ok(), processors_at: None }
    }

    /// Reads everything; blocks its thread meanwhile, for about a millisecond.
    pub(super) fn read(&mut self) -> MachineView {
        let processor_now_ratio = self.processors();
        self.system.refresh_memory();
        let own = self.own.and_then(|pid| {
            let memory = ProcessRefreshKind::nothing().with_memory().without_tasks();
            self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, memory);
            self.system.process(pid).map(sysinfo::Process::memory)
        });
        let known = |bytes: u64| (0 < bytes).then_some(bytes);
        MachineView {
            processor_ratio: None,
            processor_now_ratio,
            memory_bytes: own,
            memory_available_bytes: known(self.system.available_memory()),
            memory_total_bytes: known(self.system.total_memory()),
            connections: connections(),
        }
    }

    /// The share of the processors in use since the last reading; `None` for the first one, and for one that comes
    /// so soon that it would tell nothing.
    fn processors(&mut self) -> Option<f64> {
        let now = Instant::now();
        let elapsed = self.processors_at.map(|at| now.duration_since(at));
        if elapsed.is_some_and(|elapsed| elapsed < MINIMUM_CPU_UPDATE_INTERVAL) {
            return None;
        }
        self.processors_at = Some(now);
        self.system.refresh_cpu_usage();
        let told = elapsed.is_some() && !self.system.cpus().is_empty();
        told.then(|| (f64::from(self.system.global_cpu_usage()) / 100.0).clamp(0.0, 1.0))
    }
}

/// Bytes free on the disk on which `folder` is.
pub(super) fn disk_free(folder: &Path) -> Option<u64> {
    let folder = folder.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let holding = disks.list().iter().filter(|disk| folder.starts_with(disk.mount_point()));
    let disk = holding.max_by_key(|disk| disk.mount_point().components().count())?;
    // A disk without room at all is no disk: some containers tell nothing of theirs.
    (0 < disk.total_space()).then(|| disk.available_space())
}

/// Established TCP connections of this process: those of the machine whose inodes are among our descriptors.
#[cfg(target_os = "linux")]
fn connections() -> Option<u32> {
    use std::collections::HashSet;
    use std::fs;

    let mut ours = HashSet::new();
    for entry in fs::read_dir("/proc/self/fd").ok()? {
        // A descriptor may be closed meanwhile: it is not open then.
        let Ok(target) = fs::read_link(entry.ok()?.path()) else { continue };
        let target = target.to_string_lossy();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            ours.insert(inode.to_owned());
        }
    }
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(fs::read_to_string);
    let tables: Vec<_> = tables.into_iter().flatten().collect();
    let established = tables.iter().flat_map(|table| table.lines().filter_map(established));
    Some(established.filter(|inode| ours.contains(*inode)).count() as u32)
}

#[cfg(not(target_os = "linux"))]
const fn connections() -> Option<u32> {
    None
}

/// The inode of an established connection, of a line of the kernel's table: its fourth column is the state, its
/// tenth the inode.
#[cfg(any(target_os = "linux", test))]
fn established(line: &str) -> Option<&str> {
    const ESTABLISHED: &str = "01";
    let mut columns = line.split_ascii_whitespace();
    (columns.nth(3)? == ESTABLISHED).then(|| columns.nth(5))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_while_it_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap();
        let Some(connections) = connections() else { return };
        assert!(2 <= connections, "{connections} of at least two ends");
        drop((client, server));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let line = "   1: 0100007F:0FC8 0100007F:D2A4 01 00000000:00000000 00:00000000 00000000  1000        0 31337 1 0000000000000000 20 4 30 10 -1";
        assert_eq!(established(line), Some("31337"));
        assert_eq!(established(&line.replace(" 01 ", " 0A ")), None, "one that listens");
        assert_eq!(established("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn the_machine_tells_of_itself() {
        let mut sampler = Sampler::new();
        let first = sampler.read();
        assert_eq!(first.processor_now_ratio, None, "there is nothing to compare with");
        assert!(first.memory_total_bytes >= first.memory_available_bytes, "{first:?}");
        sampler.processors_at = Instant::now().checked_sub(MINIMUM_CPU_UPDATE_INTERVAL);
        let second = sampler.read();
        assert!(second.processor_now_ratio.is_some_and(|ratio| (0.0..=1.0).contains(&ratio)), "{second:?}");
    }
}
