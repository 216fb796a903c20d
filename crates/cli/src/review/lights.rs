//! How long which light was on, and which incident was the longest.

use std::collections::BTreeMap;
use std::sync::Arc;

use gemba::light::Light;
use gemba::receipt::{Event, Receipt};
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
    pub(crate) receipt: Start,
}

impl Lights {
    /// Folds the changes of lights; everything is green when the time begins.
    pub(crate) fn new(receipts: &[Arc<Receipt>], from: u64, to: u64) -> Self {
        let mut lights = Self::default();
        let mut stations: BTreeMap<String, Light> = BTreeMap::new();
        let mut open: BTreeMap<String, Incident> = BTreeMap::new();
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
                    receipt: receipt.seq,
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
