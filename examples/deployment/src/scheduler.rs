//! The actor of the queue: writes down who waits before anybody is told, and begins a delivery when its turn comes.
//!
//! It is driven by the level, as the conductors are: each tick compares who waits with how the services stand. So it
//! goes on after a crash at any moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gemba::light::Light;
use gemba::metric::ROLLOUTS_WAITING;
use gemba::policy::Policy;
use gemba::receipt::Event;
use gemba::{Context, DatabaseError, Reply, Server, Stop};
use tokio::sync::watch;

use crate::conductor::{self, Reach};
use crate::facts::{brings, facts, standing};
use crate::fleet::{Fleet, Service};
use crate::policy::{self, DeploymentRequest};
use crate::queue::{Queue, Standing, Turn, Waiting};
use crate::store::Store;
use crate::view::ServiceView;

/// How often it looks whose turn it is.
const TICK: Duration = Duration::from_millis(250);

/// Why nothing is begun after an order to end everything.
pub(crate) const CLOSED: &str =
    "everything was told to end, and splitters end for good; restart the manager, then ask again";

/// What it understands.
#[derive(Debug)]
pub enum Msg {
    /// Look.
    Tick,
    /// Let a delivery that the policy approved wait for its turn, and begin it if that is now. Tells its id.
    Join(DeploymentRequest, Reply<Result<String, JoinError>>),
    /// Take the delivery of this service out of the queue, as somebody asks, who gives a name. Tells what was done;
    /// nothing if none waits.
    Leave(String, String, Reply<Result<Option<String>, String>>),
    /// Take all of them out, and let no other one in as long as this manager runs.
    Clear(String, Reply<Result<(), String>>),
}

/// Why a delivery does not wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It does not fit what there is.
    #[error("{0}")]
    Refused(String),
    /// It cannot be written down, or nobody knows how its service stands.
    #[error("{0}")]
    Unavailable(String),
}

impl JoinError {
    fn unavailable(error: impl std::error::Error) -> Self {
        Self::Unavailable(crate::chain(&error))
    }
}

/// What every life of it is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The fleet as it is now.
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// Each service.
    pub services: BTreeMap<String, Reach>,
    /// The record.
    pub store: Store,
    /// Where the queue is published.
    pub view: Arc<watch::Sender<Queue>>,
    /// Whether everything was told to end: no life of it forgets that.
    pub closed: Arc<watch::Sender<bool>>,
}

/// The actor.
#[derive(Debug)]
pub struct Scheduler {
    parts: Parts,
    queue: Queue,
}

impl Scheduler {
    /// A scheduler that has not read its queue yet.
    pub fn new(parts: Parts) -> Self {
        Self { parts, queue: Queue::default() }
    }

    /// Lets a delivery wait. Requests come here one after the other, so that what several may find at once is asked
    /// again: the id, what brings the same version, how many wait.
    async fn join(
        &mut self,
        request: DeploymentRequest,
        ctx: &mut Context<Msg>,
    ) -> Result<String, JoinError> {
        let id = request.id.clone();
        if let Some(found) = self.parts.store.find(&id).await.map_err(JoinError::unavailable)? {
            let conflict = found.conflict(&id, &request.service, &request.version);
            return conflict.map_or(Ok(id), |why| Err(JoinError::Refused(why)));
        }
        if self.is_closed() {
            return Err(JoinError::Refused(CLOSED.to_owned()));
        }
        let most = self.parts.fleet.borrow().queue.waiting_max as usize;
        if most <= self.queue.others(&request.service) {
            let why = format!("as many deliveries wait as may, {most}; ask again when there are fewer");
            return Err(JoinError::Refused(why));
        }
        let service = request.service.clone();
        let view = match self.parts.services.get(&service) {
            Some(reach) => {
                reach.current(&service, &self.parts.store).await.map_err(JoinError::unavailable)?
            }
            None => ServiceView::default(),
        };
        if let Some(other) = brings(&view, &self.queue, &request) {
            return Err(JoinError::Refused(format!("delivery {other} brings this version already")));
        }
        let is_running = view.delivery.is_some();
        let unix_ms = ctx.system().unix_ms();
        // On the disk first: what was accepted is there after a crash.
        let mut queue = self.queue.clone();
        let (waiting, superseded) = queue.join(request, is_running, unix_ms);
        let superseded = superseded.map(|old| {
            let why = format!("superseded by {} (delivery {id})", waiting.request.version);
            (old.request, why)
        });
        let written = self.parts.store.join(&waiting, superseded.clone()).await;
        let is_superseded = written.map_err(JoinError::unavailable)?;
        self.queue = queue;
        if let Some((old, why)) = superseded.filter(|_| is_superseded) {
            note(ctx, &old, Light::Green, &format!("{} not begun: {why}", old.version));
        }
        Ok(id)
    }

