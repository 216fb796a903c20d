//! Controllers of the simulation in front of real work: an actor that owns one, and asks it.

use std::collections::HashMap;
use std::time::Duration;

use gemba::sim::controller::{Attempt, Controller, Decision, Finished};
use gemba::time::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Call, Contender, End, Job, REFUSED};

/// How often the controller is asked who has to go, as in the simulation.
const SWEEP: Duration = Duration::from_millis(10);

/// Messages that wait for the desk; beyond that callers wait.
const MAILBOX: usize = 65_536;

enum Msg {
    Arrive(Job, oneshot::Sender<End>),
    Finished(Finished),
}

/// A controller, and the attempts it has in hand.
struct Desk<C> {
    controller: C,
    idle: u32,
    waiting: HashMap<(u32, u8), (Job, oneshot::Sender<End>)>,
    out: Vec<Attempt>,
    begun: Instant,
    own: mpsc::Sender<Msg>,
}

/// Where attempts enter.
pub(crate) struct Counter(mpsc::Sender<Msg>);

pub(crate) fn start<C: Controller + Send + 'static>(controller: C, workers: u32) -> Counter {
    let (sender, mut messages) = mpsc::channel(MAILBOX);
    let mut desk = Desk {
        controller,
        idle: workers,
        waiting: HashMap::new(),
        out: Vec::new(),
        begun: Instant::now(),
        own: sender.clone(),
    };
    tokio::spawn(async move {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => desk.handle(message),
                    None => break,
                },
                _ = sweep.tick() => desk.sweep(),
            }
        }
    });
    Counter(sender)
}

impl<C: Controller> Desk<C> {
    fn now(&self) -> Timestamp {
        Timestamp::START + self.begun.elapsed()
    }

    fn handle(&mut self, message: Msg) {
        let now = self.now();
        match message {
            Msg::Arrive(job, answer) => {
                let left = job.due.saturating_duration_since(std::time::Instant::now());
                let attempt = Attempt {
                    arrival: job.number,
                    number: job.attempt,
                    tier: job.tier,
                    came: now,
                    deadline: now + left,
                };
                match self.controller.arrive(attempt, self.idle, now, &mut self.out) {
                    Decision::Start => self.work(attempt, job, answer),
                    Decision::Wait => {
                        self.waiting.insert((job.number, job.attempt), (job, answer));
                    }
                    Decision::Refuse(retry_after) => {
                        let _ = answer.send(End::Refused { retry_after });
                    }
                }
            }
            Msg::Finished(finished) => {
                self.idle += 1;
                self.controller.finished(finished, now);
            }
        }
        self.turn_out();
        self.feed();
    }

    fn sweep(&mut self) {
        let now = self.now();
        self.controller.sweep(now, &mut self.out);
        self.turn_out();
        self.feed();
    }

    fn feed(&mut self) {
        while 0 < self.idle {
            let next = self.controller.next(self.now(), &mut self.out);
            self.turn_out();
            let Some(attempt) = next else { break };
            let (job, answer) =
                self.waiting.remove(&(attempt.arrival, attempt.number)).expect("who is next has waited");
            self.work(attempt, job, answer);
        }
    }

    fn turn_out(&mut self) {
        for attempt in std::mem::take(&mut self.out) {
            if let Some((_, answer)) = self.waiting.remove(&(attempt.arrival, attempt.number)) {
                let _ = answer.send(REFUSED);
            }
        }
    }

    fn work(&mut self, attempt: Attempt, job: Job, answer: oneshot::Sender<End>) {
        self.idle -= 1;
        let own = self.own.clone();
        tokio::spawn(async move {
            let took = job.work.run().await;
            let _ = own.send(Msg::Finished(Finished { attempt, took })).await;
            let _ = answer.send(End::Served { took });
        });
    }
}

impl Contender for Counter {
    fn call(&self, job: Job) -> Call {
        let desk = self.0.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            if desk.send(Msg::Arrive(job, answer)).await.is_err() {
                return End::Late;
            }
            answered.await.unwrap_or(End::Late)
        })
    }
}
