//! Plays a scenario on our kernel, under a paused clock.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event as Told, Receipt, Seq};
use gemba_core::supervision::{ChildCounts, ChildStatus, GiveUp};
use gemba_core::view::ActorKind;
use gemba_kernel::{ChildError, ChildInfo, ChildSpec, DynamicRef, Node, Started, Supervisor, SupervisorRef};
use tokio::task::yield_now;
use tokio::time::advance;

use crate::child::{self, Handles, PLAINLY};
use crate::lab::{Entry, Lab};
use crate::model::{Child, How, Scenario, Step, TOP};
use crate::trace::{At, Event, Section, Trace, Verdict};

/// Turns of the scheduler without a report after which nothing moves any more.
const STILL: usize = 48;

/// Rounds after which a scenario that never comes to rest is left as it is.
const ROUNDS_MAX: usize = 2000;

/// More than any child has that ignores its stop.
const TICK: Duration = Duration::from_millis(45);

/// Plays the steps that Erlang played, and tells what was seen here.
pub(crate) fn play(scenario: &Scenario, otp: &Trace) -> Trace {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread needs nothing that could fail");
    let trace = runtime.block_on(async {
        let node = Node::builder("conformance");
        let lab = Supervisor::dynamic("lab");
        let door = lab.handle();
        let node = node.child(lab).start().await.expect("an empty tree starts");
        let player = Player::new(scenario, &node, door);
        player.play(otp).await
    });
    runtime.shutdown_background();
    trace
}

/// A handle to the supervisor at the top.
#[derive(Clone)]
enum Top {
    Static(SupervisorRef),
    Dynamic(DynamicRef),
}

struct Player<'a> {
    scenario: &'a Scenario,
    node: &'a Node,
    lab: Arc<Lab>,
    door: DynamicRef,
    top: Top,
    nested: Handles,
    spec: Option<ChildSpec>,
}

type Asked = Pin<Box<dyn Future<Output = String> + Send>>;

impl<'a> Player<'a> {
    fn new(scenario: &'a Scenario, node: &'a Node, door: DynamicRef) -> Self {
        let lab = Lab::new(node.system());
        let mut nested = Vec::new();
        let sup = &scenario.top;
        let (top, spec): (Top, ChildSpec) = if scenario.is_dynamic() {
            let supervisor = Supervisor::dynamic("top")
                .intensity(sup.intensity, Duration::from_secs(u64::from(sup.period_s)))
                .auto_shutdown(sup.auto_shutdown)
                .give_up(GiveUp::Cleanly)
                .temporary();
            (Top::Dynamic(supervisor.handle()), supervisor.into())
        } else {
            let supervisor = child::supervisor(&lab, "top", sup, &mut nested).temporary();
            (Top::Static(supervisor.handle()), supervisor.into())
        };
        Self { scenario, node, lab, door, top, nested, spec: Some(spec) }
    }

    async fn play(mut self, otp: &Trace) -> Trace {
        for section in &otp.0 {
            self.lab.write(Entry::Section(section.at, section.verdict.clone()));
            if section.verdict != Verdict::Skipped {
                self.perform(section).await;
                self.settle().await;
            }
            if !section.busy {
                for id in self.lab.never_hung() {
                    self.odd("released, but never hung:", &id);
                }
            }
            let busy = !self.lab.hanging().is_empty();
            let snapshot = if section.snapshot.is_empty() { Vec::new() } else { self.snapshot().await };
            self.lab.write(Entry::Settled { busy, snapshot });
        }
        let receipts = self.node.system().journal().after(Seq(0), None, usize::MAX).receipts;
        merge(self.scenario, &self.lab, &receipts)
    }

    async fn perform(&mut self, section: &Section) {
        match (section.at, &section.verdict) {
            (_, Verdict::Released(id)) => self.lab.release(id),
            (At::Start, _) => {
                let (door, spec) = (self.door.clone(), self.spec.take().expect("a scenario starts once"));
                self.ask("start", Box::pin(async move { started(door.start_child(spec).await) }));
            }
            (At::End, _) => self.shutdown(),
            (At::Step(index), _) => {
                let step = &self.scenario.steps[index];
                match step {
                    Step::End { id, how } => self.end(id, *how),
                    Step::EndBoth { first, second } => {
                        self.end(&first.0, first.1);
                        self.end(&second.0, second.1);
                    }
                    Step::Wait(time) => advance(*time).await,
                    Step::Shutdown => self.shutdown(),
                    Step::KillSup { id } => {
                        let path = format!("/lab/top/{id}");
                        self.kill(&path, id);
                    }
                    // Who is not typed as a message of ours cannot be sent.
                    Step::Noise { .. } | Step::Release { .. } => {}
                    _ => {
                        let asked = self.request(step);
                        self.ask(&index.to_string(), asked);
                    }
                }
            }
        }
    }

