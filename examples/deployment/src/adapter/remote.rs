//! An adapter that takes its time: what is wanted is carried out in lanes, and what they find is there to be read.
//!
//! Three lanes, each a task under a supervisor: shares, instances, counts. They do not wait for each other: a
//! rollback is not held up by a script that starts something, nor by a cluster that does not count.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use gemba::{Stop, Supervisor, TaskContext, task};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::adapter::{Shares, Standing, Trouble, Wanted};
use crate::region::{Ledger, Since};
use crate::splitter::Counted;

mod awaited;

use awaited::{Awaited, Late};

/// How often instances are looked at and counts are asked for: as often as a rollout is judged.
pub const LOOK: Duration = Duration::from_secs(1);

/// How long to wait before something is tried again that may pass by itself, if nobody said.
const AGAIN: Duration = Duration::from_secs(1);

/// How long to wait before something is tried again that somebody has to mend.
const AGAIN_LASTING: Duration = Duration::from_secs(30);

/// Lives of the lanes of a region that may end within a minute: a panic in one is a defect of this program.
const CRASHES_MAX: u32 = 30;

/// What carries out what is wanted in one region. Each lane has its own. Every call ends within a time of its own, and
/// may be made again: what was done already is done.
pub trait Hands: Send + 'static {
    /// How often shares that are in force are told again, should somebody have changed them; never if none.
    const TOLD_AGAIN: Option<Duration>;

    /// The versions that are there, and how they stand.
    fn look(&mut self) -> impl Future<Output = Result<BTreeMap<String, Standing>, Trouble>> + Send;

    /// Makes so many instances of a version run.
    fn start(
        &mut self,
        order: &Order<'_>,
        instances: u32,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Puts shares in force, unless newer ones are.
    fn share(&mut self, delivery: &str, shares: &Shares) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// What came of the requests to these versions.
    fn counts(&mut self, versions: &[String]) -> impl Future<Output = Result<Counted, Trouble>> + Send;

    /// Ends the instances of a version.
    fn end(&mut self, order: &Order<'_>) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// Who is to start or to end, and in whose name.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The delivery.
    pub delivery: &'a str,
    /// The generation of what is wanted.
    pub generation: u64,
    /// The version.
    pub version: &'a str,
}

/// How patient the lanes of a region are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long the instances of a version may take to be ready.
    pub ready_within: Duration,
    /// How long instances without a share are kept, so that requests that were on their way to them arrive.
    pub drain: Duration,
}

#[derive(Debug, Clone, Default)]
struct Traffic {
    /// The generation in force, and since when.
    in_force: Option<(u64, Instant)>,
    trouble: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Fleet {
    /// The delivery that was wanted when this was found.
    delivery: String,
    standings: BTreeMap<String, Standing>,
    /// What was not seen ready in time, while nothing can be seen.
    late: Late,
    trouble: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    counted: Option<Counted>,
    trouble: Option<String>,
}

/// A region that is driven in lanes. Clones are the same region.
#[derive(Debug, Clone)]
pub struct Remote {
    wanted: Arc<watch::Sender<Option<Wanted>>>,
    traffic: Arc<watch::Sender<Traffic>>,
    fleet: Arc<watch::Sender<Fleet>>,
    counts: Arc<watch::Sender<Counts>>,
}

impl Remote {
    /// A region where nothing is wanted yet, and the lanes that will carry it out, each life with new hands.
    pub fn new<H: Hands>(
        name: &str,
        hands: impl Fn() -> H + Clone + Send + Sync + 'static,
        patience: Patience,
    ) -> (Self, Supervisor) {
        let remote = Self {
            wanted: Arc::new(watch::Sender::new(None)),
            traffic: Arc::default(),
            fleet: Arc::default(),
            counts: Arc::default(),
        };
        let lanes = Supervisor::one_for_one(name).intensity(CRASHES_MAX, Duration::from_secs(60));
        let of = || (remote.clone(), hands.clone());
        let (shares, instances, counts) = (of(), of(), of());
        let lanes = lanes
            .child(task("shares", move |ctx| shares_lane(ctx, shares.0.clone(), shares.1())))
            .child(task("instances", move |ctx| {
                instances_lane(ctx, instances.0.clone(), instances.1(), patience)
            }))
            .child(task("counts", move |ctx| counts_lane(ctx, counts.0.clone(), counts.1())));
        (remote, lanes)
    }

