//! Plays a scenario on our kernel, under a paused clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::name::ActorPath;
use gemba_core::receipt::Seq;
use gemba_core::supervision::GiveUp;
use gemba_kernel::{ChildSpec, DynamicRef, Node, Supervisor, SupervisorRef};
use tokio::task::yield_now;
use tokio::time::advance;

use crate::child::{self, Handles};
use crate::lab::{Entry, Lab};
use crate::model::{Child, How, Scenario, Step, TOP};
use crate::trace::{At, Event, Section, Trace, Verdict};

mod answers;
mod merge;

use answers::{count, done, numbers, started, told, which};
use merge::merge;

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
