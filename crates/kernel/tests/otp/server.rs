//! Rows G01–G28: the server.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use gemba_core::exit::ExitReason;
use gemba_core::receipt::{Event, Seq};
use gemba_core::sys::StateView;
use gemba_core::view::ActorState;
use gemba_kernel::{
    Address, CALL_TIMEOUT, CallError, CastError, ChildError, Context, FindError, Node, Reply, START_LIMIT,
    Server, ServerSpec, Stop, StopError, Supervisor, TERMINATE_LIMIT, server,
};
use tokio::sync::mpsc;
use tokio::task::coop;
use tokio::time::Instant;

use crate::kit::receipt;

const SECOND: Duration = Duration::from_secs(1);

type Init = fn(&mut Context<Msg>) -> Result<(), Stop>;
type Turn = Box<dyn FnOnce(&mut Probe, &mut Context<Msg>) -> Result<(), Stop> + Send>;

/// What a probe understands.
enum Msg {
    Note(&'static str),
    /// Takes some time before it is noted.
    Slow(Duration, &'static str),
    Ask(Reply<u32>),
    /// Answers only if somebody still waits.
    AskFresh(Reply<u32>),
    /// Answers much later.
    AskSlow(Duration, u32, Reply<u32>),
    /// Answered by the next `Do` that takes it.
    Keep(Reply<u32>),
    /// Calls this address from inside the handler.
    Call(Address<Msg>, Reply<Result<u32, CallError>>),
    /// Uses up what its thread gives it at a time, and then waits for quiet.
    Tire,
    /// Asks itself to stop, and waits for it.
    StopSelf(Reply<Result<ExitReason, StopError>>),
    Do(Turn),
}

/// How a probe behaves at its beginning and its end.
#[derive(Clone, Copy, Default)]
struct Ways {
    init: Option<Init>,
    init_takes: Duration,
    terminate_takes: Duration,
    terminate_panics: bool,
}

/// A server that notes what happens to it.
struct Probe {
    notes: mpsc::Sender<String>,
    ways: Ways,
    kept: Vec<Reply<u32>>,
    secret: u32,
}

impl Probe {
    fn note(&self, text: impl Into<String>) {
        self.notes.try_send(text.into()).expect("room for the notes of a test");
    }
}

impl Server for Probe {
    type Msg = Msg;

    async fn init(&mut self, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        tokio::time::sleep(self.ways.init_takes).await;
        self.note("init");
        self.ways.init.map_or(Ok(()), |init| init(ctx))
    }

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Note(text) => self.note(text),
            Msg::Slow(takes, text) => {
                tokio::time::sleep(takes).await;
                self.note(text);
            }
            Msg::Ask(reply) => reply.send(7),
            Msg::AskFresh(reply) if reply.is_closed() => self.note("skipped"),
            Msg::AskFresh(reply) => reply.send(8),
            Msg::AskSlow(takes, answer, reply) => {
                tokio::time::sleep(takes).await;
                reply.send(answer);
            }
            Msg::Keep(reply) => self.kept.push(reply),
            Msg::Call(address, reply) => reply.send(address.call(Msg::Ask).await),
            Msg::Tire => {
                while coop::has_budget_remaining() {
                    coop::consume_budget().await;
                }
                ctx.receive_timeout(Duration::ZERO, Msg::Note("quiet"));
                // Ends the batch in hand: the mailbox is asked anew.
                ctx.monitor(&"/nobody".parse()?, |_| Msg::Note("down"));
            }
            Msg::StopSelf(reply) => reply.send(ctx.address().stop(SECOND).await),
            Msg::Do(turn) => return turn(self, ctx),
        }
        Ok(())
    }

    async fn terminate(&mut self, reason: &ExitReason) {
        tokio::time::sleep(self.ways.terminate_takes).await;
        self.note(format!("terminate {reason}"));
        assert!(!self.ways.terminate_panics, "in terminate");
    }

    fn describe_state(&self) -> Option<String> {
        assert!(self.secret != 666, "this state cannot be told");
        Some(format!("secret: {}, kept: {}", "*".repeat(3), self.kept.len()))
    }
}

/// Does something in the server, which goes on.
fn run(turn: impl FnOnce(&mut Probe, &mut Context<Msg>) + Send + 'static) -> Msg {
    Msg::Do(Box::new(|probe, ctx| {
        turn(probe, ctx);
        Ok(())
    }))
}

/// Ends the server by an error or on purpose.
fn end(stop: Stop) -> Msg {
    Msg::Do(Box::new(|_, _| Err(stop)))
}

fn crash() -> Msg {
    Msg::Do(Box::new(|_, _| panic!("asked to")))
}

fn notebook() -> (mpsc::Sender<String>, mpsc::Receiver<String>) {
    mpsc::channel(1024)
}

fn probe(name: &str, ways: Ways, notes: &mpsc::Sender<String>) -> ServerSpec<Probe> {
    let notes = notes.clone();
    server(name, move || Probe { notes: notes.clone(), ways, kept: Vec::new(), secret: 0 })
}

