//! Halting a supervisor from outside: the cord of a whole subtree.

use std::sync::Arc;

use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Seq};
use gemba_core::view::ActorKind;
use ractor::ActorRef;

use crate::bonds::Killer;
use crate::shell::Message;
use crate::slot::Slot;
use crate::system::System;

/// Why a supervisor was not halted, or does not run again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HaltError {
    /// No actor has this path.
    #[error("no actor stands at '{path}'{}", similar.as_ref().map_or(String::new(), |similar| format!("; did you mean '{similar}'?")))]
    NotFound {
        /// The path asked for.
        path: ActorPath,
        /// The path most like it.
        similar: Option<ActorPath>,
    },
    /// Only a supervisor has children to stop.
    #[error("'{path}' is a {kind}; only a supervisor can be halted")]
    NoSupervisor {
        /// The path asked for.
        path: ActorPath,
        /// What stands there.
        kind: ActorKind,
    },
    /// The root supervisor is not halted: stop the node.
    #[error("'{path}' is the root of the node; send the process SIGTERM to stop it")]
    Protected {
        /// The root.
        path: ActorPath,
    },
    /// It is halted already.
    #[error("'{path}' is halted already, see receipt {receipt}")]
    Halted {
        /// The path asked for.
        path: ActorPath,
        /// The receipt of its halt.
        receipt: Seq,
    },
    /// It is not halted.
    #[error("'{path}' is not halted")]
    Runs {
        /// The path asked for.
        path: ActorPath,
    },
}

/// What an operator asked of a place last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Latch {
    /// Its children are to be down.
    Halted(Seq),
    /// They may run again.
    Released(Seq),
}

impl System {
    /// Stops all children of the supervisor at `path`, in reverse order, and has it start none until
    /// [`resume`](Self::resume): no crash, no restart of the supervisor or of those above it, and no request brings
    /// one back. `by` and `why` stand in the receipt. This does not wait until the children have stopped.
    ///
    /// # Errors
    ///
    /// [`HaltError`]; nothing was stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// use gemba_kernel::{Node, Supervisor, task};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pools = Supervisor::one_for_one("pools");
    /// let handle = pools.handle();
    /// let worker = task("worker", |ctx| async move { ctx.stopped().await; Ok(()) });
    /// let node = Node::builder("example").child(pools.child(worker)).start().await?;
    /// let (system, path) = (node.system(), "/pools".parse()?);
    /// system.halt(&path, "ann", "wrong answers")?;
    /// assert!(handle.restart_child("worker").await.is_err(), "it is halted");
    /// system.resume(&path, "ann")?;
    /// # node.stop("done").await?;
    /// # Ok(()) }
    /// ```
    pub fn halt(&self, path: &ActorPath, by: &str, why: &str) -> Result<Seq, HaltError> {
        let slot = self.supervisor(path)?;
        let event = Event::SupervisorHalted { by: by.into(), why: why.into() };
        let latched = slot.set_latch(|before| match before {
            Some(Latch::Halted(receipt)) => Err(HaltError::Halted { path: path.clone(), receipt }),
            Some(Latch::Released(_)) | None => Ok(Latch::Halted(self.record(None, path, event))),
        });
        latched.map(tell)
    }

    /// Has the supervisor at `path`, which was halted, start again those of its children that ran then.
    ///
    /// # Errors
    ///
    /// [`HaltError`]; nothing was started.
    pub fn resume(&self, path: &ActorPath, by: &str) -> Result<Seq, HaltError> {
        let slot = self.supervisor(path)?;
        let latched = slot.set_latch(|before| match before {
            Some(Latch::Halted(halt)) => {
                let event = Event::SupervisorResumed { by: by.into() };
                Ok(Latch::Released(self.record(Some(halt), path, event)))
            }
            Some(Latch::Released(_)) | None => Err(HaltError::Runs { path: path.clone() }),
        });
        latched.map(tell)
    }

    fn supervisor(&self, path: &ActorPath) -> Result<Arc<Slot>, HaltError> {
        if path.is_root() {
            return Err(HaltError::Protected { path: path.clone() });
        }
        let Some(slot) = self.registry().get(path) else {
            let similar = self.registry().similar(path);
            return Err(HaltError::NotFound { path: path.clone(), similar });
        };
        match slot.kind() {
            ActorKind::Supervisor => Ok(slot),
            kind @ (ActorKind::Server | ActorKind::Actor | ActorKind::Task) => {
                Err(HaltError::NoSupervisor { path: path.clone(), kind })
            }
        }
    }
}

/// Has the present life look at its latch; the next one looks when it begins.
fn tell((latch, life): (Latch, Option<Killer>)) -> Seq {
    if let Some(Killer::Actor(cell)) = life {
        // A life that is over has a successor.
        let _ = ActorRef::<Message>::from(cell).cast(Message::Latch);
    }
    let (Latch::Halted(receipt) | Latch::Released(receipt)) = latch;
    receipt
}
