//! What went wrong once: each test holds a sequence of events that broke a promise.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use gemba::exit::ExitReason;
use gemba::light::Light;
use gemba::receipt::{Event, Seq};
use gemba::{
    Address, Context, Node, RefusalReason, Server, Shutdown, Signal, Stop, SubmitError, Supervisor, server,
    task,
};
use gemba_kit::{actor, board, finish, receipt, story, workers};

use crate::plant::{Input, start, start_with};

/// Starts, works and ends as slowly as it is told to.
struct Slow {
    init: Duration,
    end: Duration,
}

enum Msg {
    Fail,
    Sleep(Duration),
    Block(Duration),
}

impl Server for Slow {
    type Msg = Msg;

    async fn init(&mut self, _: &mut Context<Msg>) -> Result<(), Stop> {
        tokio::time::sleep(self.init).await;
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, _: &mut Context<Msg>) -> Result<(), Stop> {
        match msg {
            Msg::Fail => return Err(Stop::error("asked to")),
            Msg::Sleep(time) => tokio::time::sleep(time).await,
            Msg::Block(time) => {
                // Lets go of the task in the thread's own slot, which no other thread could run meanwhile.
                tokio::task::yield_now().await;
                std::thread::sleep(time);
            }
        }
        Ok(())
    }

    async fn terminate(&mut self, _: &ExitReason) {
        tokio::time::sleep(self.end).await;
    }
}

fn slow(name: &str, init: u64, end: u64) -> gemba::ServerSpec<Slow> {
    server(name, move || Slow { init: Duration::from_secs(init), end: Duration::from_secs(end) })
}

