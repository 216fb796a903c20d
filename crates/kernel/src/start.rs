//! Starting one life: what every kind of child does alike.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use gemba_core::exit::ExitReason;
use gemba_core::name::ActorPath;
use gemba_core::receipt::Seq;
use gemba_core::supervision::{Flags, Strategy};
use gemba_core::view::ActorKind;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};

use crate::bonds::Killer;
use crate::child::ChildSpec;
use crate::exit::{Stop, Why};
use crate::lifeline::Lifeline;
use crate::shell::Message;
use crate::slot::Mailbox;
use crate::system::System;
use crate::vitals::{StopOrder, Vitals};

/// How long a child may take to start; then the start has failed.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How one kind of child comes to run.
pub(crate) trait Start: Send + Sync + 'static {
    fn kind(&self) -> ActorKind;
    fn strategy(&self) -> Option<Strategy> {
        None
    }
    fn mailbox(&self) -> Option<Arc<dyn Mailbox>> {
        None
    }
    fn mailbox_capacity(&self) -> Option<u64> {
        self.mailbox().map(|mailbox| mailbox.view().capacity)
    }
    /// The rules of a supervisor, known before it starts.
    fn flags(&self) -> Option<Flags> {
        None
    }
    fn children(&self) -> &[ChildSpec] {
        &[]
    }
    /// Starts a life. It is armed, and reports its end through its lifeline, from the moment this says `Ok`.
    fn start(&self, birth: Birth) -> BoxFuture<'static, Result<Handle, NoStart>>;
}

/// What a new life is given.
#[derive(Debug)]
pub(crate) struct Birth {
    pub lifeline: Arc<Lifeline>,
    /// The receipt that led to this start.
    pub cause: Option<Seq>,
}

impl Birth {
    pub(crate) fn system(&self) -> &System {
        &self.lifeline.system
    }

    pub(crate) fn path(&self) -> &ActorPath {
        &self.lifeline.slot.path
    }

    /// Spawns a ractor actor. Its [`Handle`] sees to it that it does not outlive its supervisor: a link of ractor's
    /// would as well, but ends children in the order of a hash map.
    pub(crate) async fn spawn<A: Actor>(
        lifeline: &Lifeline,
        actor: A,
        arguments: A::Arguments,
    ) -> Result<ActorRef<A::Msg>, NoStart> {
        match Actor::spawn(None, actor, arguments).await {
            Ok((actor, _)) => {
                lifeline.slot.set_killer(lifeline.incarnation, Killer::Actor(actor.get_cell()));
                Ok(actor)
            }
            Err(error) => {
                let no_start = start_failure(error);
                lifeline.ends(no_start.reason());
                Err(no_start)
            }
        }
    }
}

/// Why no life came of a start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoStart {
    /// The child declined to run, which is no failure (OTP: `ignore`).
    #[error("it declined to run")]
    Ignored,
    /// It failed.
    #[error("{0}")]
    Failed(ExitReason),
}

impl NoStart {
    /// What those are told who watched the life while it started.
    pub(crate) fn reason(&self) -> ExitReason {
        match self {
            Self::Ignored => ExitReason::Normal,
            Self::Failed(reason) => reason.clone(),
        }
    }
}

impl From<ExitReason> for NoStart {
    fn from(reason: ExitReason) -> Self {
        Self::Failed(reason)
    }
}

impl From<Stop> for NoStart {
    fn from(stop: Stop) -> Self {
        match stop.0 {
            Why::Ignores => Self::Ignored,
            Why::Ends(reason) => Self::Failed(reason),
        }
    }
}

fn start_failure(error: SpawnErr) -> NoStart {
    match error {
        SpawnErr::StartupFailed(error) => match error.downcast::<NoStart>() {
            Ok(no_start) => *no_start,
            Err(error) => NoStart::Failed(ExitReason::error(&*error)),
        },
        SpawnErr::ActorAlreadyStarted | SpawnErr::ActorAlreadyRegistered(_) => {
            NoStart::Failed(ExitReason::error(&error))
        }
    }
}

/// How the supervisor reaches a life that runs.
#[derive(Debug)]
pub(crate) struct Handle {
    pub killer: Killer,
    stopper: Option<Stopper>,
    pub lifeline: Weak<Lifeline>,
}

/// How a life is asked to stop.
#[derive(Debug)]
pub(crate) enum Stopper {
    /// A server's control lane.
    Life(Arc<Vitals>),
    /// A task's: any part of it may wait for it, at its place.
    Task,
    /// Work that is done once takes no requests: it is ended.
    Exit,
    Supervisor(ActorRef<Message>),
    Actor(ActorCell),
}

impl Handle {
    pub(crate) fn new(killer: Killer, stopper: Stopper, lifeline: Weak<Lifeline>) -> Self {
        Self { killer, stopper: Some(stopper), lifeline }
    }

    /// Asks the life to stop; asking twice is asking once.
    pub(crate) fn stop(&mut self, cause: Option<Seq>) {
        match self.stopper.take() {
            None => {}
            Some(Stopper::Life(vitals)) => {
                vitals.stop(StopOrder { reason: ExitReason::Shutdown, limit: None });
            }
            Some(Stopper::Task) => {
                if let Some(lifeline) = self.lifeline.upgrade() {
                    lifeline.slot.ask_to_stop();
                }
            }
            Some(Stopper::Exit) => {
                if let Some(lifeline) = self.lifeline.upgrade() {
                    lifeline.slot.end(lifeline.incarnation, ExitReason::Shutdown);
                }
            }
            Some(Stopper::Supervisor(supervisor)) => {
                // As above.
                let _ = supervisor.cast(Message::Shutdown { cause });
            }
            Some(Stopper::Actor(cell)) => cell.stop(None),
        }
    }
}

impl Drop for Handle {
    /// A supervisor that is killed takes its children with it.
    fn drop(&mut self) {
        self.killer.kill();
    }
}
