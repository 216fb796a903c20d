//! OS processes as children of a supervisor: started, probed, listened to, stopped, and found again.
//!
//! [`process`] makes a child of a [`ProcessSpec`]; its [`ProcessHandle`] tells how it is, and ends it. A process that
//! [survives](ProcessSpecBuilder::survives) keeps on when its supervisor, or the whole program above it, dies, and
//! the next one adopts it.

#[cfg(not(target_os = "linux"))]
compile_error!("processes are told apart by /proc and pidfd, which only Linux has");

mod before;
mod child;
mod ended;
mod error;
mod find;
mod handle;
mod identity;
mod life;
mod logs;
mod output;
mod probe;
mod running;
mod spec;
mod starting;

pub use child::{ProcessChild, process};
pub use ended::Ended;
pub use error::{LastLines, ProcessError};
pub use handle::{NotEnded, ProcessHandle, ProcessState, ProcessView};
pub use logs::LogRules;
pub use probe::Probe;
pub use spec::{ProcessSpec, ProcessSpecBuilder, ProcessSpecError};
