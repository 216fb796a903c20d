//! `GET /api/v1/events`: receipts and the board as server-sent events.
//!
//! A stream pulls from the journal when its client has read what was sent: a slow client costs no
//! memory here, it falls behind in the journal and is told how many receipts it missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use gemba_core::receipt::Seq;
use gemba_core::view::BoardView;
use gemba_kernel::{Reader, System};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::problem::{Kind, Problem};
use crate::reads::{Pairs, only, seq, value};
use crate::server::Shared;

/// The most streams at once.
pub(crate) const STREAMS_MAX: usize = 64;

/// Receipts taken from the journal at once.
const BATCH: usize = 64;

/// How often the board may be sent.
const BOARD_PERIOD: Duration = Duration::from_secs(1);

/// How often a silent stream says that it lives.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Sends receipts after `Last-Event-ID`, or after the parameter `after`, or from now on.
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(pairs): Pairs,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    only(&pairs, &["after"])?;
    let resumed = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default());
    let news = shared.system.journal().subscribe();
    let after = match (resumed, value(&pairs, "after")) {
        (Some(id), _) => seq("Last-Event-ID", id)?,
        (None, Some(after)) => seq("after", after)?,
        (None, None) => shared.system.journal().newest(),
    };
    let permit = Arc::clone(&shared.streams).try_acquire_owned().map_err(|_| {
        Problem::new(
            Kind::Unavailable,
            format!("{STREAMS_MAX} event streams are open, which is the limit; close one or poll receipts"),
        )
    })?;
    let feed = Feed::new(shared.system.clone(), news, shared.closing.subscribe(), after, permit);
    let stream = unfold(feed, |mut feed| async move { feed.next().await.map(|event| (Ok(event), feed)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One client's place in the journal and on the board.
struct Feed {
    system: System,
    news: Reader<Seq>,
    closing: watch::Receiver<bool>,
    ticks: Interval,
    after: Seq,
    board: Option<Arc<BoardView>>,
    pending: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    fn new(
        system: System,
        news: Reader<Seq>,
        closing: watch::Receiver<bool>,
        after: Seq,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let mut ticks = interval(BOARD_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { system, news, closing, ticks, after, board: None, pending: VecDeque::new(), _permit: permit }
    }

    /// The next event, or `None` when the node closes its streams.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if *self.closing.borrow() {
                return None;
            }
            // Seen before the read, so that a receipt written in between wakes the next turn.
            let _ = self.news.latest();
            self.take_receipts();
            if !self.pending.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                _ = self.closing.changed() => return None,
                _ = self.ticks.tick() => self.take_board(),
                changed = self.news.changed() => changed.ok()?,
            }
        }
    }

    fn take_receipts(&mut self) {
        let page = self.system.journal().after(self.after, None, BATCH);
        if 0 < page.forgotten {
            let data = format!("{{\"forgotten\":{}}}", page.forgotten);
            self.pending.push_back(Event::default().event("gap").data(data));
        }
        for receipt in &page.receipts {
            let event = Event::default().event("receipt").id(receipt.seq.0.to_string());
            self.pending.push_back(event.json_data(receipt).expect("a receipt is plain data with text keys"));
        }
        self.after = page.next;
    }

    fn take_board(&mut self) {
        let board = self.system.board();
        if self.board.as_ref().is_none_or(|sent| !Arc::ptr_eq(sent, &board)) {
            let event = Event::default().event("board");
            self.pending.push_back(event.json_data(&board).expect("a board is plain data with text keys"));
            self.board = Some(board);
        }
    }
}
