//! What a crew promises, in examples and whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;

use super::*;
use crate::wait::Refused;

const NOW: Timestamp = Timestamp::from_secs(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    number: u32,
    tier: Tier,
    deadline: Timestamp,
}

impl Task for Job {
    type Trace = u32;

    fn tier(&self) -> Tier {
        self.tier
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn trace(&self) -> u32 {
        self.number
    }
}

type TestCrew = Crew<(), Job>;

const fn job(number: u32, tier: Tier) -> Job {
    Job { number, tier, deadline: Timestamp::from_secs(200) }
}

const fn life(worker: u64, incarnation: u64) -> Life<()> {
    Life { worker, incarnation: Incarnation(incarnation), reach: () }
}

/// Whoever waits may do so up to its deadline, and no lower tier has a turn before its time.
fn rules() -> WaitRules {
    WaitRules::builder().shares(1.0, 1.0).lower_share(0.0).build().unwrap()
}

/// An open crew whose workers 1 to `workers` are idle, each in its first life.
fn crew(workers: u32, queue_max: usize) -> TestCrew {
    let mut crew = Crew::new(rules(), queue_max, NOW);
    crew.open();
    for _ in 0..workers {
        let worker = crew.hire(NOW);
        assert_eq!(crew.join(life(worker, 1), 0, NOW).turn, Turn::Wait);
    }
    crew
}

/// What work takes; little, so that the queue may be long.
const TOOK: Option<Duration> = Some(Duration::from_millis(1));

fn turn(crew: &mut TestCrew, worker: u64) -> Turn<Job> {
    crew.done(worker, Incarnation(1), TOOK, 0, NOW).turn
}

#[test]
fn the_worker_that_worked_last_goes_first_and_the_queue_before_anyone_is_idle() {
    let mut crew = crew(2, 10);
    let (a, b, c, d) =
        (job(1, Tier::Normal), job(2, Tier::Normal), job(3, Tier::Batch), job(4, Tier::Critical));
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(2, 1), a));
    assert_eq!(crew.offer(b, 0, NOW), Offered::Given(life(1, 1), b));
    assert_eq!((crew.offer(c, 0, NOW), crew.offer(d, 0, NOW)), (Offered::Queued, Offered::Queued));
    assert_eq!(crew.load(), CrewLoad { workers: 2, busy: 2, queued: 2 });
    assert_eq!(turn(&mut crew, 1), Turn::Work(d));
    assert_eq!(turn(&mut crew, 2), Turn::Work(c));
    assert_eq!((turn(&mut crew, 2), turn(&mut crew, 1)), (Turn::Wait, Turn::Wait));
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(1, 1), a));
}

#[test]
fn a_life_that_is_over_gets_no_job_and_its_successor_does() {
    let mut crew = crew(1, 10);
    let a = job(1, Tier::Normal);
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(1, 1), a));
    // The successor came before the sender noticed: it is not struck.
    assert_eq!(crew.join(life(1, 2), 0, NOW).turn, Turn::Wait);
    crew.unreachable(1, Incarnation(1), NOW);
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(1, 2), a));
    crew.unreachable(1, Incarnation(2), NOW);
    assert_eq!(crew.load(), CrewLoad { workers: 1, busy: 0, queued: 0 });
    assert_eq!(crew.offer(a, 0, NOW), Offered::Queued);
    assert_eq!(
        crew.done(1, Incarnation(2), TOOK, 0, NOW).turn,
        Turn::Retire,
        "a life that was struck is not there"
    );
    assert_eq!(crew.join(life(1, 3), 0, NOW).turn, Turn::Work(a));
}

#[test]
fn too_many_workers_end_when_they_are_done_and_idle_ones_at_once() {
    let mut crew = crew(3, 10);
    let a = job(1, Tier::Normal);
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(3, 1), a));
    let resize = crew.resize(0, NOW);
    assert_eq!(resize, Resize { from: 3, retired: vec![life(2, 1), life(1, 1)], hired: vec![] });
    assert_eq!((crew.wanted(), crew.load().workers), (0, 1));
    assert_eq!(crew.resize(2, NOW), Resize { from: 0, retired: vec![], hired: vec![4] }, "one stays instead");
    assert_eq!(crew.resize(1, NOW).from, 2);
    assert_eq!(turn(&mut crew, 3), Turn::Retire);
    assert_eq!(crew.join(life(3, 2), 0, NOW).turn, Turn::Retire, "nobody knows it any more");
    assert_eq!(crew.join(life(4, 1), 0, NOW).turn, Turn::Wait);
}

