//! The actor of a service: makes the processes and the splitters be what the record says, and the record follow from
//! what came of the requests.
//!
//! It is driven by the level, not by the edge: each tick compares what should be with what is. So it goes on after a
//! crash at any moment, its own or the whole manager's.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gemba::receipt::Seq;
use gemba::rollout::Side;
use gemba::time::Timestamp;
use gemba::{Context, DatabaseError, DynamicRef, ProcessState, Reply, Server, Stop};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::adapter::remote::Remote;
use crate::delivery::{Delivery, Phase, Step};
use crate::desk::Desk;
use crate::fleet::{Fleet, Service};
use crate::instances::{Instances, Seat, free_port};
use crate::measures::{self, Measures};
use crate::policy::DeploymentRequest;
use crate::region::Since;
use crate::splitter::table::{Share, Table, WHOLE};
use crate::store::{ServiceRecord, Store};
use crate::view::{DeliveryView, ServiceView, StepView};

mod orders;
mod reach;
mod steps;
#[cfg(test)]
mod tests;

pub use reach::{Reach, ViewError};

/// How often it looks: a version that does harm is back at 0 % within this and the answer of a splitter.
const TICK: Duration = Duration::from_millis(250);

/// How often the record is written while a delivery goes on, so that a crash costs no more of what was seen.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Ends of instances of a new version, while it has requests, that are too many.
const CRASHES_MAX: u64 = 2;

/// How long a start waits for instances that ran before to answer: they are up, or they are not.
const ADOPTED_WITHIN: Duration = Duration::from_secs(1);

/// How far back the policy looks at what runs.
const RECENT: Duration = Duration::from_secs(60);

/// What a person may ask of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Keep it where it is.
    Pause,
    /// Go on.
    Resume,
    /// Take the next stage.
    Promote,
    /// Take it back.
    Abort,
    /// End everything that runs.
    Down,
}

/// What a conductor understands.
#[derive(Debug)]
pub enum Msg {
    /// Look.
    Tick,
    /// Begin a delivery that the policy approved.
    Begin(DeploymentRequest, Reply<Result<String, String>>),
    /// Take back the delivery of this id, if it goes on: another one is to begin, which is told in words.
    Supersede(String, String, Reply<Result<(), String>>),
    /// Do what a person asks, who gives a name.
    Carry(Order, String, Reply<Result<String, String>>),
    /// Answer: what was decided before is shown by then.
    Shown(Reply<()>),
}

/// What every life of a conductor is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The service.
    pub service: Service,
    /// The fleet as it is now, when its file was read again.
    pub fleet: watch::Receiver<Arc<Fleet>>,
    /// Where instances have their homes.
    pub home: PathBuf,
    /// The record.
    pub store: Store,
    /// The supervisor of instances.
    pub supervisor: DynamicRef,
    /// For the splitters.
    pub client: reqwest::Client,
    /// The regions that others drive.
    pub remotes: BTreeMap<String, Remote>,
    /// Where the view is published.
    pub view: Arc<watch::Sender<ServiceView>>,
}

/// The actor.
#[derive(Debug)]
pub struct Conductor {
    parts: Parts,
    record: ServiceRecord,
    instances: Instances,
    desks: Vec<Desk>,
    recent: VecDeque<(Timestamp, u64, u64)>,
    cause: Option<Seq>,
    last: Option<StepView>,
    ended: (u64, u64),
    saved_at: Option<Instant>,
    measures: Measures,
}