    fn is_closed(&self) -> bool {
        *self.parts.closed.borrow()
    }

    /// Whose turn it is, in order.
    async fn turns(&mut self, ctx: &mut Context<Msg>) -> Result<(), DatabaseError> {
        if self.is_closed() {
            self.publish(ctx);
            return Ok(());
        }
        let fleet = self.parts.fleet.borrow().clone();
        let unix_ms = ctx.system().unix_ms();
        // Those that are next: nobody who came later is begun in their place.
        let mut next = 0;
        for waiting in self.queue.waiting().to_vec() {
            let turn = self.turn(&fleet, &waiting, self.running() + next, unix_ms).await;
            let id = &waiting.request.id;
            let why = match turn {
                Turn::Begun => {
                    self.queue.leave(id);
                    continue;
                }
                Turn::Begin => match self.hand_over(&waiting).await {
                    Ok(()) => {
                        self.queue.leave(id);
                        continue;
                    }
                    Err(why) => why,
                },
                Turn::Supersede(why) => {
                    self.supersede(&waiting).await;
                    next += 1;
                    why
                }
                Turn::Next(why) => {
                    next += 1;
                    why
                }
                Turn::Wait(why) => why,
                Turn::Refuse(why) => {
                    self.end(&waiting, Light::Red, &why, ctx).await?;
                    continue;
                }
            };
            if let Some(position) = self.queue.explain(id, &why) {
                let what =
                    format!("{} waits, number {position} in the queue: {why}", waiting.request.version);
                self.parts.store.step(id, unix_ms, &what).await?;
                note(ctx, &waiting.request, Light::Green, &what);
            }
        }
        self.publish(ctx);
        Ok(())
    }

    /// Deliveries that go on. Of a service that has not told yet nobody knows, and one may.
    fn running(&self) -> usize {
        let views = self.parts.services.values().map(|reach| reach.view.borrow());
        views.filter(|view| view.service.is_empty() || view.delivery.is_some()).count()
    }

    async fn turn(&self, fleet: &Fleet, waiting: &Waiting, running: usize, unix_ms: u64) -> Turn {
        let request = &waiting.request;
        let here = fleet.service(&request.service).zip(self.parts.services.get(&request.service));
        let Some((service, reach)) = here else {
            return Turn::Refuse(format!("the fleet has no service {}", request.service));
        };
        let view = reach.view.borrow().clone();
        if view.service.is_empty() {
            return Turn::Wait("the manager has just started".to_owned());
        }
        let known = facts(fleet, service, &view, request, unix_ms);
        let violations = policy::policy().evaluate(request, &known).violations().to_vec();
        let standing = Standing { violations, ..standing(&view) };
        match waiting.turn(&standing, running, &fleet.queue, unix_ms) {
            // Read last, and only if it matters: a program may be large.
            Turn::Begin => match inspect(service, &request.version).await {
                Some(why) => Turn::Refuse(why),
                None => Turn::Begin,
            },
            other @ (Turn::Begun | Turn::Wait(_) | Turn::Next(_) | Turn::Supersede(_) | Turn::Refuse(_)) => {
                other
            }
        }
    }

    /// Hands it to the conductor of its service, which takes it off the queue's record with its first step.
    async fn hand_over(&self, waiting: &Waiting) -> Result<(), String> {
        let Some(reach) = self.parts.services.get(&waiting.request.service) else { return Ok(()) };
        let begun = reach.conductor.call(|reply| conductor::Msg::Begin(waiting.request.clone(), reply)).await;
        // What is not known is found by the next tick: the same id is begun once.
        begun.map_err(|error| error.to_string())?.map(drop)
    }

