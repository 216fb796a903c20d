//! Scenarios from a seed.

use std::collections::HashMap;
use std::time::Duration;

use gemba_core::supervision::{AutoShutdown, Restart, Strategy};
use gemba_kernel::Shutdown;

use crate::model::{Child, How, OnStop, Outcome, Scenario, Start, Step, Sup, TOP};

/// A period that no scenario outlives.
const LONG_S: u32 = 3600;

/// A shutdown time that no child uses up.
const AMPLE: Duration = Duration::from_secs(60);

/// Random numbers that are the same everywhere (`SplitMix64`).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    /// One of these, as often as its weight says.
    fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.next() % total;
        for &(weight, choice) in choices {
            if at < weight {
                return choice;
            }
            at -= weight;
        }
        choices[0].1
    }
}

/// The scenario of a seed: always the same.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    if rng.percent(1) {
        return window(seed, &mut rng);
    }
    let top = top(&mut rng);
    let steps = Steps::new(&top).make(&mut rng);
    Scenario { seed, top, steps }
}

/// Real time: the restarts before a wait of more than two periods no longer count after it.
fn window(seed: u64, rng: &mut Rng) -> Scenario {
    let intensity = 1 + rng.below(2) as u32;
    let strategy =
        rng.weighted(&[(1, Strategy::OneForOne), (1, Strategy::OneForAll), (1, Strategy::RestForOne)]);
    let children = ["a", "b"].map(plain).into();
    let top = Sup { strategy, intensity, period_s: 1, auto_shutdown: AutoShutdown::Never, children };
    let mut steps = Vec::new();
    for _ in 0..2 + rng.below(2) {
        for _ in 0..rng.below(intensity as usize + 1) {
            let id = if rng.percent(50) { "a" } else { "b" }.to_owned();
            steps.push(Step::End { id, how: How::Error });
        }
        steps.push(Step::Wait(Duration::from_millis(2300)));
    }
    for _ in 0..rng.below(intensity as usize + 2) {
        steps.push(Step::End { id: "a".to_owned(), how: How::Panic });
    }
    Scenario { seed, top, steps }
}

fn plain(id: &str) -> Child {
    Child {
        id: id.to_owned(),
        restart: Restart::Permanent,
        significant: false,
        shutdown: Shutdown::Within(AMPLE),
        on_stop: OnStop::Shutdown,
        starts: Vec::new(),
        below: None,
    }
}

fn intensity(rng: &mut Rng) -> u32 {
    rng.weighted(&[(10, 0), (20, 1), (20, 2), (20, 3), (15, 4), (15, 5)])
}

fn auto_shutdown(rng: &mut Rng, dynamic: bool) -> AutoShutdown {
    let all = if dynamic { 0 } else { 25 };
    rng.weighted(&[
        (50, AutoShutdown::Never),
        (25, AutoShutdown::AnySignificant),
        (all, AutoShutdown::AllSignificant),
    ])
}

fn top(rng: &mut Rng) -> Sup {
    let strategy = rng.weighted(&[
        (35, Strategy::OneForOne),
        (25, Strategy::OneForAll),
        (25, Strategy::RestForOne),
        (15, Strategy::Dynamic),
    ]);
    let dynamic = strategy == Strategy::Dynamic;
    let auto_shutdown = auto_shutdown(rng, dynamic);
    let mut sup =
        Sup { strategy, intensity: intensity(rng), period_s: LONG_S, auto_shutdown, children: Vec::new() };
    let count = if dynamic { 1 } else { rng.below(7) };
    for id in ["a", "b", "c", "d", "e", "f"].iter().take(count) {
        let nested = !dynamic && rng.percent(15);
        let child =
            if nested { nest(rng, id, auto_shutdown) } else { worker(rng, id, auto_shutdown, dynamic) };
        sup.children.push(child);
    }
    if sup.children.len() > 1 && rng.percent(1) {
        let twice = sup.children[0].id.clone();
        sup.children.last_mut().expect("there are two").id = twice;
    }
    sup
}

fn restart(rng: &mut Rng) -> Restart {
    rng.weighted(&[(45, Restart::Permanent), (35, Restart::Transient), (20, Restart::Temporary)])
}

/// Whether a child is significant; unless it has to be `valid`, now and then where that is refused.
fn significant(rng: &mut Rng, restart: Restart, auto_shutdown: AutoShutdown, valid: bool) -> bool {
    let allowed = restart != Restart::Permanent && auto_shutdown != AutoShutdown::Never;
    if allowed { rng.percent(40) } else { !valid && rng.percent(1) }
}

