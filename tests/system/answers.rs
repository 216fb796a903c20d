//! What is said of a signal when it has ended: its receipt, its trace, what went wrong, and whether it was in time.

use std::sync::Arc;
use std::time::Duration;

use gemba::admission::Tier;
use gemba::objective::TierObjectives;
use gemba::policy::rule;
use gemba::receipt::{Event, Seq, SignalOutcome};
use gemba::trace::TraceContext;
use gemba::view::{LineView, ObjectiveView};
use gemba::{
    Action, JobContext, Line, LineSpec, Node, Operations, Plant, PoolSpec, Receipts, Signal, SubmitError,
    System,
};
use gemba_kit::{board, finish, receipt, story, workers};

/// What one is asked to do, after how long.
type Asked = (Do, Duration);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    /// Says which trace it belongs to.
    Answer,
    Fail(&'static str),
    Panic,
}

#[derive(Debug, thiserror::Error)]
#[error("asked to fail: {0}")]
struct Failure(&'static str);

#[derive(Debug)]
struct Work;

impl Action for Work {
    type Input = Asked;
    type Output = Option<TraceContext>;
    type Error = Failure;

    async fn run(&self, (what, after): Asked, job: &JobContext) -> Result<Option<TraceContext>, Failure> {
        tokio::time::sleep(after).await;
        match what {
            Do::Answer => Ok(job.trace()),
            Do::Fail(class) => Err(Failure(class)),
            Do::Panic => panic!("asked to panic"),
        }
    }

    fn class(&self, Failure(class): &Failure) -> &'static str {
        class
    }
}

/// A line whose policy rejects when it is told to.
async fn start(set: impl FnOnce(LineSpec<Work, bool>) -> LineSpec<Work, bool>) -> (Node, Line<Work, bool>) {
    let node = Node::builder("test");
    let mut plant = Plant::builder(node.system()).pool(PoolSpec::new("work").workers(2, 2));
    let policy = rule("weekday", 3, |_: &Asked, sunday: &bool| sunday.then(|| "it is sunday".to_owned()));
    let line = plant.line(set(LineSpec::new("work", Work).policy(policy)));
    let node = node.child(plant.build().expect("a sound plant")).start().await.expect("it starts");
    workers(node.system(), "work", 2).await;
    (node, line)
}

fn signal(what: Do) -> Signal<Asked> {
    Signal::new((what, Duration::ZERO))
}

fn trace() -> TraceContext {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("as in the standard")
}

/// The receipts of signals: how each ended, why, and whether it names the trace.
fn told(system: &System) -> Vec<(SignalOutcome, Option<Arc<str>>, bool)> {
    let told = |event: &Event| {
        let Event::SignalEnded { outcome, why, trace: of, .. } = event else { return None };
        Some((*outcome, why.clone(), *of == Some(trace().trace_id)))
    };
    story(system).iter().filter_map(|receipt| told(&receipt.event)).collect()
}

/// The line once kaizen has counted what `wanted` accepts.
async fn line_view(system: &System, wanted: impl Fn(&LineView) -> bool) -> LineView {
    board(system, |board| board.lines.first().is_some_and(&wanted)).await.lines[0].clone()
}

