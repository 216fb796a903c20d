//! The queue of a pool: who waits, who is started next, and who is turned out because it makes no sense to wait.

use std::time::Duration;

use crate::admission::Tier;
use crate::queue::{NOBODY, Pushed, Tenant, TieredQueue};
use crate::time::Timestamp;
use crate::wait::{Forecast, Refused, WaitRules, admits, nanos};
use crate::window::{Tally, Window};
use service::Service;
use tenants::Tenants;

mod service;
mod tenants;

/// Parts of the window in which the tiers' arrivals are counted.
const RATE_PARTS: u32 = 10;

/// Why something that waited, or would have, is not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedOut {
    /// It would wait longer than it can.
    Refused(Refused),
    /// As many wait as may, and nothing of a lower tier among them.
    Full,
    /// It made room for a higher tier, or for a tenant of which less waits.
    Displaced,
    /// It waited as long as it may.
    WaitedTooLong,
    /// What is left until its deadline is not enough for its work.
    TooLate,
    /// Nobody waits for it any more.
    Abandoned,
}

/// What became of an item that was to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an item that is not queued must be answered"]
pub enum Offered<T> {
    /// It waits.
    Waits,
    /// It waits, and this one had to go for it: the newest of the lowest tier, or of the tenant of which most waits.
    Displaced(T),
    /// It does not wait.
    TurnedOut(T, TurnedOut),
}

/// What came out of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an item that left the queue must be answered"]
pub enum Next<T> {
    /// The next to be worked on.
    Start(Waiting<T>),
    /// It is not worked on any more.
    TurnedOut(T, TurnedOut),
}

/// An item of the queue, and what the queue knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<T> {
    /// The item.
    pub item: T,
    /// Its tier.
    pub tier: Tier,
    /// Whose it is.
    pub tenant: Tenant,
    /// When its answer is due.
    pub deadline: Timestamp,
    /// Since when it waits.
    pub since: Timestamp,
    /// Whether a tenant had more waiting when it came: the overload is that one's, and this may wait as usual.
    pub modest: bool,
}

/// The queue of a pool.
///
/// It admits by the predicted wait, starts higher tiers first, sees that lower ones get their share, and
/// turns out what waited too long or can no longer be done in time. Its owner tells it what it starts and what
/// is finished, and publishes its [`forecast`](Self::forecast).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use gemba_core::admission::Tier;
/// use gemba_core::leveller::{Leveller, Next, Offered};
/// use gemba_core::time::Timestamp;
/// use gemba_core::wait::{WaitRules, admits};
///
/// let now = Timestamp::START;
/// let mut queue = Leveller::new(WaitRules::default(), 1000, now);
/// queue.set_workers(2);
/// // No worker is idle, so the signals of two callers wait, and a third would wait too long.
/// for signal in ["a", "b"] {
///     let offered = queue.offer(signal, Tier::Normal, now + Duration::from_secs(1), now);
///     assert_eq!(offered, Offered::Waits);
/// }
/// assert!(admits(&queue.forecast(0, now), Tier::Normal, Duration::from_secs(1)).is_err());
/// let Some(Next::Start(started)) = queue.next(now) else { panic!("two wait") };
/// assert_eq!(started.item, "a");
/// queue.finished(Tier::Normal, Duration::from_millis(40));
/// ```
#[derive(Debug)]
#[doc(alias = "heijunka")]
pub struct Leveller<T> {
    rules: WaitRules,
    queue: TieredQueue<Waiting<T>>,
    workers: u32,
    services: [Service; Tier::ALL.len()],
    service: Service,
    tenants: Tenants,
    arrivals: [Window; Tier::ALL.len()],
    born: Timestamp,
    /// Since when the queue has not been empty.
    waiting_since: Option<Timestamp>,
    /// Starts since a tier had one although a higher one waited.
    starts: u32,
    /// By tier: starts of others since its own last one.
    stood_by: [u32; Tier::ALL.len()],
}

impl<T> Leveller<T> {
    /// An empty queue for at most `capacity` items, of a pool without workers.
    pub fn new(rules: WaitRules, capacity: usize, now: Timestamp) -> Self {
        Self {
            rules,
            queue: TieredQueue::new(capacity),
            workers: 1,
            services: [Service::default(); Tier::ALL.len()],
            service: Service::default(),
            tenants: Tenants::default(),
            arrivals: Tier::ALL.map(|_| Window::new(rules.rate_window, RATE_PARTS, now)),
            born: now,
            waiting_since: None,
            starts: 0,
            stood_by: [0; Tier::ALL.len()],
        }
    }

