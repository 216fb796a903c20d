//! Where a pool's jobs and its workers meet: who is idle, who has a job in hand, and what waits for one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admission::Tier;
use crate::exit::Incarnation;
use crate::leveller::{self, Leveller, TurnedOut};
use crate::queue::{NOBODY, Tenant};
use crate::scaling::Sample;
use crate::time::Timestamp;
use crate::wait::WaitRules;
use lost::Lost;
pub use outcome::{Dismissed, Next, Offered, Resize, Turn};
use usage::Usage;

mod lost;
mod outcome;
mod usage;

/// When a signal that was turned out may try again, while the overload that did it lasts.
const RETRY_LASTING: Duration = Duration::from_secs(1);

/// When it may try again at the earliest.
const RETRY_SOON: Duration = Duration::from_millis(1);

/// How often the crew learns how long work takes, at the most: a worker that is done a million times a second has
/// better things to do.
const LEARN_EVERY: Duration = Duration::from_micros(100);

/// Between how many places idle workers are told apart.
const PLACES: usize = 8;

/// The shortest time that work is taken to last: none at all would be no time to learn from.
const TOOK_MIN: Duration = Duration::from_nanos(1);

/// What a pool has to know of a job.
pub trait Task {
    /// By what one finds the job while a worker has it.
    type Trace;

    /// How much it matters.
    fn tier(&self) -> Tier;

    /// Whose it is: under load, tenants share the workers' time. By default of nobody.
    fn tenant(&self) -> Tenant {
        NOBODY
    }

    /// When its answer is due.
    fn deadline(&self) -> Timestamp;

    /// See [`Trace`](Self::Trace).
    fn trace(&self) -> Self::Trace;
}

/// One life of a worker, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life<R> {
    /// Whose life.
    pub worker: u64,
    /// Which.
    pub incarnation: Incarnation,
    /// How it is reached.
    pub reach: R,
}

/// The size and the work of a crew at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CrewLoad {
    /// Workers there are.
    pub workers: u32,
    /// Those of them that have a job.
    pub busy: u32,
    /// Jobs that wait.
    pub queued: u32,
}

/// The workers of a pool and the jobs they have not come to yet.
///
/// A job meets an idle worker at once, so that never both wait: nothing is queued while a worker is idle, and
/// whoever has nothing in hand takes from the queue before it is idle. Hence no job can overtake a queued one.
/// Callers and workers say at which place they are, which is a thread of the machine: a job goes to a worker of the
/// same place if one is idle there.
/// What waits, who is next and who is turned out is up to the [`Leveller`].
///
/// A worker is known by its number, and reached by the life it is in: a job that is sent to a life which is over
/// comes back, and [`unreachable`](Self::unreachable) strikes that life.
///
/// # Units and limits
///
/// The queue holds as many jobs as it was made for. While the crew is [closed](Self::close), as it is at first,
/// nothing is queued: idle workers are still given jobs.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use gemba_core::admission::Tier;
/// use gemba_core::crew::{Crew, Life, Offered, Task, Turn};
/// use gemba_core::exit::Incarnation;
/// use gemba_core::time::Timestamp;
/// use gemba_core::wait::WaitRules;
///
/// #[derive(Debug, PartialEq)]
/// struct Job(&'static str);
///
/// impl Task for Job {
///     type Trace = &'static str;
///     fn tier(&self) -> Tier {
///         Tier::Normal
///     }
///     fn deadline(&self) -> Timestamp {
///         Timestamp::from_secs(5)
///     }
///     fn trace(&self) -> &'static str {
///         self.0
///     }
/// }
///
/// let now = Timestamp::from_secs(1);
/// let mut crew = Crew::new(WaitRules::default(), 10, now);
/// crew.open();
/// let ann = Life { worker: crew.hire(now), incarnation: Incarnation(1), reach: "ann's desk" };
/// assert_eq!(crew.join(ann.clone(), 0, now).turn, Turn::Wait);
/// assert_eq!(crew.offer(Job("a"), 0, now), Offered::Given(ann.clone(), Job("a")));
/// assert_eq!(crew.offer(Job("b"), 0, now), Offered::Queued);
/// let took = Some(Duration::from_millis(40));
/// assert_eq!(crew.done(ann.worker, ann.incarnation, took, 0, now).turn, Turn::Work(Job("b")));
/// ```
#[derive(Debug)]
#[doc(alias = "kanban")]
pub struct Crew<R, T: Task> {
    roster: BTreeMap<u64, Hand<R, T::Trace>>,
    /// Numbers of the idle ones, by the place where they worked last; whoever worked last goes first there, because
    /// the caches of that place know it.
    idle: [Vec<u64>; PLACES],
    busy: u32,
    /// Workers that are to end when they are done.
    retiring: u32,
    next_worker: u64,
    queue: Leveller<T>,
    /// By tier: signals that idle workers took, and that the queue has not been told of.
    passed: [u64; Tier::ALL.len()],
    learnt_at: Timestamp,
    is_open: bool,
    usage: Usage,
    lost: Lost,
    /// Up to when that has been counted.
    lost_until: Timestamp,
}