fn kinds(node: &Node, kind: &str) -> usize {
    story(node.system()).iter().filter(|receipt| receipt.event.kind() == kind).count()
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_just_as_its_time_is_up_is_stopped_once() {
    // Five seconds to end, and five seconds to end it: the exit and the time-out meet in the mailbox.
    let node = Node::builder("test").child(slow("a", 0, 0)).child(slow("b", 0, 5)).start().await.unwrap();
    let system = node.system().clone();
    node.stop("test").await.unwrap();
    assert!(!story(&system).iter().any(|receipt| receipt.event.kind() == "child_start_failed"));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_leaves_nobody_behind() {
    let (ticks, ticked) = channel();
    let clock = task("ticker", move |_| {
        let ticks: Sender<()> = ticks.clone();
        async move {
            loop {
                // The test may have seen enough.
                let _ = ticks.send(());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let node = Node::builder("test").child(clock).child(slow("slow", 10, 0));
    assert!(tokio::time::timeout(Duration::from_secs(2), node.start()).await.is_err());
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = ticked.try_iter().count();
    assert!(0 < before);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(ticked.try_iter().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_is_not_charged_for_the_place_it_leaves_late() {
    // 20 s each, 30 s for both: the second start of the supervisor fails, and only time goes by.
    let first = Arc::new(std::sync::OnceLock::new());
    let child = |name: &str| {
        let first = first.clone();
        server(name, move || {
            let init = if first.get().is_some() { 20 } else { 0 };
            Slow { init: Duration::from_secs(init), end: Duration::ZERO }
        })
    };
    let plant = Supervisor::one_for_one("plant").child(child("x")).child(child("y"));
    let node = Node::builder("test").child(plant).start().await.unwrap();
    first.set(()).unwrap();
    node.system().kill(&"/plant".parse().unwrap(), "test").unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(kinds(&node, "child_start_failed"), 0);
    tokio::time::sleep(Duration::from_secs(121)).await;
    let failed = kinds(&node, "child_start_failed");
    assert!((3..=6).contains(&failed), "once in 30 s, not at once: {failed}");
    assert_eq!(kinds(&node, "supervisor_gave_up"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_panics_when_it_is_dropped_hurts_nobody_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "dropped");
        }
    }
    struct Plain;
    impl ractor::Actor for Plain {
        type Msg = ();
        type State = Bomb;
        type Arguments = ();
        async fn pre_start(
            &self,
            _: ractor::ActorRef<()>,
            (): (),
        ) -> Result<Bomb, ractor::ActorProcessingErr> {
            Ok(Bomb)
        }
    }
    let plain = gemba::actor("plain", || (Plain, ()));
    let plant = Supervisor::one_for_one("plant").child(plain).child(slow("bystander", 0, 0));
    let node = Node::builder("test").child(plant).start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    node.system().kill(&"/plant/plain".parse().unwrap(), "test").unwrap();
    receipt(node.system(), Seq(0), |receipt| receipt.event.kind() == "child_restarted").await;
    assert_eq!(actor(node.system(), "/plant/bystander").restarts, 0);
    assert_eq!(actor(node.system(), "/plant").restarts, 0);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_what_is_in_the_mailbox() {
    let spec = slow("s", 0, 0);
    let address: Address<Msg> = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    for _ in 0..60 {
        address.cast(Msg::Sleep(Duration::from_millis(200))).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let system = node.system().clone();
    let begun = system.now();
    node.stop("test").await.unwrap();
    assert!(system.now().since(begun) < Duration::from_millis(250));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_that_cannot_be_killed_is_told_left_behind_and_waited_for() {
    let deaf = slow("deaf", 0, 0).shutdown(Shutdown::Within(Duration::from_millis(50)));
    let block = deaf.address();
    let failing = slow("failing", 0, 0);
    let fail = failing.address();
    let inner = Supervisor::one_for_one("inner").child(deaf);
    let plant = Supervisor::one_for_all("plant").child(failing).child(inner);
    let node = Node::builder("test").child(plant).start().await.unwrap();
    // Well beyond the time that it has, and that a kill has to be felt.
    block.cast(Msg::Block(Duration::from_secs(4))).unwrap();
    // The block has begun when its message is no longer waiting.
    while actor(node.system(), "/plant/inner/deaf").mailbox.unwrap().depth != 0 {
        tokio::task::yield_now().await;
    }
    fail.cast(Msg::Fail).unwrap();
    let system = node.system();
    let unkillable = receipt(system, Seq(0), |receipt| receipt.event.kind() == "child_unkillable").await;
    let ended = receipt(system, unkillable.seq, |receipt| {
        receipt.path == unkillable.path && receipt.event.kind() == "child_exited"
    })
    .await;
    receipt(system, ended.seq, |receipt| {
        receipt.path == unkillable.path && matches!(receipt.event, Event::ChildRestarted { .. })
    })
    .await;
    assert_eq!(kinds(&node, "supervisor_gave_up"), 0);
    node.stop("test").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_asked_twice_to_pull_gets_one_job_at_a_time() {
    let (node, line) = start(2).await;
    workers(node.system(), "work", 2).await;
    let submit = |millis| {
        let line = line.clone();
        tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            let signal =
                Signal::new(Input::Sleep(Duration::from_millis(millis))).deadline(Duration::from_secs(60));
            line.submit(signal, &()).await.unwrap();
            begun.elapsed()
        })
    };
    let (first, second) = (submit(1000), submit(1200));
    tokio::time::sleep(Duration::from_millis(100)).await;
    node.system().kill(&"/plant/pools/work/dispatcher".parse().unwrap(), "test").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (third, fourth) = (submit(5000), submit(5000));
    first.await.unwrap();
    second.await.unwrap();
    for job in [third, fourth] {
        assert!(job.await.unwrap() < Duration::from_millis(6500), "it did not wait behind another");
    }
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_vain_is_refused_in_time_and_gives_its_permit_back() {
    let pool = gemba::PoolSpec::new("work").workers(1, 1);
    let (node, line) = start_with(|spec| spec.deadline(Duration::from_secs(60)), pool).await;
    workers(node.system(), "work", 1).await;
    let busy = tokio::spawn({
        let line = line.clone();
        async move { line.submit(Signal::new(Input::Sleep(Duration::from_secs(10))), &()).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let late = line.submit(Signal::new(Input::Answer(1)).deadline(Duration::from_millis(100)), &()).await;
    let Err(SubmitError::Refused(refusal)) = late else { panic!("nothing was done: {late:?}") };
    assert_eq!(refusal.reason, RefusalReason::WaitedTooLong);
    let gone = line.submit(Signal::new(Input::Answer(2)), &());
    assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
    board(node.system(), |board| board.pools[0].queued == 0 && board.lines[0].in_flight == 1).await;
    assert!(!busy.is_finished(), "long before the worker comes to it");
    busy.await.unwrap().unwrap();
    finish(node).await;
}

#[tokio::test(start_paused = true)]
async fn a_red_line_turns_green_by_its_rules_also_after_a_restart() {
    let rules = gemba::breaker::BreakerRules::builder().failures_in_a_row(u32::MAX);
    let rules = rules.failure_ratio(1.0, u32::MAX, Duration::from_secs(10)).build().unwrap();
    let (node, line) =
        start_with(|spec| spec.breaker(rules), gemba::PoolSpec::new("work").workers(2, 2)).await;
    workers(node.system(), "work", 2).await;
    for n in 0..2000 {
        let input = if n % 10 == 0 { Input::Fail } else { Input::Answer(n) };
        // A failure is what is wanted now and then.
        let _ = line.submit(Signal::new(input), &()).await;
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let shows = |light: Light| {
        move |board: &gemba::view::BoardView| {
            board
                .stations
                .iter()
                .any(|station| station.name.as_str() == "line:work" && station.light == light)
        }
    };
    board(node.system(), shows(Light::Purple)).await;
    let kill = node.system().kill(&"/plant/kaizen".parse().unwrap(), "test").unwrap();
    receipt(node.system(), kill, |receipt| {
        receipt.path.as_str() == "/plant/kaizen" && receipt.event.kind() == "child_restarted"
    })
    .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    for n in 0..2000 {
        line.submit(Signal::new(Input::Answer(n)), &()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    board(node.system(), shows(Light::Green)).await;
    finish(node).await;
}

/// Blocks its thread until the sender of its input is gone.
struct Blocks;

impl gemba::Action for Blocks {
    type Input = std::sync::mpsc::Receiver<()>;
    type Output = ();
    type Error = crate::plant::Failed;

    async fn run(&self, sender: Self::Input, _: &gemba::JobContext) -> Result<(), crate::plant::Failed> {
        // Lets go of the task in the thread's own slot, which no other thread could run meanwhile.
        tokio::task::yield_now().await;
        let _ = sender.recv();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_waits_for_ever_for_a_worker_whose_thread_is_blocked() {
    let node = Node::builder("test");
    let mut plant = gemba::Plant::builder(node.system()).pool(gemba::PoolSpec::new("work").workers(2, 2));
    let line = plant.line(gemba::LineSpec::new("work", Blocks));
    let node = node.child(plant.build().unwrap()).start().await.unwrap();
    workers(node.system(), "work", 2).await;
    let submit = || {
        let line = line.clone();
        let (release, blocked) = channel();
        // Time enough to begin.
        let signal = Signal::new(blocked).deadline(Duration::from_secs(2));
        (release, tokio::spawn(async move { line.submit(signal, &()).await }))
    };
    let first = submit();
    // The dispatcher that would have answered for the worker dies; who waits looks after itself.
    board(node.system(), |board| board.pools[0].busy == 1).await;
    let kill = node.system().kill(&"/plant/pools/work/dispatcher".parse().unwrap(), "test").unwrap();
    receipt(node.system(), kill, |receipt| receipt.event.kind() == "child_restarted").await;
    let second = submit();
    // The threads stay blocked until both have their answer.
    for (release, job) in [first, second] {
        let answer = job.await.unwrap();
        assert!(matches!(answer, Err(SubmitError::TimedOut)), "{answer:?}");
        drop(release);
    }
    finish(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_each_get_one_answer_while_workers_and_dispatchers_die() {
    let (node, line) = start(3).await;
    workers(node.system(), "work", 3).await;
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let line = line.clone();
            tokio::spawn(async move {
                let mut done = 0;
                for n in 0..500 {
                    let input = if (n + caller) % 50 == 0 { Input::Panic } else { Input::Answer(n) };
                    match line.submit(Signal::new(input), &()).await {
                        Ok(answer) => {
                            assert_eq!(answer, n, "it is the answer to this signal");
                            done += 1;
                        }
                        // A kill meets a job now and then, and the breaker may be open.
                        Err(SubmitError::WorkerDied | SubmitError::Refused(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                done
            })
        })
        .collect();
    let dispatcher = "/plant/pools/work/dispatcher".parse().unwrap();
    // No more than the supervisors above it bear in any five seconds.
    let mut kills = 0;
    while kills < 200 && callers.iter().any(|caller| !caller.is_finished()) {
        // Between two lives there is nobody to kill.
        kills += u32::from(node.system().kill(&dispatcher, "test").is_ok());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut done = 0;
    for caller in callers {
        done += caller.await.unwrap();
    }
    assert!(0 < done);
    finish(node).await;
}
