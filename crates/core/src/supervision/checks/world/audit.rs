//! What is checked in the world: each command when it comes, the books after each step, and the rest.

use super::{Life, Outcome, Purpose, Retry, Stage, Step, World};
use crate::exit::{ExitReason, Incarnation};
use crate::receipt::Seq;
use crate::supervision::{ChildCounts, ChildKey, ChildKind, ChildStatus, Command, Restart, Strategy};
use crate::time::Timestamp;

/// Steps after which everything has come to rest, or never will.
const STEPS_MAX: usize = 300;

impl World {
    pub(super) fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            self.note(&command);
            match command {
                Command::Start(key) => self.start(key),
                Command::Stop(key) => self.stop(key),
                Command::Retry { key, generation, at } => {
                    self.check_wait(at);
                    let child = self.children.get_mut(&key).unwrap();
                    assert!(child.life.is_none());
                    let failed = child.retry.is_some_and(|retry| retry.failed);
                    child.retry = Some(Retry { generation, at, failed });
                    self.retries.push((key, generation, at));
                }
                Command::Resume { at } => {
                    assert!(self.is_group());
                    assert!(
                        self.held.is_none_or(|held| held <= at),
                        "a group never waits less than it was to"
                    );
                    if self.held != Some(at) {
                        self.check_wait(at);
                    }
                    self.wait = None;
                    self.held = Some(at);
                    self.resumes.push(at);
                }
                Command::Forget(key) => self.forget(key),
                Command::Ready => {
                    assert!(!self.ready && !self.ending, "it is ready once");
                    self.ready = true;
                    for child in self.children.values().filter(|child| child.wanted) {
                        assert!(child.life.is_some() || child.retry.is_some(), "all are started by then");
                    }
                    if let Some(reason) = self.verdict.take() {
                        self.end(&reason);
                    }
                }
                Command::GaveUp(reason) => {
                    assert_eq!(self.told.take(), Some(reason), "it gives up once, when it has to");
                }
                Command::End(reason) => {
                    assert!(!self.ended, "it ends once");
                    assert_eq!(self.verdict, Some(reason));
                    let mut lives = self.children.values().filter_map(|child| child.life.as_ref());
                    assert!(lives.all(|life| life.stage == Stage::LeftBehind), "nobody is left");
                    (self.ended, self.ending) = (true, true);
                }
            }
        }
        let wait = self.wait.take();
        assert!(wait.is_none_or(|(least, _)| least.is_zero()), "a wait of {wait:?} is waited");
        assert_eq!(self.told, None, "what is to be told is told");
    }

    fn check_wait(&mut self, at: Timestamp) {
        let (least, most) = self.wait.take().expect("somebody has failed");
        let wait = at.since(self.now);
        assert!((least..=most).contains(&wait), "{wait:?} is between {least:?} and {most:?}");
        assert!(most <= self.flags.backoff.max);
    }

    fn others(&self, key: ChildKey) -> impl Iterator<Item = (ChildKey, &Life)> {
        let alive = self.children.iter().filter_map(|(key, child)| Some((*key, child.life.as_ref()?)));
        alive.filter(move |(other, life)| *other != key && life.stage != Stage::LeftBehind)
    }

    fn start(&mut self, key: ChildKey) {
        assert!(!self.ending, "nothing starts after the end began");
        let child = self.children.get_mut(&key).expect("only who has a place is started");
        assert!(child.life.is_none(), "never two lives of one child");
        assert!(child.wanted, "nobody is started who is to stay down");
        assert!(!child.started || child.rules.restart != Restart::Temporary, "a temporary child starts once");
        let hand = child.hand.take();
        let late = std::mem::take(&mut child.late);
        let first = !std::mem::replace(&mut child.started, true);
        let in_order = self.is_group() || first && self.flags.strategy != Strategy::Dynamic;
        if hand.is_none() && in_order && !self.mixed {
            for (other, life) in self.others(key) {
                assert!(!life.doomed, "all stops come before any start: {other:?}");
                let by_itself = life.purpose == Purpose::Supervisor && (life.first || self.is_group());
                let starts = !life.again && matches!(life.stage, Stage::Starting | Stage::Stillborn(_));
                assert!(!(by_itself && starts), "one starts at a time: {other:?}");
                assert!(other < key || !by_itself || late, "children start in order: {other:?}");
            }
            assert_eq!(self.held, None, "a group that waits does not start");
        }
        self.lives += 1;
        let life = Life {
            number: Incarnation(self.lives),
            stage: Stage::Starting,
            purpose: hand.unwrap_or(Purpose::Supervisor),
            first,
            since: self.now,
            doomed: false,
            dismissed: false,
            asked: false,
            again: false,
        };
        self.children.get_mut(&key).unwrap().life = Some(life);
    }

    fn stop(&mut self, key: ChildKey) {
        let life = self.children[&key].life.as_ref().expect("only somebody alive is stopped");
        assert!(matches!(life.stage, Stage::Starting | Stage::Up), "only somebody alive is stopped");
        assert!(life.doomed && !life.asked, "who is to stop is asked once");
        if self.flags.strategy != Strategy::Dynamic && !life.again && !self.mixed {
            for (other, life) in self.others(key) {
                assert!(other < key || !life.doomed, "children stop in reverse order: {other:?}");
            }
            for (other, sibling) in self.others(key).filter(|_| !life.dismissed) {
                assert!(!sibling.asked || sibling.dismissed, "one stops at a time: {other:?}");
            }
        }
        self.life(key).asked = true;
    }

    fn forget(&mut self, key: ChildKey) {
        let child = self.children.remove(&key).expect("only who has a place loses it");
        assert!(child.life.is_none() && !child.wanted, "nobody alive or needed is forgotten");
        let temporary = child.rules.restart == Restart::Temporary;
        assert!(temporary || child.leaves || self.flags.strategy == Strategy::Dynamic);
    }

    /// Compares what it shows with the books.
    pub(super) fn audit(&self) {
        assert_eq!(self.real.is_ending(), self.ending);
        assert_eq!(self.real.len(), self.children.len());
        let shown: Vec<_> = self.real.children().map(|(key, _, status)| (key, status)).collect();
        let booked: Vec<_> = self.children.keys().map(|key| (*key, self.status(*key))).collect();
        assert_eq!(shown, booked);
        let of_kind = |kind| self.children.values().filter(|child| child.rules.kind == kind).count();
        let is_active = |(_, status): &&(ChildKey, ChildStatus)| {
            matches!(status, ChildStatus::Running | ChildStatus::Stopping | ChildStatus::Unkillable)
        };
        let counts = ChildCounts {
            specs: self.children.len(),
            active: booked.iter().filter(is_active).count(),
            supervisors: of_kind(ChildKind::Supervisor),
            workers: of_kind(ChildKind::Worker),
        };
        assert_eq!(self.real.counts(), counts);
        for (key, child) in &self.children {
            let over = child.rules.restart == Restart::Temporary || self.flags.strategy == Strategy::Dynamic;
            let leaves = child.leaves || over && child.life.is_none() && !child.wanted;
            assert!(self.ending || !leaves, "{key:?} is to be forgotten");
        }
        let intensity = self.flags.intensity;
        for pair in self.restarts.windows(intensity.restarts as usize + 1) {
            let (first, last) = (pair[0], pair[pair.len() - 1]);
            assert!(intensity.period < last.since(first), "more restarts than the intensity allows");
        }
    }

    fn status(&self, key: ChildKey) -> ChildStatus {
        let child = &self.children[&key];
        match &child.life {
            None if child.wanted => ChildStatus::Restarting,
            None => ChildStatus::Down,
            Some(Life { stage: Stage::LeftBehind, .. }) => ChildStatus::Unkillable,
            Some(Life { asked: true, .. }) => ChildStatus::Stopping,
            Some(Life { stage: Stage::Up, .. }) => ChildStatus::Running,
            Some(Life { stage: Stage::Starting | Stage::Stillborn(_), .. }) => ChildStatus::Starting,
        }
    }

    /// Lets everything happen that is under way; all starts succeed.
    pub(super) fn come_to_rest(&mut self) {
        let is =
            |stage: fn(&Life) -> bool| move |child: &super::Child| child.life.as_ref().is_some_and(stage);
        let starts = is(|life| matches!(life.stage, Stage::Starting | Stage::Stillborn(_)));
        let stops = is(|life| life.asked && life.stage == Stage::Up || life.stage == Stage::LeftBehind);
        for _ in 0..STEPS_MAX {
            if self.choose(0, starts).is_some() {
                self.step(&Step::Report(0, Outcome::Runs));
            } else if let Some(key) = self.choose(0, stops) {
                self.note(&(key, "is gone"));
                let commands = self.exit(key, &ExitReason::Shutdown);
                self.carry_out(commands);
            } else if let Some((_, _, at)) = self.retries.first() {
                self.now = self.now.max(*at);
                self.step(&Step::Retry(0));
            } else if let Some(at) = self.resumes.pop() {
                self.now = self.now.max(at);
                self.step(&Step::Resume);
            } else {
                return;
            }
            self.audit();
        }
        panic!("it never comes to rest");
    }

    /// Nothing is under way: whoever is to run runs.
    pub(super) fn check_rest(&self) {
        assert_eq!(self.ending, self.ended, "an end comes once everybody is gone");
        assert!(self.ready || self.ended, "the start is over");
        assert_eq!(self.held, None);
        for (key, child) in &self.children {
            let runs = child.life.as_ref().is_some_and(|life| life.stage == Stage::Up && !life.doomed);
            assert_eq!(runs, child.life.is_some(), "{key:?} is neither up nor down");
            assert_eq!(runs, child.wanted, "{key:?} is to run, or not");
        }
    }

    /// Reports what is not so, or not any more, and sees that nothing changes.
    pub(super) fn noise(&mut self, number: usize, kind: u8) {
        let before = format!("{:?}", self.real);
        let commands = match self.choose(number, |_| true).filter(|_| !kind.is_multiple_of(8)) {
            Some(key) => self.noise_about(key, kind),
            None => self.noise_about_a_stranger(kind),
        };
        assert_eq!(commands, [], "noise changes nothing");
        assert_eq!(format!("{:?}", self.real), before, "noise changes nothing");
        if self.ended {
            assert_eq!(self.real.shutdown(ExitReason::Killed), []);
            assert_eq!(self.real.resume(self.now), []);
        }
    }

    fn noise_about(&mut self, key: ChildKey, kind: u8) -> Vec<Command> {
        let child = &self.children[&key];
        let dead = child.dead.get(usize::from(kind) % child.dead.len().max(1)).copied();
        let starting = child.life.as_ref().is_some_and(|life| {
            matches!(life.stage, Stage::Starting | Stage::Stillborn(_))
                || life.asked && life.stage == Stage::Up
        });
        // Of one that runs it says that a killed supervisor leaves somebody behind, which is news.
        let stoppable = matches!(self.real.status(key), Some(ChildStatus::Stopping | ChildStatus::Running));
        let generation = child.retry.map_or(0, |retry| retry.generation);
        let number = dead.unwrap_or(Incarnation(0));
        match kind % 8 {
            1 | 2 if dead.is_some() => self.real.exited(key, number, &ExitReason::Killed, Seq(9), self.now),
            3 if !starting => self.real.started(key, number, self.now),
            4 if !starting => self.real.ignored(key),
            5 if !starting => self.real.start_failed(key, &ExitReason::Killed, Seq(9), self.now),
            6 if !stoppable => self.real.stop_failed(key),
            7 => self.real.retry(key, generation.wrapping_add(1 + u32::from(kind)), self.now),
            _ => Vec::new(),
        }
    }

    fn noise_about_a_stranger(&mut self, kind: u8) -> Vec<Command> {
        let mut stranger = ChildKey(u64::from(kind / 8));
        if self.children.contains_key(&stranger) {
            stranger = ChildKey(u64::MAX);
        }
        let mut commands = self.real.started(stranger, Incarnation(1), self.now);
        commands.extend(self.real.ignored(stranger));
        commands.extend(self.real.start_failed(stranger, &ExitReason::Killed, Seq(9), self.now));
        commands.extend(self.real.exited(stranger, Incarnation(1), &ExitReason::Killed, Seq(9), self.now));
        commands.extend(self.real.stop_failed(stranger));
        commands.extend(self.real.retry(stranger, 1, self.now));
        commands.extend(self.real.terminate(stranger));
        commands.extend(self.real.start_child(stranger));
        commands.extend(self.real.restart_child(stranger).unwrap());
        commands.extend(self.real.delete_child(stranger).unwrap());
        commands
    }
}
