//! What a crew decides: where a job goes, what a worker does next, who comes and who goes.

use std::time::Duration;

use super::Life;
use crate::leveller::TurnedOut;

/// A job that is not started: answer it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a job that is not started must be answered"]
pub struct Dismissed<T> {
    /// The job.
    pub task: T,
    /// Why.
    pub why: TurnedOut,
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// What became of a job that was offered.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a job that is not kept must be sent or answered"]
pub enum Offered<R, T> {
    /// This worker was idle and counts as busy from now on: send it the job.
    Given(Life<R>, T),
    /// It waits.
    Queued,
    /// It waits, and this one of a lower tier had to go for it.
    Displaced(Dismissed<T>),
    /// It does not wait: it would wait too long, or there is no room.
    Dismissed(Dismissed<T>),
    /// No worker is idle, and nobody looks after the queue.
    Closed(T),
}

/// What a worker does that has nothing in hand.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a job that is handed out must be worked on"]
pub enum Turn<T> {
    /// This job, whose turn it is.
    Work(T),
    /// It waits; it is idle now.
    Wait,
    /// It ends; another size is wanted, or nobody knows it.
    Retire,
}

/// A worker's turn, and what is not worked on any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Next<T> {
    /// What the worker does.
    pub turn: Turn<T>,
    /// What had waited too long when it came.
    pub dismissed: Vec<Dismissed<T>>,
}

/// What a change of size asks for.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "workers are hired and retired by whoever asked"]
pub struct Resize<R> {
    /// Workers wanted before.
    pub from: u32,
    /// Idle workers that are to end now. Others that are too many end when they are done.
    pub retired: Vec<Life<R>>,
    /// Workers to be started.
    pub hired: Vec<u64>,
}
