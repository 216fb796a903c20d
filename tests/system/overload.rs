//! More than the pools can do: what is still done in time, for whom, and what the others are told.

use std::collections::BTreeMap;
use std::time::Duration;

use gemba::admission::{Limits, Tier};
use gemba::light::Light;
use gemba::view::LineState;
use gemba::{Line, LineSpec, Node, Plant, PoolSpec, RefusalReason, Signal, SubmitError};
use gemba_kit::{board, finish, workers};
use tokio::time::Instant;

use crate::limits::never_opens;
use crate::plant::{Input, Work};

const WORKERS: u32 = 8;
const DEADLINE: Duration = Duration::from_millis(500);

/// Before it, the pool learns how long work takes.
const LEARNING: Duration = Duration::from_secs(1);

/// How late the look at the queue may be: its period, and tokio's timers, which go by milliseconds.
const SLACK: Duration = Duration::from_millis(55);

/// How one signal came and went.
struct Trip {
    arrived: Duration,
    took: Duration,
    tier: Tier,
    result: Result<u32, SubmitError<crate::plant::Failed>>,
}

/// Work of 20 to 59 ms, scattered over the numbers, so that it has nothing to do with the tier.
const fn work(n: u64) -> Duration {
    Duration::from_millis(20 + (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 40)
}

/// What the workers can do, in signals a second.
const CAPACITY: f64 = WORKERS as f64 / 0.0395;

/// One signal in ten is critical, six are normal, three are batch.
const fn tier(n: u64) -> Tier {
    match n % 10 {
        0 => Tier::Critical,
        1..=6 => Tier::Normal,
        _ => Tier::Batch,
    }
}

async fn start() -> (Node, Line<Work>) {
    start_with(|spec| spec).await
}

async fn start_with(change: fn(LineSpec<Work>) -> LineSpec<Work>) -> (Node, Line<Work>) {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system())
        .limits(Limits::new(100_000, 0.2, 0.83).expect("in range"))
        .pool(PoolSpec::new("work").workers(WORKERS, WORKERS));
    let line = plant.line(change(LineSpec::new("work", Work).deadline(DEADLINE)));
    let node = node.child(plant.build().expect("it is sound")).start().await.expect("it starts");
    workers(node.system(), "work", WORKERS as usize).await;
    (node, line)
}

/// An open loop: signals come when they come, `times` as many as can be done.
async fn storm(line: &Line<Work>, times: f64, lasts: Duration) -> Vec<Trip> {
    slow_storm(line, times, lasts, 1).await
}

