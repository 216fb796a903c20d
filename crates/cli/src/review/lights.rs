//! How long which light was on, and which incident was the longest.

use std::collections::BTreeMap;
use std::sync::Arc;

use gemba::light::Light;
use gemba::receipt::{Event, Receipt};
use gemba::view::BoardView;
use serde::Serialize;

use super::{Start, is_down};

/// How long each light was the worst on the board, and the longest time a station was red or worse.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Lights {
    /// Seconds by light.
    pub(crate) seconds: BTreeMap<Light, f64>,
    pub(crate) longest: Option<Incident>,
}

/// A time in which a station was red or worse.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Incident {
    pub(crate) station: String,
    pub(crate) why: Arc<str>,
    pub(crate) since_unix_ms: u64,
    pub(crate) seconds: f64,
    pub(crate) receipt: Option<Start>,
}

impl Lights {
    /// Folds the changes of lights from `from` on until the board was taken.
    pub(crate) fn new(board: &BoardView, receipts: &[Arc<Receipt>], from: u64) -> Self {
        let to = board.taken_unix_ms;
        let mut lights = Self::default();
        let (mut stations, mut open) = (BTreeMap::new(), BTreeMap::new());
        for (station, (light, incident)) in at_first(board, receipts, from) {
            if is_down(light) {
                open.insert(station.clone(), incident);
            }
            stations.insert(station, light);
        }
        let mut last = from;
        for receipt in receipts {
            let Event::LightChanged { station, to: light, why, .. } = &receipt.event else { continue };
            lights.pass(&stations, last, receipt.unix_ms);
            last = receipt.unix_ms;
            let station = station.to_string();
            if is_down(*light) {
                open.entry(station.clone()).or_insert_with(|| Incident {
                    station: station.clone(),
                    why: why.clone(),
                    since_unix_ms: receipt.unix_ms,
                    seconds: 0.0,
                    receipt: Some(receipt.seq),
                });
            } else if let Some(incident) = open.remove(&station) {
                lights.close(incident, receipt.unix_ms);
            }
            stations.insert(station, *light);
        }
        lights.pass(&stations, last, to);
        for incident in open.into_values() {
            lights.close(incident, to);
        }
        lights
    }

    fn pass(&mut self, stations: &BTreeMap<String, Light>, from: u64, to: u64) {
        let worst = stations.values().copied().max().unwrap_or_default();
        *self.seconds.entry(worst).or_default() += to.saturating_sub(from) as f64 / 1e3;
    }

    fn close(&mut self, incident: Incident, end: u64) {
        let seconds = end.saturating_sub(incident.since_unix_ms) as f64 / 1e3;
        if self.longest.as_ref().is_none_or(|longest| longest.seconds < seconds) {
            self.longest = Some(Incident { seconds, ..incident });
        }
    }

    /// Which share of the time no station was red or worse; `None` without time.
    pub(crate) fn availability(&self) -> Option<f64> {
        let all: f64 = self.seconds.values().sum();
        let down: f64 = self.seconds.iter().filter(|(light, _)| is_down(**light)).map(|(_, s)| s).sum();
        (0.0 < all).then(|| 1.0 - down / all)
    }
}

/// The light of each station when the time began, and the incident it belongs to if it is red: the one its first
/// change went from, or the one on the board if it never changed.
fn at_first(board: &BoardView, receipts: &[Arc<Receipt>], from: u64) -> BTreeMap<String, (Light, Incident)> {
    let mut first = BTreeMap::new();
    for receipt in receipts {
        let Event::LightChanged { station, from: light, .. } = &receipt.event else { continue };
        let station = station.to_string();
        first.entry(station.clone()).or_insert_with(|| {
            let (why, receipt) = ("it began before the oldest receipt".into(), Some(receipt.seq));
            (*light, Incident { station, why, since_unix_ms: from, seconds: 0.0, receipt })
        });
    }
    // A younger light changed after the last receipt that was read.
    for view in board.stations.iter().filter(|view| view.since_unix_ms <= from) {
        first.entry(view.name.to_string()).or_insert_with(|| {
            let (station, why, receipt) = (view.name.to_string(), view.why.clone(), view.receipt);
            (view.light, Incident { station, why, since_unix_ms: view.since_unix_ms, seconds: 0.0, receipt })
        });
    }
    first
}
