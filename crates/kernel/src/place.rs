//! A child as its supervisor's actor knows it: how to start it, its place, its present life, who waits for it.

use std::fmt;
use std::sync::Arc;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::Name;
use gemba_core::receipt::Seq;
use gemba_core::supervision::ChildKey;
use gemba_core::view::ActorKind;
use ractor::ActorRef;
use tokio::task::AbortHandle;

use crate::address::Reply;
use crate::bonds::Killer;
use crate::child::Shutdown;
use crate::deadlines::Ticket;
use crate::handle::{ChildError, Started};
use crate::shell::Message;
use crate::slot::{Profile, Slot};
use crate::start::{Handle, NoStart, START_LIMIT, Start};

/// Who waits for a start: `None` if the child declined to run.
pub(crate) type StartReply = Reply<Result<Option<Started>, ChildError>>;

/// Who waits for a stop.
pub(crate) type StopReply = Reply<Result<(), ChildError>>;

/// A child as the actor knows it.
pub(crate) struct Place {
    /// Let go once a temporary child has started: what it holds may be large, and it never starts again.
    pub start: Option<Arc<dyn Start>>,
    pub shutdown: Shutdown,
    pub slot: Arc<Slot>,
    pub incarnation: Incarnation,
    pub handle: Option<Handle>,
    pub starting: Option<AbortHandle>,
    pub deadline: Option<Ticket>,
    pub waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub start: Option<StartReply>,
    pub stops: Vec<StopReply>,
}

impl Place {
    pub(crate) fn name(&self) -> Name {
        self.slot.path.name().parse().expect("a path is made of names")
    }

    /// Waits until whoever holds the place lets go. That is no failure of the child, and not charged to it;
    /// only a place that is held for longer than a start may take is.
    pub(crate) fn wait(&mut self, me: &ActorRef<Message>, key: ChildKey, holder: Incarnation) {
        let (me, slot, incarnation) = (me.clone(), self.slot.clone(), self.incarnation);
        let waiting = tokio::spawn(async move {
            let report = if tokio::time::timeout(START_LIMIT, slot.freed()).await.is_ok() {
                Message::Freed { key, incarnation }
            } else {
                let message = format!("its place is still held by {holder}");
                let failed = NoStart::Failed(ExitReason::Error { message: message.into() });
                Message::Started { key, incarnation, result: Box::new(Err(failed)) }
            };
            // A supervisor that is gone starts nobody.
            let _ = me.cast(report);
        });
        self.starting = Some(waiting.abort_handle());
    }

    /// Tells the supervisor that is starting here to stop, as there is no handle yet. It stops those below it in their
    /// own time, whether they run or start.
    pub(crate) fn stop_start(&self, cause: Option<Seq>) {
        if self.slot.kind() == ActorKind::Supervisor
            && let Some((life, Killer::Actor(cell))) = self.slot.killer()
            && life == self.incarnation
        {
            // One that is gone has nobody to stop.
            let _ = ActorRef::<Message>::from(cell).cast(Message::Shutdown { cause });
        }
    }

    pub(crate) fn answer_start(&mut self, answer: impl FnOnce() -> Result<Option<Started>, ChildError>) {
        if let Some(reply) = self.waiting.as_mut().and_then(|waiting| waiting.start.take()) {
            reply.send(answer());
        }
        // A child that runs for years is not to keep what its start needed.
        self.waiting.take_if(|waiting| waiting.stops.is_empty());
    }

    pub(crate) fn answer_stops(&mut self, answer: &Result<(), ChildError>) {
        for reply in
            self.waiting.as_mut().map(|waiting| std::mem::take(&mut waiting.stops)).into_iter().flatten()
        {
            reply.send(answer.clone());
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("path", &self.slot.path).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(starting) = self.starting.take() {
            starting.abort();
        }
    }
}

pub(crate) fn profile(start: &dyn Start, key: ChildKey) -> Profile {
    Profile { kind: start.kind(), strategy: start.strategy(), order: key.order(), mailbox: start.mailbox() }
}
