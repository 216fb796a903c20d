//! Runs a workload through a controller, event by event, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use gemba_core::scaling::{Load, ScaleRules};
use gemba_core::time::Timestamp;

use crate::client::{Client, Clients};
use crate::controller::{Attempt, Controller, Decision, Finished};
use crate::outcome::{Outcome, Recorder};
use crate::sizing::{LOOK, Sizing};
use crate::workload::{Model, Workload};

/// How often a controller may look for who has to go.
const SWEEP: Duration = Duration::from_millis(10);

/// How long after the last arrival a run goes on.
const DRAIN: Duration = Duration::from_secs(2);

/// Events after which a run is broken off: a controller that never ends one would run for ever. As many signals as a
/// scenario may bring, each tried four times, are a third of it.
const EVENTS_MAX: u64 = 200_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A worker is done.
    Done(usize),
    /// The caller of an attempt has waited for as long as it does.
    GivenUp(usize),
    /// An arrival tries again.
    Retry {
        arrival: u32,
        number: u8,
    },
    Sweep,
    /// The size of the pool is looked at.
    Look,
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The pool.
    pub model: Model,
    /// What arrives.
    pub workload: &'a Workload,
    /// What callers do when they are refused.
    pub client: Client,
    /// Where the callers' jitter comes from.
    pub seed: u64,
    /// From when on it is measured.
    pub measured_from: Timestamp,
    /// How the pool changes its size; without it, the model's workers are all there ever are.
    pub sizing: Option<ScaleRules>,
}

impl Run<'_> {
    /// Runs it to its end, or for 200 000 000 events: see [`Outcome::broken_off`].
    pub fn through(self, controller: &mut dyn Controller) -> Outcome {
        self.at_most(EVENTS_MAX, controller)
    }

    fn at_most(self, events: u64, controller: &mut dyn Controller) -> Outcome {
        Engine {
            recorder: Recorder::new(&self, controller.name()),
            clients: Clients::new(self.client, self.seed),
            workers: self.model.workers,
            running: 0,
            sizing: self.sizing.map(|rules| Sizing::new(rules, self.model.workers)),
            run: self,
            controller,
            events: BinaryHeap::new(),
            number: 0,
            attempts: Vec::new(),
            out: Vec::new(),
        }
        .run(events)
    }
}

/// An attempt, and how it stands.
#[derive(Debug, Clone, Copy)]
struct Standing {
    attempt: Attempt,
    started: Timestamp,
}

struct Engine<'a> {
    run: Run<'a>,
    controller: &'a mut dyn Controller,
    clients: Clients,
    recorder: Recorder,
    events: BinaryHeap<Reverse<(Timestamp, u64, Event)>>,
    /// Events of one moment happen in the order in which they were planned.
    number: u64,
    attempts: Vec<Standing>,
    workers: u32,
    /// More than there are workers, while some that are to go finish what they have.
    running: u32,
    sizing: Option<Sizing>,
    out: Vec<Attempt>,
}

