//! What deliveries are measured by: how they end, how long each stage takes, how soon harm is found, and how soon it is
//! over.

use std::time::Duration;

use gemba::Instruments;
use gemba::light::Light;
use gemba::metric::{Kind, Metric};
use gemba::rollout::{Harm, State};
use tokio::time::Instant;

use crate::delivery::{Delivery, Outcome, Phase};

/// Deliveries that ended; `increase(…[1d])` of it is how many a day, and the share of `succeeded` the rate of success.
pub const DELIVERIES: Metric = Metric {
    name: "deployment_deliveries_total",
    kind: Kind::Counter,
    labels: &["service", "outcome"],
    help: "Deliveries that ended: succeeded, or rolled_back.",
};

/// How long each stage took in a region.
pub const STAGE: Metric = Metric {
    name: "deployment_stage_seconds",
    kind: Kind::Histogram,
    labels: &["service", "stage"],
    help: "Time in a stage of a delivery in a region: starting, 1, 2, …, the last of which is the time to bake.",
};

/// How soon harm was found.
pub const DETECT: Metric = Metric {
    name: "deployment_detect_seconds",
    kind: Kind::Histogram,
    labels: &["service"],
    help: "Time from the first share of a version in a region to the harm that was found there.",
};

/// How soon it was over.
pub const RECOVER: Metric = Metric {
    name: "deployment_recover_seconds",
    kind: Kind::Histogram,
    labels: &["service"],
    help: "Time from the decision to take a version back to the last splitter that sends it nothing.",
};

/// Where a delivery stands, as far as time is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    region: String,
    stage: String,
}

/// Measures the deliveries of a service. What began before its life, which no clock of it knows, is not measured.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    stand: Option<(Stand, Instant)>,
    split_since: Option<(String, Instant)>,
    taken_back: Option<(String, Instant)>,
}

/// What is told at a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Stage(String, Duration),
    Detected(Duration),
    Ended(&'static str),
}

impl Measures {
    /// A step was taken: where the delivery stands now.
    pub(crate) fn step(&mut self, delivery: &Delivery, light: Light, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        let stand = stand(delivery);
        if let Some((before, since)) = self.stand.take_if(|(before, _)| Some(&*before) != stand.as_ref()) {
            told.push(Told::Stage(before.stage, now.saturating_duration_since(since)));
        }
        if self.stand.is_none() {
            self.stand = stand.clone().map(|stand| (stand, now));
        }
        let splits = stand.filter(|stand| stand.stage != "starting");
        match (&delivery.outcome, splits) {
            (Outcome::Running, Some(stand)) => {
                let is_same = self.split_since.as_ref().is_some_and(|(region, _)| *region == stand.region);
                if !is_same {
                    self.split_since = Some((stand.region, now));
                }
            }
            (Outcome::Running, None) => self.split_since = None,
            (Outcome::Succeeded, _) => {
                self.split_since = None;
                told.push(Told::Ended("succeeded"));
            }
            (Outcome::RolledBack { .. }, _) => {
                if let Some((_, since)) = self.split_since.take()
                    && light == Light::Red
                    && harm(delivery).is_some()
                {
                    told.push(Told::Detected(now.saturating_duration_since(since)));
                }
                self.taken_back = Some((delivery.to.clone(), now));
                told.push(Told::Ended("rolled_back"));
            }
        }
        told
    }

    /// How long it took until no splitter sends anything to the version that was taken back, once that is so.
    pub(crate) fn recovered(&mut self, is_sent: impl Fn(&str) -> bool, now: Instant) -> Option<Duration> {
        let (_, since) = self.taken_back.take_if(|(version, _)| !is_sent(version))?;
        Some(now.saturating_duration_since(since))
    }
}

