//! What the system knows and how it decides; pure.
//!
//! Nothing here reads a clock, awaits, logs or does I/O: every decision is a function of its arguments,
//! time included. That is what lets the tests, and a simulation, run it in microseconds.

pub mod adaptive;
pub mod admission;
pub mod board;
pub mod breaker;
pub mod burst;
pub mod control;
pub mod cost;
pub mod exit;
pub mod forecast;
pub mod jidoka;
pub mod ladder;
pub mod lending;
pub mod light;
pub mod machine;
pub mod metric;
pub mod name;
pub mod policy;
pub mod queue;
pub mod rate;
pub mod receipt;
pub mod routing;
pub mod scaling;
pub mod stuck;
pub mod supervision;
pub mod sys;
pub mod time;
pub mod view;
mod window;
