//! The processes of a comparison: started, waited for, ended, and what they cost.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to listen.
pub(crate) const START_MAX: Duration = Duration::from_secs(20);

/// How long a process may take to end.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Ports of the benchmark: below those of instances, and below those the system gives to whoever asks for any.
const PORTS: std::ops::Range<u16> = 14_000..20_000;

/// The tick in which Linux counts the time of processes (`getconf CLK_TCK`; 100 on every platform since 2.4).
const TICKS_PER_S: f64 = 100.0;

/// Ports that nobody listens at, each once.
#[derive(Debug)]
pub(crate) struct Ports(u16);

impl Ports {
    pub(crate) fn new() -> Self {
        Self(PORTS.start + (std::process::id() % 4_000) as u16)
    }

    pub(crate) fn take(&mut self) -> SocketAddr {
        loop {
            self.0 = if PORTS.contains(&(self.0 + 1)) { self.0 + 1 } else { PORTS.start };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, self.0)).is_ok() {
                return (Ipv4Addr::LOCALHOST, self.0).into();
            }
        }
    }
}

/// A process that ends when this goes out of scope.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Starts it, and waits until somebody listens at `address`.
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut running = Self(child);
        let asked = Instant::now();
        while TcpStream::connect(address).is_err() {
            if running.0.try_wait()?.is_some() || START_MAX < asked.elapsed() {
                return Err(io::Error::other(format!("{command:?} does not listen at {address}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn until_ended(mut self) {
        let _ = self.0.wait();
    }

    /// The time that it and its children have spent on processors, in seconds.
    pub(crate) fn cpu_s(&self) -> f64 {
        let own = self.0.id();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| {
            let fields = stat(pid)?;
            // proc(5), counted from the state: 1 is the parent, 11 and 12 the times.
            let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
            (pid == own || field(1)? == u64::from(own)).then(|| Some(field(11)? + field(12)?))?
        })
        .sum::<u64>() as f64
            / TICKS_PER_S
    }
}

/// The time that this process has spent on processors, in seconds.
pub(crate) fn own_cpu_s() -> f64 {
    let ticks = |fields: Vec<String>| {
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    stat(std::process::id()).and_then(ticks).unwrap_or(f64::NAN) / TICKS_PER_S
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text[text.rfind(')')? + 1..].split_whitespace().map(str::to_owned).collect())
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