    fn odd(&self, what: &str, id: &str) {
        self.lab.write(Entry::Event(Event::Terminated(id.to_owned(), 0, format!("({what} {id})"))));
    }

    fn end(&self, id: &str, how: How) {
        if how == How::Kill {
            let path = self.path_of(id);
            self.kill(&path, id);
        } else if !self.lab.end(id, how) {
            self.odd("nobody lives as", id);
        }
    }

    fn kill(&self, path: &str, id: &str) {
        let path: ActorPath = path.parse().expect("ids are names");
        if self.node.system().kill(&path, "a step").is_err() {
            self.odd("nobody to kill as", id);
        }
    }

    fn path_of(&self, id: &str) -> String {
        let below = |child: &&Child| {
            child.below.as_ref().is_some_and(|below| below.children.iter().any(|below| below.id == id))
        };
        let nested = self.scenario.top.children.iter().find(below).map(|child| child.id.as_str());
        let added = self.scenario.steps.iter().find_map(|step| match step {
            Step::StartChild { sup, child } if child.id == id && sup != TOP => Some(sup.as_str()),
            _ => None,
        });
        match nested.or(added) {
            Some(sup) => format!("/lab/top/{sup}/{id}"),
            None => format!("/lab/top/{id}"),
        }
    }

    fn shutdown(&self) {
        let door = self.door.clone();
        // Its end is in the journal.
        tokio::spawn(async move { door.terminate_child("top").await });
    }

    fn ask(&self, asked: &str, answer: Asked) {
        let (lab, asked) = (self.lab.clone(), asked.to_owned());
        tokio::spawn(async move {
            let answer = answer.await;
            lab.write(Entry::Answer { asked, answer });
        });
    }

    fn handle(&self, sup: &str) -> Top {
        if sup == TOP {
            return self.top.clone();
        }
        let found = self.nested.iter().find(|(id, _)| id == sup);
        Top::Static(found.map(|(_, handle)| handle.clone()).expect("steps name supervisors of the scenario"))
    }

    fn request(&mut self, step: &Step) -> Asked {
        let dynamic = self.scenario.is_dynamic();
        match step {
            Step::StartChild { sup, child } => {
                let template = if dynamic { &self.scenario.top.children[0] } else { child };
                let spec = child::spec(&self.lab, child, template, &mut self.nested);
                match self.handle(sup) {
                    Top::Static(top) => Box::pin(async move { started(top.start_child(spec).await) }),
                    Top::Dynamic(top) => Box::pin(async move { started(top.start_child(spec).await) }),
                }
            }
            Step::Terminate { sup, id } => {
                let id = id.clone();
                match self.handle(sup) {
                    Top::Static(top) => Box::pin(async move { done(top.terminate_child(&id).await, false) }),
                    Top::Dynamic(top) => Box::pin(async move { done(top.terminate_child(&id).await, true) }),
                }
            }
            Step::Which { sup } => match self.handle(sup) {
                Top::Static(top) => Box::pin(async move {
                    told(top.which_children().await, |all| format!("which {}", which(all, false)))
                }),
                Top::Dynamic(top) => Box::pin(async move {
                    told(top.which_children().await, |all| format!("which {}", which(all, true)))
                }),
            },
            Step::Count { sup } => match self.handle(sup) {
                Top::Static(top) => {
                    Box::pin(async move { told(top.count_children().await, |all| count(*all, false)) })
                }
                Top::Dynamic(top) => {
                    Box::pin(async move { told(top.count_children().await, |all| count(*all, true)) })
                }
            },
            Step::Restart { sup, id } => {
                let (id, Top::Static(top)) = (id.clone(), self.handle(sup)) else { return never() };
                Box::pin(async move { started(top.restart_child(&id).await) })
            }
            Step::Delete { sup, id } => {
                let (id, Top::Static(top)) = (id.clone(), self.handle(sup)) else { return never() };
                Box::pin(async move { done(top.delete_child(&id).await, false) })
            }
            Step::Spec { sup, id } => {
                let (id, Top::Static(top)) = (id.clone(), self.handle(sup)) else { return never() };
                Box::pin(async move { told(top.child_settings(&id).await, child::settings) })
            }
            _ => never(),
        }
    }

