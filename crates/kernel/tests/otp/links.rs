//! Rows R01–R20: links, monitors, the registry and groups.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Poller, Wake, Waker};
use std::time::Duration;

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_kernel::{
    Address, CastError, ChildError, ChildSpec, Context, Down, DynamicRef, Exit, GROUP_EVENTS, Group,
    GroupEvent, JoinError, Member, MemberRefusal, Monitor, MonitorRef, Node, Reply, Server, ServerSpec, Stop,
    Supervisor, server, task,
};
use tokio::sync::{mpsc, oneshot};

use crate::kit;

/// Does as it is told, and tells what it takes.
struct Peer {
    told: mpsc::Sender<Told>,
    monitors: Vec<MonitorRef>,
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Down(Down),
    Exit(Exit),
    Note(u32),
}

enum Msg {
    Who(Reply<Incarnation>),
    /// Carries out a step in the server's own task, and says when it is done.
    Do(Step, Reply<()>),
    End(fn() -> Result<(), Stop>),
    Hang,
    Wait(oneshot::Receiver<()>),
    Tell(Told),
    /// Sends itself on and on.
    Again(Address<Msg>),
}

type Step = Box<dyn FnOnce(&mut Peer, &mut Context<Msg>) + Send>;

impl Server for Peer {
    type Msg = Msg;

    async fn handle(&mut self, msg: Msg, ctx: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Who(reply) => reply.send(ctx.incarnation()),
            Msg::Do(step, reply) => {
                step(self, ctx);
                reply.send(());
            }
            Msg::End(how) => return how(),
            Msg::Hang => std::future::pending().await,
            Msg::Wait(gate) => gate.await.unwrap_or_default(),
            Msg::Again(address) => cast(&address, Msg::Again(address.clone())),
            Msg::Tell(told) => self.told.try_send(told).expect("a test reads what it is told"),
        }
        Ok(())
    }
}

/// A node with a dynamic supervisor `/peers`.
struct Bench {
    node: Node,
    peers: DynamicRef,
    told: mpsc::Receiver<Told>,
    tell: mpsc::Sender<Told>,
}

impl Bench {
    async fn new() -> Self {
        let peers = Supervisor::dynamic("peers").intensity(1000, Duration::from_secs(1));
        let handle = peers.handle();
        let node = Node::builder("test").child(peers).start().await.expect("the tree is sound");
        let (tell, told) = mpsc::channel(1000);
        Self { node, peers: handle, told, tell }
    }

    fn spec(&self, name: &str) -> ServerSpec<Peer> {
        let told = self.tell.clone();
        server(name, move || Peer { told: told.clone(), monitors: Vec::new() }).temporary()
    }

    async fn start(&self, name: &str) -> (ActorPath, Address<Msg>) {
        let spec = self.spec(name);
        let address = spec.address();
        (self.add(spec).await, address)
    }

    async fn add(&self, child: impl Into<ChildSpec>) -> ActorPath {
        let started = self.peers.start_child(child).await.expect("the name is free");
        started.expect("it does not decline").path
    }

    fn monitor(&self, path: &ActorPath) -> Monitor {
        self.node.system().monitor(path)
    }

    fn kill(&self, path: &ActorPath) {
        self.node.system().kill(path, "test").expect("it runs");
    }

    fn group(&self, name: &str) -> Group<Msg> {
        self.node.system().groups().group(name).expect("it takes these messages")
    }

    async fn told(&mut self) -> Told {
        let told = tokio::time::timeout(Duration::from_secs(3600), self.told.recv()).await;
        told.expect("it is told in time").expect("the bench holds a sender")
    }

    /// What was told so far, after every task has had its turn.
    async fn told_so_far(&mut self) -> Vec<Told> {
        settle().await;
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }
}

/// Passes when no task has anything to do: virtual time moves only then.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn ask(peer: &Address<Msg>, step: impl FnOnce(&mut Peer, &mut Context<Msg>) + Send + 'static) {
    peer.call(|reply| Msg::Do(Box::new(step), reply)).await.expect("it answers");
}

/// Has `peer` watch `path`.
async fn watch(peer: &Address<Msg>, path: &ActorPath) {
    let path = path.clone();
    ask(peer, move |peer, ctx| {
        peer.monitors.push(ctx.monitor(&path, |down| Msg::Tell(Told::Down(down))));
    })
    .await;
}

async fn trap_exits(peer: &Address<Msg>) {
    ask(peer, |_, ctx| ctx.trap_exits(|exit| Msg::Tell(Told::Exit(exit)))).await;
}

