//! The sys side of every server: status, statistics, suspension and traces, asked by path.
//!
//! What a server need not be asked for is read from its cell, so an operator is answered while it is busy,
//! suspended, or stuck.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::name::ActorPath;
use gemba_core::sys::{BusyView, StateView, StatisticsView, StatusView};
use gemba_core::view::MailboxView;
use tokio::time::Instant;

use crate::address::{Address, FindError, Lane};
use crate::slot::{Mailbox, Slot};
use crate::system::System;
use crate::vitals::{Stage, Vitals};

mod observer;

use observer::{Counting, cut};
pub(crate) use observer::{Observer, Wants};
pub use observer::{
    TRACE_LASTS, TRACE_MESSAGES_MAX, TRACE_PER_SECOND_MAX, TRACE_TEXT_MAX, Trace, TraceLimits,
};

/// How long [`Sys::suspend`] waits for the present handler.
pub const SUSPEND_TIMEOUT: Duration = Duration::from_secs(5);

/// How long [`Sys::status`] waits for the text of the state.
pub const STATE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes of the text of a state are shown.
pub const STATE_TEXT_MAX: usize = 4096;

/// Why a server's sys side did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SysError {
    /// Nothing stands there, or something that has no sys side.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The server is down at the moment, or on its way.
    #[error("'{path}' is not running now; if its supervisor restarts it, try again in a moment")]
    NotRunning {
        /// The server.
        path: ActorPath,
    },
    /// Its present handler is not done. It is suspended as soon as it is, unless it is resumed before.
    #[error(
        "'{path}' is busy for {SUSPEND_TIMEOUT:?} and more; it is suspended when its handler is done, or resume it"
    )]
    Timeout {
        /// The server.
        path: ActorPath,
    },
    /// Somebody traces this life already.
    #[error("'{path}' is being traced; one trace at a time, which ends by itself")]
    Traced {
        /// The server.
        path: ActorPath,
    },
    /// Statistics are not on.
    #[error("statistics of '{path}' are off; switch them on first")]
    StatisticsOff {
        /// The server.
        path: ActorPath,
    },
    /// A server asked itself to be suspended, and would wait for its own handler.
    #[error("'{path}' would wait for itself; a server is suspended by others")]
    CallingSelf {
        /// The server.
        path: ActorPath,
    },
}

impl System {
    /// The sys side of the server at `path`, through all its lives.
    ///
    /// # Errors
    ///
    /// [`FindError::NotFound`] and [`FindError::NotAServer`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use gemba_kernel::{Context, Node, Server, Stop, server};
    /// # struct Door;
    /// # impl Server for Door {
    /// #     type Msg = ();
    /// #     async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("house").child(server("door", || Door)).start().await?;
    /// let door = node.system().sys(&"/door".parse()?)?;
    /// door.suspend().await?;
    /// assert!(door.status().await?.suspended);
    /// door.resume()?;
    /// # node.stop("done").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "get_status")]
    pub fn sys(&self, path: &ActorPath) -> Result<Sys, FindError> {
        self.mailbox_at(path)?;
        Ok(Sys { system: self.clone(), path: path.clone() })
    }

    /// The address of the server at `path`, which outlives its lives.
    ///
    /// # Errors
    ///
    /// [`FindError`] says what stands there instead, and what was meant perhaps.
    pub fn address<M: Send + 'static>(&self, path: &ActorPath) -> Result<Address<M>, FindError> {
        let (_, mailbox) = self.mailbox_at(path)?;
        let takes = mailbox.message_type();
        mailbox.as_any().downcast::<Lane<M>>().map(Address::from_lane).map_err(|_| FindError::OtherMessage {
            path: path.clone(),
            takes,
            asked: std::any::type_name::<M>(),
        })
    }

    fn mailbox_at(&self, path: &ActorPath) -> Result<(Arc<Slot>, Arc<dyn Mailbox>), FindError> {
        let Some(slot) = self.registry().get(path) else {
            return Err(FindError::NotFound { path: path.clone(), similar: self.registry().similar(path) });
        };
        let mailbox =
            slot.mailbox().ok_or_else(|| FindError::NotAServer { path: path.clone(), kind: slot.kind() })?;
        Ok((slot, mailbox))
    }
}

/// The sys side of one server, whichever life of it is there. What is switched on ends with the life.
///
/// There is no replacing of a state: a state is a value of the server's own type, which nobody outside can
/// name. A server that should be changed while it runs takes a message for it.
#[derive(Clone)]
pub struct Sys {
    system: System,
    path: ActorPath,
}

impl Sys {
    fn life(&self) -> Result<(Arc<Slot>, MailboxView, Arc<Vitals>), SysError> {
        let (slot, mailbox) = self.system.mailbox_at(&self.path)?;
        let life = mailbox.life().filter(|vitals| vitals.reason().is_none());
        let vitals = life.ok_or_else(|| SysError::NotRunning { path: self.path.clone() })?;
        Ok((slot, mailbox.view(), vitals))
    }

    fn vitals(&self) -> Result<Arc<Vitals>, SysError> {
        self.life().map(|(_, _, vitals)| vitals)
    }

