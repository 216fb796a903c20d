//! Our trace, from what the children have written and what the journal holds.

use std::collections::HashMap;
use std::sync::Arc;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event as Told, Receipt};

use crate::child::PLAINLY;
use crate::lab::{Entry, Lab};
use crate::model::Scenario;
use crate::trace::{Event, Section, Trace};

/// Puts the log and the journal together: a receipt stands before the first report that knew its number.
pub(super) fn merge(scenario: &Scenario, lab: &Lab, receipts: &[Arc<Receipt>]) -> Trace {
    let log = lab.log();
    let gone: Vec<Incarnation> = log
        .iter()
        .filter_map(|(_, entry)| match entry {
            Entry::Gone { incarnation, .. } => Some(*incarnation),
            _ => None,
        })
        .collect();
    let mut reasons = HashMap::new();
    for receipt in receipts {
        if let Told::ChildExited { incarnation, reason } = &receipt.event {
            reasons.insert(*incarnation, reason.clone());
        }
    }
    let killed = killed_below(receipts);
    let mut sections: Vec<Section> = Vec::new();
    let mut from_receipts = FromReceipts::default();
    let mut receipts = receipts.iter().peekable();
    for (seq, entry) in &log {
        while let Some(receipt) = receipts.next_if(|receipt| receipt.seq <= *seq) {
            if let Some(section) = sections.last_mut() {
                section.events.extend(from_receipts.read(scenario, lab, receipt, &gone));
            }
        }
        match entry {
            Entry::Section(at, verdict) => sections.push(Section::new(*at, verdict.clone())),
            Entry::Settled { busy, snapshot } => {
                let section = sections.last_mut().expect("a section comes first");
                section.busy = *busy;
                section.snapshot = snapshot.iter().cloned().collect();
            }
            Entry::Event(event) => {
                sections.last_mut().expect("a section comes first").events.push(event.clone());
            }
            Entry::Gone { id, incarnation } => {
                let life = lab.life(*incarnation);
                let n = match from_receipts.tasks.get(incarnation) {
                    Some((_, n)) => *n,
                    None => life.as_ref().map_or(0, |life| life.n),
                };
                let obeyed = life.is_some_and(|life| life.obeyed_normally);
                let reason = match reasons.get(incarnation) {
                    Some(ExitReason::Shutdown) if obeyed => "normal".to_owned(),
                    Some(reason) => told_reason(reason),
                    None if killed.contains(incarnation) => "killed".to_owned(),
                    None => "(no receipt)".to_owned(),
                };
                let event = Event::Terminated(id.clone(), n, reason);
                sections.last_mut().expect("a section comes first").events.push(event);
            }
            Entry::Answer { asked, answer } => {
                let section = sections.last_mut().expect("a section comes first");
                section.answers.insert(asked.clone(), answer.clone());
            }
        }
    }
    if let Some(section) = sections.last_mut() {
        for receipt in receipts {
            section.events.extend(from_receipts.read(scenario, lab, receipt, &gone));
        }
    }
    Trace(sections)
}

/// Lives whose supervisor was killed: it is gone with them, so nobody but the parent leaves a receipt.
fn killed_below(receipts: &[Arc<Receipt>]) -> Vec<Incarnation> {
    let mut lives: HashMap<&ActorPath, Incarnation> = HashMap::new();
    let mut killed = Vec::new();
    for receipt in receipts {
        match &receipt.event {
            Told::ChildStarted { incarnation } | Told::ChildRestarted { incarnation, .. } => {
                lives.insert(&receipt.path, *incarnation);
            }
            Told::ChildExited { reason: ExitReason::Killed, .. } => {
                let below = lives.iter().filter(|(path, _)| path.is_within(&receipt.path));
                killed.extend(below.map(|(_, incarnation)| *incarnation));
                lives.retain(|path, _| !path.is_within(&receipt.path));
            }
            Told::ChildExited { .. } => {
                lives.remove(&receipt.path);
            }
            _ => {}
        }
    }
    killed
}

/// What only supervisors tell: the lives of supervisors and of tasks.
#[derive(Debug, Default)]
struct FromReceipts {
    /// Lives of tasks: the id, and the how-manieth life.
    tasks: HashMap<Incarnation, (String, u32)>,
    starts: HashMap<String, u32>,
}

impl FromReceipts {
    fn read(
        &mut self,
        scenario: &Scenario,
        lab: &Lab,
        receipt: &Receipt,
        gone: &[Incarnation],
    ) -> Vec<Event> {
        let name = receipt.path.name().to_owned();
        let top = receipt.path.as_str() == "/lab/top";
        if !receipt.path.as_str().starts_with("/lab/top") {
            return Vec::new();
        }
        let supervises =
            top || scenario.children().iter().any(|child| child.id == name && child.below.is_some());
        match &receipt.event {
            Told::ChildStarted { .. } | Told::ChildRestarted { .. } if top => Vec::new(),
            Told::ChildStarted { .. } | Told::ChildRestarted { .. } if supervises => {
                vec![Event::Started(name, 0)]
            }
            Told::ChildStarted { incarnation } | Told::ChildRestarted { incarnation, .. } => {
                if lab.is_server(*incarnation) {
                    return Vec::new();
                }
                let n = self.starts.entry(name.clone()).or_default();
                *n += 1;
                self.tasks.insert(*incarnation, (name.clone(), *n));
                vec![Event::Init(name.clone(), *n), Event::Started(name, *n)]
            }
            Told::ChildExited { reason, .. } if supervises => {
                vec![Event::Terminated(name, 0, told_reason(reason))]
            }
            Told::ChildExited { incarnation, reason } => match self.tasks.get(incarnation) {
                // It was stopped before it had done anything.
                Some((id, n)) if !gone.contains(incarnation) => {
                    vec![Event::Terminated(id.clone(), *n, told_reason(reason))]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
}

fn told_reason(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Normal => "normal",
        ExitReason::Shutdown => "shutdown",
        ExitReason::ShutdownWith { why } if &**why == PLAINLY => "shutdown",
        ExitReason::ShutdownWith { .. } => "shutdown_with",
        ExitReason::Error { .. } => "error",
        ExitReason::Panic { .. } => "panic",
        ExitReason::Killed => "killed",
        other => return other.to_string(),
    }
    .to_owned()
}
