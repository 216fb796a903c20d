//! Rows S01–S91: the supervisor.

mod admin;
mod backoff;
mod better;
mod halt;
mod intensity;
mod late;
mod restart;
mod shutdown;
mod significant;
mod stage;
mod start;
mod strategy;
