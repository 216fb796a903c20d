//! Monitors: exactly one `Down` for the end of a life, after its place is free.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Poller, Poll};

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use tokio::sync::oneshot;

use crate::bonds::{Rank, Tie, Watcher};
use crate::system::System;

/// The end of a life that was watched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Down {
    /// The place that was watched.
    pub path: ActorPath,
    /// The life that ended; `None` if there was none to watch.
    pub incarnation: Option<Incarnation>,
    /// Why it ended; [`ExitReason::NoProc`] if there was none to watch.
    pub reason: ExitReason,
}

impl Down {
    pub(crate) fn nobody(path: ActorPath, incarnation: Option<Incarnation>) -> Self {
        Self { path, incarnation, reason: ExitReason::NoProc }
    }
}

/// Waits for the end of one life and gives one [`Down`]; after that it is never ready again.
///
/// The place is free when the `Down` comes: its name can be taken again at once. Dropping the monitor
/// ends it (OTP: `demonitor` with `flush`).
///
/// # Cancel safety
///
/// A `&mut Monitor` may be awaited in a `select!`, dropped and awaited again.
///
/// # Examples
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use gemba_kernel::{Node, task};
///
/// let job = task("job", |ctx| async move { ctx.stopped().await; Ok(()) }).temporary();
/// let node = Node::builder("example").child(job).start().await.unwrap();
/// let job = "/job".parse().unwrap();
/// let monitor = node.system().monitor(&job);
/// node.system().kill(&job, "example").unwrap();
/// assert_eq!(monitor.await.reason.to_string(), "killed");
/// # });
/// ```
#[derive(Debug)]
#[must_use = "dropping a monitor ends it"]
pub struct Monitor {
    down: oneshot::Receiver<Down>,
    tie: Option<Tie>,
    is_over: bool,
}

impl Monitor {
    /// The life that is watched, if there was one.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.tie.as_ref().map(Tie::incarnation)
    }
}

impl Future for Monitor {
    type Output = Down;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Down> {
        if self.is_over {
            return Poll::Pending;
        }
        let down = Pin::new(&mut self.down).poll(cx);
        self.is_over = down.is_ready();
        down.map(|down| down.expect("a life tells its watchers before it lets go of its place"))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(tie) = self.tie.take() {
            tie.cut();
        }
    }
}

impl System {
    /// Watches the life that is at `path` now. If there is none, the [`Down`] says
    /// [`ExitReason::NoProc`] and is there at once. A life that is starting can be watched.
    ///
    /// Every monitor is independent: two of them give two `Down`s. To be told by a message, a server takes
    /// [`Context::monitor`](crate::Context::monitor).
    pub fn monitor(&self, path: &ActorPath) -> Monitor {
        self.monitor_only(path, None)
    }

    /// [`monitor`](Self::monitor) of one life: if it is over, the [`Down`] says [`ExitReason::NoProc`],
    /// whoever is there now.
    pub fn monitor_life(&self, path: &ActorPath, incarnation: Incarnation) -> Monitor {
        self.monitor_only(path, Some(incarnation))
    }

    fn monitor_only(&self, path: &ActorPath, only: Option<Incarnation>) -> Monitor {
        let (tell, down) = oneshot::channel();
        let slot = self.registry().get(path);
        let tell: Watcher = Box::new(move |down| {
            // Whoever has dropped the monitor meanwhile does not want to know.
            let _ = tell.send(down);
        });
        let tie = match slot {
            Some(slot) => slot.watch(only, Rank::Monitor, tell),
            None => Err(tell),
        };
        let tie = tie.map_err(|tell| tell(Down::nobody(path.clone(), only))).ok();
        Monitor { down, tie, is_over: false }
    }

    /// The life that holds the place at `path` now, starting and stopping ones included.
    pub fn whereis(&self, path: &ActorPath) -> Option<Incarnation> {
        self.registry().get(path)?.holder()
    }
}