impl Conductor {
    /// A conductor that has seen nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            desks: parts
                .service
                .regions
                .iter()
                .map(|region| {
                    Desk::new(parts.client.clone(), region, parts.remotes.get(region.name.as_str()).cloned())
                })
                .collect(),
            instances: Instances::new(parts.service.clone(), parts.home.clone(), parts.supervisor.clone()),
            record: ServiceRecord::default(),
            recent: VecDeque::new(),
            cause: None,
            last: None,
            ended: (0, 0),
            saved_at: None,
            measures: Measures::default(),
            parts,
        }
    }

    async fn tick(&mut self, ctx: &mut Context<Msg>) -> Result<(), DatabaseError> {
        let now = clock(ctx);
        self.renew();
        self.seat_instances().await?;
        self.count(now).await;
        let step = self.decide(now).or_else(|| self.slow(now));
        if let Some(step) = step {
            self.take(step, ctx).await?;
        } else if self.record.delivery.is_some() && self.saved_at.is_none_or(|at| SAVE_EVERY <= at.elapsed())
        {
            self.save(None).await?;
        }
        self.tell_regions(ctx).await;
        let desks = &self.desks;
        let is_sent = |version: &str| desks.iter().any(|desk| desk.sends_to(version));
        if let Some(took) = self.measures.recovered(is_sent, Instant::now()) {
            let name = self.parts.service.name.as_str();
            ctx.system().instruments().histogram(&measures::RECOVER, &[name]).record(took.as_secs_f64());
        }
        self.end_instances().await?;
        self.publish(now);
        Ok(())
    }

    /// The versions that are to run in a region.
    fn wanted(&self, region: &str) -> Vec<String> {
        let Some(delivery) = &self.record.delivery else {
            return self.record.stable.iter().cloned().collect();
        };
        let (new, old) = delivery.wants(region);
        let old = delivery.from.clone().filter(|_| old);
        new.then(|| delivery.to.clone()).into_iter().chain(old).collect()
    }

    /// Starts what is missing, or adopts it. A port is on the disk before anybody listens at it.
    async fn seat_instances(&mut self) -> Result<(), DatabaseError> {
        let mut missing = Vec::new();
        for desk in self.desks.iter().filter(|desk| desk.has_processes()) {
            let region = &desk.region;
            for version in self.wanted(region.name.as_str()) {
                for number in 1..=self.parts.service.instances {
                    let seat = Seat { region: region.name.to_string(), version: version.clone(), number };
                    if !self.instances.running.contains_key(&seat) {
                        missing.push(seat);
                    }
                }
            }
        }
        let mut is_new = false;
        for seat in &missing {
            if !self.record.instances.contains_key(&seat.name()) {
                let taken: Vec<u16> = self.record.instances.values().copied().collect();
                if let Some(port) = free_port(&taken) {
                    self.record.instances.insert(seat.name(), port);
                    is_new = true;
                }
            }
        }
        if is_new {
            self.save(None).await?;
        }
        for seat in missing {
            if let Some(port) = self.record.instances.get(&seat.name()).copied() {
                self.seat(&seat, port).await;
            }
        }
        Ok(())
    }

    async fn seat(&mut self, seat: &Seat, port: u16) {
        if let Err(error) = self.instances.start(seat, port).await {
            tracing::warn!(service = %self.parts.service.name, seat = seat.name(), error, "instance not started");
        }
    }

    /// Asks in every region what came of the requests.
    async fn count(&mut self, now: Timestamp) {
        let counts = join_all(self.desks.iter_mut().map(Desk::count)).await;
        let mut sums = (0, 0);
        for (desk, since) in self.desks.iter_mut().zip(counts) {
            for (version, since) in &since {
                if self.record.stable.as_ref() == Some(version) {
                    sums = (sums.0 + since.failures, sums.1 + since.requests);
                }
                desk.note(version, since);
            }
            if let Some(delivery) = &mut self.record.delivery {
                observe(delivery, desk.region.name.as_str(), since);
            }
        }
        self.recent.push_back((now, sums.0, sums.1));
        while self.recent.front().is_some_and(|(then, ..)| RECENT < now.since(*then)) {
            self.recent.pop_front();
        }
    }

    /// What follows from how the instances are and what came of the requests.
    fn decide(&mut self, now: Timestamp) -> Option<Step> {
        let service = &self.parts.service;
        let delivery = self.record.delivery.as_mut()?;
        let (region, phase) = delivery.current()?;
        let desk = self.desks.iter().find(|desk| desk.region.name.as_str() == region)?;
        let standing = desk.standing(&self.instances, &delivery.id, &delivery.to);
        match phase {
            Phase::Starting => {
                if let Some((_, why)) = standing.failures {
                    let why = format!("it did not start in {region}: {why}");
                    return delivery.fail(&why);
                }
                if standing.ready < service.instances {
                    return None;
                }
                delivery.started(now)
            }
            Phase::Splitting(_) => {
                if let Some((times, why)) = standing.failures
                    && CRASHES_MAX < times
                {
                    let why = format!("it failed {times} times in {region}: {why}");
                    return delivery.fail(&why);
                }
                delivery.look(now)
            }
            Phase::Waiting | Phase::Done => None,
        }
    }

    /// The shares of a region: what is new stands first. A version gets its share only with an instance that is
    /// ready; without any, what is left is as it was.
    fn table(&self, desk: &Desk, sticky: &crate::splitter::table::Sticky) -> Option<Table> {
        let mut weights = match (&self.record.delivery, &self.record.stable) {
            (Some(delivery), _) => {
                let new = delivery.share(desk.region.name.as_str());
                let old = delivery.from.as_deref().map(|from| (from, WHOLE - new));
                std::iter::once((delivery.to.as_str(), new)).chain(old).collect()
            }
            (None, Some(stable)) => vec![(stable.as_str(), WHOLE)],
            (None, None) => Vec::new(),
        };
        weights.retain(|(_, weight)| 0 < *weight);
        let is_whole = weights.iter().map(|(_, weight)| weight).sum::<u32>() == WHOLE;
        let is_nothing = self.record.delivery.is_none() && self.record.stable.is_none();
        let share = |(version, weight)| desk.share(&self.instances, version, weight);
        let versions = weights.into_iter().map(share).collect::<Option<Vec<Share>>>()?;
        let chosen_by = self.parts.service.chosen_by.clone();
        (is_whole || is_nothing).then(|| Table { generation: 0, sticky: sticky.clone(), chosen_by, versions })
    }

    /// Tells each region its shares, if they are others, or if it has forgotten them; and what is to run there.
    async fn tell_regions(&mut self, ctx: &mut Context<Msg>) {
        let sticky = self.parts.service.sticky.clone();
        let unix_ms = ctx.system().unix_ms();
        let wanted: Vec<_> = self.desks.iter().map(|desk| self.table(desk, &sticky)).collect();
        let telling = self.desks.iter_mut().zip(wanted).filter_map(|(desk, wanted)| {
            let wanted = wanted?;
            (!desk.knows(&wanted)).then(|| desk.tell(wanted, unix_ms))
        });
        join_all(telling).await;
        let delivery = self.record.delivery.as_ref().map(|delivery| delivery.id.as_str());
        let delivery = delivery.or(self.last.as_ref().map(|last| last.delivery.as_str())).unwrap_or_default();
        let instances = self.parts.service.instances;
        let wanted: Vec<_> = self.desks.iter().map(|desk| self.wanted(desk.region.name.as_str())).collect();
        for (desk, versions) in self.desks.iter_mut().zip(wanted) {
            let instances = versions.into_iter().map(|version| (version, instances)).collect();
            desk.want(delivery, instances, unix_ms);
        }
    }

    /// Ends the instances of versions that are not wanted, when the last request to them is over.
    async fn end_instances(&mut self) -> Result<(), DatabaseError> {
        let mut gone = Vec::new();
        for (seat, instance) in &self.instances.running {
            let is_wanted = self.wanted(&seat.region).contains(&seat.version);
            match instance.handle.view().state {
                // Also if it is wanted again: it is started anew.
                ProcessState::Ended { .. } => gone.push(seat.clone()),
                _ if is_wanted => {}
                ProcessState::Waiting
                | ProcessState::Starting
                | ProcessState::Ready
                | ProcessState::Released
                | ProcessState::Failed(_) => {
                    let desk = self.desks.iter().find(|desk| desk.region.name.as_str() == seat.region);
                    if desk.is_some_and(|desk| desk.has_drained(&seat.version)) {
                        let handle = instance.handle.clone();
                        // It takes as long as the process has; its state tells when it is over.
                        tokio::spawn(async move { handle.end().await });
                    }
                }
                // It ends in its own time.
                ProcessState::Stopping | _ => {}
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        for seat in gone {
            self.instances.running.remove(&seat);
            self.record.instances.remove(&seat.name());
        }
        self.save(None).await
    }

    /// Answers when the splitters know, too.
    async fn answer<T>(
        &mut self,
        done: Result<Result<T, String>, DatabaseError>,
        reply: Reply<Result<T, String>>,
        ctx: &mut Context<Msg>,
    ) -> Result<(), Stop> {
        match done {
            Ok(done) => {
                self.tick(ctx).await?;
                reply.send(done);
                Ok(())
            }
            // What this life holds was not written; the next one reads what was.
            Err(error) => {
                reply.send(Err(crate::chain(&error)));
                Err(error.into())
            }
        }
    }

    fn publish(&self, now: Timestamp) {
        let regions = self.desks.iter().map(|desk| desk.view(&self.instances)).collect();
        let recent = self
            .recent
            .iter()
            .fold((0, 0), |sums, (_, failures, requests)| (sums.0 + failures, sums.1 + requests));
        self.parts.view.send_replace(ServiceView {
            service: self.parts.service.name.to_string(),
            stable: self.record.stable.clone(),
            delivery: self.record.delivery.as_ref().and_then(|delivery| DeliveryView::of(delivery, now)),
            last: self.last.clone(),
            regions,
            recent,
            waiting: None,
            ended: self.ended,
        });
    }
}

impl Server for Conductor {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        self.record = self.parts.store.load(self.parts.service.name.as_str()).await?;
        self.renew();
        let known: Vec<_> = self.record.instances.clone().into_iter().collect();
        for (name, port) in known {
            // One that an earlier life of this actor started: it runs on, and is adopted.
            let child = format!("{}.{name}", self.parts.service.name);
            let _ = self.parts.supervisor.terminate_child(&child).await;
            if let Some(seat) = Seat::parse(&name, &self.parts.service) {
                self.seat(&seat, port).await;
            }
        }
        // Nobody is told before that is known: a service whose instances were not asked yet seems to be down.
        let adopted = self.instances.running.values().map(|instance| instance.handle.ready());
        let _ = timeout(ADOPTED_WITHIN, join_all(adopted)).await;
        self.publish(clock(ctx));
        ctx.every(TICK, || Msg::Tick);
        ctx.continue_with(Msg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Tick => self.tick(ctx).await?,
            Msg::Begin(request, reply) => {
                let begun = self.begin(request, ctx).await;
                self.publish(clock(ctx));
                reply.send(begun);
            }
            Msg::Supersede(id, by, reply) => {
                let superseded = self.supersede(&id, &by, ctx).await;
                self.answer(superseded.map(Ok), reply, ctx).await?;
            }
            Msg::Carry(order, by, reply) => {
                let carried = self.carry(order, &by, ctx).await;
                self.answer(carried, reply, ctx).await?;
            }
            // One message at a time: the tick that wrote something down has published it.
            Msg::Shown(reply) => reply.send(()),
        }
        Ok(())
    }
}

/// Hands what came of the requests in a region to its delivery, if it is that region's turn.
fn observe(delivery: &mut Delivery, region: &str, mut since: std::collections::HashMap<String, Since>) {
    if delivery.current().is_none_or(|(current, _)| current != region) {
        return;
    }
    let sides = [(Side::Candidate, Some(delivery.to.clone())), (Side::Baseline, delivery.from.clone())];
    for (side, version) in sides {
        if let Some(since) = version.and_then(|version| since.remove(&version)) {
            delivery.observe(side, since.failures, since.requests, since.latencies.into_iter());
        }
    }
}

/// The time that a delivery is kept in: it goes on across restarts, which the node's own does not.
fn clock(ctx: &Context<Msg>) -> Timestamp {
    Timestamp::from_nanos(ctx.system().unix_ms() * 1_000_000)
}
