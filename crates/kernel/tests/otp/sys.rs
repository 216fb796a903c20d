//! The sys side of a server, and handlers that are stuck.

use std::borrow::Cow;
use std::sync::mpsc as threads;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::receipt::{Event, Seq};
use gemba_core::sys::StateView;
use gemba_kernel::{
    Address, CallError, Context, FindError, Node, Reply, STATE_TIMEOUT, STUCK_AFTER, SUSPEND_TIMEOUT, Server,
    ServerSpec, Stop, Supervisor, Sys, SysError, TRACE_TEXT_MAX, TraceLimits, server,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::kit::receipt;

const SECOND: Duration = Duration::from_secs(1);

enum Msg {
    Add(u64),
    Get(Reply<u64>),
    Sleep(Duration),
    /// Blocks its thread until the test lets it go.
    Block(threads::Receiver<()>),
    Long(String),
    Unspeakable,
    SuspendSelf(Reply<Result<(), SysError>>),
    /// Loses its reply, and fails when the test lets it.
    Lose(Reply<u64>, oneshot::Receiver<()>),
}

struct Sum(u64);

impl Server for Sum {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        ctx.every(SECOND, || Msg::Add(1000));
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Add(n) => self.0 += n,
            Msg::Get(reply) => reply.send(self.0),
            Msg::Sleep(time) => tokio::time::sleep(time).await,
            Msg::Block(until) => until.recv()?,
            Msg::Long(_) | Msg::Unspeakable => {}
            Msg::SuspendSelf(reply) => {
                let sys = ctx.system().sys(ctx.path())?;
                let status = sys.status().await?;
                assert_eq!(status.shows, StateView::Busy, "its state is in use");
                reply.send(sys.suspend().await);
            }
            Msg::Lose(reply, until) => {
                drop(reply);
                until.await?;
                return Err(Stop::error("told to"));
            }
        }
        Ok(())
    }

    fn describe(msg: &Msg) -> Cow<'static, str> {
        match msg {
            Msg::Add(n) => format!("add {n}").into(),
            Msg::Get(_) => "get".into(),
            Msg::Sleep(_) => "sleep".into(),
            Msg::Block(_) => "block".into(),
            Msg::Long(text) => text.clone().into(),
            Msg::Unspeakable => panic!("no words"),
            Msg::SuspendSelf(_) => "suspend self".into(),
            Msg::Lose(..) => "lose".into(),
        }
    }
}

fn sum() -> (ServerSpec<Sum>, Address<Msg>) {
    let spec = server("sum", || Sum(0));
    let address = spec.address();
    (spec, address)
}

