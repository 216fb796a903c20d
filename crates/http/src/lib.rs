//! HTTP/1.1 served within limits: so many connections at once, and none that is silent.

mod limited;
mod serve;

pub use serve::{HttpLimits, serve, serve_connection};