#[derive(Debug)]
struct Hand<R, H> {
    life: Option<(Incarnation, R)>,
    state: State<H>,
}

#[derive(Debug)]
enum State<H> {
    /// It has not come yet, or its life is over.
    Absent,
    Idle,
    Busy {
        tier: Tier,
        tenant: Tenant,
        deadline: Timestamp,
        since: Timestamp,
        /// Whether it has been counted as an outlier.
        is_outlier: bool,
        trace: H,
    },
}

impl<R: Clone, T: Task> Crew<R, T> {
    /// A crew of nobody, closed, with room for `queue_max` jobs that wait by these rules.
    pub fn new(rules: WaitRules, queue_max: usize, now: Timestamp) -> Self {
        Self {
            roster: BTreeMap::new(),
            idle: [const { Vec::new() }; PLACES],
            busy: 0,
            retiring: 0,
            next_worker: 1,
            queue: Leveller::new(rules, queue_max, now),
            passed: [0; Tier::ALL.len()],
            learnt_at: Timestamp::START,
            is_open: false,
            usage: Usage::since(now),
            lost: Lost::default(),
            lost_until: now,
        }
    }

    /// By which rules jobs wait from now on, and how many; what waits beyond that goes on waiting.
    pub fn set_waiting(&mut self, rules: WaitRules, queue_max: usize, now: Timestamp) {
        self.queue.set_rules(rules, now);
        self.queue.set_capacity(queue_max);
    }

    /// Gives the job to the worker that was idle the shortest, at this place (any number) if there is one, or queues
    /// it if its wait leaves it time.
    pub fn offer(&mut self, task: T, place: usize, now: Timestamp) -> Offered<R, T> {
        self.usage.arrived();
        let (tier, tenant, deadline) = (task.tier(), task.tenant(), task.deadline());
        while let Some(worker) = self.take_idle(place) {
            // An idle worker is on the roster and has a life: both end together.
            let Some(hand) = self.roster.get_mut(&worker) else { continue };
            let Some((incarnation, reach)) = hand.life.clone() else { continue };
            let (since, is_outlier, trace) = (now, false, task.trace());
            hand.state = State::Busy { tier, tenant, deadline, since, is_outlier, trace };
            self.usage.note(self.busy, self.roster.len() as u32, now);
            self.busy += 1;
            self.passed[tier as usize] += 1;
            return Offered::Given(Life { worker, incarnation, reach }, task);
        }
        if !self.is_open {
            return Offered::Closed(task);
        }
        self.tell_passed(now);
        match self.queue.offer_for(task, tier, tenant, deadline, now) {
            leveller::Offered::Waits => Offered::Queued,
            leveller::Offered::Displaced(other) => {
                Offered::Displaced(self.dismiss(other, TurnedOut::Displaced, now))
            }
            leveller::Offered::TurnedOut(task, why) => Offered::Dismissed(self.dismiss(task, why, now)),
        }
    }

    /// An idle worker, one of this place first.
    fn take_idle(&mut self, place: usize) -> Option<u64> {
        (0..PLACES).find_map(|step| self.idle[(place + step) % PLACES].pop())
    }

    /// Tells the queue of signals that it has not seen: before it foretells anything, and each sweep.
    fn tell_passed(&mut self, now: Timestamp) {
        for tier in Tier::ALL {
            let signals = std::mem::take(&mut self.passed[tier as usize]);
            if 0 < signals {
                self.queue.passed_many(tier, signals, now);
            }
        }
    }

    fn dismiss(&mut self, task: T, why: TurnedOut, now: Timestamp) -> Dismissed<T> {
        let retry_after = if let TurnedOut::Refused(refused) = why {
            refused.retry_after
        } else {
            self.tell_passed(now);
            let idle = self.idle.iter().map(Vec::len).sum::<usize>();
            let forecast = self.queue.forecast(idle as u32, now);
            let wait = forecast.wait(task.tier(), task.deadline().since(now));
            if forecast.lasting { RETRY_LASTING } else { wait.clamp(RETRY_SOON, RETRY_LASTING) }
        };
        Dismissed { task, why, retry_after }
    }

