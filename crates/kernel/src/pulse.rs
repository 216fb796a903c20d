//! A timer that is always set, so that setting another is cheap.
//!
//! tokio's idle worker sleeps until the nearest timer. Whoever sets a nearer one has to wake it, and that is
//! a system call: a call with a limit of five seconds on a quiet node took 2.4 µs, of which 1.6 were this
//! (`just bench-otp call`).
//! With a timer that is never farther than [`PULSE`], only limits below it pay.

use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::system::System;

/// How far the nearest timer is at most: below the limit of a call, and few wake-ups for an idle node.
const PULSE: Duration = Duration::from_secs(1);

/// Keeps a timer set for as long as somebody holds the node's system.
pub(crate) fn start(system: &System) {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        // Its only thread is awake when it sets a timer; and its clock may be paused.
        return;
    }
    let system = system.downgrade();
    tokio::spawn(async move {
        while system.upgrade().is_some() {
            tokio::time::sleep(PULSE).await;
        }
    });
}
