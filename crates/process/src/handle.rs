//! How a process is, and how it is ended, from outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::ended::Ended;
use crate::error::{LastLines, ProcessError};
use crate::running::KILL_MAX;
use crate::spec::ProcessSpec;

/// What a process does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ProcessState {
    /// It was not started yet.
    Waiting,
    /// It runs and is not ready.
    Starting,
    /// It runs and is ready.
    Ready,
    /// It was asked to stop.
    Stopping,
    /// It runs on without us, who were stopped.
    Released,
    /// It was stopped.
    Ended {
        /// How it ended.
        how: Ended,
        /// Whether it ignored SIGTERM for as long as it had, and was killed.
        killed: bool,
    },
    /// It does not run and should; its supervisor starts it again or gives up.
    Failed(ProcessError),
}

/// A process as it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProcessView {
    /// What it does.
    pub state: ProcessState,
    /// Its number, while it runs.
    pub pid: Option<u32>,
    /// Whether it had been started by an earlier life of its supervisor.
    pub is_adopted: bool,
    /// How often it was started or adopted.
    pub starts: u64,
    /// How often it failed: to start, to be ready, or by ending.
    pub failures: u64,
    /// Why it failed the last time; it may run again.
    pub last_failure: Option<ProcessError>,
}

impl ProcessView {
    /// Whether it runs and is ready.
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, ProcessState::Ready)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    End,
}

/// What the lives of a process child and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) spec: ProcessSpec,
    view: watch::Sender<ProcessView>,
    wish: watch::Sender<Wish>,
    pub(crate) last: watch::Sender<LastLines>,
}

impl Shared {
    pub(crate) fn new(spec: ProcessSpec) -> Self {
        let view = ProcessView {
            state: ProcessState::Waiting,
            pid: None,
            is_adopted: false,
            starts: 0,
            failures: 0,
            last_failure: None,
        };
        Self {
            spec,
            view: watch::Sender::new(view),
            wish: watch::Sender::new(Wish::Run),
            last: watch::Sender::new(LastLines::default()),
        }
    }

    pub(crate) fn set(&self, state: ProcessState) {
        self.view.send_modify(|view| {
            let is_over = matches!(state, ProcessState::Ended { .. } | ProcessState::Failed(_));
            if let ProcessState::Failed(error) = &state {
                view.failures += 1;
                view.last_failure = Some(error.clone());
            }
            view.pid = view.pid.filter(|_| !is_over);
            view.state = state;
        });
    }

    pub(crate) fn runs(&self, pid: u32, is_adopted: bool) {
        self.view.send_modify(|view| {
            view.starts += 1;
            (view.pid, view.is_adopted, view.state) = (Some(pid), is_adopted, ProcessState::Starting);
        });
    }

    /// Whether it is to end for good.
    pub(crate) fn is_to_end(&self) -> bool {
        *self.wish.borrow() == Wish::End
    }

    /// Resolves when it is to end for good.
    pub(crate) async fn to_end(&self) {
        // The sender is `self`, so it does not fail.
        let _ = self.wish.subscribe().wait_for(|wish| *wish == Wish::End).await;
    }
}

/// The process did not end in time. It may still: look at [`ProcessHandle::view`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the process did not end within {within:?}, nor was it killed; see whether its supervisor runs")]
pub struct NotEnded {
    /// How long it was waited for.
    pub within: Duration,
}

/// A process under its supervisor, through all its lives. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct ProcessHandle(pub(crate) Arc<Shared>);

impl ProcessHandle {
    /// The process as it is now.
    pub fn view(&self) -> ProcessView {
        self.0.view.borrow().clone()
    }

    /// Where the view is published.
    pub fn subscribe(&self) -> watch::Receiver<ProcessView> {
        self.0.view.subscribe()
    }

    /// The last lines it wrote.
    pub fn last_lines(&self) -> LastLines {
        self.0.last.borrow().clone()
    }

    /// Waits until it is ready, and tells its number.
    ///
    /// # Errors
    ///
    /// The [`ProcessError`] of the next failure if one comes first; of the last if it is down;
    /// [`ProcessError::Over`] if it was ended.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn ready(&self) -> Result<u32, ProcessError> {
        let mut views = self.0.view.subscribe();
        let mut found = Err(None);
        let settled = views.wait_for(|view| {
            found = match &view.state {
                ProcessState::Ready => Ok(view.pid.unwrap_or(0)),
                ProcessState::Failed(error) => Err(Some(error.clone())),
                ProcessState::Ended { .. } if self.0.is_to_end() => Err(Some(ProcessError::Over)),
                ProcessState::Waiting
                | ProcessState::Starting
                | ProcessState::Stopping
                | ProcessState::Released
                | ProcessState::Ended { .. } => return false,
            };
            true
        });
        let _ = settled.await;
        found.map_err(|error| error.expect("the sender is held, so the wait ended with a find"))
    }

    /// Ends it for good: SIGTERM, its time to stop, SIGKILL to its group. It is not started again, whatever the rules
    /// of its child are.
    ///
    /// # Errors
    ///
    /// [`NotEnded`] if it took longer than it has, and five seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request.
    pub async fn end(&self) -> Result<ProcessView, NotEnded> {
        self.0.wish.send_replace(Wish::End);
        let within = self.0.spec.stop_within + 2 * KILL_MAX;
        let mut views = self.0.view.subscribe();
        let over = views.wait_for(|view| {
            matches!(view.state, ProcessState::Waiting | ProcessState::Ended { .. } | ProcessState::Failed(_))
        });
        match timeout(within, over).await {
            Ok(Ok(view)) => Ok(view.clone()),
            Ok(Err(_)) | Err(_) => Err(NotEnded { within }),
        }
    }
}
