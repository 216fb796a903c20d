//! Shows and operates a running node: an HTTP API and the client that the command line uses.
//!
//! The server reaches a node only through [`gemba_kernel::System`]: published views to read, messages
//! to change something. The client speaks the same schema, [`gemba_core::view`].

mod actions;
mod client;
mod events;
mod gate;
mod host;
mod problem;
mod reads;
mod server;
mod token;

pub use client::{CALL_TIMEOUT, Client, ClientError, Readiness};
pub use host::{HostName, HostNameError};
pub use server::{DRAIN_MAX, InspectConfig, Inspector};
pub use token::{TOKEN_BYTES_MIN, Token, TokenError};
