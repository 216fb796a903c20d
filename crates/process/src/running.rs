//! A process that runs: waited for, signalled, stopped; our own child or somebody else's.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::time::timeout;

use crate::ended::Ended;
use crate::identity::Identity;

/// How long a killed process may take to be gone: more means that the system is stuck in one of its calls.
pub(crate) const KILL_MAX: Duration = Duration::from_secs(5);

/// A process that runs. Unless it was [released](Self::release), dropping it kills its whole group.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    waiter: Waiter,
    is_held: bool,
}

#[derive(Debug)]
enum Waiter {
    Own(Child),
    /// Readable when it has ended.
    Adopted(AsyncFd<OwnedFd>),
}

impl Running {
    /// A child that was just started, in a group of its own.
    pub(crate) fn own(child: Child) -> Option<Self> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)?;
        Some(Self { pid, waiter: Waiter::Own(child), is_held: true })
    }

    /// A process that somebody else started; `None` if it is over.
    pub(crate) fn adopt(identity: &Identity) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after it was opened: from here on the descriptor means this process, whatever its number does.
        if !identity.is_alive() {
            return Ok(None);
        }
        #[allow(
            deprecated,
            reason = "its successor is unsafe; an `OwnedFd` stays open as long as the `AsyncFd` has it"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Some(Self { pid, waiter: Waiter::Adopted(fd), is_held: true }))
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end; what is left of its group is killed then.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> io::Result<Ended> {
        let how = match &mut self.waiter {
            Waiter::Own(child) => child.wait().await?.into(),
            Waiter::Adopted(fd) => {
                let _readable = fd.readable().await?;
                Ended::Untold
            }
        };
        self.kill_group();
        self.is_held = false;
        Ok(how)
    }

    /// Asks it to stop, and kills its group if it has not within `within`; tells whether that was necessary.
    pub(crate) async fn stop(&mut self, within: Duration) -> io::Result<(Ended, bool)> {
        // To the process alone: how those it started are ended is its own affair, until the time is over.
        self.signal(Signal::TERM)?;
        if let Ok(ended) = timeout(within, self.ended()).await {
            return Ok((ended?, false));
        }
        Ok((self.kill().await?, true))
    }

    /// Kills its group.
    pub(crate) async fn kill(&mut self) -> io::Result<Ended> {
        self.kill_group();
        timeout(KILL_MAX, self.ended()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Lets it run on.
    pub(crate) fn release(&mut self) {
        self.is_held = false;
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match &self.waiter {
            // Until it has been waited for, its number is its own.
            Waiter::Own(_) => kill_process(self.pid, signal),
            Waiter::Adopted(fd) => pidfd_send_signal(fd.get_ref(), signal),
        };
        match sent {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The number of a group is not given again while one of it lives; and right after its end, numbers have not
    /// come around.
    fn kill_group(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_held {
            self.kill_group();
        }
    }
}
