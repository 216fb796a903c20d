//! The books of the world: what each event means for who is to run, who is to stop, and what was counted.

use super::{Child, Life, Purpose, Retry, Stage, World};
use std::collections::BTreeSet;

use crate::exit::ExitReason;
use crate::supervision::checks::world::wait_between;
use crate::supervision::checks::{fits, gave_up, no_luck};
use crate::supervision::{AutoShutdown, Backoff, ChildKey, GiveUp, Restart, Strategy};

impl Child {
    /// Whether its start is under way, or will be.
    fn is_to_come(&self) -> bool {
        match &self.life {
            Some(life) => matches!(life.stage, Stage::Starting | Stage::Stillborn(_)),
            None => self.wanted && self.retry.is_none(),
        }
    }
}

impl World {
    pub(super) fn start_failed(&mut self, key: ChildKey, life: &Life) {
        if self.ending {
            return;
        }
        let group = self.is_group();
        let child = self.children.get_mut(&key).unwrap();
        if life.purpose == Purpose::Add {
            (child.wanted, child.leaves) = (false, true);
        } else if life.doomed {
            // Whoever doomed it has said whether it is to run.
        } else if life.purpose == Purpose::Manual {
            child.wanted = false;
        } else if self.ready {
            child.row += 1;
            self.wait = Some(wait_between(&self.flags.backoff, child.row));
            if group {
                let rest = self.flags.strategy == Strategy::RestForOne;
                let takes_along = |other: ChildKey| if rest { key < other } else { other != key };
                for (_, other) in self.children.iter_mut().filter(|(other, _)| takes_along(**other)) {
                    // They wait for the retry, which starts them too.
                    let stays = |life: &Life| !life.doomed || life.stage == Stage::LeftBehind;
                    other.wanted &= other.life.as_ref().is_some_and(stays) || other.retry.is_some();
                }
            }
            self.children.get_mut(&key).unwrap().retry =
                Some(Retry { generation: u32::MAX, at: self.now, failed: true });
        } else {
            let name = self.real.children().find(|(other, ..)| *other == key).unwrap().1;
            let message = format!("child '{name}' failed to start: {}", no_luck());
            self.end(&ExitReason::Error { message: message.into() });
        }
    }

    /// Keeps the books when a life ends that nobody may have wanted to end.
    pub(super) fn ended_by_itself(&mut self, key: ChildKey, reason: &ExitReason) {
        let life = self.bury(key);
        if self.ending || life.doomed {
            return;
        }
        let Backoff { first, healthy_after, .. } = self.flags.backoff;
        let child = self.children.get_mut(&key).unwrap();
        let rules = child.rules;
        let again = match rules.restart {
            Restart::Permanent => true,
            Restart::Transient => !reason.is_clean(),
            Restart::Temporary => false,
        };
        if again {
            if !first.is_zero() && healthy_after <= self.now.since(life.since) {
                child.row = 0;
            }
            child.row += 1;
            self.wait = Some(wait_between(&self.flags.backoff, child.row));
            return self.restart(key, "exited", reason);
        }
        child.wanted = false;
        let last = !self.is_significant_left();
        let ends = match self.flags.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => rules.significant,
            AutoShutdown::AllSignificant => rules.significant && last,
        };
        if ends {
            self.end_when_ready(&ExitReason::Shutdown);
        } else if rules.significant {
            self.hopes = self.last_hopes();
        }
    }

    fn is_significant_left(&self) -> bool {
        self.children.values().any(|child| child.rules.significant && child.wanted)
    }

    /// The significant children that have still to come to run, if no other one is left.
    fn last_hopes(&self) -> BTreeSet<ChildKey> {
        let left = || self.children.iter().filter(|(_, child)| child.rules.significant && child.wanted);
        if left().all(|(_, child)| child.is_to_come()) {
            left().map(|(key, _)| *key).collect()
        } else {
            BTreeSet::new()
        }
    }

    pub(super) fn came_to_run(&mut self, key: ChildKey) {
        if self.hopes.contains(&key) {
            self.hopes.clear();
        }
    }

    /// Something has come to nothing: whether there is still hope that a significant child runs.
    pub(super) fn give_up_hopes(&mut self) {
        if self.hopes.is_empty() || self.ending {
            return;
        }
        self.hopes.retain(|key| self.children.get(key).is_some_and(Child::is_to_come));
        if !self.hopes.is_empty() {
            return;
        }
        if self.is_significant_left() {
            self.hopes = self.last_hopes();
        } else {
            self.wait = None;
            self.end_when_ready(&ExitReason::Shutdown);
        }
    }

    /// Counts a restart and lines up whom it names, or gives up.
    pub(super) fn restart(&mut self, key: ChildKey, what: &str, reason: &ExitReason) {
        if !fits(self.flags.intensity, &self.restarts, self.now) {
            let name = self.real.children().find(|(other, ..)| *other == key).unwrap().1;
            let told = gave_up(&self.flags, name, what, reason);
            self.children.get_mut(&key).unwrap().wanted = false;
            self.told = self.verdict.is_none().then(|| told.clone());
            self.wait = None;
            return self.end_when_ready(&match self.flags.give_up {
                GiveUp::Abnormally => told,
                GiveUp::Cleanly => ExitReason::Shutdown,
            });
        }
        self.restarts.push(self.now);
        let first = match self.flags.strategy {
            Strategy::OneForOne | Strategy::Dynamic => {
                self.children.get_mut(&key).unwrap().wanted = true;
                return;
            }
            Strategy::OneForAll => ChildKey(0),
            Strategy::RestForOne => key,
        };
        for (_, child) in self.children.range_mut(first..) {
            if let Some(retry) = child.retry.take() {
                // The group waits for whom it takes along.
                let left = retry.at.since(self.now);
                let (least, most) = self.wait.unwrap_or_default();
                self.wait = Some((least.max(left), most.max(left)));
            }
            // A temporary one still has its first start before it, or none any more.
            child.wanted = child.rules.restart != Restart::Temporary || child.wanted && child.life.is_none();
            if let Some(life) = child.life.as_mut().filter(|life| life.stage != Stage::LeftBehind) {
                life.doomed = true;
            }
        }
    }

    pub(super) fn end_when_ready(&mut self, reason: &ExitReason) {
        if self.ready {
            self.end(reason);
        } else {
            self.verdict.get_or_insert(reason.clone());
        }
    }

    pub(super) fn end(&mut self, reason: &ExitReason) {
        if self.ending {
            return;
        }
        self.ending = true;
        self.verdict = Some(reason.clone());
        for child in self.children.values_mut() {
            (child.wanted, child.retry) = (false, None);
            if let Some(life) = &mut child.life {
                life.doomed = true;
            }
        }
    }
}
