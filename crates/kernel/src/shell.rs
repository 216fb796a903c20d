//! The supervisor's actor: carries out what `core::supervision` decides, and never waits.
//!
//! A start that is not over at once goes on in a side task, a stop is a request with a timer, and both report
//! back by message. So it answers, and sees other deaths, meanwhile.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::ActorPath;
use gemba_core::receipt::{Event, Seq};
use gemba_core::supervision::{ChildCounts, ChildKey, ChildStatus, Command, Restart, Supervision};
use gemba_core::time::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use crate::address::Reply;
use crate::child::ChildSpec;
use crate::deadlines::{Deadlines, Due};
use crate::exit::{guarded, guarded_call};
use crate::handle::{ChildError, ChildInfo, ChildSettings, Started};
use crate::lifeline::{Lifeline, Report};
use crate::place::{Place, StartReply, StopReply, profile};
use crate::start::{Birth, Handle, NoStart, START_LIMIT};
use crate::system::System;

mod fall;
mod latch;
mod requests;
mod rest;
mod stop;

/// How long a killed child has to be gone before it is called unkillable and left behind.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(1);

/// What a supervisor understands.
#[derive(Debug)]
pub(crate) enum Message {
    Begin,
    Started {
        key: ChildKey,
        incarnation: Incarnation,
        result: Box<Result<Handle, NoStart>>,
    },
    Exited {
        key: ChildKey,
        incarnation: Incarnation,
        reason: ExitReason,
    },
    /// A supervisor below was killed; its exit comes when those below it are gone.
    Fell {
        key: ChildKey,
        incarnation: Incarnation,
    },
    /// The place that another life still held is free.
    Freed {
        key: ChildKey,
        incarnation: Incarnation,
    },
    /// A restart is due: it waits behind whatever was asked before.
    Retry {
        key: ChildKey,
        generation: u32,
    },
    /// A deadline may have passed.
    Alarm,
    /// An operator halted the supervisor, or lets it run again.
    Latch,
    Shutdown {
        cause: Option<Seq>,
    },
    Request(Request),
}

/// What others ask of a supervisor.
#[derive(Debug)]
pub(crate) enum Request {
    StartChild { child: Box<ChildSpec>, reply: StartReply },
    RestartChild { name: String, reply: StartReply },
    TerminateChild { name: String, only: Option<Incarnation>, reply: StopReply },
    DeleteChild { name: String, reply: StopReply },
    ChildSettings { name: String, reply: Reply<Result<ChildSettings, ChildError>> },
    WhichChildren { reply: Reply<Vec<ChildInfo>> },
    CountChildren { reply: Reply<ChildCounts> },
}

/// What a new life of a supervisor begins with.
pub(crate) struct Beginning {
    pub lifeline: Arc<Lifeline>,
    pub cause: Option<Seq>,
    pub supervision: Supervision,
    pub children: Arc<[ChildSpec]>,
    /// Told when every child runs, or why not.
    pub ready: oneshot::Sender<Result<(), ExitReason>>,
}

/// The actor. Its state is dropped with it, and then its children end too.
#[derive(Debug)]
pub(crate) struct SupervisorActor;

impl Actor for SupervisorActor {
    type Msg = Message;
    type State = Shell;
    type Arguments = Beginning;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        begin: Beginning,
    ) -> Result<Shell, ActorProcessingErr> {
        // The children start when this actor runs: from then on, whatever ends it drops the shell and ends them too.
        myself.cast(Message::Begin)?;
        Ok(Shell::new(myself, begin))
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        let commands = match message {
            Message::Begin => shell.begin(),
            Message::Started { key, incarnation, result } => shell.started(key, incarnation, *result),
            Message::Exited { key, incarnation, reason } => shell.exited(key, incarnation, &reason),
            Message::Fell { key, incarnation } => shell.fell(key, incarnation),
            Message::Freed { key, incarnation } => shell.freed(key, incarnation),
            Message::Retry { key, generation } => shell.core.retry(key, generation, shell.system.now()),
            Message::Alarm => shell.alarm(),
            Message::Latch => shell.heed_latch(),
            Message::Shutdown { cause } => shell.shutdown(cause),
            Message::Request(request) => shell.serve(request),
        };
        shell.carry_out(commands);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        _: SupervisionEvent,
        _: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        // The lifeline tells more, later, and in the right order: when all below the child is gone too.
        Ok(())
    }
}

/// One life of a supervisor.
#[derive(Debug)]
pub(crate) struct Shell {
    me: ActorRef<Message>,
    system: System,
    path: ActorPath,
    core: Supervision,
    /// In the order of their starts.
    places: BTreeMap<ChildKey, Place>,
    deadlines: Deadlines,
    /// The receipt that started this life; children started first name it as their cause.
    cause: Option<Seq>,
    /// The receipt of the exit or the request for which the supervisor ends.
    end_cause: Option<Seq>,
    ready: Option<oneshot::Sender<Result<(), ExitReason>>>,
    /// Last, so that it is let go after the children's handles.
    lifeline: Option<Arc<Lifeline>>,
}