    /// Says how many workers the pool has; none counts as one, because one is about to come.
    pub fn set_workers(&mut self, workers: u32) {
        self.workers = workers.max(1);
    }

    /// Replaces the rules; what waits is judged by the new ones from now on.
    pub fn set_rules(&mut self, rules: WaitRules, now: Timestamp) {
        if rules.rate_window != self.rules.rate_window {
            self.arrivals = Tier::ALL.map(|_| Window::new(rules.rate_window, RATE_PARTS, now));
            self.born = now;
        }
        self.rules = rules;
    }

    /// How many may wait from now on; what waits beyond it goes on waiting.
    pub const fn set_capacity(&mut self, capacity: usize) {
        self.queue.set_capacity(capacity);
    }

    /// Counts a signal that an idle worker took at once: it is an arrival like those that wait.
    pub fn passed(&mut self, tier: Tier, now: Timestamp) {
        self.passed_many(tier, 1, now);
    }

    /// [`passed`](Self::passed) for several that came since the last time, a part of the rate's window ago at most.
    pub fn passed_many(&mut self, tier: Tier, signals: u64, now: Timestamp) {
        self.arrivals[tier as usize].add(Tally { failures: 0, outcomes: signals }, now);
    }

    /// Queues `item` if its wait leaves it time for its work, in place of the newest of a lower tier where the
    /// queue as a whole is longer than that one may wait.
    ///
    /// For when no worker is idle; see [`passed`](Self::passed).
    pub fn offer(&mut self, item: T, tier: Tier, deadline: Timestamp, now: Timestamp) -> Offered<T> {
        self.offer_for(item, tier, NOBODY, deadline, now)
    }

    /// [`offer`](Self::offer) for a tenant: where its tier has no room left, it takes the place of the newest of the
    /// tenant of which most work waits, if that is more than would wait of its own.
    pub fn offer_for(
        &mut self,
        item: T,
        tier: Tier,
        tenant: Tenant,
        deadline: Timestamp,
        now: Timestamp,
    ) -> Offered<T> {
        let share = (tenant, self.work_of(tier, tenant));
        let modest = self.queue.has_heavier(tier, share);
        let waiting = Waiting { item, tier, tenant, deadline, since: now, modest };
        let (waiting, why) = match self.join(waiting, share, now) {
            Ok(offered) => return offered,
            Err(back) => back,
        };
        if !modest || !self.is_soon(tier, tenant, deadline.since(now), now) {
            return Offered::TurnedOut(waiting.item, why);
        }
        match self.queue.push_in_place_of_heavier(waiting, tier, share, deadline) {
            Pushed::Displaced(other) => {
                self.queued(tier, now);
                Offered::Displaced(other.item)
            }
            Pushed::Queued => Offered::Waits,
            Pushed::Full(waiting) => Offered::TurnedOut(waiting.item, why),
        }
    }

    /// Queues an item whose wait leaves it time, or gives it back and says why not.
    fn join(
        &mut self,
        waiting: Waiting<T>,
        share: (Tenant, u64),
        now: Timestamp,
    ) -> Result<Offered<T>, (Waiting<T>, TurnedOut)> {
        let Waiting { tier, deadline, .. } = waiting;
        if let Err(refused) = admits(&self.forecast(0, now), tier, deadline.since(now)) {
            return Err((waiting, TurnedOut::Refused(refused)));
        }
        // Where the queue is longer than it may be, one that goes makes no room: the push takes one of its own.
        let overflows = self.queue.len() <= self.queue.capacity() && self.overflows_for(tier, now);
        let displaced = if overflows { self.queue.take_newest_below(tier) } else { None };
        let displaced = match self.queue.push_for(waiting, tier, share, deadline) {
            Pushed::Queued => displaced,
            Pushed::Displaced(other) => Some(other),
            Pushed::Full(waiting) => return Err((waiting, TurnedOut::Full)),
        };
        self.queued(tier, now);
        Ok(displaced.map_or(Offered::Waits, |other| Offered::Displaced(other.item)))
    }

    /// How long work of a tenant takes, in nanoseconds, as far as is known.
    fn work_of(&self, tier: Tier, tenant: Tenant) -> u64 {
        let known = self.tenants.mean(tenant).or_else(|| self.services[tier as usize].mean());
        known.or_else(|| self.service.mean()).unwrap_or(1.0).max(1.0) as u64
    }

