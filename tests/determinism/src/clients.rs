//! The clients: each sends signals at moments of its own, and writes down what comes back.

use std::time::Duration;

use gemba::admission::Tier;
use gemba::{Line, Signal, SubmitError};
use tokio::task::JoinSet;

use crate::draw::{Draw, Who};
use crate::log::{Answer, Fact, Log};
use crate::works::{Do, LINES, Order, Work};

/// How many clients there are.
pub(crate) const CLIENTS: u64 = 4;

/// The keys that signals have.
const KEYS: [&[u8]; 5] = [b"ann", b"ben", b"cem", b"dia", b"eva"];

/// One client, until the run is over; then it waits for what it has sent.
pub(crate) async fn client(seed: u64, n: u64, lines: Vec<Line<Work>>, log: Log, until: Duration) {
    let mut draw = Draw::new(seed, Who::Client(n));
    let mut sent = JoinSet::new();
    let mean = draw.millis(5, 40);
    let mut number = n * 1_000_000;
    let (rush, rushes) = (draw.millis(3_000, 8_000), draw.percent(50));
    while log.now() < until {
        let in_rush = rushes && rush <= log.now() && log.now() < rush + Duration::from_secs(2);
        tokio::time::sleep(draw.pause(if in_rush { mean / 6 } else { mean })).await;
        number += 1;
        let at = draw.below(lines.len());
        let (order, log, line) = (order(number, &mut draw), log.clone(), lines[at].clone());
        let deadline = draw.millis(20, 1_000);
        let mut signal = Signal::new(order).deadline(deadline).tier(draw.one_of(&Tier::ALL));
        if draw.percent(50) {
            signal = signal.key(draw.one_of(&KEYS));
        }
        let leaves_after = draw.percent(4).then(|| draw.millis(0, 60));
        sent.spawn(
            async move { submit(number, LINES[at], &line, signal, deadline, leaves_after, &log).await },
        );
    }
    while let Some(ended) = sent.join_next().await {
        ended.expect("a caller does not panic");
    }
}

fn order(number: u64, draw: &mut Draw) -> Order {
    let what = match draw.between(1, 100) {
        1..=30 => Do::Answer,
        31..=80 => Do::Sleep(draw.millis(1, 30)),
        81..=86 => Do::Sleep(draw.millis(100, 2_000)),
        87..=91 => Do::Yield(draw.between(1, 20) as u32),
        92..=98 => Do::Fail,
        _ => Do::Panic,
    };
    let follow_up = draw.percent(10).then(|| (draw.millis(0, 80), draw.percent(20)));
    Order { number, what, follow_up, is_bad: draw.percent(3) }
}

async fn submit(
    number: u64,
    name: &'static str,
    line: &Line<Work>,
    signal: Signal<Order>,
    deadline: Duration,
    leaves_after: Option<Duration>,
    log: &Log,
) {
    log.fact(Fact::Submitted(number, name, deadline), format_args!("{number} comes to {name}"));
    let answer = line.submit(signal, &());
    let answer = match leaves_after {
        None => answer.await,
        Some(after) => match tokio::time::timeout(after, answer).await {
            Ok(answer) => answer,
            Err(_) => return log.fact(Fact::Withdrawn(number), format_args!("{number} goes away")),
        },
    };
    let (answer, text) = match answer {
        Ok((same, _)) if same == number => (Answer::Done, "done".to_owned()),
        Ok((other, _)) => (Answer::Done, format!("FAULT: the answer of {other}")),
        Err(SubmitError::Refused(refusal)) => (Answer::Refused, format!("refused: {refusal}")),
        Err(SubmitError::Rejected(rejection)) => (Answer::Rejected, format!("rejected: {rejection}")),
        Err(SubmitError::Failed(error)) => (Answer::Failed, format!("failed: {error}")),
        Err(SubmitError::WorkerDied) => (Answer::Died, "lost its worker".to_owned()),
        Err(SubmitError::TimedOut) => (Answer::TimedOut, "timed out".to_owned()),
        Err(error) => (Answer::Died, format!("FAULT: {error}")),
    };
    log.fact(Fact::Answered(number, answer), format_args!("{number} {text}"));
}