fn stand(delivery: &Delivery) -> Option<Stand> {
    let (region, phase) = delivery.current()?;
    let stage = match phase {
        Phase::Waiting | Phase::Done => return None,
        Phase::Starting => "starting".to_owned(),
        Phase::Splitting(rollout) => rollout.stage().to_string(),
    };
    Some(Stand { region: region.to_owned(), stage })
}

/// The harm for which a rollout was ended; none if a person or an instance ended it.
fn harm(delivery: &Delivery) -> Option<Harm> {
    match delivery.ended_rollout()?.state() {
        State::Aborted { harm } => harm,
        State::Running | State::Held { .. } | State::Paused | State::Promoted => None,
    }
}

/// Writes it down.
pub(crate) fn publish(instruments: &Instruments, service: &str, told: &[Told]) {
    for told in told {
        match told {
            Told::Stage(stage, took) => {
                instruments.histogram(&STAGE, &[service, stage]).record(took.as_secs_f64());
            }
            Told::Detected(after) => instruments.histogram(&DETECT, &[service]).record(after.as_secs_f64()),
            Told::Ended(how) => instruments.counter(&DELIVERIES, &[service, how]).increment(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::care::Care;
    use crate::delivery::Step;
    use gemba::rollout::Side;
    use gemba::time::Timestamp;

    /// A delivery whose version fails this often, looked at each second; what was told, and when in seconds.
    fn told(failing: f64, by_hand: bool) -> Vec<(u64, Told)> {
        let rules = Care { bake_ms: 10_000, ..Care::default() }.rules().unwrap();
        let mut delivery = Delivery::begin("7", "api", (Some("v1"), "v2"), ["one".to_owned()], rules, 0);
        let (mut measures, mut told, begun) = (Measures::default(), Vec::new(), Instant::now());
        let mut note = |delivery: &Delivery, step: Option<Step>, second: u64| {
            let light = step.map(|step| step.light);
            let new = light.map(|light| measures.step(delivery, light, begun + Duration::from_secs(second)));
            told.extend(new.into_iter().flatten().map(|told| (second, told)));
        };
        note(&delivery, Some(Step { light: Light::Green, what: String::new() }), 0);
        let step = delivery.started(Timestamp::from_secs(5));
        note(&delivery, step, 5);
        for second in 6..1_000 {
            delivery.observe(Side::Candidate, (1_000.0 * failing) as u64, 1_000, std::iter::empty());
            delivery.observe(Side::Baseline, 0, 19_000, std::iter::empty());
            let step =
                if by_hand { delivery.abort().ok() } else { delivery.look(Timestamp::from_secs(second)) };
            note(&delivery, step, second);
        }
        told
    }

    #[test]
    fn stages_ends_and_the_time_to_find_harm_are_told() {
        let stage = |stage: &str, secs| Told::Stage(stage.to_owned(), Duration::from_secs(secs));
        assert_eq!(
            told(0.0, false),
            [
                (5, stage("starting", 5)),
                (305, stage("1", 300)),
                (905, stage("2", 600)),
                (915, stage("3", 10)),
                (915, Told::Ended("succeeded")),
            ]
        );
        let back = told(0.2, false);
        let found = Told::Detected(Duration::from_secs(1));
        assert_eq!(back[1..], [(6, stage("1", 1)), (6, found), (6, Told::Ended("rolled_back"))]);
        let by_hand = told(0.0, true);
        assert_eq!(by_hand[1..], [(6, stage("1", 1)), (6, Told::Ended("rolled_back"))], "nothing was found");
    }

    #[test]
    fn it_is_over_when_no_splitter_sends_anything() {
        let mut measures =
            Measures { taken_back: Some(("v2".to_owned(), Instant::now())), ..Measures::default() };
        let later = Instant::now() + Duration::from_secs(2);
        assert_eq!(measures.recovered(|version| version == "v2", later), None);
        assert!(measures.recovered(|_| false, later).is_some_and(|took| Duration::from_secs(1) < took));
        assert_eq!(measures.recovered(|_| false, later), None, "once");
    }
}
