//! Rows M01–M27: the state machine.

use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::receipt::Event as Fact;
use gemba_core::time::Timestamp;
use gemba_kernel::{
    Actions, Address, CALL_TIMEOUT, CallError, Entering, INSERTED_LIMIT, Next, Node, NodeError,
    POSTPONED_LIMIT, Reply, StateMachine, Stop, Timeout, state_machine,
};

use crate::kit::receipt;

use Event::Note;
use State::{A, B};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    A,
    B,
}

type Script = Box<dyn FnOnce(&mut Actions<'_, Event>) -> Result<Next<State>, Stop> + Send>;
type Init = fn(&mut Actions<'_, Event>);
type Enter = fn(State, State, &mut Entering<'_, Event>);

enum Event {
    /// Is noted where it is handled.
    Note(&'static str),
    /// Is postponed in A, and noted elsewhere.
    Early(&'static str),
    /// Is postponed in A, and answered elsewhere.
    Ask(Reply<State>),
    /// Is answered when B is entered, or when the machine stops.
    Park(Reply<State>),
    /// Keeps the machine busy.
    Work(Duration),
    /// Answers what is parked and ends the machine.
    Stop,
    /// Does this.
    Do(Script),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// A machine that writes down what happens to it.
struct Probe {
    story: mpsc::Sender<String>,
    init: Init,
    enter: Enter,
    parked: Vec<Reply<State>>,
}

impl Probe {
    fn note(&self, line: String) {
        // A test that has seen enough is no mistake.
        let _ = self.story.send(line);
    }

    fn answer_parked(&mut self, state: State) {
        self.parked.drain(..).for_each(|reply| reply.send(state));
    }
}

impl StateMachine for Probe {
    type State = State;
    type Event = Event;

    async fn init(&mut self, on: &mut Actions<'_, Event>) -> Result<State, Stop> {
        (self.init)(on);
        Ok(A)
    }

    async fn enter(&mut self, old: &State, new: &State, on: &mut Entering<'_, Event>) -> Result<(), Stop> {
        self.note(format!("enter {old:?}{new:?}"));
        if *new == B {
            self.answer_parked(*new);
        }
        (self.enter)(*old, *new, on);
        Ok(())
    }

    async fn handle(
        &mut self,
        state: &State,
        event: Event,
        on: &mut Actions<'_, Event>,
    ) -> Result<Next<State>, Stop> {
        match event {
            early @ (Event::Early(_) | Event::Ask(_)) if *state == A => on.postpone(early),
            Note(text) | Event::Early(text) => self.note(format!("{text} in {state:?}")),
            Event::Ask(reply) => reply.send(*state),
            Event::Park(reply) => self.parked.push(reply),
            Event::Work(time) => tokio::time::sleep(time).await,
            Event::Stop => {
                self.answer_parked(*state);
                return Err(Stop::error("told to"));
            }
            Event::Do(script) => return script(on),
        }
        Ok(Next::Keep)
    }

    async fn terminate(&mut self, state: &State, reason: &ExitReason) {
        self.note(format!("terminate in {state:?}: {reason}"));
    }
}

struct Rig {
    node: Node,
    machine: Address<Event>,
    story: mpsc::Receiver<String>,
}

async fn rig_with(init: Init, enter: Enter) -> Rig {
    let (story, told) = mpsc::channel();
    let make = move || Probe { story: story.clone(), init, enter, parked: Vec::new() };
    let spec = state_machine("machine", make);
    let machine = spec.address();
    let node = Node::builder("test").child(spec).start().await.expect("the machine starts");
    Rig { node, machine, story: told }
}

async fn rig() -> Rig {
    rig_with(|_| (), |_, _, _| ()).await
}

impl Rig {
    fn send(&self, event: Event) {
        self.machine.cast(event).expect("the machine takes events");
    }

    fn act(&self, script: impl FnOnce(&mut Actions<'_, Event>) -> Next<State> + Send + 'static) {
        self.send(act(script));
    }

    fn note(&self, text: &'static str) {
        self.send(Note(text));
    }

    fn early(&self, text: &'static str) {
        self.send(Event::Early(text));
    }

    /// What has happened when all that was sent before is handled.
    async fn story(&self) -> Vec<String> {
        self.machine
            .call(|done| {
                act(move |_| {
                    done.send(());
                    Next::Keep
                })
            })
            .await
            .expect("the machine answers");
        self.story.try_iter().collect()
    }

    /// What has happened when this much time, in which nothing is sent, is over.
    async fn after(&self, time: Duration) -> Vec<String> {
        tokio::time::sleep(time).await;
        self.story.try_iter().collect()
    }

    /// What has happened after a minute in which nothing is sent.
    async fn later(&self) -> Vec<String> {
        self.after(60 * SECOND).await
    }

    async fn exit(&self) -> ExitReason {
        let exit = receipt(&self.node, "child_exited", 0).await;
        let Fact::ChildExited { reason, .. } = &exit.event else { panic!("{exit:?}") };
        reason.clone()
    }
}

fn act(script: impl FnOnce(&mut Actions<'_, Event>) -> Next<State> + Send + 'static) -> Event {
    Event::Do(Box::new(move |on| Ok(script(on))))
}

fn go(state: State) -> Event {
    act(move |_| Next::Goto(state))
}

fn repeat() -> Event {
    act(|_| Next::Repeat)
}

/// How one start of a machine goes.
#[derive(Debug, Clone, Copy)]
enum Start {
    Ignore,
    Fail,
    Panic,
    Hang,
}

struct Starter(Start);

impl StateMachine for Starter {
    type State = ();
    type Event = ();

    async fn init(&mut self, _: &mut Actions<'_, ()>) -> Result<(), Stop> {
        match self.0 {
            Start::Ignore => Err(Stop::ignore()),
            Start::Fail => Err(Stop::error("no disk")),
            Start::Panic => panic!("no disk"),
            Start::Hang => std::future::pending().await,
        }
    }

    async fn handle(&mut self, (): &(), (): (), _: &mut Actions<'_, ()>) -> Result<Next<()>, Stop> {
        Ok(Next::Keep)
    }
}

#[tokio::test(start_paused = true)]
async fn m01_a_machine_starts_as_a_server_does() {
    for (start, expected) in
        [(Start::Fail, "error: no disk"), (Start::Panic, "no disk"), (Start::Hang, "30s")]
    {
        let spec = state_machine("machine", move || Starter(start));
        let address = spec.address();
        let error = Node::builder("test").child(spec).start().await.unwrap_err();
        assert!(matches!(error, NodeError::Start(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{start:?}: {error}");
        assert!(address.cast(()).is_err(), "{start:?}");
    }
    let spec = state_machine("machine", || Starter(Start::Ignore));
    let address = spec.address();
    let node = Node::builder("test").child(spec).start().await.unwrap();
    assert!(address.cast(()).is_err());
    node.stop("test").await.unwrap();
    let Rig { node, machine, story } = rig().await;
    let found = node.system().address::<Event>(&"/machine".parse().unwrap()).unwrap();
    assert_eq!(
        found
            .call(|reply| act(|_| {
                reply.send(7);
                Next::Keep
            }))
            .await,
        Ok(7)
    );
    node.stop("test").await.unwrap();
    assert!(machine.cast(Note("late")).is_err());
    assert_eq!(story.try_iter().last().unwrap(), "terminate in A: shutdown");
}

#[tokio::test(start_paused = true)]
async fn m02_the_first_state_is_entered_from_itself_before_any_event() {
    let init: Init = |on| {
        on.address().cast(Note("mail")).unwrap();
        on.insert(Note("inserted"));
    };
    let rig = rig_with(init, |_, _, _| ()).await;
    assert_eq!(rig.story().await, ["enter AA", "inserted in A", "mail in A"]);
}

#[tokio::test(start_paused = true)]
async fn m03_a_new_state_is_entered_with_the_old_one_before_what_waits() {
    let rig = rig().await;
    rig.act(|on| {
        on.insert(Note("inserted"));
        Next::Goto(B)
    });
    rig.note("mail");
    assert_eq!(rig.story().await, ["enter AA", "enter AB", "inserted in B", "mail in B"]);
}

#[tokio::test(start_paused = true)]
async fn m04_going_to_the_same_state_enters_nothing() {
    let rig = rig().await;
    rig.send(go(A));
    assert_eq!(rig.story().await, ["enter AA"]);
}

#[tokio::test(start_paused = true)]
async fn m05_repeating_a_state_enters_it_from_itself() {
    let rig = rig().await;
    rig.send(repeat());
    rig.send(go(B));
    rig.send(repeat());
    assert_eq!(rig.story().await, ["enter AA", "enter AA", "enter AB", "enter BB"]);
}

#[tokio::test(start_paused = true)]
async fn m06_entering_may_set_timeouts_and_reply_and_no_more() {
    // That it can neither move, postpone nor insert is a matter of types: see the docs of `Entering`.
    let enter: Enter = |_, new, on| {
        if new == B {
            on.state_timeout(SECOND, Note("entered"));
            on.cancel("cancelled");
        }
    };
    let rig = rig_with(|_| (), enter).await;
    let moved = async {
        rig.act(|on| {
            on.state_timeout(2 * SECOND, Note("the request of enter comes later and counts"));
            on.timeout("cancelled", SECOND, Note("cancelled"));
            Next::Goto(B)
        });
    };
    let (answer, ()) = tokio::join!(rig.machine.call(Event::Park), moved);
    assert_eq!(answer, Ok(B));
    assert_eq!(rig.later().await, ["enter AA", "enter AB", "entered in B"]);
}

#[tokio::test(start_paused = true)]
async fn m07_postponed_events_come_in_order_after_a_change_before_newer_ones() {
    let rig = rig().await;
    rig.early("1");
    rig.early("2");
    rig.send(go(B));
    rig.early("3");
    assert_eq!(rig.story().await, ["enter AA", "enter AB", "1 in B", "2 in B", "3 in B"]);
}

#[tokio::test(start_paused = true)]
async fn m07_one_postponed_event_more_than_the_limit_ends_the_machine() {
    let rig = rig().await;
    assert_eq!(rig.story().await, ["enter AA"]);
    for _ in 0..POSTPONED_LIMIT {
        rig.early("kept");
        assert!(rig.story().await.is_empty());
    }
    let error = rig.machine.call(Event::Ask).await.unwrap_err();
    assert!(matches!(error, CallError::Died { .. }), "{error}");
    let reason = rig.exit().await.to_string();
    assert!(reason.contains(&format!("more than {POSTPONED_LIMIT} events are postponed")), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn m08_postponed_events_stay_so_while_the_state_is_the_same() {
    let rig = rig().await;
    rig.early("1");
    rig.send(go(A));
    rig.act(|_| Next::Keep);
    assert_eq!(rig.story().await, ["enter AA"]);
    rig.send(go(B));
    assert_eq!(rig.story().await, ["enter AB", "1 in B"]);
}

#[tokio::test(start_paused = true)]
async fn m09_repeating_a_state_brings_no_postponed_event_back() {
    let rig = rig().await;
    rig.early("1");
    rig.send(repeat());
    assert_eq!(rig.story().await, ["enter AA", "enter AA"]);
}

#[tokio::test(start_paused = true)]
async fn m10_a_postponed_call_waits_for_its_state() {
    let rig = rig().await;
    let (answer, ()) = tokio::join!(rig.machine.call(Event::Ask), async {
        assert_eq!(rig.story().await, ["enter AA"]);
        rig.send(go(B));
    });
    assert_eq!(answer, Ok(B));
}

#[tokio::test(start_paused = true)]
async fn m11_inserted_events_keep_their_order_before_postponed_ones_and_the_mailbox() {
    let rig = rig().await;
    rig.early("p1");
    rig.act(|on| {
        on.insert(Note("i1"));
        on.insert(Note("i2"));
        Next::Goto(B)
    });
    rig.note("m1");
    assert_eq!(rig.story().await, ["enter AA", "enter AB", "i1 in B", "i2 in B", "p1 in B", "m1 in B"]);
}

#[tokio::test(start_paused = true)]
async fn m12_what_an_inserted_event_inserts_comes_next() {
    let rig = rig().await;
    rig.act(|on| {
        on.insert(act(|on| {
            on.insert(Note("i1b"));
            Next::Keep
        }));
        on.insert(Note("i2"));
        Next::Keep
    });
    assert_eq!(rig.story().await, ["enter AA", "i1b in A", "i2 in A"]);
}

#[tokio::test(start_paused = true)]
async fn m12_one_inserted_event_too_many_ends_the_machine() {
    let rig = rig().await;
    rig.act(|on| {
        for _ in 0..=POSTPONED_LIMIT + INSERTED_LIMIT {
            on.insert(Note("flood"));
        }
        Next::Keep
    });
    let reason = rig.exit().await.to_string();
    assert!(reason.contains("inserted"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn m12_a_machine_that_inserts_for_ever_can_be_killed() {
    fn for_ever(on: &mut Actions<'_, Event>) -> Next<State> {
        on.insert(act(for_ever));
        Next::Keep
    }
    let rig = rig().await;
    rig.act(for_ever);
    tokio::task::yield_now().await;
    rig.node.system().kill(&"/machine".parse().unwrap(), "tester").unwrap();
    assert_eq!(rig.exit().await, ExitReason::Killed);
}

#[tokio::test(start_paused = true)]
async fn m13_events_of_every_origin_can_be_inserted() {
    let rig = rig().await;
    let inserted = |reply| {
        act(move |on| {
            on.insert(Note("cast"));
            on.insert(Event::Ask(reply));
            on.insert(act(|on| {
                on.insert(Note("timeout"));
                Next::Keep
            }));
            on.insert(Note("internal"));
            Next::Goto(B)
        })
    };
    assert_eq!(rig.machine.call(inserted).await, Ok(B));
    let story = rig.story().await;
    assert_eq!(story, ["enter AA", "enter AB", "cast in B", "timeout in B", "internal in B"]);
}

#[tokio::test(start_paused = true)]
async fn m14_a_change_of_state_cancels_the_state_timeout() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(SECOND, Note("over"));
        Next::Keep
    });
    rig.send(go(B));
    rig.send(go(A));
    assert_eq!(rig.later().await, ["enter AA", "enter AB", "enter BA"]);
}

#[tokio::test(start_paused = true)]
async fn m14_a_message_that_came_in_time_is_not_overtaken_by_the_timeout() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(SECOND, Note("over"));
        Next::Keep
    });
    rig.send(Event::Work(2 * SECOND));
    assert_eq!(rig.after(SECOND / 2).await, ["enter AA"]);
    for _ in 0..100 {
        rig.early("queued");
    }
    rig.send(go(B));
    let story = rig.later().await;
    assert_eq!((&*story[0], story.len()), ("enter AB", 101));
}

#[tokio::test(start_paused = true)]
async fn m15_the_state_timeout_outlives_events_and_repeats() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(SECOND, Note("over"));
        Next::Keep
    });
    rig.note("event");
    rig.send(go(A));
    rig.send(repeat());
    assert_eq!(rig.later().await, ["enter AA", "event in A", "enter AA", "over in A"]);
}

#[tokio::test(start_paused = true)]
async fn m16_a_state_timeout_set_with_a_change_is_the_new_states() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(SECOND, Note("over"));
        Next::Goto(B)
    });
    assert_eq!(rig.later().await, ["enter AA", "enter AB", "over in B"]);
}

#[tokio::test(start_paused = true)]
async fn m17_any_event_cancels_the_event_timeout() {
    fn quiet(on: &mut Actions<'_, Event>) -> Next<State> {
        on.event_timeout(SECOND, Note("quiet"));
        Next::Keep
    }
    let rig = rig().await;
    rig.act(quiet);
    assert_eq!(rig.later().await, ["enter AA", "quiet in A"]);
    rig.act(quiet);
    rig.note("mail");
    assert_eq!(rig.later().await, ["mail in A"]);
    rig.act(|on| {
        on.insert(Note("inserted"));
        quiet(on)
    });
    assert_eq!(rig.later().await, ["inserted in A"]);
    rig.early("retried");
    rig.act(|on| {
        let _ = quiet(on);
        Next::Goto(B)
    });
    assert_eq!(rig.later().await, ["enter AB", "retried in B"]);
    rig.act(|on| {
        on.event_timeout(Duration::ZERO, Note("at once"));
        on.insert(Note("inserted"));
        Next::Keep
    });
    assert_eq!(rig.later().await, ["inserted in B"]);
}

#[tokio::test(start_paused = true)]
async fn m18_timeouts_of_zero_come_in_order_behind_inserted_events_before_the_mailbox() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(Duration::ZERO, Note("t1"));
        on.timeout("x", Duration::ZERO, Note("t2"));
        on.insert(Note("i1"));
        Next::Keep
    });
    rig.note("m1");
    assert_eq!(rig.story().await, ["enter AA", "i1 in A", "t1 in A", "t2 in A", "m1 in A"]);
}

#[tokio::test(start_paused = true)]
async fn m19_named_timeouts_are_independent_and_relative_or_absolute() {
    let rig = rig().await;
    rig.act(|on| {
        let soon = on.now() + SECOND;
        on.timeout("a", 3 * SECOND, Note("a"));
        on.timeout("b", SECOND, Note("b"));
        on.timeout(String::from("c"), 2 * SECOND, Note("c"));
        on.timeout("d", soon, Note("d"));
        Next::Keep
    });
    rig.act(|on| {
        on.cancel("b");
        Next::Keep
    });
    assert_eq!(rig.after(1500 * SECOND / 1000).await, ["enter AA", "d in A"]);
    assert_eq!(rig.after(SECOND).await, ["c in A"]);
    assert_eq!(rig.later().await, ["a in A"]);
    rig.act(|on| {
        on.timeout("past", Timestamp::START, Note("past"));
        Next::Keep
    });
    rig.note("mail");
    assert_eq!(rig.later().await, ["mail in A", "past in A"]);
}

#[tokio::test(start_paused = true)]
async fn m20_named_timeouts_outlive_a_change_of_state() {
    let rig = rig().await;
    rig.act(|on| {
        on.timeout("x", SECOND, Note("x"));
        Next::Keep
    });
    rig.send(go(B));
    assert_eq!(rig.later().await, ["enter AA", "enter AB", "x in B"]);
}

#[tokio::test(start_paused = true)]
async fn m20_no_timeout_outlives_its_machine() {
    let rig = rig().await;
    rig.act(|on| {
        on.timeout("x", SECOND, Note("x"));
        on.state_timeout(SECOND, Note("state"));
        Next::Keep
    });
    rig.send(Event::Stop);
    assert_eq!(rig.later().await, ["enter AA", "terminate in A: error: told to", "enter AA"]);
}

#[tokio::test(start_paused = true)]
async fn m21_a_timeout_started_anew_has_its_new_time_and_comes_once() {
    fn anew(on: &mut Actions<'_, Event>) -> Next<State> {
        on.timeout("x", SECOND, Note("second"));
        Next::Keep
    }
    fn first(on: &mut Actions<'_, Event>) -> Next<State> {
        on.timeout("x", SECOND / 2, Note("first"));
        Next::Keep
    }
    let rig = rig().await;
    rig.act(first);
    rig.act(anew);
    assert_eq!(rig.after(SECOND * 9 / 10).await, ["enter AA"]);
    assert_eq!(rig.later().await, ["second in A"]);
    // Over, and in the mailbox already, when it is started anew.
    rig.act(first);
    rig.send(Event::Work(SECOND));
    rig.act(anew);
    assert_eq!(rig.after(SECOND * 19 / 10).await, Vec::<String>::new());
    assert_eq!(rig.later().await, ["second in A"]);
}

#[tokio::test(start_paused = true)]
async fn m22_a_cancelled_timeout_does_not_come_and_cancelling_nothing_is_no_mistake() {
    fn start(on: &mut Actions<'_, Event>) -> Next<State> {
        on.timeout("x", SECOND, Note("x"));
        on.state_timeout(SECOND, Note("state"));
        Next::Keep
    }
    fn cancel(on: &mut Actions<'_, Event>) -> Next<State> {
        on.cancel("x");
        on.cancel(Timeout::State);
        on.cancel(Timeout::Event);
        Next::Keep
    }
    let rig = rig().await;
    rig.act(cancel);
    rig.act(start);
    rig.act(cancel);
    assert_eq!(rig.later().await, ["enter AA"]);
    // Over, and in the mailbox already, when it is cancelled.
    rig.act(start);
    rig.send(Event::Work(2 * SECOND));
    rig.act(cancel);
    assert_eq!(rig.later().await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_was_cancelled_after_it_rang_leaves_the_quiet_alone() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(SECOND, Note("late"));
        Next::Keep
    });
    // It waits for the time-out before it has more to do.
    assert_eq!(rig.story().await, ["enter AA"]);
    rig.send(Event::Work(2 * SECOND));
    rig.act(|on| {
        on.context().receive_timeout(SECOND, Note("quiet"));
        Next::Goto(B)
    });
    assert_eq!(rig.later().await, ["enter AB", "quiet in B"]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_quiet_outlives_the_begin_and_no_inserted_event() {
    let quiet = rig_with(|on| on.context().receive_timeout(SECOND, Note("quiet")), |_, _, _| ()).await;
    assert_eq!(quiet.later().await, ["enter AA", "quiet in A"]);
    let init: Init = |on| {
        on.context().receive_timeout(SECOND, Note("quiet"));
        on.insert(Note("inserted"));
    };
    let disturbed = rig_with(init, |_, _, _| ()).await;
    assert_eq!(disturbed.later().await, ["enter AA", "inserted in A"]);
}

#[tokio::test(start_paused = true)]
async fn ticks_without_an_end_leave_a_state_timeout_its_turn() {
    let rig = rig().await;
    rig.act(|on| {
        on.state_timeout(SECOND, Note("late"));
        // Each takes longer than its period: one is always due.
        on.context().every(SECOND / 100, || Event::Work(SECOND / 50));
        Next::Keep
    });
    assert_eq!(rig.after(2 * SECOND).await, ["enter AA", "late in A"]);
}

#[tokio::test(start_paused = true)]
async fn timeouts_and_ticks_without_an_end_leave_a_down_its_turn() {
    fn again(on: &mut Actions<'_, Event>) -> Next<State> {
        let now = on.now();
        on.timeout("again", now, act(again));
        Next::Keep
    }
    fn tick(on: &mut Actions<'_, Event>) -> Next<State> {
        on.context().after(Duration::ZERO, act(tick));
        Next::Keep
    }
    for ticks in [false, true] {
        let rig = rig().await;
        rig.act(again);
        if ticks {
            rig.act(tick);
        }
        rig.act(|on| {
            on.context().monitor(&"/nobody".parse().expect("a path"), |_| Note("down"));
            Next::Keep
        });
        // Virtual time stands still while the machine works.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.story.try_iter().collect::<Vec<_>>(), ["enter AA", "down in A"], "{ticks}");
    }
}

#[tokio::test(start_paused = true)]
async fn m23_an_update_changes_what_a_timeout_brings_and_not_when() {
    fn start(on: &mut Actions<'_, Event>) -> Next<State> {
        on.timeout("x", SECOND, Note("old"));
        Next::Keep
    }
    fn update(on: &mut Actions<'_, Event>) -> Next<State> {
        on.update("x", Note("new"));
        Next::Keep
    }
    let rig = rig().await;
    rig.act(start);
    assert_eq!(rig.after(SECOND * 9 / 10).await, ["enter AA"]);
    rig.act(update);
    assert_eq!(rig.after(SECOND * 2 / 10).await, ["new in A"]);
    // Over, and in the mailbox already.
    rig.act(start);
    rig.send(Event::Work(2 * SECOND));
    rig.act(update);
    assert_eq!(rig.later().await, ["new in A"]);
    // Not running: over at once.
    rig.act(|on| {
        on.update(Timeout::State, Note("state"));
        Next::Keep
    });
    rig.note("mail");
    assert_eq!(rig.story().await, ["state in A", "mail in A"]);
}

#[tokio::test(start_paused = true)]
async fn m24_replies_given_with_the_stop_arrive_before_the_exit() {
    let rig = rig().await;
    let stopped = async { rig.send(Event::Stop) };
    let (first, second, ()) =
        tokio::join!(rig.machine.call(Event::Park), rig.machine.call(Event::Park), stopped);
    assert_eq!((first, second), (Ok(A), Ok(A)));
    assert_eq!(rig.exit().await.to_string(), "error: told to");
}

#[tokio::test(start_paused = true)]
async fn m25_a_call_has_a_limit_and_a_late_reply_never_arrives() {
    let rig = rig().await;
    for (error, limit) in [
        (rig.machine.call(Event::Ask).await.unwrap_err(), CALL_TIMEOUT),
        (rig.machine.call_within(SECOND, Event::Ask).await.unwrap_err(), SECOND),
        (rig.machine.call_within(Duration::ZERO, Event::Ask).await.unwrap_err(), Duration::ZERO),
    ] {
        assert!(matches!(error, CallError::Timeout { within, .. } if within == limit), "{error}");
    }
    // All three are answered now; nobody is there to be told, and the next call has its own answer.
    rig.send(go(B));
    rig.send(go(A));
    assert_eq!(
        rig.machine
            .call(|reply| act(|_| {
                reply.send("mine");
                Next::Keep
            }))
            .await,
        Ok("mine")
    );
    assert_eq!(rig.story().await, ["enter AA", "enter AB", "enter BA"]);
}