#[test]
fn a_closed_crew_gives_its_queue_back_and_keeps_idle_workers_at_work() {
    let mut crew = crew(1, 10);
    let (a, b, c) = (job(1, Tier::Normal), job(2, Tier::Batch), job(3, Tier::Critical));
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(1, 1), a));
    assert_eq!((crew.offer(b, 0, NOW), crew.offer(c, 0, NOW)), (Offered::Queued, Offered::Queued));
    assert_eq!(crew.close(), (vec![c, b], vec![1]));
    assert_eq!(crew.offer(b, 0, NOW), Offered::Closed(b));
    assert_eq!(turn(&mut crew, 1), Turn::Wait);
    assert_eq!(crew.offer(b, 0, NOW), Offered::Given(life(1, 1), b));
}

#[test]
fn who_is_gone_for_good_is_struck_with_what_it_had_in_hand() {
    let mut crew = crew(3, 10);
    let a = job(7, Tier::Normal);
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(3, 1), a));
    assert_eq!(crew.retain(|worker| worker == 1, NOW), vec![7]);
    assert_eq!(crew.load(), CrewLoad { workers: 1, busy: 0, queued: 0 });
    assert_eq!(crew.offer(a, 0, NOW), Offered::Given(life(1, 1), a));
    assert_eq!(crew.hire(NOW), 4);
    assert_eq!(crew.retain(|_| false, NOW), vec![7]);
    assert_eq!(crew.hire(NOW), 1, "numbers begin anew");
}

#[test]
fn what_is_late_is_found_in_the_queue_and_in_hand() {
    let mut crew = crew(1, 10);
    let (a, b) = (job(1, Tier::Normal), job(2, Tier::Normal));
    let _ = (crew.offer(a, 0, NOW), crew.offer(b, 0, NOW));
    assert!(crew.overdue(Timestamp::from_secs(199)).is_empty());
    assert_eq!(crew.overdue(Timestamp::from_secs(200)), [1]);
    let retry_after = Duration::from_secs(1);
    let abandoned = Dismissed { task: b, why: TurnedOut::Abandoned, retry_after };
    assert_eq!(crew.sweep(NOW, |job| job.number == 2), [abandoned]);
    assert_eq!(crew.offer(b, 0, NOW), Offered::Queued);
    let late = Timestamp::from_secs(200);
    let next = crew.done(1, Incarnation(1), TOOK, 0, late);
    let late = Dismissed { task: b, why: TurnedOut::TooLate, retry_after: RETRY_SOON };
    assert_eq!(next, Next { turn: Turn::Wait, dismissed: vec![late] });
}

#[test]
fn what_would_wait_too_long_is_dismissed_at_once_and_told_when_to_come_back() {
    // One worker alone: a signal may wait twice that share of its deadline.
    let rules = WaitRules::builder().shares(0.125, 0.06).build().unwrap();
    let mut crew = Crew::new(rules, 10, NOW);
    crew.open();
    let worker = crew.hire(NOW);
    assert_eq!(crew.join(life(worker, 1), 0, NOW).turn, Turn::Wait);
    let due_in =
        |number, secs| Job { deadline: NOW + Duration::from_secs(secs), ..job(number, Tier::Normal) };
    assert!(matches!(crew.offer(due_in(1, 10), 0, NOW), Offered::Given(..)));
    let took = Some(Duration::from_millis(800));
    assert_eq!(crew.done(worker, Incarnation(1), took, 0, NOW).turn, Turn::Wait);
    assert!(matches!(crew.offer(due_in(2, 10), 0, NOW), Offered::Given(..)));
    // Each waits 800 ms more than the one before, and may wait a quarter of its deadline.
    assert_eq!(crew.offer(due_in(3, 10), 0, NOW), Offered::Queued);
    let Offered::Dismissed(dismissed) = crew.offer(due_in(4, 6), 0, NOW) else {
        panic!("1.6 s are more than 1.5 s")
    };
    let refused = Refused {
        wait: Duration::from_millis(1600),
        budget: Duration::from_millis(1500),
        retry_after: Duration::from_secs(1),
    };
    assert_eq!((dismissed.why, dismissed.retry_after), (TurnedOut::Refused(refused), refused.retry_after));
    assert_eq!(crew.offer(due_in(5, 7), 0, NOW), Offered::Queued);
    // What was not worked on says nothing about how long work takes.
    assert_eq!(crew.done(worker, Incarnation(1), None, 0, NOW).turn, Turn::Work(due_in(3, 10)));
    assert!(matches!(crew.offer(due_in(6, 6), 0, NOW), Offered::Dismissed(_)));
}

