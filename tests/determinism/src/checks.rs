//! What must hold of every run, whatever was killed in it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use gemba::receipt::{Event, Receipt};
use gemba::view::{ActorState, ActorView, BoardView, LineView, PoolView};

use crate::log::{Answer, Entry, Fact};
use crate::works::LINES;

/// How much longer than its deadline a signal may take: the grace of its answer and the look at the queue.
const LATE_MAX: Duration = Duration::from_millis(350);

/// The part of the tree that is there in every run, in the order of the starts; pools and their workers aside.
const TREE: [&str; 24] = [
    "/ one_for_one",
    "/journal",
    "/lab one_for_one",
    "/lab/one one_for_one",
    "/lab/one/a",
    "/lab/one/b",
    "/lab/one/c",
    "/lab/all one_for_all",
    "/lab/all/a",
    "/lab/all/b",
    "/lab/all/c",
    "/lab/rest rest_for_one",
    "/lab/rest/a",
    "/lab/rest/b",
    "/lab/rest/c",
    "/lab/crowd dynamic",
    "/plant one_for_all",
    "/plant/board",
    "/plant/regulator",
    "/plant/pools one_for_one",
    "/plant/balancer",
    "/plant/burst",
    "/plant/kaizen",
    "/plant/health",
];

/// What is known of one signal.
#[derive(Debug, Default)]
struct Signal {
    line: &'static str,
    at: Duration,
    deadline: Duration,
    begun: u32,
    ended: u32,
    answers: Vec<Answer>,
    withdrawn: bool,
}

/// How often things happened.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub signals: u64,
    pub done: u64,
}

/// Collects what does not hold.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub Vec<String>);

impl Faults {
    pub(crate) fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }
}

/// Every signal has exactly one answer, in time, and the answer says what happened. Counts of the lines agree.
pub(crate) fn signals(log: &[Entry], board: &BoardView, faults: &mut Faults) -> Counts {
    let mut all: BTreeMap<u64, Signal> = BTreeMap::new();
    for Entry { at, fact, text } in log {
        match *fact {
            Fact::Submitted(number, line, deadline) => {
                all.insert(number, Signal { line, at: *at, deadline, ..Signal::default() });
            }
            Fact::Begun(number) => all.entry(number).or_default().begun += 1,
            Fact::Ended(number) => all.entry(number).or_default().ended += 1,
            Fact::Withdrawn(number) => all.entry(number).or_default().withdrawn = true,
            Fact::Answered(number, answer) => {
                let signal = all.entry(number).or_default();
                signal.answers.push(answer);
                let took = at.saturating_sub(signal.at);
                faults.check(took <= signal.deadline + LATE_MAX, || {
                    format!("{number} is answered after {took:?}")
                });
            }
            Fact::Plain | Fact::Born(..) | Fact::Dead(..) | Fact::Receipt(_) => {}
        }
        faults.check(!text.contains("FAULT"), || text.clone());
    }
    for (number, signal) in &all {
        let Signal { begun, ended, answers, withdrawn, .. } = signal;
        let is_sound = match answers[..] {
            [] => *withdrawn && *begun <= 1,
            [Answer::Done] => (*begun, *ended) == (1, 1),
            [Answer::Failed] => (*begun, *ended) == (1, 0),
            [Answer::Died | Answer::TimedOut] => *begun == 1,
            [Answer::Refused | Answer::Rejected] => *begun == 0,
            [_, _, ..] => false,
        };
        faults.check(is_sound, || format!("{number}: {signal:?}"));
    }
    for line in &board.lines {
        let mine: Vec<_> = all.values().filter(|signal| line.name.as_str() == signal.line).collect();
        let of = |wanted: Answer| mine.iter().filter(|signal| signal.answers == [wanted]).count() as u64;
        let left = mine.iter().filter(|signal| signal.withdrawn).count() as u64;
        let LineView { arrived, refused, rejected, succeeded, failed, timed_out, cancelled, .. } = *line;
        let shown = [arrived, refused, rejected, succeeded, failed, timed_out, cancelled];
        let told = [
            mine.len() as u64,
            of(Answer::Refused),
            of(Answer::Rejected),
            of(Answer::Done),
            of(Answer::Failed) + of(Answer::Died),
            of(Answer::TimedOut),
            left,
        ];
        faults.check(shown == told && line.in_flight == 0, || format!("{line:?}, and callers say {told:?}"));
    }
    let done = all.values().filter(|signal| signal.answers == [Answer::Done]).count() as u64;
    Counts { signals: all.len() as u64, done }
}