#[tokio::test(start_paused = true)]
async fn a_line_that_tells_of_each_signal_names_its_end_its_time_and_its_trace() {
    let (node, line) = start(|spec| spec.tier(Tier::Critical).receipts(Receipts::each())).await;
    let given = || signal(Do::Answer).trace(trace());
    let answered =
        line.submit(Signal::new((Do::Answer, Duration::from_millis(30))).trace(trace()), &false).await;
    assert_eq!(answered.unwrap(), Some(trace()), "the action may pass it on");
    assert_eq!(line.submit(signal(Do::Answer), &false).await.unwrap(), None, "nobody gave it one");
    assert!(matches!(line.submit(given(), &true).await, Err(SubmitError::Rejected(_))));
    let failed = line.submit(signal(Do::Fail("no_answer")).trace(trace()), &false).await;
    assert!(matches!(failed, Err(SubmitError::Failed(_))));
    let late =
        Signal::new((Do::Answer, Duration::from_secs(9))).deadline(Duration::from_secs(1)).trace(trace());
    assert!(matches!(line.submit(late, &false).await, Err(SubmitError::TimedOut)));
    // Its caller goes away while it is at work.
    let given_up = line.submit(Signal::new((Do::Answer, Duration::from_secs(1))), &false);
    assert!(tokio::time::timeout(Duration::from_millis(10), given_up).await.is_err());
    let system = node.system();
    let expected = [
        (SignalOutcome::Succeeded, None, true),
        (SignalOutcome::Succeeded, None, false),
        (SignalOutcome::Rejected, Some("weekday v3"), true),
        (SignalOutcome::Failed, Some("no_answer"), true),
        (SignalOutcome::TimedOut, Some("timed_out"), true),
        (SignalOutcome::Cancelled, None, false),
    ];
    assert_eq!(told(system), expected.map(|(ended, why, traced)| (ended, why.map(Arc::from), traced)));
    let first = receipt(system, Seq(0), |receipt| receipt.event.kind() == "signal_ended").await;
    let Event::SignalEnded { tier: Tier::Critical, took_us, .. } = &first.event else { panic!("{first:?}") };
    assert!((30_000..31_000).contains(took_us), "{took_us}");
    assert!(first.event.to_string().ends_with("(trace 4bf92f3577b34da6a3ce929d0e0e4736)"), "{}", first.event);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn only_what_did_not_succeed_leaves_a_receipt_and_no_more_than_the_pace_allows() {
    let few = Receipts::unsuccessful().per_s(3).unwrap();
    let (node, line) = start(|spec| spec.receipts(few)).await;
    // The clock stands still meanwhile: all of it is one second.
    for _ in 0..10 {
        line.submit(signal(Do::Answer), &false).await.unwrap();
        line.submit(signal(Do::Answer), &true).await.unwrap_err();
    }
    let failed = line.submit(signal(Do::Fail("no_answer")), &false).await;
    assert!(matches!(failed, Err(SubmitError::Failed(_))));
    let outcomes: Vec<_> = told(node.system()).into_iter().map(|(outcome, ..)| outcome).collect();
    let rejected = SignalOutcome::Rejected;
    assert_eq!(outcomes, [rejected, rejected, rejected, SignalOutcome::Failed], "a failure has its own room");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let skipped = "gemba_line_receipts_skipped_total{line=\"work\"} 7";
    assert!(node.metrics().lines().any(|shown| shown == skipped), "{}", node.metrics());
    line.submit(signal(Do::Answer), &true).await.unwrap_err();
    assert_eq!(told(node.system()).len(), 5, "another second");
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_wants_no_receipts_writes_none() {
    let (node, line) = start(|spec| spec).await;
    line.submit(signal(Do::Answer).trace(trace()), &false).await.unwrap();
    line.submit(signal(Do::Fail("no_answer")), &false).await.unwrap_err();
    assert_eq!(told(node.system()), []);
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_counted_by_its_class_and_the_most_frequent_is_first() {
    let (node, line) = start(|spec| spec).await;
    for class in ["no_answer", "not_sent", "not_sent"] {
        line.submit(signal(Do::Fail(class)), &false).await.unwrap_err();
    }
    let late = Signal::new((Do::Answer, Duration::from_secs(9))).deadline(Duration::from_millis(10));
    line.submit(late, &false).await.unwrap_err();
    assert!(matches!(line.submit(signal(Do::Panic), &false).await, Err(SubmitError::WorkerDied)));
    let view = line_view(node.system(), |line| line.failed + line.timed_out == 5).await;
    let defects: Vec<_> = view.defects.iter().map(|defect| (&*defect.class, defect.count)).collect();
    assert_eq!(defects, [("not_sent", 2), ("no_answer", 1), ("timed_out", 1), ("worker_died", 1)]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counted = "gemba_line_defects_total{line=\"work\",class=\"not_sent\"} 2";
    assert!(node.metrics().lines().any(|shown| shown == counted), "{}", node.metrics());
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn each_tier_is_held_against_its_objective() {
    let objectives = TierObjectives::default().with(Tier::Normal, Some(Duration::from_millis(20))).unwrap();
    let (node, line) = start(|spec| spec.objectives(objectives)).await;
    let pay = async |tier, millis| {
        let signal = Signal::new((Do::Answer, Duration::from_millis(millis))).tier(tier);
        line.submit(signal, &false).await.unwrap();
    };
    for _ in 0..99 {
        pay(Tier::Normal, 10).await;
        // As slow as it likes: batch has no objective.
        pay(Tier::Batch, 30).await;
    }
    pay(Tier::Critical, 30).await;
    pay(Tier::Normal, 30).await;
    // What was not worked on is no answer.
    line.submit(signal(Do::Answer), &true).await.unwrap_err();
    let standings = async |slow| {
        let all = |line: &LineView| line.objectives.iter().map(|tier| tier.slow).sum::<u64>() == slow;
        line_view(node.system(), all).await.objectives
    };
    let critical = ObjectiveView { tier: Tier::Critical, p99_ms_max: 100, in_time: 1, slow: 0, met: None };
    let normal = ObjectiveView { tier: Tier::Normal, p99_ms_max: 20, in_time: 99, slow: 1, met: Some(true) };
    assert_eq!(standings(1).await, [critical, normal]);
    pay(Tier::Normal, 30).await;
    assert_eq!(standings(2).await, [critical, ObjectiveView { slow: 2, met: Some(false), ..normal }]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counted = "gemba_line_objective_answers_total{line=\"work\",tier=\"normal\",answer=\"slow\"} 2";
    assert!(node.metrics().lines().any(|shown| shown == counted), "{}", node.metrics());
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn any_operation_is_timed_and_hands_its_result_through() {
    let node = Node::builder("test");
    let mut operations = Operations::new(node.system());
    let [lookup, parse] = ["lookup", "parse"].map(|name| operations.add(name).unwrap());
    assert_eq!(lookup.time(async { "not counted" }).await, "not counted", "there is nowhere to show it");
    let node = node.start().await.unwrap();
    let slow = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        42
    };
    assert_eq!(lookup.time(slow).await, 42);
    let never = lookup.clone();
    let never = never.time(std::future::pending::<()>());
    assert!(tokio::time::timeout(Duration::from_secs(2), never).await.is_err());
    assert_eq!(parse.try_time(async { "7".parse::<u8>() }).await, Ok(7));
    assert!(parse.try_time(async { "x".parse::<u8>() }).await.is_err());
    let page = node.metrics();
    let name = "gemba_operation_duration_seconds";
    for line in [
        format!("{name}_count{{operation=\"lookup\",outcome=\"done\"}} 1"),
        format!("{name}_bucket{{operation=\"lookup\",outcome=\"done\",le=\"1\"}} 0"),
        format!("{name}_bucket{{operation=\"lookup\",outcome=\"done\",le=\"2.5\"}} 1"),
        format!("{name}_bucket{{operation=\"lookup\",outcome=\"cancelled\",le=\"2.5\"}} 1"),
        format!("{name}_count{{operation=\"parse\",outcome=\"done\"}} 1"),
        format!("{name}_count{{operation=\"parse\",outcome=\"failed\"}} 1"),
    ] {
        assert!(page.lines().any(|shown| shown == line), "no {line} in\n{page}");
    }
    node.stop("the test is over").await.unwrap();
}
