//! The payment system: a service that never charges twice, and a card gateway to try it against.
//!
//! A request is read from top to bottom in [`pay`]; what a crash leaves behind is taken up in [`reconcile`].

#![allow(clippy::missing_errors_doc, reason = "a program, whose library is there for its tests")]

pub mod answer;
pub mod api;
pub mod asked;
mod body;
pub mod charge;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confirm;
pub mod country;
pub mod currency;
pub mod facts;
pub mod fraud;
pub mod gateway;
pub mod gateway_client;
pub mod host;
pub mod idempotency;
mod json;
pub mod measures;
pub mod money;
pub mod pay;
pub mod payment;
pub mod plant;
pub mod problem;
pub mod reconcile;
pub mod reload;
pub mod request;
pub mod serve;
pub mod store;

pub use gemba::DatabaseError;

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