    /// Whether the next of `tenant` has its turn before it has waited as long as it may, as tenants take turns.
    fn is_soon(&mut self, tier: Tier, tenant: Tenant, left: Duration, now: Timestamp) -> bool {
        let forecast = Forecast { share: self.calm(), ..self.forecast(0, now) };
        let (tenants, own) = self.queue.shared_by(tier, tenant);
        let others = tenants - usize::from(0 < own);
        let higher: usize =
            Tier::ALL.into_iter().filter(|other| *other < tier).map(|other| self.queue.len_of(other)).sum();
        let starts = higher + (own + 1) * (others + 1);
        let wait = starts as f64 / f64::from(self.workers) * forecast.service;
        wait <= nanos(forecast.budget(tier, left))
    }

    /// Puts back what was started and could not be: at the head of its tier, its wait counted on.
    pub fn put_back(&mut self, waiting: Waiting<T>, now: Timestamp) {
        let (tier, deadline) = (waiting.tier, waiting.deadline);
        let share = (waiting.tenant, self.work_of(tier, waiting.tenant));
        self.queue.push_front_for(waiting, tier, share, deadline);
        self.waiting_since.get_or_insert(now);
    }

    /// Takes out who is started next, or has to go; `None` if nobody waits.
    pub fn next(&mut self, now: Timestamp) -> Option<Next<T>> {
        let judge = self.judge(now);
        let tier = self.whose_turn()?;
        let waiting = self.queue.take_oldest(tier)?;
        let verdict = judge.verdict(&waiting);
        if verdict.is_none() {
            self.note_start(tier);
        }
        self.note_emptied();
        Some(match verdict {
            None => Next::Start(waiting),
            Some(why) => Next::TurnedOut(waiting.item, why),
        })
    }

    /// Takes out all that has to go: it holds no room, and its callers know in time to do something else.
    pub fn sweep(&mut self, now: Timestamp, is_abandoned: impl Fn(&T) -> bool) -> Vec<(T, TurnedOut)> {
        let judge = self.judge(now);
        let is_over = |waiting: &Waiting<T>| is_abandoned(&waiting.item) || judge.verdict(waiting).is_some();
        let swept = self.queue.sweep(now, is_over);
        self.note_emptied();
        let why = |waiting: &Waiting<T>| judge.verdict(waiting).unwrap_or(TurnedOut::Abandoned);
        swept.into_iter().map(|waiting| (why(&waiting), waiting)).map(|(why, w)| (w.item, why)).collect()
    }

    /// Learns from a signal of `tier` that kept a worker busy for `took`, however it ended.
    pub fn finished(&mut self, tier: Tier, took: Duration) {
        self.finished_for(tier, NOBODY, took);
    }

    /// [`finished`](Self::finished) for a tenant, whose work is learnt apart.
    pub fn finished_for(&mut self, tier: Tier, tenant: Tenant, took: Duration) {
        self.tenants.add(tenant, took, self.rules.memory);
        self.service.add(took, self.rules.memory);
        self.services[tier as usize].add(took, self.rules.memory);
    }

    /// How long work takes as a rule, whatever its tier; `None` before any is known.
    pub fn mean(&self) -> Option<Duration> {
        self.service.mean().map(|nanos| Duration::from_nanos(nanos as u64))
    }

    /// What the next signal of each tier has to expect while `idle` workers have nothing to do.
    pub fn forecast(&mut self, idle: u32, now: Timestamp) -> Forecast {
        let mut forecast = Forecast {
            service: self.service.mean().unwrap_or_default(),
            share: self.share(now),
            lasting: self.is_lasting(now),
            ..Forecast::default()
        };
        let (mut ahead, mut higher) = (0, 0.0);
        for tier in Tier::ALL {
            let place = tier as usize;
            ahead += self.queue.len_of(tier);
            if idle == 0 || 0 < ahead {
                let starts = (ahead + 1) as f64 / f64::max(1.0 - higher, f64::EPSILON);
                forecast.rounds[place] = starts.min(self.starts_by_turns(tier)) / f64::from(self.workers);
            }
            let own = self.services[place];
            let (mean, of) = own.mean().map_or((forecast.service, self.service), |mean| (mean, own));
            forecast.mean[place] = mean;
            forecast.allowance[place] = self.rules.deviations * of.deviation();
            higher += self.rate(tier, now) * mean / f64::from(self.workers);
        }
        forecast
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many items of `tier` wait.
    pub fn len_of(&self, tier: Tier) -> usize {
        self.queue.len_of(tier)
    }

    /// Empties the queue, in the order in which the items would have been served.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting_since = None;
        self.queue.drain().map(|waiting| waiting.item)
    }

    fn queued(&mut self, tier: Tier, now: Timestamp) {
        self.passed(tier, now);
        self.waiting_since.get_or_insert(now);
    }