impl Engine<'_> {
    fn run(mut self, events: u64) -> Outcome {
        let end = self.run.workload.end + DRAIN;
        self.plan(Timestamp::START + SWEEP, Event::Sweep);
        if self.sizing.is_some() {
            self.plan(Timestamp::START + LOOK, Event::Look);
        }
        let mut arrivals = self.run.workload.arrivals.iter().enumerate().peekable();
        let mut broken_off = true;
        for _ in 0..events {
            let planned = self.events.peek().map(|Reverse((at, _, _))| *at);
            let arrives = arrivals.peek().map(|(_, arrival)| arrival.at);
            match (arrives, planned) {
                (Some(at), planned) if planned.is_none_or(|planned| at <= planned) => {
                    let (index, arrival) = arrivals.next().expect("it was peeked at");
                    self.recorder.offered(arrival.tier, at);
                    self.attempt(index as u32, 0, at);
                }
                (_, Some(at)) if at <= end => {
                    let Reverse((_, _, event)) = self.events.pop().expect("it was peeked at");
                    self.happen(event, at);
                }
                _ => {
                    broken_off = false;
                    break;
                }
            }
        }
        self.recorder.finish(broken_off)
    }

    fn plan(&mut self, at: Timestamp, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at, self.number, event)));
    }

    fn happen(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Done(index) => {
                let Standing { attempt, started } = self.attempts[index];
                self.count(now);
                self.running -= 1;
                if let Some(sizing) = &mut self.sizing {
                    sizing.finished();
                }
                self.controller.finished(Finished { attempt, took: now.since(started) }, now);
                if self.recorder.answered(&attempt, started, now) {
                    self.clients.succeeded();
                }
                self.feed(now);
            }
            Event::GivenUp(index) => {
                let attempt = self.attempts[index].attempt;
                if self.recorder.gives_up(&attempt) {
                    self.retry(&attempt, Duration::ZERO, now);
                }
            }
            Event::Retry { arrival, number } => self.attempt(arrival, number, now),
            Event::Sweep => {
                self.controller.sweep(now, &mut self.out);
                self.turn_out(now);
                self.recorder.waiting(self.controller.waiting(), self.workers, now);
                if now < self.run.workload.end + DRAIN {
                    self.plan(now + SWEEP, Event::Sweep);
                }
            }
            Event::Look => {
                let load = Load {
                    workers: self.workers,
                    running: self.running,
                    queued: self.controller.waiting() as u32,
                };
                let sizing = self.sizing.as_mut().expect("only who sizes looks");
                self.workers = sizing.look(load, now);
                if self.workers != load.workers {
                    self.controller.set_workers(self.workers);
                    self.feed(now);
                }
                if now < self.run.workload.end {
                    self.plan(now + LOOK, Event::Look);
                }
            }
        }
    }

    fn attempt(&mut self, arrival: u32, number: u8, now: Timestamp) {
        let tier = self.run.workload.arrivals[arrival as usize].tier;
        let deadline = now + self.run.model.deadline;
        let attempt = Attempt { arrival, number, tier, came: now, deadline };
        self.recorder.attempted(&attempt);
        if let Some(sizing) = &mut self.sizing {
            sizing.arrived();
        }
        let decision = self.controller.arrive(attempt, self.idle(), now, &mut self.out);
        self.recorder.decided(&attempt, decision, now);
        match decision {
            Decision::Start => self.start(attempt, now),
            Decision::Wait => {
                if self.clients.gives_up_at_deadline() {
                    let index = self.keep(attempt, now);
                    self.plan(deadline, Event::GivenUp(index));
                }
            }
            Decision::Refuse(retry_after) => {
                self.recorder.turned_away(&attempt);
                self.retry(&attempt, retry_after, now);
            }
        }
        self.turn_out(now);
        self.feed(now);
    }

    const fn idle(&self) -> u32 {
        self.workers.saturating_sub(self.running)
    }

    /// Before a worker begins or ends its work.
    fn count(&mut self, now: Timestamp) {
        if let Some(sizing) = &mut self.sizing {
            sizing.note(self.running, self.workers, now);
        }
    }

    fn keep(&mut self, attempt: Attempt, started: Timestamp) -> usize {
        self.attempts.push(Standing { attempt, started });
        self.attempts.len() - 1
    }

    fn start(&mut self, attempt: Attempt, now: Timestamp) {
        assert!(0 < self.idle(), "{} starts work without a worker", self.controller.name());
        self.count(now);
        self.running += 1;
        let index = self.keep(attempt, now);
        let work = self.run.workload.service(attempt.arrival, attempt.number, now);
        self.recorder.started(&attempt, now);
        self.plan(now + work, Event::Done(index));
        if self.clients.gives_up_at_deadline() && attempt.came == now {
            self.plan(attempt.deadline, Event::GivenUp(index));
        }
    }

    fn feed(&mut self, now: Timestamp) {
        while 0 < self.idle() {
            let next = self.controller.next(now, &mut self.out);
            self.turn_out(now);
            match next {
                Some(attempt) => self.start(attempt, now),
                None => break,
            }
        }
    }

    /// Tells those that waited in vain.
    fn turn_out(&mut self, now: Timestamp) {
        for attempt in std::mem::take(&mut self.out) {
            self.recorder.turned_out(&attempt, now);
            self.retry(&attempt, Duration::ZERO, now);
        }
    }

    fn retry(&mut self, attempt: &Attempt, retry_after: Duration, now: Timestamp) {
        if self.recorder.is_answered(attempt) {
            return;
        }
        if let Some(pause) = self.clients.retry(attempt.number, retry_after) {
            self.plan(now + pause, Event::Retry { arrival: attempt.arrival, number: attempt.number + 1 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contenders::Contender;

    #[test]
    fn a_run_that_is_broken_off_says_so() {
        let model = Model::default();
        let workload = Workload::poisson(&model, &[model.phase(Duration::from_secs(1), 1.0)], 1);
        let (client, measured_from) = (Client::ONCE, Timestamp::START);
        let run = Run { model, workload: &workload, client, seed: 1, measured_from, sizing: None };
        let broken_off = |events| run.at_most(events, &mut *Contender::Ours.controller(&model)).broken_off;
        assert!(!broken_off(EVENTS_MAX) && broken_off(100));
    }
}
