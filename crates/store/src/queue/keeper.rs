//! The actor of a queue: asks the board, writes what it says, and only then hands cards out.
//!
//! Whatever waits in its mailbox is taken in before the next write, so that many cards share one sync.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use gemba_core::kanban::{
    Card, CardId, Delivery, Flow, Kanban, KanbanError, KanbanRules, LeaseId, PullerId, Returned,
};
use gemba_core::light::Light;
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::Event;
use gemba_core::time::Timestamp;
use gemba_kernel::{Context, Publisher, Reply, Server, Stop};

use super::QueueView;
use super::held::{Held, Joined};
use super::rows::{self, Change, Found, Kept};
use crate::database::{Database, DatabaseError};

mod pulls;

/// How many changes share one write.
const CHANGES_MAX: usize = 1_024;

/// How long after a write that failed the same is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often the file is looked at for cards whose hint was lost.
const LOOK: Duration = Duration::from_millis(250);

/// Over how long the flow of the board is measured.
const FLOW_WINDOW: Duration = Duration::from_secs(60);

/// What the keeper understands.
#[derive(Debug)]
pub(super) enum Msg {
    /// There are new cards in the file.
    Appended,
    Join {
        weight: u32,
        reply: Reply<Joined>,
    },
    Leave(PullerId),
    Pull {
        puller: PullerId,
        reply: Reply<Result<Held, KanbanError>>,
    },
    /// Its holder has taken the card off the file.
    Finished {
        card: CardId,
        lease: LeaseId,
    },
    GiveBack {
        lease: LeaseId,
        delay: Option<Duration>,
        error: String,
        reply: Option<Reply<Result<(), KanbanError>>>,
    },
    /// Nobody worked on it.
    PutBack {
        lease: LeaseId,
        delay: Duration,
        why: String,
        reply: Option<Reply<Result<(), KanbanError>>>,
    },
    /// Another delivery would change nothing.
    SetAside {
        lease: LeaseId,
        error: String,
        reply: Reply<Result<(), KanbanError>>,
    },
    Extend {
        lease: LeaseId,
        reply: Reply<Result<Duration, KanbanError>>,
    },
    Redrive {
        card: CardId,
        reply: Reply<Result<(), KanbanError>>,
    },
    Discard {
        card: CardId,
        reply: Reply<Result<(), KanbanError>>,
    },
    SetRules {
        rules: KanbanRules,
        reply: Reply<()>,
    },
    View(Reply<QueueView>),
    /// Write, and hand out.
    Flush,
    /// Time has passed.
    Look,
}

/// Why a card comes back that nobody worked on.
pub(super) const GONE: &str = "its puller had gone";

/// A change, and who waits for it.
type Pending = (Change, Option<Reply<Result<(), KanbanError>>>);

/// The actor.
pub(super) struct Keeper {
    database: Database,
    name: Name,
    rules: Arc<Publisher<KanbanRules>>,
    /// What the andon board shows of the queue; an earlier life's light goes out when it is over, not by a crash.
    light: Arc<Publisher<Light>>,
    /// Leases from here on were given by this process.
    process_epoch: LeaseId,
    board: Kanban,
    /// The last card read from the file.
    seen: CardId,
    /// When that card came.
    arrived: Timestamp,
    next_puller: u64,
    /// Who waits for a card, in the order of asking.
    parked: BTreeMap<PullerId, VecDeque<Reply<Result<Held, KanbanError>>>>,
    changes: VecDeque<Pending>,
    /// Deliveries among the changes, by their lease.
    deliveries: BTreeMap<LeaseId, Delivery>,
    will_flush: bool,
    flow: Flow,
    flow_since: Timestamp,
    /// Lead times since the last look.
    leads: Vec<Duration>,
}

impl Keeper {
    pub(super) fn new(
        database: Database,
        name: Name,
        rules: Arc<Publisher<KanbanRules>>,
        light: Arc<Publisher<Light>>,
        process_epoch: LeaseId,
    ) -> Self {
        let board = Kanban::new(*rules.latest(), Timestamp::START);
        Self {
            database,
            name,
            rules,
            light,
            process_epoch,
            board,
            seen: CardId(0),
            arrived: Timestamp::START,
            next_puller: 0,
            parked: BTreeMap::new(),
            changes: VecDeque::new(),
            deliveries: BTreeMap::new(),
            will_flush: false,
            flow: Flow::default(),
            flow_since: Timestamp::START,
            leads: Vec::new(),
        }
    }

