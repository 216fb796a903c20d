//! Durable queues, and the database they stand on.
//!
//! [`queue`] makes a queue whose cards survive the process; [`Database`] is the SQLite file beneath it, for
//! others who promise that what they acknowledged is on the disk.

mod database;
mod queue;

pub use database::{Database, DatabaseError};
pub use queue::{
    AckError, AppendError, Appended, Card, DeadCard, OpenError, PAYLOAD_MAX, PullError, Queue, QueueBuilder,
    QueueSource, QueueSpec, QueueView, Subscriber, queue,
};