    /// Takes note that this life could not be reached, so that it gets no more jobs. A later life of the same
    /// worker is not touched.
    pub fn unreachable(&mut self, worker: u64, incarnation: Incarnation, now: Timestamp) {
        if let Some(hand) = self.roster.get_mut(&worker)
            && hand.life.as_ref().is_some_and(|(life, _)| *life == incarnation)
        {
            hand.life = None;
            self.leave(worker, now);
        }
    }

    /// A life of a worker begins, or it asks for the first time: what it had in hand before is over.
    pub fn join(&mut self, life: Life<R>, place: usize, now: Timestamp) -> Next<T> {
        let Life { worker, incarnation, reach } = life;
        self.leave(worker, now);
        match self.roster.get_mut(&worker) {
            Some(hand) => hand.life = Some((incarnation, reach)),
            None => return Next { turn: Turn::Retire, dismissed: Vec::new() },
        }
        self.next(worker, place, now)
    }

    /// A life of a worker is done with what it had in hand, which kept it busy for `took`; `None` if it was not
    /// worked on, so that there is nothing to be learnt from it.
    pub fn done(
        &mut self,
        worker: u64,
        incarnation: Incarnation,
        took: Option<Duration>,
        place: usize,
        now: Timestamp,
    ) -> Next<T> {
        let Some(hand) = self.roster.get(&worker) else {
            return Next { turn: Turn::Retire, dismissed: Vec::new() };
        };
        if hand.life.as_ref().is_none_or(|(life, _)| *life != incarnation) {
            return Next { turn: Turn::Retire, dismissed: Vec::new() };
        }
        if let State::Busy { tier, tenant, .. } = &hand.state {
            self.usage.finished();
            if let Some(took) = took
                && self.learnt_at + LEARN_EVERY <= now
            {
                self.learnt_at = now;
                self.queue.finished_for(*tier, *tenant, took.max(TOOK_MIN));
            }
        }
        self.leave(worker, now);
        self.next(worker, place, now)
    }

    /// What a worker without a job does next.
    fn next(&mut self, worker: u64, place: usize, now: Timestamp) -> Next<T> {
        let mut dismissed = Vec::new();
        if 0 < self.retiring {
            self.retiring -= 1;
            self.remove(worker, now);
            return Next { turn: Turn::Retire, dismissed };
        }
        while let Some(next) = self.queue.next(now) {
            match next {
                leveller::Next::TurnedOut(task, why) => dismissed.push(self.dismiss(task, why, now)),
                leveller::Next::Start(started) => {
                    let leveller::Waiting { item, tier, tenant, deadline, .. } = started;
                    let trace = item.trace();
                    self.usage.note(self.busy, self.roster.len() as u32, now);
                    self.busy += 1;
                    let (since, is_outlier) = (now, false);
                    self.set(worker, State::Busy { tier, tenant, deadline, since, is_outlier, trace });
                    return Next { turn: Turn::Work(item), dismissed };
                }
            }
        }
        self.set(worker, State::Idle);
        self.idle[place % PLACES].push(worker);
        Next { turn: Turn::Wait, dismissed }
    }

    /// For workers that are known to be on the roster.
    fn set(&mut self, worker: u64, state: State<T::Trace>) {
        if let Some(hand) = self.roster.get_mut(&worker) {
            hand.state = state;
        }
    }

    /// Makes a worker absent, whatever it did.
    fn leave(&mut self, worker: u64, now: Timestamp) -> Option<T::Trace> {
        let hand = self.roster.get_mut(&worker)?;
        match std::mem::replace(&mut hand.state, State::Absent) {
            State::Absent => None,
            State::Idle => {
                for idle in &mut self.idle {
                    idle.retain(|other| *other != worker);
                }
                None
            }
            State::Busy { trace, .. } => {
                self.usage.note(self.busy, self.roster.len() as u32, now);
                self.busy -= 1;
                Some(trace)
            }
        }
    }

    fn remove(&mut self, worker: u64, now: Timestamp) -> Option<T::Trace> {
        let trace = self.leave(worker, now);
        self.usage.note(self.busy, self.roster.len() as u32, now);
        self.roster.remove(&worker);
        self.queue.set_workers(self.roster.len() as u32);
        trace
    }

