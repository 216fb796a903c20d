//! The spans of a signal: one for each phase, all within its own.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};

use gemba::policy::rule;
use gemba::{Action, FollowUp, JobContext, LineSpec, Node, Plant, PoolSpec, Signal, SubmitError};
use gemba_kit::{finish, workers};
use tracing::Subscriber;
use tracing::span::{Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::plant::Failed;

/// Succeeds or fails, as asked, and has something follow.
#[derive(Debug)]
struct Asked;

impl Action for Asked {
    type Input = bool;
    type Output = ();
    type Error = Failed;

    async fn run(&self, succeeds: bool, _: &JobContext) -> Result<(), Failed> {
        if succeeds { Ok(()) } else { Err(Failed) }
    }

    fn follow_up(&self, (): &(), _: &JobContext) -> Option<FollowUp> {
        Some(FollowUp::new(async { Ok::<_, String>(()) }))
    }
}

/// What is told of a span: when it ends, its name and its parent's; before, what is recorded of it.
enum Told {
    Ended(&'static str, Option<&'static str>),
    Recorded(String),
}

struct Teller(Sender<Told>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Teller {
    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let _ = self.0.send(Told::Recorded(format!("{values:?}")));
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let span = ctx.span(&id).expect("a span that ends is known");
        if span.metadata().target() == "gemba::signal" {
            let _ = self.0.send(Told::Ended(span.name(), span.parent().map(|parent| parent.name())));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_has_a_span_for_each_phase_and_says_how_it_ended() {
    let (sender, told) = channel();
    let tracing = tracing_subscriber::registry().with(Teller(sender));
    let guard = tracing::subscriber::set_default(tracing);
    // While there is one subscriber only, a call site that another test's thread comes to first asks that thread's,
    // which is none, and is off from then on. With two it asks both.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let policy = rule("weekday", 3, |_: &bool, sunday: &bool| sunday.then(|| "it is sunday".to_owned()));
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(1, 1));
    let line = plant.line(LineSpec::new("work", Asked).policy(policy));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 1).await;
    line.submit(Signal::new(true), &false).await.unwrap();
    let failed = line.submit(Signal::new(false), &false).await;
    assert!(matches!(failed, Err(SubmitError::Failed(Failed))));
    let rejected = line.submit(Signal::new(true), &true).await;
    assert!(matches!(rejected, Err(SubmitError::Rejected(_))));
    finish(node).await;
    drop(guard);
    let (mut ended, mut recorded) = (BTreeMap::new(), Vec::new());
    for told in told {
        match told {
            Told::Ended(name, parent) => {
                assert_eq!(parent, (name != "process_signal").then_some("process_signal"), "{name}");
                *ended.entry(name).or_insert(0) += 1;
            }
            Told::Recorded(what) => recorded.push(what),
        }
    }
    let expected = [
        ("await_worker", 2),
        ("evaluate_policy", 3),
        ("execute_action", 2),
        ("follow_up", 1),
        ("process_signal", 3),
        ("receive_signal", 3),
        ("respond", 2),
    ];
    assert_eq!(ended, BTreeMap::from(expected));
    for what in ["succeeded", "failed", "ERROR", "rejected", "weekday v3"] {
        assert_eq!(
            recorded.iter().filter(|record| record.contains(what)).count(),
            1,
            "{what} in {recorded:?}"
        );
    }
}
