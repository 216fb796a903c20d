//! Keeps actors alive: behaviours, supervisors, registry, shutdown, journal, published views.
//!
//! Supervision is useful without the line: this crate knows nothing of signals, pools and lights.

#[cfg(panic = "abort")]
compile_error!("supervision cannot catch panics with `panic = \"abort\"`; set `panic = \"unwind\"`");

mod actor;
mod address;
mod bonds;
mod breakers;
mod child;
mod deadlines;
mod exit;
mod group;
mod groups;
mod halt;
mod handle;
mod instruments;
mod job;
mod journal;
mod lifeline;
mod link;
mod machine;
mod monitor;
mod node;
mod place;
mod publish;
mod pulse;
mod registry;
mod scribe;
mod server;
mod shell;
mod signals;
mod slot;
mod start;
mod supervisor;
mod sys;
mod system;
mod task;
mod vitals;
mod watch;

pub use actor::{ActorSpec, actor};
pub use address::{
    Address, CALL_TIMEOUT, CallError, CastError, FindError, MAILBOX_CAPACITY, Pinned, Place, Reply, Request,
    StopError,
};
pub use breakers::Breakers;
pub use child::{ChildSpec, Shutdown, SpecError};
pub use exit::Stop;
pub use gemba_core::machine::{INSERTED_LIMIT, Next, POSTPONED_LIMIT, When};
pub use group::{Broadcast, GROUP_EVENTS, Group, GroupEvent, GroupMonitor, JoinError, Member, MemberRefusal};
pub use groups::{GroupError, NodeGroups};
pub use halt::HaltError;
pub use handle::{ChildError, ChildInfo, ChildSettings, DynamicRef, REQUEST_LIMIT, Started, SupervisorRef};
pub use instruments::Instruments;
pub use job::TaskHandle;
pub use journal::{JOURNAL_CAPACITY, Journal};
pub use link::Exit;
pub use machine::{Actions, Entering, Machine, StateMachine, Timeout, state_machine};
pub use monitor::{Down, Monitor};
pub use node::{Node, NodeBuilder, NodeError, STOP_LIMIT};
pub use publish::{Closed, Publisher, Reader};
pub use server::{Context, STUCK_AFTER, Server, ServerSpec, TERMINATE_LIMIT, server};
pub use signals::MonitorRef;
pub use slot::Meter;
pub use start::START_LIMIT;
pub use supervisor::{DynamicSupervisor, Supervisor, SupervisorInit, supervisor};
pub use sys::{
    STATE_TEXT_MAX, STATE_TIMEOUT, SUSPEND_TIMEOUT, Sys, SysError, TRACE_LASTS, TRACE_MESSAGES_MAX,
    TRACE_PER_SECOND_MAX, TRACE_TEXT_MAX, Trace, TraceLimits,
};
pub use system::{KillError, NotReady, System};
pub use task::{TaskContext, TaskSpec, task};