async fn link(peer: &Address<Msg>, path: &ActorPath) {
    let path = path.clone();
    ask(peer, move |_, ctx| ctx.link(&path)).await;
}

async fn who(peer: &Address<Msg>) -> Incarnation {
    peer.call(Msg::Who).await.expect("it answers")
}

fn fails() -> Result<(), Stop> {
    Err(Stop::error("asked to"))
}

fn failure() -> ExitReason {
    ExitReason::Error { message: "asked to".into() }
}

fn path(text: &str) -> ActorPath {
    text.parse().expect("a path")
}

#[tokio::test(start_paused = true)]
async fn r01_a_monitor_gives_one_down_with_place_life_and_reason() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    for (name, how, reason) in [
        ("normal", (|| Err(Stop::normal())) as fn() -> Result<(), Stop>, Some(ExitReason::Normal)),
        ("failing", fails, Some(failure())),
        ("panicking", || panic!("asked to"), None),
    ] {
        let (path, address) = bench.start(name).await;
        let incarnation = who(&address).await;
        watch(&watching, &path).await;
        let mut monitor = bench.monitor(&path);
        assert_eq!(monitor.incarnation(), Some(incarnation));
        cast(&address, Msg::End(how));
        let down = (&mut monitor).await;
        assert_eq!((&down.path, down.incarnation), (&path, Some(incarnation)));
        match reason {
            Some(reason) => assert_eq!(down.reason, reason),
            None => {
                assert!(
                    matches!(&down.reason, ExitReason::Panic { message, .. } if &**message == "asked to")
                );
            }
        }
        assert_eq!(bench.told().await, Told::Down(down));
        let again = tokio::time::timeout(Duration::from_secs(3600), monitor).await;
        assert!(again.is_err(), "one end has one `Down`: {again:?}");
    }
    assert_eq!(bench.told_so_far().await, []);
}

#[tokio::test(start_paused = true)]
async fn r02_a_monitor_of_nobody_says_noproc_at_once() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    let nobody = path("/peers/nobody");
    let down = bench.monitor(&nobody).await;
    assert_eq!((&down.path, down.incarnation, &down.reason), (&nobody, None, &ExitReason::NoProc));
    watch(&watching, &nobody).await;
    assert_eq!(bench.told().await, Told::Down(down));

    let (path, address) = bench.start("dead").await;
    let first = who(&address).await;
    bench.kill(&path);
    bench.monitor(&path).await;
    assert_eq!(bench.monitor(&path).await.reason, ExitReason::NoProc);
    // The place has a life again, but not the one that is asked for.
    bench.start("dead").await;
    let down = bench.node.system().monitor_life(&path, first).await;
    assert_eq!((down.incarnation, down.reason), (Some(first), ExitReason::NoProc));
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_starting_is_watched_and_its_failed_start_is_its_reason() {
    struct Slow;
    impl Server for Slow {
        type Msg = ();

        async fn init(&mut self, _: &mut Context<()>) -> Result<(), Stop> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err(Stop::error("no use"))
        }

        async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
            Ok(())
        }
    }
    let bench = Bench::new().await;
    let peers = bench.peers.clone();
    let start = tokio::spawn(async move { peers.start_child(server("slow", || Slow)).await });
    settle().await;
    let monitor = bench.monitor(&path("/peers/slow"));
    assert!(monitor.incarnation().is_some());
    assert_eq!(monitor.await.reason, ExitReason::Error { message: "no use".into() });
    start.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn r03_monitors_of_one_life_are_independent() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    let (path, _) = bench.start("target").await;
    let (first, second, dropped) = (bench.monitor(&path), bench.monitor(&path), bench.monitor(&path));
    watch(&watching, &path).await;
    watch(&watching, &path).await;
    drop(dropped);
    bench.kill(&path);
    assert_eq!(first.await, second.await);
    assert_eq!(bench.told().await, bench.told().await);
    assert_eq!(bench.told_so_far().await, []);
}

#[tokio::test(start_paused = true)]
async fn r04_a_monitor_that_was_ended_tells_nothing_and_ends_twice() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    let (path, _) = bench.start("target").await;
    watch(&watching, &path).await;
    ask(&watching, |peer, ctx| {
        let monitor = peer.monitors[0];
        ctx.demonitor(monitor);
        ctx.demonitor(monitor);
    })
    .await;
    let alive = bench.monitor(&path);
    bench.kill(&path);
    alive.await;
    assert_eq!(bench.told_so_far().await, []);
    // After the end it does nothing either.
    ask(&watching, |peer, ctx| ctx.demonitor(peer.monitors[0])).await;
}