#[test]
fn worker_time_is_counted_to_the_nanosecond_and_begins_anew_with_each_look() {
    let mut crew = crew(2, 10);
    let _ = crew.sample(NOW);
    let secs = Duration::from_secs;
    let _ = crew.offer(job(1, Tier::Normal), 0, NOW + secs(1));
    let (busy, offered) = (secs(3), secs(8));
    assert_eq!(
        crew.sample(NOW + secs(4)),
        Sample { arrived: 1, finished: 0, busy, offered, elapsed: secs(4) }
    );
    let _ = crew.done(2, Incarnation(1), TOOK, 0, NOW + secs(6));
    // A clock that is a little behind does not count time twice.
    let _ = crew.offer(job(1, Tier::Normal), 0, NOW + secs(5));
    let (busy, offered) = (secs(6), secs(12));
    assert_eq!(
        crew.sample(NOW + secs(10)),
        Sample { arrived: 1, finished: 1, busy, offered, elapsed: secs(6) }
    );
    assert_eq!(crew.arrived(), 2);
}

/// One thing that may happen to a crew.
#[derive(Debug, Clone, Copy)]
enum Step {
    Offer(u8, bool),
    /// A worker is done, dies, is found to be unreachable, or begins another life.
    Done(u8),
    Die(u8),
    Unreachable(u8),
    Begin(u8),
    Resize(u8),
    Lose(u8),
    Close,
    Open,
    Sweep,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    use proptest::prelude::{Just, any, prop_oneof};
    let worker = || any::<u8>();
    prop_oneof![
        8 => (0u8..3, any::<bool>()).prop_map(|(tier, hurried)| Step::Offer(tier, hurried)),
        6 => worker().prop_map(Step::Done),
        2 => worker().prop_map(Step::Die),
        2 => worker().prop_map(Step::Unreachable),
        3 => worker().prop_map(Step::Begin),
        1 => (0u8..6).prop_map(Step::Resize),
        1 => worker().prop_map(Step::Lose),
        1 => Just(Step::Close),
        2 => Just(Step::Open),
        1 => Just(Step::Sweep),
        1 => Just(Step::Wait),
    ]
}

/// The world around a crew: which lives there are, and where each job is.
#[derive(Default)]
struct World {
    lives: BTreeMap<u64, Body>,
    begun: u64,
    offered: u32,
    /// Jobs that were answered: worked on, refused, given back, or lost with a life and routed again.
    answered: u32,
    /// Numbers of queued jobs in the order they came, by tier.
    waiting: Vec<Job>,
}

struct Body {
    incarnation: u64,
    alive: bool,
    has: Option<Job>,
}

impl World {
    fn answer(&mut self, job: Job) {
        self.answered += 1;
        self.waiting.retain(|other| other.number != job.number);
    }

    /// The job that must be next: the first of the highest tier.
    fn first(&self) -> Option<Job> {
        self.waiting.iter().min_by_key(|job| job.tier).copied()
    }

    fn hire(&mut self, hired: &[u64]) {
        for worker in hired {
            self.lives.insert(*worker, Body { incarnation: 0, alive: false, has: None });
        }
    }

    fn pick(&self, choice: u8) -> Option<u64> {
        let count = self.lives.len().max(1);
        self.lives.keys().nth(usize::from(choice) % count).copied()
    }

