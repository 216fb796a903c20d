//! What OpenTelemetry gets: the spans of a signal, one for each phase, and the changes of lights.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};

use gemba::control::Control;
use gemba::light::Light;
use gemba::policy::rule;
use gemba::trace::TraceContext;
use gemba::{
    Action, FollowUp, JobContext, LineSpec, Node, Plant, PoolSpec, Receipts, Signal, SubmitError, join_trace,
    trace_of,
};
use gemba_kit::{board, finish, story, workers};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::field::{Field, Visit};
use tracing::span::{Id, Record};
use tracing::{Event, Instrument, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
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
    for what in ["succeeded", "failed", "ERROR", "rejected", "weekday v3", "success\"", "failure"] {
        assert_eq!(
            recorded.iter().filter(|record| record.contains(what)).count(),
            1,
            "{what} in {recorded:?}"
        );
    }
}

/// Tells whose trace it works for.
#[derive(Debug)]
struct Whose;

impl Action for Whose {
    type Input = ();
    type Output = Option<TraceContext>;
    type Error = Failed;

    async fn run(&self, (): (), job: &JobContext) -> Result<Option<TraceContext>, Failed> {
        Ok(job.trace())
    }
}

#[tokio::test(start_paused = true)]
async fn an_exported_signal_goes_on_with_the_trace_of_its_caller_and_hands_it_to_its_action() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let signals = Targets::new().with_target("gemba::signal", Level::DEBUG);
    let tracing = tracing_subscriber::registry().with(layer.with_filter(signals));
    let guard = tracing::subscriber::set_default(tracing);
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(1, 1));
    let line = plant.line(LineSpec::<_>::new("work", Whose).receipts(Receipts::each()));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 1).await;

    let caller: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    // As it came with a request; then within a span of the service's own; then nobody gave it one.
    let plain = line.submit(Signal::new(()).trace(caller), &()).await.unwrap().unwrap();
    let request = tracing::debug_span!(target: "gemba::signal", "request");
    join_trace(&request, &caller);
    let own = trace_of(&request).unwrap();
    let within = line.submit(Signal::new(()).trace(own), &()).instrument(request).await.unwrap().unwrap();
    let begun = line.submit(Signal::new(()), &()).await.unwrap().unwrap();
    let receipts: Vec<_> = story(node.system())
        .iter()
        .filter_map(|receipt| {
            let gemba::receipt::Event::SignalEnded { trace, .. } = receipt.event else { return None };
            Some(trace)
        })
        .collect();
    finish(node).await;
    drop(guard);

    provider.force_flush().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let of = |name: &str| -> Vec<&SpanData> { spans.iter().filter(|span| span.name == name).collect() };
    let (signals, actions) = (of("process_signal"), of("execute_action"));
    let trace_id = |span: &SpanData| u128::from_be_bytes(span.span_context.trace_id().to_bytes());
    let span_id = |id: SpanId| u64::from_be_bytes(id.to_bytes());
    let parent = |span: &SpanData| span_id(span.parent_span_id);
    let handed = [plain, within, begun];
    for ((signal, action), (handed, receipt)) in
        signals.iter().zip(&actions).zip(handed.iter().zip(&receipts))
    {
        let of_trace = handed.trace_id;
        assert_eq!(
            (trace_id(signal), trace_id(action), *receipt),
            (of_trace.get(), of_trace.get(), Some(of_trace))
        );
        assert_eq!(
            handed.span_id.get(),
            span_id(action.span_context.span_id()),
            "what it calls is called by it"
        );
        assert_eq!(parent(action), span_id(signal.span_context.span_id()));
        let says = |key: &str, value: &str| {
            action
                .attributes
                .iter()
                .any(|attribute| attribute.key.as_str() == key && attribute.value.as_str() == value)
        };
        assert!(says("breaker", "closed") && says("judged", "success"), "{action:?}");
    }
    assert_eq!((signals.len(), receipts.len()), (3, 3));
    assert_eq!([plain.trace_id, within.trace_id], [caller.trace_id; 2]);
    assert_ne!(begun.trace_id, caller.trace_id);
    let parents = signals.iter().map(|signal| parent(signal)).collect::<Vec<_>>();
    assert_eq!(parents, [caller.span_id.get(), own.span_id.get(), 0]);
    assert_eq!(
        of("request").iter().map(|request| parent(request)).collect::<Vec<_>>(),
        [caller.span_id.get()]
    );
}

/// A change of a light as a machine reads it.
#[derive(Debug, Default)]
struct Change(BTreeMap<&'static str, String>);

impl Visit for Change {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

struct Lights(Sender<(Level, Change)>);

impl<S: Subscriber> Layer<S> for Lights {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "gemba::andon" {
            assert_eq!(event.metadata().name(), "gemba.andon.light");
            let mut change = Change::default();
            event.record(&mut change);
            let _ = self.0.send((*event.metadata().level(), change));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_light_is_an_event_with_its_severity_and_its_cause() {
    let (sender, told) = channel();
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(Lights(sender)));
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(1, 1));
    let _line = plant.line(LineSpec::<_>::new("work", Asked));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 1).await;
    let line = || "work".parse().unwrap();
    let system = node.system();
    let pull = Control::PullCord { line: line(), by: "ann".into(), why: "smoke".into() };
    let pulled = system.control(pull).await.unwrap();
    board(system, |board| board.overall == Light::Red).await;
    system.control(Control::ResetCord { line: line(), by: "ann".into() }).await.unwrap();
    board(system, |board| board.overall == Light::Green).await;
    finish(node).await;
    drop(guard);
    let of_line = |(_, change): &(Level, Change)| change.0["station"] == "line:work";
    let told: Vec<_> = told.into_iter().filter(of_line).collect();
    let lights: Vec<_> = told.iter().map(|(level, change)| (*level, &*change.0["light"])).collect();
    assert_eq!(lights, [(Level::ERROR, "red"), (Level::INFO, "green")]);
    let (_, red) = &told[0];
    assert_eq!((&*red.0["from"], &red.0["cause"]), ("green", &pulled.0.to_string()));
}
