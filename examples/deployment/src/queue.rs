//! Deliveries that wait, as a value: first come, first served, one of a service, so many at once.

use std::time::Duration;

use gemba::policy::Violation;
use serde::{Deserialize, Serialize};

use crate::fleet::QueueSection;
use crate::policy::DeploymentRequest;

/// Rules whose violation passes by itself: at its turn a delivery waits for these, and is refused for the others.
const PASSING: [&str; 4] = ["capacity", "freeze", "healthy", "objectives_met"];

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What is asked for.
    pub request: DeploymentRequest,
    /// When it was asked for, in milliseconds since 1970.
    pub asked_unix_ms: u64,
    /// Its place: a smaller one is served before a greater one.
    pub place: i64,
    /// What it waits for, once somebody has looked.
    #[serde(skip)]
    pub why: Option<String>,
}

/// The queue, the first one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue(Vec<Waiting>);

/// How the service of a waiting delivery stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The delivery of it that goes on, and its version.
    pub running: Option<(String, String)>,
    /// Versions of which instances still end.
    pub leaving: Vec<String>,
    /// The rules that a delivery violates now.
    pub violations: Vec<Violation>,
}

/// What becomes of a delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It is begun.
    Begin,
    /// It is the one that goes on.
    Begun,
    /// It waits for this; others may be begun before it.
    Wait(String),
    /// It is next, as soon as this is over.
    Next(String),
    /// It waits for a delivery of its own service, which it supersedes, to be taken back.
    Supersede(String),
    /// It is not begun, because of this.
    Refuse(String),
}

impl Queue {
    /// The queue of those that waited when the manager stopped.
    pub fn of(mut waiting: Vec<Waiting>) -> Self {
        waiting.sort_by_key(|one| one.place);
        Self(waiting)
    }

    /// Lets a delivery wait: in the place of the one of its service that waits, which is returned; else first, if
    /// one of its service goes on, whose place it takes; else last.
    pub fn join(
        &mut self,
        request: DeploymentRequest,
        is_running: bool,
        asked_unix_ms: u64,
    ) -> (Waiting, Option<Waiting>) {
        let index = self.0.iter().position(|one| one.request.service == request.service);
        let superseded = index.map(|index| self.0.remove(index));
        let place = match (&superseded, is_running) {
            (Some(old), _) => old.place,
            (None, true) => self.0.first().map_or(0, |first| first.place - 1),
            (None, false) => self.0.last().map_or(0, |last| last.place + 1),
        };
        let waiting = Waiting { request, asked_unix_ms, place, why: None };
        let index = self.0.partition_point(|one| one.place < place);
        self.0.insert(index, waiting.clone());
        (waiting, superseded)
    }

    /// Takes a delivery out.
    pub fn leave(&mut self, id: &str) -> Option<Waiting> {
        let index = self.0.iter().position(|one| one.request.id == id)?;
        Some(self.0.remove(index))
    }

    /// Says what a delivery waits for; tells its place, from 1, if nobody had said so before.
    pub fn explain(&mut self, id: &str, why: &str) -> Option<usize> {
        let index = self.0.iter().position(|one| one.request.id == id)?;
        self.0[index].why.replace(why.to_owned()).is_none().then_some(index + 1)
    }

    /// All that wait, in order.
    pub fn waiting(&self) -> &[Waiting] {
        &self.0
    }

    /// The delivery of a service that waits.
    pub fn of_service(&self, service: &str) -> Option<&Waiting> {
        self.0.iter().find(|one| one.request.service == service)
    }

    /// How many of other services wait.
    pub fn others(&self, service: &str) -> usize {
        self.0.iter().filter(|one| one.request.service != service).count()
    }
}

