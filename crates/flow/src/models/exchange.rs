//! The exchange and the seat: a job meets a worker whoever comes first, and its caller gets one answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::crew::{Life, Turn};
use gemba_core::exit::Incarnation;
use gemba_core::wait::WaitRules;
use loom::future::block_on;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread::{self, JoinHandle};

use super::{Echo, NOW, ceiling, check, signal, station};
use crate::exchange::{Exchange, Inbox};
use crate::job::Answer;
use crate::load::LoadCell;
use crate::seat::Ticket;
use crate::sync::Mutex;
use crate::worker::WorkerMsg;

/// How long work takes.
const TOOK: Duration = Duration::from_millis(1);

/// What leads to a worker of a model, until its life is over.
#[derive(Clone)]
struct Reach(Arc<Mutex<Option<Sender<WorkerMsg>>>>);

impl Inbox for Reach {
    fn cast(&self, message: WorkerMsg) -> Result<(), WorkerMsg> {
        match &*self.0.lock().unwrap() {
            Some(sender) => sender.send(message).map_err(|error| error.0),
            None => Err(message),
        }
    }
}

impl Reach {
    fn new() -> (Self, Receiver<WorkerMsg>) {
        let (sender, receiver) = channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    /// Ends the life: what it has not taken is dropped.
    fn end(&self, receiver: Receiver<WorkerMsg>) {
        drop(self.0.lock().unwrap().take());
        drop(receiver);
    }
}

/// A pool that is open, and knows one worker that has not come yet.
fn pool() -> (Arc<Exchange<Reach>>, u64) {
    let rules = WaitRules::builder().shares(1.0, 1.0).deviations(0.0).build().unwrap();
    let exchange = Arc::new(Exchange::new(rules, 8, Arc::new(LoadCell::default())));
    exchange.open(&BTreeSet::new(), NOW);
    let worker = exchange.hire(NOW);
    (exchange, worker)
}

/// A life that takes so many messages, unless it is told to retire.
fn work(exchange: &Exchange<Reach>, worker: u64, life: u64, messages: usize) {
    let (reach, receiver) = Reach::new();
    let incarnation = Incarnation(life);
    let turn = exchange.join(Life { worker, incarnation, reach: reach.clone() }, NOW);
    follow(&reach, turn);
    for _ in 0..messages {
        let Ok(WorkerMsg::Work(job)) = receiver.recv() else { break };
        let mut ran = block_on(job.run());
        // In a model every run has to decide alike: the machine's time must not count.
        (ran.ended, ran.took) = (NOW, ran.took.map(|_| TOOK));
        follow(&reach, exchange.done(worker, incarnation, &ran));
    }
    reach.end(receiver);
}

fn follow(reach: &Reach, turn: Turn<crate::job::Job>) {
    let message = match turn {
        Turn::Work(job) => WorkerMsg::Work(job),
        Turn::Retire => WorkerMsg::Retire,
        Turn::Wait => return,
    };
    assert!(reach.cast(message).is_ok(), "its own life is not over");
}

/// What came back: the number, or that nothing was done.
fn answer(ticket: Ticket<Echo>) -> Option<u32> {
    match block_on(ticket) {
        Answer::Done { result: Ok(n), .. } => Some(n),
        Answer::Returned { .. } => None,
        Answer::Done { result: Err(_), .. } | Answer::TimedOut | Answer::WorkerDied => {
            panic!("it cannot fail")
        }
    }
}

#[test]
fn a_job_and_a_worker_meet_whoever_comes_first() {
    check(3, || {
        let (station, ceiling, (exchange, worker)) = (station(), ceiling(12), pool());
        let crew = exchange.clone();
        let working = thread::spawn(move || work(&crew, worker, 1, 1));
        let (job, ticket) = signal(&station, &ceiling, 7);
        assert!(exchange.offer(job, NOW), "somebody sees to it");
        assert_eq!(answer(ticket), Some(7));
        working.join().unwrap();
        assert_eq!(ceiling.in_flight(), 0);
    });
}

#[test]
fn two_callers_and_a_worker_leave_nobody_waiting() {
    check(2, || {
        let (station, ceiling, (exchange, worker)) = (station(), ceiling(12), pool());
        // It learns how long work takes: a pool that does not know lets one job wait for each worker.
        let (job, ticket) = signal(&station, &ceiling, 0);
        exchange.offer(job, NOW);
        work(&exchange, worker, 0, 1);
        assert_eq!(answer(ticket), Some(0));
        let crew = exchange.clone();
        let working = thread::spawn(move || work(&crew, worker, 1, 2));
        let (first, ticket) = signal(&station, &ceiling, 1);
        let (second, other) = signal(&station, &ceiling, 2);
        let crew = exchange.clone();
        let calling: JoinHandle<Option<u32>> = thread::spawn(move || {
            crew.offer(second, NOW);
            answer(other)
        });
        exchange.offer(first, NOW);
        assert_eq!(answer(ticket), Some(1));
        assert_eq!(calling.join().unwrap(), Some(2));
        working.join().unwrap();
        assert_eq!(ceiling.in_flight(), 0);
    });
}

#[test]
fn a_job_that_meets_a_life_that_ends_comes_back_or_waits_for_the_next() {
    check(3, || {
        let (station, ceiling, (exchange, worker)) = (station(), ceiling(12), pool());
        let crew = exchange.clone();
        // The first life ends before it takes anything; the second works.
        let working = thread::spawn(move || {
            work(&crew, worker, 1, 0);
            work(&crew, worker, 2, 1);
        });
        let mut tries = 0;
        let done = loop {
            tries += 1;
            let (job, ticket) = signal(&station, &ceiling, 7);
            exchange.offer(job, NOW);
            if let Some(n) = answer(ticket) {
                break n;
            }
        };
        assert!(done == 7 && tries <= 2, "it comes back once at most: {tries}");
        working.join().unwrap();
        assert_eq!(ceiling.in_flight(), 0);
    });
}

#[test]
fn a_caller_that_leaves_gives_its_permit_back_once() {
    check(3, || {
        let (station, ceiling, (exchange, worker)) = (station(), ceiling(12), pool());
        let (job, ticket) = signal(&station, &ceiling, 7);
        let crew = exchange.clone();
        let working = thread::spawn(move || work(&crew, worker, 1, 1));
        exchange.offer(job, NOW);
        drop(ticket);
        working.join().unwrap();
        assert_eq!(ceiling.in_flight(), 0);
    });
}

#[test]
fn a_dispatcher_that_ends_gives_back_what_waits_and_nothing_twice() {
    check(3, || {
        let (station, ceiling, (exchange, _)) = (station(), ceiling(12), pool());
        let crew = exchange.clone();
        let closing = thread::spawn(move || crew.close());
        let (job, ticket) = signal(&station, &ceiling, 7);
        exchange.offer(job, NOW);
        assert_eq!(answer(ticket), None, "there is nobody to do it");
        closing.join().unwrap();
        assert_eq!(ceiling.in_flight(), 0);
    });
}