/// Holds `peer` inside a handler until the sender is used or dropped.
async fn hold(peer: &Address<Msg>) -> oneshot::Sender<()> {
    let (open, gate) = oneshot::channel();
    cast(peer, Msg::Wait(gate));
    settle().await;
    open
}

fn cast(peer: &Address<Msg>, msg: Msg) {
    peer.cast(msg).unwrap_or_else(|error| panic!("{error:?}"));
}

#[tokio::test(start_paused = true)]
async fn r05_ending_a_monitor_takes_back_a_down_that_waits() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    let (path, _) = bench.start("target").await;
    watch(&watching, &path).await;
    watch(&watching, &path).await;
    let (alive, unread) = (bench.monitor(&path), bench.monitor(&path));
    let gate = hold(&watching).await;
    bench.kill(&path);
    alive.await;
    settle().await;
    // Now three `Down`s have come and none has been looked at: two are taken back.
    drop(unread);
    let (reply, done) = Reply::channel();
    let step: Step = Box::new(|peer, ctx| ctx.demonitor(peer.monitors[0]));
    cast(&watching, Msg::Do(step, reply));
    gate.send(()).unwrap();
    done.await.unwrap();
    let told = bench.told_so_far().await;
    assert!(matches!(&told[..], [Told::Down(down)] if down.path == path), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_loses_no_down_and_the_last_message_comes_before_it() {
    let mut bench = Bench::new().await;
    let spec = bench.spec("watcher").mailbox(2);
    let watching = spec.address();
    bench.add(spec).await;
    let (path, _) = bench.start("target").await;
    watch(&watching, &path).await;
    let gate = hold(&watching).await;
    cast(&watching, Msg::Tell(Told::Note(1)));
    cast(&watching, Msg::Tell(Told::Note(2)));
    assert!(matches!(watching.cast(Msg::Hang), Err(CastError::Full { .. })));
    let alive = bench.monitor(&path);
    bench.kill(&path);
    let down = alive.await;
    gate.send(()).unwrap();
    assert_eq!(bench.told().await, Told::Note(1));
    assert_eq!(bench.told().await, Told::Note(2));
    assert_eq!(bench.told().await, Told::Down(down));
}

#[tokio::test(start_paused = true)]
async fn a_down_has_its_turn_while_messages_never_end() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    let (path, _) = bench.start("target").await;
    watch(&watching, &path).await;
    let again = watching.clone();
    // Every message sends the next one: the mailbox is never empty.
    ask(&watching, move |_, _| cast(&again, Msg::Again(again.clone()))).await;
    bench.kill(&path);
    assert!(matches!(bench.told.recv().await, Some(Told::Down(down)) if down.path == path));
}

#[tokio::test(start_paused = true)]
async fn a_down_has_its_turn_while_ticks_never_end() {
    let mut bench = Bench::new().await;
    let (_, watching) = bench.start("watcher").await;
    let (path, _) = bench.start("target").await;
    watch(&watching, &path).await;
    // Each takes longer than its period: one is always due.
    ask(&watching, |_, ctx| {
        ctx.every(Duration::from_millis(10), || {
            let (open, gate) = oneshot::channel();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                // The watcher may be gone.
                let _ = open.send(());
            });
            Msg::Wait(gate)
        });
    })
    .await;
    tokio::time::sleep(Duration::from_millis(15)).await;
    bench.kill(&path);
    cast(&watching, Msg::Tell(Told::Note(1)));
    assert_eq!(bench.told().await, Told::Note(1));
    assert!(matches!(bench.told().await, Told::Down(down) if down.path == path));
    cast(&watching, Msg::Tell(Told::Note(2)));
    assert_eq!(bench.told().await, Told::Note(2));
}