    /// Lets everything happen that follows, without time passing, but for children that ignore their stop.
    async fn settle(&self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.lab.activity();
            for _ in 0..STILL {
                yield_now().await;
            }
            if self.lab.activity() != before {
                continue;
            }
            if !self.lab.is_ignored() {
                return;
            }
            advance(TICK).await;
        }
        self.odd("nothing ever comes to rest", "top");
    }

    /// What each supervisor that runs says of its children.
    async fn snapshot(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut handles = vec![("top".to_owned(), self.top.clone())];
        handles.extend(self.nested.iter().map(|(id, handle)| (id.clone(), Top::Static(handle.clone()))));
        for (name, handle) in handles {
            let dynamic = self.scenario.is_dynamic();
            let (all, counts) = match handle {
                Top::Static(top) => (top.which_children().await, top.count_children().await),
                Top::Dynamic(top) => (top.which_children().await, top.count_children().await),
            };
            if let (Ok(all), Ok(counts)) = (all, counts) {
                let told = format!("{} | {}", which(&all, dynamic), numbers(counts, dynamic));
                found.push((name, told));
            }
        }
        found
    }
}

fn never() -> Asked {
    Box::pin(async { "not offered".to_owned() })
}

fn started(result: Result<Option<Started>, ChildError>) -> String {
    match result {
        Ok(Some(_)) => "ok".to_owned(),
        Ok(None) => "ignored".to_owned(),
        Err(error) => word(&error),
    }
}

/// `forgets`: OTP terminates a dynamic child that is gone already with `ok`, ours no longer knows its name.
fn done(result: Result<(), ChildError>, forgets: bool) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(ChildError::NotFound { .. }) if forgets => "ok".to_owned(),
        Err(error) => word(&error),
    }
}

fn told<T>(result: Result<T, ChildError>, tell: impl FnOnce(&T) -> String) -> String {
    match result {
        Ok(value) => tell(&value),
        Err(error) => word(&error),
    }
}

fn word(error: &ChildError) -> String {
    match error {
        ChildError::NotRunning => "gone",
        ChildError::NotFound { .. } => "not_found",
        ChildError::AlreadyStarted { .. } => "already_started",
        ChildError::AlreadyPresent { .. } => "already_present",
        ChildError::Running { .. } => "running",
        ChildError::Restarting { .. } => "restarting",
        ChildError::Spec(_) => "refused",
        ChildError::Failed { .. } => "failed",
        ChildError::Timeout { .. } => "timeout",
        other => return other.to_string(),
    }
    .to_owned()
}

fn which(children: &[ChildInfo], dynamic: bool) -> String {
    let mut all: Vec<_> = children
        .iter()
        .map(|child| {
            let kind = if child.kind == ActorKind::Supervisor { "supervisor" } else { "worker" };
            match child.status {
                ChildStatus::Running => format!("{}:run:{kind}", child.name),
                ChildStatus::Down => format!("{}:down:{kind}", child.name),
                ChildStatus::Restarting if dynamic => format!("?:restarting:{kind}"),
                ChildStatus::Restarting => format!("{}:restarting:{kind}", child.name),
                other => format!("{}:{other:?}:{kind}", child.name),
            }
        })
        .collect();
    if dynamic {
        all.sort();
    }
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// OTP counts the one template of a dynamic supervisor, ours its children.
fn numbers(counts: ChildCounts, dynamic: bool) -> String {
    let ChildCounts { specs, active, supervisors, workers } = counts;
    let specs = if dynamic { 1 } else { specs };
    format!("{specs} {active} {supervisors} {workers}")
}

fn count(counts: ChildCounts, dynamic: bool) -> String {
    format!("count {}", numbers(counts, dynamic))
}

/// Puts the log and the journal together: a receipt stands before the first report that knew its number.
fn merge(scenario: &Scenario, lab: &Lab, receipts: &[Arc<Receipt>]) -> Trace {
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