    /// Says what is to be there. What is wanted already is not said again.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|was| {
            let is_new = was.as_ref() != Some(&wanted);
            if is_new {
                *was = Some(wanted);
            }
            is_new
        });
    }

    /// How each version stands, as far as it is known.
    pub fn standings(&self) -> BTreeMap<String, Standing> {
        self.fleet.borrow().standings.clone()
    }

    /// How a version stands in a delivery. What an earlier one left behind, ready or failed, is nothing of this one's.
    pub fn standing(&self, delivery: &str, version: &str) -> Standing {
        let fleet = self.fleet.borrow();
        let found = fleet.standings.get(version).filter(|_| fleet.delivery == delivery);
        let mut standing = found.cloned().unwrap_or_default();
        if fleet.late.is_of(delivery, version) {
            let trouble = fleet.trouble.as_deref().unwrap_or("nobody says why");
            standing.failures.get_or_insert_with(|| (1, format!("was not seen ready in time: {trouble}")));
        }
        standing
    }

    /// The generation of the shares that are in force; none before this manager told any.
    pub fn in_force(&self) -> Option<u64> {
        self.traffic.borrow().in_force.map(|(generation, _)| generation)
    }

    /// What was counted last, and what of it is new to `ledger`.
    pub fn counts(&self, ledger: &mut Ledger) -> Option<(Counted, HashMap<String, Since>)> {
        let mut counted = self.counts.borrow().counted.clone()?;
        counted.generation = self.in_force().unwrap_or_default();
        let since = ledger.since(&counted);
        Some((counted, since))
    }

    /// What is wrong there, in words.
    pub fn trouble(&self) -> Option<String> {
        let troubles = [
            self.traffic.borrow().trouble.clone(),
            self.fleet.borrow().trouble.clone(),
            self.counts.borrow().trouble.clone(),
        ];
        let mut found: Vec<String> = troubles.into_iter().flatten().collect();
        // A cluster that does not answer answers no lane.
        found.dedup();
        (!found.is_empty()).then(|| found.join("; "))
    }
}

fn again(trouble: &Trouble) -> Duration {
    let otherwise = if trouble.is_passing { AGAIN } else { AGAIN_LASTING };
    trouble.again_after.unwrap_or(otherwise)
}

async fn shares_lane<H: Hands>(ctx: TaskContext, remote: Remote, mut hands: H) -> Result<(), Stop> {
    let (mut wanted, stopped) = (remote.wanted.subscribe(), ctx.stopped());
    tokio::pin!(stopped);
    // Another life of this lane does not know whether its last word arrived.
    let mut told: Option<(Shares, Instant)> = None;
    loop {
        let now =
            wanted.borrow_and_update().clone().and_then(|wanted| Some((wanted.delivery, wanted.shares?)));
        let mut next: Option<Instant> = None;
        if let Some((delivery, shares)) = now {
            let due = told
                .as_ref()
                .filter(|(last, _)| *last == shares)
                .map(|(_, at)| H::TOLD_AGAIN.map(|every| *at + every));
            match due {
                Some(None) => {}
                Some(Some(at)) if Instant::now() < at => next = Some(at),
                Some(Some(_)) | None => {
                    // The last word is the only one that counts: a newer one does not wait for an older.
                    let result = tokio::select! {
                        biased;
                        () = &mut stopped => return Ok(()),
                        () = others(&mut wanted, &shares) => continue,
                        result = hands.share(&delivery, &shares) => result,
                    };
                    next = Some(note_shares(&remote, shares, result, &mut told));
                }
            }
        }
        tokio::select! {
            () = &mut stopped => return Ok(()),
            _ = wanted.changed() => {}
            () = until(next) => {}
        }
    }
}