    /// Puts a worker to be started on the roster, and gives its number.
    pub fn hire(&mut self, now: Timestamp) -> u64 {
        let worker = self.next_worker;
        self.next_worker += 1;
        self.usage.note(self.busy, self.roster.len() as u32, now);
        self.roster.insert(worker, Hand { life: None, state: State::Absent });
        self.queue.set_workers(self.roster.len() as u32);
        worker
    }

    /// Brings the roster to `workers`. Of those that are too many, idle ones end at once, others when they are
    /// done.
    pub fn resize(&mut self, workers: u32, now: Timestamp) -> Resize<R> {
        let from = self.wanted();
        let mut resize = Resize { from, retired: Vec::new(), hired: Vec::new() };
        for _ in workers..from {
            let Some(worker) = self.idle.iter().find_map(|idle| idle.last().copied()) else {
                self.retiring += 1;
                continue;
            };
            let life = self.roster.get(&worker).and_then(|hand| hand.life.clone());
            self.remove(worker, now);
            let retired = life.map(|(incarnation, reach)| Life { worker, incarnation, reach });
            resize.retired.extend(retired);
        }
        for _ in from..workers {
            if 0 < self.retiring {
                self.retiring -= 1;
            } else {
                resize.hired.push(self.hire(now));
            }
        }
        resize
    }

    /// Strikes the workers that `exists` does not know, and gives the traces of what they had in hand. Numbers
    /// begin anew when nobody is left.
    pub fn retain(&mut self, exists: impl Fn(u64) -> bool, now: Timestamp) -> Vec<T::Trace> {
        let gone: Vec<u64> = self.roster.keys().copied().filter(|worker| !exists(*worker)).collect();
        let traces = gone.into_iter().filter_map(|worker| self.remove(worker, now)).collect();
        self.retiring = self.retiring.min(self.roster.len() as u32);
        if self.roster.is_empty() {
            self.next_worker = 1;
        }
        traces
    }

    /// From now on jobs are queued when nobody is idle: there is someone who looks after the queue.
    pub fn open(&mut self) {
        self.is_open = true;
    }

    /// Whether jobs are queued.
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// From now on nothing is queued. Gives back what waits, in its order, and the traces of what is in hand.
    pub fn close(&mut self) -> (Vec<T>, Vec<T::Trace>)
    where
        T::Trace: Clone,
    {
        self.is_open = false;
        let in_hand = self.roster.values().filter_map(|hand| match &hand.state {
            State::Busy { trace, .. } => Some(trace.clone()),
            State::Absent | State::Idle => None,
        });
        (self.queue.drain().collect(), in_hand.collect())
    }

    /// Takes out of the queue what has waited too long, what can no longer be done in time, and what nobody waits
    /// for.
    pub fn sweep(&mut self, now: Timestamp, is_abandoned: impl Fn(&T) -> bool) -> Vec<Dismissed<T>> {
        self.tell_passed(now);
        if self.queue.is_empty() {
            return Vec::new();
        }
        let swept = self.queue.sweep(now, is_abandoned);
        swept.into_iter().map(|(task, why)| self.dismiss(task, why, now)).collect()
    }

    /// The traces of jobs in hand whose answer was due at `due` or before.
    pub fn overdue(&self, due: Timestamp) -> Vec<T::Trace>
    where
        T::Trace: Clone,
    {
        let late = self.roster.values().filter_map(|hand| match &hand.state {
            State::Busy { deadline, trace, .. } if *deadline <= due => Some(trace.clone()),
            State::Busy { .. } | State::Absent | State::Idle => None,
        });
        late.collect()
    }

    /// Workers there will be once those that retire are gone.
    pub fn wanted(&self) -> u32 {
        (self.roster.len() as u32).saturating_sub(self.retiring)
    }

    /// Its size and its work now.
    pub fn load(&self) -> CrewLoad {
        CrewLoad { workers: self.roster.len() as u32, busy: self.busy, queued: self.queue.len() as u32 }
    }

    /// What has come and what was done since the last call, counted exactly.
    pub fn sample(&mut self, now: Timestamp) -> Sample {
        self.usage.note(self.busy, self.roster.len() as u32, now);
        self.usage.sample(now)
    }

    /// Jobs that have come since there is the crew, those that found no room included.
    pub const fn arrived(&self) -> u64 {
        self.usage.arrived_total()
    }
}

#[cfg(test)]
mod tests;
