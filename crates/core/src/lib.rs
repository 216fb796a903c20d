//! What the system knows and how it decides; pure.
//!
//! Nothing here reads a clock, awaits, logs or does I/O: every decision is a function of its arguments,
//! time included. That is what lets the tests, and a simulation, run it in microseconds.

pub mod ab_test;
pub mod adaptive;
pub mod admission;
pub mod affinity;
pub mod alert;
pub mod band;
pub mod baseline;
pub mod board;
pub mod bottleneck;
pub mod breaker;
pub mod burn_rate;
pub mod burst;
pub mod control;
pub mod cost;
pub mod crew;
pub mod exit;
pub mod forecast;
pub mod health;
pub mod intake;
pub mod jidoka;
pub mod kanban;
pub mod ladder;
pub mod lending;
pub mod leveller;
pub mod light;
pub mod machine;
pub mod metric;
pub mod name;
mod normal;
pub mod objective;
pub mod policy;
pub mod pool_health;
pub mod proportion;
pub mod queue;
pub mod rank_test;
pub mod rate;
pub mod receipt;
pub mod reload;
pub mod rollout;
pub mod routing;
pub mod sample;
pub mod sampling;
pub mod scaling;
pub mod six_sigma;
pub mod stand_in;
pub mod stuck;
pub mod supervision;
pub mod sys;
pub mod time;
pub mod trace;
pub mod verdict;
pub mod view;
pub mod wait;
mod window;