/// Publishes what came of an order to share, and tells when to look again.
fn note_shares(
    remote: &Remote,
    shares: Shares,
    result: Result<(), Trouble>,
    told: &mut Option<(Shares, Instant)>,
) -> Instant {
    let now = Instant::now();
    match result {
        Ok(()) => {
            let generation = shares.generation;
            remote.traffic.send_modify(|traffic| {
                if traffic.in_force.is_none_or(|(last, _)| last != generation) {
                    traffic.in_force = Some((generation, now));
                }
                traffic.trouble = None;
            });
            *told = Some((shares, now));
            now
        }
        Err(trouble) => {
            *told = None;
            let next = now + again(&trouble);
            remote.traffic.send_modify(|traffic| traffic.trouble = Some(trouble.what));
            next
        }
    }
}

/// Waits until other shares are wanted.
async fn others(wanted: &mut watch::Receiver<Option<Wanted>>, shares: &Shares) {
    let is_other =
        |wanted: &Option<Wanted>| wanted.as_ref().and_then(|wanted| wanted.shares.as_ref()) != Some(shares);
    if wanted.wait_for(is_other).await.is_err() {
        // Nobody is left to want anything; the lane itself keeps the sender, so this does not come.
        std::future::pending::<()>().await;
    }
}

async fn until(next: Option<Instant>) {
    match next {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What the instances lane knows of a version it started.
#[derive(Debug)]
struct Begun {
    delivery: String,
    instances: u32,
    at: Instant,
    /// When it is too late to become ready for the first time; none once it was.
    ready_by: Option<Instant>,
    /// Why it could not be started, and when to try again.
    refused: Option<(Trouble, Instant)>,
}

async fn instances_lane<H: Hands>(
    ctx: TaskContext,
    remote: Remote,
    mut hands: H,
    patience: Patience,
) -> Result<(), Stop> {
    let (mut wanted, stopped) = (remote.wanted.subscribe(), ctx.stopped());
    tokio::pin!(stopped);
    let (mut begun, mut awaited) = (BTreeMap::new(), Awaited::default());
    loop {
        let now = wanted.borrow_and_update().clone();
        let round = round(&remote, &mut hands, now, (&mut begun, &mut awaited), patience);
        let wait = tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            wait = round => wait,
        };
        tokio::select! {
            () = &mut stopped => return Ok(()),
            _ = wanted.changed() => {}
            () = sleep(wait) => {}
        }
    }
}

/// Looks, starts what is missing, ends what has drained; tells when to look again.
async fn round<H: Hands>(
    remote: &Remote,
    hands: &mut H,
    wanted: Option<Wanted>,
    (begun, awaited): (&mut BTreeMap<String, Begun>, &mut Awaited),
    patience: Patience,
) -> Duration {
    if let Some(wanted) = &wanted {
        awaited.note(wanted);
    }
    let mut standings = match hands.look().await {
        Ok(standings) => standings,
        Err(trouble) => {
            let wait = again(&trouble).max(LOOK);
            let late = awaited.late(begun, patience);
            // What was seen last stays: a rollback must not wait until everything can be seen again.
            remote.fleet.send_modify(|fleet| (fleet.late, fleet.trouble) = (late, Some(trouble.what)));
            return wait;
        }
    };
    let (mut troubles, mut delivery) = (Vec::new(), String::new());
    if let Some(wanted) = wanted {
        delivery.clone_from(&wanted.delivery);
        begun.retain(|version, begun| {
            wanted.instances.contains_key(version) && begun.delivery == wanted.delivery
        });
        let generation = wanted.generation;
        for (version, instances) in &wanted.instances {
            start(
                hands,
                &Order { delivery: &delivery, generation, version },
                *instances,
                &standings,
                begun,
                patience,
            )
            .await;
        }
        for (version, begun) in &mut *begun {
            judge(version, begun, &mut standings, &mut troubles);
        }
        if has_drained(remote, &wanted, patience) {
            let over = standings.keys().filter(|version| !wanted.instances.contains_key(*version));
            for version in over.cloned().collect::<Vec<_>>() {
                if let Err(trouble) =
                    hands.end(&Order { delivery: &delivery, generation, version: &version }).await
                {
                    troubles.push(trouble.what);
                }
            }
        }
    }
    let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
    remote.fleet.send_replace(Fleet { delivery, standings, late: Late::default(), trouble });
    LOOK
}

/// Starts a version that is not there, or not as often as it should be.
async fn start<H: Hands>(
    hands: &mut H,
    order: &Order<'_>,
    instances: u32,
    standings: &BTreeMap<String, Standing>,
    begun: &mut BTreeMap<String, Begun>,
    patience: Patience,
) {
    let now = Instant::now();
    let known = begun.get(order.version);
    let is_whole = standings.get(order.version).is_some_and(|standing| standing.all == instances);
    let is_due = known.is_none_or(|known| {
        let is_other = known.instances != instances || (!is_whole && AGAIN_LASTING <= known.at.elapsed());
        known.refused.as_ref().map_or(is_other, |(_, again)| *again <= now)
    });
    if !is_due {
        return;
    }
    let ready_by = known.map_or(Some(now + patience.ready_within), |known| known.ready_by);
    let refused = hands.start(order, instances).await.err().map(|trouble| {
        let at = now + again(&trouble);
        (trouble, at)
    });
    let entry = Begun { delivery: order.delivery.to_owned(), instances, at: now, ready_by, refused };
    begun.insert(order.version.to_owned(), entry);
}

/// Adds to how a version stands what the cluster or the scripts do not say: that it could not be started, or takes too
/// long.
fn judge(
    version: &str,
    begun: &mut Begun,
    standings: &mut BTreeMap<String, Standing>,
    troubles: &mut Vec<String>,
) {
    let standing = standings.entry(version.to_owned()).or_default();
    if let Some((trouble, _)) = &begun.refused {
        troubles.push(trouble.what.clone());
        if !trouble.is_passing {
            standing.failures.get_or_insert_with(|| (1, trouble.what.clone()));
        }
    }
    if begun.instances <= standing.ready {
        begun.ready_by = None;
    }
    if begun.ready_by.is_some_and(|by| by <= Instant::now()) {
        let (ready, wanted) = (standing.ready, begun.instances);
        let why = format!("was not ready in time: {ready} of {wanted} instances are");
        standing.failures.get_or_insert((1, why));
    }
}

/// Whether requests to versions that are not wanted any more have had the time to arrive.
fn has_drained(remote: &Remote, wanted: &Wanted, patience: Patience) -> bool {
    let Some(shares) = &wanted.shares else { return false };
    let is_clear = shares.versions.iter().all(|(version, _)| wanted.instances.contains_key(version));
    let in_force = remote.traffic.borrow().in_force;
    is_clear
        && in_force.is_some_and(|(generation, since)| {
            generation == shares.generation && patience.drain <= since.elapsed()
        })
}

async fn counts_lane<H: Hands>(ctx: TaskContext, remote: Remote, mut hands: H) -> Result<(), Stop> {
    let (wanted, stopped) = (remote.wanted.subscribe(), ctx.stopped());
    tokio::pin!(stopped);
    loop {
        let versions: Vec<String> =
            wanted.borrow().iter().flat_map(|wanted| wanted.instances.keys().cloned()).collect();
        let mut wait = LOOK;
        if !versions.is_empty() {
            let result = tokio::select! {
                biased;
                () = &mut stopped => return Ok(()),
                result = hands.counts(&versions) => result,
            };
            match result {
                Ok(counted) => {
                    remote.counts.send_replace(Counts { counted: Some(counted), trouble: None });
                }
                Err(trouble) => {
                    wait = again(&trouble).max(LOOK);
                    remote.counts.send_modify(|counts| counts.trouble = Some(trouble.what));
                }
            }
        }
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = sleep(wait) => {}
        }
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
