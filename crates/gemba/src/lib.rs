//! OTP-style supervision for tokio services, with Toyota's flow control.
//!
//! Services built on it crash small, restart by rule, and show why. Start with [`Server`] and [`Node`]; when
//! work arrives faster than it can be done, put it on a [`Line`] of a [`Plant`].
//!
//! ```
//! use gemba::{Context, Node, Reply, Server, Stop, server};
//!
//! struct Counter(u64);
//!
//! enum Msg { Add(u64), Get(Reply<u64>) }
//!
//! impl Server for Counter {
//!     type Msg = Msg;
//!     async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
//!         match msg {
//!             Msg::Add(n) => self.0 = self.0.checked_add(n).expect("the counter overflowed"),
//!             Msg::Get(reply) => reply.send(self.0),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let counter = server("counter", || Counter(0));
//!     let address = counter.address();
//!     let node = Node::builder("hello").child(counter).start().await?;
//!     address.cast(Msg::Add(1))?;
//!     assert_eq!(address.call(Msg::Get).await?, 1);
//!     address.cast(Msg::Add(u64::MAX))?; // Panics; its supervisor starts a new one, and the address still leads to it.
//!     node.stop("done").await?;
//!     Ok(())
//! }
//! ```
//!
//! # A line
//!
//! ```
//! use std::convert::Infallible;
//!
//! use gemba::{Action, JobContext, LineSpec, Node, Plant, PoolSpec, Signal};
//!
//! struct Double;
//!
//! impl Action for Double {
//!     type Input = u64;
//!     type Output = u64;
//!     type Error = Infallible;
//!     async fn run(&self, n: u64, _: &JobContext) -> Result<u64, Infallible> {
//!         Ok(2 * n)
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let node = Node::builder("lines");
//!     let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("double").workers(2, 8));
//!     let double = plant.line(LineSpec::new("double", Double));
//!     let node = node.child(plant.build()?).start().await?;
//!     // Admitted, judged, routed, pulled, run behind a breaker: one answer, whatever dies meanwhile.
//!     assert_eq!(double.submit(Signal::new(21), &()).await?, 42);
//!     node.stop("done").await?;
//!     Ok(())
//! }
//! ```

mod inspector;
mod node;

/// The program of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The page for Erlangers, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/otp.md")]
struct Otp;

pub use gemba_core::{
    adaptive, admission, board, breaker, burst, control, cost, exit, forecast, jidoka, ladder, light,
    machine, metric, name, policy, queue, rate, receipt, routing, scaling, supervision, time, view,
};
pub use gemba_flow::{
    Action, ApplyError, DEADLINE, JobContext, Line, LineSpec, Permit, Plant, PlantBuilder, PlantError,
    PlantErrors, PoolHandle, PoolSpec, QUEUE_MAX, RateScope, Refusal, RefusalReason, RegulatorHandle,
    Resized, SettingError, Settings, SettingsErrors, Signal, SubmitError,
};
pub use gemba_inspect::{Client, ClientError, Readiness, Token, TokenError};
pub use gemba_kernel::{
    Actions, ActorSpec, Address, Broadcast, CALL_TIMEOUT, CallError, CastError, ChildError, ChildInfo,
    ChildSettings, ChildSpec, Context, Down, DynamicRef, DynamicSupervisor, Entering, Exit, FindError,
    GROUP_EVENTS, Group, GroupError, GroupEvent, GroupMonitor, INSERTED_LIMIT, Instruments, JOURNAL_CAPACITY,
    JoinError, Journal, KillError, MAILBOX_CAPACITY, Machine, Member, MemberRefusal, Monitor, MonitorRef,
    Next, NodeGroups, POSTPONED_LIMIT, Pinned, Place, REQUEST_LIMIT, Reply, Request, START_LIMIT,
    STATE_TEXT_MAX, STATE_TIMEOUT, STOP_LIMIT, STUCK_AFTER, SUSPEND_TIMEOUT, Server, ServerSpec, Shutdown,
    SpecError, Started, StateMachine, Stop, StopError, Supervisor, SupervisorInit, SupervisorRef, Sys,
    SysError, System, TERMINATE_LIMIT, TRACE_LASTS, TRACE_MESSAGES_MAX, TRACE_PER_SECOND_MAX, TRACE_TEXT_MAX,
    TaskContext, TaskHandle, TaskSpec, Timeout, Trace, TraceLimits, When, actor, server, state_machine,
    supervisor, task,
};
pub use gemba_observe::{LogFormat, LogGuard, Logs, LogsError};
pub use inspector::{INSPECT, InspectError};
pub use node::{Node, NodeBuilder, NodeError};
