//! A process as a child of a supervisor.

use std::sync::Arc;
use std::time::Duration;

use gemba_kernel::{ChildSpec, Shutdown, Stop, TaskContext, TaskSpec, task};

use crate::handle::{ProcessHandle, Shared};
use crate::life;
use crate::running::KILL_MAX;
use crate::spec::ProcessSpec;

/// What its own stop may take beyond the process's time and that of the kill.
const SPARE: Duration = Duration::from_secs(1);

/// A process as a child; made by [`process`].
#[must_use = "a spec does nothing until a supervisor has it"]
#[derive(Debug)]
pub struct ProcessChild {
    task: TaskSpec,
    handle: ProcessHandle,
}

/// A process called `name`. Each life starts it, waits until it is ready, and ends when it ends: with an error,
/// unless it was asked to.
///
/// # Units and limits
///
/// Transient: it is started again until [`ProcessHandle::end`]. A supervisor that stops it gives it its
/// [time to stop](crate::ProcessSpecBuilder::stop_within), and lets one that
/// [survives](crate::ProcessSpecBuilder::survives) run on.
///
/// # Examples
///
/// ```
/// use gemba_kernel::{Node, Supervisor};
/// use gemba_process::{ProcessSpec, process};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spec = ProcessSpec::builder("sleep").arg("60").build().map_err(|errors| format!("{errors:?}"))?;
/// let sleeper = process("sleeper", spec);
/// let handle = sleeper.handle();
/// let workers = Supervisor::one_for_one("workers").child(sleeper);
/// let node = Node::builder("example").child(workers).start().await?;
/// handle.ready().await?;
/// handle.end().await?; // SIGTERM, and SIGKILL to its group when its time is over.
/// node.stop("done").await?;
/// # Ok(()) }
/// ```
pub fn process(name: &str, spec: ProcessSpec) -> ProcessChild {
    let within = spec.stop_within + KILL_MAX + SPARE;
    let shared = Arc::new(Shared::new(spec));
    let handle = ProcessHandle(shared.clone());
    let body = move |ctx: TaskContext| {
        let shared = shared.clone();
        async move { life::live(&shared, &ctx).await.map_err(Stop::from) }
    };
    ProcessChild { task: task(name, body).transient().shutdown(Shutdown::Within(within)), handle }
}

impl ProcessChild {
    /// Tells how it is, through all its lives.
    pub fn handle(&self) -> ProcessHandle {
        self.handle.clone()
    }

    /// Never starts it again.
    pub fn temporary(mut self) -> Self {
        self.task = self.task.temporary();
        self
    }
}

impl From<ProcessChild> for ChildSpec {
    fn from(child: ProcessChild) -> Self {
        child.task.into()
    }
}