    /// What the server does. All but the text of its state is told even if it is stuck; that is waited for,
    /// for [`STATE_TIMEOUT`] at most.
    ///
    /// # Errors
    ///
    /// [`SysError::Find`] and [`SysError::NotRunning`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn status(&self) -> Result<StatusView, SysError> {
        let (slot, mailbox, vitals) = self.life()?;
        let busy = vitals.busy().map(|busy| BusyView {
            handles: vitals.handles().into(),
            message: if vitals.stage() == Stage::Init { 0 } else { vitals.message() },
            for_ms: self.system.now().since(busy.since).as_millis() as u64,
        });
        let mut status = StatusView::new(
            self.path.clone(),
            vitals.incarnation,
            slot.state(),
            mailbox,
            shown_by(&vitals).await,
        );
        status.suspended = vitals.is_suspended();
        status.busy = busy;
        Ok(status)
    }

    /// Makes the server leave its mailbox and its timers alone, and waits until it does. It still answers
    /// here, and still stops when asked.
    ///
    /// # Errors
    ///
    /// [`SysError::Timeout`] after [`SUSPEND_TIMEOUT`]: the request stands. [`SysError::NotRunning`] also if it ends
    /// meanwhile. [`SysError::CallingSelf`] from its own handler.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not withdraw the request; [`resume`](Self::resume) does.
    pub async fn suspend(&self) -> Result<(), SysError> {
        let vitals = self.vitals()?;
        let path = self.path.clone();
        if vitals.is_asking() {
            return Err(SysError::CallingSelf { path });
        }
        match tokio::time::timeout(SUSPEND_TIMEOUT, vitals.suspend()).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SysError::NotRunning { path }),
            Err(_) => Err(SysError::Timeout { path }),
        }
    }

    /// Lets the server go on. One that was not suspended does not notice.
    ///
    /// # Errors
    ///
    /// [`SysError::Find`] and [`SysError::NotRunning`]: the next life is not suspended.
    pub fn resume(&self) -> Result<(), SysError> {
        self.vitals()?.resume();
        Ok(())
    }

    /// Counts from now on, from zero. Costs the server two looks at the clock for each message.
    ///
    /// # Errors
    ///
    /// [`SysError::Find`] and [`SysError::NotRunning`].
    pub fn statistics_on(&self) -> Result<(), SysError> {
        self.vitals()?.observer(|observer| {
            observer.get_or_insert_default().counting = Some(Counting::new(Instant::now()));
        });
        Ok(())
    }

    /// Stops counting, and forgets.
    ///
    /// # Errors
    ///
    /// [`SysError::Find`] and [`SysError::NotRunning`].
    pub fn statistics_off(&self) -> Result<(), SysError> {
        self.vitals()?.observer(|observer| {
            if let Some(some) = observer {
                some.counting = None;
            }
            *observer = observer.take_if(|observer| !observer.is_idle());
        });
        Ok(())
    }

    /// What was counted since the statistics were switched on.
    ///
    /// # Errors
    ///
    /// [`SysError::StatisticsOff`], also for a life that began since; [`SysError::Find`] and
    /// [`SysError::NotRunning`].
    pub fn statistics(&self) -> Result<StatisticsView, SysError> {
        let (_, mailbox, vitals) = self.life()?;
        let counted = vitals.observer(|observer| {
            let counting = observer.as_ref()?.counting.as_ref()?;
            Some(counting.view(mailbox, Instant::now()))
        });
        counted.ok_or_else(|| SysError::StatisticsOff { path: self.path.clone() })
    }

    /// Shows the messages as they are handled, in the words of
    /// [`Server::describe`](crate::Server::describe), until a limit is reached.
    ///
    /// A trace cannot overload the node: what comes too fast, or finds its reader behind, is counted and not
    /// shown, and its text is never made. It ends with the number of messages asked for, with the life, after
    /// [`TRACE_LASTS`], or when the [`Trace`] is dropped.
    ///
    /// # Errors
    ///
    /// [`SysError::Traced`] while another trace of this life goes on; [`SysError::Find`] and
    /// [`SysError::NotRunning`].
    pub fn trace(&self, limits: TraceLimits) -> Result<Trace, SysError> {
        let trace = self.vitals()?.observer(|observer| {
            let trace = observer.get_or_insert_default().trace(limits, Instant::now());
            *observer = observer.take_if(|observer| !observer.is_idle());
            trace
        });
        trace.ok_or_else(|| SysError::Traced { path: self.path.clone() })
    }
}

/// What the state says of itself, if the server gets to it in time.
async fn shown_by(vitals: &Vitals) -> StateView {
    if vitals.is_asking() {
        return StateView::Busy;
    }
    let Some(answer) = vitals.ask_state() else { return StateView::Busy };
    match tokio::time::timeout(STATE_TIMEOUT, answer).await {
        Ok(Ok(Ok(None))) => StateView::Hidden,
        Ok(Ok(Ok(Some(text)))) => StateView::Shown { text: cut(&text, STATE_TEXT_MAX).to_owned() },
        Ok(Ok(Err(reason))) => StateView::Failed { reason },
        Ok(Err(_)) | Err(_) => StateView::Busy,
    }
}

impl fmt::Debug for Sys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sys").field("path", &self.path).finish_non_exhaustive()
    }
}