impl Waiting {
    /// What becomes of it, while so many deliveries go on.
    pub fn turn(&self, standing: &Standing, running: usize, rules: &QueueSection, unix_ms: u64) -> Turn {
        let waited = Duration::from_millis(unix_ms.saturating_sub(self.asked_unix_ms));
        if let Some((id, version)) = &standing.running {
            if *id == self.request.id {
                return Turn::Begun;
            }
            return Turn::Supersede(format!("{version} is taken back first"));
        }
        if Duration::from_secs(rules.wait_max_s) <= waited {
            let last = self.why.as_deref().unwrap_or("its turn");
            return Turn::Refuse(format!("it waited {} s for this: {last}", waited.as_secs()));
        }
        if rules.running_max as usize <= running {
            let go_on = if running == 1 { "delivery goes on" } else { "deliveries go on" };
            return Turn::Wait(format!("{running} {go_on}, {} is the limit", rules.running_max));
        }
        if !standing.leaving.is_empty() {
            return Turn::Next(format!("instances of {} still end", standing.leaving.join(", ")));
        }
        let said: Vec<_> = standing.violations.iter().map(|violation| &*violation.message).collect();
        let passes = |violation: &Violation| PASSING.contains(&&*violation.rule);
        match standing.violations.iter().all(passes) {
            _ if said.is_empty() => Turn::Begin,
            true => Turn::Wait(said.join("; ")),
            false => Turn::Refuse(said.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Strategy;

    fn request(service: &str, version: &str) -> DeploymentRequest {
        DeploymentRequest {
            id: format!("{service}-{version}"),
            service: service.to_owned(),
            version: version.to_owned(),
            regions: vec!["us-west".to_owned()],
            strategy: Strategy::Canary,
        }
    }

    fn ids(queue: &Queue) -> Vec<&str> {
        queue.waiting().iter().map(|one| one.request.id.as_str()).collect()
    }

    #[test]
    fn the_first_to_come_is_the_first_and_a_service_keeps_its_place() {
        let mut queue = Queue::default();
        for service in ["a", "b", "c"] {
            assert_eq!(queue.join(request(service, "v2"), false, 0).1, None);
        }
        let (_, superseded) = queue.join(request("b", "v3"), false, 1);
        assert_eq!(superseded.unwrap().request.id, "b-v2");
        assert_eq!(ids(&queue), ["a-v2", "b-v3", "c-v2"]);
        // Of d one goes on: what supersedes it takes its place among those that go on.
        assert_eq!(queue.join(request("d", "v3"), true, 2).1, None);
        assert_eq!(ids(&queue), ["d-v3", "a-v2", "b-v3", "c-v2"]);
        assert_eq!((queue.others("a"), queue.others("x")), (3, 4));
        assert_eq!(queue.leave("a-v2").unwrap().request.service, "a");
        assert_eq!(queue.leave("a-v2"), None);
        let again = Queue::of(queue.waiting().iter().rev().cloned().collect());
        assert_eq!(again, queue, "as it was written down");
    }

    #[test]
    fn two_hundred_are_served_as_they_came_though_some_leave() {
        let mut queue = Queue::default();
        for number in 0..200 {
            queue.join(request(&format!("s{number}"), "v1"), false, number);
        }
        for number in (0..200).step_by(3) {
            queue.leave(&format!("s{number}-v1")).unwrap();
            queue.join(request(&format!("s{number}"), "v2"), false, 200 + number);
        }
        let asked: Vec<_> = queue.waiting().iter().map(|one| one.asked_unix_ms).collect();
        assert!(asked.len() == 200 && asked.is_sorted(), "{asked:?}");
    }

    #[test]
    fn a_delivery_is_begun_when_nothing_is_in_its_way() {
        let waiting = Queue::default().join(request("a", "v2"), false, 1_000).0;
        let rules = QueueSection { running_max: 2, waiting_max: 9, wait_max_s: 60 };
        let violation = |rule: &str| Violation { rule: rule.into(), version: 1, message: rule.into() };
        let with = |rules: &[&str]| Standing {
            violations: rules.iter().map(|rule| violation(rule)).collect(),
            ..Standing::default()
        };
        let running = |id: &str| Standing {
            running: Some((id.to_owned(), "v1".to_owned())),
            ..with(&["version_known"])
        };
        let leaving = Standing { leaving: vec!["v1".to_owned()], ..with(&["version_known"]) };
        let wait = |why: &str| Turn::Wait(why.to_owned());
        for (standing, others, unix_ms, turn) in [
            (with(&[]), 1, 60_999, Turn::Begin),
            (with(&[]), 2, 60_999, wait("2 deliveries go on, 2 is the limit")),
            (with(&[]), 1, 61_000, Turn::Refuse("it waited 60 s for this: its turn".to_owned())),
            (running("a-v2"), 2, 61_000, Turn::Begun),
            (running("a-v1"), 2, 61_000, Turn::Supersede("v1 is taken back first".to_owned())),
            (leaving, 1, 2_000, Turn::Next("instances of v1 still end".to_owned())),
            (with(&["freeze", "healthy"]), 0, 2_000, wait("freeze; healthy")),
            (with(&["freeze", "artefact"]), 0, 2_000, Turn::Refuse("freeze; artefact".to_owned())),
        ] {
            assert_eq!(waiting.turn(&standing, others, &rules, unix_ms), turn);
        }
    }

    #[test]
    fn why_it_waits_is_news_once() {
        let mut queue = Queue::default();
        queue.join(request("a", "v2"), false, 0);
        queue.join(request("b", "v2"), false, 0);
        assert_eq!(queue.explain("b-v2", "one thing"), Some(2));
        assert_eq!(queue.explain("b-v2", "another"), None);
        assert_eq!(queue.explain("c-v2", "nobody"), None);
        assert_eq!(queue.of_service("b").unwrap().why.as_deref(), Some("another"));
    }
}