    async fn supersede(&self, waiting: &Waiting) {
        let request = &waiting.request;
        let Some(reach) = self.parts.services.get(&request.service) else { return };
        let Some(old) = reach.view.borrow().delivery.as_ref().map(|delivery| delivery.id.clone()) else {
            return;
        };
        let by = format!("{} (delivery {})", request.version, request.id);
        let superseded = reach.conductor.call(|reply| conductor::Msg::Supersede(old, by, reply)).await;
        if let Err(error) | Ok(Err(error)) = superseded.map_err(|error| error.to_string()) {
            // The next tick asks again.
            tracing::warn!(service = request.service, error, "delivery not superseded yet");
        }
    }

    /// Ends one that was not begun, and tells what was written; nothing if it has begun after all.
    async fn end(
        &mut self,
        waiting: &Waiting,
        light: Light,
        why: &str,
        ctx: &mut Context<Msg>,
    ) -> Result<Option<String>, DatabaseError> {
        let request = &waiting.request;
        let what = format!("{} not begun: {why}", request.version);
        let has_ended = self.parts.store.end_waiting(&request.id, ctx.system().unix_ms(), why, &what).await?;
        self.queue.leave(&request.id);
        if !has_ended {
            return Ok(None);
        }
        note(ctx, request, light, &what);
        Ok(Some(what))
    }

    async fn leave(
        &mut self,
        service: &str,
        by: &str,
        ctx: &mut Context<Msg>,
    ) -> Result<Option<String>, DatabaseError> {
        let Some(waiting) = self.queue.of_service(service).cloned() else { return Ok(None) };
        let why = format!("taken out of the queue (by {by})");
        let what = self.end(&waiting, Light::Green, &why, ctx).await?;
        self.publish(ctx);
        Ok(what)
    }

    async fn clear(&mut self, by: &str, ctx: &mut Context<Msg>) -> Result<(), DatabaseError> {
        self.parts.closed.send_replace(true);
        for waiting in self.queue.waiting().to_vec() {
            self.leave(&waiting.request.service, by, ctx).await?;
        }
        Ok(())
    }

    fn publish(&self, ctx: &Context<Msg>) {
        let waiting = self.queue.waiting().len();
        ctx.system().instruments().gauge(&ROLLOUTS_WAITING, &[]).set(waiting as f64);
        self.parts.view.send_if_modified(|shown| {
            let is_new = *shown != self.queue;
            if is_new {
                shown.clone_from(&self.queue);
            }
            is_new
        });
    }
}

/// What is wrong with the program of a version, if anything is.
async fn inspect(service: &Service, version: &str) -> Option<String> {
    let artefact = service.versions.get(version)?.clone();
    let found = tokio::task::spawn_blocking(move || policy::inspect(&artefact)).await;
    found.unwrap_or_else(|error| Some(format!("its program cannot be read: {error}")))
}

/// A receipt of what became of one that waits.
fn note(ctx: &Context<Msg>, request: &DeploymentRequest, light: Light, why: &str) {
    let Ok(service) = request.service.parse() else { return };
    let event = Event::RolloutMoved { service, rollout: request.id.as_str().into(), light, why: why.into() };
    ctx.system().record(None, ctx.path(), event);
}

impl Server for Scheduler {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        self.queue = Queue::of(self.parts.store.waiting().await?);
        self.publish(ctx);
        ctx.every(TICK, || Msg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        let words = |error: DatabaseError| crate::chain(&error);
        match msg {
            Msg::Tick => self.turns(ctx).await?,
            Msg::Join(request, reply) => match self.join(request, ctx).await {
                Ok(id) => {
                    let turned = self.turns(ctx).await;
                    // It was accepted, whatever came of its turn: if that was not written, the next life looks again.
                    reply.send(Ok(id));
                    turned?;
                }
                Err(error) => reply.send(Err(error)),
            },
            Msg::Leave(service, by, reply) => {
                reply.send(self.leave(&service, &by, ctx).await.map_err(words));
            }
            Msg::Clear(by, reply) => reply.send(self.clear(&by, ctx).await.map_err(words)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