fn nest(rng: &mut Rng, id: &str, above: AutoShutdown) -> Child {
    let strategy =
        rng.weighted(&[(40, Strategy::OneForOne), (30, Strategy::OneForAll), (30, Strategy::RestForOne)]);
    let auto_shutdown = auto_shutdown(rng, false);
    let mut sup =
        Sup { strategy, intensity: intensity(rng), period_s: LONG_S, auto_shutdown, children: Vec::new() };
    for n in 1..=1 + rng.below(3) {
        let mut child = worker(rng, &format!("{id}.{n}"), auto_shutdown, false);
        // A fault in the spec of a nested supervisor is found when it starts in OTP, and before in ours.
        if child.significant && (child.restart == Restart::Permanent || auto_shutdown == AutoShutdown::Never)
        {
            child.significant = false;
        }
        sup.children.push(child);
    }
    let restart = restart(rng);
    let significant = significant(rng, restart, above, false);
    let shutdown = Shutdown::Infinity;
    let id = id.to_owned();
    Child {
        id,
        restart,
        significant,
        shutdown,
        on_stop: OnStop::Shutdown,
        starts: Vec::new(),
        below: Some(sup),
    }
}

/// A child without children. The rules of a dynamic supervisor's are valid: OTP checks its template when the
/// supervisor starts, and ours each child when it is added.
fn worker(rng: &mut Rng, id: &str, auto_shutdown: AutoShutdown, dynamic: bool) -> Child {
    let restart = restart(rng);
    let on_stop = rng.weighted(&[
        (55, OnStop::Shutdown),
        (6, OnStop::Normal),
        (6, OnStop::ShutdownWith),
        (6, OnStop::Error),
        (6, OnStop::Panic),
        (6, OnStop::Ignore),
        (15, OnStop::Hang),
    ]);
    let ample = Shutdown::Within(AMPLE);
    let shutdown = match on_stop {
        OnStop::Hang => rng.weighted(&[(1, ample), (1, Shutdown::Infinity)]),
        OnStop::Ignore => {
            let short = Shutdown::Within(Duration::from_millis(20 + rng.next() % 21));
            rng.weighted(&[(3, short), (1, Shutdown::Brutal)])
        }
        _ => rng.weighted(&[(20, Shutdown::Brutal), (50, ample), (30, Shutdown::Infinity)]),
    };
    let significant = significant(rng, restart, auto_shutdown, dynamic);
    let mut child =
        Child { id: id.to_owned(), restart, significant, shutdown, on_stop, starts: Vec::new(), below: None };
    if !child.is_task() {
        child.starts = starts(rng, shutdown, dynamic);
    }
    child
}

fn starts(rng: &mut Rng, shutdown: Shutdown, dynamic: bool) -> Vec<Start> {
    // OTP waits for a start as long as it takes; a start of ours that is to be stopped has the child's
    // shutdown time. So one that hangs is given ample time.
    let may_hang = match shutdown {
        Shutdown::Brutal => false,
        Shutdown::Within(limit) => limit >= AMPLE,
        Shutdown::Infinity => true,
    };
    let count = rng.weighted(&[(40, 0), (20, 2), (20, 3), (20, 5)]);
    (1..=count)
        .map(|n| {
            let (ok, ignore, error, panic, hang) = if n == 1 { (92, 3, 2, 1, 2) } else { (60, 8, 12, 5, 15) };
            // OTP 25 keeps a phantom of a dynamic child that declines its restart.
            let ignore = if dynamic && n > 1 { 0 } else { ignore };
            let hangs = rng.next() % (ok + ignore + error + panic + hang) < hang && may_hang;
            let then = if hangs {
                let ignore = u64::from(!dynamic || n == 1);
                rng.weighted(&[
                    (6, Outcome::Ok),
                    (2, Outcome::Error),
                    (ignore, Outcome::Ignore),
                    (1, Outcome::Panic),
                ])
            } else {
                rng.weighted(&[
                    (ok, Outcome::Ok),
                    (ignore, Outcome::Ignore),
                    (error, Outcome::Error),
                    (panic, Outcome::Panic),
                ])
            };
            Start { hangs, then }
        })
        .collect()
}

/// Makes the steps, and remembers which ids there are.
struct Steps<'a> {
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
    fn new(top: &'a Sup) -> Self {
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

    fn make(mut self, rng: &mut Rng) -> Vec<Step> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_scenario() {
        for seed in 0..500 {
            assert_eq!(scenario(seed), scenario(seed));
        }
        assert_ne!(scenario(1), scenario(2));
    }

    #[test]
    fn every_kind_of_step_and_child_comes_up() {
        let all: String = (0..2000).map(|seed| scenario(seed).to_string()).collect();
        for word in [
            "one_for_one",
            "one_for_all",
            "rest_for_one",
            "dynamic",
            "significant",
            "Brutal",
            "Infinity",
            "hang-then-",
            "Ignore",
            "Panic",
            "supervises",
            "start_child",
            "terminate_child",
            "restart_child",
            "delete_child",
            "which_children",
            "count_children",
            "get_childspec",
            "is killed",
            "released",
            "shuts top down",
            "at once",
            "unknown message",
            "pass",
        ] {
            assert!(all.contains(word), "{word}");
        }
    }
}
