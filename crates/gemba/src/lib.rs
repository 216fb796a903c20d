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
//! A panic, an exit, a restart is a receipt in the node's [`Journal`]; [`Logs`] writes them as lines, and with
//! [`NodeBuilder::inspect`] the program `gemba` shows them from another terminal.
//!
//! # Where to begin
//!
//! | for | there is |
//! | --- | --- |
//! | state and messages | [`server`], [`Server`], [`Address`] |
//! | what an event does depends on a state | [`state_machine`], [`StateMachine`] |
//! | work without messages | [`task`]; for one result [`DynamicRef::run`] |
//! | an actor of ractor's | [`actor`] |
//! | a program of the operating system | `process`, with the feature of that name |
//! | restarts by rule | [`Supervisor`], [`DynamicSupervisor`], and [`supervisor`] for a list made anew each time |
//! | children that come and go | [`SupervisorRef`], [`DynamicRef`] |
//! | to hear of an end, or to share it | [`System::monitor`], [`Context::monitor`], [`Context::link`] |
//! | one message for many | [`Group`] |
//! | a look at a server that runs | [`System::sys`], [`System::tree`], [`Journal`] |
//! | a configuration, with every mistake told at once | [`config`] |
//! | an HTTP server that bounds what its callers hold | [`http::serve`] |
//! | more work than can be done at once | [`Plant`], [`Line`], [`Action`] |
//! | a line whose signals come from a queue | [`feed`](feed()), [`Source`]; with the feature `store`, `Queue::source` |
//!
//! Examples on the pages below name the crate that an item comes from, `gemba_kernel`, `gemba_flow`, `gemba_core` or
//! `gemba_inspect`; all of them are here under the same names.
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
pub mod reload;

/// The program of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The page for Erlangers, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/otp.md")]
struct Otp;

/// The page of patterns, compiled.
#[cfg(all(doctest, feature = "store"))]
#[doc = include_str!("../../../docs/patterns.md")]
struct Patterns;

/// The page of the configuration, compiled.
#[cfg(all(doctest, feature = "config"))]
#[doc = include_str!("../../../docs/configuration.md")]
struct Configuration;

pub use gemba_alert::{AlertRoutes, Email, Encryption, RouteError, RouteErrors};
/// Configuration from a file, the environment and flags, with every mistake told at once.
#[cfg(feature = "config")]
pub use gemba_config as config;
pub use gemba_core::{
    ab_test, adaptive, admission, affinity, alert, band, baseline, board, bottleneck, breaker, burn_rate,
    burst, control, cost, demand, exit, forecast, health, jidoka, kanban, ladder, lending, leveller, light,
    machine, metric, name, objective, policy, pool_health, queue, rate, receipt, rollout, routing, sampling,
    scaling, six_sigma, stand_in, supervision, sys, time, trace, verdict, view, wait,
};
pub use gemba_flow::{
    Action, ApplyError, CLASSES_MAX, Check, DEADLINE, DEADLINE_MAX, FOLLOW_UP_MAX, FOLLOW_UP_WITHIN,
    FeedError, FeedSpec, FollowUp, HealthSpec, JobContext, Line, LineSpec, OPERATIONS_MAX, Operation,
    OperationError, Operations, PerSignal, Permit, Plant, PlantBuilder, PlantError, PlantErrors, PoolHandle,
    PoolSpec, Pulled, QUEUE_MAX, RECEIPTS_PER_S, RECEIPTS_PER_S_MAX, RateScope, Receipts, ReceiptsError,
    Refusal, RefusalReason, RegionGuard, RegionGuardError, RegionPass, RegulatorHandle, Resized,
    SettingError, Settings, SettingsErrors, Signal, Source, SubmitError, Trial, TrialWatch, feed, feed_with,
    join_trace, trace_of,
};
#[cfg(feature = "config")]
pub use gemba_flow::{
    AdaptiveSection, BreakerSection, BurnSection, BurstSection, ForecastSection, HealthSection,
    JidokaSection, LadderSection, LevelsSection, LimitsSection, LineSection, PlantSection, PoolHealthSection,
    PoolSection, PricesSection, RateSection, RegressionsSection, ThresholdsSection,
};
/// HTTP/1.1 served within limits, for services of one's own.
pub use gemba_http as http;
pub use gemba_inspect::{Client, ClientError, HostName, HostNameError, Readiness, Token, TokenError};
pub use gemba_kernel::{
    Actions, ActorSpec, Address, Broadcast, CALL_TIMEOUT, CallError, CastError, ChildError, ChildInfo,
    ChildSettings, ChildSpec, Context, Down, DynamicRef, DynamicSupervisor, Entering, Exit, FindError,
    GROUP_EVENTS, Group, GroupError, GroupEvent, GroupMonitor, HaltError, INSERTED_LIMIT, Instruments,
    JOURNAL_CAPACITY, JoinError, Journal, KillError, MAILBOX_CAPACITY, Machine, Member, MemberRefusal,
    Monitor, MonitorRef, Next, NodeGroups, NotReady, POSTPONED_LIMIT, Pinned, Place, REQUEST_LIMIT, Reply,
    Request, START_LIMIT, STATE_TEXT_MAX, STATE_TIMEOUT, STOP_LIMIT, STUCK_AFTER, SUSPEND_TIMEOUT, Server,
    ServerSpec, Shutdown, SpecError, Started, StateMachine, Stop, StopError, Supervisor, SupervisorInit,
    SupervisorRef, Sys, SysError, System, TERMINATE_LIMIT, TRACE_LASTS, TRACE_MESSAGES_MAX,
    TRACE_PER_SECOND_MAX, TRACE_TEXT_MAX, TaskContext, TaskHandle, TaskSpec, Timeout, Trace, TraceLimits,
    When, actor, server, state_machine, supervisor, task,
};
pub use gemba_observe::{Head, LogFormat, LogGuard, Logs, LogsError, Sampling, SamplingError};
#[cfg(feature = "process")]
pub use gemba_process::{
    Ended, LastLines, LogRules, NotEnded, Probe, ProcessChild, ProcessError, ProcessHandle, ProcessSpec,
    ProcessSpecBuilder, ProcessSpecError, ProcessState, ProcessView, process,
};
/// Flow control in virtual time.
#[cfg(feature = "sim")]
pub use gemba_sim as sim;
#[cfg(feature = "store")]
pub use gemba_store::{
    AckError, AppendError, Appended, Card, Database, DatabaseError, DeadCard, OpenError, PAYLOAD_MAX,
    PullError, Queue, QueueBuilder, QueueSource, QueueSpec, QueueView, Subscriber, queue,
};
pub use inspector::{INSPECT, InspectError};
pub use node::{Node, NodeBuilder, NodeError};