/// No two lives are at one place at once, and at the end none is left.
pub(crate) fn lives(log: &[Entry], faults: &mut Faults) {
    let mut alive: BTreeMap<&str, u64> = BTreeMap::new();
    for Entry { fact, .. } in log {
        match fact {
            Fact::Born(path, incarnation) => {
                let before = alive.insert(path, *incarnation);
                faults.check(before.is_none(), || format!("{path} lives as {before:?} and as {incarnation}"));
            }
            Fact::Dead(path, incarnation) => {
                let before = alive.remove(path.as_str());
                faults.check(before == Some(*incarnation), || {
                    format!("{path} was {incarnation}, not {before:?}")
                });
            }
            _ => {}
        }
    }
    faults.check(alive.is_empty(), || format!("still alive: {alive:?}"));
}

/// Receipts are numbered without a gap, in the order of their times, and name earlier causes.
pub(crate) fn receipts(all: &[Arc<Receipt>], faults: &mut Faults) {
    let mut at = None;
    for (place, receipt) in all.iter().enumerate() {
        faults.check(receipt.seq.0 == place as u64 + 1, || format!("{receipt:?} is number {}", place + 1));
        faults.check(receipt.cause.is_none_or(|cause| cause < receipt.seq), || format!("{receipt:?}"));
        faults.check(at <= Some(receipt.at), || format!("{receipt:?} is older than the one before"));
        at = Some(receipt.at);
        if let Event::ChildRestarted { .. } = receipt.event {
            faults.check(receipt.cause.is_some(), || format!("{receipt:?} has no cause"));
        }
    }
}

/// Whether every place of the tree that is there in every run is taken, and every supervisor runs.
pub(crate) fn is_whole(root: &ActorView, board: &BoardView) -> bool {
    let mut wanted = String::new();
    for path in TREE {
        let _ = writeln!(wanted, "{path}");
        if path == "/plant/pools one_for_one" {
            for pool in LINES {
                let path = format!("/plant/pools/{pool}");
                let _ = writeln!(wanted, "{path} rest_for_one\n{path}/workers dynamic\n{path}/dispatcher");
            }
        }
    }
    let is_extra = |actor: &&ActorView| {
        let path = actor.path.as_str();
        let name = actor.path.name();
        path.contains("/workers/")
            || path.starts_with("/lab/crowd/")
            || name == "d"
            || name.starts_with("new-")
    };
    let mut found = String::new();
    for actor in root.iter().filter(|actor| !is_extra(actor)) {
        let _ = match actor.strategy {
            Some(strategy) => writeln!(found, "{} {strategy}", actor.path),
            None => writeln!(found, "{}", actor.path),
        };
    }
    let is_staffed = |pool: &PoolView| {
        let path = format!("/plant/pools/{}/workers/", pool.name);
        let there = root.iter().filter(|actor| actor.path.as_str().starts_with(&path) && is_running(actor));
        there.count() as u32 == pool.workers && pool.workers_min <= pool.workers
    };
    let is_there = |actor: &ActorView| is_extra(&actor) || is_running(actor);
    found == wanted && root.iter().all(is_there) && board.pools.iter().all(is_staffed)
}

fn is_running(actor: &ActorView) -> bool {
    actor.state == ActorState::Running
}

/// When a node stops, siblings end in the reverse order of their starts.
pub(crate) fn ends(root: &ActorView, all: &[Arc<Receipt>], faults: &mut Faults) {
    let stopping = all.iter().position(|receipt| matches!(receipt.event, Event::NodeStopping { .. }));
    let after = &all[stopping.unwrap_or(all.len())..];
    let ended = |path: &str| {
        let mut found = after.iter().filter(|receipt| receipt.path.as_str() == path);
        found.find(|receipt| matches!(receipt.event, Event::ChildExited { .. })).map(|receipt| receipt.seq)
    };
    let ordered = ["one_for_one", "one_for_all", "rest_for_one"];
    for supervisor in root.iter() {
        let strategy = supervisor.strategy.map(|strategy| strategy.to_string()).unwrap_or_default();
        if !ordered.contains(&strategy.as_str()) {
            continue;
        }
        let running = supervisor.children.iter().filter(|child| is_running(child));
        let order: Vec<_> = running.map(|child| (ended(child.path.as_str()), &child.path)).collect();
        for pair in order.windows(2) {
            faults.check(pair[0].0.is_some() && pair[1].0 < pair[0].0, || {
                format!("ends out of order: {pair:?}")
            });
        }
    }
}
