//! A cell: the bond between a life and its supervisor, whose end announces the exit.
//!
//! Every process holds its lifeline, and through it those of its supervisors. When the last holder lets
//! go, the process and all below it are gone: only then is the place given free, and after that the exit
//! announced. A kill, a panic and an abort drop the lifeline just as an orderly end does.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::receipt::Event;
use gemba_core::supervision::ChildKey;
use gemba_core::view::ActorState;
use ractor::{ActorRef, MessagingErr};
use tokio::sync::watch;

use crate::shell::Message;
use crate::slot::Slot;
use crate::system::System;
use crate::vitals::Vitals;

/// Who is told of an exit.
#[derive(Debug)]
pub(crate) enum Report {
    Supervisor(ActorRef<Message>, ChildKey),
    Node(watch::Sender<Option<ExitReason>>),
}

pub(crate) struct Lifeline {
    pub system: System,
    pub slot: Arc<Slot>,
    pub incarnation: Incarnation,
    report: Report,
    /// In a box: it has to be there only at the end.
    reason: OnceLock<Box<ExitReason>>,
    armed: OnceLock<()>,
    /// What a server's life shows of itself; told of the end as soon as the place is free.
    vitals: OnceLock<Arc<Vitals>>,
    /// Dropped after the announcement: our exit keeps our supervisor's waiting.
    supervisor: Mutex<Option<Arc<Lifeline>>>,
}

impl Lifeline {
    pub(crate) fn new(
        system: System,
        slot: Arc<Slot>,
        incarnation: Incarnation,
        report: Report,
        supervisor: Option<Arc<Self>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            system,
            slot,
            incarnation,
            report,
            reason: OnceLock::new(),
            armed: OnceLock::new(),
            vitals: OnceLock::new(),
            supervisor: Mutex::new(supervisor),
        })
    }

    /// From now on the end is announced; before that, whoever started the life reports its failure.
    pub(crate) fn arm(&self) {
        // Arming twice is arming once.
        let _ = self.armed.set(());
    }

    /// Names what is told of the end.
    pub(crate) fn attend(&self, vitals: Arc<Vitals>) {
        // A life has one.
        let _ = self.vitals.set(vitals);
    }

    /// Says why the life ends. Whoever says it first is right; nobody says it when it is killed.
    pub(crate) fn ends(&self, reason: ExitReason) {
        // A later reason is a consequence of the first.
        let _ = self.reason.set(Box::new(reason));
    }

    /// Lets the supervisor end without waiting for this life: it is unkillable.
    pub(crate) fn detach(&self) {
        self.supervisor.lock().expect("nothing panics while it holds a lifeline").take();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        let was_unkillable = self.slot.state() == ActorState::Unkillable;
        let said = self.reason.take().map(|reason| *reason);
        let (reason, mut bonds) = self.slot.release(self.incarnation, said, self.system.unix_ms());
        if let Some(bonds) = &mut bonds {
            bonds.tell_names(&self.slot.path, self.incarnation, &reason);
        }
        if let Some(vitals) = self.vitals.take() {
            vitals.end(reason.clone());
        }
        let armed = self.armed.get().is_some();
        if !armed || was_unkillable || self.slot.is_over() {
            // Its supervisor may have gone on without it, or has given its start up too late.
            self.system.registry().forget_given_up(&self.slot.path);
        }
        if armed {
            self.announce(reason.clone(), was_unkillable);
        }
        // After the supervisor, so that who asks it for the name on a `Down` finds it free there as well.
        if let Some(bonds) = bonds {
            bonds.tell(&self.slot.path, self.incarnation, &reason);
        }
    }
}

impl Lifeline {
    /// Tells that a supervisor was killed, before those below it are gone.
    pub(crate) fn fell(&self) {
        if let Report::Supervisor(supervisor, key) = &self.report {
            // A supervisor that is gone falls itself.
            let _ = supervisor.cast(Message::Fell { key: *key, incarnation: self.incarnation });
        }
    }

    fn announce(&self, reason: ExitReason, was_unkillable: bool) {
        match &self.report {
            Report::Supervisor(supervisor, key) => {
                let exited = Message::Exited { key: *key, incarnation: self.incarnation, reason };
                // A supervisor that is gone has been announced to its own. But a life it left behind has
                // been told to hang, so somebody must tell that it has ended after all.
                if let Err(MessagingErr::SendErr(Message::Exited { reason, .. })) = supervisor.cast(exited)
                    && was_unkillable
                {
                    let event = Event::ChildExited { incarnation: self.incarnation, reason };
                    self.system.record(None, &self.slot.path, event);
                }
            }
            Report::Node(exit) => {
                exit.send_replace(Some(reason));
            }
        }
    }
}

impl fmt::Debug for Lifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifeline")
            .field("path", &self.slot.path)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