impl Shell {
    fn new(me: ActorRef<Message>, begin: Beginning) -> Self {
        let Beginning { lifeline, cause, supervision, children, ready } = begin;
        let mut shell = Self {
            me,
            system: lifeline.system.clone(),
            path: lifeline.slot.path.clone(),
            core: supervision,
            places: BTreeMap::new(),
            deadlines: Deadlines::default(),
            cause,
            end_cause: None,
            ready: Some(ready),
            lifeline: Some(lifeline),
        };
        // Children that only an earlier life had do not come back: their places are given up.
        let names: HashSet<_> = children.iter().map(ChildSpec::checked_name).collect();
        shell.system.registry().sweep(&shell.path, |name| names.contains(name));
        for child in &children[..] {
            shell.add(child.clone()).expect("specs are checked before anything starts");
        }
        shell
    }

    fn add(&mut self, spec: ChildSpec) -> Result<ChildKey, ChildError> {
        let name = spec.checked_name();
        let key = self.core.add(name.clone(), spec.rules()).map_err(|refusal| {
            let holder = self.core.find(&name).map(|key| self.places[&key].incarnation);
            ChildError::refused(refusal, holder)
        })?;
        let slot = self.system.registry().slot(&self.path, &name, &profile(&*spec.start, key));
        let place = Place {
            start: Some(spec.start),
            shutdown: spec.shutdown,
            slot,
            incarnation: Incarnation(0),
            handle: None,
            starting: None,
            deadline: None,
            waiting: None,
        };
        self.places.insert(key, place);
        Ok(key)
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        let mut queue: VecDeque<Command> = commands.into();
        while let Some(command) = queue.pop_front() {
            match command {
                Command::Start(key) => queue.extend(self.start(key)),
                Command::Stop(key) => self.stop(key),
                Command::Retry { key, generation, at } => {
                    self.later(Due::Retry { key, generation }, at);
                }
                Command::Resume { at } => self.later(Due::Resume, at),
                Command::Forget(key) => self.forget(key),
                Command::Ready => queue.extend(self.ready()),
                Command::GaveUp(reason) => {
                    let event = Event::SupervisorGaveUp { reason };
                    self.system.record(self.end_cause, &self.path, event);
                }
                Command::End(reason) => self.end(reason),
            }
        }
    }

    fn later(&mut self, due: Due, at: Timestamp) {
        let now = self.system.now();
        match due {
            // Behind whatever was asked meanwhile, as in OTP, but without a timer's millisecond.
            Due::Retry { key, generation } if at <= now => {
                let retry = Message::Retry { key, generation };
                self.me.cast(retry).expect("this actor is running");
            }
            Due::Retry { .. } | Due::Resume | Due::StopOverdue { .. } => {
                self.deadlines.add(&self.me, due, at, now);
            }
        }
    }

    fn alarm(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let now = self.system.now();
        while let Some(due) = self.deadlines.pop(&self.me, now) {
            commands.extend(match due {
                Due::StopOverdue { key, incarnation, killed } => self.stop_overdue(key, incarnation, killed),
                Due::Retry { key, generation } => self.core.retry(key, generation, now),
                Due::Resume => self.core.resume(now),
            });
        }
        commands
    }