#[tokio::test(start_paused = true)]
async fn a_monitor_of_a_life_that_is_over_leaves_nothing_behind() {
    let mut bench = Bench::new().await;
    let (watcher, watching) = bench.start("watcher").await;
    let (path, _) = bench.start("target").await;
    watch(&watching, &path).await;
    let over = bench.monitor(&watcher);
    bench.kill(&watcher);
    over.await;
    let (_, next) = bench.start("watcher").await;
    bench.kill(&path);
    // The new life has watched nobody.
    assert_eq!(bench.told_so_far().await, []);
    who(&next).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_stopped_with_messages_waiting_ends_by_shutdown() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("busy").await;
    let gate = hold(&address).await;
    for note in 0..10 {
        cast(&address, Msg::Tell(Told::Note(note)));
    }
    let monitor = bench.monitor(&path);
    let peers = bench.peers.clone();
    let stop = tokio::spawn(async move { peers.terminate_child("busy").await });
    settle().await;
    gate.send(()).unwrap();
    stop.await.unwrap().unwrap();
    assert_eq!(monitor.await.reason, ExitReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn r06_a_reason_of_any_size_arrives_whole() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("large").await;
    let monitor = bench.monitor(&path);
    cast(&address, Msg::End(|| Err(Stop::error("x".repeat(1 << 20)))));
    let ExitReason::Error { message } = monitor.await.reason else { panic!("not an error") };
    assert_eq!(*message, *"x".repeat(1 << 20));
}

#[tokio::test(start_paused = true)]
async fn r07_the_name_is_free_when_the_down_comes() {
    let bench = Bench::new().await;
    for round in 0..2000 {
        let (path, address) = bench.start("name").await;
        let monitor = bench.monitor(&path);
        if round % 2 == 0 {
            cast(&address, Msg::End(fails));
        } else {
            bench.kill(&path);
        }
        monitor.await;
        assert_eq!(bench.node.system().whereis(&path), None, "round {round}");
        // `start` panics if the name is taken.
    }
}

#[tokio::test(start_paused = true)]
async fn r08_a_monitor_by_name_reports_name_and_reason() {
    let bench = Bench::new().await;
    let permanent = server("kept", || Peer { told: mpsc::channel(1).0, monitors: Vec::new() });
    let address = permanent.address();
    let path = bench.add(permanent).await;
    assert_eq!(address.path().as_ref(), Some(&path));
    let first = who(&address).await;
    let monitor = bench.monitor(&path);
    bench.kill(&path);
    let down = monitor.await;
    assert_eq!((down.path, down.incarnation, down.reason), (path.clone(), Some(first), ExitReason::Killed));
    // The name has a new life, which nobody watches yet.
    kit::receipt(&bench.node, "child_restarted", 0).await;
    assert!(Some(first) < bench.node.system().whereis(&path));
}

#[tokio::test(start_paused = true)]
async fn r09_a_name_never_leads_to_an_earlier_life() {
    let bench = Bench::new().await;
    let mut last = Incarnation(0);
    for round in 0..5000 {
        let (path, address) = bench.start("name").await;
        let found = bench.node.system().whereis(&path);
        let by_name = bench.node.system().address::<Msg>(&path).expect("it runs");
        let (here, there) = (who(&address).await, who(&by_name).await);
        assert_eq!((found, here), (Some(there), there), "round {round}");
        assert!(last < here, "round {round}");
        last = here;
        let monitor = bench.monitor(&path);
        if round % 2 == 0 {
            bench.peers.terminate_child("name").await.unwrap();
        } else {
            bench.kill(&path);
        }
        assert_eq!(monitor.await.incarnation, Some(here));
        assert_eq!(bench.node.system().whereis(&path), None, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn r10_what_cannot_be_a_name_is_refused() {
    let bench = Bench::new().await;
    for name in ["", "two words", "a/b", "..", &"x".repeat(65)] {
        let refused = bench.peers.start_child(bench.spec(name)).await;
        assert!(matches!(refused, Err(ChildError::Spec(_))), "{name:?}: {refused:?}");
    }
    let gone = Supervisor::dynamic("gone").handle();
    assert!(matches!(gone.start_child(bench.spec("x")).await, Err(ChildError::NotRunning)));
}

#[tokio::test(start_paused = true)]
async fn r11_a_taken_name_is_refused_and_its_holder_is_untouched() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("name").await;
    let holder = who(&address).await;
    let refused = bench.peers.start_child(bench.spec("name")).await.unwrap_err();
    assert!(
        matches!(&refused, ChildError::AlreadyStarted { name, incarnation } if name.as_str() == "name" && *incarnation == holder),
        "{refused:?}"
    );
    assert_eq!(who(&address).await, holder);
    assert_eq!(bench.node.system().whereis(&path), Some(holder));
}

#[tokio::test(start_paused = true)]
async fn r12_one_life_can_have_many_names_and_loses_them_all_when_it_ends() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("peer").await;
    let names: Vec<_> = (0..100).map(|number| format!("alias-{number}")).collect();
    let aliases: Vec<Group<Msg>> = names.iter().map(|name| bench.group(name)).collect();
    for alias in &aliases {
        assert!(alias.join(&address).unwrap());
        assert_eq!(alias.members()[0].path(), &path);
    }
    assert_eq!(bench.node.system().groups().names().len(), 100);
    let monitor = bench.monitor(&path);
    bench.kill(&path);
    monitor.await;
    assert!(aliases.iter().all(Group::is_empty));
    assert_eq!(bench.node.system().groups().names(), []);
}

#[tokio::test(start_paused = true)]
async fn r13_a_send_to_nobody_is_an_error_that_gives_the_message_back() {
    let bench = Bench::new().await;
    bench.node.system().address::<Msg>(&path("/peers/nobody")).unwrap_err();
    let (path, address) = bench.start("dead").await;
    let pinned = address.pin().unwrap();
    let monitor = bench.monitor(&path);
    bench.kill(&path);
    monitor.await;
    let refused = address.cast(Msg::End(fails)).unwrap_err();
    assert!(refused.to_string().starts_with("'/peers/dead' is not running"), "{refused}");
    assert!(matches!(refused.into_message(), Msg::End(_)));
    assert!(matches!(pinned.cast(Msg::Hang), Err(Msg::Hang)));
}

#[tokio::test(start_paused = true)]
async fn r14_a_clean_exit_takes_nobody_along() {
    let mut bench = Bench::new().await;
    let (_, linked) = bench.start("linked").await;
    let (_, trapping) = bench.start("trapping").await;
    trap_exits(&trapping).await;
    let before = who(&linked).await;
    let ends: [fn() -> Result<(), Stop>; 2] = [|| Err(Stop::normal()), || Err(Stop::shutdown("done"))];
    for (how, clean) in ends.into_iter().map(Some).chain([None]).zip([
        ExitReason::Normal,
        ExitReason::ShutdownWith { why: "done".into() },
        ExitReason::Shutdown,
    ]) {
        let (path, address) = bench.start("peer").await;
        link(&linked, &path).await;
        link(&trapping, &path).await;
        let monitor = bench.monitor(&path);
        match how {
            Some(how) => cast(&address, Msg::End(how)),
            None => bench.peers.terminate_child("peer").await.unwrap(),
        }
        assert_eq!(monitor.await.reason, clean);
        // Who takes exits as messages is told of clean ones as well.
        let Told::Exit(exit) = bench.told().await else { panic!("not an exit") };
        assert_eq!((exit.path, exit.reason), (path, clean));
        assert_eq!(who(&linked).await, before);
    }
}

#[tokio::test(start_paused = true)]
async fn r15_an_abnormal_exit_takes_the_linked_along_both_ways() {
    let mut bench = Bench::new().await;
    for (dies, other) in [("left", "right"), ("right", "left")] {
        for killed in [true, false] {
            let (left, left_address) = bench.start("left").await;
            let (right, right_address) = bench.start("right").await;
            let (_, trapping) = bench.start("trapping").await;
            trap_exits(&trapping).await;
            link(&left_address, &right).await;
            link(&trapping, &path(&format!("/peers/{other}"))).await;
            let (left_down, right_down) = (bench.monitor(&left), bench.monitor(&right));
            let (path, address) = match dies {
                "left" => (left.clone(), left_address),
                _ => (right.clone(), right_address),
            };
            let reason = if killed {
                bench.kill(&path);
                ExitReason::Killed
            } else {
                cast(&address, Msg::End(fails));
                failure()
            };
            assert_eq!(left_down.await.reason, reason, "{dies} dies");
            assert_eq!(right_down.await.reason, reason, "{dies} dies");
            // The exit travels on, and a kill can be trapped where it arrives.
            let Told::Exit(exit) = bench.told().await else { panic!("not an exit") };
            assert_eq!((exit.path.name(), exit.reason), (other, reason));
            bench.peers.terminate_child("trapping").await.unwrap();
            settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_linked_server_is_ended_inside_its_handler_and_restarted_by_its_own_rules() {
    let bench = Bench::new().await;
    let kept = server("kept", || Peer { told: mpsc::channel(1).0, monitors: Vec::new() });
    let address = kept.address();
    let kept = bench.add(kept).await;
    let (peer, _) = bench.start("peer").await;
    link(&address, &peer).await;
    let first = who(&address).await;
    cast(&address, Msg::Hang);
    let monitor = bench.monitor(&kept);
    bench.kill(&peer);
    assert_eq!(monitor.await.reason, ExitReason::Killed);
    kit::receipt(&bench.node, "child_restarted", 0).await;
    assert!(first < who(&address).await);
    // The new life is linked to nobody.
    let (peer, _) = bench.start("peer").await;
    let second = who(&address).await;
    bench.kill(&peer);
    settle().await;
    assert_eq!(who(&address).await, second);
}

#[tokio::test(start_paused = true)]
async fn a_task_shares_the_fate_of_those_it_links_to() {
    let bench = Bench::new().await;
    let (peer, address) = bench.start("peer").await;
    let target = peer.clone();
    let linked = task("linked", move |ctx| {
        let target = target.clone();
        async move {
            ctx.link(&target);
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let linked = bench.add(linked.temporary()).await;
    settle().await;
    let monitor = bench.monitor(&linked);
    cast(&address, Msg::End(fails));
    assert_eq!(monitor.await.reason, failure());
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_passes_over_exits_that_are_not_its_childrens() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("peer").await;
    link(&address, &self::path("/peers")).await;
    let supervisor = bench.node.system().whereis(&self::path("/peers"));
    let monitor = bench.monitor(&path);
    bench.kill(&path);
    monitor.await;
    settle().await;
    assert_eq!(bench.node.system().whereis(&self::path("/peers")), supervisor);
}

#[tokio::test(start_paused = true)]
async fn r16_a_link_to_nobody_is_an_exit_with_noproc() {
    let mut bench = Bench::new().await;
    let nobody = path("/peers/nobody");
    let (_, trapping) = bench.start("trapping").await;
    trap_exits(&trapping).await;
    link(&trapping, &nobody).await;
    let Told::Exit(exit) = bench.told().await else { panic!("not an exit") };
    assert_eq!((&exit.path, exit.incarnation, exit.reason), (&nobody, None, ExitReason::NoProc));
    let (linker, address) = bench.start("linker").await;
    let monitor = bench.monitor(&linker);
    // The exit may come before the answer does.
    cast(&address, Msg::Do(Box::new(move |_, ctx| ctx.link(&nobody)), Reply::channel().0));
    assert_eq!(monitor.await.reason, ExitReason::NoProc);
}

/// Links to this place in `init`, and waits there.
struct Waits(ActorPath);

impl Server for Waits {
    type Msg = ();

    async fn init(&mut self, ctx: &mut Context<()>) -> Result<(), Stop> {
        struct Sour;
        impl Drop for Sour {
            fn drop(&mut self) {
                panic!("sour");
            }
        }
        let _sour = Sour;
        ctx.link(&self.0);
        std::future::pending().await
    }

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), Stop> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_ends_an_init_that_waits() {
    let bench = Bench::new().await;
    let supervisor = bench.node.system().whereis(&path("/peers"));
    let (peer, _) = bench.start("peer").await;
    for (to, expected) in [(peer.clone(), ExitReason::Killed), (path("/peers/nobody"), ExitReason::NoProc)] {
        let waits = server("waits", move || Waits(to.clone())).temporary();
        let peers = bench.peers.clone();
        let begun = tokio::time::Instant::now();
        let starting = tokio::spawn(async move { peers.start_child(waits).await });
        settle().await;
        if expected == ExitReason::Killed {
            bench.kill(&peer);
        }
        let failed = starting.await.unwrap().unwrap_err();
        assert!(matches!(&failed, ChildError::Failed { reason, .. } if *reason == expected), "{failed}");
        assert!(begun.elapsed() < Duration::from_secs(1), "of virtual time");
    }
    // What such an `init` held is no harm to the supervisor either.
    assert_eq!(bench.node.system().whereis(&path("/peers")), supervisor);
    bench.start("waits").await;
}

#[tokio::test(start_paused = true)]
async fn r17_after_an_unlink_no_exit_of_that_peer_comes() {
    let mut bench = Bench::new().await;
    let (_, linked) = bench.start("linked").await;
    let (_, trapping) = bench.start("trapping").await;
    trap_exits(&trapping).await;
    let (path, address) = bench.start("peer").await;
    for linker in [&linked, &trapping] {
        link(linker, &path).await;
        link(linker, &path).await;
    }
    let target = path.clone();
    ask(&linked, move |_, ctx| ctx.unlink(&target)).await;
    // The other one unlinks when the exit has come and waits to be handled.
    let gate = hold(&trapping).await;
    let monitor = bench.monitor(&path);
    cast(&address, Msg::End(fails));
    monitor.await;
    settle().await;
    let (reply, done) = Reply::channel();
    let target = path.clone();
    cast(&trapping, Msg::Do(Box::new(move |_, ctx| ctx.unlink(&target)), reply));
    gate.send(()).unwrap();
    done.await.unwrap();
    assert_eq!(bench.told_so_far().await, []);
    who(&linked).await;
    // Nor does the linker's end reach a peer it has let go.
    let (path, address) = bench.start("peer").await;
    link(&linked, &path).await;
    let target = path.clone();
    ask(&linked, move |_, ctx| ctx.unlink(&target)).await;
    cast(&linked, Msg::End(fails));
    settle().await;
    who(&address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_first_a_link_or_a_monitor_and_a_death_do_no_harm() {
    let mut bench = Bench::new().await;
    for round in 0..500 {
        let (left, left_address) = bench.start("left").await;
        let (right, right_address) = bench.start("right").await;
        let (_, watching) = bench.start("watcher").await;
        link(&left_address, &right).await;
        watch(&watching, &right).await;
        let (left_down, right_down) = (bench.monitor(&left), bench.monitor(&right));
        let system = bench.node.system().clone();
        let target = left.clone();
        // One of the two may have taken the other along before the second kill.
        let killing = tokio::spawn(async move { system.kill(&target, "test").is_ok() });
        let linking = {
            let left = left.clone();
            let (reply, done) = Reply::channel();
            let step: Step = Box::new(move |peer: &mut Peer, ctx| {
                ctx.demonitor(peer.monitors[0]);
                ctx.link(&left);
                ctx.unlink(&left);
            });
            cast(&watching, Msg::Do(step, reply));
            done
        };
        if round % 2 == 0 {
            // It may be gone already.
            let _ = right_address.cast(Msg::End(fails));
        }
        let (left_reason, right_reason) = (left_down.await.reason, right_down.await.reason);
        for reason in [left_reason, right_reason] {
            assert!(matches!(reason, ExitReason::Killed | ExitReason::Error { .. }), "{reason}");
        }
        killing.await.unwrap();
        // The watcher may have linked to somebody who was dead, which ends it; otherwise it was let go.
        let _ = linking.await;
        // What came before the monitor was ended may have been told, once.
        let told: Vec<_> = std::iter::from_fn(|| bench.told.try_recv().ok()).collect();
        assert!(told.len() <= 1, "{told:?}");
        // Nobody is there any more, or it goes on as if nothing had been.
        let _ = bench.peers.terminate_child("watcher").await;
    }
}

#[tokio::test(start_paused = true)]
async fn r18_joining_twice_is_joining_once_and_an_empty_group_vanishes() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("peer").await;
    let group = bench.group("room");
    assert!(group.is_empty());
    assert!(!group.leave(&address), "it has not joined");
    assert_eq!((group.join(&address), group.join(&address)), (Ok(true), Ok(false)));
    assert_eq!(group.members().len(), 1);
    assert_eq!(bench.node.system().groups().names(), [group.name().clone()]);
    assert_eq!((group.leave(&address), group.leave(&address)), (true, false));
    assert_eq!(bench.node.system().groups().names(), []);
    // Who is not there cannot join, and a group that nobody holds may take other messages.
    let refused = bench.spec("never started").address();
    assert!(matches!(group.join(&refused), Err(JoinError::NotRunning { .. })));
    assert!(group.join(&address).unwrap());
    let wrong = bench.node.system().groups().group::<u64>("room").unwrap_err().to_string();
    assert!(wrong.contains("::Msg`, not `u64`"), "{wrong}");
    drop(group);
    let monitor = bench.monitor(&path);
    bench.kill(&path);
    monitor.await;
    bench.node.system().groups().group::<u64>("room").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_names_who_refuses_and_reaches_the_others() {
    #[derive(Clone, Copy)]
    struct News(u32);
    let mut bench = Bench::new().await;
    let news: Group<News> = bench.node.system().groups().group("news").unwrap();
    let full = bench.spec("full").mailbox(1);
    let full_address = full.address();
    let full_path = bench.add(full).await;
    let (_, other) = bench.start("other").await;
    for address in [&full_address, &other] {
        // Members that understand more than the group says.
        news.join_as(address, |News(note)| Msg::Tell(Told::Note(note))).unwrap();
    }
    let gate = hold(&full_address).await;
    cast(&full_address, Msg::Tell(Told::Note(1)));
    let broadcast = news.broadcast(News(2));
    assert_eq!(broadcast.delivered, 1);
    let refused: Vec<_> = broadcast.refused.iter().map(|(who, why)| (who.path(), *why)).collect();
    assert_eq!(refused, [(&full_path, MemberRefusal::Full)]);
    assert_eq!(bench.told().await, Told::Note(2));
    gate.send(()).unwrap();
    assert_eq!(bench.told().await, Told::Note(1));
    assert_eq!(news.broadcast(News(3)).delivered, 2);
    assert_eq!(bench.told_so_far().await, [Told::Note(3), Told::Note(3)]);
}

#[tokio::test(start_paused = true)]
async fn who_hears_of_an_end_finds_the_groups_left() {
    struct Look {
        group: Group<Msg>,
        seen: std::sync::mpsc::Sender<bool>,
    }
    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            // The test may be over.
            let _ = self.seen.send(self.group.is_empty());
        }
    }
    let bench = Bench::new().await;
    let (_, address) = bench.start("peer").await;
    let group = bench.group("room");
    group.join(&address).unwrap();
    let (seen, looks) = std::sync::mpsc::channel();
    let waker = Waker::from(Arc::new(Look { group: group.clone(), seen }));
    let mut stop = pin!(address.stop(Duration::from_secs(1)));
    assert!(stop.as_mut().poll(&mut Poller::from_waker(&waker)).is_pending());
    settle().await;
    assert_eq!(looks.try_iter().next(), Some(true), "looked at where the end is told");
    assert_eq!(stop.await, Ok(ExitReason::Normal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r19_leaving_and_dying_at_once_is_harmless() {
    let bench = Bench::new().await;
    for round in 0..500 {
        let (path, address) = bench.start("peer").await;
        let groups: Vec<_> = (0..3).map(|number| bench.group(&format!("group-{number}"))).collect();
        let monitors: Vec<_> = groups.iter().map(Group::monitor).collect();
        for group in &groups {
            assert!(group.join(&address).unwrap());
        }
        let monitor = bench.monitor(&path);
        let leaving = tokio::spawn({
            let (group, address) = (groups[1].clone(), address.clone());
            async move {
                group.leave(&address);
                let _ = group.join(&address);
            }
        });
        bench.kill(&path);
        monitor.await;
        leaving.await.unwrap();
        assert!(groups.iter().all(Group::is_empty), "round {round}");
        for mut monitor in monitors {
            let joined = monitor.changed().await;
            assert!(matches!(&joined, GroupEvent::Joined(member) if *member.path() == path), "{joined:?}");
            let left = monitor.changed().await;
            assert!(matches!(&left, GroupEvent::Left(member) if *member.path() == path), "{left:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r20_a_group_monitor_has_the_members_and_every_change_after() {
    let bench = Bench::new().await;
    let group = bench.group("room");
    let (a, first) = bench.start("a").await;
    let (b, second) = bench.start("b").await;
    group.join(&first).unwrap();
    let mut monitor = group.monitor();
    let unread = group.monitor();
    assert_eq!(monitor.members().iter().map(Member::path).collect::<Vec<_>>(), [&a]);
    group.join(&second).unwrap();
    group.leave(&first);
    bench.kill(&b);
    for event in ["Joined(Member(/peers/b", "Left(Member(/peers/a", "Left(Member(/peers/b"] {
        let change = format!("{:?}", monitor.changed().await);
        assert!(change.starts_with(event), "{change}");
    }
    // A monitor that nobody reads has a limit: then it has the members anew.
    for _ in 0..GROUP_EVENTS {
        group.join(&first).unwrap();
        group.leave(&first);
    }
    group.join(&first).unwrap();
    let behind = monitor.changed().await;
    assert!(matches!(&behind, GroupEvent::Behind(members) if *members == group.members()), "{behind:?}");
    group.leave(&first);
    assert!(matches!(monitor.changed().await, GroupEvent::Left(_)));
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r20_ten_thousand_groups_and_a_herd_of_readers_hold_up_no_join() {
    let bench = Bench::new().await;
    let (path, address) = bench.start("peer").await;
    let groups: Vec<_> = (0..10_000).map(|number| bench.group(&format!("group-{number}"))).collect();
    for group in &groups {
        assert!(group.join(&address).unwrap());
    }
    let system = bench.node.system().clone();
    let herd: Vec<_> = (0..2000)
        .map(|number: usize| {
            let (system, group) = (system.clone(), groups[number].clone());
            tokio::spawn(async move {
                let mut monitor = group.monitor();
                let now = group.members();
                if monitor.members() != now {
                    // Who joined between the two is in the events, and nobody else.
                    let GroupEvent::Joined(late) = monitor.changed().await else { panic!("not a join") };
                    assert_eq!((monitor.members(), &late), (&now[..1], &now[1]));
                }
                if number.is_multiple_of(200) {
                    assert_eq!(system.groups().names().len(), 10_000);
                }
            })
        })
        .collect();
    let (_, late) = bench.start("late").await;
    for group in &groups {
        assert!(group.join(&late).unwrap());
    }
    for reader in herd {
        reader.await.unwrap();
    }
    let monitor = bench.monitor(&path);
    bench.kill(&path);
    monitor.await;
    assert!(groups.iter().all(|group| group.members().len() == 1));
}
