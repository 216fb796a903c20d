//! One delivery of a version through all regions, as a value: where it stands, what the traffic should be, what a look
//! or a person changes. Kept on the disk, it goes on after a crash where it was.

use std::time::Duration;

use gemba::light::Light;
use gemba::rollout::{Rollout, RolloutOver, RolloutRules, Side, State};
use gemba::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::splitter::table::WHOLE;

/// Where a region stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Its turn has not come.
    Waiting,
    /// Instances of the new version are started.
    Starting,
    /// The requests are split.
    Splitting(Box<Rollout>),
    /// The new version has everything.
    Done,
}

/// How it stands as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It goes on.
    Running,
    /// The new version has everything everywhere.
    Succeeded,
    /// The old version has everything everywhere.
    RolledBack {
        /// Why.
        why: String,
    },
}

impl Outcome {
    /// Whether it is over.
    pub const fn is_over(&self) -> bool {
        !matches!(self, Self::Running)
    }
}

/// What changed, for the record and a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "what changed is written down and carried out"]
pub struct Step {
    /// Green as it goes on, yellow while it is held, red when it was taken back.
    pub light: Light,
    /// What, in words.
    pub what: String,
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// The service.
    pub service: String,
    /// What runs today; nothing before the first delivery.
    pub from: Option<String>,
    /// What is to run.
    pub to: String,
    /// When it began, in milliseconds since 1970.
    pub begun_unix_ms: u64,
    /// How it stands.
    pub outcome: Outcome,
    /// The region whose turn it is.
    current: usize,
    regions: Vec<(String, Phase)>,
    rules: RolloutRules,
}

impl Delivery {
    /// A delivery at its beginning. Without a `from` there is nobody to compare with, and it has everything at once.
    pub fn begin(
        id: &str,
        service: &str,
        (from, to): (Option<&str>, &str),
        regions: impl IntoIterator<Item = String>,
        rules: RolloutRules,
        begun_unix_ms: u64,
    ) -> Self {
        let mut regions: Vec<_> = regions.into_iter().map(|region| (region, Phase::Waiting)).collect();
        if let Some((_, phase)) = regions.first_mut() {
            *phase = Phase::Starting;
        }
        Self {
            id: id.to_owned(),
            service: service.to_owned(),
            from: from.map(str::to_owned),
            to: to.to_owned(),
            begun_unix_ms,
            outcome: Outcome::Running,
            current: 0,
            regions,
            rules,
        }
    }

