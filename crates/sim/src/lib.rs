//! Flow control in virtual time: the decisions of `gemba-core` under load, beside those of others.
//!
//! A [`workload`] is drawn from a seed before anything runs, an [`engine`] takes it through a
//! [`controller`], and an [`outcome`] says what came of it. A minute of ten-fold overload takes a fraction of
//! a second, and the same seed gives the same decisions on every machine. What things cost in real time is no
//! question for this crate: nothing costs anything here but a worker's time.

pub mod client;
pub mod contenders;
pub mod controller;
pub mod draw;
pub mod engine;
pub mod experiments;
pub mod outcome;
pub mod plot;
mod pool;
pub mod scenario;
mod sizing;
pub mod trace;
pub mod workload;
