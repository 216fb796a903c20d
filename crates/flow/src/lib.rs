//! The line: admit, decide, route, pull, run, reply, and the actors that govern it.
//!
//! A signal enters at [`Line::submit`]; start reading there. The tree of actors is put together by
//! [`Plant`].

mod action;
mod balancer;
mod board;
mod burst;
mod defects;
mod dispatcher;
mod exchange;
mod feed;
mod floor;
mod follow_up;
mod gate;
mod guard;
mod health;
mod job;
mod kaizen;
mod line;
mod liveness;
mod load;
mod meter;
mod meters;
#[cfg(all(test, feature = "loom"))]
mod models;
mod objectives;
mod operation;
mod per_signal;
mod permit;
mod phases;
mod plant;
mod pool;
mod rate;
mod receipts;
mod regions;
mod regulator;
mod seat;
#[cfg(feature = "config")]
mod section;
mod settings;
mod signal;
mod source;
mod submit;
mod sync;
mod tally;
mod trace;
mod trial;
mod worker;

pub use action::{Action, JobContext};
pub use defects::CLASSES_MAX;
pub use feed::{FeedError, FeedSpec, feed, feed_with};
pub use follow_up::{FOLLOW_UP_WITHIN, FollowUp};
pub use health::{Check, HealthSpec};
pub use line::{DEADLINE, FOLLOW_UP_MAX, Line, LineSpec};
pub use operation::{OPERATIONS_MAX, Operation, OperationError, Operations};
pub use per_signal::PerSignal;
pub use permit::Permit;
pub use plant::{Plant, PlantBuilder, PlantError, PlantErrors};
pub use pool::{PoolHandle, PoolSpec, QUEUE_MAX, Resized};
pub use rate::RateScope;
pub use receipts::{RECEIPTS_PER_S, RECEIPTS_PER_S_MAX, Receipts, ReceiptsError};
pub use regions::{RegionGuard, RegionGuardError, RegionPass};
pub use regulator::RegulatorHandle;
#[cfg(feature = "config")]
pub use section::{
    AdaptiveSection, BreakerSection, BurnSection, BurstSection, ForecastSection, HealthSection,
    JidokaSection, LadderSection, LevelsSection, LimitsSection, LineSection, ObjectivesSection, PlantSection,
    PoolHealthSection, PoolSection, PricesSection, RateSection, ReceiptsSection, RegressionsSection,
    SignalsTold, ThresholdsSection,
};
pub use settings::{ApplyError, DEADLINE_MAX, SettingError, Settings, SettingsErrors};
pub use signal::Signal;
pub use source::{Pulled, Source};
pub use submit::{Refusal, RefusalReason, SubmitError};
pub use trace::{join_trace, trace_of};
pub use trial::{Trial, TrialWatch};
