//! The deployment system: progressive delivery of real processes behind a real traffic splitter.

#![allow(clippy::missing_errors_doc, reason = "a program, whose library is there for its tests")]

pub mod adapter;
pub mod api;
pub mod care;
pub mod cli;
pub mod client;
pub mod conductor;
pub mod config;
pub mod delivery;
pub mod demo;
mod desk;
pub mod facts;
pub mod fleet;
pub mod forgotten;
pub mod freeze;
pub mod host;
pub mod instances;
pub mod measures;
pub mod plant;
pub mod policy;
pub mod problem;
pub mod queue;
pub mod region;
pub mod reload;
pub mod sample;
pub mod scheduler;
pub mod serve;
pub mod splitter;
pub mod store;
pub mod torture;
pub mod view;

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