async fn start(spec: ServerSpec<Sum>) -> (Node, Sys) {
    let node = Node::builder("test").child(spec).start().await.expect("it starts");
    let path = "/sum".parse().expect("a path");
    let sys = node.system().sys(&path).expect("a server stands there");
    (node, sys)
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_server_leaves_mailbox_and_timers_alone_until_it_is_resumed() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    sys.suspend().await.unwrap();
    address.cast(Msg::Add(1)).unwrap();
    let call = address.request(Msg::Get);
    tokio::time::sleep(SECOND * 3).await;
    let status = sys.status().await.unwrap();
    assert_eq!((status.suspended, status.mailbox.depth, status.busy), (true, 2, None));
    assert_eq!(status.shows, StateView::Hidden, "its type shows nothing");
    sys.resume().unwrap();
    assert_eq!(call.await, Ok(1001), "the ticks it missed came as one, before the mailbox");
    assert!(!sys.status().await.unwrap().suspended);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_resumed_meanwhile_still_tells_what_became_of_a_lost_reply() {
    let (spec, address) = sum();
    let (_node, sys) = start(spec).await;
    let (open, gate) = oneshot::channel();
    let call = tokio::spawn(async move { address.call(|reply| Msg::Lose(reply, gate)).await });
    settle().await;
    sys.resume().unwrap();
    settle().await;
    open.send(()).unwrap();
    let lost = call.await.unwrap().unwrap_err();
    let reason = ExitReason::Error { message: "told to".into() };
    assert!(matches!(&lost, CallError::Died { reason: died, .. } if *died == reason), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_server_still_stops_and_its_next_life_is_not_suspended() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    sys.suspend().await.unwrap();
    let call = address.request(Msg::Get);
    assert_eq!(address.stop(SECOND).await, Ok(ExitReason::Normal));
    assert!(matches!(call.await, Err(CallError::Died { reason: ExitReason::Normal, .. })));
    receipt(&node, "child_restarted", 0).await;
    assert_eq!(address.call(Msg::Get).await, Ok(0));
    sys.suspend().await.unwrap();
    let begun = Instant::now();
    node.stop("test").await.unwrap();
    assert!(begun.elapsed().is_zero(), "its supervisor's stop gets through as well");
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_suspended_when_its_handler_is_done() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    address.cast(Msg::Sleep(SUSPEND_TIMEOUT * 2)).unwrap();
    settle().await;
    let error = sys.suspend().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "'/sum' is busy for 5s and more; it is suspended when its handler is done, or resume it"
    );
    assert!(!sys.status().await.unwrap().suspended);
    tokio::time::sleep(SUSPEND_TIMEOUT * 2).await;
    assert!(sys.status().await.unwrap().suspended);
    sys.resume().unwrap();
    let itself = address.call(Msg::SuspendSelf).await.unwrap();
    assert!(matches!(itself, Err(SysError::CallingSelf { .. })));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_status_tells_what_a_busy_server_does_without_its_help() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    address.cast(Msg::Sleep(SECOND * 60)).unwrap();
    address.cast(Msg::Add(1)).unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let begun = Instant::now();
    let status = sys.status().await.unwrap();
    assert_eq!(begun.elapsed(), STATE_TIMEOUT, "only the text of the state is waited for");
    let busy = status.busy.unwrap();
    assert_eq!((busy.message, busy.for_ms.div_ceil(10)), (1, 200));
    assert!(busy.handles.ends_with("sys::Msg"), "{busy:?}");
    assert_eq!((status.mailbox.depth, status.shows), (1, StateView::Busy));
    node.system().kill(&"/sum".parse().unwrap(), "test").unwrap();
    node.stop("test").await.unwrap();
    assert!(matches!(sys.status().await, Err(SysError::NotRunning { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_path_without_a_sys_side_says_what_stands_there() {
    let (node, _) = start(sum().0).await;
    let sys = |path: &str| node.system().sys(&path.parse().unwrap()).unwrap_err();
    assert_eq!(sys("/sun").to_string(), "no actor stands at '/sun'; did you mean '/sum'?");
    assert!(matches!(sys("/journal"), FindError::NotAServer { .. }));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn statistics_count_from_when_they_were_switched_on() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    address.call(Msg::Get).await.unwrap();
    assert!(matches!(sys.statistics(), Err(SysError::StatisticsOff { .. })));
    sys.statistics_on().unwrap();
    address.cast(Msg::Sleep(Duration::from_millis(300))).unwrap();
    address.cast(Msg::Sleep(Duration::from_millis(100))).unwrap();
    address.call(Msg::Get).await.unwrap();
    settle().await;
    let statistics = sys.statistics().unwrap();
    assert_eq!((statistics.handled, statistics.busy_us, statistics.for_ms), (3, 400_000, 400));
    let longest = statistics.longest.unwrap();
    assert_eq!((&*longest.message, longest.took_us), ("sleep", 300_000));
    sys.statistics_on().unwrap();
    assert_eq!(sys.statistics().unwrap().handled, 0, "on again counts anew");
    sys.statistics_off().unwrap();
    assert!(matches!(sys.statistics(), Err(SysError::StatisticsOff { .. })));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_trace_shows_messages_in_the_words_of_their_type_until_its_limit() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    let mut trace = sys.trace(TraceLimits::messages(4)).unwrap();
    assert!(matches!(sys.trace(TraceLimits::default()), Err(SysError::Traced { .. })));
    address.cast(Msg::Add(7)).unwrap();
    address.cast(Msg::Unspeakable).unwrap();
    address.cast(Msg::Long("x".repeat(TRACE_TEXT_MAX * 2))).unwrap();
    for _ in 0..3 {
        address.call(Msg::Get).await.unwrap();
    }
    let mut shown = Vec::new();
    while let Some(traced) = trace.next().await {
        shown.push((traced.number, traced.message.to_string()));
    }
    let long = "x".repeat(TRACE_TEXT_MAX);
    let expected = [(1, "add 7"), (2, "(its description failed)"), (3, &long), (4, "get")];
    assert_eq!(shown, expected.map(|(number, text)| (number, text.to_owned())));
    assert_eq!(trace.left_out(), 0);
    assert!(sys.trace(TraceLimits::default()).is_ok(), "the next may begin");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_trace_leaves_out_what_comes_too_fast_and_ends_with_its_life() {
    let (spec, address) = sum();
    let (node, sys) = start(spec).await;
    let mut trace = sys.trace(TraceLimits::messages(1000).per_second(10)).unwrap();
    for n in 0..500 {
        address.cast(Msg::Add(n)).unwrap();
    }
    address.call(Msg::Get).await.unwrap();
    assert_eq!(trace.left_out(), 491);
    address.stop(SECOND).await.unwrap();
    let mut shown = 0;
    while trace.next().await.is_some() {
        shown += 1;
    }
    assert_eq!(shown, 10);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handler_beyond_its_limit_is_told_and_so_is_its_recovery() {
    let (spec, address) = sum();
    let (node, _) = start(spec).await;
    address.cast(Msg::Sleep(STUCK_AFTER * 2)).unwrap();
    let stuck = receipt(&node, "handler_stuck", 0).await;
    let Event::HandlerStuck { for_ms, limit_ms, handles, .. } = &stuck.event else { panic!("{stuck:?}") };
    assert_eq!(*limit_ms, 5000);
    assert!((5000..=5250).contains(for_ms), "late by one look at most: {for_ms}");
    assert!(handles.ends_with("sys::Msg"), "{handles}");
    let recovered = receipt(&node, "handler_recovered", 0).await;
    assert_eq!((recovered.cause, recovered.path.as_str()), (Some(stuck.seq), "/sum"));
    let Event::HandlerRecovered { for_ms, .. } = recovered.event else { panic!("{recovered:?}") };
    assert!((9_990..=10_250).contains(&for_ms), "{for_ms}");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn short_handlers_and_those_without_a_limit_are_not_stuck() {
    let (spec, address) = sum();
    let patient = server("patient", || Sum(0)).stuck_after(None);
    let patient_address = patient.address();
    let node = Node::builder("test").child(spec).child(patient).start().await.unwrap();
    for _ in 0..20 {
        address.cast(Msg::Sleep(STUCK_AFTER / 2)).unwrap();
    }
    patient_address.cast(Msg::Sleep(STUCK_AFTER * 5)).unwrap();
    tokio::time::sleep(STUCK_AFTER * 15).await;
    let receipts = node.system().journal().after(Seq(0), None, 1000).receipts;
    assert!(receipts.iter().all(|receipt| receipt.event.kind() != "handler_stuck"), "{receipts:?}");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_init_and_a_terminate_can_be_stuck_too() {
    struct Slow;
    impl Server for Slow {
        type Msg = ();
        async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
            tokio::time::sleep(SECOND * 2).await;
            Ok(())
        }
        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Err(Stop::normal())
        }
        async fn terminate(&mut self, _: &ExitReason) {
            tokio::time::sleep(SECOND * 2).await;
        }
    }
    let spec = server("slow", || Slow).stuck_after(SECOND).temporary();
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    address.cast(()).unwrap();
    for (n, stage) in ["init", "terminate"].into_iter().enumerate() {
        let stuck = receipt(&node, "handler_stuck", n).await;
        assert!(
            matches!(&stuck.event, Event::HandlerStuck { handles, .. } if &**handles == stage),
            "{stuck:?}"
        );
    }
    receipt(&node, "child_exited", 0).await;
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_init_that_was_stuck_and_then_failed_is_taken_back() {
    struct Fails;
    impl Server for Fails {
        type Msg = ();
        async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
            tokio::time::sleep(SECOND * 3).await;
            Err(Stop::error("no disk"))
        }
        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Ok(())
        }
    }
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    handle.start_child(server("fails", || Fails).stuck_after(SECOND)).await.unwrap_err();
    let stuck = receipt(&node, "handler_stuck", 0).await;
    let recovered = receipt(&node, "handler_recovered", 0).await;
    assert_eq!((recovered.cause, recovered.path.as_str()), (Some(stuck.seq), "/pool/fails"));
    let Event::HandlerRecovered { for_ms, .. } = recovered.event else { panic!("{recovered:?}") };
    // To the millisecond of the timers.
    assert!((2_999..=3_500).contains(&for_ms), "{for_ms}");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_handler_whose_supervisor_is_killed_is_taken_back() {
    let (spec, address) = sum();
    let above = Supervisor::one_for_one("above").child(spec);
    let node = Node::builder("test").child(above).start().await.unwrap();
    address.cast(Msg::Sleep(STUCK_AFTER * 100)).unwrap();
    let stuck = receipt(&node, "handler_stuck", 0).await;
    node.system().kill(&"/above".parse().unwrap(), "test").unwrap();
    let recovered = receipt(&node, "handler_recovered", 0).await;
    assert_eq!((recovered.cause, recovered.path.as_str()), (Some(stuck.seq), "/above/sum"));
    node.stop("test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_is_seen_from_another() {
    let spec = server("sum", || Sum(0)).stuck_after(Duration::from_millis(1));
    let address = spec.address();
    let (node, sys) = start(spec).await;
    let (let_go, until) = threads::channel();
    address.cast(Msg::Block(until)).unwrap();
    let stuck = receipt(&node, "handler_stuck", 0).await;
    assert_eq!(stuck.path.as_str(), "/sum");
    assert_eq!(sys.status().await.unwrap().busy.unwrap().message, 1, "and can be looked at");
    let_go.send(()).unwrap();
    let recovered = receipt(&node, "handler_recovered", 0).await;
    assert_eq!(recovered.cause, Some(stuck.seq));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_when_all_others_have_gone_is_watched() {
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let (spec, first) = sum();
    handle.start_child(spec.temporary()).await.unwrap();
    first.stop(SECOND).await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    let (spec, second) = sum();
    handle.start_child(spec.temporary()).await.unwrap();
    second.cast(Msg::Sleep(STUCK_AFTER * 2)).unwrap();
    receipt(&node, "handler_stuck", 0).await;
    node.stop("test").await.unwrap();
}