/// As [`storm`], while work takes `slower` times as long.
async fn slow_storm(line: &Line<Work>, times: f64, lasts: Duration, slower: u32) -> Vec<Trip> {
    let begun = Instant::now();
    let mut trips = Vec::new();
    let mut n = 0;
    while begun.elapsed() < lasts {
        tokio::time::sleep(Duration::from_millis(1)).await;
        while (n as f64) < begun.elapsed().as_secs_f64() * CAPACITY * times {
            n += 1;
            let line = line.clone();
            trips.push(tokio::spawn(async move {
                let arrived = begun.elapsed();
                let signal = Signal::new(Input::Sleep(slower * work(n))).tier(tier(n));
                let result = line.submit(signal, &()).await;
                Trip { arrived, took: begun.elapsed().saturating_sub(arrived), tier: tier(n), result }
            }));
        }
    }
    let mut all = Vec::new();
    for trip in trips {
        all.push(trip.await.expect("a caller does not panic"));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn overload_costs_no_throughput_and_the_critical_come_through() {
    const LASTS: Duration = Duration::from_secs(10);
    const COUNTED: f64 = 9.0;
    for times in [1.2, 2.0, 5.0] {
        let (node, line) = start().await;
        let trips = storm(&line, times, LASTS).await;
        let (mut offered, mut done) = (BTreeMap::new(), BTreeMap::new());
        for Trip { arrived, took, tier, result } in trips {
            match &result {
                Ok(_) => assert!(took <= DEADLINE, "accepted work meets its deadline: {took:?}"),
                Err(SubmitError::Refused(refusal)) => {
                    assert!(!refusal.retry_after.is_zero());
                    let at_once = matches!(refusal.reason, RefusalReason::WaitTooLong { .. });
                    let turned_out = [RefusalReason::WaitedTooLong, RefusalReason::Displaced];
                    assert!(at_once || turned_out.contains(&refusal.reason), "{refusal}");
                    let limit = if at_once { Duration::ZERO } else { DEADLINE / 4 + SLACK };
                    assert!(took <= limit, "{took:?}: {refusal}");
                }
                Err(error) => panic!("nothing is begun that does not end in time: {error:?}"),
            }
            if LEARNING <= arrived {
                *offered.entry(tier).or_insert(0.0) += 1.0;
                *done.entry(tier).or_insert(0.0) += f64::from(u8::from(result.is_ok()));
            }
        }
        let goodput = done.values().sum::<f64>() / COUNTED / CAPACITY;
        assert!(0.97 <= goodput, "{goodput:.3} of the capacity at {times} times of it");
        let share = |tier| done[&tier] / offered[&tier];
        assert!(0.99 <= share(Tier::Critical), "{:.3} at {times} times", share(Tier::Critical));
        assert!(share(Tier::Batch) <= share(Tier::Normal), "the higher tier goes first");
        assert!(0.0 < share(Tier::Batch), "the lowest is not starved");
        finish(node).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_spike_all_is_done_again_within_a_second() {
    let (node, line) = start().await;
    storm(&line, 0.7, Duration::from_secs(2)).await;
    let spike = storm(&line, 10.0, Duration::from_secs(3)).await;
    assert!(spike.iter().any(|trip| trip.result.is_err()));
    let calm = storm(&line, 0.7, Duration::from_secs(3)).await;
    let late = calm.iter().filter(|trip| Duration::from_secs(1) <= trip.arrived);
    assert!(late.clone().count() > 100);
    for trip in late {
        assert!(trip.result.is_ok(), "{:?}", trip.result);
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_time_shows_on_the_light_and_is_over_when_it_is_over() {
    // Without a breaker, which would open on five time-outs in a row and stay open for half a minute.
    let (node, line) = start_with(|spec| spec.breaker(never_opens())).await;
    storm(&line, 0.7, Duration::from_secs(6)).await;
    let slow = slow_storm(&line, 0.7, Duration::from_secs(4), 9).await;
    let late = slow.iter().filter(|trip| matches!(trip.result, Err(SubmitError::TimedOut))).count();
    assert!(10 < late, "{late} ran out of time");
    let calm = storm(&line, 0.7, Duration::from_secs(3)).await;
    for trip in calm.iter().filter(|trip| Duration::from_secs(1) <= trip.arrived) {
        assert!(trip.result.is_ok(), "{:?}", trip.result);
    }
    let seen = board(node.system(), |board| board.overall == Light::Red).await;
    let light =
        seen.stations.iter().find(|station| station.name.as_str() == "line:work").expect("it has a line");
    assert!(light.why.ends_with("ran out of time"), "{}", light.why);
    assert_eq!(seen.lines[0].state, LineState::Running);
    assert_eq!((seen.lines[0].timed_out, seen.lines[0].failed), (late as u64, 0));
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_higher_tier_goes_before_a_lower_one_and_takes_its_place() {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(1, 1));
    let line = plant.line(LineSpec::<Work>::new("work", Work).deadline(Duration::from_millis(500)));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 1).await;
    let begun = Instant::now();
    let submit = |tier| {
        let line = line.clone();
        tokio::spawn(async move {
            let signal = Signal::new(Input::Sleep(Duration::from_millis(100))).tier(tier);
            (line.submit(signal, &()).await, begun.elapsed())
        })
    };
    submit(Tier::Normal).await.unwrap().0.unwrap();
    // What came before is forgotten as a rate, and known as a duration.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let running = submit(Tier::Batch);
    tokio::time::sleep(Duration::from_millis(1)).await;
    // Where one works alone each may wait half of the deadline: two of 100 ms have room, a third has not.
    let (first, second) = (submit(Tier::Batch), submit(Tier::Batch));
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (Err(SubmitError::Refused(third)), _) = submit(Tier::Batch).await.unwrap() else { panic!("no room") };
    assert!(matches!(third.reason, RefusalReason::WaitTooLong { .. }), "{third}");
    let critical = submit(Tier::Critical);
    let (Err(SubmitError::Refused(displaced)), _) = second.await.unwrap() else { panic!("it made room") };
    assert_eq!(displaced.reason, RefusalReason::Displaced);
    let ((first, first_at), (critical, critical_at)) = (first.await.unwrap(), critical.await.unwrap());
    first.unwrap();
    critical.unwrap();
    assert!(critical_at < first_at, "it came later and went first");
    running.await.unwrap().0.unwrap();
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_sends_ten_times_as_much_is_refused_and_the_others_are_not() {
    const LASTS: Duration = Duration::from_secs(10);
    // Nine tenants with 0.08 of the capacity each, and one with ten times that.
    const EACH: f64 = 0.08;
    for cost in [1, 4] {
        let (node, line) = start().await;
        let begun = Instant::now();
        let mut trips = Vec::new();
        let mut sent = [0u64; 10];
        while begun.elapsed() < LASTS {
            tokio::time::sleep(Duration::from_millis(1)).await;
            for (tenant, sent) in sent.iter_mut().enumerate() {
                // The greedy one has more signals, or longer ones.
                let (times, slower) = match (tenant, cost) {
                    (0, 1) => (10.0, 1),
                    (0, _) => (10.0 / f64::from(cost), cost),
                    _ => (1.0, 1),
                };
                // They do not all come at the same moment.
                let ahead = tenant as f64 / 10.0;
                while *sent as f64 + ahead < begun.elapsed().as_secs_f64() * CAPACITY * EACH * times {
                    *sent += 1;
                    let (line, n) = (line.clone(), *sent * 10 + tenant as u64);
                    let arrived = begun.elapsed();
                    trips.push(tokio::spawn(async move {
                        let name = format!("tenant-{tenant}");
                        let signal = Signal::new(Input::Sleep(slower * work(n))).tenant(name.as_bytes());
                        (tenant, arrived, line.submit(signal, &()).await.is_ok())
                    }));
                }
            }
        }
        let (mut offered, mut served) = ([0.0; 10], [0.0; 10]);
        for trip in trips {
            let (tenant, arrived, is_served) = trip.await.expect("a caller does not panic");
            if LEARNING <= arrived {
                offered[tenant] += 1.0;
                served[tenant] += f64::from(u8::from(is_served));
            }
        }
        for tenant in 1..10 {
            let share = served[tenant] / offered[tenant];
            assert!(
                0.98 <= share,
                "tenant {tenant}: {share:.3} of its signals, the greedy one's cost {cost}"
            );
        }
        let greedy = served[0] * f64::from(cost) / 9.0 / CAPACITY;
        assert!((0.2..0.32).contains(&greedy), "it has what is left: {greedy:.3}");
        finish(node).await;
    }
}
