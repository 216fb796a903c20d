//! What a controller is: it says who is admitted, who is started next and who has to go.

use std::fmt;
use std::time::Duration;

use gemba_core::admission::Tier;
use gemba_core::time::Timestamp;

/// One attempt of one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// The arrival it belongs to.
    pub arrival: u32,
    /// Which attempt, the first being 0.
    pub number: u8,
    /// Its tier.
    pub tier: Tier,
    /// When it came.
    pub came: Timestamp,
    /// When its answer is due.
    pub deadline: Timestamp,
}

/// What becomes of an attempt that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// An idle worker starts it at once.
    Start,
    /// It waits.
    Wait,
    /// It is refused, and may come back after this time.
    Refuse(Duration),
}

/// How an attempt that was started ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Which.
    pub attempt: Attempt,
    /// How long its worker was busy with it.
    pub took: Duration,
}

/// Decides who is served. Everything happens in the simulation's time, and nothing else is known.
pub trait Controller: fmt::Debug {
    /// What it is called in tables.
    fn name(&self) -> &'static str;

    /// One more comes while `idle` workers have nothing to do; who has to go for it is put into `out`.
    fn arrive(&mut self, attempt: Attempt, idle: u32, now: Timestamp, out: &mut Vec<Attempt>) -> Decision;

    /// A worker is free: who is next? Those that are not started any more are put into `out`.
    fn next(&mut self, now: Timestamp, out: &mut Vec<Attempt>) -> Option<Attempt>;

    /// A worker is done with one.
    fn finished(&mut self, finished: Finished, now: Timestamp);

    /// Every 10 ms: who has to go is put into `out`.
    fn sweep(&mut self, _now: Timestamp, _out: &mut Vec<Attempt>) {}

    /// The pool has so many workers from now on.
    fn set_workers(&mut self, _workers: u32) {}

    /// How many wait.
    fn waiting(&self) -> usize;
}
