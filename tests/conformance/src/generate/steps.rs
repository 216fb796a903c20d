//! The steps of a scenario.

use std::collections::HashMap;

use gemba_core::supervision::Strategy;

use super::{starts, worker};
use crate::model::{Child, How, Step, Sup, TOP};
use crate::rng::Rng;

/// Makes the steps, and remembers which ids there are.
pub(super) struct Steps<'a> {
    top: &'a Sup,
    /// Workers, with the supervisor they stand under.
    workers: Vec<(String, String)>,
    nested: Vec<String>,
    fresh: usize,
    /// Whether an id is that of a task.
    tasks: HashMap<String, bool>,
}

#[derive(Clone, Copy)]
enum Kind {
    End,
    Kill,
    Both,
    Start,
    Terminate,
    Restart,
    Delete,
    Ask,
    Noise,
    KillSup,
    Release,
    Shutdown,
}

impl<'a> Steps<'a> {
    pub(super) fn new(top: &'a Sup) -> Self {
        let mut steps =
            Self { top, workers: Vec::new(), nested: Vec::new(), fresh: 0, tasks: HashMap::new() };
        if top.strategy == Strategy::Dynamic {
            return steps;
        }
        for child in &top.children {
            match &child.below {
                None => {
                    steps.tasks.insert(child.id.clone(), child.is_task());
                    steps.workers.push((child.id.clone(), TOP.to_owned()));
                }
                Some(below) => {
                    steps.nested.push(child.id.clone());
                    let tasks = below.children.iter().map(|below| (below.id.clone(), below.is_task()));
                    steps.tasks.extend(tasks);
                    let below = below.children.iter().map(|below| (below.id.clone(), child.id.clone()));
                    steps.workers.extend(below);
                }
            }
        }
        steps
    }

