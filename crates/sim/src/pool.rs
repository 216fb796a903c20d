//! A pool whose size changes: random work, a queue, and nobody who refuses it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use gemba_core::scaling::Load;
use gemba_core::time::Timestamp;

use crate::draw::Draw;
use crate::sizing::Sizing;
use crate::workload::Model;

const SECOND: u64 = 1_000_000_000;

/// First come, first served; jobs of the reference model arrive independently of each other.
#[derive(Debug)]
pub(crate) struct Pool {
    draw: Draw,
    model: Model,
    now: u64,
    next_arrival: u64,
    /// When each job in hand is done.
    in_hand: BinaryHeap<Reverse<u64>>,
    /// When each job that waits came.
    queue: VecDeque<u64>,
    pub(crate) workers: u32,
    pub(crate) in_time: u64,
    pub(crate) late: u64,
    /// Nanoseconds in which a worker worked, and in which there was one.
    pub(crate) busy: u64,
    pub(crate) offered: u64,
    noted_at: u64,
}

impl Pool {
    pub(crate) fn new(seed: u64, workers: u32) -> Self {
        Self {
            draw: Draw::new(seed, 0),
            model: Model::default(),
            now: 0,
            next_arrival: 0,
            in_hand: BinaryHeap::new(),
            queue: VecDeque::new(),
            workers,
            in_time: 0,
            late: 0,
            busy: 0,
            offered: 0,
            noted_at: 0,
        }
    }

    pub(crate) const fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.now)
    }

    pub(crate) fn load(&self) -> Load {
        Load { workers: self.workers, running: self.running(), queued: self.queue.len() as u32 }
    }

    pub(crate) fn set_workers(&mut self, workers: u32) {
        self.note(self.now);
        self.workers = workers;
        self.feed(self.now);
    }

    /// Lets a part of a second pass with `erlangs` of work arriving, and tells whoever sizes it what happens.
    pub(crate) fn pass(&mut self, erlangs: f64, nanos: u64, mut sizing: Option<&mut Sizing>) {
        let end = self.now + nanos;
        let pause = self.model.service.as_secs_f64() / erlangs * SECOND as f64;
        loop {
            let done = self.in_hand.peek().map_or(u64::MAX, |Reverse(at)| *at);
            let next = self.next_arrival.min(done);
            if end <= next {
                break;
            }
            self.note(next);
            if let Some(sizing) = &mut sizing {
                sizing.note(self.running(), self.workers, Timestamp::from_nanos(next));
                if next == done { sizing.finished() } else { sizing.arrived() }
            }
            if next == done {
                self.in_hand.pop();
            } else {
                self.next_arrival = next + (pause * self.draw.exponential()) as u64;
                self.queue.push_back(next);
            }
            self.feed(next);
        }
        self.note(end);
        self.now = end;
    }

    fn running(&self) -> u32 {
        self.in_hand.len() as u32
    }

    fn note(&mut self, now: u64) {
        let (passed, running) = (now - self.noted_at, u64::from(self.running()));
        self.busy += passed * running;
        // A worker that has to go finishes what it has: for that long there are more than are wanted.
        self.offered += passed * u64::from(self.workers).max(running);
        self.noted_at = now;
    }

    fn feed(&mut self, now: u64) {
        while self.running() < self.workers {
            let Some(came) = self.queue.pop_front() else { return };
            let work = self.model.service.as_secs_f64() * self.draw.lognormal(self.model.cv);
            let done = now + (work * SECOND as f64) as u64;
            self.in_hand.push(Reverse(done));
            let in_time = u128::from(done - came) <= self.model.deadline.as_nanos();
            self.in_time += u64::from(in_time);
            self.late += u64::from(!in_time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_as_busy_as_its_work_says_and_without_workers_all_wait() {
        let mut pool = Pool::new(1, 10);
        pool.pass(5.0, 60 * SECOND, None);
        let utilization = pool.busy as f64 / pool.offered as f64;
        assert!((0.45..0.55).contains(&utilization), "{utilization}");
        assert!(pool.late * 100 < pool.in_time, "{} of {}", pool.late, pool.in_time);
        pool.set_workers(0);
        pool.pass(5.0, 10 * SECOND, None);
        assert!((1_000..1_400).contains(&pool.load().queued), "{:?}", pool.load());
    }
}
