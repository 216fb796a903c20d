//! What a server shows of itself when it is asked: status, statistics, traced messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::exit::{ExitReason, Incarnation};
use crate::name::ActorPath;
use crate::view::{ActorState, MailboxView};

/// What a server does, as `sys:get_status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusView {
    /// Its place.
    pub path: ActorPath,
    /// Which life this is.
    pub incarnation: Incarnation,
    /// Whether it runs.
    pub state: ActorState,
    /// Whether it leaves its mailbox alone until it is resumed.
    pub suspended: bool,
    /// How full its mailbox is.
    pub mailbox: MailboxView,
    /// What it does just now; `None` while it waits.
    pub busy: Option<BusyView>,
    /// What it shows of its state.
    pub shows: StateView,
}

impl StatusView {
    /// Puts a status together; for those who take views.
    pub fn new(
        path: ActorPath,
        incarnation: Incarnation,
        state: ActorState,
        mailbox: MailboxView,
        shows: StateView,
    ) -> Self {
        Self { path, incarnation, state, suspended: false, mailbox, busy: None, shows }
    }
}

/// What a server has in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusyView {
    /// `init`, `terminate`, or the type of its messages.
    pub handles: Arc<str>,
    /// Which message of this life; 0 in `init`.
    pub message: u64,
    /// How long it has worked without a pause, in milliseconds; several messages may share that time.
    pub for_ms: u64,
}

/// What a server shows of its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StateView {
    /// Its type shows nothing.
    Hidden,
    /// What its type lets an operator see.
    Shown {
        /// The text, cut to its limit.
        text: String,
    },
    /// The hook that was to tell it failed; the server goes on.
    Failed {
        /// How.
        reason: ExitReason,
    },
    /// The server is busy and did not get to it in time.
    Busy,
}

/// What a server did since its statistics were switched on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatisticsView {
    /// How long they have been on, in milliseconds.
    pub for_ms: u64,
    /// Messages handled.
    pub handled: u64,
    /// Time spent handling them, in microseconds.
    pub busy_us: u64,
    /// The handler that took longest.
    pub longest: Option<LongestView>,
    /// How full the mailbox is.
    pub mailbox: MailboxView,
}

impl StatisticsView {
    /// Statistics of a server that has done nothing yet; for those who take views.
    pub const fn new(mailbox: MailboxView) -> Self {
        Self { for_ms: 0, handled: 0, busy_us: 0, longest: None, mailbox }
    }
}

/// The handler that took longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongestView {
    /// What it handled, in the words of its type.
    pub message: Arc<str>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// One message of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedView {
    /// Which message of this life.
    pub number: u64,
    /// When its handler began, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What it is, in the words of its type, cut to its limit.
    pub message: Arc<str>,
}