    fn turns(&mut self, worker: u64, next: Next<Job>) -> Result<(), TestCaseError> {
        for dismissed in next.dismissed {
            self.answer(dismissed.task);
        }
        match next.turn {
            Turn::Work(job) => {
                prop_assert_eq!(self.first(), Some(job), "the oldest of the highest tier");
                self.waiting.retain(|other| other.number != job.number);
                self.lives.get_mut(&worker).expect("it asked").has = Some(job);
            }
            Turn::Wait => prop_assert_eq!(self.first(), None, "nobody is idle while work waits"),
            Turn::Retire => {
                self.lives.remove(&worker);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step, crew: &mut TestCrew, now: &mut Timestamp) -> Result<(), TestCaseError> {
        match step {
            Step::Offer(tier, hurried) => self.offer(tier, hurried, crew, *now)?,
            Step::Done(choice) => {
                if let Some(worker) = self.pick(choice)
                    && let Some(body) = self.lives.get_mut(&worker)
                    && body.alive
                    && let Some(job) = body.has.take()
                {
                    let incarnation = Incarnation(body.incarnation);
                    self.answer(job);
                    let took = (job.number % 3 != 0)
                        .then(|| Duration::from_millis(u64::from(job.number) * 7 % 1000));
                    let next = crew.done(worker, incarnation, took, worker as usize, *now);
                    self.turns(worker, next)?;
                }
            }
            Step::Die(choice) => {
                if let Some(worker) = self.pick(choice)
                    && let Some(body) = self.lives.get_mut(&worker)
                {
                    body.alive = false;
                    let lost = body.has.take();
                    if let Some(job) = lost {
                        self.answer(job);
                    }
                }
            }
            // Late news of an earlier life: the present one is not struck by it.
            Step::Unreachable(choice) => {
                if let Some(worker) = self.pick(choice)
                    && let Some(body) = self.lives.get(&worker)
                {
                    let over = if body.alive { body.incarnation.wrapping_sub(1) } else { body.incarnation };
                    crew.unreachable(worker, Incarnation(over), *now);
                }
            }
            Step::Begin(choice) => {
                if let Some(worker) = self.pick(choice)
                    && let Some(body) = self.lives.get_mut(&worker)
                    && !body.alive
                {
                    self.begun += 1;
                    (body.incarnation, body.alive) = (self.begun, true);
                    let next = crew.join(life(worker, self.begun), self.begun as usize, *now);
                    self.turns(worker, next)?;
                }
            }
            Step::Resize(workers) => {
                let resize = crew.resize(u32::from(workers), *now);
                for Life { worker, .. } in &resize.retired {
                    let body = self.lives.remove(worker).expect("it was idle");
                    prop_assert!(body.has.is_none(), "only idle ones end at once");
                }
                self.hire(&resize.hired);
                prop_assert_eq!(crew.wanted(), u32::from(workers));
            }
            Step::Lose(choice) => {
                if let Some(worker) = self.pick(choice)
                    && let Some(body) = self.lives.remove(&worker)
                {
                    let _ = crew.retain(|other| other != worker, *now);
                    if let Some(job) = body.has {
                        self.answer(job);
                    }
                }
            }
            Step::Close => {
                let (queue, in_hand) = crew.close();
                prop_assert_eq!(queue.len(), self.waiting.len());
                for job in queue {
                    self.answer(job);
                }
                for body in self.lives.values().filter(|body| body.alive) {
                    prop_assert!(body.has.is_none_or(|job| in_hand.contains(&job.number)));
                }
            }
            Step::Open => crew.open(),
            Step::Sweep => {
                for dismissed in crew.sweep(*now, |_| false) {
                    self.answer(dismissed.task);
                }
            }
            Step::Wait => *now = *now + Duration::from_secs(2),
        }
        Ok(())
    }

    fn offer(
        &mut self,
        tier: u8,
        hurried: bool,
        crew: &mut TestCrew,
        now: Timestamp,
    ) -> Result<(), TestCaseError> {
        self.offered += 1;
        let patience = Duration::from_secs(if hurried { 1 } else { 60 });
        let mut job =
            Job { number: self.offered, tier: Tier::ALL[usize::from(tier)], deadline: now + patience };
        loop {
            match crew.offer(job, job.number as usize, now) {
                Offered::Given(Life { worker, incarnation, .. }, given) => {
                    prop_assert_eq!(self.first(), None, "nothing is overtaken");
                    let body = self.lives.get_mut(&worker).expect("it is on the roster");
                    if body.alive && body.incarnation == incarnation.0 {
                        prop_assert!(body.has.is_none(), "a worker has one job at a time");
                        body.has = Some(given);
                    } else {
                        // Its mailbox is closed: the job comes back, and is offered again.
                        crew.unreachable(worker, incarnation, now);
                        job = given;
                        continue;
                    }
                }
                Offered::Queued => self.waiting.push(job),
                Offered::Displaced(other) => {
                    prop_assert!(job.tier < other.task.tier);
                    self.answer(other.task);
                    self.waiting.push(job);
                }
                Offered::Dismissed(Dismissed { task, retry_after, .. }) => {
                    prop_assert!(!retry_after.is_zero() && retry_after <= RETRY_LASTING);
                    self.answer(task);
                }
                Offered::Closed(job) => self.answer(job),
            }
            return Ok(());
        }
    }
}

proptest! {
    /// Whatever happens: no idle worker beside a job that waits, no job overtaken, none lost or done twice, and
    /// those that are busy are counted.
    #[test]
    fn work_and_an_idle_worker_never_both_wait(steps in vec(step(), 1..200), queue_max in 0usize..8) {
        let (mut crew, mut world, mut now) = (Crew::new(rules(), queue_max, NOW), World::default(), NOW);
        let hired: Vec<_> = (0..3).map(|_| crew.hire(now)).collect();
        world.hire(&hired);
        for step in steps {
            world.step(step, &mut crew, &mut now)?;
            let CrewLoad { busy, queued, workers } = crew.load();
            prop_assert_eq!(queued as usize, world.waiting.len());
            prop_assert!(queued as usize <= queue_max);
            prop_assert!(crew.idle.iter().all(Vec::is_empty) || queued == 0, "work and an idle worker both wait");
            prop_assert_eq!(workers as usize, crew.roster.len());
            let in_hand = crew.roster.values().filter(|hand| matches!(hand.state, State::Busy { .. })).count();
            prop_assert_eq!(busy as usize, in_hand);
            let has = world.lives.values().filter(|body| body.has.is_some()).count() as u32;
            prop_assert!(has <= busy, "a job that a worker has is counted");
            prop_assert_eq!(world.answered + queued + has, world.offered, "every job is in one place");
        }
    }
}

#[test]
fn whose_work_is_an_outlier_is_lost_from_the_start_of_that_work() {
    let later = |ms| NOW + Duration::from_millis(ms);
    let mut crew = crew(4, 10);
    let (a, b) = (job(1, Tier::Normal), job(2, Tier::Normal));
    assert!(matches!(crew.offer(a, 0, NOW), Offered::Given(..)));
    assert_eq!(crew.lost(later(90_000)), 0, "nobody knows yet how long work takes");
    let took = Some(Duration::from_millis(40));
    assert_eq!(crew.done(4, Incarnation(1), took, 0, NOW).turn, Turn::Wait);

    assert!(matches!(crew.offer(a, 0, later(100_000)), Offered::Given(..)));
    for (ms, lost) in [(319, 0), (320, 0), (1_950, 0), (2_000, 1), (3_900, 1), (9_000, 1)] {
        // Two others have been at work for a little while only.
        for _ in 0..2 {
            assert!(matches!(crew.offer(b, 0, later(100_000 + ms)), Offered::Given(..)));
        }
        assert_eq!(crew.lost(later(100_000 + ms)), lost, "{ms} ms");
        for worker in [2, 3] {
            assert_eq!(crew.done(worker, Incarnation(1), took, 0, later(100_000 + ms)).turn, Turn::Wait);
        }
    }
    assert_eq!(crew.lost(later(109_000)), 0, "nobody else has anything to do: nobody is missed");
    for _ in 0..2 {
        assert!(matches!(crew.offer(b, 0, later(109_000)), Offered::Given(..)));
    }
    assert_eq!(crew.lost(later(109_000)), 1);
    assert_eq!(crew.lost(later(109_400)), 0, "all are at long work: it is the work that is slow");
    for worker in [4, 3, 2] {
        assert_eq!(crew.done(worker, Incarnation(1), None, 0, later(109_500)).turn, Turn::Wait);
    }
    assert_eq!(crew.lost(later(110_000)), 1, "for a while it counts that it was lost");
    assert_eq!(crew.lost(later(114_000)), 0, "then all are well again");
}