fn written(notes: &mut mpsc::Receiver<String>) -> Vec<String> {
    std::iter::from_fn(|| notes.try_recv().ok()).collect()
}

/// A node with one temporary probe at `/p`.
async fn lone(ways: Ways) -> (Node, Address<Msg>, mpsc::Receiver<String>) {
    let (sender, notes) = notebook();
    let spec = probe("p", ways, &sender).temporary();
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.expect("it starts");
    (node, address, notes)
}

async fn exit(node: &Node) -> ExitReason {
    let receipt = receipt(node, "child_exited", 0).await;
    let Event::ChildExited { reason, .. } = &receipt.event else { panic!("{receipt:?}") };
    reason.clone()
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn g01_a_start_returns_when_init_is_done_and_the_first_call_is_answered() {
    let begun = Instant::now();
    let (node, address, mut notes) = lone(Ways { init_takes: SECOND, ..Ways::default() }).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert_eq!(written(&mut notes), ["init"]);
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g02_an_init_beyond_its_limit_is_a_failed_start_that_leaves_the_place_free() {
    let (sender, mut notes) = notebook();
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let hangs = Ways { init_takes: START_LIMIT * 2, ..Ways::default() };
    let (begun, slow) = (Instant::now(), probe("p", hangs, &sender));
    let address = slow.address();
    handle.start_child_soon(slow);
    settle().await;
    let waiting = address.request_until(begun + START_LIMIT * 2, Msg::Ask);
    let failed = receipt(&node, "child_start_failed", 0).await;
    assert_eq!(failed.event.to_string(), "failed to start: error: it did not start within 30s");
    assert_eq!(begun.elapsed(), START_LIMIT);
    assert!(matches!(waiting.await, Err(CallError::Died { .. })), "whoever asked it meanwhile is told");
    assert_eq!(begun.elapsed(), START_LIMIT);
    assert!(handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap().is_some());
    assert_eq!(written(&mut notes), ["init"], "the first never came so far");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g02_a_panic_in_what_a_late_init_held_keeps_no_report_back() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    struct Late;
    impl Server for Late {
        type Msg = ();
        async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
            let _bomb = Bomb;
            std::future::pending().await
        }
        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Ok(())
        }
    }
    let (sender, _notes) = notebook();
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    handle.start_child_soon(server("p", || Late));
    let failed = receipt(&node, "child_start_failed", 0).await;
    assert_eq!(failed.event.to_string(), "failed to start: error: it did not start within 30s");
    assert!(handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap().is_some());
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g03_init_may_decline_and_that_is_no_failure() {
    let (sender, mut notes) = notebook();
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let declines = Ways { init: Some(|_| Err(Stop::ignore())), ..Ways::default() };
    assert_eq!(handle.start_child(probe("p", declines, &sender)).await, Ok(None));
    assert_eq!(written(&mut notes), ["init"], "terminate does not run");
    assert!(handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap().is_some());
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g04_an_init_that_stops_or_panics_fails_the_start_with_its_cause() {
    let (sender, mut notes) = notebook();
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let stops: Init = |_| Err(Stop::error("no database"));
    let panics: Init = |_| panic!("no disk");
    for (init, cause) in [(stops, "no database"), (panics, "no disk")] {
        let spec = probe("p", Ways { init: Some(init), ..Ways::default() }, &sender);
        let address = spec.address();
        let error = handle.start_child(spec).await.unwrap_err();
        assert!(error.to_string().contains(cause), "{error}");
        assert!(matches!(address.cast(Msg::Note("x")), Err(CastError::NotRunning { .. })));
    }
    assert!(handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap().is_some());
    assert_eq!(written(&mut notes), ["init", "init", "init"], "terminate does not run");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g05_a_taken_name_refuses_the_second_start_and_names_the_holder() {
    let (sender, mut notes) = notebook();
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let first = handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap().unwrap();
    let second = handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap_err();
    let ChildError::AlreadyStarted { name, incarnation } = second else { panic!("{second}") };
    assert_eq!((name.as_str(), incarnation), ("p", first.incarnation));
    assert_eq!(written(&mut notes), ["init"], "the second never ran");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g06_a_server_does_not_outlive_who_started_it() {
    let (sender, _notes) = notebook();
    let spec = probe("p", Ways::default(), &sender);
    let address = spec.address();
    let above = Supervisor::one_for_one("above").child(spec);
    let node = Node::builder("test").child(above).start().await.unwrap();
    let life = address.pin().unwrap();
    node.system().kill(&"/above".parse().unwrap(), "test").unwrap();
    receipt(&node, "child_restarted", 1).await;
    assert!(life.is_over());
    assert_eq!(address.call(Msg::Ask).await, Ok(7), "the next life");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g07_a_server_is_found_by_its_name_while_init_runs() {
    fn finds_itself(ctx: &mut Context<Msg>) -> Result<(), Stop> {
        let path = ctx.path().clone();
        let address = ctx.system().address::<Msg>(&path)?;
        address.cast(Msg::Note("from init")).map_err(|error| Stop::error(error.to_string()))
    }
    let (node, address, mut notes) = lone(Ways { init: Some(finds_itself), ..Ways::default() }).await;
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    assert_eq!(written(&mut notes), ["init", "from init"]);
    let found = |path: &str| node.system().address::<Msg>(&path.parse().unwrap());
    assert_eq!(found("/q").unwrap_err().to_string(), "no actor stands at '/q'; did you mean '/p'?");
    assert!(matches!(found("/"), Err(FindError::NotAServer { .. })));
    let other = node.system().address::<u8>(&"/p".parse().unwrap()).unwrap_err();
    assert!(other.to_string().ends_with("server::Msg, this address sends u8"), "{other}");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g08_a_reply_may_be_given_later_by_another_callback() {
    let (node, address, _notes) = lone(Ways::default()).await;
    let kept = address.request(Msg::Keep);
    assert_eq!(address.call(Msg::Ask).await, Ok(7), "it goes on meanwhile");
    address.cast(run(|probe, _| probe.kept.remove(0).send(11))).unwrap();
    assert_eq!(kept.await, Ok(11));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g09_a_call_has_a_limit_and_the_server_can_see_that_it_has_passed() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address.cast(Msg::Slow(CALL_TIMEOUT * 2, "done")).unwrap();
    let begun = Instant::now();
    let error = address.call(Msg::AskFresh).await.unwrap_err();
    assert_eq!((begun.elapsed(), CALL_TIMEOUT), (CALL_TIMEOUT, SECOND * 5));
    assert_eq!(error.to_string(), "'/p' did not answer within 5s; it may still carry out the request");
    let shorter = address.call_within(SECOND, Msg::Ask).await;
    assert!(matches!(shorter, Err(CallError::Timeout { within, .. }) if within == SECOND));
    assert_eq!(address.call_within(CALL_TIMEOUT, Msg::Ask).await, Ok(7));
    assert_eq!(written(&mut notes), ["init", "done", "skipped"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g10_a_late_reply_reaches_nobody() {
    let (node, address, _notes) = lone(Ways::default()).await;
    let late = |reply| Msg::AskSlow(SECOND * 2, 1, reply);
    assert!(matches!(address.call_within(SECOND, late).await, Err(CallError::Timeout { .. })));
    assert_eq!(address.call(Msg::Ask).await, Ok(7), "its own answer, after the late one was given");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g11_a_call_to_nobody_fails_at_once() {
    let (sender, _notes) = notebook();
    let never = probe("never", Ways::default(), &sender).address();
    let (node, ended, _own) = lone(Ways::default()).await;
    ended.stop(SECOND).await.unwrap();
    let begun = Instant::now();
    for address in [never, ended] {
        assert!(matches!(address.call(Msg::Ask).await, Err(CallError::NotRunning { .. })));
        assert!(matches!(address.request(Msg::Ask).await, Err(CallError::NotRunning { .. })));
    }
    assert!(begun.elapsed().is_zero());
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g12_a_caller_whose_server_dies_is_told_the_reason_at_once() {
    for by_kill in [true, false] {
        let (node, address, _notes) = lone(Ways::default()).await;
        let slow = if by_kill { Msg::Slow(SECOND * 60, "never") } else { Msg::Slow(SECOND, "crashes next") };
        address.cast(slow).unwrap();
        if !by_kill {
            address.cast(crash()).unwrap();
        }
        let queued: Vec<_> = (0..100).map(|_| address.request(Msg::Ask)).collect();
        settle().await;
        let begun = Instant::now();
        if by_kill {
            node.system().kill(&"/p".parse().unwrap(), "test").unwrap();
        }
        for request in queued {
            let error = request.await.unwrap_err();
            let CallError::Died { path, reason } = error else { panic!("{error}") };
            assert_eq!(path.to_string(), "/p");
            assert_eq!(reason == ExitReason::Killed, by_kill, "{reason}");
            assert_eq!(reason.to_string().contains("asked to"), !by_kill, "{reason}");
        }
        assert!(begun.elapsed() <= SECOND, "of five");
        node.stop("test").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn g12_the_message_that_kills_the_server_tells_its_own_caller() {
    let (node, address, mut notes) = lone(Ways { terminate_takes: SECOND, ..Ways::default() }).await;
    let fatal = |reply: Reply<u32>| {
        Msg::Do(Box::new(move |_, _| {
            drop(reply);
            Err(Stop::error("no more"))
        }))
    };
    let error = address.call(fatal).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "'/p' ended before it answered: error: no more; the request may have been carried out"
    );
    assert_eq!(written(&mut notes), ["init", "terminate error: no more"], "it was over by then");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g12_a_server_that_drops_a_request_and_goes_on_is_told_apart() {
    let (node, address, _notes) = lone(Ways::default()).await;
    let dropped = address.call(|reply: Reply<u32>| run(move |_, _| drop(reply))).await;
    assert!(matches!(dropped, Err(CallError::NoReply { .. })), "{dropped:?}");
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g13_each_end_tells_the_caller_its_reason_and_leaves_one_receipt() {
    let message = "lost".into();
    for (stop, reason, is_clean) in [
        (Stop::normal(), ExitReason::Normal, true),
        (Stop::shutdown("moved"), ExitReason::ShutdownWith { why: "moved".into() }, true),
        (Stop::error("lost"), ExitReason::Error { message }, false),
    ] {
        let (node, address, _notes) = lone(Ways::default()).await;
        let call = address.request(Msg::Keep);
        address.cast(end(stop)).unwrap();
        assert!(matches!(call.await, Err(CallError::Died { reason: told, .. }) if told == reason));
        assert_eq!(exit(&node).await, reason);
        assert_eq!(reason.is_clean(), is_clean, "a clean one is not logged as a failure");
        let receipts = node.system().journal().after(Seq(0), Some(&"/p".parse().unwrap()), 100).receipts;
        assert_eq!(receipts.iter().filter(|receipt| receipt.event.kind() == "child_exited").count(), 1);
        node.stop("test").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn g15_a_call_to_oneself_fails_at_once() {
    let (node, address, _notes) = lone(Ways::default()).await;
    let begun = Instant::now();
    let itself = address.clone();
    let error = address.call(|reply| Msg::Call(itself, reply)).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::CallingSelf { .. }), "{error}");
    assert!(matches!(address.call(Msg::StopSelf).await.unwrap(), Err(StopError::CallingSelf { .. })));
    assert!(begun.elapsed().is_zero());
    // A task it starts is somebody else, and may wait.
    let (answers, mut answered) = mpsc::channel(1);
    let turn = run(move |_, ctx| {
        let address = ctx.address();
        tokio::spawn(async move { answers.send(address.call(Msg::Ask).await).await });
    });
    address.cast(turn).unwrap();
    assert_eq!(answered.recv().await, Some(Ok(7)));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g15_a_request_to_oneself_fails_where_it_is_awaited() {
    struct Narcissus;
    struct Ask(Reply<CallError>);
    impl Server for Narcissus {
        type Msg = Ask;
        async fn handle(&mut self, Ask(reply): Ask, ctx: &mut Context<Ask>) -> Result<(), Stop> {
            if !reply.is_closed() {
                reply.send(ctx.address().request(Ask).await.unwrap_err());
            }
            Ok(())
        }
    }
    let spec = server("n", || Narcissus);
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    assert!(matches!(address.call(Ask).await, Ok(CallError::CallingSelf { .. })));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g16_a_cast_never_waits_and_says_whether_it_was_taken() {
    let (sender, _notes) = notebook();
    let spec = probe("p", Ways::default(), &sender).mailbox(2);
    let address = spec.address();
    assert!(matches!(address.cast(Msg::Note("early")), Err(CastError::NotRunning { .. })));
    let node = Node::builder("test").child(spec).start().await.unwrap();
    address.cast(Msg::Slow(SECOND * 8, "slow")).unwrap();
    settle().await;
    address.cast(Msg::Note("1")).unwrap();
    address.cast(Msg::Note("2")).unwrap();
    let error = address.cast(Msg::Note("3")).unwrap_err();
    assert!(matches!(error, CastError::Full { capacity: 2, full_for: Duration::ZERO, .. }), "{error}");
    let begun = Instant::now();
    let error = address.cast_within(SECOND * 3, Msg::Note("4")).await.unwrap_err();
    assert_eq!(begun.elapsed(), SECOND * 3);
    assert_eq!(
        error.to_string(),
        "'/p' refused: its mailbox of 2 is full, for 3.0 s now; shed the message or wait with cast_within"
    );
    assert!(matches!(error.into_message(), Msg::Note("4")));
    assert!(matches!(address.call(Msg::Ask).await, Err(CallError::Full { .. })));
    address.cast_within(SECOND * 9, Msg::Note("5")).await.unwrap();
    assert_eq!(begun.elapsed(), SECOND * 8, "as soon as there was room");
    node.stop("test").await.unwrap();
    assert!(matches!(address.cast(Msg::Note("late")), Err(CastError::NotRunning { .. })));
    assert!(matches!(address.cast_within(SECOND, Msg::Note("6")).await, Err(CastError::NotRunning { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_address_taken_before_the_mailbox_was_sized_leads_to_the_server() {
    let (sender, _notes) = notebook();
    let spec = probe("p", Ways::default(), &sender);
    let address = spec.address();
    let _node = Node::builder("test").child(spec.mailbox(1)).start().await.unwrap();
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    address.cast(Msg::Note("1")).unwrap();
    let error = address.cast(Msg::Note("2")).unwrap_err();
    assert!(matches!(error, CastError::Full { capacity: 1, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn g18_a_continuation_runs_before_anything_queued_and_may_chain() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address
        .cast(run(|probe, ctx| {
            probe.note("before_continue");
            ctx.address().cast(Msg::Note("to itself")).unwrap();
            ctx.continue_with(run(|probe, ctx| {
                probe.note("continue");
                ctx.continue_with(Msg::Note("chained"));
            }));
        }))
        .unwrap();
    address.cast(Msg::Note("queued")).unwrap();
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    let story = ["init", "before_continue", "continue", "chained", "queued", "to itself"];
    assert_eq!(written(&mut notes), story);
    address.cast(run(|_, ctx| ctx.continue_with(end(Stop::normal())))).unwrap();
    assert_eq!(exit(&node).await, ExitReason::Normal);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g18_a_continuation_of_init_comes_before_the_first_message() {
    fn continues(ctx: &mut Context<Msg>) -> Result<(), Stop> {
        ctx.address().cast(Msg::Note("message")).map_err(|error| Stop::error(error.to_string()))?;
        ctx.continue_with(Msg::Note("continue"));
        Ok(())
    }
    let (node, address, mut notes) = lone(Ways { init: Some(continues), ..Ways::default() }).await;
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    assert_eq!(written(&mut notes), ["init", "continue", "message"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g18_an_endless_chain_can_be_stopped() {
    fn again(_: &mut Probe, ctx: &mut Context<Msg>) {
        ctx.continue_with(run(again));
    }
    let (node, address, _notes) = lone(Ways::default()).await;
    address.cast(run(again)).unwrap();
    settle().await;
    assert_eq!(address.stop(SECOND).await, Ok(ExitReason::Normal));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g19_the_wait_for_quiet_is_cancelled_by_any_message() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address.cast(run(|_, ctx| ctx.receive_timeout(SECOND * 2, Msg::Note("quiet")))).unwrap();
    tokio::time::sleep(SECOND * 3).await;
    assert_eq!(written(&mut notes), ["init", "quiet"]);
    address.cast(run(|_, ctx| ctx.receive_timeout(SECOND * 2, Msg::Note("quiet")))).unwrap();
    tokio::time::sleep(SECOND).await;
    address.cast(Msg::Note("message")).unwrap();
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!(written(&mut notes), ["message"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_quiet_works_from_init() {
    let waits: Init = |ctx| {
        ctx.receive_timeout(SECOND, Msg::Note("quiet"));
        Ok(())
    };
    let (node, _, mut notes) = lone(Ways { init: Some(waits), ..Ways::default() }).await;
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(written(&mut notes), ["init", "quiet"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_is_not_quiet_while_a_message_waits_that_the_thread_has_no_time_for() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address.cast(Msg::Tire).unwrap();
    address.cast(Msg::Note("message")).unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(written(&mut notes), ["init", "message", "down"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g19_a_named_timer_is_replaced_cancelled_and_read() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address
        .cast(run(|probe, ctx| {
            ctx.start_timer("t", SECOND, Msg::Note("first"));
            ctx.start_timer("t", SECOND * 3, Msg::Note("second"));
            ctx.start_timer("u", SECOND * 2, Msg::Note("cancelled"));
            probe.note(format!("{:?} {:?}", ctx.read_timer("t"), ctx.cancel_timer("u")));
            probe.note(format!("{:?} {:?}", ctx.read_timer("u"), ctx.cancel_timer("u")));
        }))
        .unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(written(&mut notes), ["init", "Some(3s) Some(2s)", "None None", "second"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g19_a_timer_that_is_due_can_still_be_cancelled_or_replaced() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address
        .cast(run(|_, ctx| {
            let first = run(|probe, ctx| {
                probe.note(format!("{:?}", ctx.cancel_timer("cancelled")));
                ctx.start_timer("replaced", SECOND, Msg::Note("fresh"));
            });
            ctx.start_timer("first", SECOND, first);
            ctx.start_timer("cancelled", SECOND, Msg::Note("stale"));
            ctx.start_timer("replaced", SECOND, Msg::Note("stale"));
        }))
        .unwrap();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(written(&mut notes), ["init", "Some(0ns)", "fresh"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g19_timers_get_through_a_full_mailbox_and_die_with_their_life() {
    let (sender, mut notes) = notebook();
    let spec = probe("p", Ways::default(), &sender).mailbox(1);
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    address
        .cast(run(|_, ctx| {
            ctx.after(SECOND, Msg::Note("timer"));
            ctx.every(SECOND * 2, || Msg::Note("tick"));
        }))
        .unwrap();
    settle().await;
    address.cast(Msg::Slow(SECOND * 5, "slow")).unwrap();
    settle().await;
    address.cast(Msg::Note("queued")).unwrap();
    assert!(matches!(address.cast(Msg::Note("x")), Err(CastError::Full { .. })));
    tokio::time::sleep(Duration::from_millis(6500)).await;
    // Of the ticks at 2 s and 4 s one is left; the next keeps the rhythm.
    assert_eq!(written(&mut notes), ["init", "slow", "timer", "tick", "queued", "tick"]);
    address.cast(crash()).unwrap();
    receipt(&node, "child_restarted", 0).await;
    tokio::time::sleep(SECOND * 10).await;
    let after = written(&mut notes);
    assert!(!after.contains(&"tick".to_owned()), "{after:?}");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g20_stop_runs_terminate_and_waits_for_the_end() {
    let (node, address, mut notes) = lone(Ways { terminate_takes: SECOND, ..Ways::default() }).await;
    let begun = Instant::now();
    assert_eq!(address.stop(SECOND * 2).await, Ok(ExitReason::Normal));
    assert_eq!(begun.elapsed(), SECOND);
    assert_eq!(written(&mut notes), ["init", "terminate normal"]);
    assert_eq!(exit(&node).await, ExitReason::Normal);
    let again = address.stop(SECOND).await;
    assert_eq!(again.unwrap_err().to_string(), "'/p' is not running; there is nothing to stop");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g20_a_stop_may_name_its_reason_and_passes_a_full_mailbox() {
    let (sender, mut notes) = notebook();
    let spec = probe("p", Ways::default(), &sender).mailbox(1).permanent();
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    address.cast(Msg::Slow(SECOND, "slow")).unwrap();
    settle().await;
    address.cast(Msg::Note("queued")).unwrap();
    let why = ExitReason::ShutdownWith { why: "moved".into() };
    assert_eq!(address.stop_with(why.clone(), SECOND * 2).await, Ok(why));
    receipt(&node, "child_restarted", 0).await;
    assert_eq!(written(&mut notes), ["init", "slow", "terminate shutdown: moved", "init"]);
    assert_eq!(address.call(Msg::Ask).await, Ok(7), "a permanent child is started again");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g21_a_stop_that_times_out_does_not_kill() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address.cast(Msg::Slow(SECOND * 4, "done")).unwrap();
    settle().await;
    assert!(matches!(address.stop(SECOND).await, Err(StopError::Timeout { .. })));
    assert_eq!(written(&mut notes), ["init"], "it lives");
    assert_eq!(exit(&node).await, ExitReason::Normal);
    assert_eq!(written(&mut notes), ["done", "terminate normal"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g21_stop_or_kill_kills_when_the_time_is_over() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address.cast(Msg::Slow(SECOND * 4, "never")).unwrap();
    settle().await;
    let begun = Instant::now();
    assert_eq!(address.stop_or_kill(SECOND).await, Ok(ExitReason::Killed));
    assert_eq!(begun.elapsed(), SECOND);
    assert_eq!(written(&mut notes), ["init"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stop_or_kill_ends_an_init_that_waits() {
    let (sender, mut notes) = notebook();
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let spec = probe("p", Ways { init_takes: SECOND * 20, ..Ways::default() }, &sender);
    let address = spec.address();
    let starting = tokio::spawn(async move { handle.start_child(spec).await });
    settle().await;
    let begun = Instant::now();
    assert_eq!(address.stop_or_kill(SECOND).await, Ok(ExitReason::Killed));
    assert_eq!(begun.elapsed(), SECOND);
    let failed = starting.await.unwrap().unwrap_err();
    assert!(matches!(&failed, ChildError::Failed { reason: ExitReason::Killed, .. }), "{failed}");
    assert_eq!(written(&mut notes), Vec::<String>::new());
    node.stop("test").await.unwrap();
}

/// Blocks its thread when asked to, until what lets it go is dropped.
struct Blocker {
    begun: Arc<tokio::sync::Notify>,
    released: tokio::sync::watch::Receiver<()>,
}

impl Server for Blocker {
    type Msg = ();

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
        self.begun.notify_one();
        // No await: a kill finds no place to act.
        while self.released.has_changed().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g21_a_kill_that_ends_nobody_is_told_from_a_time_out() {
    let (release, released) = tokio::sync::watch::channel(());
    let begun = Arc::new(tokio::sync::Notify::new());
    let first = Blocker { begun: begun.clone(), released };
    let make = move || Blocker { begun: first.begun.clone(), released: first.released.clone() };
    let spec = server("p", make).temporary();
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    address.cast(()).unwrap();
    begun.notified().await; // A stop that came first would be seen first.
    let blocked = address.stop_or_kill(Duration::from_millis(20)).await;
    assert!(matches!(blocked, Err(StopError::Unkillable { .. })), "{blocked:?}");
    drop(release);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g22_terminate_runs_on_every_end_but_a_kill() {
    enum By {
        Message(Msg),
        Stop,
        Supervisor,
        Kill,
    }
    for (by, told) in [
        (By::Message(end(Stop::normal())), Some("normal")),
        (By::Message(end(Stop::error("lost"))), Some("error: lost")),
        (By::Message(end(Stop::shutdown("moved"))), Some("shutdown: moved")),
        (By::Message(crash()), Some("asked to")),
        (By::Stop, Some("normal")),
        (By::Supervisor, Some("shutdown")),
        (By::Kill, None),
    ] {
        let (node, address, mut notes) = lone(Ways::default()).await;
        let mut node = Some(node);
        match by {
            By::Message(message) => address.cast(message).unwrap(),
            By::Stop => assert!(address.stop(SECOND).await.is_ok()),
            By::Supervisor => node.take().unwrap().stop("test").await.unwrap(),
            By::Kill => {
                node.as_ref().unwrap().system().kill(&"/p".parse().unwrap(), "test").unwrap();
            }
        }
        if let Some(node) = node {
            exit(&node).await;
            node.stop("test").await.unwrap();
        }
        let told_of: Vec<_> = written(&mut notes).split_off(1);
        match told {
            None => assert!(told_of.is_empty(), "{told_of:?}"),
            Some(told) => {
                assert_eq!(told_of.len(), 1, "{told_of:?}");
                assert!(told_of[0].starts_with("terminate ") && told_of[0].ends_with(told), "{told_of:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g23_a_panic_in_terminate_is_the_reason_and_hangs_nobody() {
    let (node, address, mut notes) = lone(Ways { terminate_panics: true, ..Ways::default() }).await;
    let reason = address.stop(SECOND).await.unwrap();
    assert!(matches!(&reason, ExitReason::Panic { message, .. } if &**message == "in terminate"), "{reason}");
    assert_eq!(exit(&node).await, reason);
    assert_eq!(written(&mut notes), ["init", "terminate normal"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g23_a_terminate_that_hangs_is_limited_even_if_nobody_waits() {
    let (node, address, mut notes) =
        lone(Ways { terminate_takes: TERMINATE_LIMIT * 2, ..Ways::default() }).await;
    let begun = Instant::now();
    address.cast(end(Stop::normal())).unwrap();
    assert_eq!(exit(&node).await, ExitReason::Killed);
    assert_eq!(begun.elapsed(), TERMINATE_LIMIT);
    assert_eq!(written(&mut notes), ["init"]);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g23_a_terminate_keeps_to_its_limit_even_if_the_one_who_would_kill_it_has_gone() {
    let (node, address, _notes) = lone(Ways { terminate_takes: 10 * SECOND, ..Ways::default() }).await;
    let begun = Instant::now();
    tokio::select! {
        biased;
        ended = address.stop_or_kill(2 * SECOND) => panic!("{ended:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(exit(&node).await, ExitReason::Killed);
    assert_eq!(begun.elapsed(), 2 * SECOND);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g25_a_server_may_shed_memory_when_it_is_quiet_and_wakes_unnoticed() {
    struct Buffer(Vec<u8>);
    enum Ask {
        Fill,
        Shed,
        Room(Reply<usize>),
    }
    impl Server for Buffer {
        type Msg = Ask;
        async fn handle(&mut self, msg: Ask, ctx: &mut Context<Ask>) -> Result<(), Stop> {
            match msg {
                Ask::Fill => self.0.resize(1 << 20, 0),
                Ask::Shed => self.0 = Vec::new(),
                Ask::Room(reply) => reply.send(self.0.capacity()),
            }
            ctx.receive_timeout(SECOND, Ask::Shed);
            Ok(())
        }
    }
    let spec = server("b", || Buffer(Vec::new()));
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    address.cast(Ask::Fill).unwrap();
    assert!(1 << 20 <= address.call(Ask::Room).await.unwrap());
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(address.call(Ask::Room).await, Ok(0));
    let sys = node.system().sys(&"/b".parse().unwrap()).unwrap();
    assert_eq!(sys.status().await.unwrap().state, ActorState::Running);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g26_a_call_does_not_look_at_the_messages_the_caller_has_not_read() {
    const UNREAD: usize = 500_000;
    let (sender, _notes) = notebook();
    let (other, caller) = (
        probe("other", Ways::default(), &sender),
        probe("caller", Ways::default(), &sender).mailbox(UNREAD + 1),
    );
    let (other_address, address) = (other.address(), caller.address());
    let node = Node::builder("test").child(other).child(caller).start().await.unwrap();
    let answer = address.request(|reply| Msg::Call(other_address, reply));
    address.cast(Msg::Slow(SECOND, "read first")).unwrap();
    for _ in 1..UNREAD {
        address.cast(run(|_, _| ())).unwrap();
    }
    let seen = |node: &Node| node.system().tree().root.find(&"/caller".parse().unwrap()).unwrap().clone();
    assert_eq!(seen(&node).mailbox.unwrap().depth, UNREAD as u64 + 1);
    assert_eq!(answer.await, Ok(Ok(7)));
    assert_eq!(seen(&node).mailbox.unwrap().depth, UNREAD as u64 - 1, "the next is in hand by now");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g27_requests_are_collected_as_they_are_answered_until_one_deadline() {
    let (sender, _notes) = notebook();
    let specs: Vec<_> = (1..=4).map(|n| probe(&format!("p{n}"), Ways::default(), &sender)).collect();
    let addresses: Vec<_> = specs.iter().map(ServerSpec::address).collect();
    let mut builder = Node::builder("test");
    for spec in specs {
        builder = builder.child(spec.temporary());
    }
    let node = builder.start().await.unwrap();
    let begun = Instant::now();
    let deadline = begun + SECOND * 5;
    let mut requests = FuturesUnordered::new();
    for (address, (takes, answer)) in addresses.iter().zip([(3, 1), (1, 2), (2, 3), (9, 4)]) {
        requests.push(address.request_until(deadline, |reply| Msg::AskSlow(SECOND * takes, answer, reply)));
    }
    for (answer, after) in [(2, 1), (3, 2), (1, 3)] {
        assert_eq!(requests.next().await, Some(Ok(answer)));
        assert_eq!(begun.elapsed(), SECOND * after);
    }
    assert!(matches!(requests.next().await, Some(Err(CallError::Timeout { .. }))));
    assert_eq!((begun.elapsed(), requests.len()), (SECOND * 5, 0));
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!(addresses[3].call(Msg::Ask).await, Ok(7), "the late answer went nowhere");
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g27_the_death_of_a_server_is_told_for_each_of_its_requests() {
    let (sender, _notes) = notebook();
    let (dies, lives) = (probe("dies", Ways::default(), &sender), probe("lives", Ways::default(), &sender));
    let (dying, living) = (dies.address(), lives.address());
    let node = Node::builder("test").child(dies.temporary()).child(lives).start().await.unwrap();
    let mut requests: FuturesUnordered<_> = (0..3).map(|_| dying.request(Msg::Keep)).collect();
    requests.push(living.request(|reply| Msg::AskSlow(SECOND, 1, reply)));
    dying.cast(crash()).unwrap();
    for _ in 0..3 {
        let answer = requests.next().await;
        assert!(
            matches!(&answer, Some(Err(CallError::Died { reason: ExitReason::Panic { .. }, .. }))),
            "{answer:?}"
        );
    }
    assert_eq!(requests.next().await, Some(Ok(1)));
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g28_a_state_is_shown_as_its_type_lets_it_also_while_suspended() {
    let (node, address, _notes) = lone(Ways::default()).await;
    let sys = node.system().sys(&"/p".parse().unwrap()).unwrap();
    let _kept = address.request(Msg::Keep);
    sys.suspend().await.unwrap();
    let status = sys.status().await.unwrap();
    assert!(status.suspended);
    assert_eq!(status.shows, StateView::Shown { text: "secret: ***, kept: 0".into() });
    sys.resume().unwrap();
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    assert_eq!(sys.status().await.unwrap().shows, StateView::Shown { text: "secret: ***, kept: 1".into() });
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g28_a_failing_hook_hides_and_hurts_nothing() {
    let (node, address, mut notes) = lone(Ways::default()).await;
    address.cast(run(|probe, _| probe.secret = 666)).unwrap();
    assert_eq!(address.call(Msg::Ask).await, Ok(7));
    let sys = node.system().sys(&"/p".parse().unwrap()).unwrap();
    let status = sys.status().await.unwrap();
    assert_eq!(status.state, ActorState::Running);
    assert!(matches!(status.shows, StateView::Failed { reason: ExitReason::Panic { .. } }), "{status:?}");
    assert_eq!(address.call(Msg::Ask).await, Ok(7), "the state is as it was");
    address.cast(crash()).unwrap();
    assert!(exit(&node).await.to_string().ends_with("asked to"), "the crash is told, not the hook");
    assert_eq!(written(&mut notes).len(), 2);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_state_that_declined_does_not_reach_its_supervisor() {
    struct Brittle(Arc<OnceLock<()>>);
    impl Drop for Brittle {
        fn drop(&mut self) {
            assert!(self.0.set(()).is_err(), "in drop");
        }
    }
    impl Server for Brittle {
        type Msg = ();
        async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
            Err(Stop::ignore())
        }
        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Ok(())
        }
    }
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    let dropped = Arc::new(OnceLock::new());
    let first = dropped.clone();
    assert_eq!(handle.start_child(server("b", move || Brittle(first.clone()))).await, Ok(None));
    assert!(dropped.get().is_some());
    let (sender, _notes) = notebook();
    assert!(handle.start_child(probe("p", Ways::default(), &sender)).await.unwrap().is_some());
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_over_before_its_start_is_told_counts_as_one() {
    struct Brief;
    impl Server for Brief {
        type Msg = ();
        async fn init(&mut self, ctx: &mut Context<()>) -> Result<(), Stop> {
            tokio::task::yield_now().await;
            ctx.continue_with(());
            Ok(())
        }
        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Err(Stop::error("over"))
        }
    }
    let pool = Supervisor::dynamic("pool");
    let handle = pool.handle();
    let node = Node::builder("test").child(pool).start().await.unwrap();
    handle.start_child_soon(server("p", || Brief));
    let restarted = receipt(&node, "child_restarted", 0).await;
    assert_eq!(restarted.path.as_str(), "/pool/p");
    assert!(matches!(restarted.event, Event::ChildRestarted { restarts: 1, .. }), "{restarted:?}");
    node.stop("test").await.unwrap();
}
