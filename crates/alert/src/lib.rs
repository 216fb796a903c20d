//! Carries alerts to people: Slack, PagerDuty, mail, webhooks.
//!
//! The *alerter* follows the journal, lets [`gemba_core::alert`] decide who is to be told, and puts notices in the
//! outboxes of the routes. Each *route* is a task of its own: one that hangs holds up nobody else, and neither
//! the board nor the work of the node ever waits for any of them. A notice leaves its outbox when it has
//! arrived; a route that is killed sends it again.

mod alerter;
mod email;
mod http;
mod payload;
mod route;
mod routes;
mod sink;

pub use email::{Email, Encryption};
pub use routes::{AlertRoutes, RouteError, RouteErrors};