    /// Whether the queue with one more of `tier` is longer than the newest below it may wait.
    fn overflows_for(&self, tier: Tier, now: Timestamp) -> bool {
        let Some(newest) = self.queue.newest_below(tier) else { return false };
        let Some(service) = self.service.mean() else { return false };
        let through = (self.queue.len() + 1) as f64 * service / f64::from(self.workers);
        self.share(now) * nanos(newest.deadline.since(newest.since)) < through
    }

    /// The highest tier that waits; now and then the lower one that has stood by longest.
    fn whose_turn(&self) -> Option<Tier> {
        let mut waiting = Tier::ALL.into_iter().filter(|tier| 0 < self.queue.len_of(*tier));
        let highest = waiting.next()?;
        let due = waiting.filter(|tier| self.starts_until_turn(*tier) == Some(0));
        Some(due.max_by_key(|tier| self.stood_by[*tier as usize]).unwrap_or(highest))
    }

    /// How many others are started before a lower tier has its turn whatever higher ones wait; `None` if never.
    fn starts_until_turn(&self, tier: Tier) -> Option<u32> {
        let between = self.starts_between_turns()?;
        Some(between.saturating_sub(self.starts.min(self.stood_by[tier as usize])))
    }

    fn starts_between_turns(&self) -> Option<u32> {
        (0.0 < self.rules.lower_share).then(|| (1.0 / self.rules.lower_share).round() as u32 - 1)
    }

    /// How many starts there will be up to that of the next signal of `tier`, if it comes by its turn only.
    fn starts_by_turns(&self, tier: Tier) -> f64 {
        let (Some(between), Some(first)) = (self.starts_between_turns(), self.starts_until_turn(tier)) else {
            return f64::INFINITY;
        };
        let other = match tier {
            Tier::Critical => return f64::INFINITY,
            Tier::Normal => Tier::Batch,
            Tier::Batch => Tier::Normal,
        };
        // The two alternate, and the one that has stood by longer begins.
        let own = self.queue.len_of(tier);
        let other_begins = self.stood_by[tier as usize] < self.stood_by[other as usize];
        let turns = own + self.queue.len_of(other).min(own + usize::from(other_begins));
        f64::from(first) + turns as f64 * f64::from(between + 1) + 1.0
    }

    fn note_start(&mut self, tier: Tier) {
        let is_turn = Tier::ALL.into_iter().any(|other| other < tier && 0 < self.queue.len_of(other));
        self.starts = if is_turn { 0 } else { self.starts.saturating_add(1) };
        for count in &mut self.stood_by {
            *count = count.saturating_add(1);
        }
        self.stood_by[tier as usize] = 0;
    }

    fn note_emptied(&mut self) {
        if self.queue.is_empty() {
            self.waiting_since = None;
        }
    }

    fn is_lasting(&self, now: Timestamp) -> bool {
        self.waiting_since.is_some_and(|since| self.rules.lasting_after <= now.since(since))
    }

    fn share(&self, now: Timestamp) -> f64 {
        let (calm, lasting) = self.rules.shares(self.workers);
        if self.is_lasting(now) { lasting } else { calm }
    }

    /// The share as long as no overload lasts.
    fn calm(&self) -> f64 {
        self.rules.shares(self.workers).0
    }

    /// Signals per nanosecond that were accepted lately.
    fn rate(&mut self, tier: Tier, now: Timestamp) -> f64 {
        // The window covers its span and, on average, half of the part that is being filled.
        let part = self.rules.rate_window / RATE_PARTS;
        let covered = (self.rules.rate_window + part / 2).min(now.since(self.born)).max(part);
        self.arrivals[tier as usize].sum(now).outcomes as f64 / nanos(covered)
    }

    fn judge(&self, now: Timestamp) -> Judge {
        let all = self.service.mean().unwrap_or_default();
        let means = self.services.map(|service| service.mean().unwrap_or(all));
        Judge { means, share: self.share(now), calm: self.calm(), now }
    }
}

/// Whether something that waits has to go.
struct Judge {
    means: [f64; Tier::ALL.len()],
    share: f64,
    /// The share for what is modest.
    calm: f64,
    now: Timestamp,
}

impl Judge {
    fn verdict<T>(&self, waiting: &Waiting<T>) -> Option<TurnedOut> {
        let left = nanos(waiting.deadline.since(self.now));
        if left <= self.means[waiting.tier as usize] {
            return Some(TurnedOut::TooLate);
        }
        let waited = nanos(self.now.since(waiting.since));
        let share = if waiting.modest { self.calm } else { self.share };
        let may_wait = share * nanos(waiting.deadline.since(waiting.since));
        (may_wait < waited).then_some(TurnedOut::WaitedTooLong)
    }
}

#[cfg(test)]
mod tests;