    pub(super) fn make(mut self, rng: &mut Rng) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.top.strategy == Strategy::Dynamic {
            for _ in 0..=rng.below(4) {
                steps.push(self.start_child(rng));
            }
        }
        for _ in 0..2 + rng.below(13) {
            let step = self.step(rng);
            let about = match &step {
                Step::End { id, .. }
                | Step::EndBoth { first: (id, _), .. }
                | Step::Terminate { id, .. }
                | Step::Restart { id, .. } => Some(id.clone()),
                Step::StartChild { child, .. } => Some(child.id.clone()),
                _ => None,
            };
            steps.push(step);
            // It may hang just then: requests about it are the ones that matter.
            if let Some(id) = about.filter(|_| rng.percent(20)) {
                steps.push(self.request_about(rng, &id));
            }
        }
        steps
    }

    fn step(&mut self, rng: &mut Rng) -> Step {
        let kind = rng.weighted(&[
            (35, Kind::End),
            (8, Kind::Kill),
            (7, Kind::Both),
            (10, Kind::Start),
            (9, Kind::Terminate),
            (8, Kind::Restart),
            (5, Kind::Delete),
            (4, Kind::Ask),
            (1, Kind::Noise),
            (if self.nested.is_empty() { 0 } else { 4 }, Kind::KillSup),
            (14, Kind::Release),
            (1, Kind::Shutdown),
        ]);
        match kind {
            Kind::End => Step::End { id: self.worker(rng).0, how: ending(rng) },
            Kind::Kill => Step::End { id: self.worker(rng).0, how: How::Kill },
            Kind::Both => self.both(rng),
            Kind::Start => self.start_child(rng),
            Kind::Terminate => {
                let (id, sup) = self.child(rng);
                Step::Terminate { sup, id }
            }
            Kind::Restart => {
                let (id, sup) = self.child(rng);
                Step::Restart { sup, id }
            }
            Kind::Delete => {
                let (id, sup) = self.child(rng);
                Step::Delete { sup, id }
            }
            Kind::Ask => {
                let (id, sup) = self.child(rng);
                match rng.below(3) {
                    0 => Step::Which { sup },
                    1 => Step::Count { sup },
                    _ => Step::Spec { sup, id },
                }
            }
            Kind::Noise => Step::Noise { sup: self.child(rng).1 },
            Kind::KillSup => Step::KillSup { id: self.nested[rng.below(self.nested.len())].clone() },
            Kind::Release => Step::Release { nth: rng.below(3) as u32 },
            Kind::Shutdown => Step::Shutdown,
        }
    }

    fn request_about(&mut self, rng: &mut Rng, id: &str) -> Step {
        let found = self.workers.iter().find(|(worker, _)| worker == id);
        let (sup, id) = (found.map_or_else(|| TOP.to_owned(), |(_, sup)| sup.clone()), id.to_owned());
        match rng.weighted(&[
            (50, Kind::Terminate),
            (25, Kind::Restart),
            (10, Kind::Delete),
            (15, Kind::Start),
        ]) {
            Kind::Terminate => Step::Terminate { sup, id },
            Kind::Delete => Step::Delete { sup, id },
            Kind::Start if found.is_some() && self.top.strategy != Strategy::Dynamic => {
                self.start_child_at(rng, sup, id)
            }
            _ => Step::Restart { sup, id },
        }
    }

    fn worker(&self, rng: &mut Rng) -> (String, String) {
        if self.workers.is_empty() {
            return ("none".to_owned(), TOP.to_owned());
        }
        self.workers[rng.below(self.workers.len())].clone()
    }

    /// A child to ask a supervisor about: a worker, a nested supervisor, now and then nobody.
    fn child(&self, rng: &mut Rng) -> (String, String) {
        if rng.percent(3) {
            return ("none".to_owned(), TOP.to_owned());
        }
        if !self.nested.is_empty() && rng.percent(25) {
            return (self.nested[rng.below(self.nested.len())].clone(), TOP.to_owned());
        }
        self.worker(rng)
    }

    fn both(&self, rng: &mut Rng) -> Step {
        let (first, sup) = self.worker(rng);
        let siblings: Vec<_> = self.workers.iter().filter(|(id, of)| *of == sup && *id != first).collect();
        let how = |rng: &mut Rng| if rng.percent(20) { How::Kill } else { ending(rng) };
        if siblings.is_empty() {
            return Step::End { id: first, how: how(rng) };
        }
        let second = siblings[rng.below(siblings.len())].0.clone();
        Step::EndBoth { first: (first, how(rng)), second: (second, how(rng)) }
    }

    fn start_child(&mut self, rng: &mut Rng) -> Step {
        if self.top.strategy == Strategy::Dynamic {
            self.fresh += 1;
            let template = &self.top.children[0];
            let id = format!("n{}", self.fresh);
            let starts = if template.is_task() { Vec::new() } else { starts(rng, template.shutdown, true) };
            let child = Child { id: id.clone(), starts, ..template.clone() };
            self.workers.push((id, TOP.to_owned()));
            return Step::StartChild { sup: TOP.to_owned(), child };
        }
        let (id, sup) = if self.workers.is_empty() || rng.percent(50) {
            self.fresh += 1;
            let nested = !self.nested.is_empty() && rng.percent(20);
            let sup = if nested { self.nested[rng.below(self.nested.len())].clone() } else { TOP.to_owned() };
            let id = format!("n{}", self.fresh);
            self.workers.push((id.clone(), sup.clone()));
            (id, sup)
        } else {
            self.worker(rng)
        };
        self.start_child_at(rng, sup, id)
    }

    fn start_child_at(&mut self, rng: &mut Rng, sup: String, id: String) -> Step {
        let nested =
            self.top.children.iter().find(|child| child.id == sup).and_then(|child| child.below.as_ref());
        let auto_shutdown = nested.unwrap_or(self.top).auto_shutdown;
        let mut child = worker(rng, &id, auto_shutdown, false);
        // The lives of an id are those of a server or of a task.
        let before = self.tasks.get(&id).copied().unwrap_or(child.is_task());
        while child.is_task() != before {
            child = worker(rng, &id, auto_shutdown, false);
        }
        self.tasks.insert(id, before);
        if rng.percent(5) {
            // Refused, unless it is neither permanent nor of no significance here.
            child.significant = true;
        }
        Step::StartChild { sup, child }
    }
}

fn ending(rng: &mut Rng) -> How {
    rng.weighted(&[
        (15, How::Normal),
        (10, How::Shutdown),
        (10, How::ShutdownWith),
        (40, How::Error),
        (25, How::Panic),
    ])
}
