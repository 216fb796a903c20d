//! OTP's promises, one test a row of the case table in docs/conformance.md: `s07_…` is row S07.

#[allow(dead_code, reason = "the rows are written one after the other")]
mod kit;
mod links;
mod machine;
mod server;
mod supervisor;
mod sys;
mod tasks;