    fn start(&mut self, key: ChildKey) -> Vec<Command> {
        let incarnation = self.system.next_incarnation();
        let cause = self.core.cause(key).or(self.cause);
        let place = self.places.get_mut(&key).expect("core starts only children that were added");
        place.incarnation = incarnation;
        place.handle = None;
        let start = place.start.clone().expect("a temporary child starts once");
        if let Err(holder) = place.slot.claim(incarnation, profile(&*start, key)) {
            place.wait(&self.me, key, holder);
            return Vec::new();
        }
        let report = Report::Supervisor(self.me.clone(), key);
        let mine = self.lifeline.clone();
        let lifeline = Lifeline::new(self.system.clone(), place.slot.clone(), incarnation, report, mine);
        let birth = Birth { lifeline, cause };
        let mut starting = start.start(birth);
        // Most starts are over at once; only those that wait cost a task. What ends here is the user's, and what it
        // held may panic: that is a failed start.
        match guarded_call(|| (&mut starting).now_or_never()) {
            Ok(Some(result)) => return self.started(key, incarnation, result),
            Ok(None) => {}
            Err(panic) => {
                let _ = guarded_call(move || drop(starting));
                return self.started(key, incarnation, Err(NoStart::Failed(panic)));
            }
        }
        let me = self.me.clone();
        let task = tokio::spawn(async move {
            let result = match guarded(tokio::time::timeout(START_LIMIT, &mut starting)).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    let message = format!("it did not start within {START_LIMIT:?}");
                    Err(NoStart::Failed(ExitReason::Error { message: message.into() }))
                }
                Err(panic) => Err(NoStart::Failed(panic)),
            };
            // The place is free when it is told; and a panic in what the start held keeps no report back.
            let _ = guarded_call(move || drop(starting));
            // A supervisor that is gone takes the new life with it.
            let _ = me.cast(Message::Started { key, incarnation, result: Box::new(result) });
        });
        place.starting = Some(task.abort_handle());
        Vec::new()
    }

    fn started(
        &mut self,
        key: ChildKey,
        incarnation: Incarnation,
        result: Result<Handle, NoStart>,
    ) -> Vec<Command> {
        let now = self.system.now();
        let Some(place) = self.places.get_mut(&key).filter(|place| place.incarnation == incarnation) else {
            if let Ok(handle) = result {
                handle.killer.kill();
            }
            return Vec::new();
        };
        place.starting = None;
        if let Some(ticket) = place.deadline.take() {
            self.deadlines.remove(ticket);
        }
        let cause = self.core.cause(key).or(self.cause);
        let commands = match result {
            Ok(handle) => {
                // A life that is over already has no handle to be stopped by.
                place.handle = Some(handle).filter(|handle| handle.lifeline.strong_count() > 0);
                let restarts = place.slot.running(incarnation, now);
                let event = match restarts {
                    0 => Event::ChildStarted { incarnation },
                    restarts => Event::ChildRestarted { incarnation, restarts },
                };
                self.system.record_at(cause, &place.slot.path, event, now);
                let path = place.slot.path.clone();
                place.answer_start(|| Ok(Some(Started { path, incarnation })));
                if self.core.rules(key).is_some_and(|rules| rules.restart == Restart::Temporary) {
                    place.start = None;
                }
                let commands = self.core.started(key, incarnation, now);
                if !matches!(self.core.status(key), Some(ChildStatus::Running | ChildStatus::Stopping)) {
                    // Its end had come before: whoever asked for it meanwhile has what it asked for.
                    place.answer_stops(&Ok(()));
                }
                commands
            }
            Err(NoStart::Ignored) => {
                place.answer_start(|| Ok(None));
                place.answer_stops(&Ok(()));
                self.core.ignored(key)
            }
            Err(NoStart::Failed(reason)) => {
                let event = Event::ChildStartFailed { reason: reason.clone() };
                let cause = place.slot.take_kill(incarnation).or(cause);
                let receipt = self.system.record(cause, &place.slot.path, event);
                let name = place.name();
                place.answer_start(|| Err(ChildError::Failed { name, reason: reason.clone() }));
                place.answer_stops(&Ok(()));
                self.end_cause = Some(receipt);
                self.core.start_failed(key, &reason, receipt, now)
            }
        };
        self.note_rest(key);
        commands
    }

    fn exited(&mut self, key: ChildKey, incarnation: Incarnation, reason: &ExitReason) -> Vec<Command> {
        let Some(place) = self.places.get_mut(&key).filter(|place| place.incarnation == incarnation) else {
            return Vec::new();
        };
        place.handle = None;
        if let Some(ticket) = place.deadline.take() {
            self.deadlines.remove(ticket);
        }
        place.answer_stops(&Ok(()));
        let doomed = self.core.is_doomed(key);
        let cause = match place.slot.take_kill(incarnation) {
            Some(kill) => Some(kill),
            None if doomed && self.core.is_ending() => self.end_cause,
            None if doomed => self.core.cause(key),
            None => None,
        };
        let now = self.system.now();
        let event = Event::ChildExited { incarnation, reason: reason.clone() };
        let receipt = self.system.record_at(cause, &place.slot.path, event, now);
        if !self.core.is_ending() && !doomed {
            self.end_cause = Some(receipt);
        }
        let commands = self.core.exited(key, incarnation, reason, receipt, now);
        self.note_rest(key);
        commands
    }

    /// Tries again to start a child whose place was held.
    fn freed(&mut self, key: ChildKey, incarnation: Incarnation) -> Vec<Command> {
        let Some(place) = self.places.get_mut(&key).filter(|place| place.incarnation == incarnation) else {
            return Vec::new();
        };
        if place.starting.take().is_none() {
            return Vec::new();
        }
        if self.core.is_stopping(key) {
            let message = "it was to stop before it had started".into();
            return self.started(key, incarnation, Err(NoStart::Failed(ExitReason::Error { message })));
        }
        self.start(key)
    }

    fn shutdown(&mut self, cause: Option<Seq>) -> Vec<Command> {
        if !self.core.is_ending() {
            self.end_cause = cause;
        }
        self.core.shutdown(ExitReason::Shutdown)
    }

    fn ready(&mut self) -> Vec<Command> {
        let Some(ready) = self.ready.take() else { return Vec::new() };
        if ready.is_closed() {
            // Whoever started it has given up waiting.
            return self.core.shutdown(ExitReason::Shutdown);
        }
        if let Some(lifeline) = &self.lifeline {
            lifeline.arm();
        }
        // If it is given up just now, the guard of the start kills this supervisor.
        let _ = ready.send(Ok(()));
        Vec::new()
    }

    /// Every child is gone: lets the lifeline go, which announces the exit, and ends the actor.
    fn end(&mut self, reason: ExitReason) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.ends(reason.clone());
        }
        if let Some(ready) = self.ready.take() {
            // As above.
            let _ = ready.send(Err(reason));
        }
        self.me.stop(None);
    }
}
