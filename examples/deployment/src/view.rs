//! A service as it is shown: to people, to the commands, to the policy.

use std::fmt;

use gemba::light::Light;
use gemba::rollout::State;
use gemba::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::delivery::{Delivery, Phase};
use crate::queue::{Queue, Waiting};
use crate::store::ServiceRecord;

/// A service as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub service: String,
    /// The version that runs when nothing is delivered.
    pub stable: Option<String>,
    /// The delivery that goes on.
    pub delivery: Option<DeliveryView>,
    /// The delivery that waits for its turn.
    #[serde(default)]
    pub waiting: Option<WaitingView>,
    /// The last step of the last delivery.
    pub last: Option<StepView>,
    /// Its regions, in the order of a delivery.
    pub regions: Vec<RegionView>,
    /// Failures and requests of the version that runs, within the last minute.
    pub recent: (u64, u64),
    /// Deliveries since the manager started that ended well, and that were taken back.
    pub ended: (u64, u64),
}

impl ServiceView {
    /// Whether it shows the version and the delivery that the record has. A step is written a moment before it is
    /// shown, and the regions with it.
    pub(crate) fn shows(&self, record: &ServiceRecord) -> bool {
        let shown = self.delivery.as_ref().map(|delivery| &delivery.id);
        self.stable == record.stable && shown == record.delivery.as_ref().map(|delivery| &delivery.id)
    }
}

/// A delivery as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Its id.
    pub id: String,
    /// What runs today.
    pub from: Option<String>,
    /// What is to run.
    pub to: String,
    /// The region whose turn it is.
    pub region: String,
    /// What it does there, in words.
    pub state: String,
    /// The stage, from 1, and how many there are; the last is the time to bake.
    pub stage: (usize, usize),
    /// The share of the new version in that region, 0 to 1.
    pub share: f64,
    /// How long the stage lasts still at least.
    pub left_ms: u64,
}

impl fmt::Display for DeliveryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, region, state, stage: (at, last), .. } = self;
        let (from, left_s) = (self.from.as_deref().unwrap_or("nothing"), self.left_ms as f64 / 1e3);
        write!(f, "{from} → {to}: {state} in {region}, stage {at} of {last}, {left_s:.1} s left")
    }
}

impl DeliveryView {
    /// A delivery as it is now; none when it is over.
    pub(crate) fn of(delivery: &Delivery, now: Timestamp) -> Option<Self> {
        let (region, phase) = delivery.current()?;
        let mut view = Self {
            id: delivery.id.clone(),
            from: delivery.from.clone(),
            to: delivery.to.clone(),
            region: region.to_owned(),
            state: "starting".to_owned(),
            stage: (0, 0),
            share: 0.0,
            left_ms: 0,
        };
        if let Phase::Splitting(rollout) = phase {
            let bakes = rollout.state() == State::Running && rollout.rules().stages().len() < rollout.stage();
            view.state = if bakes { "baking".to_owned() } else { rollout.state().to_string() };
            let stages = rollout.rules().stages().len() + usize::from(!rollout.rules().bake().is_zero());
            view.stage = (rollout.stage(), stages);
            view.share = rollout.share();
            view.left_ms = rollout.stage_lasts().saturating_sub(rollout.ran(now)).as_millis() as u64;
        }
        Some(view)
    }
}

/// A delivery that waits, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingView {
    /// Its id.
    pub id: String,
    /// The service.
    pub service: String,
    /// What is to run.
    pub version: String,
    /// Its place in the queue, from 1.
    pub position: usize,
    /// When it was asked for, in milliseconds since 1970.
    pub asked_unix_ms: u64,
    /// What it waits for.
    pub why: String,
}

impl WaitingView {
    /// Every delivery that waits, in order.
    pub(crate) fn of(queue: &Queue) -> Vec<Self> {
        let view = |(index, waiting): (usize, &Waiting)| Self {
            id: waiting.request.id.clone(),
            service: waiting.request.service.clone(),
            version: waiting.request.version.clone(),
            position: index + 1,
            asked_unix_ms: waiting.asked_unix_ms,
            why: waiting.why.clone().unwrap_or_else(|| "nobody has looked yet".to_owned()),
        };
        queue.waiting().iter().enumerate().map(view).collect()
    }
}

/// A step as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// The delivery.
    pub delivery: String,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Its light.
    pub light: Light,
    /// What happened.
    pub what: String,
}

/// A region as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionView {
    /// Its name.
    pub region: String,
    /// Where requests come in.
    pub address: String,
    /// What is wrong with its splitter.
    pub trouble: Option<String>,
    /// The versions that have a share, an instance or a request there.
    pub versions: Vec<VersionView>,
}

/// A version in a region as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VersionView {
    /// The version.
    pub version: String,
    /// Its share in force, 0 to 1.
    pub share: f64,
    /// Its instances that are ready, and all of them.
    pub instances: (usize, usize),
    /// Requests since its splitter started.
    pub requests: u64,
    /// Of them, failures.
    pub failures: u64,
    /// Requests on their way.
    pub in_flight: u64,
    /// The 99th percentile of its last successes.
    pub p99_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::care::Care;

    #[test]
    fn a_view_is_behind_while_its_version_or_its_delivery_is_another_one() {
        let running = DeliveryView { id: "7".to_owned(), to: "v2".to_owned(), ..DeliveryView::default() };
        let view = |stable: Option<&str>, delivery: Option<&DeliveryView>| ServiceView {
            stable: stable.map(str::to_owned),
            delivery: delivery.cloned(),
            ..ServiceView::default()
        };
        let rules = Care::default().rules().unwrap();
        let delivery = Delivery::begin("7", "api", (Some("v1"), "v2"), ["us-west".to_owned()], rules, 0);
        let mut record = ServiceRecord { stable: Some("v1".to_owned()), ..ServiceRecord::default() };
        assert!(view(Some("v1"), None).shows(&record));
        assert!(!view(Some("v1"), Some(&running)).shows(&record), "it was taken back");
        assert!(!view(None, None).shows(&record), "the first one has just arrived, or it is to begin");
        record.delivery = Some(delivery);
        assert!(view(Some("v1"), Some(&running)).shows(&record));
        let other = DeliveryView { id: "6".to_owned(), ..running };
        assert!(!view(Some("v1"), Some(&other)).shows(&record) && !view(Some("v1"), None).shows(&record));
    }
}