    /// Every region it goes through, in order.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.regions.iter().map(|(region, _)| region.as_str())
    }

    /// The region whose turn it is, and how it stands; none when it is over.
    pub fn current(&self) -> Option<(&str, &Phase)> {
        let here = self.regions.get(self.current).filter(|_| !self.outcome.is_over());
        here.map(|(region, phase)| (region.as_str(), phase))
    }

    /// The rollout of that region, while the requests are split.
    pub fn rollout(&self) -> Option<&Rollout> {
        match self.current()?.1 {
            Phase::Splitting(rollout) => Some(rollout),
            Phase::Waiting | Phase::Starting | Phase::Done => None,
        }
    }

    /// The rollout with which it ended, if requests were split then.
    pub fn ended_rollout(&self) -> Option<&Rollout> {
        match self.regions.get(self.current).filter(|_| self.outcome.is_over()) {
            Some((_, Phase::Splitting(rollout))) => Some(rollout),
            Some((_, Phase::Waiting | Phase::Starting | Phase::Done)) | None => None,
        }
    }

    /// The share of the new version in a region, in ten thousandths.
    pub fn share(&self, region: &str) -> u32 {
        match (&self.outcome, self.phase(region)) {
            (Outcome::RolledBack { .. }, _)
            | (Outcome::Running, Some(Phase::Waiting | Phase::Starting) | None) => 0,
            (Outcome::Succeeded, _) | (Outcome::Running, Some(Phase::Done)) => WHOLE,
            (Outcome::Running, Some(Phase::Splitting(rollout))) => {
                // A whole number of ten thousandths, and at least one if it is more than nothing.
                (rollout.share() * f64::from(WHOLE)).round() as u32
            }
        }
    }

    /// Whether instances of the new and of the old version are to run in a region.
    pub fn wants(&self, region: &str) -> (bool, bool) {
        match self.outcome {
            Outcome::Running => {
                (!matches!(self.phase(region), Some(Phase::Waiting) | None), self.from.is_some())
            }
            Outcome::Succeeded => (true, false),
            Outcome::RolledBack { .. } => (false, self.from.is_some()),
        }
    }

    fn phase(&self, region: &str) -> Option<&Phase> {
        self.regions.iter().find(|(name, _)| name == region).map(|(_, phase)| phase)
    }

    fn rollout_mut(&mut self) -> Option<&mut Rollout> {
        match self.regions.get_mut(self.current).filter(|_| !self.outcome.is_over()) {
            Some((_, Phase::Splitting(rollout))) => Some(rollout),
            Some((_, Phase::Waiting | Phase::Starting | Phase::Done)) | None => None,
        }
    }

    /// All instances of the new version are ready in the region whose turn it is.
    pub fn started(&mut self, now: Timestamp) -> Option<Step> {
        let (region, phase) = self.current()?;
        if *phase != Phase::Starting {
            return None;
        }
        if self.from.is_none() {
            return Some(self.region_done());
        }
        let name = region.parse().ok()?;
        let rollout = Rollout::new(name, self.rules.clone(), now);
        let what = format!("{region}: {} to {}", percent(rollout.share()), self.to);
        self.regions[self.current].1 = Phase::Splitting(Box::new(rollout));
        Some(Step { light: Light::Green, what })
    }

    /// The new version cannot go on, for a reason its instances gave.
    pub fn fail(&mut self, why: &str) -> Option<Step> {
        (!self.outcome.is_over()).then(|| self.take_back(why.to_owned()))
    }

    /// Takes note of outcomes in the region whose turn it is.
    pub fn observe(
        &mut self,
        side: Side,
        failures: u64,
        outcomes: u64,
        latencies: impl Iterator<Item = Duration>,
    ) {
        let Some(rollout) = self.rollout_mut() else { return };
        rollout.observe(side, failures, outcomes);
        latencies.for_each(|latency| rollout.observe_latency(side, latency));
    }

    /// Looks at what came, and says what follows.
    pub fn look(&mut self, now: Timestamp) -> Option<Step> {
        let outcomes = self.rollout()?.outcomes();
        let _moved = self.rollout_mut()?.look(now)?;
        Some(self.follow(outcomes))
    }

    /// The light of a delivery that takes longer than `limit`, and what holds it up. It goes on as it would.
    pub fn slow(&self, limit: Duration, now: Timestamp) -> Option<Step> {
        let (region, phase) = self.current()?;
        if now.since(Timestamp::from_nanos(self.begun_unix_ms.saturating_mul(1_000_000))) <= limit {
            return None;
        }
        let held_up = match phase {
            Phase::Waiting | Phase::Done => return None,
            Phase::Starting => "instances are not ready".to_owned(),
            Phase::Splitting(rollout) => {
                let [new, old] = rollout.outcomes();
                let (stage, ran) = (rollout.stage(), rollout.ran(now));
                format!(
                    "stage {stage} for {ran:.0?}, with {new} outcomes of {} and {old} of the other",
                    self.to
                )
            }
        };
        let what = format!("slower than {limit:.0?}: {region}: {held_up}");
        Some(Step { light: Light::Yellow, what })
    }

    /// Keeps it where it is.
    ///
    /// # Errors
    ///
    /// In words, if it is over or no requests are split.
    pub fn pause(&mut self, now: Timestamp) -> Result<Step, String> {
        self.by_hand(|rollout| rollout.pause(now).map(drop))
    }

    /// Lets a paused one go on.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub fn resume(&mut self, now: Timestamp) -> Result<Step, String> {
        self.by_hand(|rollout| rollout.resume(now).map(drop))
    }

    /// Takes the next stage at once.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub fn promote(&mut self, now: Timestamp) -> Result<Step, String> {
        self.by_hand(|rollout| rollout.promote(now).map(drop))
    }

    /// Takes it back everywhere.
    ///
    /// # Errors
    ///
    /// In words, if it is over.
    pub fn abort(&mut self) -> Result<Step, String> {
        self.fail("taken back by hand").ok_or_else(|| "it is over; begin another one".to_owned())
    }

    fn by_hand(&mut self, act: impl FnOnce(&mut Rollout) -> Result<(), RolloutOver>) -> Result<Step, String> {
        let Some(rollout) = self.rollout_mut() else {
            return Err(
                "no requests are split now; wait until it has started, or begin another one".to_owned()
            );
        };
        let outcomes = rollout.outcomes();
        act(rollout).map_err(|over| over.to_string())?;
        Ok(self.follow(outcomes))
    }

    /// What follows from where the rollout of the region stands now.
    fn follow(&mut self, [new, old]: [u64; 2]) -> Step {
        let region = self.regions[self.current].0.clone();
        let Some(rollout) = self.rollout() else { return self.region_done() };
        let (state, share) = (rollout.state(), percent(rollout.share()));
        let seen = format!("{new} requests of {} seen beside {old}", self.to);
        match state {
            State::Promoted => self.region_done(),
            State::Aborted { .. } => self.take_back(format!("{region}: {state} ({seen})")),
            State::Running => {
                Step { light: Light::Green, what: format!("{region}: {share} to {} ({seen})", self.to) }
            }
            State::Held { .. } | State::Paused => {
                Step { light: Light::Yellow, what: format!("{region}: {state} at {share} ({seen})") }
            }
        }
    }

    fn region_done(&mut self) -> Step {
        let (region, phase) = &mut self.regions[self.current];
        *phase = Phase::Done;
        let mut what = format!("{region}: everything to {}", self.to);
        self.current += 1;
        match self.regions.get_mut(self.current) {
            Some((next, phase)) => {
                *phase = Phase::Starting;
                what = format!("{what}; {next} is next");
            }
            None => self.outcome = Outcome::Succeeded,
        }
        Step { light: Light::Green, what }
    }

    fn take_back(&mut self, why: String) -> Step {
        let what = format!("{} back to 0 %: {why}", self.to);
        self.outcome = Outcome::RolledBack { why };
        Step { light: Light::Red, what }
    }
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 1_000.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Care, StageSpec};

    fn care() -> Care {
        let stages =
            vec![StageSpec { share: 0.05, lasts_ms: 2_000 }, StageSpec { share: 0.25, lasts_ms: 2_000 }];
        Care { stages, bake_ms: 2_000, ..Care::default() }
    }

    fn delivery() -> Delivery {
        let regions = ["us-west".to_owned(), "us-east".to_owned()];
        Delivery::begin("7", "api", (Some("v1"), "v2"), regions, care().rules().unwrap(), 0)
    }

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// One second of 10 000 requests, of which this share of the new version's fails; and a look.
    fn second(delivery: &mut Delivery, now: u64, failing: f64) -> Option<Step> {
        let share = delivery.rollout()?.share();
        let new = (share * 10_000.0) as u64;
        delivery.observe(
            Side::Candidate,
            (new as f64 * failing) as u64,
            new,
            [Duration::from_millis(5)].into_iter(),
        );
        delivery.observe(Side::Baseline, 0, 10_000 - new, [Duration::from_millis(5)].into_iter());
        delivery.look(secs(now))
    }

    #[test]
    fn a_delivery_that_takes_too_long_is_yellow_and_says_what_holds_it_up() {
        let limit = Duration::from_secs(10);
        let mut delivery = delivery();
        assert_eq!(delivery.slow(limit, secs(10)), None);
        let starting = delivery.slow(limit, secs(11)).unwrap();
        assert_eq!(starting.light, Light::Yellow);
        assert_eq!(starting.what, "slower than 10s: us-west: instances are not ready");
        let _ = delivery.started(secs(12)).unwrap();
        delivery.observe(Side::Candidate, 0, 7, std::iter::empty());
        delivery.observe(Side::Baseline, 0, 133, std::iter::empty());
        let held = delivery.look(secs(42)).unwrap();
        assert!(held.what.contains("too few outcomes to compare"), "{held:?}");
        let waiting = delivery.slow(limit, secs(42)).unwrap();
        assert_eq!(
            waiting.what,
            "slower than 10s: us-west: stage 1 for 30s, with 7 outcomes of v2 and 133 of the other"
        );
        let _ = delivery.abort().unwrap();
        assert_eq!(delivery.slow(limit, secs(99)), None, "it is over");
    }

    #[test]
    fn a_good_version_goes_through_one_region_after_the_other() {
        let mut delivery = delivery();
        let mut shares = Vec::new();
        for now in 0..60 {
            if delivery.started(secs(now)).is_none() {
                let _ = second(&mut delivery, now, 0.0);
            }
            let here = (delivery.share("us-west"), delivery.share("us-east"));
            if shares.last() != Some(&here) {
                shares.push(here);
            }
        }
        assert_eq!(delivery.outcome, Outcome::Succeeded);
        let (w, e) = (WHOLE, WHOLE);
        assert_eq!(shares, [(500, 0), (2_500, 0), (w, 0), (w, 500), (w, 2_500), (w, e)]);
        assert_eq!(delivery.wants("us-east"), (true, false));
    }

    #[test]
    fn the_old_version_runs_everywhere_until_the_new_one_is_everywhere() {
        let mut delivery = delivery();
        assert_eq!((delivery.wants("us-west"), delivery.wants("us-east")), ((true, true), (false, true)));
        for now in 0..60 {
            if delivery.started(secs(now)).is_none() {
                let _ = second(&mut delivery, now, 0.0);
            }
            let is_over = delivery.outcome.is_over();
            assert_eq!(delivery.wants("us-west"), (true, !is_over), "{now} s");
        }
    }

    #[test]
    fn a_bad_version_is_taken_back_everywhere_at_once() {
        let mut delivery = delivery();
        let mut now = 0;
        // Good in the first region, bad from its first second in the other.
        while delivery.current().is_some_and(|(region, _)| region == "us-west") {
            now += 1;
            if delivery.started(secs(now)).is_none() {
                let _ = second(&mut delivery, now, 0.0);
            }
        }
        assert_eq!(delivery.share("us-west"), WHOLE);
        assert!(delivery.started(secs(now)).is_some());
        let back = (1..10).find_map(|later| second(&mut delivery, now + later, 0.1));
        let back = back.expect("it is found within ten seconds");
        assert_eq!(back.light, Light::Red);
        assert!(
            back.what.contains("us-east: aborted: it fails more often than the baseline"),
            "{}",
            back.what
        );
        for region in ["us-west", "us-east"] {
            assert_eq!((delivery.share(region), delivery.wants(region)), (0, (false, true)), "{region}");
        }
        assert!(
            delivery.fail("again").is_none()
                && delivery.abort().is_err()
                && delivery.look(secs(99)).is_none()
        );
    }

    #[test]
    fn the_first_version_of_all_has_everything_at_once() {
        let regions = ["us-west".to_owned(), "us-east".to_owned()];
        let mut first = Delivery::begin("1", "api", (None, "v1"), regions, care().rules().unwrap(), 0);
        assert_eq!(first.wants("us-west"), (true, false));
        assert!(first.started(secs(1)).is_some());
        assert_eq!((first.share("us-west"), first.share("us-east")), (WHOLE, 0));
        assert!(first.started(secs(2)).is_some());
        assert_eq!((first.share("us-east"), first.outcome), (WHOLE, Outcome::Succeeded));
    }

    #[test]
    fn a_person_pauses_resumes_promotes_and_aborts() {
        let mut delivery = delivery();
        assert!(delivery.pause(secs(1)).is_err(), "nothing is split yet");
        assert!(delivery.started(secs(1)).is_some());
        assert_eq!(delivery.pause(secs(1)).unwrap().light, Light::Yellow);
        assert_eq!(second(&mut delivery, 60, 0.0), None);
        assert_eq!(delivery.resume(secs(60)).unwrap().light, Light::Green);
        assert!(delivery.promote(secs(60)).is_ok());
        assert_eq!(delivery.share("us-west"), 2_500);
        let back = delivery.abort().unwrap();
        assert_eq!(back.what, "v2 back to 0 %: taken back by hand");
    }

    #[test]
    fn kept_on_a_disk_it_goes_on_where_it_was() {
        let mut delivery = delivery();
        assert!(delivery.started(secs(1)).is_some());
        let _ = second(&mut delivery, 2, 0.0);
        let mut kept: Delivery = serde_json::from_str(&serde_json::to_string(&delivery).unwrap()).unwrap();
        for now in 3..8 {
            assert_eq!(second(&mut kept, now, 0.0), second(&mut delivery, now, 0.0), "{now} s");
            assert_eq!(kept.share("us-west"), delivery.share("us-west"), "{now} s");
        }
        assert_eq!(kept.share("us-west"), WHOLE);
    }
}
