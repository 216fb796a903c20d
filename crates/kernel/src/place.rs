//! A child as its supervisor's actor knows it: its spec, its place, its present life, and what is awaited.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::supervision::ChildKey;
use ractor::ActorRef;
use tokio::task::AbortHandle;

use crate::address::Reply;
use crate::child::ChildSpec;
use crate::shell::Message;
use crate::slot::{Profile, Slot};
use crate::start::{Handle, NoStart, START_LIMIT};
use crate::supervisor::StartChildError;

/// A child as the actor knows it.
#[derive(Debug)]
pub(crate) struct Place {
    pub spec: ChildSpec,
    pub slot: Arc<Slot>,
    pub incarnation: Incarnation,
    pub handle: Option<Handle>,
    pub starting: Option<AbortHandle>,
    pub timer: Option<AbortHandle>,
    pub waiting: Option<Reply<Result<ActorPath, StartChildError>>>,
}

impl Place {
    /// Waits until whoever holds the place lets go. That is no failure of the child, and not charged to it;
    /// only a place that is held for longer than a start may take is.
    pub(crate) fn wait(&mut self, me: &ActorRef<Message>, key: ChildKey, holder: Incarnation) {
        let (me, slot, incarnation) = (me.clone(), self.slot.clone(), self.incarnation);
        let waiting = tokio::spawn(async move {
            let report = if tokio::time::timeout(START_LIMIT, slot.freed()).await.is_ok() {
                Message::Freed { key, incarnation }
            } else {
                let message = format!("its place is still held by {holder}");
                let result = Err(NoStart::Failed(ExitReason::Error { message: message.into() }));
                Message::Started { key, incarnation, result }
            };
            // A supervisor that is gone starts nobody.
            let _ = me.cast(report);
        });
        self.starting = Some(waiting.abort_handle());
    }

    pub(crate) fn arm(&mut self, me: &ActorRef<Message>, key: ChildKey, limit: Duration, killed: bool) {
        self.disarm();
        let (me, incarnation) = (me.clone(), self.incarnation);
        let timer = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            // A supervisor that is gone waits for nobody.
            let _ = me.cast(Message::StopOverdue { key, incarnation, killed });
        });
        self.timer = Some(timer.abort_handle());
    }

    pub(crate) fn disarm(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.disarm();
        if let Some(starting) = self.starting.take() {
            starting.abort();
        }
    }
}

pub(crate) fn profile(spec: &ChildSpec, key: ChildKey) -> Profile {
    Profile {
        kind: spec.start.kind(),
        strategy: spec.start.strategy(),
        order: key.order(),
        mailbox: spec.start.mailbox(),
    }
}