    /// Reads the cards that are new in the file.
    async fn read(&mut self, now: Timestamp) -> Result<(), DatabaseError> {
        loop {
            let after = self.seen;
            let page = self.database.read(move |connection| rows::cards(connection, after)).await?;
            let is_last = page.len() < rows::PAGE;
            let unix_ms = rows::unix_ms_now();
            for kept in page {
                self.seen = kept.id;
                self.take_in(&kept, unix_ms, now);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn take_in(&mut self, kept: &Kept, unix_ms: u64, now: Timestamp) {
        let age = Duration::from_millis(unix_ms.saturating_sub(kept.arrived_unix_ms));
        // The file tells milliseconds; what came later in one of them did not come earlier.
        self.arrived = self.arrived.max(now - age);
        let Kept { id, tier, cost, deliveries, .. } = *kept;
        let card = Card { id, tier, cost, arrived: self.arrived, deliveries };
        if kept.is_dead {
            self.board.add_dead(card);
        } else if self.process_epoch <= kept.lease {
            // Its worker is in this process, knows nothing of the keeper's death, and may yet finish it.
            self.board.add_resting(card, now + self.board.rules().lease(), now);
        } else {
            self.board.add(card, now);
        }
    }

    fn returned(
        &mut self,
        returned: Returned,
        error: Option<String>,
        reply: Option<Reply<Result<(), KanbanError>>>,
    ) {
        let change = match returned {
            Returned::Again { card, .. } => Change::Return { card, error },
            Returned::Dead { card, deliveries } => Change::Die { card, deliveries, error },
        };
        self.changes.push_back((change, reply));
    }

    fn put_back(
        &mut self,
        lease: LeaseId,
        delay: Duration,
        why: String,
        reply: Option<Reply<Result<(), KanbanError>>>,
        now: Timestamp,
    ) {
        let Some(card) = self.board.leased(lease) else {
            if let Some(reply) = reply {
                reply.send(Err(KanbanError::LeaseOver));
            }
            return;
        };
        let _ = self.board.put_back(lease, delay, now);
        self.changes.push_back((Change::PutBack { card, why }, reply));
    }

    fn decide(&mut self, now: Timestamp) {
        self.sift();
        for returned in self.board.expire(now) {
            self.returned(returned, Some("its lease ended".into()), None);
        }
        while self.changes.len() < CHANGES_MAX
            && let Some(delivery) = self.board.deliver(now)
        {
            let Delivery { card, lease, deliveries, .. } = delivery;
            self.deliveries.insert(lease, delivery);
            self.changes.push_back((Change::Deliver { card, lease, deliveries }, None));
        }
    }

    /// Writes what was decided, and hands out what is written.
    async fn flush(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        self.will_flush = false;
        self.decide(ctx.now());
        let batch: Arc<[Change]> =
            self.changes.iter().take(CHANGES_MAX).map(|(change, _)| change.clone()).collect();
        if !batch.is_empty() {
            let write = batch.clone();
            match self.database.write(move |connection| rows::change(connection, &write)).await {
                Ok(found) => self.written(found, ctx),
                Err(error @ (DatabaseError::Unavailable(_) | DatabaseError::Busy { .. })) => {
                    tracing::warn!(%error, changes = batch.len(), "not written; trying again");
                    ctx.start_timer("flush", TRY_AGAIN, Msg::Flush);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
            if !self.changes.is_empty() {
                self.flush_soon(ctx);
            }
        }
        if let Some(wake) = self.board.next_wake() {
            ctx.start_timer("wake", wake.since(ctx.now()), Msg::Flush);
        }
        Ok(())
    }

    fn written(&mut self, found: Vec<Found>, ctx: &Context<Msg>) {
        let now = ctx.now();
        for found in found {
            let Some((change, reply)) = self.changes.pop_front() else { return };
            match (change, found) {
                (Change::Deliver { lease, .. }, Found::Payload(payload)) => {
                    self.hand_out(lease, payload, &ctx.address());
                }
                (Change::Deliver { card, lease, .. }, _) => {
                    self.wish_again(lease);
                    self.board.settle(card, now);
                }
                (
                    Change::Return { card, .. } | Change::PutBack { card, .. } | Change::Die { card, .. },
                    Found::Gone,
                ) => {
                    self.board.settle(card, now);
                }
                (Change::Die { card, deliveries, error }, _) => {
                    let why = error.as_deref().unwrap_or("its lease ended").into();
                    let event = Event::CardDied { queue: self.name.clone(), card: card.0, deliveries, why };
                    ctx.system().record(None, ctx.path(), event);
                }
                _ => {}
            }
            if let Some(reply) = reply {
                reply.send(Ok(()));
            }
        }
    }

    /// Flushes once everything in the mailbox has been taken in.
    fn flush_soon(&mut self, ctx: &mut Context<Msg>) {
        if !std::mem::replace(&mut self.will_flush, true) && ctx.address().cast(Msg::Flush).is_err() {
            ctx.continue_with(Msg::Flush);
        }
    }

    fn redrive(&mut self, card: CardId, reply: Reply<Result<(), KanbanError>>, now: Timestamp) {
        match self.board.redrive(card, now) {
            Ok(()) => self.changes.push_back((Change::Redrive { card }, Some(reply))),
            Err(error) => reply.send(Err(error)),
        }
    }

    fn discard(&mut self, card: CardId, reply: Reply<Result<(), KanbanError>>) {
        match self.board.discard(card) {
            Ok(()) => self.changes.push_back((Change::Discard { card }, Some(reply))),
            Err(error) => reply.send(Err(error)),
        }
    }

    fn view(&self, now: Timestamp) -> QueueView {
        QueueView {
            counts: self.board.counts(),
            oldest: self.board.oldest(now),
            flow: self.flow,
            stalled: self.board.is_stalled(now),
        }
    }

    /// Tells the andon board and the metrics how the queue stands.
    fn show(&mut self, ctx: &Context<Msg>) {
        let now = ctx.now();
        let (counts, is_stalled) = (self.board.counts(), self.board.is_stalled(now));
        let to = match (is_stalled, counts.dead) {
            (true, _) => Light::Red,
            (false, 0) => Light::Green,
            (false, _) => Light::Yellow,
        };
        let from = *self.light.latest();
        if from != to {
            let (queue, waiting) = (self.name.clone(), counts.todo + counts.resting);
            let event =
                Event::QueueMoved { queue, from, to, dead: counts.dead, waiting, working: counts.working };
            ctx.system().record(None, ctx.path(), event);
            self.light.publish(to);
        }
        let (instruments, queue) = (ctx.system().instruments(), self.name.as_str());
        for (column, cards) in [
            ("todo", counts.todo),
            ("resting", counts.resting),
            ("working", counts.working),
            ("dead", counts.dead),
        ] {
            instruments.gauge(&metric::QUEUE_CARDS, &[queue, column]).set(cards as f64);
        }
        instruments.gauge(&metric::QUEUE_OLDEST, &[queue]).set(self.board.oldest(now).as_secs_f64());
        instruments.gauge(&metric::QUEUE_STALLED, &[queue]).set(f64::from(u8::from(is_stalled)));
        let leads = instruments.histogram(&metric::QUEUE_LEAD, &[queue]);
        self.leads.drain(..).for_each(|lead| leads.record(lead.as_secs_f64()));
    }

    async fn look(&mut self, now: Timestamp) -> Result<(), Stop> {
        if FLOW_WINDOW <= now.since(self.flow_since) {
            self.flow = self.board.take_flow(now);
            self.flow_since = now;
        }
        self.read_or_wait(now).await
    }

    /// A file that cannot be read now is read the next time.
    async fn read_or_wait(&mut self, now: Timestamp) -> Result<(), Stop> {
        match self.read(now).await {
            Ok(()) => Ok(()),
            Err(error @ (DatabaseError::Unavailable(_) | DatabaseError::Busy { .. })) => {
                tracing::warn!(%error, "new cards could not be read; trying again");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Server for Keeper {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        let epoch = self.database.write(rows::next_epoch).await?;
        self.next_puller = epoch.0;
        self.board = Kanban::new(*self.rules.latest(), ctx.now()).first_lease(epoch);
        self.flow_since = ctx.now();
        self.read(ctx.now()).await?;
        ctx.every(LOOK, || Msg::Look);
        self.flush_soon(ctx);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        let now = ctx.now();
        match msg {
            Msg::Appended => self.read_or_wait(now).await?,
            Msg::Join { weight, reply } => {
                self.next_puller += 1;
                let puller = PullerId(self.next_puller);
                self.board.join(puller, weight);
                reply.send(Joined::new(puller, ctx.address()));
            }
            Msg::Leave(puller) => self.leave(puller, now),
            Msg::Pull { puller, reply } => self.pull(puller, reply),
            Msg::Finished { card, lease } => match self.board.finish(lease, now) {
                Ok(done) => self.leads.push(done.lead),
                // Its holder had it from an earlier life: wherever the board has it now, it is off the file.
                Err(_) => self.board.settle(card, now),
            },
            Msg::GiveBack { lease, delay, error, reply } => match self.board.give_back(lease, delay, now) {
                Ok(returned) => self.returned(returned, Some(error), reply),
                Err(error) => {
                    if let Some(reply) = reply {
                        reply.send(Err(error));
                    }
                }
            },
            Msg::PutBack { lease, delay, why, reply } => self.put_back(lease, delay, why, reply, now),
            Msg::SetAside { lease, error, reply } => match self.board.set_aside(lease, now) {
                Ok(returned) => self.returned(returned, Some(error), Some(reply)),
                Err(over) => reply.send(Err(over)),
            },
            Msg::Extend { lease, reply } => {
                reply.send(self.board.extend(lease, now).map(|until| until.since(now)));
            }
            Msg::Redrive { card, reply } => self.redrive(card, reply, now),
            Msg::Discard { card, reply } => self.discard(card, reply),
            Msg::SetRules { rules, reply } => {
                self.rules.publish(rules);
                self.board.set_rules(rules);
                reply.send(());
            }
            Msg::View(reply) => {
                reply.send(self.view(now));
                return Ok(());
            }
            Msg::Flush => return self.flush(ctx).await,
            Msg::Look => {
                self.look(now).await?;
                self.show(ctx);
            }
        }
        self.flush_soon(ctx);
        Ok(())
    }
}
