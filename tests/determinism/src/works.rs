//! The works: a plant of three lines over three pools, whose actions are slow, fail and panic as their inputs say.

use std::time::Duration;

use gemba::adaptive::AdaptiveRules;
use gemba::admission::Limits;
use gemba::breaker::BreakerRules;
use gemba::burst::BurstRules;
use gemba::policy::rule;
use gemba::rate::Rate;
use gemba::{Action, FollowUp, HealthSpec, JobContext, Line, LineSpec, Plant, PoolSpec, System};

use crate::draw::Draw;
use crate::log::{Fact, Log};

/// What an action does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Do {
    Answer,
    Sleep(Duration),
    Fail,
    Panic,
    /// Gives way to others as often, without waiting for anything.
    Yield(u32),
}

/// The input of every line.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub number: u64,
    pub what: Do,
    /// What follows a success, and whether that fails.
    pub follow_up: Option<(Duration, bool)>,
    /// The policy says no.
    pub is_bad: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("asked to fail")]
pub(crate) struct Failed;

#[derive(Debug)]
pub(crate) struct Work(Log);

/// The number, and what is to follow.
pub(crate) type Receipt = (u64, Option<(Duration, bool)>);

impl Action for Work {
    type Input = Order;
    type Output = Receipt;
    type Error = Failed;

    async fn run(&self, order: Order, _: &JobContext) -> Result<Receipt, Failed> {
        let Order { number, what, follow_up, .. } = order;
        self.0.fact(Fact::Begun(number), format_args!("{number} begins: {what:?}"));
        match what {
            Do::Answer => {}
            Do::Sleep(time) => tokio::time::sleep(time).await,
            Do::Fail => return Err(Failed),
            Do::Panic => panic!("poison"),
            Do::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
        }
        self.0.fact(Fact::Ended(number), format_args!("{number} ends"));
        Ok((number, follow_up))
    }

    fn follow_up(&self, (number, follows): &Receipt, _: &JobContext) -> Option<FollowUp> {
        let (number, (takes, fails), log) = (*number, (*follows)?, self.0.clone());
        Some(FollowUp::new(async move {
            tokio::time::sleep(takes).await;
            log.write(format_args!("{number} is followed up"));
            if fails { Err(Failed) } else { Ok(()) }
        }))
    }
}

/// The names of the lines, which are those of their first pools as well.
pub(crate) const LINES: [&str; 3] = ["pay", "mail", "scan"];

/// The most signals that may be in flight, at any time of any run.
pub(crate) const HARD_MAX: u32 = 120;

/// Puts the plant together, with limits drawn from the seed.
pub(crate) fn plant(system: &System, draw: &mut Draw, log: &Log) -> (Plant, Vec<Line<Work>>) {
    let hard = draw.between(20, u64::from(HARD_MAX)) as u32;
    // What the machine tells of itself is another thing in each run.
    let mut plant = Plant::builder(system)
        .limits(Limits::new(hard, 0.2, 0.83).expect("it is in range"))
        .health(HealthSpec::new().without_machine());
    let burst = BurstRules::builder()
        .averages(Duration::from_secs(1), Duration::from_secs(10))
        .warm_up(Duration::from_secs(2))
        .surge(Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(60));
    plant = plant.burst(burst.build().expect("it is in range"));
    for pool in LINES {
        let least = draw.between(1, 4) as u32;
        plant = plant.pool(
            PoolSpec::new(pool)
                .workers(least, least + draw.between(0, 8) as u32)
                .queue_max(draw.between(2, 40) as u32)
                .intensity(draw.between(3, 30) as u32, Duration::from_secs(10))
                .stop_within(draw.millis(10, 400)),
        );
    }
    let breaker = |draw: &mut Draw| {
        let (failures, seed) = (draw.between(3, 8) as u32, draw.between(0, 1_000_000));
        let rules = BreakerRules::builder().failures_in_a_row(failures).jitter(0.2, seed);
        rules.open(draw.millis(200, 2_000), Duration::from_secs(5)).build().expect("it is in range")
    };
    let work = || Work(log.clone());
    let policy = rule("is_good", 1, |order: &Order, (): &()| order.is_bad.then(|| "it is bad".to_owned()));
    let pay = LineSpec::new("pay", work()).pool("pay").pool("scan").policy(policy).breaker(breaker(draw));
    let rate = Rate::new(draw.between(20, 200) as u32, Duration::from_secs(1)).expect("it is in range");
    let key = Rate::new(draw.between(2, 20) as u32, Duration::from_secs(1)).expect("it is in range");
    let mail = LineSpec::new("mail", work()).rate(rate).rate_per_key(key, 8).breaker(breaker(draw));
    let adaptive = AdaptiveRules::builder().limits(1, 4, 20).build().expect("it is in range");
    let scan = LineSpec::new("scan", work()).adaptive(adaptive).breaker(breaker(draw));
    let scan = scan.follow_up_within(Duration::from_millis(60)).deadline(Duration::from_secs(1));
    let lines = vec![plant.line(pay), plant.line(mail), plant.line(scan)];
    (plant.build().expect("the plant is sound"), lines)
}
