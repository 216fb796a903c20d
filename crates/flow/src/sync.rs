//! A cell: the locks and atomics of the cells that `just models` checks; loom's while it does, std's otherwise.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64},
};
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64},
};
